//! Goal: what changes behind the kernel's back is told rightly, and as the violation that it is. Method: the
//! simulated machine changes a task's state and writes no record; only sweeps can find it.

use super::machine::{Machine, host_state};
use crate::model::output::{Evidence, Finding, Record};
use crate::model::{Confidence, Dimension, NsKind, RuleId, Severity, Transition};
use auditor_common::record::{TaskState, cause, ns};

/// `CAP_SYS_MODULE`, which no container of the machine has.
const SYS_MODULE: u64 = 1 << 16;

/// A container whose init an ordinary user runs, and what two sweeps say after its memory was written.
fn tampered(change: impl FnOnce(&mut TaskState)) -> (Machine, u32, Vec<Finding>) {
    let mut m = Machine::new("");
    m.name("/a", "a");
    let a = m.runc(50, "/a");
    let creds = &mut m.tasks.get_mut(&a).unwrap().creds;
    (creds.uid, creds.euid, creds.suid, creds.fsuid) = (1000, 1000, 1000, 1000);
    (creds.cap_permitted, creds.cap_effective) = (0, 0);
    m.emit(a, a, cause::CRED, 0);
    let found = resweep(&mut m, a, change);
    (m, a, found)
}

fn resweep(m: &mut Machine, tid: u32, change: impl FnOnce(&mut TaskState)) -> Vec<Finding> {
    change(m.tasks.get_mut(&tid).unwrap());
    m.sweep();
    assert!(m.out.is_empty(), "the event may be on its way: {:?}", m.out);
    m.sweep();
    m.tick(1_000_000);
    findings(m)
}

fn findings(m: &mut Machine) -> Vec<Finding> {
    m.take(|record| match record {
        Record::Drift(f) | Record::Violation(f) => Some(*f),
        _ => None,
    })
}

fn rules(found: &[Finding]) -> Vec<(RuleId, Dimension, Severity, &str)> {
    let of = |f| -> (RuleId, Dimension, Severity, &str) {
        let f: &Finding = f;
        (f.rule, f.dimension, f.severity, f.object.id.as_str())
    };
    found.iter().map(of).collect()
}

/// Capabilities that only memory can have given are a violation, whichever set the kernel looks at.
#[test]
fn capabilities_written_to_memory() {
    let raise: [fn(&mut TaskState); 3] = [
        |state| state.creds.cap_permitted |= SYS_MODULE,
        |state| state.creds.cap_effective |= SYS_MODULE,
        |state| state.creds.cap_bounding |= SYS_MODULE,
    ];
    for (index, change) in raise.into_iter().enumerate() {
        let (_, a, found) = tampered(change);
        assert_eq!(
            rules(&found),
            [
                (
                    RuleId::Drift,
                    Dimension::Privilege,
                    Severity::Critical,
                    "host"
                ),
                (
                    RuleId::SilentPrivilegeChange,
                    Dimension::Privilege,
                    Severity::Critical,
                    "host"
                ),
            ],
            "set {index}"
        );
        for finding in found {
            assert_eq!(finding.transition, Some(Transition::T7));
            assert_eq!(finding.confidence, Confidence::Sampled);
            assert_eq!(finding.subject.task.unwrap().pid, a);
            assert!(
                finding.message.contains("SYS_MODULE"),
                "{}",
                finding.message
            );
        }
    }
}

/// User id 0 comes from memory only to a task that could not have taken it.
#[test]
fn user_ids_written_to_memory() {
    let (_, _, found) = tampered(|state| state.creds.euid = 0);
    let told: Vec<RuleId> = found.iter().map(|f| f.rule).collect();
    assert_eq!(told, [RuleId::Drift, RuleId::SilentPrivilegeChange]);

    let (_, _, found) = tampered(|state| state.creds.euid = 1001);
    let told: Vec<_> = found.iter().map(|f| (f.rule, f.severity)).collect();
    assert_eq!(told, [(RuleId::Drift, Severity::Low)], "nothing grew");
}

/// A change back is drift too, and no pair is isolated *again* in a dimension in which it always was.
#[test]
fn privileges_that_go_resolve_nothing() {
    let (mut m, a, _) = tampered(|state| state.creds.cap_permitted |= SYS_MODULE);
    let found = resweep(&mut m, a, |state| state.creds.cap_permitted = 0);
    assert_eq!(
        rules(&found),
        [(RuleId::Drift, Dimension::Privilege, Severity::Low, "host")]
    );
    // Any move makes the engine look at the pairs of the container again.
    let host = m.tasks[&1].ns[ns::NET];
    m.tasks.get_mut(&a).unwrap().ns[ns::NET] = host;
    m.emit(a, a, cause::SETNS, 0);
    assert!(!m.out.iter().any(|r| matches!(r, Record::Resolved(_))));
}

