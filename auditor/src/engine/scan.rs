//! Reading the model: what a scan prints of each entity.

use super::Engine;
use super::world::Entity;
use super::world::namespaces::NO_NS;
use crate::model::NsKind;
use crate::model::facts::EntityId;
use auditor_common::record::TaskState;

/// One namespace of an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamespaceFact {
    /// Its kind.
    pub kind: NsKind,
    /// Inode number.
    pub inum: u32,
    /// Whether it is the machine's own.
    pub initial: bool,
}

/// What is known of an entity besides its name.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The entity.
    pub id: EntityId,
    /// Baseline namespaces.
    pub namespaces: Vec<NamespaceFact>,
    /// Path of its cgroup.
    pub cgroup: String,
    /// State of its init (of pid 1 for the host), while that lives.
    pub init: Option<TaskState>,
    /// Number of its tasks.
    pub tasks: u32,
}

impl Engine {
    /// Every entity, the host first.
    #[must_use]
    pub fn facts(&self) -> Vec<Facts> {
        let fact = |id: EntityId, entity: &Entity| Facts {
            id,
            namespaces: NsKind::ALL
                .iter()
                .filter(|kind| entity.ns[kind.slot()] != NO_NS)
                .filter_map(|&kind| {
                    let ns = self.world.ns.get(entity.ns[kind.slot()])?;
                    Some(NamespaceFact {
                        kind,
                        inum: ns.inum,
                        initial: ns.initial,
                    })
                })
                .collect(),
            cgroup: entity.home.clone(),
            init: self.world.task(&entity.init).map(|t| t.state),
            tasks: entity.tasks(),
        };
        let all = self.world.entities.iter();
        all.map(|(&id, entity)| fact(id, entity)).collect()
    }
}
