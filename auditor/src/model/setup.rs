//! What a process is set up with that no task record holds: its mount table, its LSM label, the maps of its user
//! namespace, the devices that its cgroup lets it reach.
//!
//! The agent reads it from the kernel when the engine asks, and it is part of the stream of events, so that a replay
//! has it too.

use super::device::Device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Mounts of one table that are kept. More are counted.
pub const MAX_MOUNTS: usize = 4096;
/// Device nodes of one directory that are kept.
pub const MAX_DEVICES: usize = 256;
/// Lines of a map of ids that are kept; the kernel takes no more.
pub const MAX_RANGES: usize = 340;
/// Rules about devices that are kept.
pub const MAX_RULES: usize = 256;
/// Bytes of one text in a table that are kept.
pub const MAX_TEXT: usize = 4096;

/// What the agent saw of one process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetUp {
    /// Thread group id of the process.
    pub pid: u32,
    /// Its start, nanoseconds since boot, as the question named it.
    pub start_boottime_ns: u64,
    /// Inum of its mount namespace.
    pub mnt_ns: u32,
    /// When it had been read, nanoseconds since boot.
    #[serde(default)]
    pub read_ns: u64,
    /// Its mounts, in the order of the kernel: later ones cover earlier ones.
    pub mounts: Vec<Mount>,
    /// Mounts that did not fit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: u32,
    /// What `/proc/PID/attr/current` says; absent where no LSM labels tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lsm: Option<String>,
    /// Of the paths that the question named: those that this kernel has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub present: Vec<String>,
    /// Device nodes in its `/dev`, where that is a tmpfs; absent where nobody asked or it is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<Vec<DeviceNode>>,
    /// Which user ids of its user namespace are which of the initial one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uid_map: Vec<IdRange>,
    /// As `uid_map`, of groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gid_map: Vec<IdRange>,
    /// What its cgroup of version 1 lets it do with devices, and nothing else; absent where no such hierarchy is
    /// mounted, and where there are too many rules. Version 2 has a program in their place, which nobody can read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_rules: Option<Vec<DeviceRule>>,
    /// Which of an entity's tables it is, where a recording repeats what was known; absent for a fresh look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeats: Option<Table>,
}

/// Ids in a row that a user namespace maps to those outside of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IdRange {
    /// The first, inside.
    pub inside: u32,
    /// The first, in the initial user namespace.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// What may be done with some devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct DeviceRule {
    /// Block devices only, or character devices only; absent for both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<bool>,
    /// Major number; absent for every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub major: Option<u32>,
    /// Minor number; absent for every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minor: Option<u32>,
    /// They can be read.
    pub read: bool,
    /// They can be written.
    pub write: bool,
    /// Nodes of them can be made.
    pub mknod: bool,
}

/// A device node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceNode {
    /// Its name below `/dev`.
    pub name: String,
    /// What it stands for.
    pub device: Device,
}

/// Which of the tables that an engine keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Table {
    /// What a container started with.
    Baseline,
    /// What was seen last.
    Last,
}

/// One mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Unique within the mount's life.
    pub id: u32,
    /// Device of the superblock (major << 20 | minor).
    pub dev: u32,
    /// Directory of the file system that is mounted.
    pub root: String,
    /// Where, seen from the root of the process.
    pub point: String,
    /// Kind of file system.
    pub fs_type: String,
    /// Whether nothing can be written through it: the mount, or its superblock, is read-only.
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_only: bool,
    /// Peer group that it propagates to; 0: none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub shared: u32,
    /// Peer group that it receives from; 0: none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub master: u32,
    /// Whether it lets nobody see what is below: a file system that cannot be written, or a device that holds
    /// nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub mask: bool,
    /// Of an overlay: the directory that takes what is written, as who mounted it called it; absent where that is no
    /// whole path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper: Option<String>,
}

impl Mount {
    /// Whether it keeps others from writing what is below, or from seeing it.
    #[must_use]
    pub const fn protects(&self) -> bool {
        self.read_only || self.mask
    }

    /// Whether a directory of its file system is reached by it.
    #[must_use]
    pub fn covers(&self, dev: u32, root: &str) -> bool {
        self.dev == dev && is_below(root, &self.root)
    }
}

/// Whether a path is another one or below it.
#[must_use]
pub fn is_below(path: &str, above: &str) -> bool {
    match path.strip_prefix(above) {
        Some(rest) => rest.is_empty() || rest.starts_with('/') || above.ends_with('/'),
        None => false,
    }
}

impl SetUp {
    /// The mount that one finds at a path.
    #[must_use]
    pub fn at(&self, path: &str) -> Option<&Mount> {
        let longest = self
            .mounts
            .iter()
            .filter(|mount| is_below(path, &mount.point));
        // Of several at one point the last one is on top.
        longest.max_by_key(|mount| mount.point.len())
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
const fn is_zero(n: &u32) -> bool {
    *n == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
const fn is_false(b: &bool) -> bool {
    !*b
}

#[cfg(test)]
mod tests {
    use super::{Mount, SetUp, is_below};

    /// Goal: what is below a path is told by components. Method: equal, below, beside, the root.
    #[test]
    fn paths_are_compared_by_component() {
        assert!(is_below("/proc", "/proc") && is_below("/proc/sys", "/proc"));
        assert!(!is_below("/process", "/proc") && !is_below("/", "/proc"));
        assert!(is_below("/proc", "/"));
    }

    /// Goal: the topmost mount is found. Method: two at one point, one below.
    #[test]
    fn later_mounts_cover_earlier_ones() {
        let mount = |id, point: &str| Mount {
            id,
            point: point.to_owned(),
            ..Mount::default()
        };
        let table = SetUp {
            mounts: vec![mount(1, "/"), mount(2, "/proc"), mount(3, "/proc")],
            ..SetUp::default()
        };
        let at = |path| table.at(path).map(|mount| mount.id);
        assert_eq!(at("/proc/kcore"), Some(3));
        assert_eq!(at("/etc"), Some(1));
    }
}
