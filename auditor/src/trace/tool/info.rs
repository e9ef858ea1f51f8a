//! What is in a trace, in numbers.

use super::kind::{Kind, kernel_hook};
use crate::engine::{Event, LossMark};
use crate::model::text::rfc3339;
use crate::trace::{Ending, Header, Item, TraceError, TraceReader};
use auditor_common::hook::HOOKS;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Read;

/// Places of losses that are told apart.
const MAX_PLACES: usize = 64;

/// Everything about one trace but its entries.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Info {
    /// Major version of the format.
    pub format: u16,
    /// What stands at its start.
    pub header: Header,
    /// Bytes read.
    pub bytes: u64,
    /// Frames, but for the index.
    pub frames: u64,
    /// Bytes of the frames as stored, and before compression.
    pub stored_bytes: u64,
    /// See `stored_bytes`.
    pub payload_bytes: u64,
    /// Items of the prologue, which repeat what earlier parts said.
    pub prologue_items: u64,
    /// Items behind it, by kind. Kinds that do not occur are left out.
    pub counts: BTreeMap<&'static str, u64>,
    /// Sweeps that did not list every task.
    pub incomplete_sweeps: u64,
    /// Items that a kernel program saw.
    pub kernel_events: u64,
    /// Of those, how many a second, from the first time to the last; null where there is no stretch of time.
    pub events_per_second: Option<f64>,
    /// Bytes of the trace per kernel event; null without any.
    pub bytes_per_event: Option<f64>,
    /// What was lost, by place.
    pub losses: BTreeMap<String, Lost>,
    /// From when to when; null when nothing has a time.
    pub stretch: Option<Stretch>,
    /// How it ends.
    pub ending: End,
}

/// Lost events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// All.
    pub count: u64,
    /// By hook, where the place knows.
    pub by_hook: BTreeMap<String, u64>,
    /// By CPU, where the place knows.
    pub by_cpu: BTreeMap<u32, u64>,
}

/// A stretch of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stretch {
    /// Earliest time behind the prologue, UTC.
    pub first: String,
    /// The same, nanoseconds since boot.
    pub first_boottime_ns: u64,
    /// Latest time, UTC.
    pub last: String,
    /// The same, nanoseconds since boot.
    pub last_boottime_ns: u64,
}

/// How a trace ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum End {
    /// Whoever wrote it finished it.
    Finished,
    /// After a whole frame, without an end mark.
    Unfinished,
    /// Within a frame.
    Cut {
        /// Where the last whole frame ends.
        offset: u64,
        /// What lies behind and cannot be read.
        bytes: u64,
    },
    /// What follows cannot be read.
    Damaged {
        /// The first byte of the frame that is damaged.
        offset: u64,
        /// What is wrong.
        error: String,
    },
}

impl From<&TraceError> for End {
    fn from(error: &TraceError) -> Self {
        let offset = match error {
            TraceError::Io { offset, .. }
            | TraceError::Frame { offset, .. }
            | TraceError::Payload { offset, .. } => *offset,
            TraceError::NotATrace | TraceError::Newer { .. } | TraceError::Header(_) => 0,
        };
        Self::Damaged {
            offset,
            error: error.to_string(),
        }
    }
}

impl From<Option<Ending>> for End {
    fn from(ending: Option<Ending>) -> Self {
        match ending {
            Some(Ending::Finished) => Self::Finished,
            Some(Ending::Unfinished) | None => Self::Unfinished,
            Some(Ending::Cut { offset, bytes }) => Self::Cut { offset, bytes },
        }
    }
}

/// Numbers of the items seen so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    counts: [u64; Kind::ALL.len()],
    prologue_items: u64,
    incomplete_sweeps: u64,
    kernel_events: u64,
    losses: BTreeMap<String, Lost>,
    times: Option<(u64, u64)>,
}

