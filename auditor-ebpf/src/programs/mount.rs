//! Changes of mount tables. A record only says in which mount namespace: what was asked for is no evidence, the agent
//! reads what came of it. Only of file systems on devices more is told, and at once: what is mounted for a moment stands
//! in no table that is read later.

use super::act::Deed;
use crate::capture;
use crate::emit;
use crate::kernel::current::{self, on_current};
use crate::kernel::globals::{
    DENTRY_SB, FC_ROOT, FS_TYPE_NAME, MNT_INUM, NSPROXY_MNT, SB_DEV, SB_TYPE, TASK_NSPROXY, has,
};
use crate::kernel::{Access, Probe, Ptr};
use crate::marks;
use auditor_common::hook;
use auditor_common::record::{ActRecord, act};
use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use aya_ebpf::macros::fexit;
use aya_ebpf::programs::FExitContext;

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

/// Says that the running task changes its mount table, or has changed it. `LATE`: see [`marks::is_current`].
#[inline(always)]
fn tell<const LATE: bool>(hook: u16) {
    if !marks::is_current::<LATE>() || current::is_own() {
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

security_hook! {
    /// mount(2), with all that it can do.
    sb_mount, lsm_sb_mount: "security_sb_mount", "sb_mount", |_ctx| {
        tell::<LATE>(hook::SB_MOUNT);
    }
}

security_hook! {
    /// `move_mount`: how a detached mount gets into a table.
    move_mount, lsm_move_mount: "security_move_mount", "move_mount", |_ctx| {
        tell::<LATE>(hook::MOVE_MOUNT);
    }
}

security_hook! {
    /// umount(2).
    sb_umount, lsm_sb_umount: "security_sb_umount", "sb_umount", |_ctx| {
        tell::<LATE>(hook::SB_UMOUNT);
    }
}

/// `mount_setattr`, and it succeeded. The function takes one argument, the registers.
#[fexit(function = "__x64_sys_mount_setattr")]
pub fn mount_setattr(ctx: FExitContext) -> i32 {
    let result: i64 = ctx.arg(1);
    if result == 0 {
        tell::<false>(hook::MOUNT_SETATTR);
    }
    0
}

/// Bits of a device number below its major one.
const MINOR_BITS: u32 = 20;
/// Bytes of the name of a kind of file system that are kept.
const FS_TYPE_LEN: u32 = 32;

/// The kernel got at a file system for who wants to mount it, by the old call or by the new ones.
#[fexit(function = "vfs_get_tree")]
pub fn get_tree(ctx: FExitContext) -> i32 {
    let context: Ptr = ctx.arg(0);
    let result: i32 = ctx.arg(1);
    if result != 0 || !has(&FC_ROOT) || !marks::has_current() || current::is_own() {
        emit::filter(hook::GET_TREE);
        return 0;
    }
    // SAFETY: Probe takes any address.
    let (root, superblock) = unsafe {
        let root = Probe::ptr(context, &FC_ROOT);
        (root, Probe::ptr(root, &DENTRY_SB))
    };
    // SAFETY: as above.
    let device = unsafe { Probe::u32(superblock, &SB_DEV) };
    // A file system that is on no block device has a number of its own, of major 0.
    if device >> MINOR_BITS == 0 {
        emit::filter(hook::GET_TREE);
        return 0;
    }
    let Some(mut deed) = Deed::begin(hook::GET_TREE, act::MOUNT_DEVICE) else {
        return 0;
    };
    // SAFETY: the reservation is writable and zeroed.
    unsafe { describe(root, superblock, deed.record()) };
    deed.end();
    0
}

/// A file system: its root, and of which kind it is.
///
/// # Safety
/// `out` is writable and zeroed.
#[inline(always)]
unsafe fn describe(root: Ptr, superblock: Ptr, out: *mut ActRecord) {
    // SAFETY: the caller's promise; Probe takes any address.
    unsafe {
        capture::object::<Probe>(root, &raw mut (*out).object);
        if !has(&SB_TYPE) || !has(&FS_TYPE_NAME) {
            return;
        }
        let kind = Probe::ptr(superblock, &SB_TYPE);
        let text = Probe::ptr(kind, &FS_TYPE_NAME);
        let name = (&raw mut (*out).name).cast::<u8>();
        let copied = bpf_probe_read_kernel_str(name.cast(), FS_TYPE_LEN, text.cast());
        if copied > 1 {
            // Without the NUL.
            (*out).name_len = copied as u32 - 1;
        }
    }
}

/// The running task has changed a mount table.
#[inline(always)]
pub fn changed() {
    tell::<false>(hook::EXIT_MOUNT);
}
