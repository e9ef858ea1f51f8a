//! Unix sockets: who connects and sends to whom.
//!
//! A socket that is bound to a path keeps the mount through which it was bound, and so the mount namespace of who bound
//! it. A listening one keeps the process that called listen, and each end of a connection that of the other end.

use super::act::Deed;
use super::syscall;
use crate::capture;
use crate::emit;
use crate::kernel::current;
use crate::kernel::globals::{
    FILE_INODE, FILE_PRIVATE, HOST_MNT, INODE_MODE, MNT_INUM, MOUNT_NS, SOCK_FAMILY, SOCK_PEER_PID,
    SOCKET_SK, UNIX_ADDR, UNIX_ADDR_LEN, UNIX_ADDR_NAME, UNIX_DENTRY, UNIX_MNT, UNIX_PEER, has,
};
use crate::kernel::{Access, Probe, Ptr};
use crate::maps::SENT;
use crate::marks;
use auditor_common::hook;
use auditor_common::record::{ActRecord, act};
use aya_ebpf::helpers::bpf_ktime_get_boot_ns;
use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use aya_ebpf::macros::tracepoint;
use aya_ebpf::programs::TracePointContext;

/// `AF_UNIX`.
const AF_UNIX: u16 = 1;
/// Type bits of an inode's mode, and those of a socket.
const TYPE: u16 = 0xf000;
const SOCKET: u16 = 0xc000;
/// Bytes before a socket's name in its address: the family.
const FAMILY_LEN: u32 = 2;
/// Names are at most 108 bytes.
const NAME_MASK: u32 = 127;
/// For how long one process's further messages to one socket say nothing new.
const AGAIN_NS: u64 = 1_000_000_000;

/// Whether a socket is of the running task's own compartment, as far as that is cheap to tell.
#[inline(always)]
fn is_own(sk: Ptr, listener: Ptr) -> bool {
    // SAFETY: Probe takes any address.
    unsafe {
        let mnt = Probe::ptr(sk, &UNIX_MNT);
        if !mnt.is_null()
            && let Some(mount) = capture::mount_around(mnt)
        {
            let bound = Probe::ptr(mount, &MOUNT_NS);
            return HOST_MNT.load() != 0
                && bound == capture::mount_namespace(current::untyped())
                && Probe::u32(bound, &MNT_INUM) != HOST_MNT.load();
        }
        capture::lives_with_current(listener) && marks::has(capture::number_in(listener, Some(0)))
    }
}

/// How a socket is called, its file, and who listens.
#[inline(always)]
unsafe fn describe(sk: Ptr, listener: Ptr, out: *mut ActRecord) {
    // SAFETY: the caller's record is writable and zeroed; Probe takes any address.
    unsafe {
        if !listener.is_null() {
            let tgid = capture::number_in(listener, Some(0));
            (*out).target.tid = tgid;
            (*out).target.tgid = tgid;
        }
        let dentry = Probe::ptr(sk, &UNIX_DENTRY);
        if !dentry.is_null() {
            capture::object::<Probe>(dentry, &raw mut (*out).object);
            let mnt = Probe::ptr(sk, &UNIX_MNT);
            if !mnt.is_null() {
                capture::mount(mnt, &raw mut (*out).object);
            }
        }
        let address = Probe::ptr(sk, &UNIX_ADDR);
        if address.is_null() || !has(&UNIX_ADDR_NAME) {
            return;
        }
        let len = Probe::u32(address, &UNIX_ADDR_LEN);
        if len <= FAMILY_LEN {
            return;
        }
        // Volatile, so that the bound stays where the verifier sees it.
        let len = core::ptr::read_volatile(&raw const len).wrapping_sub(FAMILY_LEN) & NAME_MASK;
        let text = address.wrapping_add(UNIX_ADDR_NAME.load() as usize + FAMILY_LEN as usize);
        let name = (&raw mut (*out).name).cast::<u8>();
        if bpf_probe_read_kernel(name.cast(), len, text.cast()) == 0 {
            (*out).name_len = len;
        }
    }
}

