//! Looks at what one process is set up with: its mount table, its LSM label, the maps of its user namespace, the devices
//! that its cgroup lets it reach.
//!
//! Only files of /proc and of cgroups are read, by the descriptor of the process's directory, and the start time is
//! compared before and after: an id that another process has got meanwhile says nothing. No path is followed that a
//! container controls, and nothing is asked of a file system that it may serve itself.

use super::device_code;
use super::load::Loaded;
use super::mountinfo;
use super::procfs::{CgroupLine, parse_cgroup, parse_stat, same_task};
use crate::engine::Look;
use crate::model::device::Device;
use crate::model::setup::{
    DeviceNode, DeviceRule, IdRange, MAX_DEVICES, MAX_MOUNTS, MAX_RANGES, MAX_RULES, MAX_TEXT,
    Mount, SetUp,
};
use crate::model::text;
use auditor_common::record::TaskKey;
use hashbrown::HashMap;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, StatxFlags, openat, openat2, statat,
    statx,
};
use rustix::io::Errno;
use std::cell::OnceCell;
use std::ffi::OsStr;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bytes of a mount table that are read.
const MAX_TABLE_LEN: u64 = 16 << 20;
/// Bytes of another file that are read.
const MAX_FILE_LEN: u64 = 4096;
/// Bytes of a map of ids, or of rules about devices, that are read.
const MAX_LIST_LEN: u64 = 64 << 10;
/// Entries of a directory that are read.
const MAX_ENTRIES: usize = 4096;
/// Tables that are remembered. One more, and all are told again.
const MAX_SEEN: usize = 1 << 16;

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Looker {
    /// Hashes of what was told last, by process and mount namespace.
    seen: HashMap<(u32, u64, u32), u64>,
    /// Where the version 1 hierarchy of device rules is mounted, if it is.
    device_hierarchy: OnceCell<Option<OwnedFd>>,
}

impl Looker {
    /// What the engine asks for; `None` where the process is gone, cannot be read, or nothing has changed. Our
    /// kernel programs, where they are loaded, tell what version 2 cgroups allow; else the kernel is asked.
    pub fn look(&mut self, look: &Look, kernel: Option<&mut Loaded>) -> Option<SetUp> {
        let hierarchy = self.device_hierarchy.get_or_init(device_hierarchy);
        let read = match read(look, hierarchy.as_ref(), kernel) {
            Ok(read) => read?,
            Err(error) => {
                tracing::debug!(pid = look.key.tgid, "cannot look: {error}");
                return None;
            }
        };
        if self.seen.len() >= MAX_SEEN {
            self.seen.clear();
        }
        let hash = read.hash();
        let place = (look.key.tgid, look.key.start_boottime_ns, look.mnt_ns);
        let before = self.seen.insert(place, hash);
        if before == Some(hash) && !look.always {
            return None;
        }
        read.set_up(look)
    }
}

/// What was read.
struct Seen {
    read_ns: u64,
    table: Vec<u8>,
    lsm: Option<Vec<u8>>,
    devices: Option<Vec<DeviceNode>>,
    uid_map: Vec<u8>,
    gid_map: Vec<u8>,
    device_rules: Option<Vec<DeviceRule>>,
}

impl Seen {
    fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let Self {
            read_ns: _,
            table,
            lsm,
            // Who opens one that is new is seen.
            devices: _,
            uid_map,
            gid_map,
            device_rules,
        } = self;
        (table, lsm, uid_map, gid_map, device_rules).hash(&mut hasher);
        hasher.finish()
    }

    fn set_up(&self, look: &Look) -> Option<SetUp> {
        let mut mounts = mountinfo::parse(&self.table)
            .inspect_err(|error| tracing::warn!(pid = look.key.tgid, "{error}"))
            .ok()?;
        let omitted = mounts.len().saturating_sub(MAX_MOUNTS);
        mounts.truncate(MAX_MOUNTS);
        Some(SetUp {
            pid: look.key.tgid,
            start_boottime_ns: look.key.start_boottime_ns,
            mnt_ns: look.mnt_ns,
            read_ns: self.read_ns,
            mounts: mounts.iter().map(mount).collect(),
            omitted: u32::try_from(omitted).unwrap_or(u32::MAX),
            lsm: self.lsm.as_deref().map(text::escape),
            present: present(&look.paths),
            devices: self.devices.clone(),
            uid_map: ranges(&self.uid_map),
            gid_map: ranges(&self.gid_map),
            device_rules: self.device_rules.clone(),
            repeats: None,
        })
    }
}

