//! One realistic record of each type, for tests only.

use crate::model::output::{
    Counters, EntityKind, Evidence, Finding, Head, Heartbeat, HookState, IotaChange, Loss, Party,
    PolicyChange, Record, Resolved, SCHEMA, Start, Stop, TaskInfo, Witness,
};
use crate::model::{
    Confidence, Dimension, NsKind, PairClass, RuleId, Severity, Tier, Transition, Verdict,
};
use std::collections::BTreeMap;

pub(crate) fn head(seq: u64) -> Head {
    Head {
        schema: SCHEMA.to_owned(),
        seq,
        time: "2026-11-23T10:30:00.123456789Z".to_owned(),
        boottime_ns: 1_883_000_123_456,
        node: "worker-17".to_owned(),
        boot_id: String::new(),
    }
}

/// Of a line about the run itself.
fn boot_head(seq: u64) -> Head {
    Head {
        boot_id: "5f3a1c52-77be-4c0e-9d34-0a9f3b6f2c11".to_owned(),
        ..head(seq)
    }
}

pub(crate) fn host() -> Party {
    Party {
        entity: EntityKind::Host,
        id: "host".to_owned(),
        name: None,
        runtime: None,
        image: None,
        pod: None,
        incarnation: None,
        task: None,
    }
}

pub(crate) fn web() -> Party {
    Party {
        entity: EntityKind::Container,
        id: "runc:9f2c4e0a7b1d5c3e8f6a2b4d0c9e7f5a3b1d8c6e4f2a0b9d7c5e3f1a8b6d4c2e".to_owned(),
        name: Some("web".to_owned()),
        runtime: None,
        image: None,
        pod: None,
        incarnation: Some(1_800_000_000_000),
        task: Some(TaskInfo {
            pid: 4321,
            tid: None,
            start_boottime_ns: 1_882_990_000_000,
            comm: "nsenter".to_owned(),
            exe: Some("/bin/busybox".to_owned()),
            uid: 0,
            ancestry: vec!["sh".to_owned(), "runc:[2:INIT]".to_owned()],
        }),
    }
}

/// A finding of any rule, so that each rule can be explained in a test.
pub(crate) fn finding(rule: RuleId) -> Finding {
    Finding {
        head: head(42),
        tier: Tier::Trampoline,
        rule,
        transition: Some(Transition::T1),
        dimension: Dimension::Mnt,
        severity: Severity::Critical,
        verdict: Some(Verdict::Violated),
        iota: Some(IotaChange {
            before: Some(1),
            after: Some(0),
        }),
        pair_class: Some(PairClass::K3),
        confidence: Confidence::Exact,
        subject: web(),
        object: host(),
        expected: Some(Evidence::Ns {
            kind: NsKind::Mnt,
            inum: 4_026_532_177,
            initial: false,
        }),
        observed: Some(Evidence::Ns {
            kind: NsKind::Mnt,
            inum: 4_026_531_832,
            initial: true,
        }),
        witness: Witness {
            hook: "switch_task_namespaces".to_owned(),
            syscall: Some("setns".to_owned()),
            events: vec![1180, 1181],
        },
        weakening: vec![17, 40],
        explained_by: Vec::new(),
        unexplained: false,
        message: "container web joined the host's mount namespace".to_owned(),
        suppressed: 0,
        lost_events: 0,
    }
}

pub(crate) fn violation() -> Record {
    Record::Violation(Box::new(finding(RuleId::NamespaceJoin)))
}

fn counters() -> Counters {
    Counters {
        events: 12,
        violations: 1,
        entities: 2,
        tasks: 80,
        ..Counters::default()
    }
}

pub(crate) fn all() -> Vec<Record> {
    let audit = Finding {
        transition: None,
        verdict: None,
        iota: None,
        pair_class: None,
        expected: None,
        observed: Some(Evidence::Creds {
            uid: 0,
            euid: 0,
            permitted: vec!["SYS_ADMIN".to_owned()],
            effective: Some(vec![]),
            user_ns: 4_026_531_837,
        }),
        ..finding(RuleId::ContainerEnter)
    };
    let drift = Finding {
        observed: Some(Evidence::Cgroup {
            path: None,
            id: 77,
            hierarchy: 0,
        }),
        expected: Some(Evidence::File {
            dev: 8 << 20,
            ino: 2,
            mnt_ns: 0,
            path: Some("/etc/shadow".to_owned()),
            access: vec!["read".to_owned()],
        }),
        ..finding(RuleId::Drift)
    };
    vec![
        Record::Start(Box::new(Start {
            head: boot_head(1),
            version: "0.1.0".to_owned(),
            kernel: "6.12.9".to_owned(),
            arch: "x86_64".to_owned(),
            tier: Tier::Trampoline,
            hooks: vec![HookState {
                hook: "set_fs_root".to_owned(),
                tier: Tier::Trampoline,
                state: "failed".to_owned(),
                module: false,
                error: Some("no such function".to_owned()),
                not_seen: Some("chroot".to_owned()),
            }],
            not_evaluated: vec![Dimension::References],
            claim: "structural".to_owned(),
            references: BTreeMap::from([(RuleId::NamespaceNest, vec!["mitre:T1611".to_owned()])]),
            policy_digest: "00".repeat(32),
            entities: 2,
            tasks: 80,
            own: None,
        })),
        violation(),
        Record::Audit(Box::new(audit)),
        Record::Drift(Box::new(drift)),
        Record::Resolved(Box::new(Resolved {
            head: head(43),
            rule: RuleId::NamespaceJoin,
            dimension: Dimension::Mnt,
            iota: IotaChange {
                before: Some(0),
                after: None,
            },
            subject: web(),
            object: host(),
            ever_violated: true,
            message: "container web has left the host's mount namespace".to_owned(),
        })),
        Record::Policy(Box::new(PolicyChange {
            head: head(44),
            policy_digest: "01".repeat(32),
            previous_digest: "00".repeat(32),
            message: "another policy is in force".to_owned(),
        })),
        Record::Loss(Box::new(Loss {
            head: boot_head(45),
            place: "ring".to_owned(),
            count: 3,
            total: 3,
            by_hook: BTreeMap::from([("task_newtask".to_owned(), 3)]),
            by_cpu: BTreeMap::from([(0, 1), (11, 2)]),
            unknown: vec![Dimension::Mnt],
            message: "3 events lost in the ring buffer".to_owned(),
        })),
        Record::Heartbeat(Box::new(Heartbeat {
            head: boot_head(46),
            counters: counters(),
            model_digest: "0123456789abcdef".to_owned(),
        })),
        Record::Stop(Box::new(Stop {
            own: None,
            head: boot_head(47),
            counters: counters(),
            reason: "signal".to_owned(),
        })),
    ]
}
