//! What a `syscalls:sys_exit_*` tracepoint says: its fixed format is the same on every kernel and machine.

use crate::kernel::current;
use aya_ebpf::EbpfContext;
use aya_ebpf::programs::TracePointContext;

/// Place of the return value in the event's format.
const RESULT: usize = 16;

/// Whether the syscall succeeded, and was not the agent's own.
#[inline(always)]
pub fn succeeded(ctx: &TracePointContext) -> bool {
    result(ctx) >= 0 && !current::is_own()
}

/// What the syscall returned.
#[inline(always)]
pub fn result(ctx: &TracePointContext) -> i64 {
    // SAFETY: within the event.
    unsafe { core::ptr::read_volatile(ctx.as_ptr().cast::<u8>().add(RESULT).cast::<i64>()) }
}
