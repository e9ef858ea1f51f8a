//! Handles on demand: every open file, and every shared writable mapping, of every task, as one small record each. The
//! agent compares them and tells what tasks of different compartments hold together.
//!
//! Inodes say what a handle is, but for an open file itself, which has no number. Its address stays here: what leaves is
//! a hash of it (SipHash-2-4) with a key that each agent makes anew.

use super::iter::{IterFile, write};
use crate::capture;
use crate::emit;
use crate::kernel::globals::{
    DENTRY_INODE, DENTRY_NAME, DENTRY_SB, FILE_DENTRY, FILE_INODE, FILE_KEY_0, FILE_KEY_1,
    FILE_KEY_2, FILE_KEY_3, FILE_PRIVATE, INODE_INO, INODE_MODE, INODE_RDEV, SB_DEV, SB_MAGIC,
    SK_SOCKET, SOCK_FAMILY, SOCKET_FILE, SOCKET_SK, TASK_TID, UNIX_PEER, VMA_FILE, VMA_FLAGS,
};
use crate::kernel::{Access, Direct, Probe, Ptr};
use crate::maps::SCRATCH_HANDLE;
use crate::marks;
use auditor_common::hook;
use auditor_common::record::{HANDLE_NAME_LEN, HandleRecord, MAPPED, handle_flags, kind};
use aya_ebpf::Global;
use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;

/// `AF_UNIX`.
const AF_UNIX: u16 = 1;
/// Type bits of an inode's mode, and those of a socket.
const TYPE: u32 = 0xf000;
const SOCKET: u32 = 0xc000;
/// `VM_SHARED`: mapped shared, through a file that was opened for writing.
const VM_SHARED: u64 = 8;
/// Pointers from here on are error numbers: the kernel's own mounts have one for their namespace.
const ERROR_POINTERS: u64 = -4095_i64 as u64;

/// Context of an iterator over mappings, fixed by the kernel's interface for iterators.
#[repr(C)]
pub struct IterVma {
    meta: Ptr,
    task: Ptr,
    vma: Ptr,
}

/// Writes one open file.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
pub fn iter_handle(ctx: *const IterFile) -> i32 {
    // SAFETY: the kernel passes its context, whose pointers are typed; task and file are null after the last one.
    unsafe {
        let meta = core::ptr::read_volatile(&raw const (*ctx).meta);
        let task = core::ptr::read_volatile(&raw const (*ctx).task);
        let file = core::ptr::read_volatile(&raw const (*ctx).file);
        if task.is_null() || file.is_null() || capture::is_kthread::<Direct>(task) {
            return 0;
        }
        let Some(record) = begin(hook::ITER_HANDLE, task) else {
            return 0;
        };
        (*record).descriptor = core::ptr::read_volatile(&raw const (*ctx).descriptor);
        // Read by helper, its address is a number, with which the verifier lets one reckon.
        let address: Option<u64> = Probe::read((&raw const (*ctx).file).cast());
        let Some(address) = address else {
            return 0;
        };
        (*record).identity = hash(address);
        describe(file, record);
        if (*record).mode & TYPE == SOCKET {
            (*record).peer_ino = peer(file, record);
        }
        write(meta, record);
    }
    0
}

/// Writes one shared writable mapping.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_vma")]
pub fn iter_vma(ctx: *const IterVma) -> i32 {
    // SAFETY: the kernel passes its context, whose pointers are typed; task and mapping are null after the last one.
    unsafe {
        let meta = core::ptr::read_volatile(&raw const (*ctx).meta);
        let task = core::ptr::read_volatile(&raw const (*ctx).task);
        let vma = core::ptr::read_volatile(&raw const (*ctx).vma);
        if task.is_null() || vma.is_null() || Direct::u64(vma, &VMA_FLAGS) & VM_SHARED == 0 {
            return 0;
        }
        let file = Direct::ptr(vma, &VMA_FILE);
        if file.is_null() {
            return 0;
        }
        let Some(record) = begin(hook::ITER_VMA, task) else {
            return 0;
        };
        (*record).descriptor = MAPPED;
        describe(file, record);
        write(meta, record);
    }
    0
}

/// A record about a task, where iterators build theirs.
#[inline(always)]
unsafe fn begin(hook: u16, task: Ptr) -> Option<*mut HandleRecord> {
    let record = SCRATCH_HANDLE.get_ptr_mut(0)?;
    // SAFETY: the slot is as large as the record, and the caller's task is typed.
    unsafe {
        emit::zero(record);
        let size = size_of::<HandleRecord>();
        emit::header(&raw mut (*record).header, hook, kind::HANDLE, size, 0);
        capture::key::<Direct>(task, &raw mut (*record).task);
        if marks::has(Direct::u32(task, &TASK_TID)) {
            (*record).flags |= handle_flags::MARKED;
        }
    }
    Some(record)
}

