//! What each rule means, in words: the short form of its page in `docs/rules/`.
//!
//! An exhaustive match, so that a new rule does not compile without its words.

use crate::model::{RuleId, Transition};

/// How a finding of a rule is declared as expected in the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declare {
    /// By an `[[allow]]`.
    Allow,
    /// By a `[[share]]`.
    Share,
    /// It is never a violation.
    NotNeeded,
}

/// The words for one rule.
#[derive(Clone, Copy, Debug)]
pub struct RuleWords {
    /// The event, as a sentence without its stop.
    pub title: &'static str,
    /// The transition it cites; none for static pairs and for audit records.
    pub transition: Option<Transition>,
    /// Why it matters.
    pub why: &'static str,
    /// What to do, in order.
    pub steps: &'static [&'static str],
    /// How to declare it as expected.
    pub declare: Declare,
}

/// The words for a rule.
#[must_use]
pub const fn words(rule: RuleId) -> RuleWords {
    match rule {
        RuleId::NamespaceJoin => RuleWords {
            title: "A task of a container joined an existing namespace that is not its container's own",
            transition: Some(Transition::T1),
            why: "A container is its namespaces. From this moment the task acts inside somebody else's: in \
                  the host's mount namespace it sees the host's files, in a neighbour's network namespace it \
                  owns the neighbour's sockets. Containers have no ordinary reason to do this; tools that \
                  escape from them (nsenter through a leaked /proc or a namespace descriptor) do exactly it.",
            steps: &[
                "Look at the task: command, executable, user and ancestry say who asked for it.",
                "Find out how it got hold of the namespace: hostPID, a mounted /proc or /run/netns, CAP_SYS_ADMIN, \
                 a descriptor passed to it.",
                "If nobody on your side did this, treat the container and, where the object is the host, the \
                 machine as compromised: isolate it, keep the stream and the container's upper layer as evidence.",
                "Remove what made it possible: drop SYS_ADMIN and SYS_PTRACE, take away hostPID and the mount.",
            ],
            declare: Declare::Allow,
        },
        RuleId::NamespaceNest => RuleWords {
            title: "A task of a container made a fresh namespace",
            transition: Some(Transition::T2),
            why: "A fresh namespace takes nothing from others, so isolation holds. But a fresh user namespace \
                  gives its maker all capabilities inside it, which opens kernel code that an unprivileged task \
                  could not reach, and it is the first step of many escapes.",
            steps: &[
                "Decide whether this workload nests on purpose: rootless builds, browsers, container-in-container.",
                "If it does, declare it in the policy for its role.",
                "If not, forbid it: a seccomp profile without unshare and clone with CLONE_NEWUSER (runtimes' \
                 default profiles have that), or user.max_user_namespaces = 0.",
            ],
            declare: Declare::Allow,
        },
        RuleId::ForeignRoot => RuleWords {
            title: "A task of a container has its root directory in a mount of another mount namespace",
            transition: Some(Transition::T3),
            why: "Every absolute path of the task now starts in somebody else's tree. Mount namespaces do not \
                  help any more: the reference crosses them.",
            steps: &[
                "Look at the task and at the mount namespace that the root belongs to (observed.file.mnt_ns).",
                "Find the descriptor or /proc/PID/root that it came through.",
                "Restart the container from a clean image; close the leak in what started it.",
            ],
            declare: Declare::Allow,
        },
        RuleId::ForeignCwd => RuleWords {
            title: "A task of a container has its working directory in a mount of another mount namespace",
            transition: Some(Transition::T3),
            why: "Relative paths of the task lead out of the container: ../../etc/shadow is the host's. This is \
                  how a leaked directory descriptor becomes an escape (CVE-2024-21626).",
            steps: &[
                "Check the version of the runtime: runc before 1.1.12 leaks a descriptor of the host's tree.",
                "Look at the container's WORKDIR and at the cwd of exec calls: /proc/self/fd/N is an attack.",
                "Restart the container from a clean image.",
            ],
            declare: Declare::Allow,
        },
        RuleId::ForeignFile => RuleWords {
            title: "A task of a container has a file on somebody else's mounts",
            transition: Some(Transition::T3),
            why: "A file that lies on another mount namespace's mount was reached past the container's own tree: by a \
                  directory descriptor that leaked, through /proc/PID/root, by a file handle, or by a descriptor that \
                  somebody passed. A directory is a way into the whole tree below it; a file that is open for writing \
                  lets the container change what others read.",
            steps: &[
                "Look at the path and at who the object is: a directory or a file of the host is an escape.",
                "If it was there from the container's first program on, the runtime leaked it (CVE-2024-21626): update runc.",
                "If the task received it, see who passed it over which socket, and whether that is meant.",
            ],
            declare: Declare::Allow,
        },
        RuleId::HostRunsContainerFile => RuleWords {
            title: "A task of the host ran a file that a container can write",
            transition: Some(Transition::T6),
            why: "Whoever runs in the container chose what the host executed, with the host's namespaces and mostly \
                  as root. A usermode helper or a hook that points into a container's files is an escape that waits.",
            steps: &[
                "See which task it was and whose child: kthreadd's children are usermode helpers (core_pattern, \
                 uevent_helper, release_agent).",
                "To look at a container's files, enter it (exec), or read them without running them.",
            ],
            declare: Declare::Allow,
        },
        RuleId::CgroupMigration => RuleWords {
            title: "A task of a container left the container's cgroup subtree",
            transition: Some(Transition::T13),
            why: "Limits, accounting, device rules and freezing follow the cgroup. A task that moves out escapes \
                  its limits and is not killed with its container; one that moves into a neighbour's uses up the \
                  neighbour's.",
            steps: &[
                "Find out how the container can write to cgroup.procs: a writable cgroup mount, privileged, \
                 cgroup v1 without a cgroup namespace.",
                "Make the mount read-only, or give the container its own cgroup namespace.",
                "Move the task back, or end it: its limits do not hold.",
            ],
            declare: Declare::Allow,
        },
        RuleId::SilentPrivilegeChange => RuleWords {
            title: "A task's credentials grew without a system call that may do that",
            transition: Some(Transition::T7),
            why: "Credentials change by setuid, capset, execve and a few more. When they change without one of \
                  these, kernel memory was written by something else: that is what a kernel exploit looks like.",
            steps: &[
                "Check the lost_events of this line and the loss records before it: lost events can hide the call.",
                "If nothing was lost, treat the machine as compromised at kernel level: do not trust what it \
                 reports any more, take it from the network, keep a memory image.",
                "Compare kernel version and loaded modules with known vulnerabilities.",
            ],
            declare: Declare::Allow,
        },
        RuleId::Drift => RuleWords {
            title: "The kernel's state and the auditor's model differ, and no event explains it",
            transition: Some(Transition::T7),
            why: "Every second the model is compared with the kernel. A difference means that an event was not \
                  seen (lost, or made in a way that no hook on this kernel sees) or that something changed \
                  kernel memory directly. The model has been corrected; the cause is open.",
            steps: &[
                "Look for loss records around this line: lost events explain drift.",
                "Run \"auditor doctor\": a hook that is missing on this kernel explains it too.",
                "If neither does, read the rule silent-privilege-change.",
            ],
            declare: Declare::Allow,
        },
        RuleId::PrivilegeGain => RuleWords {
            title: "A task of a container gained capabilities or another user id by a legitimate call",
            transition: None,
            why: "The gain is what a set-user-id program or file capabilities are for. It matters where the \
                  container was meant to run without privileges: then something in its image hands them out.",
            steps: &[
                "See which file was executed and whether your image needs it (sudo, ping, su).",
                "Set no_new_privs (allowPrivilegeEscalation: false) where nothing needs it.",
                "Set privilege_gain to \"ignore\" or \"violation\" under [defaults] in the policy to match your intent.",
            ],
            declare: Declare::Allow,
        },
        RuleId::PrivilegeExcess => RuleWords {
            title: "A container may use capabilities that its roles do not permit",
            transition: None,
            why: "What a container may use is what somebody who takes it over may use. The policy says what its roles \
                  need; the rest is power that only an attacker needs.",
            steps: &[
                "See which capabilities are in \"observed\" and not in \"expected\".",
                "Drop them where the container is started (capabilities.drop in a securityContext, --cap-drop).",
                "If it does need them, add them to each of its roles in the policy: roles intersect.",
            ],
            declare: Declare::Allow,
        },
        RuleId::PrivilegeEscalation => RuleWords {
            title: "A task of a container used a capability that is not declared for it",
            transition: None,
            why: "What a container's tasks can have is bounded by what its first task was granted: no program in it can \
                  give more. Whoever uses more was sent in with it, or something changed its credentials past all calls; \
                  that is what an exploit of the kernel is for.",
            steps: &[
                "An audit line: see who entered the container with more than it has (exec --privileged, nsenter), and why.",
                "A critical line: look for silent-privilege-change and drift beside it. If nothing was lost, treat the \
                 machine as compromised at kernel level.",
                "A line that names a role: the container needs what the role does not permit, or does what it should not. \
                 Drop the capability, or permit it.",
            ],
            declare: Declare::Allow,
        },
        RuleId::DangerousCapability => RuleWords {
            title: "A container was granted capabilities that are power over the host or over other containers",
            transition: None,
            why: "Most capabilities are harmless over a container's own things. These are not, as this container is set \
                  up: over the machine's initial user namespace, or together with a namespace that it shares. Whoever \
                  takes the container over has them, and needs no flaw of the kernel to get out.",
            steps: &[
                "See in the message what each capability gives here.",
                "Compare with what the container uses (auditor privileges), and drop the rest.",
                "Where it needs one: give it a user namespace of its own, or take away the host's namespace that makes \
                 it dangerous.",
                "What it shall have stands in its role's capabilities in the policy; then it is not told.",
            ],
            declare: Declare::Allow,
        },
        RuleId::WeakConfinement => RuleWords {
            title: "What should confine a container is not there",
            transition: None,
            why: "Namespaces separate what a container sees. What of the kernel it can call is limited by a filter of \
                  system calls, what it may touch by a security module, and what root in it is outside by a user \
                  namespace. Each catches what the others let through; a flaw of the kernel is within reach where \
                  none of them stands.",
            steps: &[
                "See in the message what is missing.",
                "Give it the runtime's default seccomp profile (seccompProfile: RuntimeDefault), and a profile of the \
                 machine's security module.",
                "Have it run as an ordinary user, or with a user namespace of its own.",
                "Two containers with one SELinux level: let the runtime choose levels, do not set them by hand.",
            ],
            declare: Declare::Allow,
        },
        RuleId::SharedNamespace => RuleWords {
            title: "Two entities share a namespace and nothing declares it",
            transition: None,
            why: "Whatever the namespace separates is not separated between these two: processes that see and \
                  signal each other, a common loopback, a common tree of mounts.",
            steps: &[
                "See whether the sharing is meant: a pod, --network container:NAME, hostNetwork.",
                "If it is, declare the share in the policy with its reason.",
                "If not, start one of the two with a namespace of its own.",
            ],
            declare: Declare::Share,
        },
        RuleId::SharedCgroup => RuleWords {
            title: "Two entities sit in the same cgroup and nothing declares it",
            transition: None,
            why: "Limits and accounting cannot tell the two apart, and one can starve or freeze the other.",
            steps: &[
                "See which runtime put both there: a cgroup path set by hand is the usual cause.",
                "Give each its own cgroup, or declare the share in the policy with its reason.",
            ],
            declare: Declare::Share,
        },
        RuleId::SharedHandle => RuleWords {
            title: "Two containers hold one open file, pipe, socket or piece of memory",
            transition: None,
            why: "Whatever separates the two otherwise, through this they talk: what one writes the other reads. Somebody \
                  passed a descriptor, or both mapped one file of a directory that they share.",
            steps: &[
                "See how it came about: a volume with a socket or a mapped file in it, a descriptor passed over a \
                 socket, one starter that gave both the same descriptor.",
                "If it is meant, declare the share in the policy with its reason.",
                "If not, take away the directory or the socket over which they met.",
            ],
            declare: Declare::Share,
        },
        RuleId::KernelKnob => RuleWords {
            title: "A task of a container opened a setting of the whole machine, or of another's cgroup, for writing",
            transition: Some(Transition::T5),
            why: "Settings of the kernel hold for every container and the host. Some name a program that the kernel \
                  itself runs, as root and outside of every container (core_pattern, modprobe, uevent_helper, \
                  release_agent, binfmt_misc): who can write them owns the machine. By the settings of a cgroup, who lives \
                  there is stopped, ended or starved.",
            steps: &[
                "See what was written: run `sysctl NAME` or read the file on the host, and put it back.",
                "Find out how the container can write it: privileged, an unmasked or bound /proc or /sys, cgroup v1 \
                 with CAP_SYS_ADMIN.",
                "Mount /proc/sys, /sys and cgroup file systems read-only in it, as runtimes do by default.",
            ],
            declare: Declare::Allow,
        },
        RuleId::KernelCode => RuleWords {
            title: "A task of a container handed code to the kernel, or opened a way deep into it",
            transition: Some(Transition::T10),
            why: "There is one kernel. A module, another kernel, or a BPF program runs below every container; perf \
                  events and userfaultfd help to attack it. Nothing that separates containers stands above that.",
            steps: &[
                "See which program did it and whether it is meant to: agents of monitoring and networking use bpf.",
                "If it is, declare it. Otherwise take CAP_SYS_MODULE, CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN from the \
                 container, and use the runtime's seccomp profile.",
                "After a module or kexec from a container, do not trust the machine any more.",
            ],
            declare: Declare::Allow,
        },
        RuleId::DeviceAccess => RuleWords {
            title: "A task of a container opened a device that is not its own, or made a node for one",
            transition: Some(Transition::T11),
            why: "A block device is somebody's file system below all permissions; memory devices are everybody's \
                  memory. Device rules of the cgroup are what keeps a container from them.",
            steps: &[
                "See which device it is (observed.device) and what is on it.",
                "Find out how the container may open it: privileged, device rules that allow everything, CAP_MKNOD.",
                "Give it the one device that it needs by its spec; then this is for the record only.",
            ],
            declare: Declare::Allow,
        },
        RuleId::PageCachePrestep => RuleWords {
            title: "A task of a container made what attacks on kernel memory begin with",
            transition: Some(Transition::T12),
            why: "Tampering with the page cache or kernel memory leaves no structure that could be checked. What can be \
                  seen are steps before it: a socket of the kernel's crypto or IPsec, a user and a network namespace of \
                  its own. Ordinary programs take them too, so it is a line for the record and never a proof.",
            steps: &[
                "See whether this workload has a reason for it: VPN software, browsers, rootless containers.",
                "If not, forbid it: a seccomp profile without AF_ALG, user.max_user_namespaces = 0.",
            ],
            declare: Declare::Allow,
        },
        RuleId::ProcessControl => RuleWords {
            title: "A task of a container reached into a process of somebody else",
            transition: Some(Transition::T9),
            why: "Who can signal, trace or read another's process can stop it, take its secrets, or run code in it. \
                  Processes of different containers should not even see each other.",
            steps: &[
                "See how the container can name the other process: a shared or the host's pid namespace, or a \
                 pidfd that somebody passed.",
                "Give the container a pid namespace of its own, and take CAP_KILL and CAP_SYS_PTRACE from it.",
            ],
            declare: Declare::Allow,
        },
        RuleId::ForeignMount => RuleWords {
            title: "A container mounted what is not its own",
            transition: Some(Transition::T4),
            why: "A container sees of the machine what its runtime mounted for it. Who mounts a device, a directory of \
                  the host or a bare proc after that has left the file system it was given.",
            steps: &[
                "See which task mounted it, and by which privilege: CAP_SYS_ADMIN and device nodes make it possible.",
                "Take both from the container, or declare what it needs as a volume of its spec.",
                "If the device or directory is the host's, take what the container could write there as written.",
            ],
            declare: Declare::Allow,
        },
        RuleId::SetupMismatch => RuleWords {
            title: "A container does not run as its spec says",
            transition: Some(Transition::T14),
            why: "The spec promised a protection that the running container does not have: a fault or a race of the \
                  runtime, or a spec that was changed after the start.",
            steps: &[
                "Compare the container's config.json with what the line says was found.",
                "Update the runtime: missing masks are how its races show.",
                "Stop the container and start it again; it may have used what it should not have had.",
            ],
            declare: Declare::Allow,
        },
        RuleId::ControlSocket => RuleWords {
            title: "A task of a container talked to a socket by which containers or the machine are controlled",
            transition: Some(Transition::T8),
            why: "Whoever may talk to a container daemon may have it start a container that is not isolated at all: \
                  with the host's files, its devices and all capabilities. A container with that socket is as \
                  powerful as the daemon.",
            steps: &[
                "See what the task asked the daemon for: the daemon's own log has it.",
                "If nobody on your side did this, look for containers that were started since, and treat the machine \
                 as compromised.",
                "Take the socket's mount out of the container; give tools that need it a proxy that lets only reads \
                 through.",
            ],
            declare: Declare::Allow,
        },
        RuleId::ForeignSocket => RuleWords {
            title: "A task of a container talked to a unix socket of somebody else",
            transition: Some(Transition::T8),
            why: "A unix socket passes more than bytes: descriptors go through it, and who listens learns who \
                  speaks. It joins two compartments past the network, and past its rules.",
            steps: &[
                "See who listens (observed.socket), and by which mount or shared network namespace the container \
                 reaches it.",
                "If both belong together, declare it in the policy; if not, take the mount away.",
            ],
            declare: Declare::Allow,
        },
        RuleId::ContainerEnter => RuleWords {
            title: "A task of the host entered a container",
            transition: None,
            why: "This is how exec works, and how an administrator looks inside. It is written down because it is \
                  also how somebody with access to the host reaches into a container. It changes no exit code.",
            steps: &[
                "Nothing, unless nobody should have been there at this time: then ask who used the host.",
            ],
            declare: Declare::NotNeeded,
        },
    }
}

/// Where the rule's page is, in the source tree.
#[must_use]
pub fn page(rule: RuleId) -> String {
    format!("docs/rules/{rule}.md")
}
