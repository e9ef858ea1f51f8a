//! `auditor watch`: the main command.

use super::config::{FileOptions, Format};
use super::context::Context;
use super::exit::Exit;
use super::failure::Failure;
use super::live::{LiveArgs, LiveOptions, block_signals};
use super::record::RecordingArgs;
use crate::agent::live::Agent;
use crate::model::Severity;
use crate::sink::outputs::{Form, Outputs};
use std::path::PathBuf;
use std::time::Duration;

pub(super) const LONG: &str = "\
Watch this machine live: one line per violation.

Attaches to the kernel, takes a snapshot, and then writes a line for each event that breaks isolation or privilege, \
with its proof: who, against whom, what was expected, what was observed, seen by which hook. Runs until SIGINT or \
SIGTERM; SIGHUP reads the policy again, SIGUSR1 prints the matrix of who is isolated from whom on stderr. On a terminal each line is a readable one, in a pipe it is JSON.

Needs root, or the capabilities that \"auditor doctor\" lists.";
const AFTER: &str = "\
Examples:
  sudo auditor watch
  sudo auditor watch --policy policy.toml --output /var/log/auditor.jsonl
  sudo auditor watch --exit-on high --duration 10m   as a gate in a test: 1 when isolation broke
  sudo auditor watch --matrix /run/auditor/matrix.json   and \"auditor explain --pair web db --scan\" that file
  sudo auditor watch | jq 'select(.type == \"violation\") | .message'

A signal ends it with 0; --exit-on with 1; lost evidence with 4; a kernel on which no live tier works
with 3 (--tier scan works there: changes are then seen by the sweep only).";

/// Patience with a reader of the output when the watch ends.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);

/// The flags.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = AFTER)]
pub struct Args {
    /// Form of the lines on stdout [default: table on a terminal, json in a pipe]
    #[arg(long, env = "AUDITOR_FORMAT", value_enum)]
    pub format: Option<Format>,
    /// Append JSON lines to this file, beside stdout; -: JSON lines on stdout
    #[arg(long, value_name = "FILE", env = "AUDITOR_OUTPUT")]
    pub output: Option<PathBuf>,
    /// Keep the matrix in this file: JSON as of "auditor scan", replaced every 10 seconds
    #[arg(long, value_name = "FILE", env = "AUDITOR_MATRIX")]
    pub matrix: Option<PathBuf>,
    /// End with 1 at the first violation of this severity or worse: info, low, medium, high, critical
    #[arg(long, value_name = "SEVERITY", env = "AUDITOR_EXIT_ON")]
    pub exit_on: Option<Severity>,
    /// Keep all that is seen in this file or directory, for "auditor replay"
    #[arg(long, value_name = "PATH", env = "AUDITOR_RECORD")]
    pub record: Option<PathBuf>,
    /// How to watch.
    #[command(flatten)]
    pub live: LiveArgs,
    /// How to record.
    #[command(flatten)]
    pub recording: RecordingArgs,
}

/// What to do, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchOptions {
    /// Form of the lines on stdout.
    pub format: Format,
    /// JSON lines go to this file too.
    pub output: Option<PathBuf>,
    /// How to watch.
    pub live: LiveOptions,
}

