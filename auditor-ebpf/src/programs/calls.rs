//! Which system calls containers make.
//!
//! Attached only where somebody asks for it: the kernel then takes its slow path on every system call of every task. Tasks
//! of the host are let go after one look at their mark. What a group of tasks did before is one look into a map; only a
//! first time is told, and it is a first one until it was told.

use super::act::Deed;
use super::capable::mount_namespace;
use crate::emit;
use crate::kernel::current::{self, on_current};
use crate::kernel::globals::{CRED_USERNS, TASK_CRED, TASK_NSPROXY};
use crate::kernel::{Access, Ptr};
use crate::maps::{CALLS, Calls, RECENT_CALLS, User};
use crate::marks;
use auditor_common::hook;
use auditor_common::limits::{CALL_LIMIT, FOREIGN_CALL};
use auditor_common::record::act;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use core::arch::asm;
use core::mem::MaybeUninit;
use core::ptr::{read_volatile, write_volatile};

/// A task enters a system call that neither its tracer nor a filter has refused.
#[btf_tracepoint(function = "sys_enter")]
pub fn sys_calls(ctx: BtfTracePointContext) -> i32 {
    let (tid, mark) = marks::of_current_or_own();
    if !marks::is_marked(mark) {
        return 0;
    }
    let number: i64 = ctx.arg(1);
    // A tracer that takes a call back leaves this.
    if number < 0 {
        return 0;
    }
    // SAFETY: current is typed where Direct needs it.
    unsafe { on_current!(call, tid, mark, number as u64) }
    0
}

#[inline(always)]
unsafe fn call<A: Access>(task: Ptr, tid: u32, mark: u8, number: u64) {
    // SAFETY: the caller's promise; pointers are checked.
    unsafe {
        let mut number = number;
        if number >= FOREIGN_CALL || current::is_foreign::<A>(task) {
            number = FOREIGN_CALL;
        }
        let proxy = A::ptr(task, &TASK_NSPROXY);
        let cred = A::ptr(task, &TASK_CRED);
        if proxy.is_null() || cred.is_null() {
            return;
        }
        let words = [
            u64::from(tid) << 32 | u64::from(mark) << 16 | number,
            proxy as u64,
            cred as u64,
            0,
        ];
        let place = u64::from(tid) << 6 ^ number;
        let kept = RECENT_CALLS.at(place);
        let is = |word: usize| read_volatile(kept.wrapping_add(word)) == words[word];
        if is(0) && is(1) && is(2) {
            return;
        }
        let user = User {
            nsproxy: proxy as u64,
            mnt: mount_namespace::<A>(proxy),
            user_ns: A::ptr(cred, &CRED_USERNS) as u64,
            mark: u64::from(mark),
        };
        if is_told(&user, number) != 0 {
            for (index, word) in words.into_iter().enumerate() {
                write_volatile(kept.wrapping_add(index), word);
            }
        } else if !current::is_own() && tell(number) {
            remember(&user, number);
        }
    }
}

/// The word that a call stands in, and its bit.
#[inline(always)]
fn place_of(calls: *mut Calls, number: u64) -> (*mut u64, u64) {
    const { assert!(CALL_LIMIT == 512 && size_of::<Calls>() == 64) };
    let mut word = number >> 6;
    // The compiler may know the bounds, but the verifier forgets them on the stack: the mask must stand here.
    // SAFETY: nothing but the register is touched.
    unsafe { asm!("{0} &= 7", inout(reg) word, options(pure, nomem, nostack)) };
    (
        calls.cast::<u64>().wrapping_add(word as usize),
        1 << (number & 63),
    )
}

/// Subprograms of their own, here and below, for their stacks.
#[inline(never)]
fn is_told(user: &User, number: u64) -> u64 {
    match CALLS.get_ptr_mut(*user) {
        Some(calls) => {
            let (word, bit) = place_of(calls, number);
            // SAFETY: within the map's value.
            unsafe { read_volatile(word) & bit }
        }
        None => 0,
    }
}

#[inline(never)]
fn remember(user: &User, number: u64) {
    if CALLS.get_ptr_mut(*user).is_none() {
        let mut calls = MaybeUninit::<Calls>::uninit();
        // SAFETY: as large as it is, and then it is initialised.
        let calls = unsafe {
            emit::zero(calls.as_mut_ptr());
            calls.assume_init_ref()
        };
        // An LRU map makes room; a failure only means that the call is told again.
        let _again = CALLS.insert(user, calls, 0);
    }
    if let Some(calls) = CALLS.get_ptr_mut(*user) {
        let (word, bit) = place_of(calls, number);
        // SAFETY: within the map's value. Who writes at the same time may undo this: then the call is told again.
        unsafe { write_volatile(word, read_volatile(word) | bit) };
    }
}

/// Tells the agent; says whether that was possible.
#[inline(always)]
fn tell(number: u64) -> bool {
    let Some(mut deed) = Deed::begin(hook::SYS_ENTER, act::CALL) else {
        return false;
    };
    // SAFETY: the reservation is writable.
    unsafe { (*deed.record()).arg0 = number };
    deed.end();
    true
}
