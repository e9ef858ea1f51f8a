//! What became of a log: how much of it was read, and what could not be judged from it.

use super::{Tool, limits};
use crate::model::Dimension;
use serde::Serialize;
use std::collections::BTreeMap;

/// See the [module](self).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Whose log it is.
    pub tool: Tool,
    /// The machine that the log is about, where it says so. Lines of other machines are in `other_nodes`.
    pub node: Option<String>,
    /// Lines, empty ones not counted.
    pub lines: u64,
    /// Lines that said something of a task.
    pub mapped: u64,
    /// Lines longer than [`limits::LINE_BYTES`], skipped.
    pub too_long: u64,
    /// Lines that are no event of this tool, skipped.
    pub malformed: u64,
    /// The first [`limits::MALFORMED`] of these and of the too long ones.
    pub problems: Vec<Problem>,
    /// Lines by what happened, where the importer knows what it means.
    pub events: Tally,
    /// Lines by what happened, where it does not. What such a line says of its process is still used.
    pub unknown_events: Tally,
    /// Fields that the importer does not know, skipped.
    pub unknown_fields: Tally,
    /// Lines about other machines, by name, skipped.
    pub other_nodes: Tally,
    /// Events that the tool says it lost.
    pub lost: u64,
    /// Containers in the log.
    pub containers: u64,
    /// What a reader may take for judged and is not, per dimension.
    pub not_evaluated: Vec<NotEvaluated>,
    /// What else weakens the verdicts, one sentence each.
    pub notes: Vec<String>,
}

/// A line that was skipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Number of the line, from 1, empty ones included.
    pub line: u64,
    /// What is wrong, as a lower-case fragment.
    pub reason: String,
}

/// A dimension that the log says nothing, or too little, about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotEvaluated {
    /// The dimension.
    pub dimension: Dimension,
    /// Why, as a lower-case fragment.
    pub why: &'static str,
}

/// Counts by name, for a bounded number of names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Counts of the first [`limits::NAMES`] names.
    pub named: BTreeMap<String, u64>,
    /// Count of all others.
    pub others: u64,
}

impl Tally {
    /// One more of this name.
    pub fn add(&mut self, name: &str) {
        let name = bounded(name, limits::NAME_BYTES);
        if let Some(count) = self.named.get_mut(name) {
            *count += 1;
        } else if self.named.len() < limits::NAMES {
            self.named.insert(name.to_owned(), 1);
        } else {
            self.others += 1;
        }
    }

    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.named.values().sum::<u64>() + self.others
    }
}

impl Summary {
    pub(super) fn new(tool: Tool) -> Self {
        Self {
            tool,
            node: None,
            lines: 0,
            mapped: 0,
            too_long: 0,
            malformed: 0,
            problems: Vec::new(),
            events: Tally::default(),
            unknown_events: Tally::default(),
            unknown_fields: Tally::default(),
            other_nodes: Tally::default(),
            lost: 0,
            containers: 0,
            not_evaluated: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Whether there were lines and none could be read: this is not such a log.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        self.lines > 0 && self.malformed + self.too_long == self.lines
    }

    pub(super) fn problem(&mut self, line: u64, reason: String) {
        if self.problems.len() < limits::MALFORMED {
            self.problems.push(Problem { line, reason });
        }
    }
}

/// The longest prefix of at most `bytes` bytes that is text.
pub(super) fn bounded(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: no number and no length of names grows a tally without bound. Method: more names than fit.
    #[test]
    fn tallies_are_bounded() {
        let mut tally = Tally::default();
        for n in 0..1000 {
            tally.add(&format!("{n:04}{}", "é".repeat(1000)));
        }
        tally.add(&format!("0003{}", "é".repeat(1000)));
        assert_eq!(tally.named.len(), limits::NAMES);
        assert!(tally.named.keys().all(|k| k.len() <= limits::NAME_BYTES));
        assert_eq!(tally.total(), 1001);
        assert_eq!(tally.named.values().max(), Some(&2));
    }
}
