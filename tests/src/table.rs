//! The scenarios themselves, as data.
//!
//! Not here because no ordinary task can do it: joining the host's *user* namespace (a task has no capability in an
//! ancestor) and the host's *pid* namespace (only descendants can be joined). Both exist for a neighbour.

mod chain;
mod compat;
mod escalation;
mod file;
mod handle;
mod kernel;
mod mount;
mod noise;
mod process;
mod socket;
mod standing;

use crate::act::Kind;
use crate::scenario::{
    Because, Container, Deed, Expect, Hierarchy, LineKind, Need, Net, Object, Requires, Scenario,
    Session, Step, Tamper, Whom,
};

/// Kinds that a container can join on the host. (The host's time namespace is every container's own.)
const HOST_KINDS: [Kind; 5] = [Kind::Mnt, Kind::Net, Kind::Uts, Kind::Ipc, Kind::Cgroup];

/// Every scenario, in the order in which they run.
#[must_use]
pub fn scenarios() -> Vec<Scenario> {
    let mut all = vec![
        join_by_fd("join-host", Whom::Host),
        join_by_fd("join-neighbour", Whom::Neighbour),
        join_by_pidfd("join-host-pidfd", Whom::Host),
        join_by_pidfd("join-neighbour-pidfd", Whom::Neighbour),
        join_user(),
        join_time(),
        join_many("join-many-host", Whom::Host),
        join_many("join-many-neighbour", Whom::Neighbour),
        rejoin(),
        cgroup(),
        cgroup_into(),
        foreign_directories(),
        foreign_directories_by_fd(),
    ];
    all.extend(
        [Session::Default, Session::Declared]
            .into_iter()
            .flat_map(|session| {
                [
                    nest(session, "unshare", Deed::Unshare),
                    nest(session, "clone", Deed::Clone),
                    gain(session),
                ]
            }),
    );
    all.push(excess());
    all.extend(standing::scenarios());
    all.extend(escalation::scenarios());
    all.extend(kernel::scenarios());
    all.extend(compat::scenarios());
    all.extend(process::scenarios());
    all.extend(file::scenarios());
    all.extend(socket::scenarios());
    all.extend(handle::scenarios());
    all.extend(chain::scenarios());
    all.extend(mount::scenarios());
    all.extend(noise::scenarios());
    all.extend([
        shared("shared-net", Net::Inherited),
        shared("declared-net", Net::Declared),
        shared_cgroup(),
        tampered_privileges(),
        tampered_namespaces(),
        tampered_host_name(),
        tampered_directories(),
    ]);
    all.iter_mut().for_each(expect_reads);
    let again: Vec<Scenario> = all.iter().filter_map(by_tracepoints).collect();
    all.extend(again);
    all
}

/// What other hooks see where the kernel refuses trampolines: an act for each of those, and the races that hooks at the ends
/// of calls could lose.
const BY_TRACEPOINTS: [&str; 18] = [
    "join-host",
    "directories",
    "nest-unshare",
    "gain",
    "kernel-code",
    "kernel-knob",
    "device",
    "prestep",
    "splice",
    "compat",
    "reach",
    "reach-refused",
    "files",
    "files-ring",
    "sockets",
    "sockets-ring",
    "mount-host",
    "noise",
];

/// The same as where the kernel refuses trampolines.
fn by_tracepoints(scenario: &Scenario) -> Option<Scenario> {
    let also = scenario.session == Session::Default && BY_TRACEPOINTS.contains(&scenario.id);
    also.then(|| Scenario {
        session: Session::Tracepoint,
        ..scenario.clone()
    })
}

/// Whoever goes through another's files in /proc, or by its pidfd, reads that process. It is told once of each process,
/// where the hook for it works.
fn expect_reads(scenario: &mut Scenario) {
    let mut read = Vec::new();
    for step in &mut scenario.steps {
        let whom = match step.deed {
            Deed::JoinByFd(_, whom)
            | Deed::JoinByPidfd(_, whom)
            | Deed::JoinBySetuid(_, whom)
            | Deed::Chroot(whom)
            | Deed::ChrootByFd(whom)
            | Deed::Chdir(whom) => whom,
            _ => continue,
        };
        if whom != Whom::Own && !read.contains(&(step.who, whom)) {
            read.push((step.who, whom));
            let finding = process::reached(whom, "high");
            step.expects.push(seen_by(finding, "__ptrace_may_access"));
        }
    }
}

