//! Whose the tasks are that are there when a container begins: whoever lives in the same compartment is its.

use super::Engine;
use super::holding::Entry;
use crate::engine::world::Task;
use crate::engine::world::namespaces::NsIds;
use crate::inventory::cgroup_path;
use crate::model::Confidence;
use crate::model::facts::{EntityId, NsId};
use auditor_common::record::{TaskKey, TaskState, ns};
use hashbrown::HashMap;

/// Processes by their parent's id.
pub(super) type Children = HashMap<u32, Vec<u32>>;

/// A new container.
struct House {
    id: EntityId,
    init: TaskState,
    ids: NsIds,
    /// Its pid namespace is its own.
    own_pid: bool,
    /// It is another's, and counts.
    joined_pid: bool,
}

fn is_within(path: &str, tree: &str) -> bool {
    path.strip_prefix(tree)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Generations that are looked through for an ancestor.
pub(super) const MAX_DESCENT: usize = 64;

impl Engine {
    /// Labels the init and whatever lives in the same compartment.
    pub(super) fn gather(
        &mut self,
        id: EntityId,
        around: EntityId,
        state: &TaskState,
        ids: &NsIds,
    ) {
        self.label_as(state.key.tid, id, Entry::Sent);
        let house = House {
            id,
            init: *state,
            ids: *ids,
            own_pid: self.owner_of(ids[ns::PID]) == Some(id),
            // At rest, those who joined another's pid namespace are told apart from it by their cgroup.
            joined_pid: self.found.begins()
                && self.owner_of(ids[ns::PID]).is_some_and(|of| of != id),
        };
        let near: Vec<u32> = self
            .near(&house)
            .into_iter()
            .filter(|tid| {
                let task = self.world.tasks.get(tid);
                task.is_some_and(|t| {
                    t.state.key.tid != state.key.tid && self.is_free(t.label, around)
                })
            })
            .collect();
        let leaders = near.iter().filter_map(|tid| self.leader(*tid));
        let rivals: Vec<TaskState> = leaders
            .filter(|t| self.found.is_init(&t.state.key) && t.state.key != state.key)
            .map(|t| t.state)
            .collect();
        let tids: Vec<u32> = near
            .into_iter()
            .filter(|tid| self.belongs(*tid, &house, &rivals))
            .collect();
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

    /// Whether a task with this label may be one of a container that begins. At rest, whoever was sent in from further
    /// outside is not known for it yet.
    fn is_free(&self, label: EntityId, around: EntityId) -> bool {
        label == around || self.found.begins() && self.world.contains(label, around)
    }

    /// The entity whose own namespace this is.
    fn owner_of(&self, id: NsId) -> Option<EntityId> {
        self.world.ns.get(id).and_then(|namespace| namespace.entity)
    }

    /// The threads among which a new container's tasks are, in order.
    fn near(&self, house: &House) -> Vec<u32> {
        let mut near = self.world.members(house.ids[ns::MNT]);
        if house.own_pid || house.joined_pid {
            near.extend(self.world.members(house.ids[ns::PID]));
        }
        near.sort_unstable();
        near.dedup();
        near
    }

    fn leader(&self, tid: u32) -> Option<&Task> {
        let task = self.world.tasks.get(&tid)?;
        let leader = self.world.tasks.get(&task.state.key.tgid);
        Some(leader.map_or(task, AsRef::as_ref))
    }

    /// Whether a task near a new container is one of it. What runtimes have written down comes first, then who bore it,
    /// and then its place. `rivals`: first processes of other containers near it.
    fn belongs(&self, tid: u32, house: &House, rivals: &[TaskState]) -> bool {
        let Some(task) = self.world.tasks.get(&tid) else {
            return false;
        };
        let ids = self.world.ns.ids(task.set);
        let same_pid = ids[ns::PID] == house.ids[ns::PID];
        let same_mnt = ids[ns::MNT] == house.ids[ns::MNT];
        if !same_pid && !same_mnt {
            // Only its children are born there.
            return false;
        }
        let Some(first) = self.first_of_line(task, house, rivals) else {
            return false;
        };
        if house.joined_pid && same_pid && self.is_at_home(house, &first) {
            return true;
        }
        house.own_pid && same_pid && (same_mnt || !self.is_apart_by_place(house, &first, rivals))
            || self.inside(house.id, &task.state, ids)
    }

    /// The first of a task's ancestors in a container's pid namespace of which nobody knows who bore it: it was sent in, or
    /// has lost its parent, and then has the first process for one. `None`: another container's first process bore it.
    fn first_of_line(&self, task: &Task, house: &House, rivals: &[TaskState]) -> Option<TaskState> {
        let mut at = self.leader(task.state.key.tid)?;
        for _ in 0..MAX_DESCENT {
            if rivals.iter().any(|rival| rival.key == at.state.key) {
                return None;
            }
            let parent = self.world.task(&at.state.parent).filter(|parent| {
                parent.state.key != house.init.key
                    && parent.label == task.label
                    && self.world.ns.ids(parent.set)[ns::PID] == house.ids[ns::PID]
            });
            match parent {
                Some(parent) => at = parent,
                None => break,
            }
        }
        Some(at.state)
    }

    /// Whether a task sits in the cgroup that a container began in, or below.
    fn is_at_home(&self, house: &House, state: &TaskState) -> bool {
        let home = self.home_of(&house.init);
        home != "/" && is_within(&self.home_of(state), &home)
    }

    /// Whether a task's cgroup is another container's, by name or because that one's first process is there. Containers
    /// of one pod may share a pid namespace, which is the sandbox's: at rest it does not tell them apart, but their
    /// cgroups do.
    fn is_apart_by_place(&self, house: &House, other: &TaskState, rivals: &[TaskState]) -> bool {
        let (own, others) = (self.home_of(&house.init), self.home_of(other));
        let is_theirs = |theirs: &str| {
            let is_there = theirs != "/" && is_within(&others, theirs);
            is_there && !is_within(&own, theirs) && !is_within(theirs, &own)
        };
        // The outermost name: what stands below it was made inside.
        let named = cgroup_path::enclosing(&others).next();
        named.is_some_and(|found| is_theirs(found.subtree(&others)))
            || rivals.iter().any(|rival| is_theirs(&self.home_of(rival)))
    }

    /// Processes by the one that bore them.
    pub(super) fn children(&self) -> Children {
        let mut children = Children::new();
        for task in self.world.tasks.values() {
            let state = &task.state;
            if state.key.tid == state.key.tgid
                && let Some(parent) = self.world.task(&state.parent)
            {
                let parent = parent.state.key.tgid;
                children.entry(parent).or_default().push(state.key.tid);
            }
        }
        children.values_mut().for_each(|born| born.sort_unstable());
        children
    }

    /// What the tasks of a container that a sweep found have borne is its own too, wherever it is: a label is inherited.
    pub(super) fn gather_born(&mut self, id: EntityId, around: EntityId, children: &Children) {
        let Some(entity) = self.world.entities.get(&id) else {
            return;
        };
        let pid = entity.ns[ns::PID];
        // In its own pid namespace all are judged already.
        let judged = (self.owner_of(pid) == Some(id)).then_some(pid);
        let mut left: Vec<u32> = self.world.members(entity.ns[ns::MNT]);
        left.extend(self.world.ns.members(pid).unwrap_or_default());
        left.retain(|tid| self.world.tasks.get(tid).is_some_and(|t| t.label == id));
        left.sort_unstable();
        left.dedup();
        while let Some(tid) = left.pop() {
            let born = children.get(&tid).into_iter().flatten();
            let born = born.flat_map(|&child| self.world.group(child));
            // Threads may have gone elsewhere than their process.
            let all: Vec<u32> = born.chain(self.world.group(tid)).collect();
            for tid in all {
                let is_new = self.world.tasks.get(&tid).is_some_and(|task| {
                    self.is_free(task.label, around)
                        && Some(self.world.ns.ids(task.set)[ns::PID]) != judged
                });
                if is_new {
                    self.label_as(tid, id, Entry::AtRest);
                    left.push(tid);
                }
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
}
