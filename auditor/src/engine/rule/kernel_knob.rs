//! `kernel-knob` (T5): a container's task opens for writing, or writes, a setting of the whole machine, or of a cgroup
//! that is another's.
//!
//! What a namespace has for itself is its owner's: network, IPC and host name settings, and everything below
//! `/proc/PID`. Who is in the host's writes the host's. Who moves whom between cgroups is told by `cgroup-migration`.

use super::cgroup_migration::is_inside;
use super::{Deed, Draft, DraftKind, name, possessive};
use crate::engine::world::World;
use crate::model::facts::{EntityId, HOST};
use crate::model::output::Evidence;
use crate::model::{Dimension, NsKind, RuleId, Severity, Transition, Verdict, fs, text};
use auditor_common::record::act;

/// `FMODE_WRITE`, in `file.f_mode`.
const WRITE: u64 = 2;

/// Sysctls that a namespace has for itself, by their beginnings. `pid_max` is one from 6.14.
const NAMESPACED: [(&str, NsKind); 11] = [
    ("net/", NsKind::Net),
    ("user/", NsKind::User),
    ("fs/mqueue/", NsKind::Ipc),
    ("kernel/hostname", NsKind::Uts),
    ("kernel/domainname", NsKind::Uts),
    ("kernel/shm", NsKind::Ipc),
    ("kernel/msg", NsKind::Ipc),
    ("kernel/sem", NsKind::Ipc),
    ("kernel/auto_msgmni", NsKind::Ipc),
    ("kernel/ns_last_pid", NsKind::Pid),
    ("kernel/pid_max", NsKind::Pid),
];

/// Settings by which the kernel runs a program, loads code, or stops.
const CRITICAL: [&str; 9] = [
    "kernel/core_pattern",
    "kernel/modprobe",
    "kernel/hotplug",
    "kernel/poweroff_cmd",
    "kernel/usermodehelper/",
    "/proc/sysrq-trigger",
    "/sys/kernel/uevent_helper",
    "/sys/firmware/efi/",
    "fs/binfmt_misc/",
];

/// Files of a cgroup by which tasks are moved.
const MOVES: [&str; 3] = ["cgroup.procs", "cgroup.threads", "tasks"];

/// A setting, by its name in findings.
struct Knob {
    name: String,
    severity: Severity,
}

/// Drafts a finding for a file that is open for writing, or a sysctl that was written.
pub fn detect(deed: &Deed<'_>, world: &World, out: &mut Vec<Draft>) {
    let record = deed.record;
    let has_own = |kind: NsKind| {
        let id = world.ns.by_inum(kind, deed.state.ns[kind.slot()].inum);
        id.and_then(|id| world.ns.get(id))
            .is_none_or(|ns| !ns.initial)
    };
    let (knob, value) = if record.act == act::SYSCTL {
        let mut parts = record.name().splitn(2, |&b| b == 0);
        let name = text::escape(parts.next().unwrap_or_default());
        let value = parts
            .next()
            .map(|value| text::escape(value.trim_ascii_end()));
        (sysctl(&name, has_own), value)
    } else if record.arg1 & WRITE != 0 {
        (
            file(
                record.object.fs_magic,
                &text::file_path(record.name()),
                has_own,
            ),
            None,
        )
    } else {
        return;
    };
    let (knob, of_cgroup) = match knob {
        Some(knob) if is_of_childs_devices(&knob.name, deed, world) => return,
        Some(knob) => (knob, None),
        None => match of_anothers_cgroup(deed, world) {
            Some((knob, owner)) => (knob, Some(owner)),
            None => return,
        },
    };
    let Knob {
        name: knob,
        severity,
    } = knob;
    let verb = if value.is_some() {
        "set"
    } else {
        "opened for writing"
    };
    out.push(Draft {
        kind: DraftKind::Violation,
        rule: RuleId::KernelKnob,
        transition: Some(Transition::T5),
        dimension: match of_cgroup {
            Some(_) => Dimension::Cgroup,
            None => Dimension::Kernel,
        },
        severity,
        confidence: deed.confidence,
        subject: deed.label,
        object: of_cgroup.unwrap_or(HOST),
        object_id: text::stable_hash(knob.as_bytes()) ^ written(value.as_deref()),
        by_iota: false,
        verdict: Some(Verdict::Violated),
        expected: None,
        message: format!(
            "{} {verb} a setting of {}: {knob}",
            name(world, deed.label),
            of_cgroup.map_or_else(
                || "the whole machine".to_owned(),
                |owner| format!("{} cgroup", possessive(world, owner))
            )
        ),
        observed: Some(Evidence::Knob { name: knob, value }),
    });
}

