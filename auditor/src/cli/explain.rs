//! `auditor explain`: for somebody who is woken by a line.

use super::context::Context;
use super::exit::Exit;
use super::failure::Failure;
use crate::model::RuleId;
use crate::report::scan::ScanReport;
use crate::report::{explain, pair};
use crate::sink::jsonl;
use anyhow::Context as _;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::path::{Path, PathBuf};

pub(super) const LONG: &str = "\
Explain a rule, a line of output, or a pair of a scan.

For a line: what happened, the evidence in words, why it matters, what to do, and policy text that declares it as \
expected. For a pair: each dimension with its verdict and the kernel object behind it.";
const AFTER: &str = "\
Examples:
  auditor explain namespace-join
  tail -n 1 /var/log/auditor.jsonl | auditor explain
  auditor explain /var/log/auditor.jsonl
  sudo auditor scan --format json | auditor explain --pair web db

Exit codes: 0 explained, 2 error.";

/// A line longer than this is none of ours.
const LINE_BYTES_MAX: usize = 1 << 20;
/// A scan larger than this is none of ours.
const SCAN_BYTES_MAX: u64 = 1 << 30;

/// The flags.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = AFTER)]
pub struct Args {
    /// A rule id, a file of lines, - for stdin, or a line itself [default: -]
    #[arg(value_name = "RULE|FILE|-|LINE", conflicts_with_all = ["pair", "scan"])]
    pub what: Option<String>,
    /// Explain this pair of a scan: ids, names, or the start of an id
    #[arg(long, num_args = 2, value_names = ["A", "B"])]
    pub pair: Option<Vec<String>>,
    /// The scan (its JSON) that --pair is about; - for stdin [default: -]
    #[arg(long, value_name = "FILE", requires = "pair")]
    pub scan: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// Says what was tried, what failed and what to do next.
pub fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let Args { what, pair, scan } = args;
    if let Some([a, b]) = pair.as_deref() {
        let path = scan.unwrap_or_else(|| "-".into());
        let text = explain_pair(a, b, &path, context)?;
        context.print(&text)?;
        return Ok(Exit::Clean);
    }
    let what = what.as_deref().unwrap_or("-");
    if let Ok(rule) = what.parse::<RuleId>() {
        context.print(&explain::rule(rule, context.style))?;
    } else if what.trim_start().starts_with('{') {
        context.print(&explain_line(what, "the argument", context)?)?;
    } else {
        explain_lines(what, context)?;
    }
    Ok(Exit::Clean)
}

fn explain_line(line: &str, place: &str, context: &Context) -> anyhow::Result<String> {
    let record = jsonl::decode(line).map_err(|e| {
        let next = "give a whole line as \"auditor watch\" wrote it, or a rule id";
        Failure::new(format!("cannot explain {place}"), next).caused_by(e)
    })?;
    Ok(explain::record(&record, context.style))
}

fn explain_lines(what: &str, context: &Context) -> anyhow::Result<()> {
    let mut input = BufReader::new(open(Path::new(what), true)?);
    let mut number = 0;
    let mut explained = 0;
    let mut line = Vec::new();
    loop {
        line.clear();
        number += 1;
        let n = (&mut input)
            .take(LINE_BYTES_MAX as u64 + 1)
            .read_until(b'\n', &mut line)
            .with_context(|| format!("read line {number} of {what}"))?;
        if n == 0 {
            break;
        }
        let place = format!(
            "line {number} of {}",
            if what == "-" { "stdin" } else { what }
        );
        if n > LINE_BYTES_MAX {
            let next = "give lines as \"auditor watch\" wrote them";
            return Err(Failure::new(format!("{place} is longer than 1 MiB"), next).into());
        }
        let text = std::str::from_utf8(&line).map_err(|e| {
            let what = format!("{place} is not UTF-8 from column {}", e.valid_up_to() + 1);
            Failure::new(what, "give lines as \"auditor watch\" wrote them")
        })?;
        if text.trim().is_empty() {
            continue;
        }
        let text = explain_line(text, &place, context)?;
        context.print(&if explained > 0 {
            format!("\n{text}")
        } else {
            text
        })?;
        explained += 1;
    }
    if explained == 0 {
        let next = "give a rule id or a line; \"auditor explain --help\" shows how";
        return Err(Failure::new("there was nothing to explain", next).into());
    }
    Ok(())
}

fn explain_pair(a: &str, b: &str, path: &Path, context: &Context) -> anyhow::Result<String> {
    let mut text = String::new();
    open(path, false)?
        .take(SCAN_BYTES_MAX)
        .read_to_string(&mut text)
        .with_context(|| format!("read the scan from {}", path.display()))?;
    let scan: ScanReport = serde_json::from_str(&text).map_err(|e| {
        let next = "give what \"auditor scan --format json\" printed";
        Failure::new(format!("{} holds no scan", path.display()), next).caused_by(e)
    })?;
    if scan.schema != crate::model::output::SCHEMA {
        let what = format!("the scan has schema \"{}\"", scan.schema);
        return Err(Failure::new(what, "scan again with this version of the auditor").into());
    }
    Ok(pair::explain(&scan, a, b, context.style).map_err(|e| {
        Failure::new(
            e.to_string(),
            "name entities as the scan does: id, name, or start of an id",
        )
    })?)
}

fn open(path: &Path, may_be_rule: bool) -> anyhow::Result<Box<dyn Read>> {
    if path.as_os_str() == "-" {
        let stdin = std::io::stdin();
        if stdin.is_terminal() {
            tracing::warn!("reading from the terminal; end with Ctrl-D");
        }
        return Ok(Box::new(stdin));
    }
    let file = File::open(path).map_err(|e| {
        if may_be_rule && e.kind() == std::io::ErrorKind::NotFound {
            let rules: Vec<&str> = RuleId::ALL.iter().map(|r| r.as_str()).collect();
            let what = format!("\"{}\" is neither a rule nor a file", path.display());
            return Failure::new(what, format!("rules are {}", rules.join(", ")));
        }
        Failure::new(format!("cannot open {}", path.display()), "check the path").caused_by(e)
    })?;
    Ok(Box::new(file))
}
