//! Who belongs to whom: sticky labels, and the birth and end of containers.
//!
//! A container begins with the first exec *by its init* after its root left the host's: only then is
//! the runtime done, and what it has then is its baseline. Before that its tasks are the host's, even
//! inside its cgroup, so that nothing a runtime does can look like an escape. Other host tasks become
//! part of it when they sit in its cgroup *and* match it on every namespace that it does not share with
//! those around it; until then, and if they only enter namespaces, they stay the host's.
//!
//! A label is never cleared by changing namespace or cgroup: that is what makes an escape visible.

use super::Engine;
use super::event::{Query, Saved, SavedEntity, SavedLabel};
use super::rule::{self, Change};
use super::world::namespaces::{NO_NS, NsIds, SetId};
use super::world::{Entity, START_TOLERANCE_NS, Task};
use crate::inventory::cgroup_path;
use crate::inventory::container::{ContainerAnswer, Role, SpecSummary};
use crate::model::facts::{EntityId, EntityProfile, HOST, NsId, ObjectKey, Origin};
use crate::model::output::EntityKind;
use crate::model::{Confidence, Dimension, NsKind};
use auditor_common::hook;
use auditor_common::limits::{CGROUP_SLOTS, NS_SLOTS};
use auditor_common::record::{
    NsRef, RecordHeader, TaskKey, TaskRecord, TaskState, cause, kind, known, ns, path_flags,
};
use hashbrown::HashMap;
use std::collections::{BTreeMap, BTreeSet};

/// Questions that may be open at once. A driver answers each before the next event, so more are a bug
/// of the driver; they are dropped and their compartments stay the host's.
const MAX_PENDING: usize = 1024;
/// How often one cgroup's tasks are asked about in vain.
const MAX_ASKS: u32 = 64;
/// Living containers at most: beyond it new ones are not modelled (and counted as ignored).
const MAX_ENTITIES: usize = 1 << 16;

/// The namespaces that decide whether a task is inside a container. Runtimes do not join the cgroup and
/// time namespaces in every exec, so those do not.
const DECISIVE: [NsKind; 6] = [
    NsKind::Mnt,
    NsKind::Pid,
    NsKind::Net,
    NsKind::Ipc,
    NsKind::Uts,
    NsKind::User,
];

/// A compartment that waits for its name.
#[derive(Clone, Debug)]
pub(super) enum Pending {
    /// It becomes a container, or does not.
    Start(Compartment),
    /// It is one already.
    Name(EntityId),
}

/// A task in a compartment of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Compartment {
    key: TaskKey,
    label: EntityId,
    /// It has a pid namespace of its own.
    own_pid: bool,
}

/// Labels of an earlier run.
#[derive(Clone, Debug, Default)]
pub(super) struct Restored {
    labels: HashMap<u32, (u64, usize)>,
    entities: Vec<SavedEntity>,
    made: BTreeMap<usize, EntityId>,
}

impl Restored {
    /// What can be used of it: nothing, when the machine has booted since.
    pub(super) fn new(saved: &Saved, boot_id: &str) -> Self {
        if saved.boot_id != boot_id {
            return Self::default();
        }
        let labels = saved
            .labels
            .iter()
            .filter(|l| l.entity < saved.entities.len())
            .map(|l| (l.tid, (l.start_boottime_ns, l.entity)))
            .collect();
        Self {
            labels,
            entities: saved.entities.clone(),
            made: BTreeMap::new(),
        }
    }
}

/// A record of what is known, for findings that no single kernel record stands behind.
pub(super) fn record_of(
    state: &TaskState,
    cause: u32,
    syscall: i32,
    hook: u16,
    boottime_ns: u64,
) -> TaskRecord {
    let header = RecordHeader {
        boottime_ns,
        cpu_seq: 0,
        kind: kind::TASK,
        hook,
        cpu: 0,
        size: u16::try_from(size_of::<TaskRecord>()).unwrap_or(0),
    };
    TaskRecord {
        header,
        actor: state.key,
        cause,
        syscall,
        arg0: 0,
        arg1: 0,
        state: *state,
    }
}

/// How a task became an entity's, which decides how the entity came by what the task brings.
#[derive(Clone, Copy, Debug)]
enum Entry {
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

