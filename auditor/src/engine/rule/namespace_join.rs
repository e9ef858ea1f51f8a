//! `namespace-join` (T1): a container's task joined an existing namespace that is not its own.
//!
//! Own is: what the container had at its start, what it (or a container inside it) made since, and
//! what containers nested in it have. Joining by setns, or being born into the namespace that a parent
//! chose for its children, are the same transition.

use super::{Change, Draft, DraftKind, name, ns_evidence, ns_words, owner, possessive};
use crate::engine::world::World;
use crate::model::facts::HOST;
use crate::model::output::Evidence;
use crate::model::{NsKind, RuleId, Severity, Transition, Verdict};

/// Drafts one finding for each dimension joined.
pub fn detect(change: &Change<'_>, world: &World, out: &mut Vec<Draft>) {
    if change.label == HOST || change.label_before != change.label {
        return;
    }
    let Some(entity) = world.entities.get(&change.label) else {
        return;
    };
    for (kind, id) in change.switched() {
        // time_for_children switches together with time in setns; one finding is enough.
        if kind == NsKind::TimeForChildren || change.is_fresh(kind) {
            continue;
        }
        let object = owner(world, id);
        if entity.ns[kind.slot()] == id || world.contains(change.label, object) && object != HOST {
            continue;
        }
        let Some(observed) = ns_evidence(world, kind, id) else {
            continue;
        };
        // What the host made and keeps without a task in it is nobody's but the host's: ι, which compares
        // what tasks have, does not see it.
        let kept = object == HOST && matches!(observed, Evidence::Ns { initial: false, .. });
        out.push(Draft {
            kind: DraftKind::Violation,
            rule: RuleId::NamespaceJoin,
            transition: Some(Transition::T1),
            dimension: kind.dimension(),
            severity: Severity::Critical,
            confidence: change.confidence,
            subject: change.label,
            object,
            object_id: world.ns.serial(id),
            by_iota: !kept,
            verdict: kept.then_some(Verdict::Violated),
            expected: ns_evidence(world, kind, entity.ns[kind.slot()]),
            observed: Some(observed),
            message: format!(
                "{} joined {} {}",
                name(world, change.label),
                possessive(world, object),
                ns_words(kind)
            ),
        });
    }
}
