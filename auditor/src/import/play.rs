//! What an import gives, and how an engine is fed with it.

use crate::engine::{Engine, Event, LossMark, Query};
use crate::inventory::container::ContainerAnswer;
use crate::model::output::Record;
use auditor_common::record::{CgroupRecord, ExecRecord, ExitRecord, TaskRecord, cgroup_op};
use std::collections::BTreeMap;

/// One event that is owned, or what is to be answered when the engine asks.
#[derive(Clone, Debug)]
pub enum Input {
    /// See [`Event::Task`].
    Task(Box<TaskRecord>),
    /// See [`Event::Exec`].
    Exec(Box<ExecRecord>),
    /// See [`Event::Exit`].
    Exit(ExitRecord),
    /// See [`Event::Cgroup`].
    Cgroup(Box<CgroupRecord>),
    /// See [`Event::SweepBegin`].
    SweepBegin {
        /// When.
        boottime_ns: u64,
    },
    /// See [`Event::SweepEnd`].
    SweepEnd {
        /// When.
        boottime_ns: u64,
        /// Whether every task was listed.
        complete: bool,
    },
    /// See [`Event::Loss`].
    Loss(LossMark),
    /// See [`Event::Tick`].
    Tick {
        /// Now.
        boottime_ns: u64,
    },
    /// No event: from here on this is the answer to a [`Query`] about this cgroup and what is below it.
    Container(Box<ContainerAnswer>),
}

impl Input {
    /// The event; `None` for what is only to be remembered.
    #[must_use]
    pub fn event(&self) -> Option<Event<'_>> {
        Some(match self {
            Self::Task(record) => Event::Task(record),
            Self::Exec(record) => Event::Exec(record),
            Self::Exit(record) => Event::Exit(record),
            Self::Cgroup(record) => Event::Cgroup(record),
            Self::SweepBegin { boottime_ns } => Event::SweepBegin {
                boottime_ns: *boottime_ns,
            },
            Self::SweepEnd {
                boottime_ns,
                complete,
            } => Event::SweepEnd {
                boottime_ns: *boottime_ns,
                complete: *complete,
            },
            Self::Loss(mark) => Event::Loss(mark),
            Self::Tick { boottime_ns } => Event::Tick {
                boottime_ns: *boottime_ns,
            },
            Self::Container(_) => return None,
        })
    }
}

/// Steps an engine through inputs and answers its questions from what the log said of containers.
#[derive(Debug, Default)]
pub struct Player {
    answers: BTreeMap<String, ContainerAnswer>,
}

impl Player {
    /// Takes in one input and appends what the engine says.
    pub fn play(&mut self, input: &Input, engine: &mut Engine, out: &mut Vec<Record>) {
        if let Input::Container(answer) = input {
            let path = answer.cgroup_path.clone();
            self.answers.insert(path, ContainerAnswer::clone(answer));
        }
        let Some(event) = input.event() else { return };
        engine.step(event, out);
        while let Some(query) = engine.next_query() {
            let answer = self.answer(&query);
            let event = Event::Answer {
                query: query.id,
                answer,
            };
            engine.step(event, out);
        }
        if let Input::Cgroup(record) = input {
            self.forget(record);
        }
    }

    /// Who a compartment is, by its cgroup or the nearest one above.
    #[must_use]
    pub fn answer(&self, query: &Query) -> Option<&ContainerAnswer> {
        let mut path = query.cgroup_path.as_str();
        loop {
            if let Some(answer) = self.answers.get(path) {
                return Some(answer);
            }
            path = &path[..path.rfind('/')?];
        }
    }

    /// A cgroup that went has no more tasks to be asked about.
    fn forget(&mut self, record: &CgroupRecord) {
        if record.op != cgroup_op::RMDIR {
            return;
        }
        let len = (record.path_len as usize).min(record.path.len());
        if let Ok(path) = std::str::from_utf8(&record.path[..len]) {
            self.answers.remove(path);
        }
    }
}