#[inline(always)]
fn tell(hook: u16, act: u32, sk: Ptr, listener: Ptr) {
    if sk.is_null() || is_own(sk, listener) {
        emit::filter(hook);
        return;
    }
    let Some(mut deed) = Deed::begin(hook, act) else {
        return;
    };
    // SAFETY: the reservation is writable and zeroed.
    unsafe { describe(sk, listener, deed.record()) };
    deed.end();
}

security_hook! {
    /// A connection to a listening unix socket is about to be made.
    unix_connect, lsm_connect: "security_unix_stream_connect", "unix_stream_connect", |ctx| {
        let listening: Ptr = ctx.arg(1);
        if !marks::is_current::<LATE>() || current::is_own() {
            emit::filter(hook::UNIX_CONNECT);
            return 0;
        }
        // SAFETY: Probe takes any address.
        let listener = unsafe { Probe::ptr(listening, &SOCK_PEER_PID) };
        tell(hook::UNIX_CONNECT, act::CONNECT, listening, listener);
    }
}

security_hook! {
    /// A message to a unix datagram socket is about to be sent, or it is connected to.
    unix_send, lsm_send: "security_unix_may_send", "unix_may_send", |ctx| {
        let socket: Ptr = ctx.arg(1);
        if !marks::is_current::<LATE>() || current::is_own() || socket.is_null() {
            emit::filter(hook::UNIX_SEND);
            return 0;
        }
        // SAFETY: Probe takes any address; the helper has no preconditions.
        let (sk, now) = unsafe { (Probe::ptr(socket, &SOCKET_SK), bpf_ktime_get_boot_ns()) };
        let key = [current::pid_tgid() >> 32, sk as u64];
        // SAFETY: copied at once.
        let last = unsafe { SENT.get(key).copied() };
        if let Some(last) = last
            && now.wrapping_sub(last) < AGAIN_NS
        {
            emit::filter(hook::UNIX_SEND);
            return 0;
        }
        let _kept = SENT.insert(key, now, 0);
        // Whoever bound it left no process in it.
        tell(hook::UNIX_SEND, act::SEND, sk, core::ptr::null());
    }
}

/// A connect begins: its descriptor is only told here.
#[tracepoint]
pub fn enter_connect(ctx: TracePointContext) -> i32 {
    emit::filter(hook::ENTER_CONNECT);
    syscall::keep(&ctx);
    0
}

/// A marked task has connected a socket.
#[inline(always)]
pub fn connected(hook: u16, file: Ptr) {
    let (sk, family) = behind(file);
    if sk.is_null() || family != AF_UNIX {
        emit::filter(hook);
        return;
    }
    // SAFETY: Probe takes any address.
    unsafe {
        // The other end has the listener's name, and this end the listener's process.
        let listener = Probe::ptr(sk, &SOCK_PEER_PID);
        let other = Probe::ptr(sk, &UNIX_PEER);
        tell(hook, act::CONNECT, other, listener);
    }
}

/// The socket behind a file, and its family; null and 0 where there is none.
#[inline(always)]
pub fn behind(file: Ptr) -> (Ptr, u16) {
    const NONE: (Ptr, u16) = (core::ptr::null(), 0);
    // SAFETY: Probe takes any address.
    unsafe {
        if file.is_null() {
            return NONE;
        }
        let inode = Probe::ptr(file, &FILE_INODE);
        let mode: Option<u16> = Probe::field(inode, &INODE_MODE);
        if inode.is_null() || mode.is_none_or(|mode| mode & TYPE != SOCKET) {
            return NONE;
        }
        let socket = Probe::ptr(file, &FILE_PRIVATE);
        if socket.is_null() {
            return NONE;
        }
        let sk = Probe::ptr(socket, &SOCKET_SK);
        if sk.is_null() {
            return NONE;
        }
        let family: Option<u16> = Probe::field(sk, &SOCK_FAMILY);
        match family {
            Some(family) => (sk, family),
            None => NONE,
        }
    }
}
