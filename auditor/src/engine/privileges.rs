//! Which capabilities each container was granted, and which it used.
//!
//! The kernel programs tell a use when it is the first of tasks that nothing but fork separates, so the same use may
//! be told again, by the next `exec` into the container, say: the earliest stays. A use whose task nobody knew to be
//! a container's is not remembered here, but in the kernel: there everything must be forgotten once somebody turns out to
//! be a container later than at its first exec. See [`Engine::take_renewal`].

use super::rule::{Deed, Draft};
use super::{Engine, layers};
use crate::model::RuleId;
use crate::model::calls::Calls;
use crate::model::facts::{EntityId, HOST};
use crate::model::layers::{Confined, Landlock};
use crate::model::privileges::{
    Account, Earlier, First, Granted, Privileges, Scope, Way, is_habit,
};
use crate::model::sorted::SortedMap;
use crate::model::touched::Thing;
use crate::model::{syscalls, text};
use auditor_common::hook;
use auditor_common::limits::FOREIGN_CALL;
use auditor_common::record::{TaskKey, capable, kernel_str, ns};
use std::collections::{BTreeMap, VecDeque};

/// Ended containers whose accounts are kept.
const MAX_ENDED: usize = 256;
/// To how many nanoseconds the time of observation is written down.
const SAVED_STEP_NS: u64 = 60_000_000_000;

/// Between two times that all uses are told anew for programs that were left out.
const RENEW_SKIPPED_NS: u64 = 60_000_000_000;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Ledger {
    open: SortedMap<EntityId, Box<Open>>,
    ended: VecDeque<Privileges>,
    /// Accounts of ended containers that made room.
    forgotten: u64,
    /// The last exec, and the event that told it.
    last_exec: Option<(TaskKey, u64)>,
    renew: bool,
    /// When uses were last told anew for programs that were left out.
    renewed_ns: u64,
}

/// An account that goes on.
#[derive(Clone, Debug)]
struct Open {
    account: Account,
    /// What else its first task began with.
    confined: Confined,
    earlier: Earlier,
    /// Since when it is observed without a gap, in nanoseconds since boot.
    since_ns: u64,
}

impl Open {
    /// The account up to now.
    fn at(&self, now_ns: u64) -> Account {
        let mut account = self.account.clone();
        let observed_ns = now_ns.saturating_sub(self.since_ns);
        account.observed_ns = account.observed_ns.saturating_add(observed_ns);
        account
    }
}

impl Ledger {
    /// What a container's first task began with.
    pub(super) fn begun(&self, id: EntityId) -> Option<(Option<Granted>, Confined)> {
        let open = self.open.get(&id)?;
        Some((open.account.granted, open.confined))
    }
}

impl Engine {
    /// A task has executed a file.
    pub(super) fn note_exec(&mut self, key: &TaskKey) {
        self.ledger.last_exec = Some((*key, self.event));
        let label = self.world.label(key);
        if let Some(open) = self.ledger.open.get_mut(&label) {
            open.account.execs = open.account.execs.saturating_add(1);
        }
    }

    /// A container is there from here on, or was there before.
    pub(super) fn open_account(&mut self, id: EntityId) {
        let Some(entity) = self.world.entities.get(&id) else {
            return;
        };
        let begins = self.ledger.last_exec == Some((entity.init, self.event));
        let whole = begins && self.started && !self.at_rest;
        let user = self.world.ns.get(entity.ns[ns::USER]);
        let initial = user.is_none_or(|user| user.initial);
        let init = self.world.task(&entity.init);
        let granted = init.and_then(|task| Granted::of(&task.state, initial));
        let confined = init.map_or_else(Confined::default, |task| layers::confined(&task.state));
        let account = Account {
            granted,
            whole,
            execs: u64::from(whole),
            calls: self.sees_calls().then(|| Calls::none(whole)),
            ..Account::default()
        };
        let since_ns = self.now_ns;
        self.ledger.open.insert(
            id,
            Box::new(Open {
                account,
                confined,
                earlier: Earlier::default(),
                since_ns,
            }),
        );
        // What it did before was thought to be the host's.
        self.ledger.renew |= !whole;
    }

