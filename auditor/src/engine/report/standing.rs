//! What stands: pairs that are violated without a deed that was seen, and pairs that are isolated again.

use super::super::Engine;
use super::super::rule::directory::Directory;
use super::super::rule::{self, Draft, DraftKind, cgroup_migration, shared};
use crate::model::facts::{EntityId, HOST, NsId, ObjectKey, Origin};
use crate::model::output::{IotaChange, Record, Resolved, Witness};
use crate::model::{Confidence, Dimension, NsKind, RuleId, Severity, Transition, Verdict};
use auditor_common::hook::{self, HOOKS};
use auditor_common::record::TaskKey;
use std::collections::BTreeMap;

/// Pairs whose violations are remembered until resolved.
const MAX_PAIRS: usize = 1 << 16;

/// What was said about a pair.
#[derive(Clone, Debug, Default)]
pub(super) struct PairState {
    /// Dimensions that were reported as violated and are not resolved.
    violated: BTreeMap<Dimension, Said>,
}

/// By which rule, and of whom.
#[derive(Clone, Copy, Debug)]
struct Said {
    rule: RuleId,
    subject: EntityId,
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
            let said = Said {
                rule: draft.rule,
                subject: draft.subject,
            };
            state.violated.insert(draft.dimension, said);
        }
    }

    /// After each event: pairs that became violated without anybody's deed, and pairs that are
    /// isolated again.
    #[inline(never)]
    pub(in crate::engine) fn report_pairs(&mut self, out: &mut Vec<Record>) {
        let changed = self.index.changed();
        let mut pairs = changed.pairs;
        if changed.everything {
            pairs.extend(self.reporter.pairs.keys().copied());
        }
        for entity in changed.entities {
            let remembered = self.reporter.pairs.keys().copied();
            pairs.extend(remembered.filter(|(a, b)| *a == entity || *b == entity));
        }
        pairs.sort_unstable();
        pairs.dedup();
        for (a, b) in pairs {
            if self.world.entities.contains_key(&a) && self.world.entities.contains_key(&b) {
                self.report_pair(a, b, out);
            }
        }
    }

    pub(super) fn report_pair(&mut self, a: EntityId, b: EntityId, out: &mut Vec<Record>) {
        if !self.reporter.pairs.contains_key(&(a, b)) && !self.index.is_violated(a, b) {
            return;
        }
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
        for (dimension, Said { rule, subject }) in said.violated {
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
            let limits = &mut self.reporter.limits;
            if !limits.resolve((rule, dimension), (a, b), self.now_ns) {
                continue;
            }
            if let Some(state) = self.reporter.pairs.get_mut(&(a, b)) {
                state.violated.remove(&dimension);
                if state.violated.is_empty() {
                    self.reporter.pairs.remove(&(a, b));
                }
            }
            let object = if subject == a { b } else { a };
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
                subject: self.told(subject),
                object: self.told(object),
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
        let Some(subject) = acquirer else {
            let (subject, other) = if a == HOST { (b, a) } else { (a, b) };
            let draft = shared::draft(&self.world, subject, other, dimension, object, severity);
            let init = self.world.entities.get(&subject).map(|e| e.init);
            return self.emit_standing(draft, init.unwrap_or_default(), out);
        };
        let other = if subject == a { b } else { a };
        let owner = match object {
            ObjectKey::Ns(_, id)
            | ObjectKey::Root(id)
            | ObjectKey::Cwd(id)
            | ObjectKey::Reference(id) => rule::owner(&self.world, id),
            ObjectKey::Territory(place) => place,
            // Its own rule tells of what is mounted later.
            ObjectKey::Tree(_) | ObjectKey::Peer(_) | ObjectKey::Handle(_) => {
                return;
            }
        };
        if owner != other {
            // Third parties that share the same object: the finding names the owner.
            return;
        }
        match object {
            ObjectKey::Ns(_, id) => {
                self.report_standing_namespace(subject, other, dimension, id, out);
            }
            // As they happen, their own rules tell them.
            _ if self.at_rest => self.report_standing_place(subject, object, out),
            _ => {}
        }
    }

    /// A draft about what was found.
    fn emit_standing(&mut self, draft: Option<Draft>, who: TaskKey, out: &mut Vec<Record>) {
        let Some(draft) = draft else { return };
        let iterates = self.config.working.has(hook::ITER_TASK);
        let sweep = if iterates {
            hook::ITER_TASK
        } else {
            hook::PROC
        };
        let eye = self.met.unwrap_or(sweep);
        let witness = Witness {
            hook: HOOKS[usize::from(eye)].name.to_owned(),
            syscall: None,
            events: vec![self.event],
        };
        self.emit(draft, who, (eye, witness), None, out);
    }

    fn report_standing_namespace(
        &mut self,
        subject: EntityId,
        other: EntityId,
        dimension: Dimension,
        id: NsId,
        out: &mut Vec<Record>,
    ) {
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
            object_id: namespace.serial,
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
        self.emit_standing(Some(draft), holder.unwrap_or_default(), out);
    }

    /// A foreign directory or cgroup that a sweep found a task in.
    fn report_standing_place(
        &mut self,
        subject: EntityId,
        object: ObjectKey,
        out: &mut Vec<Record>,
    ) {
        let holder = self
            .world
            .tasks
            .values()
            .filter(|t| t.label == subject && t.extra.iter().any(|(o, _)| *o == object))
            .min_by_key(|t| t.state.key);
        let Some(state) = holder.map(|t| t.state) else {
            return;
        };
        let sure = Confidence::Inferred;
        let draft = match object {
            ObjectKey::Root(id) => Directory::Root.draft(&self.world, subject, &state, id, sure),
            ObjectKey::Cwd(id) => Directory::Cwd.draft(&self.world, subject, &state, id, sure),
            ObjectKey::Territory(place) => {
                cgroup_migration::at_rest(&mut self.world, subject, &state, place)
            }
            // A sweep tells of files one by one.
            ObjectKey::Ns(..)
            | ObjectKey::Reference(_)
            | ObjectKey::Tree(_)
            | ObjectKey::Peer(_)
            | ObjectKey::Handle(_) => None,
        };
        self.emit_standing(draft, state.key, out);
    }
}
