//! Goal: a use of what nobody declared is a violation, one by somebody who came in with more is told for the record, and
//! use of what was granted is silent. Method: stories with made-up checks.

use super::machine::{CLONE_NEW_ALL, Machine};
use super::privileges::{Check, check, granted};
use crate::engine::Event;
use crate::inventory::container::{ContainerAnswer, DeclaredCapabilities, Runtime, SpecSummary};
use crate::model::output::{Evidence, Finding, Record};
use crate::model::policy::Policy;
use crate::model::{RuleId, Severity};
use auditor_common::record::{capable, cause};

const CHOWN: u64 = 0;
const NET_RAW: u64 = 13;
const SYS_BOOT: u64 = 22;
const PATH: &str = "/machine/runc-a";
const USER: u64 = 0x1000_0000;

fn machine(policy: &str) -> Machine {
    let mut m = Machine::new(policy);
    m.engine.config.syscalls = |number| (number == 92).then_some("chown");
    m.name(PATH, "a");
    m
}

fn told(m: &mut Machine) -> Vec<(bool, Finding)> {
    m.take(|record| match record {
        Record::Violation(f) if f.rule == RuleId::PrivilegeEscalation => Some((true, *f)),
        Record::Audit(f) if f.rule == RuleId::PrivilegeEscalation => Some((false, *f)),
        _ => None,
    })
}

fn only(m: &mut Machine) -> (bool, Severity, String) {
    let mut found = told(m);
    assert_eq!(found.len(), 1, "{found:#?}");
    let (is_violation, finding) = found.remove(0);
    (is_violation, finding.severity, finding.message)
}

/// Gives a task more, as a write to kernel memory does: nothing tells of it.
fn tamper(m: &mut Machine, tid: u32) {
    m.tasks.get_mut(&tid).unwrap().creds.cap_effective |= 1 << SYS_BOOT;
}

/// `docker exec --privileged`: a process of the host enters with all that it has, and runs a program.
fn sent_in(m: &mut Machine, init: u32) -> u32 {
    let sent = m.send_in(50, init);
    m.exec(sent, "/bin/sh");
    sent
}

#[test]
fn what_is_granted_probed_or_refused_is_silent() {
    let mut m = machine("");
    let a = m.runc(50, PATH);
    check(&mut m, a, granted(CHOWN));
    let beyond = granted(SYS_BOOT);
    let probe = capable::INITIAL | capable::KNOWN | capable::PROBE;
    for harmless in [
        Check {
            refused: true,
            ..beyond
        },
        Check {
            flags: probe,
            ..beyond
        },
    ] {
        check(&mut m, a, harmless);
    }
    let child = m.fork(a, 0);
    m.unshare(child, USER);
    let flags = capable::OWN | capable::KNOWN;
    check(&mut m, child, Check { flags, ..beyond });
    assert_eq!(told(&mut m), []);
}

#[test]
fn what_nothing_in_it_can_have_given_is_a_violation() {
    let mut m = machine("");
    let a = m.runc(50, PATH);
    tamper(&mut m, a);
    // Whoever is born of it has it too, and brought it no more than its parent did.
    let child = m.fork(a, 0);
    check(&mut m, child, granted(SYS_BOOT));
    let mut found = told(&mut m);
    let (is_violation, finding) = found.remove(0);
    assert!(is_violation && found.is_empty());
    assert_eq!(finding.severity, Severity::Critical);
    assert_eq!(
        finding.message,
        "container a used SYS_BOOT over the machine's initial user namespace (chown), which nobody granted to it"
    );
    let Some(Evidence::Setup { part, value }) = &finding.observed else {
        panic!("{:?}", finding.observed);
    };
    assert_eq!((part.as_str(), value.as_str()), ("capability", "SYS_BOOT"));
}

#[test]
fn who_comes_in_with_more_is_told_once() {
    let mut m = machine("");
    let a = m.runc(50, PATH);
    for _ in 0..2 {
        let sent = sent_in(&mut m, a);
        let child = m.fork(sent, 0);
        m.exec(child, "/bin/tool");
        check(&mut m, child, granted(CHOWN));
        check(&mut m, child, granted(SYS_BOOT));
        check(&mut m, sent, granted(SYS_BOOT));
    }
    let (is_violation, severity, message) = only(&mut m);
    assert_eq!((is_violation, severity), (false, Severity::Medium));
    assert!(
        message
            .starts_with("a task that came into container a with more than that has used SYS_BOOT")
    );
    // It explains nothing of what those do who were born in the container.
    tamper(&mut m, a);
    check(&mut m, a, granted(SYS_BOOT));
    assert!(only(&mut m).0);
}

