//! Goal: the engine says the right thing about what tasks do, and nothing about what runtimes do.
//! Method: histories by hand on the simulated machine; the tests look at the lines that come out.

use super::machine::{CLONE_NEW_ALL, Machine, host_state};
use crate::engine::{Config, Engine, Event, LossMark};
use crate::inventory::container::{DeclaredNamespace, NamespaceKind, SpecSummary};
use crate::model::facts::{EntityId, HOST};
use crate::model::output::{Evidence, Finding, Record};
use crate::model::policy::Policy;
use crate::model::{Confidence, Dimension, NsKind, RuleId, Severity, Verdict};
use auditor_common::limits::{CGROUP_SLOTS, FILENAME_LEN};
use auditor_common::record::*;

fn facts(findings: &[Finding]) -> Vec<(RuleId, String, String, Dimension)> {
    findings
        .iter()
        .map(|f| {
            (
                f.rule,
                f.subject.id.clone(),
                f.object.id.clone(),
                f.dimension,
            )
        })
        .collect()
}

/// A runtime starting, entering and stopping containers is no violation, whatever it does.
#[test]
fn runtimes_are_silent() {
    let mut m = Machine::new("");
    m.name("/web", "web");
    let init = m.runc(50, "/web");
    assert_eq!(m.engine.counters().violations, 0);
    assert_eq!(m.engine.world().entities.len(), 2);
    // runc exec: joins everything in the host's cgroup, is attached last.
    let exec = m.fork(1, 0);
    m.setns(exec, init, &[NsKind::Ipc]);
    m.setns(exec, init, &[NsKind::Uts]);
    m.setns(exec, init, &[NsKind::Net]);
    m.setns(exec, init, &[NsKind::Pid]);
    m.setns(exec, init, &[NsKind::Mnt]);
    let inside = m.fork(exec, 0);
    assert_eq!(m.engine.world().label(&m.tasks[&inside].key), HOST);
    m.attach(inside, 1, 50);
    assert_ne!(
        m.engine.world().label(&m.tasks[&inside].key),
        HOST,
        "in cgroup and namespaces"
    );
    m.exec(inside, "/bin/ls");
    m.exit(inside);
    m.exit(exec);
    m.exit(init);
    m.sweep();
    m.sweep();
    assert_eq!(
        m.engine.world().entities.len(),
        1,
        "the container ended with its last task"
    );
    let audits = m.take(|r| match r {
        Record::Audit(f) => Some((f.rule, f.object.id)),
        Record::Violation(f) => panic!("{f:?}"),
        Record::Drift(f) => panic!("{f:?}"),
        _ => None,
    });
    assert_eq!(
        audits,
        [(RuleId::ContainerEnter, "runc:web".to_owned())],
        "one line a session"
    );
}

/// Joining the host's and a neighbour's namespaces: one finding per dimension, right object, right ι.
#[test]
fn joins_are_violations() {
    let mut m = Machine::new("");
    m.name("/a", "a");
    m.name("/b", "b");
    let a = m.runc(50, "/a");
    let b = m.runc(51, "/b");
    m.setns(a, 1, &[NsKind::Net]);
    let found = m.violations();
    assert_eq!(
        facts(&found),
        [(
            RuleId::NamespaceJoin,
            "runc:a".into(),
            "host".into(),
            Dimension::Net
        )]
    );
    let f = &found[0];
    assert_eq!(f.severity, Severity::Critical);
    assert_eq!(f.verdict, Some(Verdict::Violated));
    assert_eq!(
        (f.iota.unwrap().before, f.iota.unwrap().after),
        (Some(1), Some(0))
    );
    assert_eq!(f.message, "container a joined the host's network namespace");
    assert!(matches!(
        f.observed,
        Some(Evidence::Ns { initial: true, .. })
    ));
    m.setns(a, b, &[NsKind::Uts, NsKind::Ipc]);
    assert_eq!(
        facts(&m.violations()),
        [
            (
                RuleId::NamespaceJoin,
                "runc:a".into(),
                "runc:b".into(),
                Dimension::Ipc
            ),
            (
                RuleId::NamespaceJoin,
                "runc:a".into(),
                "runc:b".into(),
                Dimension::Uts
            ),
        ]
    );
    // A child inherits label and namespaces: nothing new happens.
    let child = m.fork(a, 0);
    m.exec(child, "/bin/sh");
    assert!(m.violations().is_empty());
}

