//! `host-runs-container-file` (T6): a task of the host runs code that a container can write, outside of the container.

use super::foreign_file::{evidence, object_id};
use super::{Deed, Draft, DraftKind, name, owner};
use crate::engine::world::World;
use crate::model::facts::{EntityId, HOST};
use crate::model::output::Evidence;
use crate::model::setup::is_below;
use crate::model::{Confidence, Dimension, NsKind, RuleId, Severity, Transition, Verdict, text};
use auditor_common::record::{ActRecord, TaskState, act, kernel_str, ns, path_flags};

/// Drafts a finding when the file's mount is a container's.
#[must_use]
pub fn detect(deed: &Deed<'_>, world: &World) -> Option<Draft> {
    let file = &deed.record.object;
    if file.flags & path_flags::DETACHED != 0 || file.mnt_ns_inum == deed.state.ns[ns::MNT].inum {
        return None;
    }
    let id = world.ns.by_inum(NsKind::Mnt, file.mnt_ns_inum)?;
    let object = owner(world, id);
    if object == HOST {
        return None;
    }
    let seen = evidence(deed.record, vec!["execute".to_owned()]);
    Some(Draft {
        confidence: deed.confidence,
        ..draft(world, object, object_id(file), verb(deed.record), seen)
    })
}

/// Drafts a finding when a path names a file below a container's root file system, as the host sees it, or below one of
/// `uppers`: directories where an overlay puts what a container writes.
pub fn detect_by_path<'a>(
    state: &TaskState,
    filename: &[u8],
    mut uppers: impl Iterator<Item = (EntityId, &'a str)>,
    world: &World,
    out: &mut Vec<Draft>,
) {
    let path = kernel_str(filename);
    // What another root calls by this name is another file.
    if !path.starts_with(b"/") || (state.root.dev, state.root.ino) != world.host().root {
        return;
    }
    let shown = text::escape(path);
    let lies_below = |above: &str| shown.len() > above.len() && is_below(&shown, above);
    if let Some((id, _)) = uppers.find(|(_, upper)| lies_below(upper)) {
        out.push(by_path(world, id, path));
        return;
    }
    for (&id, entity) in world.entities.iter() {
        let bundle = entity.answer.as_ref().and_then(|a| a.bundle.as_deref());
        let Some(bundle) = bundle else { continue };
        let below = path.strip_prefix(bundle.trim_end_matches('/').as_bytes());
        if !below.is_some_and(|below| below.starts_with(b"/rootfs/"))
            || entity.ns[ns::MNT] == world.host().ns[ns::MNT]
        {
            continue;
        }
        out.push(by_path(world, id, path));
    }
}

/// What was executed by this path.
fn by_path(world: &World, object: EntityId, path: &[u8]) -> Draft {
    let seen = Evidence::File {
        dev: 0,
        ino: 0,
        mnt_ns: 0,
        path: Some(text::escape(path)),
        access: vec!["execute".to_owned()],
    };
    let number = path.iter().fold(0_u64, |sum, &byte| {
        sum.wrapping_mul(31).wrapping_add(u64::from(byte))
    });
    draft(world, object, number, "executed", seen)
}

const fn verb(record: &ActRecord) -> &'static str {
    match record.act {
        act::MAP => "mapped",
        _ => "executed",
    }
}

fn draft(world: &World, object: EntityId, object_id: u64, verb: &str, seen: Evidence) -> Draft {
    Draft {
        kind: DraftKind::Violation,
        rule: RuleId::HostRunsContainerFile,
        transition: Some(Transition::T6),
        dimension: Dimension::References,
        severity: Severity::High,
        confidence: Confidence::Exact,
        subject: HOST,
        object,
        object_id,
        by_iota: false,
        verdict: Some(Verdict::Violated),
        expected: None,
        observed: Some(seen),
        message: format!(
            "a task of the host {verb} a file of {}",
            name(world, object)
        ),
    }
}
