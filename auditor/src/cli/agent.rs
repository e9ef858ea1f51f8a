//! The seam between the command line and what looks at the kernel.
//!
//! Above it: options that are checked, outputs that are open, signals that are blocked. Below it:
//! sensor, inventory and engine. The functions take plain values and return plain values, so that
//! neither side knows how the other works.

use super::doctor::DoctorOptions;
use super::exit::Exit;
use super::failure::Failure;
use super::scan::ScanOptions;
use super::signals::Signals;
use super::watch::WatchOptions;
use crate::report::doctor::DoctorReport;
use crate::report::scan::ScanReport;
use crate::sink::outputs::Outputs;
use std::ffi::OsString;

/// Why a watch ended in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedBy {
    /// SIGINT or SIGTERM.
    Signal,
    /// `--duration` is over.
    Duration,
    /// A violation reached `--exit-on`.
    ExitOn,
    /// The reader of stdout hung up.
    HungUp,
}

/// How a watch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchOutcome {
    /// Why.
    pub ended_by: EndedBy,
    /// Events lost before the sinks: in the kernel, in queues.
    pub lost_events: u64,
}

impl WatchOutcome {
    /// The exit code, together with the lines that sinks lost.
    #[must_use]
    pub const fn exit(self, lost_lines: u64) -> Exit {
        let found = match self.ended_by {
            EndedBy::ExitOn => Exit::Violations,
            EndedBy::Signal | EndedBy::Duration | EndedBy::HungUp => Exit::Clean,
        };
        match self.lost_events + lost_lines {
            0 => found,
            _ => found.and(Exit::EvidenceLost),
        }
    }
}

fn not_built_in(what: &str) -> anyhow::Error {
    let what = format!("{what} is not built into this auditor");
    Failure::unsupported(what, "use a build with the sensor").into()
}

/// Watches until something ends it: emits every record to `outputs`, asks
/// [`WatchOptions::ends_on`] after each, and ends when `outputs` has hung up. The caller flushes.
///
/// # Errors
/// A [`Failure`]: unsupported when no live tier works.
pub fn watch(
    options: &WatchOptions,
    outputs: &mut Outputs,
    signals: &Signals,
) -> anyhow::Result<WatchOutcome> {
    let _ = (options, outputs, signals);
    Err(not_built_in("watching"))
}

/// Looks once at the machine.
///
/// # Errors
/// A [`Failure`] when /proc or the cgroups cannot be read.
pub fn scan(options: &ScanOptions) -> anyhow::Result<ScanReport> {
    let _ = options;
    Err(not_built_in("scanning"))
}

/// Tries everything and tells. A machine where nothing works is still a report, not an error.
///
/// # Errors
/// A [`Failure`] when not even that can be found out.
pub fn doctor(options: &DoctorOptions) -> anyhow::Result<DoctorReport> {
    let _ = options;
    Err(not_built_in("the diagnosis"))
}

/// The child of the sensor's self-test: acts so that each hook has something to see.
///
/// # Errors
/// A [`Failure`] when it cannot act.
pub fn self_test_helper(args: &[OsString]) -> anyhow::Result<Exit> {
    let _ = args;
    Err(not_built_in("the self-test"))
}

#[cfg(test)]
mod tests {
    use super::{EndedBy, Exit, WatchOutcome};

    /// Goal: a signal ends with 0, --exit-on with 1, and lost evidence outranks both.
    #[test]
    fn exit_codes_of_watch() {
        let outcome = |ended_by, lost_events| WatchOutcome {
            ended_by,
            lost_events,
        };
        assert_eq!(outcome(EndedBy::Signal, 0).exit(0), Exit::Clean);
        assert_eq!(outcome(EndedBy::HungUp, 0).exit(0), Exit::Clean);
        assert_eq!(outcome(EndedBy::ExitOn, 0).exit(0), Exit::Violations);
        assert_eq!(outcome(EndedBy::ExitOn, 1).exit(0), Exit::EvidenceLost);
        assert_eq!(outcome(EndedBy::Duration, 0).exit(2), Exit::EvidenceLost);
    }
}
