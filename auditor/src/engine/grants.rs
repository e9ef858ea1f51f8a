//! What containers were granted: against what the policy permits, what it lets them do to others, and what confines them
//! beside it. Judged when one begins, when it is looked at, when it gets the name that its roles go by, and when another
//! policy is in force.

use super::Engine;
use super::event::Told;
use super::rule::dangerous_capability::{self, Powers};
use super::rule::weak_confinement::{self, Confinement};
use super::rule::{Draft, DraftKind, privilege_excess};
use crate::model::facts::{EntityId, ObjectKey};
use crate::model::output::Record;
use crate::model::{NsKind, PairClass, RuleId, Severity};
use auditor_common::hook;
use std::collections::{BTreeMap, BTreeSet};

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Grants {
    /// Containers whose grant is yet to be judged against their roles.
    excess: BTreeSet<EntityId>,
    /// Containers of which it is yet to be judged what their grant lets them do, and what confines them.
    standing: BTreeSet<EntityId>,
    /// Those of them that have no name yet.
    unnamed: BTreeSet<EntityId>,
    /// What was told of each, for it is told once.
    told: BTreeMap<EntityId, Told>,
    /// What confines those that were looked at.
    confined: BTreeMap<EntityId, Confinement>,
}

impl Engine {
    /// A container's roles, or what it was granted, may be others now.
    pub(super) fn judge_grant(&mut self, id: EntityId) {
        self.grants.excess.insert(id);
        self.grants.standing.insert(id);
    }

    /// The roles of all containers may be others now.
    pub(super) fn judge_grants(&mut self) {
        let all = self.world.entities.keys().copied();
        self.grants.excess.extend(all.clone());
        self.grants.standing.extend(all);
    }

    /// A container begins: those in its pid namespace have processes of others in it now.
    pub(super) fn judge_company(&mut self, id: EntityId) {
        let pid = self.world.entity(id).ns[NsKind::Pid.slot()];
        if self.world.ns.get(pid).is_some_and(|ns| !ns.initial) {
            let others = self.other_holders(ObjectKey::ns(NsKind::Pid, pid), id);
            self.grants.standing.extend(others);
        }
    }

    /// A container has its name, or will never have one, or is about to end.
    pub(super) fn judge_named(&mut self, id: EntityId) {
        if self.grants.unnamed.remove(&id) {
            self.grants.standing.insert(id);
        }
    }

    /// The stream ends: nobody gets a name any more.
    pub(super) fn judge_unnamed(&mut self) {
        let unnamed = std::mem::take(&mut self.grants.unnamed);
        self.grants.standing.extend(unnamed);
    }

    /// Judges what is due, at the end of the event: a container may be gone by the next.
    pub(super) fn settle_grants(&mut self, out: &mut Vec<Record>) {
        for id in std::mem::take(&mut self.grants.excess) {
            self.judge_excess(id, out);
        }
        for id in std::mem::take(&mut self.grants.standing) {
            self.judge_standing(id, out);
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
        if self.grants.standing.remove(&id) && self.started {
            let mut records = Vec::new();
            self.judge_standing(id, &mut records);
            self.tell_later(records);
        }
        self.grants.told.remove(&id);
        self.grants.confined.remove(&id);
    }

    /// A container's first task was looked at; this is what a security module calls it.
    pub(super) fn note_confinement(&mut self, id: EntityId, label: Option<&str>) {
        let Some(entity) = self.world.entities.get(&id) else {
            return;
        };
        let Some(init) = self.world.task(&entity.init) else {
            return;
        };
        let granted = self.granted_to(id);
        let found = Confinement::of(&init.state, granted.as_ref(), label);
        self.grants.confined.insert(id, found);
        self.grants.standing.insert(id);
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
        let roles = policy.limits(profile);
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
        let all_devices = self.devices(id).all() == Some(true);
        Some(dangerous_capability::powers(
            id,
            &granted,
            all_devices,
            &self.world,
            &self.index,
        ))
    }

    fn judge_standing(&mut self, id: EntityId, out: &mut Vec<Record>) {
        // Its roles go by its name.
        if self.is_unnamed(id) {
            self.grants.unnamed.insert(id);
            return;
        }
        let Some(entity) = self.world.entities.get(&id) else {
            return;
        };
        let init = entity.init;
        let mut drafts = Vec::new();
        if let Some(draft) = self.dangerous(id) {
            drafts.push((draft, init));
        }
        if let Some(confinement) = self.grants.confined.get(&id) {
            let weak = weak_confinement::detect(id, confinement, &self.world);
            let shared = self
                .twin(id, confinement)
                .map(|twin| weak_confinement::detect_shared(id, twin, confinement, &self.world));
            drafts.extend(weak.into_iter().chain(shared).map(|draft| (draft, init)));
        }
        drafts.extend(self.uses_not_permitted(id, init));
        for (draft, who) in drafts {
            if self.is_news(&draft) {
                let witness = self.seen_by(hook::PROC, -1, self.event);
                self.emit(draft, who, witness, None, out);
            }
        }
    }

    fn dangerous(&self, id: EntityId) -> Option<Draft> {
        let found = self.powers(id)?;
        let profile = self.index.profile(id)?;
        let permitted = self.index.policy().permitted(profile).unwrap_or(0);
        dangerous_capability::detect(id, &found, permitted, &self.world)
    }

    /// The first other container, but of its pod, that a security module takes for the same.
    fn twin(&self, id: EntityId, confinement: &Confinement) -> Option<EntityId> {
        let apart = |other: EntityId| {
            let nested = self.world.contains(id, other) || self.world.contains(other, id);
            !nested && self.index.pair(id, other).class != PairClass::K1
        };
        let all = self.grants.confined.iter();
        let mut same = all.filter(|(_, other)| confinement.is_one_with(other));
        same.find(|(other, _)| apart(**other))
            .map(|(other, _)| *other)
    }

    /// Whether what stands was not told yet: it is told once. What the policy expects is not remembered as told, for
    /// another policy may not expect it.
    pub(super) fn is_news(&mut self, draft: &Draft) -> bool {
        let mut told = self.told_of(draft.subject);
        let known = match (draft.rule, draft.kind) {
            (RuleId::DangerousCapability, _) => &mut told.capabilities,
            (RuleId::WeakConfinement, _) => &mut told.confinement,
            (RuleId::PrivilegeEscalation, DraftKind::Audit) => &mut told.brought,
            (RuleId::PrivilegeEscalation, _) if draft.severity < Severity::Critical => {
                &mut told.used
            }
            _ => return true,
        };
        if draft.object_id & !*known == 0 {
            return false;
        }
        *known |= draft.object_id;
        let expected = self.index.profile(draft.subject).is_some_and(|subject| {
            let object = self.index.profile(draft.object);
            let policy = self.index.policy();
            policy
                .allows(draft.rule, subject, object, draft.dimension)
                .is_some()
        });
        if !expected {
            self.grants.told.insert(draft.subject, told);
        }
        true
    }
}
