//! Credentials that grew by a call that must not let them grow: they wait for the exec that explains them.

use super::{Engine, record_of};
use crate::engine::rule::{Change, silent_privilege_change};
use crate::engine::world::Growth;
use crate::model::output::Record;
use auditor_common::record::{TaskState, cause};

/// How long credentials that grew wait for the exec that explains them.
const GROWTH_PATIENCE_NS: u64 = 1_000_000_000;
/// Tasks whose credentials may wait for an explanation at once; what more tasks gain is left to the sweep.
const MAX_GROWING: usize = 4096;

impl Engine {
    /// Remembers credentials that grew without an exec or a new user namespace, until the task's next
    /// event or a tick tells whether an exec explains it.
    pub(super) fn watch_growth(&mut self, change: &Change<'_>, before: &TaskState) {
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
    pub(in crate::engine) fn settle_growth(&mut self, out: &mut Vec<Record>) {
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
            let record = record_of(
                &state,
                cause::CRED,
                growth.syscall,
                growth.hook,
                growth.boottime_ns,
            );
            let change = Change {
                before: Some(&growth.before),
                ..Change::of(&record, growth.event, label, ids, confidence)
            };
            let before_iota = self.iotas_before(label, &ids, &state);
            self.report(draft.into_iter().collect(), &change, &before_iota, out);
        }
    }
}

/// Whether credentials grew inside of an exec, or in a call that has no name here: a 32-bit exec has another
/// number.
pub(super) fn explained_by_exec(
    growth: &Growth,
    syscalls: fn(i32) -> Option<&'static str>,
) -> bool {
    matches!(syscalls(growth.syscall), None | Some("execve" | "execveat"))
}
