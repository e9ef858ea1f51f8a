//! Goal: what the kernel moves by itself is no tampering, and explains no other move. Method: a container on a
//! machine with a v1 cpuset hierarchy; its task moves without a record of its own, after a transfer or not.

use super::machine::Machine;
use crate::engine::Event;
use crate::model::output::Record;
use auditor_common::limits::CGROUP_SLOTS;
use auditor_common::record::{cause, cgroup, cgroup_op};

/// Id of the v1 hierarchy, and its place in a state.
const HIERARCHY: u32 = 4;
const CPUSET: usize = 1;
/// Cgroups of that hierarchy.
const ROOT: u64 = 1;
const PARENT: u64 = 70;
const CHILD: u64 = 71;
const ELSEWHERE: u64 = 72;

/// A container in `/pod/a`, next to which is `/else`.
fn machine() -> (Machine, u32) {
    let mut hierarchies = [None; CGROUP_SLOTS];
    hierarchies[cgroup::V2] = Some(0);
    hierarchies[CPUSET] = Some(HIERARCHY);
    let mut m = Machine::on(hierarchies, "");
    let paths = [
        (ROOT, "/"),
        (PARENT, "/pod"),
        (CHILD, "/pod/a"),
        (ELSEWHERE, "/else"),
    ];
    for (id, path) in paths {
        m.cgroup_event(HIERARCHY, id, path, cgroup_op::MKDIR);
    }
    let a = m.runc(50, "/a");
    m.tasks.get_mut(&a).unwrap().cgroups[CPUSET] = CHILD;
    let mut attach = m.record(a, 1, cause::ATTACH, CHILD);
    attach.arg1 = u64::from(HIERARCHY);
    m.step(Event::Task(&attach));
    assert_eq!((place(&m, a), settle(&mut m)), (CHILD, 0));
    (m, a)
}

/// Sweeps until the model is the kernel's, and gives how many drifts that told.
fn settle(m: &mut Machine) -> usize {
    for _ in 0..3 {
        m.sweep();
    }
    let drift = |r| matches!(r, Record::Drift(_)).then_some(());
    m.take(drift).len()
}

fn place(m: &Machine, tid: u32) -> u64 {
    m.engine.world().tasks[&tid].state.cgroups[CPUSET]
}

/// One sweep takes a transferred task in, and says nothing.
#[test]
fn transfers_are_taken_in() {
    let (mut m, a) = machine();
    m.cgroup_event(HIERARCHY, PARENT, "/pod", cgroup_op::TRANSFER);
    m.tasks.get_mut(&a).unwrap().cgroups[CPUSET] = PARENT;
    m.sweep();
    assert_eq!(place(&m, a), PARENT);
    assert_eq!(settle(&mut m), 0);
    assert_eq!(
        m.engine.transfers.len(),
        0,
        "each is forgotten once a sweep saw it"
    );
}

/// Without a transfer, or into another cgroup than its destination, or from beside it, a move is drift.
#[test]
fn other_moves_are_drift() {
    for (destination, to) in [
        (None, PARENT),
        (Some((PARENT, "/pod")), ELSEWHERE),
        (Some((ELSEWHERE, "/else")), ELSEWHERE),
    ] {
        let (mut m, a) = machine();
        if let Some((id, path)) = destination {
            m.cgroup_event(HIERARCHY, id, path, cgroup_op::TRANSFER);
        }
        m.tasks.get_mut(&a).unwrap().cgroups[CPUSET] = to;
        m.sweep();
        assert_eq!(place(&m, a), CHILD, "not believed yet");
        assert_eq!(settle(&mut m), 1, "{destination:?} to {to}");
    }
}

/// A sweep that read the task before the transfer does not forget it.
#[test]
fn a_transfer_during_a_sweep_is_kept() {
    let (mut m, a) = machine();
    let read = m.tasks[&a];
    let began_ns = m.now_ns;
    m.cgroup_event(HIERARCHY, PARENT, "/pod", cgroup_op::TRANSFER);
    m.sweep_as_of(began_ns);
    assert_eq!(m.tasks[&a], read);
    m.tasks.get_mut(&a).unwrap().cgroups[CPUSET] = PARENT;
    m.sweep();
    assert_eq!((place(&m, a), settle(&mut m)), (PARENT, 0));
}

/// However many come, few are remembered, and none of them lets a move look like tampering.
#[test]
fn many_transfers_are_bounded() {
    let (mut m, a) = machine();
    for id in 100..1000 {
        let path = format!("/else/{id}");
        m.cgroup_event(HIERARCHY, id, &path, cgroup_op::TRANSFER);
        m.cgroup_event(7, id, &path, cgroup_op::TRANSFER);
        assert!(m.engine.transfers.len() <= 256);
    }
    m.cgroup_event(HIERARCHY, PARENT, "/pod", cgroup_op::TRANSFER);
    m.tasks.get_mut(&a).unwrap().cgroups[CPUSET] = PARENT;
    assert_eq!(settle(&mut m), 0);
    assert_eq!(place(&m, a), PARENT);
}
