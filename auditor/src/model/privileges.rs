//! What a container may do, and what it was seen to do: the algebra of capabilities granted and used.
//!
//! A capability says nothing without the user namespace that it is asked over, and a check says nothing of need where the
//! kernel only looks whether it may do more than it was asked for. So each use keeps its scope, and probes stand apart.
//! Use is observed and never complete: what a longer time would show, nobody knows.

use super::calls::Calls;
use super::firsts::Firsts;
use super::layers::Layers;
use super::output::Party;
use super::touched::Touched;
use auditor_common::record::{TaskState, known, task_flags};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Ways of use kept for one container. There are fewer: 64 capabilities, four scopes, each granted or not, probe or not.
const MAX_WAYS: usize = 1024;

/// Over which user namespace a capability was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The machine's initial one.
    Initial,
    /// The container's, which is not the initial one.
    Container,
    /// One that was made within the container, asked for by a task in it or by its maker: these have every capability
    /// over it, and need none.
    Inner,
    /// One that is neither, asked for from outside of it.
    Other,
}

impl Scope {
    /// In words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Container => "container",
            Self::Inner => "inner",
            Self::Other => "other",
        }
    }

    /// Whether use over it draws on what the container was granted.
    #[must_use]
    pub const fn counts(self) -> bool {
        !matches!(self, Self::Inner)
    }
}

/// One way in which a capability was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Way {
    /// Number of the capability.
    pub capability: u8,
    /// Over which user namespace.
    pub scope: Scope,
    /// Whether the task had it.
    pub granted: bool,
    /// The kernel only looked whether it may do more than it was asked for.
    pub probe: bool,
}

/// The first time of a [`Way`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct First {
    /// When, in nanoseconds since boot.
    pub boottime_ns: u64,
    /// The system call that asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syscall: Option<Cow<'static, str>>,
    /// Thread group id of the task.
    pub pid: u32,
    /// Its command name.
    pub comm: String,
    /// The file that it had executed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// That it was a probe, or was none, is inferred from the system call: the kernel did not say.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub inferred: bool,
}

/// A [`Way`] with its first time, as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// How.
    #[serde(flatten)]
    pub way: Way,
    /// When first.
    #[serde(flatten)]
    pub first: First,
}

/// Every way in which a container asked for capabilities.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Written>", into = "Vec<Written>")]
pub struct Used {
    ways: Firsts<Way, MAX_WAYS>,
}

impl From<Vec<Written>> for Used {
    fn from(entries: Vec<Written>) -> Self {
        let mut used = Self::default();
        for entry in entries {
            used.note(entry.way, entry.first);
        }
        used
    }
}

impl From<Used> for Vec<Written> {
    fn from(used: Used) -> Self {
        let entry = |(way, first)| Written { way, first };
        used.ways.into_iter().map(entry).collect()
    }
}

impl Used {
    /// Takes in one use; the earliest of its way is kept.
    pub fn note(&mut self, way: Way, first: First) {
        if way.capability > 63 {
            return;
        }
        self.ways.note(way, first);
    }

    /// Counts times from another moment.
    pub fn shift(&mut self, by_ns: i64) {
        self.ways.shift(by_ns);
    }

    /// Gives commands and files other names.
    pub fn rename(&mut self, comm: impl Fn(&str) -> String, exe: impl Fn(&str) -> String) {
        self.ways.rename(comm, exe);
    }

    /// Takes in what another container, or the same at another time, has used.
    pub fn merge(&mut self, other: &Self) {
        self.ways.merge(&other.ways);
    }

    /// All ways, by capability.
    pub fn iter(&self) -> impl Iterator<Item = (&Way, &First)> {
        self.ways.iter()
    }

