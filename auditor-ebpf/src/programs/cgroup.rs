//! Moves between cgroups, and births and ends of cgroups. A v1 move fires once per hierarchy.

use super::record::{Event, actor, describe};
use crate::capture;
use crate::emit::{Slot, Urgency};
use crate::kernel::globals::{OWN_TGID, TASK_TGID};
use crate::kernel::{Access, Direct, Ptr, copy_string};
use crate::maps::EVENTS;
use auditor_common::hook;
use auditor_common::limits::CGROUP_PATH_LEN;
use auditor_common::record::{
    ATTACH_THREADGROUP, CgroupRecord, TaskRecord, cause, cgroup, cgroup_op, kind,
};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;

/// A task, or its whole thread group, was moved.
#[btf_tracepoint(function = "cgroup_attach_task")]
pub fn cgroup_attach(ctx: BtfTracePointContext) -> i32 {
    let destination: Ptr = ctx.arg(0);
    let task: Ptr = ctx.arg(2);
    let threadgroup: u32 = ctx.arg(3);
    // SAFETY: the tracepoint's arguments are typed and never null.
    unsafe {
        if capture::is_kthread::<Direct>(task) || Direct::u32(task, &TASK_TGID) == OWN_TGID.load() {
            return 0;
        }
        let Some(mut slot) = Slot::<TaskRecord>::reserve(&EVENTS, hook::CGROUP_ATTACH, kind::TASK)
        else {
            return 0;
        };
        let record = slot.record();
        let id = capture::cgroup_id::<Direct>(destination);
        let hierarchy = capture::hierarchy::<Direct>(destination);
        let mut event = Event::new(hook::CGROUP_ATTACH, cause::ATTACH, Urgency::Immediate);
        event.arg0 = id;
        event.arg1 = u64::from(hierarchy);
        // A bool argument: only its low byte is defined.
        if threadgroup & 0xff != 0 {
            event.arg1 |= ATTACH_THREADGROUP;
        }
        describe(record, &event);
        actor(&raw mut (*record).actor);
        capture::state::<Direct>(task, &raw mut (*record).state);
        if hierarchy == 0 {
            (*record).state.cgroups[cgroup::V2] = id;
        }
        slot.submit(event.urgency);
    }
    0
}

/// Writes what became of a cgroup.
#[inline(always)]
unsafe fn write(ctx: &BtfTracePointContext, hook: u16, op: u32) {
    let cgroup: Ptr = ctx.arg(0);
    let path: Ptr = ctx.arg(1);
    let Some(mut slot) = Slot::<CgroupRecord>::reserve(&EVENTS, hook, kind::CGROUP) else {
        return;
    };
    let record = slot.record();
    // SAFETY: the tracepoint's cgroup is typed and never null; the path is read by a helper.
    unsafe {
        actor(&raw mut (*record).actor);
        (*record).id = capture::cgroup_id::<Direct>(cgroup);
        (*record).parent_id = capture::cgroup_parent_id::<Direct>(cgroup);
        (*record).hierarchy = capture::hierarchy::<Direct>(cgroup);
        (*record).op = op;
        let len = copy_string(path, &raw mut (*record).path);
        // The length counts the NUL. A path that fills the room counts as cut.
        (*record).path_len = match len {
            1.. if len < CGROUP_PATH_LEN as i64 => len as u32 - 1,
            1.. => CGROUP_PATH_LEN as u32,
            _ => 0,
        };
    }
    slot.submit(Urgency::Batched);
}

/// The kernel moved all tasks of a v1 cgroup.
#[btf_tracepoint(function = "cgroup_transfer_tasks")]
pub fn cgroup_transfer(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: the first two arguments are a cgroup and its path.
    unsafe { write(&ctx, hook::CGROUP_TRANSFER, cgroup_op::TRANSFER) };
    0
}

/// A cgroup was made.
#[btf_tracepoint(function = "cgroup_mkdir")]
pub fn cgroup_mkdir(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: the first two arguments are a cgroup and its path.
    unsafe { write(&ctx, hook::CGROUP_MKDIR, cgroup_op::MKDIR) };
    0
}

/// A cgroup's directory was removed.
#[btf_tracepoint(function = "cgroup_rmdir")]
pub fn cgroup_rmdir(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: the first two arguments are a cgroup and its path.
    unsafe { write(&ctx, hook::CGROUP_RMDIR, cgroup_op::RMDIR) };
    0
}

/// A cgroup's last reference went.
#[btf_tracepoint(function = "cgroup_release")]
pub fn cgroup_release(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: the first two arguments are a cgroup and its path.
    unsafe { write(&ctx, hook::CGROUP_RELEASE, cgroup_op::RELEASE) };
    0
}
