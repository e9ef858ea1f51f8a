//! `auditor scan`: one look at the machine, without eBPF.

use super::config::Format;
use super::context::Context;
use super::exit::Exit;
use super::policy::PolicySource;
use crate::report::scan::ScanReport;
use std::path::PathBuf;

pub(super) const LONG: &str = "\
Look once, without eBPF: who is isolated from whom.

Reads /proc and the cgroups and evaluates every pair of containers, the host included. The table shows the matrix of \
ι (1 isolated, 0 violated, ? not known), then one line per witness, worst first, then what many share. The JSON form \
also has every entity with its namespaces and capabilities; \"auditor explain --pair A B --scan FILE\" reads it.

Needs root to see other users' processes.";
const AFTER: &str = "\
Examples:
  sudo auditor scan
  sudo auditor scan --format json > scan.json && auditor explain --pair web host --scan scan.json
  sudo auditor scan --policy policy.toml || alert    1 when a pair is violated

Exit codes: 0 no pair is violated, 1 some are, 2 error.";

/// The flags.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = AFTER)]
pub struct Args {
    /// Policy file (TOML): what is declared as normal on this machine
    #[arg(long, value_name = "FILE", env = "AUDITOR_POLICY")]
    pub policy: Option<PathBuf>,
    /// Form of the report [default: table on a terminal, json in a pipe]
    #[arg(long, env = "AUDITOR_FORMAT", value_enum)]
    pub format: Option<Format>,
}

/// What to do, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanOptions {
    /// Where the policy is.
    pub policy: PolicySource,
}

/// Runs the command.
///
/// # Errors
/// Says what was tried, what failed and what to do next.
pub fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let format = context.format(args.format);
    let policy = PolicySource::from(args.policy.or_else(|| context.file.policy.clone()));
    policy.load()?;
    let report = crate::agent::once::scan(&ScanOptions { policy })?;
    context.print(&match format {
        Format::Table => report.table(context.style),
        Format::Json => serde_json::to_string(&report)? + "\n",
    })?;
    Ok(exit(&report))
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
