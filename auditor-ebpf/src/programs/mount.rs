//! Changes of mount tables. A record only says in which mount namespace: what was asked for is no evidence, the agent
//! reads what came of it.

use super::act::Deed;
use super::syscall;
use crate::emit;
use crate::kernel::current::{self, on_current};
use crate::kernel::globals::{MNT_INUM, NSPROXY_MNT, TASK_NSPROXY};
use crate::kernel::{Access, Ptr};
use crate::marks;
use auditor_common::hook;
use auditor_common::record::act;
use aya_ebpf::macros::{fentry, fexit, tracepoint};
use aya_ebpf::programs::{FEntryContext, FExitContext, TracePointContext};

/// Inum of a task's mount namespace; 0 where it has none.
///
/// # Safety
/// As for [`Access`].
#[inline(always)]
unsafe fn mount_namespace<A: Access>(task: Ptr) -> u32 {
    // SAFETY: the caller's promise; pointers are checked.
    unsafe {
        let proxy = A::ptr(task, &TASK_NSPROXY);
        if proxy.is_null() {
            return 0;
        }
        let mnt = A::ptr(proxy, &NSPROXY_MNT);
        if mnt.is_null() {
            return 0;
        }
        A::u32(mnt, &MNT_INUM)
    }
}

/// Says that the running task changes its mount table, or has changed it.
#[inline(always)]
fn tell(hook: u16) {
    if !marks::has_current() || current::is_own() {
        emit::filter(hook);
        return;
    }
    let Some(mut deed) = Deed::begin(hook, act::MOUNT) else {
        return;
    };
    let record = deed.record();
    // SAFETY: current is typed where Direct needs it; the reservation is writable.
    unsafe {
        (*record).object.mnt_ns_inum = on_current!(mount_namespace);
    }
    deed.end();
}

/// mount(2), with all that it can do.
#[fentry(function = "security_sb_mount")]
pub fn sb_mount(_ctx: FEntryContext) -> i32 {
    tell(hook::SB_MOUNT);
    0
}

/// `move_mount`: how a detached mount gets into a table.
#[fentry(function = "security_move_mount")]
pub fn move_mount(_ctx: FEntryContext) -> i32 {
    tell(hook::MOVE_MOUNT);
    0
}

/// umount(2).
#[fentry(function = "security_sb_umount")]
pub fn sb_umount(_ctx: FEntryContext) -> i32 {
    tell(hook::SB_UMOUNT);
    0
}

/// `mount_setattr`, and it succeeded. The function takes one argument, the registers.
#[fexit(function = "__x64_sys_mount_setattr")]
pub fn mount_setattr(ctx: FExitContext) -> i32 {
    let result: i64 = ctx.arg(1);
    if result == 0 {
        tell(hook::MOUNT_SETATTR);
    }
    0
}

/// A syscall that changes mount tables succeeded.
#[tracepoint]
pub fn exit_mount(ctx: TracePointContext) -> i32 {
    if syscall::succeeded(&ctx) {
        tell(hook::EXIT_MOUNT);
    }
    0
}
