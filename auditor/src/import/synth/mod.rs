//! From what a log says to a stream that the engine can judge.
//!
//! The engine is used to hear of every birth, exec and switch, after a sweep that lists what was there. A
//! log begins in the middle, has some of the events, and some of the state. So this keeps what the log
//! said of each task and tells the engine, in its own records, the least that explains it:
//!
//! - a sweep that lists process 1 in the machine's own namespaces, and nothing else;
//! - each task, at its first sight, as born of its parent (with what the parent had), then as having
//!   changed to what the log says it has;
//! - a namespace that somebody is known to be in as *joined*, any other as *made*;
//! - a container's first exec as one after a pivot_root: the log says that it is in a container.
//!
//! What tasks of the machine do before an exec is told at that exec: a runtime joins and makes a dozen
//! namespaces on its way, and which container it is for is clear only at the end.

mod change;
mod container;
mod namespaces;
mod record;
mod start;
mod task;

use super::act::{Act, What};
use super::{Input, limits};
use crate::engine::LossMark;
use auditor_common::record::{TaskKey, cause, cgroup_op};
use container::Containers;
use hashbrown::HashMap;
use namespaces::Namespaces;
use task::Task;

/// Time between two ticks of the engine.
const TICK_NS: u64 = 100_000_000;
/// What the engine waits for at most before it says what it has.
const PATIENCE_NS: u64 = 2_000_000_000;
/// Two marks of one task's start may differ by a clock tick.
const START_TOLERANCE_NS: u64 = 10_000_000;

/// What could not be followed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Doubts {
    /// Tasks given up for want of room.
    pub(super) forgotten: u64,
    /// Tasks of containers that were first seen in the machine's mount namespace.
    pub(super) strangers: u64,
    /// Namespaces of which it is not known whether they are the machine's.
    pub(super) unclear: u64,
    /// Credentials that grew outside of an exec.
    pub(super) grown: u64,
    /// Moves of tasks that are not known.
    pub(super) unplaced: u64,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Synth {
    now_ns: u64,
    ticked_ns: u64,
    namespaces: Namespaces,
    tasks: HashMap<u32, Task>,
    containers: Containers,
    doubts: Doubts,
    /// The log says of each namespace whether it is the machine's.
    tells_hosts: bool,
    /// The log has no namespaces: that a task is in a container is all that is known of where it is.
    pub(super) blind: bool,
}

impl Synth {
    /// `tells_hosts`: the log says of each namespace whether it is the machine's.
    pub(super) fn new(tells_hosts: bool) -> Self {
        Self {
            tells_hosts,
            ..Self::default()
        }
    }

    /// Takes from a statement what it says of the machine, before the stream begins.
    pub(super) fn learn(&mut self, act: &Act) {
        if matches!(act.what, What::Machine) {
            self.namespaces.learn_machine(&act.task.ns);
        } else {
            self.namespaces.learn(&act.task);
        }
    }

    /// Whether the stream can begin.
    pub(super) fn knows_machine(&self) -> bool {
        self.namespaces.knows_machine()
    }

    /// Containers that there were.
    pub(super) fn containers(&self) -> u64 {
        self.containers.count
    }

    /// Containers and cgroups that did not fit.
    pub(super) fn overflow(&self) -> u64 {
        self.containers.overflow
    }

    /// What could not be followed.
    pub(super) fn doubts(&self) -> Doubts {
        self.doubts
    }

