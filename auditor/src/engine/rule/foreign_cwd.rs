//! `foreign-cwd` (T3): a container's task has a working directory on another mount namespace's mount:
//! everything it opens by a relative path is foreign. At a container's first exec it is the mark of a
//! directory descriptor that leaked from the runtime.

use super::foreign_root::foreign_mount_ns;
use super::{Change, Draft, DraftKind, name, owner, path_evidence, possessive};
use crate::engine::world::World;
use crate::model::facts::HOST;
use crate::model::{Dimension, NsKind, RuleId, Severity, Transition, Verdict};
use auditor_common::record::{cause, ns};

/// Drafts a finding when the working directory became foreign.
pub fn detect(change: &Change<'_>, world: &World, out: &mut Vec<Draft>) {
    if change.label == HOST {
        return;
    }
    // A task that is about to become part of a container still has the runtime's cwd; what counts
    // is what it carries into the container's program.
    let state = &change.record.state;
    let entering = change.label != change.label_before;
    if entering && change.record.cause != cause::EXEC {
        return;
    }
    let Some(id) = foreign_mount_ns(world, state, &state.cwd) else {
        return;
    };
    if !entering
        && change.record.cause != cause::EXEC
        && change
            .before
            .is_some_and(|b| b.cwd == state.cwd && foreign_mount_ns(world, b, &b.cwd).is_some())
    {
        return;
    }
    let object = owner(world, id);
    let Some(entity) = world.entities.get(&change.label) else {
        return;
    };
    if world.contains(change.label, object) && object != HOST || entity.ns[ns::MNT] == id {
        return;
    }
    out.push(Draft {
        kind: DraftKind::Violation,
        rule: RuleId::ForeignCwd,
        transition: Some(Transition::T3),
        dimension: Dimension::Cwd,
        severity: Severity::Critical,
        confidence: change.confidence,
        subject: change.label,
        object,
        object_id: state.cwd.ino ^ u64::from(state.cwd.dev) << 32,
        by_iota: false,
        verdict: Some(Verdict::Violated),
        expected: super::ns_evidence(world, NsKind::Mnt, entity.ns[ns::MNT]),
        observed: Some(path_evidence(&state.cwd)),
        message: format!(
            "{} has a working directory on {} mounts",
            name(world, change.label),
            possessive(world, object)
        ),
    });
}
