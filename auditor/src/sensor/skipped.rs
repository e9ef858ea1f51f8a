//! Runs of the kernel programs that the kernel left out.
//!
//! A program runs once at a time on each CPU. Where the kernel may interrupt a task within a program for another one
//! (`CONFIG_PREEMPT`, and any kernel since 7.0), whatever would run the same program there in between is left out. The
//! kernel counts these (5.12), and tells nobody else of them.

use auditor_common::hook::HOOKS;
use aya::Ebpf;
use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::PathBuf;

/// What the kernel says of each program, and said the last time.
#[derive(Debug, Default)]
pub struct Skipped {
    programs: Vec<(u16, PathBuf, u64)>,
}

impl Skipped {
    /// Of all programs that are loaded; what was left out until now counts for nothing.
    pub fn new(ebpf: &Ebpf) -> Self {
        let place = |program: &str| {
            let fd = ebpf.program(program)?.fd().ok()?;
            Some(PathBuf::from(format!(
                "/proc/self/fdinfo/{}",
                fd.as_fd().as_raw_fd()
            )))
        };
        let hooks = (0_u16..).zip(HOOKS);
        let programs = hooks
            .filter_map(|(index, spec)| Some((index, place(spec.program)?, 0)))
            .collect();
        let mut all = Self { programs };
        let _before = all.take();
        all
    }

    /// How often each hook's program was left out since the last call. Not those of kernels that do not say.
    pub fn take(&mut self) -> BTreeMap<u16, u64> {
        let mut new = BTreeMap::new();
        for (index, place, seen) in &mut self.programs {
            let text = std::fs::read_to_string(place).unwrap_or_default();
            let Some(count) = count(&text) else { continue };
            if count > *seen {
                new.insert(*index, count - *seen);
            }
            *seen = count;
        }
        new
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

    const INFO: &str =
        "pos:\t0\nflags:\t02000002\nprog_type:\t26\nprog_jited:\t1\nrun_time_ns:\t0\nrun_cnt:\t0\n";

    #[test]
    fn a_count_is_read_where_there_is_one() {
        assert_eq!(count(&format!("{INFO}recursion_misses:\t17\n")), Some(17));
        assert_eq!(count(INFO), None);
        assert_eq!(count("recursion_misses:\tmany\n"), None);
    }

    /// Goal: what is new is told, once. Method: a file in the place of what the kernel says.
    #[test]
    fn what_is_new_is_told_once() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("info");
        let says = |count: u64| std::fs::write(&place, format!("recursion_misses:\t{count}\n"));
        says(3).unwrap();
        let mut skipped = Skipped {
            programs: vec![(4, place.clone(), 1), (5, directory.path().join("none"), 0)],
        };
        assert_eq!(skipped.take(), BTreeMap::from([(4, 2)]));
        assert_eq!(skipped.take(), BTreeMap::new());
        says(10).unwrap();
        assert_eq!(skipped.take(), BTreeMap::from([(4, 7)]));
    }
}
