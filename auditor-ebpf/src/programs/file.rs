//! Files that tasks open, receive, execute, map and hold, as far as they can matter.
//!
//! Opens are the most frequent of all that is watched. So the cheap questions come first: a task of the host is let go
//! after one look at the open's flags and one at its mark, and a container's own file after one look at its mount. Of
//! the host's tasks only what they execute counts.

use super::act::Deed;
use super::proc_file;
use crate::capture::{self, Whose};
use crate::emit;
use crate::kernel::current::{self, on_current};
use crate::kernel::globals::{
    BPRM_FILE, FILE_FLAGS, FILE_INODE, FILE_MODE, INODE_MODE, INODE_RDEV, INODE_SB, SB_MAGIC,
};
use crate::kernel::{Access, Direct, Probe, Ptr};
use crate::marks;
use auditor_common::hook;
use auditor_common::record::act;

/// `__FMODE_EXEC`, in `file.f_flags`: user space cannot set it.
const EXEC: u32 = 0x20;
/// `PROT_EXEC`.
const PROT_EXEC: u64 = 4;

/// Type bits of an inode's mode.
mod mode {
    pub const TYPE: u16 = 0xf000;
    pub const CHAR: u16 = 0x2000;
    pub const BLOCK: u16 = 0x6000;
    /// The types of devices have it, and those of what is opened beside them have not.
    pub const DEVICE: u16 = CHAR & BLOCK;
}

/// Whether a file system's files are knobs of the kernel.
#[inline(always)]
fn has_knobs(magic: u32) -> bool {
    matches!(
        magic,
        // proc, sysfs, cgroup, cgroup2, debugfs, tracefs, securityfs, binfmt_misc, bpf.
        0x9fa0
            | 0x6265_6572
            | 0x0027_e0eb
            | 0x6367_7270
            | 0x6462_6720
            | 0x7472_6163
            | 0x7363_6673
            | 0x4249_4e4d
            | 0xcafe_4a11
    )
}

/// Whether a character device is one that every container has: null, zero, full, random, urandom, and terminals.
#[inline(always)]
fn is_plain(device: u32) -> bool {
    match device >> 20 {
        1 => matches!(device & 0xf_ffff, 3 | 5 | 7 | 8 | 9),
        5 => device & 0xf_ffff <= 2,
        136..=143 => true,
        _ => false,
    }
}

/// Whether a file was opened for writing, by its flags: no call changes how afterwards.
#[inline(always)]
const fn writes(flags: u32) -> bool {
    // As `OPEN_FMODE` has it: of O_RDONLY, O_WRONLY, O_RDWR and 3 the middle two.
    (flags + 1) & 2 != 0
}

/// Whether a file on the task's own mounts matters all the same: a device, or a knob that is open for writing.
#[inline(always)]
unsafe fn is_sensitive<A: Access>(file: Ptr, flags: u32) -> bool {
    // SAFETY: the caller's promise; pointers are checked.
    unsafe {
        let inode = A::ptr(file, &FILE_INODE);
        if inode.is_null() {
            return false;
        }
        let mode: u16 = A::field(inode, &INODE_MODE).unwrap_or_default();
        if mode & mode::DEVICE != 0 {
            match mode & mode::TYPE {
                mode::BLOCK => return true,
                mode::CHAR => return !is_plain(A::u32(inode, &INODE_RDEV)),
                _ => {}
            }
        }
        if !writes(flags) {
            return false;
        }
        let superblock = A::ptr(inode, &INODE_SB);
        !superblock.is_null() && has_knobs(A::u32(superblock, &SB_MAGIC))
    }
}

/// Tells of a file. A subprogram of its own would need a typed argument, which old kernels have no way to declare.
#[inline(always)]
unsafe fn tell<A: Access>(file: Ptr, hook: u16, act: u32, protection: Option<u64>) {
    let Some(mut deed) = Deed::begin(hook, act) else {
        return;
    };
    let record = deed.record();
    // SAFETY: the caller's promise; the reservation is zeroed.
    unsafe {
        capture::file::<A>(file, record);
        capture::note_stream(A::ptr(file, &FILE_INODE), &raw mut (*record).object);
        (*record).arg0 = match protection {
            Some(protection) => protection,
            None => u64::from(A::u32(file, &FILE_FLAGS)),
        };
        (*record).arg1 = u64::from(A::u32(file, &FILE_MODE));
        if act == act::RECEIVE {
            on_current!(capture::tracer, &raw mut (*record).target);
        }
    }
    deed.end();
}

