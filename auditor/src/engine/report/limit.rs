//! What keeps a stream short, and loses nothing.
//!
//! Repeats of one finding are *folded*: the first is told at once, the last when the window ends. What
//! one (rule, subject) says about ever new objects is limited in *rate*: beyond it the first waits for
//! the next line that the rate allows, or for a tick. Each line says how many it stands for beside its
//! own. So at the end of a stream, lines and what they suppress add up to all findings. Both go by severity,
//! too: nothing mild stands for what is worse, and no flood of it delays that.
//!
//! What was resolved and comes again is a line again. But what comes and goes all the time is said to stand, after a
//! few times, until a window has passed.

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

/// How often within a window a pair is said to be isolated again in one dimension.
const RESOLUTIONS: u32 = 3;

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
    /// What it folds was resolved: the next one is a line.
    is_over: bool,
    waits: Option<Box<Told>>,
}

/// How often a pair was isolated again in one dimension.
#[derive(Debug)]
struct Resolutions {
    since_ns: u64,
    times: u32,
    /// It may be so by now, and that was not said.
    is_withheld: bool,
}

/// What waited long enough.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// Lines.
    pub(super) told: Vec<Told>,
    /// Pairs that may be isolated again.
    pub(super) pairs: Vec<(EntityId, EntityId)>,
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
    resolved: BTreeMap<(EntityId, EntityId, Dimension), Resolutions>,
    /// Findings that will have no line of their own.
    suppressed: u64,
}

impl Limits {
    pub(super) const fn suppressed(&self) -> u64 {
        self.suppressed
    }

    /// Says what is to be done with a finding.
    pub(super) fn rule_on(&mut self, key: Key, now_ns: u64) -> Ruling {
        if self.folds.get(&key).is_some_and(|fold| !fold.is_over) {
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
        let waited = bucket.waits.take();
        self.begin(key, now_ns);
        let repeat = self.folds.get_mut(&key).and_then(|fold| {
            fold.is_over = false;
            fold.waits.take()
        });
        let mut stands_for = 0;
        for put_off in [waited, repeat].into_iter().flatten() {
            stands_for += put_off.suppressed + 1;
            self.suppressed += 1;
        }
        Ruling::Tell(stands_for)
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
    pub(super) fn due(&mut self, now_ns: u64, window_ns: u64, all: bool) -> Due {
        let mut due = Vec::new();
        let over = |since_ns: u64| all || now_ns >= since_ns.saturating_add(window_ns);
        let mut pairs = Vec::new();
        self.resolved.retain(|(a, b, _), resolved| {
            let is_over = over(resolved.since_ns);
            if is_over && resolved.is_withheld {
                pairs.push((*a, *b));
            }
            !is_over
        });
        self.folds.retain(|_, fold| {
            if !over(fold.since_ns) {
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
        Due { told: due, pairs }
    }

    /// A pair is isolated again in a dimension, of which a rule told. Whether that is said now: then the next finding is a
    /// line again.
    pub(super) fn resolve(
        &mut self,
        (rule, dimension): (RuleId, Dimension),
        pair: (EntityId, EntityId),
        now_ns: u64,
    ) -> bool {
        let place = (pair.0, pair.1, dimension);
        if self.resolved.len() < MAX_FOLDS || self.resolved.contains_key(&place) {
            let resolved = self.resolved.entry(place).or_insert(Resolutions {
                since_ns: now_ns,
                times: 0,
                is_withheld: false,
            });
            if resolved.times == RESOLUTIONS {
                resolved.is_withheld = true;
                return false;
            }
            resolved.times += 1;
        }
        for (key, fold) in &mut self.folds {
            let parties = (key.subject.min(key.object), key.subject.max(key.object));
            fold.is_over |= (key.rule, key.dimension, parties) == (rule, dimension, pair);
        }
        true
    }

    /// Begins a window.
    fn begin(&mut self, key: Key, now_ns: u64) {
        if self.folds.len() < MAX_FOLDS {
            self.folds.entry(key).or_insert(Fold {
                since_ns: now_ns,
                is_over: false,
                waits: None,
            });
        }
    }

    /// An entity is gone. What waits is told in its time.
    pub(super) fn forget(&mut self, id: EntityId) {
        self.buckets
            .retain(|(_, _, subject, _), bucket| *subject != id || bucket.waits.is_some());
        self.resolved.retain(|(a, b, _), _| *a != id && *b != id);
    }

    /// Folds and buckets kept.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> [usize; 2] {
        [self.folds.len(), self.buckets.len()]
    }
}
