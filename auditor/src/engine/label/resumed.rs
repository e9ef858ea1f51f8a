//! Containers that begin without an exec: those that are restored from a checkpoint.
//!
//! Whoever restores one makes its first process as a runtime does, namespaces, root and all. But then it puts what the
//! program was into memory, and nothing is executed. So whoever is the first of a pid namespace and has given itself a
//! root is asked about until it executes something, as an ordinary container's first process soon does. It is a
//! container once its runtime has written it down as one that runs, it holds no more than its spec gives it, and nothing
//! of it changed for a tick. A runtime writes so before the last credentials are taken away: on a busy machine seconds
//! before, for what locks the network comes between.

use super::Engine;
use super::compartment::{Compartment, MAX_PENDING, Pending};
use crate::engine::event::Query;
use crate::engine::rule::setup_mismatch;
use crate::inventory::container::ContainerAnswer;
use crate::model::facts::HOST;
use auditor_common::record::TaskKey;

/// Processes that are asked about at once. More are not: they become containers by an exec, or not at all.
const MAX_UNBORN: usize = 1024;
/// Ticks between two questions at most: a container that was made and never started may wait for ever.
const MAX_PAUSE: u32 = 64;
/// Questions about one for which it does not wait, whatever happens meanwhile: a question about what no runtime knows is
/// dear.
const MAX_EAGER: u32 = 256;
/// Answers that it runs after which a process is a container although it does not come to rest.
const MAX_UNREST: u32 = 10;
/// The same for one that holds more than its spec gives it: perhaps nobody will take that away.
const MAX_HELD: u32 = 100;

/// A process that may come to be a container's first without an exec.
#[derive(Clone, Debug)]
struct Unborn {
    key: TaskKey,
    /// Number of the last event about it, when a tick last looked.
    event: u64,
    /// There was none between the last two.
    at_rest: bool,
    /// Ticks until it is asked about.
    wait: u32,
    /// Ticks to wait after that.
    pause: u32,
    /// Questions so far.
    asked: u32,
    /// Answers in a row that it runs.
    running: u32,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(in crate::engine) struct Resumed {
    unborn: Vec<Unborn>,
}

impl Resumed {
    /// A task executed something.
    pub(in crate::engine) fn forget(&mut self, tid: u32) {
        self.unborn.retain(|unborn| unborn.key.tid != tid);
    }
}

impl Engine {
    /// A task of the host gave itself a root.
    pub(in crate::engine) fn note_root(&mut self, tid: u32) {
        let Some(task) = self.world.tasks.get(&tid) else {
            return;
        };
        let state = &task.state;
        let is_first = state.ns_tid == 1 && state.key.tid != 1;
        let unborn = &mut self.resumed.unborn;
        if task.label != HOST
            || !is_first
            || unborn.len() >= MAX_UNBORN
            || unborn.iter().any(|unborn| unborn.key == state.key)
        {
            return;
        }
        unborn.push(Unborn {
            key: state.key,
            event: task.event,
            at_rest: false,
            wait: 0,
            pause: 1,
            asked: 0,
            running: 0,
        });
    }

    /// Asks about those that are due. Once a tick.
    pub(in crate::engine) fn ask_about_unborn(&mut self) {
        let mut unborn = std::mem::take(&mut self.resumed.unborn);
        unborn.retain_mut(|unborn| self.look_at_unborn(unborn));
        self.resumed.unborn = unborn;
    }

    /// Says whether it may still come to be a container.
    fn look_at_unborn(&mut self, unborn: &mut Unborn) -> bool {
        let Some(task) = self.world.task(&unborn.key) else {
            return false;
        };
        if task.label != HOST {
            return false;
        }
        unborn.at_rest = task.event == unborn.event;
        unborn.event = task.event;
        unborn.wait = unborn.wait.saturating_sub(1);
        if !unborn.at_rest && unborn.asked < MAX_EAGER {
            (unborn.wait, unborn.pause) = (0, 1);
        }
        if unborn.wait > 0 || self.pending.len() >= MAX_PENDING {
            return true;
        }
        let state = task.state;
        // Whoever restores goes in and out of what it makes.
        if let Some(compartment) = self.compartment(task) {
            unborn.wait = unborn.pause;
            unborn.pause = (unborn.pause * 2).min(MAX_PAUSE);
            unborn.asked += 1;
            let id = self.next_query;
            self.next_query += 1;
            self.pending.insert(id, Pending::Resumed(compartment));
            self.queries.push_back(Query {
                id,
                cgroup_path: self.home_of(&state),
                init_pid: Some(state.key.tgid),
            });
        }
        true
    }

    /// The inventory answered about one that has executed nothing.
    pub(super) fn resume(&mut self, compartment: &Compartment, answer: Option<&ContainerAnswer>) {
        let key = compartment.key();
        let runs = answer
            .is_some_and(|answer| answer.init_pid == Some(key.tgid) && answer.waits == Some(false));
        let spec = answer.and_then(|answer| answer.spec.as_ref());
        let holds_more = self
            .world
            .task(&key)
            .zip(spec)
            .is_some_and(|(task, spec)| setup_mismatch::holds_more(spec, task));
        let mut unborn = self.resumed.unborn.iter_mut();
        let Some(unborn) = unborn.find(|unborn| unborn.key == key) else {
            return;
        };
        if !runs {
            unborn.running = 0;
            return;
        }
        unborn.running += 1;
        (unborn.wait, unborn.pause) = (1, 1);
        let is_over = match holds_more {
            true => unborn.running > MAX_HELD,
            false => unborn.running > 1 && unborn.at_rest || unborn.running > MAX_UNREST,
        };
        if !is_over {
            return;
        }
        self.start(compartment, answer);
        let label = self.world.label(&key);
        if label == HOST {
            return;
        }
        // What it runs is what it was, and not what restored it.
        for task in self.world.tasks.values_mut() {
            if task.label == label {
                task.exe = None;
            }
        }
    }
}
