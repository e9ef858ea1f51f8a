//! `auditor schema`: the contract of what comes out, from the types that make it.

use super::context::Context;
use super::exit::Exit;
use crate::model::output::{Changed, Record};
use crate::report::doctor::DoctorReport;
use crate::report::privileges::PrivilegesReport;
use crate::report::scan::ScanReport;
use crate::report::what_if::WhatIfReport;
use clap::ValueEnum;

const AFTER: &str = "\
Examples:
  auditor schema > auditor-1.schema.json
  auditor schema scan";

/// Of what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Subject {
    /// A line of "auditor watch" and "auditor replay".
    #[default]
    Record,
    /// A line of "auditor replay --diff-policy".
    Change,
    /// The JSON of "auditor scan".
    Scan,
    /// The JSON of "auditor scan --what-if".
    WhatIf,
    /// The JSON of "auditor privileges".
    Privileges,
    /// The JSON of "auditor doctor".
    Doctor,
}

/// The flags.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub struct Args {
    /// Whose schema
    #[arg(value_enum, default_value_t)]
    pub of: Subject,
}

/// The schema, as JSON Schema 2020-12.
#[must_use]
pub fn schema(of: Subject) -> schemars::Schema {
    match of {
        Subject::Record => schemars::schema_for!(Record),
        Subject::Change => schemars::schema_for!(Changed),
        Subject::Scan => schemars::schema_for!(ScanReport),
        Subject::WhatIf => schemars::schema_for!(WhatIfReport),
        Subject::Privileges => schemars::schema_for!(PrivilegesReport),
        Subject::Doctor => schemars::schema_for!(DoctorReport),
    }
}

/// Runs the command.
///
/// # Errors
/// When stdout cannot be written.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    context.print(&(serde_json::to_string_pretty(&schema(args.of))? + "\n"))?;
    Ok(Exit::Clean)
}
