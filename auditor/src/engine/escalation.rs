//! What containers use, against what is declared of them: what they were granted, what their specs name, what their roles
//! permit.

use super::Engine;
use super::rule::privilege_escalation::{self, Declared};
use super::rule::{Deed, Draft};
use crate::inventory::container::SpecSummary;
use crate::model::capability;
use crate::model::facts::{EntityId, HOST};
use crate::model::privileges::{Scope, Way};
use auditor_common::record::{TaskKey, ns};

impl Engine {
    /// What is declared of a container. `None`: its grant could not be read, so nothing can be said.
    fn declared(&self, id: EntityId, brought: u64) -> Option<Declared<'_>> {
        let profile = self.index.profile(id)?;
        let policy = self.index.policy();
        let answer = self.world.entities.get(&id)?.answer.as_ref();
        Some(Declared {
            granted: self.granted_to(id)?,
            spec: answer.and_then(|a| a.spec.as_ref()).map_or(0, named),
            permitted: policy.permitted(profile),
            roles: policy.limits(profile),
            brought,
        })
    }

    /// A container's task was asked for a capability.
    pub(super) fn judge_use(
        &mut self,
        deed: &Deed<'_>,
        way: Way,
        call: Option<&str>,
    ) -> Option<Draft> {
        let brought = self.brought(deed, way.scope);
        let declared = self.declared(deed.label, brought)?;
        let mut draft =
            privilege_escalation::detect(deed.label, way, call, &declared, &self.world)?;
        draft.confidence = deed.confidence;
        self.is_news(&draft).then_some(draft)
    }

    /// What the acting task came in with, over the user namespace that it is asked over.
    fn brought(&self, deed: &Deed<'_>, scope: Scope) -> u64 {
        let task = self.world.task(&deed.record.actor);
        // Nothing tells of the birth of an io_uring worker.
        let leader = || {
            self.world
                .tasks
                .get(&deed.state.key.tid)
                .map(|task| &**task)
        };
        let brought = task.or_else(leader).map_or(0, |task| task.brought);
        let initial = self.world.ns.get(self.world.entity(HOST).ns[ns::USER]);
        let is_initial = initial.is_some_and(|user| user.inum == deed.state.ns[ns::USER].inum);
        match scope {
            Scope::Initial if !is_initial => 0,
            _ => brought,
        }
    }

    /// What a container used before it was known, or decided, what its roles permit.
    pub(super) fn uses_not_permitted(&self, id: EntityId, init: TaskKey) -> Vec<(Draft, TaskKey)> {
        let Some(declared) = self.declared(id, 0).filter(|of| of.permitted.is_some()) else {
            return Vec::new();
        };
        // What was used beyond the grant was told when it was used.
        let of_grant = |way: &Way| {
            let reaches = way.scope == Scope::Container || declared.granted.initial;
            reaches && declared.granted.may() >> way.capability & 1 == 1
        };
        let uses = self.uses_of(id).filter(|(way, _)| of_grant(way));
        uses.filter_map(|(way, first)| {
            let call = first.syscall.as_deref();
            let draft = privilege_escalation::detect(id, *way, call, &declared, &self.world)?;
            let task = self.world.tasks.get(&first.pid);
            let task = task.filter(|task| task.label == id);
            Some((draft, task.map_or(init, |task| task.state.key)))
        })
        .collect()
    }
}

/// All capabilities that a spec names.
fn named(spec: &SpecSummary) -> u64 {
    let Some(sets) = &spec.capabilities else {
        return 0;
    };
    let all = [
        &sets.bounding,
        &sets.effective,
        &sets.permitted,
        &sets.inheritable,
        &sets.ambient,
    ];
    let names = all.into_iter().flatten();
    let bits = names.filter_map(|name| capability::parse(name));
    bits.fold(0, |set, bit| set | 1 << bit)
}