/// A mild change folds nothing that is worse. Method: another user id, then at once user id 0.
#[test]
fn a_mild_change_hides_no_worse_one() {
    let (mut m, a, found) = tampered(|state| state.creds.uid = 1001);
    assert_eq!(found.len(), 1);
    let found = resweep(&mut m, a, |state| state.creds.euid = 0);
    let told: Vec<_> = found.iter().map(|f| (f.rule, f.severity)).collect();
    assert_eq!(
        told,
        [
            (RuleId::Drift, Severity::Critical),
            (RuleId::SilentPrivilegeChange, Severity::Critical)
        ]
    );
}

/// A namespace of the host's is drift and a join that stands; the way back ends it.
#[test]
fn namespaces_written_to_memory() {
    let (mut m, a, found) = tampered(|state| state.ns[ns::UTS] = host_state(1).ns[ns::UTS]);
    assert_eq!(
        rules(&found),
        [
            (RuleId::Drift, Dimension::Uts, Severity::Critical, "host"),
            (
                RuleId::NamespaceJoin,
                Dimension::Uts,
                Severity::Critical,
                "host"
            ),
        ]
    );
    assert_eq!(found[1].subject.task.as_ref().unwrap().pid, a);
    assert_eq!(found[1].confidence, Confidence::Inferred);

    let Some(Evidence::Ns { inum, .. }) = found[0].expected else {
        panic!("{:?}", found[0]);
    };
    m.tasks.get_mut(&a).unwrap().ns[ns::UTS].inum = inum;
    m.sweep();
    m.sweep();
    assert!(
        m.out
            .iter()
            .any(|r| matches!(r, Record::Resolved(f) if f.dimension == Dimension::Uts)),
        "{:?}",
        m.out
    );
}

/// A namespace that nobody is known to have is not the host's: it may as well be the task's own work. Method: namespaces of
/// numbers that no task had, one of them a user namespace below the task's own; then a second task in the same.
#[test]
fn an_unknown_namespace_is_nobodys() {
    let fresh = |kind: usize, state: &mut TaskState| {
        state.ns[kind].inum = 0xf000_1234;
        state.ns[kind].owner_inum = host_state(1).ns[ns::USER].inum;
    };
    let (mut m, a, found) = tampered(|state| fresh(ns::USER, state));
    assert_eq!(
        rules(&found),
        [(RuleId::Drift, Dimension::User, Severity::Low, "host")]
    );
    assert!(
        found[0].message.contains("is in an unknown user namespace"),
        "{}",
        found[0].message
    );

    let child = m.fork(a, 0);
    m.out.clear();
    for tid in [a, child] {
        let found = resweep(&mut m, tid, |state| fresh(ns::UTS, state));
        assert_eq!(
            rules(&found),
            [(RuleId::Drift, Dimension::Uts, Severity::High, "host")]
        );
        let message = &found[0].message;
        assert!(message.contains("an unknown UTS namespace"), "{message}");
    }
}

/// Of several namespaces the line tells the worst. Method: a network namespace that the container made, and the host's
/// UTS namespace.
#[test]
fn the_worst_namespace_is_told() {
    let mut m = Machine::new("");
    m.name("/a", "a");
    let a = m.runc(50, "/a");
    let child = m.fork(a, 0);
    m.unshare(child, NsKind::Net.clone_flag());
    m.out.clear();
    let nested = m.tasks[&child].ns[ns::NET];
    let found = resweep(&mut m, a, |state| {
        state.ns[ns::NET] = nested;
        state.ns[ns::UTS] = host_state(1).ns[ns::UTS];
    });
    assert_eq!(
        rules(&found)[0],
        (RuleId::Drift, Dimension::Uts, Severity::Critical, "host")
    );
}

/// A root on the host's mounts is drift and a foreign root that stands.
#[test]
fn a_root_written_to_memory() {
    let host = host_state(1).root;
    let (_, _, found) = tampered(|state| state.root = host);
    assert_eq!(
        rules(&found),
        [
            (RuleId::Drift, Dimension::Root, Severity::High, "host"),
            (
                RuleId::ForeignRoot,
                Dimension::Root,
                Severity::Critical,
                "host"
            ),
        ]
    );
}
