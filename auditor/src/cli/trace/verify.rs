//! `auditor trace verify`: whether all of a trace can be read.

use super::files::bytes;
use crate::cli::config::Format;
use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::sink::human::{Paint, Style, printable};
use crate::trace::tool::info::End;
use crate::trace::tool::verify::{Verdict, verify};
use serde::Serialize;
use std::io;
use std::path::{Path, PathBuf};

const AFTER: &str = "\
Checks every checksum, decodes every entry, and compares the index with the frames. Says where the first damage is and how \
much can be read. What stands before damage can be replayed; nothing behind it can.

Examples:
  auditor trace verify node.atrace
  auditor trace verify --format json parts/*.atrace | jq -r 'select(.ending.state == \"damaged\") | .file'

Exit codes: 0 all can be read, 2 damaged or no trace, 4 cut short or not finished.";

/// The flags.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub struct Args {
    /// Traces; -: standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Form of the answer [default: table on a terminal, json in a pipe]
    #[arg(long, env = "AUDITOR_FORMAT", value_enum)]
    format: Option<Format>,
}

/// The answer about one file.
#[derive(Serialize)]
struct Line<'a> {
    file: &'a Path,
    #[serde(flatten)]
    verdict: &'a Verdict,
}

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let mut exit = Exit::Clean;
    for file in &args.files {
        let verdict = match bytes(file) {
            Ok(bytes) => verify(bytes),
            Err(error) => Verdict::unreadable(&unopened(error)),
        };
        exit = exit.and(exit_of(&verdict.ending));
        let mut text = match context.format(args.format) {
            Format::Json => serde_json::to_string(&Line {
                file,
                verdict: &verdict,
            })?,
            Format::Table => sentence(file, &verdict, context.style),
        };
        text.push('\n');
        context.print(&text)?;
    }
    Ok(exit)
}

const fn unopened(source: io::Error) -> crate::trace::TraceError {
    crate::trace::TraceError::Io { offset: 0, source }
}

const fn exit_of(ending: &End) -> Exit {
    match ending {
        End::Finished => Exit::Clean,
        End::Unfinished | End::Cut { .. } => Exit::EvidenceLost,
        End::Damaged { .. } => Exit::Error,
    }
}

fn sentence(file: &Path, verdict: &Verdict, style: Style) -> String {
    let Verdict {
        ending,
        frames,
        items,
        readable_bytes,
        until,
    } = verdict;
    let (word, paint, more) = match ending {
        End::Finished => ("fine", Paint::Good, String::new()),
        End::Unfinished => (
            "unfinished",
            Paint::Warn,
            " (the writer was killed, or still writes)".to_owned(),
        ),
        End::Cut { offset, bytes } => (
            "cut",
            Paint::Warn,
            format!(" at byte {offset}: the {bytes} bytes behind it are part of a frame"),
        ),
        End::Damaged { error, .. } => ("damaged", Paint::Bad, format!(": {}", printable(error))),
    };
    let until = until
        .as_deref()
        .map_or(String::new(), |t| format!(", until {t}"));
    let file = file.display().to_string();
    format!(
        "{}: {}{more}; readable: {items} items in {frames} frames, {readable_bytes} bytes{until}",
        printable(&file),
        style.paint(paint, word)
    )
}