/// What a file is, and for marked tasks how it is called.
#[inline(always)]
unsafe fn describe(file: Ptr, out: *mut HandleRecord) {
    // SAFETY: the caller's file is typed, its record writable; pointers are checked.
    unsafe {
        if capture::mount_ns::<Direct>(file).is_some_and(|ns| ns >= ERROR_POINTERS) {
            (*out).flags |= handle_flags::INTERNAL;
        }
        let dentry = Direct::ptr(file, &FILE_DENTRY);
        if dentry.is_null() {
            return;
        }
        let inode = Direct::ptr(dentry, &DENTRY_INODE);
        if !inode.is_null() {
            (*out).ino = Direct::u64(inode, &INODE_INO);
            let mode: Option<u16> = Direct::field(inode, &INODE_MODE);
            (*out).mode = match mode {
                Some(mode) => u32::from(mode),
                None => 0,
            };
            (*out).rdev = Direct::u32(inode, &INODE_RDEV);
        }
        let superblock = Direct::ptr(dentry, &DENTRY_SB);
        if !superblock.is_null() {
            (*out).dev = Direct::u32(superblock, &SB_DEV);
            (*out).fs_magic = Direct::u64(superblock, &SB_MAGIC) as u32;
        }
        if (*out).flags & handle_flags::MARKED != 0 {
            let text = Probe::ptr(dentry, &DENTRY_NAME);
            bpf_probe_read_kernel_str(
                (&raw mut (*out).name).cast(),
                HANDLE_NAME_LEN as u32,
                text.cast(),
            );
        }
    }
}

/// Inode number of the socket at the other end of a unix connection; 0 where there is none, or nobody has accepted it.
#[inline(always)]
unsafe fn peer(file: Ptr, out: *mut HandleRecord) -> u64 {
    // SAFETY: Probe takes any address; the caller's record is writable.
    unsafe {
        let socket = Probe::ptr(file, &FILE_PRIVATE);
        if socket.is_null() {
            return 0;
        }
        let sk = Probe::ptr(socket, &SOCKET_SK);
        let family: Option<u16> = Probe::field(sk, &SOCK_FAMILY);
        if sk.is_null() || family.is_none_or(|family| family != AF_UNIX) {
            return 0;
        }
        (*out).flags |= handle_flags::UNIX;
        let other = Probe::ptr(sk, &UNIX_PEER);
        if other.is_null() {
            return 0;
        }
        let socket = Probe::ptr(other, &SK_SOCKET);
        if socket.is_null() {
            return 0;
        }
        let file = Probe::ptr(socket, &SOCKET_FILE);
        if file.is_null() {
            return 0;
        }
        let inode = Probe::ptr(file, &FILE_INODE);
        if inode.is_null() {
            return 0;
        }
        Probe::u64(inode, &INODE_INO)
    }
}

/// State of SipHash.
struct Sip([u64; 4]);

impl Sip {
    #[inline(always)]
    fn round(&mut self) {
        let [mut a, mut b, mut c, mut d] = self.0;
        a = a.wrapping_add(b);
        b = b.rotate_left(13) ^ a;
        a = a.rotate_left(32);
        c = c.wrapping_add(d);
        d = d.rotate_left(16) ^ c;
        a = a.wrapping_add(d);
        d = d.rotate_left(21) ^ a;
        c = c.wrapping_add(b);
        b = b.rotate_left(17) ^ c;
        c = c.rotate_left(32);
        self.0 = [a, b, c, d];
    }

    #[inline(always)]
    fn take(&mut self, word: u64) {
        self.0[3] ^= word;
        self.round();
        self.round();
        self.0[0] ^= word;
    }
}

/// SipHash-2-4 of eight bytes.
#[inline(always)]
fn hash(word: u64) -> u64 {
    let key = |low: &Global<u32>, high: &Global<u32>| {
        u64::from(high.load()) << 32 | u64::from(low.load())
    };
    let (k0, k1) = (key(&FILE_KEY_0, &FILE_KEY_1), key(&FILE_KEY_2, &FILE_KEY_3));
    let mut sip = Sip([
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ]);
    sip.take(word);
    sip.take(8 << 56);
    sip.0[2] ^= 0xff;
    for _ in 0..4 {
        sip.round();
    }
    sip.0[0] ^ sip.0[1] ^ sip.0[2] ^ sip.0[3]
}
