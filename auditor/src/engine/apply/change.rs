//! A task that is known has another state.

use super::Engine;
use super::growth::explained_by_exec;
use super::state::{fresh_by_cause, look_alike, merge, same_place};
use crate::engine::report::Iotas;
use crate::engine::rule::{self, Change, Draft};
use crate::engine::world::{Entity, Task};
use crate::model::NsKind;
use crate::model::facts::{EntityId, HOST, NsId};
use crate::model::output::Record;
use auditor_common::record::{Creds, TaskRecord, TaskState, cause, ns};

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
        if let (cause::EXEC, Some(filename)) = (record.cause, filename)
            && self.is_host(tid)
        {
            self.judge_host_exec(record, filename, out);
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
        if task.label == HOST {
            self.late.note_change(record, self.event);
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
            && look_alike(before, after)
            && task.growth.is_none()
            && task.extra.is_empty()
            // The same place may have become foreign: its owner may be known only now.
            && (task.label == HOST
                || self
                    .extra_in(task.label, entity, after, &task.references)
                    .is_empty())
    }

    /// A task's state is this from here on.
    fn take_in(&mut self, record: &TaskRecord, state: &TaskState, filename: Option<&[u8]>) {
        let event = self.event;
        let Some(task) = self.world.tasks.get_mut(&state.key.tid) else {
            return;
        };
        // Whoever joins a mount namespace gets its root.
        task.pivoted &=
            record.cause != cause::SETNS || task.state.ns[ns::MNT].inum == state.ns[ns::MNT].inum;
        task.state = *state;
        task.seen_ns = record.header.boottime_ns;
        task.event = event;
        task.suspect = None;
        task.pivoted |= matches!(record.cause, cause::PIVOT_ROOT | cause::CHROOT);
        if record.cause == cause::EXEC {
            task.executed();
        }
        if let Some(filename) = filename {
            task.exe = Some(self.world.names.name(filename));
        }
        match record.cause {
            cause::EXEC => self.resumed.forget(state.key.tid),
            cause::PIVOT_ROOT | cause::CHROOT => self.note_root(state.key.tid),
            cause::CRED if self.is_in_landlock(record.syscall) => self.note_landlock(&state.key),
            _ => {}
        }
    }

    fn is_in_landlock(&self, syscall: i32) -> bool {
        (self.config.syscalls)(syscall) == Some("landlock_restrict_self")
    }

    /// Takes a change in and reports what the rules make of it. Apart from the quiet ones, so that those need no
    /// room for all that this needs.
    #[inline(never)]
    pub(in crate::engine) fn judge_change(
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
        let creds_before = self.creds_before(task, record);
        let fresh = self.fresh_by_change(record, before);
        let ids = if fresh == 0 && merged.ns == before.ns {
            ids_before
        } else {
            self.resolve(&merged, fresh, label)
        };
        let switched = ids != ids_before;
        let stays = !switched && self.stays(tid, &merged);
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
        if switched {
            self.follow_entry(&change, entered, &mut drafts);
        }
        if taken != HOST {
            rule::namespace_join::detect(&change, &self.world, &mut drafts);
            rule::namespace_nest::detect(&change, &self.world, &mut drafts);
            rule::page_cache_prestep::detect_namespaces(&change, &self.world, &mut drafts);
            rule::foreign_root::detect(&change, &self.world, &mut drafts);
            rule::foreign_cwd::detect(&change, &self.world, &mut drafts);
            rule::privilege_gain::detect(&change, &creds_before, &self.world, &mut drafts);
            self.watch_growth(&change, before);
        }
        self.report(drafts, &change, &before_iota, out);
    }

    /// The credentials that a task's new ones are compared with. An exec commits its credentials before it is
    /// reported: there it is those before both.
    fn creds_before(&self, task: &Task, record: &TaskRecord) -> Creds {
        let explained = task.growth.as_ref().filter(|growth| {
            record.cause == cause::EXEC && explained_by_exec(growth, self.config.syscalls)
        });
        explained.map_or(task.state.creds, |growth| growth.before.creds)
    }

    /// The first entry of a task into a container is told; what it does there after it is not.
    fn follow_entry(
        &mut self,
        change: &Change<'_>,
        entered: Option<EntityId>,
        drafts: &mut Vec<Draft>,
    ) {
        let object = rule::container_enter::detect(change, entered, &self.world, drafts);
        let task = self.world.tasks.get_mut(&change.record.state.key.tid);
        if let (Some(object), Some(task)) = (object, task) {
            task.entered = Some(object);
        }
    }

    /// Whether the first sweep read this task after the record was written: attaching comes before it, so
    /// what the rings collected meanwhile is older.
    pub(in crate::engine) fn is_stale(&self, record: &TaskRecord) -> bool {
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

    /// pivot_root moves every task whose root or working directory was the old root, wherever that task is. In a mount
    /// namespace that is no container's yet, only those that make one can have anything there.
    fn follow_pivot(&mut self, before: &TaskState, after: &TaskState, mnt: NsId) {
        let (old, new) = (before.root, after.root);
        let is_there = |t: &Task| same_place(&t.state.root, &old) || same_place(&t.state.cwd, &old);
        let tid = |t: &Task| is_there(t).then_some(t.state.key.tid);
        let tasks = &self.world.tasks;
        let is_known = self.world.ns.get(mnt).is_some_and(|ns| ns.entity.is_some());
        let moved: Vec<u32> = if is_known {
            tasks.values().filter_map(|task| tid(task)).collect()
        } else {
            let members = self.world.members(mnt);
            let members = members.iter().filter_map(|tid| tasks.get(tid));
            members.filter_map(|task| tid(task)).collect()
        };
        for tid in moved {
            let Some(task) = self.world.tasks.get_mut(&tid) else {
                continue;
            };
            if same_place(&task.state.root, &old) {
                task.state.root = new;
                task.pivoted = true;
            }
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
