//! What containers do to the kernel (T5, T10, T12) and to devices (T11).

use super::{object, of_dimension, seen_by, step, violation, watcher};
use crate::act::Act;
use crate::act::kernel::{Call, KernelAct};
use crate::scenario::{
    Container, Deed, Expect, LineKind, Need, Object, Places, Requires, Scenario, Script, Session,
    Step, Whom,
};

/// All of them.
pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        code(),
        refused(),
        knobs(),
        devices(),
        steps_before(),
        splices(),
    ]
}

fn go(id: &str, act: fn(&dyn Places) -> Act, expects: &[Expect]) -> Step {
    step(id, Deed::Do(Script(act)), &[], expects)
}

fn of_host(rule: &'static str, dimension: &'static str, severity: &'static str) -> Expect {
    of_dimension(violation(rule, object(Whom::Host)), dimension, severity)
}

fn code() -> Scenario {
    let used = |severity| of_host("kernel-code", "kernel", severity);
    let userfaultfd = Expect {
        requires: Requires::Hook("sys_exit_kernel"),
        ..used("low")
    };
    Scenario {
        id: "kernel-code",
        does: "a privileged task makes a BPF map, a perf event and a userfaultfd",
        session: Session::Default,
        containers: vec![Container::plain("a")],
        steps: vec![
            Step {
                needs: vec![Need::UnlimitedMaps],
                ..go("bpf", |_| Act::Kernel(KernelAct::BpfMap), &[used("high")])
            },
            go("perf", |_| Act::Kernel(KernelAct::Perf), &[used("medium")]),
            go(
                "userfaultfd",
                |_| Act::Kernel(KernelAct::Userfaultfd),
                &[userfaultfd],
            ),
        ],
    }
}

/// What the kernel refuses is written down, where it is seen, and is no violation.
fn refused() -> Scenario {
    let told = Expect {
        kind: LineKind::Audit,
        ..of_host("kernel-code", "kernel", "low")
    };
    // In the trampoline tier these are asked for only after the privilege.
    let by_result = seen_by(told, "sys_exit_kernel");
    let tries = |id, act, need, expect| Step {
        needs: vec![need],
        ..go(id, act, &[expect])
    };
    Scenario {
        id: "kernel-code-refused",
        does: "a task without privileges asks for a BPF map, a perf event, a module and another kernel",
        session: Session::Default,
        containers: vec![Container {
            ordinary_user: true,
            ..Container::plain("a")
        }],
        steps: vec![
            tries("perf", |_| without(Call::Perf), Need::PerfIsAsked, told),
            tries("bpf", |_| without(Call::Bpf), Need::BpfIsAsked, told),
            tries(
                "module",
                |_| without(Call::Module),
                Need::Modules,
                by_result,
            ),
            tries("kexec", |_| without(Call::Kexec), Need::Kexec, by_result),
        ],
    }
}

fn without(call: Call) -> Act {
    Act::Kernel(KernelAct::Refused { call })
}

fn open(path: &str) -> Act {
    let path = path.to_owned();
    Act::Kernel(KernelAct::OpenToWrite { path })
}

fn write_back(path: &str) -> Act {
    let path = path.to_owned();
    Act::Kernel(KernelAct::WriteBack { path })
}

fn knobs() -> Scenario {
    let knob = |severity| of_host("kernel-knob", "kernel", severity);
    Scenario {
        id: "kernel-knob",
        does: "a task opens settings of the machine for writing, and its own",
        session: Session::Default,
        containers: vec![watcher()],
        steps: vec![
            go(
                "core-pattern",
                |_| open("/hostproc/sys/kernel/core_pattern"),
                &[knob("critical")],
            ),
            go(
                "printk",
                |_| open("/hostproc/sys/kernel/printk"),
                &[knob("high")],
            ),
            go(
                "value",
                |_| write_back("/hostproc/sys/vm/overcommit_memory"),
                // The open, then the write with the value: every kernel lets it be seen.
                &[knob("high"), knob("high")],
            ),
            go("own", |_| write_back("/proc/self/oom_score_adj"), &[]),
            go(
                "own-network",
                |_| write_back("/hostproc/sys/net/ipv4/ip_forward"),
                &[],
            ),
        ],
    }
}

