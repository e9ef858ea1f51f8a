//! The runtime isolation auditor as a library.
//!
//! Layers, each of which may use only those above it: [`model`] (pure data and algebra), `engine`
//! (pure: events in, findings out), then sources, sinks and reports ([`sink`], [`report`]), then the
//! command line ([`cli`]).

pub mod cli;
pub mod model;
pub mod report;
pub mod sink;
