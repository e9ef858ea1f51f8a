//! Switches to other namespaces. Joined or fresh follows from the operation, never from a number: the fresh
//! nsproxy of an unshare is remembered until the switch to it.

use super::record::{Event, fill, write_state};
use crate::capture;
use crate::emit::{Slot, Urgency, lose};
use crate::kernel::current;
use crate::kernel::{Access, Direct, Probe, Ptr};
use crate::maps::{UNSHARING, Unsharing};
use auditor_common::hook;
use auditor_common::record::{TaskRecord, cause, kind};
use aya_ebpf::EbpfContext;
use aya_ebpf::macros::fexit;
use aya_ebpf::programs::FExitContext;

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
        let made: Option<*const u64> =
            Probe::read(ctx.as_ptr().cast::<*const u64>().wrapping_add(1));
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
    let unsharing = Unsharing {
        nsproxy,
        flags,
        fs: ctx.arg(3),
        cred: ctx.arg(2),
    };
    if UNSHARING.insert(current::pid_tgid(), unsharing, 0).is_err() {
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
        let id = current::pid_tgid();
        let unsharing = UNSHARING.get(id).copied();
        let _absent = UNSHARING.remove(id);
        match unsharing {
            Some(unsharing) if unsharing.nsproxy == new as u64 => write_unshared(task, &unsharing),
            _ => {
                let event = Event::new(hook::SWITCH_NS, cause::SETNS, Urgency::Immediate);
                write_state::<Direct>(task, &event);
            }
        }
    }
    0
}

/// Writes the state after an unshare, whose directories and credentials follow only after the namespaces.
#[inline(always)]
unsafe fn write_unshared(task: Ptr, unsharing: &Unsharing) {
    let mut event = Event::new(hook::SWITCH_NS, cause::UNSHARE, Urgency::Immediate);
    event.arg0 = unsharing.flags;
    let Some(mut slot) = Slot::<TaskRecord>::reserve(event.ring, event.hook, kind::TASK) else {
        return;
    };
    let record = slot.record();
    // SAFETY: the caller's promise; what was remembered is an address, for Probe.
    unsafe {
        fill::<Direct>(task, record, &event);
        if unsharing.fs != 0 {
            capture::directories::<Probe>(unsharing.fs as usize as Ptr, &raw mut (*record).state);
        }
        if unsharing.cred != 0 {
            capture::creds::<Probe>(unsharing.cred as usize as Ptr, &raw mut (*record).state);
        }
    }
    slot.submit(event.urgency);
}
