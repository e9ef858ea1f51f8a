//! `auditor privileges`: what containers were granted, what they use, and what is left over.

use super::config::{FileOptions, Format, TierChoice};
use super::context::Context;
use super::exit::Exit;
use super::failure::Failure;
use super::live::{LiveArgs, LiveOptions, block_signals};
use super::record::RecordingArgs;
use super::sight::SightArgs;
use super::units::Span;
use crate::agent::history::{HistoryError, HistoryFile};
use crate::agent::privileges::{replay, watch};
use crate::agent::state::StateError;
use crate::model::output::SCHEMA;
use crate::report::advice::{self, Form};
use crate::report::history::History;
use crate::report::privileges::Observation;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) const LONG: &str = "\
What containers were granted, what they use, and what is left over.

Watches this machine for a while, or reads recorded traces, and tells of each container: the capabilities that it was \
granted, over which user namespace; those that it used, with the system call and the command that asked first; those \
that were refused, and those that the kernel only probed for; and the excess, which was granted and not seen in use. \
Containers of one image, or of one id, are taken together too.

What was not seen may be needed all the same: the report ends with what it may have missed. Live, it needs what \
\"auditor watch\" needs; with --from, it needs no privileges.";
const AFTER: &str = "\
Examples:
  sudo auditor privileges                                      for 30 seconds, or until Ctrl-C
  sudo auditor privileges --window 1h --container web --record /var/lib/auditor/
  auditor privileges --from /var/lib/auditor/ 'traces/web-*'   over many traces
  auditor privileges --from traces/ --format json | jq '.together[] | {of, excess}'
  auditor privileges --from traces/ --container web --format kubernetes
  sudo auditor privileges --window 1h --syscalls --format seccomp --container web | jq '.[0].profile'
  sudo auditor privileges --window 1h --state /var/lib/auditor/privileges.json   again and again

Exit codes: 0, 2 error (a trace is damaged), 3 no live tier works here, 4 evidence was lost.";

/// How long is watched.
const WINDOW: Duration = Duration::from_secs(30);

/// The flags.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = AFTER)]
pub struct Args {
    /// Only this container, by name, id, or the start of an id; repeatable
    #[arg(long, value_name = "NAME", num_args = 1..)]
    pub container: Vec<String>,
    /// Recorded traces, directories of traces, patterns with * and ?, instead of this machine; -: standard input
    #[arg(long, value_name = "TRACE", num_args = 1.., conflicts_with_all = ["window", "record", "tier", "btf", "without_hook", "syscalls"])]
    pub from: Vec<PathBuf>,
    /// How long to watch [default: 30s]
    #[arg(long, value_name = "DURATION", env = "AUDITOR_WINDOW")]
    pub window: Option<Span>,
    /// Keep all that is seen in this file or directory too, for --from
    #[arg(long, value_name = "PATH", env = "AUDITOR_RECORD")]
    pub record: Option<PathBuf>,
    /// Merge what is seen into this file, and tell of each image what all runs saw that were merged into it
    #[arg(long, value_name = "FILE", env = "AUDITOR_STATE")]
    pub state: Option<PathBuf>,
    /// How to see.
    #[command(flatten)]
    pub sight: SightArgs,
    /// Form of the report, or as what to write down the capabilities that were used [default: table on a terminal, json
    /// in a pipe]
    #[arg(long, env = "AUDITOR_FORMAT", value_enum)]
    pub format: Option<ReportFormat>,
}

/// In what form to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ReportFormat {
    /// For people
    Table,
    /// For programs
    Json,
    /// Advice: a securityContext for a pod's container
    Kubernetes,
    /// Advice: flags of docker run and podman run
    #[value(alias = "podman")]
    Docker,
    /// Advice: merge patches of config.json
    Oci,
    /// Advice: lines of a systemd unit
    Systemd,
    /// Advice: seccomp profiles, of what was seen with --syscalls
    Seccomp,
    /// Advice: roles for the auditor's own policy
    Policy,
}

impl Args {
    /// The file in which advice accumulates.
    fn state<'a>(&'a self, file: &'a FileOptions) -> Option<&'a Path> {
        self.state.as_deref().or(file.state.as_deref())
    }

    /// How to watch. Nothing is kept between two calls, and nothing of what a watch keeps is touched.
    fn live(&self, file: &FileOptions) -> Result<LiveOptions, Failure> {
        let record = match &self.record {
            Some(path) if path.as_os_str() == "-" => {
                return Err(Failure::new(
                    "--record - and the report would both go to standard output",
                    "give a file or a directory to --record",
                ));
            }
            Some(path) => Some(RecordingArgs::default().resolve(path, file)?),
            None => None,
        };
        let live = LiveArgs {
            sight: self.sight.clone(),
            no_state: Some(true),
            ..LiveArgs::default()
        };
        let window = self.window.or(file.window).map_or(WINDOW, |span| span.0);
        Ok(LiveOptions {
            duration: Some(window),
            record,
            writes_into_foreign_directory: self
                .state(file)
                .is_some_and(|path| HistoryFile::new(path.into()).is_in_foreign_directory()),
            ..live.resolve(file)?
        })
    }
}