impl WatchOptions {
    /// Flags and environment (`args`) before the file, the file before defaults.
    ///
    /// # Errors
    /// When a value is out of its bounds, or two contradict each other.
    pub fn resolve(args: Args, file: &FileOptions, is_terminal: bool) -> Result<Self, Failure> {
        let asked = args.format.or(file.format);
        let mut output = args.output.or_else(|| file.output.clone());
        let mut format = asked.unwrap_or(if is_terminal {
            Format::Table
        } else {
            Format::Json
        });
        if output.as_deref().is_some_and(|p| p.as_os_str() == "-") {
            if asked == Some(Format::Table) {
                return Err(Failure::new(
                    "--output - puts JSON lines on stdout and --format table puts readable ones there",
                    "give one of the two, or a file to --output",
                ));
            }
            (format, output) = (Format::Json, None);
        }
        let record = match args.record.or_else(|| file.record.clone()) {
            Some(path) if path.as_os_str() == "-" => {
                return Err(Failure::new(
                    "--record - and the lines would both go to standard output",
                    "give a file to --record, or use \"auditor record -\"",
                ));
            }
            Some(path) => Some(args.recording.resolve(&path, file)?),
            None => None,
        };
        let live = LiveOptions {
            exit_on: args.exit_on.or(file.exit_on),
            record,
            matrix: args.matrix.or_else(|| file.matrix.clone()),
            ..args.live.resolve(file)?
        };
        Ok(Self {
            format,
            output,
            live,
        })
    }
}

/// Runs the command.
///
/// # Errors
/// Says what was tried, what failed and what to do next.
pub fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let options = WatchOptions::resolve(args, &context.file, context.stdout_is_terminal)?;
    // A bad policy is refused before anything is attached.
    let policy = options.live.policy.load()?;
    // First, so that every thread that is started below inherits it.
    let signals = block_signals()?;
    let form = match options.format {
        Format::Json => Form::Json,
        Format::Table => Form::Human(context.style),
    };
    let cannot_open = |e| Failure::new("cannot open the output", "check --output").caused_by(e);
    // Files are opened while every capability is there; threads start when those are dropped.
    let wanted = Outputs::prepare(form, options.output.as_deref()).map_err(cannot_open)?;
    let agent = Agent::start(&options.live, &policy)?;
    let mut outputs = Outputs::to_writers(wanted).map_err(cannot_open)?;
    let watched = agent.run(&mut outputs, &signals);
    // Also after an error: what was found until then must reach its reader.
    let totals = outputs.finish(FLUSH_PATIENCE);
    let outcome = watched?;
    let lost = totals.iter().enumerate().map(|(index, (name, t))| {
        if t.lost > 0 && !(index == 0 && t.hung_up) {
            tracing::error!(sink = %name, "{} of {} lines were lost", t.lost, t.offered);
            t.lost
        } else {
            0
        }
    });
    Ok(outcome.exit(lost.sum()))
}

#[cfg(test)]
mod tests {
    use super::{Args, WatchOptions};
    use crate::cli::config::{FileOptions, Format, TierChoice};
    use crate::cli::live::{Capabilities, LiveOptions};
    use crate::cli::policy::PolicySource;
    use crate::cli::sight::Sight;
    use crate::cli::{Cli, Command};
    use crate::model::output::Record;
    use crate::model::{RuleId, Severity};
    use crate::sink::samples;
    use clap::Parser;
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    fn parse(flags: &[&str]) -> Args {
        let argv = ["auditor", "watch"].iter().chain(flags);
        match Cli::try_parse_from(argv).unwrap().command {
            Command::Watch(args) => args,
            other => panic!("{other:?}"),
        }
    }

    fn resolve(flags: &[&str], file: &str) -> Result<WatchOptions, String> {
        let file = FileOptions::parse(file, Path::new("f")).unwrap();
        WatchOptions::resolve(parse(flags), &file, false).map_err(|e| e.to_string())
    }

    /// Goal: the documented defaults.
    #[test]
    fn defaults() {
        let options = resolve(&[], "").unwrap();
        assert_eq!(
            options,
            WatchOptions {
                format: Format::Json,
                output: None,
                live: LiveOptions {
                    policy: PolicySource::Default,
                    sight: Sight {
                        tier: TierChoice::Auto,
                        btf: None,
                        without_hooks: vec![],
                        syscalls: false,
                    },
                    sweep: Duration::from_secs(1),
                    heartbeat: Duration::from_secs(60),
                    ring_size_bytes: 8 << 20,
                    state_dir: Some("/run/auditor".into()),
                    capabilities: Capabilities::Drop,
                    duration: None,
                    exit_on: None,
                    record: None,
                    matrix: None,
                    writes_into_foreign_directory: false,
                },
            }
        );
        let on_terminal = WatchOptions::resolve(parse(&[]), &FileOptions::default(), true).unwrap();
        assert_eq!(on_terminal.format, Format::Table);
    }

