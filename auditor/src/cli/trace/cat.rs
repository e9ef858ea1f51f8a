//! `auditor trace cat`: entries as JSON lines.

use super::files::{Content, Output, open};
use super::when::FilterArgs;
use crate::cli::exit::Exit;
use crate::trace::tool::lines;
use std::path::PathBuf;

const AFTER: &str = "\
One JSON object per entry, with names for numbers: causes, hooks, system calls, namespaces, capabilities, cgroups. The \
fields are listed in docs/trace-export.md. An entry without a time of its own belongs to the one before it.

Examples:
  auditor trace cat node.atrace --kind exec --since +10m --until +11m
  auditor trace cat node.atrace --kind change | jq 'select(.cause == \"setns\") | .task.comm'
  zcat old.atrace.gz | auditor trace cat - --kind answer,loss";

/// The flags.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub struct Args {
    /// A trace; -: standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    filter: FilterArgs,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let Args { file, filter } = args;
    let mut trace = open(file)?;
    let filter = filter.filter(trace.header());
    let (output, mut out) = Output::create("-".as_ref(), Content::Text)?;
    lines::write(&mut trace, &filter, &mut out).map_err(|e| {
        // What was read before the damage is good.
        let _ = std::io::Write::flush(&mut out);
        output.failed("read", file, e)
    })?;
    output.finish();
    Ok(Exit::Clean)
}
