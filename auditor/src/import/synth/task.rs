//! Tasks: first sight, birth, end.

use super::container::Index;
use super::namespaces::Numbers;
use super::record::{self, Cause};
use super::{START_TOLERANCE_NS, Synth};
use crate::import::Input;
use crate::import::act::Seen;
use crate::model::NsKind;
use auditor_common::record::{Creds, TaskKey, TaskState, cause, cgroup, known, ns, task_flags};

/// By how much the lines of one task may be out of order.
const DISORDER_NS: u64 = 100_000_000;

/// A task as the log has told of it so far.
#[derive(Debug)]
pub(super) struct Task {
    /// As the engine knows it.
    pub(super) state: TaskState,
    /// Its namespaces as the log has them; the engine hears of a machine's task's at its next exec.
    pub(super) ns: Numbers,
    /// The log's mark of its start.
    start: Option<u64>,
    /// The container that it belongs to, wherever it went since.
    pub(super) home: Option<Index>,
    /// It executed something since it was born.
    pub(super) execed: bool,
    /// Credentials that an exec under way will give it.
    pub(super) pending: Option<Creds>,
    /// Its credentials grew by something that the log does not show: they prove nothing any more.
    pub(super) doubtful: bool,
    /// When it was last heard of.
    pub(super) seen_ns: u64,
    /// When its namespaces last changed, or were all that counts (at its first sight, at an exec), by the log's
    /// clock: what is older comes too late.
    pub(super) switched_ns: u64,
}

impl Task {
    pub(super) fn first(state: TaskState, ns: Numbers) -> Self {
        Self {
            state,
            ns,
            start: None,
            home: None,
            execed: false,
            pending: None,
            doubtful: false,
            seen_ns: state.key.start_boottime_ns,
            switched_ns: 0,
        }
    }
}

impl Synth {
    /// After this the task is known.
    pub(super) fn sight(
        &mut self,
        seen: &Seen,
        at_ns: u64,
        born_for_exec: bool,
        sink: &mut dyn FnMut(Input),
    ) {
        let reused = self.tasks.get(&seen.tid).is_some_and(|task| {
            let other_start = task.start.zip(seen.start);
            let other_start = other_start.is_some_and(|(a, b)| a.abs_diff(b) > START_TOLERANCE_NS);
            seen.tid != 1 && (other_start || born_for_exec && task.execed)
        });
        if reused {
            // Its exit is not in the log.
            self.forget(seen.tid, sink);
        }
        if !self.tasks.contains_key(&seen.tid) {
            let parent = if seen.tid == seen.tgid {
                seen.parent
            } else {
                Some(seen.tgid)
            };
            self.birth(seen, parent, sink);
            if let Some(task) = self.tasks.get_mut(&seen.tid) {
                task.switched_ns = at_ns;
            }
        }
        if let Some(answer) = &seen.container {
            self.containers.find_or_make(answer, self.now_ns, sink);
        }
        let now = self.now_ns;
        let leader = self.tasks.get(&seen.tgid).map(|t| t.state.cgroups);
        if let Some(task) = self.tasks.get_mut(&seen.tid) {
            // A process moves as a whole.
            task.state.cgroups = leader.unwrap_or(task.state.cgroups);
            task.seen_ns = now;
            task.start = task.start.or(seen.start);
            record::set_comm(&mut task.state, &seen.comm);
            if task.state.known & known::CREDS == 0 {
                task.state.creds.uid = seen.uid;
            }
        }
    }

    /// A task is told of as born: of its parent where that is known, else of nobody.
    fn birth(&mut self, seen: &Seen, parent: Option<u32>, sink: &mut dyn FnMut(Input)) {
        self.make_room(sink);
        let parent = parent.filter(|p| *p != seen.tid && self.tasks.contains_key(p));
        let key = TaskKey {
            tid: seen.tid,
            tgid: seen.tgid,
            start_boottime_ns: self.now_ns,
        };
        let given = self.namespaces.canonical(seen);
        let named = seen.container.as_ref();
        let index = named.and_then(|a| self.containers.find_or_make(a, self.now_ns, sink));
        let mut task = match parent {
            Some(parent) => self.child_of(parent, key, given[ns::PID], sink),
            None => self.orphan(key, given, index, seen.prepares),
        };
        task.start = seen.start;
        if let (None, Some(creds)) = (parent, seen.creds) {
            task.state.creds = creds;
            task.state.known |= known::CREDS;
        }
        record::set_comm(&mut task.state, &seen.comm);
        let actor = parent.and_then(|parent| self.tasks.get(&parent));
        let actor = actor.map_or_else(TaskKey::default, |t| t.state.key);
        let flags = self.newborn_flags(&task);
        self.insert(task, actor, flags, sink);
        if let (None, Some(index)) = (parent, index) {
            self.start_unseen(seen.tid, index, sink);
        }
    }

