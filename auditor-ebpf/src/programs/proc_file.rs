//! Files of proc by which another process is read: whoever opened one was granted access to it. Where trampolines work, the
//! question for that access is seen itself.

use super::access::{self, mode};
use crate::capture;
use crate::kernel::globals::{DENTRY_NAME, DENTRY_SB, FILE_DENTRY, FILE_INODE, SB_MAGIC, TASK_MM};
use crate::kernel::{Access, Probe, Ptr};
use auditor_common::hook;
use auditor_common::record::act;

/// `PROC_SUPER_MAGIC`.
const PROC: u64 = 0x9fa0;
/// Names, as the word of memory that they begin with; the kernel keeps them in words.
const MEM: u64 = u64::from_ne_bytes(*b"mem\0\0\0\0\0");
const MAPS: u64 = u64::from_ne_bytes(*b"maps\0\0\0\0");
const ENVIRON: u64 = u64::from_ne_bytes(*b"environ\0");
/// What of the word is a name of three or four bytes, its NUL included.
const FOUR: u64 = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
const FIVE: u64 = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0]);

/// The mode of access that an open of a file of this name takes; 0 where it takes none that matters.
#[inline(always)]
fn mode_of(name: u64) -> u64 {
    if name & FOUR == MEM {
        return mode::ATTACH;
    }
    if name & FIVE == MAPS || name == ENVIRON {
        return mode::READ;
    }
    0
}

/// Tells of a file that the running task has opened, if it is one of these and somebody else's.
#[inline(always)]
pub fn look(file: Ptr) {
    // SAFETY: Probe takes any address.
    unsafe {
        let dentry = Probe::ptr(file, &FILE_DENTRY);
        if dentry.is_null() {
            return;
        }
        let superblock = Probe::ptr(dentry, &DENTRY_SB);
        if superblock.is_null() || Probe::u64(superblock, &SB_MAGIC) != PROC {
            return;
        }
        let name: Option<u64> = Probe::read(Probe::ptr(dentry, &DENTRY_NAME).cast());
        let mode = match name {
            Some(name) => mode_of(name),
            None => 0,
        };
        if mode == 0 {
            return;
        }
        let task = capture::task_of_proc_inode(Probe::ptr(file, &FILE_INODE));
        // Who has ended has no memory and no environment any more: then nobody was asked for access.
        if task.is_null() || Probe::ptr(task, &TASK_MM).is_null() {
            return;
        }
        if access::matters::<Probe>(task) {
            access::tell::<Probe>(hook::EXIT_OPEN, act::ACCESS, task, mode, 0);
        }
    }
}
