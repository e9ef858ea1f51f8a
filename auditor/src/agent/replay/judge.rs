//! By which policies a stream is judged, and what changes between two of them.
//!
//! Two engines see the same stream, step by step, so what one of them says and the other does not follows from
//! their policies. Lines are compared by what they tell. Their numbers are not compared, nor what depends on the
//! whole policy rather than on the finding: ι, the class of the pair, and how many findings were folded.

use super::Replay;
use crate::model::output::{Change, Finding, Head, Record, Resolved};
use crate::model::policy::Policy;
use crate::trace::Item;
use hashbrown::HashMap;

/// A policy that stands in for those of the trace; `None`: the trace's own.
pub type Given = Option<Policy>;

/// What a stream is judged by.
#[derive(Clone, Debug)]
pub enum Policies {
    /// One policy: all lines.
    One(Given),
    /// Two: the lines that only one of them gives.
    Two(Given, Given),
}

/// A line to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Under which of two policies it comes; `None` where there is one.
    pub change: Option<Change>,
    /// What it tells.
    pub record: Record,
}

/// An engine and what it takes in.
pub trait Steps<I: ?Sized> {
    /// Takes in one item and appends what follows from it.
    fn step(&mut self, item: &I, out: &mut Vec<Record>);
}

impl Steps<Item<'_>> for Replay {
    #[inline]
    fn step(&mut self, item: &Item<'_>, out: &mut Vec<Record>) {
        self.take(item, out);
    }
}

/// One engine, or two.
#[derive(Debug)]
pub enum Judge<E> {
    /// One.
    One(Box<One<E>>),
    /// Two: under the first policy, and under the second.
    Two(Box<(One<E>, One<E>)>),
}

/// An engine and what it said last.
#[derive(Debug)]
pub struct One<E> {
    engine: E,
    said: Vec<Record>,
}

impl<E> Judge<E> {
    /// Engines that know nothing yet, one per policy.
    pub fn new(policies: &Policies, engine: impl Fn(&Given) -> E) -> Self {
        let one = |policy| One {
            engine: engine(policy),
            said: Vec::new(),
        };
        match policies {
            Policies::One(policy) => Self::One(Box::new(one(policy))),
            Policies::Two(old, new) => Self::Two(Box::new((one(old), one(new)))),
        }
    }

    /// Takes in one item and appends what is to be said.
    #[inline]
    pub fn take<I: ?Sized>(&mut self, item: &I, out: &mut Vec<Line>)
    where
        E: Steps<I>,
    {
        match self {
            Self::One(one) => {
                let One { engine, said } = &mut **one;
                engine.step(item, said);
                if !said.is_empty() {
                    out.extend(said.drain(..).map(|record| Line {
                        change: None,
                        record,
                    }));
                }
            }
            Self::Two(two) => {
                let (old, new) = &mut **two;
                old.engine.step(item, &mut old.said);
                new.engine.step(item, &mut new.said);
                if !old.said.is_empty() || !new.said.is_empty() {
                    changes(&mut old.said, &mut new.said, out);
                }
            }
        }
    }

    /// The engine, or that under the first policy.
    #[must_use]
    pub const fn first(&self) -> &E {
        match self {
            Self::One(one) => &one.engine,
            Self::Two(two) => &two.0.engine,
        }
    }

    /// The largest of what each engine counts.
    pub fn largest(&self, count: impl Fn(&E) -> u64) -> u64 {
        match self {
            Self::One(one) => count(&one.engine),
            Self::Two(two) => count(&two.0.engine).max(count(&two.1.engine)),
        }
    }
}

