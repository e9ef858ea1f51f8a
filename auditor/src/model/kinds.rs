//! The vocabulary of a verdict: dimensions, severities, lattices, rules.
//!
//! The names are stable: they stand in output, policies and traces.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! names {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum $name { $($(#[$vmeta])* #[serde(rename = $text)] $variant,)+ }

        impl $name {
            /// All values, in order.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The stable name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = UnknownName;
            fn from_str(s: &str) -> Result<Self, UnknownName> {
                Self::ALL.iter().copied().find(|v| v.as_str() == s).ok_or_else(|| UnknownName {
                    what: stringify!($name),
                    name: s.to_owned(),
                    known: Self::ALL.iter().map(|v| v.as_str()).collect::<Vec<_>>().join(", "),
                })
            }
        }
    };
}

/// A name that is not in the vocabulary.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} \"{name}\" (known: {known})")]
pub struct UnknownName {
    what: &'static str,
    name: String,
    known: String,
}

names! {
    /// Kinds of namespaces, by the names of `/proc/PID/ns`. The discriminants are the slots of
    /// [`auditor_common::record::ns`].
    NsKind {
        /// Mounts.
        Mnt = "mnt",
        /// Processes: the one a task lives in.
        Pid = "pid",
        /// Processes: the one its children will live in.
        PidForChildren = "pid_for_children",
        /// Network.
        Net = "net",
        /// System V IPC, POSIX message queues.
        Ipc = "ipc",
        /// Host name.
        Uts = "uts",
        /// Cgroup root.
        Cgroup = "cgroup",
        /// Clock offsets.
        Time = "time",
        /// Clock offsets of children.
        TimeForChildren = "time_for_children",
        /// Users and capabilities.
        User = "user",
    }
}

impl NsKind {
    /// Index into [`auditor_common::record::TaskState::ns`].
    #[must_use]
    pub const fn slot(self) -> usize {
        self as usize
    }

    /// The dimension in which sharing this namespace counts. `time_for_children` counts as time.
    #[must_use]
    pub const fn dimension(self) -> Dimension {
        match self {
            Self::Mnt => Dimension::Mnt,
            Self::Pid => Dimension::Pid,
            Self::PidForChildren => Dimension::PidForChildren,
            Self::Net => Dimension::Net,
            Self::Ipc => Dimension::Ipc,
            Self::Uts => Dimension::Uts,
            Self::Cgroup => Dimension::CgroupNs,
            Self::Time | Self::TimeForChildren => Dimension::Time,
            Self::User => Dimension::User,
        }
    }

    /// The kind by which the kernel identifies the namespace itself: `pid_for_children` is a pid
    /// namespace, `time_for_children` a time namespace.
    #[must_use]
    pub const fn object_kind(self) -> Self {
        match self {
            Self::PidForChildren => Self::Pid,
            Self::TimeForChildren => Self::Time,
            other => other,
        }
    }

    /// The clone/unshare flag that makes a fresh one (`CLONE_NEW*`).
    #[must_use]
    pub const fn clone_flag(self) -> u64 {
        match self {
            Self::Mnt => 0x0002_0000,
            Self::Pid | Self::PidForChildren => 0x2000_0000,
            Self::Net => 0x4000_0000,
            Self::Ipc => 0x0800_0000,
            Self::Uts => 0x0400_0000,
            Self::Cgroup => 0x0200_0000,
            Self::Time | Self::TimeForChildren => 0x0000_0080,
            Self::User => 0x1000_0000,
        }
    }
}

