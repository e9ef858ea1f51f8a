//! `auditor trace export`: entries for programs that work on tables.

use super::files::{Content, Output, open};
use super::when::FilterArgs;
use crate::cli::exit::Exit;
use crate::trace::tool::lines;
use std::path::PathBuf;

const AFTER: &str = "\
jsonl is what \"auditor trace cat\" writes. parquet is one flat table with a row per entry, which DuckDB, Polars, Spark and \
pandas open; it needs an auditor that was built with it:
  cargo build --release -p auditor --features parquet

Columns and fields are listed in docs/trace-export.md.

Examples:
  auditor trace export node.atrace --to jsonl -o node.jsonl
  auditor trace export node.atrace --to parquet -o node.parquet --kind exec,change,exit
  duckdb -c \"select file, count(*) from 'node.parquet' where kind = 'exec' group by 1 order by 2 desc\"";

/// The flags.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub struct Args {
    /// A trace; -: standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What to make of it
    #[arg(long, value_enum)]
    to: To,
    /// A new file; -: standard output
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    filter: FilterArgs,
}

/// What to make of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum To {
    /// JSON lines.
    Jsonl,
    /// A table.
    Parquet,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    match args.to {
        To::Jsonl => jsonl(args),
        To::Parquet => parquet(args),
    }
}

fn jsonl(args: &Args) -> anyhow::Result<Exit> {
    let Args {
        file, out, filter, ..
    } = args;
    let mut trace = open(file)?;
    let filter = filter.filter(trace.header());
    let (output, mut writer) = Output::create(out, Content::Text)?;
    lines::write(&mut trace, &filter, &mut writer).map_err(|e| output.failed("export", file, e))?;
    output.finish();
    Ok(Exit::Clean)
}

#[cfg(feature = "parquet")]
fn parquet(args: &Args) -> anyhow::Result<Exit> {
    use crate::trace::tool::parquet;
    let Args {
        file, out, filter, ..
    } = args;
    let mut trace = open(file)?;
    let filter = filter.filter(trace.header());
    let (output, writer) = Output::create(out, Content::Binary)?;
    parquet::write(&mut trace, &filter, writer).map_err(|e| output.failed("export", file, e))?;
    output.finish();
    Ok(Exit::Clean)
}

#[cfg(not(feature = "parquet"))]
fn parquet(_: &Args) -> anyhow::Result<Exit> {
    let next =
        "build one: cargo build --release -p auditor --features parquet; or export --to jsonl";
    let what = "this auditor was built without parquet";
    Err(crate::cli::failure::Failure::unsupported(what, next).into())
}
