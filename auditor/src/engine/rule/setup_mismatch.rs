//! `setup-mismatch` (T14): a container runs with less protection than its OCI spec promises. Runtimes add to what a
//! spec says; they must not leave out.

use super::{Draft, DraftKind, name};
use crate::engine::world::namespaces::NO_NS;
use crate::engine::world::{Task, World};
use crate::inventory::container::{DeclaredMount, NamespaceKind, SpecSummary};
use crate::model::device::Device;
use crate::model::facts::{EntityId, HOST};
use crate::model::output::Evidence;
use crate::model::setup::{DeviceNode, SetUp, is_below};
use crate::model::{
    Confidence, Dimension, NsKind, RuleId, Severity, Transition, Verdict, capability,
};
use auditor_common::record::{known, task_flags};

/// Findings about one container.
const MAX_DRAFTS: usize = 32;

/// One thing that is not as promised.
#[derive(Debug)]
struct Mismatch {
    part: &'static str,
    severity: Severity,
    expected: String,
    observed: String,
}

/// Paths of a spec whose absence from the kernel explains why nothing covers them.
#[must_use]
pub fn paths(spec: &SpecSummary) -> Vec<String> {
    let all = spec.masked_paths.iter().chain(&spec.readonly_paths);
    let kernels = all.filter(|path| is_kernels(path));
    kernels.cloned().collect()
}

fn is_kernels(path: &str) -> bool {
    let climbs = path.split('/').any(|part| part == "..");
    !climbs && (is_below(path, "/proc") || is_below(path, "/sys"))
}

