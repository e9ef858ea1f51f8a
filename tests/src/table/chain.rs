//! What made a compromise possible: the same join by a container that has what it takes, and by one that gained it; and one
//! that nothing made possible.

use super::{join, neighbour, of_dimension, step, violation, watcher};
use crate::act::Kind;
use crate::scenario::{
    Because, Container, Deed, Expect, Leaked, LineKind, Object, Scenario, Session, Whom,
};

/// All of them.
pub(super) fn scenarios() -> Vec<Scenario> {
    vec![gained(), configured(), unexplained()]
}

fn gained() -> Scenario {
    let gain = Expect {
        kind: LineKind::Audit,
        ..violation("privilege-gain", Object::Any)
    };
    let joined = |whom| Expect {
        because: Because::Weakened("privilege-gain"),
        ..join(Kind::Net, whom)
    };
    Scenario {
        id: "chain-gained",
        does: "a container of an ordinary user gains privileges by a setuid file, then joins others' namespaces",
        session: Session::Default,
        containers: vec![
            Container {
                ordinary_user: true,
                ..watcher()
            },
            neighbour(),
        ],
        steps: vec![
            step(
                "host",
                Deed::JoinBySetuid(Kind::Net, Whom::Host),
                &[],
                &[gain, joined(Whom::Host)],
            ),
            // The gain is a repeat there, and folded.
            step(
                "neighbour",
                Deed::JoinBySetuid(Kind::Net, Whom::Neighbour),
                &[],
                &[joined(Whom::Neighbour)],
            ),
            step("own", Deed::JoinBySetuid(Kind::Net, Whom::Own), &[], &[]),
        ],
    }
}

fn configured() -> Scenario {
    let joined = Expect {
        because: Because::Configured("SYS_ADMIN"),
        ..join(Kind::Net, Whom::Host)
    };
    Scenario {
        id: "chain-configured",
        does: "a container that was started with CAP_SYS_ADMIN joins the host's network namespace",
        session: Session::Default,
        containers: vec![watcher()],
        steps: vec![step(
            "host",
            Deed::JoinByFd(Kind::Net, Whom::Host),
            &[],
            &[joined],
        )],
    }
}

/// The container did nothing, and was given nothing that its configuration tells: whoever started its runtime left a
/// directory of the host open.
fn unexplained() -> Scenario {
    let reached = Expect {
        because: Because::Unexplained,
        ..of_dimension(
            violation("foreign-file", Object::Host),
            "references",
            "critical",
        )
    };
    Scenario {
        id: "chain-unexplained",
        does: "a container without privileges starts with a descriptor of the host's root directory",
        session: Session::Default,
        containers: vec![Container {
            ordinary_user: true,
            leaked: Leaked::Root,
            ..Container::plain("a")
        }],
        steps: vec![step("held", Deed::Nothing, &[], &[reached])],
    }
}