/// A pid namespace is joined for the children; the first one born there is in it.
#[test]
fn pid_joins_show_twice() {
    let mut m = Machine::new("");
    let a = m.runc(50, "/a");
    m.setns(a, 1, &[NsKind::Pid]);
    let found = m.violations();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].dimension, Dimension::PidForChildren);
    m.fork(a, 0);
    let found = m.violations();
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].dimension, found[0].rule),
        (Dimension::Pid, RuleId::NamespaceJoin)
    );
}

/// Leaving is a violation, coming home resolves it.
#[test]
fn coming_home_resolves() {
    let mut m = Machine::new("");
    let a = m.runc(50, "/a");
    let keeper = m.fork(a, 0);
    m.setns(a, 1, &[NsKind::Net]);
    assert_eq!(m.violations().len(), 1);
    m.setns(a, keeper, &[NsKind::Net]);
    let resolved = m.take(|r| match r {
        Record::Resolved(r) => Some(*r),
        Record::Violation(f) => panic!("{f:?}"),
        _ => None,
    });
    assert_eq!(resolved.len(), 1);
    assert_eq!(resolved[0].iota.after, Some(1));
    assert_eq!(resolved[0].dimension, Dimension::Net);
}

/// Fresh namespaces are nests, low, and the policy may allow them.
#[test]
fn nests_are_low_and_allowable() {
    let mut m = Machine::new("");
    m.name("/a", "a");
    let a = m.runc(50, "/a");
    m.unshare(a, NsKind::Uts.clone_flag() | NsKind::Pid.clone_flag());
    let found = m.violations();
    assert_eq!(
        facts(&found),
        [
            (
                RuleId::NamespaceNest,
                "runc:a".into(),
                "host".into(),
                Dimension::Pid
            ),
            (
                RuleId::NamespaceNest,
                "runc:a".into(),
                "host".into(),
                Dimension::Uts
            ),
        ]
        .into_iter()
        .rev()
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .collect::<Vec<_>>()
    );
    assert!(found.iter().all(|f| f.severity == Severity::Low));
    // The first child of the fresh pid namespace is no second finding.
    m.fork(a, 0);
    assert!(m.violations().is_empty());

    let mut m = Machine::new(
        "[[allow]]\nrule = \"namespace-nest\"\nsubject = \"runc:a\"\nreason = \"builds\"\n",
    );
    m.name("/a", "a");
    let a = m.runc(50, "/a");
    m.unshare(a, NsKind::Uts.clone_flag());
    assert!(m.violations().is_empty());
    assert_eq!(m.engine.counters().allowed, 1);
}

/// Five unshares that get the same inum are five namespaces, folded into one line with a count.
#[test]
fn reused_inums_are_counted() {
    let mut m = Machine::new("");
    let a = m.runc(50, "/a");
    m.unshare(a, NsKind::Uts.clone_flag());
    for _ in 0..4 {
        // The kernel frees the old one and hands its number out again.
        m.emit(a, a, cause::UNSHARE, NsKind::Uts.clone_flag());
    }
    assert_eq!(m.violations().len(), 1);
    m.tick(61_000_000_000);
    let found = m.violations();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].suppressed, 3, "the line itself is the fourth");
}

/// Goal: joins of two objects are two findings, even where the second got the number and the place of the
/// first. Method: a namespace that the host made is joined, ends, and another one takes its place.
#[test]
fn joins_of_different_objects_are_not_folded() {
    let mut m = Machine::new("");
    let a = m.runc(50, "/a");
    let keeper = m.fork(a, 0);
    let inum = m.next_inum;
    for _ in 0..2 {
        // The kernel gives the lowest free number.
        m.next_inum = inum;
        let maker = m.fork(1, 0);
        m.unshare(maker, NsKind::Net.clone_flag());
        m.setns(a, maker, &[NsKind::Net]);
        let found = m.violations();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].rule, RuleId::NamespaceJoin);
        // The same object again is a repeat.
        m.setns(a, keeper, &[NsKind::Net]);
        m.setns(a, maker, &[NsKind::Net]);
        assert!(m.violations().is_empty());
        m.setns(a, keeper, &[NsKind::Net]);
        m.exit(maker);
    }
}

