//! The birth of a container: what its first task has becomes its baseline, and its cgroup its territory.

use super::Engine;
use crate::engine::world::Entity;
use crate::engine::world::namespaces::NsIds;
use crate::inventory::cgroup_path;
use crate::inventory::container::{ContainerAnswer, Role};
use crate::model::facts::{EntityId, EntityProfile, HOST, NsId, ObjectKey, Origin};
use crate::model::output::EntityKind;
use crate::model::sorted::SortedMap;
use crate::model::{Confidence, NsKind};
use auditor_common::limits::CGROUP_SLOTS;
use auditor_common::record::{TaskState, ns};
use std::collections::BTreeSet;

impl Engine {
    /// A key that no living container has. Sandboxes of one session stand in one cgroup.
    fn unused(&self, key: String) -> String {
        let is_used = |key: &str| self.world.entities.values().any(|e| e.key == key);
        if !is_used(&key) {
            return key;
        }
        let mut numbered = (2_u32..).map(|number| format!("{key}#{number}"));
        numbered.find(|key| !is_used(key)).unwrap_or(key)
    }

    /// A container starts: what its first task has now is its baseline.
    pub(super) fn freeze(
        &mut self,
        state: &TaskState,
        around: EntityId,
        answer: Option<&ContainerAnswer>,
    ) {
        let Some(task) = self.world.tasks.get(&state.key.tid) else {
            return;
        };
        let ids = *self.world.ns.ids(task.set);
        let home = self.home_of(state);
        let identity = answer
            .cloned()
            .or_else(|| self.named_by_path(state, around));
        let mut key = identity.as_ref().map_or_else(
            || format!("unknown:{home}"),
            |a| [a.runtime.as_str(), ":", a.id.as_str()].concat(),
        );
        if around != HOST
            && let Some(outer) = self.world.entities.get(&around)
        {
            // Names made inside of a container are that container's claims and stand under it.
            key = format!("{}/{key}", outer.key);
        }
        if identity.is_none() {
            key = self.unused(key);
        }
        let id = self.world.new_entity_id();
        let (slots, territory, strangers) = self.claim(id, state, &ids, around, identity.is_some());
        let origins = self.origins(
            &ids,
            around,
            identity.as_ref().and_then(|a| a.spec.as_ref()),
            None,
        );
        let entity = Entity {
            kind: EntityKind::Container,
            key,
            answer: identity.map(Box::new),
            init: state.key,
            home,
            slots,
            territory,
            ns: ids,
            origins,
            root: (state.root.dev, state.root.ino),
            permitted: state.creds.cap_permitted,
            parent: around,
            sets: SortedMap::default(),
            confidence: Confidence::Exact,
        };
        self.settle(id, entity);
        self.gather(id, around, state, &ids);
        self.refresh_extras(&strangers);
        self.look_at(id, true);
    }

    fn named_by_path(&self, state: &TaskState, around: EntityId) -> Option<ContainerAnswer> {
        let paths = self.world.cgroup_paths(state);
        let (index, found) = cgroup_path::identify_any(paths.iter().copied())?;
        let path = paths[index];
        if self
            .world
            .cgroups
            .claimant(found.subtree(path))
            .is_some_and(|owner| owner == around)
        {
            // The path names the container around it, not this one.
            return None;
        }
        (found.identity.role != Role::Sandbox || around == HOST)
            .then(|| ContainerAnswer::from_identity(path, found.identity))
    }

    /// Claims the subtrees of the container's cgroups. Gives the slots that count and whose territory
    /// they are: another's, where two containers share a cgroup; and who may sit there uninvited.
    fn claim(
        &mut self,
        id: EntityId,
        state: &TaskState,
        ids: &NsIds,
        around: EntityId,
        is_named: bool,
    ) -> (u16, EntityId, BTreeSet<EntityId>) {
        let mut strangers = BTreeSet::new();
        let parent = self.world.task(&state.parent).map(|t| t.state.cgroups);
        let mut slots = 0;
        let mut territory = id;
        for slot in 0..CGROUP_SLOTS {
            let Some(key) = self.world.cgroup_key(state, slot) else {
                continue;
            };
            let Some(path) = self.world.cgroups.path(key).map(str::to_owned) else {
                continue;
            };
            if path == "/" || parent.is_some_and(|p| p[slot] == state.cgroups[slot]) {
                continue;
            }
            let subtree = cgroup_path::identify(&path)
                .map_or(path.as_str(), |found| &path[..found.subtree_len])
                .to_owned();
            let claimant = self.world.cgroups.claimant(&subtree);
            match claimant {
                Some(owner) if owner != id && owner != around => {
                    territory = owner;
                    slots |= 1 << slot;
                }
                Some(owner) if owner == around && around != HOST => {}
                _ => {
                    if !is_named && !self.is_alone(state, ids[ns::PID], slot) {
                        continue;
                    }
                    let before = self.world.cgroups.territory(key);
                    self.world.cgroups.claim(&subtree, id);
                    slots |= 1 << slot;
                    strangers.extend(self.other_holders(ObjectKey::Territory(before), before));
                    strangers.extend(self.containers_of(before));
                }
            }
        }
        (slots, territory, strangers)
    }

