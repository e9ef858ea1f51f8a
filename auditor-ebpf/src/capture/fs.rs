//! Root and working directory, and the mount namespace that their mounts belong to.
//!
//! A path points at the `vfsmount` inside a `mount`; the namespace is a member of the outer struct. The verifier
//! refuses to follow a `container_of` on every kernel, so these members are always probed.

use crate::kernel::globals::{
    DENTRY_INODE, DENTRY_SB, FS_PWD_DENTRY, FS_PWD_MNT, FS_ROOT_DENTRY, FS_ROOT_MNT, INODE_INO,
    MNT_INUM, MOUNT_ID, MOUNT_MNT, MOUNT_NS, NSPROXY_MNT, SB_DEV, TASK_FS, TASK_NSPROXY, has,
    place,
};
use crate::kernel::{Access, Probe, Ptr};
use auditor_common::record::{FileRef, PathRef, TaskState, known, path_flags};

/// Pointers from here on are error numbers (`MAX_ERRNO`): an internal mount has one for its namespace.
pub const ERROR_POINTERS: u64 = -4095_i64 as u64;

/// Writes both directories over whatever the state says.
///
/// # Safety
/// As for [`Access`]; `out` is writable.
#[inline(always)]
pub unsafe fn fill<A: Access>(fs: Ptr, out: *mut TaskState) {
    // SAFETY: the caller's promise; pointers are checked.
    unsafe {
        let mut seen = 0;
        let root = (A::ptr(fs, &FS_ROOT_MNT), A::ptr(fs, &FS_ROOT_DENTRY));
        if !root.0.is_null() && !root.1.is_null() {
            path::<A>(root.0, root.1, &raw mut (*out).root);
            seen |= known::ROOT;
        }
        let cwd = (A::ptr(fs, &FS_PWD_MNT), A::ptr(fs, &FS_PWD_DENTRY));
        if !cwd.0.is_null() && !cwd.1.is_null() {
            path::<A>(cwd.0, cwd.1, &raw mut (*out).cwd);
            seen |= known::CWD;
        }
        if has(&MOUNT_MNT) && has(&MOUNT_NS) {
            seen |= known::PATH_MNT_NS;
        }
        (*out).known |= seen;
    }
}

#[inline(always)]
unsafe fn path<A: Access>(mnt: Ptr, dentry: Ptr, out: *mut PathRef) {
    // SAFETY: the caller's promise; pointers are checked.
    unsafe {
        let inode = A::ptr(dentry, &DENTRY_INODE);
        if !inode.is_null() {
            (*out).ino = A::u64(inode, &INODE_INO);
        }
        let superblock = A::ptr(dentry, &DENTRY_SB);
        if !superblock.is_null() {
            (*out).dev = A::u32(superblock, &SB_DEV);
        }
        let Some(mount) = mount_around(mnt) else {
            return;
        };
        (*out).mnt_id = Probe::u32(mount, &MOUNT_ID);
        let namespace: Option<u64> = Probe::field(mount, &MOUNT_NS);
        let Some(namespace) = namespace else { return };
        let mut inum = 0;
        if namespace != 0 && namespace < ERROR_POINTERS {
            inum = Probe::u32(namespace as usize as Ptr, &MNT_INUM);
        }
        (*out).mnt_ns_inum = inum;
        let mut flags = 0;
        if inum == 0 {
            flags = path_flags::DETACHED;
        }
        (*out).flags = flags;
    }
}

/// The kernel's own part of a mount, which holds the part that files point to; `None` where this cannot be told.
#[inline(always)]
pub fn mount_around(mnt: Ptr) -> Option<Ptr> {
    place(&MOUNT_MNT).map(|offset| mnt.wrapping_sub(offset))
}

/// The mount that a file was reached through, and whose it is.
///
/// # Safety
/// `out` is writable.
#[inline(always)]
pub unsafe fn mount(mnt: Ptr, out: *mut FileRef) {
    let Some(mount) = mount_around(mnt) else {
        return;
    };
    // SAFETY: the caller's promise; Probe takes any address.
    unsafe {
        (*out).mnt_id = Probe::u32(mount, &MOUNT_ID);
        let namespace: Option<u64> = Probe::field(mount, &MOUNT_NS);
        let mut inum = 0;
        if let Some(namespace) = namespace
            && namespace != 0
            && namespace < ERROR_POINTERS
        {
            inum = Probe::u32(namespace as usize as Ptr, &MNT_INUM);
        }
        (*out).mnt_ns_inum = inum;
        if inum == 0 {
            (*out).flags = path_flags::DETACHED;
        }
    }
}

/// Whether a task's working directory lies on a mount of another mount namespace than the task's, or on
/// one whose namespace cannot be told.
///
/// # Safety
/// As for [`Access`].
#[inline(always)]
pub unsafe fn cwd_is_foreign<A: Access>(task: Ptr) -> bool {
    // SAFETY: the caller's promise; pointers are checked.
    unsafe {
        let fs = A::ptr(task, &TASK_FS);
        let proxy = A::ptr(task, &TASK_NSPROXY);
        if fs.is_null() || proxy.is_null() {
            return true;
        }
        let own: Option<u64> = Probe::field(proxy, &NSPROXY_MNT);
        let mnt = A::ptr(fs, &FS_PWD_MNT);
        if mnt.is_null() {
            return true;
        }
        let Some(mount) = mount_around(mnt) else {
            return true;
        };
        let namespace: Option<u64> = Probe::field(mount, &MOUNT_NS);
        match (own, namespace) {
            (Some(own), Some(namespace)) => own == 0 || own != namespace,
            _ => true,
        }
    }
}
