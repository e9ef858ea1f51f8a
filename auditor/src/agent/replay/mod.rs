//! Recorded traces, replayed: the same engine, the same lines, and nothing of this machine in them.
//!
//! - [`expand`], [`sources`]: from arguments to places, and what stands at the start of a trace.
//! - [`order`]: from parts to recordings, and how a part follows the one before.
//! - [`streams`]: what is played by itself: a recording, or the log of another tool.
//! - [`play`], [`log`]: one of them from its beginning to its end.
//! - [`driver`]: one engine over one recording.
//! - [`judge`]: which policies it is judged by; what changes between two.
//! - [`filter`], [`tell`], [`voice`]: which lines are wanted, what becomes of them, who hears them.
//! - [`pool`]: several streams at once, and their lines in order.
//! - [`pace`], [`progress`]: waiting, and the line that says how far it is.
//!
//! Streams know nothing of each other, so they are replayed in parallel; what they say is told in one order that
//! depends on nothing but themselves. Memory is bounded: who runs ahead of his turn waits.

pub mod driver;
pub mod expand;
pub mod filter;
pub mod judge;
pub mod log;
pub mod order;
pub mod pace;
pub mod play;
pub mod pool;
pub mod progress;
pub mod sources;
pub mod streams;
pub mod tell;
pub mod voice;

pub use driver::Replay;

use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::signals::Signals;
use crate::cli::units::Factor;
use crate::sink::outputs::Form;
use filter::Choice;
use judge::Policies;
use pool::Pool;
use progress::Console;
use std::path::PathBuf;
use std::sync::Arc;
use streams::{Source, Streams};
use tell::Setup;

/// What to replay, and how.
#[derive(Clone, Debug)]
pub struct ReplayOptions {
    /// Files, directories, patterns, or `-` for standard input.
    pub inputs: Vec<PathBuf>,
    /// What inputs are.
    pub source: Source,
    /// What they are judged by.
    pub policies: Policies,
    /// Which lines are wanted.
    pub choice: Choice,
    /// As fast as it was recorded, times this; `None`: as fast as possible.
    pub speed: Option<Factor>,
    /// Form of the lines.
    pub form: Form,
    /// Streams that are replayed at once.
    pub threads: usize,
}

/// Replays everything; says how that ends.
///
/// # Errors
/// When there is nothing to replay, or nobody to tell it to. What is wrong with one stream is said, and the others
/// go on.
pub fn run(options: ReplayOptions) -> anyhow::Result<Exit> {
    let mut console = Console::new();
    let places = expand::expand(&options.inputs, options.source)?;
    let Streams {
        streams,
        problems,
        notes,
    } = Streams::open(places, options.source);
    for text in problems.iter().chain(&notes) {
        console.say(text);
    }
    let exit = if problems.is_empty() {
        Exit::Clean
    } else {
        Exit::Error
    };
    let setup = Setup {
        policies: options.policies,
        choice: options.choice,
        speed: options.speed,
        form: options.form,
        headings: streams.len() > 1,
    };
    let signals = Signals::block().map_err(|e| {
        let what = "cannot take signals from a descriptor";
        Failure::new(what, "report this as a bug").caused_by(e)
    })?;
    // Whoever plays at the pace of a clock is listened to while he does.
    let threads = if setup.speed.is_some() {
        1
    } else {
        options.threads
    };
    let pool = Pool::start(streams, &Arc::new(setup), threads)?;
    Ok(exit.and(pool.listen(&mut console, &signals)?))
}
