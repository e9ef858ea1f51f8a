//! What an entity holds because of its tasks: their namespaces, one set at a time, and what a single task
//! has beside them. The index is told when the first task brings something and when the last one lets go.

use super::Engine;
use crate::engine::rule;
use crate::engine::world::Entity;
use crate::engine::world::namespaces::{NO_NS, NsIds, SetId};
use crate::model::facts::{EntityId, HOST, NsId, ObjectKey, Origin};
use crate::model::{Dimension, NsKind};
use std::collections::{BTreeMap, BTreeSet};

/// How a task became an entity's, which decides how the entity came by what the task brings.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) enum Entry {
    /// From outside: whoever sent it in gave what it has. Runtimes do not join the cgroup and time
    /// namespaces in every exec.
    Sent,
    /// From a task of the entity with this set: what that one was given stays given.
    From(SetId),
    /// Nobody saw.
    Found,
    /// A sweep found it there. What it has besides was its own doing, but for the namespaces that
    /// runtimes do not join when they enter.
    AtRest,
}

/// What a task leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Others of its entity.
    Inhabited,
    /// Nobody: the entity ends, and what it still holds with it.
    Empty,
}

impl Engine {
    /// How an entity came by a namespace.
    fn origin(&self, entity: &Entity, id: EntityId, kind: NsKind, object: NsId) -> Origin {
        if entity.ns[kind.slot()] == object {
            return entity.origins[kind.slot()];
        }
        if kind.object_kind() != kind && entity.ns[kind.object_kind().slot()] == object {
            return entity.origins[kind.object_kind().slot()];
        }
        let owner = rule::owner(&self.world, object);
        let below = owner != HOST && self.world.contains(id, owner);
        let initial = self.world.ns.get(object).is_some_and(|n| n.initial);
        if below && !initial {
            Origin::Own
        } else {
            Origin::Acquired
        }
    }

    fn objects_of(&self, id: EntityId, ids: &NsIds) -> Vec<(ObjectKey, Origin)> {
        let Some(entity) = self.world.entities.get(&id) else {
            return Vec::new();
        };
        NsKind::ALL
            .iter()
            .filter(|kind| ids[kind.slot()] != NO_NS)
            .map(|&kind| {
                let object = ids[kind.slot()];
                (
                    ObjectKey::ns(kind, object),
                    self.origin(entity, id, kind, object),
                )
            })
            .collect()
    }

    /// One more of the entity's tasks has this set of namespaces.
    pub(in crate::engine) fn join_set(&mut self, id: EntityId, set: SetId, entry: Entry) {
        let Some(entity) = self.world.entities.get_mut(&id) else {
            return;
        };
        let holding = entity.sets.entry(set);
        holding.tasks += 1;
        if holding.tasks > 1 {
            return;
        }
        let held = self.judge_set(id, set, entry);
        self.index.hold_all(id, &held);
        let entity = self.world.entities.get_mut(&id);
        if let Some(holding) = entity.and_then(|e| e.sets.get_mut(&set)) {
            holding.held = held;
        }
    }

    /// One less; the last one with a set releases what was held by it.
    #[must_use]
    pub(super) fn leave_set(&mut self, id: EntityId, set: SetId) -> Left {
        let Some(entity) = self.world.entities.get_mut(&id) else {
            return Left::Inhabited;
        };
        let Some(holding) = entity.sets.get_mut(&set) else {
            return Left::Inhabited;
        };
        holding.tasks = holding.tasks.saturating_sub(1);
        if holding.tasks > 0 {
            return Left::Inhabited;
        }
        let held = std::mem::take(&mut holding.held);
        entity.sets.remove(&set);
        if entity.sets.is_empty() {
            return Left::Empty;
        }
        for (object, origin) in held {
            self.index.release(id, object, origin);
        }
        Left::Inhabited
    }

    /// What tasks with this set make their entity hold.
    fn judge_set(&self, id: EntityId, set: SetId, entry: Entry) -> Vec<(ObjectKey, Origin)> {
        let mut held = self.objects_of(id, self.world.ns.ids(set));
        let given: Vec<ObjectKey> = match entry {
            Entry::Found => Vec::new(),
            Entry::Sent => held.iter().map(|(object, _)| *object).collect(),
            Entry::AtRest => held
                .iter()
                .map(|(object, _)| *object)
                .filter(|o| matches!(o.dimension(), Dimension::CgroupNs | Dimension::Time))
                .collect(),
            Entry::From(old) => {
                let entity = self.world.entities.get(&id);
                let old = entity.and_then(|e| e.sets.get(&old));
                let held = old.into_iter().flat_map(|h| &h.held);
                held.filter(|(_, origin)| *origin == Origin::Granted)
                    .map(|(object, _)| *object)
                    .collect()
            }
        };
        for (object, origin) in &mut held {
            if *origin == Origin::Acquired && given.contains(object) {
                *origin = Origin::Granted;
            }
        }
        held
    }

