//! From a kernel record to a change of the world.

use super::report::Iotas;
use super::rule::cgroup_migration::Move;
use super::rule::directory::Directory;
use super::rule::{self, Change, Draft, silent_privilege_change};
use super::world::namespaces::NsIds;
use super::world::{Growth, Task};
use super::{Engine, label};
use crate::model::facts::{EntityId, HOST, ObjectKey};
use crate::model::output::Record;
use crate::model::{Confidence, NsKind, text};
use auditor_common::limits::CGROUP_SLOTS;
use auditor_common::record::{
    ATTACH_THREADGROUP, CgroupRecord, PathRef, TaskKey, TaskRecord, TaskState, cause, cgroup_op,
    kernel_str, known, ns, task_flags,
};
use std::sync::Arc;

/// Ends remembered between two sweeps.
const MAX_EXITED: usize = 1 << 16;
/// How long credentials that grew wait for the exec that explains them.
const GROWTH_PATIENCE_NS: u64 = 1_000_000_000;
/// Tasks whose credentials may wait for an explanation at once; what more tasks gain is left to the sweep.
const MAX_GROWING: usize = 4096;

impl Engine {
    /// A task's state, from any cause.
    pub(super) fn on_task(
        &mut self,
        record: &TaskRecord,
        filename: Option<&[u8]>,
        out: &mut Vec<Record>,
    ) {
        if record.state.task_flags & task_flags::KTHREAD != 0 {
            return;
        }
        match record.cause {
            cause::SNAPSHOT => self.on_sweep_task(record, out),
            cause::FORK => self.on_fork(record, out),
            cause::ATTACH => self.on_attach(record, out),
            _ => self.on_change(record, filename, out),
        }
    }

    /// A task ended.
    pub(super) fn on_exit(&mut self, key: &TaskKey) {
        if self.exited.len() >= MAX_EXITED {
            // Between two sweeps: at worst a dead task lives until the next one.
            self.exited.clear();
        }
        self.exited.insert(key.tid, key.start_boottime_ns);
        if self.world.task(key).is_some() {
            self.forget(key.tid);
        }
    }

    /// Removes a task and what its container held by it.
    pub(super) fn forget(&mut self, tid: u32) {
        self.unlabel(tid);
        if let Some(task) = self.world.remove(tid) {
            self.world.ns.drop_set(task.set);
            self.bury_mounts();
        }
    }

    /// A cgroup appeared or went.
    pub(super) fn on_cgroup(&mut self, record: &CgroupRecord) {
        let key = (record.hierarchy, record.id);
        match record.op {
            cgroup_op::MKDIR | cgroup_op::WALK => {
                let len = (record.path_len as usize).min(record.path.len());
                let path = text::escape(&record.path[..len]);
                if record.op == cgroup_op::MKDIR {
                    self.asked.remove(&key);
                }
                self.world.cgroups.insert(key, &path);
            }
            cgroup_op::RELEASE | cgroup_op::RMDIR => {
                // After rmdir no task can be in it, and its id may come back.
                self.world.cgroups.remove(key);
                self.asked.remove(&key);
            }
            _ => {}
        }
    }

    /// Resolves a state's namespaces; `fresh` is a bit per slot.
    fn resolve(&mut self, state: &TaskState, fresh: u16, actor: EntityId) -> NsIds {
        let mut ids = [super::world::namespaces::NO_NS; NsKind::ALL.len()];
        for &kind in NsKind::ALL {
            let slot = kind.slot();
            // Both slots of a birth name one new object: it is made once.
            let twin = match kind {
                NsKind::PidForChildren => Some(ns::PID),
                NsKind::TimeForChildren => Some(ns::TIME),
                _ => None,
            };
            ids[slot] = match twin {
                Some(twin) if state.ns[twin].inum == state.ns[slot].inum => ids[twin],
                _ => {
                    let is_fresh = fresh & (1 << slot) != 0;
                    self.world
                        .ns
                        .resolve(kind, &state.ns[slot], is_fresh, actor)
                }
            };
        }
        ids
    }