    /// A task has restricted itself by Landlock.
    pub(super) fn note_landlock(&mut self, key: &TaskKey) {
        let label = self.world.label(key);
        let first = self
            .world
            .entities
            .get(&label)
            .map(|entity| entity.init.tgid);
        let who = match first {
            Some(first) if first == key.tgid => Landlock::First,
            _ => Landlock::Some,
        };
        if let Some(open) = self.ledger.open.get_mut(&label) {
            let landlock = &mut open.confined.landlock;
            *landlock = (*landlock).max(Some(who));
        }
    }

    /// What an earlier run of the agent knew of a container.
    pub(super) fn restore_account(&mut self, id: EntityId, saved: &Account) {
        if let Some(open) = self.ledger.open.get_mut(&id) {
            let now = open.account.granted;
            open.account.merge(saved);
            open.account.granted = saved.granted.or(now);
            open.account.whole = false;
            open.earlier = Earlier {
                observed_ns: saved.observed_ns,
                execs: saved.execs,
            };
        }
    }

    /// What a container was granted when it began.
    pub(super) fn granted_to(&self, id: EntityId) -> Option<Granted> {
        self.ledger.open.get(&id)?.account.granted
    }

    /// In which ways a container was asked for capabilities so far.
    pub(super) fn uses_of(&self, id: EntityId) -> impl Iterator<Item = (&Way, &First)> {
        let open = self.ledger.open.get(&id);
        open.into_iter().flat_map(|open| open.account.used.iter())
    }

    /// A container has ended; it still has its name.
    pub(super) fn close_account(&mut self, id: EntityId) {
        let Some(privileges) = self.privileges_of(id, true) else {
            return;
        };
        self.ledger.open.remove(&id);
        if self.ledger.ended.len() >= MAX_ENDED {
            self.ledger.ended.pop_front();
            self.ledger.forgotten += 1;
        }
        self.ledger.ended.push_back(privileges);
    }

    /// A container's task was asked for a capability.
    pub(super) fn on_capable(&mut self, deed: &Deed<'_>) -> Option<Draft> {
        let record = deed.record;
        let capability = u8::try_from(record.arg0).ok().filter(|&c| c < 64)?;
        let (says, audited) = (
            record.arg1 & capable::KNOWN != 0,
            record.arg1 & capable::PROBE == 0,
        );
        // Any call may ask for one, not only those that rules know.
        let all = syscalls::all_of(&self.config.arch);
        let syscall = deed.syscall.or_else(|| all(record.syscall));
        let probe = match says {
            true => !audited,
            false => is_habit(capability, syscall),
        };
        let way = Way {
            capability,
            scope: self.scope(deed.label, record.arg1),
            granted: record.result == 0,
            probe,
        };
        let task = self.world.task(&record.actor);
        let exe = task.and_then(|task| task.exe.as_deref());
        let first = First {
            boottime_ns: record.header.boottime_ns,
            syscall: syscall.map(Into::into),
            pid: record.actor.tgid,
            comm: text::escape(kernel_str(&deed.state.comm)),
            exe: exe.map(str::to_owned),
            inferred: !says,
        };
        if let Some(open) = self.ledger.open.get_mut(&deed.label) {
            open.account.used.note(way, first);
        }
        self.judge_use(deed, way, syscall)
    }

    fn sees_calls(&self) -> bool {
        self.config.working.has(hook::SYS_ENTER)
    }

    /// A container's task made a system call. A filter is inherited: what is nested in a container is held to its calls too.
    pub(super) fn on_call(&mut self, deed: &Deed<'_>) {
        let number = i32::try_from(deed.record.arg0).ok();
        let named = number.filter(|_| deed.record.arg0 != FOREIGN_CALL);
        let name = named.and_then(syscalls::all_of(&self.config.arch));
        let mut id = deed.label;
        while id != HOST {
            let Some(entity) = self.world.entities.get(&id) else {
                break;
            };
            let open = self.ledger.open.get_mut(&id);
            if let Some(calls) = open.and_then(|open| open.account.calls.as_mut()) {
                calls.note(name);
            }
            id = entity.parent;
        }
    }