    /// Whether nothing was asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ways.is_empty()
    }

    fn set(&self, belongs: impl Fn(&Way) -> bool) -> u64 {
        let of_it = self
            .ways
            .iter()
            .map(|(way, _)| way)
            .filter(|way| belongs(way));
        of_it.fold(0, |set, way| set | 1 << way.capability)
    }

    /// What was used of the container's grant: asked for in earnest, and granted.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.set(|way| way.granted && !way.probe && way.scope.counts())
    }

    /// What was asked for in earnest, and refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.set(|way| !way.granted && !way.probe)
    }

    /// What was only ever probed for. The kernel would do without, though it may do less.
    #[must_use]
    pub fn probed(&self) -> u64 {
        self.set(|way| way.probe) & !self.set(|way| !way.probe)
    }

    /// What was used over user namespaces made within the container, where it takes no grant.
    #[must_use]
    pub fn inner(&self) -> u64 {
        self.set(|way| way.granted && !way.probe && !way.scope.counts())
    }
}

/// What a container's first task had when it began, or when it was first seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// Permitted capabilities.
    pub permitted: u64,
    /// Bounding set: what an exec can give at most.
    pub bounding: u64,
    /// No exec gives anything.
    pub no_new_privs: bool,
    /// They are over the machine's initial user namespace, not one of the container's own.
    pub initial: bool,
}

impl Granted {
    /// What a task has in this state; `None` if its credentials are not known. `initial`: whether that is over the machine's
    /// initial user namespace.
    #[must_use]
    pub fn of(state: &TaskState, initial: bool) -> Option<Self> {
        (state.known & known::CREDS != 0).then_some(Self {
            permitted: state.creds.cap_permitted,
            bounding: state.creds.cap_bounding,
            no_new_privs: state.task_flags & task_flags::NO_NEW_PRIVS != 0,
            initial,
        })
    }

    /// What the container has, or can get by executing files that give capabilities.
    #[must_use]
    pub const fn may(&self) -> u64 {
        if self.no_new_privs {
            self.permitted
        } else {
            self.permitted | self.bounding
        }
    }

    /// What either of two was granted. Whoever can get something by an exec can get it.
    #[must_use]
    pub const fn or(&self, other: &Self) -> Self {
        Self {
            permitted: self.permitted | other.permitted,
            bounding: self.bounding | other.bounding,
            no_new_privs: self.no_new_privs && other.no_new_privs,
            initial: self.initial || other.initial,
        }
    }
}

/// What is known of one container's capabilities, or of several that are taken together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// What it was granted; `None` where that could not be read.
    pub granted: Option<Granted>,
    /// What it used.
    pub used: Used,
    /// Execs seen in it.
    pub execs: u64,
    /// For how long it has been observed, in nanoseconds.
    pub observed_ns: u64,
    /// It was observed from its first exec on.
    pub whole: bool,
    /// What else it reached.
    #[serde(default, skip_serializing_if = "Touched::is_empty")]
    pub touched: Touched,
    /// The system calls that it made; `None`: nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<Calls>,
}

impl Account {
    /// What it was granted and was not seen to use.
    #[must_use]
    pub fn excess(&self) -> u64 {
        self.may() & !self.used.used()
    }

    /// What it used although it was not granted to it: somebody came in who had more.
    #[must_use]
    pub fn beyond(&self) -> u64 {
        match self.granted {
            Some(_) => self.used.used() & !self.may(),
            None => 0,
        }
    }

    fn may(&self) -> u64 {
        self.granted.map_or(0, |granted| granted.may())
    }

    /// Takes in another account, of a replica or of another time.
    pub fn merge(&mut self, other: &Self) {
        self.granted = match (self.granted, other.granted) {
            (Some(a), Some(b)) => Some(a.or(&b)),
            (a, b) => a.or(b),
        };
        self.used.merge(&other.used);
        self.touched.merge(&other.touched);
        Calls::merge_known(&mut self.calls, other.calls.as_ref());
        self.execs = self.execs.saturating_add(other.execs);
        self.observed_ns = self.observed_ns.saturating_add(other.observed_ns);
        self.whole &= other.whole;
    }
}

