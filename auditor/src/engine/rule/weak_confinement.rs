//! `weak-confinement`: what should keep a container from the kernel's weak spots is not there: no filter of system calls, no
//! security module, root in the machine's own user namespace; and two containers that a security module takes for one.

use super::{Draft, DraftKind, name};
use crate::engine::world::World;
use crate::model::facts::{EntityId, HOST};
use crate::model::lsm::Label;
use crate::model::output::Evidence;
use crate::model::privileges::Granted;
use crate::model::{Confidence, Dimension, RuleId, Severity};
use auditor_common::record::{TaskState, known};

/// No filter of system calls.
const NO_FILTER: u8 = 1;
/// A security module labels it and lets it do everything.
const UNCONFINED: u8 = 1 << 1;
/// Root over the machine's initial user namespace, with capabilities.
const ROOT: u8 = 1 << 2;
/// Its level is another container's too.
const SHARED_LEVEL: u8 = 1 << 3;

/// How a container's first task was confined when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confinement {
    /// What is missing, as bits.
    missing: u8,
    /// What a security module calls it; `None` where none labels tasks.
    label: Option<String>,
}

impl Confinement {
    /// What a task lacks. What is not known is not missing.
    #[must_use]
    pub fn of(state: &TaskState, granted: Option<&Granted>, label: Option<&str>) -> Self {
        let sees = |part| state.known & part != 0;
        let is_free = label.is_some_and(|label| Label::parse(label).confines() == Some(false));
        let has_some = granted.is_some_and(|granted| granted.initial && granted.permitted != 0);
        let is_root = sees(known::CREDS) && state.creds.euid == 0 && has_some;
        let bit = |bit, holds| if holds { bit } else { 0 };
        Self {
            missing: bit(
                NO_FILTER,
                sees(known::CONFINEMENT) && state.seccomp_mode == 0,
            ) | bit(UNCONFINED, is_free)
                | bit(ROOT, is_root),
            label: label.map(str::to_owned),
        }
    }

    /// Whether a security module takes two containers for one: the same level of SELinux, by which it keeps containers of
    /// one type apart.
    #[must_use]
    pub fn is_one_with(&self, other: &Self) -> bool {
        let level = |of: &Self| {
            let label = Label::parse(of.label.as_deref()?);
            let confined = label.confines() == Some(true);
            let level = label.categories().filter(|_| confined);
            level.map(str::to_owned)
        };
        level(self).is_some_and(|own| level(other) == Some(own))
    }

    /// How bad. By itself to be root is what most runtimes do with every container.
    fn severity(&self) -> Option<Severity> {
        let has = |bit| self.missing & bit != 0;
        let no_module = has(UNCONFINED) || self.label.is_none();
        match (has(NO_FILTER), has(UNCONFINED), has(ROOT)) {
            (true, _, true) if no_module => Some(Severity::Medium),
            (true, ..) | (_, true, _) => Some(Severity::Low),
            (false, false, true) => Some(Severity::Info),
            (false, false, false) => None,
        }
    }

    fn words(&self) -> (String, Vec<&'static str>) {
        let mut words = Vec::new();
        let mut parts = Vec::new();
        if self.missing & NO_FILTER != 0 {
            words.push("no filter of system calls".to_owned());
            parts.push("no_seccomp");
        }
        match &self.label {
            Some(label) if self.missing & UNCONFINED != 0 => {
                words.push(format!("not confined by a security module ({label})"));
                parts.push("no_lsm");
            }
            Some(_) => {}
            None => {
                words.push("no security module labels tasks on this machine".to_owned());
                parts.push("no_lsm_here");
            }
        }
        if self.missing & ROOT != 0 {
            words.push("root in the machine's initial user namespace".to_owned());
            parts.push("root");
        }
        (words.join(", "), parts)
    }
}

/// Drafts the line that lists what a container lacks.
#[must_use]
pub fn detect(id: EntityId, confinement: &Confinement, world: &World) -> Option<Draft> {
    let severity = confinement.severity()?;
    let (words, parts) = confinement.words();
    Some(Draft {
        severity,
        object_id: u64::from(confinement.missing),
        observed: Some(evidence("confinement", parts.join(" "))),
        message: format!("{} is weakly confined: {words}", name(world, id)),
        ..draft(id, HOST)
    })
}

/// Drafts the line of two containers that a security module takes for one.
#[must_use]
pub fn detect_shared(
    id: EntityId,
    other: EntityId,
    confinement: &Confinement,
    world: &World,
) -> Draft {
    let label = confinement.label.as_deref().unwrap_or_default();
    Draft {
        severity: Severity::Medium,
        object_id: u64::from(SHARED_LEVEL),
        observed: Some(evidence("lsm_label", label.to_owned())),
        message: format!(
            "{} and {} have one SELinux level, so nothing of it keeps them apart ({label})",
            name(world, id),
            name(world, other)
        ),
        ..draft(id, other)
    }
}

fn evidence(part: &str, value: String) -> Evidence {
    Evidence::Setup {
        part: part.to_owned(),
        value,
    }
}

const fn draft(subject: EntityId, object: EntityId) -> Draft {
    Draft {
        kind: DraftKind::Audit,
        rule: RuleId::WeakConfinement,
        transition: None,
        dimension: Dimension::Privilege,
        severity: Severity::Low,
        confidence: Confidence::Exact,
        subject,
        object,
        object_id: 0,
        by_iota: false,
        verdict: None,
        expected: None,
        observed: None,
        message: String::new(),
    }
}
