//! Development tasks, as `cargo xtask TASK`: what cargo alone cannot do, without asking for more than Rust and root.
//!
//! Tasks install what they miss by name (`deps`), and everything they make goes below the target directory.

mod bench;
mod coverage;
mod demo;
mod deps;
mod ebpf;
mod project;
mod tally;
mod test;
mod tidy;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Development tasks")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what the tests need (Debian, as root).
    Deps(deps::Args),
    /// Build or check the kernel programs.
    Ebpf(ebpf::Args),
    /// Run every check and test, as CI does.
    Test(test::Args),
    /// Check what the compiler cannot.
    Tidy(tidy::Args),
    /// Boot real kernels in QEMU and run the scenarios in them.
    Vm(vm::Args),
    /// Write what scenarios proved into docs/coverage.md.
    Coverage(coverage::Args),
    /// Measure the auditor: speed, memory, and what it costs others.
    Bench(bench::Args),
    /// Let a container break out of its isolation and show what the auditor says.
    Demo(demo::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Deps(args) => deps::run(&args),
        Task::Ebpf(args) => ebpf::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Tidy(args) => tidy::run(&args),
        Task::Vm(args) => vm::run(args),
        Task::Coverage(args) => coverage::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Demo(args) => demo::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
