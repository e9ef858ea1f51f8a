//! `auditor trace cut`: a piece of a trace, as a trace of its own.

use super::files::{Content, Output, cannot, open};
use super::when::StretchArgs;
use crate::agent::cut::{self, CutError, Stretch};
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::model::text::rfc3339;
use std::path::PathBuf;

const AFTER: &str = "\
The piece begins with the first complete sweep at or after --since (sweeps come each second, by default): there the \
trace says of every task what it is, and what follows can be judged alone. It ends before the first entry that is later \
than --until. A replay tells at its start what was violated already, and then what the whole trace's replay tells of that \
stretch. Of parts of one recording, merge first what the piece lies in.

Examples:
  auditor trace cut node.atrace --since +10m --until +12m -o piece.atrace
  auditor trace cut node.atrace --since 2026-11-23T16:00:00Z -o - | auditor replay -";

/// The flags.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub struct Args {
    /// A trace; -: standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    stretch: StretchArgs,
    /// A new file; -: standard output
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let Args { file, stretch, out } = args;
    let mut trace = open(file)?;
    let (since_ns, until_ns) = stretch.boottime_ns(trace.header());
    if since_ns
        .zip(until_ns)
        .is_some_and(|(since, until)| until < since)
    {
        return Err(Failure::new("--until is before --since", "give them in order").into());
    }
    let offset_ns = i128::from(trace.header().realtime_offset_ns);
    let (output, writer) = Output::create(out, Content::Binary)?;
    let stretch = Stretch { since_ns, until_ns };
    let piece = cut::cut(&mut trace, &stretch, writer).map_err(|e| match e {
        CutError::Tool(error) => output.failed("cut", file, error),
        nowhere @ CutError::NoSweep => cannot("cut", file, nowhere),
    })?;
    output.finish();
    let utc = |ns: u64| rfc3339(i128::from(ns) + offset_ns);
    tracing::info!(
        items = piece.items,
        "cut from {} to {}",
        utc(piece.began_ns),
        utc(piece.ended_ns)
    );
    Ok(Exit::Clean)
}
