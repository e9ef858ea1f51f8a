//! Others that disturb. Arguments change while the kernel reads them: the verdict follows the object that the kernel took.
//! Or a crowd does the like all the time: who hides in it is seen.

use super::{join, object, of_dimension, seen_by, step, violation, watcher};
use crate::act::Act;
use crate::act::Kind;
use crate::act::noise::NoiseAct;
use crate::scenario::{Container, Deed, Expect, Places, Scenario, Script, Session, Step, Whom};

/// All of them.
pub(super) fn scenarios() -> Vec<Scenario> {
    vec![others(), own(), crowd(), asks(), births(), unborn()]
}

/// Eight files of the host's, each of which is opened in a crowd; the same process is on the way to all of them.
macro_rules! in_a_crowd {
    ($crowd:ident) => {
        in_a_crowd!($crowd: "uptime", "version", "cpuinfo", "meminfo", "stat", "loadavg", "filesystems", "cmdline")
    };
    ($crowd:ident: $($name:literal),+) => {{
        let mut steps = vec![$(go(
            $name,
            |places| {
                let other = format!("{}/proc/{}", places.directory(Whom::Host), $name);
                Act::Noise(NoiseAct::$crowd { other })
            },
            &[opened()],
        )),+];
        steps[0].expects.push(reached());
        steps
    }};
}

/// A file of the host's was opened.
fn opened() -> Expect {
    of_dimension(
        violation("foreign-file", object(Whom::Host)),
        "references",
        "high",
    )
}

/// Another process of the host's was reached on the way.
fn reached() -> Expect {
    let read = of_dimension(
        violation("process-control", object(Whom::Host)),
        "processes",
        "high",
    );
    seen_by(read, "__ptrace_may_access")
}

fn go(id: &'static str, act: fn(&dyn Places) -> Act, expects: &[Expect]) -> Step {
    step(id, Deed::Do(Script(act)), &[], expects)
}

fn open(other: String) -> Act {
    Act::Noise(NoiseAct::Open { other })
}

fn connect(own: &str, other: &str) -> Act {
    Act::Noise(NoiseAct::Connect {
        own: own.to_owned(),
        other: other.to_owned(),
    })
}

fn join_uts(other: String) -> Act {
    let own = "/proc/self/ns/uts".to_owned();
    Act::Noise(NoiseAct::Join { own, other })
}

/// One of the two objects that take turns is the host's: each call that met it is told, which is once.
fn others() -> Scenario {
    let talked = of_dimension(
        violation("foreign-socket", object(Whom::Host)),
        "sockets",
        "medium",
    );
    Scenario {
        id: "noise",
        does: "a thread opens, connects and joins while another one rewrites by which path, address and descriptor",
        session: Session::Default,
        containers: vec![Container {
            share: true,
            ..watcher()
        }],
        steps: vec![
            go(
                "open",
                |places| {
                    let root = places.directory(Whom::Host);
                    open(format!("{root}/proc/uptime"))
                },
                &[opened(), reached()],
            ),
            go(
                "connect",
                |_| connect("/tmp/own.sock", "/share/plain.sock"),
                &[talked],
            ),
            go(
                "join",
                |places| join_uts(format!("/hostproc/{}/ns/uts", places.pid(Whom::Host))),
                &[join(Kind::Uts, Whom::Host)],
            ),
        ],
    }
}

/// A container that sees the host's processes hides in a crowd. The silent neighbours are the crowd.
fn hiding(id: &'static str, does: &'static str, session: Session, steps: Vec<Step>) -> Scenario {
    Scenario {
        id,
        does,
        session,
        containers: vec![watcher()],
        steps,
    }
}

/// Where the kernel interrupts whoever is in the middle of a program, nobody else may be missed for it.
fn crowd() -> Scenario {
    hiding(
        "crowd",
        "a thread opens the host's files while many others of the same processor open their container's",
        Session::Default,
        in_a_crowd!(Crowd),
    )
}

/// The same of who asks for access to another process.
fn asks() -> Scenario {
    let link = go(
        "link",
        |places| {
            let other = format!("/hostproc/{}/exe", places.pid(Whom::Host));
            Act::Noise(NoiseAct::Asks { other })
        },
        &[reached()],
    );
    hiding(
        "crowd-asks",
        "a thread reads a link of a host's process while many others of the same processor read their own",
        Session::Default,
        vec![link],
    )
}

/// The same of tasks that are born there.
fn births() -> Scenario {
    hiding(
        "crowd-births",
        "children open the host's files and end, while many threads of the same processor make more of them",
        Session::Default,
        in_a_crowd!(Births),
    )
}

/// The same of tasks whose births nothing told of at all: whoever meets one tells of it.
fn unborn() -> Scenario {
    hiding(
        "unborn",
        "children of whose birth nobody told open the host's files and end",
        Session::Unborn,
        in_a_crowd!(Births),
    )
}

/// The silent neighbour: both are the container's.
fn own() -> Scenario {
    Scenario {
        id: "noise-own",
        does: "a thread opens its own files while another one rewrites by which path",
        session: Session::Default,
        containers: vec![Container::plain("a")],
        steps: vec![go("open", |_| open("/proc/self/status".to_owned()), &[])],
    }
}
