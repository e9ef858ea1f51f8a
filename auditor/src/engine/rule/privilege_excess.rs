//! `privilege-excess`: a container was granted capabilities that the roles it has do not permit.

use super::{Draft, DraftKind, creds_evidence, name};
use crate::engine::world::{Task, World};
use crate::model::facts::{EntityId, HOST};
use crate::model::privileges::Granted;
use crate::model::{Confidence, Dimension, NsKind, RuleId, Severity, Verdict, capability};
use auditor_common::record::Creds;

/// Drafts a finding if the first task of a container was granted more than is permitted. `roles` names those that limit
/// it.
#[must_use]
pub fn detect(
    label: EntityId,
    init: &Task,
    permitted: u64,
    roles: &[&str],
    world: &World,
) -> Option<Draft> {
    let state = &init.state;
    let own = world.ns.ids(init.set)[NsKind::User.slot()];
    let initial = world.ns.get(own).is_none_or(|user| user.initial);
    let granted = Granted::of(state, initial)?.may();
    let excess = granted & !permitted;
    if excess == 0 {
        return None;
    }
    let evidence = |set| {
        let creds = Creds {
            cap_permitted: set,
            cap_effective: set,
            ..state.creds
        };
        Some(creds_evidence(&creds, state.ns[NsKind::User.slot()].inum))
    };
    let noun = if roles.len() == 1 { "role" } else { "roles" };
    Some(Draft {
        kind: DraftKind::Violation,
        rule: RuleId::PrivilegeExcess,
        transition: None,
        dimension: Dimension::Privilege,
        // Over a user namespace of its own it is power over what is the container's anyway.
        severity: match initial {
            true => Severity::High,
            false => Severity::Medium,
        },
        confidence: Confidence::Exact,
        subject: label,
        object: HOST,
        object_id: excess,
        by_iota: false,
        verdict: Some(Verdict::Violated),
        expected: evidence(granted & permitted),
        observed: evidence(granted),
        message: format!(
            "{} may use {}, which {noun} {} {} not permit",
            name(world, label),
            capability::names(excess).join(", "),
            roles.join(", "),
            if roles.len() == 1 { "does" } else { "do" },
        ),
    })
}
