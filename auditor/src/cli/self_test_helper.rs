//! `auditor self-test-helper`: started by the sensor itself, never by a person.

use super::exit::Exit;
use crate::sensor::selftest::helper;
use anyhow::Context as _;
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
/// When it cannot report.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    if args.args.iter().any(|arg| arg == helper::EXIT_ARGUMENT) {
        // The exec at the end of the test: nothing is left to do.
        return Ok(Exit::Clean);
    }
    helper::run_helper().context("report what the helper did")?;
    Ok(Exit::Clean)
}
