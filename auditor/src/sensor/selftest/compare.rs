//! The iterator's answer against /proc.
//!
//! Both are taken while the machine runs. So /proc is read before and after the iterator, and only a task
//! that both readings agree on is compared: what did not change around the iterator cannot have been
//! different during it, short of changing there and back.
//!
//! Both must see the same ids: the agent has to be in the initial pid and user namespaces.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};

use auditor_common::record::{
    Creds, PathRef, TaskKey, TaskRecord, TaskState, cgroup, known, ns, task_flags,
};

use super::super::procfs::{TICK_NS, same_task};

/// One field on which the two differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// The task, as the iterator names it.
    pub key: TaskKey,
    /// The field.
    pub field: String,
    /// What the iterator says.
    pub iterator: String,
    /// What /proc says.
    pub proc: String,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key,
            field,
            iterator,
            proc,
        } = self;
        write!(
            f,
            "task {}: {field} is {iterator} by iterator, {proc} by /proc",
            key.tid
        )
    }
}

/// Outcome of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Tasks that were compared. With none of them the comparison proves nothing.
    pub compared: usize,
    /// Tasks that came, went, changed or were exiting, and so say nothing.
    pub skipped: usize,
    /// Tasks that stayed in /proc throughout but that the iterator did not show.
    pub absent: Vec<TaskKey>,
    /// All differences, ordered by task.
    pub disagreements: Vec<Disagreement>,
}

/// Compares the iterator's records with readings of /proc before and after it.
#[must_use]
pub fn compare(before: &[TaskRecord], iterator: &[TaskRecord], after: &[TaskRecord]) -> Comparison {
    let by_tid = |records: &[TaskRecord]| -> BTreeMap<u32, TaskState> {
        records
            .iter()
            .map(|record| (record.state.key.tid, record.state))
            .collect()
    };
    let (iterator, after) = (by_tid(iterator), by_tid(after));
    let mut comparison = Comparison::default();
    for (tid, before) in by_tid(before) {
        let stable = after.get(&tid).is_some_and(|after| *after == before);
        if !stable || before.task_flags & task_flags::EXITING != 0 {
            comparison.skipped += 1;
            continue;
        }
        match iterator
            .get(&tid)
            .filter(|found| same_task(&found.key, &before.key))
        {
            None => comparison.absent.push(before.key),
            Some(found) => {
                comparison.compared += 1;
                let mut differences = Differences {
                    key: found.key,
                    found: Vec::new(),
                };
                differences.task(found, &before);
                comparison.disagreements.extend(differences.found);
            }
        }
    }
    comparison
}

/// Collects what differs for one task.
struct Differences {
    key: TaskKey,
    found: Vec<Disagreement>,
}

impl Differences {
    fn check<T: PartialEq + Debug>(&mut self, field: impl Into<String>, iterator: T, proc: T) {
        if iterator != proc {
            self.found.push(Disagreement {
                key: self.key,
                field: field.into(),
                iterator: format!("{iterator:?}"),
                proc: format!("{proc:?}"),
            });
        }
    }

    fn task(&mut self, iterator: &TaskState, proc: &TaskState) {
        // `pid_level`, `pid_parent_inum`, `user_level` and unique ids are not in /proc.
        let TaskState {
            key,
            parent,
            ns,
            cgroups,
            creds,
            root,
            cwd,
            comm,
            ..
        } = iterator;
        let both = iterator.known & proc.known;
        let knows = |bit: u32| both & bit != 0;
        self.check("tgid", key.tgid, proc.key.tgid);
        self.check("comm", comm, &proc.comm);
        let shown = task_flags::LEADER | task_flags::USER_WORKER;
        self.check(
            "task_flags",
            iterator.task_flags & shown,
            proc.task_flags & shown,
        );
        self.check("ns_tid", iterator.ns_tid, proc.ns_tid);
        if knows(known::PARENT) {
            let start = |key: &TaskKey| key.start_boottime_ns / TICK_NS;
            self.check("parent", parent.tid, proc.parent.tid);
            if proc.parent.tid != 0 {
                self.check("parent's start", start(parent), start(&proc.parent));
            }
        }
        if knows(known::NS) {
            for (slot, name) in NS_NAMES {
                // /proc does not show the pid namespace of children while that has no init.
                if slot != ns::PID_FOR_CHILDREN || proc.ns[slot].inum != 0 {
                    self.check(format!("ns.{name}"), ns[slot].inum, proc.ns[slot].inum);
                }
            }
        }
        if knows(known::CGROUPS) {
            for (slot, (iterator, proc)) in cgroups.iter().zip(&proc.cgroups).enumerate() {
                let name = match slot {
                    cgroup::V2 => "v2",
                    _ => cgroup::CONTROLLERS[slot - 1],
                };
                self.check(format!("cgroup.{name}"), iterator, proc);
            }
        }
        if knows(known::CREDS) {
            self.creds(creds, &proc.creds);
        }
        if knows(known::ROOT) {
            self.path("root", root, &proc.root);
        }
        if knows(known::CWD) {
            self.path("cwd", cwd, &proc.cwd);
        }
        if knows(known::PATH_MNT_NS) {
            self.path_mount("root", root, &proc.root);
            self.path_mount("cwd", cwd, &proc.cwd);
        }
        if knows(known::CONFINEMENT) {
            let bit = task_flags::NO_NEW_PRIVS;
            self.check(
                "no_new_privs",
                iterator.task_flags & bit,
                proc.task_flags & bit,
            );
            self.check("seccomp_mode", iterator.seccomp_mode, proc.seccomp_mode);
            self.check(
                "seccomp_filters",
                iterator.seccomp_filters,
                proc.seccomp_filters,
            );
        }
    }

