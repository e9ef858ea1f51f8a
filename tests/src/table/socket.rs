//! Unix sockets across containers (T8).

use super::{object, of_dimension, seen_by, step, violation};
use crate::act::Act;
use crate::act::socket::SocketAct;
use crate::scenario::{
    Container, Deed, Expect, Net, Object, Places, Requires, Scenario, Script, Session, Step, Whom,
};

/// All of them.
pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        sockets(),
        by_ring(),
        abstract_names("abstract-socket", Net::Inherited),
        abstract_names("declared-socket", Net::Declared),
    ]
}

pub(super) fn control() -> Expect {
    of_dimension(
        violation("control-socket", Object::Host),
        "sockets",
        "critical",
    )
}

pub(super) fn foreign(whom: Whom) -> Expect {
    of_dimension(
        violation("foreign-socket", object(whom)),
        "sockets",
        "medium",
    )
}

macro_rules! socket {
    ($act:ident, $name:literal) => {
        Deed::Do(Script(|_: &dyn Places| {
            Act::Socket(SocketAct::$act { name: $name.into() })
        }))
    };
}

fn by_neighbour(step: Step) -> Step {
    Step { who: 1, ..step }
}

fn sockets() -> Scenario {
    let share = |name| Container {
        share: true,
        ..Container::plain(name)
    };
    let sent = seen_by(foreign(Whom::Host), "security_unix_may_send");
    Scenario {
        id: "sockets",
        does: "a container talks to sockets of the host and of its neighbour in a shared directory",
        session: Session::Default,
        containers: vec![share("a"), share("b")],
        steps: vec![
            step(
                "daemon",
                socket!(Connect, "/share/control.sock"),
                &[],
                &[control()],
            ),
            step(
                "daemon-path",
                socket!(Connect, "/share/docker.sock"),
                &[],
                &[control()],
            ),
            step(
                "host",
                socket!(Connect, "/share/plain.sock"),
                &[],
                &[foreign(Whom::Host)],
            ),
            step(
                "host-datagram",
                socket!(Send, "/share/gram.sock"),
                &[],
                &[sent],
            ),
            by_neighbour(step(
                "listen",
                socket!(Listen, "/share/neighbour.sock"),
                &[],
                &[],
            )),
            step(
                "neighbour",
                socket!(Connect, "/share/neighbour.sock"),
                &[],
                &[foreign(Whom::Neighbour)],
            ),
            step("own", socket!(ConnectToSelf, "/share/own.sock"), &[], &[]),
            step("own-abstract", socket!(ConnectToSelf, "@own"), &[], &[]),
            step(
                "own-datagram",
                socket!(SendToSelf, "/tmp/own.sock"),
                &[],
                &[],
            ),
        ],
    }
}

/// Nobody makes a system call for it.
fn by_ring() -> Scenario {
    let seen = Expect {
        requires: Requires::AnyOf(&["security_unix_stream_connect", "io_uring_complete"]),
        ..control()
    };
    Scenario {
        id: "sockets-ring",
        does: "a container has io_uring connect to a socket of the host, and to its own",
        session: Session::Default,
        containers: vec![Container {
            share: true,
            ..Container::plain("a")
        }],
        steps: vec![
            step(
                "daemon",
                socket!(ConnectByRing, "/share/control.sock"),
                &[],
                &[seen],
            ),
            step(
                "own",
                socket!(ConnectToSelfByRing, "/tmp/ring.sock"),
                &[],
                &[],
            ),
        ],
    }
}

/// An abstract name belongs to a network namespace. Where two share one by declaration, they may talk.
fn abstract_names(id: &'static str, net: Net) -> Scenario {
    let in_net = |name| Container {
        net,
        ..Container::plain(name)
    };
    let shared = Expect {
        dimension: Some("net"),
        ..violation("shared-namespace", Object::Pair)
    };
    let (at_rest, talking) = match net {
        Net::Inherited => (vec![shared], vec![foreign(Whom::Neighbour)]),
        _ => (Vec::new(), Vec::new()),
    };
    Scenario {
        id,
        does: "two containers in one network namespace talk by an abstract socket",
        session: Session::Default,
        containers: vec![in_net("a"), in_net("b")],
        steps: vec![
            step("net", Deed::Nothing, &[], &at_rest),
            by_neighbour(step("listen", socket!(Listen, "@neighbour"), &[], &[])),
            step("connect", socket!(Connect, "@neighbour"), &[], &talking),
        ],
    }
}
