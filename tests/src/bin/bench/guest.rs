//! Instructions of a system call in a guest whose clock counts instructions.
//!
//! Under QEMU's `-icount shift=0` one instruction is one nanosecond of the guest, and the processor's time stamp
//! counter counts just these. What interrupts a batch adds to it, and nothing subtracts; so the least of many
//! batches is the number, and it is exact.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use auditor_tests::stream::Auditor;

use crate::measure::{Goal, say};

const PATIENCE: Duration = Duration::from_secs(120);
const CALLS: u64 = 100;
const BATCHES: usize = 500;

/// Compares a guest with itself.
pub(crate) fn main(auditor: &Path) -> Result<()> {
    let without = least();
    let running = Auditor::start(
        auditor,
        &["--no-state".to_owned(), "--tier=trampoline".to_owned()],
        PATIENCE,
    )?;
    let with = least();
    running.stop(PATIENCE)?;
    let again = least();
    say("trampoline.without", without, "instructions", Goal::None);
    say("trampoline.after", again, "instructions", Goal::None);
    say(
        "trampoline.added",
        with - without,
        "instructions",
        Goal::AtMost(0.0),
    );
    Ok(())
}

/// Instructions of one getppid.
fn least() -> f64 {
    let batch = |_| {
        let before = stamp();
        for _ in 0..CALLS {
            // SAFETY: getppid has no arguments and cannot fail.
            unsafe { libc::syscall(libc::SYS_getppid) };
        }
        stamp() - before
    };
    let least = (0..BATCHES).map(batch).min().unwrap_or(0);
    least as f64 / CALLS as f64
}

#[cfg(target_arch = "x86_64")]
fn stamp() -> u64 {
    // SAFETY: the instruction reads a counter, and Linux leaves it open to programs.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
fn stamp() -> u64 {
    let started = std::time::SystemTime::UNIX_EPOCH;
    started.elapsed().map_or(0, |d| d.as_nanos() as u64)
}