const fn violation(rule: &'static str, object: Object) -> Expect {
    Expect {
        kind: LineKind::Violation,
        rule,
        dimension: None,
        severity: None,
        object,
        because: Because::Any,
        requires: Requires::Nothing,
    }
}

/// The same, where this hook works.
const fn seen_by(expect: Expect, hook: &'static str) -> Expect {
    Expect {
        requires: Requires::Hook(hook),
        ..expect
    }
}

const fn of_dimension(expect: Expect, dimension: &'static str, severity: &'static str) -> Expect {
    Expect {
        dimension: Some(dimension),
        severity: Some(severity),
        ..expect
    }
}

const fn object(whom: Whom) -> Object {
    match whom {
        Whom::Host => Object::Host,
        Whom::Neighbour => Object::Neighbour,
        Whom::Own => Object::Any,
    }
}

pub(crate) fn join(kind: Kind, whom: Whom) -> Expect {
    of_dimension(
        violation("namespace-join", object(whom)),
        kind.dimension(),
        "critical",
    )
}

fn needs_of(kind: Kind) -> Vec<Need> {
    match kind {
        Kind::Time => vec![Need::TimeNamespace],
        _ => Vec::new(),
    }
}

/// What it takes so that somebody else's namespace of this kind is another one.
fn needs_to_join(kind: Kind) -> Vec<Need> {
    match kind {
        Kind::Cgroup => vec![Need::CgroupNamespace],
        _ => needs_of(kind),
    }
}

fn step(id: impl Into<String>, deed: Deed, needs: &[Need], expects: &[Expect]) -> Step {
    Step {
        id: id.into(),
        who: 0,
        deed,
        needs: needs.to_vec(),
        expects: expects.to_vec(),
    }
}

fn watcher() -> Container {
    Container {
        host_proc: true,
        ..Container::plain("a")
    }
}

fn host_pid() -> Container {
    Container {
        host_pid: true,
        ..Container::plain("a")
    }
}

fn neighbour() -> Container {
    Container::plain("b")
}

fn join_by_fd(id: &'static str, whom: Whom) -> Scenario {
    let join_one = |kind: Kind| {
        step(
            kind.name(),
            Deed::JoinByFd(kind, whom),
            &needs_to_join(kind),
            &[join(kind, whom)],
        )
    };
    Scenario {
        id,
        does: "a task opens /hostproc/PID/ns/KIND of somebody else and joins it",
        session: Session::Default,
        containers: vec![watcher(), neighbour()],
        steps: HOST_KINDS.into_iter().map(join_one).collect(),
    }
}

fn join_by_pidfd(id: &'static str, whom: Whom) -> Scenario {
    let join_one = |(kind, kinds): (Kind, &'static [Kind])| {
        let mut expects = vec![join(kind, whom)];
        if kind == Kind::Pid {
            // The task chooses where its children will live; the first one born there is inside.
            expects.push(of_dimension(
                violation("namespace-join", object(whom)),
                "pid_for_children",
                "critical",
            ));
        }
        step(
            kind.name(),
            Deed::JoinByPidfd(kinds, whom),
            &needs_to_join(kind),
            &expects,
        )
    };
    let mut kinds: Vec<(Kind, &'static [Kind])> = vec![
        (Kind::Mnt, &[Kind::Mnt]),
        (Kind::Net, &[Kind::Net]),
        (Kind::Uts, &[Kind::Uts]),
        (Kind::Ipc, &[Kind::Ipc]),
        (Kind::Cgroup, &[Kind::Cgroup]),
    ];
    if whom == Whom::Neighbour {
        kinds.push((Kind::Pid, &[Kind::Pid]));
    }
    Scenario {
        id,
        does: "a task in the host's pid namespace opens somebody's pidfd and joins one namespace",
        session: Session::Default,
        containers: vec![host_pid(), neighbour()],
        steps: kinds.into_iter().map(join_one).collect(),
    }
}

