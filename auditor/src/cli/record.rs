//! `auditor record`, and the options of everything that records.

use super::config::FileOptions;
use super::context::Context;
use super::exit::Exit;
use super::failure::Failure;
use super::live::{LiveArgs, LiveOptions, block_signals};
use super::units::{Bytes, Span};
use crate::agent::live::Agent;
use crate::agent::record::{Destination, RecordOptions, Retention, Sync};
use crate::sink::outputs::Outputs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

pub(super) const LONG: &str = "\
Watch this machine and keep what is seen, for \"auditor replay\".

Writes a trace: every event, snapshot and name that \"auditor watch\" would have judged, and no lines. Replaying it \
gives the lines, on any machine and without privileges. A part that is under way has \".partial\" behind its name; \
one that was cut short can be replayed up to its last whole frame. Runs until SIGINT or SIGTERM.

Needs what \"auditor watch\" needs.";
const AFTER: &str = "\
Examples:
  sudo auditor record node.atrace
  sudo auditor record /var/lib/auditor/ --rotate-size 256MiB --keep-size 10GiB
  ssh node sudo auditor record - | auditor replay -

A signal ends it with 0; lost evidence with 4; a kernel on which no live tier works with 3.";

/// The flags.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = AFTER)]
pub struct Args {
    /// A new file, a directory, or - for standard output
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// How to watch.
    #[command(flatten)]
    pub live: LiveArgs,
    /// How to record.
    #[command(flatten)]
    pub recording: RecordingArgs,
}

/// Runs the command.
///
/// # Errors
/// Says what was tried, what failed and what to do next.
pub fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let record = args.recording.resolve(&args.path, &context.file)?;
    if record.destination == Destination::Stdout && std::io::stdout().is_terminal() {
        return Err(Failure::new(
            "a trace is not for a terminal",
            "give a file, or send standard output to a program or file",
        )
        .into());
    }
    let options = LiveOptions {
        record: Some(record),
        ..args.live.resolve(&context.file)?
    };
    let policy = options.policy.load()?;
    let signals = block_signals()?;
    let agent = Agent::start(&options, &policy)?;
    let outcome = agent.run(&mut Outputs::none(), &signals)?;
    Ok(outcome.exit(0))
}

/// A part shorter than this would be mostly prologue.
const LEAST_PART_BYTES: u64 = 1 << 20;
/// See [`LEAST_PART_BYTES`].
const LEAST_PART: &str = "10s";

/// How to record.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Recording")]
pub struct RecordingArgs {
    /// Begin a new part of the recording when one has this size, 1MiB or more
    #[arg(long, value_name = "BYTES", env = "AUDITOR_ROTATE_SIZE")]
    pub rotate_size: Option<Bytes>,
    /// Begin a new part of the recording after this time, 10s or more
    #[arg(long, value_name = "DURATION", env = "AUDITOR_ROTATE_AFTER")]
    pub rotate_after: Option<Span>,
    /// Keep so many finished parts, and remove the oldest
    #[arg(long, value_name = "NUMBER", env = "AUDITOR_KEEP_PARTS")]
    pub keep_parts: Option<u32>,
    /// Keep finished parts of so many bytes in all, and remove the oldest
    #[arg(long, value_name = "BYTES", env = "AUDITOR_KEEP_SIZE")]
    pub keep_size: Option<Bytes>,
    /// When to wait until the recording is on the disk [default: part]
    #[arg(long, env = "AUDITOR_SYNC", value_enum)]
    pub sync: Option<Sync>,
}

impl RecordingArgs {
    /// Flags and environment before the file, the file before defaults.
    ///
    /// # Errors
    /// When a value is out of its bounds.
    pub fn resolve(self, path: &Path, file: &FileOptions) -> Result<RecordOptions, Failure> {
        let rotate_size = self.rotate_size.or(file.rotate_size);
        if let Some(Bytes(size)) = rotate_size.filter(|b| b.0 < LEAST_PART_BYTES) {
            return Err(Failure::new(
                format!("--rotate-size of {size} bytes is too small for a part"),
                "give 1MiB or more, such as 256MiB",
            ));
        }
        let rotate_after = self.rotate_after.or(file.rotate_after);
        let least: Span = LEAST_PART.parse().expect("the constant is a duration");
        if let Some(after) = rotate_after.filter(|after| *after < least) {
            return Err(Failure::new(
                format!("--rotate-after {after} is too short for a part"),
                format!("give {LEAST_PART} or more, such as 1h"),
            ));
        }
        let keep_parts = self.keep_parts.or(file.keep_parts);
        if keep_parts == Some(0) {
            return Err(Failure::new(
                "--keep-parts 0 would remove each part as soon as it is finished",
                "give 1 or more",
            ));
        }
        Ok(RecordOptions {
            destination: Destination::parse(path),
            rotate_bytes: rotate_size.map(|b| b.0),
            rotate_after: rotate_after.map(|after| after.0),
            retention: Retention {
                parts: keep_parts,
                bytes: self.keep_size.or(file.keep_size).map(|b| b.0),
            },
            sync: self.sync.or(file.sync).unwrap_or_default(),
        })
    }
}
