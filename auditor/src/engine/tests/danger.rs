//! Goal: what a container's grant lets it do to others is told once, as it is set up, and nothing where it is harmless.
//! Method: stories on a made-up machine.

use super::machine::{CLONE_NEW_ALL, Machine};
use crate::engine::Event;
use crate::inventory::container::{ContainerAnswer, Runtime, SpecSummary};
use crate::model::output::{Evidence, Finding, Record};
use crate::model::policy::Policy;
use crate::model::setup::{DeviceRule, SetUp};
use crate::model::{NsKind, RuleId, Severity, capability};
use auditor_common::limits::CGROUP_SLOTS;
use auditor_common::record::cgroup;

const WEB: &str = "/runc/web";
const USER: u64 = 0x1000_0000;

fn set(names: &[&str]) -> u64 {
    let bits = names.iter().map(|name| capability::parse(name).unwrap());
    bits.fold(0, |set, bit| set | 1 << bit)
}

fn granting(names: &[&str], policy: &str) -> Machine {
    let mut machine = Machine::new(policy);
    machine.capabilities = set(names);
    machine.name(WEB, "web");
    machine
}

fn told(machine: &mut Machine) -> Vec<Finding> {
    machine.take(|record| match record {
        Record::Audit(f) if f.rule == RuleId::DangerousCapability => Some(*f),
        Record::Violation(f) => panic!("{f:#?}"),
        _ => None,
    })
}

fn only(machine: &mut Machine) -> (String, Severity, String) {
    let mut found = told(machine);
    assert_eq!(found.len(), 1, "{found:#?}");
    let finding = found.remove(0);
    let Some(Evidence::Setup { part, value }) = finding.observed else {
        panic!("{:?}", finding.observed);
    };
    assert_eq!(part, "capability");
    (value, finding.severity, finding.message)
}

#[test]
fn one_line_says_all_of_it() {
    let mut m = granting(&["CHOWN", "SYS_MODULE", "SYS_ADMIN", "SYS_TIME"], "");
    m.runc(30, WEB);
    let (value, severity, message) = only(&mut m);
    assert_eq!(value, "SYS_MODULE SYS_ADMIN SYS_TIME");
    assert_eq!(severity, Severity::High);
    assert_eq!(
        message,
        "container web was granted power over the host: SYS_MODULE (load code into the kernel), \
         SYS_ADMIN (mount, and undo what is masked or read-only), SYS_TIME (set the machine's clock)"
    );
    m.sweep();
    m.tick(120_000_000_000);
    assert_eq!(told(&mut m), []);
}

#[test]
fn what_runtimes_give_is_silent() {
    let mut m = Machine::new("");
    m.name(WEB, "web");
    m.runc(30, WEB);
    assert_eq!(told(&mut m), []);
}

#[test]
fn a_user_namespace_of_its_own_is_silent() {
    let mut m = granting(&capability::NAMES, "");
    m.runc_from(1, 30, WEB, CLONE_NEW_ALL | USER);
    assert_eq!(told(&mut m), []);
}

/// What is harmless in a pid or network namespace of its own is power in the host's.
#[test]
fn namespaces_of_the_host_make_it_dangerous() {
    let names = ["KILL", "NET_ADMIN", "NET_RAW", "SYS_PTRACE"];
    let mut m = granting(&names, "");
    m.runc(30, WEB);
    assert_eq!(told(&mut m), []);
    for (kinds, expected) in [
        (vec![NsKind::Net], "NET_ADMIN NET_RAW"),
        (vec![NsKind::Pid], "KILL SYS_PTRACE"),
        (
            vec![NsKind::Net, NsKind::Pid],
            "KILL NET_ADMIN NET_RAW SYS_PTRACE",
        ),
    ] {
        let mut m = granting(&names, "");
        let shared = kinds
            .iter()
            .fold(0, |flags, kind| flags | kind.clone_flag());
        m.runc_from(1, 30, WEB, CLONE_NEW_ALL & !shared);
        // Without a pid namespace of its own a container is found when it has its name.
        let found = m.take(|record| match record {
            Record::Audit(f) if f.rule == RuleId::DangerousCapability => f.observed,
            _ => None,
        });
        let [Evidence::Setup { value, .. }] = &found[..] else {
            panic!("{found:?}");
        };
        assert_eq!(value, expected);
    }
}

#[test]
fn version_1_of_cgroups_has_a_release_agent() {
    let mut hierarchies = [None; CGROUP_SLOTS];
    hierarchies[cgroup::V2] = Some(0);
    hierarchies[3] = Some(7);
    let mut m = Machine::on(hierarchies, "");
    m.capabilities = set(&["SYS_ADMIN"]);
    m.name(WEB, "web");
    m.runc(30, WEB);
    assert!(only(&mut m).2.contains("release_agent"));
}

#[test]
fn every_device_takes_a_device_policy() {
    let spec = |all_devices| SpecSummary {
        all_devices,
        ..SpecSummary::default()
    };
    for (all, expected) in [(false, 0), (true, 1)] {
        let mut m = granting(&["MKNOD"], "");
        m.spec(WEB, "web", spec(all));
        m.runc(30, WEB);
        assert_eq!(told(&mut m).len(), expected);
    }
}