/// A file of a cgroup that is neither the writer's nor below it, and whose it is. What it limits or stops is another's; a
/// container's own limits are set where its cgroup's parent is.
fn of_anothers_cgroup(deed: &Deed<'_>, world: &World) -> Option<(Knob, EntityId)> {
    let record = deed.record;
    if !matches!(record.object.fs_magic, fs::CGROUP | fs::CGROUP2) {
        return None;
    }
    let path = text::file_path(record.name());
    let (cgroup, file) = path.rsplit_once('/')?;
    // A path that is longer than what is kept of it may lie anywhere.
    if path.contains('…') || MOVES.contains(&file) {
        return None;
    }
    let owner = world.cgroups.territory_of_path(cgroup);
    let inside = is_inside(world, deed.label, owner, Some(cgroup))?;
    (!inside).then(|| (high(format!("cgroup{path}")), owner))
}

/// Whether a setting is which devices a cgroup below the container's own may use: what it makes for its own containers may
/// use no more than it may itself.
fn is_of_childs_devices(knob: &str, deed: &Deed<'_>, world: &World) -> bool {
    let own = world
        .entities
        .get(&deed.label)
        .and_then(|entity| world.task(&entity.init));
    let Some((own, path)) = own.zip(knob.strip_prefix("cgroup")) else {
        return false;
    };
    let below = |own: &str| {
        let inner = path
            .strip_prefix(own.trim_end_matches('/'))?
            .strip_prefix('/')?;
        inner.split_once('/').map(|(_, file)| file)
    };
    let is_childs = |own: &&str| **own != *"/" && below(own).is_some();
    path.rsplit('/')
        .next()
        .is_some_and(|file| file.starts_with("devices."))
        && world.cgroup_paths(&own.state).iter().any(is_childs)
}

/// Tells values apart: one stands for no other, and for no mere opening.
fn written(value: Option<&str>) -> u64 {
    value.map_or(0, |value| text::stable_hash(value.as_bytes()) | 1)
}

/// What a path within a file system of this kind is; `None` where it is no setting of the whole machine. `has_own`: whether
/// who writes has a namespace of that kind apart from the host's.
fn file(fs_magic: u32, path: &str, has_own: impl Fn(NsKind) -> bool) -> Option<Knob> {
    match fs_magic {
        fs::PROC => match path.strip_prefix("/sys/") {
            Some(name) => sysctl(name, has_own),
            None => proc(path),
        },
        fs::SYSFS => sysfs(path, has_own),
        fs::CGROUP => {
            let name = path.rsplit('/').next().unwrap_or_default();
            let machines = matches!(
                name,
                "release_agent" | "notify_on_release" | "devices.allow" | "devices.deny"
            );
            machines.then(|| Knob {
                name: format!("cgroup{path}"),
                severity: Severity::Critical,
            })
        }
        fs::BINFMT => Some(Knob {
            name: format!("fs/binfmt_misc{path}"),
            severity: Severity::Critical,
        }),
        fs::DEBUGFS => Some(high(format!("/sys/kernel/debug{path}"))),
        fs::TRACEFS => Some(high(format!("/sys/kernel/tracing{path}"))),
        fs::SECURITYFS => Some(high(format!("/sys/kernel/security{path}"))),
        _ => None,
    }
}

