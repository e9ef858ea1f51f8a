//! Ends of system calls: what sees where the kernel refuses trampolines.
//!
//! One program stands at the end of every call, whichever it is. The kernel's way to it is much shorter than that to a program
//! at the tracepoint of a single call, and those are silent about calls by x86's other tables: the 32-bit one, which every
//! 64-bit program can use too (`int $0x80`), and x32, which some kernels have. Such a call is told in the name of the hook for
//! the native one.
//!
//! But where tasks are interrupted within programs, a task in this one keeps it from all others on its processor, whatever
//! they call. There native calls have programs of their own at their tracepoints, and this one tells of the other calls only.
//!
//! A call that no hook tells of is let go after one look at its number, and nearly all of the host's after one look at the
//! task's mark. When a call ends, the registers still hold its arguments, for a tracer changes them only before the call
//! begins or after this.

use super::record::{Event, write_state};
use super::{access, code, creds, file, fs, mount, socket, syscall};
use crate::capture;
use crate::emit::{self, Urgency};
use crate::kernel::current::{self, on_current};
use crate::kernel::globals::{
    NR_PIDFD_GETFD, REGS_BX, REGS_CX, REGS_DI, REGS_DX, REGS_R10, REGS_SI, TASK_SECCOMP,
    call_at_exit, compat_call, has,
};
use crate::kernel::{Access, Direct, Ptr};
use crate::maps::{AT_EXIT, Entered};
use crate::marks;
use auditor_common::hook;
use auditor_common::limits::{CALL_FOREIGN, COMPAT_HOOK_SHIFT};
use auditor_common::record::cause;
use aya_ebpf::helpers::bpf_probe_read_user;
use aya_ebpf::macros::{btf_tracepoint, tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};

/// `ENOSYS`: the kernel has no such call, or a tracer took it back.
const ENOSYS: i64 = -38;

/// `socketcall` (`arch/x86/entry/syscalls/syscall_32.tbl`), and what it can be asked for (`include/uapi/linux/net.h`).
const SOCKETCALL: u32 = 102;
const SYS_SOCKET: u64 = 1;
const SYS_CONNECT: u64 = 3;

/// Hooks that tell of calls of all tasks, a bit each; the others tell of marked ones only.
const OF_ALL: u64 = 1 << hook::EXIT_SETNS
    | 1 << hook::EXIT_UNSHARE
    | 1 << hook::EXIT_CRED
    | 1 << hook::EXIT_CHROOT
    | 1 << hook::EXIT_PIVOT
    | 1 << hook::EXIT_CHDIR;

#[inline(always)]
const fn is_of_all(hook: u16) -> bool {
    OF_ALL >> hook & 1 == 1
}

/// A system call has ended.
#[btf_tracepoint(function = "sys_exit")]
pub fn exit_calls(ctx: BtfTracePointContext) -> i32 {
    let regs: Ptr = ctx.arg(0);
    let number = current::number::<Direct>(regs) as u32;
    let call = call_at_exit(number);
    if call == 0 {
        return 0;
    }
    let mut hook = u16::from(call & !CALL_FOREIGN);
    let is_marked = marks::has_current();
    if !is_marked && !is_of_all(hook) {
        return 0;
    }
    let mut result: i64 = ctx.arg(1);
    let mut entered = Entered {
        number: u64::from(number),
        args: [0; 4],
    };
    // SAFETY: the tracepoint's registers are typed and never null; current is typed where Direct needs it.
    unsafe {
        let is_foreign = on_current!(current::is_foreign);
        if is_foreign || current::is_x32(number as i32) {
            if !is_marked || !has(&REGS_BX) {
                return 0;
            }
            if is_foreign {
                let registers = [&REGS_BX, &REGS_CX, &REGS_DX, &REGS_SI];
                // Such a call has 32 bits of each, and its result has.
                entered.args =
                    registers.map(|register| u64::from(Direct::u64(regs, register) as u32));
                result = i64::from(result as i32);
            } else {
                let registers = [&REGS_DI, &REGS_SI, &REGS_DX, &REGS_R10];
                entered.args = registers.map(|register| Direct::u64(regs, register));
            }
            hook = translated(number, &mut entered, result);
        } else if !has_arguments(hook, number, &mut entered) {
            emit::filter(hook);
            return 0;
        }
    }
    if hook != 0 && AT_EXIT.has(u32::from(hook)) && !current::is_own() {
        tell(hook, &entered, result);
        // It reaches into a task, and what it gives is as good as opened.
        let is_taken = entered.number as i32 == NR_PIDFD_GETFD.load() && result >= 0;
        if hook == hook::EXIT_ACCESS && is_taken && AT_EXIT.has(u32::from(hook::EXIT_OPEN)) {
            tell_open(result as u64);
        }
    }
    0
}

/// Programs at the tracepoints of single calls, each of which tells in the name of a hook.
macro_rules! at_tracepoints {
    ($($program:ident: $hook:ident,)+) => {$(
        #[doc = concat!("Calls of [`hook::", stringify!($hook), "`] end.")]
        #[tracepoint]
        pub fn $program(ctx: TracePointContext) -> i32 {
            at_tracepoint(&ctx, hook::$hook);
            0
        }
    )+};
}

at_tracepoints! {
    exit_setns: EXIT_SETNS,
    exit_unshare: EXIT_UNSHARE,
    exit_cred: EXIT_CRED,
    exit_chroot: EXIT_CHROOT,
    exit_pivot: EXIT_PIVOT,
    exit_chdir: EXIT_CHDIR,
    exit_access: EXIT_ACCESS,
    exit_connect: EXIT_CONNECT,
    exit_open: EXIT_OPEN,
    exit_mknod: EXIT_MKNOD,
    exit_mount: EXIT_MOUNT,
    exit_kernel: EXIT_KERNEL,
}