/// Goal: a cgroup with strangers in it is no unnamed container's own, even if their pid namespace had the number
/// that the container's has now. Method: with and without a task whose end was lost.
#[test]
fn strangers_are_told_by_identity() {
    for stranger in [false, true] {
        let mut m = Machine::new("");
        m.cgroup(50, "/a");
        let pid = m.next_inum + 1;
        if stranger {
            let lost = m.fork(1, NsKind::Pid.clone_flag());
            assert_eq!(m.tasks[&lost].ns[ns::PID].inum, pid);
            m.attach(lost, 1, 50);
            m.tasks.remove(&lost);
        }
        // Of the five namespaces the one for processes is made last.
        m.next_inum = pid - 5;
        let a = m.runc_unnamed(50, "/a");
        assert_eq!(m.tasks[&a].ns[ns::PID].inum, pid);
        let world = m.engine.world();
        let entity = &world.entities[&world.label(&m.tasks[&a].key)];
        assert_eq!((entity.init.tid, entity.slots == 0), (a, stranger));
    }
}

/// Moving out of the cgroup, into a neighbour's, and being born there.
#[test]
fn migrations_are_violations() {
    let mut m = Machine::new("");
    m.name("/a", "a");
    m.name("/b", "b");
    let a = m.runc(50, "/a");
    m.runc(51, "/b");
    m.cgroup(60, "/a/inner");
    m.attach(a, a, 60);
    assert!(m.violations().is_empty(), "its own subtree");
    m.attach(a, a, 1);
    let found = m.violations();
    assert_eq!(
        facts(&found),
        [(
            RuleId::CgroupMigration,
            "runc:a".into(),
            "host".into(),
            Dimension::Cgroup
        )]
    );
    assert_eq!(found[0].iota.unwrap().after, Some(0));
    m.attach(a, a, 51);
    assert_eq!(
        facts(&m.violations()),
        [(
            RuleId::CgroupMigration,
            "runc:a".into(),
            "runc:b".into(),
            Dimension::Cgroup
        )]
    );
    // The host may move whom it likes.
    m.attach(a, 1, 50);
    m.attach(a, 1, 1);
    assert!(m.violations().is_empty());
}

/// chroot and chdir to what lies on the host's mounts.
#[test]
fn foreign_roots_and_cwds() {
    let mut m = Machine::new("");
    let a = m.runc(50, "/a");
    let home = m.tasks[&a];
    m.tasks.get_mut(&a).unwrap().cwd = host_state(1).cwd;
    m.emit(a, a, cause::CHDIR, 0);
    let found = m.violations();
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].rule, found[0].dimension),
        (RuleId::ForeignCwd, Dimension::Cwd)
    );
    m.tasks.get_mut(&a).unwrap().root = host_state(1).root;
    m.emit(a, a, cause::CHROOT, 0);
    let found = m.violations();
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].rule, found[0].dimension),
        (RuleId::ForeignRoot, Dimension::Root)
    );
    assert_eq!(found[0].iota.unwrap().after, Some(0));
    m.tasks.insert(a, home);
    m.emit(a, a, cause::CHDIR, 0);
    assert!(m.violations().is_empty());
}

/// The mark of a leaked directory: the first program already has a foreign cwd.
#[test]
fn first_exec_with_a_leaked_cwd() {
    let mut m = Machine::new("");
    let a = m.runc(50, "/a");
    let exec = m.fork(1, 0);
    m.setns(
        exec,
        a,
        &[
            NsKind::Ipc,
            NsKind::Uts,
            NsKind::Net,
            NsKind::Pid,
            NsKind::Mnt,
        ],
    );
    let inside = m.fork(exec, 0);
    m.tasks.get_mut(&inside).unwrap().cwd = host_state(1).cwd;
    m.attach(inside, 1, 50);
    assert!(
        m.violations().is_empty(),
        "not a program of the container yet"
    );
    m.exec(inside, "/bin/ls");
    assert_eq!(
        m.violations().iter().map(|f| f.rule).collect::<Vec<_>>(),
        [RuleId::ForeignCwd]
    );
}

