//! What an actor inside a container is told to do, and how it answers: one JSON line each way.
//!
//! Every act runs in a forked child of the actor, so that the actor itself stays where the runtime put it. The child
//! answers, then keeps its new state until it is released: the finding must not depend on the task being gone.

pub mod capability;
pub mod compat;
pub mod file;
pub mod handle;
pub mod kernel;
pub mod life;
pub mod mount;
pub mod noise;
pub mod process;
mod ring;
pub mod socket;

use std::io::Error;

use serde::{Deserialize, Serialize};

/// What an act came to, or what was tried when it failed.
pub type Tried<T> = Result<T, (String, Error)>;

/// Names what was tried, for the answer.
///
/// # Errors
/// When the attempt failed.
pub fn tried<T>(what: impl Into<String>, result: std::io::Result<T>) -> Tried<T> {
    result.map_err(|error| (what.into(), error))
}

/// A kind of namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Mount namespace.
    Mnt,
    /// Network namespace.
    Net,
    /// Pid namespace.
    Pid,
    /// Host and domain name.
    Uts,
    /// System V and POSIX message queue objects.
    Ipc,
    /// User namespace.
    User,
    /// Cgroup namespace.
    Cgroup,
    /// Time namespace (Linux 5.6).
    Time,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Mnt,
        Self::Net,
        Self::Pid,
        Self::Uts,
        Self::Ipc,
        Self::User,
        Self::Cgroup,
        Self::Time,
    ];

    /// Name in /proc/PID/ns.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mnt => "mnt",
            Self::Net => "net",
            Self::Pid => "pid",
            Self::Uts => "uts",
            Self::Ipc => "ipc",
            Self::User => "user",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
        }
    }

    /// Name of the dimension in findings: `cgroup` is the place in the tree, not the namespace.
    #[must_use]
    pub const fn dimension(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup_ns",
            other => other.name(),
        }
    }

    /// The `CLONE_NEW*` flag.
    #[must_use]
    pub const fn flag(self) -> i32 {
        match self {
            Self::Mnt => libc::CLONE_NEWNS,
            Self::Net => libc::CLONE_NEWNET,
            Self::Pid => libc::CLONE_NEWPID,
            Self::Uts => libc::CLONE_NEWUTS,
            Self::Ipc => libc::CLONE_NEWIPC,
            Self::User => libc::CLONE_NEWUSER,
            Self::Cgroup => libc::CLONE_NEWCGROUP,
            Self::Time => 0x80,
        }
    }

    /// Whether joining or leaving moves only children to come, so that a fork completes the act.
    #[must_use]
    pub const fn takes_fork(self) -> bool {
        matches!(self, Self::Pid | Self::Time)
    }
}

/// One act. Paths are the container's, pids those of its pid namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case")]
pub enum Act {
    /// `setns(open(path))`.
    JoinByFd {
        /// The namespace's file.
        path: String,
        /// Its kind.
        kind: Kind,
    },
    /// `setns(pidfd_open(pid), kinds)`.
    JoinByPidfd {
        /// Whose namespaces.
        pid: i32,
        /// Which of them.
        kinds: Vec<Kind>,
    },
    /// `unshare(kind)`.
    Unshare {
        /// Which kind.
        kind: Kind,
    },
    /// `clone3(kind)`.
    Clone {
        /// Which kind.
        kind: Kind,
    },
    /// Creates `directory` if it is missing and writes 0 to its `cgroup.procs`.
    MoveCgroup {
        /// A cgroup's directory.
        directory: String,
    },
    /// `clone3(CLONE_INTO_CGROUP)`.
    CloneIntoCgroup {
        /// A cgroup's directory.
        directory: String,
    },
    /// `chroot(path)`.
    Chroot {
        /// The new root.
        path: String,
    },
    /// `fchdir(open(path)); chroot(".")`.
    ChrootByFd {
        /// The new root.
        path: String,
    },
    /// `chdir(path)`.
    Chdir {
        /// The new working directory.
        path: String,
    },
    /// `chdir(path)` by the 32-bit table.
    Chdir32 {
        /// The new working directory.
        path: String,
    },
    /// Becomes an ordinary user.
    DropUser,
    /// Becomes an ordinary user, then executes this file, which gives privileges.
    ExecAsUser {
        /// A setuid or file-capability copy of the actor.
        path: String,
    },
    /// Executes a setuid copy of the actor, which does `setns(open(path))`.
    JoinBySetuid {
        /// The namespace's file.
        path: String,
        /// Its kind.
        kind: Kind,
    },
    /// Becomes an ordinary user, then leaves for a fresh user namespace.
    UnshareUserAsUser,
    /// `seteuid` to an ordinary user and back.
    SwitchUser,
    /// `capset`: no effective capabilities, then all but one of the permitted, effective too.
    SwitchCapabilities,
    /// Something done to a file.
    File(file::FileAct),
    /// Something that takes a capability.
    Capability(capability::CapabilityAct),
    /// Something done to the kernel, its settings or a device.
    Kernel(kernel::KernelAct),
    /// Something done to another process.
    Process(process::ProcessAct),
    /// Something done to the mount table.
    Mount(mount::MountAct),
    /// Something whose arguments change meanwhile.
    Noise(noise::NoiseAct),
    /// Something about a unix socket.
    Socket(socket::SocketAct),
    /// Something that passes between containers.
    Handle(handle::HandleAct),
    /// Lets go of whatever the previous acts hold.
    Release,
}

/// What the actor answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// 0, or the error number of the call that failed.
    pub errno: i32,
    /// What was tried when it failed.
    #[serde(default)]
    pub what: String,
    /// The pid of the task that holds the new state, in the actor's pid namespace.
    #[serde(default)]
    pub pid: i32,
}

#[cfg(test)]
mod tests {
    use super::{Act, Kind};

    /// Goal: an act survives its trip into the container. Method: encode, compare the text, decode.
    #[test]
    fn acts_travel_as_one_json_line() {
        let act = Act::JoinByFd {
            path: "/hostproc/7/ns/net".into(),
            kind: Kind::Net,
        };
        let line = serde_json::to_string(&act).unwrap();
        assert_eq!(
            line,
            r#"{"act":"join-by-fd","path":"/hostproc/7/ns/net","kind":"net"}"#
        );
        assert_eq!(serde_json::from_str::<Act>(&line).unwrap(), act);
    }
}
