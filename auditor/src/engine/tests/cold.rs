//! Goal: an agent that starts after the containers knows them, and whose each task is, as one that was there first.
//! Method: on the simulated machine, an engine that saw all of it, and another that begins with a sweep; and random
//! histories of that kind.

use super::machine::{CLONE_NEW_ALL, ENTERED, Machine};
use crate::inventory::container::{DeclaredNamespace, NamespaceKind, SpecSummary};
use crate::model::facts::EntityId;
use crate::model::output::Record;
use crate::model::{Dimension, NsKind, Verdict};
use auditor_common::record::*;
use std::collections::BTreeMap;

const PIDS: u64 = 0x2000_0000;
const MOUNTS: u64 = 0x0002_0000;
const CGROUPS: [(u64, &str); 4] = [
    (50, "/red/a"),
    (51, "/red/b"),
    (52, "/red/a/inner"),
    (53, "/elsewhere"),
];

/// A container that its runtime has written down.
fn container(m: &mut Machine, id: u64, pids_of: Option<u32>) -> u32 {
    let path = CGROUPS.iter().find(|(of, _)| *of == id).unwrap().1;
    let kinds = [
        NamespaceKind::Mount,
        NamespaceKind::Pid,
        NamespaceKind::Network,
        NamespaceKind::Ipc,
        NamespaceKind::Uts,
    ];
    let declared = |kind| DeclaredNamespace {
        kind,
        path: pids_of
            .filter(|_| kind == NamespaceKind::Pid)
            .map(|of| format!("/proc/{of}/ns/pid")),
        inum: None,
    };
    let spec = SpecSummary {
        namespaces: kinds.map(declared).into(),
        ..SpecSummary::default()
    };
    m.spec(path, path.rsplit('/').next().unwrap(), spec);
    m.pids_of = pids_of;
    let pids = if pids_of.is_some() { PIDS } else { 0 };
    let init = m.runc_from(1, id, path, CLONE_NEW_ALL & !pids);
    m.pids_of = None;
    m.names_init(path, init);
    m.specs.get_mut(path).unwrap().waits = Some(false);
    init
}

/// What `exec` of a runtime leaves in a container: its parent is not in there.
fn exec_in(m: &mut Machine, init: u32) -> u32 {
    let cgroup = m.tasks[&init].cgroups[cgroup::V2];
    let stage = m.fork(1, 0);
    m.setns(stage, init, &ENTERED);
    let inside = m.fork(stage, 0);
    m.exit(stage);
    m.adopt_by(1, inside);
    m.attach(inside, 1, cgroup);
    m.exec(inside, "/bin/sh");
    inside
}

fn labels(m: &Machine) -> BTreeMap<u32, String> {
    m.tasks.keys().map(|&tid| (tid, m.label_of(tid))).collect()
}

/// An engine that begins now.
fn cold(m: &Machine) -> Machine {
    let mut again = m.restarted();
    again.cgroup(1, "/");
    for (id, path) in CGROUPS {
        again.cgroup(id, path);
    }
    again.sweep();
    for _ in 0..12 {
        again.tick(100_000_000);
    }
    again
}

/// Gives the cold one.
#[track_caller]
fn knows_all(m: &Machine) -> Machine {
    let again = cold(m);
    assert_eq!(labels(&again), labels(m));
    again
}

fn entity(m: &Machine, key: &str) -> EntityId {
    let mut all = m.engine.world().entities.iter();
    *all.find(|(_, e)| e.key == key).unwrap().0
}

fn pid_verdict(m: &Machine) -> Verdict {
    let pair = (m.engine.index()).pair(entity(m, "runc:a"), entity(m, "runc:b"));
    pair.dimension(Dimension::Pid).unwrap().verdict
}

/// Containers that share one pid namespace are told apart by what their runtimes wrote down.
#[test]
fn who_joined_a_pid_namespace_is_somebody() {
    let mut m = Machine::new("");
    let a = container(&mut m, 50, None);
    let b = container(&mut m, 51, Some(a));
    let mut again = knows_all(&m);
    assert_eq!(again.label_of(b), "runc:b");
    for m in [&m, &again] {
        assert_eq!(pid_verdict(m), Verdict::DeclaredShared);
    }
    assert!(again.violations().is_empty());
}

/// The same for what they have done since: their tasks' children, who was sent in, who left.
#[test]
fn tasks_in_a_shared_pid_namespace_are_told_apart() {
    let mut m = Machine::new("");
    let a = container(&mut m, 50, None);
    let b = container(&mut m, 51, Some(a));
    for init in [a, b] {
        let child = m.fork(init, 0);
        let sent = exec_in(&mut m, init);
        for of in [child, sent] {
            // In the container's cgroup, in other namespaces.
            let apart = m.fork(of, 0);
            m.unshare(apart, MOUNTS);
            // In another cgroup as well.
            let away = m.fork(of, 0);
            m.unshare(away, MOUNTS);
            m.attach(away, away, 53);
            m.setns(away, 1, &[NsKind::Net]);
            m.fork(away, 0);
        }
        // Whoever has lost its parent has the first of the pid namespace for one.
        let parent = m.fork(child, 0);
        let orphan = m.fork(parent, 0);
        m.unshare(orphan, MOUNTS);
        m.exit(parent);
        m.adopt_by(a, orphan);
    }
    knows_all(&m);
}

