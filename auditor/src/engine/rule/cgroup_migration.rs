//! `cgroup-migration` (T13): a container's task put a task (itself, mostly) into a cgroup outside the
//! container's subtree: out of its limits, its device policy, and its identity.
//!
//! The actor is *current*, not the task that was moved: a runtime or an init system of the host may
//! move a container's tasks as it likes.

use super::{Change, Draft, DraftKind, name, possessive};
use crate::engine::world::World;
use crate::engine::world::cgroups::CgroupKey;
use crate::model::facts::{EntityId, HOST};
use crate::model::output::Evidence;
use crate::model::{Dimension, RuleId, Severity, Transition};

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
    let Some(entity) = world.entities.get(&actor) else {
        return;
    };
    let inside = if entity.slots == 0 {
        // No subtree of its own: its place at the start, and what lies below, is all it has.
        world.cgroups.path(moved.to).is_some_and(|path| {
            path.strip_prefix(entity.home.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    } else {
        moved.territory == entity.territory
            || moved.territory != HOST && world.contains(actor, moved.territory)
    };
    if inside {
        return;
    }
    let evidence = |key: CgroupKey| Evidence::Cgroup {
        path: world.cgroups.path(key).map(str::to_owned),
        id: key.1,
        hierarchy: key.0,
    };
    let whose = if change.label == actor {
        String::new()
    } else {
        format!(" a task of {}", name(world, change.label))
    };
    out.push(Draft {
        kind: DraftKind::Violation,
        rule: RuleId::CgroupMigration,
        transition: Some(Transition::T13),
        dimension: Dimension::Cgroup,
        severity: if moved.territory == HOST {
            Severity::High
        } else {
            Severity::Critical
        },
        confidence: change.confidence,
        subject: actor,
        object: moved.territory,
        object_id: moved.to.1 ^ u64::from(moved.to.0) << 48,
        by_iota: false,
        verdict: Some(crate::model::Verdict::Violated),
        expected: moved.from.map(evidence),
        observed: Some(evidence(moved.to)),
        message: format!(
            "{} moved{whose} into {} cgroup {}",
            name(world, actor),
            possessive(world, moved.territory),
            world
                .cgroups
                .path(moved.to)
                .unwrap_or("(not known by name)")
        ),
    });
}