/// What the rules of its cgroup let it reach counts, whatever was declared.
#[test]
fn every_device_may_be_what_the_kernel_says() {
    let all = DeviceRule {
        write: true,
        mknod: true,
        ..DeviceRule::default()
    };
    let null = DeviceRule {
        major: Some(1),
        minor: Some(3),
        ..all
    };
    for (rule, expected) in [(null, 0), (all, 1)] {
        let mut m = granting(&["MKNOD"], "");
        m.runc(30, WEB);
        assert_eq!(told(&mut m), []);
        while let Some(look) = m.engine.next_look() {
            let seen = SetUp {
                pid: look.key.tgid,
                start_boottime_ns: look.key.start_boottime_ns,
                mnt_ns: look.mnt_ns,
                device_rules: Some(vec![rule]),
                ..SetUp::default()
            };
            m.step(Event::Looked(&seen));
        }
        assert_eq!(told(&mut m).len(), expected);
    }
}

/// A role that permits a capability is somebody's decision; an allow expects the line.
#[test]
fn what_is_permitted_or_allowed_is_silent() {
    let role = |capabilities: &str| {
        format!(
            "[[role]]\nname = \"web\"\nmatch = {{ id = \"runc:web\" }}\ncapabilities = [{capabilities}]\n"
        )
    };
    let names = ["SYS_MODULE", "SYS_TIME"];
    let mut m = granting(&names, &role("\"SYS_MODULE\", \"SYS_TIME\""));
    m.runc(30, WEB);
    assert_eq!(told(&mut m), []);
    let allow =
        "[[allow]]\nrule = \"dangerous-capability\"\nsubject = \"runc:web\"\nreason = \"t\"\n";
    let mut m = granting(&names, allow);
    m.runc(30, WEB);
    assert_eq!(told(&mut m), []);
    assert_eq!(m.engine.counters().allowed, 1);
    // Another policy permits one of the two, and expects nothing.
    let policy = Policy::parse(&role("\"SYS_TIME\""), "test").unwrap();
    m.step(Event::Policy(&policy));
    let found = m.take(|record| match record {
        Record::Audit(f) if f.rule == RuleId::DangerousCapability => Some(f.message),
        _ => None,
    });
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("SYS_MODULE") && !found[0].contains("SYS_TIME"));
    m.step(Event::Policy(&Policy::default()));
    assert_eq!(only(&mut m).0, "SYS_MODULE SYS_TIME");
}

/// A role may go by an image that is known later; then there is one line, or none.
#[test]
fn it_waits_for_the_name() {
    let role =
        "[[role]]\nname = \"web\"\nmatch = { image = \"nginx*\" }\ncapabilities = [\"SYS_TIME\"]\n";
    for (image, expected) in [(Some("nginx:1"), 0), (Some("other:1"), 1), (None, 1)] {
        let mut m = Machine::new(role);
        m.capabilities = set(&["SYS_TIME"]);
        m.runc_unnamed(30, WEB);
        assert_eq!(told(&mut m), []);
        if image.is_some() {
            let mut answer = ContainerAnswer::bare(WEB.to_owned(), Runtime::Runc, "web".to_owned());
            answer.image = image.map(str::to_owned);
            m.specs.insert(WEB.to_owned(), answer);
        }
        for _ in 0..20 {
            m.tick(100_000_000);
        }
        assert_eq!(told(&mut m).len(), expected, "{image:?}");
    }
}

#[test]
fn who_ends_before_it_has_a_name_is_told() {
    let mut m = Machine::new("");
    m.capabilities = set(&["SYS_TIME"]);
    let init = m.runc_unnamed(30, WEB);
    m.exit(init);
    m.tick(100_000_000);
    assert_eq!(told(&mut m).len(), 1);
    let init = m.runc_unnamed(31, "/runc/db");
    assert_eq!(told(&mut m), []);
    m.engine.stop(m.now_ns, "test", &mut m.out);
    assert_eq!(told(&mut m).len(), 1, "{init}");
}

/// Two containers in one pid namespace: whoever may trace reaches the other, and is told when the other comes.
#[test]
fn company_makes_tracing_dangerous() {
    let mut m = granting(&["SYS_PTRACE"], "");
    m.name("/runc/db", "db");
    let web = m.runc(30, WEB);
    assert_eq!(told(&mut m), []);
    // A runtime that enters the first one's pid namespace starts the second one there.
    let starter = m.fork(1, 0);
    m.setns(starter, web, &[NsKind::Pid]);
    m.capabilities = set(&["CHOWN"]);
    let flags = CLONE_NEW_ALL & !NsKind::Pid.clone_flag();
    m.runc_from(starter, 31, "/runc/db", flags);
    let found = m.take(|record| match record {
        Record::Audit(f) if f.rule == RuleId::DangerousCapability => Some(*f),
        _ => None,
    });
    let [finding] = &found[..] else {
        panic!("{found:#?}");
    };
    assert_eq!(
        (finding.subject.id.as_str(), finding.object.id.as_str()),
        ("runc:web", "runc:db")
    );
    assert!(finding.message.contains("power over other containers"));
}

#[test]
fn it_is_not_told_again_by_the_next_agent() {
    let mut m = granting(&["SYS_TIME"], "");
    m.runc(30, WEB);
    assert_eq!(told(&mut m).len(), 1);
    let saved = m.engine.saved();
    for (restored, expected) in [(false, 1), (true, 0)] {
        let mut later = m.restarted();
        if restored {
            later.step(Event::Restore(&saved));
        }
        later.cgroup(30, WEB);
        later.sweep();
        assert_eq!(told(&mut later).len(), expected, "{restored}");
    }
}