    /// Goal: a flag goes before the file, for values, lists and switches.
    #[test]
    fn flags_go_before_the_file() {
        let file = r#"
            policy = "/etc/p.toml"
            sweep = "2s"
            no_state = true
            keep_capabilities = true
            without_hook = ["set_fs_pwd"]
            syscalls = true
            ring_size = "16MiB"
            exit_on = "low"
            tier = "tracepoint"
        "#;
        let from_file = resolve(&[], file).unwrap().live;
        assert_eq!(from_file.policy, PolicySource::File("/etc/p.toml".into()));
        assert_eq!(from_file.sweep, Duration::from_secs(2));
        assert_eq!(from_file.state_dir, None);
        assert_eq!(from_file.capabilities, Capabilities::Keep);
        assert_eq!(from_file.sight.without_hooks, ["set_fs_pwd"]);
        assert!(from_file.sight.syscalls);
        assert_eq!(from_file.ring_size_bytes, 16 << 20);
        let flags = [
            "--sweep=3s",
            "--no-state=false",
            "--keep-capabilities=no",
            "--without-hook=set_fs_root",
            "--without-hook=iter/task",
            "--exit-on=critical",
            "--tier=auto",
        ];
        let both = resolve(&flags, file).unwrap().live;
        assert_eq!(both.sweep, Duration::from_secs(3));
        assert_eq!(both.state_dir, Some(PathBuf::from("/run/auditor")));
        assert_eq!(both.capabilities, Capabilities::Drop);
        assert_eq!(both.sight.without_hooks, ["set_fs_root", "iter/task"]);
        assert_eq!(both.exit_on, Some(Severity::Critical));
        assert_eq!(both.sight.tier, TierChoice::Auto);
        assert_eq!(resolve(&["--no-state"], "").unwrap().live.state_dir, None);
    }

    /// Goal: what the kernel or common sense refuses is refused at once.
    #[test]
    fn bounds() {
        for flags in [
            ["--sweep=10ms"],
            ["--sweep=2h"],
            ["--heartbeat=1ms"],
            ["--ring-size=3MiB"],
            ["--ring-size=4GiB"],
            ["--without-hook=nosuch"],
        ] {
            assert!(resolve(&flags, "").is_err(), "{flags:?}");
        }
        assert!(resolve(&["--output=-", "--format=table"], "").is_err());
        assert!(resolve(&["--tier=scan", "--syscalls"], "").is_err());
        let options = resolve(&["--output=-"], "").unwrap();
        assert_eq!((options.format, options.output), (Format::Json, None));
        assert!(Cli::try_parse_from(["auditor", "watch", "--exit-on", "bad"]).is_err());
        assert!(Cli::try_parse_from(["auditor", "watch", "--sweep", "1"]).is_err());
    }

    /// Goal: --exit-on ends at its severity and above, and only for violations.
    #[test]
    fn exit_on() {
        let high = resolve(&["--exit-on=high"], "").unwrap().live;
        let mut finding = samples::finding(RuleId::NamespaceJoin);
        assert!(high.ends_on(&Record::Violation(Box::new(finding.clone()))));
        assert!(!high.ends_on(&Record::Drift(Box::new(finding.clone()))));
        finding.severity = Severity::Medium;
        assert!(!high.ends_on(&Record::Violation(Box::new(finding.clone()))));
        assert!(
            !resolve(&[], "")
                .unwrap()
                .live
                .ends_on(&Record::Violation(Box::new(finding)))
        );
    }
}