/// Runs the command.
///
/// # Errors
/// Says what was tried, what failed and what to do next.
pub fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let format = args.format.unwrap_or_else(|| match context.format(None) {
        Format::Table => ReportFormat::Table,
        Format::Json => ReportFormat::Json,
    });
    let state = args.state(&context.file);
    // First, so that a damaged file, or one that cannot be written, costs no observation.
    let before = state.map(|path| keep(path, &History::default()));
    let before = before.transpose()?;
    let (observation, exit) = if args.from.is_empty() {
        live(&args, context)?
    } else {
        recorded(&args)?
    };
    let mut seen = History::default();
    observation.note_in(&mut seen);
    let kept = state.map(|path| keep(path, &seen));
    let history = before.map(|mut before| {
        // What cannot be kept is told all the same.
        before.merge(&seen);
        before
    });
    let all = match &kept {
        Some(Ok(all)) => Some(all),
        _ => history.as_ref(),
    };
    let report = observation.report(SCHEMA, &args.container, all);
    context.print(&match format {
        ReportFormat::Table => report.table(context.style),
        ReportFormat::Json => serde_json::to_string(&report)? + "\n",
        ReportFormat::Kubernetes => advice::write(&report, Form::Kubernetes),
        ReportFormat::Docker => advice::write(&report, Form::Docker),
        ReportFormat::Oci => advice::write(&report, Form::Oci),
        ReportFormat::Systemd => advice::write(&report, Form::Systemd),
        ReportFormat::Seccomp => advice::write(&report, Form::Seccomp),
        ReportFormat::Policy => advice::write(&report, Form::Policy),
    })?;
    kept.transpose()?;
    Ok(exit)
}

fn keep(path: &Path, seen: &History) -> Result<History, Failure> {
    let file = HistoryFile::new(path.to_owned());
    file.add(seen).map_err(|error| refused(path, error))
}

fn refused(path: &Path, error: HistoryError) -> Failure {
    let next = match &error {
        HistoryError::Newer { .. } => {
            "use the auditor that wrote it, or give another file".to_owned()
        }
        HistoryError::State(StateError::Io { .. }) => {
            "give a file in a directory that you can write to".to_owned()
        }
        HistoryError::State(StateError::Untrusted { .. }) => format!(
            "if you trust what is in it: chown root {0}; chmod 600 {0}",
            path.display()
        ),
        _ => format!(
            "it is left as it is; move it away to begin anew: mv {0} {0}.damaged",
            path.display()
        ),
    };
    Failure::new("cannot use the file given with --state", next).caused_by(error)
}

fn live(args: &Args, context: &Context) -> anyhow::Result<(Observation, Exit)> {
    let options = args.live(&context.file)?;
    if options.sight.tier == TierChoice::Scan {
        return Err(Failure::unsupported(
            "--tier scan sees no capability in use",
            "leave it out, or read what another machine has recorded with --from",
        )
        .into());
    }
    // First, so that every thread that is started below inherits it.
    let signals = block_signals()?;
    let (observation, outcome) = watch(&options, &signals)?;
    Ok((observation, outcome.exit(0)))
}

fn recorded(args: &Args) -> anyhow::Result<(Observation, Exit)> {
    let signals = block_signals()?;
    let recorded = replay(&args.from, &signals)?;
    for text in &recorded.said {
        use std::io::Write;
        // With stderr gone there is nobody left to tell.
        let _ = writeln!(std::io::stderr(), "{text}");
    }
    let mut exit = Exit::Clean;
    if recorded.observation.lost_events > 0 {
        exit = exit.and(Exit::EvidenceLost);
    }
    if recorded.failed {
        exit = exit.and(Exit::Error);
    }
    Ok((recorded.observation, exit))
}

#[cfg(test)]
mod tests {
    use super::Args;
    use crate::cli::config::FileOptions;
    use crate::cli::{Cli, Command};
    use clap::Parser;
    use std::path::Path;
    use std::time::Duration;

    fn parse(flags: &[&str]) -> Result<Args, clap::Error> {
        let argv = ["auditor", "privileges"].iter().chain(flags);
        match Cli::try_parse_from(argv)?.command {
            Command::Privileges(args) => Ok(args),
            other => panic!("{other:?}"),
        }
    }

    /// Goal: a window has an end, a flag goes before the file, and what a watch keeps is not touched.
    #[test]
    fn how_long_and_how() {
        let file = |text: &str| FileOptions::parse(text, Path::new("f")).unwrap();
        let live = |flags: &[&str], text: &str| parse(flags).unwrap().live(&file(text)).unwrap();
        let seconds = |flags: &[&str], text| live(flags, text).duration.map(|d| d.as_secs());
        assert_eq!(seconds(&[], "duration = \"9s\""), Some(30));
        assert_eq!(seconds(&[], "window = \"1m\""), Some(60));
        assert_eq!(seconds(&["--window", "5s"], "window = \"1m\""), Some(5));
        assert_eq!(live(&[], "").duration, Some(Duration::from_secs(30)));
        assert_eq!(live(&[], "state_dir = \"/x\"").state_dir, None);
        assert_eq!(live(&[], "record = \"/x\"").record, None);
        assert_eq!(live(&[], "record = \"-\"").record, None);
        assert!(live(&["--record=/x"], "").record.is_some());
        assert!(parse(&["--record=-"]).unwrap().live(&file("")).is_err());
        let args = parse(&["--state=/y"]).unwrap();
        let (named, none) = (file("state = \"/x\""), parse(&[]).unwrap());
        assert_eq!(args.state(&named), Some(Path::new("/y")));
        assert_eq!(none.state(&named), Some(Path::new("/x")));
    }

    /// Goal: traces and this machine exclude each other, and lists are lists.
    #[test]
    fn sources_exclude_each_other() {
        let args = parse(&["--container", "a", "b", "--from", "x", "y"]).unwrap();
        assert_eq!((args.container.len(), args.from.len()), (2, 2));
        for bad in [
            &["--from", "x", "--window=1s"][..],
            &["--from", "x", "--record=y"],
            &["--from"],
            &["x"],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
