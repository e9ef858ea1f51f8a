//! Acts by the 32-bit table of system calls, which the tracepoints of single calls are silent about. Each must come out as
//! the native one does, whatever the tier.

use super::process::reached;
use super::socket::control;
use super::{neighbour, object, of_dimension, seen_by, step, violation};
use crate::act::Act;
use crate::act::compat::By;
use crate::act::kernel::KernelAct;
use crate::act::process::{ProcessAct, Reach};
use crate::act::socket::SocketAct;
use crate::scenario::{
    Container, Deed, Expect, Need, Places, Scenario, Script, Session, Step, Whom,
};

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![calls()]
}

fn go(id: &str, act: fn(&dyn Places) -> Act, expects: &[Expect]) -> Step {
    step(id, Deed::Do(Script(act)), &[Need::Calls32], expects)
}

fn of_host(rule: &'static str, dimension: &'static str, severity: &'static str) -> Expect {
    of_dimension(violation(rule, object(Whom::Host)), dimension, severity)
}

fn open(path: &str) -> Act {
    let path = path.to_owned();
    Act::Kernel(KernelAct::OpenToWrite32 { path })
}

fn node(path: &str, mode: u32, major: u32, minor: u32) -> Act {
    Act::Kernel(KernelAct::Mknod32 {
        path: path.to_owned(),
        mode,
        major,
        minor,
    })
}

const fn into(how: Reach, pid: i32) -> Act {
    Act::Process(ProcessAct::Reach { how, pid })
}

const fn into_child(how: Reach) -> Act {
    Act::Process(ProcessAct::ReachChild { how })
}

fn connect(name: &str, by: By) -> Act {
    let name = name.to_owned();
    Act::Socket(SocketAct::Connect32 { name, by })
}

fn connect_to_self(name: &str, by: By) -> Act {
    let name = name.to_owned();
    Act::Socket(SocketAct::ConnectToSelf32 { name, by })
}

fn calls() -> Scenario {
    let container = Container {
        host_pid: true,
        host_proc: true,
        share: true,
        ..Container::plain("a")
    };
    // The way there leads through a process's file.
    let directory = [
        violation("foreign-cwd", object(Whom::Host)),
        seen_by(reached(Whom::Host, "high"), "__ptrace_may_access"),
    ];
    Scenario {
        id: "compat",
        does: "a task opens, traces, limits, connects, makes a device node and changes directory by the 32-bit table",
        session: Session::Default,
        containers: vec![container, neighbour()],
        steps: vec![
            go(
                "knob",
                |_| open("/hostproc/sys/kernel/core_pattern"),
                &[of_host("kernel-knob", "kernel", "critical")],
            ),
            go("knob-own", |_| open("/proc/self/oom_score_adj"), &[]),
            go(
                "trace",
                |places| into(Reach::Trace32, places.sleeper()),
                &[reached(Whom::Host, "critical")],
            ),
            go("trace-own", |_| into_child(Reach::Trace32), &[]),
            go(
                "limits",
                |places| into(Reach::Limits32, places.sleeper()),
                &[reached(Whom::Host, "high")],
            ),
            go("limits-own", |_| into_child(Reach::Limits32), &[]),
            go(
                "connect",
                |_| connect("/share/control.sock", By::Themselves),
                &[control()],
            ),
            go(
                "connect-own",
                |_| connect_to_self("/share/own.sock", By::Themselves),
                &[],
            ),
            go(
                "socketcall",
                |_| connect("/share/docker.sock", By::Socketcall),
                &[control()],
            ),
            go(
                "socketcall-own",
                |_| connect_to_self("/share/other.sock", By::Socketcall),
                &[],
            ),
            go(
                "node",
                |_| node("/dev/disk", libc::S_IFBLK, 8, 0),
                &[of_host("device-access", "devices", "high")],
            ),
            go(
                "node-plain",
                |_| node("/dev/nothing", libc::S_IFCHR, 1, 3),
                &[],
            ),
            go(
                "directory",
                |places| Act::Chdir32 {
                    path: places.directory(Whom::Host),
                },
                &directory,
            ),
            go(
                "directory-own",
                |places| Act::Chdir32 {
                    path: places.directory(Whom::Own),
                },
                &[],
            ),
        ],
    }
}
