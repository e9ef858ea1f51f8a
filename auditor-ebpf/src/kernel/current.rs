//! The task that runs the program, and the syscall that it is in.

use super::globals::{
    HELPER_TASK_BTF, HELPER_TASK_REGS, NR_LANDLOCK, NR_SETNS, NR_UNSHARE, OWN_TGID, REGS_ORIG_AX,
    REGS_SIZE, REGS_SYSCALLNO, TASK_INFO_FLAGS, TASK_INFO_STATUS, TASK_STACK, THREAD_SIZE,
    compat_call, has,
};
use super::{Access, Direct, Probe, Ptr};
use auditor_common::limits::{COMPAT_NONE, X32_BIT};
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{
    bpf_get_current_task, bpf_get_current_task_btf, bpf_task_pt_regs,
};

/// Calls `$function::<A>(current, …)` with the access that this kernel allows.
macro_rules! on_current {
    ($($function:ident)::+ $(, $argument:expr)*) => {
        if $crate::kernel::globals::has(&$crate::kernel::globals::HELPER_TASK_BTF) {
            $($function)::+::<$crate::kernel::Direct>($crate::kernel::current::typed() $(, $argument)*)
        } else {
            $($function)::+::<$crate::kernel::Probe>($crate::kernel::current::untyped() $(, $argument)*)
        }
    };
}
pub(crate) use on_current;

/// The running task as a typed pointer (5.11).
#[inline(always)]
pub fn typed() -> Ptr {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_current_task_btf() }.cast_const().cast()
}

/// The running task as an address.
#[inline(always)]
pub fn untyped() -> Ptr {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_current_task() as usize as Ptr }
}

/// Thread id and thread group id of the running task: the low and the high half.
#[inline(always)]
pub fn pid_tgid() -> u64 {
    bpf_get_current_pid_tgid()
}

/// Whether the running task is the agent.
#[inline(always)]
pub fn is_own() -> bool {
    (pid_tgid() >> 32) as u32 == OWN_TGID.load()
}

/// `TS_COMPAT` (x86): the call is by the 32-bit table.
const TS_COMPAT: u32 = 1 << 1;
/// `_TIF_32BIT` (arm64): the task is a 32-bit one.
const TIF_32BIT: u64 = 1 << 22;

/// Whether a task's call is by another table than the machine's native one. It says so until the call has left the kernel.
///
/// # Safety
/// As for [`Access`].
#[inline(always)]
pub unsafe fn is_foreign<A: Access>(task: Ptr) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        if has(&REGS_SYSCALLNO) {
            return A::u64(task, &TASK_INFO_FLAGS) & TIF_32BIT != 0;
        }
        A::u32(task, &TASK_INFO_STATUS) & TS_COMPAT != 0
    }
}

/// Native number of the syscall that the running task is in; -1: unknown, or the native table has none for it. A witness:
/// outside of syscalls it says something else.
#[inline(always)]
pub fn syscall() -> i32 {
    let number = number_here();
    // SAFETY: current is typed where Direct needs it.
    match is_x32(number) || unsafe { on_current!(is_foreign) } {
        true => translated(number as u32),
        false => number,
    }
}

/// Whether a number is one of the x32 table, where the machine has such numbers.
#[inline(always)]
pub fn is_x32(number: i32) -> bool {
    number > 0 && number as u32 & X32_BIT != 0 && has(&REGS_ORIG_AX)
}

/// A subprogram of its own: nearly all programs need it, and hardly ever.
#[inline(never)]
fn translated(number: u32) -> i32 {
    native(compat_call(number))
}

/// The native number of a translated call; -1: it has none.
#[inline(always)]
pub fn native(call: u32) -> i32 {
    match call & COMPAT_NONE {
        COMPAT_NONE => -1,
        number => number as i32,
    }
}

/// The number by which the running task's call came, by whatever table.
#[inline(always)]
fn number_here() -> i32 {
    if has(&HELPER_TASK_BTF) && has(&HELPER_TASK_REGS) {
        // SAFETY: the helper takes the typed task, and returns its typed registers.
        let regs = unsafe { bpf_task_pt_regs(typed().cast_mut().cast()) } as usize as Ptr;
        return number::<Direct>(regs);
    }
    let size = THREAD_SIZE.load();
    if size == 0 || !has(&REGS_SIZE) {
        return -1;
    }
    // SAFETY: Probe takes any address.
    let stack = unsafe { Probe::ptr(untyped(), &TASK_STACK) };
    if stack.is_null() {
        return -1;
    }
    number::<Probe>(
        stack
            .wrapping_add(size as usize)
            .wrapping_sub(REGS_SIZE.load() as usize),
    )
}

/// Whether the running task is in setns. It changes root, working directory and credentials one by one
/// before the namespaces: states in between are not the state after the fact, which the switch tells as a whole.
///
/// The number cannot lie here. It is what the kernel dispatched on, nothing but setns with this
/// number changes them, and no setns fails once it began to. A call by a table that is not translated (32-bit tasks of
/// arm64) is not recognised: then the states in between are told as well.
#[inline(always)]
pub fn in_setns() -> bool {
    syscall() == NR_SETNS.load()
}

/// Whether the running task is in unshare, by the same argument.
#[inline(always)]
pub fn in_unshare() -> bool {
    syscall() == NR_UNSHARE.load()
}

/// Whether the running task is in landlock_restrict_self, by the same argument.
#[inline(always)]
pub fn in_landlock() -> bool {
    syscall() == NR_LANDLOCK.load()
}

/// The number in a task's registers; -1: unknown.
#[inline(always)]
pub fn number<A: Access>(regs: Ptr) -> i32 {
    if regs.is_null() {
        return -1;
    }
    // SAFETY: not null, and typed where A needs it.
    let number: Option<i64> = unsafe { A::field(regs, &REGS_ORIG_AX) };
    if let Some(number) = number {
        return number as i32;
    }
    // SAFETY: as above.
    let number: Option<i32> = unsafe { A::field(regs, &REGS_SYSCALLNO) };
    number.unwrap_or(-1)
}