names! {
    /// One way in which two entities can touch.
    Dimension {
        /// Mount namespace.
        Mnt = "mnt",
        /// Pid namespace.
        Pid = "pid",
        /// Pid namespace of future children.
        PidForChildren = "pid_for_children",
        /// Network namespace.
        Net = "net",
        /// IPC namespace.
        Ipc = "ipc",
        /// UTS namespace.
        Uts = "uts",
        /// The cgroup that a container's tasks sit in, per hierarchy.
        Cgroup = "cgroup",
        /// Root directory.
        Root = "root",
        /// Working directory.
        Cwd = "cwd",
        /// Open files, roots, cwds of foreign mounts.
        References = "references",
        /// User namespace.
        User = "user",
        /// Time namespace.
        Time = "time",
        /// Cgroup namespace.
        CgroupNs = "cgroup_ns",
        /// Which user namespace owns a namespace, and by whom it can be entered.
        Ownership = "ownership",
        /// Credentials.
        Privilege = "privilege",
        /// Mounts: which file systems can be reached through them, and how they propagate.
        Mounts = "mounts",
        /// Other entities' processes: tracing, memory, signals, limits.
        Processes = "processes",
        /// Unix sockets: who talks to whom.
        Sockets = "sockets",
        /// The kernel itself: its settings and its code.
        Kernel = "kernel",
        /// Devices.
        Devices = "devices",
        /// A running container against what its spec says.
        Setup = "setup",
        /// Open files, pipes, sockets and memory that tasks of two entities hold at once.
        Handles = "handles",
    }
}

names! {
    /// How bad.
    Severity {
        /// For the record.
        Info = "info",
        /// Worth knowing.
        Low = "low",
        /// Weakens isolation.
        Medium = "medium",
        /// Breaks isolation in part.
        High = "high",
        /// Breaks isolation.
        Critical = "critical",
    }
}

names! {
    /// The lattice of a dimension's verdict, best first; the two last stand outside of the order
    /// and say that nothing can be said.
    Verdict {
        /// Nothing shared.
        Isolated = "isolated",
        /// Shared, and a spec or the policy says so.
        DeclaredShared = "declared_shared",
        /// Shared since the entity's start with its creator, no spec known.
        BaselineShared = "baseline_shared",
        /// Isolated now, but one side could cross.
        Degraded = "degraded",
        /// Shared without leave.
        Violated = "violated",
        /// Nothing looks at this.
        NotEvaluated = "not_evaluated",
        /// The evidence was lost.
        Unknown = "unknown",
    }
}

names! {
    /// How sure.
    Confidence {
        /// Read from the kernel.
        Exact = "exact",
        /// Seen by a periodic sweep.
        Sampled = "sampled",
        /// Concluded.
        Inferred = "inferred",
    }
}

names! {
    /// What two entities are to each other.
    PairClass {
        /// Containers of one pod.
        K1 = "K1",
        /// Unrelated containers.
        K2 = "K2",
        /// Container and host.
        K3 = "K3",
        /// Declared joins.
        K4 = "K4",
        /// One nested in the other.
        K5 = "K5",
        /// VM and VM.
        K6 = "K6",
        /// VM and container.
        K7 = "K7",
        /// Trusted runtimes.
        K8 = "K8",
    }
}

names! {
    /// What every rule cites.
    Transition {
        /// Joins a namespace that is not its own.
        T1 = "T1",
        /// Makes a namespace.
        T2 = "T2",
        /// Holds a foreign reference.
        T3 = "T3",
        /// Acquires a mount.
        T4 = "T4",
        /// Writes a setting of the whole machine.
        T5 = "T5",
        /// The host executes a container's file.
        T6 = "T6",
        /// Silent credential or namespace change.
        T7 = "T7",
        /// Uses a control socket.
        T8 = "T8",
        /// Controls another entity's process.
        T9 = "T9",
        /// Loads code into the kernel.
        T10 = "T10",
        /// Reaches a device.
        T11 = "T11",
        /// A step before tampering with the page cache or kernel memory.
        T12 = "T12",
        /// Cgroup migration.
        T13 = "T13",
        /// Running container and its spec differ.
        T14 = "T14",
    }
}

