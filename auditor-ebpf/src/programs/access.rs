//! Tasks that reach into other tasks: trace them, read them, take from them, change their limits or their scheduling.
//!
//! Where trampolines work, one function of the kernel sees all asking for access, with its answer. Elsewhere the syscalls
//! tell: what they ask for when they begin, what came of it when they end.

use super::act::Deed;
use super::syscall;
use crate::capture;
use crate::emit;
use crate::kernel::current;
use crate::kernel::globals::{
    NR_IOPRIO_SET, NR_KCMP, NR_MADVISE, NR_MIGRATE_PAGES, NR_MOVE_PAGES, NR_PIDFD_GETFD,
    NR_PRLIMIT, NR_PTRACE, NR_SETPRIORITY, NR_VM_READV, NR_VM_WRITEV, TASK_TGID, TASK_TID,
};
use crate::kernel::{Access, Direct, Ptr};
use crate::maps::{BESIDE, Entered};
use crate::marks;
use auditor_common::hook;
use auditor_common::record::act;
use aya_ebpf::macros::{fentry, fexit, lsm, tracepoint};
use aya_ebpf::programs::{FEntryContext, FExitContext, LsmContext, TracePointContext};

/// Bits of the mode that access is asked for with (`include/linux/ptrace.h`).
pub mod mode {
    pub const READ: u64 = 0x1;
    pub const ATTACH: u64 = 0x2;
    /// Asked on behalf of what shows addresses, or not: `ps` reading `/proc/PID/stat`.
    pub const NO_AUDIT: u64 = 0x4;
}

/// Requests of ptrace that begin to trace somebody (`include/uapi/linux/ptrace.h`).
const PTRACE_ATTACH: u64 = 16;
const PTRACE_SEIZE: u64 = 0x4206;

/// One process, not a group or a user's: of setpriority (`include/uapi/linux/resource.h`) and ioprio_set
/// (`include/uapi/linux/ioprio.h`).
const PRIO_PROCESS: u32 = 0;
const IOPRIO_WHO_PROCESS: u32 = 1;

const EPERM: i64 = -1;
const EACCES: i64 = -13;
const EFAULT: i64 = -14;

/// Whether what the running task does to another can matter: it may be a container's, and the other is neither its own
/// process nor one that lives with it.
///
/// # Safety
/// As for [`Access`]; `task` is not null.
#[inline(always)]
pub unsafe fn matters<A: Access>(task: Ptr) -> bool {
    if !marks::is_current_anywhere() || current::is_own() {
        return false;
    }
    // SAFETY: the caller's promise; Probe takes any address.
    unsafe {
        if A::u32(task, &TASK_TGID) == (current::pid_tgid() >> 32) as u32 {
            return false;
        }
        let lives_with = marks::has(A::u32(task, &TASK_TID))
            && capture::lives_with_current(capture::pid_of_task(task))
            && capture::mount_namespace(task) == capture::mount_namespace(current::untyped());
        !lives_with
    }
}

/// Tells of an act on another task.
///
/// # Safety
/// As for [`matters`].
#[inline(always)]
pub unsafe fn tell<A: Access>(hook: u16, act: u32, task: Ptr, mode: u64, result: i32) {
    let Some(mut deed) = Deed::begin(hook, act) else {
        return;
    };
    let record = deed.record();
    // SAFETY: the caller's promise; the reservation is writable.
    unsafe {
        capture::key::<A>(task, &raw mut (*record).target);
        (*record).arg0 = mode;
        (*record).result = result;
    }
    deed.end();
}

/// A task asked for something that it may or may not do to another.
///
/// # Safety
/// `task` is typed and not null.
#[inline(always)]
unsafe fn asked(hook: u16, act: u32, task: Ptr, mode: u64, result: i32) {
    // SAFETY: the caller's promise.
    unsafe {
        if mode & mode::NO_AUDIT != 0 || !matters::<Direct>(task) {
            emit::filter(hook);
            return;
        }
        tell::<Direct>(hook, act, task, mode, result);
    }
}

