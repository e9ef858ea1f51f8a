//! Goal: a container that is restored from a checkpoint is one again, and neither who makes the checkpoint nor who
//! restores it is taken for it. Method: what criu was seen to do under runc, in a line each.

use super::machine::{CLONE_NEW_ALL, Machine};
use crate::engine::Event;
use crate::inventory::container::SpecSummary;
use crate::model::{NsKind, RuleId};
use auditor_common::limits::ACT_NAME_LEN;
use auditor_common::record::*;

const PATH: &str = "/a";
const CGROUP: u64 = 50;
/// `f_mode` of a file that is written to.
const WRITE: u64 = 2;
const TICK_NS: u64 = 100_000_000;

/// criu, in the cgroup of the container that it is to restore, and that container's first process, which has a root.
fn restoring(m: &mut Machine) -> (u32, u32) {
    let criu = m.fork(1, 0);
    m.exec(criu, "/usr/sbin/criu");
    m.cgroup(CGROUP, PATH);
    m.attach(criu, criu, CGROUP);
    let init = m.fork(criu, CLONE_NEW_ALL);
    let service = m.tasks[&init];
    // A mount namespace for the container: it goes there and back, and executes what it needs of the host's.
    m.unshare(init, NsKind::Mnt.clone_flag());
    let state = m.tasks.get_mut(&init).unwrap();
    state.root.ino = 77_000;
    state.cwd = state.root;
    m.emit(init, init, cause::PIVOT_ROOT, 0);
    let inside = m.tasks[&init];
    for _ in 0..2 {
        go(m, init, &service);
        let tar = m.fork(init, 0);
        m.exec(tar, "/usr/bin/tar");
        m.tick(TICK_NS);
        m.exit(tar);
        go(m, init, &inside);
    }
    m.emit(init, init, cause::CHROOT, 0);
    (criu, init)
}

/// Into a mount namespace that the task knows.
fn go(m: &mut Machine, tid: u32, there: &TaskState) {
    let state = m.tasks.get_mut(&tid).unwrap();
    state.ns[ns::MNT] = there.ns[ns::MNT];
    (state.root, state.cwd) = (there.root, there.root);
    m.emit(tid, tid, cause::SETNS, 0);
}

/// The runtime has written the container down.
fn written(m: &mut Machine, init: u32, waits: Option<bool>) {
    m.name(PATH, "restored");
    m.names_init(PATH, init);
    m.specs.get_mut(PATH).unwrap().waits = waits;
}

fn ticks(m: &mut Machine, count: usize) {
    for _ in 0..count {
        m.tick(TICK_NS);
    }
}

/// It is the host's until its runtime says that it runs and its credentials are what they were; its children are its own.
#[test]
fn a_restored_container_is_known_without_an_exec() {
    let mut m = Machine::new("");
    let (criu, init) = restoring(&mut m);
    let child = m.fork(init, 0);
    ticks(&mut m, 40);
    assert_eq!(m.label_of(init), "host");
    written(&mut m, init, Some(false));
    let granted = m.capabilities;
    for permitted in [0x3f_ffff_ffff, granted] {
        m.tasks.get_mut(&init).unwrap().creds.cap_permitted = permitted;
        m.emit(init, init, cause::CRED, 0);
        m.tick(TICK_NS);
        assert_eq!(m.label_of(init), "host");
    }
    ticks(&mut m, 3);
    for tid in [init, child] {
        assert_eq!(m.label_of(tid), "runc:restored");
    }
    assert_eq!(m.label_of(criu), "host");
    assert_eq!(m.violations(), []);
    let label = m.engine.world().label(&m.tasks[&init].key);
    assert_eq!(m.engine.world().entities[&label].permitted, granted);
    // It is watched as any other.
    m.setns(child, 1, &[NsKind::Mnt]);
    let found = m.violations();
    assert!(
        found.iter().any(|f| f.rule == RuleId::NamespaceJoin),
        "{found:#?}"
    );
}

