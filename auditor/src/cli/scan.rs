//! `auditor scan`: one look at the machine, without eBPF.

use super::config::Format;
use super::context::Context;
use super::exit::Exit;
use super::failure::Failure;
use super::live::block_signals;
use super::policy::PolicySource;
use crate::agent::once::{look, report};
use crate::agent::privileges::replay_each;
use crate::agent::what_if::suppose;
use crate::engine::Engine;
use crate::model::what_if::Supposition;
use crate::report::scan::ScanReport;
use crate::report::what_if::WhatIfReport;
use std::collections::BTreeSet;
use std::path::PathBuf;

pub(super) const LONG: &str = "\
Look once, without eBPF: who is isolated from whom.

Reads /proc and the cgroups and evaluates every pair of containers, the host included. The table shows the matrix of \
ι (1 isolated, 0 violated, ? not known), then one line per witness, worst first, then what many share. The JSON form \
also has every entity with its namespaces and capabilities; \"auditor explain --pair A B --scan FILE\" reads it.

With --from it shows what a recording knew at its end, on any machine and without privileges. With --what-if it shows \
what would be different: the state is taken as it is, changed as supposed, and evaluated again; with --from it also \
says what was seen in use and would be missed.

Needs root to see other users' processes.";
const AFTER: &str = "\
Examples:
  sudo auditor scan
  sudo auditor scan --format json > scan.json && auditor explain --pair web host --scan scan.json
  sudo auditor scan --policy policy.toml || alert    1 when a pair is violated
  sudo auditor scan --what-if own=net:web --what-if drop=NET_ADMIN:web
  auditor scan --from traces/ --what-if userns:web   and what would break, by what was used

Exit codes: 0 no pair is violated (with --what-if: would be), 1 some are, 2 error, 4 evidence was lost in a recording.";

/// The flags.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = AFTER)]
pub struct Args {
    /// Policy file (TOML): what is declared as normal on this machine
    #[arg(long, value_name = "FILE", env = "AUDITOR_POLICY")]
    pub policy: Option<PathBuf>,
    /// Parts of one recording, as they left that machine, instead of this machine; under the policy in them
    #[arg(long, value_name = "TRACE", num_args = 1.., conflicts_with = "policy")]
    pub from: Vec<PathBuf>,
    /// Suppose this and show what would be different: drop=CAPABILITY[,...]:WHO, userns:WHO, own=KIND[,...]:WHO,
    /// no-new-privs:WHO, read-only=PATH:WHO, unmount=PATH:WHO; repeatable
    #[arg(long, value_name = "CHANGE:WHO")]
    pub what_if: Vec<Supposition>,
    /// Form of the report [default: table on a terminal, json in a pipe]
    #[arg(long, env = "AUDITOR_FORMAT", value_enum)]
    pub format: Option<Format>,
}

/// Runs the command.
///
/// # Errors
/// Says what was tried, what failed and what to do next.
pub fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let format = context.format(args.format);
    let show = |engine: &Engine, boottime_ns| answer(engine, boottime_ns, &args.what_if);
    let (answer, exit) = if args.from.is_empty() {
        let file = args.policy.clone().or_else(|| context.file.policy.clone());
        let policy = PolicySource::from(file).load()?;
        let (engine, boottime_ns) = look(&policy)?;
        (show(&engine, boottime_ns)?, Exit::Clean)
    } else {
        recorded(&args.from, show)?
    };
    context.print(&answer.text(format, context)?)?;
    Ok(exit.and(answer.exit()))
}

/// What is printed.
enum Answer {
    Scan(Box<ScanReport>),
    WhatIf(Box<WhatIfReport>),
}

impl Answer {
    fn text(&self, format: Format, context: &Context) -> serde_json::Result<String> {
        Ok(match (self, format) {
            (Self::Scan(report), Format::Table) => report.table(context.style),
            (Self::Scan(report), Format::Json) => serde_json::to_string(report)? + "\n",
            (Self::WhatIf(report), Format::Table) => report.table(context.style),
            (Self::WhatIf(report), Format::Json) => serde_json::to_string(report)? + "\n",
        })
    }

    const fn exit(&self) -> Exit {
        match self {
            Self::Scan(report) => exit(report),
            Self::WhatIf(report) => exit(&report.after),
        }
    }
}

fn answer(engine: &Engine, boottime_ns: u64, what_if: &[Supposition]) -> Result<Answer, Failure> {
    if what_if.is_empty() {
        return Ok(Answer::Scan(Box::new(report(engine, boottime_ns))));
    }
    let report = suppose(engine, what_if, boottime_ns).map_err(|e| {
        let next = "name a container as the scan does: id, name, or start of an id";
        Failure::new(e.to_string(), next)
    })?;
    Ok(Answer::WhatIf(Box::new(report)))
}

/// The state at the end of a recording.
fn recorded(
    traces: &[PathBuf],
    show: impl Fn(&Engine, u64) -> Result<Answer, Failure>,
) -> anyhow::Result<(Answer, Exit)> {
    let signals = block_signals()?;
    let (mut last, mut machines) = (None, BTreeSet::new());
    let recorded = replay_each(traces, &signals, &mut |engine, _, _| {
        let config = engine.config();
        machines.insert((config.node.clone(), config.boot_id.clone()));
        last = Some(show(engine, engine.now_ns()));
    })?;
    for said in &recorded.said {
        tracing::warn!("{said}");
    }
    if machines.len() > 1 {
        let what = format!("the traces are of {} machines or boots", machines.len());
        return Err(Failure::new(what, "give those of one").into());
    }
    let Some(last) = last else {
        return Err(
            Failure::new("there is no trace to read", "give traces that can be read").into(),
        );
    };
    let exit = match (recorded.failed, recorded.observation.lost_events) {
        (true, _) => Exit::Error,
        (false, 0) => Exit::Clean,
        (false, _) => Exit::EvidenceLost,
    };
    Ok((last?, exit))
}

const fn exit(report: &ScanReport) -> Exit {
    if report.summary.violated > 0 {
        Exit::Violations
    } else {
        Exit::Clean
    }
}

#[cfg(test)]
mod tests {
    use super::exit;
    use crate::cli::exit::Exit;
    use crate::report::scan::tests::sample;

    /// Goal: 1 exactly when a pair is violated; unknown pairs alone are no violation.
    #[test]
    fn exit_codes_of_scan() {
        let mut report = sample();
        assert_eq!(exit(&report), Exit::Violations);
        report.summary.violated = 0;
        assert_eq!(exit(&report), Exit::Clean);
    }
}
