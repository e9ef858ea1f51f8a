//! Real kernels in QEMU: fetch them, make an image, run the scenarios, read the results.
//!
//! Emulation is in software, so the matrix runs wherever the tests run. A guest boots a Debian cloud kernel with one
//! initial RAM file system, runs the same scenario runner as the host, and powers off.

mod cpio;
mod image;
mod kernels;
mod memory;
mod run;

use anyhow::Result;
use clap::Subcommand;

pub(crate) use run::{count_instructions, matrix};

/// Boot real kernels in QEMU.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Download the pinned kernels.
    Kernels,
    /// Run the scenarios in guests.
    Run(run::Args),
}

/// Runs the task.
pub(crate) fn run(args: Args) -> Result<()> {
    match args.task {
        Task::Kernels => {
            for kernel in &kernels::KERNELS {
                let ready = kernels::fetch(kernel)?;
                println!("{} {}", kernel.series, ready.image.display());
            }
            Ok(())
        }
        Task::Run(args) => run::main(&args),
    }
}