/// Capabilities that grow by exec are for the record; those that grow by nothing are critical.
#[test]
fn gains_and_silent_gains() {
    let mut m = Machine::new("");
    let a = m.runc(50, "/a");
    m.tasks.get_mut(&a).unwrap().creds.cap_permitted |= 1 << 21;
    // An exec commits its credentials before it is reported.
    m.emit(a, a, cause::CRED, 0);
    m.exec(a, "/usr/bin/ping");
    m.tick(1_000_000_000);
    assert!(m.violations().is_empty());
    m.tasks.get_mut(&a).unwrap().creds.cap_permitted |= 1 << 16;
    m.emit(a, a, cause::CRED, 0);
    m.tick(1_000_000_000);
    let found = m.violations();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].rule, RuleId::SilentPrivilegeChange);
    assert!(
        found[0].message.contains("SYS_MODULE"),
        "{}",
        found[0].message
    );
}

/// The gain of an exec is an audit line, or what the policy makes of it.
#[test]
fn policy_decides_about_gains() {
    for (policy, violations, audits) in [
        ("", 0, 1),
        ("[defaults]\nprivilege_gain = \"violation\"\n", 1, 0),
        ("[defaults]\nprivilege_gain = \"ignore\"\n", 0, 0),
    ] {
        let mut m = Machine::new(policy);
        let a = m.runc(50, "/a");
        m.tasks.get_mut(&a).unwrap().creds.cap_permitted |= 1 << 21;
        m.exec(a, "/usr/bin/ping");
        let counters = m.engine.counters();
        assert_eq!(
            (counters.violations, counters.audits),
            (violations, audits),
            "{policy}"
        );
    }
}

/// What no event explains is drift, but only when two sweeps agree and nothing was lost.
#[test]
fn drift_needs_two_sweeps_and_no_loss() {
    let mut m = Machine::new("");
    let a = m.runc(50, "/a");
    m.tasks.get_mut(&a).unwrap().creds.cap_permitted = u64::MAX >> 23;
    m.sweep();
    assert!(m.out.is_empty(), "the event may be on its way");
    m.sweep();
    let drifts = m.take(|r| match r {
        Record::Drift(f) => Some(*f),
        _ => None,
    });
    assert_eq!(drifts.len(), 1);
    assert_eq!(
        (drifts[0].rule, drifts[0].severity),
        (RuleId::Drift, Severity::Critical)
    );

    m.tasks.get_mut(&a).unwrap().creds.cap_permitted = 1;
    let mark = LossMark {
        boottime_ns: m.now_ns,
        place: "ring".into(),
        count: 3,
        ..LossMark::default()
    };
    m.step(Event::Loss(&mark));
    assert_eq!(
        m.engine.index().pair(HOST, EntityId(1)).iota,
        None,
        "unknown after loss"
    );
    m.sweep();
    m.sweep();
    assert_eq!(m.engine.index().pair(HOST, EntityId(1)).iota, Some(true));
    assert!(!m.out.iter().any(|r| matches!(r, Record::Drift(_))));
    assert_eq!(
        m.out
            .iter()
            .filter(|r| matches!(r, Record::Loss(_)))
            .count(),
        1
    );
}

/// An undeclared share by inheritance is a violation of the pair; a declared one is not.
#[test]
fn shares_by_inheritance() {
    let spec = |path: Option<&str>| {
        let mut spec = SpecSummary::default();
        for kind in [
            NamespaceKind::Mount,
            NamespaceKind::Pid,
            NamespaceKind::Ipc,
            NamespaceKind::Uts,
        ] {
            spec.namespaces.push(DeclaredNamespace {
                kind,
                path: None,
                inum: None,
            });
        }
        if let Some(path) = path {
            let kind = NamespaceKind::Network;
            spec.namespaces.push(DeclaredNamespace {
                kind,
                path: Some(path.to_owned()),
                inum: None,
            });
        }
        spec
    };
    let without_net = CLONE_NEW_ALL & !NsKind::Net.clone_flag();
    let mut m = Machine::new("");
    m.spec("/a", "a", spec(None));
    m.spec("/b", "b", spec(None));
    m.spec("/c", "c", spec(Some("/run/netns/x")));
    let shell = m.fork(1, 0);
    m.unshare(shell, NsKind::Net.clone_flag());
    m.runc_from(shell, 50, "/a", without_net);
    assert!(m.violations().is_empty(), "alone in it so far");
    m.runc_from(shell, 51, "/b", without_net);
    let found = m.violations();
    assert_eq!(
        facts(&found),
        [(
            RuleId::SharedNamespace,
            "runc:a".into(),
            "runc:b".into(),
            Dimension::Net
        )]
    );
    m.runc_from(shell, 52, "/c", without_net);
    assert!(m.violations().is_empty(), "c's spec names it");
}

