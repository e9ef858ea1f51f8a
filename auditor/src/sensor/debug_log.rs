//! What the kernel programs log, for development: only with the feature `debug-log`, and only where the embedded object
//! was built by `cargo xtask ebpf build --debug-log`.
//!
//! The ring is read at each tick; what it cannot hold meanwhile is lost and not counted. It is no source of events.

use aya::Ebpf;
use aya_log::{EbpfLogger, Error};
use log::{Level, Log, Metadata, Record};
use tracing::level_filters::LevelFilter;

/// The ring that the programs log into.
pub(super) struct DebugLog(EbpfLogger<Tracing>);

impl DebugLog {
    /// The most detailed level that would be shown, as the programs know it: below it they do no work.
    pub(super) fn level() -> u8 {
        let level = match LevelFilter::current() {
            LevelFilter::OFF => return 0,
            LevelFilter::ERROR => aya_log::Level::Error,
            LevelFilter::WARN => aya_log::Level::Warn,
            LevelFilter::INFO => aya_log::Level::Info,
            LevelFilter::DEBUG => aya_log::Level::Debug,
            LevelFilter::TRACE => aya_log::Level::Trace,
        };
        level as u8
    }

    /// Takes the ring, if the object has one.
    pub(super) fn take(ebpf: &mut Ebpf) -> Option<Self> {
        match EbpfLogger::init_with_logger(ebpf, Tracing) {
            Ok(logger) => Some(Self(logger)),
            Err(Error::MapNotFound) => {
                tracing::warn!("the embedded kernel programs do not log");
                None
            }
            Err(error) => {
                tracing::warn!("cannot read what the kernel programs log: {error}");
                None
            }
        }
    }

    /// Shows what is in the ring.
    pub(super) fn show(&mut self) {
        self.0.flush();
    }
}

/// Hands lines over to the log of the agent.
struct Tracing;

impl Log for Tracing {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // A line may hold bytes of the audited.
        let text = record.args().to_string();
        let text = text.escape_debug();
        let file = record.file().unwrap_or_default();
        let line = record.line().unwrap_or_default();
        match record.level() {
            Level::Error => tracing::error!("kernel program: {text} ({file}:{line})"),
            Level::Warn => tracing::warn!("kernel program: {text} ({file}:{line})"),
            Level::Info => tracing::info!("kernel program: {text} ({file}:{line})"),
            Level::Debug => tracing::debug!("kernel program: {text} ({file}:{line})"),
            Level::Trace => tracing::trace!("kernel program: {text} ({file}:{line})"),
        }
    }

    fn flush(&self) {}
}
