//! What containers were granted: against what the policy permits, and what it lets them do to others. Judged when one
//! begins, when it gets the name that its roles go by, and when another policy is in force.

use super::Engine;
use super::event::Told;
use super::rule::dangerous_capability::{self, Powers};
use super::rule::privilege_excess;
use crate::model::facts::{EntityId, ObjectKey};
use crate::model::output::Record;
use crate::model::{Dimension, NsKind, RuleId};
use auditor_common::hook;
use std::collections::{BTreeMap, BTreeSet};

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Grants {
    /// Containers whose grant is yet to be judged against their roles.
    excess: BTreeSet<EntityId>,
    /// Containers of which it is yet to be judged what their grant lets them do.
    powers: BTreeSet<EntityId>,
    /// Those of them that have no name yet.
    unnamed: BTreeSet<EntityId>,
    /// What was told of each, for it is told once.
    told: BTreeMap<EntityId, Told>,
}

impl Engine {
    /// A container's roles, or what it was granted, may be others now.
    pub(super) fn judge_grant(&mut self, id: EntityId) {
        self.grants.excess.insert(id);
        self.grants.powers.insert(id);
    }

    /// The roles of all containers may be others now.
    pub(super) fn judge_grants(&mut self) {
        let all = self.world.entities.keys().copied();
        self.grants.excess.extend(all.clone());
        self.grants.powers.extend(all);
    }

    /// A container begins: those in its pid namespace have processes of others in it now.
    pub(super) fn judge_company(&mut self, id: EntityId) {
        let pid = self.world.entity(id).ns[NsKind::Pid.slot()];
        if self.world.ns.get(pid).is_some_and(|ns| !ns.initial) {
            let others = self.other_holders(ObjectKey::ns(NsKind::Pid, pid), id);
            self.grants.powers.extend(others);
        }
    }

    /// A container has its name, or will never have one, or is about to end.
    pub(super) fn judge_named(&mut self, id: EntityId) {
        if self.grants.unnamed.remove(&id) {
            self.grants.powers.insert(id);
        }
    }

    /// The stream ends: nobody gets a name any more.
    pub(super) fn judge_unnamed(&mut self) {
        let unnamed = std::mem::take(&mut self.grants.unnamed);
        self.grants.powers.extend(unnamed);
    }

    /// Judges what is due, at the end of the event: a container may be gone by the next.
    pub(super) fn settle_grants(&mut self, out: &mut Vec<Record>) {
        for id in std::mem::take(&mut self.grants.excess) {
            self.judge_excess(id, out);
        }
        for id in std::mem::take(&mut self.grants.powers) {
            self.judge_powers(id, out);
        }
    }

    /// What was told of a container.
    pub(super) fn told_of(&self, id: EntityId) -> Told {
        self.grants.told.get(&id).copied().unwrap_or_default()
    }

    /// An earlier run told it.
    pub(super) fn restore_told(&mut self, id: EntityId, told: Told) {
        self.grants.told.insert(id, told);
    }

    /// A container ends, and still has the name that it will ever have.
    pub(super) fn close_grant(&mut self, id: EntityId) {
        if self.grants.powers.remove(&id) && self.started {
            let mut records = Vec::new();
            self.judge_powers(id, &mut records);
            self.tell_later(records);
        }
        self.grants.told.remove(&id);
    }

    fn judge_excess(&mut self, id: EntityId, out: &mut Vec<Record>) {
        let (Some(entity), Some(profile)) = (self.world.entities.get(&id), self.index.profile(id))
        else {
            return;
        };
        let policy = self.index.policy();
        let (Some(permitted), Some(init)) =
            (policy.permitted(profile), self.world.task(&entity.init))
        else {
            return;
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

    /// What a container's grant lets it do to others.
    #[must_use]
    pub fn powers(&self, id: EntityId) -> Option<Powers> {
        let granted = self.granted_to(id)?;
        Some(dangerous_capability::powers(
            id,
            &granted,
            &self.world,
            &self.index,
        ))
    }

    fn judge_powers(&mut self, id: EntityId, out: &mut Vec<Record>) {
        // Its roles go by its name.
        if self.is_unnamed(id) {
            self.grants.unnamed.insert(id);
            return;
        }
        let (Some(entity), Some(profile), Some(found)) = (
            self.world.entities.get(&id),
            self.index.profile(id),
            self.powers(id),
        ) else {
            return;
        };
        let init = entity.init;
        let policy = self.index.policy();
        let permitted = policy.permitted(profile).unwrap_or(0);
        let Some(draft) = dangerous_capability::detect(id, &found, permitted, &self.world) else {
            return;
        };
        let mut told = self.told_of(id);
        if draft.object_id & !told.capabilities == 0 {
            return;
        }
        let object = self.index.profile(draft.object);
        let (rule, dimension) = (RuleId::DangerousCapability, Dimension::Privilege);
        // What another policy no longer expects is told then.
        if policy.allows(rule, profile, object, dimension).is_none() {
            told.capabilities |= draft.object_id;
            self.grants.told.insert(id, told);
        }
        let witness = self.seen_by(hook::PROC, -1, self.event);
        self.emit(draft, init, witness, None, out);
    }
}
