//! Goal: what a container was granted and its roles do not permit is told, once, whenever its roles become known.
//! Method: stories on a made-up machine.

use super::machine::Machine;
use crate::engine::Event;
use crate::inventory::container::{ContainerAnswer, Runtime};
use crate::model::output::{Evidence, Finding};
use crate::model::policy::Policy;
use crate::model::{Dimension, RuleId, Severity};

const WEB: &str = "/runc/web";
/// CHOWN and NET_RAW.
const GRANTED: u64 = 1 | 1 << 13;

fn machine(policy: &str) -> Machine {
    let mut machine = Machine::new(policy);
    machine.capabilities = GRANTED;
    machine
}

fn role(name: &str, matches: &str, capabilities: &str) -> String {
    format!(
        "[[role]]\nname = \"{name}\"\nmatch = {{ {matches} }}\ncapabilities = [{capabilities}]\n"
    )
}

fn excess(machine: &mut Machine) -> Vec<Finding> {
    machine.tick(100_000_000);
    machine.violations()
}

fn only(found: &[Finding]) -> (Vec<String>, Vec<String>, Severity) {
    let [finding] = found else {
        panic!("{found:#?}");
    };
    assert_eq!(finding.rule, RuleId::PrivilegeExcess);
    assert_eq!(finding.dimension, Dimension::Privilege);
    let set = |evidence: &Option<Evidence>| match evidence {
        Some(Evidence::Creds { permitted, .. }) => permitted.clone(),
        other => panic!("{other:?}"),
    };
    (
        set(&finding.expected),
        set(&finding.observed),
        finding.severity,
    )
}

#[test]
fn what_no_role_permits_is_told_once() {
    let mut machine = machine(&role("web", "id = \"runc:web\"", "\"CHOWN\""));
    machine.name(WEB, "web");
    machine.runc(30, WEB);
    let (expected, observed, severity) = only(&excess(&mut machine));
    assert_eq!(expected, ["CHOWN"]);
    assert_eq!(observed, ["CHOWN", "NET_RAW"]);
    assert_eq!(severity, Severity::High);
    assert_eq!(excess(&mut machine), []);
}

#[test]
fn what_is_permitted_or_not_limited_is_silent() {
    for policy in [
        String::new(),
        role(
            "web",
            "id = \"runc:web\"",
            "\"CHOWN\", \"NET_RAW\", \"KILL\"",
        ),
        role("other", "id = \"runc:other\"", ""),
    ] {
        let mut machine = machine(&policy);
        machine.name(WEB, "web");
        machine.runc(30, WEB);
        assert_eq!(excess(&mut machine), [], "{policy}");
    }
}

#[test]
fn roles_intersect() {
    let policy = role("a", "runtime = \"runc\"", "\"CHOWN\", \"KILL\"")
        + &role("b", "id = \"runc:web\"", "\"NET_RAW\"");
    let mut machine = machine(&policy);
    machine.name(WEB, "web");
    machine.runc(30, WEB);
    let found = excess(&mut machine);
    assert!(
        found[0].message.ends_with("roles a, b do not permit"),
        "{}",
        found[0].message
    );
    assert_eq!(only(&found).0, [""; 0]);
}

/// A container's image becomes known after it has begun, and a policy comes after both.
#[test]
fn a_role_that_comes_later_is_judged_then() {
    let mut machine = machine(&role("web", "image = \"nginx*\"", ""));
    machine.runc_unnamed(30, WEB);
    assert_eq!(excess(&mut machine), []);
    let mut answer = ContainerAnswer::bare(WEB.to_owned(), Runtime::Runc, "web".to_owned());
    answer.image = Some("nginx:1.27".to_owned());
    machine.specs.insert(WEB.to_owned(), answer);
    let mut found = Vec::new();
    for _ in 0..100 {
        found.extend(excess(&mut machine));
    }
    assert_eq!(only(&found).0, [""; 0]);
    let policy = Policy::parse(&role("web", "image = \"nginx*\"", "\"CHOWN\""), "test").unwrap();
    machine.step(Event::Policy(&policy));
    assert_eq!(only(&excess(&mut machine)).0, ["CHOWN"]);
}

/// A container that ends at once is judged too.
#[test]
fn who_is_gone_by_the_next_tick_is_judged() {
    let mut machine = machine(&role("web", "id = \"runc:web\"", ""));
    machine.name(WEB, "web");
    let init = machine.runc(30, WEB);
    machine.exit(init);
    assert_eq!(only(&machine.violations()).0, [""; 0]);
}
