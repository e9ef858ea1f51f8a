//! `auditor watch`: the main command.

use super::config::{FileOptions, Format, TierChoice};
use super::context::Context;
use super::exit::Exit;
use super::failure::Failure;
use super::policy::PolicySource;
use super::record::RecordingArgs;
use super::signals::Signals;
use super::units::{Bytes, Span};
use crate::agent::live::Agent;
use crate::agent::record::RecordOptions;
use crate::model::Severity;
use crate::model::output::Record;
use crate::sink::outputs::{Form, Outputs};
use auditor_common::hook::HOOKS;
use clap::builder::BoolishValueParser;
use std::path::PathBuf;
use std::time::Duration;

pub(super) const LONG: &str = "\
Watch this machine live: one line per violation.

Attaches to the kernel, takes a snapshot, and then writes a line for each event that breaks isolation or privilege, \
with its proof: who, against whom, what was expected, what was observed, seen by which hook. Runs until SIGINT or \
SIGTERM; SIGHUP reads the policy again. On a terminal each line is a readable one, in a pipe it is JSON.

Needs root, or the capabilities that \"auditor doctor\" lists.";
const AFTER: &str = "\
Examples:
  sudo auditor watch
  sudo auditor watch --policy policy.toml --output /var/log/auditor.jsonl
  sudo auditor watch --exit-on high --duration 10m   as a gate in a test: 1 when isolation broke
  sudo auditor watch | jq 'select(.type == \"violation\") | .message'

A signal ends it with 0; --exit-on with 1; lost evidence with 4; a kernel on which no live tier works
with 3 (--tier scan works there: changes are then seen by the sweep only).";

/// Patience with a reader of the output when the watch ends.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);

/// The flags.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = AFTER)]
pub struct Args {
    /// Policy file (TOML): what is declared as normal on this machine
    #[arg(long, value_name = "FILE", env = "AUDITOR_POLICY")]
    pub policy: Option<PathBuf>,
    /// Form of the lines on stdout [default: table on a terminal, json in a pipe]
    #[arg(long, env = "AUDITOR_FORMAT", value_enum)]
    pub format: Option<Format>,
    /// Append JSON lines to this file, beside stdout; -: JSON lines on stdout
    #[arg(long, value_name = "FILE", env = "AUDITOR_OUTPUT")]
    pub output: Option<PathBuf>,
    /// End with 1 at the first violation of this severity or worse: info, low, medium, high, critical
    #[arg(long, value_name = "SEVERITY", env = "AUDITOR_EXIT_ON")]
    pub exit_on: Option<Severity>,
    /// How to see events; auto takes the best that works [default: auto]
    #[arg(long, env = "AUDITOR_TIER", value_enum)]
    pub tier: Option<TierChoice>,
    /// Types of the running kernel [default: /sys/kernel/btf/vmlinux]
    #[arg(long, value_name = "FILE", env = "AUDITOR_BTF")]
    pub btf: Option<PathBuf>,
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
    /// For diagnosis: run as on a kernel that lacks this hook; repeatable
    #[arg(
        long,
        value_name = "NAME",
        env = "AUDITOR_WITHOUT_HOOK",
        value_delimiter = ','
    )]
    pub without_hook: Vec<String>,
    /// End after this time
    #[arg(long, value_name = "DURATION", env = "AUDITOR_DURATION")]
    pub duration: Option<Span>,
    /// Keep all that is seen in this file or directory, for "auditor replay"; -: standard output
    #[arg(long, value_name = "PATH", env = "AUDITOR_RECORD")]
    pub record: Option<PathBuf>,
    /// How to record.
    #[command(flatten)]
    pub recording: RecordingArgs,
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
pub struct WatchOptions {
    /// Where the policy is.
    pub policy: PolicySource,
    /// Form of the lines on stdout.
    pub format: Format,
    /// JSON lines go to this file too.
    pub output: Option<PathBuf>,
    /// The severity that ends the watch.
    pub exit_on: Option<Severity>,
    /// How to see events.
    pub tier: TierChoice,
    /// Types of the running kernel; `None`: the kernel's own.
    pub btf: Option<PathBuf>,
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
    /// Hooks to do without, by their names in output ([`auditor_common::hook::HookSpec::name`]).
    pub without_hooks: Vec<String>,
    /// When to end.
    pub duration: Option<Duration>,
    /// Where and how to record.
    pub record: Option<RecordOptions>,
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
        let no_state = args.no_state.or(file.no_state).unwrap_or(false);
        let state_dir = args.state_dir.or_else(|| file.state_dir.clone());
        let keep = args
            .keep_capabilities
            .or(file.keep_capabilities)
            .unwrap_or(false);
        let without = if args.without_hook.is_empty() {
            file.without_hook.clone().unwrap_or_default()
        } else {
            args.without_hook
        };
        Ok(Self {
            policy: PolicySource::from(args.policy.or_else(|| file.policy.clone())),
            format,
            output,
            exit_on: args.exit_on.or(file.exit_on),
            tier: args.tier.or(file.tier).unwrap_or_default(),
            btf: args.btf.or_else(|| file.btf.clone()),
            sweep: bounded("--sweep", args.sweep.or(file.sweep), "1s", ("100ms", "1h"))?,
            heartbeat: bounded(
                "--heartbeat",
                args.heartbeat.or(file.heartbeat),
                "60s",
                ("1s", "1d"),
            )?,
            ring_size_bytes: ring_size(args.ring_size.or(file.ring_size))?,
            state_dir: (!no_state).then(|| state_dir.unwrap_or_else(|| "/run/auditor".into())),
            capabilities: if keep {
                Capabilities::Keep
            } else {
                Capabilities::Drop
            },
            without_hooks: known_hooks(without)?,
            duration: args.duration.or(file.duration).map(|span| span.0),
            record: args
                .record
                .or_else(|| file.record.clone())
                .map(|path| args.recording.resolve(&path, file))
                .transpose()?,
        })
    }

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

