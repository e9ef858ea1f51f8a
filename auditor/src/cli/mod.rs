//! The command line: one file per subcommand, each with its arguments and a `run`.
//!
//! Parsing is pure: arguments, environment and options file become plain structs ([`watch`],
//! [`scan`], [`doctor`]) before anything is opened. What needs the kernel is behind [`agent`].
//!
//! Conventions, for every command: data on stdout, everything else on stderr; a closed pipe ends
//! quietly; `-` is stdin or stdout; exit codes as in [`exit`].

pub mod completions;
pub mod config;
pub mod context;
pub mod doctor;
pub mod exit;
pub mod explain;
pub mod failure;
pub mod live;
pub mod moment;
pub mod outcome;
pub mod policy;
pub mod privileges;
pub mod record;
pub mod replay;
pub mod scan;
pub mod schema;
pub mod self_test_helper;
pub mod sight;
pub mod signals;
pub mod trace;
pub mod units;
pub mod watch;

use clap::{ArgAction, Args, Parser, Subcommand};
use config::{ColorChoice, FileOptions};
use context::Context;
use exit::Exit;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (kernel ABI 2, schema auditor/1)"
);
// The numbers are spelled out above because clap wants a constant; they cannot go stale.
const _: () = assert!(auditor_common::ABI_VERSION == 2);
const _: () = assert!(matches!(
    crate::model::output::SCHEMA.as_bytes(),
    b"auditor/1"
));

const ABOUT: &str = "Are the containers on this machine really isolated from one another?";
const LONG_ABOUT: &str = "\
Are the containers on this machine really isolated from one another?

The auditor watches namespaces, cgroups, credentials and root directories in the kernel (eBPF), keeps a model of who \
is isolated from whom, and writes one JSON line with its proof whenever that breaks. \"auditor watch\" is the main \
command; \"auditor scan\" looks once and needs no eBPF.";
const AFTER: &str = "\
Every option also stands in the options file (--config, TOML; _ for -) and in the environment (AUDITOR_ and the name \
in capitals). A flag goes before the environment, that before the file. AUDITOR_LOG sets the log filter.

Examples:
  sudo auditor watch                                  watch this machine
  sudo auditor watch --output /var/log/auditor.jsonl  and keep the lines
  sudo auditor scan                                   who is isolated from whom, now
  sudo auditor doctor                                 what will not be seen on this kernel
  tail -n 1 /var/log/auditor.jsonl | auditor explain -

";

/// All arguments.
#[derive(Debug, Parser)]
#[command(
    name = "auditor",
    version = VERSION,
    about = ABOUT,
    long_about = LONG_ABOUT,
    after_help = const_str(),
    max_term_width = 110,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// Options of all commands.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// Which command.
    #[command(subcommand)]
    pub command: Command,
}

fn const_str() -> String {
    format!("{AFTER}{}", exit::HELP)
}

/// Options of all commands.
#[derive(Debug, Args)]
pub struct GlobalArgs {
    /// Read options from this TOML file
    #[arg(long, value_name = "FILE", global = true, env = "AUDITOR_CONFIG")]
    pub config: Option<PathBuf>,
    /// Colour the output; auto: on a terminal, unless NO_COLOR is set
    #[arg(
        long,
        value_name = "WHEN",
        global = true,
        env = "AUDITOR_COLOR",
        value_enum
    )]
    pub color: Option<ColorChoice>,
    /// Say more on stderr; repeat for still more
    #[arg(short, long, global = true, action = ArgAction::Count, env = "AUDITOR_VERBOSE")]
    pub verbose: u8,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch this machine live: one line per violation
    #[command(long_about = watch::LONG)]
    Watch(watch::Args),
    /// Watch this machine and keep what is seen, for "auditor replay"
    #[command(long_about = record::LONG)]
    Record(record::Args),
    /// Give the lines of recorded traces again, anywhere
    #[command(long_about = replay::LONG)]
    Replay(replay::Args),
    /// Look at recorded traces, and make traces of traces
    #[command(long_about = trace::LONG)]
    Trace(trace::Args),
    /// Look once, without eBPF: who is isolated from whom
    #[command(long_about = scan::LONG)]
    Scan(scan::Args),
    /// What containers were granted, what they use, and what is left over
    #[command(long_about = privileges::LONG)]
    Privileges(privileges::Args),
    /// What this kernel and these permissions allow, and what will not be seen
    #[command(long_about = doctor::LONG)]
    Doctor(doctor::Args),
    /// Explain a rule, a line of output, or a pair of a scan
    #[command(long_about = explain::LONG)]
    Explain(explain::Args),
    /// Check a policy, or print the default one
    Policy(policy::Args),
    /// Print the JSON Schema of what comes out
    Schema(schema::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
    /// Act so that each hook can be seen to fire
    #[command(hide = true)]
    SelfTestHelper(self_test_helper::Args),
}

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    run_from(std::env::args_os()).into()
}

