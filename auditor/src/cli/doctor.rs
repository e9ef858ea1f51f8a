//! `auditor doctor`: what will not be seen here, and why.

use super::config::Format;
use super::context::Context;
use super::exit::Exit;
use super::sight::SightArgs;
use crate::report::doctor::DoctorReport;

pub(super) const LONG: &str = "\
What this kernel and these permissions allow, and what will not be seen.

Tries every hook, and lets a child process act to see that each one really fires: a hook can be attached and stay \
silent because the compiler inlined its function. Reports tier, hooks, capabilities, cgroups and kernel fields, and \
says in sentences what an \"auditor watch\" here cannot see and what to do about it.";
const AFTER: &str = "\
Examples:
  sudo auditor doctor
  sudo auditor doctor --format json | jq .not_seen
  sudo auditor doctor --without-hook set_fs_root     as on a kernel that lacks it

Exit codes: 0 a live tier works, 3 none does, 2 error.";

/// The flags.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = AFTER)]
pub struct Args {
    /// Form of the report [default: table on a terminal, json in a pipe]
    #[arg(long, env = "AUDITOR_FORMAT", value_enum)]
    pub format: Option<Format>,
    /// How to see.
    #[command(flatten)]
    pub sight: SightArgs,
}

/// Runs the command.
///
/// # Errors
/// Says what was tried, what failed and what to do next.
pub fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let options = args.sight.resolve(&context.file)?;
    let report = crate::agent::diagnose::doctor(&options)?;
    context.print(&match context.format(args.format) {
        Format::Table => report.table(context.style),
        Format::Json => serde_json::to_string(&report)? + "\n",
    })?;
    Ok(exit(&report))
}

const fn exit(report: &DoctorReport) -> Exit {
    if report.tier.is_some() {
        Exit::Clean
    } else {
        Exit::Unsupported
    }
}

#[cfg(test)]
mod tests {
    use super::exit;
    use crate::cli::exit::Exit;
    use crate::report::doctor::tests::sample;

    /// Goal: 3 exactly when no live tier works.
    #[test]
    fn exit_codes_of_doctor() {
        let mut report = sample();
        assert_eq!(exit(&report), Exit::Clean);
        report.tier = None;
        assert_eq!(exit(&report), Exit::Unsupported);
    }
}
