//! What stands between a container and each capability: `granted = ⋂ layers`.
//!
//! A layer is said to block a capability only where it surely does. What a profile of an LSM forbids is not read, so it is
//! shown and blocks nothing here; a seccomp profile blocks a capability when it refuses every call that
//! capabilities(7) names for it. What it refuses through files or `ioctl` no list of calls can tell: capabilities that
//! are asked for there are not in [`CALLS`], and no profile is said to block them.

use super::capability;
use super::privileges::Granted;
use super::setup::{DeviceRule, IdRange, SetUp};
use super::surfaces::Surfaces;

/// Something that takes capabilities away, in the order in which they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// Neither permitted nor in the bounding set: no exec can give it.
    Bounding,
    /// Not permitted, and no exec gives anything.
    NoNewPrivs,
    /// Held over a user namespace of the container's own, and the kernel asks for it over the initial one.
    UserNamespace,
    /// The filter refuses every system call that takes it.
    Seccomp,
    /// The device rules allow no node to be made.
    Devices,
}

impl Layer {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Bounding,
        Self::NoNewPrivs,
        Self::UserNamespace,
        Self::Seccomp,
        Self::Devices,
    ];

    /// Its name in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bounding => "bounding",
            Self::NoNewPrivs => "no_new_privs",
            Self::UserNamespace => "user_namespace",
            Self::Seccomp => "seccomp",
            Self::Devices => "devices",
        }
    }
}

/// `CAP_MKNOD`.
const MKNOD: u8 = 27;

/// Capabilities that the kernel asks for over the initial user namespace and no other, whatever they are used for. Not
/// here: `BPF` and `PERFMON`, which a token of a user namespace may stand for (6.9), and those that are asked for over
/// either, such as `SYS_TIME`, which also sets the clocks of a time namespace.
const OF_THE_MACHINE: [&str; 14] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "SYSLOG",
    "SYS_MODULE",
    "SYS_PACCT",
    "SYS_RAWIO",
    "WAKE_ALARM",
];

/// Capabilities that take effect by a few system calls alone, as capabilities(7) lists them; none of these calls has
/// an equal in io_uring, which no filter sees.
pub const CALLS: [(&str, &[&str]); 8] = [
    ("BPF", &["bpf"]),
    (
        "CHOWN",
        &[
            "chown", "chown32", "fchown", "fchown32", "fchownat", "lchown", "lchown32",
        ],
    ),
    ("MKNOD", &["mknod", "mknodat"]),
    ("PERFMON", &["bpf", "perf_event_open"]),
    ("SYS_BOOT", &["kexec_file_load", "kexec_load", "reboot"]),
    ("SYS_CHROOT", &["chroot", "setns"]),
    (
        "SYS_MODULE",
        &["delete_module", "finit_module", "init_module"],
    ),
    ("SYS_PACCT", &["acct"]),
];

/// Whether a system call stands in [`CALLS`]: others need not be remembered.
#[must_use]
pub fn is_asking(call: &str) -> bool {
    CALLS.iter().any(|(_, calls)| calls.contains(&call))
}

/// Capabilities that are good for nothing in a user namespace of one's own.
#[must_use]
pub fn of_the_machine() -> u64 {
    OF_THE_MACHINE.iter().fold(0, |set, name| set | bit(name))
}

fn bit(name: &str) -> u64 {
    capability::parse(name).map_or(0, |bit| 1 << bit)
}

/// Filters of system calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seccomp {
    /// 0 off, 1 strict, 2 filter.
    pub mode: u32,
    /// Filters installed.
    pub filters: u32,
}

/// Who of a container was seen to restrict itself by Landlock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Landlock {
    /// Some task, and so what descends from it.
    Some,
    /// Its first task: whatever descends from that is restricted likewise.
    First,
}

impl Landlock {
    /// Its name in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Some => "some_task",
            Self::First => "first_task",
        }
    }
}

/// What the first task of a container was confined by when it began, or was first seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Confined {
    /// `SECBIT_*`; `None`: /proc alone was read, which does not tell.
    pub securebits: Option<u32>,
    /// Filters of system calls; `None`: not readable.
    pub seccomp: Option<Seccomp>,
    /// Who has restricted itself since; `None`: nobody was seen to, and nothing tells who did before.
    pub landlock: Option<Landlock>,
}

/// What is known of the devices that a container may reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Devices {
    /// Nothing.
    #[default]
    Unknown,
    /// The rules of its cgroup.
    Rules(Vec<DeviceRule>),
    /// What its spec declares: whether the rules end by allowing everything.
    Declared {
        /// They do.
        all: bool,
    },
}

impl Devices {
    /// Whether every device may be reached, for reading and writing; `None`: not known.
    #[must_use]
    pub fn all(&self) -> Option<bool> {
        match self {
            Self::Unknown => None,
            Self::Declared { all } => Some(*all),
            Self::Rules(rules) => Some(rules.iter().any(|rule| {
                (rule.block, rule.major, rule.minor) == (None, None, None) && rule.write
            })),
        }
    }
}