/// Whether a spec, or what runtimes add to every container, explains a mount of a table at this place.
#[must_use]
pub fn explains(spec: &SpecSummary, setup: &SetUp, point: &str) -> bool {
    let declared = spec.mounts.iter().any(|mount| {
        let destination = mount.destination.trim_end_matches('/');
        !destination.is_empty()
            && (is_below(point, destination)
                || last(destination) == last(point) && leads_elsewhere(setup, destination))
    });
    declared
        || point == "/"
        || ["/dev", "/proc", "/sys"]
            .iter()
            .any(|at| is_below(point, at))
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// A link on the way to a destination leads to the same name elsewhere: nothing is mounted at the destination itself.
fn leads_elsewhere(setup: &SetUp, destination: &str) -> bool {
    !setup.mounts.iter().any(|mount| mount.point == destination)
}

/// Drafts one finding for each thing that is not as the spec says.
#[must_use]
pub fn detect(
    spec: &SpecSummary,
    setup: &SetUp,
    label: EntityId,
    init: &Task,
    world: &World,
) -> Vec<Draft> {
    let mut found = Vec::new();
    covered(spec, setup, &mut found);
    mounted(spec, setup, &mut found);
    privileges(spec, init, &mut found);
    namespaces(spec, init, world, &mut found);
    labelled(spec, setup, &mut found);
    devices(spec, setup, &mut found);
    let drafts = found.into_iter().take(MAX_DRAFTS).enumerate();
    drafts
        .map(|(index, mismatch)| draft(label, index, mismatch, world))
        .collect()
}

/// Masked and read-only paths of proc and sysfs. Others may be missing from the image, and nobody looks.
fn covered(spec: &SpecSummary, setup: &SetUp, out: &mut Vec<Mismatch>) {
    let masked = spec.masked_paths.iter().map(|path| (path, true));
    let read_only = spec.readonly_paths.iter().map(|path| (path, false));
    for (path, mask) in masked.chain(read_only) {
        if !is_kernels(path) || !setup.present.contains(path) {
            continue;
        }
        let Some(mount) = setup.at(path) else {
            continue;
        };
        let pseudo = matches!(mount.fs_type.as_str(), "proc" | "sysfs");
        let (part, promise, open) = match mask {
            true => ("masked_path", "masked", !mount.mask),
            false => ("read_only_path", "read-only", !mount.protects()),
        };
        if pseudo && open {
            out.push(Mismatch {
                part,
                severity: Severity::High,
                expected: format!("{path} {promise}"),
                observed: format!("{path} {}", if mask { "visible" } else { "writable" }),
            });
        }
    }
}

fn mounted(spec: &SpecSummary, setup: &SetUp, out: &mut Vec<Mismatch>) {
    if setup.omitted > 0 {
        return;
    }
    for declared in &spec.mounts {
        let destination = declared.destination.trim_end_matches('/');
        if destination.is_empty() {
            continue;
        }
        let at = |m: &&crate::model::setup::Mount| m.point == destination;
        let Some(mount) = setup.mounts.iter().rfind(at) else {
            // A link on the way leads elsewhere: then something is mounted under the same name.
            let same = |m: &crate::model::setup::Mount| last(&m.point) == last(destination);
            let elsewhere = setup.mounts.iter().any(same);
            if !elsewhere {
                out.push(Mismatch {
                    part: "mount",
                    severity: Severity::Medium,
                    expected: format!("a mount at {destination}"),
                    observed: format!("no mount at {destination}"),
                });
            }
            continue;
        };
        if let Some(kind) = own_kind(declared)
            && kind != mount.fs_type
        {
            out.push(Mismatch {
                part: "mount",
                severity: Severity::Medium,
                expected: format!("{kind} at {destination}"),
                observed: format!("{} at {destination}", mount.fs_type),
            });
        }
        // Hierarchies of version 1 stand on a directory of their own.
        let is_cgroup = declared.kind.as_deref() == Some("cgroup");
        if declared.is_read_only() && !mount.read_only && !is_cgroup {
            out.push(Mismatch {
                part: "mount",
                severity: Severity::Medium,
                expected: format!("{destination} read-only"),
                observed: format!("{destination} writable"),
            });
        }
    }
}

/// The kind of file system that a mount must be, where runtimes take no other.
fn own_kind(declared: &DeclaredMount) -> Option<&str> {
    let kind = declared.kind.as_deref()?;
    let certain = matches!(kind, "proc" | "tmpfs" | "devpts") && !declared.is_bind();
    certain.then_some(kind)
}

/// Whether a first process holds more than its spec gives it: capabilities, or less confinement.
#[must_use]
pub fn holds_more(spec: &SpecSummary, init: &Task) -> bool {
    let mut found = Vec::new();
    privileges(spec, init, &mut found);
    !found.is_empty()
}

fn privileges(spec: &SpecSummary, init: &Task, out: &mut Vec<Mismatch>) {
    let state = &init.state;
    if state.known & known::CREDS != 0
        && let Some(declared) = &spec.capabilities
    {
        let creds = &state.creds;
        let sets = [
            (&declared.bounding, creds.cap_bounding),
            (&declared.permitted, creds.cap_permitted),
            (&declared.effective, creds.cap_effective),
        ];
        // A file or root may give what the bounding set allows.
        let bounding = mask_of(&declared.bounding);
        let beyond = sets.iter().fold(0, |beyond, (names, has)| {
            beyond | has & !(mask_of(names) | bounding)
        });
        if beyond != 0 {
            out.push(Mismatch {
                part: "capability",
                severity: Severity::High,
                expected: "those of the spec".to_owned(),
                observed: capability::names(beyond).join(" "),
            });
        }
    }
    if state.known & known::CONFINEMENT == 0 {
        return;
    }
    if spec.seccomp && state.seccomp_mode == 0 {
        out.push(Mismatch {
            part: "seccomp",
            severity: Severity::High,
            expected: "filter".to_owned(),
            observed: "off".to_owned(),
        });
    }
    if spec.no_new_privileges && state.task_flags & task_flags::NO_NEW_PRIVS == 0 {
        out.push(Mismatch {
            part: "no_new_privs",
            severity: Severity::Medium,
            expected: "set".to_owned(),
            observed: "not set".to_owned(),
        });
    }
}

fn mask_of(names: &[String]) -> u64 {
    let bits = names.iter().filter_map(|name| capability::parse(name));
    bits.fold(0, |mask, bit| {
        mask | 1_u64.checked_shl(u32::from(bit)).unwrap_or(0)
    })
}

fn namespaces(spec: &SpecSummary, init: &Task, world: &World, out: &mut Vec<Mismatch>) {
    let ids = world.ns.ids(init.set);
    let host = &world.host().ns;
    for declared in spec.namespaces.iter().filter(|n| n.path.is_none()) {
        let kind = kind_of(declared.kind);
        let (own, theirs) = (ids[kind.slot()], host[kind.slot()]);
        if own == theirs && own != NO_NS {
            out.push(Mismatch {
                part: "namespace",
                severity: Severity::Medium,
                expected: format!("its own {} namespace", declared.kind.oci_name()),
                observed: format!("the host's {} namespace", declared.kind.oci_name()),
            });
        }
    }
}

const fn kind_of(kind: NamespaceKind) -> NsKind {
    match kind {
        NamespaceKind::Mount => NsKind::Mnt,
        NamespaceKind::Pid => NsKind::Pid,
        NamespaceKind::Network => NsKind::Net,
        NamespaceKind::Ipc => NsKind::Ipc,
        NamespaceKind::Uts => NsKind::Uts,
        NamespaceKind::Cgroup => NsKind::Cgroup,
        NamespaceKind::User => NsKind::User,
        NamespaceKind::Time => NsKind::Time,
    }
}

/// The label that the LSM in force gives. A label that only another LSM would give says nothing.
fn labelled(spec: &SpecSummary, setup: &SetUp, out: &mut Vec<Mismatch>) {
    let Some(label) = setup.lsm.as_deref().filter(|label| !label.is_empty()) else {
        return;
    };
    let selinux = label.split(':').count() >= 4 && !label.contains(' ');
    let declared = match selinux {
        true => spec.selinux_label.as_deref(),
        false => spec.apparmor_profile.as_deref(),
    };
    let Some(declared) = declared else { return };
    // AppArmor adds the mode in brackets.
    let observed = label.split(" (").next().unwrap_or(label);
    if observed != declared && !observed.ends_with(declared) {
        out.push(Mismatch {
            part: "lsm_label",
            severity: Severity::Medium,
            expected: declared.to_owned(),
            observed: observed.to_owned(),
        });
    }
}

/// Device nodes that the container was not given.
fn devices(spec: &SpecSummary, setup: &SetUp, out: &mut Vec<Mismatch>) {
    if !spec.devices_final || spec.all_devices {
        return;
    }
    for DeviceNode { name, device } in setup.devices.iter().flatten() {
        if device.is_plain() || spec.devices.contains(device) {
            continue;
        }
        let Device { major, minor, .. } = device;
        out.push(Mismatch {
            part: "device",
            severity: device.severity().min(Severity::High),
            expected: "those of the spec".to_owned(),
            observed: format!("/dev/{name}, {} device {major}:{minor}", device.kind()),
        });
    }
}

fn draft(label: EntityId, index: usize, mismatch: Mismatch, world: &World) -> Draft {
    let setup = |value: String| {
        Some(Evidence::Setup {
            part: mismatch.part.to_owned(),
            value,
        })
    };
    let message = format!(
        "{} does not run as its spec says: {} instead of {}",
        name(world, label),
        mismatch.observed,
        mismatch.expected
    );
    Draft {
        kind: DraftKind::Violation,
        rule: RuleId::SetupMismatch,
        transition: Some(Transition::T14),
        dimension: Dimension::Setup,
        severity: mismatch.severity,
        confidence: Confidence::Exact,
        subject: label,
        object: HOST,
        object_id: index as u64,
        by_iota: false,
        verdict: Some(Verdict::Violated),
        expected: setup(mismatch.expected),
        observed: setup(mismatch.observed),
        message,
    }
}
