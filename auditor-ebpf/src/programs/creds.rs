//! Changes of credentials. A container's start commits credentials over a hundred times, mostly the same ones:
//! only what changes is sent.

use super::record::{Event, fill, write_state};
use crate::capture;
use crate::emit::{self, Slot, Urgency};
use crate::kernel::current::{self, on_current};
use crate::kernel::globals::TASK_CRED;
use crate::kernel::{Access, Ptr};
use crate::maps::LAST_CRED;
use auditor_common::hook;
use auditor_common::record::{TaskRecord, cause, kind};
use aya_ebpf::macros::fentry;
use aya_ebpf::programs::FEntryContext;

/// Flag of unshare for user namespaces (`include/uapi/linux/sched.h`).
const CLONE_NEWUSER: u64 = 0x1000_0000;

/// The running task is about to get other credentials. Nothing can stop it any more.
#[fentry(function = "commit_creds")]
pub fn commit_creds(ctx: FEntryContext) -> i32 {
    let new: Ptr = ctx.arg(0);
    if !current::is_own() && !current::in_setns() {
        // SAFETY: current is typed where Direct needs it, and so is the function's argument, always.
        unsafe { on_current!(compare, new) }
    }
    0
}

#[inline(always)]
unsafe fn compare<A: Access>(task: Ptr, new: Ptr) {
    // SAFETY: the caller's promise; pointers are checked.
    unsafe {
        let old = A::ptr(task, &TASK_CRED);
        if old.is_null()
            || new.is_null()
            || capture::is_kthread::<A>(task)
            // Landlock's part of credentials is nobody else's to read.
            || !capture::creds_differ::<A>(old, new) && !current::in_landlock()
        {
            emit::filter(hook::COMMIT_CREDS);
            return;
        }
        let mut event = Event::new(hook::COMMIT_CREDS, cause::CRED, Urgency::Batched);
        if capture::is_other_namespace::<A>(old, new) && current::in_unshare() {
            event.cause = cause::UNSHARE;
            event.arg0 = CLONE_NEWUSER;
        }
        let Some(mut slot) = Slot::<TaskRecord>::reserve(event.ring, event.hook, kind::TASK) else {
            return;
        };
        let record = slot.record();
        fill::<A>(task, record, &event);
        capture::creds::<A>(new, &raw mut (*record).state);
        slot.submit(event.urgency);
    }
}

/// The running task may have other credentials than before.
#[inline(always)]
pub fn may_differ() {
    // SAFETY: current is typed where Direct needs it.
    unsafe { on_current!(compare_address) }
}

/// Credentials are replaced, never edited: the same address means no change. A thread that was never seen is sent.
#[inline(always)]
unsafe fn compare_address<A: Access>(task: Ptr) {
    // SAFETY: the caller's promise; the reference is not used after the insertion.
    unsafe {
        let cred = A::ptr(task, &TASK_CRED) as u64;
        let tid = current::pid_tgid() as u32;
        if let Some(last) = LAST_CRED.get(tid)
            && *last == cred
        {
            emit::filter(hook::EXIT_CRED);
            return;
        }
        // An LRU map makes room; a failure only means that an unchanged state is sent once more.
        let _again = LAST_CRED.insert(tid, cred, 0);
        let event = Event::new(hook::EXIT_CRED, cause::CRED, Urgency::Batched);
        write_state::<A>(task, &event);
    }
}