    fn on_fork(&mut self, record: &TaskRecord, out: &mut Vec<Record>) {
        let state = &record.state;
        if self.world.tasks.contains_key(&state.key.tid) {
            // Its exit was not seen, or a sweep found the newborn first: then what the first sweep read
            // is newer than this record.
            if self.is_stale(record) {
                return;
            }
            self.forget(state.key.tid);
        }
        let Some(parent) = self.world.task(&record.actor) else {
            self.adopt(record);
            return;
        };
        let (set, label, confidence) = (parent.set, parent.label, parent.confidence);
        let (entered, exe, pivoted) = (parent.entered, parent.exe.clone(), parent.pivoted);
        let fresh = fresh_at_birth(record);
        let same_ns = fresh == 0
            && parent
                .state
                .ns
                .iter()
                .zip(&state.ns)
                .all(|(a, b)| a.inum == b.inum);
        let same_cgroups = parent.state.cgroups == state.cgroups;
        // An ordinary birth brings nothing that a rule could judge, so the parent's state is not kept.
        let before = (!same_ns || !same_cgroups).then_some(parent.state);
        let ids_before = *self.world.ns.ids(set);
        let parent_set = set;
        let (set, ids) = if same_ns {
            self.world.ns.share_set(set);
            (set, ids_before)
        } else {
            let ids = self.resolve(state, fresh, label);
            (self.world.ns.new_set(ids), ids)
        };
        self.world.insert(Task {
            state: *state,
            set,
            label: HOST,
            confidence,
            entered,
            exe,
            pivoted,
            seen_ns: record.header.boottime_ns,
            event: self.event,
            growth: None,
            suspect: None,
            extra: Vec::new(),
        });
        let Some(before) = before else {
            self.inherit_label(state.key.tid, label, parent_set);
            return;
        };
        let before_iota = self.iotas_before(label, &ids, state);
        self.inherit_label(state.key.tid, label, parent_set);
        let taken = self.take_label(state.key.tid);
        let change = Change {
            record,
            event: self.event,
            label: taken,
            label_before: label,
            actor: label,
            before: Some(&before),
            ids_before: Some(ids_before),
            ids,
            fresh,
            confidence,
        };
        let mut drafts = Vec::new();
        if taken != HOST {
            rule::namespace_join::detect(&change, &self.world, &mut drafts);
            rule::namespace_nest::detect(&change, &self.world, &mut drafts);
            rule::privilege_gain::detect(&change, &before.creds, &self.world, &mut drafts);
            if !same_cgroups {
                self.moves(&change, &before, &mut drafts);
            }
        }
        self.report(drafts, &change, &before_iota, out);
    }

    /// A task whose birth was not seen.
    pub(super) fn adopt(&mut self, record: &TaskRecord) {
        let state = &record.state;
        let parent_label = self.world.label(&state.parent);
        let ids = self.resolve(state, 0, HOST);
        let set = self.world.ns.new_set(ids);
        let home = self.world.host().root;
        self.world.insert(Task {
            state: *state,
            set,
            label: HOST,
            confidence: if self.started {
                Confidence::Inferred
            } else {
                Confidence::Exact
            },
            entered: None,
            exe: None,
            pivoted: state.known & known::ROOT != 0
                && (state.root.dev, state.root.ino) != home
                && home != (0, 0),
            seen_ns: record.header.boottime_ns,
            event: self.event,
            growth: None,
            suspect: None,
            extra: Vec::new(),
        });
        let tid = state.key.tid;
        if let Some(label) = self.restored_label(&state.key) {
            self.set_label(tid, label);
        } else {
            self.set_label(tid, parent_label);
            let taken = self.take_label(tid);
            if taken == parent_label {
                self.recognise(tid);
            }
        }
        if record.cause == cause::EXEC {
            self.consider(tid);
        }
    }

