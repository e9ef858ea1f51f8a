//! Switches to other namespaces. Joined or fresh follows from the operation, never from a number: the fresh
//! nsproxy of an unshare is remembered until the switch to it.

use super::record::{Event, write_current};
use crate::capture;
use crate::emit::{Urgency, lose};
use crate::kernel::current::{self, on_current};
use crate::kernel::{Access, Direct, Probe, Ptr};
use crate::maps::{UNSHARING, Unsharing};
use auditor_common::hook;
use auditor_common::record::cause;
use aya_ebpf::EbpfContext;
use aya_ebpf::macros::{fexit, tracepoint};
use aya_ebpf::programs::{FExitContext, TracePointContext};

use super::syscall;

/// Fresh namespaces were made for the running task; the switch to them follows.
#[fexit(function = "unshare_nsproxy_namespaces")]
pub fn unshare_nsproxy(ctx: FExitContext) -> i32 {
    let flags: u64 = ctx.arg(0);
    // The return value stands behind the four arguments; the helper for it needs 5.17.
    let result: i32 = ctx.arg(4);
    if result != 0 {
        return 0;
    }
    // SAFETY: Probe takes any address. The verifier lets nobody load an argument that points to a pointer before
    // 7.0, but the arguments lie in memory.
    let nsproxy = unsafe {
        let made: Option<*const u64> = Probe::read(ctx.as_ptr().cast::<*const u64>().wrapping_add(1));
        match made {
            Some(made) => Probe::read(made),
            None => None,
        }
    };
    let Some(nsproxy) = nsproxy else {
        return 0;
    };
    // Without namespace flags nothing is made, and the out parameter keeps its null.
    if nsproxy == 0 {
        return 0;
    }
    if UNSHARING.insert(&current::pid_tgid(), &Unsharing { nsproxy, flags }, 0).is_err() {
        lose(hook::UNSHARE_NSPROXY);
    }
    0
}

/// The running task switched.
#[fexit(function = "switch_task_namespaces")]
pub fn switch_ns(ctx: FExitContext) -> i32 {
    let task: Ptr = ctx.arg(0);
    let new: Ptr = ctx.arg(1);
    // SAFETY: the function's first argument is typed and never null.
    unsafe {
        if new.is_null() || capture::is_exiting::<Direct>(task) || current::is_own() {
            return 0;
        }
        let mut event = Event::new(hook::SWITCH_NS, cause::SETNS, Urgency::Immediate);
        let id = current::pid_tgid();
        if let Some(unsharing) = UNSHARING.get(&id) {
            if unsharing.nsproxy == new as u64 {
                event.cause = cause::UNSHARE;
                event.arg0 = unsharing.flags;
            }
            let _absent = UNSHARING.remove(&id);
        }
        write_current::<Direct>(task, &event);
    }
    0
}

/// setns succeeded.
#[tracepoint]
pub fn exit_setns(ctx: TracePointContext) -> i32 {
    if syscall::succeeded(&ctx) {
        let event = Event::new(hook::EXIT_SETNS, cause::SETNS, Urgency::Immediate);
        // SAFETY: current is typed where Direct needs it.
        unsafe { on_current!(write_current, &event) }
    }
    0
}

/// unshare succeeded. Its flags are not in an exit event.
#[tracepoint]
pub fn exit_unshare(ctx: TracePointContext) -> i32 {
    if syscall::succeeded(&ctx) {
        let event = Event::new(hook::EXIT_UNSHARE, cause::UNSHARE, Urgency::Immediate);
        // SAFETY: current is typed where Direct needs it.
        unsafe { on_current!(write_current, &event) }
    }
    0
}
