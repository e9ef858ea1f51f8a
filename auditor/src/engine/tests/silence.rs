//! Goal: what ordinary containers do is no violation, and they are told apart. Method: what real tools were seen to do,
//! on the simulated machine.

use super::machine::{CLONE_NEW_ALL, Machine};
use crate::engine::Event;
use crate::model::NsKind;
use crate::model::RuleId;
use crate::model::output::Record;
use auditor_common::hook;
use auditor_common::record::*;

impl Machine {
    fn signal(&mut self, actor: u32, target: TaskKey, signal: u64) {
        let mut record = ActRecord {
            header: self.header(kind::ACT),
            ..zerocopy::FromZeros::new_zeroed()
        };
        record.header.hook = hook::SIGNAL_GENERATE;
        record.actor = self.tasks[&actor].key;
        record.target = target;
        record.act = act::SIGNAL;
        record.syscall = -1;
        record.arg0 = signal;
        self.step(Event::Act(&record));
    }
}

/// A child that has ended and was not waited for is still its container's; a task that nobody ever knew is the host's,
/// and so is one that ended there.
#[test]
fn own_zombies_may_be_signalled() {
    let mut m = Machine::new("");
    m.name("/a", "a");
    let init = m.runc(50, "/a");
    let child = m.fork(init, 0);
    let key = m.tasks[&child].key;
    m.signal(init, key, 10);
    m.exit(child);
    m.signal(init, key, 9);
    assert_eq!(m.violations(), []);
    let host = m.fork(1, 0);
    let ended = m.tasks[&host].key;
    m.exit(host);
    m.signal(init, ended, 9);
    let unknown = TaskKey {
        tid: 99_999,
        tgid: 99_999,
        start_boottime_ns: 5,
    };
    m.signal(init, unknown, 9);
    let rules: Vec<_> = m
        .violations()
        .iter()
        .map(|f| (f.rule, f.object.id.clone()))
        .collect();
    assert_eq!(rules, vec![(RuleId::ProcessControl, "host".to_owned()); 2]);
}

/// Containers of a pod that share the sandbox's pid namespace are containers of their own, found at their start and at
/// rest; what the sandbox's own init bore there is the sandbox's.
#[test]
fn a_shared_pid_namespace_does_not_make_one_container() {
    const POD: &str = "/kubepods/burstable/pod11111111-2222-3333-4444-555555555555";
    let path = |digit: &str| format!("{POD}/{}", digit.repeat(64));
    let mut m = Machine::new("");
    for (digit, name) in [("a", "sandbox"), ("b", "main")] {
        m.name(&path(digit), name);
    }
    let sandbox = m.runc(50, &path("a"));
    m.fork(sandbox, 0);
    m.cgroup(51, &path("b"));
    let stage = m.fork(1, 0);
    m.setns(stage, sandbox, &[NsKind::Pid]);
    m.attach(stage, 1, 51);
    m.unshare(stage, CLONE_NEW_ALL & !NsKind::Pid.clone_flag());
    let main = m.fork(stage, 0);
    m.exit(stage);
    let state = m.tasks.get_mut(&main).unwrap();
    state.root = PathRef {
        ino: 99_000,
        mnt_ns_inum: state.ns[ns::MNT].inum,
        ..state.root
    };
    state.cwd = state.root;
    m.emit(main, main, cause::PIVOT_ROOT, 0);
    m.exec(main, "/bin/main");
    let known = |m: &Machine| {
        let mut all: Vec<(String, u32)> = (m.engine.world().entities.values())
            .map(|entity| (entity.key.clone(), entity.tasks()))
            .collect();
        all.sort();
        all
    };
    let expected = [
        ("host".to_owned(), 0),
        ("runc:main".to_owned(), 1),
        ("runc:sandbox".to_owned(), 2),
    ];
    assert_eq!(known(&m), expected);
    let mut later = m.restarted();
    later.cgroup(1, "/");
    later.cgroup(50, &path("a"));
    later.cgroup(51, &path("b"));
    later.sweep();
    assert_eq!(known(&later), expected);
    let said = |r: &Record| matches!(r, Record::Violation(_) | Record::Drift(_));
    assert_eq!(m.out.iter().chain(&later.out).find(|r| said(r)), None);
}
