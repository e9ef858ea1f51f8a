//! How to watch live, whatever becomes of it: the options that `watch` and `record` share.

use super::config::FileOptions;
use super::failure::Failure;
use super::policy::PolicySource;
use super::sight::{Sight, SightArgs};
use super::signals::Signals;
use super::units::{Bytes, Span};
use crate::agent::record::RecordOptions;
use crate::model::Severity;
use crate::model::output::Record;
use clap::builder::BoolishValueParser;
use std::path::PathBuf;
use std::time::Duration;

/// The flags.
#[derive(Debug, Default, clap::Args)]
pub struct LiveArgs {
    /// Policy file (TOML): what is declared as normal on this machine
    #[arg(long, value_name = "FILE", env = "AUDITOR_POLICY")]
    pub policy: Option<PathBuf>,
    /// How to see.
    #[command(flatten)]
    pub sight: SightArgs,
    /// How often to compare the model with the kernel, 100ms to 1h [default: 1s]
    #[arg(long, value_name = "DURATION", env = "AUDITOR_SWEEP")]
    pub sweep: Option<Span>,
    /// How often to give a sign of life, 1s to 1d [default: 60s]
    #[arg(long, value_name = "DURATION", env = "AUDITOR_HEARTBEAT")]
    pub heartbeat: Option<Span>,
    /// Size of the kernel's ring buffer: a power of two, 64KiB to 1GiB [default: 8MiB]
    #[arg(long, value_name = "BYTES", env = "AUDITOR_RING_SIZE")]
    pub ring_size: Option<Bytes>,
    /// Where labels survive a restart of the auditor [default: /run/auditor]
    #[arg(long, value_name = "DIR", env = "AUDITOR_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// Keep no state: after a restart, labels are inferred
    #[arg(
        long, value_name = "BOOL", env = "AUDITOR_NO_STATE", value_parser = BoolishValueParser::new(),
        num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true
    )]
    pub no_state: Option<bool>,
    /// Keep all capabilities after attaching, instead of dropping those no longer needed
    #[arg(
        long, value_name = "BOOL", env = "AUDITOR_KEEP_CAPABILITIES", value_parser = BoolishValueParser::new(),
        num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true
    )]
    pub keep_capabilities: Option<bool>,
    /// End after this time
    #[arg(long, value_name = "DURATION", env = "AUDITOR_DURATION")]
    pub duration: Option<Span>,
}

/// What becomes of capabilities that are not needed after attaching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capabilities {
    /// They go.
    Drop,
    /// They stay.
    Keep,
}

/// What to do, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveOptions {
    /// Where the policy is.
    pub policy: PolicySource,
    /// How to see events.
    pub sight: Sight,
    /// Time between sweeps.
    pub sweep: Duration,
    /// Time between heartbeats.
    pub heartbeat: Duration,
    /// Bytes of the ring buffer: a power of two.
    pub ring_size_bytes: u32,
    /// Where labels are kept; `None`: nowhere.
    pub state_dir: Option<PathBuf>,
    /// What becomes of capabilities.
    pub capabilities: Capabilities,
    /// When to end.
    pub duration: Option<Duration>,
    /// The severity that ends the watch.
    pub exit_on: Option<Severity>,
    /// Where and how to record.
    pub record: Option<RecordOptions>,
    /// Where to keep the matrix.
    pub matrix: Option<PathBuf>,
    /// Something is written in the end that takes the right to write into others' directories.
    pub writes_into_foreign_directory: bool,
}

impl LiveArgs {
    /// Flags and environment (`self`) before the file, the file before defaults.
    ///
    /// # Errors
    /// When a value is out of its bounds.
    pub fn resolve(self, file: &FileOptions) -> Result<LiveOptions, Failure> {
        let no_state = self.no_state.or(file.no_state).unwrap_or(false);
        let state_dir = self.state_dir.or_else(|| file.state_dir.clone());
        let keep = self
            .keep_capabilities
            .or(file.keep_capabilities)
            .unwrap_or(false);
        Ok(LiveOptions {
            policy: PolicySource::from(self.policy.or_else(|| file.policy.clone())),
            sight: self.sight.resolve(file)?,
            sweep: bounded("--sweep", self.sweep.or(file.sweep), "1s", ("100ms", "1h"))?,
            heartbeat: bounded(
                "--heartbeat",
                self.heartbeat.or(file.heartbeat),
                "60s",
                ("1s", "1d"),
            )?,
            ring_size_bytes: ring_size(self.ring_size.or(file.ring_size))?,
            state_dir: (!no_state).then(|| state_dir.unwrap_or_else(|| "/run/auditor".into())),
            capabilities: if keep {
                Capabilities::Keep
            } else {
                Capabilities::Drop
            },
            duration: self.duration.or(file.duration).map(|span| span.0),
            exit_on: None,
            record: None,
            matrix: None,
            writes_into_foreign_directory: false,
        })
    }
}

impl LiveOptions {
    /// Whether this record ends the watch (`--exit-on`).
    #[must_use]
    pub fn ends_on(&self, record: &Record) -> bool {
        match (record, self.exit_on) {
            (Record::Violation(finding), Some(severity)) => finding.severity >= severity,
            _ => false,
        }
    }
}
fn bounded(
    option: &str,
    value: Option<Span>,
    default: &str,
    (least, most): (&str, &str),
) -> Result<Duration, Failure> {
    let known = |text: &str| {
        text.parse::<Span>()
            .expect("the constants above are durations")
    };
    let value = value.unwrap_or_else(|| known(default));
    if value < known(least) || value > known(most) {
        return Err(Failure::new(
            format!("{option} {value} is out of bounds"),
            format!("give it from {least} to {most}"),
        ));
    }
    Ok(value.0)
}

fn ring_size(value: Option<Bytes>) -> Result<u32, Failure> {
    let bytes = value.map_or(8 << 20, |b| b.0);
    match u32::try_from(bytes) {
        Ok(size) if size.is_power_of_two() && (64 << 10..=1 << 30).contains(&size) => Ok(size),
        _ => Err(Failure::new(
            format!("--ring-size of {bytes} bytes is refused by the kernel"),
            "give a power of two from 64KiB to 1GiB, such as 8MiB or 32MiB",
        )),
    }
}

/// Signals come from a descriptor from here on.
///
/// # Errors
/// When the system refuses that.
pub(super) fn block_signals() -> Result<Signals, Failure> {
    Signals::block().map_err(|e| {
        let what = "cannot take signals from a descriptor";
        Failure::new(what, "report this as a bug").caused_by(e)
    })
}
