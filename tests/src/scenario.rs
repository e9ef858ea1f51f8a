//! The vocabulary of scenarios: what a container is like, what is done in it, what that needs and what must come out.
//!
//! Scenarios name hosts, neighbours and places symbolically. The runner turns a [`Deed`] into an [`Act`](crate::act::Act)
//! once pids and paths are known.

use crate::act::{Act, Kind};

/// Which policy the auditor runs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// None given: the built-in defaults.
    Default,
    /// Nested namespaces are declared, every privilege gain is a violation, and roles limit some containers.
    Declared,
    /// None given, and nothing tells of births: as if the kernel had left that program out each time.
    Unborn,
    /// None given, and seen as where trampolines are refused.
    Tracepoint,
}

impl Session {
    /// Every session.
    pub const ALL: [Self; 4] = [
        Self::Default,
        Self::Declared,
        Self::Unborn,
        Self::Tracepoint,
    ];

    /// Name in results.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Declared => "declared",
            Self::Unborn => "unborn",
            Self::Tracepoint => "tracepoint",
        }
    }

    /// Hooks that the auditor does without.
    #[must_use]
    pub const fn without(self) -> &'static [&'static str] {
        match self {
            Self::Default | Self::Declared | Self::Tracepoint => &[],
            Self::Unborn => &["task_newtask"],
        }
    }

    /// The tier that the auditor is asked for, if not the best that works.
    #[must_use]
    pub const fn tier(self) -> Option<&'static str> {
        match self {
            Self::Default | Self::Declared | Self::Unborn => None,
            Self::Tracepoint => Some("tracepoint"),
        }
    }

    /// The policy file's text, if one is used.
    #[must_use]
    pub const fn policy(self) -> Option<&'static str> {
        match self {
            Self::Default | Self::Unborn | Self::Tracepoint => None,
            Self::Declared => Some(
                "[defaults]\nprivilege_gain = \"violation\"\n\n\
                 [[allow]]\nrule = \"namespace-nest\"\nsubject = \"*\"\nreason = \"builds\"\n\n\
                 [[role]]\nname = \"limited\"\nmatch = { id = \"*-excess-?\" }\n\
                 capabilities = [\"CHOWN\", \"DAC_OVERRIDE\", \"DAC_READ_SEARCH\", \"FOWNER\", \"KILL\", \"MKNOD\", \
                 \"NET_ADMIN\", \"NET_BIND_SERVICE\", \"NET_RAW\", \"SETGID\", \"SETUID\", \"SYS_ADMIN\", \"SYS_CHROOT\", \"SYS_NICE\", \
                 \"SYS_PTRACE\"]\n\n\
                 [[role]]\nname = \"web\"\nmatch = { id = \"*-excess-a\" }\ncapabilities = [\"CHOWN\"]\n",
            ),
        }
    }
}

/// Where a container's network namespace comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Net {
    /// A fresh one.
    Fresh,
    /// The configuration names the scenario's prepared namespace by path.
    Declared,
    /// The configuration names none, and the runtime is started inside the scenario's prepared namespace.
    Inherited,
}

/// A descriptor that a container starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaked {
    /// None.
    Nothing,
    /// The host's root directory.
    Root,
    /// A unix socket over which the host has passed its root directory.
    Passed,
}

/// What is special about a container.
#[derive(Clone, Copy, Debug)]
pub struct Container {
    /// Last part of its id.
    pub name: &'static str,
    /// The host's /proc is bound at /hostproc, as careless monitoring containers have it.
    pub host_proc: bool,
    /// It shares the host's pid namespace.
    pub host_pid: bool,
    /// The host's /sys/fs/cgroup is bound, writable, at /hostcgroup.
    pub host_cgroup: bool,
    /// A directory of the host in which its listeners have their sockets is bound at /share.
    pub share: bool,
    /// A disk of the machine's has a node at /share/disk.
    pub disk: bool,
    /// It has a user namespace of its own.
    pub user_namespace: bool,
    /// Its network namespace.
    pub net: Net,
    /// Its root is an overlay, as image stores make them: what it writes goes to `upper` in its bundle.
    pub overlay: bool,
    /// It runs as an ordinary user, so that it has capabilities only after it gained them.
    pub ordinary_user: bool,
    /// Its cgroup allows every device.
    pub all_devices: bool,
    /// Its config.json comes to promise more than the runtime was told.
    pub promises: bool,
    /// A merge patch (RFC 7386) of its config.json.
    pub patch: Option<&'static str>,
    /// Leaf cgroup, if it is not named after the container.
    pub cgroup: Option<&'static str>,
    /// What who starts the runtime hands on as descriptor 3.
    pub leaked: Leaked,
}

impl Container {
    /// An ordinary container.
    #[must_use]
    pub const fn plain(name: &'static str) -> Self {
        Self {
            name,
            host_proc: false,
            host_pid: false,
            host_cgroup: false,
            share: false,
            disk: false,
            user_namespace: false,
            net: Net::Fresh,
            overlay: false,
            ordinary_user: false,
            all_devices: false,
            promises: false,
            patch: None,
            cgroup: None,
            leaked: Leaked::Nothing,
        }
    }
}