impl Tally {
    pub(super) fn take(&mut self, item: &Item<'_>, in_prologue: bool) {
        if in_prologue {
            self.prologue_items += 1;
            return;
        }
        self.counts[Kind::of(item) as usize] += 1;
        self.kernel_events += u64::from(kernel_hook(item).is_some());
        if let Some(at) = item.boottime_ns() {
            let (first, last) = self.times.unwrap_or((at, at));
            self.times = Some((first.min(at), last.max(at)));
        }
        match item {
            Item::Event(Event::SweepEnd {
                complete: false, ..
            }) => self.incomplete_sweeps += 1,
            Item::Event(Event::Loss(mark))
                if self.losses.len() < MAX_PLACES || self.losses.contains_key(&mark.place) =>
            {
                self.losses.entry(mark.place.clone()).or_default().add(mark);
            }
            _ => {}
        }
    }

    pub(super) const fn last_ns(&self) -> Option<u64> {
        match self.times {
            Some((_, last)) => Some(last),
            None => None,
        }
    }

    /// Items, prologue included.
    pub(super) fn items(&self) -> u64 {
        self.prologue_items + self.counts.iter().sum::<u64>()
    }
}

impl Lost {
    fn add(&mut self, mark: &LossMark) {
        self.count = self.count.saturating_add(mark.count);
        for (&hook, &count) in &mark.by_hook {
            let name = HOOKS
                .get(usize::from(hook))
                .map_or_else(|| hook.to_string(), |spec| spec.name.to_owned());
            let sum = self.by_hook.entry(name).or_default();
            *sum = sum.saturating_add(count);
        }
        for (&cpu, &count) in &mark.by_cpu {
            let sum = self.by_cpu.entry(cpu).or_default();
            *sum = sum.saturating_add(count);
        }
    }
}

/// Reads all of a trace. Damage is told in [`Info::ending`]: what stands before it counts.
#[must_use]
pub fn read<R: Read>(trace: &mut TraceReader<R>) -> Info {
    let mut tally = Tally::default();
    let ending = match tally_all(trace, &mut tally) {
        Ok(()) => trace.ending().into(),
        Err(error) => End::from(&error),
    };
    info(trace, tally, ending)
}

/// Reads all of a trace into a tally.
pub(super) fn tally_all<R: Read>(
    trace: &mut TraceReader<R>,
    tally: &mut Tally,
) -> Result<(), TraceError> {
    while trace.more()? {
        let in_prologue = trace.in_prologue();
        if let Some(item) = trace.next_item()? {
            tally.take(&item, in_prologue);
        }
    }
    Ok(())
}

fn info<R: Read>(trace: &TraceReader<R>, tally: Tally, ending: End) -> Info {
    let (header, totals) = (trace.header(), trace.totals());
    let Tally {
        counts,
        prologue_items,
        incomplete_sweeps,
        kernel_events,
        losses,
        times,
    } = tally;
    let span_ns = times.map_or(0, |(first, last)| last - first);
    let per = |a: u64, b: f64| (a > 0 && b > 0.0).then(|| a as f64 / b);
    let utc = |ns: u64| rfc3339(i128::from(ns) + i128::from(header.realtime_offset_ns));
    let counted = Kind::ALL.iter().zip(counts).filter(|(_, count)| *count > 0);
    Info {
        format: trace.major(),
        header: header.clone(),
        bytes: trace.offset(),
        frames: totals.frames,
        stored_bytes: totals.stored_bytes,
        payload_bytes: totals.payload_bytes,
        prologue_items,
        counts: counted
            .map(|(kind, count)| (kind.as_str(), count))
            .collect(),
        incomplete_sweeps,
        kernel_events,
        events_per_second: per(kernel_events, span_ns as f64 / 1e9),
        bytes_per_event: per(trace.offset(), kernel_events as f64),
        losses,
        stretch: times.map(|(first, last)| Stretch {
            first: utc(first),
            first_boottime_ns: first,
            last: utc(last),
            last_boottime_ns: last,
        }),
        ending,
    }
}