/// Whether another program tells of what was allowed, and this was.
#[inline(always)]
fn is_told_beside(hook: u16, result: i32) -> bool {
    result == 0 && BESIDE.has(u32::from(hook))
}

/// The kernel has decided whether a task may have access to another.
#[fexit(function = "__ptrace_may_access")]
pub fn ptrace_access(ctx: FExitContext) -> i32 {
    let task: Ptr = ctx.arg(0);
    let mode: u32 = ctx.arg(1);
    // The return value stands behind the two arguments; the helper for it needs 5.17.
    let result: i32 = ctx.arg(2);
    if !is_told_beside(hook::PTRACE_ACCESS, result) {
        // SAFETY: the function's first argument is typed and never null.
        unsafe {
            asked(
                hook::PTRACE_ACCESS,
                act::ACCESS,
                task,
                u64::from(mode),
                result,
            );
        }
    }
    0
}

/// All others allow a task to have access to another.
#[lsm(hook = "ptrace_access_check")]
pub fn lsm_ptrace(ctx: LsmContext) -> i32 {
    let task: Ptr = ctx.arg(0);
    let mode: u32 = ctx.arg(1);
    // SAFETY: the hook's first argument is typed and never null.
    unsafe {
        asked(hook::PTRACE_ACCESS, act::ACCESS, task, u64::from(mode), 0);
    }
    0
}

/// A task's limits are about to be read or changed; it was found to be allowed.
#[fentry(function = "do_prlimit")]
pub fn task_prlimit(ctx: FEntryContext) -> i32 {
    let task: Ptr = ctx.arg(0);
    let new: u64 = ctx.arg(2);
    // SAFETY: the function's first argument is typed and never null.
    unsafe {
        if new == 0 || !matters::<Direct>(task) {
            emit::filter(hook::TASK_PRLIMIT);
            return 0;
        }
        tell::<Direct>(hook::TASK_PRLIMIT, act::CONTROL, task, 0, 0);
    }
    0
}

/// The kernel has decided whether a task's scheduling may be changed by somebody of the same user, or who is privileged.
#[fexit(function = "security_task_setscheduler")]
pub fn task_setsched(ctx: FExitContext) -> i32 {
    let task: Ptr = ctx.arg(0);
    let result: i32 = ctx.arg(1);
    if !is_told_beside(hook::TASK_SETSCHED, result) {
        // SAFETY: the function's first argument is typed and never null.
        unsafe {
            asked(hook::TASK_SETSCHED, act::CONTROL, task, 0, result);
        }
    }
    0
}

/// As [`task_setsched`], for a task's nice value. Who is neither of the same user nor privileged was refused before.
#[fexit(function = "security_task_setnice")]
pub fn task_setnice(ctx: FExitContext) -> i32 {
    // SAFETY: the function's first argument is typed and never null.
    unsafe {
        asked(hook::TASK_SETNICE, act::CONTROL, ctx.arg(0), 0, ctx.arg(2));
    }
    0
}

/// As [`task_setnice`], for a task's priority in input and output.
#[fexit(function = "security_task_setioprio")]
pub fn task_setioprio(ctx: FExitContext) -> i32 {
    // SAFETY: the function's first argument is typed and never null.
    unsafe {
        asked(
            hook::TASK_SETIOPRIO,
            act::CONTROL,
            ctx.arg(0),
            0,
            ctx.arg(2),
        );
    }
    0
}

/// All others allow a task's scheduling to be changed.
#[lsm(hook = "task_setscheduler")]
pub fn lsm_setsched(ctx: LsmContext) -> i32 {
    let task: Ptr = ctx.arg(0);
    // SAFETY: the hook's first argument is typed and never null.
    unsafe {
        asked(hook::TASK_SETSCHED, act::CONTROL, task, 0, 0);
    }
    0
}

/// How a task reaches into another by a syscall.
#[derive(Clone, Copy)]
struct Reach {
    /// What the record says.
    act: u32,
    /// Mode of access.
    mode: u64,
    /// Which argument names the task.
    at: usize,
    /// Whether by a descriptor.
    by_descriptor: bool,
}