fn join_user() -> Scenario {
    Scenario {
        id: "join-user",
        does: "a task joins the user namespace of a neighbour that has one",
        session: Session::Default,
        containers: vec![
            watcher(),
            Container {
                user_namespace: true,
                ..neighbour()
            },
        ],
        steps: vec![step(
            "fd",
            Deed::JoinByFd(Kind::User, Whom::Neighbour),
            &[],
            &[join(Kind::User, Whom::Neighbour)],
        )],
    }
}

fn join_time() -> Scenario {
    let nested = of_dimension(violation("namespace-nest", Object::Any), "time", "low");
    Scenario {
        id: "join-time",
        does: "a neighbour makes a time namespace, and a task joins it",
        session: Session::Default,
        containers: vec![watcher(), neighbour()],
        steps: vec![
            Step {
                who: 1,
                ..step(
                    "nest",
                    Deed::Unshare(Kind::Time),
                    &[Need::TimeNamespace],
                    &[nested],
                )
            },
            step(
                "fd",
                Deed::JoinByFd(Kind::Time, Whom::Neighbour),
                &[Need::TimeNamespace],
                &[join(Kind::Time, Whom::Neighbour)],
            ),
        ],
    }
}

fn join_many(id: &'static str, whom: Whom) -> Scenario {
    const KINDS: &[Kind] = &[Kind::Net, Kind::Uts, Kind::Ipc];
    let expects: Vec<Expect> = KINDS.iter().map(|kind| join(*kind, whom)).collect();
    Scenario {
        id,
        does: "one setns with several flags: one finding per dimension",
        session: Session::Default,
        containers: vec![host_pid(), neighbour()],
        steps: vec![step("pidfd", Deed::JoinByPidfd(KINDS, whom), &[], &expects)],
    }
}

/// The silent neighbour of every join: what is joined is one's own.
fn rejoin() -> Scenario {
    const KINDS: &[Kind] = &[Kind::Net, Kind::Uts, Kind::Ipc, Kind::Cgroup];
    let by_fd = |kind: Kind| {
        step(
            kind.name(),
            Deed::JoinByFd(kind, Whom::Own),
            &needs_of(kind),
            &[],
        )
    };
    let kinds = [
        Kind::Mnt,
        Kind::Net,
        Kind::Pid,
        Kind::Uts,
        Kind::Ipc,
        Kind::Cgroup,
        Kind::Time,
    ];
    let mut steps: Vec<Step> = kinds.into_iter().map(by_fd).collect();
    steps.push(step("pidfd", Deed::JoinByPidfd(KINDS, Whom::Own), &[], &[]));
    Scenario {
        id: "join-own",
        does: "a task joins the namespaces that it is in",
        session: Session::Default,
        containers: vec![Container::plain("a")],
        steps,
    }
}

fn nest(session: Session, verb: &'static str, deed: fn(Kind) -> Deed) -> Scenario {
    let nest_one = |kind: Kind| {
        let finding = of_dimension(
            violation("namespace-nest", Object::Any),
            kind.dimension(),
            "low",
        );
        let gained = violation("privilege-gain", Object::Any);
        // The creator of a user namespace has every capability in it.
        let expects = match (session, kind) {
            (Session::Default | Session::Unborn | Session::Tracepoint, _) => vec![finding],
            (Session::Declared, Kind::User) => vec![gained],
            (Session::Declared, _) => Vec::new(),
        };
        step(kind.name(), deed(kind), &needs_of(kind), &expects)
    };
    let id = match (session, verb) {
        (Session::Default | Session::Unborn | Session::Tracepoint, "unshare") => "nest-unshare",
        (Session::Default | Session::Unborn | Session::Tracepoint, _) => "nest-clone",
        (Session::Declared, "unshare") => "nest-unshare-declared",
        (Session::Declared, _) => "nest-clone-declared",
    };
    Scenario {
        id,
        does: "a task makes a fresh namespace of each kind",
        session,
        containers: vec![Container::plain("a")],
        steps: Kind::ALL.into_iter().map(nest_one).collect(),
    }
}

