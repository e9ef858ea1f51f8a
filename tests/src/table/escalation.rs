//! Who uses more than the container has: sent in with it, or given it by nobody.

use super::{drift, of_dimension, restored, step, tamper, violation};
use crate::act::Act;
use crate::act::capability::CapabilityAct;
use crate::scenario::{
    Container, Deed, Expect, LineKind, Need, Object, Requires, Scenario, Script, Session, Tamper,
};

/// What asks for `SYS_BOOT`, and restarts nothing.
const REBOOT: &str = "reboot";
/// One of these hooks tells uses.
const SEEN: Requires = Requires::AnyOf(&["cap_capable", "cap_capable/entry"]);

/// All of them.
pub(super) fn scenarios() -> Vec<Scenario> {
    vec![sent_in(), tampered()]
}

fn used(kind: LineKind, severity: &'static str) -> Expect {
    let finding = violation("privilege-escalation", Object::Host);
    Expect {
        kind,
        requires: SEEN,
        ..of_dimension(finding, "privilege", severity)
    }
}

/// The container's own tasks ask for the same in vain, and so does whoever is sent in as runtimes do by default.
fn sent_in() -> Scenario {
    let exec = |id, options, expects: &[Expect]| {
        step(id, Deed::RuntimeExec(options, REBOOT), &[], expects)
    };
    let audit = used(LineKind::Audit, "medium");
    Scenario {
        id: "escalation-sent",
        does: "a runtime sends a program into a container with a capability that the container was not granted",
        session: Session::Default,
        containers: vec![Container::plain("a")],
        steps: vec![
            step("own", asks(), &[], &[]),
            step("granted", raw_socket(), &[], &[]),
            exec("exec", &[], &[]),
            exec("exec-more", &["--cap", "CAP_SYS_BOOT"], &[audit]),
        ],
    }
}

fn asks() -> Deed {
    Deed::Do(Script(|_| Act::Capability(CapabilityAct::Reboot)))
}

fn raw_socket() -> Deed {
    Deed::Do(Script(|_| Act::Capability(CapabilityAct::RawSocket)))
}

fn tampered() -> Scenario {
    let silent = of_dimension(
        violation("silent-privilege-change", Object::Host),
        "privilege",
        "critical",
    );
    let gained = [drift("privilege", "critical", Object::Host), silent];
    let reboot = step(
        "use",
        asks(),
        &[Need::KernelMemory],
        &[used(LineKind::Violation, "critical")],
    );
    Scenario {
        id: "escalation-tampered",
        does: "a container's first task gets capabilities in the kernel's memory, and a task that is born of it uses one",
        session: Session::Default,
        containers: vec![Container::plain("a")],
        steps: vec![
            tamper("gain", Tamper::First, &gained),
            reboot,
            restored(&[drift("privilege", "low", Object::Host)]),
        ],
    }
}
