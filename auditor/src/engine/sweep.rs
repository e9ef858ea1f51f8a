//! Model against kernel.
//!
//! A sweep reads every task's state from the kernel. Where it differs from the model, the change may
//! still be on its way through the ring, so a difference is only believed when the next sweep finds it
//! again with no event between. Then it is repaired; if no event was lost meanwhile and the hooks that
//! should have seen it work, it is also reported as drift, and as the violation that it amounts to.

use super::Engine;
use super::apply::merge;
use super::rule::drift::{self, Difference};
use super::rule::{self, Change, silent_privilege_change};
use crate::model::facts::{HOST, ObjectKey, Origin};
use crate::model::hook_set::HookSet;
use crate::model::isolation::Reach;
use crate::model::isolation::Scope;
use crate::model::output::Record;
use crate::model::{Confidence, NsKind};
use auditor_common::hook;
use auditor_common::record::{
    FOUND_EXECUTED, TaskRecord, TaskState, cause, cgroup, known, ns, task_flags,
};
use hashbrown::HashSet;
use std::collections::BTreeMap;
use zerocopy::IntoBytes;

/// Inum of the initial pid namespace (`PROC_PID_INIT_INO`, the same since 3.8).
const INITIAL_PID_NS: u32 = 0xefff_fffc;

/// A sweep under way.
#[derive(Debug)]
pub(super) struct Sweep {
    began_ns: u64,
    seen: HashSet<u32>,
}

impl Sweep {
    pub(super) fn new(began_ns: u64) -> Self {
        Self {
            began_ns,
            seen: HashSet::new(),
        }
    }
}

impl Engine {
    /// One task of a sweep.
    #[inline(never)]
    pub(super) fn on_sweep_task(&mut self, record: &TaskRecord, out: &mut Vec<Record>) {
        let state = &record.state;
        let tid = state.key.tid;
        if state.task_flags & task_flags::EXITING != 0 {
            if let Some(sweep) = &mut self.sweeping {
                sweep.seen.insert(tid);
            }
            return;
        }
        if let Some(sweep) = &mut self.sweeping {
            sweep.seen.insert(tid);
        }
        let Some(task) = self.world.task(&state.key) else {
            if self.exits.contains(&state.key) {
                return;
            }
            if self.world.tasks.contains_key(&tid) {
                // Another task has its id now; its exit was not seen, or is on its way.
                self.forget(tid);
            }
            self.adopt(record);
            if self.started {
                self.counters.repaired += 1;
            }
            return;
        };
        if task.seen_ns > record.header.boottime_ns {
            return;
        }
        if task.state.as_bytes() == state.as_bytes() {
            if let Some(task) = self.world.tasks.get_mut(&tid) {
                task.suspect = None;
            }
            return;
        }
        let model = task.state;
        let difference = Difference::between(&model, state);
        if difference.is_empty() {
            self.refresh(record, out);
            return;
        }
        let kernel = merge(&model, state);
        let difference = self.take_transfers(tid, &kernel, difference);
        if difference.is_empty() {
            self.refresh(record, out);
            return;
        }
        let task = self.world.tasks.get(&tid);
        let confirmed = task
            .and_then(|t| t.suspect.as_ref())
            .is_some_and(|s| Difference::between(s, &kernel).is_empty());
        if !self.started || self.lossy || self.is_left_out(difference) {
            self.repair(record, &kernel, Difference::default(), out);
        } else if confirmed {
            self.repair(record, &kernel, difference, out);
        } else if let Some(task) = self.world.tasks.get_mut(&tid) {
            task.suspect = Some(Box::new(kernel));
        }
    }

    /// A task was met in namespaces that nobody told of, or after an exec: the program that should have was left out.
    pub(super) fn on_found(&mut self, record: &TaskRecord, out: &mut Vec<Record>) {
        let tid = record.state.key.tid;
        let Some(task) = self.world.task(&record.state.key) else {
            if self.world.tasks.contains_key(&tid) {
                self.forget(tid);
            }
            self.adopt(record);
            return;
        };
        if self.is_stale(record) {
            return;
        }
        let kernel = merge(&task.state, &record.state);
        if Difference::between(&task.state, &kernel).is_empty() {
            self.refresh(record, out);
        } else {
            self.met = Some(record.header.hook);
            self.repair(record, &kernel, Difference::default(), out);
        }
        let Some(task) = self.world.tasks.get_mut(&tid) else {
            return;
        };
        task.seen_ns = record.header.boottime_ns;
        if record.arg0 & FOUND_EXECUTED != 0 {
            task.executed();
            // It may be the first program of a container.
            self.look_into(tid);
        }
    }

