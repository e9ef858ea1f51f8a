//! What a capability lets its holder do to others: which, under which circumstances, in words.
//!
//! The kernel asks for a capability over a user namespace, and for many over the one that owns some other namespace. So
//! the same capability is power over the machine in one container and nothing in another. Only what is power over the
//! host, or over other containers, stands here; what a container may do to itself does not.
//!
//! What else may stop it is not looked at: a filter of system calls, a security module.

use super::kinds::Severity;
use super::privileges::Granted;

/// What holds of a container, as a set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Circumstances(u8);

impl Circumstances {
    /// Its capabilities are over the machine's initial user namespace.
    pub const INITIAL_USER: Self = Self(1);
    /// It is in the host's pid namespace.
    pub const HOST_PID: Self = Self(1 << 1);
    /// It is in one pid namespace with other containers, over whose user namespace its capabilities are.
    pub const OTHERS_PID: Self = Self(1 << 2);
    /// It is in the host's network namespace.
    pub const HOST_NET: Self = Self(1 << 3);
    /// It is in the host's IPC namespace.
    pub const HOST_IPC: Self = Self(1 << 4);
    /// A hierarchy of cgroup version 1 is mounted on the machine.
    pub const CGROUP_V1: Self = Self(1 << 5);
    /// Its cgroup lets it use every device, or its specification does where nobody has read that.
    pub const ALL_DEVICES: Self = Self(1 << 6);
    /// It was granted `PERFMON` too.
    pub const PERFMON: Self = Self(1 << 7);

    /// These, and others if they hold.
    #[must_use]
    pub const fn and(self, others: Self, hold: bool) -> Self {
        Self(if hold { self.0 | others.0 } else { self.0 })
    }

    /// Whether all of these hold.
    #[must_use]
    pub const fn has(self, all: Self) -> bool {
        self.0 & all.0 == all.0
    }
}

/// One thing that a capability gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Power {
    /// Number of the capability.
    pub capability: u8,
    /// What must hold.
    pub takes: Circumstances,
    /// How bad.
    pub severity: Severity,
    /// What whoever has it can do, as words behind "can".
    pub words: &'static str,
}

/// Number of `PERFMON`.
pub const PERFMON: u8 = 38;

const MACHINE: Circumstances = Circumstances::INITIAL_USER;

const fn with(more: Circumstances) -> Circumstances {
    MACHINE.and(more, true)
}

const fn row(
    capability: u8,
    takes: Circumstances,
    severity: Severity,
    words: &'static str,
) -> Power {
    Power {
        capability,
        takes,
        severity,
        words,
    }
}

/// All of them, by capability.
pub const POWERS: [Power; 24] = {
    use Circumstances as C;
    use Severity::{High, Low, Medium};
    let host_pid = with(C::HOST_PID);
    let host_net = with(C::HOST_NET);
    [
        row(
            2,
            MACHINE,
            High,
            "open every file of a file system that it has one file of, by handle",
        ),
        row(5, host_pid, Medium, "end any process of the host"),
        row(12, host_net, High, "change the host's network"),
        row(13, host_net, Medium, "read and forge the host's packets"),
        row(
            15,
            with(C::HOST_IPC),
            Medium,
            "use any System V object of the host",
        ),
        row(16, MACHINE, High, "load code into the kernel"),
        row(17, MACHINE, High, "drive devices past the kernel"),
        row(19, host_pid, High, "control every process of the host"),
        row(
            19,
            C::OTHERS_PID,
            High,
            "control processes of other containers",
        ),
        row(
            21,
            MACHINE,
            High,
            "mount, and undo what is masked or read-only",
        ),
        row(
            21,
            with(C::CGROUP_V1),
            High,
            "run programs on the host by a release_agent of cgroup v1",
        ),
        row(22, MACHINE, High, "start another kernel by kexec"),
        row(22, host_pid, Medium, "restart the machine"),
        row(25, MACHINE, Medium, "set the machine's clock"),
        row(
            27,
            with(C::ALL_DEVICES),
            High,
            "make a node for any device, disks too",
        ),
        row(30, host_pid, Medium, "switch off the machine's audit"),
        row(
            32,
            MACHINE,
            Medium,
            "pass over the rules of a security module",
        ),
        row(33, MACHINE, High, "change the rules of a security module"),
        row(34, MACHINE, Low, "read the kernel's log"),
        row(
            PERFMON,
            MACHINE,
            Medium,
            "watch the kernel and every process by perf",
        ),
        row(39, MACHINE, Medium, "load programs into the kernel by bpf"),
        row(
            39,
            with(C::PERFMON),
            High,
            "read the kernel's memory by bpf",
        ),
        row(
            40,
            host_pid,
            Medium,
            "open what any process of the host has mapped",
        ),
        row(
            40,
            C::OTHERS_PID.and(MACHINE, true),
            Medium,
            "open what processes of other containers have mapped",
        ),
    ]
};