/// Two containers that were given one cgroup.
#[test]
fn shared_cgroups() {
    let mut m = Machine::new("");
    m.name("/same", "first");
    m.runc(50, "/same");
    m.name("/same", "second");
    m.runc(50, "/same");
    assert_eq!(
        facts(&m.violations()),
        [(
            RuleId::SharedCgroup,
            "runc:first".into(),
            "runc:second".into(),
            Dimension::Cgroup
        )]
    );
}

/// Names that a container gives to its own containers stand under it, and reach down but never up.
#[test]
fn nested_containers() {
    let mut m =
        Machine::new("[[allow]]\nrule = \"namespace-nest\"\nsubject = \"*\"\nreason = \"dind\"\n");
    m.name("/dind", "dind");
    let outer = m.runc(50, "/dind");
    let inner = m.runc_from(
        outer,
        60,
        "/dind/docker/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        CLONE_NEW_ALL,
    );
    assert!(m.violations().is_empty());
    let label = m.engine.world().label(&m.tasks[&inner].key);
    assert!(
        m.engine.world().entities[&label]
            .key
            .starts_with("runc:dind/docker:0123")
    );
    let shell = m.fork(outer, 0);
    m.setns(shell, inner, &[NsKind::Net]);
    assert!(m.violations().is_empty(), "reaches down");
    m.setns(inner, outer, &[NsKind::Uts]);
    let found = m.violations();
    assert_eq!(found.len(), 1, "never up");
    assert_eq!(found[0].object.id, "runc:dind");
}

/// Labels survive a restart, even of a container whose init has left it.
#[test]
fn labels_survive() {
    let mut m = Machine::new("");
    m.name("/a", "a");
    let a = m.runc(50, "/a");
    let child = m.fork(a, 0);
    m.setns(a, 1, &[NsKind::Net, NsKind::Mnt, NsKind::Uts, NsKind::Ipc]);
    m.attach(a, 1, 1);
    let saved = m.engine.saved();
    let tasks = m.tasks.clone();

    let mut again = Machine::new("");
    again.tasks = tasks;
    let mut hierarchies = [None; CGROUP_SLOTS];
    hierarchies[cgroup::V2] = Some(0);
    again.engine = Engine::new(
        Config {
            hierarchies,
            ..Config::default()
        },
        &Policy::default(),
    );
    again.name("/a", "a");
    again.cgroup(1, "/");
    again.cgroup(50, "/a");
    again.step(Event::Restore(&saved));
    again.sweep();
    let world = again.engine.world();
    let label = world.label(&again.tasks[&a].key);
    assert_ne!(label, HOST);
    assert_eq!(world.entities[&label].key, "runc:a");
    assert_eq!(world.label(&again.tasks[&child].key), label);
    assert_eq!(
        again.engine.index().pair(HOST, label).iota,
        Some(false),
        "it is still outside"
    );
    let net = again
        .violations()
        .into_iter()
        .find(|f| f.dimension == Dimension::Net)
        .unwrap();
    assert_eq!(net.confidence, Confidence::Inferred);
}

/// The same events give the same lines.
#[test]
fn deterministic() {
    let run = || {
        let mut m = Machine::new("");
        let a = m.runc(50, "/a");
        let b = m.runc(51, "/b");
        m.setns(a, b, &[NsKind::Net, NsKind::Uts]);
        m.unshare(b, CLONE_NEW_ALL);
        m.attach(b, b, 1);
        m.tick(90_000_000_000);
        let mut out = std::mem::take(&mut m.out);
        m.engine.stop(m.now_ns, "end_of_input", &mut out);
        (serde_json::to_string(&out).unwrap(), m.engine.digest())
    };
    assert_eq!(run(), run());
}

