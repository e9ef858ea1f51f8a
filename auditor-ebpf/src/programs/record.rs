//! What all programs that write a [`TaskRecord`] share.

use crate::capture;
use crate::emit::{Slot, Urgency};
use crate::kernel::current::{self, on_current};
use crate::kernel::globals::{
    LEAVES_OUT, TASK_EXEC_ID, TASK_LEADER, TASK_NSPROXY, TASK_PARENT, TASK_TID,
};
use crate::kernel::{Access, Probe, Ptr};
use crate::maps::{EVENTS, RECENT_TOLD, SETTLED, TOLD, Told};
use crate::marks;
use auditor_common::hook;
use auditor_common::record::{FOUND_EXECUTED, TaskKey, TaskRecord, cause, kind};
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

/// Fills a record with the state of a task that acts on itself. A subprogram of its own: most programs need it.
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
        keep_told::<A>(task);
        if matches!(event.cause, cause::CHROOT | cause::PIVOT_ROOT) {
            marks::set((*record).state.key.tid);
        } else {
            marks::note::<A>(task);
        }
    }
}

/// Whether the running task may be told of by others than the programs for what it does: not before the agent has walked
/// over all tasks once, and not when it ends.
#[inline(always)]
fn may_be_told() -> bool {
    let task = current::untyped();
    // SAFETY: Probe takes any address.
    let is_told =
        unsafe { !capture::is_kthread::<Probe>(task) && !capture::is_exiting::<Probe>(task) };
    is_told && !current::is_own() && SETTLED.get(0).is_some_and(|settled| *settled != 0)
}

/// What is told of a task now.
///
/// # Safety
/// As for [`Access`].
#[inline(always)]
pub unsafe fn told<A: Access>(task: Ptr) -> Told {
    // SAFETY: the caller's promise.
    unsafe {
        Told {
            nsproxy: A::ptr(task, &TASK_NSPROXY) as u64,
            exec_id: u64::from(A::u32(task, &TASK_EXEC_ID)),
        }
    }
}

/// A task's state is told now.
///
/// # Safety
/// As for [`Access`].
#[inline(always)]
pub unsafe fn keep_told<A: Access>(task: Ptr) {
    if LEAVES_OUT.load() != 0 {
        // SAFETY: the caller's promise.
        let (tid, told) = unsafe { (A::u32(task, &TASK_TID), told::<A>(task)) };
        // An LRU map makes room; a failure only means that an unchanged state is told once more.
        let _again = TOLD.insert(tid, told, 0);
        RECENT_TOLD.put(tid, &told);
    }
}

/// Tells of the running task's state if it is another than was told last: the kernel left out the program for a switch of
/// namespaces, or for an exec.
#[inline(never)]
pub fn follow() -> u8 {
    // SAFETY: current is typed where Direct needs it; what was told is copied at once.
    unsafe {
        let now = on_current!(told);
        let tid = current::pid_tgid() as u32;
        let before = TOLD.get(tid).copied();
        if before == Some(now) {
            RECENT_TOLD.put(tid, &now);
        }
        if before != Some(now) && may_be_told() {
            let mut event = Event::new(hook::SWITCH_NS, cause::FOUND, Urgency::Batched);
            if before.is_some_and(|before| before.exec_id != now.exec_id) {
                event.hook = hook::SCHED_EXEC;
                event.arg0 = FOUND_EXECUTED;
            }
            on_current!(write_state, &event);
        }
    }
    0
}

/// Tells of the running task's birth, which the kernel left the program for births out of, and before it of its parent's
/// if that is unknown too. Gives the task's mark.
#[inline(never)]
pub fn tell_birth() -> u8 {
    let id = current::pid_tgid();
    let (tid, tgid) = (id as u32, (id >> 32) as u32);
    let task = current::untyped();
    // SAFETY: Probe takes any address.
    unsafe {
        if may_be_told() {
            let parent = Probe::ptr(Probe::ptr(task, &TASK_PARENT), &TASK_LEADER);
            let from = match tid == tgid {
                true => Probe::u32(parent, &TASK_TID),
                false => tgid,
            };
            // Whose child each is, its state says; by whose act it was born, nobody knows any more.
            let event = Event::new(hook::TASK_NEWTASK, cause::FORK, Urgency::Batched);
            if tid == tgid && !marks::is_seen(from) && !capture::is_kthread::<Probe>(parent) {
                marks::see(from, 0);
                write_state::<Probe>(parent, &event);
            }
            marks::see(tid, from);
            write_state::<Probe>(task, &event);
        }
    }
    marks::of_current()
}

/// Writes the state of a task that acts on itself.
///
/// # Safety
/// As for [`Access`].
#[inline(always)]
pub unsafe fn write_state<A: Access>(task: Ptr, event: &Event) {
    let Some(mut slot) = Slot::<TaskRecord>::reserve(event.ring, event.hook, kind::TASK) else {
        return;
    };
    // SAFETY: the caller's promise; the slot is fresh.
    unsafe { fill::<A>(task, slot.record(), event) };
    slot.submit(event.urgency);
}
