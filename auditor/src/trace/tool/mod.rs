//! Looking at traces, and making traces of traces. Everything here reads a [`TraceReader`] and writes to a writer: no
//! file, no clock, no engine. Memory is bounded by the tasks and cgroups that live, never by the length of a trace.
//!
//! - [`info`]: what is in a trace; [`verify`]: whether all of it can be read.
//! - [`lines`]: items as JSON, each as an [`entry`], those that a [`filter`] wants.
//! - [`merge`]: the parts of a recording as one trace.
//! - [`anonymise`]: the same trace with other names.
//! - `parquet`: a row per item, for programs that work on tables. Behind the feature of that name.
//!
//! Cutting a piece out of a trace needs an engine: see [`crate::agent::cut`].

pub mod anonymise;
pub mod entry;
pub mod filter;
pub mod info;
pub mod kind;
pub mod lines;
pub mod merge;
mod names;
#[cfg(feature = "parquet")]
pub mod parquet;
pub mod verify;

use super::TraceError;
use std::io;

/// Why a tool could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The trace cannot be read.
    #[error(transparent)]
    Read(#[from] TraceError),
    /// What came of it cannot be written.
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
    /// The parts do not belong together.
    #[error(transparent)]
    Merge(#[from] merge::MergeError),
    /// It can be read, but this cannot be done with it.
    #[error("byte {offset}: {what}")]
    Refused {
        /// Where the frame starts that it stands in.
        offset: u64,
        /// Why not.
        what: String,
    },
}