/// A container that waits is nobody's either.
#[test]
fn who_waits_in_a_pid_namespace_is_the_hosts() {
    let mut m = Machine::new("");
    let a = container(&mut m, 50, None);
    m.pids_of = Some(a);
    m.name("/red/b", "b");
    let (_, b) = m.runc_created(1, 51, "/red/b", CLONE_NEW_ALL & !PIDS);
    m.names_init("/red/b", b);
    m.specs.get_mut("/red/b").unwrap().waits = Some(true);
    let again = knows_all(&m);
    assert_eq!(again.label_of(b), "host");
}

/// Namespaces that a container's tasks made are its own, and no container.
#[test]
fn what_a_container_made_is_its_own() {
    for flags in [PIDS, PIDS | MOUNTS, MOUNTS] {
        let mut m = Machine::new("");
        let a = container(&mut m, 50, None);
        let sent = exec_in(&mut m, a);
        m.unshare(sent, flags);
        let inner = m.fork(sent, 0);
        m.exec(inner, "/bin/sleep");
        let mut again = knows_all(&m);
        assert_eq!(again.label_of(inner), "runc:a");
        assert!(again.violations().is_empty());
        // Nor is it anything to go in there.
        for m in [&mut m, &mut again] {
            m.out.clear();
            m.setns(a, inner, &[NsKind::Pid, NsKind::Mnt]);
            assert_eq!(m.violations(), []);
        }
    }
}

/// A runtime in a container makes containers in it.
#[test]
fn a_container_in_a_container_is_nested() {
    for cgroup in [50, 52] {
        let mut m = Machine::new("");
        let a = container(&mut m, 50, None);
        let runtime = exec_in(&mut m, a);
        let path = CGROUPS.iter().find(|(of, _)| *of == cgroup).unwrap().1;
        let inner = m.runc_from(runtime, cgroup, path, CLONE_NEW_ALL);
        m.adopt_by(a, inner);
        let innermost = m.runc_from(inner, cgroup, path, CLONE_NEW_ALL);
        m.adopt_by(inner, innermost);
        m.fork(innermost, PIDS);
        let again = knows_all(&m);
        assert!(again.label_of(inner).starts_with("runc:a/"));
        let nested = [inner, innermost].map(|tid| again.engine.world().label(&m.tasks[&tid].key));
        let parents = nested.map(|id| again.engine.world().entities[&id].parent);
        assert_eq!(parents, [entity(&again, "runc:a"), nested[0]]);
    }
}

/// The same where events were lost since the start.
#[test]
fn a_loss_is_made_good_in_the_same_way() {
    let mut m = Machine::new("");
    let a = container(&mut m, 50, None);
    let b = container(&mut m, 51, Some(a));
    let sent = exec_in(&mut m, a);
    m.unshare(sent, PIDS);
    let inner = m.fork(sent, 0);
    let mut again = m.restarted();
    again.cgroup(1, "/");
    for (id, path) in CGROUPS {
        again.cgroup(id, path);
    }
    let later: Vec<u32> = again.tasks.keys().copied().filter(|&t| t != 1).collect();
    let later: Vec<_> = later
        .iter()
        .map(|tid| (*tid, again.tasks.remove(tid).unwrap()))
        .collect();
    again.sweep();
    again.tasks.extend(later);
    again.lose();
    again.sweep();
    assert_eq!(labels(&again), labels(&m));
    assert_eq!(again.label_of(b), "runc:b");
    assert_eq!(again.label_of(inner), "runc:a");
    let bad = again.take(|r| matches!(r, Record::Violation(_) | Record::Drift(_)).then_some(r));
    assert_eq!(bad, []);
}

/// Whom an earlier run knew, and what was born since.
#[test]
fn what_was_born_between_two_runs_is_its_parents() {
    let mut m = Machine::new("");
    let a = container(&mut m, 50, None);
    let sent = exec_in(&mut m, a);
    m.setns(sent, 1, &[NsKind::Net]);
    m.attach(sent, sent, 53);
    let saved = m.engine.saved();
    m.fork(a, 0);
    m.fork(sent, 0);
    exec_in(&mut m, a);
    m.unshare(sent, PIDS);
    let inner = m.fork(sent, 0);
    m.fork(inner, 0);
    let mut again = m.restarted();
    again.step(crate::engine::Event::Restore(&saved));
    again.cgroup(1, "/");
    for (id, path) in CGROUPS {
        again.cgroup(id, path);
    }
    again.sweep();
    assert_eq!(labels(&again), labels(&m));
}

/// All are found, also where more are there than may be asked about at once.
#[test]
fn there_may_be_more_than_questions() {
    let mut m = Machine::new("");
    let paths: Vec<(u64, String)> = (0..1100).map(|n| (100 + n, format!("/red/{n}"))).collect();
    for (id, path) in &paths {
        m.name(path, path.rsplit('/').next().unwrap());
        m.runc_unnamed(*id, path);
    }
    let mut again = m.restarted();
    again.cgroup(1, "/");
    for (id, path) in &paths {
        again.cgroup(*id, path);
    }
    again.sweep();
    assert_eq!(labels(&again), labels(&m));
    assert_eq!(again.engine.world().entities.len(), 1101);
}