/// Whose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// The host's.
    Host,
    /// The scenario's second container's.
    Neighbour,
    /// The acting container's own.
    Own,
}

/// A cgroup hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hierarchy {
    /// Version 2.
    Unified,
    /// Version 1's `pids`.
    Pids,
}

/// What of a task's state is made the host's in the kernel's memory, with no call that the kernel could see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tamper {
    /// Permitted and effective capabilities.
    Capabilities,
    /// The same of the container's first task, from which others are born.
    First,
    /// Effective capabilities alone: they are what the kernel asks for.
    Effective,
    /// User ids.
    Ids,
    /// All namespaces: the pointer to them.
    Namespaces,
    /// The UTS namespace, in what all tasks of the container share.
    HostName,
    /// Root and working directory: the pointer to them.
    Directories,
}

/// Where things are, as a container sees them. See `Cast`.
pub trait Places {
    /// A process: the host's is the runner.
    fn pid(&self, whom: Whom) -> i32;
    /// A directory: somebody's root, or the container's own `/tmp`.
    fn directory(&self, whom: Whom) -> String;
    /// A process of the host that sleeps: things may be done to it that the runner would not bear.
    fn sleeper(&self) -> i32;
    /// The directory that is bound at /share, as the host sees it.
    fn shared(&self) -> String;
}

/// An act whose pids and paths are known only once the containers run.
#[derive(Clone, Copy)]
pub struct Script(pub fn(&dyn Places) -> Act);

impl std::fmt::Debug for Script {
    fn fmt(&self, output: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        output.write_str("Script")
    }
}

/// What is done.
#[derive(Clone, Copy, Debug)]
pub enum Deed {
    /// Nothing: the state at rest is what counts.
    Nothing,
    /// What the function says.
    Do(Script),
    /// Join a namespace by its file.
    JoinByFd(Kind, Whom),
    /// Join namespaces of a process by pidfd.
    JoinByPidfd(&'static [Kind], Whom),
    /// Leave for a fresh namespace.
    Unshare(Kind),
    /// Give birth into a fresh namespace.
    Clone(Kind),
    /// Move to a cgroup: the root for the host, a leaf for a container, a child of the leaf for `Own`.
    MoveCgroup(Hierarchy, Whom),
    /// Give birth into a cgroup.
    CloneIntoCgroup(Whom),
    /// Open a setting of a cgroup for writing.
    OpenCgroup(Hierarchy, Whom, &'static str),
    /// Change root to somebody's root by path.
    Chroot(Whom),
    /// Change root to somebody's root by descriptor.
    ChrootByFd(Whom),
    /// Change directory to somebody's root.
    Chdir(Whom),
    /// Become an ordinary user.
    DropUser,
    /// As an ordinary user, execute a setuid-root file.
    ExecSetuid,
    /// Execute a setuid-root file that joins a namespace by its file.
    JoinBySetuid(Kind, Whom),
    /// As an ordinary user, execute a file with capabilities.
    ExecCapable,
    /// As an ordinary user, leave for a fresh user namespace.
    UnshareUserAsUser,
    /// Become another effective user, then root again.
    SwitchUser,
    /// Lower capabilities, then raise the effective ones again.
    SwitchCapabilities,
    /// Have the state of a sleeping task changed in the kernel's memory: of a new one that became an ordinary user, or,
    /// for [`Tamper::HostName`] and [`Tamper::First`], of the container's first.
    Tamper(Tamper),
    /// Have everything put back that was changed in the kernel's memory.
    Restore,
    /// Have the runtime execute the actor in the container, with this option and value, and this argument.
    RuntimeExec(&'static [&'static str], &'static str),
    /// Have the host execute a program of the container, by /proc/PID/root.
    HostRuns,
    /// Have the host put a program at the first path of the container's bundle, and execute it by the second.
    HostRunsCopy(&'static str, &'static str),
}

/// What a step needs of kernel, cgroup layout and tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// `/proc/self/ns/time`.
    TimeNamespace,
    /// A mounted version 2 hierarchy in which containers have a leaf.
    Unified,
    /// A mounted version 1 `pids` hierarchy.
    Pids,
    /// Containers get a cgroup namespace: else all share the host's, and joining it is no change.
    CgroupNamespace,
    /// BPF maps count against the memory of their cgroup (5.11), not against a limit of locked memory that containers
    /// cannot raise.
    UnlimitedMaps,
    /// overlayfs.
    Overlay,
    /// `/proc/timer_list`, which containers have masked.
    TimerList,
    /// `mount_setattr` (5.12).
    MountSetattr,
    /// bpf(2) asks whoever wants to be asked before it refuses who has no privilege (6.5).
    BpfIsAsked,
    /// perf_event_open asks whoever wants to be asked before it refuses who has no privilege: Debian has a setting by which it
    /// does not.
    PerfIsAsked,
    /// Sockets of the kernel's crypto.
    CryptoSockets,
    /// System calls by the 32-bit table.
    Calls32,
    /// Block devices over files, and a tool that makes a file system on one.
    Disk,
    /// Loadable modules.
    Modules,
    /// kexec.
    Kexec,
    /// A security module labels tasks, and everybody here as confined by nothing.
    Labels,
    /// No security module labels tasks.
    NoLabels,
    /// Somebody outside who writes this kernel's memory. Only a guest has that: nobody can on a real machine.
    KernelMemory,
}

/// The object a finding must name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// Whatever stands there.
    Any,
    /// The host.
    Host,
    /// The scenario's second container.
    Neighbour,
    /// Subject and object are the first two containers, in either order.
    Pair,
    /// The acting container, and the subject is the host.
    ByHost,
}

