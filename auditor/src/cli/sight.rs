//! How to see: the options of every command that attaches to the kernel.

use super::config::{FileOptions, TierChoice};
use super::failure::Failure;
use auditor_common::hook::{COMPAT, HOOKS, HookSpec};
use clap::builder::BoolishValueParser;
use std::path::PathBuf;

/// The flags.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct SightArgs {
    /// How to see events; auto takes the best that works [default: auto]
    #[arg(long, env = "AUDITOR_TIER", value_enum)]
    pub tier: Option<TierChoice>,
    /// Types of the running kernel [default: /sys/kernel/btf/vmlinux]
    #[arg(long, value_name = "FILE", env = "AUDITOR_BTF")]
    pub btf: Option<PathBuf>,
    /// For diagnosis: run as on a kernel that lacks this hook; repeatable
    #[arg(
        long,
        value_name = "NAME",
        env = "AUDITOR_WITHOUT_HOOK",
        value_delimiter = ','
    )]
    pub without_hook: Vec<String>,
    /// See which system calls containers make, too: this makes every system call of every program some 130 ns slower
    #[arg(
        long, value_name = "BOOL", env = "AUDITOR_SYSCALLS", value_parser = BoolishValueParser::new(),
        num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true
    )]
    pub syscalls: Option<bool>,
}

/// What to do, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// How to see events.
    pub tier: TierChoice,
    /// Types of the running kernel; `None`: the kernel's own.
    pub btf: Option<PathBuf>,
    /// Hooks to do without, by their names in output ([`auditor_common::hook::HookSpec::name`]).
    pub without_hooks: Vec<String>,
    /// Whether to see which system calls containers make.
    pub syscalls: bool,
}

impl SightArgs {
    /// Flags and environment (`self`) before the file, the file before defaults.
    ///
    /// # Errors
    /// When a hook is not known.
    pub fn resolve(self, file: &FileOptions) -> Result<Sight, Failure> {
        let without = match self.without_hook.is_empty() {
            true => file.without_hook.clone().unwrap_or_default(),
            false => self.without_hook,
        };
        let tier = self.tier.or(file.tier).unwrap_or_default();
        if self.syscalls == Some(true) && tier == TierChoice::Scan {
            return Err(Failure::new(
                "--tier scan sees no system calls",
                "leave --tier or --syscalls out",
            ));
        }
        Ok(Sight {
            tier,
            btf: self.btf.or_else(|| file.btf.clone()),
            without_hooks: known_hooks(without)?,
            syscalls: self.syscalls.or(file.syscalls).unwrap_or(false),
        })
    }
}

/// Accepts the name in output and the name of the program; keeps the first.
fn known_hooks(names: Vec<String>) -> Result<Vec<String>, Failure> {
    let all = || HOOKS.iter().chain([&COMPAT]);
    let find = |name: String| {
        let is_it = |h: &&HookSpec| h.name == name || h.program == name;
        match all().find(is_it) {
            Some(hook) => Ok(hook.name.to_owned()),
            None => {
                let known: Vec<&str> = all().map(|h| h.name).collect();
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
