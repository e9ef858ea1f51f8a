//! What tasks do to other tasks.

use super::act::Deed;
use crate::capture;
use crate::emit;
use crate::kernel::globals::{SIGINFO_CODE, TASK_TGID};
use crate::kernel::{Access, Direct, Probe, Ptr, current};
use crate::marks;
use auditor_common::hook;
use auditor_common::record::act;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;

/// Kernel values of the tracepoint's second argument that are no address of a siginfo (`SEND_SIG_NOINFO`: from user
/// space without one, `SEND_SIG_PRIV`: from the kernel).
const SEND_SIG_PRIV: u64 = 1;

/// Whether a siginfo says that user space sent the signal: its code is 0 (kill) or less (tgkill, sigqueue).
#[inline(always)]
fn is_from_user(info: u64) -> bool {
    // SAFETY: Probe takes any address.
    let code: Option<i32> = unsafe { Probe::field(info as usize as Ptr, &SIGINFO_CODE) };
    code.is_none_or(|code| code <= 0)
}

/// A signal was made for a task. Only what user space sent counts, and only to another process.
#[btf_tracepoint(function = "signal_generate")]
pub fn signal_generate(ctx: BtfTracePointContext) -> i32 {
    let signal: i32 = ctx.arg(0);
    let info: u64 = ctx.arg(1);
    let task: Ptr = ctx.arg(2);
    let result: i32 = ctx.arg(4);
    // SAFETY: the tracepoint's task is typed and never null.
    unsafe {
        let tgid = Direct::u32(task, &TASK_TGID);
        if !marks::is_current_anywhere()
            || current::is_own()
            || tgid == (current::pid_tgid() >> 32) as u32
        {
            emit::filter(hook::SIGNAL_GENERATE);
            return 0;
        }
        if info == SEND_SIG_PRIV || info > SEND_SIG_PRIV && !is_from_user(info) {
            emit::filter(hook::SIGNAL_GENERATE);
            return 0;
        }
        let Some(mut deed) = Deed::begin(hook::SIGNAL_GENERATE, act::SIGNAL) else {
            return 0;
        };
        let record = deed.record();
        capture::key::<Direct>(task, &raw mut (*record).target);
        (*record).arg0 = signal as u64;
        (*record).arg1 = result as u64;
        deed.end();
    }
    0
}