fn read(
    look: &Look,
    hierarchy: Option<&OwnedFd>,
    kernel: Option<&mut Loaded>,
) -> io::Result<Option<Seen>> {
    let key = &look.key;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory: OwnedFd = openat(CWD, format!("/proc/{}", key.tgid), flags, Mode::empty())?;
    let directory = directory.as_fd();
    if !is(directory, look)? {
        return Ok(None);
    }
    let table = read_at(directory, "mountinfo", MAX_TABLE_LEN)?;
    let lsm = read_at(directory, "attr/current", MAX_FILE_LEN).ok();
    let lsm = lsm.map(|label| {
        let end = label.iter().position(|&b| b == 0 || b == b'\n');
        label[..end.unwrap_or(label.len())].to_vec()
    });
    let devices = look.devices.then(|| devices(directory, &table));
    let map = |file| read_at(directory, file, MAX_LIST_LEN).unwrap_or_default();
    let read = Seen {
        read_ns: super::clock::boottime_ns(),
        table,
        lsm: lsm.filter(|label| !label.is_empty()),
        devices: devices.flatten(),
        uid_map: map("uid_map"),
        gid_map: map("gid_map"),
        device_rules: match hierarchy {
            Some(at) => read_device_rules(directory, at).and_then(|text| device_rules(&text)),
            None => match kernel {
                Some(kernel) => kernel.device_rules(key),
                None => open_cgroup(directory).and_then(|at| device_code::query(at.as_fd())),
            },
        },
    };
    Ok(is(directory, look)?.then_some(read))
}

/// The root of the version 1 hierarchy that has device rules.
fn device_hierarchy() -> Option<OwnedFd> {
    hierarchy(|mount| {
        let mut options = mount.super_options.split(|&b| b == b',');
        mount.fs_type == b"cgroup" && options.any(|o| o == b"devices")
    })
}

/// The root of the first hierarchy of cgroups that fits.
fn hierarchy(fits: impl Fn(&mountinfo::Mount) -> bool) -> Option<OwnedFd> {
    let mounts = mountinfo::parse(&std::fs::read("/proc/self/mountinfo").ok()?).ok()?;
    let mut mounts = mounts.iter();
    let mount = mounts.find(|mount| mount.root == b"/" && fits(mount))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let at = OsStr::from_bytes(&mount.mount_point);
    openat(CWD, at, flags, Mode::empty()).ok()
}

/// Opens something in a process's cgroup, in the hierarchy whose line in its `cgroup` fits. Names there are the container's
/// only below what it was given, and none of them leads out of it.
fn open_in_cgroup(
    process: BorrowedFd<'_>,
    hierarchy: &OwnedFd,
    fits: impl Fn(&CgroupLine<'_>) -> bool,
    name: &str,
    flags: OFlags,
) -> Option<OwnedFd> {
    let text = read_at(process, "cgroup", MAX_LIST_LEN).ok()?;
    let lines = parse_cgroup(&text).ok()?;
    let line = lines.iter().find(|line| fits(line))?;
    let path = OsStr::from_bytes(line.path.strip_prefix(b"/")?);
    let path = Path::new(path).join(name);
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC;
    openat2(hierarchy, path, flags, Mode::empty(), within).ok()
}

/// The rules of a process's cgroup in version 1.
fn read_device_rules(process: BorrowedFd<'_>, hierarchy: &OwnedFd) -> Option<Vec<u8>> {
    let has_rules = |line: &CgroupLine<'_>| {
        let mut controllers = line.controllers.split(|&b| b == b',');
        controllers.any(|controller| controller == b"devices")
    };
    let file = open_in_cgroup(
        process,
        hierarchy,
        has_rules,
        "devices.list",
        OFlags::empty(),
    )?;
    let mut bytes = Vec::new();
    File::from(file)
        .take(MAX_LIST_LEN)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(bytes)
}

/// A process's cgroup in version 2.
fn open_cgroup(process: BorrowedFd<'_>) -> Option<OwnedFd> {
    let root = hierarchy(|mount| mount.fs_type == b"cgroup2")?;
    let is_unified = |line: &CgroupLine<'_>| line.hierarchy == 0;
    open_in_cgroup(process, &root, is_unified, ".", OFlags::DIRECTORY)
}

