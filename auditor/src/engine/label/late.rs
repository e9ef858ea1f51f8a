//! Containers that begin late: without a pid namespace of its own, one is known only by what its runtime has written
//! down, which may be a moment after its first program began.
//!
//! What happens in that moment is not forgotten. The container's baseline is what it had when that program began: what
//! its first process has left or got since is told like any other change. And what its tasks do to objects waits until
//! it is known whose tasks they are.

use super::Engine;
use super::compartment::Compartment;
use super::gather::MAX_DESCENT;
use crate::engine::apply::Doer;
use crate::engine::event::LossMark;
use crate::engine::world::namespaces::SetId;
use crate::inventory::container::ContainerAnswer;
use crate::model::Confidence;
use crate::model::facts::EntityId;
use crate::model::output::{Record, TaskInfo};
use auditor_common::record::{ActRecord, TaskKey, TaskRecord, TaskState, cause};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Acts that wait for one compartment at most: about 250 KiB.
const MAX_ACTS: usize = 256;
/// Acts that wait at once.
const MAX_ALL_ACTS: usize = 4096;

/// A compartment that may turn out to be a container.
#[derive(Debug)]
struct Expected {
    /// Its first process, when its first program began.
    state: Box<TaskState>,
    /// The namespaces of then, which are held.
    set: SetId,
    /// The last change of its first process since: the number of its event, and its record.
    change: Option<(u64, Box<TaskRecord>)>,
    /// What was done in it since.
    acts: Vec<Early>,
    /// Acts for which there was no room, by hook.
    lost: LossMark,
}

/// An act of somebody who may turn out to be a container's.
#[derive(Debug)]
struct Early {
    event: u64,
    record: Box<ActRecord>,
    state: Box<TaskState>,
    doer: Option<TaskInfo>,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(in crate::engine) struct Late {
    /// By the key of its first process.
    expected: BTreeMap<TaskKey, Expected>,
    /// Acts that wait.
    acts: usize,
    /// Who did what is judged now; it may be gone.
    doer: Option<(TaskKey, TaskInfo)>,
}

impl Late {
    /// Who did what is judged now, if it is this one.
    pub(in crate::engine) fn doer(&self, key: &TaskKey) -> Option<TaskInfo> {
        let (doer, info) = self.doer.as_ref()?;
        (doer == key).then(|| info.clone())
    }

    /// Whether nothing waits.
    #[cfg(test)]
    pub(in crate::engine) fn is_empty(&self) -> bool {
        self.expected.is_empty() && self.acts == 0
    }

    /// A task of the host changed.
    pub(in crate::engine) fn note_change(&mut self, record: &TaskRecord, event: u64) {
        if let Some(one) = self.expected.get_mut(&record.state.key) {
            one.change = Some((event, Box::new(*record)));
        }
    }
}

impl Engine {
    /// A first program began, and nobody knows yet whether it is a container's.
    pub(in crate::engine) fn expect(&mut self, compartment: &Compartment) {
        let key = compartment.key();
        let Some(task) = self.world.task(&key) else {
            return;
        };
        // Its first exec counts.
        if let Entry::Vacant(place) = self.late.expected.entry(key) {
            place.insert(Expected {
                state: Box::new(task.state),
                set: task.set,
                change: None,
                acts: Vec::new(),
                lost: LossMark::default(),
            });
            let set = task.set;
            self.world.ns.share_set(set);
        }
    }

    /// Keeps an act of a task that may turn out to be a container's.
    pub(in crate::engine) fn keep_early(&mut self, record: &ActRecord, state: &TaskState) {
        if self.late.expected.is_empty() {
            return;
        }
        let Some(key) = self.expected_around(state) else {
            return;
        };
        let doer = self.task_info(&state.key);
        let Some(one) = self.late.expected.get_mut(&key) else {
            return;
        };
        if one.acts.len() >= MAX_ACTS || self.late.acts >= MAX_ALL_ACTS {
            one.lost.count += 1;
            *one.lost.by_hook.entry(record.header.hook).or_default() += 1;
            return;
        }
        self.late.acts += 1;
        one.acts.push(Early {
            event: self.event,
            record: Box::new(*record),
            state: Box::new(*state),
            doer,
        });
        // What is written down by now need not wait for the next tick.
        if one.acts.len().is_power_of_two() {
            self.ask_now(&key);
        }
    }

