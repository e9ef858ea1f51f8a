//! Writing records: reserve, number, submit, count.
//!
//! Nothing is lost silently: an event that does not fit is counted for its hook and leaves a gap in its CPU's
//! numbers. Waking the reader costs more than an event, so only a filling ring or an urgent event does.

use crate::kernel::globals::WAKE_BYTES;
use crate::maps::{CPU_SEQ, EMITTED, FILTERED, LOSING, LOST};
use auditor_common::record::RecordHeader;
use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_boot_ns};
use aya_ebpf::maps::ring_buf::RingBufEntry;
use aya_ebpf::maps::{PerCpuArray, RingBuf};
use core::arch::asm;

/// Whether the reader should look at once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// When enough waits, or at its next round.
    Batched,
    /// Now.
    Immediate,
}

/// Adds one and says what was there. The read and the addition are two instructions, for kernels before 5.12 have
/// no fetching addition: an event that preempts another between them gets the same number, the sum stays exact.
#[inline(always)]
fn increment(counters: &PerCpuArray<u64>, index: u32) -> u64 {
    let Some(counter) = counters.get_ptr_mut(index) else {
        return 0;
    };
    // SAFETY: the slot lives as long as the map and is aligned. The instruction is in every BPF kernel; core has
    // no name for an addition that fetches nothing, and a fetching one would be refused before 5.12.
    unsafe {
        let before = core::ptr::read_volatile(counter);
        asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) counter, in(reg) 1u64, options(nostack));
        before
    }
}

/// Counts an event of `hook` that cannot be written.
#[inline(always)]
pub fn lose(hook: u16) {
    increment(&LOST, u32::from(hook));
    LOSING.set(u32::from(hook), true);
}

/// Notes that a filter keeps back events of `hook`. CPUs share the flag: it is written once.
#[inline(always)]
pub fn filter(hook: u16) {
    if !FILTERED.has(u32::from(hook)) {
        FILTERED.set(u32::from(hook), true);
    }
}

/// Zeroes a record word by word: it is too large for inline stores, and the byte loop of `memset` is slow.
///
/// # Safety
/// `record` is writable, and its size is a multiple of eight.
#[inline(always)]
pub unsafe fn zero<T>(record: *mut T) {
    let words: *mut u64 = record.cast();
    let mut index = 0;
    while index < size_of::<T>() / 8 {
        // SAFETY: within the record. Volatile, or the loop would become a memset.
        unsafe { core::ptr::write_volatile(words.add(index), 0) };
        index += 1;
    }
}

/// Fills a header.
///
/// # Safety
/// `header` is writable.
#[inline(always)]
pub unsafe fn header(header: *mut RecordHeader, hook: u16, kind: u16, size: usize, cpu_seq: u64) {
    // SAFETY: the caller's promise; the helpers have no preconditions.
    unsafe {
        (*header).boottime_ns = bpf_ktime_get_boot_ns();
        (*header).cpu_seq = cpu_seq;
        (*header).kind = kind;
        (*header).hook = hook;
        (*header).cpu = bpf_get_smp_processor_id() as u16;
        (*header).size = size as u16;
    }
}

/// A record in a ring, zeroed but for its header.
#[must_use = "the verifier wants every reservation submitted"]
pub struct Slot<T: 'static> {
    entry: RingBufEntry<T>,
    ring: &'static RingBuf,
    hook: u16,
}

impl<T> Slot<T> {
    /// Takes room for a record that begins with a header; counts a loss where there is none.
    #[inline(always)]
    pub fn reserve(ring: &'static RingBuf, hook: u16, kind: u16) -> Option<Self> {
        const { assert!(size_of::<T>().is_multiple_of(8) && align_of::<T>() <= 8) };
        let cpu_seq = increment(&CPU_SEQ, 0);
        let Some(mut entry) = ring.reserve::<T>(0) else {
            lose(hook);
            return None;
        };
        let record = entry.as_mut_ptr();
        // SAFETY: the reservation is writable, and every record begins with its header.
        unsafe {
            zero(record);
            header(record.cast(), hook, kind, size_of::<T>(), cpu_seq);
        }
        Some(Self { entry, ring, hook })
    }

    /// The record.
    #[inline(always)]
    pub fn record(&mut self) -> *mut T {
        self.entry.as_mut_ptr()
    }

    /// Hands the record to the reader.
    #[inline(always)]
    pub fn submit(self, urgency: Urgency) {
        increment(&EMITTED, u32::from(self.hook));
        let waiting = self.ring.query(u64::from(BPF_RB_AVAIL_DATA));
        let flags = match urgency == Urgency::Immediate || waiting >= u64::from(WAKE_BYTES.load()) {
            true => BPF_RB_FORCE_WAKEUP,
            false => BPF_RB_NO_WAKEUP,
        };
        self.entry.submit(u64::from(flags));
    }
}
