//! `device-access` (T11): a container's task opens a device that not every container has, or makes a node for one.
//!
//! What its spec gives it is no violation: it is told for the record, with what can be done by it.

use super::{Deed, Draft, DraftKind, name};
use crate::engine::world::World;
use crate::inventory::container::SpecSummary;
use crate::model::device::Device;
use crate::model::facts::{EntityId, HOST};
use crate::model::output::Evidence;
use crate::model::{Dimension, RuleId, Severity, Transition, Verdict, fs, text};
use auditor_common::record::act;

/// `FMODE_READ` and `FMODE_WRITE`, in `file.f_mode`.
const READ: u64 = 1;
const WRITE: u64 = 2;

/// Drafts a finding for a device node that was opened or made.
pub fn detect(deed: &Deed<'_>, world: &World, out: &mut Vec<Draft>) {
    let (record, object) = (deed.record, &deed.record.object);
    let block = match object.mode & fs::TYPE_MASK {
        fs::BLOCK => true,
        fs::CHARACTER => false,
        _ => return,
    };
    let device = Device {
        block,
        major: object.rdev >> 20,
        minor: object.rdev & 0xf_ffff,
    };
    let made = record.act == act::MKNOD;
    // Overlay file systems mark a file that is gone by such a node.
    if device.is_plain() || made && (device.major, device.minor) == (0, 0) {
        return;
    }
    let declared = is_declared(world, deed.label, device);
    let (kind, severity) = match (declared, device.severity()) {
        (true, severity) => (DraftKind::Audit, severity.min(Severity::Medium)),
        (false, Severity::Critical) if made => (DraftKind::Violation, Severity::High),
        (false, severity) => (DraftKind::Violation, severity),
    };
    let mut access = Vec::new();
    if made {
        access.push("make".to_owned());
    } else {
        access.extend((record.arg1 & READ != 0).then(|| "read".to_owned()));
        access.extend((record.arg1 & WRITE != 0).then(|| "write".to_owned()));
    }
    let word = device.kind();
    let path = text::file_path(record.name());
    out.push(Draft {
        kind,
        rule: RuleId::DeviceAccess,
        transition: Some(Transition::T11),
        dimension: Dimension::Devices,
        severity,
        confidence: deed.confidence,
        subject: deed.label,
        object: HOST,
        object_id: u64::from(object.rdev) << 2 | u64::from(block) << 1 | u64::from(made),
        by_iota: false,
        verdict: Some(if declared {
            Verdict::DeclaredShared
        } else {
            Verdict::Violated
        }),
        expected: None,
        observed: Some(Evidence::Device {
            kind: word.to_owned(),
            major: device.major,
            minor: device.minor,
            path: (!path.is_empty()).then_some(path),
            access,
        }),
        message: format!(
            "{} {} {word} device {}:{}{}",
            name(world, deed.label),
            if made { "made a node for" } else { "opened" },
            device.major,
            device.minor,
            if declared {
                ", which its spec gives it"
            } else {
                ""
            },
        ),
    });
}

/// Whether the spec of the container, or of one around it, gives it this device.
fn is_declared(world: &World, label: EntityId, device: Device) -> bool {
    let gives = |spec: &SpecSummary| spec.devices.contains(&device);
    let entity = world.entities.get(&label);
    let answer = entity.and_then(|entity| entity.answer.as_ref());
    answer
        .and_then(|answer| answer.spec.as_ref())
        .is_some_and(gives)
}
