//! How containers stand from their start on: what they were granted that is power over others.

use super::{of_dimension, step, violation};
use crate::scenario::{Container, Deed, Expect, LineKind, Object, Scenario, Session, Step};

/// What Docker and Podman give by default.
const ORDINARY: &str = r#"{"process": {"capabilities": {
    "bounding": ["CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
        "CAP_MKNOD", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID",
        "CAP_SYS_CHROOT"],
    "effective": ["CAP_CHOWN", "CAP_KILL", "CAP_MKNOD", "CAP_NET_RAW"],
    "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_MKNOD", "CAP_NET_RAW"]
}}}"#;

/// All of them.
pub(super) fn scenarios() -> Vec<Scenario> {
    vec![dangerous_capabilities()]
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
    let of = |who, id, severity| Step {
        who,
        ..step(id, Deed::Nothing, &[], &[dangerous(severity)])
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
            of(0, "machine", "high"),
            of(1, "host-pid", "medium"),
            of(2, "devices", "high"),
        ],
    }
}