    fn creds(&mut self, iterator: &Creds, proc: &Creds) {
        let Creds {
            uid,
            gid,
            suid,
            sgid,
            euid,
            egid,
            fsuid,
            fsgid,
            cap_inheritable,
            cap_permitted,
            cap_effective,
            cap_bounding,
            cap_ambient,
            securebits: _, // Not in /proc.
            reserved: _,
        } = *iterator;
        let ids = [
            ("uid", uid, proc.uid),
            ("gid", gid, proc.gid),
            ("suid", suid, proc.suid),
            ("sgid", sgid, proc.sgid),
            ("euid", euid, proc.euid),
            ("egid", egid, proc.egid),
            ("fsuid", fsuid, proc.fsuid),
            ("fsgid", fsgid, proc.fsgid),
        ];
        for (field, iterator, proc) in ids {
            self.check(field, iterator, proc);
        }
        let sets = [
            ("cap_inheritable", cap_inheritable, proc.cap_inheritable),
            ("cap_permitted", cap_permitted, proc.cap_permitted),
            ("cap_effective", cap_effective, proc.cap_effective),
            ("cap_bounding", cap_bounding, proc.cap_bounding),
            ("cap_ambient", cap_ambient, proc.cap_ambient),
        ];
        for (field, iterator, proc) in sets {
            self.check(field, iterator, proc);
        }
    }

    fn path(&mut self, name: &str, iterator: &PathRef, proc: &PathRef) {
        self.check(format!("{name}.ino"), iterator.ino, proc.ino);
        self.check(format!("{name}.mnt_id"), iterator.mnt_id, proc.mnt_id);
    }

    /// What /proc only has from the mount table; without it, it has the device that stat shows, which
    /// btrfs makes up.
    fn path_mount(&mut self, name: &str, iterator: &PathRef, proc: &PathRef) {
        self.check(format!("{name}.dev"), iterator.dev, proc.dev);
        self.check(
            format!("{name}.mnt_ns"),
            iterator.mnt_ns_inum,
            proc.mnt_ns_inum,
        );
    }
}

const NS_NAMES: [(usize, &str); 10] = [
    (ns::MNT, "mnt"),
    (ns::PID, "pid"),
    (ns::PID_FOR_CHILDREN, "pid_for_children"),
    (ns::NET, "net"),
    (ns::IPC, "ipc"),
    (ns::UTS, "uts"),
    (ns::CGROUP, "cgroup"),
    (ns::TIME, "time"),
    (ns::TIME_FOR_CHILDREN, "time_for_children"),
    (ns::USER, "user"),
];

#[cfg(test)]
mod tests {
    //! Goal: every field that both sides tell is compared, races are not accused. Method: two readings of
    //! this machine stand in for the iterator, then single fields are bent.

    use auditor_common::record::{RecordHeader, kind};

    use super::super::super::{
        cgroupfs::CgroupTree, clock::KernelVersion, procfs::ProcFs, snapshot::Snapshot,
    };
    use super::*;

