//! `dangerous-capability`: a container was granted capabilities that are power over the host, or over other containers,
//! as it is set up. One line says all of it.

use super::{Draft, DraftKind, name};
use crate::engine::world::World;
use crate::model::facts::{EntityId, HOST, ObjectKey};
use crate::model::isolation::IsolationIndex;
use crate::model::output::Evidence;
use crate::model::power::{self, Circumstances, PERFMON, Power};
use crate::model::privileges::Granted;
use crate::model::{Confidence, Dimension, NsKind, RuleId, capability};
use auditor_common::record::cgroup;
use std::fmt::Write;

/// What a container can do to others, and to whom beside the host.
#[derive(Debug)]
pub struct Powers {
    /// What.
    pub powers: Vec<&'static Power>,
    /// Containers that share its pid namespace, over which it has them.
    pub others: Vec<EntityId>,
}

/// What its grant gives a container, as it is set up; `all_devices`: its cgroup lets it reach every device.
#[must_use]
pub fn powers(
    id: EntityId,
    granted: &Granted,
    all_devices: bool,
    world: &World,
    index: &IsolationIndex,
) -> Powers {
    let nothing = Powers {
        powers: Vec::new(),
        others: Vec::new(),
    };
    let Some(entity) = world.entities.get(&id).filter(|_| id != HOST) else {
        return nothing;
    };
    let own = |kind: NsKind| entity.ns[kind.slot()];
    let is_hosts = |kind| world.ns.get(own(kind)).is_some_and(|ns| ns.initial);
    let holders = index.holders(ObjectKey::ns(NsKind::Pid, own(NsKind::Pid)));
    let is_below = |other: EntityId| {
        let user = world.entities.get(&other);
        let user = user.map(|other| other.ns[NsKind::User.slot()]);
        granted.initial || user == Some(own(NsKind::User))
    };
    let others = holders.iter().map(|(other, _)| *other);
    let others: Vec<EntityId> = others
        .filter(|&other| other != HOST && !world.contains(id, other) && is_below(other))
        .collect();
    let v1 = world.hierarchies.iter().enumerate();
    let v1 = v1.filter(|(slot, hierarchy)| *slot != cgroup::V2 && hierarchy.is_some());
    let host_pid = is_hosts(NsKind::Pid);
    let circumstances = Circumstances::default()
        .and(Circumstances::INITIAL_USER, granted.initial)
        .and(Circumstances::HOST_PID, host_pid)
        .and(Circumstances::OTHERS_PID, !host_pid && !others.is_empty())
        .and(Circumstances::HOST_NET, is_hosts(NsKind::Net))
        .and(Circumstances::HOST_IPC, is_hosts(NsKind::Ipc))
        .and(Circumstances::CGROUP_V1, v1.count() > 0)
        .and(Circumstances::ALL_DEVICES, all_devices)
        .and(Circumstances::PERFMON, granted.may() >> PERFMON & 1 == 1);
    Powers {
        powers: power::of(granted, circumstances).collect(),
        others,
    }
}

/// Drafts the line of a container, without what is permitted to it; `None` if nothing is left.
#[must_use]
pub fn detect(id: EntityId, found: &Powers, permitted: u64, world: &World) -> Option<Draft> {
    let is_permitted = |power: &Power| permitted >> power.capability & 1 == 1;
    let all = found.powers.iter().copied();
    let told: Vec<&Power> = all.filter(|power| !is_permitted(power)).collect();
    let severity = told.iter().map(|power| power.severity).max()?;
    let set = power::capabilities(&told);
    let on_machine = |power: &&Power| !power.takes.has(Circumstances::OTHERS_PID);
    let host = told.iter().any(on_machine);
    let object = found.others.first().filter(|_| !host);
    Some(Draft {
        kind: DraftKind::Audit,
        rule: RuleId::DangerousCapability,
        transition: None,
        dimension: Dimension::Privilege,
        severity,
        confidence: Confidence::Exact,
        subject: id,
        object: object.copied().unwrap_or(HOST),
        object_id: set,
        by_iota: false,
        verdict: None,
        expected: None,
        observed: Some(Evidence::Setup {
            part: "capability".to_owned(),
            value: capability::names(set).join(" "),
        }),
        message: format!(
            "{} was granted power over {}: {}",
            name(world, id),
            if host { "the host" } else { "other containers" },
            words(&told)
        ),
    })
}

/// Names and, in brackets, what each gives.
fn words(powers: &[&Power]) -> String {
    let mut text = String::new();
    for group in powers.chunk_by(|a, b| a.capability == b.capability) {
        let Some(first) = group.first() else { continue };
        let separator = if text.is_empty() { "" } else { ", " };
        let name = capability::name(first.capability);
        let each: Vec<&str> = group.iter().map(|power| power.words).collect();
        // Writing to a String cannot fail.
        let _ = write!(text, "{separator}{name} ({})", each.join("; "));
    }
    text
}
