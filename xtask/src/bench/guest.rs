//! Both live tiers, in guests whose clocks count instructions: trampolines as they are, and where programs are left out so
//! that some are asked as security modules; and tracepoints.
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

/// Kernels, tiers, and what the names of their numbers begin with.
const GUESTS: [(&str, &str, &str); 4] = [
    ("6.12", "trampoline", "trampoline"),
    ("7.2", "trampoline", "module"),
    ("6.12", "tracepoint", "tracepoint"),
    ("7.2", "tracepoint", "single"),
];

/// Boots the guests and gives the numbers that they printed.
pub(crate) fn run(artifacts: &Artifacts) -> Result<String> {
    let mut numbers = String::new();
    for (kernel, tier, named) in GUESTS {
        let program = format!(
            "/bin/bench,guest,--auditor=/bin/auditor,--tier={tier},--named={named},--to=/dev/ttyS1"
        );
        let results = vm::count_instructions(artifacts, kernel, &program, TIMEOUT)?;
        let before = numbers.len();
        for line in results.lines().filter(|line| line.contains("\"value\"")) {
            numbers.push_str(line);
            numbers.push('\n');
        }
        ensure!(numbers.len() > before, "the guest {kernel} gave no number");
    }
    Ok(numbers)
}