    /// Pid 1 is what the host is. Where it may not be looked at, the oldest task of the initial pid
    /// namespace stands for it.
    fn learn_host(&mut self) {
        let readable = |t: &&super::world::Task| t.state.known & known::NS != 0;
        let initial = |t: &&super::world::Task| t.state.ns[ns::PID].inum == INITIAL_PID_NS;
        let oldest = |t: &&super::world::Task| (t.state.key.start_boottime_ns, t.state.key.tid);
        let all = || {
            self.world
                .tasks
                .values()
                .map(AsRef::as_ref)
                .filter(readable)
        };
        let host = self
            .world
            .tasks
            .get(&1)
            .map(AsRef::as_ref)
            .filter(readable)
            .or_else(|| all().filter(initial).min_by_key(oldest))
            .or_else(|| all().min_by_key(oldest));
        let Some(state) = host.map(|t| t.state) else {
            return;
        };
        for &kind in NsKind::ALL {
            let slot = kind.slot();
            let id = self.world.ns.resolve(kind, &state.ns[slot], false, HOST);
            self.world.ns.pin(id);
            self.world.ns.set_initial(id);
            if let Some(host) = self.world.entities.get_mut(&HOST) {
                host.ns[slot] = id;
            }
            if self.world.ns.get(id).is_some() {
                self.index.hold(HOST, ObjectKey::ns(kind, id), Origin::Own);
            }
        }
        let Some(host) = self.world.entities.get_mut(&HOST) else {
            return;
        };
        host.init = state.key;
        if state.known & known::ROOT != 0 {
            host.root = (state.root.dev, state.root.ino);
        }
        let mnt = host.ns[ns::MNT];
        let (pid, user) = (host.ns[ns::PID], host.ns[ns::USER]);
        self.index
            .hold(HOST, ObjectKey::Territory(HOST), Origin::Own);
        self.index.hold(HOST, ObjectKey::Root(mnt), Origin::Own);
        self.index.hold(HOST, ObjectKey::Cwd(mnt), Origin::Own);
        self.index
            .hold(HOST, ObjectKey::Reference(mnt), Origin::Own);
        self.index.set_user_chain(HOST, vec![user]);
        // Of all its users root counts: whoever has that id reaches its most important processes.
        let reach = Reach {
            pid: vec![pid],
            user: vec![user],
            ..Reach::default()
        };
        self.index.set_reach(HOST, reach);
    }

    /// Nothing that counts differs; take in the rest (command name, cwd, confinement).
    fn refresh(&mut self, record: &TaskRecord, out: &mut Vec<Record>) {
        let tid = record.state.key.tid;
        let Some(task) = self.world.tasks.get_mut(&tid) else {
            return;
        };
        task.suspect = None;
        let mut state = merge(&task.state, &record.state);
        // Of two start times of one task the first one stands: labels are saved by it.
        state.key = task.state.key;
        let label = task.label;
        let stays = task.state.cwd == state.cwd && task.state.root == state.root;
        let model = std::mem::replace(&mut task.state, state);
        if stays || label == HOST {
            return;
        }
        let ids = *self.world.ns.ids(task.set);
        let confidence = Confidence::Sampled.max(task.confidence);
        self.refresh_extra(tid);
        let record = TaskRecord { state, ..*record };
        let change = Change {
            before: Some(&model),
            ..Change::of(&record, self.event, label, ids, confidence)
        };
        let mut drafts = Vec::new();
        rule::foreign_cwd::detect(&change, &self.world, &mut drafts);
        let before_iota = self.iotas_before(label, &ids, &state);
        self.report(drafts, &change, &before_iota, out);
    }