/// An exec by a second thread takes the leader's id over, label included.
#[test]
fn exec_by_a_thread_keeps_the_label() {
    let mut m = Machine::new("");
    let a = m.runc(50, "/a");
    let thread = m.fork(a, 0);
    m.tasks.get_mut(&thread).unwrap().key.tgid = a;
    m.emit(thread, a, cause::FORK, 0x0001_0000);
    let label = m.engine.world().label(&m.tasks[&a].key);
    let leader = m.tasks[&a];
    m.exit(a);
    m.tasks.insert(a, leader);
    m.tasks.remove(&thread);
    let mut task = m.record(a, a, cause::EXEC, u64::from(thread));
    task.state.key = leader.key;
    m.step(Event::Exec(&ExecRecord {
        task,
        filename: [0; FILENAME_LEN],
    }));
    assert_eq!(m.engine.world().label(&leader.key), label);
    assert!(!m.engine.world().tasks.contains_key(&thread));
}

/// An exec that leaves out the container's cgroup namespace, as runtimes do, was sent in with the
/// host's: that is given, not taken. A task that goes there by itself takes it.
#[test]
fn what_a_runtime_sends_in_is_given() {
    let mut m = Machine::new("");
    m.name("/web", "web");
    let flags = CLONE_NEW_ALL | NsKind::Cgroup.clone_flag();
    let init = m.runc_from(1, 50, "/web", flags);
    let stage = m.fork(1, 0);
    for kind in [
        NsKind::Ipc,
        NsKind::Uts,
        NsKind::Net,
        NsKind::Pid,
        NsKind::Mnt,
    ] {
        m.setns(stage, init, &[kind]);
    }
    let inside = m.fork(stage, 0);
    m.attach(inside, 1, 50);
    m.exec(inside, "/bin/sh");
    let child = m.fork(inside, 0);
    m.unshare(child, NsKind::Uts.clone_flag());
    let found = m.violations();
    assert!(
        found.iter().all(|f| f.rule == RuleId::NamespaceNest),
        "{found:?}"
    );
    m.setns(init, 1, &[NsKind::Cgroup]);
    let found = m.violations();
    assert_eq!(
        facts(&found),
        [(
            RuleId::NamespaceJoin,
            "runc:web".into(),
            "host".into(),
            Dimension::CgroupNs
        )]
    );
}

/// What a nested container made belongs to those around it when it ends, and whoever held it lets go
/// of it as it was held.
#[test]
fn nested_makers_leave_an_heir() {
    let mut m = Machine::new("");
    m.name("/dind", "dind");
    let outer = m.runc(50, "/dind");
    let inner = m.runc_from(outer, 60, "/dind/inner", CLONE_NEW_ALL);
    m.unshare(inner, NsKind::Net.clone_flag());
    let shell = m.fork(outer, 0);
    m.setns(shell, inner, &[NsKind::Net]);
    m.exit(inner);
    m.violations();
    let second = m.fork(shell, 0);
    m.unshare(second, NsKind::Uts.clone_flag());
    m.exit(shell);
    m.exit(second);
    let nests = |f: &Finding| f.rule == RuleId::NamespaceNest;
    assert!(m.violations().iter().all(nests));
    assert_eq!(
        m.engine.index().ignored(),
        0,
        "each hold was released as it was held"
    );
}

/// Of two containers in one cgroup the second keeps it when the first one ends.
#[test]
fn a_shared_cgroup_has_an_heir() {
    let mut m = Machine::new("");
    m.name("/same", "first");
    let first = m.runc(50, "/same");
    m.name("/same", "second");
    let second = m.runc(50, "/same");
    m.violations();
    m.exit(first);
    let child = m.fork(second, 0);
    m.attach(child, 1, 50);
    assert!(m.violations().is_empty());
    let label = m.engine.world().label(&m.tasks[&second].key);
    assert_eq!(m.engine.index().pair(HOST, label).iota, Some(true));
}

/// A root in a container that has ended is nobody's, even when the next container gets the inum of
/// its mount namespace.
#[test]
fn roots_in_the_past_touch_nobody() {
    let mut m = Machine::new("");
    m.name("/a", "a");
    m.name("/b", "b");
    m.name("/c", "c");
    let a = m.runc(50, "/a");
    m.next_inum = 9000;
    let b = m.runc(51, "/b");
    m.tasks.get_mut(&a).unwrap().root = m.tasks[&b].root;
    m.emit(a, a, cause::CHROOT, 0);
    assert_eq!(m.violations().len(), 1);
    m.exit(b);
    m.next_inum = 9000;
    let c = m.runc(52, "/c");
    m.attach(a, 1, 50);
    assert!(m.violations().is_empty());
    let label = |tid: u32| m.engine.world().label(&m.tasks[&tid].key);
    assert_eq!(m.engine.index().pair(label(a), label(c)).iota, Some(true));
}

