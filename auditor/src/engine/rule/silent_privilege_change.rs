//! `silent-privilege-change` (T7): credentials grew in a way in which the kernel never lets them grow.
//!
//! Permitted and bounding capabilities grow by exec and by entering a user namespace, never otherwise;
//! effective ones never beyond the permitted; user id 0 comes back only to a task that kept it as real or
//! saved id, or has `SETUID`. Whoever grows them in another call, or in none, has changed the kernel's
//! memory, or has made the kernel call `commit_creds` on its behalf. The engine holds a suspicious change
//! until the task's next event or the next tick: an exec commits its credentials shortly before it is
//! reported. What a sweep finds has waited for the next sweep, and waits no longer.

use super::privilege_gain::Gain;
use super::{Draft, DraftKind, creds_evidence, name};
use crate::engine::world::World;
use crate::model::facts::{EntityId, HOST};
use crate::model::{Confidence, Dimension, RuleId, Severity, Transition, Verdict};
use auditor_common::record::{TaskState, ns};

/// Bit of `CAP_SETUID`.
const CAP_SETUID: u64 = 1 << 7;

/// Whether a change outside of exec and of a new user namespace is one that the kernel never makes.
#[must_use]
pub fn impossible(before: &TaskState, after: &TaskState) -> bool {
    if before.ns[ns::USER].inum != after.ns[ns::USER].inum {
        // In a child namespace everything is granted anew: that is a nest or a join, judged there.
        return false;
    }
    let Some(gain) = Gain::between(before, after) else {
        return false;
    };
    let kept = [before.creds.uid, before.creds.suid, before.creds.fsuid].contains(&0);
    // Ids here are those of the initial user namespace: a namespace's own root may map anywhere,
    // so only capabilities can tell there.
    let root = gain.root
        && !kept
        && before.creds.cap_effective & CAP_SETUID == 0
        && before.user_level == 0;
    gain.capabilities() != 0 || root
}

/// Drafts the finding.
#[must_use]
pub fn draft(
    world: &World,
    label: EntityId,
    before: &TaskState,
    after: &TaskState,
    confidence: Confidence,
) -> Option<Draft> {
    let gain = Gain::between(before, after)?;
    Some(Draft {
        kind: DraftKind::Violation,
        rule: RuleId::SilentPrivilegeChange,
        transition: Some(Transition::T7),
        dimension: Dimension::Privilege,
        severity: Severity::Critical,
        confidence,
        subject: label,
        object: HOST,
        object_id: gain.capabilities(),
        by_iota: false,
        verdict: Some(Verdict::Violated),
        expected: Some(creds_evidence(&before.creds, before.ns[ns::USER].inum)),
        observed: Some(creds_evidence(&after.creds, after.ns[ns::USER].inum)),
        message: format!(
            "{} gained {} by no call that may give it",
            name(world, label),
            gain.words()
        ),
    })
}
