//! The birth of a container: what its first task has becomes its baseline, its cgroup its territory, and whoever
//! lives in the same compartment its tasks.

use super::Engine;
use super::holding::Entry;
use crate::engine::world::Entity;
use crate::engine::world::namespaces::NsIds;
use crate::inventory::cgroup_path;
use crate::inventory::container::{ContainerAnswer, Role};
use crate::model::facts::{EntityId, EntityProfile, HOST, NsId, ObjectKey, Origin};
use crate::model::output::EntityKind;
use crate::model::sorted::SortedMap;
use crate::model::{Confidence, NsKind};
use auditor_common::limits::CGROUP_SLOTS;
use auditor_common::record::{TaskKey, TaskState, ns};
use std::collections::BTreeSet;

/// Generations that are looked through for an ancestor.
pub(super) const MAX_DESCENT: usize = 64;

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

    /// Labels the init and whatever lives in the same compartment.
    fn gather(&mut self, id: EntityId, around: EntityId, state: &TaskState, ids: &NsIds) {
        self.label_as(state.key.tid, id, Entry::Sent);
        let own_pid = self
            .world
            .ns
            .get(ids[ns::PID])
            .is_some_and(|n| n.entity == Some(id));
        let mut near = self.world.members(ids[ns::MNT]);
        if own_pid {
            near.extend(self.world.members(ids[ns::PID]));
        }
        near.sort_unstable();
        near.dedup();
        let others: Vec<(u32, TaskState, NsIds)> = near
            .iter()
            .filter_map(|tid| self.world.tasks.get(tid))
            .filter(|t| t.label == around && t.state.key.tid != state.key.tid)
            .filter(|t| {
                self.world.ns.ids(t.set)[ns::MNT] == ids[ns::MNT]
                    || own_pid && self.world.ns.ids(t.set)[ns::PID] == ids[ns::PID]
            })
            .map(|t| (t.state.key.tid, t.state, *self.world.ns.ids(t.set)))
            .collect();
        let mut tids: Vec<u32> = Vec::new();
        for (tid, other, other_ids) in others {
            let same_pid = own_pid && other_ids[ns::PID] == ids[ns::PID];
            let same_mnt = other_ids[ns::MNT] == ids[ns::MNT];
            if same_pid && (same_mnt || !self.is_named_apart(state, &other))
                || self.inside(id, &other, &other_ids)
            {
                tids.push(tid);
            }
        }
        let entry = if self.started && !self.at_rest {
            Entry::Sent
        } else {
            Entry::AtRest
        };
        for tid in tids {
            let is_runtime = self.still_runs_runtime(tid, around);
            self.label_as(tid, id, entry);
            if let Some(task) = self.world.tasks.get_mut(&tid) {
                task.arriving |= is_runtime;
            }
        }
    }

    /// Whether a task runs the program of who made it from outside: a sandbox leaves a part of itself inside, to reap what
    /// ends there, which closes behind itself what it needed on the way.
    fn still_runs_runtime(&self, tid: u32, around: EntityId) -> bool {
        let Some(task) = self.world.tasks.get(&tid) else {
            return false;
        };
        let maker = self.world.task(&task.state.parent);
        maker.is_some_and(|maker| {
            maker.label == around && task.exe.is_some() && maker.exe == task.exe
        })
    }

    /// Whether a task's cgroup is another container's by name. Containers of one pod may share a pid namespace, which
    /// is the sandbox's: at rest it does not tell them apart, but their cgroups do.
    fn is_named_apart(&self, init: &TaskState, other: &TaskState) -> bool {
        let (own, others) = (self.home_of(init), self.home_of(other));
        // The outermost name: what stands below it was made inside.
        let Some(found) = cgroup_path::enclosing(&others).next() else {
            return false;
        };
        let theirs = found.subtree(&others);
        let is_within = |path: &str, tree: &str| {
            path.strip_prefix(tree)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        !is_within(&own, theirs) && !is_within(theirs, &own)
    }

    /// What a container's init bore before anybody knew that it is one is the container's too, wherever it has
    /// gone meanwhile: without a pid namespace of its own, a container begins when its runtime has written it down.
    pub(super) fn gather_children(&mut self, init: &TaskKey, around: EntityId) {
        let label = self.world.label(init);
        if label == around {
            return;
        }
        let mut children: Vec<u32> = self
            .world
            .tasks
            .values()
            .filter(|task| task.label == around && self.descends(&task.state, init))
            .map(|task| task.state.key.tid)
            .collect();
        children.sort_unstable();
        for tid in children {
            if let Some(task) = self.world.tasks.get_mut(&tid) {
                task.confidence = Confidence::Inferred;
            }
            self.set_label(tid, label);
        }
    }

    /// Whether a task is a child, or a child of a child, of another.
    fn descends(&self, state: &TaskState, from: &TaskKey) -> bool {
        let mut parent = state.parent;
        for _ in 0..MAX_DESCENT {
            if parent == *from {
                return true;
            }
            match self.world.task(&parent) {
                Some(task) => parent = task.state.parent,
                None => return false,
            }
        }
        false
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