    fn on_change(&mut self, record: &TaskRecord, filename: Option<&[u8]>, out: &mut Vec<Record>) {
        let state = &record.state;
        let tid = state.key.tid;
        if record.cause == cause::EXEC {
            self.follow_exec(record);
        }
        let Some(task) = self.world.task(&state.key) else {
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
        let (before, ids_before, label) = (task.state, *self.world.ns.ids(task.set), task.label);
        // An exec commits its credentials before it is reported: compare with what was before both.
        let grown = match &task.growth {
            Some(growth)
                if record.cause == cause::EXEC
                    && explained_by_exec(growth, self.config.syscalls) =>
            {
                growth.before.creds
            }
            _ => before.creds,
        };
        let (confidence, entered) = (task.confidence, task.entered);
        let merged = merge(&before, state);
        let record = &TaskRecord {
            state: merged,
            ..*record
        };
        let mut fresh = fresh_by_change(record, &before);
        if record.cause == cause::CRED
            && self
                .world
                .ns
                .by_inum(NsKind::User, merged.ns[ns::USER].inum)
                .is_some()
        {
            // Somebody lives in it already: joined, not made.
            fresh &= !(1 << ns::USER);
        }
        let ids = if fresh == 0 && merged.ns == before.ns {
            ids_before
        } else {
            self.resolve(&merged, fresh, label)
        };
        let stays = ids == ids_before && self.stays(tid, &before, &merged);
        let before_iota = if stays {
            // Nothing that ι looks at changes: what it was is what it is.
            Iotas::new()
        } else {
            self.iotas_before(label, &ids, &merged)
        };
        if let Some(task) = self.world.tasks.get_mut(&tid) {
            task.state = merged;
            task.seen_ns = record.header.boottime_ns;
            task.event = self.event;
            task.suspect = None;
            task.pivoted |= matches!(record.cause, cause::PIVOT_ROOT | cause::CHROOT);
        }
        self.set_exe(tid, filename);
        self.set_namespaces(tid, ids);
        if record.cause == cause::PIVOT_ROOT {
            self.follow_pivot(&before, &merged, ids[ns::MNT]);
        }
        let switched = ids != ids_before;
        let taken = if switched {
            self.take_label(tid)
        } else {
            label
        };
        if !stays {
            self.refresh_extra(tid);
        }
        let change = Change {
            record,
            event: self.event,
            label: taken,
            label_before: label,
            actor: label,
            before: Some(&before),
            ids_before: Some(ids_before),
            ids,
            fresh,
            confidence,
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
            self.watch_growth(&change, &before);
        }
        self.report(drafts, &change, &before_iota, out);
        if record.cause == cause::EXEC {
            self.consider(tid);
        }
    }

    /// Whether the first sweep read this task after the record was written: attaching comes before it, so
    /// what the rings collected meanwhile is older.
    fn is_stale(&self, record: &TaskRecord) -> bool {
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
            self.world.insert(*task);
        }
    }

    /// pivot_root moves every task whose root or cwd was the old root.
    fn follow_pivot(
        &mut self,
        before: &TaskState,
        after: &TaskState,
        mnt: crate::model::facts::NsId,
    ) {
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
        let Some(filename) = filename else { return };
        if let Some(task) = self.world.tasks.get_mut(&tid) {
            let name = text::escape(kernel_str(filename));
            if task.exe.as_deref() != Some(name.as_str()) {
                task.exe = Some(Arc::from(name));
            }
        }
    }

    fn on_attach(&mut self, record: &TaskRecord, out: &mut Vec<Record>) {
        let tid = record.state.key.tid;
        if self.world.task(&record.state.key).is_none() {
            if self.world.tasks.contains_key(&tid) {
                self.forget(tid);
            }
            self.adopt(record);
        }
        let hierarchy = record.arg1 as u32;
        let group = if record.arg1 & ATTACH_THREADGROUP != 0 {
            self.world.group(record.state.key.tgid)
        } else {
            vec![tid]
        };
        let actor = self.world.label(&record.actor);
        let Some(task) = self.world.tasks.get(&tid) else {
            return;
        };
        let (before, label, confidence) = (task.state, task.label, task.confidence);
        let ids = *self.world.ns.ids(task.set);
        let before_iota = self.iotas_before(actor, &ids, &record.state);
        for member in group {
            self.place(member, hierarchy, record.arg0, record.header.boottime_ns);
        }
        let taken = self.world.label(&record.state.key);
        let mut state = before;
        state.cgroups = self
            .world
            .tasks
            .get(&tid)
            .map_or(before.cgroups, |t| t.state.cgroups);
        let settled = TaskRecord { state, ..*record };
        let change = Change {
            record: &settled,
            event: self.event,
            label: taken,
            label_before: label,
            actor,
            before: Some(&before),
            ids_before: Some(ids),
            ids,
            fresh: 0,
            confidence,
        };
        let mut drafts = Vec::new();
        if actor != HOST {
            let to = (hierarchy, record.arg0);
            let slot = self.slots_of(hierarchy).next();
            let from = slot.and_then(|slot| self.world.cgroup_key(&before, slot));
            let territory = self.world.cgroups.territory(to);
            let moved = Move {
                to,
                from,
                territory,
            };
            rule::cgroup_migration::detect(&change, &moved, &self.world, &mut drafts);
        }
        self.report(drafts, &change, &before_iota, out);
    }

