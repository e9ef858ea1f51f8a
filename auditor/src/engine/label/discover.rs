//! Containers that a sweep finds: their first exec was before the agent, or lost.
//!
//! What a sweep finds may also be one that its runtime still makes, with all of the runtime's capabilities and files.
//! Such a one must not begin yet: runtimes write down whether the container waits to be started, and where none says so,
//! two sweeps must find it. What was there before the agent is taken for a container at once.

use super::Engine;
use super::compartment::{Compartment, Pending};
use crate::inventory::container::ContainerAnswer;
use crate::model::facts::NsId;
use auditor_common::record::{TaskKey, ns};
use std::collections::BTreeSet;

/// Compartments that a sweep found, of which nobody says whether they run.
#[derive(Debug, Default)]
pub(in crate::engine) struct Found {
    /// By the sweep before.
    before: Vec<TaskKey>,
    /// By the last one.
    now: Vec<TaskKey>,
}

impl Found {
    /// Whether another sweep is to look.
    pub(in crate::engine) fn is_open(&self) -> bool {
        !self.now.is_empty()
    }
}

impl Engine {
    /// After a sweep that may show what no event did: which compartments are there that no container is
    /// known for? Each one's oldest task stands for its init.
    pub(in crate::engine) fn discover(&mut self) {
        self.found.before = std::mem::take(&mut self.found.now);
        let mut candidates: Vec<(u64, u32)> = self
            .world
            .tasks
            .values()
            .filter(|t| t.state.key.tid == t.state.key.tgid)
            .filter(|t| self.compartment(t).is_some())
            .map(|t| (t.state.key.start_boottime_ns, t.state.key.tid))
            .collect();
        candidates.sort_unstable();
        let mut seen: BTreeSet<(NsId, NsId)> = BTreeSet::new();
        for (_, tid) in candidates {
            let Some(task) = self.world.tasks.get(&tid) else {
                continue;
            };
            let ids = *self.world.ns.ids(task.set);
            if seen.insert((ids[ns::MNT], ids[ns::PID])) {
                self.look_into(tid);
            }
        }
    }

    /// Asks about a task whose exec nobody saw.
    pub(in crate::engine) fn look_into(&mut self, tid: u32) {
        let Some(task) = self.world.tasks.get(&tid) else {
            return;
        };
        if let Some(compartment) = self.compartment(task) {
            self.ask(Pending::Found(compartment), &compartment);
        }
    }

    /// The inventory answered about one that a sweep found.
    pub(super) fn find(&mut self, compartment: &Compartment, answer: Option<&ContainerAnswer>) {
        let key = compartment.key();
        let runs = match answer.and_then(|answer| answer.waits) {
            Some(waits) => !waits,
            // Without a pid namespace of its own it does not begin before it has a name.
            None if !self.started || !compartment.has_own_pid() => true,
            None => {
                if !self.found.now.contains(&key) {
                    self.found.now.push(key);
                }
                self.found.before.contains(&key)
            }
        };
        if runs {
            self.start(compartment, answer);
        }
    }
}
