//! `privilege-gain`: a container's task gained capabilities or user id 0 by a legitimate call: a
//! setuid file, file capabilities, a new user namespace. Whether that is a violation is for the policy
//! to say; by default it is a line for the record.

use super::{Change, Draft, DraftKind, creds_evidence, name};
use crate::engine::world::World;
use crate::model::facts::HOST;
use crate::model::{Dimension, NsKind, RuleId, Severity, Verdict, capability};
use auditor_common::record::{Creds, TaskState, cause, known, ns};

/// What a task has now and had not before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gain {
    /// Permitted capabilities.
    pub permitted: u64,
    /// Bounding capabilities.
    pub bounding: u64,
    /// Effective capabilities that are not even permitted. No call gives those, but they are what the
    /// kernel asks for.
    pub usurped: u64,
    /// Whether the effective user id became 0.
    pub root: bool,
}

impl Gain {
    /// Compares two states of a task; `None` if nothing grew or the credentials are not known.
    #[must_use]
    pub fn between(before: &TaskState, after: &TaskState) -> Option<Self> {
        if before.known & after.known & known::CREDS == 0 {
            return None;
        }
        Self::of(&before.creds, &after.creds)
    }

    /// Compares two sets of credentials.
    #[must_use]
    pub fn of(before: &Creds, after: &Creds) -> Option<Self> {
        let gain = Self {
            permitted: after.cap_permitted & !before.cap_permitted,
            bounding: after.cap_bounding & !before.cap_bounding,
            usurped: after.cap_effective & !after.cap_permitted & !before.cap_effective,
            root: after.euid == 0 && before.euid != 0,
        };
        (gain.capabilities() != 0 || gain.root).then_some(gain)
    }

    /// Every capability that is new in one of the sets.
    #[must_use]
    pub const fn capabilities(&self) -> u64 {
        self.permitted | self.bounding | self.usurped
    }

    /// In words, for a sentence.
    #[must_use]
    pub fn words(&self) -> String {
        let mut parts = Vec::new();
        if self.root {
            parts.push("user id 0".to_owned());
        }
        let set = self.capabilities();
        if set != 0 {
            let names = capability::names(set);
            if names.len() > 6 {
                parts.push(format!("{} capabilities", names.len()));
            } else {
                parts.push(names.join(", "));
            }
        }
        parts.join(" and ")
    }
}

/// Drafts a finding for an exec, or a new user namespace, after which the task has more.
///
/// `before`: the credentials before it, which for an exec are those before it committed any.
pub fn detect(change: &Change<'_>, before: &Creds, world: &World, out: &mut Vec<Draft>) {
    if change.label == HOST || change.label != change.label_before {
        return;
    }
    let state = &change.record.state;
    let was_known = change
        .before
        .is_some_and(|b| b.known & state.known & known::CREDS != 0);
    if !was_known {
        return;
    }
    let new_user_ns = change.is_fresh(NsKind::User);
    if change.record.cause != cause::EXEC && !new_user_ns {
        return;
    }
    let Some(gain) = Gain::of(before, &state.creds) else {
        return;
    };
    let how = if new_user_ns {
        "in a user namespace that it made"
    } else {
        "by executing a file"
    };
    out.push(Draft {
        kind: DraftKind::Audit,
        rule: RuleId::PrivilegeGain,
        transition: None,
        dimension: Dimension::Privilege,
        severity: Severity::Medium,
        confidence: change.confidence,
        subject: change.label,
        object: HOST,
        object_id: gain.permitted,
        by_iota: false,
        verdict: Some(Verdict::Violated),
        expected: Some(creds_evidence(
            before,
            change.before.map_or(0, |b| b.ns[ns::USER].inum),
        )),
        observed: Some(creds_evidence(&state.creds, state.ns[ns::USER].inum)),
        message: format!(
            "{} gained {} {how}",
            name(world, change.label),
            gain.words()
        ),
    });
}
