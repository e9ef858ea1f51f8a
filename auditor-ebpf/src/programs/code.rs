//! What tasks do to the kernel itself: code for it, ways deep into it, and device nodes.
//!
//! In the trampoline tier the security hooks tell what is asked for and about to be done; in the tracepoint tier the
//! exits of the system calls tell it with their result, and their register arguments are kept from the entries.

use super::act::Deed;
use super::{socket, syscall};
use crate::capture;
use crate::emit;
use crate::kernel::globals::{
    LOADING_KEXEC, LOADING_MODULE, NR_MKNODAT, NR_SENDFILE, NR_SPLICE, READING_KEXEC,
    READING_MODULE,
};
use crate::kernel::{Direct, Ptr, current};
use crate::maps::Entered;
use crate::marks;
use auditor_common::hook;
use auditor_common::record::act;
use aya_ebpf::macros::{fentry, tracepoint};
use aya_ebpf::programs::{FEntryContext, TracePointContext};

/// Families of sockets that reach deep into the kernel (`include/linux/socket.h`), and the netlink protocol of IPsec.
mod family {
    pub const KEY: u32 = 15;
    pub const NETLINK: u32 = 16;
    pub const ALG: u32 = 38;
    pub const NETLINK_XFRM: u32 = 6;
}

/// `S_IFMT` and the two kinds of device nodes.
mod mode {
    pub const TYPE: u32 = 0xf000;
    pub const CHARACTER: u32 = 0x2000;
    pub const BLOCK: u32 = 0x6000;
}

/// What the kernel is to be loaded with: the same for files and for memory, whatever numbers this kernel has for them.
mod what {
    pub const MODULE: u64 = 1;
    pub const KEXEC: u64 = 2;
}

/// Whether nobody needs to look: the host, or the agent itself. `LATE`: see [`marks::is_current`].
#[inline(always)]
fn is_let_go<const LATE: bool>(hook: u16) -> bool {
    let let_go = !marks::is_current::<LATE>() || current::is_own();
    if let_go {
        emit::filter(hook);
    }
    let_go
}

/// Tells of an act that has nothing but numbers.
#[inline(always)]
fn tell(hook: u16, act: u32, arg0: u64, arg1: u64) {
    let Some(mut deed) = Deed::begin(hook, act) else {
        return;
    };
    let record = deed.record();
    // SAFETY: the reservation is writable.
    unsafe {
        (*record).arg0 = arg0;
        (*record).arg1 = arg1;
    }
    deed.end();
}

security_hook! {
    /// bpf(2) is about to be done.
    kernel_bpf, lsm_bpf: "security_bpf", "bpf", |ctx| {
        if !is_let_go::<LATE>(hook::KERNEL_BPF) {
            let command: u32 = ctx.arg(0);
            tell(hook::KERNEL_BPF, act::BPF, u64::from(command), 0);
        }
    }
}

security_hook! {
    /// The kernel reads a file for its own use.
    kernel_read, lsm_read_file: "security_kernel_read_file", "kernel_read_file", |ctx| {
        if is_let_go::<LATE>(hook::KERNEL_READ) {
            return 0;
        }
        let file: Ptr = ctx.arg(0);
        let id: u32 = ctx.arg(1);
        let loaded = if id == READING_MODULE.load() {
            what::MODULE
        } else if id == READING_KEXEC.load() {
            what::KEXEC
        } else {
            return 0;
        };
        let Some(mut deed) = Deed::begin(hook::KERNEL_READ, act::KERNEL_LOAD) else {
            return 0;
        };
        let record = deed.record();
        // SAFETY: the function's argument is typed; the reservation is writable.
        unsafe {
            (*record).arg0 = loaded;
            if !file.is_null() {
                capture::file::<Direct>(file, record);
            }
        }
        deed.end();
    }
}

security_hook! {
    /// The kernel takes data from memory for its own use.
    kernel_load, lsm_load_data: "security_kernel_load_data", "kernel_load_data", |ctx| {
        if is_let_go::<LATE>(hook::KERNEL_LOAD) {
            return 0;
        }
        let id: u32 = ctx.arg(0);
        if id == LOADING_MODULE.load() {
            tell(hook::KERNEL_LOAD, act::KERNEL_LOAD, what::MODULE, 0);
        } else if id == LOADING_KEXEC.load() {
            tell(hook::KERNEL_LOAD, act::KERNEL_LOAD, what::KEXEC, 0);
        }
    }
}

security_hook! {
    /// perf_event_open is asked for. Its arguments differ between kernels, and do not matter.
    perf_open, lsm_perf_open: "security_perf_event_open", "perf_event_open", |_ctx| {
        if !is_let_go::<LATE>(hook::PERF_OPEN) {
            tell(hook::PERF_OPEN, act::PERF, 0, 0);
        }
    }
}

/// A syscall that reaches into the kernel begins.
#[tracepoint]
pub fn enter_kernel(ctx: TracePointContext) -> i32 {
    // It writes nothing itself: the count is its sign of life.
    emit::filter(hook::ENTER_KERNEL);
    syscall::keep(&ctx);
    0
}

/// A marked task's call into the kernel has ended.
#[inline(always)]
pub fn called(entered: &Entered, result: i64) {
    let Some(mut deed) = Deed::begin(hook::EXIT_KERNEL, act::KERNEL_CALL) else {
        return;
    };
    let record = deed.record();
    // SAFETY: the reservation is writable.
    unsafe {
        (*record).arg0 = entered.args[0];
        (*record).arg1 = entered.args[1];
        (*record).syscall = entered.number as i32;
        if result < 0 {
            (*record).result = result as i32;
        }
    }
    deed.end();
}

