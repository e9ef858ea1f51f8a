//! Whether all of a trace can be read: every checksum, every entry, the number of entries of each frame, and whether
//! the index agrees with the frames. The reader refuses whatever is wrong; here it is asked to read on until it does.

use super::info::{End, Tally, tally_all};
use crate::model::text::rfc3339;
use crate::trace::{TraceError, TraceReader};
use serde::Serialize;
use std::io::Read;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// How the trace ends, or where the first damage is.
    pub ending: End,
    /// Whole frames that can be read.
    pub frames: u64,
    /// Items that can be read.
    pub items: u64,
    /// Bytes of the trace up to where it can be read.
    pub readable_bytes: u64,
    /// Latest time that can be read, UTC; null when nothing has a time.
    pub until: Option<String>,
}

impl Verdict {
    /// Nothing of it.
    #[must_use]
    pub fn unreadable(error: &TraceError) -> Self {
        Self {
            ending: error.into(),
            frames: 0,
            items: 0,
            readable_bytes: 0,
            until: None,
        }
    }
}

/// Reads all of a trace, its header included.
#[must_use]
pub fn verify<R: Read>(from: R) -> Verdict {
    let mut trace = match TraceReader::open(from) {
        Ok(trace) => trace,
        Err(error) => return Verdict::unreadable(&error),
    };
    let mut tally = Tally::default();
    let ending = match tally_all(&mut trace, &mut tally) {
        Ok(()) => End::from(trace.ending()),
        Err(error) => End::from(&error),
    };
    let readable_bytes = match ending {
        End::Finished | End::Unfinished => trace.offset(),
        End::Cut { offset, .. } | End::Damaged { offset, .. } => offset,
    };
    let offset_ns = i128::from(trace.header().realtime_offset_ns);
    Verdict {
        ending,
        frames: trace.totals().frames,
        items: tally.items(),
        readable_bytes,
        until: tally
            .last_ns()
            .map(|ns| rfc3339(i128::from(ns) + offset_ns)),
    }
}
