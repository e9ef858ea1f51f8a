//! The trampoline tier, in a guest whose clock counts instructions.
//!
//! With `-icount shift=0` QEMU lets the guest's time pass one nanosecond per instruction, on one processor, and
//! the same program takes the same number of instructions on any machine. That answers exactly what a stopwatch
//! cannot: whether a system call that no hook looks at becomes a single instruction longer.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::project::Artifacts;
use crate::vm;

/// Emulation with counted instructions is slow.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Boots the guest and gives the numbers that it printed.
pub(crate) fn run(artifacts: &Artifacts) -> Result<String> {
    let results = vm::count_instructions(
        artifacts,
        "6.12",
        "/bin/bench,guest,--auditor=/bin/auditor,--to=/dev/ttyS1",
        TIMEOUT,
    )?;
    let numbers: Vec<&str> = results
        .lines()
        .filter(|line| line.contains("\"value\""))
        .collect();
    ensure!(!numbers.is_empty(), "the guest gave no number");
    Ok(numbers.join("\n"))
}