/// Rules about how a container stands from its start on. Containers of these tests are set up so that acts are possible,
/// so nearly each has such lines: only steps of scenarios that are about one of these rules say whose they must be, and
/// whose not.
pub const STANDING: [&str; 2] = ["dangerous-capability", "weak-confinement"];

/// The type of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineKind {
    /// `"type":"violation"`: exactly the expected ones may appear.
    Violation,
    /// `"type":"drift"`: likewise.
    Drift,
    /// `"type":"audit"`: the expected ones must appear, others may.
    Audit,
}

impl LineKind {
    /// The type, as it stands in a line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Violation => "violation",
            Self::Drift => "drift",
            Self::Audit => "audit",
        }
    }
}

/// One line that must come out, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expect {
    /// Its type.
    pub kind: LineKind,
    /// Its rule.
    pub rule: &'static str,
    /// Its dimension, if the rule has one.
    pub dimension: Option<&'static str>,
    /// Its severity, if the design fixes it.
    pub severity: Option<&'static str>,
    /// Its object.
    pub object: Object,
    /// What must have made it possible, if that is looked at.
    pub because: Because,
    /// Which eyes it takes.
    pub requires: Requires,
}

/// Which hooks a line rests on, by their names in the start line. Where they work, the line must come; where they do
/// not, it must not come, and the start line must say what is not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requires {
    /// Every tier sees it.
    Nothing,
    /// This hook.
    Hook(&'static str),
    /// One of these hooks.
    AnyOf(&'static [&'static str]),
}

impl Requires {
    /// The hooks, none for what every tier sees.
    #[must_use]
    pub const fn hooks(&self) -> &[&'static str] {
        match self {
            Self::Nothing => &[],
            Self::Hook(hook) => std::slice::from_ref(hook),
            Self::AnyOf(hooks) => hooks,
        }
    }
}

/// What a critical line says of what made it possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// Whatever it says.
    Any,
    /// Earlier lines that weakened the container, one of them of this rule, and nothing else.
    Weakened(&'static str),
    /// The container's configuration, which has this, and no earlier line.
    Configured(&'static str),
    /// Nothing.
    Unexplained,
}

impl std::fmt::Display for Expect {
    fn fmt(&self, output: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(output, "{} {}", self.kind.name(), self.rule)?;
        for detail in [self.dimension, self.severity].into_iter().flatten() {
            write!(output, " {detail}")?;
        }
        output.write_str(match self.object {
            Object::Any => "",
            Object::Host => " against the host",
            Object::Neighbour => " against the neighbour",
            Object::Pair => " between the two",
            Object::ByHost => " by the host",
        })?;
        match self.because {
            Because::Any => Ok(()),
            Because::Weakened(rule) => write!(output, " because of {rule}"),
            Because::Configured(what) => write!(output, " because of its {what}"),
            Because::Unexplained => output.write_str(" because of nothing"),
        }
    }
}

/// One deed and what must come of it.
#[derive(Clone, Debug)]
pub struct Step {
    /// Unique within the scenario.
    pub id: String,
    /// Index of the acting container.
    pub who: usize,
    /// What it does.
    pub deed: Deed,
    /// What that takes.
    pub needs: Vec<Need>,
    /// What must come out; empty for a silent neighbour.
    pub expects: Vec<Expect>,
}

/// A few containers, and what happens in them.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Unique within its session; part of the containers' ids.
    pub id: &'static str,
    /// One sentence.
    pub does: &'static str,
    /// Under which policy.
    pub session: Session,
    /// The containers; most deeds are the first one's.
    pub containers: Vec<Container>,
    /// In order. All states are held until the scenario ends.
    pub steps: Vec<Step>,
}

impl Scenario {
    /// Whether some step expects a line of this rule.
    #[must_use]
    pub fn is_about(&self, rule: &str) -> bool {
        let expects = self.steps.iter().flat_map(|step| &step.expects);
        expects.into_iter().any(|expect| expect.rule == rule)
    }
}
