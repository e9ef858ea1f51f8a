//! How a watch ends, and with which exit code.

use super::exit::Exit;

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