fn cgroup() -> Scenario {
    const UNIFIED: &[Need] = &[Need::Unified];
    const PIDS: &[Need] = &[Need::Pids];
    let moved = |whom| {
        let severity = if whom == Whom::Host {
            "high"
        } else {
            "critical"
        };
        [of_dimension(
            violation("cgroup-migration", object(whom)),
            "cgroup",
            severity,
        )]
    };
    let go = |id, hierarchy, whom, needs| {
        step(id, Deed::MoveCgroup(hierarchy, whom), needs, &moved(whom))
    };
    let opens = |id, hierarchy, whom, setting, needs| {
        let opened = of_dimension(
            violation("kernel-knob", Object::Neighbour),
            "cgroup",
            "high",
        );
        let expects: &[Expect] = match whom {
            Whom::Own => &[],
            _ => &[opened],
        };
        step(
            id,
            Deed::OpenCgroup(hierarchy, whom, setting),
            needs,
            expects,
        )
    };
    Scenario {
        id: "cgroup",
        does: "a task with a writable cgroupfs leaves its subtree, moves within it, and opens settings of its neighbour's and of its own",
        session: Session::Default,
        containers: vec![
            Container {
                host_cgroup: true,
                ..Container::plain("a")
            },
            neighbour(),
        ],
        steps: vec![
            go("out", Hierarchy::Unified, Whom::Host, UNIFIED),
            go("neighbour", Hierarchy::Unified, Whom::Neighbour, UNIFIED),
            go("out-v1", Hierarchy::Pids, Whom::Host, PIDS),
            go("neighbour-v1", Hierarchy::Pids, Whom::Neighbour, PIDS),
            step(
                "own",
                Deed::MoveCgroup(Hierarchy::Unified, Whom::Own),
                UNIFIED,
                &[],
            ),
            step(
                "own-v1",
                Deed::MoveCgroup(Hierarchy::Pids, Whom::Own),
                PIDS,
                &[],
            ),
            opens(
                "setting",
                Hierarchy::Unified,
                Whom::Neighbour,
                "cgroup.freeze",
                UNIFIED,
            ),
            opens(
                "setting-own",
                Hierarchy::Unified,
                Whom::Own,
                "cgroup.freeze",
                UNIFIED,
            ),
            opens(
                "setting-v1",
                Hierarchy::Pids,
                Whom::Neighbour,
                "pids.max",
                PIDS,
            ),
            opens(
                "setting-own-v1",
                Hierarchy::Pids,
                Whom::Own,
                "pids.max",
                PIDS,
            ),
        ],
    }
}

/// Apart from [`cgroup`]: there the same destination would be a repeat, and repeats are folded.
fn cgroup_into() -> Scenario {
    let moved = of_dimension(
        violation("cgroup-migration", Object::Neighbour),
        "cgroup",
        "critical",
    );
    Scenario {
        id: "cgroup-into",
        does: "a task has a child born in a neighbour's cgroup",
        session: Session::Default,
        containers: vec![
            Container {
                host_cgroup: true,
                ..Container::plain("a")
            },
            neighbour(),
        ],
        steps: vec![step(
            "clone3",
            Deed::CloneIntoCgroup(Whom::Neighbour),
            &[Need::Unified],
            &[moved],
        )],
    }
}

fn foreign_directories() -> Scenario {
    let root = |whom| violation("foreign-root", object(whom));
    let cwd = |whom| violation("foreign-cwd", object(whom));
    Scenario {
        id: "directories",
        does: "a task takes a directory of another mount namespace as its root or working directory",
        session: Session::Default,
        containers: vec![watcher(), neighbour()],
        steps: vec![
            step("cwd-host", Deed::Chdir(Whom::Host), &[], &[cwd(Whom::Host)]),
            step(
                "cwd-neighbour",
                Deed::Chdir(Whom::Neighbour),
                &[],
                &[cwd(Whom::Neighbour)],
            ),
            step(
                "root-host",
                Deed::Chroot(Whom::Host),
                &[],
                &[root(Whom::Host)],
            ),
            step("cwd-own", Deed::Chdir(Whom::Own), &[], &[]),
            step("root-own", Deed::Chroot(Whom::Own), &[], &[]),
        ],
    }
}

