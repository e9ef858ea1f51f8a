//! A task that is known has another state.

use super::Engine;
use super::growth::explained_by_exec;
use crate::engine::report::Iotas;
use crate::engine::rule::{self, Change};
use crate::engine::world::{Entity, Task};
use crate::model::NsKind;
use crate::model::facts::{HOST, NsId};
use crate::model::output::Record;
use auditor_common::limits::{CGROUP_SLOTS, NS_SLOTS};
use auditor_common::record::{Creds, NsRef, PathRef, TaskRecord, TaskState, cause, known, ns};
use std::mem::offset_of;
use std::ops::Range;
use zerocopy::IntoBytes;

/// The bytes of a state that rules look at: namespaces, cgroups, credentials, directories.
const JUDGED: Range<usize> = offset_of!(TaskState, ns)..offset_of!(TaskState, comm);
const _: () = assert!(
    JUDGED.end - JUDGED.start
        == size_of::<[NsRef; NS_SLOTS]>()
            + size_of::<[u64; CGROUP_SLOTS]>()
            + size_of::<Creds>()
            + 2 * size_of::<PathRef>()
);

impl Engine {
    pub(super) fn on_change(
        &mut self,
        record: &TaskRecord,
        filename: Option<&[u8]>,
        out: &mut Vec<Record>,
    ) {
        let tid = record.state.key.tid;
        if record.cause == cause::EXEC {
            self.follow_exec(record);
        }
        let Some(task) = self.world.task(&record.state.key) else {
            if self.world.tasks.contains_key(&tid) {
                self.forget(tid);
            }
            self.adopt(record);
            self.set_exe(tid, filename);
            return;
        };
        if self.is_stale(record) {
            return;
        }
        let entity = self.world.entity(task.label);
        if self.is_quiet(task, entity, record) {
            // Nothing changes what kind of place it is in either, so it can be asked before.
            let is_apart = record.cause == cause::EXEC && self.is_apart(task, entity);
            self.take_in(record, &record.state, filename);
            if is_apart {
                self.consider(tid);
            }
            return;
        }
        let before = task.state;
        self.judge_change(record, filename, &before, out);
        if record.cause == cause::EXEC {
            self.consider(tid);
        }
    }

    /// Whether a record tells nothing that a rule could judge: most execs, and calls that had no effect.
    fn is_quiet(&self, task: &Task, entity: &Entity, record: &TaskRecord) -> bool {
        let (before, after) = (&task.state, &record.state);
        // The other causes say by themselves that something was made or moved.
        let cause = matches!(
            record.cause,
            cause::EXEC | cause::CRED | cause::SETNS | cause::CHDIR
        );
        cause
            && before.known == after.known
            && before.as_bytes()[JUDGED] == after.as_bytes()[JUDGED]
            && task.growth.is_none()
            && task.extra.is_empty()
            // The same place may have become foreign: its owner may be known only now.
            && (task.label == HOST || self.extra_in(task.label, entity, after).is_empty())
    }

    /// A task's state is this from here on.
    fn take_in(&mut self, record: &TaskRecord, state: &TaskState, filename: Option<&[u8]>) {
        let event = self.event;
        let Some(task) = self.world.tasks.get_mut(&state.key.tid) else {
            return;
        };
        task.state = *state;
        task.seen_ns = record.header.boottime_ns;
        task.event = event;
        task.suspect = None;
        task.pivoted |= matches!(record.cause, cause::PIVOT_ROOT | cause::CHROOT);
        if let Some(filename) = filename {
            task.exe = Some(self.world.names.name(filename));
        }
    }

