//! Goal: what a container lacks of confinement is told once, when it has been looked at, and again when it lacks more.
//! Method: stories on a made-up machine, with made-up looks.

use super::machine::{CLONE_NEW_ALL, Machine};
use crate::engine::Event;
use crate::inventory::container::{ContainerAnswer, PodIdentity, Runtime};
use crate::model::output::{Evidence, Finding, Record};
use crate::model::setup::SetUp;
use crate::model::{RuleId, Severity};
use auditor_common::record::{cause, ns};

const USER: u64 = 0x1000_0000;
const FILTER: u32 = 2;

struct Story {
    m: Machine,
    init: u32,
}

/// What confines a container.
#[derive(Clone, Copy)]
struct Given {
    seccomp: u32,
    label: Option<&'static str>,
    uid: u32,
    flags: u64,
}

const ROOT: Given = Given {
    seccomp: 0,
    label: None,
    uid: 0,
    flags: CLONE_NEW_ALL,
};

impl Story {
    fn new(policy: &str, given: Given) -> Self {
        let mut m = Machine::new(policy);
        let init = start(&mut m, "web", 30, given);
        let mut story = Self { m, init };
        story.look(init, given.label);
        story
    }

    /// The agent looks at a container's first process.
    fn look(&mut self, init: u32, label: Option<&str>) {
        while self.m.engine.next_look().is_some() {}
        let state = self.m.tasks[&init];
        let seen = SetUp {
            pid: init,
            start_boottime_ns: state.key.start_boottime_ns,
            mnt_ns: state.ns[ns::MNT].inum,
            lsm: label.map(str::to_owned),
            ..SetUp::default()
        };
        self.m.step(Event::Looked(&seen));
    }

    fn told(&mut self) -> Vec<Finding> {
        told(&mut self.m)
    }

    fn only(&mut self) -> (String, Severity, String) {
        let mut found = self.told();
        assert_eq!(found.len(), 1, "{found:#?}");
        let finding = found.remove(0);
        let Some(Evidence::Setup { value, .. }) = finding.observed else {
            panic!("{:?}", finding.observed);
        };
        (value, finding.severity, finding.message)
    }
}

fn told(m: &mut Machine) -> Vec<Finding> {
    m.take(|record| match record {
        Record::Audit(f) if f.rule == RuleId::WeakConfinement => Some(*f),
        Record::Violation(f) => panic!("{f:#?}"),
        _ => None,
    })
}

/// Starts a container; its filter is there before its first program.
fn start(m: &mut Machine, name: &str, cgroup: u64, given: Given) -> u32 {
    let path = format!("/runc/{name}");
    if !m.specs.contains_key(&path) {
        m.name(&path, name);
    }
    let init = m.runc_started_as(given.uid, cgroup, &path, given.flags);
    m.tasks.get_mut(&init).unwrap().creds.euid = given.uid;
    m.tasks.get_mut(&init).unwrap().seccomp_mode = given.seccomp;
    m.emit(init, init, cause::CRED, 0);
    init
}

#[test]
fn what_is_missing_is_listed() {
    let words = |given: Given| Story::new("", given).only();
    let (value, severity, message) = words(ROOT);
    assert_eq!(value, "no_seccomp no_lsm_here root");
    assert_eq!(severity, Severity::Medium);
    assert_eq!(
        message,
        "container web is weakly confined: no filter of system calls, no security module labels tasks on this \
         machine, root in the machine's initial user namespace"
    );
    let label = Some("unconfined");
    let (value, severity, _) = words(Given { label, ..ROOT });
    assert_eq!(
        (value.as_str(), severity),
        ("no_seccomp no_lsm root", Severity::Medium)
    );
    let label = Some("docker-default (enforce)");
    let (value, severity, _) = words(Given { label, ..ROOT });
    assert_eq!(
        (value.as_str(), severity),
        ("no_seccomp root", Severity::Low)
    );
    let user = Given {
        flags: CLONE_NEW_ALL | USER,
        ..ROOT
    };
    let (value, severity, _) = words(user);
    assert_eq!(
        (value.as_str(), severity),
        ("no_seccomp no_lsm_here", Severity::Low)
    );
    let label = Some("system_u:system_r:spc_t:s0");
    let free = Given {
        seccomp: FILTER,
        label,
        uid: 1000,
        ..ROOT
    };
    assert_eq!(words(free).0, "no_lsm");
    let ordinary = Given {
        seccomp: FILTER,
        ..ROOT
    };
    let (value, severity, _) = words(ordinary);
    assert_eq!(
        (value.as_str(), severity),
        ("no_lsm_here root", Severity::Info)
    );
}

