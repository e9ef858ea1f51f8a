//! Fills a [`TaskState`] in place: a task's whole state is larger than a program's stack.
//!
//! The memory is zeroed before, so what cannot be read stays 0, and `known` says which parts could be. Reads
//! take no locks. For the running task nothing can change under it; another task's state may be torn while
//! it exits or switches, which the next event of that task repairs.

mod cgroups;
mod creds;
mod file;
mod fs;
mod namespaces;
mod pid;

use crate::kernel::globals::{
    TASK_ATOMIC, TASK_CGROUPS, TASK_COMM, TASK_CRED, TASK_FILTERS, TASK_FLAGS, TASK_FS,
    TASK_IO_WORKER, TASK_LEADER, TASK_PARENT, TASK_PTRACE, TASK_SECCOMP, TASK_START, TASK_TGID,
    TASK_TID, TASK_TRACER, VHOST_TASK_SIZE, has,
};
use crate::kernel::{self, Access, Ptr};
use auditor_common::record::{TaskKey, TaskState, known, task_flags};

pub use cgroups::{hierarchy, id as cgroup_id, parent_id as cgroup_parent_id};
pub use creds::{differ as creds_differ, fill as creds, is_other_namespace};
pub use file::{Whose, file, file_at, mount_ns, note_stream, object, path, whose, whose_by};
pub use fs::{cwd_is_foreign, fill as directories, mount, mount_around};
pub use pid::{
    lives_with_current, mount_namespace, number_in, of_descriptor as pid_of_descriptor,
    of_task as pid_of_task, task_of_proc_inode,
};

/// Kernel constants (`include/linux/sched.h`), unchanged since they exist.
mod pf {
    /// `PF_EXITING`.
    pub const EXITING: u32 = 0x0000_0004;
    /// `PF_IO_WORKER` (5.12).
    pub const IO_WORKER: u32 = 0x0000_0010;
    /// `PF_USER_WORKER` (6.4); another thing before 5.18.
    pub const USER_WORKER: u32 = 0x0000_4000;
    /// `PF_KTHREAD`.
    pub const KTHREAD: u32 = 0x0020_0000;
    /// Bit 0 of `task_struct.atomic_flags`: `PFA_NO_NEW_PRIVS`.
    pub const ATOMIC_NO_NEW_PRIVS: u64 = 1;
}

/// `PT_SEIZED` of `task_struct.ptrace` (`include/linux/ptrace.h`).
const SEIZED: u32 = 0x0001_0000;

/// Whether a task is a kernel thread.
///
/// # Safety
/// As for [`Access`].
#[inline(always)]
pub unsafe fn is_kthread<A: Access>(task: Ptr) -> bool {
    // SAFETY: the caller's promise.
    unsafe { A::u32(task, &TASK_FLAGS) & pf::KTHREAD != 0 }
}

/// Whether a task is exiting.
///
/// # Safety
/// As for [`Access`].
#[inline(always)]
pub unsafe fn is_exiting<A: Access>(task: Ptr) -> bool {
    // SAFETY: the caller's promise.
    unsafe { A::u32(task, &TASK_FLAGS) & pf::EXITING != 0 }
}

/// A task's identity.
///
/// # Safety
/// As for [`Access`]; `out` is writable.
#[inline(always)]
pub unsafe fn key<A: Access>(task: Ptr, out: *mut TaskKey) {
    // SAFETY: the caller's promise.
    unsafe {
        (*out).tid = A::u32(task, &TASK_TID);
        (*out).tgid = A::u32(task, &TASK_TGID);
        (*out).start_boottime_ns = A::u64(task, &TASK_START);
    }
}

/// The task that traces another and made itself its tracer, which no task can have somebody do by asking to be traced.
///
/// # Safety
/// As for [`Access`]; `out` is writable and zeroed.
#[inline(always)]
pub unsafe fn tracer<A: Access>(task: Ptr, out: *mut TaskKey) {
    // SAFETY: the caller's promise; the pointer is checked.
    unsafe {
        if A::u32(task, &TASK_PTRACE) & SEIZED == 0 {
            return;
        }
        let tracer = A::ptr(task, &TASK_TRACER);
        if !tracer.is_null() {
            key::<A>(tracer, out);
        }
    }
}

/// A task's whole state.
///
/// # Safety
/// As for [`Access`]; `out` is writable and zeroed.
#[inline(always)]
pub unsafe fn state<A: Access>(task: Ptr, out: *mut TaskState) {
    // SAFETY: the caller's promise.
    unsafe {
        key::<A>(task, &raw mut (*out).key);
        parent::<A>(task, out);
        flags::<A>(task, out);
        confinement::<A>(task, out);
        // As a string: kernels before 6.15 leave an older name's rest behind the NUL.
        kernel::string(task, &TASK_COMM, &raw mut (*out).comm);
        namespaces::fill::<A>(task, out);
        namespaces::fill_pid::<A>(task, out);
        let cred = A::ptr(task, &TASK_CRED);
        if !cred.is_null() {
            creds::fill::<A>(cred, out);
        }
        let fs = A::ptr(task, &TASK_FS);
        if !fs.is_null() {
            fs::fill::<A>(fs, out);
        }
        let set = A::ptr(task, &TASK_CGROUPS);
        if !set.is_null() {
            cgroups::fill::<A>(set, out);
        }
    }
}

#[inline(always)]
unsafe fn parent<A: Access>(task: Ptr, out: *mut TaskState) {
    // SAFETY: the caller's promise; each pointer is checked.
    unsafe {
        let parent = A::ptr(task, &TASK_PARENT);
        if parent.is_null() {
            return;
        }
        let leader = A::ptr(parent, &TASK_LEADER);
        if leader.is_null() {
            return;
        }
        key::<A>(leader, &raw mut (*out).parent);
        (*out).known |= known::PARENT;
    }
}

#[inline(always)]
unsafe fn flags<A: Access>(task: Ptr, out: *mut TaskState) {
    // SAFETY: the caller's promise.
    unsafe {
        let kernel = A::u32(task, &TASK_FLAGS);
        let mut flags = 0;
        if kernel & pf::KTHREAD != 0 {
            flags |= task_flags::KTHREAD;
        }
        if kernel & pf::EXITING != 0 {
            flags |= task_flags::EXITING;
        }
        if has(&TASK_IO_WORKER) && kernel & pf::IO_WORKER != 0 {
            flags |= task_flags::USER_WORKER;
        }
        if has(&VHOST_TASK_SIZE) && kernel & pf::USER_WORKER != 0 {
            flags |= task_flags::USER_WORKER;
        }
        if (*out).key.tid == (*out).key.tgid {
            flags |= task_flags::LEADER;
        }
        if A::u64(task, &TASK_ATOMIC) & pf::ATOMIC_NO_NEW_PRIVS != 0 {
            flags |= task_flags::NO_NEW_PRIVS;
        }
        (*out).task_flags = flags;
    }
}

#[inline(always)]
unsafe fn confinement<A: Access>(task: Ptr, out: *mut TaskState) {
    if !has(&TASK_SECCOMP) || !has(&TASK_ATOMIC) {
        return;
    }
    // SAFETY: the caller's promise.
    unsafe {
        (*out).seccomp_mode = A::u32(task, &TASK_SECCOMP);
        (*out).seccomp_filters = A::u32(task, &TASK_FILTERS);
        (*out).known |= known::CONFINEMENT;
    }
}