    /// The first process of a compartment that may turn out to be a container, which a task is or descends from.
    fn expected_around(&self, state: &TaskState) -> Option<TaskKey> {
        let leader = self.world.tasks.get(&state.key.tgid)?;
        let mut at = leader.state.key;
        for _ in 0..MAX_DESCENT {
            if self.late.expected.contains_key(&at) {
                return Some(at);
            }
            at = self.world.task(&at)?.state.parent;
        }
        None
    }

    /// The runtime has written a compartment down: it becomes a container as it was, and what happened since is judged.
    pub(in crate::engine) fn start_late(
        &mut self,
        compartment: &Compartment,
        answer: &ContainerAnswer,
    ) {
        let key = compartment.key();
        let Some(one) = self.take_expected(&key) else {
            return;
        };
        let mut out = Vec::new();
        if self.world.task(&key).is_some() && self.world.label(&key) == compartment.label() {
            self.begin_as_it_was(compartment, answer, &one, &mut out);
        }
        let label = self.world.label(&key);
        if label != compartment.label() {
            self.judge_early(label, one.acts, &mut out);
            if one.lost.count > 0 {
                let mark = LossMark {
                    boottime_ns: self.now_ns,
                    place: LossMark::EARLY.to_owned(),
                    ..one.lost
                };
                self.on_loss(&mark, &mut out);
            }
        }
        self.let_go(one.set);
        self.tell_later(out);
    }

    /// A container begins with what its first process had when its first program began.
    fn begin_as_it_was(
        &mut self,
        compartment: &Compartment,
        answer: &ContainerAnswer,
        one: &Expected,
        out: &mut Vec<Record>,
    ) {
        let key = compartment.key();
        let change = one.change.as_ref();
        let now = change.and_then(|(event, last)| {
            let task = self.world.tasks.get_mut(&key.tid)?;
            let now = std::mem::replace(&mut task.state, *one.state);
            self.set_namespaces(key.tid, *self.world.ns.ids(one.set));
            Some((*event, last, now))
        });
        self.start(compartment, Some(answer));
        if let Some((event, last, now)) = now {
            self.catch_up(event, last, now, &one.state, out);
        }
        self.gather_children(&key, compartment.label());
    }

    /// Makes a first process what it is now, by one change that stands for all there were.
    fn catch_up(
        &mut self,
        event: u64,
        last: &TaskRecord,
        state: TaskState,
        then: &TaskState,
        out: &mut Vec<Record>,
    ) {
        let is_exec = last.cause == cause::EXEC && state.ns == then.ns;
        let record = TaskRecord {
            cause: if is_exec { cause::EXEC } else { cause::FOUND },
            state,
            ..*last
        };
        let event = std::mem::replace(&mut self.event, event);
        self.judge_change(&record, None, then, out);
        self.event = event;
    }

    /// A compartment is none of a container: nobody has written it down, or its first process is gone.
    pub(in crate::engine) fn give_up(&mut self, key: &TaskKey) {
        if let Some(one) = self.take_expected(key) {
            self.let_go(one.set);
        }
    }

    fn let_go(&mut self, set: SetId) {
        self.world.ns.drop_set(set);
        self.bury_mounts();
    }

    fn take_expected(&mut self, key: &TaskKey) -> Option<Expected> {
        let one = self.late.expected.remove(key)?;
        self.late.acts -= one.acts.len();
        Some(one)
    }

    /// Judges what a container's tasks did before it was known to be one.
    fn judge_early(&mut self, label: EntityId, acts: Vec<Early>, out: &mut Vec<Record>) {
        let event = self.event;
        for act in acts {
            let key = &act.state.key;
            let known = self
                .world
                .task(key)
                .map(|task| (task.label, task.confidence));
            // Who is gone by now was its own.
            let (label, confidence) = known.unwrap_or((label, Confidence::Inferred));
            let doer = Doer {
                label,
                state: *act.state,
                arriving: false,
                confidence,
            };
            self.late.doer = act.doer.map(|info| (doer.state.key, info));
            self.event = act.event;
            self.judge_act(&act.record, &doer, out);
        }
        self.late.doer = None;
        self.event = event;
    }
}
