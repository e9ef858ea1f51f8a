//! Who belongs to whom and who shares what, as isolation.md says it: over true objects, by brute
//! force, nothing kept but the sticky labels and the frozen baselines. ι over the holds that follow
//! is the business of the oracle of the isolation index.

use super::kernel::{Kernel, Obj, Task};
use crate::model::NsKind;
use crate::model::facts::{EntityId, HOST, NsId, ObjectKey, Origin};
use crate::model::isolation::tests::oracle::{Oracle as Algebra, Who};
use crate::model::output::EntityKind;
use crate::model::policy::REQUIRED;
use auditor_common::limits::NS_SLOTS;
use auditor_common::record::{TaskKey, ns};
use std::collections::BTreeMap;

/// An entity by order of birth; 0 is the host.
pub(super) type Ent = u32;

/// The namespaces on which a task must match a container to become part of it.
const DECISIVE: [NsKind; 6] = [
    NsKind::Mnt,
    NsKind::Pid,
    NsKind::Net,
    NsKind::Ipc,
    NsKind::Uts,
    NsKind::User,
];

#[derive(Clone, Debug)]
pub(super) struct Entity {
    pub(super) init: TaskKey,
    pub(super) parent: Ent,
    pub(super) base: [Obj; NS_SLOTS],
    root_ino: u64,
    /// Whose subtree it lives in; `None`: none counts.
    territory: Option<Ent>,
    /// The subtree that it claims.
    claim: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Oracle {
    pub(super) labels: BTreeMap<u32, Ent>,
    pub(super) entities: BTreeMap<Ent, Entity>,
    /// Who made a namespace.
    made: BTreeMap<Obj, Ent>,
    /// Whose baseline took it over.
    taken: BTreeMap<Obj, Ent>,
    /// Namespaces that a task had when it was sent into its container, or has from such a task.
    given: BTreeMap<u32, Vec<(usize, Obj)>>,
    next: Ent,
}

impl Oracle {
    pub(super) fn new(kernel: &Kernel) -> Self {
        let init = &kernel.tasks[&1];
        let host = Entity {
            init: init.key,
            parent: 0,
            base: init.ns,
            root_ino: init.root.1,
            territory: None,
            claim: None,
        };
        Self {
            labels: [(1, 0)].into(),
            entities: [(0, host)].into(),
            next: 1,
            ..Self::default()
        }
    }

    pub(super) fn label(&self, tid: u32) -> Ent {
        self.labels.get(&tid).copied().unwrap_or(0)
    }

    /// Reflexive; everything is in the host.
    pub(super) fn contains(&self, outer: Ent, inner: Ent) -> bool {
        let mut at = inner;
        loop {
            if at == outer {
                return true;
            }
            if at == 0 {
                return false;
            }
            at = self.entities[&at].parent;
        }
    }

    fn owner(&self, object: Obj) -> Ent {
        let taken = self.taken.get(&object).copied();
        taken.unwrap_or_else(|| self.made.get(&object).copied().unwrap_or(0))
    }