    /// Slots that belong to a hierarchy.
    fn slots_of(&self, hierarchy: u32) -> impl Iterator<Item = usize> + use<> {
        let hierarchies = self.world.hierarchies;
        (0..CGROUP_SLOTS).filter(move |&slot| hierarchies[slot] == Some(hierarchy))
    }

    /// One task sits in another cgroup from here on.
    fn place(&mut self, tid: u32, hierarchy: u32, id: u64, now_ns: u64) {
        let slots: Vec<usize> = self.slots_of(hierarchy).collect();
        let event = self.event;
        let Some(task) = self.world.tasks.get_mut(&tid) else {
            return;
        };
        for slot in slots {
            task.state.cgroups[slot] = id;
        }
        task.seen_ns = now_ns;
        task.event = event;
        task.suspect = None;
        self.take_label(tid);
        self.refresh_extra(tid);
    }

    /// A birth into other cgroups than the parent's (CLONE_INTO_CGROUP).
    fn moves(&mut self, change: &Change<'_>, before: &TaskState, drafts: &mut Vec<Draft>) {
        for slot in 0..CGROUP_SLOTS {
            if before.cgroups[slot] == change.record.state.cgroups[slot] {
                continue;
            }
            let Some(to) = self.world.cgroup_key(&change.record.state, slot) else {
                continue;
            };
            let from = self.world.cgroup_key(before, slot);
            let moved = Move {
                to,
                from,
                territory: self.world.cgroups.territory(to),
            };
            rule::cgroup_migration::detect(change, &moved, &self.world, drafts);
        }
    }

    /// Remembers credentials that grew without an exec or a new user namespace, until the task's next
    /// event or a tick tells whether an exec explains it.
    fn watch_growth(&mut self, change: &Change<'_>, before: &TaskState) {
        let syscalls = self.config.syscalls;
        if self.growing.len() >= MAX_GROWING {
            return;
        }
        let record = change.record;
        let tid = record.state.key.tid;
        let Some(task) = self.world.tasks.get_mut(&tid) else {
            return;
        };
        if record.cause == cause::EXEC {
            if task
                .growth
                .as_ref()
                .is_some_and(|g| explained_by_exec(g, syscalls))
            {
                task.growth = None;
            }
            return;
        }
        if task.growth.is_some()
            || change.label != change.label_before
            || !silent_privilege_change::impossible(before, &record.state)
        {
            return;
        }
        task.growth = Some(Box::new(Growth {
            before: *before,
            syscall: record.syscall,
            hook: record.header.hook,
            event: self.event,
            boottime_ns: record.header.boottime_ns,
        }));
        self.growing.push(tid);
    }

    /// Judges what grew and was not explained.
    pub(super) fn settle_growth(&mut self, out: &mut Vec<Record>) {
        for tid in std::mem::take(&mut self.growing) {
            let Some(task) = self.world.tasks.get_mut(&tid) else {
                continue;
            };
            let waits = task.growth.as_ref().is_some_and(|growth| {
                let syscall = (self.config.syscalls)(growth.syscall);
                // Still inside the exec: its next event tells.
                matches!(syscall, Some("execve" | "execveat")) && task.event == growth.event
                    || self.now_ns < growth.boottime_ns.saturating_add(GROWTH_PATIENCE_NS)
            });
            if waits {
                self.growing.push(tid);
                continue;
            }
            let Some(growth) = task.growth.take() else {
                continue;
            };
            let (state, label, confidence) = (task.state, task.label, task.confidence);
            let ids = *self.world.ns.ids(task.set);
            let draft = silent_privilege_change::draft(
                &self.world,
                label,
                &growth.before,
                &state,
                confidence,
            );
            let record = label::record_of(
                &state,
                cause::CRED,
                growth.syscall,
                growth.hook,
                growth.boottime_ns,
            );
            let change = Change {
                record: &record,
                event: growth.event,
                label,
                label_before: label,
                actor: label,
                before: Some(&growth.before),
                ids_before: Some(ids),
                ids,
                fresh: 0,
                confidence,
            };
            let before_iota = self.iotas_before(label, &ids, &state);
            self.report(draft.into_iter().collect(), &change, &before_iota, out);
        }
    }

