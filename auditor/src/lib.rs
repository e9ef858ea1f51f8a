//! The runtime isolation auditor as a library.
//!
//! Layers, each of which may use only those above it: [`model`] (pure data and algebra), [`engine`]
//! (pure: events in, findings out), then sources, sinks and reports, then the command line.
//! [`inventory`] is who a container is, read from names and files at rest; [`sensor`] is the only part
//! that touches the kernel; [`import`] makes events of other tools' logs.

pub mod agent;
pub mod cli;
pub mod engine;
pub mod import;
pub mod inventory;
pub mod model;
pub mod report;
pub mod sensor;
pub mod sink;
pub mod trace;
