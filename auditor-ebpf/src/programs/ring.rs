//! What containers have `io_uring` do, where no trampoline sees it: nobody makes a system call for it.

use super::{file, socket};
use crate::emit;
use crate::kernel::globals::{RING_FILE, RING_OPCODE, RING_RESULT};
use crate::kernel::{Access, Probe, Ptr, current};
use crate::marks;
use auditor_common::hook;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;

/// `IORING_OP_CONNECT`, `IORING_OP_OPENAT` and `IORING_OP_OPENAT2` (`include/uapi/linux/io_uring.h`).
const CONNECT: u8 = 16;
const OPENAT: u8 = 18;
const OPENAT2: u8 = 28;

/// A request is done: in a task of the process that made it, or in a worker with its files.
#[btf_tracepoint(function = "io_uring_complete")]
pub fn ring_complete(ctx: BtfTracePointContext) -> i32 {
    // Without a type in all kernels that have it here.
    let request: Ptr = ctx.arg(1);
    if request.is_null() || !marks::has_current() || current::is_own() {
        return 0;
    }
    // SAFETY: Probe takes any address.
    unsafe {
        let opcode: u8 = Probe::field(request, &RING_OPCODE).unwrap_or_default();
        let result = Probe::u32(request, &RING_RESULT) as i32;
        match opcode {
            OPENAT | OPENAT2 if result >= 0 => file::opened(hook::RING_COMPLETE, result as u64),
            CONNECT if result == 0 => {
                socket::connected(hook::RING_COMPLETE, Probe::ptr(request, &RING_FILE));
            }
            _ => emit::filter(hook::RING_COMPLETE),
        }
    }
    0
}
