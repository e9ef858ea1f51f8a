//! Where traces are, and what stands at their starts.

use super::voice;
use crate::agent::record::files::PARTIAL;
use crate::trace::{Header, TraceError, TraceReader, span};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const BUFFER_BYTES: usize = 1 << 18;

/// Where a trace is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In a file.
    File(PathBuf),
    /// On standard input.
    Stdin,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Stdin => f.write_str("standard input"),
        }
    }
}

impl Place {
    /// Whether it has the name of a part that is being written.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        matches!(self, Self::File(path) if is_partial(path))
    }
}

fn is_partial(path: &Path) -> bool {
    path.extension() == Some(OsStr::new(PARTIAL))
}

/// What a trace is read through.
pub type Input = BufReader<File>;

/// A trace whose header is known.
#[derive(Debug)]
pub struct Part {
    /// Where it is.
    pub place: Place,
    /// What stands at its start.
    pub header: Header,
    /// Its length; `None` where that is not known.
    pub bytes: Option<u64>,
    /// What cannot be opened twice.
    open: Option<TraceReader<Input>>,
}

impl Part {
    /// A trace in a file whose header was read.
    #[must_use]
    pub fn new(place: Place, header: Header) -> Self {
        Self {
            place,
            header,
            bytes: None,
            open: None,
        }
    }

    /// Begins to read it. Files are opened one at a time, when it is their turn.
    ///
    /// # Errors
    /// When that fails, or what is there now is no trace.
    pub fn open(&mut self) -> Result<TraceReader<Input>, TraceError> {
        if let Some(reader) = self.open.take() {
            return Ok(reader);
        }
        match (open(&self.place), &mut self.place) {
            // The recorder has finished it since.
            (Err(error), Place::File(path)) if error.is_not_found() && is_partial(path) => {
                path.set_extension("");
                open(&self.place).map(|(reader, _)| reader)
            }
            (opened, _) => opened.map(|(reader, _)| reader),
        }
    }

    /// When its last entry was, nanoseconds since boot.
    ///
    /// # Errors
    /// When it cannot be read, or comes on standard input: that has no end yet.
    pub fn latest_ns(&self) -> Result<Option<u64>, TraceError> {
        match &self.place {
            Place::File(_) if self.open.is_none() => {
                span::latest_ns(&mut open_plain(&self.place).map_err(at_start)?)
            }
            Place::File(_) | Place::Stdin => Err(TraceError::Io {
                offset: 0,
                source: io::Error::other("a pipe has no end before it is read"),
            }),
        }
    }
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Traces, in the order of their places.
    pub parts: Vec<Part>,
    /// What is no trace, in words.
    pub problems: Vec<String>,
}

/// Opens every place and reads its header. A file that is named twice counts once.
#[must_use]
pub fn open_all(places: &[Place]) -> Found {
    let mut found = Found::default();
    let mut seen = BTreeSet::new();
    for place in places {
        match open(place) {
            Ok((_, Some(id))) if !seen.insert(id) => {}
            Ok((reader, id)) => found.parts.push(Part {
                place: place.clone(),
                header: reader.header().clone(),
                bytes: length(place),
                // A pipe is read once, whatever its name.
                open: id.is_none().then_some(reader),
            }),
            // The recorder was killed before it wrote a byte.
            Err(_) if place.is_partial() && length(place) == Some(0) => {}
            Err(error) => found.problems.push(voice::problem(place, error)),
        }
    }
    found
}

type FileId = (u64, u64);

fn open(place: &Place) -> Result<(TraceReader<Input>, Option<FileId>), TraceError> {
    let from = open_plain(place).map_err(at_start)?;
    let meta = from.get_ref().metadata().map_err(at_start)?;
    // Standard input is at some place of a file that somebody else may have read from.
    let twice = meta.is_file() && *place != Place::Stdin;
    let id = twice.then(|| (meta.dev(), meta.ino()));
    Ok((TraceReader::open(from)?, id))
}

/// Opens whatever is there.
///
/// # Errors
/// The file system's.
pub fn open_plain(place: &Place) -> io::Result<Input> {
    let file = match place {
        Place::File(path) => File::open(path)?,
        // Without the buffer of the standard library, which would be a second one.
        Place::Stdin => File::from(io::stdin().as_fd().try_clone_to_owned()?),
    };
    Ok(BufReader::with_capacity(BUFFER_BYTES, file))
}

const fn at_start(source: io::Error) -> TraceError {
    TraceError::Io { offset: 0, source }
}

/// Bytes of a file; `None` for what is none.
#[must_use]
pub fn length(place: &Place) -> Option<u64> {
    let Place::File(path) = place else {
        return None;
    };
    let meta = path.metadata().ok()?;
    meta.is_file().then_some(meta.len())
}