    pub(super) fn objects_of(&self, id: EntityId, ids: &NsIds) -> Vec<(ObjectKey, Origin)> {
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
    fn join_set(&mut self, id: EntityId, set: SetId, entry: Entry) {
        let Some(entity) = self.world.entities.get_mut(&id) else {
            return;
        };
        let holding = entity.sets.entry(set).or_default();
        holding.tasks += 1;
        if holding.tasks > 1 {
            return;
        }
        let held = self.judge_set(id, set, entry);
        for &(object, origin) in &held {
            self.index.hold(id, object, origin);
        }
        let entity = self.world.entities.get_mut(&id);
        if let Some(holding) = entity.and_then(|e| e.sets.get_mut(&set)) {
            holding.held = held;
        }
    }

    /// What is known of the entity's baseline changed: what its tasks hold is judged anew. What the host
    /// gave stays given.
    pub(super) fn judge_set_again(&mut self, id: EntityId, set: SetId) {
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
        for &(object, origin) in &new {
            self.index.hold(id, object, origin);
        }
        for (object, origin) in old {
            self.index.release(id, object, origin);
        }
        let entity = self.world.entities.get_mut(&id);
        if let Some(holding) = entity.and_then(|e| e.sets.get_mut(&set)) {
            holding.held = new;
        }
    }

    /// One less; the last one releases what was held.
    fn leave_set(&mut self, id: EntityId, set: SetId) {
        let Some(entity) = self.world.entities.get_mut(&id) else {
            return;
        };
        let Some(holding) = entity.sets.get_mut(&set) else {
            return;
        };
        holding.tasks = holding.tasks.saturating_sub(1);
        if holding.tasks == 0
            && let Some(holding) = entity.sets.remove(&set)
        {
            for (object, origin) in holding.held {
                self.index.release(id, object, origin);
            }
        }
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

    /// Judges anew what an entity's tasks hold: whose it is has changed.
    fn rejudge(&mut self, id: EntityId) {
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
            for (object, origin) in new {
                self.index.hold(id, object, origin);
            }
            for (object, origin) in old {
                self.index.release(id, object, origin);
            }
        }
        self.refresh_extras(&BTreeSet::from([id]));
    }

    /// Recomputes what the tasks of these entities hold beside their namespaces. Walks all tasks: for
    /// rare use.
    fn refresh_extras(&mut self, labels: &BTreeSet<EntityId>) {
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
    fn other_holders(&self, object: ObjectKey, but: EntityId) -> BTreeSet<EntityId> {
        let holders = self.index.holders(object).iter().map(|(id, _)| *id);
        holders.filter(|id| *id != but && *id != HOST).collect()
    }

    /// A container and those around it.
    fn containers_of(&self, id: EntityId) -> BTreeSet<EntityId> {
        let mut all = BTreeSet::new();
        let mut at = id;
        while at != HOST && all.insert(at) {
            at = self.world.entities.get(&at).map_or(HOST, |e| e.parent);
        }
        all
    }

    /// Roots and working directories in mount namespaces that ended belong to nobody any more; their
    /// inums may come back.
    pub(super) fn bury_mounts(&mut self) {
        for id in self.world.ns.take_retired_mounts() {
            let mut labels = self.other_holders(ObjectKey::Root(id), HOST);
            labels.extend(self.other_holders(ObjectKey::Cwd(id), HOST));
            if labels.is_empty() {
                continue;
            }
            let is_of = |t: &Task, object| t.extra.iter().any(|(o, _)| *o == object);
            for task in self.world.tasks.values_mut() {
                if is_of(task, ObjectKey::Root(id)) {
                    task.state.root.flags |= path_flags::DETACHED;
                }
                if is_of(task, ObjectKey::Cwd(id)) {
                    task.state.cwd.flags |= path_flags::DETACHED;
                }
            }
            self.refresh_extras(&labels);
        }
    }

    /// Gives a task a label of which nothing else is known.
    pub(super) fn set_label(&mut self, tid: u32, label: EntityId) {
        self.label_as(tid, label, Entry::Found);
    }

    /// Gives a newborn its parent's label; `set`: the parent's namespaces.
    pub(super) fn inherit_label(&mut self, tid: u32, label: EntityId, set: SetId) {
        self.label_as(tid, label, Entry::From(set));
    }

    fn label_as(&mut self, tid: u32, label: EntityId, entry: Entry) {
        let Some(task) = self.world.tasks.get(&tid) else {
            return;
        };
        if task.label == label {
            return;
        }
        self.unlabel(tid);
        if label == HOST || !self.world.entities.contains_key(&label) {
            return;
        }
        let Some(task) = self.world.tasks.get_mut(&tid) else {
            return;
        };
        task.label = label;
        let set = task.set;
        if let Some(entity) = self.world.entities.get_mut(&label) {
            entity.tasks += 1;
        }
        self.join_set(label, set, entry);
        self.refresh_extra(tid);
    }

    /// Takes a task out of its container's accounts; the last one ends the container.
    pub(super) fn unlabel(&mut self, tid: u32) {
        let Some(task) = self.world.tasks.get(&tid) else {
            return;
        };
        let (label, set) = (task.label, task.set);
        if label == HOST {
            return;
        }
        self.set_extra(tid, Vec::new());
        self.leave_set(label, set);
        if let Some(task) = self.world.tasks.get_mut(&tid) {
            task.label = HOST;
        }
        let Some(entity) = self.world.entities.get_mut(&label) else {
            return;
        };
        entity.tasks = entity.tasks.saturating_sub(1);
        if entity.tasks == 0 {
            self.end_entity(label);
        }
    }

    fn end_entity(&mut self, id: EntityId) {
        // Later it has no name any more.
        self.release_held(id);
        let Some(entity) = self.world.entities.remove(&id) else {
            return;
        };
        // What it made and others still use has no other owner than those around it.
        self.world.ns.bequeath(id, entity.parent);
        for object in entity.ns {
            self.world.ns.unpin(object);
        }
        let heir = self.heir(id);
        self.world.cgroups.release_claims(id, heir);
        let mut strangers = self.other_holders(ObjectKey::Territory(id), id);
        strangers.extend(self.containers_of(entity.parent));
        self.index.remove_entity(id);
        self.reporter.forget(id);
        if let Some(heir) = heir {
            self.inherit_territory(id, heir);
        }
        // What was nested in it is nested in what it was nested in.
        let orphans: Vec<EntityId> = self
            .world
            .entities
            .iter()
            .filter(|(_, e)| e.parent == id)
            .map(|(&orphan, _)| orphan)
            .collect();
        for orphan in orphans {
            if let Some(e) = self.world.entities.get_mut(&orphan) {
                e.parent = entity.parent;
            }
            self.index.insert_entity(orphan, self.profile(orphan));
        }
        self.refresh_extras(&strangers);
        self.bury_mounts();
    }

    /// The oldest of those that share an ended entity's cgroup.
    fn heir(&self, id: EntityId) -> Option<EntityId> {
        let mut others = self.world.entities.iter();
        others
            .find(|(other, e)| e.territory == id && **other != id)
            .map(|(&heir, _)| heir)
    }

    /// Whoever shared a cgroup with an entity that ended shares it with the heir.
    fn inherit_territory(&mut self, from: EntityId, heir: EntityId) {
        let sharing: Vec<EntityId> = self
            .world
            .entities
            .iter()
            .filter(|(_, e)| e.territory == from)
            .map(|(&id, _)| id)
            .collect();
        for id in sharing {
            if let Some(entity) = self.world.entities.get_mut(&id) {
                entity.territory = heir;
            }
            let origin = if id == heir {
                Origin::Own
            } else {
                Origin::Undeclared
            };
            self.index.hold(id, ObjectKey::Territory(heir), origin);
            self.index
                .release(id, ObjectKey::Territory(from), Origin::Undeclared);
        }
    }

    /// Replaces a task's namespaces.
    pub(super) fn set_namespaces(&mut self, tid: u32, ids: NsIds) {
        let Some(task) = self.world.tasks.get(&tid) else {
            return;
        };
        let (old, label) = (task.set, task.label);
        if *self.world.ns.ids(old) == ids {
            return;
        }
        let new = self.world.ns.new_set(ids);
        // First the new, then the old: an object in both must not look released in between.
        if label != HOST {
            self.join_set(label, new, Entry::From(old));
            self.leave_set(label, old);
        }
        self.world.switch(tid, new);
        self.world.ns.drop_set(old);
        self.bury_mounts();
    }

    /// Replaces what a task alone makes its container hold. All of it is acquired.
    pub(super) fn set_extra(&mut self, tid: u32, extra: Vec<ObjectKey>) {
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
        for (object, origin) in new {
            self.index.hold(label, object, origin);
        }
        for (object, origin) in old {
            self.index.release(label, object, origin);
        }
    }

    fn extra_origin(&self, label: EntityId, object: ObjectKey) -> Origin {
        let (ObjectKey::Root(id) | ObjectKey::Cwd(id)) = object else {
            return Origin::Acquired;
        };
        let owner = rule::owner(&self.world, id);
        if owner != HOST && self.world.contains(label, owner) {
            Origin::Own
        } else {
            Origin::Acquired
        }
    }

    /// Gives a task the label of the container that it is inside of now, if that lies within its
    /// present one. Returns its label.
    pub(super) fn take_label(&mut self, tid: u32) -> EntityId {
        let Some(task) = self.world.tasks.get(&tid) else {
            return HOST;
        };
        let label = task.label;
        let state = task.state;
        let ids = *self.world.ns.ids(task.set);
        let mut found = HOST;
        for slot in 0..CGROUP_SLOTS {
            let Some(key) = self.world.cgroup_key(&state, slot) else {
                continue;
            };
            let place = self.world.cgroups.territory(key);
            if place != HOST && (found == HOST || self.world.contains(found, place)) {
                found = place;
            }
        }
        if found == HOST || found == label || !self.world.contains(label, found) {
            return label;
        }
        // Several containers may share one cgroup; then the namespaces tell them apart.
        let candidates: Vec<EntityId> = self
            .world
            .entities
            .iter()
            .filter(|(_, e)| e.territory == found && e.slots != 0)
            .map(|(&id, _)| id)
            .collect();
        for id in candidates {
            if self.inside(id, &state, &ids) && self.world.contains(label, id) {
                self.label_as(tid, id, Entry::Sent);
                return id;
            }
        }
        label
    }

    /// A task whose birth nobody saw, in a container's cgroup *and* in the pid namespace that is that
    /// container's own: it is one of its tasks, whatever else it has left since. Nothing of the host
    /// gets there without first having all of the container's namespaces.
    pub(super) fn recognise(&mut self, tid: u32) {
        let Some(task) = self.world.tasks.get(&tid) else {
            return;
        };
        let (label, state) = (task.label, task.state);
        let pid = self.world.ns.ids(task.set)[ns::PID];
        let Some(owner) = self.world.ns.get(pid).and_then(|n| n.entity) else {
            return;
        };
        if owner == label || !self.world.contains(label, owner) {
            return;
        }
        let (slots, territory) = match self.world.entities.get(&owner) {
            Some(e) => (e.slots, e.territory),
            None => return,
        };
        let sits_there = (0..CGROUP_SLOTS)
            .filter(|slot| slots & (1 << slot) != 0)
            .any(|slot| {
                self.world
                    .cgroup_key(&state, slot)
                    .is_some_and(|key| self.world.cgroups.territory(key) == territory)
            });
        if sits_there {
            if let Some(task) = self.world.tasks.get_mut(&tid) {
                task.confidence = Confidence::Inferred;
            }
            self.set_label(tid, owner);
        }
    }

    /// Whether a task sits in a container's cgroups and matches it on every namespace of its own.
    fn inside(&mut self, id: EntityId, state: &TaskState, ids: &NsIds) -> bool {
        let Some(entity) = self.world.entities.get(&id) else {
            return false;
        };
        let (slots, territory, own) = (entity.slots, entity.territory, entity.ns);
        let around = self
            .world
            .entities
            .get(&entity.parent)
            .map_or([NO_NS; NS_SLOTS], |p| p.ns);
        let matches = DECISIVE.iter().all(|kind| {
            let slot = kind.slot();
            own[slot] == around[slot] || own[slot] == ids[slot]
        });
        matches
            && (0..CGROUP_SLOTS)
                .filter(|slot| slots & (1 << slot) != 0)
                .all(|slot| {
                    self.world.cgroup_key(state, slot).is_some_and(|key| {
                        let place = self.world.cgroups.territory(key);
                        place == territory || place != HOST && self.world.contains(id, place)
                    })
                })
    }

    /// After an exec: is this the first program of a container?
    pub(super) fn consider(&mut self, tid: u32) {
        let Some(task) = self.world.tasks.get(&tid) else {
            return;
        };
        let Some(pending) = self.compartment(task) else {
            return;
        };
        let state = task.state;
        if !pending.own_pid {
            // Services of the host with a private mount namespace look like this too, and exec often:
            // a cgroup whose tasks nobody knows is not asked about for ever.
            let slot = (0..CGROUP_SLOTS).find_map(|slot| self.world.cgroup_key(&state, slot));
            if let Some(key) = slot {
                let asked = self.asked.entry(key).or_insert(0);
                if *asked >= MAX_ASKS {
                    return;
                }
                *asked += 1;
            }
        }
        self.ask(pending, &state);
    }

    fn ask(&mut self, compartment: Compartment, state: &TaskState) {
        if self.pending.len() >= MAX_PENDING {
            return;
        }
        let id = self.next_query;
        self.next_query += 1;
        self.pending.insert(id, Pending::Start(compartment));
        if compartment.label != HOST {
            // What a container calls its own containers is its claim: runtimes of the host know nothing
            // of them, and a name that one forges must not be looked up.
            self.on_answer(id, None);
            return;
        }
        let cgroup_path = self.home_of(state);
        self.queries.push_back(Query {
            id,
            cgroup_path,
            init_pid: Some(state.key.tgid),
        });
    }

    /// The path that names a compartment.
    fn home_of(&self, state: &TaskState) -> String {
        let paths = self.world.cgroup_paths(state);
        match cgroup_path::identify_any(paths.iter().copied()) {
            Some((index, _)) => paths[index].to_owned(),
            None => self.world.home_path(state).to_owned(),
        }
    }

    /// Whether a task lives in a compartment of its own that no container is known for.
    fn compartment(&self, task: &Task) -> Option<Compartment> {
        let around = self.world.entities.get(&task.label)?;
        let ids = self.world.ns.ids(task.set);
        let own = |slot: usize| ids[slot] != around.ns[slot] && ids[slot] != NO_NS;
        if !own(ns::MNT) || around.ns[ns::MNT] == NO_NS {
            return None;
        }
        if self
            .world
            .ns
            .get(ids[ns::MNT])
            .is_some_and(|n| n.entity.is_some())
        {
            // It entered a container that is known already.
            return None;
        }
        let root = (task.state.root.dev, task.state.root.ino);
        let left = task.pivoted || task.state.known & known::ROOT != 0 && root != around.root;
        left.then_some(Compartment {
            key: task.state.key,
            label: task.label,
            own_pid: own(ns::PID),
        })
    }

    /// The inventory answered.
    pub(super) fn on_answer(&mut self, query: u64, answer: Option<&ContainerAnswer>) {
        if self.answer_retry(query, answer) {
            return;
        }
        match self.pending.remove(&query) {
            Some(Pending::Start(compartment)) => self.start(&compartment, answer),
            Some(Pending::Name(id)) => self.rename(id, answer),
            None => {}
        }
    }

    /// A compartment becomes a container, if its task is the init of one.
    pub(super) fn start(&mut self, pending: &Compartment, answer: Option<&ContainerAnswer>) {
        let Some(task) = self.world.task(&pending.key) else {
            return;
        };
        if task.label != pending.label {
            return;
        }
        let state = task.state;
        let ids = *self.world.ns.ids(task.set);
        let pid_is_anothers = self
            .world
            .ns
            .get(ids[ns::PID])
            .is_some_and(|n| n.entity.is_some());
        let named = answer
            .and_then(|a| a.init_pid)
            .is_some_and(|pid| pid == state.key.tgid);
        let first = named || state.ns_tid == 1 || pid_is_anothers;
        let is_init = match answer {
            // Hooks of the runtime run inside before the init does.
            Some(a) if pending.own_pid => first || a.init_pid.is_none() && state.ns_tid == 0,
            Some(a) => named || a.init_pid.is_none(),
            None => pending.own_pid,
        };
        if is_init && self.world.entities.len() < MAX_ENTITIES {
            self.freeze(&state, pending.label, answer);
            self.report_first_exec(&state, pending.label, ids);
            if let Some(slot) =
                (0..CGROUP_SLOTS).find_map(|slot| self.world.cgroup_key(&state, slot))
            {
                self.asked.remove(&slot);
            }
        }
        if answer.is_none() && pending.label == HOST {
            let home = self.home_of(&state);
            let label = self.world.label(&pending.key);
            let unnamed = self
                .world
                .entities
                .get(&label)
                .is_some_and(|e| e.answer.is_none());
            if label == HOST {
                self.ask_again(Pending::Start(*pending), home, Some(state.key.tgid));
            } else if unnamed {
                self.ask_again(Pending::Name(label), home, Some(state.key.tgid));
            }
        }
    }

    /// What the container's first program brought with it: a root or working directory that leaked.
    fn report_first_exec(&mut self, state: &TaskState, around: EntityId, ids: NsIds) {
        let label = self.world.label(&state.key);
        if label == around || !self.started {
            return;
        }
        let record = record_of(state, cause::EXEC, -1, hook::SCHED_EXEC, self.now_ns);
        let change = Change {
            record: &record,
            event: self.event,
            label,
            label_before: around,
            actor: around,
            before: None,
            ids_before: Some(ids),
            ids,
            fresh: 0,
            confidence: Confidence::Exact,
        };
        let mut drafts = Vec::new();
        rule::foreign_root::detect(&change, &self.world, &mut drafts);
        rule::foreign_cwd::detect(&change, &self.world, &mut drafts);
        let before = self.iotas_before(label, &ids, state);
        let mut out = Vec::new();
        self.report(drafts, &change, &before, &mut out);
        self.tell_later(out);
    }

    /// A container starts: what its first task has now is its baseline.
    fn freeze(&mut self, state: &TaskState, around: EntityId, answer: Option<&ContainerAnswer>) {
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
            |a| format!("{}:{}", a.runtime.as_str(), a.id),
        );
        if around != HOST
            && let Some(outer) = self.world.entities.get(&around)
        {
            // Names made inside of a container are that container's claims and stand under it.
            key = format!("{}/{key}", outer.key);
        }
        let id = self.world.new_entity_id();
        let (slots, territory, strangers) = self.claim(id, state, around, identity.is_some());
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
            parent: around,
            sets: BTreeMap::new(),
            tasks: 0,
            confidence: Confidence::Exact,
        };
        self.settle(id, entity);
        self.gather(id, around, state, &ids);
        self.refresh_extras(&strangers);
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
                    if !is_named && !self.is_alone(state, slot) {
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

    /// Whether no task outside of this one's pid namespace sits in the same cgroup.
    fn is_alone(&self, state: &TaskState, slot: usize) -> bool {
        self.world.tasks.values().all(|other| {
            other.state.cgroups[slot] != state.cgroups[slot]
                || other.state.ns[ns::PID].inum == state.ns[ns::PID].inum
        })
    }

    /// How a new container came by each of its namespaces.
    pub(super) fn origins(
        &self,
        ids: &NsIds,
        around: EntityId,
        spec: Option<&SpecSummary>,
        own: Option<EntityId>,
    ) -> [Origin; NS_SLOTS] {
        let outer = self
            .world
            .entities
            .get(&around)
            .map_or([NO_NS; NS_SLOTS], |e| e.ns);
        let mut origins = [Origin::Own; NS_SLOTS];
        for &kind in NsKind::ALL {
            let slot = kind.slot();
            let id = ids[slot];
            if id == NO_NS {
                continue;
            }
            let namespace = self.world.ns.get(id);
            let initial = namespace.is_some_and(|n| n.initial);
            let taken = namespace.is_some_and(|n| n.entity.is_some() && n.entity != own);
            let inherited = id == outer[slot];
            let declared = spec.map(|spec| {
                let name = kind.object_kind().as_str();
                spec.namespaces.iter().find(|d| d.kind.proc_name() == name)
            });
            origins[slot] = match declared {
                // No spec: what it has in common with others it was given.
                None if initial || inherited || taken => Origin::Baseline,
                None => Origin::Own,
                Some(Some(named)) if named.path.is_some() => Origin::Declared,
                Some(Some(_)) if inherited || taken => Origin::Undeclared,
                Some(Some(_)) => Origin::Own,
                // The spec asks for those of the one who starts it.
                Some(None) if initial || around != HOST && inherited => Origin::Declared,
                Some(None) => Origin::Undeclared,
            };
        }
        origins
    }

    fn set_ownership(&mut self, id: EntityId, ids: &NsIds) {
        let mut chain = Vec::new();
        let mut at = ids[ns::USER];
        // A chain has at most 32 links in the kernel.
        while let Some(namespace) = self.world.ns.get(at) {
            chain.push(at);
            if namespace.initial || chain.len() > 32 {
                break;
            }
            match self.world.ns.by_inum(NsKind::User, namespace.owner_inum) {
                Some(parent) if parent != at => at = parent,
                _ => break,
            }
        }
        let owners: BTreeSet<NsId> = ids
            .iter()
            .filter_map(|&object| self.world.ns.get(object))
            .filter(|n| n.kind != NsKind::User && !n.initial)
            .filter_map(|n| self.world.ns.by_inum(NsKind::User, n.owner_inum))
            .collect();
        self.index.set_user_chain(id, chain);
        self.index.set_owners(id, owners);
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
            if same_pid || self.inside(id, &other, &other_ids) {
                tids.push(tid);
            }
        }
        let entry = if self.started && !self.at_rest {
            Entry::Sent
        } else {
            Entry::AtRest
        };
        for tid in tids {
            self.label_as(tid, id, entry);
        }
    }

    /// What policy and pair classes look at.
    pub(super) fn profile(&self, id: EntityId) -> EntityProfile {
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

    /// After a sweep that may show what no event did: which compartments are there that no container is
    /// known for? Their first exec was not seen, so each one's oldest task stands for its init.
    pub(super) fn discover(&mut self) {
        let mut candidates: Vec<(u64, u32)> = self
            .world
            .tasks
            .values()
            .filter(|t| t.state.key.tid == t.state.key.tgid)
            .filter(|t| self.compartment(t).is_some())
            .map(|t| (t.state.key.start_boottime_ns, t.state.key.tid))
            .collect();
        candidates.sort_unstable();
        let mut seen: BTreeSet<(NsId, NsId)> = BTreeSet::new();
        for (_, tid) in candidates {
            let Some(task) = self.world.tasks.get(&tid) else {
                continue;
            };
            let ids = *self.world.ns.ids(task.set);
            if seen.insert((ids[ns::MNT], ids[ns::PID])) {
                self.consider(tid);
            }
        }
    }

    /// Containers of an earlier run whose tasks still live come back with the baseline they had:
    /// their init may have left it since.
    pub(super) fn restore_entities(&mut self) {
        let saved = std::mem::take(&mut self.restored.entities);
        for (index, entity) in saved.iter().enumerate() {
            let alive = self.restored.labels.iter().any(|(tid, (start, of))| {
                *of == index
                    && self.world.tasks.get(tid).is_some_and(|t| {
                        t.state.key.start_boottime_ns.abs_diff(*start) <= START_TOLERANCE_NS
                    })
            });
            if alive && entity.ns.len() == NS_SLOTS && entity.origins.len() == NS_SLOTS {
                let id = self.restore_entity(entity);
                self.restored.made.insert(index, id);
            }
        }
        self.restore_labels();
        self.restored = Restored::default();
    }

    fn restore_entity(&mut self, saved: &SavedEntity) -> EntityId {
        let parent = saved
            .parent
            .and_then(|p| self.restored.made.get(&p).copied())
            .unwrap_or(HOST);
        let id = self.world.new_entity_id();
        let mut ids = [NO_NS; NS_SLOTS];
        let mut origins = [Origin::Own; NS_SLOTS];
        for &kind in NsKind::ALL {
            let slot = kind.slot();
            let reference = NsRef {
                inum: saved.ns[slot],
                owner_inum: 0,
                unique_id: 0,
            };
            ids[slot] = self.world.ns.resolve(kind, &reference, false, HOST);
            origins[slot] = saved.origins[slot];
        }
        self.world.cgroups.claim(&saved.cgroup_path, id);
        let init = TaskKey {
            tid: saved.init_pid,
            tgid: saved.init_pid,
            start_boottime_ns: saved.incarnation,
        };
        let entity = Entity {
            kind: EntityKind::Container,
            key: saved.key.clone(),
            answer: None,
            init,
            home: saved.cgroup_path.clone(),
            slots: self.slots_below(&saved.cgroup_path),
            territory: id,
            ns: ids,
            origins,
            root: saved.root,
            parent,
            sets: BTreeMap::new(),
            tasks: 0,
            confidence: Confidence::Exact,
        };
        self.settle(id, entity);
        if parent == HOST && self.pending.len() < MAX_PENDING {
            let query = self.next_query;
            self.next_query += 1;
            let path = saved.cgroup_path.clone();
            self.pending.insert(query, Pending::Name(id));
            self.queries.push_back(Query {
                id: query,
                cgroup_path: path,
                init_pid: Some(init.tgid),
            });
        }
        id
    }

    /// Slots of the hierarchies in which the path exists.
    fn slots_below(&self, path: &str) -> u16 {
        let named: BTreeSet<u32> = self.world.cgroups.hierarchies_of(path);
        (0..CGROUP_SLOTS)
            .filter(|&slot| self.world.hierarchies[slot].is_some_and(|h| named.contains(&h)))
            .fold(0, |mask, slot| mask | 1 << slot)
    }

    /// Puts an entity in place: its namespaces become its own, the index learns what it holds.
    fn settle(&mut self, id: EntityId, entity: Entity) {
        let (ids, origins) = (entity.ns, entity.origins);
        let (territory, slots) = (entity.territory, entity.slots);
        let parent = entity.parent;
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
        self.world.entities.insert(id, entity);
        self.index.insert_entity(id, self.profile(id));
        let own = territory == id || slots == 0;
        let origin = if own { Origin::Own } else { Origin::Undeclared };
        self.index.hold(id, ObjectKey::Territory(territory), origin);
        self.index
            .hold(id, ObjectKey::Root(ids[ns::MNT]), origins[ns::MNT]);
        self.set_ownership(id, &ids);
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

    /// The label that a task had in an earlier run.
    pub(super) fn restored_label(&self, key: &TaskKey) -> Option<EntityId> {
        let (start, entity) = self.restored.labels.get(&key.tid)?;
        if start.abs_diff(key.start_boottime_ns) > START_TOLERANCE_NS {
            return None;
        }
        self.restored.made.get(entity).copied()
    }

    /// Tasks that an earlier run knew as a container's get their labels back, wherever they are now.
    fn restore_labels(&mut self) {
        let mut labels: Vec<(u32, EntityId)> = self
            .world
            .tasks
            .values()
            .filter_map(|t| Some((t.state.key.tid, self.restored_label(&t.state.key)?)))
            .collect();
        labels.sort_unstable();
        for (tid, label) in labels {
            self.set_label(tid, label);
        }
    }

    /// What must survive a restart of the agent.
    #[must_use]
    pub fn saved(&self) -> Saved {
        let mut saved = Saved {
            boot_id: self.config.boot_id.clone(),
            ..Saved::default()
        };
        let mut places: BTreeMap<EntityId, usize> = BTreeMap::new();
        for (&id, entity) in self.world.entities.iter().filter(|(id, _)| **id != HOST) {
            places.insert(id, saved.entities.len());
            saved.entities.push(SavedEntity {
                key: entity.key.clone(),
                cgroup_path: entity.home.clone(),
                init_pid: entity.init.tgid,
                incarnation: entity.init.start_boottime_ns,
                origins: entity.origins.to_vec(),
                root: entity.root,
                ns: entity
                    .ns
                    .iter()
                    .map(|id| self.world.ns.get(*id).map_or(0, |n| n.inum))
                    .collect(),
                parent: places.get(&entity.parent).copied(),
            });
        }
        let mut labels: Vec<SavedLabel> = self
            .world
            .tasks
            .values()
            .filter_map(|t| {
                Some(SavedLabel {
                    tid: t.state.key.tid,
                    tgid: t.state.key.tgid,
                    start_boottime_ns: t.state.key.start_boottime_ns,
                    entity: *places.get(&t.label)?,
                })
            })
            .collect();
        labels.sort_unstable_by_key(|l| l.tid);
        saved.labels = labels;
        saved
    }
}
