//! `kernel-knob` (T5): a container's task opens for writing, or writes, a setting of the whole machine.
//!
//! What a namespace has for itself is its owner's: network, IPC and host name settings, and everything below
//! `/proc/PID`. Of a cgroup hierarchy only what acts on the whole machine counts; who moves whom is told by
//! `cgroup-migration`.

use super::{Deed, Draft, DraftKind, name};
use crate::engine::world::World;
use crate::model::facts::HOST;
use crate::model::output::Evidence;
use crate::model::{Dimension, RuleId, Severity, Transition, Verdict, fs, text};
use auditor_common::record::act;

/// `FMODE_WRITE`, in `file.f_mode`.
const WRITE: u64 = 2;

/// Sysctls that a namespace has for itself: names, or beginnings that end in `/`, `.` or `*`.
const NAMESPACED: [&str; 14] = [
    "net/",
    "user/",
    "fs/mqueue/",
    "kernel/hostname",
    "kernel/domainname",
    "kernel/shm",
    "kernel/msg",
    "kernel/sem",
    "kernel/auto_msgmni",
    "kernel/ns_last_pid",
    "kernel/pid_max",
    "kernel/yama/",
    "kernel/apparmor",
    "kernel/keys/",
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

/// A setting, by its name in findings.
struct Knob {
    name: String,
    severity: Severity,
}

/// Drafts a finding for a file that is open for writing, or a sysctl that was written.
pub fn detect(deed: &Deed<'_>, world: &World, out: &mut Vec<Draft>) {
    let record = deed.record;
    let (knob, value) = if record.act == act::SYSCTL {
        let mut parts = record.name().splitn(2, |&b| b == 0);
        let name = text::escape(parts.next().unwrap_or_default());
        let value = parts
            .next()
            .map(|value| text::escape(value.trim_ascii_end()));
        (sysctl(&name), value)
    } else if record.arg1 & WRITE != 0 {
        (
            file(record.object.fs_magic, &text::file_path(record.name())),
            None,
        )
    } else {
        return;
    };
    let Some(Knob {
        name: knob,
        severity,
    }) = knob
    else {
        return;
    };
    let verb = if value.is_some() {
        "set"
    } else {
        "opened for writing"
    };
    out.push(Draft {
        kind: DraftKind::Violation,
        rule: RuleId::KernelKnob,
        transition: Some(Transition::T5),
        dimension: Dimension::Kernel,
        severity,
        confidence: deed.confidence,
        subject: deed.label,
        object: HOST,
        object_id: text::stable_hash(knob.as_bytes()) ^ u64::from(value.is_some()),
        by_iota: false,
        verdict: Some(Verdict::Violated),
        expected: None,
        message: format!(
            "{} {verb} a setting of the whole machine: {knob}",
            name(world, deed.label)
        ),
        observed: Some(Evidence::Knob { name: knob, value }),
    });
}

/// What a path within a file system of this kind is; `None` where it is no setting of the whole machine.
fn file(fs_magic: u32, path: &str) -> Option<Knob> {
    match fs_magic {
        fs::PROC => match path.strip_prefix("/sys/") {
            Some(name) => sysctl(name),
            None => proc(path),
        },
        fs::SYSFS => sysfs(path),
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
fn sysctl(name: &str) -> Option<Knob> {
    let own = NAMESPACED.iter().any(|known| name.starts_with(known));
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
fn sysfs(path: &str) -> Option<Knob> {
    let own = path.starts_with("/devices/virtual/net/") || path.starts_with("/class/net/");
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
    use crate::model::{Severity, fs};

    /// Goal: settings of the machine are told from those of a namespace. Method: one of each kind.
    #[test]
    fn machines_and_namespaces() {
        let severity = |magic, path| file(magic, path).map(|knob| knob.severity);
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
        assert!(sysctl("net/core/somaxconn").is_none() && sysctl("kernel/modprobe").is_some());
    }
}
