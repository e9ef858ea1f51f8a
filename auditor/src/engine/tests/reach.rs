//! Goal: who reaches whose processes follows from what containers start with. Method: containers by hand, and what
//! the index says of their pairs.

use super::machine::{CLONE_NEW_ALL, Machine};
use crate::model::facts::{EntityId, HOST};
use crate::model::isolation::Means;
use crate::model::{Dimension, NsKind, Verdict};

const SYS_PTRACE: u64 = 1 << 19;
const KILL: u64 = 1 << 5;

fn verdict(m: &Machine, a: EntityId, b: EntityId) -> Verdict {
    let pair = m.engine.index().pair(a, b);
    pair.dimension(Dimension::Processes).unwrap().verdict
}

/// Ordinary containers see nobody else's processes. One in the host's pid namespace sees all, and what it may do
/// depends on its capabilities.
#[test]
fn the_host_pid_namespace_reaches_all() {
    let mut m = Machine::new("");
    let plain = m.runc(50, "/plain");
    let plain = m.engine.world().label(&m.tasks[&plain].key);
    assert_eq!(verdict(&m, HOST, plain), Verdict::Isolated);
    let flags = CLONE_NEW_ALL & !NsKind::Pid.clone_flag();
    let agent = |m: &mut Machine, id, capabilities| {
        m.capabilities = capabilities;
        let path = format!("/agent{id}");
        m.name(&path, &path[1..]);
        let init = m.runc_from(1, id, &path, flags);
        m.engine.world().label(&m.tasks[&init].key)
    };
    let tracer = agent(&mut m, 51, SYS_PTRACE);
    assert_eq!(verdict(&m, tracer, plain), Verdict::Degraded);
    assert_eq!(verdict(&m, HOST, tracer), Verdict::Degraded);
    let index = m.engine.index();
    assert_eq!(index.reach(tracer, plain), Some(Means::Trace));
    assert_eq!(index.reach(tracer, HOST), Some(Means::Trace));
    assert_eq!(index.reach(plain, tracer), None);
    assert_eq!(index.reach(HOST, plain), None, "that is how it is meant");
    assert_eq!(index.pair(tracer, plain).iota, Some(true), "advisory");
    let killer = agent(&mut m, 52, KILL);
    assert_eq!(
        m.engine.index().reach(killer, plain),
        Some(Means::Signal),
        "all are the same user"
    );
}

/// A user namespace of its own takes the power, not the sight.
#[test]
fn powers_hold_in_their_user_namespace() {
    let mut m = Machine::new("");
    let plain = m.runc(50, "/plain");
    let plain = m.engine.world().label(&m.tasks[&plain].key);
    m.capabilities = SYS_PTRACE;
    m.name("/rootless", "rootless");
    let flags = CLONE_NEW_ALL & !NsKind::Pid.clone_flag() | NsKind::User.clone_flag();
    let init = m.runc_started_as(100_000, 51, "/rootless", flags);
    let rootless = m.engine.world().label(&m.tasks[&init].key);
    assert_ne!(rootless, HOST);
    assert_eq!(m.engine.index().reach(rootless, plain), None);
    assert_eq!(verdict(&m, rootless, HOST), Verdict::Isolated);
}
