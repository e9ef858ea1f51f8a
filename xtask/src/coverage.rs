//! `cargo xtask coverage`: takes over what the last runs of scenarios proved, and writes docs/coverage.md anew.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Result;

use crate::project;

/// Write what scenarios proved into docs/coverage.md.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write nothing, and fail where the results show something else than what is kept.
    #[arg(long)]
    check: bool,
    /// Results of scenarios; by default those of the last runs on this host and in guests.
    results: Vec<PathBuf>,
}

/// Runs the task.
pub(crate) fn run(args: &Args) -> Result<()> {
    if args.results.is_empty() {
        return take(&results_since(SystemTime::UNIX_EPOCH), args.check);
    }
    take(&args.results, args.check)
}

/// Where scenarios on this host leave their results.
pub(crate) fn host_results() -> PathBuf {
    project::target().join("scenarios.jsonl")
}

/// Fails where these results show something else than what is kept.
pub(crate) fn check(results: &[PathBuf]) -> Result<()> {
    take(results, true)
}

/// Results that were written since then.
pub(crate) fn results_since(when: SystemTime) -> Vec<PathBuf> {
    let guests = std::fs::read_dir(project::target().join("vm/guests"));
    let guests = guests.into_iter().flatten().flatten();
    let mut all: Vec<PathBuf> = guests
        .map(|guest| guest.path().join("results.jsonl"))
        .chain([host_results()])
        .filter(|path| is_since(path, when))
        .collect();
    all.sort();
    all
}

fn is_since(path: &Path, when: SystemTime) -> bool {
    let written = path.metadata().and_then(|metadata| metadata.modified());
    written.is_ok_and(|written| written >= when)
}

fn take(results: &[PathBuf], check: bool) -> Result<()> {
    let mut coverage = project::cargo();
    coverage
        .args([
            "run",
            "--quiet",
            "--package",
            "auditor-tests",
            "--bin",
            "coverage",
            "--",
        ])
        .args(["--kept", "tests/fixtures/coverage.jsonl"])
        .args(["--page", "docs/coverage.md"]);
    if check {
        coverage.arg("--check");
    }
    project::run(coverage.args(results))
}
