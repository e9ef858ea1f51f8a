//! Goal: what containers do to the kernel, its settings and devices is told, and what is their own is not. Method:
//! records of acts on the simulated machine, each with its silent neighbour.

use super::machine::Machine;
use crate::engine::Event;
use crate::inventory::container::{ContainerAnswer, Runtime, SpecSummary};
use crate::model::device::Device;
use crate::model::output::{Evidence, Record};
use crate::model::{RuleId, Severity, fs};
use auditor_common::hook;
use auditor_common::record::*;

/// `FMODE_READ | FMODE_WRITE`.
const BOTH: u64 = 3;
const SYS_ADMIN: u64 = 1 << 21;

impl Machine {
    fn on_kernel(&mut self, actor: u32, act: u32, fill: impl FnOnce(&mut ActRecord)) {
        let mut record = ActRecord {
            header: self.header(kind::ACT),
            ..zerocopy::FromZeros::new_zeroed()
        };
        record.header.hook = hook::FILE_OPEN;
        record.actor = self.tasks[&actor].key;
        record.act = act;
        record.syscall = -1;
        fill(&mut record);
        self.step(Event::Act(&record));
    }

    fn opens(&mut self, actor: u32, fs_magic: u32, path: &str, mode: u32, rdev: u32) {
        let mnt = self.tasks[&actor].ns[ns::MNT].inum;
        self.on_kernel(actor, act::OPEN, |record| {
            record.object.fs_magic = fs_magic;
            record.object.mnt_ns_inum = mnt;
            (record.object.mode, record.object.rdev) = (mode, rdev);
            record.arg1 = BOTH;
            name(record, path);
        });
    }

    /// What was said of acts since the last call.
    fn told(&mut self) -> Vec<(&'static str, RuleId, Severity)> {
        self.take(|record| match record {
            Record::Violation(f) => Some(("violation", f.rule, f.severity)),
            Record::Audit(f) => Some(("audit", f.rule, f.severity)),
            _ => None,
        })
    }
}

/// A path as the kernel programs write it: components, the last one first.
fn name(record: &mut ActRecord, path: &str) {
    let mut bytes: Vec<u8> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty()).rev() {
        bytes.extend_from_slice(part.as_bytes());
        bytes.push(0);
    }
    bytes.extend_from_slice(b"/\0");
    record.name[..bytes.len()].copy_from_slice(&bytes);
    record.name_len = bytes.len() as u32;
}

fn container(m: &mut Machine) -> u32 {
    m.name("/a", "a");
    let init = m.runc(50, "/a");
    m.told();
    init
}

#[test]
fn settings_of_the_machine() {
    let mut m = Machine::new("");
    let init = container(&mut m);
    m.opens(init, fs::PROC, "/sys/net/ipv4/ip_forward", fs::REGULAR, 0);
    m.opens(init, fs::PROC, "/7/oom_score_adj", fs::REGULAR, 0);
    // The host's own work is nobody's business.
    m.opens(1, fs::PROC, "/sys/kernel/core_pattern", fs::REGULAR, 0);
    assert_eq!(m.told(), []);
    m.opens(init, fs::PROC, "/sys/kernel/core_pattern", fs::REGULAR, 0);
    m.opens(init, fs::SYSFS, "/module/kvm/parameters/x", fs::REGULAR, 0);
    let knob = |severity| ("violation", RuleId::KernelKnob, severity);
    assert_eq!(m.told(), [knob(Severity::Critical), knob(Severity::High)]);
    m.on_kernel(init, act::SYSCTL, |record| {
        let text = b"vm/swappiness\x0010\n";
        record.name[..text.len()].copy_from_slice(text);
        record.name_len = text.len() as u32;
    });
    let violations = m.violations();
    let Some(Evidence::Knob { name, value }) = &violations[0].observed else {
        panic!("{:?}", violations[0]);
    };
    let set = (name.as_str(), value.as_deref());
    assert_eq!(set, ("vm/swappiness", Some("10")));
}

#[test]
fn code_is_told_and_refusals_are_for_the_record() {
    let mut m = Machine::new("");
    m.capabilities = SYS_ADMIN;
    let init = container(&mut m);
    m.on_kernel(init, act::BPF, |record| record.arg0 = 5);
    m.on_kernel(init, act::KERNEL_LOAD, |record| record.arg0 = 1);
    let code = |kind, severity| (kind, RuleId::KernelCode, severity);
    assert_eq!(
        m.told(),
        [
            code("violation", Severity::High),
            code("violation", Severity::Critical)
        ]
    );
    let mut m = Machine::new("");
    m.capabilities = 0;
    let init = container(&mut m);
    m.on_kernel(init, act::PERF, |_| ());
    let refused = m.take(|record| match record {
        Record::Audit(f) if f.rule == RuleId::KernelCode => Some((f.severity, f.verdict)),
        _ => None,
    });
    assert_eq!(refused, [(Severity::Low, None)]);
}