/// What a syscall reaches for; `None` where it changes and reads nothing of others.
#[inline(always)]
fn reach(entered: &Entered) -> Option<Reach> {
    let number = entered.number as i32;
    let access = |mode, at, by_descriptor| {
        Some(Reach {
            act: act::ACCESS,
            mode,
            at,
            by_descriptor,
        })
    };
    if number == NR_PTRACE.load() {
        if entered.args[0] != PTRACE_ATTACH && entered.args[0] != PTRACE_SEIZE {
            return None;
        }
        return access(mode::ATTACH, 1, false);
    }
    if number == NR_VM_READV.load() || number == NR_VM_WRITEV.load() {
        return access(mode::ATTACH, 0, false);
    }
    if number == NR_PIDFD_GETFD.load() {
        return access(mode::ATTACH, 0, true);
    }
    if number == NR_MADVISE.load() {
        return access(mode::READ, 0, true);
    }
    if number == NR_KCMP.load() || number == NR_MOVE_PAGES.load() {
        return access(mode::READ, 0, false);
    }
    if number == NR_MIGRATE_PAGES.load() {
        return access(mode::READ, 0, false);
    }
    if number == NR_PRLIMIT.load() && entered.args[2] == 0 {
        return None;
    }
    let one = if number == NR_SETPRIORITY.load() {
        Some(PRIO_PROCESS)
    } else if number == NR_IOPRIO_SET.load() {
        Some(IOPRIO_WHO_PROCESS)
    } else {
        None
    };
    // Groups and users have no single number.
    if one.is_some_and(|one| entered.args[0] as u32 != one) {
        return None;
    }
    Some(Reach {
        act: act::CONTROL,
        mode: 0,
        at: usize::from(one.is_some()),
        by_descriptor: false,
    })
}

/// Whether the number is somebody else's: 0 and its own are the running task's.
#[inline(always)]
fn is_other(number: u64) -> bool {
    let own = capture::pid_of_task(current::untyped());
    number as u32 != 0 && (own.is_null() || number as u32 != capture::number_in(own, None))
}

/// A syscall begins that reaches into another task.
#[tracepoint]
pub fn enter_access(ctx: TracePointContext) -> i32 {
    emit::filter(hook::ENTER_ACCESS);
    syscall::keep(&ctx);
    0
}

/// A marked task's call has ended that may have reached into another task.
#[inline(always)]
pub fn ended(entered: &Entered, result: i64) {
    let Some(reach) = reach(entered) else {
        emit::filter(hook::EXIT_ACCESS);
        return;
    };
    // A bad address is found after access was granted; other errors say that nobody was reached.
    let refused = result == EPERM || result == EACCES;
    if result < 0 && !refused && result != EFAULT {
        emit::filter(hook::EXIT_ACCESS);
        return;
    }
    let result = if refused { result as i32 } else { 0 };
    if entered.number as i32 == NR_KCMP.load() {
        name(&reach, entered.args[1], result);
    }
    let named = if reach.at == 1 {
        entered.args[1]
    } else {
        entered.args[0]
    };
    name(&reach, named, result);
}

/// Tells of a reach for a task by the name that the actor has for it.
#[inline(always)]
fn name(reach: &Reach, named: u64, result: i32) {
    let (number, how) = if reach.by_descriptor {
        let pid = capture::pid_of_descriptor(named);
        if pid.is_null() {
            emit::filter(hook::EXIT_ACCESS);
            return;
        }
        (capture::number_in(pid, Some(0)), 0)
    } else {
        if !is_other(named) {
            emit::filter(hook::EXIT_ACCESS);
            return;
        }
        (named as u32, act::AS_NAMED)
    };
    let Some(mut deed) = Deed::begin(hook::EXIT_ACCESS, reach.act) else {
        return;
    };
    let record = deed.record();
    // SAFETY: the reservation is writable.
    unsafe {
        (*record).target.tid = number;
        if how == 0 {
            (*record).target.tgid = number;
        }
        (*record).arg0 = reach.mode;
        (*record).arg1 = how;
        (*record).result = result;
    }
    deed.end();
}
