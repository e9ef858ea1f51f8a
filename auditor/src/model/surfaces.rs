//! What of the host's a container has mounted and can write, and which devices it was given.
//!
//! Mounts alone are looked at: whether permissions of files and capabilities let it write is another question.

use super::setup::{Mount, SetUp, is_below};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Surfaces of one container that are kept. More are counted.
const MAX_SURFACES: usize = 64;

/// File systems whose files are the kernel itself.
const OF_THE_KERNEL: [&str; 11] = [
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "efivarfs",
    "pstore",
    "securityfs",
    "sysfs",
    "tracefs",
];

/// File systems that hold no files of the host's.
const OTHERS: [&str; 8] = [
    "autofs",
    "devpts",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "proc",
    "rpc_pipefs",
];

/// Device nodes of the host's that every container has, as those with a user namespace have them: bound one by one.
const PLAIN_NODES: [&str; 6] = ["/full", "/null", "/random", "/tty", "/urandom", "/zero"];

/// The place of proc that is the machine's, whichever process looks at it, and that every kernel has.
const OF_PROC: &str = "/sys";

/// What a surface is a part of.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum SurfaceKind {
    /// A directory or file of the host's.
    Host,
    /// The kernel.
    Kernel,
    /// A device.
    Device,
}

/// Something of the host's that a container can write to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Surface {
    /// What it is a part of.
    pub kind: SurfaceKind,
    /// Where, seen from the container.
    pub path: String,
    /// The path on the host; the kind of file system; the device (`block 8:0`), or where the host has it.
    pub of: String,
    /// Whether its runtime keeps it for this container alone: the path has the container's id, or its pod's.
    pub own: bool,
}

/// All of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surfaces {
    /// Those that are kept, ordered.
    pub list: Vec<Surface>,
    /// How many are not.
    pub omitted: usize,
}

impl Surfaces {
    /// Of a container with these ids, by its set-up. Without the host's, no directory is known to be the host's.
    #[must_use]
    pub fn of(setup: &SetUp, host: Option<&SetUp>, ids: &[&str]) -> Self {
        // Later mounts at a place cover earlier ones.
        let top: BTreeMap<&str, &Mount> = setup
            .mounts
            .iter()
            .map(|mount| (mount.point.as_str(), mount))
            .collect();
        let mut by_device: BTreeMap<u32, Vec<&Mount>> = BTreeMap::new();
        for mount in host.iter().flat_map(|host| &host.mounts) {
            by_device.entry(mount.dev).or_default().push(mount);
        }
        let mounted = top.values().filter_map(|mount| {
            let of_host = by_device.get(&mount.dev).map_or(&[][..], Vec::as_slice);
            surface(mount, of_host, ids)
        });
        let proc = top.values().filter_map(|mount| knobs(mount, &top));
        let nodes = setup.devices.iter().flatten().map(|node| {
            let device = node.device;
            let of = format!("{} {}:{}", device.kind(), device.major, device.minor);
            Surface::new(SurfaceKind::Device, &format!("/dev/{}", node.name), of)
        });
        let mut list: Vec<Surface> = mounted.chain(proc).chain(nodes).collect();
        list.sort();
        list.dedup();
        let omitted = list.len().saturating_sub(MAX_SURFACES);
        list.truncate(MAX_SURFACES);
        Self { list, omitted }
    }
}

impl Surface {
    fn new(kind: SurfaceKind, path: &str, of: String) -> Self {
        Self {
            kind,
            path: path.to_owned(),
            of,
            own: false,
        }
    }
}

/// What a mount lets one write; `None`: nothing of the host's.
fn surface(mount: &Mount, of_host: &[&Mount], ids: &[&str]) -> Option<Surface> {
    let (point, fs_type) = (mount.point.as_str(), mount.fs_type.as_str());
    if mount.protects() || OTHERS.contains(&fs_type) {
        return None;
    }
    if fs_type == "devtmpfs" {
        let of = format!("/dev{}", mount.root.trim_end_matches('/'));
        let is_plain = PLAIN_NODES.contains(&mount.root.as_str());
        return (!is_plain).then(|| Surface::new(SurfaceKind::Device, point, of));
    }
    if OF_THE_KERNEL.contains(&fs_type) {
        return Some(Surface::new(SurfaceKind::Kernel, point, fs_type.to_owned()));
    }
    // The root of every container lies on some file system of the host's.
    let path = on_host(mount, of_host).filter(|_| point != "/")?;
    let own = path.split('/').any(|part| ids.contains(&part));
    Some(Surface {
        own,
        ..Surface::new(SurfaceKind::Host, point, path)
    })
}

/// Where a mount of proc shows the machine's settings, if they can be written there.
fn knobs(mount: &Mount, top: &BTreeMap<&str, &Mount>) -> Option<Surface> {
    if mount.fs_type != "proc" {
        return None;
    }
    let place = shown(mount, OF_PROC)?;
    let mut ways = Path::new(&place).ancestors().filter_map(Path::to_str);
    let found = ways.find_map(|way| top.get(way))?;
    let is_open = found.fs_type == "proc" && !found.protects();
    is_open.then(|| Surface::new(SurfaceKind::Kernel, &place, "proc".to_owned()))
}

/// Where a mount of proc shows a place of it; `None` where it does not.
fn shown(mount: &Mount, place: &str) -> Option<String> {
    if mount.root == "/" {
        return Some([mount.point.trim_end_matches('/'), place].concat());
    }
    is_below(&mount.root, place).then(|| mount.point.clone())
}

