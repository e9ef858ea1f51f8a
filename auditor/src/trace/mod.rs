//! Recorded traces: everything that the engine consumed, so that it can be consumed again.
//!
//! A trace is a header and a row of frames. The header holds what an engine is told once; the frames hold
//! the one ordered stream of [`Item`]s: kernel records, sweeps, answers about containers, policies, losses
//! and the passing of time. Nothing else reaches an engine, so a replay gives the lines that the recording
//! engine gave, on any machine, and touches nothing of the machine that it runs on.
//!
//! - [`header`]: what stands at the start.
//! - [`frame`]: compression, checksums, lengths.
//! - [`codec`]: items as differences from what both sides know already.
//! - [`writer`], [`reader`]: a whole trace, to and from bytes.
//! - [`span`]: when a trace ends, without reading it.
//! - [`compat`]: what older majors need before they can be read.
//! - [`tool`]: looking at traces, and making traces of traces.
//! - [`limits`]: every bound, so that a hostile file costs no more than an honest one.
//!
//! `docs/trace-format.md` describes every byte. No kernel pointer is in a record, so none is in a trace.

pub mod codec;
pub mod compat;
pub mod error;
pub mod frame;
pub mod header;
pub mod limits;
pub mod reader;
pub mod span;
#[cfg(test)]
mod tests;
pub mod tool;
mod wire;
pub mod writer;

pub use error::TraceError;
pub use header::Header;
pub use reader::{Ending, TraceReader};
pub use writer::TraceWriter;

use crate::engine::Event;
use crate::inventory::container::ContainerAnswer;

/// One thing in the stream.
#[derive(Clone, Copy, Debug)]
pub enum Item<'a> {
    /// What the engine consumed. Never an [`Event::Answer`]: see [`Item::Answer`].
    Event(Event<'a>),
    /// What the inventory said about a compartment. It answers the question that the item before it raised,
    /// or, before the first sweep of a part, one that a later item may raise.
    Answer(Answer<'a>),
    /// The watch ended in order.
    Stop {
        /// When.
        boottime_ns: u64,
        /// Why, as the `stop` line says.
        reason: &'a str,
    },
}

impl Item<'_> {
    /// When it happened, nanoseconds since boot; `None` for what belongs to the item before it.
    #[must_use]
    pub fn boottime_ns(&self) -> Option<u64> {
        Some(match self {
            Self::Event(Event::Task(record)) => record.header.boottime_ns,
            Self::Event(Event::Exec(record)) => record.task.header.boottime_ns,
            Self::Event(Event::Exit(record)) => record.header.boottime_ns,
            Self::Event(Event::Cgroup(record)) => record.header.boottime_ns,
            Self::Event(Event::Act(record)) => record.header.boottime_ns,
            Self::Event(
                Event::SweepBegin { boottime_ns }
                | Event::SweepEnd { boottime_ns, .. }
                | Event::Tick { boottime_ns },
            )
            | Self::Stop { boottime_ns, .. } => *boottime_ns,
            Self::Event(Event::Loss(mark)) => mark.boottime_ns,
            Self::Event(
                Event::Answer { .. } | Event::Looked(_) | Event::Restore(_) | Event::Policy(_),
            )
            | Self::Answer(_) => return None,
        })
    }
}

/// An answer together with its question: numbers of questions only mean something within one run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer<'a> {
    /// Path of the cgroup that was asked about.
    pub cgroup_path: &'a str,
    /// Its first process, as far as the question named it.
    pub init_pid: Option<u32>,
    /// Who it is; `None` when nobody knew.
    pub answer: Option<&'a ContainerAnswer>,
}
