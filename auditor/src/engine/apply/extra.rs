//! What a task makes its container hold beside namespaces: a foreign root, a foreign working directory, foreign
//! files, a place in a foreign cgroup.

use super::Engine;
use crate::engine::rule::directory::Directory;
use crate::engine::world::cgroups::slots_in;
use crate::engine::world::{Entity, Reference};
use crate::model::facts::{EntityId, HOST, ObjectKey};
use auditor_common::record::TaskState;

impl Engine {
    /// Whether a task makes its container hold, beside namespaces, just what it did.
    pub(super) fn stays(&self, tid: u32, after: &TaskState) -> bool {
        let Some(task) = self.world.tasks.get(&tid) else {
            return false;
        };
        let before = &task.state;
        if before.root != after.root || before.cwd != after.cwd || before.cgroups != after.cgroups {
            return false;
        }
        // The same place may have become foreign: its owner may be known only now.
        task.label == HOST || {
            let extra = self.extra_of(task.label, after, &task.references);
            task.extra.iter().map(|(o, _)| *o).eq(extra)
        }
    }

    /// Recomputes what a task makes its container hold beside namespaces: foreign root, foreign cwd,
    /// foreign files, foreign territory.
    pub(in crate::engine) fn refresh_extra(&mut self, tid: u32) {
        let Some(task) = self.world.tasks.get(&tid) else {
            return;
        };
        if task.label == HOST {
            return;
        }
        let extra = self.extra_of(task.label, &task.state, &task.references);
        self.set_extra(tid, extra);
    }

    pub(super) fn extra_of(
        &self,
        label: EntityId,
        state: &TaskState,
        references: &[Reference],
    ) -> Vec<ObjectKey> {
        let entity = self.world.entities.get(&label);
        entity.map_or_else(Vec::new, |entity| {
            self.extra_in(label, entity, state, references)
        })
    }

    /// What a task in this state makes its container hold.
    pub(super) fn extra_in(
        &self,
        label: EntityId,
        entity: &Entity,
        state: &TaskState,
        references: &[Reference],
    ) -> Vec<ObjectKey> {
        let mut extra = Vec::new();
        if let Some(id) = Directory::Root.foreign_mount_ns(&self.world, state) {
            extra.push(ObjectKey::Root(id));
        }
        if let Some(id) = Directory::Cwd.foreign_mount_ns(&self.world, state) {
            extra.push(ObjectKey::Cwd(id));
        }
        extra.extend(references.iter().map(|held| ObjectKey::Reference(held.ns)));
        for slot in slots_in(entity.slots) {
            let Some(key) = self.world.cgroup_key(state, slot) else {
                continue;
            };
            let place = self.world.cgroups.territory(key);
            let inside =
                place == entity.territory || place != HOST && self.world.contains(label, place);
            if !inside && !extra.contains(&ObjectKey::Territory(place)) {
                extra.push(ObjectKey::Territory(place));
            }
        }
        extra
    }
}
