//! What tasks do to objects outside of their own state: files, other tasks, sockets, the kernel.
//!
//! An act changes nothing in who is who. It is judged by the label of who acted, and told by the rule that its kind
//! belongs to.

use super::Engine;
use crate::engine::rule::{self, Deed};
use crate::model::facts::HOST;
use crate::model::output::Record;
use auditor_common::record::{ActRecord, act};

impl Engine {
    /// A task did something.
    pub(in crate::engine) fn on_act(&mut self, record: &ActRecord, out: &mut Vec<Record>) {
        let Some(task) = self.world.task(&record.actor) else {
            return;
        };
        let (label, state) = (task.label, task.state);
        if label == HOST {
            return;
        }
        let deed = Deed {
            record,
            event: self.event,
            label,
            state: &state,
            confidence: task.confidence,
        };
        let mut drafts = Vec::new();
        match record.act {
            act::ACCESS | act::SIGNAL | act::CONTROL => {
                rule::process_control::detect(&deed, &self.world, &mut drafts);
            }
            act::MOUNT => self.note_mount(label, record.object.mnt_ns_inum, record),
            _ => {}
        }
        self.report_deed(drafts, &deed, out);
    }
}
