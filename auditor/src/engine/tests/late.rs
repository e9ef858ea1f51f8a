//! Goal: what a container without a pid namespace of its own does before its runtime has written it down is judged as what
//! it does later. Method: on the simulated machine, deeds first and the name a tick later.

use super::machine::Machine;
use super::reaching::{ATTACH, PTRACE};
use crate::engine::event::LossMark;
use crate::model::output::{Finding, Record};
use crate::model::{Confidence, Dimension, NsKind, RuleId};

/// A machine with a container that nobody knows yet, whose first task's number is given.
fn unknown() -> (Machine, u32) {
    let mut m = Machine::new("");
    m.engine.config.syscalls = crate::model::syscalls::of("x86_64");
    let init = m.runc_unnamed_with_host_pids(50, "/late");
    m.out.clear();
    (m, init)
}

/// The name comes.
fn settle(m: &mut Machine) -> Vec<Finding> {
    assert!(m.violations().is_empty(), "nobody knows yet who that is");
    m.name("/late", "late");
    m.tick(100_000_000);
    m.violations()
}

#[test]
fn acts_are_judged_when_it_is_known_whose_they_are() {
    let (mut m, init) = unknown();
    m.access(init, 1, PTRACE, ATTACH, 0);
    let first = m.engine.event;
    let child = m.fork(init, 0);
    let target = m.fork(1, 0);
    m.access(child, target, PTRACE, ATTACH, 0);
    m.exit(child);
    let found = settle(&mut m);
    let told: Vec<_> = found
        .iter()
        .map(|f| {
            let task = f.subject.task.as_ref().unwrap();
            (f.rule, f.subject.id.as_str(), task.pid, f.confidence)
        })
        .collect();
    let rule = RuleId::ProcessControl;
    assert_eq!(
        told,
        [
            (rule, "runc:late", init, Confidence::Exact),
            (rule, "runc:late", child, Confidence::Inferred)
        ]
    );
    assert_eq!(found[0].witness.events, [first]);
}

/// What the first process has left is not taken for what it was given.
#[test]
fn the_baseline_is_what_it_had_when_its_program_began() {
    let (mut m, init) = unknown();
    m.setns(init, 1, &[NsKind::Net]);
    m.setns(init, 1, &[NsKind::Mnt]);
    let found = settle(&mut m);
    let told: Vec<_> = found.iter().map(|f| (f.rule, f.dimension)).collect();
    for dimension in [Dimension::Net, Dimension::Mnt] {
        assert!(
            told.contains(&(RuleId::NamespaceJoin, dimension)),
            "{told:?}"
        );
    }
    let task = found[0].subject.task.as_ref().unwrap();
    assert_eq!((task.pid, found[0].confidence), (init, Confidence::Exact));
    // The model is what the machine is.
    m.sweep();
    assert!(
        m.take(|record| matches!(record, Record::Drift(_)).then_some(()))
            .is_empty()
    );
}

/// Where two such containers have one cgroup, the answer about the first says nothing of the second.
#[test]
fn a_neighbours_name_does_not_end_the_wait() {
    let mut m = Machine::new("");
    m.engine.config.syscalls = crate::model::syscalls::of("x86_64");
    m.name("/late", "first");
    let first = m.runc_unnamed_with_host_pids(50, "/late");
    m.names_init("/late", first);
    let second = m.runc_unnamed_with_host_pids(50, "/late");
    m.out.clear();
    assert_ne!(m.label_of(first), "host");
    m.access(second, 1, PTRACE, ATTACH, 0);
    m.tick(100_000_000);
    assert_eq!(m.label_of(second), "host");
    m.name("/late", "second");
    m.names_init("/late", second);
    m.tick(100_000_000);
    let found = m.violations();
    let told: Vec<_> = found
        .iter()
        .map(|f| (f.rule, f.subject.id.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (RuleId::SharedCgroup, "runc:first"),
            (RuleId::ProcessControl, "runc:second")
        ]
    );
}

/// Who is no container's has done nothing worth a word.
#[test]
fn what_no_runtime_knows_stays_the_hosts() {
    let (mut m, init) = unknown();
    m.access(init, 1, PTRACE, ATTACH, 0);
    m.setns(init, 1, &[NsKind::Net]);
    for at in 1..20 {
        m.tick(at * 100_000_000);
    }
    assert!(m.violations().is_empty());
    assert!(m.engine.late.is_empty());
}

/// What there is no room for is told.
#[test]
fn what_cannot_be_kept_is_told() {
    let (mut m, init) = unknown();
    for _ in 0..300 {
        m.access(init, 1, PTRACE, ATTACH, 0);
    }
    m.name("/late", "late");
    m.tick(100_000_000);
    let losses = m.take(|record| match record {
        Record::Loss(loss) => Some((loss.place.clone(), loss.count)),
        _ => None,
    });
    assert_eq!(losses, [(LossMark::EARLY.to_owned(), 44)]);
    assert!(m.engine.late.is_empty());
}
