//! Changes of tasks: namespaces, credentials, cgroups.

use super::Synth;
use super::namespaces::Numbers;
use super::record::{self, Cause};
use crate::import::Input;
use crate::import::act::Seen;
use crate::model::NsKind;
use auditor_common::record::{Creds, cause, cgroup, known, ns};

/// Namespaces that a task only ever makes for its children: whoever is in one was born there, or executed.
const FOR_CHILDREN: [(usize, usize); 2] = [
    (ns::PID, ns::PID_FOR_CHILDREN),
    (ns::TIME, ns::TIME_FOR_CHILDREN),
];

/// Whether credentials have something that others have not.
fn grows(before: &Creds, after: &Creds) -> bool {
    after.cap_permitted & !before.cap_permitted != 0
        || after.cap_bounding & !before.cap_bounding != 0
        || after.euid == 0 && before.euid != 0
}

impl Synth {
    /// A task has these namespaces now.
    pub(super) fn switch(&mut self, seen: &Seen, at_ns: u64, sink: &mut dyn FnMut(Input)) {
        let given = self.namespaces.canonical(seen);
        let Some(task) = self.tasks.get(&seen.tid) else {
            return;
        };
        // Events of several CPUs are only nearly in order.
        if at_ns < task.switched_ns || !self.take(seen.tid, &given) {
            return;
        }
        if let Some(task) = self.tasks.get_mut(&seen.tid) {
            task.switched_ns = at_ns;
            if task.home.is_some() {
                self.flush(seen.tid, sink);
            }
        }
    }

    /// Notes given namespaces; false if nothing changed.
    pub(super) fn take(&mut self, tid: u32, given: &Numbers) -> bool {
        let Some(task) = self.tasks.get_mut(&tid) else {
            return false;
        };
        let before = task.ns;
        for (slot, (old, &new)) in task.ns.iter_mut().zip(given).enumerate() {
            if new == 0 || new == *old {
                continue;
            }
            // Joined or made: that cannot be told of what may be the machine's.
            let unclear = task.home.is_some()
                && !self.tells_hosts
                && !self.namespaces.is_known(slot)
                && !self.namespaces.is_held(slot, new);
            if unclear {
                self.doubts.unclear += 1;
                continue;
            }
            *old = new;
        }
        if given[ns::PID_FOR_CHILDREN] == 0 && before[ns::PID_FOR_CHILDREN] == before[ns::PID] {
            // It was born elsewhere than it seemed, and so are its children.
            task.ns[ns::PID_FOR_CHILDREN] = task.ns[ns::PID];
        }
        task.ns != before
    }

    /// Tells what changed of a task: first what it joined, then what it made.
    pub(super) fn flush(&mut self, tid: u32, sink: &mut dyn FnMut(Input)) {
        let Some(task) = self.tasks.get(&tid) else {
            return;
        };
        let (told, new) = (record::numbers(&task.state), task.ns);
        if told == new {
            return;
        }
        let (mut joined, mut flags) = (told, 0);
        for &kind in NsKind::ALL {
            let slot = kind.slot();
            if self.namespaces.is_held(slot, new[slot]) {
                joined[slot] = new[slot];
            } else {
                flags |= kind.clone_flag();
            }
        }
        self.namespaces.release(&told);
        self.namespaces.hold(&new);
        let mut made = new;
        for (own, children) in FOR_CHILDREN {
            if joined[own] != new[own] {
                made[own] = joined[own];
                made[children] = new[own];
            }
        }
        let unshare = Cause {
            cause: cause::UNSHARE,
            arg0: flags,
            arg1: 0,
        };
        self.tell(tid, &joined, cause::SETNS.into(), sink);
        self.tell(tid, &made, unshare, sink);
        self.tell(tid, &new, cause::SETNS.into(), sink);
    }

    /// Tells a task's namespaces, unless they are known.
    fn tell(&mut self, tid: u32, numbers: &Numbers, cause: Cause, sink: &mut dyn FnMut(Input)) {
        let now = self.now_ns;
        let Some(task) = self.tasks.get_mut(&tid) else {
            return;
        };
        if record::numbers(&task.state) == *numbers {
            return;
        }
        record::set_numbers(&mut task.state, numbers);
        let record = record::task(&task.state, task.state.key, cause, now);
        sink(Input::Task(record));
    }

    /// A task's credentials changed.
    pub(super) fn creds(
        &mut self,
        tid: u32,
        before: &Creds,
        after: &Creds,
        in_exec: bool,
        sink: &mut dyn FnMut(Input),
    ) {
        self.tell_creds(tid, before, sink);
        if !in_exec {
            self.tell_creds(tid, after, sink);
        } else if let Some(task) = self.tasks.get_mut(&tid) {
            task.pending = Some(*after);
        }
    }

    /// Tells credentials that are not more than what was known. What grew otherwise is not judged: an exec
    /// that is not in the log looks the same.
    fn tell_creds(&mut self, tid: u32, creds: &Creds, sink: &mut dyn FnMut(Input)) {
        let now = self.now_ns;
        let Some(task) = self.tasks.get_mut(&tid) else {
            return;
        };
        let known = task.state.known & known::CREDS != 0;
        if task.doubtful || known && task.state.creds == *creds {
            return;
        }
        if known && grows(&task.state.creds, creds) {
            task.doubtful = true;
            self.doubts.grown += 1;
            return;
        }
        task.state.creds = *creds;
        task.state.known |= known::CREDS;
        let record = record::task(&task.state, task.state.key, cause::CRED, now);
        sink(Input::Task(record));
    }

    /// A task put a task into a cgroup.
    pub(super) fn attach(
        &mut self,
        actor: u32,
        moved: u32,
        path: &str,
        sink: &mut dyn FnMut(Input),
    ) {
        let now = self.now_ns;
        let key = |tid| self.tasks.get(&tid).map(|t| t.state.key);
        let leader = key(moved).map_or(moved, |k| k.tgid);
        let moved = key(leader).map_or(moved, |k| k.tid);
        let (Some(actor), Some(_)) = (key(actor), key(moved)) else {
            self.doubts.unplaced += 1;
            return;
        };
        let Some(id) = self.containers.place(path, now, sink) else {
            self.doubts.unplaced += 1;
            return;
        };
        self.flush(moved, sink);
        let Some(task) = self.tasks.get_mut(&moved) else {
            return;
        };
        task.state.cgroups[cgroup::V2] = id;
        let record = record::task(&task.state, actor, Cause::attach(id), now);
        sink(Input::Task(record));
    }
}
