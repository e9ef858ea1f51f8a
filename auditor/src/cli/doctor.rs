//! `auditor doctor`: what will not be seen here, and why.

use super::config::{Format, TierChoice};
use super::context::Context;
use super::exit::Exit;
use super::live::known_hooks;
use crate::report::doctor::DoctorReport;
use std::path::PathBuf;

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
    /// Try this tier only [default: auto]
    #[arg(long, env = "AUDITOR_TIER", value_enum)]
    pub tier: Option<TierChoice>,
    /// Types of the running kernel [default: /sys/kernel/btf/vmlinux]
    #[arg(long, value_name = "FILE", env = "AUDITOR_BTF")]
    pub btf: Option<PathBuf>,
    /// Diagnose as on a kernel that lacks this hook; repeatable
    #[arg(
        long,
        value_name = "NAME",
        env = "AUDITOR_WITHOUT_HOOK",
        value_delimiter = ','
    )]
    pub without_hook: Vec<String>,
}

/// What to do, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoctorOptions {
    /// Which tier to try.
    pub tier: TierChoice,
    /// Types of the running kernel; `None`: the kernel's own.
    pub btf: Option<PathBuf>,
    /// Hooks to do without, by their names in output.
    pub without_hooks: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// Says what was tried, what failed and what to do next.
pub fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let file = &context.file;
    let without = if args.without_hook.is_empty() {
        file.without_hook.clone().unwrap_or_default()
    } else {
        args.without_hook
    };
    let options = DoctorOptions {
        tier: args.tier.or(file.tier).unwrap_or_default(),
        btf: args.btf.or_else(|| file.btf.clone()),
        without_hooks: known_hooks(without)?,
    };
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
