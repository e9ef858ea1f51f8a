//! Changes of root and working directory.
//!
//! A chdir is frequent and harmless as long as it stays on mounts of the task's own mount namespace: only the
//! others are sent, on the ring that may lose.

use super::record::{Event, write_state};
use crate::capture;
use crate::emit::{self, Urgency};
use crate::kernel::current::{self, on_current};
use crate::kernel::globals::TASK_FS;
use crate::kernel::{Access, Ptr};
use crate::maps::BULK;
use auditor_common::hook;
use auditor_common::record::cause;
use aya_ebpf::macros::fexit;
use aya_ebpf::programs::FExitContext;

/// Sends the state if `fs` is the running task's.
#[inline(always)]
unsafe fn write_if_own_fs<A: Access>(task: Ptr, fs: Ptr, event: Event) {
    // SAFETY: the caller's promise.
    unsafe {
        if A::ptr(task, &TASK_FS) == fs && !capture::is_kthread::<A>(task) {
            write_state::<A>(task, &event);
        }
    }
}

/// Sends the state if the working directory is on a foreign mount, and `fs`, where given, the running task's.
#[inline(always)]
unsafe fn write_if_foreign<A: Access>(task: Ptr, fs: Option<Ptr>, hook: u16) {
    // SAFETY: the caller's promise.
    unsafe {
        if let Some(fs) = fs
            && A::ptr(task, &TASK_FS) != fs
        {
            return;
        }
        if capture::is_kthread::<A>(task) || !capture::cwd_is_foreign::<A>(task) {
            emit::filter(hook);
            return;
        }
        let mut event = Event::new(hook, cause::CHDIR, Urgency::Batched);
        event.ring = &BULK;
        write_state::<A>(task, &event);
    }
}

/// chroot.
#[fexit(function = "set_fs_root")]
pub fn set_fs_root(ctx: FExitContext) -> i32 {
    let fs: Ptr = ctx.arg(0);
    if !current::is_own() && !current::in_setns() {
        let event = Event::new(hook::SET_FS_ROOT, cause::CHROOT, Urgency::Immediate);
        // SAFETY: current is typed where Direct needs it.
        unsafe { on_current!(write_if_own_fs, fs, event) }
    }
    0
}

/// chdir, fchdir, and what else sets a working directory.
#[fexit(function = "set_fs_pwd")]
pub fn set_fs_pwd(ctx: FExitContext) -> i32 {
    let fs: Ptr = ctx.arg(0);
    if !current::is_own() && !current::in_setns() {
        // SAFETY: current is typed where Direct needs it.
        unsafe { on_current!(write_if_foreign, Some(fs), hook::SET_FS_PWD) }
    }
    0
}

/// pivot_root succeeded: every task whose root was the old one has moved.
#[fexit(function = "chroot_fs_refs")]
pub fn chroot_fs_refs(_ctx: FExitContext) -> i32 {
    if !current::is_own() {
        let event = Event::new(hook::CHROOT_FS_REFS, cause::PIVOT_ROOT, Urgency::Immediate);
        // SAFETY: current is typed where Direct needs it.
        unsafe { on_current!(write_state, &event) }
    }
    0
}

/// The running task has another working directory.
#[inline(always)]
pub fn moved() {
    // SAFETY: current is typed where Direct needs it.
    unsafe { on_current!(write_if_foreign, None, hook::EXIT_CHDIR) }
}