    /// Takes a change in and reports what the rules make of it. Apart from the quiet ones, so that those need no
    /// room for all that this needs.
    #[inline(never)]
    fn judge_change(
        &mut self,
        record: &TaskRecord,
        filename: Option<&[u8]>,
        before: &TaskState,
        out: &mut Vec<Record>,
    ) {
        let tid = record.state.key.tid;
        let merged = merge(before, &record.state);
        let record = &TaskRecord {
            state: merged,
            ..*record
        };
        let Some(task) = self.world.tasks.get(&tid) else {
            return;
        };
        let (label, confidence, entered) = (task.label, task.confidence, task.entered);
        let ids_before = *self.world.ns.ids(task.set);
        // An exec commits its credentials before it is reported: compare with what was before both.
        let explained = task.growth.as_ref().filter(|growth| {
            record.cause == cause::EXEC && explained_by_exec(growth, self.config.syscalls)
        });
        let grown = explained.map_or(before.creds, |growth| growth.before.creds);
        let fresh = self.fresh_by_change(record, before);
        let ids = if fresh == 0 && merged.ns == before.ns {
            ids_before
        } else {
            self.resolve(&merged, fresh, label)
        };
        let switched = ids != ids_before;
        let task = self.world.tasks.get(&tid);
        let stays = !switched && task.is_some_and(|task| self.stays(task, &merged));
        let before_iota = if stays {
            // Nothing that ι looks at changes: what it was is what it is.
            Iotas::new()
        } else {
            self.iotas_before(label, &ids, &merged)
        };
        self.take_in(record, &merged, filename);
        self.set_namespaces(tid, ids);
        if record.cause == cause::PIVOT_ROOT {
            self.follow_pivot(before, &merged, ids[ns::MNT]);
        }
        let taken = if switched {
            self.take_label(tid)
        } else {
            label
        };
        if !stays {
            self.refresh_extra(tid);
        }
        let change = Change {
            label: taken,
            before: Some(before),
            ids_before: Some(ids_before),
            fresh,
            ..Change::of(record, self.event, label, ids, confidence)
        };
        let mut drafts = Vec::new();
        if switched
            && let Some(object) =
                rule::container_enter::detect(&change, entered, &self.world, &mut drafts)
            && let Some(task) = self.world.tasks.get_mut(&tid)
        {
            task.entered = Some(object);
        }
        if taken != HOST {
            rule::namespace_join::detect(&change, &self.world, &mut drafts);
            rule::namespace_nest::detect(&change, &self.world, &mut drafts);
            rule::foreign_root::detect(&change, &self.world, &mut drafts);
            rule::foreign_cwd::detect(&change, &self.world, &mut drafts);
            rule::privilege_gain::detect(&change, &grown, &self.world, &mut drafts);
            self.watch_growth(&change, before);
        }
        self.report(drafts, &change, &before_iota, out);
    }

    /// Whether the first sweep read this task after the record was written: attaching comes before it, so
    /// what the rings collected meanwhile is older.
    pub(super) fn is_stale(&self, record: &TaskRecord) -> bool {
        record.header.boottime_ns <= self.folded_until_ns
            && self
                .world
                .task(&record.state.key)
                .is_some_and(|t| t.seen_ns > record.header.boottime_ns)
    }

    /// An exec by a thread other than the leader takes the leader's id over.
    fn follow_exec(&mut self, record: &TaskRecord) {
        let (tid, Ok(old)) = (record.state.key.tid, u32::try_from(record.arg0)) else {
            return;
        };
        if old == 0 || old == tid {
            return;
        }
        let is_group = |t: &Task| t.state.key.tgid == record.state.key.tgid;
        if !self.world.tasks.get(&old).is_some_and(|t| is_group(t)) {
            return;
        }
        if self.world.tasks.contains_key(&tid) {
            self.forget(tid);
        }
        // The container's accounts do not change: it is the same task under another id.
        if let Some(mut task) = self.world.remove(old) {
            task.state.key = record.state.key;
            self.world.insert(task);
        }
    }

    /// pivot_root moves every task whose root or cwd was the old root.
    fn follow_pivot(&mut self, before: &TaskState, after: &TaskState, mnt: NsId) {
        let (old, new) = (before.root, after.root);
        let moved: Vec<u32> = self
            .world
            .members(mnt)
            .iter()
            .filter_map(|tid| self.world.tasks.get(tid))
            .filter(|t| self.world.ns.ids(t.set)[ns::MNT] == mnt)
            .filter(|t| same_place(&t.state.root, &old))
            .map(|t| t.state.key.tid)
            .collect();
        for tid in moved {
            let Some(task) = self.world.tasks.get_mut(&tid) else {
                continue;
            };
            task.state.root = new;
            task.pivoted = true;
            if same_place(&task.state.cwd, &old) {
                task.state.cwd = new;
            }
        }
    }