/// A native call has ended that a hook may tell of.
#[inline(always)]
fn at_tracepoint(ctx: &TracePointContext, hook: u16) {
    if current::is_own() || !is_of_all(hook) && !marks::has_current() {
        return;
    }
    let number = syscall::number(ctx) as u32;
    let mut entered = Entered {
        number: u64::from(number),
        args: [0; 4],
    };
    if has_arguments(hook, number, &mut entered) {
        tell(hook, &entered, syscall::result(ctx));
    } else {
        emit::filter(hook);
    }
}

/// Whether the arguments of a native call are known, where the hook needs them. Those of a call that a filter has refused
/// are not.
#[inline(always)]
fn has_arguments(hook: u16, number: u32, entered: &mut Entered) -> bool {
    let needs = matches!(
        hook,
        hook::EXIT_ACCESS | hook::EXIT_CONNECT | hook::EXIT_KERNEL | hook::EXIT_MKNOD
    );
    if !needs {
        return true;
    }
    match syscall::kept(number) {
        Some(kept) => *entered = kept,
        None => return false,
    }
    true
}

/// A call by another table becomes the native one; the hook that tells of it, or 0.
#[inline(always)]
fn translated(number: u32, entered: &mut Entered, result: i64) -> u16 {
    if result == ENOSYS || result < 0 && is_filtered() {
        return 0;
    }
    let call = compat_call(number);
    entered.number = i64::from(current::native(call)) as u64;
    // No number of the x32 table is so small.
    if number != SOCKETCALL {
        return (call >> COMPAT_HOOK_SHIFT) as u16;
    }
    let hook = match entered.args[0] {
        SYS_SOCKET => hook::ENTER_SOCKET,
        SYS_CONNECT => hook::EXIT_CONNECT,
        _ => return 0,
    };
    // What lies there only says where to look. Who writes it anew before this hides the call.
    // SAFETY: the helper checks the address.
    let Ok(given) = (unsafe { bpf_probe_read_user(entered.args[1] as usize as *const [u32; 3]) })
    else {
        return 0;
    };
    for (index, value) in given.into_iter().enumerate() {
        entered.args[index] = u64::from(value);
    }
    hook
}

/// Whether a filter may have refused the call: then nobody was asked.
#[inline(always)]
fn is_filtered() -> bool {
    // SAFETY: current is typed where Direct needs it.
    unsafe { on_current!(seccomp_mode) != 0 }
}

#[inline(always)]
unsafe fn seccomp_mode<A: Access>(task: Ptr) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { A::u32(task, &TASK_SECCOMP) }
}

/// Tells of a call in the name of a hook.
#[inline(always)]
fn tell(hook: u16, entered: &Entered, result: i64) {
    match hook {
        hook::EXIT_ACCESS => tell_access(entered, result),
        hook::EXIT_CONNECT => tell_connect(entered, result),
        hook::EXIT_KERNEL => tell_kernel(entered, result),
        hook::EXIT_MKNOD => tell_mknod(entered, result),
        hook::ENTER_SOCKET => tell_socket(entered),
        _ if result >= 0 => succeeded(hook, result),
        _ => 0,
    };
}

/// Tells of a call whose arguments do not matter.
#[inline(always)]
fn succeeded(hook: u16, result: i64) -> u8 {
    let cause = match hook {
        hook::EXIT_OPEN => return tell_open(result as u64),
        hook::EXIT_CHDIR => return tell_chdir(),
        hook::EXIT_CRED => return tell_creds(),
        hook::EXIT_MOUNT => return tell_mount(),
        hook::EXIT_SETNS => cause::SETNS,
        hook::EXIT_UNSHARE => cause::UNSHARE,
        hook::EXIT_CHROOT => cause::CHROOT,
        hook::EXIT_PIVOT => cause::PIVOT_ROOT,
        _ => return 0,
    };
    tell_state(hook, cause)
}

/// Subprograms of their own, here and below, for their stacks.
#[inline(never)]
fn tell_open(descriptor: u64) -> u8 {
    file::opened(hook::EXIT_OPEN, descriptor);
    0
}

#[inline(never)]
fn tell_connect(entered: &Entered, result: i64) -> u8 {
    match result {
        0 => socket::connected(hook::EXIT_CONNECT, capture::file_at(entered.args[0])),
        _ => emit::filter(hook::EXIT_CONNECT),
    }
    0
}

#[inline(never)]
fn tell_access(entered: &Entered, result: i64) -> u8 {
    access::ended(entered, result);
    0
}

#[inline(never)]
fn tell_kernel(entered: &Entered, result: i64) -> u8 {
    code::called(entered, result);
    0
}

#[inline(never)]
fn tell_mknod(entered: &Entered, result: i64) -> u8 {
    code::made_node(entered, result);
    0
}

#[inline(never)]
fn tell_socket(entered: &Entered) -> u8 {
    let [family, kind, protocol, _] = entered.args;
    code::asked_for(entered.number as i32, [family, kind, protocol]);
    0
}

#[inline(never)]
fn tell_mount() -> u8 {
    mount::changed();
    0
}

#[inline(never)]
fn tell_creds() -> u8 {
    creds::may_differ();
    0
}

#[inline(never)]
fn tell_chdir() -> u8 {
    fs::moved();
    0
}

#[inline(never)]
fn tell_state(hook: u16, cause: u32) -> u8 {
    let event = Event::new(hook, cause, Urgency::Immediate);
    // SAFETY: current is typed where Direct needs it.
    unsafe { on_current!(write_state, &event) }
    0
}
