//! The engine's records, written by hand.

use super::namespaces::Numbers;
use crate::import::summary::bounded;
use auditor_common::hook;
use auditor_common::limits::{CGROUP_PATH_LEN, COMM_LEN, FILENAME_LEN};
use auditor_common::record::{
    ATTACH_THREADGROUP, CgroupRecord, ExecRecord, ExitRecord, RecordHeader, TaskKey, TaskRecord,
    TaskState, cause, cgroup, kind, known, task_flags,
};

/// The root of the only hierarchy that is told of.
pub(super) const ROOT_CGROUP: u64 = 1;

fn header<T>(kind: u16, boottime_ns: u64) -> RecordHeader {
    RecordHeader {
        boottime_ns,
        cpu_seq: 0,
        kind,
        // None of the kernel's: the engine says whose log it was.
        hook: hook::PROC,
        cpu: 0,
        size: u16::try_from(size_of::<T>()).unwrap_or(0),
    }
}

/// Why a task's state is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cause {
    /// See [`auditor_common::record::cause`].
    pub(super) cause: u32,
    /// Depends on the cause.
    pub(super) arg0: u64,
    /// Depends on the cause.
    pub(super) arg1: u64,
}

impl From<u32> for Cause {
    fn from(cause: u32) -> Self {
        Self {
            cause,
            arg0: 0,
            arg1: 0,
        }
    }
}

impl Cause {
    /// A process was moved into a cgroup.
    pub(super) fn attach(id: u64) -> Self {
        Self {
            cause: cause::ATTACH,
            arg0: id,
            arg1: ATTACH_THREADGROUP,
        }
    }
}

pub(super) fn task(
    state: &TaskState,
    actor: TaskKey,
    cause: impl Into<Cause>,
    boottime_ns: u64,
) -> Box<TaskRecord> {
    let Cause { cause, arg0, arg1 } = cause.into();
    Box::new(TaskRecord {
        header: header::<TaskRecord>(kind::TASK, boottime_ns),
        actor,
        cause,
        syscall: -1,
        arg0,
        arg1,
        state: *state,
    })
}

pub(super) fn exec(task: TaskRecord, file: &str) -> Box<ExecRecord> {
    let mut filename = [0; FILENAME_LEN];
    copy(file, &mut filename);
    let header = header::<ExecRecord>(kind::EXEC, task.header.boottime_ns);
    Box::new(ExecRecord {
        task: TaskRecord { header, ..task },
        filename,
    })
}

pub(super) fn exit(key: TaskKey, boottime_ns: u64) -> ExitRecord {
    ExitRecord {
        header: header::<ExitRecord>(kind::EXIT, boottime_ns),
        key,
        exit_code: 0,
        reserved: 0,
    }
}

pub(super) fn cgroup(id: u64, path: &str, op: u32, boottime_ns: u64) -> Box<CgroupRecord> {
    let mut record = Box::new(CgroupRecord {
        header: header::<CgroupRecord>(kind::CGROUP, boottime_ns),
        actor: TaskKey::default(),
        id,
        parent_id: 0,
        hierarchy: 0,
        op,
        path_len: 0,
        reserved: 0,
        path: [0; CGROUP_PATH_LEN],
    });
    let len = copy(path, &mut record.path);
    record.path_len = u32::try_from(len).unwrap_or(0);
    record
}

/// What is known of every task, and of none more but credentials.
pub(super) fn state(key: TaskKey, parent: TaskKey, numbers: &Numbers) -> TaskState {
    let mut state = TaskState {
        key,
        parent,
        known: known::NS | known::CGROUPS | known::PARENT,
        ..TaskState::default()
    };
    if key.tid == key.tgid {
        state.task_flags = task_flags::LEADER;
    }
    state.cgroups[cgroup::V2] = ROOT_CGROUP;
    set_numbers(&mut state, numbers);
    state
}

pub(super) fn numbers(state: &TaskState) -> Numbers {
    state.ns.map(|ns| ns.inum)
}

pub(super) fn set_numbers(state: &mut TaskState, numbers: &Numbers) {
    for (ns, &inum) in state.ns.iter_mut().zip(numbers) {
        ns.inum = inum;
    }
}

pub(super) fn set_comm(state: &mut TaskState, comm: &str) {
    if !comm.is_empty() {
        state.comm = [0; COMM_LEN];
        copy(comm, &mut state.comm);
    }
}

/// Copies text, NUL padded, and leaves room for one NUL.
fn copy(text: &str, to: &mut [u8]) -> usize {
    let bytes = bounded(text, to.len() - 1).as_bytes();
    to[..bytes.len()].copy_from_slice(bytes);
    bytes.len()
}
