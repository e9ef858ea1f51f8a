//! Goal: who reaches into others' processes and sockets is told, with both sides and how bad it is; who stays at home, or
//! is refused, breaks nothing. Method: records as either tier writes them, on the simulated machine.

use super::machine::{CLONE_NEW_ALL, Machine};
use crate::engine::Event;
use crate::model::output::{Evidence, Finding, Record};
use crate::model::{NsKind, RuleId, Severity};
use auditor_common::hook;
use auditor_common::record::*;

pub(super) const ATTACH: u64 = 0x12;
const READ: u64 = 0x9;
pub(super) const PTRACE: i32 = 101;
const OPENAT: i32 = 257;

impl Machine {
    pub(super) fn act(&mut self, actor: u32, act: u32, fill: impl FnOnce(&mut ActRecord)) {
        let mut record = ActRecord {
            header: self.header(kind::ACT),
            ..zerocopy::FromZeros::new_zeroed()
        };
        record.header.hook = hook::PTRACE_ACCESS;
        record.actor = self.tasks[&actor].key;
        record.act = act;
        record.syscall = -1;
        fill(&mut record);
        self.step(Event::Act(&record));
    }

    pub(super) fn access(&mut self, actor: u32, target: u32, syscall: i32, mode: u64, result: i32) {
        let key = self.tasks[&target].key;
        self.act(actor, act::ACCESS, |record| {
            record.target = key;
            record.arg0 = mode;
            record.syscall = syscall;
            record.result = result;
        });
    }

    pub(super) fn talk(&mut self, actor: u32, act: u32, listener: u32, mnt: u32, name: &[u8]) {
        self.act(actor, act, |record| {
            record.header.hook = hook::UNIX_CONNECT;
            record.target.tid = listener;
            record.target.tgid = listener;
            record.object.mnt_ns_inum = mnt;
            record.object.ino = u64::from(mnt) + name.len() as u64;
            record.name[..name.len()].copy_from_slice(name);
            record.name_len = u32::try_from(name.len()).unwrap();
        });
    }

    fn rules(&mut self) -> Vec<(RuleId, Severity, String)> {
        let told = |f: Finding| (f.rule, f.severity, f.object.id);
        self.violations().into_iter().map(told).collect()
    }
}

fn two() -> (Machine, u32, u32) {
    let mut m = Machine::new("");
    m.engine.config.syscalls = crate::model::syscalls::of("x86_64");
    m.name("/a", "a");
    m.name("/b", "b");
    let a = m.runc(50, "/a");
    let b = m.runc(51, "/b");
    m.out.clear();
    (m, a, b)
}

/// Attaching is worse than reading; each is told once for each process, and the own container's are nobody's business.
#[test]
fn access_is_told_by_kind_and_process() {
    let (mut m, a, b) = two();
    let child = m.fork(a, 0);
    m.access(a, child, PTRACE, ATTACH, 0);
    assert_eq!(m.rules(), []);
    m.access(a, b, OPENAT, READ, 0);
    m.access(a, b, OPENAT, READ, 0);
    m.access(a, b, PTRACE, ATTACH, 0);
    m.access(a, 1, PTRACE, ATTACH, 0);
    let rule = RuleId::ProcessControl;
    let expected = vec![
        (rule, Severity::High, "runc:b".to_owned()),
        (rule, Severity::Critical, "runc:b".to_owned()),
        (rule, Severity::Critical, "host".to_owned()),
    ];
    assert_eq!(m.rules(), expected);
}

/// Who was put into one pid namespace with another may see its processes, and no more than that.
#[test]
fn who_shares_processes_by_declaration_sees_them() {
    let share = "[[share]]\nbetween = [\"runc:a\", \"runc:b\"]\ndimensions = [\"pid\"]\nreason = \"one pod\"\n";
    let reach = |policy| {
        let mut m = Machine::new(policy);
        m.engine.config.syscalls = crate::model::syscalls::of("x86_64");
        m.name("/a", "a");
        m.name("/b", "b");
        let b = m.runc(51, "/b");
        let shell = m.fork(1, 0);
        m.setns(shell, b, &[NsKind::Pid]);
        let flags = CLONE_NEW_ALL & !NsKind::Pid.clone_flag();
        let a = m.runc_from(shell, 50, "/a", flags);
        m.out.clear();
        m.access(a, b, OPENAT, READ, 0);
        m.access(a, b, PTRACE, ATTACH, 0);
        m.rules()
    };
    let told = |severity| (RuleId::ProcessControl, severity, "runc:b".to_owned());
    assert_eq!(reach(share), [told(Severity::Critical)]);
    assert_eq!(reach(""), [told(Severity::High), told(Severity::Critical)]);
}

