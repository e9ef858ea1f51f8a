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

/// What a run was on, as far as it decides what can be seen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Machine {
    /// The kernel's version: two numbers.
    pub kernel: String,
    /// The auditor's tier.
    pub tier: String,
}

impl Machine {
    /// From the release of a kernel, as it calls itself.
    #[must_use]
    pub fn new(release: &str, tier: &str) -> Self {
        let numbers: Vec<&str> = release.split(['.', '-']).take(2).collect();
        Self {
            kernel: numbers.join("."),
            tier: tier.to_owned(),
        }
    }

    /// To be ordered by.
    #[must_use]
    pub fn version(&self) -> Vec<u32> {
        let numbers = self.kernel.split('.');
        numbers.map(|number| number.parse().unwrap_or(0)).collect()
    }
}

/// A line that was expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Its rule.
    pub rule: String,
    /// The hook that witnessed it; none where it cannot be seen, and did not come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<String>,
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
    /// Where, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<Machine>,
    /// The lines that it was about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<Shown>,
}

/// Collects outcomes.
#[derive(Debug, Default)]
pub struct Report {
    file: Option<File>,
    /// All so far.
    pub outcomes: Vec<Outcome>,
    /// Where the cases to come run.
    pub on: Option<Machine>,
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
            on: None,
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
        self.check_lines(case, took, problem, Vec::new())
    }

    /// As [`Report::check`], for a case about these lines.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn check_lines(
        &mut self,
        case: impl Into<String>,
        took: Duration,
        problem: Option<String>,
        lines: Vec<Shown>,
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
            on: self.on.clone(),
            lines,
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
            on: self.on.clone(),
            lines: Vec::new(),
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