/// Apart from [`foreign_directories`], where the working directory would be a repeat.
fn foreign_directories_by_fd() -> Scenario {
    let expects = [
        violation("foreign-file", Object::Neighbour),
        violation("foreign-cwd", Object::Neighbour),
        violation("foreign-root", Object::Neighbour),
    ];
    Scenario {
        id: "directories-fd",
        does: "a task enters a directory of another mount namespace by descriptor and makes it its root",
        session: Session::Default,
        containers: vec![watcher(), neighbour()],
        steps: vec![
            step(
                "root-neighbour",
                Deed::ChrootByFd(Whom::Neighbour),
                &[],
                &expects,
            ),
            step("root-own", Deed::ChrootByFd(Whom::Own), &[], &[]),
        ],
    }
}

fn gain(session: Session) -> Scenario {
    let kind = match session {
        Session::Default | Session::Unborn | Session::Tracepoint => LineKind::Audit,
        Session::Declared => LineKind::Violation,
    };
    let gained = Expect {
        kind,
        ..violation("privilege-gain", Object::Any)
    };
    let nested = of_dimension(violation("namespace-nest", Object::Any), "user", "low");
    let in_user_namespace = match session {
        Session::Default | Session::Unborn | Session::Tracepoint => vec![gained, nested],
        Session::Declared => vec![gained],
    };
    Scenario {
        id: if session == Session::Default {
            "gain"
        } else {
            "gain-declared"
        },
        does: "an unprivileged task gains privileges by file and by user namespace",
        session,
        containers: vec![Container::plain("a")],
        steps: vec![
            step("setuid", Deed::ExecSetuid, &[], &[gained]),
            step("capabilities", Deed::ExecCapable, &[], &[gained]),
            step(
                "user-namespace",
                Deed::UnshareUserAsUser,
                &[],
                &in_user_namespace,
            ),
            step("drop", Deed::DropUser, &[], &[]),
        ],
    }
}

/// The silent neighbour has only the role that permits all it was granted.
fn excess() -> Scenario {
    let finding = of_dimension(
        violation("privilege-excess", Object::Any),
        "privilege",
        "high",
    );
    Scenario {
        id: "excess",
        does: "two containers of one role, of which one has another role too, which permits less than it was granted",
        session: Session::Declared,
        containers: vec![Container::plain("a"), Container::plain("b")],
        steps: vec![
            step(
                "granted",
                Deed::Nothing,
                &[],
                &[finding, standing::dangerous("high")],
            ),
            Step {
                who: 1,
                ..step("permitted", Deed::Nothing, &[], &[])
            },
        ],
    }
}

fn shared(id: &'static str, net: Net) -> Scenario {
    let finding = of_dimension(violation("shared-namespace", Object::Pair), "net", "high");
    let finding = Expect {
        severity: None,
        ..finding
    };
    let expects = if net == Net::Inherited {
        vec![finding]
    } else {
        Vec::new()
    };
    let in_net = |name| Container {
        net,
        ..Container::plain(name)
    };
    Scenario {
        id,
        does: "two containers live in one network namespace that is not the host's",
        session: Session::Default,
        containers: vec![in_net("a"), in_net("b")],
        steps: vec![step("net", Deed::Nothing, &[], &expects)],
    }
}

fn shared_cgroup() -> Scenario {
    let finding = Expect {
        dimension: Some("cgroup"),
        ..violation("shared-cgroup", Object::Pair)
    };
    let in_leaf = |name| Container {
        cgroup: Some("shared"),
        ..Container::plain(name)
    };
    Scenario {
        id: "shared-cgroup",
        does: "two containers live in one leaf cgroup",
        session: Session::Default,
        containers: vec![in_leaf("a"), in_leaf("b")],
        steps: vec![step("cgroup", Deed::Nothing, &[], &[finding])],
    }
}

fn drift(dimension: &'static str, severity: &'static str, object: Object) -> Expect {
    Expect {
        kind: LineKind::Drift,
        ..of_dimension(violation("drift", object), dimension, severity)
    }
}

fn tamper(id: &'static str, what: Tamper, expects: &[Expect]) -> Step {
    step(id, Deed::Tamper(what), &[Need::KernelMemory], expects)
}

