//! The whole machine at rest, from /proc and cgroupfs: what the scan tier judges, what a start without
//! iterators begins with, and what an iterator's answer is checked against.
//!
//! A snapshot takes milliseconds, and tasks come and go meanwhile. Each record is true of one task at its
//! own `boottime_ns`; events that were buffered since `begin_ns` are to be folded over it.
//!
//! Two facts no single task's files tell are joined here: a parent's start time, and the mount namespace that
//! a root or cwd belongs to (found by its mount id in the mount tables of all namespaces seen, the
//! device of its superblock with it). A cwd in another container's mount shows without any kernel program.

use std::collections::{HashMap, HashSet};
use std::io;

use auditor_common::hook;
use auditor_common::record::{
    CgroupRecord, PathRef, RecordHeader, TaskRecord, TaskState, cause, kind, known, ns,
};

use super::cgroupfs::{CgroupTree, Unseen};
use super::clock::boottime_ns;
use super::mountinfo;
use super::procfs::{ProcFs, ReadError, TICK_NS};

/// Tasks that one snapshot records: four times what `pid_max` allows by default on large machines.
pub const MAX_TASKS: usize = 1 << 17;
/// Mount tables that one snapshot reads, one for each pair of mount namespace and root.
pub const MAX_MOUNT_TABLES: usize = 4096;

/// State of the machine between two moments.
#[derive(Debug)]
pub struct Snapshot {
    /// All cgroups, parents first.
    pub cgroups: Vec<CgroupRecord>,
    /// All tasks but kernel threads, ordered by process and thread id.
    pub tasks: Vec<TaskRecord>,
    /// Boot time before the first read.
    pub begin_ns: u64,
    /// Boot time after the last read.
    pub end_ns: u64,
    /// Cgroups that could not be walked.
    pub cgroups_unseen: Vec<Unseen>,
    /// Tasks that exist but could not be read.
    pub unreadable: Vec<ReadError>,
    /// Tasks beyond [`MAX_TASKS`] that were left out.
    pub tasks_left_out: usize,
    /// Where the mounts belong that these tasks see.
    pub mounts: MountTable,
}

/// Where mounts belong, by mount id.
#[derive(Debug, Default)]
pub struct MountTable {
    /// Mount namespace inum and device.
    by_id: HashMap<u32, (u32, u32)>,
    /// Views that were read: mount namespace inum, mount and inode of the root.
    read: HashSet<(u32, u32, u64)>,
}

impl Snapshot {
    /// Reads everything.
    ///
    /// # Errors
    /// When /proc itself cannot be listed. Single tasks that cannot be read are in `unreadable`.
    pub fn read(proc: &ProcFs, tree: &CgroupTree) -> io::Result<Self> {
        let begin_ns = boottime_ns();
        let mut snapshot = Self {
            cgroups: tree.records().to_vec(),
            tasks: Vec::new(),
            begin_ns,
            end_ns: begin_ns,
            cgroups_unseen: tree.unseen().to_vec(),
            unreadable: Vec::new(),
            tasks_left_out: 0,
            mounts: MountTable::default(),
        };
        let mut starts = HashMap::new();
        for tgid in proc.processes()? {
            for tid in proc.threads(tgid).unwrap_or_default() {
                if snapshot.tasks.len() >= MAX_TASKS {
                    snapshot.tasks_left_out += 1;
                    continue;
                }
                let at_ns = boottime_ns();
                let read = match proc.read_task(tgid, tid, tree) {
                    Ok(Some(read)) => read,
                    Ok(None) => continue,
                    Err(error) => {
                        snapshot.unreadable.push(error);
                        continue;
                    }
                };
                if tid == tgid {
                    starts.insert(tid, read.state.key.start_boottime_ns);
                }
                if !read.kernel_thread {
                    snapshot.mounts.learn(proc, &read.state);
                    snapshot.tasks.push(task_record(read.state, at_ns));
                }
            }
        }
        for task in &mut snapshot.tasks {
            join_parent(&mut task.state, &starts);
            snapshot.mounts.join(&mut task.state);
        }
        snapshot.end_ns = boottime_ns();
        Ok(snapshot)
    }
}

/// Ground truth about one task.
pub(crate) fn task_record(state: TaskState, boottime_ns: u64) -> TaskRecord {
    TaskRecord {
        header: RecordHeader {
            boottime_ns,
            cpu_seq: 0,
            kind: kind::TASK,
            hook: hook::PROC,
            cpu: 0,
            size: const { size_of::<TaskRecord>() as u16 },
        },
        actor: state.key,
        cause: cause::SNAPSHOT,
        syscall: -1,
        arg0: 0,
        arg1: 0,
        state,
    }
}