    /// Whose subtree a cgroup lies in: the longest claim on its path.
    fn territory(&self, kernel: &Kernel, cgroup: u64) -> Ent {
        let path = &kernel.cgroups[&cgroup];
        let below = |claim: &str| {
            path.strip_prefix(claim)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.entities
            .iter()
            .filter_map(|(&id, e)| Some((e.claim.as_deref()?, id)))
            .filter(|(claim, _)| below(claim))
            .max_by_key(|(claim, _)| claim.len())
            .map_or(0, |(_, id)| id)
    }

    fn is_own_place(&self, id: Ent, territory: Ent, place: Ent) -> bool {
        place == territory || place != 0 && self.contains(id, place)
    }

    fn inside(&self, kernel: &Kernel, id: Ent, task: &Task) -> bool {
        let entity = &self.entities[&id];
        let around = &self.entities[&entity.parent];
        let matches = DECISIVE.iter().map(|k| k.slot()).all(|slot| {
            entity.base[slot] == around.base[slot] || entity.base[slot] == task.ns[slot]
        });
        let place = self.territory(kernel, task.cgroup);
        matches
            && entity
                .territory
                .is_none_or(|territory| self.is_own_place(id, territory, place))
    }

    pub(super) fn made_by(&mut self, tid: u32, objects: &[Obj]) {
        let label = self.label(tid);
        for &object in objects {
            self.made.insert(object, label);
        }
    }

    pub(super) fn born(&mut self, tid: u32, parent: u32) {
        let label = self.label(parent);
        self.labels.insert(tid, label);
        let given = self.given.get(&parent).cloned().unwrap_or_default();
        self.given.insert(tid, given);
    }

    /// What a task leaves is not given any more.
    pub(super) fn switched(&mut self, task: &Task) {
        let given = self.given.entry(task.key.tid).or_default();
        given.retain(|(slot, object)| task.ns[*slot] == *object);
    }

    /// At birth into other namespaces or cgroups, at a switch, at an attach.
    pub(super) fn take(&mut self, kernel: &Kernel, tid: u32) {
        let task = &kernel.tasks[&tid];
        self.switched(task);
        let label = self.label(tid);
        let found = self.territory(kernel, task.cgroup);
        if found == 0 || found == label || !self.contains(label, found) {
            return;
        }
        let candidates: Vec<Ent> = self
            .entities
            .iter()
            .filter(|(_, e)| e.territory == Some(found))
            .map(|(&id, _)| id)
            .collect();
        for id in candidates {
            if self.inside(kernel, id, task) && self.contains(label, id) {
                self.relabel(task, id);
                return;
            }
        }
    }

    /// After an exec: the first one of an init whose root has left makes a container.
    pub(super) fn executed(&mut self, kernel: &Kernel, tid: u32, named: bool) {
        let task = &kernel.tasks[&tid];
        let label = self.label(tid);
        let around = self.entities[&label].clone();
        let own = |slot: usize| task.ns[slot] != around.base[slot];
        let left = task.pivoted || task.root.1 != around.root_ino;
        let mnt = task.ns[ns::MNT];
        let known = self.taken.contains_key(&mnt) || self.entities[&0].base.contains(&mnt);
        if !own(ns::MNT) || known || !left || !(named || own(ns::PID)) {
            return;
        }
        let id = self.next;
        self.next += 1;
        let (territory, claim) = self.claim(kernel, id, task, label, named);
        let entity = Entity {
            init: task.key,
            parent: label,
            base: task.ns,
            root_ino: task.root.1,
            territory,
            claim,
        };
        for object in task.ns {
            let initial = self.entities[&0].base.contains(&object);
            let owner = self.owner(object);
            let free = !self.taken.contains_key(&object) && (owner == label || owner == 0);
            if !initial && free {
                self.taken.insert(object, id);
            }
        }
        self.entities.insert(id, entity);
        self.gather(kernel, id, label, tid);
    }

    fn claim(
        &self,
        kernel: &Kernel,
        id: Ent,
        task: &Task,
        label: Ent,
        named: bool,
    ) -> (Option<Ent>, Option<String>) {
        let path = &kernel.cgroups[&task.cgroup];
        let parent = kernel.tasks.get(&task.parent.tid);
        let with_parent = parent.is_some_and(|p| p.key == task.parent && p.cgroup == task.cgroup);
        if path == "/" || with_parent {
            return (None, None);
        }
        let mut claimants = self.entities.iter();
        let claimant = claimants.find(|(_, e)| e.claim.as_ref() == Some(path));
        match claimant.map(|(&owner, _)| owner) {
            Some(owner) if owner != label => (Some(owner), None),
            Some(_) => (None, None),
            None => {
                let alone = kernel.tasks.values().all(|other| {
                    other.cgroup != task.cgroup || other.ns[ns::PID] == task.ns[ns::PID]
                });
                if named || alone {
                    (Some(id), Some(path.clone()))
                } else {
                    (None, None)
                }
            }
        }
    }

    /// The init, and whoever lives in the same compartment.
    fn gather(&mut self, kernel: &Kernel, id: Ent, label: Ent, init: u32) {
        let base = self.entities[&id].base;
        let own_pid = self.taken.get(&base[ns::PID]) == Some(&id);
        let others: Vec<u32> = kernel
            .tasks
            .values()
            .filter(|t| self.label(t.key.tid) == label && t.key.tid != init)
            .filter(|t| {
                let same_pid = own_pid && t.ns[ns::PID] == base[ns::PID];
                let same_mnt = t.ns[ns::MNT] == base[ns::MNT];
                same_pid || same_mnt && self.inside(kernel, id, t)
            })
            .map(|t| t.key.tid)
            .collect();
        self.relabel(&kernel.tasks[&init], id);
        for tid in others {
            self.relabel(&kernel.tasks[&tid], id);
        }
    }

    fn relabel(&mut self, task: &Task, id: Ent) {
        let tid = task.key.tid;
        self.given
            .insert(tid, task.ns.into_iter().enumerate().collect());
        let old = self.labels.insert(tid, id).unwrap_or(0);
        self.end_if_empty(old);
    }

    pub(super) fn gone(&mut self, tid: u32) {
        self.given.remove(&tid);
        let old = self.labels.remove(&tid).unwrap_or(0);
        self.end_if_empty(old);
    }

    fn end_if_empty(&mut self, id: Ent) {
        if id == 0 || self.labels.values().any(|l| *l == id) {
            return;
        }
        let Some(entity) = self.entities.remove(&id) else {
            return;
        };
        // What was its own and what was nested in it belongs to those around it.
        let parent = entity.parent;
        self.taken.retain(|_, e| *e != id);
        for object in entity.base {
            if !self.entities[&0].base.contains(&object) && !self.taken.contains_key(&object) {
                let made = self.made.entry(object).or_insert(0);
                if *made == id {
                    *made = parent;
                }
            }
        }
        self.made
            .values_mut()
            .filter(|e| **e == id)
            .for_each(|e| *e = parent);
        self.entities
            .values_mut()
            .filter(|e| e.parent == id)
            .for_each(|e| e.parent = parent);
        // Of those that share its cgroup the oldest inherits the claim.
        let heir = self
            .entities
            .iter()
            .find(|(_, e)| e.territory == Some(id))
            .map(|(&h, _)| h);
        if let (Some(heir), Some(claim)) = (heir, entity.claim) {
            self.entities.get_mut(&heir).unwrap().claim = Some(claim);
            for e in self
                .entities
                .values_mut()
                .filter(|e| e.territory == Some(id))
            {
                e.territory = Some(heir);
            }
        }
    }

    fn origin(&self, id: Ent, slot: usize, object: Obj) -> Origin {
        let entity = &self.entities[&id];
        let kind = NsKind::ALL[slot].object_kind().slot();
        if entity.base[slot] == object || entity.base[kind] == object {
            return if id == 0 {
                Origin::Own
            } else {
                Origin::Baseline
            };
        }
        self.taken_or_own(id, object)
    }

    fn taken_or_own(&self, id: Ent, object: Obj) -> Origin {
        let owner = self.owner(object);
        if owner != 0 && self.contains(id, owner) {
            Origin::Own
        } else {
            Origin::Acquired
        }
    }

    fn held_by_entity(&self, id: Ent) -> Vec<(ObjectKey, Origin)> {
        let entity = &self.entities[&id];
        let mnt = NsId(u32::try_from(entity.base[ns::MNT]).unwrap());
        let territory = entity.territory.unwrap_or(id);
        let alone = territory == id;
        let place = if alone {
            Origin::Own
        } else {
            Origin::Undeclared
        };
        let root = if id == 0 {
            Origin::Own
        } else {
            Origin::Baseline
        };
        let mut held = vec![
            (ObjectKey::Territory(EntityId(territory)), place),
            (ObjectKey::Root(mnt), root),
        ];
        if id == 0 {
            held.push((ObjectKey::Cwd(mnt), Origin::Own));
            for &kind in NsKind::ALL {
                let object = NsId(u32::try_from(entity.base[kind.slot()]).unwrap());
                held.push((ObjectKey::ns(kind, object), Origin::Own));
            }
        }
        held
    }

    fn held_by_task(&self, kernel: &Kernel, id: Ent, task: &Task) -> Vec<(ObjectKey, Origin)> {
        let mut held = Vec::new();
        for &kind in NsKind::ALL {
            let object = task.ns[kind.slot()];
            let key = NsId(u32::try_from(object).unwrap());
            let mut origin = self.origin(id, kind.slot(), object);
            let given = &self.given[&task.key.tid];
            if origin == Origin::Acquired && given.contains(&(kind.slot(), object)) {
                origin = Origin::Granted;
            }
            held.push((ObjectKey::ns(kind, key), origin));
        }
        for (path, key) in [
            (task.root, ObjectKey::Root as fn(NsId) -> ObjectKey),
            (task.cwd, ObjectKey::Cwd),
        ] {
            if path.0 != task.ns[ns::MNT] && kernel.mount_alive(path.0) {
                let object = key(NsId(u32::try_from(path.0).unwrap()));
                held.push((object, self.taken_or_own(id, path.0)));
            }
        }
        if let Some(territory) = self.entities[&id].territory {
            let place = self.territory(kernel, task.cgroup);
            if !self.is_own_place(id, territory, place) {
                held.push((ObjectKey::Territory(EntityId(place)), Origin::Acquired));
            }
        }
        held
    }

    /// Entities and holds, as the algebra of ι wants them.
    pub(super) fn algebra(&self, kernel: &Kernel) -> Algebra {
        let mut algebra = Algebra {
            required: REQUIRED.into(),
            blind: Vec::new(),
            ..Algebra::default()
        };
        for (&id, entity) in &self.entities {
            let is_host = id == 0;
            let kind = if is_host {
                EntityKind::Host
            } else {
                EntityKind::Container
            };
            let parent = (entity.parent != 0).then_some(EntityId(entity.parent));
            let who = Who {
                kind,
                name: None,
                pod: None,
                parent,
            };
            let eid = if is_host { HOST } else { EntityId(id) };
            algebra.entities.insert(eid, who);
            for (object, origin) in self.held_by_entity(id) {
                algebra.holds.push((eid, object, origin));
            }
        }
        for task in kernel.tasks.values() {
            let id = self.label(task.key.tid);
            if id != 0 {
                for (object, origin) in self.held_by_task(kernel, id, task) {
                    algebra.holds.push((EntityId(id), object, origin));
                }
            }
        }
        algebra
    }
}