/// Everything is put back, and no call did that either.
fn restored(expects: &[Expect]) -> Step {
    step("back", Deed::Restore, &[Need::KernelMemory], expects)
}

fn tampered(id: &'static str, does: &'static str, steps: [Step; 2]) -> Scenario {
    Scenario {
        id,
        does,
        session: Session::Default,
        containers: vec![Container::plain("a")],
        steps: steps.into(),
    }
}

fn tampered_privileges() -> Scenario {
    let lost = drift("privilege", "low", Object::Host);
    let silent = of_dimension(
        violation("silent-privilege-change", Object::Host),
        "privilege",
        "critical",
    );
    let gained = [drift("privilege", "critical", Object::Host), silent];
    // In one container the same gain would be a repeat.
    let elsewhere = |step| Step { who: 1, ..step };
    Scenario {
        id: "tamper-privileges",
        does: "credentials of tasks change by calls, and of others in the kernel's memory",
        session: Session::Default,
        containers: vec![Container::plain("a"), neighbour()],
        steps: vec![
            step("drop", Deed::DropUser, &[], &[]),
            step("seteuid", Deed::SwitchUser, &[], &[]),
            step("capset", Deed::SwitchCapabilities, &[], &[]),
            tamper("caps", Tamper::Capabilities, &gained),
            tamper("uid", Tamper::Ids, &gained),
            elsewhere(tamper("effective", Tamper::Effective, &gained)),
            restored(&[lost, lost]),
            elsewhere(Step {
                id: "back-elsewhere".into(),
                ..restored(&[lost])
            }),
        ],
    }
}

fn tampered_namespaces() -> Scenario {
    const NEEDS: [Need; 2] = [Need::KernelMemory, Need::CgroupNamespace];
    let mut found: Vec<Expect> = HOST_KINDS.map(|kind| join(kind, Whom::Host)).into();
    found.extend([
        of_dimension(
            violation("namespace-join", Object::Host),
            "pid_for_children",
            "critical",
        ),
        drift("mnt", "critical", Object::Host),
    ]);
    let needing = |step| Step {
        needs: NEEDS.into(),
        ..step
    };
    tampered(
        "tamper-namespaces",
        "a task's namespaces become the host's in the kernel's memory",
        [
            needing(tamper("all", Tamper::Namespaces, &found)),
            needing(restored(&[drift("mnt", "low", Object::Any)])),
        ],
    )
}

fn tampered_host_name() -> Scenario {
    let found = [
        drift("uts", "critical", Object::Host),
        join(Kind::Uts, Whom::Host),
    ];
    tampered(
        "tamper-uts",
        "one of a container's namespaces becomes the host's in the kernel's memory",
        [
            tamper("field", Tamper::HostName, &found),
            restored(&[drift("uts", "low", Object::Any)]),
        ],
    )
}

fn tampered_directories() -> Scenario {
    let found = [
        drift("root", "high", Object::Host),
        of_dimension(violation("foreign-root", Object::Host), "root", "critical"),
        of_dimension(violation("foreign-cwd", Object::Host), "cwd", "critical"),
    ];
    tampered(
        "tamper-directories",
        "a task's root and working directory become the host's in the kernel's memory",
        [
            tamper("both", Tamper::Directories, &found),
            restored(&[drift("root", "high", Object::Any)]),
        ],
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    /// Goal: results can be told apart. Method: every scenario id, and every step id within one, occurs once.
    #[test]
    fn ids_are_unique() {
        let mut seen = BTreeSet::new();
        for scenario in super::scenarios() {
            for step in &scenario.steps {
                // In another session it is the same scenario once more.
                let session = scenario.session.name();
                let id = format!("{session}/{}/{}", scenario.id, step.id);
                assert!(seen.insert(id.clone()), "{id} occurs twice");
            }
        }
    }

    /// Goal: whatever fires has a silent counterpart. Method: every rule that some step expects is expected by fewer
    /// steps than there are, within its scenario or in one that expects nothing.
    #[test]
    fn silent_neighbours_exist() {
        let all = super::scenarios();
        let silent = all
            .iter()
            .flat_map(|scenario| &scenario.steps)
            .filter(|step| step.expects.is_empty());
        assert!(silent.count() >= 20);
    }
}
