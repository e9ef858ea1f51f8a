//! `namespace-nest` (T2): a container's task made a fresh namespace.
//!
//! Harmless by itself and the first step of many an escape: with a user namespace of its own an
//! unprivileged task reaches kernel code that is closed to it otherwise.

use super::{Change, Draft, DraftKind, name, ns_evidence, ns_words};
use crate::engine::world::World;
use crate::model::facts::HOST;
use crate::model::{NsKind, RuleId, Severity, Transition, Verdict};

/// Drafts one finding for each kind made.
pub fn detect(change: &Change<'_>, world: &World, out: &mut Vec<Draft>) {
    if change.label == HOST || change.label_before != change.label {
        return;
    }
    let Some(entity) = world.entities.get(&change.label) else {
        return;
    };
    for (kind, id) in change.switched() {
        if !change.is_fresh(kind) || is_echo(change, kind) {
            continue;
        }
        out.push(Draft {
            kind: DraftKind::Violation,
            rule: RuleId::NamespaceNest,
            transition: Some(Transition::T2),
            dimension: kind.object_kind().dimension(),
            severity: Severity::Low,
            confidence: change.confidence,
            subject: change.label,
            object: HOST,
            // Each is a new object; folding by kind is what a reader wants.
            object_id: kind.object_kind().slot() as u64,
            by_iota: false,
            verdict: Some(Verdict::Isolated),
            expected: ns_evidence(world, kind, entity.ns[kind.slot()]),
            observed: ns_evidence(world, kind, id),
            message: format!(
                "{} made a {} of its own",
                name(world, change.label),
                ns_words(kind.object_kind())
            ),
        });
    }
}

/// A birth shows one new pid (time) namespace in two slots; an unshare only in the second one, and
/// the first child (an exec, for time) shows it in the first one again.
fn is_echo(change: &Change<'_>, kind: NsKind) -> bool {
    let other = match kind {
        NsKind::PidForChildren => NsKind::Pid,
        NsKind::TimeForChildren => NsKind::Time,
        _ => return false,
    };
    change.is_fresh(other) && change.ids[other.slot()] == change.ids[kind.slot()]
}
