//! Who belongs to whom: sticky labels, and the birth and end of containers.
//!
//! A container begins with the first exec *by its init* after its root left the host's: only then is
//! the runtime done, and what it has then is its baseline. Before that its tasks are the host's, even
//! inside its cgroup, so that nothing a runtime does can look like an escape. Other host tasks become
//! part of it when they sit in its cgroup *and* match it on every namespace that it does not share with
//! those around it; until then, and if they only enter namespaces, they stay the host's.
//!
//! A label is never cleared by changing namespace or cgroup: that is what makes an escape visible.
//!
//! Inside: `compartment` finds what may be a container and asks who it is, `resumed` asks about those that begin without
//! an exec, `discover` about those whose exec nobody saw, `late` keeps what happens before there is an answer, `freeze`
//! makes it one, `gather` says which tasks it has then, `baseline` how it came by what it has, `holding` keeps account of
//! what its tasks hold, `end` ends it, and `restore` carries all of it over a restart of the agent.

mod baseline;
mod compartment;
mod discover;
mod end;
mod freeze;
mod gather;
mod holding;
mod late;
mod restore;
mod resumed;

pub(super) use compartment::Pending;
pub(super) use discover::Found;
pub(super) use holding::Entry;
pub(super) use late::Late;
pub(super) use restore::Restored;
pub(super) use resumed::Resumed;

use super::Engine;
use super::world::cgroups::slots_in;
use super::world::namespaces::{NO_NS, NsIds, SetId};
use crate::model::facts::{EntityId, HOST, ObjectKey, Origin};
use crate::model::{Confidence, NsKind};
use auditor_common::limits::{CGROUP_SLOTS, NS_SLOTS};
use auditor_common::record::{TaskState, ns};
use holding::Left;

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

impl Engine {
    /// Gives a task a label of which nothing else is known.
    pub(in crate::engine) fn set_label(&mut self, tid: u32, label: EntityId) {
        self.label_as(tid, label, Entry::Found);
    }

    /// Gives a newborn its parent's label; `set`: the parent's namespaces.
    pub(in crate::engine) fn inherit_label(&mut self, tid: u32, label: EntityId, set: SetId) {
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
        // A newborn has what its parent brought.
        if !matches!(entry, Entry::From(_)) {
            task.note_brought();
        }
        let set = task.set;
        self.join_set(label, set, entry);
        self.refresh_extra(tid);
    }

    /// Takes a task out of its container's accounts; the last one ends the container.
    pub(in crate::engine) fn unlabel(&mut self, tid: u32) {
        let Some(task) = self.world.tasks.get_mut(&tid) else {
            return;
        };
        let label = std::mem::replace(&mut task.label, HOST);
        let (set, extra) = (task.set, std::mem::take(&mut task.extra));
        self.disown(label, set, extra);
    }

    /// A container has one task less, which had this set of namespaces and these objects besides.
    pub(in crate::engine) fn disown(
        &mut self,
        label: EntityId,
        set: SetId,
        extra: Vec<(ObjectKey, Origin)>,
    ) {
        if label == HOST {
            return;
        }
        for (object, origin) in extra {
            self.index.release(label, object, origin);
        }
        if self.leave_set(label, set) == Left::Empty {
            self.end_entity(label);
        }
    }

    /// Replaces a task's namespaces.
    pub(in crate::engine) fn set_namespaces(&mut self, tid: u32, ids: NsIds) {
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
            // It is in the new one, so this is not the end of the entity.
            let _ = self.leave_set(label, old);
        }
        self.world.switch(tid, new);
        self.world.ns.drop_set(old);
        self.bury_mounts();
    }

    /// Gives a task the label of the container that it is inside of now, if that lies within its
    /// present one. Returns its label.
    pub(in crate::engine) fn take_label(&mut self, tid: u32) -> EntityId {
        let Some(task) = self.world.tasks.get(&tid) else {
            return HOST;
        };
        let (label, state) = (task.label, &task.state);
        let mut found = HOST;
        for slot in 0..CGROUP_SLOTS {
            let Some(key) = self.world.cgroup_key(state, slot) else {
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
        let ids = self.world.ns.ids(task.set);
        let mut tenants = self.world.tenants(found).iter().copied();
        let taken = tenants.find(|&id| {
            let has_place = self.world.entities.get(&id).is_some_and(|e| e.slots != 0);
            has_place && self.inside(id, state, ids) && self.world.contains(label, id)
        });
        let Some(taken) = taken else { return label };
        self.label_as(tid, taken, Entry::Sent);
        if let Some(task) = self.world.tasks.get_mut(&tid) {
            task.arriving = true;
        }
        taken
    }

    /// A task whose birth nobody saw is its parent's, or of the container that it is inside of.
    pub(in crate::engine) fn label_found(&mut self, tid: u32, parent: EntityId) {
        self.set_label(tid, parent);
        let taken = self.take_label(tid);
        if taken == parent {
            self.recognise(tid);
        }
    }

    /// A task whose birth nobody saw, in a container's cgroup *and* in the pid namespace that is that
    /// container's own: it is one of its tasks, whatever else it has left since. Nothing of the host
    /// gets there without first having all of the container's namespaces.
    fn recognise(&mut self, tid: u32) {
        let Some(task) = self.world.tasks.get(&tid) else {
            return;
        };
        let (label, state) = (task.label, &task.state);
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
        let sits_there = slots_in(slots).any(|slot| {
            let key = self.world.cgroup_key(state, slot);
            key.is_some_and(|key| self.world.cgroups.territory(key) == territory)
        });
        if sits_there {
            if let Some(task) = self.world.tasks.get_mut(&tid) {
                task.confidence = Confidence::Inferred;
            }
            self.set_label(tid, owner);
        }
    }

    /// Whether a task sits in a container's cgroups and matches it on every namespace of its own.
    fn inside(&self, id: EntityId, state: &TaskState, ids: &NsIds) -> bool {
        let Some(entity) = self.world.entities.get(&id) else {
            return false;
        };
        let (slots, territory, own) = (entity.slots, entity.territory, &entity.ns);
        let around = self
            .world
            .entities
            .get(&entity.parent)
            .map_or(&[NO_NS; NS_SLOTS], |p| &p.ns);
        let matches = DECISIVE.iter().all(|kind| {
            let slot = kind.slot();
            own[slot] == around[slot] || own[slot] == ids[slot]
        });
        matches
            && slots_in(slots).all(|slot| {
                self.world.cgroup_key(state, slot).is_some_and(|key| {
                    let place = self.world.cgroups.territory(key);
                    place == territory || place != HOST && self.world.contains(id, place)
                })
            })
    }
}
