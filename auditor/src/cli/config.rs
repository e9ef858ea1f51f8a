//! The options file: every option of the command line, by the same name with `_` for `-`.
//!
//! An option means the same in every command, so the file is flat. What a flag or an `AUDITOR_…`
//! variable says goes before the file. A key that no option has is refused with its position: a
//! typing error in a watch's configuration is a hole in the watch.

use super::failure::Failure;
use super::units::{Bytes, Factor, Span};
use crate::agent::record::Sync;
use crate::model::Severity;
use clap::ValueEnum;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Whether to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// In what form to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Which tier to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TierChoice {
    /// The best that works.
    #[default]
    Auto,
    /// Trampolines and typed tracepoints, or fail.
    Trampoline,
    /// Typed and syscall tracepoints, or fail.
    Tracepoint,
    /// No eBPF: only the periodic sweep.
    Scan,
}

/// What the file says. All optional.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileOptions {
    /// `--color`.
    pub color: Option<ColorChoice>,
    /// `--verbose`, as a count.
    pub verbose: Option<u8>,
    /// `--policy`.
    pub policy: Option<PathBuf>,
    /// `--format`.
    pub format: Option<Format>,
    /// `--output`.
    pub output: Option<PathBuf>,
    /// `--matrix`.
    pub matrix: Option<PathBuf>,
    /// `--exit-on`.
    pub exit_on: Option<Severity>,
    /// `--tier`.
    pub tier: Option<TierChoice>,
    /// `--btf`.
    pub btf: Option<PathBuf>,
    /// `--sweep`.
    pub sweep: Option<Span>,
    /// `--heartbeat`.
    pub heartbeat: Option<Span>,
    /// `--ring-size`.
    pub ring_size: Option<Bytes>,
    /// `--state-dir`.
    pub state_dir: Option<PathBuf>,
    /// `--no-state`.
    pub no_state: Option<bool>,
    /// `--keep-capabilities`.
    pub keep_capabilities: Option<bool>,
    /// `--without-hook`.
    pub without_hook: Option<Vec<String>>,
    /// `--syscalls`.
    pub syscalls: Option<bool>,
    /// `--duration`.
    pub duration: Option<Span>,
    /// `--state`.
    pub state: Option<PathBuf>,
    /// `--window`.
    pub window: Option<Span>,
    /// `--record`.
    pub record: Option<PathBuf>,
    /// `--rotate-size`.
    pub rotate_size: Option<Bytes>,
    /// `--rotate-after`.
    pub rotate_after: Option<Span>,
    /// `--keep-parts`.
    pub keep_parts: Option<u32>,
    /// `--keep-size`.
    pub keep_size: Option<Bytes>,
    /// `--sync`.
    pub sync: Option<Sync>,
    /// `--speed`.
    pub speed: Option<Factor>,
}

impl FileOptions {
    /// Reads a file's text; `path` names it in errors.
    ///
    /// # Errors
    /// On anything that is not a known option with a valid value; says where.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Failure> {
        toml::from_str(text).map_err(|e| {
            let place = e.span().map_or(String::new(), |span| {
                let before = &text[..span.start.min(text.len())];
                let line = before.matches('\n').count() + 1;
                let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
                format!(":{line}:{column}")
            });
            Failure::new(
                format!("options file {}{place}: {}", path.display(), e.message()),
                "mend the file; keys are the long options with _ for -, see docs/commands.md",
            )
        })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or see [`FileOptions::parse`].
    pub fn load(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            let what = format!("cannot read the options file {}", path.display());
            Failure::new(what, "check --config and AUDITOR_CONFIG").caused_by(e)
        })?;
        Self::parse(&text, path)
    }
}

#[cfg(test)]
mod tests {
    use super::FileOptions;
    use crate::cli::failure::report;
    use std::path::Path;

    fn error(text: &str) -> String {
        let failure = FileOptions::parse(text, Path::new("a.toml")).unwrap_err();
        report(&failure.into()).1.unwrap()
    }

    /// Goal: a mistake is refused where it stands.
    #[test]
    fn mistakes_have_a_position() {
        let text = error("sweep = \"1s\"\n  swep = \"1s\"\n");
        assert!(text.contains("a.toml:2:3: unknown field `swep`"), "{text}");
        let text = error("tier = \"fast\"\n");
        assert!(
            text.contains("a.toml:1:8") && text.contains("trampoline"),
            "{text}"
        );
        let text = error("sweep = 1\n");
        assert!(text.contains("a.toml:1:9"), "{text}");
        let text = error("sweep = \"1\"\n");
        assert!(text.contains("500ms, 1s, 2m or 1h"), "{text}");
        let text = error("exit_on = \n");
        assert!(text.contains("a.toml:1:"), "{text}");
    }
}
