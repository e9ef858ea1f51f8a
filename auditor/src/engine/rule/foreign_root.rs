//! `foreign-root` (T3): a container's task has a root directory that lies on another mount namespace's
//! mount: everything it opens by an absolute path is foreign.

use super::{Change, Draft, DraftKind, name, owner, path_evidence, possessive};
use crate::engine::world::World;
use crate::model::facts::{HOST, NsId};
use crate::model::{Dimension, NsKind, RuleId, Severity, Transition};
use auditor_common::record::{PathRef, TaskState, known, ns, path_flags};

/// The foreign mount namespace that a root or cwd lies in; `None` when it is the task's own, one that
/// nobody has (detached), or not known.
#[must_use]
pub fn foreign_mount_ns(world: &World, state: &TaskState, path: &PathRef) -> Option<NsId> {
    let own = state.ns[ns::MNT].inum;
    if state.known & known::PATH_MNT_NS == 0
        || path.flags & path_flags::DETACHED != 0
        || path.mnt_ns_inum == 0
        || path.mnt_ns_inum == own
        || own == 0
    {
        return None;
    }
    world.ns.by_inum(NsKind::Mnt, path.mnt_ns_inum)
}

/// Drafts a finding when the root became foreign.
pub fn detect(change: &Change<'_>, world: &World, out: &mut Vec<Draft>) {
    if change.label == HOST {
        return;
    }
    let state = &change.record.state;
    let Some(id) = foreign_mount_ns(world, state, &state.root) else {
        return;
    };
    if change.before.is_some_and(|b| {
        b.root == state.root
            && change.label == change.label_before
            && foreign_mount_ns(world, b, &b.root).is_some()
    }) {
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
        rule: RuleId::ForeignRoot,
        transition: Some(Transition::T3),
        dimension: Dimension::Root,
        severity: Severity::Critical,
        confidence: change.confidence,
        subject: change.label,
        object,
        object_id: state.root.ino ^ u64::from(state.root.dev) << 32,
        by_iota: true,
        verdict: None,
        expected: super::ns_evidence(world, NsKind::Mnt, entity.ns[ns::MNT]),
        observed: Some(path_evidence(&state.root)),
        message: format!(
            "{} changed its root directory to one on {} mounts",
            name(world, change.label),
            possessive(world, object)
        ),
    });
}
