//! `cgroup-migration` (T13): a container's task put a task (itself, mostly) into a cgroup outside the
//! container's subtree: out of its limits, its device policy, and its identity.
//!
//! The actor is *current*, not the task that was moved: a runtime or an init system of the host may
//! move a container's tasks as it likes. Only where a sweep finds a task in a foreign cgroup is the actor
//! not known, and the place speaks for itself.

use super::{Change, Draft, DraftKind, name, possessive};
use crate::engine::world::World;
use crate::engine::world::cgroups::CgroupKey;
use crate::model::facts::{EntityId, HOST};
use crate::model::output::Evidence;
use crate::model::{Confidence, Dimension, RuleId, Severity, Transition, Verdict};
use auditor_common::limits::CGROUP_SLOTS;
use auditor_common::record::TaskState;

/// A move: where to, and whose territory that is.
#[derive(Clone, Copy, Debug)]
pub struct Move {
    /// The destination.
    pub to: CgroupKey,
    /// Where the task was in that hierarchy.
    pub from: Option<CgroupKey>,
    /// Whose territory the destination is.
    pub territory: EntityId,
}

/// Drafts a finding when the actor is a container and the destination is not its own.
pub fn detect(change: &Change<'_>, moved: &Move, world: &World, out: &mut Vec<Draft>) {
    let actor = change.actor;
    if actor == HOST {
        return;
    }
    let path_of_it = world.cgroups.path(moved.to);
    if is_inside(world, actor, moved.territory, path_of_it).is_none_or(|inside| inside) {
        return;
    }
    let whose = if change.label == actor {
        String::new()
    } else {
        format!(" a task of {}", name(world, change.label))
    };
    out.push(Draft {
        confidence: change.confidence,
        by_iota: false,
        verdict: Some(Verdict::Violated),
        expected: moved.from.map(|key| evidence(world, key)),
        message: format!(
            "{} moved{whose} into {} cgroup {}",
            name(world, actor),
            possessive(world, moved.territory),
            path(world, moved.to)
        ),
        ..draft(world, actor, moved.to, moved.territory)
    });
}

/// Whether a cgroup is a container's own, or one of its nested containers'; `None`: there is no such container.
#[must_use]
pub fn is_inside(
    world: &World,
    actor: EntityId,
    territory: EntityId,
    path: Option<&str>,
) -> Option<bool> {
    let entity = world.entities.get(&actor)?;
    Some(if entity.slots == 0 {
        // No subtree of its own: its place at the start, and what lies below, is all it has.
        path.is_some_and(|path| {
            path.strip_prefix(entity.home.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    } else {
        territory == entity.territory || territory != HOST && world.contains(actor, territory)
    })
}

/// Drafts the finding that a sweep found a task of a container in somebody else's cgroup: who moved it
/// there is not known.
#[must_use]
pub fn at_rest(
    world: &mut World,
    subject: EntityId,
    state: &TaskState,
    place: EntityId,
) -> Option<Draft> {
    let entity = world.entities.get(&subject)?;
    let (slots, home) = (entity.slots, entity.home.clone());
    let to = (0..CGROUP_SLOTS)
        .filter(|slot| slots & (1 << slot) != 0)
        .find_map(|slot| {
            let key = world.cgroup_key(state, slot)?;
            (world.cgroups.territory(key) == place).then_some(key)
        })?;
    let own = world.cgroups.find(to.0, &home);
    Some(Draft {
        expected: own.map(|key| evidence(world, key)),
        message: format!(
            "{} has a task in {} cgroup {}",
            name(world, subject),
            possessive(world, place),
            path(world, to)
        ),
        ..draft(world, subject, to, place)
    })
}

/// What both have in common.
fn draft(world: &World, subject: EntityId, to: CgroupKey, territory: EntityId) -> Draft {
    Draft {
        kind: DraftKind::Violation,
        rule: RuleId::CgroupMigration,
        transition: Some(Transition::T13),
        dimension: Dimension::Cgroup,
        severity: if territory == HOST {
            Severity::High
        } else {
            Severity::Critical
        },
        confidence: Confidence::Inferred,
        subject,
        object: territory,
        object_id: to.1 ^ u64::from(to.0) << 48,
        by_iota: true,
        verdict: None,
        expected: None,
        observed: Some(evidence(world, to)),
        message: String::new(),
    }
}

fn evidence(world: &World, key: CgroupKey) -> Evidence {
    Evidence::Cgroup {
        path: world.cgroups.path(key).map(str::to_owned),
        id: key.1,
        hierarchy: key.0,
    }
}

fn path(world: &World, key: CgroupKey) -> &str {
    world.cgroups.path(key).unwrap_or("(not known by name)")
}