    fn set_exe(&mut self, tid: u32, filename: Option<&[u8]>) {
        if let (Some(filename), Some(task)) = (filename, self.world.tasks.get_mut(&tid)) {
            task.exe = Some(self.world.names.name(filename));
        }
    }

    /// Slots that a change of an existing task made anew.
    fn fresh_by_change(&self, record: &TaskRecord, before: &TaskState) -> u16 {
        let mut fresh = fresh_by_cause(record, before);
        if record.cause == cause::CRED && fresh & (1 << ns::USER) != 0 {
            let user = record.state.ns[ns::USER].inum;
            if self.world.ns.by_inum(NsKind::User, user).is_some() {
                // Somebody lives in it already: joined, not made.
                fresh &= !(1 << ns::USER);
            }
        }
        fresh
    }
}

/// Whether two paths are one directory of one mount namespace: a copy of a mount tree has the same
/// inodes.
fn same_place(a: &PathRef, b: &PathRef) -> bool {
    (a.dev, a.ino, a.mnt_ns_inum) == (b.dev, b.ino, b.mnt_ns_inum)
}

/// Slots that a change made anew, by what caused it.
fn fresh_by_cause(record: &TaskRecord, before: &TaskState) -> u16 {
    let differs = |slot: usize| {
        let (a, b) = (before.ns[slot], record.state.ns[slot]);
        a.inum != b.inum || a.unique_id != 0 && b.unique_id != 0 && a.unique_id != b.unique_id
    };
    let mut fresh = 0;
    for kind in NsKind::ALL {
        let slot = kind.slot();
        let made = match record.cause {
            cause::UNSHARE => match kind {
                // A task never changes its own pid namespace, and its time namespace only at exec.
                NsKind::Pid | NsKind::Time => false,
                // The user namespace comes with the credentials, where those are committed later.
                NsKind::User => differs(slot),
                _ => differs(slot) || record.arg0 & kind.clone_flag() != 0,
            },
            // unshare(CLONE_NEWUSER) commits credentials; a join of a user namespace does too, and
            // only the parent tells: a fresh one is a child of the namespace that the task was in.
            cause::CRED => {
                *kind == NsKind::User
                    && differs(slot)
                    && record.state.ns[slot].owner_inum == before.ns[slot].inum
            }
            _ => false,
        };
        if made && record.state.ns[slot].inum != 0 {
            fresh |= 1 << slot;
        }
    }
    fresh
}

/// The new state, with what it does not know taken from the old one.
pub(in crate::engine) fn merge(before: &TaskState, after: &TaskState) -> TaskState {
    let mut merged = *after;
    let lacks = |bit| after.known & bit == 0 && before.known & bit != 0;
    if lacks(known::NS) {
        merged.ns = before.ns;
        merged.known |= known::NS;
    } else {
        for (new, old) in merged.ns.iter_mut().zip(&before.ns) {
            if new.inum == 0 {
                *new = *old;
            }
            if new.inum == old.inum && new.owner_inum == 0 {
                new.owner_inum = old.owner_inum;
            }
            if new.inum == old.inum && new.unique_id == 0 {
                new.unique_id = old.unique_id;
            }
        }
    }
    if lacks(known::CGROUPS) {
        merged.cgroups = before.cgroups;
        merged.known |= known::CGROUPS;
    }
    if lacks(known::CREDS) {
        merged.creds = before.creds;
        merged.known |= known::CREDS;
    }
    if lacks(known::ROOT) {
        merged.root = before.root;
        merged.known |= known::ROOT;
    }
    if lacks(known::CWD) {
        merged.cwd = before.cwd;
        merged.known |= known::CWD;
    }
    if lacks(known::PARENT) {
        merged.parent = before.parent;
        merged.known |= known::PARENT;
    }
    merged
}
