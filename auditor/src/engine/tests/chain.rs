//! Goal: a compromise names what made it possible, and one that nothing made possible says so.
//! Method: histories by hand; the tests look at the three fields of the critical lines that come out.

use super::machine::Machine;
use crate::inventory::container::{DeclaredMount, DeclaredNamespace, NamespaceKind, SpecSummary};
use crate::model::output::{Finding, Record};
use crate::model::{NsKind, RuleId, Severity};
use auditor_common::record::{act, cause, ns};

const SYS_ADMIN: u64 = 1 << 21;

/// All findings, with their numbers.
fn findings(m: &mut Machine) -> Vec<Finding> {
    m.take(|record| match record {
        Record::Violation(f) | Record::Audit(f) | Record::Drift(f) => Some(*f),
        _ => None,
    })
}

/// The only critical one.
fn critical(m: &mut Machine) -> Finding {
    let mut found = findings(m);
    found.retain(|f| f.severity == Severity::Critical);
    assert_eq!(found.len(), 1, "{found:#?}");
    found.remove(0)
}

fn gain(m: &mut Machine, tid: u32, capabilities: u64) -> u64 {
    m.tasks.get_mut(&tid).unwrap().creds.cap_permitted |= capabilities;
    m.exec(tid, "/usr/bin/sudo");
    let found = findings(m);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].rule, RuleId::PrivilegeGain);
    found[0].head.seq
}

/// A confined container that is suddenly in the host's namespace: nothing made that possible. That it is there
/// does not explain that it goes on.
#[test]
fn nothing_explains_the_join_of_a_confined_container() {
    let mut m = Machine::new("");
    let a = m.runc(50, "/a");
    for kind in [NsKind::Net, NsKind::Uts] {
        m.setns(a, 1, &[kind]);
        let f = critical(&mut m);
        assert!(f.unexplained && f.weakening.is_empty() && f.explained_by.is_empty());
    }
}

/// The gain before the join is what made it possible. Repeats of it do not count again.
#[test]
fn a_gain_weakens() {
    let mut m = Machine::new("");
    let a = m.runc(50, "/a");
    let child = m.fork(a, 0);
    let seq = gain(&mut m, child, SYS_ADMIN);
    let other = m.fork(a, 0);
    m.tasks.get_mut(&other).unwrap().creds.cap_permitted |= SYS_ADMIN;
    m.exec(other, "/usr/bin/sudo");
    m.tick(61_000_000_000);
    assert_eq!(findings(&mut m).len(), 1, "the folded repeat");
    m.setns(child, 1, &[NsKind::Net]);
    let f = critical(&mut m);
    assert_eq!(f.weakening, [seq]);
    assert!(!f.unexplained && f.explained_by.is_empty());
    // What one container gained says nothing of another.
    let b = m.runc(51, "/b");
    m.setns(b, 1, &[NsKind::Net]);
    assert!(critical(&mut m).unexplained);
}

/// At most eight are listed, the newest, oldest first; and no more are remembered than are bounded.
#[test]
fn lists_are_short() {
    let mut m = Machine::new("");
    let a = m.runc(50, "/a");
    let had = m.capabilities;
    let gained = (16..41).filter(|bit| had >> bit & 1 == 0);
    let seqs: Vec<u64> = gained.map(|bit| gain(&mut m, a, 1 << bit)).collect();
    assert!(seqs.len() > 16);
    m.setns(a, 1, &[NsKind::Net]);
    assert_eq!(critical(&mut m).weakening, seqs[seqs.len() - 8..]);
}

/// What a container started with explains, and no line is asked for.
#[test]
fn a_configuration_explains() {
    let mut m = Machine::new("");
    m.capabilities |= SYS_ADMIN;
    let a = m.runc(50, "/a");
    m.setns(a, 1, &[NsKind::Net]);
    let f = critical(&mut m);
    assert_eq!(f.explained_by, ["SYS_ADMIN"]);
    assert!(!f.unexplained && f.weakening.is_empty());
}

/// Capabilities in a user namespace of its own are none against the host.
#[test]
fn capabilities_count_where_they_hold() {
    let mut m = Machine::new("");
    m.capabilities |= SYS_ADMIN;
    let flags = super::machine::CLONE_NEW_ALL | NsKind::User.clone_flag();
    let a = m.runc_from(1, 50, "/a", flags);
    m.setns(a, 1, &[NsKind::Net]);
    assert!(critical(&mut m).unexplained);
}

/// A task that was sent in with more than the container has. No line tells that, but the task shows it.
#[test]
fn what_it_was_sent_in_with_explains() {
    let mut m = Machine::new("");
    let a = m.runc(50, "/a");
    let exec = m.fork(1, 0);
    let kinds = [NsKind::Ipc, NsKind::Uts, NsKind::Net, NsKind::Mnt];
    m.setns(exec, a, &kinds);
    m.setns(exec, a, &[NsKind::Pid]);
    let inside = m.fork(exec, 0);
    m.attach(inside, 1, 50);
    m.exec(inside, "/bin/sh");
    findings(&mut m);
    m.setns(inside, 1, &[NsKind::Net]);
    let f = critical(&mut m);
    assert_eq!(f.explained_by, ["SYS_ADMIN"]);
    assert!(!f.unexplained);
}

