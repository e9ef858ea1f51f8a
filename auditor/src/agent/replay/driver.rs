//! The same engine over a recorded trace: the same lines, and nothing of this machine in them.
//!
//! A question of the engine is answered with what the inventory answered when the trace was recorded. Where
//! the engine asks what the recording one did not (a newer version may), nobody knows, and that is counted.

use crate::engine::{Engine, Event, Query};
use crate::inventory::container::ContainerAnswer;
use crate::model::output::Record;
use crate::model::policy::Policy;
use crate::trace::{Answer, Header, Item};
use hashbrown::HashMap;
use std::collections::VecDeque;

/// Compartments whose names are remembered.
const MAX_KNOWN: usize = 1 << 16;

/// See the [module](self).
#[derive(Debug)]
pub struct Replay {
    engine: Engine,
    questions: VecDeque<Query>,
    known: HashMap<String, ContainerAnswer>,
    /// Stands in for every policy of the trace.
    policy: Option<Policy>,
    unanswered: u64,
    stopped: bool,
}

impl Replay {
    /// An engine as the one that recorded, under the trace's own policies or under this one.
    #[must_use]
    pub fn new(header: &Header, policy: Option<Policy>) -> Self {
        let first = policy.clone().unwrap_or_default();
        Self {
            engine: Engine::new(header.config(), &first),
            questions: VecDeque::new(),
            known: HashMap::new(),
            policy,
            unanswered: 0,
            stopped: false,
        }
    }

    /// Takes in one item and appends what follows from it.
    pub fn take(&mut self, item: &Item<'_>, out: &mut Vec<Record>) {
        match item {
            Item::Answer(answer) => self.answer(answer, out),
            Item::Event(Event::Policy(_)) if self.policy.is_some() => {}
            Item::Event(event) => {
                self.answer_the_rest(out);
                self.engine.step(*event, out);
                self.collect();
            }
            Item::Stop {
                boottime_ns,
                reason,
            } => {
                self.answer_the_rest(out);
                self.engine.stop(*boottime_ns, reason, out);
                self.stopped = true;
            }
        }
    }

    fn collect(&mut self) {
        while let Some(query) = self.engine.next_query() {
            self.questions.push_back(query);
        }
        // What the recording agent saw stands in the trace; nothing of this machine does.
        while self.engine.next_look().is_some() {}
    }

    fn answer(&mut self, answer: &Answer<'_>, out: &mut Vec<Record>) {
        if let Some(found) = answer.answer
            && (self.known.len() < MAX_KNOWN || self.known.contains_key(answer.cgroup_path))
        {
            self.known
                .insert(answer.cgroup_path.to_owned(), found.clone());
        }
        let asked = self
            .questions
            .front()
            .is_some_and(|q| q.cgroup_path == answer.cgroup_path);
        if let Some(query) = self.questions.pop_front_if(|_| asked) {
            let event = Event::Answer {
                query: query.id,
                answer: answer.answer,
            };
            self.engine.step(event, out);
            self.collect();
        }
    }

    /// Questions that the trace has no answer to.
    fn answer_the_rest(&mut self, out: &mut Vec<Record>) {
        while let Some(query) = self.questions.pop_front() {
            let answer = self.known.get(&query.cgroup_path);
            self.unanswered += u64::from(answer.is_none());
            let event = Event::Answer {
                query: query.id,
                answer,
            };
            self.engine.step(event, out);
            self.collect();
        }
    }

    /// The engine.
    #[must_use]
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Questions that the trace could not answer.
    #[must_use]
    pub const fn unanswered(&self) -> u64 {
        self.unanswered
    }

    /// Whether the recorded watch ended in order.
    #[must_use]
    pub const fn stopped(&self) -> bool {
        self.stopped
    }
}