    /// A container reached something that is not its own, or that not every container has.
    pub(super) fn note_thing(&mut self, draft: &Draft, who: &TaskKey, syscall: Option<&str>) {
        let is_about = matches!(
            draft.rule,
            RuleId::NamespaceJoin | RuleId::DeviceAccess | RuleId::KernelKnob
        );
        let thing = draft.observed.as_ref().filter(|_| is_about);
        let Some(thing) = thing.and_then(Thing::of) else {
            return;
        };
        let task = self.world.task(who);
        let first = First {
            boottime_ns: self.now_ns,
            syscall: syscall.map(|call| call.to_owned().into()),
            pid: who.tgid,
            comm: task.map_or_else(String::new, |task| {
                text::escape(kernel_str(&task.state.comm))
            }),
            exe: task.and_then(|task| task.exe.as_deref()).map(str::to_owned),
            inferred: false,
        };
        if let Some(open) = self.ledger.open.get_mut(&draft.subject) {
            open.account.touched.note(thing, first);
        }
    }

    fn scope(&self, label: EntityId, argument: u64) -> Scope {
        let entity = self.world.entity(label);
        let own = self.world.ns.get(entity.ns[ns::USER]);
        let inum = argument >> capable::INUM_SHIFT;
        match argument & capable::SCOPE {
            capable::INITIAL => Scope::Initial,
            _ if own.is_some_and(|own| u64::from(own.inum) == inum) => Scope::Container,
            capable::OWN | capable::MADE => Scope::Inner,
            _ => Scope::Other,
        }
    }

    fn privileges_of(&self, id: EntityId, ended: bool) -> Option<Privileges> {
        let open = self.ledger.open.get(&id)?;
        Some(Privileges {
            party: self.party(id),
            account: open.at(self.now_ns),
            layers: self.layers(id).unwrap_or_default(),
            earlier: open.earlier,
            init: self.world.entity(id).init.tgid,
            ended,
        })
    }

    /// What a container used so far, for the state file.
    pub(super) fn account_of(&self, id: EntityId) -> Option<Account> {
        let mut account = self.ledger.open.get(&id)?.at(self.now_ns);
        // The file is written when something changes, and time always does.
        account.observed_ns -= account.observed_ns % SAVED_STEP_NS;
        Some(account)
    }

    /// What each container was granted and used: those that ended, oldest first, then those that live.
    #[must_use]
    pub fn privileges(&self) -> Vec<Privileges> {
        let ended = self.ledger.ended.iter().cloned();
        let open = self.ledger.open.iter();
        let open = open.filter_map(|(id, _)| self.privileges_of(*id, false));
        ended.chain(open).collect()
    }

    /// How many ended containers [`Self::privileges`] no longer has.
    #[must_use]
    pub const fn privileges_forgotten(&self) -> u64 {
        self.ledger.forgotten
    }

    /// Whether uses may have been told before it was known whose they are, or were lost. Then the kernel programs must
    /// forget which they have told; each is told again when it happens again.
    pub fn take_renewal(&mut self) -> bool {
        std::mem::take(&mut self.ledger.renew)
    }

    /// Programs were left out. Where that happens it happens all the time, and telling everything anew is dear.
    pub(super) fn renew_skipped_uses(&mut self, by_hook: &BTreeMap<u16, u64>) {
        let is_of_uses = |index: &u16| {
            matches!(
                *index,
                hook::CAPABLE | hook::CAPABLE_ENTRY | hook::SYS_ENTER
            )
        };
        let due_ns = self.ledger.renewed_ns.saturating_add(RENEW_SKIPPED_NS);
        if by_hook.keys().any(is_of_uses) && self.now_ns >= due_ns {
            self.ledger.renewed_ns = self.now_ns;
            self.ledger.renew = true;
        }
    }

    /// Events were lost: uses may have been among them.
    pub(super) fn renew_uses(&mut self) {
        self.ledger.renew = true;
    }
}