/// The host's processes and a directory of the host, as the spec declares them.
#[test]
fn declared_sharing_explains() {
    let own = [
        NamespaceKind::Mount,
        NamespaceKind::Network,
        NamespaceKind::Ipc,
        NamespaceKind::Uts,
    ];
    let namespaces = own.map(|kind| DeclaredNamespace {
        kind,
        path: None,
        inum: None,
    });
    let spec = SpecSummary {
        namespaces: namespaces.into(),
        mounts: vec![DeclaredMount {
            destination: "/hostproc".into(),
            source: Some("/proc".into()),
            kind: Some("bind".into()),
            options: Vec::new(),
        }],
        ..SpecSummary::default()
    };
    let mut m = Machine::new("");
    m.spec("/a", "a", spec);
    let flags = super::machine::CLONE_NEW_ALL & !NsKind::Pid.clone_flag();
    let a = m.runc_from(1, 50, "/a", flags);
    let host = m.tasks[&1].cwd;
    m.tasks.get_mut(&a).unwrap().cwd = host;
    m.emit(a, a, cause::CHDIR, 0);
    let f = critical(&mut m);
    assert_eq!(f.rule, RuleId::ForeignCwd);
    assert_eq!(f.explained_by, ["pid", "bind /proc"]);
    // Neither lets anybody join.
    m.setns(a, 1, &[NsKind::Net]);
    let f = critical(&mut m);
    assert_eq!((f.rule, f.unexplained), (RuleId::NamespaceJoin, false));
    assert_eq!(f.weakening.len(), 1, "the directory of the host");
}

/// Reaching a neighbour weakens nothing towards the host, and the neighbour is in others' hands.
#[test]
fn weakenings_are_of_pairs() {
    let mut m = Machine::new("");
    let a = m.runc(50, "/a");
    let b = m.runc(51, "/b");
    m.setns(a, b, &[NsKind::Net]);
    let join = critical(&mut m);
    let host = m.tasks[&1].cwd;
    m.tasks.get_mut(&a).unwrap().cwd = host;
    m.emit(a, a, cause::CHDIR, 0);
    let f = critical(&mut m);
    assert!(f.unexplained && f.weakening.is_empty());
    m.tasks.get_mut(&b).unwrap().cwd = host;
    m.emit(b, b, cause::CHDIR, 0);
    let f = critical(&mut m);
    assert_eq!(f.weakening, [join.head.seq]);
}

/// What stood before the run began has its reasons before it.
#[test]
fn the_first_sweep_accuses_nobody_of_the_unexplained() {
    let mut m = Machine::new("");
    let a = m.runc(50, "/a");
    m.setns(a, 1, &[NsKind::Net]);
    critical(&mut m);
    let mut again = m.restarted();
    again.step(crate::engine::Event::Restore(&m.engine.saved()));
    again.cgroup(1, "/");
    again.cgroup(50, "/a");
    again.sweep();
    let found = findings(&mut again);
    assert!(!found.is_empty());
    assert!(found.iter().all(|f| !f.unexplained), "{found:#?}");
}

/// The way to a socket is the bind that it lies in, and a network where its name is none of a file.
#[test]
fn the_bind_that_leads_to_a_socket_explains() {
    let bind = |source: &str, destination: &str| DeclaredMount {
        destination: destination.into(),
        source: Some(source.into()),
        kind: Some("bind".into()),
        options: Vec::new(),
    };
    let spec = SpecSummary {
        mounts: vec![
            bind("/sys", "/sys"),
            bind("/srv/share", "/share"),
            bind("/run/docker.sock", "/var/run/docker.sock"),
        ],
        ..SpecSummary::default()
    };
    let mut m = Machine::new("");
    m.spec("/a", "a", spec);
    let flags = super::machine::CLONE_NEW_ALL & !NsKind::Net.clone_flag();
    let a = m.runc_from(1, 50, "/a", flags);
    let daemon = m.fork(1, 0);
    m.tasks.get_mut(&daemon).unwrap().comm[..8].copy_from_slice(b"dockerd\0");
    m.exec(daemon, "/usr/bin/dockerd");
    findings(&mut m);
    let host = m.tasks[&1].ns[ns::MNT].inum;
    for (name, way) in [
        ("/share/db.sock", "bind /srv/share"),
        ("/run/docker.sock", "bind /run/docker.sock"),
        ("\0docker", "net"),
    ] {
        m.talk(a, act::CONNECT, daemon, host, name.as_bytes());
        assert_eq!(critical(&mut m).explained_by, [way]);
    }
}