/// What the kernel refused is for the record.
#[test]
fn refusals_are_no_violations() {
    let (mut m, a, b) = two();
    m.access(a, b, PTRACE, ATTACH, -1);
    let audits = m.take(|record| match record {
        Record::Audit(finding) => Some(*finding),
        Record::Violation(finding) => panic!("{finding:?}"),
        _ => None,
    });
    let [audit] = audits.as_slice() else {
        panic!("{audits:?}");
    };
    assert_eq!((audit.severity, audit.verdict), (Severity::Medium, None));
    let Some(Evidence::Task {
        access, refused, ..
    }) = &audit.observed
    else {
        panic!("{audit:?}");
    };
    assert_eq!(access, "attach");
    assert_eq!(refused.as_deref(), Some("operation not permitted"));
}

/// The syscall tracepoints only know the number that the actor used. In the machine's first pid namespace it is the
/// thread's own; elsewhere it is looked for there, and what is not found is nested.
#[test]
fn numbers_are_of_the_actors_namespace() {
    let (mut m, a, _) = two();
    m.name("/host-pids", "h");
    let flags = CLONE_NEW_ALL & !NsKind::Pid.clone_flag();
    let watcher = m.runc_from(1, 52, "/host-pids", flags);
    m.out.clear();
    let named = |number: u32| {
        move |record: &mut ActRecord| {
            record.header.hook = hook::EXIT_ACCESS;
            record.target.tid = number;
            record.arg0 = ATTACH;
            record.arg1 = act::AS_NAMED;
            record.syscall = PTRACE;
        }
    };
    m.act(watcher, act::ACCESS, named(a));
    m.act(watcher, act::ACCESS, named(watcher));
    m.act(a, act::ACCESS, named(1));
    m.act(a, act::ACCESS, named(77));
    let rule = RuleId::ProcessControl;
    assert_eq!(m.rules(), [(rule, Severity::Critical, "runc:a".to_owned())]);
}

/// Who listens says whose a socket is, else who bound it; a daemon's is worse than anybody's. Own sockets, and those of
/// nobody known, are silent.
#[test]
fn sockets_are_told_by_their_listener() {
    let (mut m, a, b) = two();
    let daemon = m.fork(1, 0);
    m.tasks.get_mut(&daemon).unwrap().comm[..8].copy_from_slice(b"dockerd\0");
    m.exec(daemon, "/usr/bin/dockerd");
    let plain = m.fork(1, 0);
    let mnt = |m: &Machine, tid: u32| m.tasks[&tid].ns[ns::MNT].inum;
    let (of_a, of_b, of_host) = (mnt(&m, a), mnt(&m, b), mnt(&m, 1));
    m.talk(a, act::CONNECT, a, of_a, b"/run/own.sock");
    m.talk(a, act::SEND, 0, of_a, b"/run/own.sock");
    m.talk(a, act::SEND, 0, 0, b"\0nobody");
    m.talk(a, act::SEND, 0, of_host, b"/run/systemd/notify");
    assert_eq!(m.rules(), []);
    m.talk(a, act::CONNECT, daemon, of_host, b"/run/any.sock");
    m.talk(a, act::CONNECT, plain, of_host, b"/run/docker.sock\0");
    m.talk(a, act::CONNECT, plain, of_host, b"/run/db.sock");
    m.talk(a, act::SEND, 0, of_b, b"/share/b.sock");
    let (control, foreign) = (RuleId::ControlSocket, RuleId::ForeignSocket);
    let expected = vec![
        (control, Severity::Critical, "host".to_owned()),
        (control, Severity::Critical, "host".to_owned()),
        (foreign, Severity::Medium, "host".to_owned()),
        (foreign, Severity::Medium, "runc:b".to_owned()),
    ];
    assert_eq!(m.rules(), expected);
}
