//! `process-control` (T9): a container's task reaches into a process of somebody else: it signals it, traces it,
//! reads its memory, takes its descriptors, or changes its limits.

use super::{Deed, Draft, DraftKind, name, possessive};
use crate::engine::world::{START_TOLERANCE_NS, World};
use crate::model::facts::HOST;
use crate::model::output::Evidence;
use crate::model::{Dimension, RuleId, Severity, Transition, Verdict, text};
use auditor_common::record::{act, kernel_str};

/// Drafts a finding when the target is neither the actor's own container nor nested in it.
pub fn detect(deed: &Deed<'_>, world: &World, out: &mut Vec<Draft>) {
    let record = deed.record;
    let target = world.task(&record.target);
    let object = world.owner(&record.target);
    if record.target.tgid == record.actor.tgid
        || object != HOST && world.contains(deed.label, object)
    {
        return;
    }
    let (access, severity) = match record.act {
        act::SIGNAL => (format!("signal {}", record.arg0), Severity::High),
        _ => return,
    };
    let key = record.target;
    out.push(Draft {
        kind: DraftKind::Violation,
        rule: RuleId::ProcessControl,
        transition: Some(Transition::T9),
        dimension: Dimension::Processes,
        severity,
        confidence: deed.confidence,
        subject: deed.label,
        object,
        object_id: (u64::from(key.tgid) << 32) ^ (key.start_boottime_ns / START_TOLERANCE_NS),
        by_iota: false,
        verdict: Some(Verdict::Violated),
        expected: None,
        observed: Some(Evidence::Task {
            pid: key.tgid,
            tid: (key.tid != key.tgid).then_some(key.tid),
            start_boottime_ns: key.start_boottime_ns,
            comm: target.map(|task| text::escape(kernel_str(&task.state.comm))),
            access: access.clone(),
            refused: None,
        }),
        message: format!(
            "{} reached into {} process {}: {access}",
            name(world, deed.label),
            possessive(world, object),
            key.tgid
        ),
    });
}
