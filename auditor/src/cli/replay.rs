//! `auditor replay`: the lines of a recorded trace, again.

use super::config::Format;
use super::context::Context;
use super::exit::Exit;
use super::failure::Failure;
use crate::agent::replay::Replay;
use crate::model::output::Record;
use crate::sink::{human, jsonl};
use crate::trace::TraceReader;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

pub(super) const LONG: &str = "\
Give the lines of a recorded trace again, on any machine and without privileges.";

/// The flags.
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// Traces; -: standard input
    #[arg(value_name = "TRACE", required = true)]
    pub traces: Vec<PathBuf>,
    /// Form of the lines on stdout [default: table on a terminal, json in a pipe]
    #[arg(long, env = "AUDITOR_FORMAT", value_enum)]
    pub format: Option<Format>,
}

/// Runs the command.
///
/// # Errors
/// Says what was tried, what failed and what to do next.
pub fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let format = context.format(args.format);
    let mut exit = Exit::Clean;
    for path in &args.traces {
        exit = exit.and(replay(path, format, context)?);
    }
    Ok(exit)
}

fn replay(path: &Path, format: Format, context: &Context) -> anyhow::Result<Exit> {
    let cannot = |e: anyhow::Error| {
        let what = format!("cannot replay {}", path.display());
        Failure::new(what, "check the trace with \"auditor trace verify\"").caused_by(e)
    };
    let from: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(File::open(path).map_err(|e| cannot(e.into()))?)
    };
    let mut trace =
        TraceReader::open(BufReader::with_capacity(1 << 18, from)).map_err(|e| cannot(e.into()))?;
    let mut replay = Replay::new(trace.header(), None);
    let (mut records, mut text) = (Vec::new(), String::new());
    let mut found = false;
    while let Some(item) = trace.next_item().map_err(|e| cannot(e.into()))? {
        replay.take(&item, &mut records);
        for record in records.drain(..) {
            found |= matches!(record, Record::Violation(_));
            text += &match format {
                Format::Json => jsonl::encode(&record)?,
                Format::Table => human::line(&record, context.style),
            };
            text.push('\n');
        }
        if text.len() > 1 << 16 {
            context.print(&text)?;
            text.clear();
        }
    }
    context.print(&text)?;
    std::io::stdout().flush()?;
    Ok(if found { Exit::Violations } else { Exit::Clean })
}
