//! Runs of the kernel programs that the kernel left out.
//!
//! A program runs once at a time on each CPU. Where the kernel may interrupt a task within a program for another one
//! (`CONFIG_PREEMPT`, and any kernel since 7.0), whatever would run the same program there in between is left out. The
//! kernel counts these (5.12), and tells nobody else of them.

use auditor_common::hook::{EXIT_OPEN, EXITS, HOOKS, bears_state};
use aya::Ebpf;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

/// At most so often it is told what programs were left out of, unless that makes states unknown: it may go on and on.
const REST: Duration = Duration::from_secs(60);
/// The kernel says less of a program.
const INFO_LEN: usize = 1024;

/// What the kernel says of each program, and said the last time.
#[derive(Debug, Default)]
pub struct Skipped {
    /// Files that say something new whenever they are read from the beginning: that is one call, and opening them is three.
    programs: Vec<(u16, File, u64)>,
    /// What is not told yet.
    waiting: BTreeMap<u16, u64>,
    told: Option<Instant>,
}

impl Skipped {
    /// Of all programs that are loaded; what was left out until now counts for nothing.
    pub fn new(ebpf: &Ebpf) -> Self {
        let place = |program: &str| {
            let fd = ebpf.program(program)?.fd().ok()?;
            File::open(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd())).ok()
        };
        let of_hooks = (0_u16..).zip(HOOKS.iter().map(|spec| spec.program));
        // It tells in the name of many: one of them stands for all.
        let programs = of_hooks
            .chain([(EXIT_OPEN, EXITS.program)])
            .filter_map(|(index, program)| Some((index, place(program)?, 0)))
            .collect();
        let mut all = Self {
            programs,
            ..Self::default()
        };
        all.read();
        all.waiting.clear();
        all
    }

    /// How often each hook's program was left out, if that is to be told now: at once where the hook tells states, else from
    /// time to time, and at the end.
    pub fn take(&mut self, ends: bool) -> Option<BTreeMap<u16, u64>> {
        self.read();
        let of_states = self.waiting.keys().any(|&index| bears_state(index));
        let is_due = self.told.is_none_or(|told| told.elapsed() >= REST);
        if self.waiting.is_empty() || !(ends || of_states || is_due) {
            return None;
        }
        self.told = Some(Instant::now());
        Some(std::mem::take(&mut self.waiting))
    }

    /// Not those of kernels that do not say.
    fn read(&mut self) {
        let mut info = [0; INFO_LEN];
        for (index, file, seen) in &mut self.programs {
            let len = file.read_at(&mut info, 0).unwrap_or(0);
            let text = std::str::from_utf8(&info[..len]).unwrap_or_default();
            let Some(count) = count(text) else { continue };
            if count > *seen {
                *self.waiting.entry(*index).or_default() += count - *seen;
            }
            *seen = count;
        }
    }
}

fn count(text: &str) -> Option<u64> {
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix("recursion_misses:"))?;
    value.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use auditor_common::hook;

    const INFO: &str =
        "pos:\t0\nflags:\t02000002\nprog_type:\t26\nprog_jited:\t1\nrun_time_ns:\t0\nrun_cnt:\t0\n";

    #[test]
    fn a_count_is_read_where_there_is_one() {
        assert_eq!(count(&format!("{INFO}recursion_misses:\t17\n")), Some(17));
        assert_eq!(count(INFO), None);
        assert_eq!(count("recursion_misses:\tmany\n"), None);
    }

    /// Goal: what is new is told, once, and not all the time where no state depends on it. Method: files in the place of what
    /// the kernel says.
    #[test]
    fn what_is_new_is_told_once() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("info");
        let says = |count: u64| std::fs::write(&place, format!("recursion_misses:\t{count}\n"));
        says(3).unwrap();
        let silent = directory.path().join("silent");
        std::fs::write(&silent, INFO).unwrap();
        let of = |index| Skipped {
            programs: vec![
                (index, File::open(&place).unwrap(), 1),
                (hook::SCHED_EXIT, File::open(&silent).unwrap(), 0),
            ],
            ..Skipped::default()
        };
        let (mut states, mut acts) = (of(hook::SCHED_EXEC), of(hook::FILE_OPEN));
        let told = |index, count| Some(BTreeMap::from([(index, count)]));
        assert_eq!(states.take(false), told(hook::SCHED_EXEC, 2));
        assert_eq!(states.take(true), None);
        assert_eq!(acts.take(false), told(hook::FILE_OPEN, 2));
        says(10).unwrap();
        assert_eq!(states.take(false), told(hook::SCHED_EXEC, 7));
        assert_eq!(acts.take(false), None);
        says(11).unwrap();
        assert_eq!(acts.take(true), told(hook::FILE_OPEN, 8));
    }
}