fn run_from(args: impl IntoIterator<Item = OsString>) -> Exit {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version go to stdout; that nobody reads them is no error.
            let _ = e.print();
            return if e.use_stderr() {
                Exit::Error
            } else {
                Exit::Clean
            };
        }
    };
    match dispatch(cli) {
        Ok(exit) => exit,
        Err(error) => {
            let (exit, text) = failure::report(&error);
            if let Some(text) = text {
                use std::io::Write;
                // With stderr gone there is nobody left to tell.
                let _ = writeln!(std::io::stderr(), "{text}");
            }
            exit
        }
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<Exit> {
    let Cli { global, command } = cli;
    let file = match &global.config {
        Some(path) => FileOptions::load(path)?,
        None => FileOptions::default(),
    };
    let context = Context::new(&global, file);
    context.start_log();
    context::warn_unknown_environment();
    match command {
        Command::Watch(args) => watch::run(args, &context),
        Command::Record(args) => record::run(args, &context),
        Command::Replay(args) => replay::run(args, &context),
        Command::Trace(args) => trace::run(args, &context),
        Command::Scan(args) => scan::run(args, &context),
        Command::Privileges(args) => privileges::run(args, &context),
        Command::Doctor(args) => doctor::run(args, &context),
        Command::Explain(args) => explain::run(args, &context),
        Command::Policy(args) => policy::run(args, &context),
        Command::Schema(args) => schema::run(&args, &context),
        Command::Completions(args) => completions::run(&args, &context),
        Command::SelfTestHelper(args) => self_test_helper::run(&args),
    }
}

#[cfg(test)]
mod tests {
    use super::{Cli, FileOptions};
    use clap::CommandFactory;
    use std::collections::BTreeSet;

    /// Goal: the definition of the command line is consistent.
    #[test]
    fn definition_is_sound() {
        Cli::command().debug_assert();
    }

    /// Goal: every option exists three times. Those that name the input or the output of one call, and
    /// those that end it at once, exist as flags only. So do filters of traces: one that was forgotten in
    /// a file or the environment would hide violations.
    #[test]
    fn every_option_has_its_variable_and_its_key() {
        let flags_only = [
            "help",
            "version",
            "pair",
            "scan",
            "from",
            "diff-policy",
            "since",
            "until",
            "rule",
            "entity",
            "severity",
            "kind",
            "to",
            "out",
            "key",
            "drop-policy",
            "container",
            "what-if",
        ];
        let mut names = BTreeSet::new();
        let cli = Cli::command();
        let mut commands = vec![&cli];
        while let Some(command) = commands.pop() {
            commands.extend(command.get_subcommands());
            for arg in command.get_arguments().filter(|a| !a.is_positional()) {
                let long = arg.get_long().unwrap();
                if flags_only.contains(&long) {
                    continue;
                }
                let want = format!("AUDITOR_{}", long.to_uppercase().replace('-', "_"));
                let have = arg.get_env().and_then(|e| e.to_str());
                assert_eq!(have, Some(want.as_str()), "--{long}");
                names.insert(long.replace('-', "_"));
            }
        }
        // --config cannot stand in the file that it names.
        assert!(names.remove("config"));
        let error = toml::from_str::<FileOptions>("nothing = 1").unwrap_err();
        let keys: BTreeSet<String> = error
            .message()
            .split('`')
            .skip(3)
            .step_by(2)
            .map(str::to_owned)
            .collect();
        assert_eq!(names, keys);
    }
}
