//! Whose the tasks are that are there when a container begins: whoever lives in the same compartment is its.

use super::Engine;
use super::holding::Entry;
use crate::engine::world::namespaces::NsIds;
use crate::inventory::cgroup_path;
use crate::model::Confidence;
use crate::model::facts::EntityId;
use auditor_common::record::{TaskKey, TaskState, ns};

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
}
