//! Who may be a container's: a cheap, sticky filter for what the host does all the time.
//!
//! A thread is *marked* once it is apart from the host (another mount namespace than the machine's first, a pid or user
//! namespace below the initial one, another root by chroot), and so is all that is born of it. A mark stays when its
//! thread joins the host's namespaces again: an escaped task is looked at like before. It says "look", never "guilty":
//! services of the host with a mount namespace of their own are marked too. Whose a task is, the engine knows.

use crate::kernel::globals::{
    CRED_USERNS, HOST_MNT, MNT_INUM, NSPROXY_MNT, PID_LEVEL, TASK_CRED, TASK_NSPROXY, TASK_PID,
    TASK_TID, USERNS_LEVEL,
};
use crate::kernel::{Access, Ptr, current};
use crate::maps::MARKS;

/// Whether a thread is marked.
#[inline(always)]
pub fn has(tid: u32) -> bool {
    MARKS.has(tid)
}

/// Whether the running task is marked, or its process: nothing tells of the birth of an io_uring worker.
#[inline(always)]
pub fn has_current() -> bool {
    let id = current::pid_tgid();
    let (tid, tgid) = (id as u32, (id >> 32) as u32);
    has(tid) || tid != tgid && has(tgid)
}

/// Marks a thread, or takes its mark away.
#[inline(always)]
pub fn set(tid: u32, marked: bool) {
    MARKS.set(tid, marked);
}

/// Whether a task is apart from the host's first namespaces.
///
/// # Safety
/// As for [`Access`].
#[inline(always)]
pub unsafe fn is_apart<A: Access>(task: Ptr) -> bool {
    // SAFETY: the caller's promise; pointers are checked.
    unsafe {
        let proxy = A::ptr(task, &TASK_NSPROXY);
        if !proxy.is_null() {
            let mnt = A::ptr(proxy, &NSPROXY_MNT);
            if !mnt.is_null() && A::u32(mnt, &MNT_INUM) != HOST_MNT.load() {
                return true;
            }
        }
        let pid = A::ptr(task, &TASK_PID);
        if !pid.is_null() && A::u32(pid, &PID_LEVEL) != 0 {
            return true;
        }
        let cred = A::ptr(task, &TASK_CRED);
        if cred.is_null() {
            return false;
        }
        let user = A::ptr(cred, &CRED_USERNS);
        !user.is_null() && A::u32(user, &USERNS_LEVEL) != 0
    }
}

/// Marks a task that is apart, and leaves others as they are.
///
/// # Safety
/// As for [`Access`].
#[inline(always)]
pub unsafe fn note<A: Access>(task: Ptr) {
    // SAFETY: the caller's promise.
    unsafe {
        if is_apart::<A>(task) {
            set(A::u32(task, &TASK_TID), true);
        }
    }
}

/// A task is born of the running one.
///
/// # Safety
/// As for [`Access`].
#[inline(always)]
pub unsafe fn inherit<A: Access>(task: Ptr) {
    // SAFETY: the caller's promise.
    unsafe {
        let marked = has_current() || is_apart::<A>(task);
        set(A::u32(task, &TASK_TID), marked);
    }
}