    /// Takes a task's state over from the kernel, and reports it unless `difference` is empty.
    fn repair(
        &mut self,
        record: &TaskRecord,
        kernel: &TaskState,
        difference: Difference,
        out: &mut Vec<Record>,
    ) {
        let tid = kernel.key.tid;
        let Some(task) = self.world.tasks.get(&tid) else {
            return;
        };
        let (model, label, confidence) = (task.state, task.label, task.confidence);
        let ids_before = *self.world.ns.ids(task.set);
        let mut state = *kernel;
        state.key = model.key;
        let mut ids = ids_before;
        for &kind in NsKind::ALL {
            let slot = kind.slot();
            if model.ns[slot] != state.ns[slot] {
                ids[slot] = self.world.ns.resolve(kind, &state.ns[slot], false, HOST);
                if label != HOST {
                    self.world.ns.find(ids[slot]);
                }
            }
        }
        let before_iota = self.iotas_before(label, &ids, &state);
        let event = self.event;
        if let Some(task) = self.world.tasks.get_mut(&tid) {
            task.state = state;
            task.suspect = None;
            task.event = event;
        }
        self.set_namespaces(tid, ids);
        self.take_label(tid);
        self.refresh_extra(tid);
        self.counters.repaired += 1;
        let difference = self.unexplained(difference);
        if label == HOST || difference.is_empty() {
            return;
        }
        let confidence = Confidence::Sampled.max(confidence);
        let mut drafts = Vec::from_iter(drift::draft(
            &self.world,
            label,
            difference,
            &model,
            &state,
            &ids,
        ));
        if difference.creds && silent_privilege_change::impossible(&model, &state) {
            drafts.extend(silent_privilege_change::draft(
                &self.world,
                label,
                &model,
                &state,
                confidence,
            ));
        }
        let settled = TaskRecord {
            state,
            cause: cause::SNAPSHOT,
            ..*record
        };
        let change = Change {
            before: Some(&model),
            ids_before: Some(ids_before),
            ..Change::of(&settled, event, label, ids, confidence)
        };
        self.report(drafts, &change, &before_iota, out);
    }

    /// Programs of these hooks were left out.
    pub(super) fn leave_out(&mut self, by_hook: &BTreeMap<u16, u64>) {
        self.left_out[0] = self.left_out[0].and(by_hook.keys().copied().collect());
    }

    /// Whether all of a difference may be what programs that were left out would have shown.
    fn is_left_out(&self, difference: Difference) -> bool {
        self.left_out != <[HookSet; 2]>::default() && self.unexplained(difference).is_empty()
    }

    /// The part of a difference that a working hook should have explained.
    fn unexplained(&self, mut difference: Difference) -> Difference {
        let left_out = self.left_out[0].and(self.left_out[1]);
        let works = |hooks: &[u16]| self.config.working.has_any(hooks) && !left_out.has_any(hooks);
        if !works(&[hook::SWITCH_NS, hook::EXIT_SETNS]) {
            difference.ns = 0;
        }
        if !works(&[hook::COMMIT_CREDS, hook::EXIT_CRED]) {
            difference.creds = false;
        }
        if !works(&[hook::SET_FS_ROOT, hook::EXIT_CHROOT])
            || !works(&[hook::CHROOT_FS_REFS, hook::EXIT_PIVOT])
        {
            difference.root = false;
        }
        if !works(&[hook::CGROUP_ATTACH]) {
            difference.cgroups = 0;
        }
        if !works(&[hook::CGROUP_TRANSFER]) {
            // The kernel moves tasks by itself in hierarchies of v1 only.
            difference.cgroups &= 1 << cgroup::V2;
        }
        difference
    }

    /// The sweep is over: what it did not list is gone.
    #[inline(never)]
    pub(super) fn end_sweep(&mut self, complete: bool) {
        let Some(sweep) = self.sweeping.take() else {
            return;
        };
        if complete {
            self.transfers.forget_before(sweep.began_ns);
            self.settle_files(sweep.began_ns);
            let mut gone: Vec<u32> = self
                .world
                .tasks
                .values()
                .filter(|t| t.seen_ns < sweep.began_ns && !sweep.seen.contains(&t.state.key.tid))
                .map(|t| t.state.key.tid)
                .collect();
            gone.sort_unstable();
            for tid in gone {
                self.forget(tid);
                self.counters.repaired += 1;
            }
            let left_out = !self.left_out[0].is_empty();
            // What one sweep suspects, the next one confirms.
            self.left_out = [HookSet::default(), self.left_out[0]];
            let was_lossy = std::mem::take(&mut self.lossy) || left_out;
            if was_lossy {
                for dimension in super::LOSSY {
                    self.index.clear_unknown(Scope::All, dimension);
                }
            }
            let sees_execs = self.config.working.has(hook::SCHED_EXEC);
            if self.started && (was_lossy || !sees_execs || self.found.is_open()) {
                // Containers whose first exec was not seen.
                self.discover();
            }
        }
        self.exits.clear();
        if self.started {
            self.look_around();
        } else {
            self.folded_until_ns = self.now_ns;
            self.learn_host();
            self.look_at(HOST, true);
            self.restore_entities();
            self.discover();
            self.starting = true;
        }
    }
}