/// A restored program that never comes to rest is its container's all the same.
#[test]
fn unrest_does_not_hide() {
    let mut m = Machine::new("");
    let (_, init) = restoring(&mut m);
    written(&mut m, init, Some(false));
    for ino in 0..30 {
        m.tasks.get_mut(&init).unwrap().cwd.ino = 88_000 + ino;
        m.emit(init, init, cause::CHDIR, 0);
        m.tick(TICK_NS);
    }
    assert_eq!(m.label_of(init), "runc:restored");
}

/// However long the machine is busy with something else: who restores takes away last what the spec does not give. One from
/// which nobody takes it is a container in the end.
#[test]
fn a_restored_container_holds_no_more_than_its_spec_gives() {
    for is_taken_away in [true, false] {
        let mut m = Machine::new("");
        let (_, init) = restoring(&mut m);
        written(&mut m, init, Some(false));
        let spec = m.specs.get_mut(PATH).unwrap();
        spec.spec = Some(SpecSummary {
            no_new_privileges: true,
            ..SpecSummary::default()
        });
        ticks(&mut m, 50);
        assert_eq!(m.label_of(init), "host");
        if is_taken_away {
            let state = m.tasks.get_mut(&init).unwrap();
            state.task_flags |= task_flags::NO_NEW_PRIVS;
            m.emit(init, init, cause::CRED, 0);
        }
        ticks(&mut m, if is_taken_away { 4 } else { 100 });
        assert_eq!(m.label_of(init), "runc:restored");
    }
}

/// A container that was made and waits to be started has not begun, however long it waits; nor has one of which nobody
/// says whether it waits.
#[test]
fn a_created_container_has_not_begun() {
    for waits in [Some(true), None] {
        let mut m = Machine::new("");
        let (_, init) = restoring(&mut m);
        written(&mut m, init, waits);
        ticks(&mut m, 200);
        assert_eq!(m.label_of(init), "host");
        m.exec(init, "/bin/sh");
        assert_eq!(m.label_of(init), "runc:restored");
    }
}

/// What a tracer hands to a task that it has taken hold of is not what that container reached, if the tracer is the
/// host's. What it receives from others, or under a tracer of another container, is.
#[test]
fn a_descriptor_for_a_checkpoint_is_not_a_find() {
    let mut m = Machine::new("");
    let task = m.runc(CGROUP, PATH);
    let other = m.runc(51, "/b");
    m.out.clear();
    let criu = m.fork(1, 0);
    let nobody = TaskKey {
        tid: 4242,
        ..m.tasks[&criu].key
    };
    let led = [(m.tasks[&criu].key, false)];
    let not_led = [TaskKey::default(), m.tasks[&other].key, nobody].map(|key| (key, true));
    for (ino, (tracer, is_told)) in led.into_iter().chain(not_led).enumerate() {
        receive(&mut m, task, tracer, 900 + ino as u64);
        let found = m.violations();
        assert_eq!(found.len(), usize::from(is_told), "{tracer:?}: {found:#?}");
        assert!(found.iter().all(|f| f.rule == RuleId::ForeignFile));
    }
}

/// A file of the host's, by descriptor.
fn receive(m: &mut Machine, tid: u32, tracer: TaskKey, ino: u64) {
    let header = m.header(kind::ACT);
    let record = ActRecord {
        header,
        actor: m.tasks[&tid].key,
        target: tracer,
        object: FileRef {
            dev: 8,
            ino,
            mode: 0o100_644,
            mnt_ns_inum: m.tasks[&1].ns[ns::MNT].inum,
            ..FileRef::default()
        },
        act: act::RECEIVE,
        syscall: -1,
        result: 0,
        name_len: 0,
        arg0: 0,
        arg1: WRITE,
        name: [0; ACT_NAME_LEN],
    };
    m.step(Event::Act(&record));
}