/// A runtime that writes down late who a container is: its first findings wait for the name.
#[test]
fn findings_wait_for_names() {
    let mut m = Machine::new("");
    m.name("/known", "known");
    let known = m.runc(51, "/known");
    let a = m.runc_unnamed(50, "/late");
    m.setns(a, known, &[NsKind::Net]);
    assert!(m.violations().is_empty(), "nobody knows yet who that is");
    m.name("/late", "late");
    m.tick(100_000_000);
    let found = m.violations();
    assert_eq!(
        facts(&found),
        [(
            RuleId::NamespaceJoin,
            "runc:late".into(),
            "runc:known".into(),
            Dimension::Net
        )]
    );
    assert_eq!(
        found[0].message,
        "container late joined container known's network namespace"
    );
    m.setns(a, known, &[NsKind::Uts]);
    assert_eq!(m.violations().len(), 1, "now it has a name");
}

/// Goal: what a container without a pid namespace of its own does before its runtime has written it down is not
/// forgotten. Method: a child of its init joins the host's network before anybody knows whose child it is.
#[test]
fn children_of_a_late_container_are_its_own() {
    let mut m = Machine::new("");
    let a = m.runc_unnamed_with_host_pids(50, "/late");
    let child = m.fork(a, 0);
    let grandchild = m.fork(child, 0);
    m.setns(grandchild, 1, &[NsKind::Net]);
    assert!(m.violations().is_empty(), "nobody knows yet who that is");
    m.name("/late", "late");
    m.tick(100_000_000);
    let found = m.violations();
    assert_eq!(
        facts(&found),
        [(
            RuleId::NamespaceJoin,
            "runc:late".into(),
            "host".into(),
            Dimension::Net
        )]
    );
    let task = found[0].subject.task.as_ref().unwrap();
    assert_eq!(
        (task.pid, found[0].confidence),
        (grandchild, Confidence::Inferred)
    );
}

/// Goal: of two containers in one cgroup, the one that is written down late does not get the other's name. Method: an
/// answer that names another first process, then the right one.
#[test]
fn a_neighbours_name_is_not_taken() {
    let mut m = Machine::new("");
    m.name("/shared", "first");
    let first = m.runc(50, "/shared");
    m.names_init("/shared", first);
    let second = m.runc_unnamed(50, "/shared");
    let key = |m: &Machine, tid: u32| {
        let world = m.engine.world();
        world.entities[&world.label(&m.tasks[&tid].key)].key.clone()
    };
    assert_eq!(key(&m, second), "unknown:/shared");
    m.tick(100_000_000);
    assert_eq!(key(&m, second), "unknown:/shared");
    m.name("/shared", "second");
    m.names_init("/shared", second);
    m.tick(100_000_000);
    assert_eq!(
        (key(&m, first), key(&m, second)),
        ("runc:first".into(), "runc:second".into())
    );
}

/// Containers that nobody knows, in one cgroup, have ids of their own, for as long as they live.
#[test]
fn strangers_in_one_cgroup_are_told_apart() {
    let mut m = Machine::new("");
    let sandboxes: Vec<u32> = (0..3).map(|_| m.runc_unnamed(50, "/session")).collect();
    let ids: Vec<String> = sandboxes.iter().map(|&init| m.label_of(init)).collect();
    let first = "unknown:/session";
    assert_eq!(ids, [first, "unknown:/session#2", "unknown:/session#3"]);
    m.exit(sandboxes[1]);
    let again = m.runc_unnamed(50, "/session");
    assert_eq!(m.label_of(again), "unknown:/session#2");
}