/// Whose a file is, seen from the running task. `LATE`: see [`marks::is_current`]; only then `proxy` is looked at.
#[inline(always)]
unsafe fn whose<A: Access, const LATE: bool>(file: Ptr, proxy: Ptr) -> Whose {
    // The file is looked at in each branch, so that nothing has to be kept until they meet again.
    // SAFETY: the caller's promise; current is typed where Direct needs it.
    unsafe {
        match LATE {
            true => capture::whose_by::<Direct>(|| proxy, capture::mount_ns::<A>(file)),
            false => on_current!(capture::whose, capture::mount_ns::<A>(file)),
        }
    }
}

/// What a marked task does with a file; `proxy` is that task's.
#[inline(always)]
unsafe fn watch<A: Access, const LATE: bool>(
    file: Ptr,
    flags: u32,
    proxy: Ptr,
    hook: u16,
    act: u32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let whose = whose::<A, LATE>(file, proxy);
        if whose != Whose::Foreign && !is_sensitive::<A>(file, flags) || current::is_own() {
            emit::filter(hook);
            return;
        }
        tell::<A>(file, hook, act, None);
    }
}

/// What any task executes or maps to execute: told if it is somebody else's. Whether a mount is nobody's any more does
/// not matter here. `LATE`: see [`marks::is_current`]; who is told of must be known, marked or not.
#[inline(always)]
unsafe fn watch_code<A: Access, const LATE: bool>(
    file: Ptr,
    hook: u16,
    act: u32,
    protection: Option<u64>,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let whose = on_current!(capture::whose, capture::mount_ns::<A>(file));
        if whose != Whose::Foreign || current::is_own() {
            emit::filter(hook);
            return;
        }
        if LATE {
            marks::is_current::<LATE>();
        }
        tell::<A>(file, hook, act, protection);
    }
}

security_hook! {
    /// A file is about to be opened, and nothing but the file system itself can refuse it any more.
    file_open, lsm_file_open: "security_file_open", "file_open", |ctx| {
        let file: Ptr = ctx.arg(0);
        // SAFETY: the function's argument is typed and never null.
        unsafe {
            let flags = Direct::u32(file, &FILE_FLAGS);
            if flags & EXEC != 0 {
                watch_code::<Direct, LATE>(file, hook::FILE_OPEN, act::EXEC, None);
            } else if let Some(proxy) = marks::current_and_proxy::<LATE>() {
                watch::<Direct, LATE>(file, flags, proxy, hook::FILE_OPEN, act::OPEN);
            }
        }
    }
}

security_hook! {
    /// A descriptor came from another process.
    file_receive, lsm_receive: "security_file_receive", "file_receive", |ctx| {
        let file: Ptr = ctx.arg(0);
        if let Some(proxy) = marks::current_and_proxy::<LATE>() {
            // SAFETY: the function's argument is typed and never null.
            unsafe {
                let flags = Direct::u32(file, &FILE_FLAGS);
                watch::<Direct, LATE>(file, flags, proxy, hook::FILE_RECEIVE, act::RECEIVE);
            }
        }
    }
}

security_hook! {
    /// A file is mapped.
    mmap_file, lsm_mmap_file: "security_mmap_file", "mmap_file", |ctx| {
        let file: Ptr = ctx.arg(0);
        let protection: u64 = ctx.arg(1);
        if protection & PROT_EXEC != 0 && !file.is_null() {
            // SAFETY: the function's argument is typed, and not null.
            unsafe { watch_code::<Direct, LATE>(file, hook::MMAP_FILE, act::MAP, Some(protection)) }
        }
    }
}

/// A marked task has a descriptor of what it opened.
#[inline(always)]
pub fn opened(hook: u16, descriptor: u64) {
    // SAFETY: Probe takes any address.
    unsafe {
        let file = capture::file_at(descriptor);
        if file.is_null() {
            emit::filter(hook);
        } else {
            proc_file::look(file);
            let flags = Probe::u32(file, &FILE_FLAGS);
            watch::<Probe, false>(file, flags, core::ptr::null(), hook, act::OPEN);
        }
    }
}

/// A program was executed: of a script, its interpreter. `binary` is the running exec's.
///
/// # Safety
/// `binary` is typed and not null.
#[inline(always)]
pub unsafe fn executed(binary: Ptr) {
    // SAFETY: the caller's promise.
    unsafe {
        let file = Direct::ptr(binary, &BPRM_FILE);
        if file.is_null() {
            return;
        }
        let whose = on_current!(capture::whose, capture::mount_ns::<Direct>(file));
        if whose == Whose::Foreign {
            tell::<Direct>(file, hook::SCHED_EXEC, act::EXEC, None);
        }
    }
}