/// Lines of a map of ids: the first inside, the first outside, how many.
fn ranges(text: &[u8]) -> Vec<IdRange> {
    let text = String::from_utf8_lossy(text);
    let range = |line: &str| {
        let mut numbers = line.split_whitespace().map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(IdRange {
            inside: next()?,
            outside: next()?,
            count: next()?,
        })
    };
    text.lines().filter_map(range).take(MAX_RANGES).collect()
}

/// Lines of `devices.list`: `a *:* rwm`, `c 1:3 rw`. `None` where there are more than can be kept: what a part of them
/// does not allow, the rest may.
fn device_rules(text: &[u8]) -> Option<Vec<DeviceRule>> {
    let text = String::from_utf8_lossy(text);
    let rule = |line: &str| {
        let mut words = line.split_whitespace();
        let block = match words.next()? {
            "a" => None,
            "b" => Some(true),
            "c" => Some(false),
            _ => return None,
        };
        let (major, minor) = words.next()?.split_once(':')?;
        let number = |word: &str| match word {
            "*" => Some(None),
            word => word.parse().ok().map(Some),
        };
        let access = words.next()?;
        Some(DeviceRule {
            block,
            major: number(major)?,
            minor: number(minor)?,
            read: access.contains('r'),
            write: access.contains('w'),
            mknod: access.contains('m'),
        })
    };
    let rules: Vec<DeviceRule> = text.lines().filter_map(rule).take(MAX_RULES).collect();
    (rules.len() < MAX_RULES).then_some(rules)
}

/// Whether a directory of /proc is this process's, and that is still in the mount namespace that is asked about.
fn is(directory: BorrowedFd<'_>, look: &Look) -> io::Result<bool> {
    let key = &look.key;
    let stat = read_at(directory, "stat", MAX_FILE_LEN)?;
    let stat = parse_stat(&stat).map_err(io::Error::other)?;
    let found = TaskKey {
        tid: key.tid,
        tgid: key.tgid,
        start_boottime_ns: stat.start_boottime_ns,
    };
    let mnt_ns = statat(directory, "ns/mnt", AtFlags::empty())?.st_ino;
    Ok(same_task(&found, key) && mnt_ns == u64::from(look.mnt_ns))
}

