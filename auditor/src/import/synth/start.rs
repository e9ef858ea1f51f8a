//! Execs, and what they show: a container's start, or a task that came into one from outside.

use super::Synth;
use super::container::Index;
use super::namespaces::{Namespaces, Numbers};
use super::record::{self, Cause, ROOT_CGROUP};
use crate::import::Input;
use crate::import::act::Seen;
use auditor_common::limits::NS_SLOTS;
use auditor_common::record::{cause, cgroup, known, ns};

impl Synth {
    /// A task executed a file.
    pub(super) fn exec(
        &mut self,
        seen: &Seen,
        at_ns: u64,
        file: &str,
        sink: &mut dyn FnMut(Input),
    ) {
        let tid = seen.tid;
        let given = self.namespaces.canonical(seen);
        let index = seen.container.as_ref();
        let index = index.and_then(|a| self.containers.find_or_make(a, self.now_ns, sink));
        self.take(tid, &given);
        let was_home = self.tasks.get(&tid).and_then(|t| t.home);
        if let (None, Some(index)) = (was_home, index) {
            self.enter(tid, index, &given);
        }
        self.flush(tid, sink);
        if let Some(index) = self.tasks.get(&tid).and_then(|t| t.home) {
            self.start(tid, index, sink);
            if was_home.is_none() {
                self.settle_cgroup(tid, index, sink);
            }
        }
        let Some(task) = self.tasks.get_mut(&tid) else {
            return;
        };
        task.execed = true;
        task.switched_ns = task.switched_ns.max(at_ns);
        let creds = seen
            .creds
            .or(task.pending.take())
            .filter(|_| !task.doubtful);
        if let Some(creds) = creds {
            task.state.creds = creds;
            task.state.known |= known::CREDS;
        }
        let record = record::task(&task.state, task.state.key, cause::EXEC, self.now_ns);
        sink(Input::Exec(record::exec(*record, file)));
    }

    /// A task of the machine executes in a container: it is the container's from here on, unless it still has
    /// the machine's mounts.
    fn enter(&mut self, tid: u32, index: Index, given: &Numbers) {
        let machine = self.namespaces.machine;
        let (Some(task), Some(container)) = (self.tasks.get_mut(&tid), self.containers.get(index))
        else {
            return;
        };
        let blind = self.blind && task.ns[ns::MNT] == machine[ns::MNT];
        if task.ns[ns::MNT] == machine[ns::MNT] && !blind {
            return;
        }
        match container.ns {
            Some(own) if container.started => {
                if own[ns::MNT] != task.ns[ns::MNT] && !blind {
                    return;
                }
                for slot in 0..NS_SLOTS {
                    let (is, has) = (own[slot], task.ns[slot]);
                    if given[slot] == 0 {
                        task.ns[slot] = is;
                    } else if has != is
                        && has != machine[slot]
                        && Namespaces::is_stand_in(is)
                        && !self.namespaces.is_held(slot, has)
                    {
                        // Now it is known which namespace the stand-in stands for.
                        self.namespaces.alias(slot, has, is);
                        task.ns[slot] = is;
                    }
                }
            }
            _ if blind => {
                task.ns = [0; NS_SLOTS];
                self.namespaces.fill_own(&mut task.ns);
            }
            _ => {}
        }
        task.home = Some(index);
    }

    /// A container whose first exec is not in the log begins with the first of its tasks that is.
    pub(super) fn start_unseen(&mut self, tid: u32, index: Index, sink: &mut dyn FnMut(Input)) {
        let is_home = self.tasks.get(&tid).is_some_and(|t| t.home == Some(index));
        if !is_home || !self.start(tid, index, sink) {
            return;
        }
        let state = self.tasks[&tid].state;
        let record = record::task(&state, state.key, cause::EXEC, self.now_ns);
        sink(Input::Task(record));
    }

    /// Prepares a container's first exec; false if it had one.
    fn start(&mut self, tid: u32, index: Index, sink: &mut dyn FnMut(Input)) -> bool {
        let Some(container) = self.containers.get_mut(index) else {
            return false;
        };
        container.tasks.insert(tid);
        if container.started {
            return false;
        }
        container.started = true;
        let own = container.cgroup;
        let numbers = self.tasks[&tid].ns;
        if let Some(old) = self.containers.settle(index, &numbers) {
            self.end_container(old, tid, sink);
        }
        let state = self.tasks[&tid].state;
        let sits_in = state.cgroups[cgroup::V2];
        if sits_in != own && sits_in != ROOT_CGROUP && !self.containers.owns(sits_in) {
            self.containers
                .adopt_cgroup(index, sits_in, self.now_ns, sink);
        }
        self.settle_cgroup(tid, index, sink);
        self.leave_runtime(tid);
        let state = self.tasks[&tid].state;
        let record = record::task(&state, state.key, cause::PIVOT_ROOT, self.now_ns);
        sink(Input::Task(record));
        true
    }

    /// A task that came from outside sits in its container's cgroup at the latest when it executes there.
    fn settle_cgroup(&mut self, tid: u32, index: Index, sink: &mut dyn FnMut(Input)) {
        let own = self.containers.get(index).map(|c| c.cgroup);
        let (Some(own), Some(task)) = (own, self.tasks.get_mut(&tid)) else {
            return;
        };
        if task.state.cgroups[cgroup::V2] != ROOT_CGROUP {
            return;
        }
        task.state.cgroups[cgroup::V2] = own;
        let cause = Cause::attach(own);
        let record = record::task(&task.state, task.state.key, cause, self.now_ns);
        sink(Input::Task(record));
    }

    /// For the engine a container's cgroup is its own only if the parent of its first task is not in it. The
    /// steps of a runtime are, until they end right after.
    fn leave_runtime(&mut self, tid: u32) {
        let Some(state) = self.tasks.get(&tid).map(|t| t.state) else {
            return;
        };
        let parent = self.tasks.get(&state.parent.tid);
        let shares = parent.is_some_and(|p| p.state.cgroups == state.cgroups);
        let first = self.tasks.get(&1).map(|t| t.state.key);
        if let (true, Some(first), Some(task)) = (shares, first, self.tasks.get_mut(&tid)) {
            task.state.parent = first;
        }
    }

    /// A container whose number was given to another one has ended unseen.
    fn end_container(&mut self, index: Index, but: u32, sink: &mut dyn FnMut(Input)) {
        let Some(container) = self.containers.get(index) else {
            return;
        };
        let tasks: Vec<u32> = container.tasks.iter().copied().collect();
        for tid in tasks.into_iter().filter(|&tid| tid != but) {
            self.forget(tid, sink);
        }
    }
}
