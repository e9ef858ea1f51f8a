//! Handles that containers hold together: told for the record, and only these.

use super::{of_dimension, seen_by, socket, step, violation};
use crate::act::Act;
use crate::act::handle::{HandleAct, Made};
use crate::act::socket::SocketAct;
use crate::scenario::{
    Container, Deed, Expect, LineKind, Object, Places, Scenario, Script, Session, Step, Whom,
};

/// All of them.
pub(super) fn scenarios() -> Vec<Scenario> {
    vec![handles(), passed()]
}

/// The line about a handle of both.
fn held(hook: &'static str) -> Expect {
    let told = Expect {
        kind: LineKind::Audit,
        ..violation("shared-handle", Object::Pair)
    };
    seen_by(of_dimension(told, "handles", "medium"), hook)
}

fn does(id: &'static str, act: fn(&dyn Places) -> Act, expects: &[Expect]) -> Step {
    step(id, Deed::Do(Script(act)), &[], expects)
}

fn before(id: &'static str, act: fn(&dyn Places) -> Act) -> Step {
    Step {
        who: 1,
        ..does(id, act, &[])
    }
}

macro_rules! handle {
    ($act:ident, $path:literal) => {
        |_: &dyn Places| Act::Handle(HandleAct::$act { path: $path.into() })
    };
    ($what:ident from $path:literal) => {
        |_: &dyn Places| {
            Act::Handle(HandleAct::Offer {
                path: $path.into(),
                what: Made::$what,
            })
        }
    };
}

const fn share(name: &'static str) -> Container {
    Container {
        share: true,
        ..Container::plain(name)
    }
}

/// By a directory of both. One of a kind is told.
fn handles() -> Scenario {
    let files = held("iter/handles");
    Scenario {
        id: "handles",
        does: "two containers hold one pipe, one mapped file and one connection, by a directory of both",
        session: Session::Default,
        containers: vec![share("a"), share("b")],
        steps: vec![
            does("own", |_| Act::Handle(HandleAct::Own), &[]),
            before("own-neighbour", |_| Act::Handle(HandleAct::Own)),
            before("fifo-neighbour", handle!(Fifo, "/share/fifo")),
            does("fifo", handle!(Fifo, "/share/fifo"), &[files]),
            before("mapping-neighbour", handle!(Map, "/share/mapped")),
            does(
                "mapping",
                handle!(Map, "/share/mapped"),
                &[held("iter/task_vma")],
            ),
            before("accept", handle!(Accept, "/share/accept.sock")),
            does(
                "connect",
                |_| {
                    Act::Socket(SocketAct::Connect {
                        name: "/share/accept.sock".into(),
                    })
                },
                &[socket::foreign(Whom::Neighbour), files],
            ),
            before("fifo-more", handle!(Fifo, "/share/another")),
            does("another-of-a-kind", handle!(Fifo, "/share/another"), &[]),
        ],
    }
}

/// By passing it over a socket. Who takes something over a socket of the neighbour is told for that too.
fn passed() -> Scenario {
    let files = held("iter/handles");
    let met = || socket::foreign(Whom::Neighbour);
    Scenario {
        id: "handles-passed",
        does: "a container passes a pipe, one end of a connection, an open file and a piece of memory to another",
        session: Session::Default,
        containers: vec![share("a"), share("b")],
        steps: vec![
            before("offer-pipe", handle!(Pipe from "/share/pipe.sock")),
            does("pipe", handle!(Take, "/share/pipe.sock"), &[met(), files]),
            before("offer-stream", handle!(Stream from "/share/stream.sock")),
            does(
                "stream",
                handle!(Take, "/share/stream.sock"),
                &[met(), files],
            ),
            before("offer-event", handle!(Event from "/share/event.sock")),
            does("event", handle!(Take, "/share/event.sock"), &[met(), files]),
            before("offer-memory", handle!(Memory from "/share/memory.sock")),
            does(
                "memory",
                handle!(Take, "/share/memory.sock"),
                &[met(), files],
            ),
        ],
    }
}
