//! `container-enter`: a task of the host joined a container's namespace: an administrator's nsenter, a
//! runtime's exec, an orchestrator's probe. Never a violation; one line for each session, which is the
//! first entry of a task and everything that it and its descendants do after it.

use super::{Change, Draft, DraftKind, name, ns_evidence, ns_words, owner};
use crate::engine::world::World;
use crate::model::facts::{EntityId, HOST};
use crate::model::{RuleId, Severity};

/// Drafts a line when the task enters a container that it is not in yet; says which.
pub fn detect(
    change: &Change<'_>,
    entered: Option<EntityId>,
    world: &World,
    out: &mut Vec<Draft>,
) -> Option<EntityId> {
    let (kind, id, object) = change.switched().find_map(|(kind, id)| {
        let object = owner(world, id);
        let outside = object != HOST
            && object != change.label
            && world.contains(change.label, object)
            && entered != Some(object);
        (outside && !change.is_fresh(kind)).then_some((kind, id, object))
    })?;
    if change.actor != change.label && change.actor != HOST {
        return None;
    }
    out.push(Draft {
        kind: DraftKind::Audit,
        rule: RuleId::ContainerEnter,
        transition: None,
        dimension: kind.dimension(),
        severity: Severity::Info,
        confidence: change.confidence,
        subject: change.label,
        object,
        object_id: u64::from(change.record.state.key.tgid),
        by_iota: false,
        verdict: None,
        expected: None,
        observed: ns_evidence(world, kind, id),
        message: format!(
            "a task of {} entered {} ({} first)",
            name(world, change.label),
            name(world, object),
            ns_words(kind)
        ),
    });
    Some(object)
}
