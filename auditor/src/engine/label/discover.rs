//! Containers that a sweep finds: their first exec was before the agent, or lost.
//!
//! What a sweep finds may also be one that its runtime still makes, with all of the runtime's capabilities and files.
//! Such a one must not begin yet: runtimes write down whether the container waits to be started, and where none says so,
//! two sweeps must find it, and more while it runs a program that is not the container's. What was there before the agent
//! is taken for a container at once.

use super::Engine;
use super::compartment::{Compartment, Pending};
use crate::inventory::container::ContainerAnswer;
use crate::model::facts::NsId;
use auditor_common::record::{TaskKey, ns, task_flags};
use std::collections::BTreeSet;

/// Sweeps that must find a compartment of which nobody says whether it runs.
const SWEEPS: u32 = 2;
/// The same, while its program lies outside of it: a runtime's mostly does, a container's hardly ever.
const SWEEPS_ABROAD: u32 = 10;

/// Compartments that a sweep found, of which nobody says whether they run.
#[derive(Debug, Default)]
pub(in crate::engine) struct Found {
    /// By the sweep before, and by how many until then.
    before: Vec<(TaskKey, u32)>,
    /// By the last one.
    now: Vec<(TaskKey, u32)>,
}

impl Found {
    /// Whether another sweep is to look.
    pub(in crate::engine) fn is_open(&self) -> bool {
        !self.now.is_empty()
    }

    /// A sweep has found one; so many have by now.
    fn again(&mut self, key: TaskKey) -> u32 {
        let times = |found: &[(TaskKey, u32)]| {
            let times = found.iter().find(|(of, _)| *of == key);
            times.map_or(0, |(_, times)| *times)
        };
        let sweeps = times(&self.before) + 1;
        if times(&self.now) == 0 {
            self.now.push((key, sweeps));
        }
        sweeps
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
        let Some(task) = self.world.task(&compartment.key()) else {
            return;
        };
        let answer = answer.filter(|answer| !self.is_anothers(compartment, answer));
        let runs = match answer.and_then(|answer| answer.waits) {
            Some(waits) => !waits,
            // Without a pid namespace of its own it does not begin before it has a name.
            None if !self.started || !compartment.has_own_pid() => true,
            None => {
                let is_abroad = task.state.task_flags & task_flags::ABROAD != 0;
                let needs = if is_abroad { SWEEPS_ABROAD } else { SWEEPS };
                self.found.again(compartment.key()) >= needs
            }
        };
        if runs {
            self.start(compartment, answer);
        }
    }
}