/// Accepts the name in output and the name of the program; keeps the first.
pub(super) fn known_hooks(names: Vec<String>) -> Result<Vec<String>, Failure> {
    let find = |name: String| {
        let is_it = |h: &&auditor_common::hook::HookSpec| h.name == name || h.program == name;
        match HOOKS.iter().find(is_it) {
            Some(hook) => Ok(hook.name.to_owned()),
            None => {
                let known: Vec<&str> = HOOKS.iter().map(|h| h.name).collect();
                let what = format!("--without-hook: there is no hook \"{name}\"");
                Err(Failure::new(
                    what,
                    format!("known hooks: {}", known.join(", ")),
                ))
            }
        }
    };
    names.into_iter().map(find).collect()
}

/// Runs the command.
///
/// # Errors
/// Says what was tried, what failed and what to do next.
pub fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let options = WatchOptions::resolve(args, &context.file, context.stdout_is_terminal)?;
    // A bad policy is refused before anything is attached.
    let policy = options.policy.load()?;
    // First, so that every thread that is started below inherits it.
    let signals = Signals::block().map_err(|e| {
        Failure::new(
            "cannot take signals from a descriptor",
            "report this as a bug",
        )
        .caused_by(e)
    })?;
    let form = match options.format {
        Format::Json => Form::Json,
        Format::Table => Form::Human(context.style),
    };
    let cannot_open = |e| Failure::new("cannot open the output", "check --output").caused_by(e);
    // Files are opened while every capability is there; threads start when those are dropped.
    let wanted = Outputs::prepare(form, options.output.as_deref()).map_err(cannot_open)?;
    let agent = Agent::start(&options, &policy)?;
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
    use super::{Args, Capabilities, WatchOptions};
    use crate::cli::config::{FileOptions, Format, TierChoice};
    use crate::cli::policy::PolicySource;
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
                policy: PolicySource::Default,
                format: Format::Json,
                output: None,
                exit_on: None,
                tier: TierChoice::Auto,
                btf: None,
                sweep: Duration::from_secs(1),
                heartbeat: Duration::from_secs(60),
                ring_size_bytes: 8 << 20,
                state_dir: Some("/run/auditor".into()),
                capabilities: Capabilities::Drop,
                without_hooks: vec![],
                duration: None,
                record: None,
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
            ring_size = "16MiB"
            exit_on = "low"
            tier = "scan"
        "#;
        let from_file = resolve(&[], file).unwrap();
        assert_eq!(from_file.policy, PolicySource::File("/etc/p.toml".into()));
        assert_eq!(from_file.sweep, Duration::from_secs(2));
        assert_eq!(from_file.state_dir, None);
        assert_eq!(from_file.capabilities, Capabilities::Keep);
        assert_eq!(from_file.without_hooks, ["set_fs_pwd"]);
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
        let both = resolve(&flags, file).unwrap();
        assert_eq!(both.sweep, Duration::from_secs(3));
        assert_eq!(both.state_dir, Some(PathBuf::from("/run/auditor")));
        assert_eq!(both.capabilities, Capabilities::Drop);
        assert_eq!(both.without_hooks, ["set_fs_root", "iter/task"]);
        assert_eq!(both.exit_on, Some(Severity::Critical));
        assert_eq!(both.tier, TierChoice::Auto);
        assert_eq!(resolve(&["--no-state"], "").unwrap().state_dir, None);
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
        let options = resolve(&["--output=-"], "").unwrap();
        assert_eq!((options.format, options.output), (Format::Json, None));
        assert!(Cli::try_parse_from(["auditor", "watch", "--exit-on", "bad"]).is_err());
        assert!(Cli::try_parse_from(["auditor", "watch", "--sweep", "1"]).is_err());
    }

    /// Goal: --exit-on ends at its severity and above, and only for violations.
    #[test]
    fn exit_on() {
        let high = resolve(&["--exit-on=high"], "").unwrap();
        let mut finding = samples::finding(RuleId::NamespaceJoin);
        assert!(high.ends_on(&Record::Violation(Box::new(finding.clone()))));
        assert!(!high.ends_on(&Record::Drift(Box::new(finding.clone()))));
        finding.severity = Severity::Medium;
        assert!(!high.ends_on(&Record::Violation(Box::new(finding.clone()))));
        assert!(
            !resolve(&[], "")
                .unwrap()
                .ends_on(&Record::Violation(Box::new(finding)))
        );
    }
}
