//! What containers mount (T4), and containers that run with less than their spec promises (T14).

use super::process::reached;
use super::{join, object, of_dimension, seen_by, step, violation, watcher};
use crate::act::mount::{DiskWay, MountAct};
use crate::act::{Act, Kind};
use crate::scenario::{
    Container, Deed, Expect, Need, Places, Scenario, Script, Session, Step, Whom,
};

/// All of them.
pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        host(),
        kernel(),
        devices(),
        disks(),
        unmask(),
        propagate(),
        own(),
        spec(),
    ]
}

fn foreign(severity: &'static str) -> Expect {
    let finding = violation("foreign-mount", object(Whom::Host));
    of_dimension(finding, "mounts", severity)
}

fn mount(kind: &str, target: &str, data: &str) -> Act {
    Act::Mount(MountAct::Mount {
        kind: kind.to_owned(),
        target: target.to_owned(),
        data: data.to_owned(),
    })
}

fn mount_by_fd(kind: &str, target: &str) -> Act {
    Act::Mount(MountAct::MountByFd {
        kind: kind.to_owned(),
        target: target.to_owned(),
    })
}

const fn mount_disk(way: DiskWay) -> Act {
    Act::Mount(MountAct::Disk { way })
}

fn bind(source: &str, target: &str) -> Act {
    Act::Mount(MountAct::Bind {
        source: source.to_owned(),
        target: target.to_owned(),
    })
}

fn go(id: &str, act: fn(&dyn Places) -> Act, needs: &[Need], expects: &[Expect]) -> Step {
    step(id, Deed::Do(Script(act)), needs, expects)
}

fn host() -> Scenario {
    let carry = |places: &dyn Places| {
        Act::Mount(MountAct::Carry {
            namespace: format!("/hostproc/{}/ns/mnt", places.pid(Whom::Host)),
            source: "/etc".to_owned(),
            target: "/tmp/etc".to_owned(),
        })
    };
    Scenario {
        id: "mount-host",
        does: "a task carries a directory of the host home, by a detached mount",
        session: Session::Default,
        containers: vec![watcher()],
        steps: vec![go(
            "carry",
            carry,
            &[],
            &[
                join(Kind::Mnt, Whom::Host),
                foreign("critical"),
                seen_by(reached(Whom::Host, "high"), "__ptrace_may_access"),
            ],
        )],
    }
}

fn kernel() -> Scenario {
    Scenario {
        id: "mount-kernel",
        does: "a task mounts proc without its masks, and a version 1 cgroup hierarchy, by old and new calls",
        session: Session::Default,
        containers: vec![Container::plain("a")],
        steps: vec![
            // Of what is mounted before the first look only what the spec does not explain is found.
            go("wait", |_| Act::Mount(MountAct::Wait), &[], &[]),
            go(
                "proc",
                |_| mount("proc", "/tmp/proc", ""),
                &[],
                &[foreign("high")],
            ),
            go(
                "proc-fd",
                |_| mount_by_fd("proc", "/tmp/proc-fd"),
                &[],
                &[foreign("high")],
            ),
            go(
                "cgroup1",
                |_| mount("cgroup", "/tmp/cgroup", "pids"),
                &[Need::Pids],
                &[foreign("high")],
            ),
        ],
    }
}

fn devices() -> Scenario {
    Scenario {
        id: "mount-dev",
        does: "a task mounts the machine's own device nodes, by old and new calls, and another file system of which there is one",
        session: Session::Default,
        containers: vec![Container::plain("a")],
        steps: vec![
            go("wait", |_| Act::Mount(MountAct::Wait), &[], &[]),
            go(
                "devtmpfs",
                |_| mount("devtmpfs", "/tmp/dev", ""),
                &[],
                &[foreign("high")],
            ),
            go(
                "devtmpfs-fd",
                |_| mount_by_fd("devtmpfs", "/tmp/dev-fd"),
                &[],
                &[foreign("high")],
            ),
            go(
                "securityfs",
                |_| mount("securityfs", "/tmp/security", ""),
                &[],
                &[foreign("high")],
            ),
        ],
    }
}

/// One container for each way: what one does again would be a repeat.
fn disks() -> Scenario {
    let with_disk = |name| Container {
        share: true,
        disk: true,
        all_devices: true,
        ..Container::plain(name)
    };
    let found = foreign("critical");
    let at_once = seen_by(found, "vfs_get_tree");
    let disk = |who, id, act, expect| Step {
        who,
        ..go(id, act, &[Need::Disk], &[expect])
    };
    Scenario {
        id: "mount-disk",
        does: "tasks mount a disk, by old and new calls; for a moment; and only behind a descriptor",
        session: Session::Default,
        containers: ["a", "b", "c", "d"].map(with_disk).into(),
        steps: vec![
            go("wait", |_| Act::Mount(MountAct::Wait), &[], &[]),
            disk(0, "disk", |_| mount_disk(DiskWay::Call), found),
            disk(1, "disk-fd", |_| mount_disk(DiskWay::Descriptor), found),
            disk(2, "disk-briefly", |_| mount_disk(DiskWay::Briefly), at_once),
            disk(
                3,
                "disk-detached",
                |_| mount_disk(DiskWay::Detached),
                at_once,
            ),
        ],
    }
}

