//! The benchmarks that `cargo xtask bench` starts: one part per call, one JSON line per number.
//!
//! Numbers compare two states of one machine within one run. Nothing here fails because something is slow.

mod guest;
mod host;
mod load;
mod measure;
mod model;
mod replay;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

/// Measures the auditor.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure.
    part: Part,
    /// The auditor.
    #[arg(long, default_value = "auditor")]
    auditor: PathBuf,
    /// The tier that a guest is counted in.
    #[arg(long, default_value = "trampoline")]
    tier: String,
    /// What the names of a guest's numbers begin with.
    #[arg(long, default_value = "trampoline")]
    named: String,
    /// Where the numbers go instead of standard output.
    #[arg(long)]
    to: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Part {
    /// Events per second of the engine.
    Engine,
    /// Events per second of a replay, from file to lines.
    Replay,
    /// What recording adds to a watch.
    Record,
    /// Memory and report of an engine that holds a large node.
    Large,
    /// Memory of the agent.
    Memory,
    /// getppid without and with the agent.
    Getppid,
    /// open and close.
    Open,
    /// Checks of capabilities.
    Check,
    /// System calls of containers.
    Syscalls,
    /// fork and exec.
    Exec,
    /// A build in a container.
    Build,
    /// unshare.
    Unshare,
    /// runc.
    Runc,
    /// Instructions in a guest.
    Guest,
}

fn main() -> ExitCode {
    let Arguments {
        part,
        auditor,
        tier,
        named,
        to,
    } = Arguments::parse();
    if let Some(path) = to
        && let Err(error) = measure::redirect(&path)
    {
        eprintln!("bench: {}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    let done = match part {
        Part::Engine => {
            model::engine();
            Ok(())
        }
        Part::Replay => replay::main(&auditor),
        Part::Record => host::recording(&auditor),
        Part::Large => model::large(),
        Part::Memory => host::memory(&auditor),
        Part::Getppid => host::syscalls(&auditor),
        Part::Open => host::opens(&auditor),
        Part::Check => host::checks(&auditor),
        Part::Syscalls => host::looked_at(&auditor),
        Part::Build => host::builds(&auditor),
        Part::Exec => host::execs(&auditor),
        Part::Unshare => host::unshares(&auditor),
        Part::Runc => host::containers(&auditor),
        Part::Guest => guest::main(&auditor, &tier, &named),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
