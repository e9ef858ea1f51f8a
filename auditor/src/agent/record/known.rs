//! What the inventory said last about each compartment: a prologue repeats it.

use crate::engine::Event;
use crate::inventory::container::ContainerAnswer;
use crate::model::text::escape;
use crate::trace::{Answer, Item};
use auditor_common::record::cgroup_op;
use std::collections::BTreeMap;

/// Compartments whose names are remembered.
const MAX_KNOWN: usize = 1 << 16;

/// Answers by path of the cgroup that was asked about.
#[derive(Debug, Default)]
pub(in crate::agent) struct Known(BTreeMap<String, (Option<u32>, ContainerAnswer)>);

impl Known {
    /// Learns from an item of the stream.
    pub(in crate::agent) fn note(&mut self, item: &Item<'_>) {
        match item {
            Item::Answer(Answer {
                cgroup_path,
                init_pid,
                answer: Some(answer),
            }) if self.0.len() < MAX_KNOWN || self.0.contains_key(*cgroup_path) => {
                let known = (*init_pid, (*answer).clone());
                self.0.insert((*cgroup_path).to_owned(), known);
            }
            Item::Event(Event::Cgroup(record)) if record.op == cgroup_op::RMDIR => {
                let used = record.path.len().min(record.path_len as usize);
                self.0.remove(&escape(&record.path[..used]));
            }
            _ => {}
        }
    }

    /// In order of the paths.
    pub(in crate::agent) fn answers(&self) -> impl Iterator<Item = Answer<'_>> {
        self.0.iter().map(|(path, (init_pid, answer))| Answer {
            cgroup_path: path,
            init_pid: *init_pid,
            answer: Some(answer),
        })
    }
}
