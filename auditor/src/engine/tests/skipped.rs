//! Goal: what a kernel program was left out of is told, and makes unknown what it may have shown; a difference that a sweep
//! then finds is no drift. It is no lost event: nobody knows whether there was one. A birth that is made up for is as good as
//! one that was seen. Method: stories with made-up marks.

use super::machine::Machine;
use crate::engine::{Event, LossMark};
use crate::model::facts::{EntityId, HOST};
use crate::model::output::{Loss, Record};
use crate::model::{Confidence, NsKind, RuleId};
use auditor_common::hook;
use auditor_common::record::{cause, ns};
use std::collections::BTreeMap;

const PATH: &str = "/machine/runc-a";

fn skip(m: &mut Machine, index: u16) -> Loss {
    let mark = LossMark {
        boottime_ns: m.now_ns,
        place: LossMark::SKIPPED.to_owned(),
        by_hook: BTreeMap::from([(index, 2)]),
        count: 2,
        ..LossMark::default()
    };
    m.step(Event::Loss(&mark));
    let mut losses = m.take(|record| match record {
        Record::Loss(loss) => Some(*loss),
        _ => None,
    });
    assert_eq!(losses.len(), 1);
    losses.remove(0)
}

/// As text: what it is does not matter here.
fn iota(m: &Machine) -> Option<String> {
    let iota = m.engine.index().pair(HOST, EntityId(1)).iota;
    iota.map(|iota| format!("{iota:?}"))
}

#[test]
fn states_are_unknown_until_the_next_sweep() {
    let mut m = Machine::new("");
    m.name(PATH, "a");
    let a = m.runc(50, PATH);
    let before = iota(&m);
    assert!(before.is_some());
    let loss = skip(&mut m, hook::COMMIT_CREDS);
    assert_eq!((loss.count, loss.total), (2, 2));
    assert!(!loss.unknown.is_empty());
    assert_eq!(iota(&m), None);
    // Its record is what the program was left out of.
    m.tasks.get_mut(&a).unwrap().creds.cap_permitted = 1;
    m.sweep();
    m.sweep();
    assert_eq!(iota(&m), before);
    assert_eq!(m.engine.counters().drifts, 0);
    assert_eq!(m.engine.counters().lost_events, 0);
    assert_eq!(m.engine.skipped(), 2);
}

#[test]
fn acts_leave_the_model_as_it_is() {
    let mut m = Machine::new("");
    m.name(PATH, "a");
    m.runc(50, PATH);
    m.engine.take_renewal();
    let before = iota(&m);
    let loss = skip(&mut m, hook::FILE_OPEN);
    assert!(loss.unknown.is_empty());
    assert_eq!(iota(&m), before);
    assert!(!m.engine.take_renewal());
}

/// Uses are told anew, but where programs are left out all the time this is not done all the time.
#[test]
fn uses_are_asked_for_again_at_times() {
    let mut m = Machine::new("");
    m.tick(100_000_000_000);
    m.engine.take_renewal();
    skip(&mut m, hook::CAPABLE);
    assert!(m.engine.take_renewal());
    m.tick(30_000_000_000);
    skip(&mut m, hook::CAPABLE);
    assert!(!m.engine.take_renewal());
    m.tick(30_000_000_000);
    skip(&mut m, hook::SYS_ENTER);
    assert!(m.engine.take_renewal());
}

/// What another hook was left out of explains nothing, and neither does what was long ago.
#[test]
fn what_was_not_left_out_is_drift_all_the_same() {
    let mut m = Machine::new("");
    m.name(PATH, "a");
    let a = m.runc(50, PATH);
    skip(&mut m, hook::SCHED_EXIT);
    m.tasks.get_mut(&a).unwrap().creds.cap_permitted = 1;
    m.sweep();
    m.sweep();
    assert_eq!(m.engine.counters().drifts, 1);
    skip(&mut m, hook::COMMIT_CREDS);
    (0..3).for_each(|_| m.sweep());
    m.tasks.get_mut(&a).unwrap().creds.cap_permitted = 2;
    m.sweep();
    m.sweep();
    assert_eq!(m.engine.counters().drifts, 2);
}

/// Who goes to the host and comes back was there, although no program saw it go: the one that meets it says so.
#[test]
fn a_switch_that_was_left_out_is_told_by_who_meets_the_task() {
    let mut m = Machine::new("");
    m.name(PATH, "a");
    let a = m.runc(50, PATH);
    m.violations();
    let (at_home, host) = (m.tasks[&a], m.tasks[&1]);
    let task = m.tasks.get_mut(&a).unwrap();
    task.ns[ns::MNT] = host.ns[ns::MNT];
    (task.root, task.cwd) = (host.root, host.cwd);
    m.emit(a, a, cause::FOUND, 0);
    let found = m.violations();
    let join = found
        .iter()
        .find(|f| f.rule == RuleId::NamespaceJoin)
        .unwrap();
    assert_eq!(join.witness.hook, "switch_task_namespaces");
    m.tasks.insert(a, at_home);
    m.emit(a, a, cause::FOUND, 0);
    (0..2).for_each(|_| m.sweep());
    assert_eq!(m.violations(), []);
    assert_eq!(m.engine.counters().drifts, 0);
    // Nothing new is told of nothing.
    m.emit(a, a, cause::FOUND, 0);
    assert_eq!(m.out, []);
}

/// Nobody knows by whose act it was born, so its record has itself as the actor.
#[test]
fn a_birth_that_is_made_up_for_is_one() {
    let mut m = Machine::new("");
    m.name(PATH, "a");
    let a = m.runc(50, PATH);
    let parent = m.tasks[&a];
    let tid = a + 100;
    let mut child = parent;
    (child.parent, child.key.tid, child.key.tgid) = (parent.key, tid, tid);
    child.key.start_boottime_ns = m.now_ns;
    child.ns_tid = 7;
    m.tasks.insert(tid, child);
    m.emit(tid, tid, cause::FORK, 0);
    assert_eq!(m.label_of(tid), "runc:a");
    assert_eq!(m.violations(), []);
    m.setns(tid, 1, &[NsKind::Mnt]);
    let found = m.violations();
    assert_eq!(found[0].rule, RuleId::NamespaceJoin);
    assert_eq!(found[0].confidence, Confidence::Inferred);
    m.exit(tid);
    assert_eq!(m.engine.counters().drifts, 0);
}
