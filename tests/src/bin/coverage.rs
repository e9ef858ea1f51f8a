//! Takes from results of scenarios what they prove, and writes it as a page.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use auditor_tests::coverage::{Row, merge, rows, table};
use auditor_tests::outcome::Outcome;
use clap::Parser;

/// Writes what scenarios proved.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where it is kept, a line for each rule and scenario.
    #[arg(long)]
    kept: PathBuf,
    /// The page.
    #[arg(long)]
    page: PathBuf,
    /// Write nothing, and fail where these results show something else than what is kept.
    #[arg(long)]
    check: bool,
    /// Results, one JSON line per case.
    results: Vec<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("coverage: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let mut news = Vec::new();
    for path in &arguments.results {
        let lines = read(path)?;
        // A guest writes other things too.
        let outcomes: Vec<Outcome> = (lines.lines())
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        news.extend(rows(&outcomes));
    }
    let kept = match arguments.kept.exists() {
        true => read(&arguments.kept)?,
        false => String::new(),
    };
    let mut old: Vec<Row> = Vec::new();
    for line in kept.lines() {
        old.push(serde_json::from_str(line).context("read what is kept")?);
    }
    if arguments.check {
        return compare(&merge(old.clone(), Vec::new()), &news);
    }
    let all = merge(old, news);
    let mut text = String::new();
    for row in &all {
        text.push_str(&serde_json::to_string(row)?);
        text.push('\n');
    }
    write(&arguments.kept, &text)?;
    write(&arguments.page, &table(&all))
}

/// What a run shows on a machine that is kept must be what is kept. Another machine is no news about these.
fn compare(kept: &[Row], news: &[Row]) -> Result<()> {
    let known = |row: &&Row| kept.iter().any(|other| other.on == row.on);
    let different: Vec<String> = (news.iter().filter(known))
        .filter(|row| !row.is_among(kept))
        .map(|row| serde_json::to_string(row).unwrap_or_default())
        .collect();
    ensure!(
        different.is_empty(),
        "not in {}: {}; `cargo xtask coverage` takes it over",
        "tests/fixtures/coverage.jsonl",
        different.join(" ")
    );
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
