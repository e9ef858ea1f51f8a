//! What stands: pairs that are violated without a deed that was seen, and pairs that are isolated again.

use super::super::Engine;
use super::super::rule::directory::Directory;
use super::super::rule::{self, Draft, DraftKind, shared};
use crate::model::facts::{EntityId, HOST, NsId, ObjectKey, Origin};
use crate::model::output::{IotaChange, Record, Resolved, Witness};
use crate::model::{Confidence, Dimension, NsKind, RuleId, Severity, Transition, Verdict};
use auditor_common::hook::{self, HOOKS};
use auditor_common::record::TaskKey;
use std::collections::{BTreeMap, BTreeSet};

/// Pairs whose violations are remembered until resolved.
const MAX_PAIRS: usize = 1 << 16;

/// What was said about a pair.
#[derive(Clone, Debug, Default)]
pub(super) struct PairState {
    /// Dimensions that were reported as violated and are not resolved.
    violated: BTreeMap<Dimension, RuleId>,
}

impl Engine {
    /// A violation of this pair and dimension stands from here on.
    pub(super) fn remember(&mut self, draft: &Draft) {
        let pair = (
            draft.subject.min(draft.object),
            draft.subject.max(draft.object),
        );
        if self.reporter.pairs.len() < MAX_PAIRS || self.reporter.pairs.contains_key(&pair) {
            let state = self.reporter.pairs.entry(pair).or_default();
            state.violated.insert(draft.dimension, draft.rule);
        }
    }

    /// After each event: pairs that became violated without anybody's deed, and pairs that are
    /// isolated again.
    pub(in crate::engine) fn report_pairs(&mut self, out: &mut Vec<Record>) {
        if !self.started {
            return;
        }
        if !self.index.has_changed() {
            return;
        }
        let changed = self.index.changed();
        let mut pairs: BTreeSet<(EntityId, EntityId)> = changed.pairs.into_iter().collect();
        if changed.everything {
            pairs.extend(self.reporter.pairs.keys().copied());
        }
        for entity in changed.entities {
            let remembered = self.reporter.pairs.keys().copied();
            pairs.extend(remembered.filter(|(a, b)| *a == entity || *b == entity));
        }
        for (a, b) in pairs {
            if self.world.entities.contains_key(&a) && self.world.entities.contains_key(&b) {
                self.report_pair(a, b, out);
            }
        }
    }

    fn report_pair(&mut self, a: EntityId, b: EntityId, out: &mut Vec<Record>) {
        let pair = self.index.pair(a, b);
        let said = self
            .reporter
            .pairs
            .get(&(a, b))
            .cloned()
            .unwrap_or_default();
        for component in pair
            .dimensions
            .iter()
            .filter(|d| d.verdict == Verdict::Violated)
        {
            if said.violated.contains_key(&component.dimension) {
                continue;
            }
            let Some(object) = component.object else {
                continue;
            };
            self.report_standing(a, b, component.dimension, object, component.severity, out);
        }
        for (dimension, rule) in said.violated {
            let verdict = pair
                .dimension(dimension)
                .map_or(Verdict::Isolated, |d| d.verdict);
            // What is unknown is not resolved.
            if matches!(
                verdict,
                Verdict::Violated | Verdict::Unknown | Verdict::NotEvaluated
            ) {
                continue;
            }
            if let Some(state) = self.reporter.pairs.get_mut(&(a, b)) {
                state.violated.remove(&dimension);
                if state.violated.is_empty() {
                    self.reporter.pairs.remove(&(a, b));
                }
            }
            let (subject, object) = if a == HOST { (b, a) } else { (a, b) };
            let message = format!(
                "{} and {} are isolated again in dimension {dimension}",
                rule::name(&self.world, subject),
                rule::name(&self.world, object)
            );
            let resolved = Resolved {
                head: self.head(),
                rule,
                dimension,
                iota: IotaChange {
                    before: Some(0),
                    after: pair.iota.map(u8::from),
                },
                subject: self.party(subject),
                object: self.party(object),
                ever_violated: true,
                message,
            };
            out.push(Record::Resolved(Box::new(resolved)));
        }
    }