/// A sysctl, by its name below `/proc/sys`.
fn sysctl(name: &str, has_own: impl Fn(NsKind) -> bool) -> Option<Knob> {
    let of = NAMESPACED.iter().find(|(known, _)| name.starts_with(known));
    let own = of.is_some_and(|(_, kind)| has_own(*kind));
    (!own).then(|| weighed(name.to_owned()))
}

/// A file of procfs outside of `/proc/sys`. What belongs to a process is that process's.
fn proc(path: &str) -> Option<Knob> {
    let first = path.trim_start_matches('/').split('/').next()?;
    let of_process =
        first.bytes().all(|b| b.is_ascii_digit()) || matches!(first, "self" | "thread-self" | "…");
    (!of_process).then(|| weighed(format!("/proc{path}")))
}

/// A file of sysfs. Network devices are in the network namespace of their own.
fn sysfs(path: &str, has_own: impl Fn(NsKind) -> bool) -> Option<Knob> {
    let of_net = path.starts_with("/devices/virtual/net/") || path.starts_with("/class/net/");
    let own = of_net && has_own(NsKind::Net);
    (!own).then(|| weighed(format!("/sys{path}")))
}

fn weighed(name: String) -> Knob {
    let critical = CRITICAL.iter().any(|known| name.starts_with(known));
    match critical {
        true => Knob {
            name,
            severity: Severity::Critical,
        },
        false => high(name),
    }
}

const fn high(name: String) -> Knob {
    Knob {
        name,
        severity: Severity::High,
    }
}

#[cfg(test)]
mod tests {
    use super::{file, sysctl};
    use crate::model::{NsKind, Severity, fs};

    /// Goal: settings of the machine are told from those of a namespace. Method: one of each kind.
    #[test]
    fn machines_and_namespaces() {
        let severity = |magic, path| file(magic, path, |_| true).map(|knob| knob.severity);
        assert_eq!(
            severity(fs::PROC, "/sys/kernel/core_pattern"),
            Some(Severity::Critical)
        );
        assert_eq!(
            severity(fs::PROC, "/sysrq-trigger"),
            Some(Severity::Critical)
        );
        assert_eq!(
            severity(fs::PROC, "/sys/vm/overcommit_memory"),
            Some(Severity::High)
        );
        assert_eq!(severity(fs::PROC, "/sys/net/ipv4/ip_forward"), None);
        assert_eq!(severity(fs::PROC, "/sys/kernel/shmmax"), None);
        assert_eq!(severity(fs::PROC, "/417/oom_score_adj"), None);
        assert_eq!(severity(fs::PROC, "/417/task/417/attr/current"), None);
        assert_eq!(
            severity(fs::SYSFS, "/kernel/uevent_helper"),
            Some(Severity::Critical)
        );
        assert_eq!(severity(fs::SYSFS, "/devices/virtual/net/eth0/mtu"), None);
        assert_eq!(
            severity(fs::CGROUP, "/a/release_agent"),
            Some(Severity::Critical)
        );
        assert_eq!(severity(fs::CGROUP, "/a/cgroup.procs"), None);
        assert_eq!(severity(fs::CGROUP2, "/a/cgroup.procs"), None);
        assert_eq!(severity(fs::BINFMT, "/register"), Some(Severity::Critical));
        assert_eq!(
            severity(fs::TRACEFS, "/kprobe_events"),
            Some(Severity::High)
        );
        let is_machines = |name, own: NsKind| sysctl(name, |kind| kind == own).is_some();
        assert!(!is_machines("net/core/somaxconn", NsKind::Net));
        assert!(is_machines("net/core/somaxconn", NsKind::Ipc));
        assert!(is_machines("kernel/ns_last_pid", NsKind::Net));
        for global in [
            "kernel/modprobe",
            "kernel/yama/ptrace_scope",
            "kernel/keys/maxkeys",
        ] {
            assert!(sysctl(global, |_| true).is_some(), "{global}");
        }
    }
}
