//! Results: one JSON line per case, and a readable line for whoever watches.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As expected.
    Passed,
    /// Not as expected.
    Failed,
    /// Something that it needs is not there.
    Skipped,
}

/// One case's result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// `RUNTIME/SCENARIO/STEP` or the like.
    pub case: String,
    /// How it ended.
    pub verdict: Verdict,
    /// Why, if it did not pass.
    #[serde(default)]
    pub detail: String,
    /// How long it took.
    pub millis: u128,
}

/// Collects outcomes.
#[derive(Debug, Default)]
pub struct Report {
    file: Option<File>,
    /// All so far.
    pub outcomes: Vec<Outcome>,
}

impl Report {
    /// A report that is also written to `path`, line by line, if given.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn new(path: Option<&Path>) -> Result<Self> {
        let open = |path: &Path| {
            File::options()
                .create(true)
                .append(true)
                .open(path)
                .with_context(|| format!("open {}", path.display()))
        };
        Ok(Self {
            file: path.map(open).transpose()?,
            outcomes: Vec::new(),
        })
    }

    /// Adds one.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn add(&mut self, outcome: Outcome) -> Result<()> {
        let mark = match outcome.verdict {
            Verdict::Passed => "ok  ",
            Verdict::Failed => "FAIL",
            Verdict::Skipped => "skip",
        };
        let Outcome {
            case,
            detail,
            millis,
            ..
        } = &outcome;
        eprintln!(
            "{mark} {case} ({millis} ms){}{detail}",
            if detail.is_empty() { "" } else { ": " }
        );
        if let Some(file) = &mut self.file {
            writeln!(file, "{}", serde_json::to_string(&outcome)?).context("write the results")?;
        }
        self.outcomes.push(outcome);
        Ok(())
    }

    /// Adds a case that passed if `problem` is `None`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn check(
        &mut self,
        case: impl Into<String>,
        took: Duration,
        problem: Option<String>,
    ) -> Result<()> {
        let verdict = if problem.is_none() {
            Verdict::Passed
        } else {
            Verdict::Failed
        };
        let detail = problem.unwrap_or_default();
        self.add(Outcome {
            case: case.into(),
            verdict,
            detail,
            millis: took.as_millis(),
        })
    }

    /// Adds a case that could not run.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn skip(&mut self, case: impl Into<String>, why: impl Into<String>) -> Result<()> {
        self.add(Outcome {
            case: case.into(),
            verdict: Verdict::Skipped,
            detail: why.into(),
            millis: 0,
        })
    }

    /// How many ended so.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.outcomes
            .iter()
            .filter(|outcome| outcome.verdict == verdict)
            .count()
    }
}
