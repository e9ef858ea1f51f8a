//! `drift` (T7): two sweeps in a row found a task of a container in another state than its events
//! explain, and no event was lost.
//!
//! Either something changed the kernel's memory, or a hook does not see what it should. Both must be
//! known; which of them it is the line cannot say.

use super::privilege_gain::Gain;
use super::{
    Draft, DraftKind, creds_evidence, name, ns_evidence, ns_words, path_evidence, possessive,
};
use crate::engine::world::namespaces::NsIds;
use crate::engine::world::{Entity, World};
use crate::model::facts::{EntityId, HOST, ObjectKey};
use crate::model::output::Evidence;
use crate::model::{Confidence, Dimension, NsKind, RuleId, Severity, Transition, Verdict};
use auditor_common::record::{TaskState, cgroup, known, ns};

/// The parts of a state that a sweep compares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Bit per namespace slot.
    pub ns: u16,
    /// Bit per cgroup slot.
    pub cgroups: u16,
    /// User ids or capabilities.
    pub creds: bool,
    /// Root directory.
    pub root: bool,
}

impl Difference {
    /// Compares what is known on both sides.
    #[must_use]
    pub fn between(model: &TaskState, kernel: &TaskState) -> Self {
        let both = model.known & kernel.known;
        let mut difference = Self::default();
        if both & known::NS != 0 {
            for (slot, (a, b)) in model.ns.iter().zip(&kernel.ns).enumerate() {
                let unique = a.unique_id != 0 && b.unique_id != 0 && a.unique_id != b.unique_id;
                // 0: that side cannot see it (a pid namespace without an init, in /proc).
                if a.inum != 0 && b.inum != 0 && (a.inum != b.inum || unique) {
                    difference.ns |= 1 << slot;
                }
            }
        }
        if both & known::CGROUPS != 0 {
            for (slot, (a, b)) in model.cgroups.iter().zip(&kernel.cgroups).enumerate() {
                if a != b {
                    difference.cgroups |= 1 << slot;
                }
            }
        }
        if both & known::CREDS != 0 {
            let (a, b) = (&model.creds, &kernel.creds);
            difference.creds = (
                a.uid,
                a.euid,
                a.suid,
                a.fsuid,
                a.cap_permitted,
                a.cap_effective,
            ) != (
                b.uid,
                b.euid,
                b.suid,
                b.fsuid,
                b.cap_permitted,
                b.cap_effective,
            ) || (a.cap_bounding, a.cap_inheritable, a.cap_ambient)
                != (b.cap_bounding, b.cap_inheritable, b.cap_ambient);
        }
        if both & known::ROOT != 0 {
            difference.root =
                (model.root.dev, model.root.ino) != (kernel.root.dev, kernel.root.ino);
        }
        difference
    }

    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One part of a difference, in words.
struct Part {
    dimension: Dimension,
    severity: Severity,
    object: EntityId,
    expected: Option<Evidence>,
    observed: Option<Evidence>,
    what: String,
}

/// Drafts what a confirmed difference means: the worst part of it.
#[must_use]
pub fn draft(
    world: &World,
    label: EntityId,
    difference: Difference,
    model: &TaskState,
    kernel: &TaskState,
    ids: &NsIds,
) -> Option<Draft> {
    let entity = world.entities.get(&label)?;
    let namespaces = NsKind::ALL
        .iter()
        .filter(|k| difference.ns & (1 << k.slot()) != 0)
        .map(|&kind| namespace(world, entity, label, kind, model, ids))
        // Of equals the first.
        .reduce(|worst, next| {
            if next.severity > worst.severity {
                next
            } else {
                worst
            }
        });
    let Part {
        dimension,
        severity,
        object,
        expected,
        observed,
        what,
    } = match namespaces {
        Some(namespaces) => namespaces,
        None if difference.creds => creds(model, kernel),
        None if difference.root => root(world, model, kernel),
        None => place(world, difference, model, kernel),
    };
    let who = name(world, label);
    Some(Draft {
        kind: DraftKind::Drift,
        rule: RuleId::Drift,
        transition: Some(Transition::T7),
        dimension,
        severity,
        confidence: Confidence::Sampled,
        subject: label,
        object,
        // A mild change of a task must not fold a worse one that follows.
        object_id: u64::from(kernel.key.tid) | (severity as u64) << 32,
        by_iota: false,
        verdict: Some(Verdict::Violated),
        expected,
        observed,
        message: format!("a task of {who} {what}, and no event explains it"),
    })
}

fn namespace(
    world: &World,
    entity: &Entity,
    label: EntityId,
    kind: NsKind,
    model: &TaskState,
    ids: &NsIds,
) -> Part {
    let id = ids[kind.slot()];
    let object = super::owner(world, id);
    let home = entity.ns[kind.slot()] == id || object == label;
    let unknown = world.ns.get(id).filter(|ns| ns.unknown && !home);
    // Below the one that it was in, a user namespace gives nothing outside of itself.
    let is_below = |owner: u32| kind == NsKind::User && owner == model.ns[ns::USER].inum;
    let severity = match unknown {
        _ if home => Severity::Low,
        Some(ns) if is_below(ns.owner_inum) => Severity::Low,
        Some(_) => Severity::High,
        None => Severity::Critical,
    };
    let words = ns_words(kind);
    let which = match unknown {
        Some(_) => format!("an unknown {words}"),
        None => format!("{} {words}", possessive(world, object)),
    };
    Part {
        dimension: kind.dimension(),
        severity,
        object,
        expected: Some(Evidence::Ns {
            kind,
            inum: model.ns[kind.slot()].inum,
            initial: false,
        }),
        observed: ns_evidence(world, kind, id),
        what: format!("is in {which}"),
    }
}

fn creds(model: &TaskState, kernel: &TaskState) -> Part {
    let gain = Gain::between(model, kernel);
    Part {
        dimension: Dimension::Privilege,
        severity: if gain.is_some() {
            Severity::Critical
        } else {
            Severity::Low
        },
        object: HOST,
        expected: Some(creds_evidence(&model.creds, model.ns[ns::USER].inum)),
        observed: Some(creds_evidence(&kernel.creds, kernel.ns[ns::USER].inum)),
        what: gain.map_or_else(
            || "has other credentials".to_owned(),
            |gain| format!("has gained {}", gain.words()),
        ),
    }
}

fn root(world: &World, model: &TaskState, kernel: &TaskState) -> Part {
    let mounts = world.ns.by_inum(NsKind::Mnt, kernel.root.mnt_ns_inum);
    Part {
        dimension: Dimension::Root,
        severity: Severity::High,
        object: mounts.map_or(HOST, |id| super::owner(world, id)),
        expected: Some(path_evidence(&model.root)),
        observed: Some(path_evidence(&kernel.root)),
        what: "has another root directory".to_owned(),
    }
}

fn place(world: &World, difference: Difference, model: &TaskState, kernel: &TaskState) -> Part {
    let slot = difference.cgroups.trailing_zeros() as usize;
    let evidence = |state: &TaskState| {
        let key = world.cgroup_key(state, slot.min(cgroup::CONTROLLERS.len()))?;
        let path = world.cgroups.path(key).map(str::to_owned);
        Some(Evidence::Cgroup {
            path,
            id: key.1,
            hierarchy: key.0,
        })
    };
    Part {
        dimension: Dimension::Cgroup,
        severity: Severity::High,
        object: whose_cgroup(world, kernel),
        expected: evidence(model),
        observed: evidence(kernel),
        what: "sits in another cgroup".to_owned(),
    }
}

/// Whose cgroup a task sits in, if that is not its own container's; else the host.
fn whose_cgroup(world: &World, state: &TaskState) -> EntityId {
    let mut extra = world.task(&state.key).into_iter().flat_map(|t| &t.extra);
    extra
        .find_map(|(object, _)| match object {
            ObjectKey::Territory(place) => Some(*place),
            ObjectKey::Ns(..)
            | ObjectKey::Root(_)
            | ObjectKey::Cwd(_)
            | ObjectKey::Reference(_)
            | ObjectKey::Tree(_)
            | ObjectKey::Peer(_)
            | ObjectKey::Handle(_) => None,
        })
        .unwrap_or(HOST)
}
