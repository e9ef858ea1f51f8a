//! What containers do to others' processes (T9).

use super::{host_pid, neighbour, object, of_dimension, seen_by, step, violation, watcher};
use crate::act::Act;
use crate::act::file::FileAct;
use crate::act::process::{ProcessAct, Reach};
use crate::scenario::{
    Container, Deed, Expect, LineKind, Places, Requires, Scenario, Script, Session, Step, Whom,
};

/// All of them.
pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        signal(),
        reach(),
        early(),
        refused(),
        proc_files(),
        listing(),
    ]
}

fn signal() -> Scenario {
    // A signal that does nothing to who does not ask for it.
    const fn harmless(pid: i32) -> Act {
        let signal = libc::SIGURG;
        Act::Process(ProcessAct::Signal { pid, signal })
    }
    let to_host = |places: &dyn Places| harmless(places.pid(Whom::Host));
    let to_neighbour = |places: &dyn Places| harmless(places.pid(Whom::Neighbour));
    let expects = |whom| {
        let expect = violation("process-control", object(whom));
        [seen_by(expect, "signal_generate")]
    };
    let own = |_: &dyn Places| {
        let signal = libc::SIGURG;
        Act::Process(ProcessAct::SignalParent { signal })
    };
    Scenario {
        id: "signal",
        does: "a task in the host's pid namespace signals processes of others, and its own parent",
        session: Session::Default,
        containers: vec![host_pid(), neighbour()],
        steps: vec![
            step("host", Deed::Do(Script(to_host)), &[], &expects(Whom::Host)),
            step(
                "neighbour",
                Deed::Do(Script(to_neighbour)),
                &[],
                &expects(Whom::Neighbour),
            ),
            step("own", Deed::Do(Script(own)), &[], &[]),
        ],
    }
}

/// A finding of the rule, of this severity.
pub(super) fn reached(whom: Whom, severity: &'static str) -> Expect {
    of_dimension(
        violation("process-control", object(whom)),
        "processes",
        severity,
    )
}

/// Every way into a sleeping process of the host and into the neighbour's first one, and into a child of its own.
fn reach() -> Scenario {
    macro_rules! ways {
        ($($id:literal, $how:ident, $severity:literal;)+) => {
            vec![$(
                step(
                    concat!($id, "-host"),
                    Deed::Do(Script(|places: &dyn Places| {
                        into(Reach::$how, places.sleeper())
                    })),
                    &[],
                    &[reached(Whom::Host, $severity)],
                ),
                step(
                    concat!($id, "-neighbour"),
                    Deed::Do(Script(|places: &dyn Places| {
                        into(Reach::$how, places.pid(Whom::Neighbour))
                    })),
                    &[],
                    &[reached(Whom::Neighbour, $severity)],
                ),
                step(
                    concat!($id, "-own"),
                    Deed::Do(Script(|_: &dyn Places| {
                        Act::Process(ProcessAct::ReachChild { how: Reach::$how })
                    })),
                    &[],
                    &[],
                ),
            )+]
        };
    }
    let steps: Vec<Step> = ways![
        "memory", Memory, "critical";
        "descriptor", Descriptor, "critical";
        "compare", Compare, "high";
        "limits", Limits, "high";
        "scheduling", Scheduling, "high";
        "priority", Nice, "high";
        "io-priority", InputOutput, "high";
        "trace", Trace, "critical";
    ];
    Scenario {
        id: "reach",
        does: "a task in the host's pid namespace reaches into processes of others, and into its own child",
        session: Session::Default,
        containers: vec![host_pid(), neighbour()],
        steps,
    }
}

const fn into(how: Reach, pid: i32) -> Act {
    Act::Process(ProcessAct::Reach { how, pid })
}

/// A runtime writes down only after its container runs that it is one. Who shares the host's pid namespace is known by
/// that alone.
fn early() -> Scenario {
    Scenario {
        id: "early",
        does: "a task in the host's pid namespace reaches into a process of the host as soon as it runs",
        session: Session::Default,
        containers: vec![host_pid()],
        steps: vec![step(
            "host",
            Deed::Do(Script(|places: &dyn Places| {
                into(Reach::Trace, places.sleeper())
            })),
            &[],
            &[reached(Whom::Host, "critical")],
        )],
    }
}

/// What the kernel refuses is written down, and is no violation.
fn refused() -> Scenario {
    let attempt = |whom| Expect {
        kind: LineKind::Audit,
        ..reached(whom, "medium")
    };
    let to_host = |places: &dyn Places| {
        let pid = places.sleeper();
        Act::Process(ProcessAct::Refused {
            how: Reach::Trace,
            pid,
        })
    };
    let to_neighbour = |places: &dyn Places| {
        let pid = places.pid(Whom::Neighbour);
        Act::Process(ProcessAct::Refused {
            how: Reach::Memory,
            pid,
        })
    };
    Scenario {
        id: "reach-refused",
        does: "an ordinary user in the host's pid namespace tries to trace and to read processes of others",
        session: Session::Default,
        containers: vec![host_pid(), neighbour()],
        steps: vec![
            step(
                "host",
                Deed::Do(Script(to_host)),
                &[],
                &[attempt(Whom::Host)],
            ),
            step(
                "neighbour",
                Deed::Do(Script(to_neighbour)),
                &[],
                &[attempt(Whom::Neighbour)],
            ),
        ],
    }
}

/// Files of /proc by which others' processes are read. One kind each: what reads one process in one way is told once.
fn proc_files() -> Scenario {
    let of_host = |places: &dyn Places| open("/hostproc", places.sleeper(), "environ");
    let of_neighbour = |places: &dyn Places| open("/hostproc", places.pid(Whom::Neighbour), "mem");
    let to_write = |places: &dyn Places| {
        let path = format!("/hostproc/{}/mem", places.sleeper());
        Act::File(FileAct::Write { path })
    };
    let own = |_: &dyn Places| open("/proc", 1, "mem");
    let seen = |expect| Expect {
        requires: Requires::AnyOf(&["__ptrace_may_access", "sys_exit_open"]),
        ..expect
    };
    Scenario {
        id: "proc-files",
        does: "a container with the host's /proc opens files of others' processes there",
        session: Session::Default,
        containers: vec![watcher(), neighbour()],
        steps: vec![
            step(
                "environ-host",
                Deed::Do(Script(of_host)),
                &[],
                &[seen(reached(Whom::Host, "high"))],
            ),
            // What is open for reading is told as the same access as what is open for writing.
            step(
                "mem-host",
                Deed::Do(Script(to_write)),
                &[],
                &[seen(reached(Whom::Host, "critical"))],
            ),
            step(
                "mem-neighbour",
                Deed::Do(Script(of_neighbour)),
                &[],
                &[seen(reached(Whom::Neighbour, "critical"))],
            ),
            step("mem-own", Deed::Do(Script(own)), &[], &[]),
        ],
    }
}

fn open(proc: &str, pid: i32, file: &str) -> Act {
    let path = format!("{proc}/{pid}/{file}");
    Act::Process(ProcessAct::Open { path })
}

fn listing() -> Scenario {
    let list = |_: &dyn Places| Act::Process(ProcessAct::ListAll);
    Scenario {
        id: "list-processes",
        does: "a container reads all that its own /proc says of processes",
        session: Session::Default,
        containers: vec![Container::plain("a"), neighbour()],
        steps: vec![step("all", Deed::Do(Script(list)), &[], &[])],
    }
}
