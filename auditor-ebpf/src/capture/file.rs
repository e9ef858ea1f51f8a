//! A file as a task reached it: its inode, the mount, the path within its file system.
//!
//! The path goes up dentry by dentry and stops at the root of the file system: `bpf_d_path` may only be called from a
//! few functions. Names are copied from the kernel's own dentries, never from user memory.

use super::fs;
use crate::kernel::globals::{
    DENTRY_INODE, DENTRY_NAME, DENTRY_PARENT, DENTRY_SB, FILE_DENTRY, FILE_MNT, INODE_INO,
    INODE_MODE, INODE_RDEV, SB_DEV, SB_MAGIC, SB_USERNS, USERNS_INUM,
};
use crate::kernel::{Access, Probe, Ptr};
use auditor_common::limits::{ACT_NAME_LEN, PATH_COMPONENTS};
use auditor_common::record::{ActRecord, FileRef};
use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;

/// Bytes of one component of a path that are kept, its NUL included.
const COMPONENT_LEN: usize = 64;

/// An open file: where it is and what it is.
///
/// # Safety
/// As for [`Access`]; `out` is writable and zeroed.
#[inline(always)]
pub unsafe fn file<A: Access>(file: Ptr, out: *mut ActRecord) {
    // SAFETY: the caller's promise; pointers are checked.
    unsafe {
        let dentry = A::ptr(file, &FILE_DENTRY);
        let mnt = A::ptr(file, &FILE_MNT);
        if dentry.is_null() {
            return;
        }
        object::<A>(dentry, &raw mut (*out).object);
        if !mnt.is_null() {
            fs::mount(mnt, &raw mut (*out).object);
        }
        path(dentry, out);
    }
}

/// What a dentry names.
///
/// # Safety
/// As for [`Access`]; `out` is writable and zeroed.
#[inline(always)]
pub unsafe fn object<A: Access>(dentry: Ptr, out: *mut FileRef) {
    // SAFETY: the caller's promise; pointers are checked.
    unsafe {
        let inode = A::ptr(dentry, &DENTRY_INODE);
        if !inode.is_null() {
            (*out).ino = A::u64(inode, &INODE_INO);
            let mode: Option<u16> = A::field(inode, &INODE_MODE);
            (*out).mode = match mode {
                Some(mode) => mode as u32,
                None => 0,
            };
            (*out).rdev = A::u32(inode, &INODE_RDEV);
        }
        let superblock = A::ptr(dentry, &DENTRY_SB);
        if superblock.is_null() {
            return;
        }
        (*out).dev = A::u32(superblock, &SB_DEV);
        (*out).fs_magic = A::u64(superblock, &SB_MAGIC) as u32;
        let owner = A::ptr(superblock, &SB_USERNS);
        if !owner.is_null() {
            (*out).fs_owner_inum = A::u32(owner, &USERNS_INUM);
        }
    }
}

/// The path of a dentry within its file system, by component, the last one first.
///
/// # Safety
/// `out` is writable and zeroed.
#[inline(never)]
pub unsafe fn path(dentry: Ptr, out: *mut ActRecord) -> i32 {
    // SAFETY: the caller's promise; Probe takes any address.
    unsafe {
        let name = (&raw mut (*out).name).cast::<u8>();
        let mut at = dentry;
        let mut used: usize = 0;
        for _ in 0..PATH_COMPONENTS {
            if used > ACT_NAME_LEN - COMPONENT_LEN {
                break;
            }
            let text = Probe::ptr(at, &DENTRY_NAME);
            let copied = bpf_probe_read_kernel_str(
                name.wrapping_add(used).cast(),
                COMPONENT_LEN as u32,
                text.cast(),
            );
            if copied <= 0 || copied > COMPONENT_LEN as i64 {
                break;
            }
            used += copied as usize;
            let parent = Probe::ptr(at, &DENTRY_PARENT);
            if parent.is_null() || parent == at {
                break;
            }
            at = parent;
        }
        (*out).name_len = used as u32;
        0
    }
}
