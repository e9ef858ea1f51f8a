//! A number with its name, its unit and, where there is one, the goal.

use std::os::fd::AsRawFd;
use std::path::Path;

use serde::Serialize;

/// Which side of a goal is good.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    /// At most so much.
    AtMost(f64),
    /// At least so much.
    AtLeast(f64),
    /// It explains another number.
    None,
}

/// One number.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measure<'a> {
    /// Part and what of it, as `part.what`.
    pub(crate) name: &'a str,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) goal: Goal,
}

impl Measure<'_> {
    /// Prints it as one line of JSON.
    pub(crate) fn print(&self) {
        if let Ok(line) = serde_json::to_string(self) {
            println!("{line}");
        }
    }
}

/// Has numbers printed to a file or device from here on.
pub(crate) fn redirect(path: &Path) -> std::io::Result<()> {
    let file = std::fs::File::options().write(true).open(path)?;
    // SAFETY: both descriptors are open; the second is this process's own standard output.
    let done = unsafe { libc::dup2(file.as_raw_fd(), libc::STDOUT_FILENO) };
    if done < 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}

/// Processor time of this thread in seconds: what other programs take from it does not count.
pub(crate) fn processor_seconds() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the clock exists since Linux 2.6.12, and the structure is ours to be written.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Processor time of all children that have ended, and theirs, in seconds.
pub(crate) fn processor_seconds_of_children() -> f64 {
    // SAFETY: the structure is plain numbers, for which zeroes are valid.
    let mut used: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the structure is ours to be written.
    unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut used) };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(used.ru_utime) + seconds(used.ru_stime)
}

/// Prints one number.
pub(crate) fn say(name: &str, value: f64, unit: &'static str, goal: Goal) {
    Measure {
        name,
        value,
        unit,
        goal,
    }
    .print();
}

/// The middle one; 0 of none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
