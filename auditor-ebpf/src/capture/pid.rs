//! A `struct pid`: one process or thread, and its number in each pid namespace that can see it.

use super::file;
use crate::kernel::globals::{
    FILE_INODE, FILE_PRIVATE, INODE_PRIVATE, NSPROXY_MNT, PID_LEVEL, PID_NUMBERS, PID_TASKS,
    PROC_INODE, PROC_PID, TASK_NSPROXY, TASK_PID, TASK_PID_LINKS, UPID_NR, UPID_NS, UPID_SIZE, has,
};
use crate::kernel::{Access, Probe, Ptr, current};

/// Greatest depth of pid namespaces (`MAX_PID_NS_LEVEL`) is 32: levels fit this mask.
const LEVEL_MASK: u32 = 63;

/// Its entry at a depth.
#[inline(always)]
fn entry(pid: Ptr, level: u32) -> Ptr {
    let at =
        PID_NUMBERS.load() as usize + (level & LEVEL_MASK) as usize * UPID_SIZE.load() as usize;
    pid.wrapping_add(at)
}

/// The `struct pid` of a thread; null where it has none any more.
#[inline(always)]
pub fn of_task(task: Ptr) -> Ptr {
    // SAFETY: Probe takes any address.
    unsafe { Probe::ptr(task, &TASK_PID) }
}

/// Its depth.
#[inline(always)]
fn level(pid: Ptr) -> u32 {
    // SAFETY: Probe takes any address.
    unsafe { Probe::u32(pid, &PID_LEVEL) }
}

/// Its number: at depth 0, or where it lives (`None`).
#[inline(always)]
pub fn number_in(pid: Ptr, depth: Option<u32>) -> u32 {
    let depth = match depth {
        Some(depth) => depth,
        None => level(pid),
    };
    // SAFETY: Probe takes any address.
    unsafe { Probe::u32(entry(pid, depth), &UPID_NR) }
}

/// Whether a process lives in the running task's pid namespace, which is not the machine's first one.
#[inline(always)]
pub fn lives_with_current(pid: Ptr) -> bool {
    let own = of_task(current::untyped());
    if pid.is_null() || own.is_null() {
        return false;
    }
    let depth = level(own);
    // SAFETY: Probe takes any address.
    unsafe {
        depth != 0
            && depth == level(pid)
            && Probe::ptr(entry(own, depth), &UPID_NS) == Probe::ptr(entry(pid, depth), &UPID_NS)
    }
}

/// Address of a task's mount namespace; null where it has none.
#[inline(always)]
pub fn mount_namespace(task: Ptr) -> Ptr {
    // SAFETY: Probe takes any address.
    unsafe {
        let proxy = Probe::ptr(task, &TASK_NSPROXY);
        if proxy.is_null() {
            return proxy;
        }
        Probe::ptr(proxy, &NSPROXY_MNT)
    }
}

/// The process behind a descriptor that is known to be a pidfd; null where it is not found. Until 6.9 the file has it,
/// since then its inode.
#[inline(always)]
pub fn of_descriptor(descriptor: u64) -> Ptr {
    // SAFETY: Probe takes any address.
    unsafe {
        let file = file::file_at(descriptor);
        if file.is_null() {
            return file;
        }
        let pid = Probe::ptr(file, &FILE_PRIVATE);
        if !pid.is_null() {
            return pid;
        }
        let inode = Probe::ptr(file, &FILE_INODE);
        if inode.is_null() {
            return inode;
        }
        Probe::ptr(inode, &INODE_PRIVATE)
    }
}

/// The task that an inode of a proc file system is about; null where it is about none, or that one is gone.
#[inline(always)]
pub fn task_of_proc_inode(inode: Ptr) -> Ptr {
    let known = has(&PROC_INODE) && has(&PROC_PID) && has(&PID_TASKS) && has(&TASK_PID_LINKS);
    if !known {
        return core::ptr::null();
    }
    // SAFETY: Probe takes any address.
    unsafe {
        let pid = Probe::ptr(inode.wrapping_sub(PROC_INODE.load() as usize), &PROC_PID);
        if pid.is_null() {
            return pid;
        }
        // The first list is that of the task by its own number (`PIDTYPE_PID`), and so is the task's first link.
        let link = Probe::ptr(pid, &PID_TASKS);
        if link.is_null() {
            return link;
        }
        link.wrapping_sub(TASK_PID_LINKS.load() as usize)
    }
}
