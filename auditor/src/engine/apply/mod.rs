//! From a kernel record to a change of the world.
//!
//! Inside: `birth` and `change` take in what tasks do, `attach` what is done to them, `growth` holds credentials
//! that grew until an exec explains them, `act` judges what tasks do to what is not theirs, `file` what of it they hold,
//! `extra` says what a task makes its container hold beside namespaces, and `state` compares two states of a task.

mod act;
mod attach;
mod birth;
mod change;
mod extra;
mod file;
mod growth;
mod state;

pub(super) use act::Doer;
pub(super) use file::Files;
pub(super) use state::merge;

use super::Engine;
use super::world::Task;
use super::world::namespaces::{NO_NS, NsIds};
use crate::model::facts::EntityId;
use crate::model::output::Record;
use crate::model::{NsKind, text};
use auditor_common::record::{
    CgroupRecord, RecordHeader, TaskKey, TaskRecord, TaskState, cause, cgroup_op, kind, ns,
    task_flags,
};

impl Engine {
    /// A task's state, from any cause.
    pub(in crate::engine) fn on_task(
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
            cause::FOUND => self.on_found(record, out),
            _ => self.on_change(record, filename, out),
        }
    }

    /// A task ended.
    pub(in crate::engine) fn on_exit(&mut self, key: &TaskKey) {
        self.exits.note(*key);
        if let Some(task) = self.world.take(key) {
            self.bury(task);
        }
    }

    /// Removes a task and what its container held by it.
    pub(in crate::engine) fn forget(&mut self, tid: u32) {
        if let Some(task) = self.world.remove(tid) {
            self.bury(task);
        }
    }

    fn bury(&mut self, mut task: Box<Task>) {
        let extra = std::mem::take(&mut task.extra);
        self.files.forget(task.state.key.tid);
        self.give_up(&task.state.key);
        self.disown(task.label, task.set, extra);
        self.world.ns.drop_set(task.set);
        self.bury_mounts();
    }

    /// A cgroup appeared or went.
    #[inline(never)]
    pub(in crate::engine) fn on_cgroup(&mut self, record: &CgroupRecord) {
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
            cgroup_op::TRANSFER => self.on_transfer(record),
            _ => {}
        }
    }

    /// Resolves a state's namespaces; `fresh` is a bit per slot.
    fn resolve(&mut self, state: &TaskState, fresh: u16, actor: EntityId) -> NsIds {
        let mut ids = [NO_NS; NsKind::ALL.len()];
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
}

/// A record of what is known, for findings that no single kernel record stands behind.
pub(in crate::engine) fn record_of(
    state: &TaskState,
    cause: u32,
    syscall: i32,
    hook: u16,
    boottime_ns: u64,
) -> TaskRecord {
    let header = RecordHeader {
        boottime_ns,
        cpu_seq: 0,
        kind: kind::TASK,
        hook,
        cpu: 0,
        size: u16::try_from(size_of::<TaskRecord>()).unwrap_or(0),
    };
    TaskRecord {
        header,
        actor: state.key,
        cause,
        syscall,
        arg0: 0,
        arg1: 0,
        state: *state,
    }
}