/// A container's copy of a directory of the host's receives what the host mounts there, at most. One that it fetched from
/// the host's mount namespace is one of a group: what the container mounts below appears on the host.
fn propagate() -> Scenario {
    let carry = |places: &dyn Places| {
        Act::Mount(MountAct::Carry {
            namespace: format!("/hostproc/{}/ns/mnt", places.pid(Whom::Host)),
            source: places.shared(),
            target: "/tmp/peer".to_owned(),
        })
    };
    Scenario {
        id: "mount-propagate",
        does: "a task changes how its own volume propagates, then fetches a mount of the same directory that shares with \
               the host's",
        session: Session::Default,
        containers: vec![Container {
            share: true,
            ..watcher()
        }],
        steps: vec![
            go("wait", |_| Act::Mount(MountAct::Wait), &[], &[]),
            go("own-shared", |_| propagate_share(true), &[], &[]),
            go("own-slave", |_| propagate_share(false), &[], &[]),
            go(
                "peer",
                carry,
                &[],
                &[
                    join(Kind::Mnt, Whom::Host),
                    foreign("medium"),
                    seen_by(reached(Whom::Host, "high"), "__ptrace_may_access"),
                ],
            ),
        ],
    }
}

fn propagate_share(shared: bool) -> Act {
    let target = "/share".to_owned();
    Act::Mount(MountAct::Propagate { target, shared })
}

fn unmask() -> Scenario {
    let uncover = |_: &dyn Places| {
        let target = "/proc/sys".to_owned();
        Act::Mount(MountAct::Unmount { target })
    };
    let make_writable = |_: &dyn Places| {
        let target = "/proc/irq".to_owned();
        Act::Mount(MountAct::MakeWritable { target })
    };
    let set_attributes = |_: &dyn Places| {
        let target = "/proc/bus".to_owned();
        Act::Mount(MountAct::ClearReadOnly { target })
    };
    let unmask = |_: &dyn Places| {
        let target = "/proc/timer_list".to_owned();
        Act::Mount(MountAct::Unmount { target })
    };
    Scenario {
        id: "mount-unmask",
        does: "a task takes away what protects proc: a mask, a read-only mount, the read-only flag of one",
        session: Session::Default,
        containers: vec![Container::plain("a")],
        steps: vec![
            // What is uncovered before the first look is told as a mismatch with the spec.
            go("wait", |_| Act::Mount(MountAct::Wait), &[], &[]),
            go("uncover", uncover, &[], &[foreign("high")]),
            go("writable", make_writable, &[], &[foreign("high")]),
            go(
                "writable-attributes",
                set_attributes,
                &[Need::MountSetattr],
                &[foreign("high")],
            ),
            go("unmask", unmask, &[Need::TimerList], &[foreign("high")]),
        ],
    }
}

/// The silent neighbour of all of these: what a container may mount from what it has.
fn own() -> Scenario {
    let private = |_: &dyn Places| {
        let target = "/tmp/private".to_owned();
        Act::Mount(MountAct::Private { target })
    };
    let nested = of_dimension(violation("namespace-nest", object(Whom::Own)), "mnt", "low");
    Scenario {
        id: "mount-own",
        does: "a task mounts what is its own: a tmpfs, its own directories, a tmpfs in a fresh mount namespace",
        session: Session::Default,
        containers: vec![Container::plain("a")],
        steps: vec![
            go("tmpfs", |_| mount("tmpfs", "/tmp/tmpfs", ""), &[], &[]),
            go("tmpfs-fd", |_| mount_by_fd("tmpfs", "/tmp/fd"), &[], &[]),
            go("bind", |_| bind("/bin", "/tmp/bin"), &[], &[]),
            go("volume", |_| bind("/dev/shm", "/tmp/shm"), &[], &[]),
            go("private", private, &[], &[nested]),
        ],
    }
}

fn spec() -> Scenario {
    let finds = |severity| {
        of_dimension(
            violation("setup-mismatch", object(Whom::Host)),
            "setup",
            severity,
        )
    };
    Scenario {
        id: "mount-spec",
        does: "a container whose config.json promises more than the runtime was told: a mask, a read-only path, a \
               mount, seccomp, no_new_privs, fewer capabilities, no device",
        session: Session::Default,
        containers: vec![Container {
            promises: true,
            ..Container::plain("a")
        }],
        steps: vec![step(
            "promises",
            Deed::Nothing,
            &[],
            &[
                finds("high"),
                finds("high"),
                finds("high"),
                finds("high"),
                finds("medium"),
                finds("medium"),
                finds("medium"),
            ],
        )],
    }
}
