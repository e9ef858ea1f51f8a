//! What all programs that write an [`ActRecord`] share.

use super::record::actor;
use crate::emit::{Slot, Urgency};
use crate::kernel::current;
use crate::maps::EVENTS;
use auditor_common::record::{ActRecord, kind};
use aya_ebpf::maps::RingBuf;

/// A record under way: who acted is in it, to whom or what is to be filled.
pub struct Deed {
    slot: Slot<ActRecord>,
}

impl Deed {
    /// Takes room for an act of the running task; counts a loss where there is none.
    #[inline(always)]
    pub fn begin(hook: u16, act: u32) -> Option<Self> {
        Self::begin_in(&EVENTS, hook, act)
    }

    /// As [`Self::begin`], in another ring.
    #[inline(always)]
    pub fn begin_in(ring: &'static RingBuf, hook: u16, act: u32) -> Option<Self> {
        let mut slot = Slot::<ActRecord>::reserve(ring, hook, kind::ACT)?;
        let record = slot.record();
        // SAFETY: the reservation is writable.
        unsafe {
            (*record).act = act;
            (*record).syscall = current::syscall();
            actor(&raw mut (*record).actor);
        }
        Some(Self { slot })
    }

    /// The record.
    #[inline(always)]
    pub fn record(&mut self) -> *mut ActRecord {
        self.slot.record()
    }

    /// Hands it to the reader.
    #[inline(always)]
    pub fn end(self) {
        self.slot.submit(Urgency::Immediate);
    }
}