    /// Whether a task makes its container hold, beside namespaces, just what it did.
    fn stays(&mut self, tid: u32, before: &TaskState, after: &TaskState) -> bool {
        if before.root != after.root || before.cwd != after.cwd || before.cgroups != after.cgroups {
            return false;
        }
        let Some(label) = self.world.tasks.get(&tid).map(|t| t.label) else {
            return false;
        };
        // The same place may have become foreign: its owner may be known only now.
        label == HOST || {
            let extra = self.extra_of(label, after);
            self.world
                .tasks
                .get(&tid)
                .is_some_and(|t| t.extra.iter().map(|(o, _)| *o).eq(extra))
        }
    }

    /// Recomputes what a task makes its container hold beside namespaces: foreign root, foreign cwd,
    /// foreign territory.
    pub(super) fn refresh_extra(&mut self, tid: u32) {
        let Some(task) = self.world.tasks.get(&tid) else {
            return;
        };
        if task.label == HOST {
            return;
        }
        let (label, state) = (task.label, task.state);
        let extra = self.extra_of(label, &state);
        self.set_extra(tid, extra);
    }

    fn extra_of(&mut self, label: EntityId, state: &TaskState) -> Vec<ObjectKey> {
        let mut extra = Vec::new();
        if let Some(id) = Directory::Root.foreign_mount_ns(&self.world, state) {
            extra.push(ObjectKey::Root(id));
        }
        if let Some(id) = Directory::Cwd.foreign_mount_ns(&self.world, state) {
            extra.push(ObjectKey::Cwd(id));
        }
        let (slots, territory) = self
            .world
            .entities
            .get(&label)
            .map_or((0, HOST), |e| (e.slots, e.territory));
        for slot in (0..CGROUP_SLOTS).filter(|slot| slots & (1 << slot) != 0) {
            let Some(key) = self.world.cgroup_key(state, slot) else {
                continue;
            };
            let place = self.world.cgroups.territory(key);
            let inside = place == territory || place != HOST && self.world.contains(label, place);
            if !inside && !extra.contains(&ObjectKey::Territory(place)) {
                extra.push(ObjectKey::Territory(place));
            }
        }
        extra
    }
}

/// Whether two paths are one directory of one mount namespace: a copy of a mount tree has the same
/// inodes.
fn same_place(a: &PathRef, b: &PathRef) -> bool {
    (a.dev, a.ino, a.mnt_ns_inum) == (b.dev, b.ino, b.mnt_ns_inum)
}

/// Whether credentials grew inside of an exec, or in a call that has no name here: a 32-bit exec has another
/// number.
fn explained_by_exec(growth: &Growth, syscalls: fn(i32) -> Option<&'static str>) -> bool {
    matches!(syscalls(growth.syscall), None | Some("execve" | "execveat"))
}

/// Slots that a clone made anew.
fn fresh_at_birth(record: &TaskRecord) -> u16 {
    let flags = record.arg0;
    NsKind::ALL
        .iter()
        .filter(|kind| flags & kind.clone_flag() != 0 && record.state.ns[kind.slot()].inum != 0)
        .fold(0, |mask, kind| mask | 1 << kind.slot())
}

/// Slots that a change of an existing task made anew.
fn fresh_by_change(record: &TaskRecord, before: &TaskState) -> u16 {
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
pub(super) fn merge(before: &TaskState, after: &TaskState) -> TaskState {
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
