//! Goal: after a loss a container that its runtime still makes does not begin, and one that runs does. Method: a loss in
//! the middle of making one, and sweeps, or somebody who meets it.

use super::machine::{CLONE_NEW_ALL, Machine};
use crate::engine::{Event, LossMark};
use auditor_common::hook;
use auditor_common::record::{FOUND_EXECUTED, cause, task_flags};
use std::collections::BTreeMap;

const PATH: &str = "/machine/runc-a";
const CGROUP: u64 = 50;

/// A container that was made and not started, of which its runtime says whether it waits.
fn created(m: &mut Machine, waits: Option<bool>) -> u32 {
    let (_, init) = m.runc_created(1, CGROUP, PATH, CLONE_NEW_ALL);
    if waits.is_some() {
        m.name(PATH, "a");
        m.names_init(PATH, init);
        m.specs.get_mut(PATH).unwrap().waits = waits;
    }
    assert_eq!(m.label_of(init), "host");
    init
}

fn leave_out(m: &mut Machine) {
    let mark = LossMark {
        boottime_ns: m.now_ns,
        place: LossMark::SKIPPED.to_owned(),
        by_hook: BTreeMap::from([(hook::SCHED_EXEC, 1)]),
        count: 1,
        ..LossMark::default()
    };
    m.step(Event::Loss(&mark));
}

#[test]
fn one_that_waits_does_not_begin() {
    let mut m = Machine::new("");
    let init = created(&mut m, Some(true));
    for _ in 0..5 {
        leave_out(&mut m);
        m.sweep();
        assert_eq!(m.label_of(init), "host");
    }
    m.exec(init, "/bin/sh");
    assert_eq!(m.label_of(init), "runc:a");
}

#[test]
fn one_that_runs_begins_at_once() {
    let mut m = Machine::new("");
    let init = created(&mut m, Some(false));
    leave_out(&mut m);
    m.sweep();
    assert_eq!(m.label_of(init), "runc:a");
}

#[test]
fn two_sweeps_find_one_of_which_nobody_knows_whether_it_runs() {
    let mut m = Machine::new("");
    let init = created(&mut m, None);
    // Nothing was lost: it begins with its exec.
    (0..3).for_each(|_| m.sweep());
    assert_eq!(m.label_of(init), "host");
    leave_out(&mut m);
    m.sweep();
    assert_eq!(m.label_of(init), "host");
    m.sweep();
    assert_ne!(m.label_of(init), "host");
}

/// Its exec was left out, and something that it does then tells of it before any sweep.
#[test]
fn one_that_is_met_after_its_exec_begins() {
    for (waits, label) in [
        (Some(false), "runc:a"),
        (Some(true), "host"),
        (None, "host"),
    ] {
        let mut m = Machine::new("");
        let init = created(&mut m, waits);
        m.emit(init, init, cause::FOUND, FOUND_EXECUTED);
        assert_eq!(m.label_of(init), label);
        // Where nobody says whether it runs, a sweep finds it again.
        m.sweep();
        assert_eq!(m.label_of(init) == "host", waits == Some(true));
    }
}

/// Until it executes something, who was sent into a container is its runtime's.
#[test]
fn one_that_is_met_after_its_exec_has_arrived() {
    let mut m = Machine::new("");
    m.name(PATH, "a");
    let init = m.runc(CGROUP, PATH);
    let sent = m.send_in(CGROUP, init);
    assert!(m.engine.world().tasks[&sent].arriving);
    m.emit(sent, sent, cause::FOUND, 0);
    assert!(m.engine.world().tasks[&sent].arriving);
    m.emit(sent, sent, cause::FOUND, FOUND_EXECUTED);
    assert!(!m.engine.world().tasks[&sent].arriving);
}

/// What the agent finds when it starts.
#[test]
fn one_that_waits_is_no_container_at_the_start_either() {
    for waits in [Some(true), Some(false), None] {
        let mut m = Machine::new("");
        let init = created(&mut m, waits);
        let mut again = m.restarted();
        again.cgroup(CGROUP, PATH);
        again.sweep();
        assert_eq!(
            again.label_of(init) == "host",
            waits == Some(true),
            "{waits:?}"
        );
    }
}

/// What runs its runtime's program is still being made, however long that takes, up to a point.
#[test]
fn one_that_runs_its_runtimes_program_is_waited_for() {
    let mut m = Machine::new("");
    let init = created(&mut m, None);
    m.tasks.get_mut(&init).unwrap().task_flags |= task_flags::ABROAD;
    leave_out(&mut m);
    for _ in 0..9 {
        m.sweep();
        assert_eq!(m.label_of(init), "host");
    }
    m.sweep();
    assert_ne!(m.label_of(init), "host");
}

/// That a container runs says nothing of another one that is being made in its cgroup.
#[test]
fn what_is_said_of_a_neighbour_does_not_count() {
    let mut m = Machine::new("");
    m.name(PATH, "first");
    let first = m.runc(CGROUP, PATH);
    m.names_init(PATH, first);
    m.specs.get_mut(PATH).unwrap().waits = Some(false);
    let (_, second) = m.runc_created(1, CGROUP, PATH, CLONE_NEW_ALL);
    leave_out(&mut m);
    m.sweep();
    assert_eq!(m.label_of(second), "host");
    m.sweep();
    assert_ne!(m.label_of(second), "host");
}
