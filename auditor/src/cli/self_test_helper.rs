//! `auditor self-test-helper`: started by the sensor itself, never by a person.

use super::agent;
use super::exit::Exit;
use std::ffi::OsString;

/// The flags: whatever the sensor gives its helper.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// For the helper
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub args: Vec<OsString>,
}

/// Runs the command.
///
/// # Errors
/// When it cannot act.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    agent::self_test_helper(&args.args)
}
