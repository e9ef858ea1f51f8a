//! What can be wrong with a trace, with the byte of the file where it is.

use super::header::MAJOR;
use super::wire::Malformed;
use std::io;

/// Why a trace cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file system.
    #[error("byte {offset}: {source}")]
    Io {
        /// Where in the trace.
        offset: u64,
        /// What the system said.
        source: io::Error,
    },
    /// It does not start as a trace does.
    #[error("not a trace: it does not start with the trace mark")]
    NotATrace,
    /// A newer format.
    #[error("format {found} is newer than {MAJOR}, the newest that this version reads")]
    Newer {
        /// Its major version.
        found: u16,
    },
    /// The header.
    #[error("the header is damaged: {0}")]
    Header(String),
    /// A frame.
    #[error("byte {offset}: the frame that starts here {what}")]
    Frame {
        /// Where the frame starts.
        offset: u64,
        /// What is wrong, as the end of a sentence.
        what: String,
    },
    /// What a frame holds, though its checksum is right.
    #[error("byte {offset}: in the frame that starts here, {source}")]
    Payload {
        /// Where the frame starts.
        offset: u64,
        /// What is wrong.
        source: Malformed,
    },
}

impl TraceError {
    /// Whether there is no such file.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}
