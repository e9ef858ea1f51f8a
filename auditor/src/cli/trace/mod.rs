//! `auditor trace`: look at recorded traces, and make traces of traces.

mod anonymise;
mod cat;
mod cut;
mod export;
mod files;
mod info;
mod merge;
mod verify;
mod when;

use super::context::Context;
use super::exit::Exit;

pub(super) const LONG: &str = "\
Look at recorded traces, and make traces of traces.

Nothing of this machine is touched but the files that are named. A new trace is a new file: one that is there is never \
written over. - is standard input or output, where that makes sense.";
const AFTER: &str = "\
Examples:
  auditor trace info node.atrace
  auditor trace verify parts/*.atrace
  auditor trace cat node.atrace --kind exec | jq .file
  auditor trace cut node.atrace --since 2026-11-23T16:00:00Z --until 2026-11-23T16:05:00Z -o piece.atrace
  auditor trace anonymise piece.atrace -o piece-to-show.atrace";

/// The flags.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// What is in a trace, in numbers
    Info(info::Args),
    /// The entries of a trace as JSON lines
    Cat(cat::Args),
    /// Whether all of a trace can be read
    Verify(verify::Args),
    /// A piece of a trace, as a trace of its own
    Cut(cut::Args),
    /// The parts of one recording as one trace
    Merge(merge::Args),
    /// The same trace under other names, to be shown to somebody else
    Anonymise(anonymise::Args),
    /// The entries of a trace for programs that work on tables
    Export(export::Args),
}

/// Runs the command.
///
/// # Errors
/// Says what was tried, what failed and what to do next.
pub fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    match args.action {
        Action::Info(args) => info::run(&args, context),
        Action::Cat(args) => cat::run(&args),
        Action::Verify(args) => verify::run(&args, context),
        Action::Cut(args) => cut::run(&args),
        Action::Merge(args) => merge::run(&args),
        Action::Anonymise(args) => anonymise::run(&args),
        Action::Export(args) => export::run(&args),
    }
}
