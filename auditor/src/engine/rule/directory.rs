//! What `foreign-root` and `foreign-cwd` have in common: a directory of a task, and whose mounts it lies on.

use super::{Draft, DraftKind, name, ns_evidence, owner, path_evidence, possessive};
use crate::engine::world::World;
use crate::model::facts::{EntityId, HOST, NsId};
use crate::model::{Confidence, Dimension, NsKind, RuleId, Severity, Transition, Verdict};
use auditor_common::record::{PathRef, TaskState, known, ns, path_flags};

/// One of a task's two directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directory {
    /// Where its absolute paths begin.
    Root,
    /// Where its relative paths begin.
    Cwd,
}

impl Directory {
    /// The directory of a task.
    #[must_use]
    pub const fn of(self, state: &TaskState) -> &PathRef {
        match self {
            Self::Root => &state.root,
            Self::Cwd => &state.cwd,
        }
    }

    /// The foreign mount namespace that the directory lies in; `None` when it is the task's own, one
    /// that nobody has (detached), or not known.
    #[must_use]
    pub fn foreign_mount_ns(self, world: &World, state: &TaskState) -> Option<NsId> {
        let (path, own) = (self.of(state), state.ns[ns::MNT].inum);
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

    /// Drafts the finding that a container's task has this directory in `id`; `None` where that is the
    /// container's own, or nested in it.
    #[must_use]
    pub fn draft(
        self,
        world: &World,
        subject: EntityId,
        state: &TaskState,
        id: NsId,
        confidence: Confidence,
    ) -> Option<Draft> {
        let object = owner(world, id);
        let entity = world.entities.get(&subject)?;
        if world.contains(subject, object) && object != HOST || entity.ns[ns::MNT] == id {
            return None;
        }
        let (rule, dimension, word) = match self {
            Self::Root => (RuleId::ForeignRoot, Dimension::Root, "root"),
            Self::Cwd => (RuleId::ForeignCwd, Dimension::Cwd, "working"),
        };
        let path = self.of(state);
        // ι asks for the root; a working directory counts whatever ι says.
        let by_iota = self == Self::Root;
        Some(Draft {
            kind: DraftKind::Violation,
            rule,
            transition: Some(Transition::T3),
            dimension,
            severity: Severity::Critical,
            confidence,
            subject,
            object,
            object_id: path.ino ^ u64::from(path.dev) << 32,
            by_iota,
            verdict: (!by_iota).then_some(Verdict::Violated),
            expected: ns_evidence(world, NsKind::Mnt, entity.ns[ns::MNT]),
            observed: Some(path_evidence(path)),
            message: format!(
                "{} has a {word} directory on {} mounts",
                name(world, subject),
                possessive(world, object)
            ),
        })
    }
}