    /// What a child has of its parent. A task's pid namespace is given at birth and never changes.
    fn child_of(
        &mut self,
        parent: u32,
        key: TaskKey,
        pid: u32,
        sink: &mut dyn FnMut(Input),
    ) -> Task {
        self.flush(parent, sink);
        let parent = &self.tasks[&parent];
        let mut numbers = parent.ns;
        numbers[ns::PID] = if pid == 0 {
            numbers[ns::PID_FOR_CHILDREN]
        } else {
            pid
        };
        numbers[ns::PID_FOR_CHILDREN] = numbers[ns::PID];
        let mut state = parent.state;
        state.parent = parent.state.key;
        if key.tid == key.tgid {
            state.task_flags |= task_flags::LEADER;
        } else {
            state.parent = parent.state.parent;
            state.task_flags &= !task_flags::LEADER;
        }
        state.key = key;
        record::set_numbers(&mut state, &numbers);
        Task {
            home: parent.home,
            doubtful: parent.doubtful,
            ..Task::first(state, numbers)
        }
    }

    /// A task that nobody is known to have born.
    fn orphan(
        &mut self,
        key: TaskKey,
        given: Numbers,
        index: Option<Index>,
        prepares: bool,
    ) -> Task {
        let mut numbers = given;
        let mut home = index;
        let is_machines = given[ns::MNT] == self.namespaces.machine[ns::MNT];
        match index.and_then(|index| self.containers.get(index)) {
            Some(_) if is_machines || prepares => {
                self.doubts.strangers += u64::from(!prepares);
                home = None;
                self.namespaces.fill_machine(&mut numbers);
            }
            Some(container) => {
                if let Some(own) = container.ns {
                    for (number, own) in numbers.iter_mut().zip(own) {
                        *number = if *number == 0 { own } else { *number };
                    }
                }
                self.namespaces.fill_own(&mut numbers);
            }
            None => self.namespaces.fill_machine(&mut numbers),
        }
        let mut state = record::state(key, TaskKey::default(), &numbers);
        if let Some(container) = index.and_then(|index| self.containers.get(index)) {
            state.cgroups[cgroup::V2] = container.cgroup;
        }
        Task {
            home,
            ..Task::first(state, numbers)
        }
    }

    /// Clone flags of a birth: of a pid namespace that nobody is known to be in.
    fn newborn_flags(&self, task: &Task) -> u64 {
        let pid = task.ns[ns::PID];
        if self.namespaces.is_held(ns::PID, pid) {
            0
        } else {
            NsKind::Pid.clone_flag()
        }
    }

    fn insert(&mut self, task: Task, actor: TaskKey, flags: u64, sink: &mut dyn FnMut(Input)) {
        let tid = task.state.key.tid;
        let cause = Cause {
            cause: cause::FORK,
            arg0: flags,
            arg1: 0,
        };
        sink(Input::Task(record::task(
            &task.state,
            actor,
            cause,
            self.now_ns,
        )));
        self.namespaces.hold(&task.ns);
        if let Some(container) = task.home.and_then(|h| self.containers.get_mut(h)) {
            container.tasks.insert(tid);
        }
        self.tasks.insert(tid, task);
    }

    /// A task got a child.
    pub(super) fn fork(&mut self, parent: u32, tid: u32, tgid: u32, sink: &mut dyn FnMut(Input)) {
        if tid == 0 || tid == parent || tid == 1 {
            return;
        }
        if let Some(task) = self.tasks.get(&tid) {
            if self.now_ns - task.state.key.start_boottime_ns < DISORDER_NS {
                // Its first own event stands before its birth.
                return;
            }
            self.forget(tid, sink);
        }
        let seen = Seen {
            tid,
            tgid,
            ..Seen::default()
        };
        self.birth(&seen, Some(parent), sink);
    }

    /// A task ended.
    pub(super) fn exit(&mut self, seen: &Seen, sink: &mut dyn FnMut(Input)) {
        let is_it = self.tasks.get(&seen.tid).is_some_and(|task| {
            let starts = task.start.zip(seen.start);
            starts.is_none_or(|(a, b)| a.abs_diff(b) <= START_TOLERANCE_NS)
        });
        if is_it && seen.tid != 1 {
            self.forget(seen.tid, sink);
        }
    }

    /// A task is no more.
    pub(super) fn forget(&mut self, tid: u32, sink: &mut dyn FnMut(Input)) {
        let Some(task) = self.tasks.remove(&tid) else {
            return;
        };
        self.namespaces.release(&record::numbers(&task.state));
        sink(Input::Exit(record::exit(task.state.key, self.now_ns)));
        let Some(index) = task.home else { return };
        if let Some(container) = self.containers.get_mut(index) {
            container.tasks.remove(&tid);
            if container.tasks.is_empty() {
                self.containers.end(index, self.now_ns, sink);
            }
        }
    }
}
