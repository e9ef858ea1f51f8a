//! What containers were granted, against what the policy permits: when one begins, when it gets the name that its roles go
//! by, and when another policy is in force.

use super::Engine;
use super::rule::privilege_excess;
use crate::model::facts::EntityId;
use crate::model::output::Record;
use auditor_common::hook;

impl Engine {
    /// A container's roles, or what it was granted, may be others now.
    pub(super) fn judge_grant(&mut self, id: EntityId) {
        self.ungranted.insert(id);
    }

    /// The roles of all containers may be others now.
    pub(super) fn judge_grants(&mut self) {
        self.ungranted.extend(self.world.entities.keys().copied());
    }

    /// Judges what is due, at the end of the event: a container may be gone by the next.
    pub(super) fn settle_grants(&mut self, out: &mut Vec<Record>) {
        for id in std::mem::take(&mut self.ungranted) {
            let (Some(entity), Some(profile)) =
                (self.world.entities.get(&id), self.index.profile(id))
            else {
                continue;
            };
            let policy = self.index.policy();
            let (Some(permitted), Some(init)) =
                (policy.permitted(profile), self.world.task(&entity.init))
            else {
                continue;
            };
            let limits = policy.roles(profile).into_iter();
            let limits = limits.map(|index| &policy.roles[index]);
            let limits = limits.filter(|role| role.capabilities.is_some());
            let roles: Vec<&str> = limits.map(|role| role.name.as_str()).collect();
            let key = init.state.key;
            let draft = privilege_excess::detect(id, init, permitted, &roles, &self.world);
            if let Some(draft) = draft {
                let witness = self.seen_by(hook::PROC, -1, self.event);
                self.emit(draft, key, witness, None, out);
            }
        }
    }
}