    /// Whether no task outside of this one's pid namespace sits in the same cgroup. A namespace that ended may
    /// have had the number of this one.
    fn is_alone(&self, state: &TaskState, pid: NsId, slot: usize) -> bool {
        self.world.tasks.values().all(|other| {
            other.state.cgroups[slot] != state.cgroups[slot]
                || self.world.ns.ids(other.set)[ns::PID] == pid
        })
    }

    /// Puts an entity in place: its namespaces become its own, the index learns what it holds.
    pub(super) fn settle(&mut self, id: EntityId, entity: Entity) {
        let (ids, origins) = (entity.ns, entity.origins);
        let (territory, slots) = (entity.territory, entity.slots);
        let (parent, init) = (entity.parent, entity.init);
        let mut taken = Vec::new();
        for (&kind, (&object, origin)) in NsKind::ALL.iter().zip(ids.iter().zip(origins)) {
            self.world.ns.pin(object);
            if let Some(namespace) = self.world.ns.get_mut(object)
                && !namespace.initial
                && namespace.entity.is_none()
                && origin != Origin::Declared
                && (namespace.made_by == parent || namespace.made_by == HOST)
            {
                taken.push((ObjectKey::ns(kind, object), namespace.made_by));
                namespace.entity = Some(id);
            }
        }
        self.world.begin(id, entity);
        self.index.insert_entity(id, self.profile(id));
        self.judge_grant(id);
        self.judge_company(id);
        let own = territory == id || slots == 0;
        let origin = if own { Origin::Own } else { Origin::Undeclared };
        self.index.hold(id, ObjectKey::Territory(territory), origin);
        self.index
            .hold(id, ObjectKey::Root(ids[ns::MNT]), origins[ns::MNT]);
        if origins[ns::MNT] == Origin::Own {
            // Whoever else has a file of it took it.
            self.index
                .hold(id, ObjectKey::Reference(ids[ns::MNT]), Origin::Own);
        }
        self.open_account(id);
        self.set_ownership(id, &ids);
        self.set_reach(id, &ids, &init);
        let mut others = BTreeSet::new();
        for (object, owner) in taken {
            let reaches = |other: &EntityId| {
                let reached = owner != HOST && self.world.contains(*other, owner);
                reached != self.world.contains(*other, id)
            };
            others.extend(self.other_holders(object, id).into_iter().filter(reaches));
        }
        for other in others {
            self.rejudge(other);
        }
    }

    /// What policy and pair classes look at.
    pub(in crate::engine) fn profile(&self, id: EntityId) -> EntityProfile {
        let Some(entity) = self.world.entities.get(&id) else {
            return EntityProfile::host();
        };
        let mut profile = EntityProfile::new(entity.kind, entity.key.clone());
        profile.parent = (entity.parent != HOST).then_some(entity.parent);
        profile.uid = self.world.task(&entity.init).map(|t| t.state.creds.uid);
        if let Some(answer) = &entity.answer {
            profile.runtime = Some(answer.runtime.as_str().to_owned());
            profile.image.clone_from(&answer.image);
            profile.name.clone_from(&answer.name);
            profile.labels = answer.labels.clone();
            if let Some(pod) = &answer.pod {
                profile.namespace.clone_from(&pod.namespace);
                profile.pod = pod.uid.clone().or_else(|| pod.sandbox_id.clone());
            }
        }
        profile
    }

    /// A container and those around it.
    pub(super) fn containers_of(&self, id: EntityId) -> BTreeSet<EntityId> {
        let mut all = BTreeSet::new();
        let mut at = id;
        while at != HOST && all.insert(at) {
            at = self.world.entities.get(&at).map_or(HOST, |e| e.parent);
        }
        all
    }
}