/// What an account counts that another run has counted already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Earlier {
    /// Of [`Account::observed_ns`].
    pub observed_ns: u64,
    /// Of [`Account::execs`].
    pub execs: u64,
}

/// A container with its account.
#[derive(Clone, Debug, PartialEq)]
pub struct Privileges {
    /// Who.
    pub party: Party,
    /// What.
    pub account: Account,
    /// What stands between it and each capability.
    pub layers: Layers,
    /// What an earlier run of the agent has counted of it.
    pub earlier: Earlier,
    /// Thread group id of its first task.
    pub init: u32,
    /// Whether it has ended.
    pub ended: bool,
}

/// Whether a system call that asks for a capability usually only probes for it, so that a check that does not say is taken
/// for a probe. The kernel looks for `SYS_ADMIN` whenever it reserves memory.
#[must_use]
pub fn is_habit(capability: u8, syscall: Option<&str>) -> bool {
    const IPC_LOCK: u8 = 14;
    const SYS_ADMIN: u8 = 21;
    matches!(
        (capability, syscall),
        (
            SYS_ADMIN,
            Some(
                "mmap"
                    | "munmap"
                    | "mremap"
                    | "mprotect"
                    | "brk"
                    | "madvise"
                    | "remap_file_pages"
                    | "shmat"
                    | "execve"
                    | "execveat"
                    | "fork"
                    | "vfork"
                    | "clone"
                    | "clone3"
                    | "seccomp"
                    | "prctl"
                    | "listxattr"
                    | "llistxattr"
                    | "flistxattr"
                    | "listxattrat",
            ),
        ) | (IPC_LOCK, Some("io_uring_setup"))
    )
}

