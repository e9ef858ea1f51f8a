//! What every command needs to know of its surroundings: where it writes, whether in colour, and
//! what the options file says.

use super::GlobalArgs;
use super::config::{ColorChoice, FileOptions, Format};
use super::failure::stdout_error;
use crate::sink::human::Style;
use std::io::{IsTerminal, Write};
use tracing_subscriber::EnvFilter;

/// The surroundings of a command.
#[derive(Debug)]
pub struct Context {
    /// What the options file says.
    pub file: FileOptions,
    /// How to write to stdout.
    pub style: Style,
    /// Whether a person sees stdout.
    pub stdout_is_terminal: bool,
    verbose: u8,
    color: ColorChoice,
}

impl Context {
    /// Looks at the terminal and the environment.
    #[must_use]
    pub fn new(global: &GlobalArgs, file: FileOptions) -> Self {
        let color = global.color.or(file.color).unwrap_or_default();
        let verbose = if global.verbose > 0 {
            global.verbose
        } else {
            file.verbose.unwrap_or(0)
        };
        let stdout_is_terminal = std::io::stdout().is_terminal();
        let style = style(color, stdout_is_terminal, no_color());
        Self {
            file,
            style,
            stdout_is_terminal,
            verbose,
            color,
        }
    }

    /// The form of an answer: what was asked for, else a table for a person and JSON for a program.
    #[must_use]
    pub fn format(&self, flag: Option<Format>) -> Format {
        flag.or(self.file.format)
            .unwrap_or(if self.stdout_is_terminal {
                Format::Table
            } else {
                Format::Json
            })
    }

    /// Writes data to stdout.
    ///
    /// # Errors
    /// When that fails; a reader that hung up is [`super::failure::HungUp`].
    pub fn print(&self, text: &str) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .map_err(stdout_error)
    }

    /// Sends the log to stderr. Commands that run in one process with another log keep that one.
    pub(super) fn start_log(&self) {
        let default = match self.verbose {
            0 => "warn",
            1 => "info",
            2 => "debug",
            _ => "trace",
        };
        let asked = std::env::var("AUDITOR_LOG").unwrap_or_default();
        let asked = if asked.is_empty() {
            default
        } else {
            asked.as_str()
        };
        let filter = EnvFilter::try_new(asked);
        let refused = filter.as_ref().err().map(ToString::to_string);
        let filter = filter.unwrap_or_else(|_| EnvFilter::new(default));
        let colour = style(self.color, std::io::stderr().is_terminal(), no_color());
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(colour == Style::Colour)
            .with_target(false);
        // Fails only when a log exists already.
        let _ = log.try_init();
        if let Some(why) = refused {
            tracing::warn!("AUDITOR_LOG is ignored: {why}");
        }
    }
}

/// Variables that are not options.
const OTHER_VARIABLES: [&str; 1] = ["AUDITOR_LOG"];

/// A misspelt variable does nothing, which nobody notices: say it.
pub(super) fn warn_unknown_environment() {
    use clap::CommandFactory;
    let cli = super::Cli::command();
    let known: Vec<_> = std::iter::once(&cli)
        .chain(cli.get_subcommands())
        .flat_map(|c| {
            c.get_arguments()
                .filter_map(|a| a.get_env().and_then(|e| e.to_str()))
        })
        .chain(OTHER_VARIABLES)
        .collect();
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("AUDITOR_") && !known.contains(&name.as_ref()) {
            tracing::warn!("the environment variable {name} means nothing to this auditor");
        }
    }
}

fn no_color() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|v| !v.is_empty());
    set("NO_COLOR") || std::env::var_os("TERM").is_some_and(|t| t == "dumb")
}

fn style(choice: ColorChoice, is_terminal: bool, no_color: bool) -> Style {
    match (choice, is_terminal && !no_color) {
        (ColorChoice::Always, _) | (ColorChoice::Auto, true) => Style::Colour,
        (ColorChoice::Never, _) | (ColorChoice::Auto, false) => Style::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::style;
    use crate::cli::config::ColorChoice;
    use crate::sink::human::Style;

    /// Goal: colour only on a terminal and never with NO_COLOR, unless it is demanded.
    #[test]
    fn colour_is_for_terminals() {
        assert_eq!(style(ColorChoice::Auto, true, false), Style::Colour);
        assert_eq!(style(ColorChoice::Auto, true, true), Style::Plain);
        assert_eq!(style(ColorChoice::Auto, false, false), Style::Plain);
        assert_eq!(style(ColorChoice::Always, false, true), Style::Colour);
        assert_eq!(style(ColorChoice::Never, true, false), Style::Plain);
    }
}