    /// A violation that no event of ours brought: a set-up that nobody declared, or one that was there
    /// before the agent.
    fn report_standing(
        &mut self,
        a: EntityId,
        b: EntityId,
        dimension: Dimension,
        object: ObjectKey,
        severity: Severity,
        out: &mut Vec<Record>,
    ) {
        let acquirer = self
            .index
            .holders(object)
            .iter()
            .find(|(id, origin)| *origin == Origin::Acquired && (*id == a || *id == b))
            .map(|(id, _)| *id);
        let iterates = self.config.working & (1 << hook::ITER_TASK) != 0;
        let eye = if iterates {
            hook::ITER_TASK
        } else {
            hook::PROC
        };
        let witness = (
            eye,
            Witness {
                hook: HOOKS[usize::from(eye)].name.to_owned(),
                syscall: None,
                events: vec![self.event],
            },
        );
        let Some(subject) = acquirer else {
            let (subject, other) = if a == HOST { (b, a) } else { (a, b) };
            let draft = shared::draft(&self.world, subject, other, dimension, object, severity);
            if let Some(draft) = draft {
                let who = self
                    .world
                    .entities
                    .get(&subject)
                    .map_or(TaskKey::default(), |e| e.init);
                self.emit(draft, who, witness, None, out);
            }
            return;
        };
        let other = if subject == a { b } else { a };
        let id = match object {
            ObjectKey::Ns(_, id) => id,
            ObjectKey::Root(id) | ObjectKey::Cwd(id) if self.at_rest => {
                return self.report_standing_directory(subject, other, object, id, witness, out);
            }
            // As they happen, their own rules tell them.
            ObjectKey::Root(_) | ObjectKey::Cwd(_) | ObjectKey::Territory(_) => return,
        };
        if rule::owner(&self.world, id) != other {
            // Third parties that share the same object: the finding names the owner.
            return;
        }
        let holder = self
            .world
            .tasks
            .values()
            .filter(|t| t.label == subject && self.world.ns.ids(t.set).contains(&id))
            .map(|t| t.state.key)
            .min();
        let Some(namespace) = self.world.ns.get(id) else {
            return;
        };
        let kind = if dimension == Dimension::PidForChildren {
            NsKind::PidForChildren
        } else {
            namespace.kind
        };
        let expected = self.world.entities.get(&subject).map(|e| e.ns[kind.slot()]);
        let draft = Draft {
            kind: DraftKind::Violation,
            rule: RuleId::NamespaceJoin,
            transition: Some(Transition::T1),
            dimension,
            severity: Severity::Critical,
            confidence: Confidence::Inferred,
            subject,
            object: other,
            object_id: u64::from(id.0),
            by_iota: true,
            verdict: None,
            expected: expected.and_then(|id| rule::ns_evidence(&self.world, kind, id)),
            observed: rule::ns_evidence(&self.world, kind, id),
            message: format!(
                "{} is in {} {}",
                rule::name(&self.world, subject),
                rule::possessive(&self.world, other),
                rule::ns_words(kind)
            ),
        };
        self.emit(draft, holder.unwrap_or_default(), witness, None, out);
    }

    /// A foreign root or working directory that a sweep found.
    fn report_standing_directory(
        &mut self,
        subject: EntityId,
        other: EntityId,
        object: ObjectKey,
        id: NsId,
        witness: (u16, Witness),
        out: &mut Vec<Record>,
    ) {
        if rule::owner(&self.world, id) != other {
            return;
        }
        let holder = self
            .world
            .tasks
            .values()
            .filter(|t| t.label == subject && t.extra.iter().any(|(o, _)| *o == object))
            .min_by_key(|t| t.state.key);
        let Some(state) = holder.map(|t| t.state) else {
            return;
        };
        let directory = match object {
            ObjectKey::Root(_) => Directory::Root,
            _ => Directory::Cwd,
        };
        let confidence = Confidence::Inferred;
        let Some(draft) = directory.draft(&self.world, subject, &state, id, confidence) else {
            return;
        };
        self.emit(draft, state.key, witness, None, out);
    }
}