/// Tells of a socket that reaches deep into the kernel.
#[inline(always)]
fn watch_socket(hook: u16, family: u32, kind: u32, protocol: u32) {
    let deep = match family {
        family::ALG | family::KEY => true,
        family::NETLINK => protocol == family::NETLINK_XFRM,
        _ => false,
    };
    if !deep {
        emit::filter(hook);
        return;
    }
    let arg1 = u64::from(kind) << 32 | u64::from(protocol);
    tell(hook, act::SOCKET, u64::from(family), arg1);
}

security_hook! {
    /// A socket is about to be made, for user space or for the kernel itself.
    socket_create, lsm_socket: "security_socket_create", "socket_create", |ctx| {
        let kernel: i32 = ctx.arg(3);
        if kernel == 0 && !is_let_go::<LATE>(hook::SOCKET_CREATE) {
            let (family, kind, protocol): (u32, u32, u32) = (ctx.arg(0), ctx.arg(1), ctx.arg(2));
            watch_socket(hook::SOCKET_CREATE, family, kind, protocol);
        }
    }
}

/// socket(2), splice(2) or sendfile(2) begins. What is asked for stands in registers.
#[tracepoint]
pub fn enter_socket(ctx: TracePointContext) -> i32 {
    if is_let_go::<false>(hook::ENTER_SOCKET) {
        return 0;
    }
    let argument = |index| syscall::argument(&ctx, index);
    let arguments = [argument(0), argument(1), argument(2)];
    asked_for(syscall::number(&ctx), arguments);
    0
}

/// A marked task asks for a socket, or splices.
#[inline(always)]
pub fn asked_for(number: i32, arguments: [u64; 3]) {
    let argument = |index: usize| arguments[index] as u32;
    let into = if number == NR_SPLICE.load() {
        argument(2)
    } else if number == NR_SENDFILE.load() {
        argument(0)
    } else {
        watch_socket(hook::ENTER_SOCKET, argument(0), argument(1), argument(2));
        return;
    };
    watch_splice(hook::ENTER_SOCKET, capture::file_at(u64::from(into)));
}

/// Tells what is spliced into a socket of the kernel's crypto.
#[inline(always)]
fn watch_splice(hook: u16, into: Ptr) {
    let (_, family) = socket::behind(into);
    if u32::from(family) == family::ALG {
        tell(hook, act::SPLICE, u64::from(family), 0);
    } else {
        emit::filter(hook);
    }
}

/// Something is spliced from a pipe or into one, by whatever call.
#[fentry(function = "do_splice")]
pub fn splice(ctx: FEntryContext) -> i32 {
    if !is_let_go::<false>(hook::SPLICE) {
        watch_splice(hook::SPLICE, ctx.arg(2));
    }
    0
}

/// The pages of a file go into another one without a pipe of the task's: by sendfile, or where a file is copied.
#[fentry(function = "do_splice_direct")]
pub fn splice_direct(ctx: FEntryContext) -> i32 {
    if !is_let_go::<false>(hook::SPLICE_DIRECT) {
        watch_splice(hook::SPLICE_DIRECT, ctx.arg(2));
    }
    0
}

/// Whether a mode is that of a device node.
#[inline(always)]
fn is_device(mode: u32) -> bool {
    matches!(mode & mode::TYPE, mode::CHARACTER | mode::BLOCK)
}

security_hook! {
    /// A node is about to be made, and nothing but the file system itself can refuse it any more.
    inode_mknod, lsm_mknod: "security_inode_mknod", "inode_mknod", |ctx| {
        if is_let_go::<LATE>(hook::INODE_MKNOD) {
            return 0;
        }
        let dentry: Ptr = ctx.arg(1);
        let (mode, device): (u32, u32) = (ctx.arg(2), ctx.arg(3));
        // An unsigned short: only its low half is defined.
        let mode = mode & 0xffff;
        if !is_device(mode) {
            return 0;
        }
        let Some(mut deed) = Deed::begin(hook::INODE_MKNOD, act::MKNOD) else {
            return 0;
        };
        let record = deed.record();
        // SAFETY: the function's argument is typed and never null; the reservation is writable.
        unsafe {
            capture::path(dentry, record);
            (*record).object.mode = mode;
            (*record).object.rdev = device;
        }
        deed.end();
    }
}

/// mknod or mknodat begins.
#[tracepoint]
pub fn enter_mknod(ctx: TracePointContext) -> i32 {
    // It writes nothing itself: the count is its sign of life.
    emit::filter(hook::ENTER_MKNOD);
    syscall::keep(&ctx);
    0
}

/// A marked task's mknod has ended.
#[inline(always)]
pub fn made_node(entered: &Entered, result: i64) {
    // mknodat has a directory before the path.
    let is_at = entered.number as i32 == NR_MKNODAT.load();
    let first = if is_at { 2 } else { 1 };
    let (mode, device) = (entered.args[first] as u32 & 0xffff, entered.args[first + 1]);
    if result < 0 || !is_device(mode) {
        return;
    }
    let Some(mut deed) = Deed::begin(hook::EXIT_MKNOD, act::MKNOD) else {
        return;
    };
    let record = deed.record();
    // SAFETY: the reservation is writable.
    unsafe {
        (*record).object.mode = mode;
        (*record).object.rdev = decode_device(device as u32);
    }
    deed.end();
}

/// A device number as user space passes it (`new_decode_dev`), in the kernel's encoding.
#[inline(always)]
fn decode_device(device: u32) -> u32 {
    let major = (device & 0xf_ff00) >> 8;
    let minor = (device & 0xff) | ((device >> 12) & 0xf_ff00);
    major << 20 | minor
}
