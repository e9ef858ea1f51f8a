//! Errors as a person reads them: what was tried, what failed, what to do next.

use super::exit::Exit;
use std::io;

/// An error that knows what to do next, and how the command ends.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Failure {
    what: String,
    next: String,
    exit: Exit,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Failure {
    /// What failed, and what to do next; ends with 2.
    pub fn new(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            next: next.into(),
            exit: Exit::Error,
            source: None,
        }
    }

    /// The environment cannot do it; ends with 3.
    pub fn unsupported(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            exit: Exit::Unsupported,
            ..Self::new(what, next)
        }
    }

    /// With the error that caused it.
    #[must_use]
    pub fn caused_by(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }
}

/// The reader of stdout hung up. That is its right: the command ends quietly.
#[derive(Debug, thiserror::Error)]
#[error("the reader of standard output hung up")]
pub struct HungUp;

/// Turns an error of writing to stdout into [`HungUp`] where it is that.
pub(crate) fn stdout_error(error: io::Error) -> anyhow::Error {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return HungUp.into();
    }
    Failure::new(
        "cannot write to standard output",
        "check where it leads, and the room there",
    )
    .caused_by(error)
    .into()
}

/// An error and what caused it, in one line. Many errors name their cause themselves: that is not said twice.
#[must_use]
pub fn in_words(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.ends_with(&cause) {
            continue;
        }
        if !text.is_empty() {
            text += ": ";
        }
        text += &cause;
    }
    text
}

/// How a failed command ends, and what to say on stderr (nothing where it ends quietly).
#[must_use]
pub fn report(error: &anyhow::Error) -> (Exit, Option<String>) {
    if error.is::<HungUp>() {
        return (Exit::Clean, None);
    }
    let mut text = format!("error: {}", in_words(error));
    let failure = error.chain().find_map(|e| e.downcast_ref::<Failure>());
    if let Some(failure) = failure {
        text += "\n  next: ";
        text += &failure.next;
    }
    (failure.map_or(Exit::Error, |f| f.exit), Some(text))
}

#[cfg(test)]
mod tests {
    use super::{Failure, report, stdout_error};
    use crate::cli::exit::Exit;
    use anyhow::Context;
    use std::io::ErrorKind;

    /// Goal: the three parts are there, through layers of context, with the right code.
    #[test]
    fn says_tried_failed_next() {
        let failure = Failure::unsupported("no hook works", "run \"auditor doctor\"")
            .caused_by(std::io::Error::from(ErrorKind::PermissionDenied));
        let error = Err::<(), _>(anyhow::Error::from(failure))
            .context("start watching")
            .unwrap_err();
        let (exit, text) = report(&error);
        assert_eq!(exit, Exit::Unsupported);
        let want = "error: start watching: no hook works: permission denied\n  next: run \"auditor doctor\"";
        assert_eq!(text.as_deref(), Some(want));
    }

    /// Goal: a cause that an error names itself is said once.
    #[test]
    fn says_nothing_twice() {
        #[derive(Debug, thiserror::Error)]
        #[error("open /x: {0}")]
        struct Named(#[source] std::io::Error);
        let cause = Named(std::io::Error::other("it is gone"));
        let error = anyhow::Error::from(Failure::new("cannot start", "open it").caused_by(cause));
        let text = report(&error).1;
        let want = "error: cannot start: open /x: it is gone\n  next: open it";
        assert_eq!(text.as_deref(), Some(want));
    }

    /// Goal: a closed pipe is no error.
    #[test]
    fn a_closed_pipe_is_quiet() {
        let error = stdout_error(ErrorKind::BrokenPipe.into());
        assert_eq!(report(&error), (Exit::Clean, None));
        let error = stdout_error(ErrorKind::StorageFull.into());
        assert_eq!(report(&error).0, Exit::Error);
    }
}
