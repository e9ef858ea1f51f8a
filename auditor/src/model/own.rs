//! The auditor's own capabilities: what it was given, what the kernel saw it use, and what is left over.
//!
//! Who watches others for excess must be able to show that it has none. The kernel tells of its tasks as it tells of
//! containers'; what a probe is, is decided alike.

use super::capability;
use super::privileges::is_habit;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Bits of a set.
const BITS: u8 = 64;

/// The capabilities of the auditor's own process, by name without `CAP_`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OwnPrivileges {
    /// What it was started with.
    pub granted: Vec<String>,
    /// What it still has after it has attached.
    pub kept: Vec<String>,
    /// What it used, its helper included, and by which system calls; `?`: not known.
    pub used: BTreeMap<String, Vec<String>>,
    /// What it asked for in vain, likewise. It does without, or says what does not work.
    pub refused: BTreeMap<String, Vec<String>>,
    /// What it was started with and has not used until now; absent where no hook sees uses, and before the end of a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excess: Option<Vec<String>>,
    /// What it kept and has not used since; absent likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_in_vain: Option<Vec<String>>,
}

/// What the agent was given and used, as it goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnLedger {
    granted: Option<u64>,
    kept: Option<u64>,
    used: Calls,
    used_since: BTreeSet<u8>,
    refused: Calls,
}

/// By which system calls capabilities were asked for. There are at most as many as the kernel has.
type Calls = BTreeMap<u8, BTreeSet<String>>;

impl OwnLedger {
    /// What it has, from its start or from when it has attached.
    pub fn grant(&mut self, permitted: u64, is_kept: bool) {
        if is_kept {
            self.kept = Some(permitted);
            self.used_since.clear();
        } else {
            *self = Self {
                granted: Some(permitted),
                ..Self::default()
            };
        }
    }

    /// It asked for a capability. `probe`: whether the kernel only looked; `None`: it does not say.
    pub fn note(
        &mut self,
        capability: u8,
        granted: bool,
        probe: Option<bool>,
        syscall: Option<&str>,
    ) {
        if capability >= BITS || probe.unwrap_or_else(|| is_habit(capability, syscall)) {
            return;
        }
        let calls = match granted {
            true => &mut self.used,
            false => &mut self.refused,
        };
        let calls = calls.entry(capability).or_default();
        calls.insert(syscall.unwrap_or("?").to_owned());
        if granted {
            self.used_since.insert(capability);
        }
    }

    /// The report, if there is anything to report. What is left over is only told `at_end`, and where uses were seen.
    #[must_use]
    pub fn report(&self, seen: bool, at_end: bool) -> Option<OwnPrivileges> {
        let granted = self.granted?;
        let kept = self.kept.unwrap_or(granted);
        let used = self.used.keys().fold(0, |set, bit| set | 1_u64 << bit);
        let since = self
            .used_since
            .iter()
            .fold(0, |set, bit| set | 1_u64 << bit);
        let left = |set: u64| (seen && at_end).then(|| names(set));
        Some(OwnPrivileges {
            granted: names(granted),
            kept: names(kept),
            used: calls(&self.used),
            refused: calls(&self.refused),
            excess: left(granted & !used),
            kept_in_vain: left(kept & !since),
        })
    }
}

fn names(set: u64) -> Vec<String> {
    let bits = (0..BITS).filter(|bit| set >> bit & 1 == 1);
    bits.map(name).collect()
}

fn name(bit: u8) -> String {
    match capability::names(1 << bit).first() {
        Some(name) => (*name).to_owned(),
        None => bit.to_string(),
    }
}

fn calls(all: &Calls) -> BTreeMap<String, Vec<String>> {
    let of = |(bit, calls): (&u8, &BTreeSet<String>)| (name(*bit), calls.iter().cloned().collect());
    all.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYS_PTRACE: u8 = 19;
    const SYS_ADMIN: u8 = 21;

    /// What was used before it dropped is no excess of what it was started with, but of what it kept.
    #[test]
    fn excess_is_what_was_never_used() {
        let mut own = OwnLedger::default();
        assert_eq!(own.report(true, true), None);
        own.grant(1 << SYS_PTRACE | 1 << SYS_ADMIN | 1, false);
        own.note(SYS_PTRACE, true, Some(false), Some("readlink"));
        own.note(SYS_ADMIN, true, None, Some("mmap"));
        own.note(SYS_ADMIN, true, None, Some("setns"));
        own.note(1, false, Some(false), None);
        own.note(0, true, Some(true), Some("open"));
        own.grant(1 << SYS_PTRACE, true);
        let report = own.report(true, true).unwrap();
        assert_eq!(report.granted, ["CHOWN", "SYS_PTRACE", "SYS_ADMIN"]);
        assert_eq!(report.used["SYS_ADMIN"], ["setns"]);
        assert_eq!(report.refused["DAC_OVERRIDE"], ["?"]);
        assert_eq!(report.excess.unwrap(), ["CHOWN"]);
        assert_eq!(report.kept_in_vain.unwrap(), ["SYS_PTRACE"]);
        own.note(SYS_PTRACE, true, Some(false), Some("readlink"));
        let report = own.report(true, true).unwrap();
        assert!(report.kept_in_vain.unwrap().is_empty());
    }

    /// Where nothing could be seen, and before the end, nothing is called superfluous.
    #[test]
    fn nothing_is_superfluous_before_it_is_known() {
        let mut own = OwnLedger::default();
        own.grant(1, false);
        for (seen, at_end) in [(false, true), (true, false)] {
            let report = own.report(seen, at_end).unwrap();
            assert_eq!((report.excess, report.kept_in_vain), (None, None));
        }
    }
}