names! {
    /// The rules; each has a page in `docs/rules/`.
    RuleId {
        /// T1.
        NamespaceJoin = "namespace-join",
        /// T2.
        NamespaceNest = "namespace-nest",
        /// T3.
        ForeignRoot = "foreign-root",
        /// T3.
        ForeignCwd = "foreign-cwd",
        /// T3.
        ForeignFile = "foreign-file",
        /// T6.
        HostRunsContainerFile = "host-runs-container-file",
        /// T13.
        CgroupMigration = "cgroup-migration",
        /// T7.
        SilentPrivilegeChange = "silent-privilege-change",
        /// T7.
        Drift = "drift",
        /// Capabilities or user id grew by a legitimate call.
        PrivilegeGain = "privilege-gain",
        /// Granted beyond what the policy permits.
        PrivilegeExcess = "privilege-excess",
        /// Used what nobody declared.
        PrivilegeEscalation = "privilege-escalation",
        /// Granted what is power over others (audit only).
        DangerousCapability = "dangerous-capability",
        /// What should confine it is not there (audit only).
        WeakConfinement = "weak-confinement",
        /// Static pair.
        SharedNamespace = "shared-namespace",
        /// Static pair.
        SharedCgroup = "shared-cgroup",
        /// Containers hold one handle (audit only).
        SharedHandle = "shared-handle",
        /// A host task entered a container (audit only).
        ContainerEnter = "container-enter",
        /// T5.
        KernelKnob = "kernel-knob",
        /// T10.
        KernelCode = "kernel-code",
        /// T11.
        DeviceAccess = "device-access",
        /// T12 (audit only).
        PageCachePrestep = "page-cache-prestep",
        /// T9.
        ProcessControl = "process-control",
        /// T4.
        ForeignMount = "foreign-mount",
        /// T14.
        SetupMismatch = "setup-mismatch",
        /// T8.
        ControlSocket = "control-socket",
        /// T8.
        ForeignSocket = "foreign-socket",
    }
}

names! {
    /// By what kind of hook something was seen.
    Tier {
        /// Trampolines and typed tracepoints.
        Trampoline = "trampoline",
        /// Typed and syscall tracepoints.
        Tracepoint = "tracepoint",
        /// No eBPF.
        Scan = "scan",
    }
}

impl RuleId {
    /// Where to read on: techniques of MITRE ATT&CK, statements of the formal model.
    #[must_use]
    pub const fn references(self) -> &'static [&'static str] {
        match self {
            Self::NamespaceJoin
            | Self::ForeignRoot
            | Self::ForeignCwd
            | Self::ForeignMount
            | Self::ForeignFile
            | Self::CgroupMigration => &["seed:3.1", "mitre:T1611"],
            Self::SetupMismatch => &["seed:3.1", "mitre:T1610"],
            Self::NamespaceNest => &["mitre:T1611"],
            Self::SilentPrivilegeChange | Self::Drift => &["seed:6.1", "mitre:T1068"],
            Self::PrivilegeGain => &["seed:6.2", "mitre:T1548"],
            Self::PrivilegeExcess => &["seed:6.2"],
            Self::PrivilegeEscalation => &["seed:6.2", "mitre:T1068"],
            Self::DangerousCapability | Self::WeakConfinement => &["seed:6.2", "mitre:T1611"],
            Self::SharedNamespace | Self::SharedCgroup | Self::SharedHandle => &["seed:3.1"],
            Self::ContainerEnter => &["mitre:T1609"],
            Self::HostRunsContainerFile => &["seed:3.1", "mitre:T1611"],
            Self::ControlSocket => &["seed:3.1", "mitre:T1611", "mitre:T1610"],
            Self::ForeignSocket => &["seed:3.1"],
            Self::KernelKnob | Self::DeviceAccess => &["seed:3.1", "mitre:T1611"],
            Self::KernelCode => &["seed:6.1", "mitre:T1547.006"],
            Self::PageCachePrestep => &["mitre:T1068"],
            Self::ProcessControl => &["seed:3.1", "mitre:T1055"],
        }
    }
}
