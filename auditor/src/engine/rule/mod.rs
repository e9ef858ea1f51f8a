//! The rules: one detector per file.
//!
//! A detector is a pure function of one change in the world. It does not know the policy, does not
//! count and does not fold: it drafts what the change means, and the reporter decides what becomes of it.

pub mod cgroup_migration;
pub mod container_enter;
pub mod dangerous_capability;
pub mod device_access;
pub mod directory;
pub mod drift;
pub mod foreign_cwd;
pub mod foreign_file;
pub mod foreign_mount;
pub mod foreign_root;
pub mod host_runs_container_file;
pub mod kernel_code;
pub mod kernel_knob;
pub mod namespace_join;
pub mod namespace_nest;
pub mod page_cache_prestep;
pub mod privilege_escalation;
pub mod privilege_excess;
pub mod privilege_gain;
pub mod process_control;
pub mod setup_mismatch;
pub mod shared;
pub mod silent_privilege_change;
pub mod socket;
pub mod weak_confinement;

use super::world::World;
use super::world::namespaces::NsIds;
use crate::model::facts::{EntityId, HOST, NsId};
use crate::model::output::Evidence;
use crate::model::{
    Confidence, Dimension, NsKind, RuleId, Severity, Transition, Verdict, capability, text,
};
use auditor_common::record::{ActRecord, Creds, PathRef, TaskRecord, TaskState};

/// One change of one task, after the world has taken it in.
#[derive(Debug)]
pub struct Change<'a> {
    /// The record that brought it.
    pub record: &'a TaskRecord,
    /// Number of the event.
    pub event: u64,
    /// The task's label after the change.
    pub label: EntityId,
    /// Its label before: differs when the change made it part of a container.
    pub label_before: EntityId,
    /// Label of who acted.
    pub actor: EntityId,
    /// The state before; `None` when the task was not known (for a birth: the parent's).
    pub before: Option<&'a TaskState>,
    /// The namespaces before, likewise.
    pub ids_before: Option<NsIds>,
    /// The namespaces after.
    pub ids: NsIds,
    /// Bit per slot: the change made this namespace.
    pub fresh: u16,
    /// How sure the label is.
    pub confidence: Confidence,
}

impl<'a> Change<'a> {
    /// What a record says of a task that keeps its label and its namespaces. Where more than that changes, its
    /// maker says what.
    #[must_use]
    pub fn of(
        record: &'a TaskRecord,
        event: u64,
        label: EntityId,
        ids: NsIds,
        confidence: Confidence,
    ) -> Self {
        Self {
            record,
            event,
            label,
            label_before: label,
            actor: label,
            before: None,
            ids_before: Some(ids),
            ids,
            fresh: 0,
            confidence,
        }
    }
}

impl Change<'_> {
    /// Slots whose namespace is another one than before.
    pub fn switched(&self) -> impl Iterator<Item = (NsKind, NsId)> + '_ {
        NsKind::ALL.iter().filter_map(|&kind| {
            let before = self.ids_before?;
            let id = self.ids[kind.slot()];
            let same = before[kind.slot()] == id;
            // A fresh namespace is a change even where the kernel gave it the old one's number.
            (!same || self.fresh & (1 << kind.slot()) != 0).then_some((kind, id))
        })
    }

    /// Whether the change made the namespace in this slot.
    #[must_use]
    pub fn is_fresh(&self, kind: NsKind) -> bool {
        self.fresh & (1 << kind.slot()) != 0
    }
}

/// One act of one task on something outside of its own state.
#[derive(Debug)]
pub struct Deed<'a> {
    /// The record that tells it.
    pub record: &'a ActRecord,
    /// Number of the event.
    pub event: u64,
    /// The acting task's label.
    pub label: EntityId,
    /// The acting task's last known state.
    pub state: &'a TaskState,
    /// Name of the syscall that it was in.
    pub syscall: Option<&'static str>,
    /// How sure the label is.
    pub confidence: Confidence,
}

