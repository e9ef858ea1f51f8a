//! What tasks do to objects outside of their own state: files, other tasks, sockets, the kernel.
//!
//! An act changes nothing in who is who. It is judged by the label of who acted, and told by the rule that its kind
//! belongs to.

use super::Engine;
use crate::engine::report::Iotas;
use crate::engine::rule::{self, Deed};
use crate::engine::world::Task;
use crate::model::Confidence;
use crate::model::facts::{EntityId, HOST};
use crate::model::output::Record;
use auditor_common::record::{ActRecord, TaskState, act};

/// Who did something, as it was then.
pub(in crate::engine) struct Doer {
    pub(in crate::engine) label: EntityId,
    pub(in crate::engine) state: TaskState,
    /// It still runs the program that brought it into its container.
    pub(in crate::engine) arriving: bool,
    /// How sure the label is.
    pub(in crate::engine) confidence: Confidence,
}

impl Engine {
    /// A task did something.
    pub(in crate::engine) fn on_act(&mut self, record: &ActRecord, out: &mut Vec<Record>) {
        if matches!(record.act, act::HANDLES | act::SHARE) {
            self.on_handle(record);
            return;
        }
        let Some(task) = self.doer(record) else {
            return;
        };
        // What the sweep read is older than what is known of the task by now.
        if record.act == act::HOLD && task.seen_ns > record.header.boottime_ns {
            return;
        }
        let doer = Doer {
            label: task.label,
            state: task.state,
            arriving: task.arriving,
            confidence: task.confidence,
        };
        if doer.label == HOST {
            self.keep_early(record, &doer.state);
        }
        self.judge_act(record, &doer, out);
    }

    /// Judges what somebody did.
    pub(in crate::engine) fn judge_act(
        &mut self,
        record: &ActRecord,
        doer: &Doer,
        out: &mut Vec<Record>,
    ) {
        let (label, arriving) = (doer.label, doer.arriving);
        let is_code = matches!(record.act, act::EXEC | act::MAP);
        if label == HOST && !is_code {
            return;
        }
        let deed = Deed {
            record,
            event: self.event,
            label,
            state: &doer.state,
            syscall: (self.config.syscalls)(record.syscall),
            confidence: doer.confidence,
        };
        let mut drafts = Vec::new();
        match record.act {
            // A runtime's task that is not yet the container's program still has business with its parent.
            act::ACCESS | act::CONTROL | act::CONNECT | act::SEND if arriving => {}
            // A child that is under way is put into its cgroup, and belongs to nobody yet.
            act::CONTROL if self.is_in_clone(record.syscall) => {}
            act::ACCESS | act::SIGNAL | act::CONTROL => {
                rule::process_control::detect(&deed, &self.world, &self.index, &mut drafts);
            }
            act::SYSCTL => rule::kernel_knob::detect(&deed, &self.world, &mut drafts),
            act::MKNOD => rule::device_access::detect(&deed, &self.world, &mut drafts),
            act::BPF | act::KERNEL_LOAD | act::PERF | act::USERFAULTFD | act::KERNEL_CALL => {
                let call = (self.config.syscalls)(record.syscall);
                rule::kernel_code::detect(&deed, call, &self.world, &mut drafts);
            }
            act::SOCKET | act::SPLICE => {
                rule::page_cache_prestep::detect_socket(&deed, &self.world, &mut drafts);
            }
            act::CAPABLE if !arriving => drafts.extend(self.on_capable(&deed)),
            act::CALL if !arriving => self.on_call(&deed),
            act::MOUNT_DEVICE if !arriving => self.on_device(&deed, &mut drafts),
            act::MOUNT => self.note_mount(label, record.object.mnt_ns_inum, record),
            act::EXEC | act::MAP if label == HOST => self.on_host_code(&deed, &mut drafts),
            act::OPEN | act::EXEC | act::RECEIVE | act::HOLD | act::MAP if !arriving => {
                if matches!(record.act, act::OPEN | act::RECEIVE) {
                    rule::kernel_knob::detect(&deed, &self.world, &mut drafts);
                    rule::device_access::detect(&deed, &self.world, &mut drafts);
                }
                self.on_file(&deed, out);
            }
            act::CONNECT | act::SEND => {
                rule::socket::detect(&deed, &self.world, &self.index, &mut drafts);
            }
            _ => {}
        }
        self.report_deed(drafts, &deed, &Iotas::new(), out);
    }

    fn is_in_clone(&self, syscall: i32) -> bool {
        let call = (self.config.syscalls)(syscall);
        matches!(call, Some("clone" | "clone3" | "fork" | "vfork"))
    }

    /// Who did it. Nothing tells of the birth of an io_uring worker: its process did what it does.
    fn doer(&self, record: &ActRecord) -> Option<&Task> {
        let key = &record.actor;
        self.world.task(key).or_else(|| {
            let leader = self.world.tasks.get(&key.tgid)?;
            let is_younger = leader.state.key.start_boottime_ns <= key.start_boottime_ns;
            let is_known = self.world.tasks.contains_key(&key.tid);
            (leader.state.key.tgid == key.tgid && is_younger && !is_known).then_some(&**leader)
        })
    }
}
