//! What is played by itself, by one thread: a recording, or the log of another tool.

use super::filter::{Choice, Filter};
use super::log::{Log, LogPlayer};
use super::order::{self, Recording};
use super::play::Player;
use super::sources::{self, Place};
use super::tell::Teller;
use super::voice::Gone;
use crate::cli::failure::Failure;
use crate::import::Tool;

/// What inputs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Traces.
    Traces,
    /// Logs of this tool.
    Logs(Tool),
}

/// See the [module](self).
#[derive(Debug)]
pub enum Stream {
    /// Traces that belong together.
    Recording(Recording),
    /// A log.
    Log(Log),
}

/// What was found, in the order in which it is told.
#[derive(Debug)]
pub struct Streams {
    /// What can be played.
    pub streams: Vec<Stream>,
    /// What cannot, in words.
    pub problems: Vec<String>,
    /// What is left out, in words.
    pub notes: Vec<String>,
}

impl Streams {
    /// Opens what was named.
    #[must_use]
    pub fn open(places: Vec<Place>, source: Source) -> Self {
        match source {
            Source::Traces => {
                let found = sources::open_all(&places);
                let (recordings, notes) = order::recordings(found.parts);
                Self {
                    streams: recordings.into_iter().map(Stream::Recording).collect(),
                    problems: found.problems,
                    notes,
                }
            }
            Source::Logs(tool) => Self {
                streams: places
                    .into_iter()
                    .map(|place| Stream::Log(Log { place, tool }))
                    .collect(),
                problems: Vec::new(),
                notes: Vec::new(),
            },
        }
    }
}

impl Stream {
    /// What is wanted of it.
    ///
    /// # Errors
    /// When a time counts from an end that cannot be known.
    pub fn filter(&self, choice: &Choice) -> Result<Filter, Failure> {
        match self {
            Self::Recording(recording) => {
                let offset_ns = recording.header().realtime_offset_ns;
                Filter::new(choice, offset_ns, || recording.end_ns())
            }
            Self::Log(log) => Filter::new(choice, 0, || Err(order::no_end(&log.place))),
        }
    }

    /// Its length; `None` where that is not known.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        match self {
            Self::Recording(recording) => recording.bytes(),
            Self::Log(log) => sources::length(&log.place),
        }
    }

    /// Plays it to its end.
    ///
    /// # Errors
    /// When nobody listens any more.
    pub fn play(self, teller: Teller<'_>) -> Result<(), Gone> {
        match self {
            Self::Recording(recording) => Player::new(teller).play(recording),
            Self::Log(Log { place, tool }) => LogPlayer::new(teller, tool).play(&place),
        }
    }
}
