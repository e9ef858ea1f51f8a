//! What the algebra is about: entities, the kernel objects they hold, and how they came by them.
//!
//! Sharing is never computed by comparing entities. An entity *holds* kernel objects, and two
//! entities share what both hold. So everything that isolation depends on is one of the few facts
//! in this file, and a fact is small, ordered and free of kernel pointers and inode numbers (both
//! are reused while the old one is still held; [`NsId`] is not).

use super::kinds::{Dimension, NsKind};
use super::output::EntityKind;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

/// An entity: the host, a container, a virtual machine. Dense, never reused within one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EntityId(pub u32);

/// The machine itself; always there.
pub const HOST: EntityId = EntityId(0);

/// A namespace: dense identity given at first sight, kept while a task or a baseline holds it. Reused only
/// when nobody does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NsId(pub u32);

/// A kernel object by which two entities can touch. In order of the variants, dimensions and ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKey {
    /// A task lives in this namespace. The dimension is one of `mnt`, `pid`, `pid_for_children`,
    /// `net`, `ipc`, `uts`, `user`, `time`, `cgroup_ns`; see [`ObjectKey::ns`].
    Ns(Dimension, NsId),
    /// A task sits in the cgroup subtree that belongs to this entity. Each entity holds its own.
    Territory(EntityId),
    /// A task's root directory lies on a mount of this mount namespace.
    Root(NsId),
    /// A task's working directory lies on a mount of this mount namespace.
    Cwd(NsId),
    /// A task has a file open that lies on a mount of this mount namespace.
    Reference(NsId),
    /// It has this directory of a file system mounted, writable: see `engine::setup::trees`.
    Tree(u32),
    /// A mount of it is in this peer group, or receives from it: see `engine::setup::peers`.
    Peer(u32),
    /// A task of it has this handle: see `engine::handles`.
    Handle(u32),
}

impl ObjectKey {
    /// A namespace by its kind.
    #[must_use]
    pub const fn ns(kind: NsKind, id: NsId) -> Self {
        Self::Ns(kind.dimension(), id)
    }

    /// All of it in one number, in order: objects are compared and hashed more often than anything else.
    const fn rank(&self) -> u64 {
        let (variant, dimension, id) = match self {
            Self::Ns(dimension, id) => (0, *dimension as u64, id.0),
            Self::Territory(id) => (1, 0, id.0),
            Self::Root(id) => (2, 0, id.0),
            Self::Cwd(id) => (3, 0, id.0),
            Self::Reference(id) => (4, 0, id.0),
            Self::Tree(id) => (5, 0, *id),
            Self::Peer(id) => (6, 0, *id),
            Self::Handle(id) => (7, 0, *id),
        };
        variant << 56 | dimension << 32 | id as u64
    }

    /// The dimension in which sharing this object counts.
    #[must_use]
    pub const fn dimension(&self) -> Dimension {
        match self {
            Self::Ns(dimension, _) => *dimension,
            Self::Territory(_) => Dimension::Cgroup,
            Self::Root(_) => Dimension::Root,
            Self::Cwd(_) => Dimension::Cwd,
            Self::Reference(_) => Dimension::References,
            Self::Tree(_) | Self::Peer(_) => Dimension::Mounts,
            Self::Handle(_) => Dimension::Handles,
        }
    }
}

impl Ord for ObjectKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl PartialOrd for ObjectKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for ObjectKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.rank());
    }
}

/// How an entity came to hold an object, best first: of several tasks of one entity that hold the
/// same object, the worst origin counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Made for it. What the host holds as its own is *initial*.
    Own,
    /// Its spec names it, or asks for the host's, or the policy says so.
    Declared,
    /// Given to it after its baseline froze, by a trusted actor of the host. Counts as baseline.
    Granted,
    /// No spec is known: shared with its creator when its baseline froze.
    Baseline,
    /// A spec is known and does not name it: inherited from its creator.
    Undeclared,
    /// Taken after its baseline froze, by a task of its own.
    Acquired,
}

impl Origin {
    /// All origins, best first.
    pub const ALL: [Self; 6] = [
        Self::Own,
        Self::Declared,
        Self::Granted,
        Self::Baseline,
        Self::Undeclared,
        Self::Acquired,
    ];
}

/// Who an entity is: what classes of pairs and the policy look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntityProfile {
    /// Its kind.
    pub kind: EntityKind,
    /// Stable id: `host`, `<runtime>:<full id>`, `unknown:<cgroup path>`.
    pub key: String,
    /// The pod it belongs to.
    pub pod: Option<String>,
    /// The entity it is nested in. `None` (or [`HOST`]) when it is not nested.
    pub parent: Option<EntityId>,
    /// Runtime.
    pub runtime: Option<String>,
    /// Image.
    pub image: Option<String>,
    /// Human name.
    pub name: Option<String>,
    /// Namespace of the orchestrator (Kubernetes).
    pub namespace: Option<String>,
    /// Labels of runtime or orchestrator.
    pub labels: BTreeMap<String, String>,
    /// User id of its init, in the initial user namespace.
    pub uid: Option<u32>,
}

impl EntityProfile {
    /// A profile of which only kind and stable id are known.
    #[must_use]
    pub fn new(kind: EntityKind, key: impl Into<String>) -> Self {
        Self {
            kind,
            key: key.into(),
            pod: None,
            parent: None,
            runtime: None,
            image: None,
            name: None,
            namespace: None,
            labels: BTreeMap::new(),
            uid: None,
        }
    }

    /// The host's.
    #[must_use]
    pub fn host() -> Self {
        Self::new(EntityKind::Host, "host")
    }
}

#[cfg(test)]
mod tests {
    use super::{EntityId, NsId, NsKind, ObjectKey, Origin};
    use crate::model::Dimension;

    /// `time_for_children` counts as time; the order of origins is the order of badness.
    #[test]
    fn objects_know_their_dimension() {
        let time = ObjectKey::ns(NsKind::TimeForChildren, NsId(7));
        assert_eq!(time, ObjectKey::Ns(Dimension::Time, NsId(7)));
        assert_eq!(ObjectKey::Cwd(NsId(1)).dimension(), Dimension::Cwd);
        assert!(Origin::ALL.is_sorted());
    }

    /// Objects stand in order of variant, dimension and id, and no two are taken for one.
    #[test]
    fn objects_have_an_order() {
        let ids = [0, 1, u32::MAX];
        let ns = [Dimension::Mnt, Dimension::Pid, Dimension::CgroupNs]
            .map(|dimension| ids.map(|id| ObjectKey::Ns(dimension, NsId(id))));
        let all = ns
            .into_iter()
            .chain([
                ids.map(|id| ObjectKey::Territory(EntityId(id))),
                ids.map(|id| ObjectKey::Root(NsId(id))),
                ids.map(|id| ObjectKey::Cwd(NsId(id))),
                ids.map(|id| ObjectKey::Reference(NsId(id))),
                ids.map(ObjectKey::Tree),
                ids.map(ObjectKey::Peer),
                ids.map(ObjectKey::Handle),
            ])
            .flatten();
        assert!(all.is_sorted_by(|a, b| a < b && a != b));
    }
}