/// What becomes of a draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DraftKind {
    /// A violation.
    Violation,
    /// For the record.
    Audit,
    /// Model and kernel differ.
    Drift,
}

/// A finding before policy, folding and counting.
#[derive(Clone, Debug)]
pub struct Draft {
    /// What it is.
    pub kind: DraftKind,
    /// The rule.
    pub rule: RuleId,
    /// The transition it cites.
    pub transition: Option<Transition>,
    /// The dimension.
    pub dimension: Dimension,
    /// How bad.
    pub severity: Severity,
    /// How sure.
    pub confidence: Confidence,
    /// Who.
    pub subject: EntityId,
    /// Against whom.
    pub object: EntityId,
    /// The kernel object between them, for folding: a number that no other object gets within a window.
    pub object_id: u64,
    /// Whether the verdict must be `violated` by ι for the draft to stand: a share that the policy
    /// declares, or a nesting, then silences it.
    pub by_iota: bool,
    /// The verdict where ι does not decide.
    pub verdict: Option<Verdict>,
    /// What should be there.
    pub expected: Option<Evidence>,
    /// What is there.
    pub observed: Option<Evidence>,
    /// One sentence.
    pub message: String,
}

/// Whose namespace it is: an entity's own, or (for initial ones and all that the host made) the host's.
#[must_use]
pub fn owner(world: &World, id: NsId) -> EntityId {
    let Some(ns) = world.ns.get(id) else {
        return HOST;
    };
    match ns.entity {
        Some(entity) => entity,
        None => ns.made_by,
    }
}

/// How an entity is called in a sentence: by name, else by its id, which stands in full in the party.
#[must_use]
pub fn name(world: &World, id: EntityId) -> String {
    if id == HOST {
        return "the host".to_owned();
    }
    match world.entities.get(&id) {
        Some(entity) => {
            let answer = entity.answer.as_ref();
            match answer.and_then(|a| a.name.as_deref()) {
                Some(name) => format!("container {name}"),
                None => {
                    let id = answer.map_or(entity.key.as_str(), |a| a.id.as_str());
                    format!("container {}", text::short_id(id))
                }
            }
        }
        None => "a container that is gone".to_owned(),
    }
}

/// As [`name`], possessive.
#[must_use]
pub fn possessive(world: &World, id: EntityId) -> String {
    format!("{}'s", name(world, id))
}

/// What people call a kind of namespace.
#[must_use]
pub const fn ns_words(kind: NsKind) -> &'static str {
    match kind {
        NsKind::Mnt => "mount namespace",
        NsKind::Pid => "pid namespace",
        NsKind::PidForChildren => "pid namespace for its children",
        NsKind::Net => "network namespace",
        NsKind::Ipc => "IPC namespace",
        NsKind::Uts => "UTS namespace",
        NsKind::Cgroup => "cgroup namespace",
        NsKind::Time => "time namespace",
        NsKind::TimeForChildren => "time namespace for its children",
        NsKind::User => "user namespace",
    }
}

/// A namespace as evidence.
#[must_use]
pub fn ns_evidence(world: &World, kind: NsKind, id: NsId) -> Option<Evidence> {
    world.ns.get(id).map(|ns| Evidence::Ns {
        kind,
        inum: ns.inum,
        initial: ns.initial,
    })
}

/// A directory as evidence.
#[must_use]
pub const fn path_evidence(path: &PathRef) -> Evidence {
    Evidence::File {
        dev: path.dev,
        ino: path.ino,
        mnt_ns: path.mnt_ns_inum,
        path: None,
        access: Vec::new(),
    }
}

/// Credentials as evidence.
#[must_use]
pub fn creds_evidence(creds: &Creds, user_ns: u32) -> Evidence {
    let names = |set| {
        let names = capability::names(set);
        names.into_iter().map(str::to_owned).collect()
    };
    let same = creds.cap_effective == creds.cap_permitted;
    Evidence::Creds {
        uid: creds.uid,
        euid: creds.euid,
        permitted: names(creds.cap_permitted),
        effective: (!same).then(|| names(creds.cap_effective)),
        user_ns,
    }
}