    /// The stream begins: a sweep of one task.
    pub(super) fn begin(&mut self, at_ns: u64, sink: &mut dyn FnMut(Input)) {
        self.now_ns = at_ns;
        self.ticked_ns = at_ns;
        self.namespaces.begin();
        let now = at_ns;
        let root = record::cgroup(record::ROOT_CGROUP, "/", cgroup_op::WALK, now);
        sink(Input::Cgroup(root));
        sink(Input::SweepBegin { boottime_ns: now });
        let key = TaskKey {
            tid: 1,
            tgid: 1,
            start_boottime_ns: 0,
        };
        let numbers = self.namespaces.machine;
        let mut state = record::state(key, TaskKey::default(), &numbers);
        record::set_comm(&mut state, "init");
        sink(Input::Task(record::task(&state, key, cause::SNAPSHOT, now)));
        sink(Input::SweepEnd {
            boottime_ns: now,
            complete: false,
        });
        self.namespaces.hold(&numbers);
        self.tasks.insert(1, Task::first(state, numbers));
    }

    /// One statement.
    pub(super) fn act(&mut self, act: &Act, sink: &mut dyn FnMut(Input)) {
        self.advance(act.at_ns, sink);
        match &act.what {
            What::Lost { count } => self.lose(*count, sink),
            What::Machine => self.namespaces.learn_late(&act.task.ns),
            What::Exit => self.exit(&act.task, sink),
            What::Cgroup { path } => self.containers.note(path),
            _ if act.task.tid == 0 => {
                if let Some(answer) = &act.task.container {
                    self.containers.find_or_make(answer, self.now_ns, sink);
                }
            }
            _ => self.act_of_task(act, sink),
        }
    }

    /// The stream ends: whatever the engine waits for is over.
    pub(super) fn end(&mut self, sink: &mut dyn FnMut(Input)) {
        sink(Input::Tick {
            boottime_ns: self.now_ns.saturating_add(PATIENCE_NS),
        });
    }

    fn act_of_task(&mut self, act: &Act, sink: &mut dyn FnMut(Input)) {
        let tid = act.task.tid;
        let born_for_exec = matches!(act.what, What::Exec { newborn: true, .. });
        self.sight(&act.task, act.at_ns, born_for_exec, sink);
        match &act.what {
            What::Exec { file, .. } => self.exec(&act.task, act.at_ns, file, sink),
            What::Switch => self.switch(&act.task, act.at_ns, sink),
            What::Fork { tid: child, tgid } => {
                self.switch(&act.task, act.at_ns, sink);
                self.fork(tid, *child, *tgid, sink);
            }
            What::Creds {
                before,
                after,
                in_exec,
            } => {
                self.switch(&act.task, act.at_ns, sink);
                self.creds(tid, before, after, *in_exec, sink);
            }
            What::Attach { path, moved } => {
                self.switch(&act.task, act.at_ns, sink);
                self.attach(tid, moved.unwrap_or(tid), path, sink);
            }
            What::Seen | What::Exit | What::Machine | What::Cgroup { .. } | What::Lost { .. } => {}
        }
    }

    /// Time passes, and never goes back: lines are only nearly in order.
    fn advance(&mut self, at_ns: u64, sink: &mut dyn FnMut(Input)) {
        self.now_ns = self.now_ns.max(at_ns);
        if self.now_ns - self.ticked_ns >= TICK_NS {
            self.ticked_ns = self.now_ns;
            sink(Input::Tick {
                boottime_ns: self.now_ns,
            });
        }
    }

    fn lose(&self, count: u64, sink: &mut dyn FnMut(Input)) {
        sink(Input::Loss(LossMark {
            boottime_ns: self.now_ns,
            place: "queue".to_owned(),
            count,
            ..LossMark::default()
        }));
    }

    /// Where no task fits any more, those that were not heard of for longest are taken for dead.
    fn make_room(&mut self, sink: &mut dyn FnMut(Input)) {
        if self.tasks.len() < limits::TASKS {
            return;
        }
        let mut all: Vec<(u64, u32)> = self
            .tasks
            .iter()
            .filter(|(tid, _)| **tid != 1)
            .map(|(tid, task)| (task.seen_ns, *tid))
            .collect();
        all.sort_unstable();
        for (_, tid) in all.into_iter().take(limits::TASKS / 4) {
            self.doubts.forgotten += 1;
            self.forget(tid, sink);
        }
    }
}