/// What a process is set up with, as far as it is a layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Worn {
    /// Which user ids are which outside.
    pub uid_map: Vec<IdRange>,
    /// Which group ids are which outside.
    pub gid_map: Vec<IdRange>,
    /// Label of an LSM.
    pub lsm: Option<String>,
    /// What of the host's it can write.
    pub surfaces: Surfaces,
}

impl Worn {
    /// Of a container's set-up; the host's tells which directories are its, the container's ids which of these are
    /// there for it alone.
    #[must_use]
    pub fn of(setup: &SetUp, host: Option<&SetUp>, ids: &[&str]) -> Self {
        Self {
            uid_map: setup.uid_map.clone(),
            gid_map: setup.gid_map.clone(),
            lsm: setup.lsm.clone(),
            surfaces: Surfaces::of(setup, host, ids),
        }
    }
}

/// All layers of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layers {
    /// Its capabilities; `None`: not readable.
    pub granted: Option<Granted>,
    /// What else its first task began with.
    pub confined: Confined,
    /// Of [`CALLS`], those that the seccomp profile of its spec refuses; `None`: no profile is known.
    pub refused: Option<Vec<String>>,
    /// Devices that it may reach.
    pub devices: Devices,
    /// What nobody has looked at yet is `None`.
    pub worn: Option<Worn>,
}

impl Layers {
    /// The capabilities that a layer surely blocks, whatever the others do.
    #[must_use]
    pub fn blocked(&self, layer: Layer) -> u64 {
        let granted = self.granted.as_ref();
        let named = |set: u64| set & capability::ALL;
        match layer {
            Layer::Bounding => granted.map_or(0, |g| named(!(g.permitted | g.bounding))),
            Layer::NoNewPrivs => granted
                .filter(|g| g.no_new_privs)
                .map_or(0, |g| named(!g.permitted)),
            Layer::UserNamespace if granted.is_some_and(|g| !g.initial) => of_the_machine(),
            Layer::UserNamespace => 0,
            Layer::Seccomp => self.refused_by_seccomp(),
            Layer::Devices => match &self.devices {
                Devices::Rules(rules) if rules.iter().all(|rule| !rule.mknod) => 1 << MKNOD,
                _ => 0,
            },
        }
    }

    fn refused_by_seccomp(&self) -> u64 {
        let refuses: &dyn Fn(&str) -> bool = match (self.confined.seccomp, &self.refused) {
            // Nothing but reading, writing and leaving.
            (Some(Seccomp { mode: 1, .. }), _) => &|_| true,
            (Some(Seccomp { mode: 2, .. }), Some(refused)) => {
                &|call| refused.iter().any(|name| name == call)
            }
            _ => return 0,
        };
        let blocked = CALLS
            .iter()
            .filter(|(_, calls)| calls.iter().all(|call| refuses(call)));
        blocked.fold(0, |set, (name, _)| set | bit(name))
    }

    /// What all layers let through; `None` where it is not known what was granted.
    #[must_use]
    pub fn remaining(&self) -> Option<u64> {
        let blocked = Layer::ALL
            .iter()
            .fold(0, |set, layer| set | self.blocked(*layer));
        self.granted
            .map(|granted| granted.may() & !blocked & capability::ALL)
    }

    /// Of what each layer blocks, that which those before it let through: every capability stands at one of them.
    #[must_use]
    pub fn first_blocked(&self) -> Vec<(Layer, u64)> {
        let mut before = 0;
        let mut first = Vec::new();
        for layer in Layer::ALL {
            let blocked = self.blocked(layer);
            if blocked & !before != 0 {
                first.push((layer, blocked & !before));
            }
            before |= blocked;
        }
        first
    }
}

