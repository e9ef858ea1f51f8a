//! Device programs on demand: in the version 2 hierarchy the devices that a cgroup may reach are not written down
//! anywhere; small programs decide. They are given to the agent as they are, which finds out what they allow.

use super::iter::{IterTask, write};
use crate::capture;
use crate::emit;
use crate::kernel::globals::{
    ATTACH_DEVICE, CGROUP_BPF, CGROUP_EFFECTIVE, CSET_DFL, PROG_INSNS, PROG_LEN, PROGS_ITEM,
    PROGS_ITEM_SIZE, PROGS_ITEMS, TASK_CGROUPS, TASK_TID, has, place,
};
use crate::kernel::{Access, Direct, Probe, Ptr};
use crate::maps::{LOOKED_AT, SCRATCH_CODE};
use auditor_common::hook;
use auditor_common::record::{
    CODE_CHUNK, CODE_CHUNKS, CODE_PROGRAMS, CodeRecord, INSTRUCTION, kind,
};
use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use core::arch::asm;

/// Bytes of a chunk, as a mask.
const CHUNK_MASK: u32 = (CODE_CHUNK * INSTRUCTION).next_power_of_two() as u32 - 1;

/// Writes the programs of the task that is looked at.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub fn iter_device(ctx: *const IterTask) -> i32 {
    // SAFETY: the kernel passes its context, whose pointers are typed; the task is null after the last one.
    unsafe {
        let meta = core::ptr::read_volatile(&raw const (*ctx).meta);
        let task = core::ptr::read_volatile(&raw const (*ctx).task);
        let wanted = LOOKED_AT.get(0).copied().unwrap_or_default();
        if task.is_null() || Direct::u32(task, &TASK_TID) != wanted {
            return 0;
        }
        let Some(programs) = programs(task) else {
            return 0;
        };
        let Some(record) = SCRATCH_CODE.get_ptr_mut(0) else {
            return 0;
        };
        emit::zero(record);
        let size = size_of::<CodeRecord>();
        emit::header(
            &raw mut (*record).header,
            hook::ITER_DEVICE,
            kind::CODE,
            size,
            0,
        );
        capture::key::<Direct>(task, &raw mut (*record).task);
        (*record).total = count(programs);
        // That there are none is told too: then every device is allowed.
        write(meta, record);
        for index in 0..CODE_PROGRAMS {
            let program = program(programs, index);
            if program.is_null() {
                break;
            }
            (*record).program = index as u32 + 1;
            write_code(meta, record, program);
        }
    }
    0
}

/// The programs in effect for a task's cgroup: its own, and those above it.
#[inline(always)]
unsafe fn programs(task: Ptr) -> Option<Ptr> {
    // SAFETY: the caller's task is typed; Probe takes any address.
    unsafe {
        if !has(&PROGS_ITEMS) || !has(&PROGS_ITEM_SIZE) || !has(&PROG_LEN) || !has(&PROG_INSNS) {
            return None;
        }
        let (bpf, effective) = (place(&CGROUP_BPF)?, place(&CGROUP_EFFECTIVE)?);
        let slot = place(&ATTACH_DEVICE)? * size_of::<Ptr>();
        let cgroup = Probe::ptr(Probe::ptr(task, &TASK_CGROUPS), &CSET_DFL);
        if cgroup.is_null() {
            return None;
        }
        let list: Ptr = Probe::read(cgroup.wrapping_add(bpf + effective + slot).cast())?;
        (!list.is_null()).then_some(list)
    }
}

/// One of them; null behind the last one.
#[inline(always)]
unsafe fn program(programs: Ptr, index: usize) -> Ptr {
    let item = index * PROGS_ITEM_SIZE.load() as usize;
    // SAFETY: Probe takes any address.
    unsafe {
        let items = place(&PROGS_ITEMS).unwrap_or_default();
        Probe::ptr(programs.wrapping_add(items + item), &PROGS_ITEM)
    }
}

/// How many there are; one more than fit, if they are more.
#[inline(always)]
unsafe fn count(programs: Ptr) -> u32 {
    let mut count = 0;
    for index in 0..=CODE_PROGRAMS {
        // SAFETY: the caller's promise.
        if unsafe { program(programs, index) }.is_null() {
            break;
        }
        count += 1;
    }
    count
}

/// Writes a program's instructions, as far as they fit.
#[inline(always)]
unsafe fn write_code(meta: Ptr, record: *mut CodeRecord, program: Ptr) {
    // SAFETY: the record is writable; Probe and the helper take any address.
    unsafe {
        let length = Probe::u32(program, &PROG_LEN);
        let code = program.wrapping_add(place(&PROG_INSNS).unwrap_or_default());
        (*record).length = length;
        for chunk in 0..CODE_CHUNKS {
            let first = (chunk * CODE_CHUNK) as u32;
            if first >= length {
                break;
            }
            let here = (length - first).min(CODE_CHUNK as u32);
            let mut bytes = here * INSTRUCTION as u32;
            // The verifier of old kernels forgets bounds that were compared before.
            asm!("{0} &= {1}", inout(reg) bytes, const CHUNK_MASK, options(nostack));
            (*record).first = first;
            (*record).count = here;
            let to = (&raw mut (*record).code).cast();
            let from = code.wrapping_add(first as usize * INSTRUCTION);
            if bpf_probe_read_kernel(to, bytes, from.cast()) < 0 {
                break;
            }
            write(meta, record);
        }
    }
}
