//! `auditor replay`: the lines of recorded traces, again.

use super::config::{FileOptions, Format};
use super::context::Context;
use super::exit::Exit;
use super::failure::Failure;
use super::moment::Moment;
use super::policy::PolicySource;
use super::units::Factor;
use crate::agent::replay::filter::Choice;
use crate::agent::replay::judge::{Given, Policies};
use crate::agent::replay::streams::Source;
use crate::agent::replay::{ReplayOptions, run as replay};
use crate::import::Tool;
use crate::model::{RuleId, Severity};
use crate::sink::outputs::Form;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use std::path::{Path, PathBuf};

pub(super) const LONG: &str = "\
Give the lines of recorded traces again, on any machine and without privileges.

Reads what \"auditor record\" or \"auditor watch --record\" has written and steps the same engine through it: the \
lines are those of the watch, byte by byte. Parts of one recording are put in order and read as one; recordings are \
replayed in parallel, and their lines come in order of node, boot and time. Damaged, cut and missing parts are said \
on stderr, and the rest is replayed. With --from, logs of other tools are judged by the same engine, as far as such \
a log goes.

--since, --until, --rule, --entity and --severity choose lines; whatever they say, the engine sees everything.";
const AFTER: &str = "\
Examples:
  auditor replay node.atrace
  auditor replay /var/lib/auditor/ --since 10m --severity high    the last ten minutes of each recording
  auditor replay 'traces/web-*' --entity web --rule namespace-join
  auditor replay traces/ --policy new.toml                        what this policy would have said
  auditor replay traces/ --diff-policy recorded new.toml          and what it changes
  ssh node sudo auditor record - | auditor replay -
  auditor replay --from tetragon tetragon.log                     what another tool has recorded

Exit codes: 0 no violation, 1 some (with --diff-policy: the policies differ), 2 error (a trace is damaged), 4 evidence \
was lost when it was recorded, or is missing between parts or at the end. Only lines that are printed count for 1.";

/// What stands for the policies that are in the trace.
const RECORDED: &str = "recorded";

/// The flags.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = AFTER)]
pub struct Args {
    /// Traces, directories of traces, patterns with * and ?; -: standard input
    #[arg(value_name = "TRACE", required = true)]
    pub traces: Vec<PathBuf>,
    /// What the inputs are instead of traces: JSON logs of this tool, each a stream of its own
    #[arg(long, value_name = "TOOL", value_parser = tools())]
    pub from: Option<Tool>,
    /// Judge by this policy file (TOML) instead of the recorded ones
    #[arg(long, value_name = "FILE", env = "AUDITOR_POLICY")]
    pub policy: Option<PathBuf>,
    /// Only what changes from one policy file to another; "recorded": the policies in the trace
    #[arg(long, num_args = 2, value_names = ["OLD", "NEW"])]
    pub diff_policy: Vec<PathBuf>,
    /// No lines before this time, such as 2026-11-23T10:30:00Z, or 10m: so long before the end of each recording
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub since: Option<Moment>,
    /// No lines after this time; as --since
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub until: Option<Moment>,
    /// Only findings of this rule; repeatable
    #[arg(long, value_name = "RULE")]
    pub rule: Vec<RuleId>,
    /// Only findings about this entity, by id, name, or the start of a hexadecimal id; repeatable
    #[arg(long, value_name = "ENTITY")]
    pub entity: Vec<String>,
    /// Only findings of this severity or worse: info, low, medium, high, critical
    #[arg(long, value_name = "SEVERITY")]
    pub severity: Option<Severity>,
    /// So many times as fast as it was recorded, such as 1, 0.5 or 10 [default: as fast as possible]
    #[arg(long, value_name = "FACTOR", env = "AUDITOR_SPEED")]
    pub speed: Option<Factor>,
    /// Form of the lines on stdout [default: table on a terminal, json in a pipe]
    #[arg(long, env = "AUDITOR_FORMAT", value_enum)]
    pub format: Option<Format>,
}