#[cfg(test)]
mod tests {
    //! Goal: what remains is what is granted and no layer blocks; nothing is said to be blocked on less than all of the
    //! calls that take it.

    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn granted()(permitted: u64, bounding: u64, no_new_privs: bool, initial: bool) -> Granted {
            Granted { permitted, bounding, no_new_privs, initial }
        }
    }

    fn calls() -> Vec<String> {
        let all = CALLS.iter().flat_map(|(_, calls)| calls.iter());
        all.map(|call| (*call).to_owned()).collect()
    }

    fn devices() -> impl Strategy<Value = Devices> {
        let rule = any::<bool>().prop_map(|mknod| DeviceRule {
            mknod,
            ..DeviceRule::default()
        });
        prop_oneof![
            Just(Devices::Unknown),
            any::<bool>().prop_map(|all| Devices::Declared { all }),
            prop::collection::vec(rule, 0..3).prop_map(Devices::Rules),
        ]
    }

    prop_compose! {
        fn layers()(
            granted in prop::option::of(granted()),
            seccomp in prop::option::of((0u32..3, 0u32..3)),
            refused in prop::option::of(prop::sample::subsequence(calls(), 0..=calls().len())),
            devices in devices(),
        ) -> Layers {
            let seccomp = seccomp.map(|(mode, filters)| Seccomp { mode, filters });
            let confined = Confined { seccomp, ..Confined::default() };
            Layers { granted, confined, refused, devices, worn: None }
        }
    }

    proptest! {
        #[test]
        fn what_remains_and_what_is_blocked_part_all(layers in layers()) {
            let first = layers.first_blocked();
            let blocked = first.iter().fold(0, |set, (_, blocked)| set | blocked);
            let count: u32 = first.iter().map(|(_, blocked)| blocked.count_ones()).sum();
            // Each stands at one layer.
            prop_assert_eq!(count, blocked.count_ones());
            match layers.remaining() {
                Some(remaining) => {
                    prop_assert_eq!(remaining & blocked, 0);
                    prop_assert_eq!(remaining | blocked, capability::ALL);
                    let may = layers.granted.unwrap().may();
                    prop_assert_eq!(remaining & !may, 0);
                }
                None => prop_assert!(layers.granted.is_none()),
            }
        }

        #[test]
        fn the_sets_of_the_kernel_are_two_layers(granted in granted()) {
            let layers = Layers { granted: Some(Granted { initial: true, ..granted }), ..Layers::default() };
            prop_assert_eq!(layers.remaining(), Some(granted.may() & capability::ALL));
        }

        #[test]
        fn one_call_that_is_let_through_is_enough(layers in layers(), call in prop::sample::select(calls())) {
            let mut open = layers.clone();
            if let Some(refused) = &mut open.refused {
                refused.retain(|name| *name != call);
            }
            let strict = layers.confined.seccomp.is_some_and(|s| s.mode == 1);
            for (name, calls) in CALLS {
                if calls.contains(&call.as_str()) && !strict {
                    prop_assert_eq!(open.blocked(Layer::Seccomp) & bit(name), 0);
                }
            }
            prop_assert_eq!(open.blocked(Layer::Seccomp) & !layers.blocked(Layer::Seccomp), 0);
        }
    }

    /// A filter takes nothing away while its profile is not known, and a profile nothing while there is no filter.
    #[test]
    fn a_filter_and_its_profile_block_together() {
        let with = |mode, refused: Option<&[&str]>| {
            let layers = Layers {
                confined: Confined {
                    seccomp: Some(Seccomp { mode, filters: 1 }),
                    ..Confined::default()
                },
                refused: refused.map(|calls| calls.iter().map(|&c| c.to_owned()).collect()),
                ..Layers::default()
            };
            capability::names(layers.blocked(Layer::Seccomp))
        };
        let boot: &[&str] = &["kexec_file_load", "kexec_load", "reboot", "bpf"];
        assert_eq!(with(2, Some(boot)), ["SYS_BOOT", "BPF"]);
        assert_eq!(with(2, Some(&boot[1..])), ["BPF"]);
        assert!(with(2, None).is_empty() && with(0, Some(boot)).is_empty());
        assert_eq!(with(1, None).len(), CALLS.len());
    }

    #[test]
    fn a_user_namespace_of_its_own_does_not_reach_the_machine() {
        let granted = |initial| Granted {
            permitted: capability::ALL,
            bounding: capability::ALL,
            no_new_privs: false,
            initial,
        };
        let layers = |initial| Layers {
            granted: Some(granted(initial)),
            ..Layers::default()
        };
        assert_eq!(layers(true).blocked(Layer::UserNamespace), 0);
        let blocked = layers(false).blocked(Layer::UserNamespace);
        assert_eq!(blocked.count_ones() as usize, OF_THE_MACHINE.len());
        assert_eq!(
            blocked & (bit("SYS_ADMIN") | bit("BPF") | bit("SYS_TIME")),
            0
        );
        assert_ne!(blocked & bit("MKNOD"), 0);
    }

    #[test]
    fn rules_without_any_node_block_making_them() {
        let rules = |mknod| Layers {
            devices: Devices::Rules(vec![DeviceRule {
                read: true,
                mknod,
                ..DeviceRule::default()
            }]),
            ..Layers::default()
        };
        assert_eq!(rules(false).blocked(Layer::Devices), bit("MKNOD"));
        assert_eq!(rules(true).blocked(Layer::Devices), 0);
    }

    #[test]
    fn the_tables_name_what_there_is() {
        for name in CALLS.iter().map(|(name, _)| *name).chain(OF_THE_MACHINE) {
            assert_ne!(bit(name), 0, "{name}");
        }
        assert!(is_asking("reboot") && !is_asking("read"));
    }
}
