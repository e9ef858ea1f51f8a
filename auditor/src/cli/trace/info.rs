//! `auditor trace info`: what is in a trace, in numbers.

use super::files::open;
use crate::cli::config::Format;
use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::sink::human::{Paint, Style, printable};
use crate::trace::tool::info::{self, End, Info, Lost};
use serde::Serialize;
use std::fmt::Write;
use std::path::{Path, PathBuf};

const AFTER: &str = "\
Examples:
  auditor trace info node.atrace
  auditor trace info --format json parts/*.atrace | jq '{file, part: .header.part, losses}'

Exit codes: 0; 2 when a trace is damaged: what is said then is about what stands before the damage.";

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
    info: &'a Info,
}

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let mut exit = Exit::Clean;
    for file in &args.files {
        let info = info::read(&mut open(file)?);
        if matches!(info.ending, End::Damaged { .. }) {
            exit = exit.and(Exit::Error);
        }
        let text = match context.format(args.format) {
            Format::Json => serde_json::to_string(&Line { file, info: &info })? + "\n",
            Format::Table => table(file, &info, context.style),
        };
        context.print(&text)?;
    }
    Ok(exit)
}

/// Rows of a name and a value, and an empty line behind them.
fn table(file: &Path, info: &Info, style: Style) -> String {
    let mut rows: Vec<(String, String)> = Vec::new();
    let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
    about(info, &mut row);
    for (kind, count) in &info.counts {
        row(kind, count.to_string());
    }
    if info.incomplete_sweeps > 0 {
        row("incomplete sweeps", info.incomplete_sweeps.to_string());
    }
    for (place, lost) in &info.losses {
        row(&format!("lost ({place})"), losses(lost));
    }
    row("ending", ending(&info.ending));
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let file = file.display().to_string();
    let mut text = style.paint(Paint::Strong, &printable(&file)) + "\n";
    for (name, value) in rows {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {:width$}  {}", printable(&name), printable(&value));
    }
    text.push('\n');
    text
}

fn about(info: &Info, row: &mut impl FnMut(&str, String)) {
    let header = &info.header;
    row("recording", header.recording.clone());
    let continues = match (header.part, header.continues) {
        (0, _) => "",
        (_, true) => ", continues the one before",
        (_, false) => ", what lies before it is lost",
    };
    row("part", format!("{}{continues}", header.part));
    row("node", format!("{} (boot {})", header.node, header.boot_id));
    row("kernel", format!("{} {}", header.kernel, header.arch));
    row(
        "recorded by",
        format!(
            "auditor {}, format {}, tier {}",
            header.version, info.format, header.tier
        ),
    );
    row("policy", header.policy_digest.clone());
    if let Some(stretch) = &info.stretch {
        row("from", stretch.first.clone());
        row("to", stretch.last.clone());
    }
    let ratio = info.payload_bytes as f64 / info.stored_bytes.max(1) as f64;
    row(
        "size",
        format!(
            "{} bytes in {} frames, compressed {ratio:.1} times",
            info.bytes, info.frames
        ),
    );
    let per_second = info
        .events_per_second
        .map_or(String::new(), |n| format!(", {n:.1} a second"));
    let per_event = info
        .bytes_per_event
        .map_or(String::new(), |n| format!(", {n:.1} bytes each"));
    row(
        "kernel events",
        format!("{}{per_second}{per_event}", info.kernel_events),
    );
    if info.prologue_items > 0 {
        row("prologue", format!("{} items", info.prologue_items));
    }
}

fn losses(lost: &Lost) -> String {
    let Lost {
        count,
        by_hook,
        by_cpu,
    } = lost;
    let hooks = by_hook.iter().map(|(hook, n)| format!("{hook} {n}"));
    let cpus = by_cpu.iter().map(|(cpu, n)| format!("CPU {cpu} {n}"));
    let parts: Vec<String> = hooks.chain(cpus).collect();
    match parts.is_empty() {
        true => count.to_string(),
        false => format!("{count}: {}", parts.join(", ")),
    }
}

fn ending(ending: &End) -> String {
    match ending {
        End::Finished => "finished".to_owned(),
        End::Unfinished => "unfinished: the writer was killed, or still writes".to_owned(),
        End::Cut { offset, bytes } => {
            format!("cut at byte {offset}: the {bytes} bytes behind it are part of a frame")
        }
        End::Damaged { error, .. } => format!("damaged: {error}"),
    }
}
