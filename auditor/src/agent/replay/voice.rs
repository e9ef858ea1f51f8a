//! What a recording says: lines, and beside them what a person should know. Through a bounded channel, so that
//! a recording whose turn has not come waits.

use super::sources::Place;
use crate::cli::failure::{self, Failure};
use crate::trace::TraceError;
use std::sync::mpsc::SyncSender;

/// Bytes of lines that are handed over at once.
const CHUNK_BYTES: usize = 64 << 10;
/// Things said that may wait for their turn, per recording: 2 MiB of lines.
pub const QUEUE: usize = 32;

/// One thing said.
#[derive(Debug)]
pub enum Said {
    /// Whole lines, for standard output.
    Lines(String),
    /// A message, for standard error.
    Message(String),
    /// The recording is over.
    End(Outcome),
}

/// What came of one recording, or of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Lines that were asked for and found: violations, or changes between two policies.
    pub found: u64,
    /// Evidence was lost.
    pub lost: bool,
    /// Something could not be read.
    pub failed: bool,
    /// Of the entities that were asked for, in their order: whether a line named them.
    pub named: Vec<bool>,
}

impl Outcome {
    /// Both happened.
    pub fn add(&mut self, other: &Self) {
        let Self {
            found,
            lost,
            failed,
            named,
        } = other;
        self.found += found;
        self.lost |= lost;
        self.failed |= failed;
        self.named.resize(self.named.len().max(named.len()), false);
        for (all, one) in self.named.iter_mut().zip(named) {
            *all |= one;
        }
    }
}

/// Nobody listens any more.
#[derive(Debug, PartialEq, Eq)]
pub struct Gone;

/// The recording's side of the channel.
#[derive(Debug)]
pub struct Voice {
    to: SyncSender<Said>,
    lines: String,
}

impl Voice {
    /// A voice that is heard there.
    #[must_use]
    pub const fn new(to: SyncSender<Said>) -> Self {
        Self {
            to,
            lines: String::new(),
        }
    }

    /// Says a line. It is heard when a chunk is full, or at [`Self::flush`].
    ///
    /// # Errors
    /// When nobody listens.
    pub fn line(&mut self, line: &str) -> Result<(), Gone> {
        self.lines.push_str(line);
        self.lines.push('\n');
        if self.lines.len() >= CHUNK_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// All lines are heard.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn flush(&mut self) -> Result<(), Gone> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let lines = std::mem::take(&mut self.lines);
        self.say(Said::Lines(lines))
    }

    /// Says a message, behind the lines before it.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn message(&mut self, text: String) -> Result<(), Gone> {
        self.flush()?;
        self.say(Said::Message(text))
    }

    /// The recording is over.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn end(mut self, outcome: Outcome) -> Result<(), Gone> {
        self.flush()?;
        self.say(Said::End(outcome))
    }

    fn say(&self, said: Said) -> Result<(), Gone> {
        self.to.send(said).map_err(|_| Gone)
    }
}

/// What a trace's error is to a person.
#[must_use]
pub fn problem(place: &Place, error: TraceError) -> String {
    let next = match &error {
        TraceError::NotATrace => "give what \"auditor record\" or --record has written",
        TraceError::Newer { .. } => "replay it with a newer auditor",
        TraceError::Io { .. } => "check that it is there and can be read",
        TraceError::Header(_) | TraceError::Frame { .. } | TraceError::Payload { .. } => {
            "copy it again, if this is a copy; what stands before the damage was replayed"
        }
    };
    let failure = Failure::new(format!("cannot replay {place}"), next);
    let failure = match error {
        // Nothing of it was read: that there is no byte says nothing.
        TraceError::Io { offset: 0, source } => failure.caused_by(source),
        error => failure.caused_by(error),
    };
    failure::report(&failure.into()).1.unwrap_or_default()
}

/// Something weakens what the lines prove.
#[must_use]
pub fn warning(text: &str) -> String {
    format!("warning: {text}")
}

/// Something is worth knowing.
#[must_use]
pub fn note(text: &str) -> String {
    format!("note: {text}")
}