/// Over the machine's user namespace a grant over one of its own is none, and nobody can bring any.
#[test]
fn a_grant_over_its_own_users_is_none_over_the_machine() {
    let mut m = machine("");
    let a = m.runc_from(1, 50, PATH, CLONE_NEW_ALL | USER);
    let flags = capable::OWN | capable::KNOWN;
    check(
        &mut m,
        a,
        Check {
            flags,
            ..granted(NET_RAW)
        },
    );
    assert_eq!(told(&mut m), []);
    check(&mut m, a, granted(NET_RAW));
    let (is_violation, severity, _) = only(&mut m);
    assert_eq!((is_violation, severity), (true, Severity::Critical));
}

fn role(capabilities: &str) -> String {
    format!(
        "[[role]]\nname = \"r\"\nmatch = {{ id = \"runc:a\" }}\ncapabilities = [{capabilities}]\n"
    )
}

#[test]
fn what_spec_or_roles_declare_is_silent() {
    let mut m = machine("");
    let capabilities = DeclaredCapabilities {
        ambient: vec!["CAP_SYS_BOOT".to_owned()],
        ..DeclaredCapabilities::default()
    };
    let spec = SpecSummary {
        capabilities: Some(capabilities),
        ..SpecSummary::default()
    };
    m.spec(PATH, "a", spec);
    let a = m.runc(50, PATH);
    m.out.clear();
    check(&mut m, a, granted(SYS_BOOT));
    assert_eq!(told(&mut m), []);
    let mut m = machine(&role("\"SYS_BOOT\", \"CHOWN\""));
    let a = m.runc(50, PATH);
    check(&mut m, a, granted(SYS_BOOT));
    assert_eq!(told(&mut m), []);
}

#[test]
fn use_of_what_roles_do_not_permit_is_told_once() {
    let mut m = machine(&role("\"CHOWN\""));
    let a = m.runc(50, PATH);
    check(&mut m, a, granted(CHOWN));
    assert_eq!(told(&mut m), []);
    let child = m.fork(a, 0);
    check(&mut m, a, granted(NET_RAW));
    check(&mut m, child, granted(NET_RAW));
    let (is_violation, severity, message) = only(&mut m);
    assert_eq!((is_violation, severity), (true, Severity::High));
    assert!(
        message.ends_with("(chown), which role r does not permit"),
        "{message}"
    );
    m.tick(120_000_000_000);
    assert_eq!(told(&mut m), []);
}

/// Roles may be known after the use: by the container's name, or by another policy.
#[test]
fn what_was_used_before_is_judged_later() {
    let image =
        "[[role]]\nname = \"r\"\nmatch = { image = \"nginx*\" }\ncapabilities = [\"CHOWN\"]\n";
    let mut m = Machine::new(image);
    let a = m.runc_unnamed(50, PATH);
    check(&mut m, a, granted(NET_RAW));
    assert_eq!(told(&mut m), []);
    let mut answer = ContainerAnswer::bare(PATH.to_owned(), Runtime::Runc, "a".to_owned());
    answer.image = Some("nginx:1".to_owned());
    m.specs.insert(PATH.to_owned(), answer);
    for _ in 0..20 {
        m.tick(100_000_000);
    }
    assert_eq!(only(&mut m).1, Severity::High);

    let mut m = machine("");
    let a = m.runc(50, PATH);
    check(&mut m, a, granted(NET_RAW));
    assert_eq!(told(&mut m), []);
    let policy = Policy::parse(&role("\"CHOWN\""), "test").unwrap();
    m.step(Event::Policy(&policy));
    assert_eq!(only(&mut m).1, Severity::High);
}

#[test]
fn what_is_allowed_is_counted() {
    let allow =
        "[[allow]]\nrule = \"privilege-escalation\"\nsubject = \"runc:a\"\nreason = \"t\"\n";
    let mut m = machine(allow);
    let a = m.runc(50, PATH);
    let sent = sent_in(&mut m, a);
    check(&mut m, sent, granted(SYS_BOOT));
    assert_eq!(told(&mut m), []);
    assert_eq!(m.engine.counters().allowed, 1);
}

/// Who is found, and not seen to come, may have brought what it has.
#[test]
fn of_who_was_there_before_nothing_is_claimed() {
    let mut m = machine("");
    let a = m.runc(50, PATH);
    let sent = sent_in(&mut m, a);
    let mut later = m.restarted();
    later.cgroup(50, PATH);
    later.sweep();
    later.emit(sent, sent, cause::CRED, 0);
    check(&mut later, sent, granted(SYS_BOOT));
    assert!(!only(&mut later).0);
}