    /// What is known of the entity's baseline changed: what its tasks hold is judged anew. What the host
    /// gave stays given.
    pub(in crate::engine) fn judge_set_again(&mut self, id: EntityId, set: SetId) {
        let entity = self.world.entities.get(&id);
        let Some(old) = entity
            .and_then(|e| e.sets.get(&set))
            .map(|h| h.held.clone())
        else {
            return;
        };
        let mut new = self.judge_set(id, set, Entry::Found);
        for (object, origin) in &mut new {
            if old.contains(&(*object, Origin::Granted)) {
                *origin = Origin::Granted;
            }
        }
        // First the new, then the old: nothing may look released in between.
        self.index.hold_all(id, &new);
        for (object, origin) in old {
            self.index.release(id, object, origin);
        }
        let entity = self.world.entities.get_mut(&id);
        if let Some(holding) = entity.and_then(|e| e.sets.get_mut(&set)) {
            holding.held = new;
        }
    }

    /// Judges anew what an entity's tasks hold: whose it is has changed.
    pub(super) fn rejudge(&mut self, id: EntityId) {
        let Some(entity) = self.world.entities.get(&id) else {
            return;
        };
        let sets: Vec<_> = entity.sets.keys().copied().collect();
        for set in sets {
            let new = self.judge_set(id, set, Entry::From(set));
            let entity = self.world.entities.get_mut(&id);
            let Some(holding) = entity.and_then(|e| e.sets.get_mut(&set)) else {
                continue;
            };
            let old = std::mem::replace(&mut holding.held, new.clone());
            self.index.hold_all(id, &new);
            for (object, origin) in old {
                self.index.release(id, object, origin);
            }
        }
        self.refresh_extras(&BTreeSet::from([id]));
    }

    /// At the start nobody knows who made what is in no container's baseline: the innermost container that all who are in
    /// it belong to. An administrator of the host who is in it leaves it the host's.
    pub(super) fn attribute_namespaces(&mut self) {
        let baselines: BTreeSet<NsId> = (self.world.entities.values())
            .flat_map(|entity| entity.ns)
            .collect();
        let mut users: BTreeMap<NsId, EntityId> = BTreeMap::new();
        let mut holders: BTreeMap<NsId, BTreeSet<EntityId>> = BTreeMap::new();
        for task in self.world.tasks.values() {
            for id in self.world.ns.ids(task.set) {
                if baselines.contains(id) {
                    continue;
                }
                let of = users.entry(*id).or_insert(task.label);
                while !self.world.contains(*of, task.label) {
                    *of = self.world.entity(*of).parent;
                }
                holders.entry(*id).or_default().insert(task.label);
            }
        }
        let mut labels = BTreeSet::new();
        for (id, maker) in users {
            if maker != HOST && self.world.ns.attribute(id, maker) {
                labels.extend(holders.remove(&id).unwrap_or_default());
            }
        }
        for label in labels {
            self.rejudge(label);
        }
    }

    /// Replaces what a task alone makes its container hold. All of it is acquired.
    pub(in crate::engine) fn set_extra(&mut self, tid: u32, extra: Vec<ObjectKey>) {
        let Some(task) = self.world.tasks.get(&tid) else {
            return;
        };
        let label = task.label;
        let judged = |object| (object, self.extra_origin(label, object));
        let new: Vec<_> = extra.into_iter().map(judged).collect();
        let Some(task) = self.world.tasks.get_mut(&tid) else {
            return;
        };
        let old = std::mem::replace(&mut task.extra, new.clone());
        if old == new || label == HOST {
            return;
        }
        self.index.hold_all(label, &new);
        for (object, origin) in old {
            self.index.release(label, object, origin);
        }
    }

    fn extra_origin(&self, label: EntityId, object: ObjectKey) -> Origin {
        let (ObjectKey::Root(id) | ObjectKey::Cwd(id) | ObjectKey::Reference(id)) = object else {
            return Origin::Acquired;
        };
        let owner = rule::owner(&self.world, id);
        if owner != HOST && self.world.contains(label, owner) {
            Origin::Own
        } else {
            Origin::Acquired
        }
    }

    /// Recomputes what the tasks of these entities hold beside their namespaces. Walks all tasks: for
    /// rare use.
    pub(super) fn refresh_extras(&mut self, labels: &BTreeSet<EntityId>) {
        if labels.is_empty() {
            return;
        }
        let mut tids: Vec<u32> = self
            .world
            .tasks
            .values()
            .filter(|t| t.label != HOST && labels.contains(&t.label))
            .map(|t| t.state.key.tid)
            .collect();
        tids.sort_unstable();
        for tid in tids {
            self.refresh_extra(tid);
        }
    }

    /// Who besides `but` holds an object.
    pub(in crate::engine) fn other_holders(
        &self,
        object: ObjectKey,
        but: EntityId,
    ) -> BTreeSet<EntityId> {
        let holders = self.index.holders(object).iter().map(|(id, _)| *id);
        holders.filter(|id| *id != but && *id != HOST).collect()
    }
}
