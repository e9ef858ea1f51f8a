//! What keeps a stream short, and loses nothing.
//!
//! Repeats of one finding are *folded*: the first is told at once, the last when the window ends. What
//! one (rule, subject) says about ever new objects is limited in *rate*: beyond it the first waits for
//! the next line that the rate allows, or for a tick. Each line says how many it stands for beside its
//! own. So at the end of a stream, lines and what they suppress add up to all findings. Both go by severity,
//! too: nothing mild stands for what is worse, and no flood of it delays that.

use super::super::rule::{Draft, DraftKind};
use crate::model::facts::EntityId;
use crate::model::output::Finding;
use crate::model::{Dimension, RuleId, Severity};
use std::collections::BTreeMap;

/// Folds kept at once. Beyond it findings are not folded, only limited in rate.
const MAX_FOLDS: usize = 1 << 14;
/// Lines that one (rule, subject) may emit of one severity in a burst.
const BURST: u32 = 64;
/// How long it takes until it may emit one more.
const REFILL_NS: u64 = 250_000_000;

/// What makes two findings repeats of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) kind: DraftKind,
    pub(super) rule: RuleId,
    pub(super) subject: EntityId,
    pub(super) object: EntityId,
    dimension: Dimension,
    pub(super) object_id: u64,
    severity: Severity,
}

impl Key {
    pub(super) const fn of(draft: &Draft) -> Self {
        Self {
            kind: draft.kind,
            rule: draft.rule,
            subject: draft.subject,
            object: draft.object,
            dimension: draft.dimension,
            object_id: draft.object_id,
            severity: draft.severity,
        }
    }

    /// What the rate is limited by. The kind of a rule's findings changes only with the policy.
    const fn source(&self) -> Source {
        (self.kind, self.rule, self.subject, self.severity)
    }
}

type Source = (DraftKind, RuleId, EntityId, Severity);

/// What is to be done with a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ruling {
    /// A line, now; it stands for so many beside its own.
    Tell(u64),
    /// It waits: give it to [`Limits::keep`].
    Keep,
    /// One that waits stands for it.
    Counted,
}

/// A line that was put off.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) key: Key,
    pub(super) finding: Finding,
    /// What it stands for beside its own.
    pub(super) suppressed: u64,
}

#[derive(Debug)]
struct Fold {
    since_ns: u64,
    waits: Option<Box<Told>>,
}

#[derive(Debug)]
struct Bucket {
    tokens: u32,
    refilled_ns: u64,
    waits: Option<Box<Told>>,
}

impl Bucket {
    fn refill(&mut self, now_ns: u64) {
        let earned = now_ns.saturating_sub(self.refilled_ns) / REFILL_NS;
        let more = u32::try_from(earned).unwrap_or(BURST);
        self.tokens = BURST.min(self.tokens.saturating_add(more));
        self.refilled_ns += earned * REFILL_NS;
    }
}

/// See the [module](self). A bucket that is full and a window that is over are not kept.
#[derive(Debug, Default)]
pub(super) struct Limits {
    folds: BTreeMap<Key, Fold>,
    buckets: BTreeMap<Source, Bucket>,
    /// Findings that will have no line of their own.
    suppressed: u64,
}

impl Limits {
    pub(super) const fn suppressed(&self) -> u64 {
        self.suppressed
    }

    /// Says what is to be done with a finding.
    pub(super) fn rule_on(&mut self, key: Key, now_ns: u64) -> Ruling {
        if self.folds.contains_key(&key) {
            return Ruling::Keep;
        }
        let bucket = self.buckets.entry(key.source()).or_insert(Bucket {
            tokens: BURST,
            refilled_ns: now_ns,
            waits: None,
        });
        bucket.refill(now_ns);
        if bucket.tokens == 0 {
            let Some(first) = &mut bucket.waits else {
                return Ruling::Keep;
            };
            first.suppressed += 1;
            self.suppressed += 1;
            return Ruling::Counted;
        }
        bucket.tokens -= 1;
        let waited = bucket.waits.take().map_or(0, |w| w.suppressed + 1);
        self.suppressed += u64::from(waited > 0);
        self.begin(key, now_ns);
        Ruling::Tell(waited)
    }

    /// Keeps a finding on which the ruling was [`Ruling::Keep`].
    pub(super) fn keep(&mut self, key: Key, finding: Finding) {
        let mut told = Box::new(Told {
            key,
            finding,
            suppressed: 0,
        });
        if let Some(fold) = self.folds.get_mut(&key) {
            if let Some(before) = &fold.waits {
                told.suppressed = before.suppressed + 1;
                self.suppressed += 1;
            }
            fold.waits = Some(told);
        } else if let Some(bucket) = self.buckets.get_mut(&key.source()) {
            bucket.waits = Some(told);
        }
    }

    /// What waited long enough: where a window of `window_ns` is over, and where the rate allows a line
    /// again. All that waits, at the end of a stream.
    pub(super) fn due(&mut self, now_ns: u64, window_ns: u64, all: bool) -> Vec<Told> {
        let mut due = Vec::new();
        let over = |fold: &Fold| all || now_ns >= fold.since_ns.saturating_add(window_ns);
        self.folds.retain(|_, fold| {
            if !over(fold) {
                return true;
            }
            let again = fold.waits.is_some();
            due.extend(fold.waits.take().map(|told| *told));
            fold.since_ns = now_ns;
            again
        });
        let mut begun = Vec::new();
        self.buckets.retain(|_, bucket| {
            bucket.refill(now_ns);
            if (all || bucket.tokens > 0)
                && let Some(told) = bucket.waits.take()
            {
                bucket.tokens = bucket.tokens.saturating_sub(1);
                begun.push(told.key);
                due.push(*told);
            }
            bucket.tokens < BURST
        });
        for key in begun {
            self.begin(key, now_ns);
        }
        due
    }

    /// What a rule said of a pair is over: its windows end, and the next finding is a line again. What waits in them.
    pub(super) fn end(
        &mut self,
        rule: RuleId,
        dimension: Dimension,
        pair: (EntityId, EntityId),
    ) -> Vec<Told> {
        let is_over = |key: &Key, _: &mut Fold| {
            let parties = (key.subject.min(key.object), key.subject.max(key.object));
            (key.rule, key.dimension, parties) == (rule, dimension, pair)
        };
        let over = self.folds.extract_if(.., is_over);
        over.filter_map(|(_, fold)| fold.waits.map(|told| *told))
            .collect()
    }

    /// Begins a window.
    fn begin(&mut self, key: Key, now_ns: u64) {
        if self.folds.len() < MAX_FOLDS {
            self.folds.entry(key).or_insert(Fold {
                since_ns: now_ns,
                waits: None,
            });
        }
    }

    /// An entity is gone. What waits is told in its time.
    pub(super) fn forget(&mut self, id: EntityId) {
        self.buckets
            .retain(|(_, _, subject, _), bucket| *subject != id || bucket.waits.is_some());
    }

    /// Folds and buckets kept.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> [usize; 2] {
        [self.folds.len(), self.buckets.len()]
    }
}