#[test]
fn who_is_confined_is_silent() {
    let label = Some("docker-default (enforce)");
    for given in [
        Given {
            seccomp: FILTER,
            label,
            uid: 1000,
            ..ROOT
        },
        Given {
            seccomp: FILTER,
            uid: 1000,
            ..ROOT
        },
        Given {
            seccomp: FILTER,
            flags: CLONE_NEW_ALL | USER,
            ..ROOT
        },
    ] {
        assert_eq!(Story::new("", given).told(), []);
    }
}

#[test]
fn it_is_told_once_and_again_when_it_lacks_more() {
    let label = Some("docker-default (enforce)");
    let mut story = Story::new("", Given { label, ..ROOT });
    assert_eq!(story.only().0, "no_seccomp root");
    story.look(story.init, label);
    story.m.sweep();
    story.m.tick(120_000_000_000);
    assert_eq!(story.told(), []);
    story.look(story.init, Some("unconfined"));
    assert_eq!(story.only().0, "no_seccomp no_lsm root");
    let saved = story.m.engine.saved();
    let mut later = Story {
        m: story.m.restarted(),
        init: story.init,
    };
    later.m.step(Event::Restore(&saved));
    later.m.cgroup(30, "/runc/web");
    later.m.sweep();
    later.look(later.init, Some("unconfined"));
    assert_eq!(later.told(), []);
}

#[test]
fn what_is_allowed_is_counted() {
    let allow = "[[allow]]\nrule = \"weak-confinement\"\nsubject = \"runc:web\"\nreason = \"t\"\n";
    let mut story = Story::new(allow, ROOT);
    assert_eq!(story.told(), []);
    assert_eq!(story.m.engine.counters().allowed, 1);
}

/// Levels of SELinux keep containers of one type apart, but those of a pod, which have one on purpose.
#[test]
fn one_level_for_two_is_told() {
    const A: &str = "system_u:system_r:container_t:s0:c1,c2";
    let given = Given {
        seccomp: FILTER,
        label: Some(A),
        uid: 1000,
        flags: CLONE_NEW_ALL | USER,
    };
    for (label, in_pod, expected) in [
        (A, false, 1),
        ("system_u:system_r:container_t:s0:c1,c3", false, 0),
        ("system_u:system_r:spc_t:s0:c1,c2", false, 1),
        (A, true, 0),
    ] {
        let mut m = Machine::new("");
        for name in ["web", "db"].into_iter().filter(|_| in_pod) {
            let path = format!("/runc/{name}");
            let mut answer = ContainerAnswer::bare(path.clone(), Runtime::Runc, name.to_owned());
            answer.pod = Some(PodIdentity {
                uid: Some("p".to_owned()),
                ..PodIdentity::default()
            });
            m.specs.insert(path, answer);
        }
        let web = start(&mut m, "web", 30, given);
        let db = start(&mut m, "db", 31, given);
        let mut story = Story { m, init: web };
        story.look(web, Some(A));
        assert_eq!(story.told(), []);
        story.look(db, Some(label));
        let found = story.told();
        assert_eq!(found.len(), expected, "{label} {in_pod}: {found:#?}");
        if label == A && !in_pod {
            let Some(Evidence::Setup { part, value }) = &found[0].observed else {
                panic!("{found:#?}");
            };
            assert_eq!((part.as_str(), value.as_str()), ("lsm_label", A));
            assert_eq!(found[0].object.id, "runc:web");
        }
    }
}
