//! What `syscalls:sys_enter_*` and `syscalls:sys_exit_*` tracepoints say: their fixed format is the same on every kernel
//! and machine. Arguments are register values: what they point to is never read.
//!
//! Where a refusal tells something, the entry has to be seen: a call that a seccomp filter refuses never gets there.

use crate::kernel::{Access, Probe, current};
use crate::maps::{ENTERED, Entered};
use crate::marks;
use aya_ebpf::EbpfContext;
use aya_ebpf::programs::TracePointContext;

/// Place of the syscall's number in both formats.
const NUMBER: usize = 8;
/// Place of the first argument in the format of an entry; each takes eight bytes.
const ARGUMENTS: usize = 16;
/// Place of the return value in the format of an exit.
const RESULT: usize = 16;

/// The syscall's number, at its entry or exit.
#[inline(always)]
pub fn number(ctx: &TracePointContext) -> i32 {
    word(ctx, NUMBER) as i32
}

/// What the syscall returned.
#[inline(always)]
pub fn result(ctx: &TracePointContext) -> i64 {
    word(ctx, RESULT) as i64
}

/// A word of the event.
#[inline(always)]
fn word(ctx: &TracePointContext, at: usize) -> u64 {
    // SAFETY: within the event.
    unsafe { core::ptr::read_volatile(ctx.as_ptr().cast::<u8>().add(at).cast::<u64>()) }
}

/// An argument of the syscall. By a helper: the kernel refuses a program that could read behind the event, and some
/// syscalls have fewer arguments than others.
#[inline(always)]
pub fn argument(ctx: &TracePointContext, index: usize) -> u64 {
    let place = ctx
        .as_ptr()
        .cast::<u8>()
        .wrapping_add(ARGUMENTS + index * 8);
    // SAFETY: Probe takes any address.
    let value: Option<u64> = unsafe { Probe::read(place.cast()) };
    value.unwrap_or_default()
}

/// At an entry: keeps what the running task asks for, if it may be a container's. There is no room for none: the map
/// forgets the oldest.
#[inline(always)]
pub fn keep(ctx: &TracePointContext) {
    if !marks::has_current() || current::is_own() {
        return;
    }
    let entered = Entered {
        number: word(ctx, NUMBER) & 0xffff_ffff,
        args: [
            argument(ctx, 0),
            argument(ctx, 1),
            argument(ctx, 2),
            argument(ctx, 3),
        ],
    };
    let _kept = ENTERED.insert(current::pid_tgid(), entered, 0);
}

/// When a call of the running task ends: what was kept when it began.
#[inline(always)]
pub fn kept(number: u32) -> Option<Entered> {
    let id = current::pid_tgid();
    // SAFETY: copied at once; nobody but this thread writes its entry.
    let entered = unsafe { ENTERED.get(id).copied() }?;
    let _absent = ENTERED.remove(id);
    (entered.number == u64::from(number)).then_some(entered)
}
