//! The task that runs the program, and the syscall that it is in.

use super::globals::{
    HELPER_TASK_BTF, HELPER_TASK_REGS, NR_LANDLOCK, NR_SETNS, NR_UNSHARE, OWN_TGID, REGS_ORIG_AX,
    REGS_SIZE, REGS_SYSCALLNO, TASK_STACK, THREAD_SIZE, has,
};
use super::{Access, Direct, Probe, Ptr};
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

/// Number of the syscall that the running task is in; -1: unknown. A witness: outside of syscalls it says
/// something else.
#[inline(always)]
pub fn syscall() -> i32 {
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
/// number changes them, and no setns fails once it began to. A call by another table (32-bit) is not
/// recognised: then the states in between are told as well.
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

#[inline(always)]
fn number<A: Access>(regs: Ptr) -> i32 {
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
