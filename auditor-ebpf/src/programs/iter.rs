//! Ground truth on demand: every task of the reader's pid namespace, as one record each; and every open file of a
//! marked task that lies on somebody else's mounts.

use crate::capture::{self, Whose};
use crate::emit;
use crate::kernel::globals::{FILE_FLAGS, FILE_MODE, ITER_SEQ, TASK_CG_LIST, TASK_TID, place};
use crate::kernel::{Access, Direct, Probe, Ptr};
use crate::maps::{SCRATCH, SCRATCH_ACT};
use crate::marks;
use auditor_common::hook;
use auditor_common::record::{ActRecord, TaskRecord, act, cause, kind, task_flags};
use aya_ebpf::helpers::generated::bpf_seq_write;

/// Context of a task iterator: two pointers, fixed by the kernel's interface for iterators.
#[repr(C)]
pub struct IterTask {
    pub(super) meta: Ptr,
    pub(super) task: Ptr,
}

/// Writes one task. aya-ebpf has no macro for iterators; the section's name is all that it takes.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub fn iter_task(ctx: *const IterTask) -> i32 {
    // SAFETY: the kernel passes its context, whose pointers are typed; the task is null after the last one.
    unsafe {
        let meta = core::ptr::read_volatile(&raw const (*ctx).meta);
        let task = core::ptr::read_volatile(&raw const (*ctx).task);
        if task.is_null() || capture::is_kthread::<Direct>(task) {
            return 0;
        }
        let Some(record) = SCRATCH.get_ptr_mut(0) else {
            return 0;
        };
        emit::zero(record);
        let size = size_of::<TaskRecord>();
        emit::header(
            &raw mut (*record).header,
            hook::ITER_TASK,
            kind::TASK,
            size,
            0,
        );
        (*record).cause = cause::SNAPSHOT;
        (*record).syscall = -1;
        capture::state::<Direct>(task, &raw mut (*record).state);
        if (*record).state.task_flags & task_flags::EXITING == 0 && is_unborn(ctx) {
            return 0;
        }
        (*record).actor = (*record).state.key;
        if marks::lies_at_home::<Direct>(task) == Some(false) {
            (*record).state.task_flags |= task_flags::ABROAD;
        }
        marks::find::<Direct>(task);
        write(meta, record);
    }
    0
}

/// Whether a task that has not ended is in no list of a cgroup's tasks: it is about to be born, and still stands in the
/// root. Its birth will be told, with the cgroup that it was given.
#[inline(always)]
unsafe fn is_unborn(ctx: *const IterTask) -> bool {
    let Some(at) = place(&TASK_CG_LIST) else {
        return false;
    };
    // SAFETY: the caller's context; Probe takes any address. Read by helper, the task's own address is a number, which
    // can be compared.
    unsafe {
        let address: Option<u64> = Probe::read((&raw const (*ctx).task).cast());
        let Some(list) = address.map(|address| address + at as u64) else {
            return false;
        };
        let next: Option<u64> = Probe::read(list as *const u64);
        next == Some(list)
    }
}

/// Context of an iterator over open files, fixed likewise.
#[repr(C)]
pub(super) struct IterFile {
    pub(super) meta: Ptr,
    pub(super) task: Ptr,
    pub(super) descriptor: u32,
    pub(super) file: Ptr,
}

/// Gives a record to the reader. One that does not fit makes the kernel call again with a larger or emptied buffer.
///
/// # Safety
/// `meta` is the context's, and not null.
#[inline(always)]
pub(super) unsafe fn write<T>(meta: Ptr, record: *const T) {
    // SAFETY: the caller's promise; the record is as large as its type.
    unsafe {
        let seq = Direct::ptr(meta, &ITER_SEQ);
        bpf_seq_write(
            seq.cast_mut().cast(),
            record.cast_mut().cast(),
            size_of::<T>() as u32,
        );
    }
}

/// Writes one open file, if it matters who has it.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
pub fn iter_file(ctx: *const IterFile) -> i32 {
    // SAFETY: the kernel passes its context, whose pointers are typed; task and file are null after the last one.
    unsafe {
        let meta = core::ptr::read_volatile(&raw const (*ctx).meta);
        let task = core::ptr::read_volatile(&raw const (*ctx).task);
        let file = core::ptr::read_volatile(&raw const (*ctx).file);
        if task.is_null() || file.is_null() || !marks::has(Direct::u32(task, &TASK_TID)) {
            return 0;
        }
        if capture::whose::<Direct>(task, capture::mount_ns::<Direct>(file)) != Whose::Foreign {
            return 0;
        }
        let Some(record) = SCRATCH_ACT.get_ptr_mut(0) else {
            return 0;
        };
        emit::zero(record);
        let size = size_of::<ActRecord>();
        emit::header(
            &raw mut (*record).header,
            hook::ITER_FILE,
            kind::ACT,
            size,
            0,
        );
        (*record).act = act::HOLD;
        (*record).syscall = -1;
        capture::key::<Direct>(task, &raw mut (*record).actor);
        (*record).target.tid = core::ptr::read_volatile(&raw const (*ctx).descriptor);
        capture::file::<Direct>(file, record);
        (*record).arg0 = u64::from(Direct::u32(file, &FILE_FLAGS));
        (*record).arg1 = u64::from(Direct::u32(file, &FILE_MODE));
        write(meta, record);
    }
    0
}
