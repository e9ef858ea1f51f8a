//! Writes of sysctls, with the value: what the open of the file cannot tell.
//!
//! The program runs for every process below the root cgroup and always lets the access pass. It may call few helpers: the
//! running task is reached by its address, not as a typed pointer.

use crate::capture;
use crate::emit::{self, Slot, Urgency};
use crate::kernel::globals::{OWN_TGID, TASK_TGID, TASK_TID};
use crate::kernel::{Access, Probe, current};
use crate::maps::EVENTS;
use crate::marks;
use auditor_common::hook;
use auditor_common::limits::ACT_NAME_LEN;
use auditor_common::record::{ActRecord, act, kind};
use aya_ebpf::helpers::generated::{bpf_sysctl_get_name, bpf_sysctl_get_new_value};
use aya_ebpf::macros::cgroup_sysctl;
use aya_ebpf::programs::SysctlContext;
use core::arch::asm;

/// The verdict that lets the access pass.
const PASS: i32 = 1;
/// Bytes of a name that are kept, its NUL included: a power of two, see [`bounded`].
const NAME_LEN: usize = 128;
/// Bytes of a value that are kept, its NUL included. A longer one is not told by the kernel: then only the name is.
const VALUE_LEN: usize = 128;
const _: () = assert!(NAME_LEN + VALUE_LEN <= ACT_NAME_LEN);

/// A length below [`NAME_LEN`], which it is already. The compiler tests a number that it derived from it, and kernels up to
/// 6.12 do not conclude from that what the length itself can be. A mask that the compiler understood it would leave out.
#[inline(always)]
fn bounded(length: usize) -> usize {
    let mut length = length;
    // SAFETY: arithmetic on one register.
    unsafe {
        asm!("{0} &= {1}", inout(reg) length, const NAME_LEN - 1, options(nomem, nostack, pure));
    }
    length
}

/// A sysctl is read or about to be written.
#[cgroup_sysctl]
pub fn sysctl(ctx: SysctlContext) -> i32 {
    // SAFETY: the kernel's context; Probe takes any address.
    let (writes, tgid, tid) = unsafe {
        let task = current::untyped();
        (
            core::ptr::read_volatile(&raw const (*ctx.sysctl).write) != 0,
            Probe::u32(task, &TASK_TGID),
            Probe::u32(task, &TASK_TID),
        )
    };
    if !writes || !marks::has(tid) || tgid == OWN_TGID.load() {
        emit::filter(hook::SYSCTL);
        return PASS;
    }
    let Some(mut slot) = Slot::<ActRecord>::reserve(&EVENTS, hook::SYSCTL, kind::ACT) else {
        return PASS;
    };
    let record = slot.record();
    // SAFETY: the reservation is writable, and both texts are within its name.
    unsafe {
        (*record).act = act::SYSCTL;
        (*record).syscall = -1;
        capture::key::<Probe>(current::untyped(), &raw mut (*record).actor);
        let text = (&raw mut (*record).name).cast::<u8>();
        let name = bpf_sysctl_get_name(ctx.sysctl, text.cast(), NAME_LEN as u64, 0);
        if name > 0 && name < NAME_LEN as i64 {
            let end = bounded(name as usize) + 1;
            let value = bpf_sysctl_get_new_value(
                ctx.sysctl,
                text.wrapping_add(end).cast(),
                VALUE_LEN as u64,
            );
            let mut used = end - 1;
            if value > 0 && value < VALUE_LEN as i64 {
                used = end + value as usize;
            }
            (*record).name_len = used as u32;
        }
    }
    slot.submit(Urgency::Immediate);
    PASS
}
