//! When and where: the clocks, boot and machine that records belong to. Read once at start and written into
//! the stream's start record, so that nothing behind the source ever asks.

use std::io;
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};
use thiserror::Error;

const NS_PER_S: i64 = 1_000_000_000;

/// A kernel release as far as features depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// 6 in 6.18.44.
    pub major: u32,
    /// 18 in 6.18.44.
    pub minor: u32,
}

impl KernelVersion {
    /// A version.
    #[must_use]
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// Reads the start of a release string (`6.1.0-18-amd64`, `7.2-rc3`).
    #[must_use]
    pub fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        let (major, minor) = (numbers.next()?, numbers.next()?);
        Some(Self {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
        })
    }
}

/// The machine and boot that records belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// `/proc/sys/kernel/random/boot_id`: a UUID.
    pub boot_id: String,
    /// Host name of the agent's UTS namespace.
    pub node: String,
    /// Kernel release, `uname -r`.
    pub kernel_release: String,
    /// Its first two numbers.
    pub kernel: KernelVersion,
    /// Hardware name, `uname -m`.
    pub arch: String,
}

/// Why the machine cannot be named.
#[derive(Debug, Error)]
pub enum MachineError {
    /// The boot id cannot be read.
    #[error("cannot read {BOOT_ID}: {0}")]
    BootId(#[source] io::Error),
    /// The kernel's release does not start with two numbers.
    #[error("kernel release `{0}` has no version")]
    Release(String),
}

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

impl Machine {
    /// Reads all of it.
    ///
    /// # Errors
    /// When the boot id cannot be read or the kernel's release is no version.
    pub fn read() -> Result<Self, MachineError> {
        let uname = rustix::system::uname();
        let text = |bytes: &std::ffi::CStr| bytes.to_string_lossy().into_owned();
        let kernel_release = text(uname.release());
        let kernel = KernelVersion::parse(&kernel_release);
        Ok(Self {
            boot_id: std::fs::read_to_string(BOOT_ID)
                .map_err(MachineError::BootId)?
                .trim()
                .to_owned(),
            node: text(uname.nodename()),
            kernel: kernel.ok_or_else(|| MachineError::Release(kernel_release.clone()))?,
            kernel_release,
            arch: text(uname.machine()),
        })
    }
}

fn signed_ns(time: Timespec) -> i64 {
    time.tv_sec
        .saturating_mul(NS_PER_S)
        .saturating_add(time.tv_nsec)
}

/// Nanoseconds since boot, suspend included (`CLOCK_BOOTTIME`): the clock of all records.
#[must_use]
pub fn boottime_ns() -> u64 {
    u64::try_from(signed_ns(clock_gettime(ClockId::Boottime))).unwrap_or(0)
}

/// Processor time of the calling thread.
#[must_use]
pub fn thread_time() -> Duration {
    let ns = signed_ns(clock_gettime(ClockId::ThreadCPUTime));
    Duration::from_nanos(u64::try_from(ns).unwrap_or(0))
}

/// What to add to a boot time to get nanoseconds since 1970. Steps when somebody sets the clock.
///
/// Taken as the tightest of three samples, so that being scheduled away in between does not count.
#[must_use]
pub fn realtime_offset_ns() -> i64 {
    let sample = || {
        let before = signed_ns(clock_gettime(ClockId::Boottime));
        let real = signed_ns(clock_gettime(ClockId::Realtime));
        let after = signed_ns(clock_gettime(ClockId::Boottime));
        (after - before, real - before - (after - before) / 2)
    };
    let tightest = [sample(), sample(), sample()].into_iter().min();
    tightest.map_or(0, |(_, offset)| offset)
}

#[cfg(test)]
mod tests {
    //! Goal: clocks run forward and agree with each other, releases of all shapes parse.

    use super::*;

    #[test]
    fn releases_parse() {
        let parse = KernelVersion::parse;
        assert_eq!(parse("6.1.0-18-amd64"), Some(KernelVersion::new(6, 1)));
        assert_eq!(parse("7.2-rc3"), Some(KernelVersion::new(7, 2)));
        assert_eq!(parse("5.10"), Some(KernelVersion::new(5, 10)));
        assert_eq!(parse("linux"), None);
        assert!(KernelVersion::new(5, 10) < KernelVersion::new(6, 1));
    }

    #[test]
    fn clocks_agree() {
        let first = boottime_ns();
        assert!(first > 0 && boottime_ns() >= first);
        let drift = realtime_offset_ns() - realtime_offset_ns();
        assert!(drift.abs() < NS_PER_S, "{drift}");
    }

    #[test]
    fn machine_is_named() {
        let machine = Machine::read().unwrap();
        assert_eq!(machine.boot_id.len(), 36);
        assert!(!machine.arch.is_empty() && machine.kernel.major >= 5);
    }
}
