//! What all programs that write a [`TaskRecord`] share.

use crate::capture;
use crate::emit::{Slot, Urgency};
use crate::kernel::current::{self, on_current};
use crate::kernel::{Access, Probe, Ptr};
use crate::maps::{EVENTS, SETTLED};
use crate::marks;
use auditor_common::hook;
use auditor_common::record::{TaskKey, TaskRecord, cause, kind};
use aya_ebpf::maps::RingBuf;

/// What a program knows of an event beside the state.
#[derive(Clone, Copy)]
pub struct Event {
    pub ring: &'static RingBuf,
    pub hook: u16,
    pub cause: u32,
    pub urgency: Urgency,
    pub arg0: u64,
    pub arg1: u64,
}

impl Event {
    /// A state-bearing event without arguments.
    #[inline(always)]
    pub const fn new(hook: u16, cause: u32, urgency: Urgency) -> Self {
        Self {
            ring: &EVENTS,
            hook,
            cause,
            urgency,
            arg0: 0,
            arg1: 0,
        }
    }
}

/// Fills all of a record but its state.
///
/// # Safety
/// `record` is writable.
#[inline(always)]
pub unsafe fn describe(record: *mut TaskRecord, event: &Event) {
    // SAFETY: the caller's promise.
    unsafe {
        (*record).cause = event.cause;
        (*record).syscall = current::syscall();
        (*record).arg0 = event.arg0;
        (*record).arg1 = event.arg1;
    }
}

/// Fills the actor: the running task.
///
/// # Safety
/// `actor` is writable.
#[inline(always)]
pub unsafe fn actor(actor: *mut TaskKey) {
    // SAFETY: current is typed where Direct needs it.
    unsafe { on_current!(capture::key, actor) }
}

/// Fills a record with the state of `task`, which is the running task. A subprogram of its own: most programs need it.
///
/// # Safety
/// As for [`Access`]; `record` is writable, and zeroed but for its header.
#[inline(never)]
pub unsafe fn fill<A: Access>(task: Ptr, record: *mut TaskRecord, event: &Event) {
    // SAFETY: the caller's promise.
    unsafe {
        describe(record, event);
        capture::key::<A>(task, &raw mut (*record).actor);
        capture::state::<A>(task, &raw mut (*record).state);
        if matches!(event.cause, cause::CHROOT | cause::PIVOT_ROOT) {
            marks::set((*record).state.key.tid);
        } else {
            marks::note::<A>(task);
        }
    }
}

/// Tells of the running task's birth, which the kernel left the program for births out of; nothing before the agent has
/// walked over all tasks once, or when the task ends. Gives the task's mark.
#[inline(never)]
pub fn tell_birth() -> u8 {
    let task = current::untyped();
    // SAFETY: Probe takes any address.
    let is_told =
        unsafe { !capture::is_kthread::<Probe>(task) && !capture::is_exiting::<Probe>(task) };
    if is_told && SETTLED.get(0).is_some_and(|settled| *settled != 0) {
        marks::inherit_late();
        // Whose child it is, its state says; by whose act it was born, nobody knows any more.
        let event = Event::new(hook::TASK_NEWTASK, cause::FORK, Urgency::Batched);
        // SAFETY: current is typed where Direct needs it.
        unsafe { on_current!(write_current, &event) }
    }
    marks::of_current()
}

/// Writes the state of `task`, which is the running task.
///
/// # Safety
/// As for [`Access`].
#[inline(always)]
pub unsafe fn write_current<A: Access>(task: Ptr, event: &Event) {
    let Some(mut slot) = Slot::<TaskRecord>::reserve(event.ring, event.hook, kind::TASK) else {
        return;
    };
    // SAFETY: the caller's promise; the slot is fresh.
    unsafe { fill::<A>(task, slot.record(), event) };
    slot.submit(event.urgency);
}