fn node(path: &str, mode: u32, major: u32, minor: u32) -> Act {
    Act::Kernel(KernelAct::Mknod {
        path: path.to_owned(),
        mode: mode | 0o600,
        major,
        minor,
    })
}

fn devices() -> Scenario {
    let device = |severity| of_host("device-access", "devices", severity);
    Scenario {
        id: "device",
        does: "a task whose cgroup allows every device makes nodes for some and opens one",
        session: Session::Default,
        containers: vec![Container {
            all_devices: true,
            ..Container::plain("a")
        }],
        steps: vec![
            go(
                "make-disk",
                |_| node("/dev/disk", libc::S_IFBLK, 8, 0),
                &[device("high")],
            ),
            // What the kernel logs.
            go(
                "make-kmsg",
                |_| node("/dev/kernel-log", libc::S_IFCHR, 1, 11),
                &[device("medium")],
            ),
            go(
                "open-kmsg",
                |_| open("/dev/kernel-log"),
                &[device("medium")],
            ),
            go(
                "make-null",
                |_| node("/dev/nothing", libc::S_IFCHR, 1, 3),
                &[],
            ),
            go("make-fifo", |_| node("/dev/fifo", libc::S_IFIFO, 0, 0), &[]),
            go("open-null", |_| open("/dev/null"), &[]),
        ],
    }
}

/// The line of a step before.
fn step_before() -> Expect {
    Expect {
        kind: LineKind::Audit,
        ..of_host("page-cache-prestep", "kernel", "low")
    }
}

fn steps_before() -> Scenario {
    let told = step_before();
    let nested =
        |dimension| of_dimension(violation("namespace-nest", Object::Any), dimension, "low");
    let ipsec = |_: &dyn Places| {
        Act::Kernel(KernelAct::Socket {
            family: libc::AF_NETLINK,
            kind: libc::SOCK_RAW,
            protocol: libc::NETLINK_XFRM,
        })
    };
    let plain = |_: &dyn Places| {
        Act::Kernel(KernelAct::Socket {
            family: libc::AF_INET,
            kind: libc::SOCK_STREAM,
            protocol: 0,
        })
    };
    Scenario {
        id: "prestep",
        does: "a task makes what attacks on kernel memory begin with, and an ordinary socket",
        session: Session::Default,
        containers: vec![Container::plain("a")],
        steps: vec![
            go("ipsec", ipsec, &[told]),
            go(
                "namespaces",
                |_| Act::Kernel(KernelAct::UnshareUserAndNet),
                &[told, nested("user"), nested("net")],
            ),
            go("socket", plain, &[]),
        ],
    }
}

fn splices() -> Scenario {
    const FILE: &str = "/bin/busybox";
    let crypto = |_: &dyn Places| {
        let path = FILE.to_owned();
        Act::Kernel(KernelAct::SpliceToCrypto { path })
    };
    let unix = |_: &dyn Places| {
        let path = FILE.to_owned();
        Act::Kernel(KernelAct::SpliceToUnix { path })
    };
    let send = |_: &dyn Places| {
        let path = FILE.to_owned();
        Act::Kernel(KernelAct::SendToCrypto { path })
    };
    let send_to_unix = |_: &dyn Places| {
        let path = FILE.to_owned();
        Act::Kernel(KernelAct::SendToUnix { path })
    };
    let told = step_before();
    // The socket, and what goes into it.
    let into_crypto = |who, id, act| Step {
        needs: vec![Need::CryptoSockets],
        who,
        ..go(id, act, &[told, told])
    };
    Scenario {
        id: "splice",
        does: "tasks splice and send a file into a unix socket, then into a socket of the kernel's crypto",
        session: Session::Default,
        containers: vec![Container::plain("a"), Container::plain("b")],
        steps: vec![
            go("own", unix, &[]),
            into_crypto(0, "crypto", crypto),
            Step {
                who: 1,
                ..go("own-sendfile", send_to_unix, &[])
            },
            into_crypto(1, "crypto-sendfile", send),
        ],
    }
}