/// What a container's grant gives it under these circumstances.
pub fn of(granted: &Granted, circumstances: Circumstances) -> impl Iterator<Item = &'static Power> {
    let may = granted.may();
    let holds =
        move |power: &&Power| may >> power.capability & 1 == 1 && circumstances.has(power.takes);
    POWERS.iter().filter(holds)
}

/// The capabilities of some powers.
#[must_use]
pub fn capabilities(powers: &[&Power]) -> u64 {
    powers
        .iter()
        .fold(0, |set, power| set | 1 << power.capability)
}

#[cfg(test)]
mod tests {
    use super::{Circumstances, MACHINE, POWERS, of};
    use crate::model::capability;
    use crate::model::privileges::Granted;

    fn set(names: &[&str]) -> Granted {
        let bits = names.iter().map(|name| capability::parse(name).unwrap());
        let permitted = bits.fold(0, |set, bit| set | 1 << bit);
        Granted {
            permitted,
            initial: true,
            ..Granted::default()
        }
    }

    fn told(granted: &Granted, circumstances: Circumstances) -> Vec<&'static str> {
        let all = of(granted, circumstances);
        all.map(|power| capability::NAMES[usize::from(power.capability)])
            .collect()
    }

    /// Goal: the numbers mean what the words say. Method: the capabilities of the table, by name, in order.
    #[test]
    fn the_table_is_about_these_capabilities() {
        let mut names: Vec<_> = POWERS
            .iter()
            .map(|p| capability::NAMES[usize::from(p.capability)])
            .collect();
        names.dedup();
        assert_eq!(
            names,
            [
                "DAC_READ_SEARCH",
                "KILL",
                "NET_ADMIN",
                "NET_RAW",
                "IPC_OWNER",
                "SYS_MODULE",
                "SYS_RAWIO",
                "SYS_PTRACE",
                "SYS_ADMIN",
                "SYS_BOOT",
                "SYS_TIME",
                "MKNOD",
                "AUDIT_CONTROL",
                "MAC_OVERRIDE",
                "MAC_ADMIN",
                "SYSLOG",
                "PERFMON",
                "BPF",
                "CHECKPOINT_RESTORE",
            ]
        );
    }

    /// Goal: what runtimes give by default is nothing, with namespaces of its own.
    #[test]
    fn default_sets_give_nothing() {
        let docker = set(&[
            "CHOWN",
            "DAC_OVERRIDE",
            "FSETID",
            "FOWNER",
            "MKNOD",
            "NET_RAW",
            "SETGID",
            "SETUID",
            "SETFCAP",
            "SETPCAP",
            "NET_BIND_SERVICE",
            "SYS_CHROOT",
            "KILL",
            "AUDIT_WRITE",
        ]);
        assert_eq!(told(&docker, MACHINE), [""; 0]);
        let runc = set(&["AUDIT_WRITE", "KILL", "NET_BIND_SERVICE"]);
        assert_eq!(told(&runc, MACHINE), [""; 0]);
        let host = MACHINE
            .and(Circumstances::HOST_NET, true)
            .and(Circumstances::HOST_PID, true);
        assert_eq!(told(&docker, host), ["KILL", "NET_RAW"]);
    }

    /// Goal: over a user namespace of its own all capabilities give nothing, whatever of the host's it shares.
    #[test]
    fn a_user_namespace_of_its_own_takes_it_all() {
        let all = Granted {
            permitted: capability::ALL,
            ..Granted::default()
        };
        let host = [
            Circumstances::HOST_PID,
            Circumstances::HOST_NET,
            Circumstances::HOST_IPC,
            Circumstances::CGROUP_V1,
            Circumstances::ALL_DEVICES,
            Circumstances::PERFMON,
        ];
        let shares = host
            .iter()
            .fold(Circumstances::default(), |all, one| all.and(*one, true));
        assert_eq!(told(&all, shares), [""; 0]);
        let others = shares.and(Circumstances::OTHERS_PID, true);
        assert_eq!(told(&all, others), ["SYS_PTRACE"]);
    }

    /// Goal: what cannot be gained by an exec is not granted.
    #[test]
    fn the_bounding_set_counts_where_an_exec_can_give() {
        let bounding = |no_new_privs| Granted {
            bounding: capability::ALL,
            no_new_privs,
            initial: true,
            ..Granted::default()
        };
        assert!(told(&bounding(false), MACHINE).contains(&"SYS_MODULE"));
        assert_eq!(told(&bounding(true), MACHINE), [""; 0]);
    }
}
