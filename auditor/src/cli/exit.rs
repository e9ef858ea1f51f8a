//! Exit codes, in one place.

use std::process::ExitCode;

/// How a command ended. Scripts rely on the numbers: they never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: nothing to report.
    Clean,
    /// 1: violations were found.
    Violations,
    /// 2: wrong usage, or an error at run time.
    Error,
    /// 3: this environment cannot do it.
    Unsupported,
    /// 4: evidence was lost, so that silence proves nothing.
    EvidenceLost,
}

/// The exit codes, for help texts.
pub const HELP: &str = "\
Exit codes:
  0  clean
  1  violations were found (scan, replay; watch only with --exit-on)
  2  wrong usage, or an error at run time
  3  this environment cannot do it (no live tier); \"auditor doctor\" says why
  4  evidence was lost: silence proves nothing";

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Violations => 1,
            Self::Error => 2,
            Self::Unsupported => 3,
            Self::EvidenceLost => 4,
        }
    }

    /// Both happened: the one that says more about what can be trusted. 2 > 3 > 4 > 1 > 0.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        if self.rank() >= other.rank() {
            self
        } else {
            other
        }
    }

    const fn rank(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Violations => 1,
            Self::EvidenceLost => 2,
            Self::Unsupported => 3,
            Self::Error => 4,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

#[cfg(test)]
mod tests {
    use super::{Exit, HELP};

    const ALL: [Exit; 5] = [
        Exit::Clean,
        Exit::Violations,
        Exit::EvidenceLost,
        Exit::Unsupported,
        Exit::Error,
    ];

    /// Goal: 2 > 4 > 1 > 0, whichever comes first.
    #[test]
    fn precedence() {
        for (low, &a) in ALL.iter().enumerate() {
            for (high, &b) in ALL.iter().enumerate() {
                assert_eq!(a.and(b), ALL[low.max(high)]);
            }
        }
        assert_eq!(Exit::Violations.and(Exit::EvidenceLost).code(), 4);
        assert_eq!(Exit::EvidenceLost.and(Exit::Error).code(), 2);
    }

    /// Goal: the help names every code.
    #[test]
    fn help_is_complete() {
        assert!(
            ALL.iter()
                .all(|e| HELP.contains(&format!("\n  {}  ", e.code())))
        );
    }
}