/// The system calls that have such a habit, for any capability, a bit each by their numbers as `name` tells them.
#[must_use]
pub fn habits(name: impl Fn(i32) -> Option<&'static str>) -> [u64; 8] {
    let mut words = [0; 8];
    for number in 0..512_u16 {
        let call = name(i32::from(number));
        if (0..64).any(|capability| is_habit(capability, call)) {
            words[usize::from(number / 64)] |= 1 << (number % 64);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    //! Goal: the algebra holds for any uses, in any order; and what counts as use is what the words say.

    use super::*;
    use proptest::prelude::*;

    fn first(boottime_ns: u64) -> First {
        First {
            boottime_ns,
            syscall: Some("chown".into()),
            pid: 1,
            comm: "a".to_owned(),
            exe: None,
            inferred: false,
        }
    }

    fn scope() -> impl Strategy<Value = Scope> {
        use Scope::{Container, Initial, Inner, Other};
        prop::sample::select(vec![Initial, Container, Inner, Other])
    }

    prop_compose! {
        fn way()(capability in 0u8..70, scope in scope(), granted: bool, probe: bool) -> Way {
            Way { capability, scope, granted, probe }
        }
    }

    prop_compose! {
        fn account()(
            ways in prop::collection::vec((way(), 0u64..9), 0..40),
            granted in prop::option::of((any::<u64>(), any::<u64>(), any::<bool>(), any::<bool>())),
            execs: u32, observed_ns: u32, whole: bool,
        ) -> Account {
            let mut used = Used::default();
            for (way, at) in ways {
                used.note(way, first(at));
            }
            let granted = granted.map(|(permitted, bounding, no_new_privs, initial)| Granted {
                permitted, bounding, no_new_privs, initial,
            });
            let (execs, observed_ns) = (u64::from(execs), u64::from(observed_ns));
            Account { granted, used, execs, observed_ns, whole, touched: Touched::default(), calls: None }
        }
    }

    fn merged(a: &Account, b: &Account) -> Account {
        let mut both = a.clone();
        both.merge(b);
        both
    }

    proptest! {
        #[test]
        fn excess_and_use_part_the_grant(account in account()) {
            let may = account.granted.map_or(0, |g| g.may());
            let used = account.used.used();
            prop_assert_eq!(account.excess() & used, 0);
            prop_assert_eq!(account.excess() | (used & may), may);
            prop_assert_eq!(account.used.probed() & (used | account.used.refused()), 0);
            if account.granted.is_some() {
                prop_assert_eq!(account.beyond(), used & !may);
            }
        }

        #[test]
        fn merging_is_a_union(a in account(), b in account(), c in account()) {
            let both = merged(&a, &b);
            prop_assert_eq!(both.used.used(), a.used.used() | b.used.used());
            prop_assert_eq!(both.used.refused(), a.used.refused() | b.used.refused());
            prop_assert_eq!(both.granted, merged(&b, &a).granted);
            prop_assert_eq!(merged(&both, &c).granted, merged(&a, &merged(&b, &c)).granted);
            prop_assert_eq!(merged(&a, &a).used, a.used.clone());
            // More that was seen never makes anything superfluous that was not before.
            if let (Some(granted), None) = (a.granted, b.granted) {
                let more = merged(&a, &b);
                prop_assert_eq!(more.excess() & !a.excess(), 0);
                prop_assert_eq!(more.excess(), granted.may() & !more.used.used());
            }
        }

        #[test]
        fn what_is_written_down_is_read_back(account in account()) {
            let text = serde_json::to_string(&account).unwrap();
            prop_assert_eq!(serde_json::from_str::<Account>(&text).unwrap(), account);
        }
    }

    #[test]
    fn the_earliest_time_is_kept() {
        let way = Way {
            capability: 0,
            scope: Scope::Initial,
            granted: true,
            probe: false,
        };
        let mut used = Used::default();
        for at in [5, 3, 9] {
            used.note(way, first(at));
        }
        assert_eq!(
            used.iter().map(|(_, f)| f.boottime_ns).collect::<Vec<_>>(),
            [3]
        );
        assert_eq!((used.used(), used.refused(), used.inner()), (1, 0, 0));
    }

    #[test]
    fn probes_refusals_and_inner_use_are_no_use_of_the_grant() {
        let way = |capability, scope, granted, probe| Way {
            capability,
            scope,
            granted,
            probe,
        };
        let mut used = Used::default();
        used.note(way(0, Scope::Container, true, false), first(1));
        used.note(way(1, Scope::Initial, true, true), first(1));
        used.note(way(2, Scope::Initial, false, false), first(1));
        used.note(way(3, Scope::Inner, true, false), first(1));
        used.note(way(0, Scope::Container, true, true), first(1));
        assert_eq!(used.used(), 1);
        assert_eq!(used.probed(), 1 << 1);
        assert_eq!(used.refused(), 1 << 2);
        assert_eq!(used.inner(), 1 << 3);
    }

    #[test]
    fn no_new_privs_makes_the_bounding_set_void() {
        let granted = |no_new_privs| Granted {
            permitted: 1,
            bounding: 3,
            no_new_privs,
            initial: true,
        };
        assert_eq!((granted(true).may(), granted(false).may()), (1, 3));
        assert_eq!(granted(true).or(&granted(false)).may(), 3);
    }

    #[test]
    fn habits_are_those_of_the_machine() {
        let words = habits(crate::model::syscalls::all_of("x86_64"));
        let has = |number: usize| words[number / 64] >> (number % 64) & 1 == 1;
        // mmap, brk, execve, io_uring_setup; mount, openat, bpf.
        assert!([9, 12, 59, 425].into_iter().all(has));
        assert!(![165, 257, 321].into_iter().any(has));
        assert_eq!(habits(|_| None), [0; 8]);
    }

    #[test]
    fn reserving_memory_is_a_habit_and_mounting_is_not() {
        assert!(is_habit(21, Some("mmap")));
        assert!(!is_habit(21, Some("mount")));
        assert!(!is_habit(21, None));
        assert!(!is_habit(0, Some("mmap")));
    }
}