    fn record(tid: u32) -> TaskRecord {
        let mut state = TaskState {
            known: known::ALL,
            ns_tid: tid,
            ..TaskState::default()
        };
        state.key = TaskKey {
            tid,
            tgid: tid,
            start_boottime_ns: 5 * TICK_NS,
        };
        state.parent = TaskKey {
            tid: 1,
            tgid: 1,
            start_boottime_ns: TICK_NS,
        };
        let header = RecordHeader {
            boottime_ns: 1,
            cpu_seq: 0,
            kind: kind::TASK,
            hook: 0,
            cpu: 0,
            size: 552,
        };
        TaskRecord {
            header,
            actor: state.key,
            cause: 1,
            syscall: -1,
            arg0: 0,
            arg1: 0,
            state,
        }
    }

    fn fields_after(bend: impl Fn(&mut TaskState)) -> Vec<String> {
        let proc = [record(7)];
        let mut iterator = proc;
        bend(&mut iterator[0].state);
        let comparison = compare(&proc, &iterator, &proc);
        assert_eq!(comparison.compared, 1);
        comparison
            .disagreements
            .into_iter()
            .map(|found| found.field)
            .collect()
    }

    #[test]
    fn equal_records_agree_but_for_rounding() {
        assert!(fields_after(|_| {}).is_empty());
        assert!(fields_after(|state| state.key.start_boottime_ns += 123).is_empty());
        assert!(fields_after(|state| state.parent.start_boottime_ns += 123).is_empty());
        assert!(fields_after(|state| state.creds.securebits = 1).is_empty());
        assert!(fields_after(|state| state.ns[ns::NET].owner_inum = 1).is_empty());
        // Not shown by /proc while the namespace has no init.
        assert!(fields_after(|state| state.ns[ns::PID_FOR_CHILDREN].inum = 1).is_empty());
    }

    #[test]
    fn each_bent_field_is_named() {
        assert_eq!(fields_after(|state| state.key.tgid = 8), ["tgid"]);
        assert_eq!(fields_after(|state| state.comm[0] = b'x'), ["comm"]);
        assert_eq!(fields_after(|state| state.ns[ns::NET].inum = 1), ["ns.net"]);
        assert_eq!(fields_after(|state| state.cgroups[0] = 1), ["cgroup.v2"]);
        assert_eq!(
            fields_after(|state| state.cgroups[5] = 1),
            ["cgroup.memory"]
        );
        assert_eq!(fields_after(|state| state.creds.euid = 1), ["euid"]);
        assert_eq!(
            fields_after(|state| state.creds.cap_ambient = 1),
            ["cap_ambient"]
        );
        assert_eq!(fields_after(|state| state.root.mnt_id = 1), ["root.mnt_id"]);
        assert_eq!(fields_after(|state| state.cwd.dev = 1), ["cwd.dev"]);
        assert_eq!(fields_after(|state| state.parent.tid = 2), ["parent"]);
        assert_eq!(
            fields_after(|state| state.seccomp_filters = 2),
            ["seccomp_filters"]
        );
        assert_eq!(
            fields_after(|state| state.task_flags |= task_flags::NO_NEW_PRIVS),
            ["no_new_privs"]
        );
    }

    #[test]
    fn unknown_parts_are_not_compared() {
        let bent = fields_after(|state| {
            state.known &= !known::NS;
            state.ns[ns::NET].inum = 1;
        });
        assert!(bent.is_empty());
    }

    #[test]
    fn races_are_skipped_and_absent_tasks_named() {
        let (stable, mut changed) = (record(7), record(8));
        let before = [stable, changed, record(9)];
        changed.state.creds.uid = 1;
        let comparison = compare(&before, &[changed], &[stable, changed]);
        assert_eq!((comparison.compared, comparison.skipped), (0, 2));
        assert_eq!(comparison.absent, [stable.state.key]);

        let mut reused = stable;
        reused.state.key.start_boottime_ns += TICK_NS;
        assert_eq!(compare(&[stable], &[reused], &[stable]).absent.len(), 1);
    }

    #[test]
    fn this_process_agrees_with_itself() {
        let proc = ProcFs::open("/proc".as_ref(), KernelVersion::new(6, 1)).unwrap();
        // Others may change there and back in between; the main thread of a test run only waits.
        let is_own = |task: &TaskRecord| task.state.key.tid == std::process::id();
        let read = || -> Vec<TaskRecord> {
            let snapshot = Snapshot::read(&proc, &CgroupTree::read().unwrap()).unwrap();
            snapshot.tasks.into_iter().filter(is_own).collect()
        };
        let (before, between, after) = (read(), read(), read());
        let comparison = compare(&before, &between, &after);
        assert_eq!(comparison.compared, 1);
        assert_eq!(comparison.disagreements, []);
    }
}