/// A namespace that the host made, and that a container joined, does not become the container's by a nested one that lived
/// in it for a while.
#[test]
fn what_a_nested_container_lived_in_stays_its_makers() {
    let mut m = Machine::new("");
    m.name("/a", "a");
    let a = m.runc(50, "/a");
    let admin = m.fork(1, 0);
    m.unshare(admin, NsKind::Net.clone_flag());
    let child = m.fork(a, 0);
    m.setns(child, admin, &[NsKind::Net]);
    let flags = CLONE_NEW_ALL & !NsKind::Net.clone_flag();
    let nested = m.runc_from(child, 51, "/a/nested", flags);
    assert!(m.label_of(nested).starts_with("runc:a/"));
    m.exit(nested);
    // Another container of the host begins there.
    m.name("/b", "b");
    let b = m.runc_from(admin, 52, "/b", flags);
    let [a, b] = [a, b].map(|init| m.engine.world().label(&m.tasks[&init].key));
    let pair = m.engine.index().pair(a, b);
    let net = pair.dimension(Dimension::Net).unwrap();
    assert_eq!(net.verdict, Verdict::Violated);
}

/// The start line comes first, and counts the containers that were there before the agent.
#[test]
fn the_start_line_counts_containers() {
    let mut m = Machine::new("");
    m.name("/a", "a");
    m.runc(50, "/a");
    let tasks = m.tasks.clone();
    let mut again = Machine::new("");
    again.engine = Engine::new(again.engine.config.clone(), &Policy::default());
    again.tasks = tasks;
    again.name("/a", "a");
    again.cgroup(1, "/");
    again.cgroup(50, "/a");
    again.sweep();
    let Some(Record::Start(start)) = again.out.first() else {
        panic!("{:?}", again.out);
    };
    assert_eq!(start.entities, 1);
}

/// A directory that leaked from the runtime into the init's first program is told at that exec.
#[test]
fn a_leaked_cwd_at_the_first_exec_of_the_init() {
    let mut m = Machine::new("");
    m.name("/a", "a");
    m.leak_cwd = true;
    m.runc(50, "/a");
    let found = m.violations();
    assert_eq!(
        facts(&found),
        [(
            RuleId::ForeignCwd,
            "runc:a".into(),
            "host".into(),
            Dimension::Cwd
        )]
    );
    assert_eq!(found[0].witness.hook, "sched_process_exec");
}

/// An exec right after a silent change does not explain it: only one that the change happened in.
#[test]
fn an_exec_does_not_launder_a_silent_change() {
    let mut m = Machine::new("");
    m.engine.config.syscalls = |number| (number == 16).then_some("ioctl");
    let a = m.runc(50, "/a");
    m.tasks.get_mut(&a).unwrap().creds.cap_permitted |= 1 << 16;
    let mut record = m.record(a, a, cause::CRED, 0);
    record.syscall = 16;
    m.step(Event::Task(&record));
    m.exec(a, "/bin/sh");
    m.tick(2_000_000_000);
    let rules: Vec<_> = m.violations().iter().map(|f| f.rule).collect();
    assert_eq!(rules, [RuleId::SilentPrivilegeChange]);
}

/// A network namespace that only a bind mount keeps is the host's, not that of the container that joins it.
#[test]
fn namespaces_without_tasks_are_not_the_joiners() {
    let mut m = Machine::new("");
    let a = m.runc(50, "/a");
    let net = m.inum();
    m.tasks.get_mut(&a).unwrap().ns[ns::NET].inum = net;
    m.emit(a, a, cause::SETNS, 0);
    let found = m.violations();
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].rule, found[0].object.id.as_str()),
        (RuleId::NamespaceJoin, "host")
    );
}

/// Without events: a task that a sweep finds in a container's cgroup and pid namespace is the container's, and
/// what else it has left is told.
#[test]
fn a_sweep_recognises_who_left() {
    let mut m = Machine::new("");
    m.name("/a", "a");
    let a = m.runc(50, "/a");
    let mut state = m.tasks[&a];
    state.key = TaskKey {
        tid: 9000,
        tgid: 9000,
        start_boottime_ns: m.now_ns,
    };
    state.parent = m.tasks[&1].key;
    state.ns_tid = 2;
    state.ns[ns::NET] = m.tasks[&1].ns[ns::NET];
    m.tasks.insert(9000, state);
    m.sweep();
    let found = m.violations();
    assert_eq!(
        facts(&found),
        [(
            RuleId::NamespaceJoin,
            "runc:a".into(),
            "host".into(),
            Dimension::Net
        )]
    );
    assert_eq!(found[0].confidence, Confidence::Inferred);
}