/// Completes `parent` with the start time of the process that has this id.
fn join_parent(state: &mut TaskState, starts: &HashMap<u32, u64>) {
    if state.parent.tid == 0 {
        state.known |= known::PARENT; // None, or one in an outer pid namespace.
        return;
    }
    // A parent that is younger than its child is another process with the same id.
    let youngest = state.key.start_boottime_ns + TICK_NS;
    match starts.get(&state.parent.tid) {
        Some(&start_ns) if start_ns <= youngest => {
            state.parent.start_boottime_ns = start_ns;
            state.known |= known::PARENT;
        }
        _ => {}
    }
}

impl MountTable {
    /// The mount namespace that a mount belongs to, and the device of its superblock.
    #[must_use]
    pub fn home(&self, mnt_id: u32) -> Option<(u32, u32)> {
        self.by_id.get(&mnt_id).copied()
    }

    /// Reads the table of a task's mount namespace, once for each view: a process sees only the mounts
    /// below its root.
    fn learn(&mut self, proc: &ProcFs, state: &TaskState) {
        let inum = state.ns[ns::MNT].inum;
        let view = (inum, state.root.mnt_id, state.root.ino);
        if inum == 0 || self.read.contains(&view) || self.read.len() >= MAX_MOUNT_TABLES {
            return;
        }
        let table = proc.read_file(state.key.tgid, "mountinfo").ok().flatten();
        let mounts = table.and_then(|text| mountinfo::parse(&text).ok());
        let Some(mounts) = mounts else { return }; // Another task with this view may tell.
        self.read.insert(view);
        for mount in mounts {
            self.by_id.entry(mount.id).or_insert((inum, mount.dev));
        }
    }

    fn join(&self, state: &mut TaskState) {
        let paths_known = known::ROOT | known::CWD;
        let root = self.join_path(&mut state.root);
        let cwd = self.join_path(&mut state.cwd);
        if state.known & paths_known == paths_known && root && cwd {
            state.known |= known::PATH_MNT_NS;
        }
    }

    fn join_path(&self, path: &mut PathRef) -> bool {
        match self.by_id.get(&path.mnt_id) {
            Some(&(inum, dev)) if path.mnt_id != 0 => {
                (path.mnt_ns_inum, path.dev) = (inum, dev);
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a snapshot of this machine holds this process with all that joins add. Method: take one.

    use super::super::clock::KernelVersion;
    use super::*;

    #[test]
    fn snapshot_holds_this_process_joined() {
        let proc = ProcFs::open("/proc".as_ref(), KernelVersion::new(6, 1)).unwrap();
        let tree = CgroupTree::read().unwrap();
        let snapshot = Snapshot::read(&proc, &tree).unwrap();
        assert!(snapshot.begin_ns <= snapshot.end_ns);
        assert_eq!(snapshot.tasks_left_out, 0);
        let pid = std::process::id();
        let own = snapshot
            .tasks
            .iter()
            .find(|task| task.state.key.tid == pid)
            .unwrap();
        assert!((snapshot.begin_ns..=snapshot.end_ns).contains(&own.header.boottime_ns));
        assert_eq!(own.actor, own.state.key);
        assert_ne!(own.state.known & known::PARENT, 0);
        assert_ne!(own.state.parent.start_boottime_ns, 0);
        if own.state.known & known::PATH_MNT_NS != 0 {
            assert_eq!(own.state.cwd.mnt_ns_inum, own.state.ns[ns::MNT].inum);
        }
        let keys: Vec<_> = snapshot
            .tasks
            .iter()
            .map(|t| (t.state.key.tgid, t.state.key.tid))
            .collect();
        assert!(keys.is_sorted());
    }

    #[test]
    fn younger_parent_is_somebody_else() {
        let mut state = TaskState::default();
        state.key.start_boottime_ns = 50 * TICK_NS;
        state.parent.tid = 7;
        join_parent(&mut state, &HashMap::from([(7, 90 * TICK_NS)]));
        assert_eq!(state.known & known::PARENT, 0);
        join_parent(&mut state, &HashMap::from([(7, 10 * TICK_NS)]));
        assert_ne!(state.known & known::PARENT, 0);
    }
}
