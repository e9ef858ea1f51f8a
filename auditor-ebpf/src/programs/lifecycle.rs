//! Births, execs and ends of tasks.

use super::file;
use super::record::{Event, actor, describe, keep_told};
use crate::capture;
use crate::emit::{Slot, Urgency};
use crate::kernel::globals::{
    BPRM_FILENAME, OWN_TGID, TASK_CRED, TASK_EXIT_CODE, TASK_TGID, TASK_TID,
};
use crate::kernel::{Access, Direct, Ptr, copy_string, current};
use crate::maps::{EVENTS, KEEP_CREDS, LAST_CRED, UNSHARING};
use crate::marks;
use auditor_common::hook;
use auditor_common::record::{ExecRecord, ExitRecord, TaskRecord, cause, kind};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;

/// Whether a task is of no interest: a kernel thread, or the agent itself.
#[inline(always)]
unsafe fn is_ignored(task: Ptr) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        capture::is_kthread::<Direct>(task) || Direct::u32(task, &TASK_TGID) == OWN_TGID.load()
    }
}

/// Remembers credentials that a record has just told, so that only a change of them is sent again.
#[inline(always)]
unsafe fn keep_creds(task: Ptr) {
    if KEEP_CREDS.get(0).is_none_or(|keep| *keep == 0) {
        return;
    }
    // SAFETY: the caller's promise.
    let (tid, cred) = unsafe {
        (
            Direct::u32(task, &TASK_TID),
            Direct::ptr(task, &TASK_CRED) as u64,
        )
    };
    // An LRU map makes room; a failure only means that an unchanged state is sent once more.
    let _again = LAST_CRED.insert(tid, cred, 0);
}

/// A birth. Namespaces, credentials and cgroup are final here, whatever clone made them.
#[btf_tracepoint(function = "task_newtask")]
pub fn task_newtask(ctx: BtfTracePointContext) -> i32 {
    let task: Ptr = ctx.arg(0);
    let clone_flags: u64 = ctx.arg(1);
    // SAFETY: the tracepoint's task is typed and never null.
    unsafe {
        if is_ignored(task) {
            return 0;
        }
        // Whoever bears was born unseen itself, if nobody told of it.
        marks::is_current_anywhere();
        marks::inherit::<Direct>(task);
        let Some(mut slot) = Slot::<TaskRecord>::reserve(&EVENTS, hook::TASK_NEWTASK, kind::TASK)
        else {
            return 0;
        };
        let record = slot.record();
        let mut event = Event::new(hook::TASK_NEWTASK, cause::FORK, Urgency::Batched);
        event.arg0 = clone_flags;
        describe(record, &event);
        actor(&raw mut (*record).actor);
        capture::state::<Direct>(task, &raw mut (*record).state);
        slot.submit(event.urgency);
        keep_creds(task);
        keep_told::<Direct>(task);
    }
    0
}

/// An exec that succeeded.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn sched_exec(ctx: BtfTracePointContext) -> i32 {
    let task: Ptr = ctx.arg(0);
    let old_tid: u32 = ctx.arg(1);
    let binary: Ptr = ctx.arg(2);
    #[cfg(feature = "debug-log")]
    aya_log_ebpf::debug!(&ctx, "exec of {}", current::pid_tgid() as u32);
    // SAFETY: the tracepoint's arguments are typed and never null.
    unsafe {
        if is_ignored(task) {
            return 0;
        }
        marks::executed::<Direct>(task, old_tid);
        let Some(mut slot) = Slot::<ExecRecord>::reserve(&EVENTS, hook::SCHED_EXEC, kind::EXEC)
        else {
            return 0;
        };
        let record = slot.record();
        let mut event = Event::new(hook::SCHED_EXEC, cause::EXEC, Urgency::Batched);
        event.arg0 = u64::from(old_tid);
        describe(&raw mut (*record).task, &event);
        capture::key::<Direct>(task, &raw mut (*record).task.actor);
        capture::state::<Direct>(task, &raw mut (*record).task.state);
        let name = Direct::ptr(binary, &BPRM_FILENAME);
        if !name.is_null() {
            copy_string(name, &raw mut (*record).filename);
        }
        slot.submit(event.urgency);
        keep_creds(task);
        keep_told::<Direct>(task);
        file::executed(binary);
    }
    0
}

/// The end of a task. What the maps remember of it goes with it.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn sched_exit(ctx: BtfTracePointContext) -> i32 {
    let task: Ptr = ctx.arg(0);
    let id = current::pid_tgid();
    // An absent entry is the usual case.
    let _absent = UNSHARING.remove(id);
    let _absent = LAST_CRED.remove(id as u32);
    marks::end_current();
    // SAFETY: the tracepoint's task is typed and never null.
    unsafe {
        if is_ignored(task) {
            return 0;
        }
        let Some(mut slot) = Slot::<ExitRecord>::reserve(&EVENTS, hook::SCHED_EXIT, kind::EXIT)
        else {
            return 0;
        };
        let record = slot.record();
        capture::key::<Direct>(task, &raw mut (*record).key);
        (*record).exit_code = Direct::u32(task, &TASK_EXIT_CODE);
        slot.submit(Urgency::Batched);
    }
    0
}
