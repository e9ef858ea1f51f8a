//! `privilege-escalation`: a container's task used a capability that nobody declared: not granted to the container, not in
//! its spec, not permitted by its roles. Or one that it was granted, and that its roles do not permit.

use super::{Draft, DraftKind, name};
use crate::engine::world::World;
use crate::model::facts::{EntityId, HOST};
use crate::model::output::Evidence;
use crate::model::privileges::{Granted, Scope, Way};
use crate::model::{Confidence, Dimension, RuleId, Severity, Verdict, capability};

/// What is declared of a container.
#[derive(Debug)]
pub struct Declared<'a> {
    /// What its first task had when it began.
    pub granted: Granted,
    /// What its spec names, in any set.
    pub spec: u64,
    /// What its roles permit; `None` where none limits it.
    pub permitted: Option<u64>,
    /// Those roles.
    pub roles: Vec<&'a str>,
    /// What the acting task, or the ancestor that came in from outside, had over that user namespace when it came.
    pub brought: u64,
}

/// What a use is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Nothing that was in the container can have given it.
    Escalated,
    /// Somebody came in with more than the container has.
    Brought,
    /// Its roles do not permit it.
    NotPermitted,
}

fn judge(way: Way, declared: &Declared<'_>) -> Option<Use> {
    // What is asked for over a user namespace made inside takes no grant, and what is asked for over another's says nothing
    // of this one.
    let own = matches!(way.scope, Scope::Initial | Scope::Container);
    if !own || !way.granted || way.probe {
        return None;
    }
    let has = |set: u64| set >> way.capability & 1 == 1;
    // A grant over a user namespace of its own is none over the machine's.
    let reaches = way.scope == Scope::Container || declared.granted.initial;
    let granted = reaches && has(declared.granted.may() | declared.spec);
    match declared.permitted {
        Some(permitted) if has(permitted) => None,
        Some(_) if granted => Some(Use::NotPermitted),
        None if granted => None,
        _ if has(declared.brought) => Some(Use::Brought),
        _ => Some(Use::Escalated),
    }
}

/// Drafts a finding for a use of a capability that is not declared.
#[must_use]
pub fn detect(
    label: EntityId,
    way: Way,
    call: Option<&str>,
    declared: &Declared<'_>,
    world: &World,
) -> Option<Draft> {
    let what = judge(way, declared)?;
    let (kind, severity) = match what {
        Use::Escalated => (DraftKind::Violation, Severity::Critical),
        Use::Brought => (DraftKind::Audit, Severity::Medium),
        Use::NotPermitted => (DraftKind::Violation, Severity::High),
    };
    let who = name(world, label);
    let used = format!(
        "used {} over {}{}",
        capability::name(way.capability),
        match way.scope {
            Scope::Initial => "the machine's initial user namespace",
            _ => "its user namespace",
        },
        call.map_or_else(String::new, |call| format!(" ({call})")),
    );
    let message = match what {
        Use::Escalated => format!("{who} {used}, which nobody granted to it"),
        Use::Brought => format!("a task that came into {who} with more than that has {used}"),
        Use::NotPermitted => {
            let (noun, verb) = match declared.roles.len() {
                1 => ("role", "does"),
                _ => ("roles", "do"),
            };
            let roles = declared.roles.join(", ");
            format!("{who} {used}, which {noun} {roles} {verb} not permit")
        }
    };
    let set = |capabilities| Evidence::Setup {
        part: "capability".to_owned(),
        value: capability::names(capabilities).join(" "),
    };
    let allowed = declared.permitted.unwrap_or(u64::MAX) & declared.granted.may();
    Some(Draft {
        kind,
        rule: RuleId::PrivilegeEscalation,
        transition: None,
        dimension: Dimension::Privilege,
        severity,
        confidence: Confidence::Exact,
        subject: label,
        object: HOST,
        object_id: 1 << way.capability,
        by_iota: false,
        verdict: (kind == DraftKind::Violation).then_some(Verdict::Violated),
        expected: Some(set(allowed)),
        observed: Some(set(1 << way.capability)),
        message,
    })
}
