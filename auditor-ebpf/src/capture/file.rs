//! A file as a task reached it: its inode, the mount, the path within its file system.
//!
//! The path goes up dentry by dentry and stops at the root of the file system: `bpf_d_path` may only be called from a
//! few functions. Names are copied from the kernel's own dentries, never from user memory.

use super::fs;
use crate::kernel::current::on_current;
use crate::kernel::globals::{
    DENTRY_INODE, DENTRY_NAME, DENTRY_PARENT, DENTRY_SB, FDT_FD, FDT_MAX, FILE_DENTRY, FILE_INODE,
    FILE_MNT, FILES_FDT, INODE_INO, INODE_MODE, INODE_RDEV, MOUNT_NS, NSPROXY_MNT, SB_DEV,
    SB_MAGIC, SB_USERNS, TASK_FILES, TASK_NSPROXY, USERNS_INUM,
};
use crate::kernel::{Access, Probe, Ptr};
use auditor_common::limits::{ACT_NAME_LEN, PATH_COMPONENTS};
use auditor_common::record::{ActRecord, FileRef, path_flags};
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
                Some(mode) => u32::from(mode),
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

/// Whose mount a file lies on, seen from a task.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// A mount of the task's own mount namespace, or one that no namespace ever has: pipes, sockets, memory files.
    Own,
    /// A mount that has left its namespace, or is not in one yet.
    Nobodys,
    /// A mount of another mount namespace, or it cannot be told.
    Foreign,
}

/// Address of the mount namespace that a file's mount belongs to; 0: of none. `None` where it cannot be told.
///
/// # Safety
/// As for [`Access`].
#[inline(always)]
pub unsafe fn mount_ns<A: Access>(file: Ptr) -> Option<u64> {
    // SAFETY: the caller's promise; Probe takes any address.
    unsafe {
        let mnt = A::ptr(file, &FILE_MNT);
        let mount = fs::mount_around(mnt)?;
        if mnt.is_null() {
            return Some(0);
        }
        Probe::field(mount, &MOUNT_NS)
    }
}

/// Compares a file's mount namespace with a task's.
///
/// # Safety
/// As for [`Access`].
#[inline(always)]
pub unsafe fn whose<A: Access>(task: Ptr, namespace: Option<u64>) -> Whose {
    // SAFETY: the caller's promise.
    unsafe { whose_by::<A>(|| A::ptr(task, &TASK_NSPROXY), namespace) }
}

/// As [`whose`], by the task's nsproxy, which may be null.
///
/// # Safety
/// As for [`Access`].
#[inline(always)]
pub unsafe fn whose_by<A: Access>(proxy: impl FnOnce() -> Ptr, namespace: Option<u64>) -> Whose {
    let Some(namespace) = namespace else {
        return Whose::Own;
    };
    if namespace == 0 {
        return Whose::Nobodys;
    }
    if namespace >= fs::ERROR_POINTERS {
        return Whose::Own;
    }
    let proxy = proxy();
    // SAFETY: the caller's promise; pointers are checked.
    unsafe {
        if proxy.is_null() || A::ptr(proxy, &NSPROXY_MNT) as u64 == namespace {
            return Whose::Own;
        }
    }
    Whose::Foreign
}

/// The file behind a descriptor of the running task; null where there is none. Untyped: the table's entries are reached by
/// a computed index.
#[inline(always)]
pub fn file_at(descriptor: u64) -> Ptr {
    // SAFETY: the running task, by the access that this kernel allows.
    unsafe { on_current!(entry_of, descriptor) }
}

/// # Safety
/// As for [`Access`].
#[inline(always)]
unsafe fn entry_of<A: Access>(task: Ptr, descriptor: u64) -> Ptr {
    // SAFETY: the caller's promise; pointers are checked, and Probe takes any address.
    unsafe {
        let files = A::ptr(task, &TASK_FILES);
        if files.is_null() {
            return core::ptr::null();
        }
        let table = A::ptr(files, &FILES_FDT);
        if table.is_null() || descriptor >= u64::from(A::u32(table, &FDT_MAX)) {
            return core::ptr::null();
        }
        let entries = A::ptr(table, &FDT_FD);
        if entries.is_null() {
            return core::ptr::null();
        }
        let place = descriptor as usize * size_of::<Ptr>();
        match Probe::read(entries.wrapping_add(place).cast()) {
            Some(file) => file,
            None => core::ptr::null(),
        }
    }
}

/// Notes that a file is one of the running task's standard streams, which whoever started the task gave it: a program
/// that opens `/dev/stdout` opens the same file once more.
///
/// # Safety
/// `out` is writable.
#[inline(always)]
pub unsafe fn note_stream(inode: Ptr, out: *mut FileRef) {
    if inode.is_null() {
        return;
    }
    for descriptor in 0..3 {
        // SAFETY: the caller's promise; Probe takes any address.
        unsafe {
            let stream = file_at(descriptor);
            if !stream.is_null() && Probe::ptr(stream, &FILE_INODE) == inode {
                (*out).flags |= path_flags::STREAM;
            }
        }
    }
}
