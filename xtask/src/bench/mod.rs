//! `cargo xtask bench`: what the auditor costs, as numbers of one run.
//!
//! The numbers come from the `bench` program of the test crate, which compares a machine without the agent with
//! the same machine with it, turn by turn. This task builds it, runs its parts, and sets each number beside its
//! goal. It never fails because a number is bad: machines differ, and a benchmark that may fail is soon ignored.

mod guest;
mod table;

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::{deps, project};
use table::Measure;

/// Measure the auditor.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these parts.
    #[arg(long = "only", value_name = "NAME")]
    only: Vec<String>,
    /// Print one JSON object per number instead of the table.
    #[arg(long)]
    json: bool,
    /// Print the parts.
    #[arg(long)]
    list: bool,
}

struct Part {
    name: &'static str,
    about: &'static str,
    place: Place,
}

/// Where a part runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Here,
    Guest,
}

const fn here(name: &'static str, about: &'static str) -> Part {
    Part {
        name,
        about,
        place: Place::Here,
    }
}

const PARTS: [Part; 14] = [
    here("engine", "events per second of the engine"),
    here("replay", "events per second from a recorded trace to lines"),
    here("record", "fork and exec, without and with recording"),
    here("large", "memory and report of a node with 1,000 containers"),
    here("memory", "memory of the agent"),
    here("getppid", "every system call, without and with the agent"),
    here("open", "open and close, without and with the agent"),
    here(
        "check",
        "checks of capabilities, without and with the agent",
    ),
    here(
        "syscalls",
        "every system call, without and with an agent that looks at those of containers",
    ),
    here("exec", "fork and exec, without and with the agent"),
    here("unshare", "unshare, without and with the agent"),
    here(
        "build",
        "a build in a container, without and with the agent",
    ),
    here("runc", "a container, without and with the agent"),
    Part {
        name: "guest",
        about: "instructions of system calls, counted in guests",
        place: Place::Guest,
    },
];

/// Runs the task.
pub(crate) fn run(args: &Args) -> Result<()> {
    if args.list {
        for part in &PARTS {
            println!("{}: {}", part.name, part.about);
        }
        return Ok(());
    }
    if let Some(unknown) = args
        .only
        .iter()
        .find(|name| PARTS.iter().all(|part| part.name != **name))
    {
        bail!("no part {unknown}; `--list` prints them");
    }
    deps::packages()?;
    let artifacts = project::build_with_bench()?;
    let mut all = Vec::new();
    for part in PARTS
        .iter()
        .filter(|part| args.only.is_empty() || args.only.iter().any(|name| name == part.name))
    {
        eprintln!("== {}: {}", part.name, part.about);
        let lines = match part.place {
            Place::Here => on_this_machine(part.name, &artifacts)?,
            Place::Guest => guest::run(&artifacts)?,
        };
        for line in lines.lines() {
            all.push(Measure::parse(line)?);
            if args.json {
                println!("{line}");
            }
        }
    }
    if !args.json {
        print!("{}", table::render(&all));
    }
    Ok(())
}

fn on_this_machine(part: &str, artifacts: &project::Artifacts) -> Result<String> {
    let bench = artifacts.bench.as_ref();
    let output = Command::new(bench.context("the benchmarks were not built")?)
        .arg(part)
        .arg("--auditor")
        .arg(&artifacts.auditor)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("start the benchmark")?;
    ensure!(output.status.success(), "{part}: {}", output.status);
    String::from_utf8(output.stdout).context("the benchmark's output is not text")
}
