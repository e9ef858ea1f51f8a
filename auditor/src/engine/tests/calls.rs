//! Goal: a system call is charged to the container whose task made it, and to those around it, whose filters it has to
//! pass; to nobody for what a runtime does on the way. Method: stories with made-up calls.

use super::machine::Machine;
use crate::engine::Event;
use crate::model::calls::Calls;
use auditor_common::hook;
use auditor_common::limits::{ACT_NAME_LEN, FOREIGN_CALL};
use auditor_common::record::*;

const READ: u64 = 0;
const WRITE: u64 = 1;
const PATH: &str = "/machine/runc-a";

fn call(m: &mut Machine, tid: u32, number: u64) {
    let mut header = m.header(kind::ACT);
    header.hook = hook::SYS_ENTER;
    let record = ActRecord {
        header,
        actor: m.tasks[&tid].key,
        target: TaskKey::default(),
        object: FileRef::default(),
        act: act::CALL,
        syscall: -1,
        result: 0,
        name_len: 0,
        arg0: number,
        arg1: 0,
        name: [0; ACT_NAME_LEN],
    };
    m.step(Event::Act(&record));
}

fn of(m: &Machine, id: &str) -> Option<Calls> {
    let all = m.engine.privileges();
    let found = all.into_iter().find(|p| p.party.id.ends_with(id)).unwrap();
    found.account.calls
}

fn names(m: &Machine, id: &str) -> Vec<String> {
    let calls = of(m, id).unwrap();
    calls.names().map(str::to_owned).collect()
}

fn machine() -> (Machine, u32) {
    let mut m = Machine::new("");
    m.engine.config.arch = "x86_64".to_owned();
    m.name(PATH, "a");
    let a = m.runc(50, PATH);
    (m, a)
}

#[test]
fn it_is_charged_to_who_makes_it() {
    let (mut m, a) = machine();
    let host = m.fork(1, 0);
    call(&mut m, host, WRITE);
    let sent = m.send_in(50, a);
    call(&mut m, sent, WRITE);
    assert_eq!(of(&m, "a"), Some(Calls::none(true)));
    call(&mut m, a, READ);
    assert_eq!(names(&m, "a"), ["read"]);
    m.exec(sent, "/bin/id");
    call(&mut m, sent, WRITE);
    assert_eq!(names(&m, "a"), ["read", "write"]);
}

#[test]
fn what_is_nested_is_held_to_the_filter_around_it() {
    let (mut m, a) = machine();
    let inner = format!("{PATH}/docker-b");
    m.name(&inner, "b");
    let b = m.runc_from(a, 60, &inner, super::machine::CLONE_NEW_ALL);
    call(&mut m, b, WRITE);
    assert_eq!(names(&m, "a"), ["write"]);
    assert_eq!(names(&m, "b"), ["write"]);
    call(&mut m, a, READ);
    assert_eq!(names(&m, "b"), ["write"]);
}

#[test]
fn what_has_no_name_is_not_forgotten() {
    for number in [FOREIGN_CALL, FOREIGN_CALL - 1, u64::MAX] {
        let (mut m, a) = machine();
        call(&mut m, a, number);
        let calls = of(&m, "a").unwrap();
        assert!(calls.unnamed && calls.names().next().is_none(), "{number}");
    }
}

#[test]
fn nobody_looks_unless_asked() {
    let mut m = Machine::new("");
    m.engine.config.working = (0..hook::SYS_ENTER).collect();
    m.name(PATH, "a");
    let a = m.runc(50, PATH);
    call(&mut m, a, READ);
    assert_eq!(of(&m, "a"), None);
}

#[test]
fn calls_outlive_the_agent() {
    let (mut m, a) = machine();
    call(&mut m, a, READ);
    let saved = m.engine.saved();
    for looks in [true, false] {
        let mut later = m.restarted();
        later.engine.config.arch = "x86_64".to_owned();
        if !looks {
            later.engine.config.working = (0..hook::SYS_ENTER).collect();
        }
        later.step(Event::Restore(&saved));
        later.cgroup(50, PATH);
        later.sweep();
        if looks {
            call(&mut later, a, WRITE);
        }
        let calls = of(&later, "a").unwrap();
        assert!(calls.from_start);
        assert_eq!(calls.partly, !looks);
        let names: Vec<&str> = calls.names().collect();
        let wanted = if looks {
            &["read", "write"][..]
        } else {
            &["read"]
        };
        assert_eq!(names, wanted);
    }
}
