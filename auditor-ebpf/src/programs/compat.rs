//! Calls by the 32-bit table, which every 64-bit program of x86 can make too (`int $0x80`), and by the x32 table, which some
//! kernels have.
//!
//! The tracepoints of single system calls are silent about them. Where those are what sees, this program stands beside them:
//! it tells of such a call in the name of the hook that would have told of the native one. When the call ends, the registers
//! still hold its arguments, for a tracer changes them only before the call begins or after this.
//!
//! It runs at the end of every call of every task: one of the host is let go after one look at its mark, and a container's
//! native call after one look at the task.

use super::record::{Event, write_state};
use super::{access, code, creds, file, fs, mount, socket};
use crate::emit::Urgency;
use crate::kernel::current::{self, on_current};
use crate::kernel::globals::{
    REGS_BX, REGS_CX, REGS_DI, REGS_DX, REGS_ORIG_AX, REGS_R10, REGS_SI, TASK_SECCOMP, compat_call,
};
use crate::kernel::{Access, Direct, Ptr};
use crate::maps::{COMPAT, Entered};
use crate::marks;
use auditor_common::hook;
use auditor_common::limits::COMPAT_HOOK_SHIFT;
use auditor_common::record::cause;
use aya_ebpf::helpers::bpf_probe_read_user;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;

/// `ENOSYS`: the kernel has no such call, or a tracer took it back.
const ENOSYS: i64 = -38;

/// `socketcall` (`arch/x86/entry/syscalls/syscall_32.tbl`), and what it can be asked for (`include/uapi/linux/net.h`).
const SOCKETCALL: u32 = 102;
const SYS_SOCKET: u64 = 1;
const SYS_CONNECT: u64 = 3;

/// A system call has ended.
#[btf_tracepoint(function = "sys_exit")]
pub fn compat_exit(ctx: BtfTracePointContext) -> i32 {
    if !marks::has_current() {
        return 0;
    }
    let regs: Ptr = ctx.arg(0);
    let result: i64 = ctx.arg(1);
    // SAFETY: the tracepoint's registers are typed and never null; current is typed where Direct needs it.
    unsafe {
        let number = Direct::u64(regs, &REGS_ORIG_AX) as u32;
        if on_current!(current::is_foreign) {
            let registers = [&REGS_BX, &REGS_CX, &REGS_DX, &REGS_SI];
            // Such a call has 32 bits of each, and its result has.
            let arguments = registers.map(|register| u64::from(Direct::u64(regs, register) as u32));
            ended(number, &arguments, i64::from(result as i32));
        } else if current::is_x32(number as i32) {
            let registers = [&REGS_DI, &REGS_SI, &REGS_DX, &REGS_R10];
            let arguments = registers.map(|register| Direct::u64(regs, register));
            ended(number, &arguments, result);
        }
    }
    0
}

#[inline(never)]
fn ended(number: u32, arguments: &[u64; 4], result: i64) -> u8 {
    if result == ENOSYS || current::is_own() || result < 0 && is_filtered() {
        return 0;
    }
    let call = compat_call(number);
    let mut entered = Entered {
        number: i64::from(current::native(call)) as u64,
        args: *arguments,
    };
    let mut hook = (call >> COMPAT_HOOK_SHIFT) as u16;
    // No number of the x32 table is so small.
    if number == SOCKETCALL {
        hook = match entered.args[0] {
            SYS_SOCKET => hook::ENTER_SOCKET,
            SYS_CONNECT => hook::EXIT_CONNECT,
            _ => return 0,
        };
        // What lies there only says where to look. Who writes it anew before this hides the call.
        // SAFETY: the helper checks the address.
        match unsafe { bpf_probe_read_user(entered.args[1] as usize as *const [u32; 3]) } {
            Ok(given) => {
                for (index, value) in given.into_iter().enumerate() {
                    entered.args[index] = u64::from(value);
                }
            }
            Err(_) => return 0,
        }
    }
    if hook != 0 && COMPAT.has(u32::from(hook)) {
        tell(hook, &entered, result);
    }
    0
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

/// Tells of a call as the program at its hook does.
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
    match hook {
        hook::EXIT_OPEN => tell_open(result as u64),
        hook::EXIT_SETNS => tell_state(hook, cause::SETNS),
        hook::EXIT_UNSHARE => tell_state(hook, cause::UNSHARE),
        hook::EXIT_CHROOT => tell_state(hook, cause::CHROOT),
        hook::EXIT_PIVOT => tell_state(hook, cause::PIVOT_ROOT),
        hook::EXIT_CHDIR => tell_chdir(),
        hook::EXIT_CRED => tell_creds(),
        hook::EXIT_MOUNT => tell_mount(),
        _ => 0,
    }
}

/// Subprograms of their own, here and below, for their stacks.
#[inline(never)]
fn tell_open(descriptor: u64) -> u8 {
    file::opened(descriptor);
    0
}

#[inline(never)]
fn tell_connect(entered: &Entered, result: i64) -> u8 {
    socket::ended(entered, result);
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