#[test]
fn declared_devices_are_for_the_record() {
    let mut m = Machine::new("");
    let mut answer = ContainerAnswer::bare("/a".to_owned(), Runtime::Runc, "a".to_owned());
    answer.spec = Some(SpecSummary {
        devices: vec![Device {
            block: true,
            major: 8,
            minor: 1,
        }],
        ..SpecSummary::default()
    });
    m.specs.insert("/a".to_owned(), answer);
    let init = m.runc(50, "/a");
    m.told();
    let rdev = |major: u32, minor: u32| major << 20 | minor;
    m.opens(init, 0, "/dev/null", fs::CHARACTER, rdev(1, 3));
    m.on_kernel(init, act::MKNOD, |record| {
        record.object.mode = fs::CHARACTER;
    });
    assert_eq!(m.told(), []);
    m.opens(init, 0, "/dev/data", fs::BLOCK, rdev(8, 1));
    m.opens(init, 0, "/dev/sda", fs::BLOCK, rdev(8, 0));
    m.on_kernel(init, act::MKNOD, |record| {
        (record.object.mode, record.object.rdev) = (fs::BLOCK, rdev(8, 0));
    });
    let device = |kind, severity| (kind, RuleId::DeviceAccess, severity);
    assert_eq!(
        m.told(),
        [
            device("audit", Severity::Medium),
            device("violation", Severity::Critical),
            device("violation", Severity::High)
        ]
    );
}

#[test]
fn steps_before_are_for_the_record() {
    let mut m = Machine::new("");
    let init = container(&mut m);
    m.on_kernel(init, act::SOCKET, |record| record.arg0 = 38);
    m.on_kernel(init, act::SOCKET, |record| record.arg0 = 2);
    let told = ("audit", RuleId::PageCachePrestep, Severity::Low);
    assert_eq!(m.told(), [told]);
    // What goes into it is another step, told once.
    m.on_kernel(init, act::SPLICE, |record| record.arg0 = 38);
    m.on_kernel(init, act::SPLICE, |record| record.arg0 = 38);
    assert_eq!(m.told(), [told]);
}

/// A flood of what is mild neither hides nor delays what is worse. Method: more settings than the rate allows, then the one
/// that runs a program.
#[test]
fn a_flood_hides_nothing_worse() {
    let mut m = Machine::new("");
    m.name("/a", "a");
    let a = m.runc(50, "/a");
    for number in 0..200 {
        m.opens(
            a,
            fs::PROC,
            &format!("/sys/vm/setting{number}"),
            0o100_644,
            0,
        );
    }
    m.opens(a, fs::PROC, "/sys/kernel/core_pattern", 0o100_644, 0);
    let told = m.told();
    assert!(told.len() < 100, "the rate is limited");
    let worst = ("violation", RuleId::KernelKnob, Severity::Critical);
    assert_eq!(told.last(), Some(&worst));
}

/// Every value that is written is told: the last one may be harmless.
#[test]
fn no_value_stands_for_another() {
    let mut m = Machine::new("");
    m.name("/a", "a");
    let a = m.runc(50, "/a");
    for value in ["core", "|/tmp/x", "core"] {
        m.on_kernel(a, act::SYSCTL, |record| {
            let text = format!("kernel/core_pattern\0{value}\n");
            record.name[..text.len()].copy_from_slice(text.as_bytes());
            record.name_len = text.len() as u32;
        });
    }
    let values = m.take(|record| match record {
        Record::Violation(f) => match f.observed {
            Some(Evidence::Knob { value, .. }) => value,
            _ => None,
        },
        _ => None,
    });
    assert_eq!(values, ["core", "|/tmp/x"]);
}

/// What a container lets its own containers use is its own business, and no more than it may use itself. What acts on the
/// machine, and what it may use itself, is not.
#[test]
fn a_container_rules_the_devices_of_its_children() {
    let mut m = Machine::new("");
    m.name("/a", "a");
    let a = m.runc(50, "/a");
    let writes = |m: &mut Machine, path: &str| {
        m.opens(a, fs::CGROUP, path, 0o100_644, 0);
        m.told().len()
    };
    assert_eq!(writes(&mut m, "/a/inner/devices.allow"), 0);
    assert_eq!(writes(&mut m, "/a/inner/deeper/devices.deny"), 0);
    assert_eq!(writes(&mut m, "/a/devices.allow"), 1);
    assert_eq!(writes(&mut m, "/ab/inner/devices.allow"), 1);
    assert_eq!(writes(&mut m, "/a/inner/release_agent"), 1);
}

/// A cgroup's settings are its owner's, and his whose cgroup it lies in.
#[test]
fn settings_of_anothers_cgroup() {
    let mut m = Machine::new("");
    m.name("/pod/a", "a");
    let a = m.runc(50, "/pod/a");
    m.name("/pod/b", "b");
    m.runc(51, "/pod/b");
    m.told();
    let writes = |m: &mut Machine, magic: u32, path: &str| {
        m.opens(a, magic, path, 0o100_644, 0);
        m.take(|record| match record {
            Record::Violation(f) => Some((f.rule, f.severity, f.object.id.clone())),
            _ => None,
        })
    };
    for magic in [fs::CGROUP, fs::CGROUP2] {
        for own in [
            "/pod/a/memory.max",
            "/pod/a/inner/cgroup.freeze",
            // Who moves whom is another rule's.
            "/pod/b/cgroup.procs",
        ] {
            assert_eq!(writes(&mut m, magic, own), [], "{own}");
        }
    }
    let told = |whose: &str| [(RuleId::KernelKnob, Severity::High, whose.to_owned())];
    assert_eq!(
        writes(&mut m, fs::CGROUP2, "/pod/b/cgroup.freeze"),
        told("runc:b")
    );
    assert_eq!(
        writes(&mut m, fs::CGROUP, "/pod/b/inner/freezer.state"),
        told("runc:b")
    );
    assert_eq!(writes(&mut m, fs::CGROUP2, "/pod/memory.max"), told("host"));
}
