//! Files on others' mounts (T3), and containers' files that the host runs (T6).

use super::{neighbour, object, of_dimension, process, seen_by, step, violation, watcher};
use crate::act::Act;
use crate::act::file::FileAct;
use crate::scenario::{
    Container, Deed, Expect, Leaked, Need, Object, Places, Scenario, Script, Session, Step, Whom,
};

/// All of them.
pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        foreign(),
        by_ring(),
        own(),
        leaked(),
        passed(),
        run_by_host(),
        run_from_layer(),
    ]
}

fn reached(whom: Whom, severity: &'static str) -> Expect {
    of_dimension(
        violation("foreign-file", object(whom)),
        "references",
        severity,
    )
}

/// The way through /proc/PID/root reads that process, which is told once where its hook works.
fn looked_into(whom: Whom) -> Expect {
    seen_by(process::reached(whom, "high"), "__ptrace_may_access")
}

fn does(id: &'static str, act: fn(&dyn Places) -> Act, expects: &[Expect]) -> Step {
    step(id, Deed::Do(Script(act)), &[], expects)
}

const fn read(path: String) -> Act {
    Act::File(FileAct::Read { path })
}

fn foreign() -> Scenario {
    let neighbours = |places: &dyn Places| {
        let root = places.directory(Whom::Neighbour);
        read(format!("{root}/bin/busybox"))
    };
    Scenario {
        id: "files",
        does: "a task opens files and directories of others through /hostproc/PID/root",
        session: Session::Default,
        containers: vec![watcher(), neighbour()],
        steps: vec![
            does(
                "directory",
                |places| read(places.directory(Whom::Host)),
                &[reached(Whom::Host, "critical"), looked_into(Whom::Host)],
            ),
            does(
                "read",
                |places| read(format!("{}/proc/uptime", places.directory(Whom::Host))),
                &[reached(Whom::Host, "high")],
            ),
            does(
                "write",
                |places| {
                    let path = format!("{}/proc/self/comm", places.directory(Whom::Host));
                    Act::File(FileAct::Write { path })
                },
                &[reached(Whom::Host, "critical")],
            ),
            does(
                "neighbour",
                neighbours,
                &[
                    reached(Whom::Neighbour, "high"),
                    looked_into(Whom::Neighbour),
                ],
            ),
            does(
                "path-only",
                |places| {
                    let path = format!("{}/etc", places.directory(Whom::Neighbour));
                    Act::File(FileAct::Refer { path })
                },
                &[reached(Whom::Neighbour, "critical")],
            ),
        ],
    }
}

/// A worker of io_uring opens: where no hook sees it, a sweep finds what is kept.
fn by_ring() -> Scenario {
    Scenario {
        id: "files-ring",
        does: "a task has io_uring open a file of a neighbour, and keeps it",
        session: Session::Default,
        containers: vec![watcher(), neighbour()],
        steps: vec![
            does(
                "neighbour",
                |places| {
                    let path = format!("{}/bin/busybox", places.directory(Whom::Neighbour));
                    Act::File(FileAct::ByRing { path })
                },
                &[
                    reached(Whom::Neighbour, "high"),
                    looked_into(Whom::Neighbour),
                ],
            ),
            does(
                "own",
                |_| {
                    let path = "/bin/busybox".to_owned();
                    Act::File(FileAct::ByRing { path })
                },
                &[],
            ),
        ],
    }
}

/// The silent neighbour: what is opened is one's own, whatever the way to it.
fn own() -> Scenario {
    Scenario {
        id: "files-own",
        does: "a task opens its own files, by /proc/PID/root and by handle too, and reads /proc as ps does",
        session: Session::Default,
        containers: vec![Container::plain("a")],
        steps: vec![
            does("path", |_| read("/etc".to_owned()), &[]),
            does(
                "self",
                |_| read("/proc/self/root/bin/busybox".to_owned()),
                &[],
            ),
            does("init", |_| read("/proc/1/root/etc".to_owned()), &[]),
            does(
                "stderr",
                |_| {
                    Act::File(FileAct::Write {
                        path: "/proc/self/fd/2".to_owned(),
                    })
                },
                &[],
            ),
            does(
                "handle",
                |_| {
                    Act::File(FileAct::ByHandle {
                        path: "/bin/busybox".to_owned(),
                    })
                },
                &[],
            ),
            does(
                "ps",
                |_| {
                    Act::File(FileAct::ReadAll {
                        proc: "/proc".to_owned(),
                    })
                },
                &[],
            ),
        ],
    }
}

/// A directory descriptor that the runtime's starter hands on is found at the container's first program.
fn leaked() -> Scenario {
    let below = |_: &dyn Places| {
        Act::File(FileAct::ReadBelow {
            descriptor: 3,
            path: "proc/uptime".to_owned(),
        })
    };
    Scenario {
        id: "files-leaked",
        does: "a container starts with a descriptor of the host's root directory, and opens a file below it",
        session: Session::Default,
        containers: vec![Container {
            leaked: Leaked::Root,
            ..Container::plain("a")
        }],
        steps: vec![
            step(
                "held",
                Deed::Nothing,
                &[],
                &[reached(Whom::Host, "critical")],
            ),
            does("below", below, &[reached(Whom::Host, "high")]),
        ],
    }
}

/// A directory that the host passes over a unix socket: seen at its receipt, or found by a sweep.
fn passed() -> Scenario {
    let receive = |_: &dyn Places| Act::File(FileAct::Receive { socket: 3 });
    Scenario {
        id: "files-passed",
        does: "a task receives a descriptor of the host's root directory over a socket",
        session: Session::Default,
        containers: vec![Container {
            leaked: Leaked::Passed,
            ..Container::plain("a")
        }],
        steps: vec![
            step("socket", Deed::Nothing, &[], &[]),
            does("received", receive, &[reached(Whom::Host, "critical")]),
        ],
    }
}

fn run_by_host() -> Scenario {
    let ran = of_dimension(
        violation("host-runs-container-file", Object::ByHost),
        "references",
        "high",
    );
    Scenario {
        id: "host-runs",
        does: "a task of the host executes a program of a container by /proc/PID/root",
        session: Session::Default,
        containers: vec![Container::plain("a")],
        steps: vec![step("exec", Deed::HostRuns, &[], &[ran])],
    }
}

/// The layer that takes what a container writes lies on a mount of the host's: only its path tells whose it is.
fn run_from_layer() -> Scenario {
    let ran = of_dimension(
        violation("host-runs-container-file", Object::ByHost),
        "references",
        "high",
    );
    let runs = |id: &'static str, place, path, expects: &[Expect]| {
        step(
            id,
            Deed::HostRunsCopy(place, path),
            &[Need::Overlay],
            expects,
        )
    };
    Scenario {
        id: "host-runs-layer",
        does: "a task of the host executes a program out of the layer that a container writes to, and one beside it",
        session: Session::Default,
        containers: vec![Container {
            overlay: true,
            ..Container::plain("a")
        }],
        steps: vec![
            runs("beside", "true", "true", &[]),
            runs("upper", "rootfs/tmp/true", "upper/tmp/true", &[ran]),
        ],
    }
}