fn read_at(directory: BorrowedFd<'_>, file: &str, most: u64) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = openat(directory, file, flags, Mode::empty())?;
    let mut bytes = Vec::new();
    File::from(file).take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn mount(mount: &mountinfo::Mount) -> Mount {
    let limited = |bytes: &[u8]| text::escape(&bytes[..bytes.len().min(MAX_TEXT)]);
    let read_only = mount.is_read_only();
    // A container may have a tmpfs of its own with anything in it; runtimes' are empty, and cannot be written.
    let null = mount.root == b"/null" || mount.root.ends_with(b"/dev/null");
    let null = null || mount.root.ends_with(b"/inaccessible/reg");
    let empty = read_only && mount.fs_type == b"tmpfs";
    Mount {
        id: mount.id,
        dev: mount.dev,
        root: limited(&mount.root),
        point: limited(&mount.mount_point),
        fs_type: limited(&mount.fs_type),
        read_only,
        shared: mount.shared,
        master: mount.master,
        mask: null || empty,
        upper: mount.upper().map(limited),
    }
}

/// Device nodes in the `/dev` of a process that not every container has; `None` where that is no tmpfs, or cannot be
/// read.
///
/// A container may mount a file system there that it serves itself, and let whoever asks it something wait for ever. So
/// the way there is walked in the cache alone, and the directory is read only if it is the table's tmpfs.
fn devices(process: BorrowedFd<'_>, table: &[u8]) -> Option<Vec<DeviceNode>> {
    let mounts = mountinfo::parse(table).ok()?;
    let at = |point: &[u8]| mounts.iter().rfind(|mount| mount.mount_point == point);
    if at(b"/")?.fs_type.starts_with(b"fuse") {
        return None;
    }
    let tmpfs = at(b"/dev").filter(|mount| mount.fs_type == b"tmpfs")?;
    let path = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(process, "root", path, Mode::empty()).ok()?;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let cached = within | ResolveFlags::CACHED;
    let dev = match openat2(&root, "dev", path, Mode::empty(), cached) {
        // Kernels before 5.12.
        Err(Errno::INVAL) => openat2(&root, "dev", path, Mode::empty(), within),
        opened => opened,
    };
    let dev = dev.ok()?;
    let quiet = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    let own = statx(&dev, "", quiet | AtFlags::EMPTY_PATH, StatxFlags::TYPE).ok()?;
    if (own.stx_dev_major << 20 | own.stx_dev_minor) != tmpfs.dev {
        return None;
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let listed = Dir::new(openat(&dev, ".", flags, Mode::empty()).ok()?).ok()?;
    let mut found = Vec::new();
    for entry in listed.take(MAX_ENTRIES) {
        let entry = entry.ok()?;
        if !matches!(
            entry.file_type(),
            FileType::BlockDevice | FileType::CharacterDevice
        ) {
            continue;
        }
        let quiet = quiet | AtFlags::SYMLINK_NOFOLLOW;
        let Ok(node) = statx(&dev, entry.file_name(), quiet, StatxFlags::TYPE) else {
            continue;
        };
        let device = Device {
            block: match FileType::from_raw_mode(u32::from(node.stx_mode)) {
                FileType::BlockDevice => true,
                FileType::CharacterDevice => false,
                _ => continue,
            },
            major: node.stx_rdev_major,
            minor: node.stx_rdev_minor,
        };
        if !device.is_plain() && found.len() < MAX_DEVICES {
            let name = text::escape(entry.file_name().to_bytes());
            found.push(DeviceNode { name, device });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Some(found)
}

/// Of paths below /proc and /sys, those that this machine's own have: containers see the same kernel.
fn present(paths: &[String]) -> Vec<String> {
    let there = |path: &&String| Path::new(path.as_str()).symlink_metadata().is_ok();
    paths.iter().filter(there).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::{Looker, device_rules, ranges};
    use crate::engine::Look;
    use crate::model::setup::{DeviceRule, IdRange};
    use crate::sensor::procfs::parse_stat;
    use auditor_common::record::TaskKey;
    use rustix::fs::{AtFlags, CWD, statat};

    fn look(always: bool) -> Look {
        let stat = parse_stat(&std::fs::read("/proc/self/stat").unwrap()).unwrap();
        let pid = std::process::id();
        Look {
            key: TaskKey {
                tid: pid,
                tgid: pid,
                start_boottime_ns: stat.start_boottime_ns,
            },
            mnt_ns: statat(CWD, "/proc/self/ns/mnt", AtFlags::empty())
                .unwrap()
                .st_ino as u32,
            paths: vec!["/proc/self".to_owned(), "/proc/nothing".to_owned()],
            devices: false,
            always,
        }
    }

    /// Goal: a process is seen once, again only when asked for, and never another with its id or in another mount namespace.
    /// Method: this one.
    #[test]
    fn what_did_not_change_is_not_told() {
        let mut looker = Looker::default();
        let seen = looker.look(&look(false), None).unwrap();
        assert!(seen.mounts.iter().any(|mount| mount.point == "/"));
        assert_eq!(seen.present, ["/proc/self"]);
        assert_eq!(looker.look(&look(false), None), None);
        assert!(looker.look(&look(true), None).is_some());
        let mut other = look(true);
        other.key.start_boottime_ns += 1_000_000_000;
        assert_eq!(looker.look(&other, None), None);
        let mut elsewhere = look(true);
        elsewhere.mnt_ns += 1;
        assert_eq!(looker.look(&elsewhere, None), None);
    }

    /// Goal: maps and device rules are read as the kernel writes them, and what is none is passed over. Method: its
    /// own text, and odd lines.
    #[test]
    fn lists_of_the_kernel_are_read() {
        let range = |inside, outside, count| IdRange {
            inside,
            outside,
            count,
        };
        let text = b"         0     100000       1000\n      1000       1000 4294966295\nno\n";
        let want = [range(0, 100_000, 1000), range(1000, 1000, 4_294_966_295)];
        assert_eq!(ranges(text), want);
        assert_eq!(ranges(b""), []);

        let all = DeviceRule {
            read: true,
            write: true,
            mknod: true,
            ..DeviceRule::default()
        };
        let null = DeviceRule {
            block: Some(false),
            major: Some(1),
            minor: Some(3),
            mknod: false,
            ..all
        };
        let text = b"a *:* rwm\nc 1:3 rw\nx 1:3 rw\nb 1 rw\n";
        assert_eq!(device_rules(text), Some(vec![all, null]));
        assert_eq!(device_rules(&b"c 1:3 rw\n".repeat(300)), None);
    }
}
