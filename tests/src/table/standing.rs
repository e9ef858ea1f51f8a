//! How containers stand from their start on: what they were granted that is power over others, and what confines them.

use super::{of_dimension, step, violation};
use crate::scenario::{Container, Deed, Expect, LineKind, Need, Object, Scenario, Session, Step};

/// What Docker and Podman give by default.
const ORDINARY: &str = r#"{"process": {"capabilities": {
    "bounding": ["CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
        "CAP_MKNOD", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID",
        "CAP_SYS_CHROOT"],
    "effective": ["CAP_CHOWN", "CAP_KILL", "CAP_MKNOD", "CAP_NET_RAW"],
    "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_MKNOD", "CAP_NET_RAW"]
}}}"#;

/// A filter that refuses one call.
const FILTERED: &str = r#"{"linux": {"seccomp": {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_ERRNO"}]
}}}"#;

/// All of them.
pub(super) fn scenarios() -> Vec<Scenario> {
    vec![dangerous_capabilities(), weak_confinement()]
}

/// The line of a container with such capabilities.
pub(super) const fn dangerous(severity: &'static str) -> Expect {
    let finding = violation("dangerous-capability", Object::Host);
    Expect {
        kind: LineKind::Audit,
        ..of_dimension(finding, "privilege", severity)
    }
}

/// What is power over the machine, what is by the host's pid namespace, and by every device; the last two are ordinary, or
/// have all over a user namespace of their own.
fn dangerous_capabilities() -> Scenario {
    let ordinary = |name| Container {
        patch: Some(ORDINARY),
        ..Container::plain(name)
    };
    Scenario {
        id: "dangerous",
        does: "containers were granted what is power over others, as they are set up, or is none",
        session: Session::Default,
        containers: vec![
            Container::plain("a"),
            Container {
                host_pid: true,
                ..ordinary("p")
            },
            Container {
                all_devices: true,
                ..ordinary("d")
            },
            ordinary("b"),
            Container {
                user_namespace: true,
                ..Container::plain("u")
            },
        ],
        steps: vec![
            stands(0, "machine", &[], &[dangerous("high")]),
            stands(1, "host-pid", &[], &[dangerous("medium")]),
            stands(2, "devices", &[], &[dangerous("high")]),
            stands(3, "ordinary", &[], &[]),
            stands(4, "own-users", &[], &[]),
        ],
    }
}

fn weak_confinement() -> Scenario {
    let filtered = |name| Container {
        patch: Some(FILTERED),
        ..Container::plain(name)
    };
    let weak = |severity| {
        [Expect {
            rule: "weak-confinement",
            ..dangerous(severity)
        }]
    };
    Scenario {
        id: "confinement",
        does: "a container has nothing that confines it, others a filter of system calls, an ordinary user, or both",
        session: Session::Default,
        containers: vec![
            Container::plain("a"),
            filtered("s"),
            Container {
                ordinary_user: true,
                ..Container::plain("o")
            },
            Container {
                ordinary_user: true,
                ..filtered("b")
            },
        ],
        steps: vec![
            stands(0, "nothing", &[], &weak("medium")),
            stands(1, "filter", &[Need::NoLabels], &weak("info")),
            stands(1, "filter-labels", &[Need::Labels], &weak("low")),
            stands(2, "user", &[], &weak("low")),
            stands(3, "both", &[Need::NoLabels], &[]),
            stands(3, "both-labels", &[Need::Labels], &weak("low")),
        ],
    }
}

fn stands(who: usize, id: &'static str, needs: &[Need], expects: &[Expect]) -> Step {
    Step {
        who,
        ..step(id, Deed::Nothing, needs, expects)
    }
}