/// What stands in one list only: first what is gone, then what is new, each in its order.
fn changes(old: &mut Vec<Record>, new: &mut Vec<Record>, out: &mut Vec<Line>) {
    let mut counts: HashMap<String, i64> = HashMap::new();
    let identified = |records: &mut Vec<Record>| -> Vec<(String, Record)> {
        let with_identity = |record| Some((identity(&record)?, record));
        records.drain(..).filter_map(with_identity).collect()
    };
    let (old, new) = (identified(old), identified(new));
    for (identity, _) in &old {
        *counts.entry(identity.clone()).or_default() += 1;
    }
    for (identity, _) in &new {
        *counts.entry(identity.clone()).or_default() -= 1;
    }
    let mut tell = |change, sign: i64, records: Vec<(String, Record)>| {
        for (identity, record) in records {
            let Some(count) = counts.get_mut(&identity).filter(|count| **count * sign > 0) else {
                continue;
            };
            *count -= sign;
            out.push(Line {
                change: Some(change),
                record,
            });
        }
    };
    tell(Change::Removed, 1, old);
    tell(Change::Added, -1, new);
}

/// What a finding tells, without what two policies number or weigh differently; `None` for what is no finding.
fn identity(record: &Record) -> Option<String> {
    let finding = |f: &Finding| {
        Box::new(Finding {
            head: Head::default(),
            iota: None,
            pair_class: None,
            weakening: Vec::new(),
            explained_by: Vec::new(),
            unexplained: false,
            suppressed: 0,
            lost_events: 0,
            ..f.clone()
        })
    };
    let told = match record {
        Record::Violation(f) => Record::Violation(finding(f)),
        Record::Audit(f) => Record::Audit(finding(f)),
        Record::Drift(f) => Record::Drift(finding(f)),
        Record::Resolved(r) => Record::Resolved(Box::new(Resolved {
            head: Head::default(),
            iota: crate::model::output::IotaChange {
                before: None,
                after: None,
            },
            ..Resolved::clone(r)
        })),
        _ => return None,
    };
    serde_json::to_string(&told).ok()
}

#[cfg(test)]
mod tests {
    use super::{Line, changes};
    use crate::model::output::{Change, Record};
    use crate::model::{RuleId, Severity};
    use crate::sink::samples;

    fn violation(rule: RuleId, seq: u64) -> Record {
        let mut finding = samples::finding(rule);
        finding.head.seq = seq;
        finding.iota = None;
        finding.suppressed = seq;
        Record::Violation(Box::new(finding))
    }

    fn compare(mut old: Vec<Record>, mut new: Vec<Record>) -> Vec<(Change, u64)> {
        let mut out = Vec::new();
        changes(&mut old, &mut new, &mut out);
        assert!(old.is_empty() && new.is_empty());
        let told = |line: Line| (line.change.unwrap(), line.record.head().seq);
        out.into_iter().map(told).collect()
    }

    /// Goal: what both say is no change, whatever its number; what one says is one, as often as it says so.
    #[test]
    fn changes_are_what_one_says() {
        let join = |seq| violation(RuleId::NamespaceJoin, seq);
        let nest = |seq| violation(RuleId::NamespaceNest, seq);
        assert_eq!(compare(vec![join(1), nest(2)], vec![nest(1), join(2)]), []);
        let found = compare(vec![join(1), join(2), nest(3)], vec![join(9)]);
        assert_eq!(found, [(Change::Removed, 1), (Change::Removed, 3)]);
        let found = compare(vec![nest(3)], vec![join(7), join(8)]);
        let want = [(Change::Removed, 3), (Change::Added, 7), (Change::Added, 8)];
        assert_eq!(found, want);
    }

    /// Goal: another severity, or another type, is a change; what is no finding never is.
    #[test]
    fn weight_counts_and_signs_of_life_do_not() {
        let finding = samples::finding(RuleId::PrivilegeGain);
        let mut milder = finding.clone();
        milder.severity = Severity::Low;
        let violation = |f| Record::Violation(Box::new(f));
        assert_eq!(
            compare(vec![violation(finding.clone())], vec![violation(milder)]).len(),
            2
        );
        let audit = Record::Audit(Box::new(finding.clone()));
        assert_eq!(compare(vec![violation(finding)], vec![audit]).len(), 2);
        let others = samples::all().into_iter().filter(|r| {
            matches!(
                r,
                Record::Start(_) | Record::Stop(_) | Record::Heartbeat(_) | Record::Loss(_)
            )
        });
        assert_eq!(compare(others.collect(), Vec::new()), []);
    }
}
