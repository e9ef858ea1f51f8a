//! Containers that a sweep finds: their first exec was before the agent, or lost.
//!
//! What a sweep finds may also be one that its runtime still makes, with all of the runtime's capabilities and files.
//! Such a one must not begin yet: runtimes write down whether the container waits to be started, and where none says so,
//! two sweeps must find it, and more while it runs a program that is not the container's. What was there before the agent
//! is taken for a container at once.
//!
//! None begins before all are asked about: which tasks are a container's depends on who the others are. Then the oldest
//! begins first, as it did. What its tasks bore is its own from then on, and what looked like a container of the host
//! may be a namespace of that one, or a container in it.

use super::Engine;
use super::compartment::{Compartment, MAX_PENDING, Pending};
use crate::engine::world::START_TOLERANCE_NS;
use crate::inventory::container::ContainerAnswer;
use crate::model::facts::{EntityId, NsId};
use auditor_common::record::{TaskKey, ns, task_flags};
use std::collections::BTreeSet;

/// Sweeps that must find a compartment of which nobody says whether it runs.
const SWEEPS: u32 = 2;
/// The same, while its program lies outside of it: a runtime's mostly does, a container's hardly ever.
const SWEEPS_ABROAD: u32 = 10;
/// What runtimes write times of start in, nanoseconds: a hundredth of a second on every architecture.
const TICK_NS: u64 = 10_000_000;

/// Compartments that a sweep found.
#[derive(Debug, Default)]
pub(in crate::engine) struct Found {
    /// Those of which nobody says whether they run, by the sweep before, and by how many until then.
    before: Vec<(TaskKey, u32)>,
    /// By the last one.
    now: Vec<(TaskKey, u32)>,
    /// All are looked for.
    looks: bool,
    /// Questions are being asked, some of which are answered at once.
    asks: bool,
    /// Those that were asked about begin.
    begins: bool,
    /// Open questions.
    open: usize,
    /// Who was asked about in this look, and whose it was then.
    asked: BTreeSet<(TaskKey, EntityId)>,
    /// Answers so far.
    answers: Vec<(Compartment, Option<Box<ContainerAnswer>>)>,
    /// First processes of containers, as runtimes have written them down.
    inits: BTreeSet<TaskKey>,
}

impl Found {
    /// Whether another sweep is to look.
    pub(in crate::engine) fn is_open(&self) -> bool {
        !self.now.is_empty()
    }

    /// Whether a runtime has written down that a container began with this process.
    pub(super) fn is_init(&self, key: &TaskKey) -> bool {
        self.inits.contains(key)
    }

    /// Whether those that a sweep found begin now.
    pub(super) const fn begins(&self) -> bool {
        self.begins
    }

    /// A question was asked.
    pub(super) fn note_question(&mut self) {
        self.open += 1;
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
    /// known for?
    pub(in crate::engine) fn discover(&mut self) {
        let before = std::mem::take(&mut self.found.now);
        self.found = Found {
            before,
            looks: true,
            ..Found::default()
        };
        self.look_further();
    }

    /// Asks about everybody, and when all is answered, lets begin who may, until there is nobody new.
    fn look_further(&mut self) {
        loop {
            self.found.asks = true;
            self.ask_about_all();
            self.found.asks = false;
            if self.found.open > 0 {
                return;
            }
            if self.found.answers.is_empty() {
                break;
            }
            self.begin_found();
        }
        self.found.looks = false;
        self.found.asked.clear();
        self.found.inits.clear();
        if !self.started {
            self.attribute_namespaces();
        }
    }

    /// Asks about each compartment's oldest task, which stands for its init.
    fn ask_about_all(&mut self) {
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
            let (key, label) = (task.state.key, task.label);
            let ids = *self.world.ns.ids(task.set);
            if !seen.insert((ids[ns::MNT], ids[ns::PID])) {
                continue;
            }
            if self.pending.len() >= MAX_PENDING {
                // The rest is asked about when these are answered.
                return;
            }
            if self.found.asked.insert((key, label)) {
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
        self.found.open = self.found.open.saturating_sub(1);
        if let Some(init) = answer.and_then(|answer| self.written_init(answer)) {
            self.found.inits.insert(init);
        }
        let answer = answer.cloned().map(Box::new);
        self.found.answers.push((*compartment, answer));
        if self.found.open > 0 || self.found.asks {
            return;
        }
        if self.found.looks {
            self.look_further();
        } else {
            self.begin_found();
            self.found.inits.clear();
        }
    }

    /// The first process of a container, as its runtime has written it down, if that lives.
    fn written_init(&self, answer: &ContainerAnswer) -> Option<TaskKey> {
        let task = self.world.tasks.get(&answer.init_pid?)?;
        let key = task.state.key;
        let is_it = answer.init_start_ticks.is_none_or(|ticks| {
            let start_ns = ticks.saturating_mul(TICK_NS);
            start_ns.abs_diff(key.start_boottime_ns) <= START_TOLERANCE_NS
        });
        is_it.then_some(key)
    }

    /// Those that were asked about begin, if they run.
    fn begin_found(&mut self) {
        self.found.begins = true;
        let children = self.children();
        let mut answers = std::mem::take(&mut self.found.answers);
        answers.sort_by_key(|(of, _)| (of.key().start_boottime_ns, of.key().tid));
        for (asked, answer) in answers {
            let key = asked.key();
            let task = self.world.task(&key);
            // It may be in another by now: one that began before it.
            let Some(compartment) = task.and_then(|task| self.compartment(task)) else {
                continue;
            };
            self.found.asked.insert((key, compartment.label()));
            // What is known of the host's containers says nothing of those in others.
            let answer = answer
                .as_deref()
                .filter(|_| asked == compartment)
                .filter(|answer| !self.is_anothers(&compartment, answer));
            if self.runs(&compartment, answer) {
                self.start(&compartment, answer);
                let label = self.world.label(&key);
                if label != compartment.label() {
                    self.gather_born(label, compartment.label(), &children);
                }
            }
        }
        self.found.begins = false;
    }

    /// Whether one that a sweep found runs, and is not only being made.
    fn runs(&mut self, compartment: &Compartment, answer: Option<&ContainerAnswer>) -> bool {
        match answer.and_then(|answer| answer.waits) {
            Some(waits) => !waits,
            // Without a pid namespace of its own it does not begin before it has a name.
            None if !self.started || !compartment.has_own_pid() => true,
            None => {
                let task = self.world.task(&compartment.key());
                let is_abroad =
                    task.is_some_and(|task| task.state.task_flags & task_flags::ABROAD != 0);
                let needs = if is_abroad { SWEEPS_ABROAD } else { SWEEPS };
                self.found.again(compartment.key()) >= needs
            }
        }
    }
}