/// Runs the command.
///
/// # Errors
/// Says what was tried, what failed and what to do next.
pub fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let form = match context.format(args.format) {
        Format::Json => Form::Json,
        Format::Table => Form::Human(context.style),
    };
    let policies = policies(&args.diff_policy, args.policy, &context.file)?;
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    replay(ReplayOptions {
        inputs: args.traces,
        source: args.from.map_or(Source::Traces, Source::Logs),
        policies,
        choice: Choice {
            since: args.since,
            until: args.until,
            rules: args.rule.into_iter().collect(),
            entities: args.entity,
            severity: args.severity,
        },
        speed: args.speed.or(context.file.speed),
        form,
        threads,
    })
}

/// Reads the name of a tool; completion knows them.
fn tools() -> impl TypedValueParser<Value = Tool> {
    PossibleValuesParser::new(Tool::ALL.map(Tool::as_str)).try_map(|name| name.parse::<Tool>())
}

fn policies(
    compared: &[PathBuf],
    one: Option<PathBuf>,
    file: &FileOptions,
) -> anyhow::Result<Policies> {
    Ok(match compared {
        [old, new] if old == new => {
            return Err(Failure::new(
                "--diff-policy names the same policy twice",
                "give two, such as --diff-policy recorded new.toml",
            )
            .into());
        }
        [old, new] => Policies::Two(given(old)?, given(new)?),
        _ => match one.or_else(|| file.policy.clone()) {
            Some(path) => Policies::One(Some(PolicySource::File(path).load()?)),
            None => Policies::One(None),
        },
    })
}

fn given(path: &Path) -> anyhow::Result<Given> {
    if path.as_os_str() == RECORDED {
        return Ok(None);
    }
    Ok(Some(PolicySource::File(path.to_owned()).load()?))
}

#[cfg(test)]
mod tests {
    use super::{Args, policies};
    use crate::agent::replay::judge::Policies;
    use crate::cli::config::FileOptions;
    use crate::cli::moment::Moment;
    use crate::cli::{Cli, Command};
    use crate::model::policy::Policy;
    use clap::Parser;
    use std::time::Duration;

    fn parse(flags: &[&str]) -> Result<Args, clap::Error> {
        let argv = ["auditor", "replay"].iter().chain(flags);
        match Cli::try_parse_from(argv)?.command {
            Command::Replay(args) => Ok(args),
            other => panic!("{other:?}"),
        }
    }

    /// Goal: filters are read as they are documented, and mistakes are refused at once.
    #[test]
    fn filters_are_read() {
        let args = parse(&["x", "--since", "-10m", "--rule=drift", "--rule=foreign-cwd"]).unwrap();
        let ten = Moment::BeforeEnd(Duration::from_secs(600));
        assert_eq!((args.since, args.rule.len()), (Some(ten), 2));
        for bad in [
            &["x", "--since=yesterday"][..],
            &["x", "--rule=nosuch"],
            &["x", "--severity=bad"],
            &["x", "--speed=0"],
            &["x", "--from=syslog"],
            &["x", "--diff-policy", "one"],
            &[],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    /// Goal: a flag goes before the file, both before what is recorded, and a comparison before all of them.
    #[test]
    fn policies_have_an_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str, required: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, format!("[defaults]\nrequired = [\"{required}\"]\n")).unwrap();
            path
        };
        let (flag, key) = (path("flag.toml", "net"), path("key.toml", "mnt"));
        let file = FileOptions {
            policy: Some(key.clone()),
            ..FileOptions::default()
        };
        let digest = |policies: Policies| match policies {
            Policies::One(policy) => policy.map(|p| p.digest()),
            Policies::Two(..) => panic!("two"),
        };
        let want = |path| {
            Some(
                Policy::parse(&std::fs::read_to_string(path).unwrap(), "")
                    .unwrap()
                    .digest(),
            )
        };
        let none = FileOptions::default();
        assert_eq!(digest(policies(&[], None, &none).unwrap()), None);
        assert_eq!(digest(policies(&[], None, &file).unwrap()), want(&key));
        assert_eq!(
            digest(policies(&[], Some(flag.clone()), &file).unwrap()),
            want(&flag)
        );
        let two = policies(&["recorded".into(), flag.clone()], None, &file).unwrap();
        assert!(matches!(two, Policies::Two(None, Some(_))));
        assert!(policies(&[flag.clone(), flag], None, &file).is_err());
    }
}