/// Where the host has what a mount shows, if one of its mounts of that file system shows it writable.
fn on_host(mount: &Mount, of_host: &[&Mount]) -> Option<String> {
    let has = |of: &&&Mount| !of.read_only && of.covers(mount.dev, &mount.root);
    let of = of_host.iter().filter(has).max_by_key(|m| m.root.len())?;
    let rest = mount.root.strip_prefix(of.root.trim_end_matches('/'))?;
    let path = [of.point.trim_end_matches('/'), rest].concat();
    let path = path.trim_end_matches('/');
    Some(if path.is_empty() { "/" } else { path }.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Surface, SurfaceKind, Surfaces};
    use crate::model::device::Device;
    use crate::model::setup::{DeviceNode, Mount, SetUp};

    fn mount(id: u32, dev: u32, root: &str, point: &str, fs_type: &str) -> Mount {
        Mount {
            id,
            dev,
            root: root.to_owned(),
            point: point.to_owned(),
            fs_type: fs_type.to_owned(),
            ..Mount::default()
        }
    }

    fn read_only(mount: Mount) -> Mount {
        Mount {
            read_only: true,
            ..mount
        }
    }

    fn host() -> SetUp {
        SetUp {
            mounts: vec![
                mount(1, 1, "/", "/", "ext4"),
                mount(2, 2, "/@home", "/home", "btrfs"),
                mount(3, 3, "/", "/run", "tmpfs"),
                read_only(mount(4, 4, "/", "/usr", "erofs")),
            ],
            ..SetUp::default()
        }
    }

    fn found(setup: &SetUp) -> Vec<(SurfaceKind, String, String)> {
        let all = Surfaces::of(setup, Some(&host()), &["c"]);
        let others = all.list.into_iter().filter(|surface| !surface.own);
        let told = |surface: Surface| (surface.kind, surface.path, surface.of);
        others.map(told).collect()
    }

    fn want(kind: SurfaceKind, path: &str, of: &str) -> (SurfaceKind, String, String) {
        (kind, path.to_owned(), of.to_owned())
    }

    /// Goal: an ordinary container shows nothing of the host's. Method: the mounts that runtimes make.
    #[test]
    fn an_ordinary_container_has_none() {
        let setup = SetUp {
            mounts: vec![
                mount(10, 1, "/var/lib/c/rootfs", "/", "ext4"),
                mount(11, 50, "/", "/proc", "proc"),
                read_only(mount(12, 50, "/sys", "/proc/sys", "proc")),
                read_only(mount(14, 51, "/", "/sys", "sysfs")),
                read_only(mount(15, 52, "/", "/sys/fs/cgroup", "cgroup2")),
                mount(16, 53, "/", "/dev", "tmpfs"),
                mount(17, 54, "/", "/dev/pts", "devpts"),
                mount(18, 55, "/", "/tmp", "tmpfs"),
                mount(19, 1, "/var/lib/c/hosts", "/etc/hosts", "ext4"),
            ],
            ..SetUp::default()
        };
        assert_eq!(found(&setup), []);
    }

    /// Goal: what can be written is named as container and host call it. Method: each kind; one read-only, one covered,
    /// one that the host itself has read-only.
    #[test]
    fn what_can_be_written_is_told() {
        let setup = SetUp {
            mounts: vec![
                mount(10, 1, "/var/lib/c/rootfs", "/", "ext4"),
                mount(11, 50, "/", "/proc", "proc"),
                mount(13, 51, "/", "/sys", "sysfs"),
                mount(14, 1, "/srv/data", "/data", "ext4"),
                mount(15, 2, "/@home/u", "/home", "btrfs"),
                mount(16, 3, "/docker.sock", "/run/docker.sock", "tmpfs"),
                mount(17, 1, "/", "/host", "ext4"),
                mount(18, 1, "/secret", "/mnt", "ext4"),
                read_only(mount(19, 60, "/", "/mnt", "tmpfs")),
                mount(20, 4, "/bin", "/bin", "erofs"),
                mount(22, 5, "/null", "/dev/null", "devtmpfs"),
                mount(23, 5, "/kvm", "/dev/kvm", "devtmpfs"),
                mount(24, 5, "/", "/hostdev", "devtmpfs"),
                read_only(mount(21, 1, "/etc", "/etc", "ext4")),
            ],
            devices: Some(vec![DeviceNode {
                name: "sda".to_owned(),
                device: Device {
                    block: true,
                    major: 8,
                    minor: 0,
                },
            }]),
            ..SetUp::default()
        };
        use SurfaceKind::{Host, Kernel};
        assert_eq!(
            found(&setup),
            [
                want(Host, "/data", "/srv/data"),
                want(Host, "/home", "/home/u"),
                want(Host, "/host", "/"),
                want(Host, "/run/docker.sock", "/run/docker.sock"),
                want(Kernel, "/proc/sys", "proc"),
                want(Kernel, "/sys", "sysfs"),
                want(SurfaceKind::Device, "/dev/kvm", "/dev/kvm"),
                want(SurfaceKind::Device, "/dev/sda", "block 8:0"),
                want(SurfaceKind::Device, "/hostdev", "/dev"),
            ]
        );
        assert_eq!(Surfaces::of(&setup, None, &[]).list.len(), 5);
    }

    /// Goal: the list has a bound. Method: more mounts.
    #[test]
    fn the_rest_is_counted() {
        let all = (0..70).map(|n| mount(n, 1, "/d", &format!("/{n}"), "ext4"));
        let setup = SetUp {
            mounts: all.collect(),
            ..SetUp::default()
        };
        let surfaces = Surfaces::of(&setup, Some(&host()), &[]);
        assert_eq!((surfaces.list.len(), surfaces.omitted), (64, 6));
    }
}
