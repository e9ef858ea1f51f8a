//! Goal: what is supposed of a container changes what it should and nothing else. Method: histories by hand; each
//! supposition is held against the verdicts before and after.

use super::machine::{CLONE_NEW_ALL, Machine};
use crate::agent::what_if::suppose;
use crate::model::privileges::{First, Scope, Way};
use crate::model::{Dimension, NsKind, Verdict};
use crate::report::pair::NameError;
use crate::report::what_if::{WhatIfPair, WhatIfReport};

/// SYS_ADMIN, MKNOD and CHOWN.
const GRANTED: u64 = 1 << 21 | 1 << 27 | 1;

fn what_if(m: &Machine, texts: &[&str]) -> WhatIfReport {
    let suppositions: Vec<_> = texts.iter().map(|text| text.parse().unwrap()).collect();
    suppose(&m.engine, &suppositions, m.now_ns).unwrap()
}

fn pair<'r>(report: &'r WhatIfReport, a: &str, b: &str) -> Option<&'r WhatIfPair> {
    let mut pairs = report.pairs.iter();
    pairs.find(|pair| pair.a == a && pair.b == b)
}

fn machine() -> Machine {
    let mut m = Machine::new("");
    for name in ["web", "db", "side"] {
        m.name(&format!("/{name}"), name);
    }
    m
}

/// A container that has joined the host's network namespace, and another one.
fn escaped() -> Machine {
    let mut m = machine();
    m.capabilities = GRANTED;
    let web = m.runc(50, "/web");
    m.runc(51, "/db");
    m.setns(web, 1, &[NsKind::Net]);
    m
}

#[test]
fn nothing_but_what_is_supposed_differs() {
    let mut m = machine();
    m.runc(50, "/web");
    m.runc(51, "/db");
    let report = what_if(&m, &["no-new-privs:runc:web"]);
    assert!(
        report.pairs.is_empty() && report.privileges.is_empty(),
        "{report:?}"
    );
    assert_eq!(report.before, report.after.summary);
}

#[test]
fn a_container_that_escaped_stays_where_it_is() {
    let m = escaped();
    // It left the namespace that it had: another one would not bring it back.
    let report = what_if(&m, &["own=net:runc:web"]);
    assert_eq!(
        pair(&report, "host", "runc:web").map(|p| p.iota.after),
        None
    );
    assert_eq!(report.before.violated, 1);
    assert_eq!(report.after.summary.violated, 1);
}

#[test]
fn a_namespace_of_its_own_ends_the_sharing() {
    let mut m = machine();
    m.runc(50, "/web");
    m.runc_from(1, 51, "/side", CLONE_NEW_ALL & !NsKind::Net.clone_flag());
    let report = what_if(&m, &["own=net:runc:side"]);
    let [pair] = report.pairs.as_slice() else {
        panic!("{:?}", report.pairs)
    };
    assert_eq!((pair.a.as_str(), pair.b.as_str()), ("host", "runc:side"));
    let [net] = pair.dimensions.as_slice() else {
        panic!("{pair:?}")
    };
    assert_eq!(net.dimension, Dimension::Net);
    assert_eq!(net.verdict.before, Verdict::BaselineShared);
    assert_eq!(net.verdict.after, Verdict::Isolated);
}

#[test]
fn a_user_namespace_takes_power_and_breaks_what_needs_it() {
    let mut m = machine();
    m.capabilities = GRANTED;
    m.runc(50, "/web");
    let report = what_if(&m, &["userns:runc:web"]);
    let [privileges] = report.privileges.as_slice() else {
        panic!("{report:?}")
    };
    assert!(privileges.own_user_namespace && privileges.lost.is_empty());
    assert!(
        privileges
            .powers
            .iter()
            .any(|p| p.capability == "SYS_ADMIN")
    );
    let user = pair(&report, "host", "runc:web").unwrap();
    assert_eq!(user.dimensions[0].dimension, Dimension::User);
    assert_eq!(user.dimensions[0].verdict.after, Verdict::Isolated);
}

#[test]
fn what_was_used_is_missed() {
    let mut m = machine();
    m.capabilities = GRANTED;
    m.engine.config.tier = crate::model::Tier::Tracepoint;
    m.runc(50, "/web");
    let mut saved = m.engine.saved();
    let account = saved.entities[0].privileges.as_mut().unwrap();
    for capability in [0, 21, 27] {
        let way = Way {
            capability,
            scope: Scope::Initial,
            granted: true,
            probe: capability == 21,
        };
        let first = First {
            boottime_ns: 1,
            syscall: Some("call".into()),
            pid: 1,
            comm: "sh".to_owned(),
            exe: None,
            inferred: false,
        };
        account.used.note(way, first);
    }
    let id = *m.engine.world().entities.keys().last().unwrap();
    let account = account.clone();
    m.engine.restore_account(id, &account);
    let missed = |text: &str| {
        let uses = what_if(&m, &[text]).would_break.unwrap();
        uses.into_iter()
            .map(|one| one.capability)
            .collect::<Vec<_>>()
    };
    // A probe is no use; MKNOD is asked over the initial user namespace alone.
    assert_eq!(missed("drop=ALL:runc:web"), ["CHOWN", "MKNOD"]);
    assert_eq!(missed("drop=SYS_ADMIN:runc:web"), [""; 0]);
    assert_eq!(missed("userns:runc:web"), ["MKNOD"]);
    let report = what_if(&m, &["drop=ALL:runc:web"]);
    assert_eq!(report.privileges[0].lost, ["CHOWN", "MKNOD", "SYS_ADMIN"]);
}

#[test]
fn names_are_checked() {
    let m = escaped();
    let error = |text: &str| suppose(&m.engine, &[text.parse().unwrap()], 1).unwrap_err();
    assert_eq!(error("userns:host"), NameError::Host("host".to_owned()));
    assert!(matches!(error("userns:nobody"), NameError::Unknown { .. }));
    assert!(matches!(error("userns:runc"), NameError::Ambiguous { .. }));
}
