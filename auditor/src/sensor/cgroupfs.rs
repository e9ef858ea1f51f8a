//! Control groups as they are at rest: which hierarchies are mounted (v2, v1, or both), which cgroups they
//! hold, and the id of the cgroup behind a path in `/proc/<pid>/cgroup`. A cgroup's id is the inode number
//! of its directory (5.5+, kernfs node ids).
//!
//! Containers may own subtrees and make as many directories in them as they like. Invariants: only
//! directories are opened, never a file; no symbolic link is followed; no mount is crossed; depth and number
//! are bounded, and reaching a bound is reported, not hidden.

use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use auditor_common::hook;
use auditor_common::limits::{CGROUP_PATH_LEN, CGROUP_SLOTS};
use auditor_common::record::{CgroupRecord, RecordHeader, TaskKey, cgroup, cgroup_op, kind};
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use thiserror::Error;

use super::clock::boottime_ns;
use super::mountinfo::{self, Mount};
use super::procfs::parse_cgroup;

/// Directories deep that a walk goes. The kernel's default is no limit; systemd and runtimes stay below 20.
pub const MAX_DEPTH: usize = 64;
/// Cgroups that one walk records, over all hierarchies.
pub const MAX_CGROUPS: usize = 1 << 17;

/// Why the hierarchies cannot be found. A machine without any is no error.
#[derive(Debug, Error)]
pub enum CgroupError {
    /// A file in /proc cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The mount table does not parse.
    #[error("/proc/self/mountinfo: {0}")]
    Mountinfo(#[from] mountinfo::MountinfoError),
}

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Id; 0 is v2.
    pub id: u32,
    /// v1 controllers as `/proc/cgroups` names them; empty for v2 and for named hierarchies.
    pub controllers: Vec<String>,
    /// Name of a named v1 hierarchy.
    pub name: Option<String>,
    /// Where it is mounted.
    pub mount_point: Vec<u8>,
    /// The cgroup that is mounted there; `/` but in containers.
    pub mount_root: Vec<u8>,
}

/// Parses `/proc/cgroups`: the hierarchy of each controller.
#[must_use]
pub fn parse_controllers(text: &str) -> Vec<(String, u32)> {
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    rows.filter_map(|line| {
        let mut fields = line.split_whitespace();
        Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
    })
    .collect()
}

/// Finds the mounted hierarchies, ordered by id. `controllers` comes from `/proc/cgroups`, `named` from
/// any process's `cgroup` file: pairs of what a hierarchy is called and its id.
///
/// Of several mounts of one hierarchy the one that shows most of it is kept.
#[must_use]
pub fn hierarchies(
    mounts: &[Mount],
    controllers: &[(String, u32)],
    named: &[(String, u32)],
) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for mount in mounts {
        let Some(hierarchy) = hierarchy_of(mount, controllers, named) else {
            continue;
        };
        match found.iter_mut().find(|known| known.id == hierarchy.id) {
            None => found.push(hierarchy),
            Some(known) if known.mount_root.len() > hierarchy.mount_root.len() => {
                *known = hierarchy;
            }
            Some(_) => {}
        }
    }
    found.sort_by_key(|hierarchy| hierarchy.id);
    found
}

fn hierarchy_of(
    mount: &Mount,
    controllers: &[(String, u32)],
    named: &[(String, u32)],
) -> Option<Hierarchy> {
    let mut hierarchy = Hierarchy {
        id: 0,
        controllers: Vec::new(),
        name: None,
        mount_point: mount.mount_point.clone(),
        mount_root: mount.root.clone(),
    };
    if mount.fs_type == b"cgroup2" {
        return Some(hierarchy);
    }
    if mount.fs_type != b"cgroup" {
        return None;
    }
    let options = String::from_utf8_lossy(&mount.super_options);
    let id_of = |table: &[(String, u32)], name: &str| {
        table
            .iter()
            .find(|(known, id)| known == name && *id != 0)
            .map(|&(_, id)| id)
    };
    for option in options.split(',') {
        if let Some(id) = id_of(controllers, option) {
            hierarchy.id = id;
            hierarchy.controllers.push(option.to_owned());
        } else if option.starts_with("name=") {
            hierarchy.id = id_of(named, option).unwrap_or(hierarchy.id);
            hierarchy.name = option.strip_prefix("name=").map(str::to_owned);
        }
    }
    (hierarchy.id != 0).then_some(hierarchy)
}

/// Slot in [`auditor_common::record::TaskState::cgroups`] of a v1 controller as /proc names it.
#[must_use]
pub fn slot_of(controller: &str) -> Option<usize> {
    let kernel_name = if controller == "blkio" {
        "io"
    } else {
        controller
    };
    let index = cgroup::CONTROLLERS
        .iter()
        .position(|&known| known == kernel_name)?;
    Some(index + 1)
}

/// Why a walk did not see everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unseen {
    /// Hierarchy id.
    pub hierarchy: u32,
    /// Path below the hierarchy's root.
    pub path: Vec<u8>,
    /// What was in the way.
    pub why: UnseenWhy,
}

/// See [`Unseen`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnseenWhy {
    /// Deeper than [`MAX_DEPTH`].
    Depth,
    /// More than [`MAX_CGROUPS`].
    Count,
    /// The kernel refused, with this error number.
    Refused(i32),
}

/// All cgroups at one moment.
#[derive(Debug, Default)]
pub struct CgroupTree {
    mounted: Vec<(Hierarchy, OwnedFd)>,
    records: Vec<CgroupRecord>,
    ids: HashMap<(u32, Vec<u8>), u64>,
    unseen: Vec<Unseen>,
}

impl CgroupTree {
    /// Finds and walks the hierarchies that are mounted in this mount namespace.
    ///
    /// # Errors
    /// When the files in /proc that describe them cannot be read. What refuses to be walked is in
    /// [`CgroupTree::unseen`].
    pub fn read() -> Result<Self, CgroupError> {
        let read = |path: &'static str| {
            std::fs::read(path).map_err(|source| CgroupError::Read { path, source })
        };
        let mounts = mountinfo::parse(&read("/proc/self/mountinfo")?)?;
        // Absent where the kernel has no cgroups.
        let controllers = std::fs::read_to_string("/proc/cgroups").unwrap_or_default();
        let own = read("/proc/self/cgroup")?;
        let named: Vec<(String, u32)> = parse_cgroup(&own)
            .unwrap_or_default()
            .into_iter()
            .map(|line| {
                (
                    String::from_utf8_lossy(line.controllers).into_owned(),
                    line.hierarchy,
                )
            })
            .collect();
        let mut tree = Self::default();
        for hierarchy in hierarchies(&mounts, &parse_controllers(&controllers), &named) {
            tree.walk(hierarchy);
        }
        Ok(tree)
    }

    /// The mounted hierarchies, ordered by id.
    pub fn hierarchies(&self) -> impl Iterator<Item = &Hierarchy> {
        self.mounted.iter().map(|(hierarchy, _)| hierarchy)
    }

    /// Hierarchy id of each cgroup slot of a task's state; `None` where nothing is mounted for it.
    #[must_use]
    pub fn slot_hierarchies(&self) -> [Option<u32>; CGROUP_SLOTS] {
        let mut slots = [None; CGROUP_SLOTS];
        for hierarchy in self.hierarchies() {
            if hierarchy.id == 0 {
                slots[cgroup::V2] = Some(0);
            }
            for slot in hierarchy.controllers.iter().filter_map(|c| slot_of(c)) {
                slots[slot] = Some(hierarchy.id);
            }
        }
        slots
    }

    /// All cgroups, ordered by hierarchy and path: parents stand before their children.
    #[must_use]
    pub fn records(&self) -> &[CgroupRecord] {
        &self.records
    }

    /// What the walk did not see. Cgroups that vanished meanwhile are not listed.
    #[must_use]
    pub fn unseen(&self) -> &[Unseen] {
        &self.unseen
    }

    /// Id of the cgroup at a path of `/proc/<pid>/cgroup`, looked up now if the walk did not see it.
    #[must_use]
    pub fn id(&self, hierarchy: u32, path: &[u8]) -> Option<u64> {
        if let Some(&id) = self.ids.get(&(hierarchy, path.to_owned())) {
            return Some(id);
        }
        let (known, root) = self
            .mounted
            .iter()
            .find(|(known, _)| known.id == hierarchy)?;
        let below = path.strip_prefix(
            known
                .mount_root
                .strip_suffix(b"/")
                .unwrap_or(&known.mount_root),
        )?;
        let relative = match below {
            [] | b"/" => &b"."[..],
            [b'/', rest @ ..] => rest,
            _ => return None, // `/ab` is not below `/a`.
        };
        let dir = openat2(
            root,
            OsStr::from_bytes(relative),
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV,
        );
        Some(fstat(dir.ok()?).ok()?.st_ino)
    }

    /// The slots of a task's state from the lines of its `cgroup` file; `None` when one is not to be had.
    pub(crate) fn slots(
        &self,
        lines: &[super::procfs::CgroupLine<'_>],
    ) -> Option<[u64; CGROUP_SLOTS]> {
        let mut slots = [0; CGROUP_SLOTS];
        for line in lines {
            let controllers = String::from_utf8_lossy(line.controllers);
            let wanted: Vec<usize> = match line.hierarchy {
                0 => vec![cgroup::V2],
                _ => controllers.split(',').filter_map(slot_of).collect(),
            };
            if wanted.is_empty() {
                continue; // A named hierarchy, or a controller that isolates nothing.
            }
            let id = self.id(line.hierarchy, line.path)?;
            for slot in wanted {
                slots[slot] = id;
            }
        }
        Some(slots)
    }

    fn walk(&mut self, hierarchy: Hierarchy) {
        let id = hierarchy.id;
        let first = self.records.len();
        match open_child(CWD, &hierarchy.mount_point) {
            Err(error) => self.refused(id, hierarchy.mount_root.clone(), error),
            Ok(root) => {
                if let Err(error) = self.walk_from(id, &hierarchy.mount_root, root.as_fd()) {
                    self.refused(id, hierarchy.mount_root.clone(), error);
                }
                self.mounted.push((hierarchy, root));
            }
        }
        self.records[first..].sort_unstable_by(|a, b| path_of(a).cmp(path_of(b)));
    }

    fn refused(&mut self, hierarchy: u32, path: Vec<u8>, error: rustix::io::Errno) {
        let why = UnseenWhy::Refused(error.raw_os_error());
        self.unseen.push(Unseen {
            hierarchy,
            path,
            why,
        });
    }

    /// Depth first, with one open directory for each level.
    fn walk_from(
        &mut self,
        hierarchy: u32,
        root_path: &[u8],
        root: BorrowedFd<'_>,
    ) -> Result<(), rustix::io::Errno> {
        let top = fstat(root)?;
        self.record(hierarchy, root_path, top.st_ino, 0);
        let mut stack = vec![(Dir::read_from(root)?, root_path.to_owned(), top.st_ino)];
        while let Some((dir, path, id)) = stack.last_mut() {
            let Some(name) = next_directory(dir) else {
                stack.pop();
                continue;
            };
            let (path, parent_id) = (join(path, name.to_bytes()), *id);
            let unseen = |why| Unseen {
                hierarchy,
                path: path.clone(),
                why,
            };
            if self.records.len() >= MAX_CGROUPS {
                self.unseen.push(unseen(UnseenWhy::Count));
                return Ok(());
            }
            let child = open_child(dir.fd()?, name.to_bytes()).and_then(|fd| Ok((fstat(&fd)?, fd)));
            match child {
                Err(rustix::io::Errno::NOENT) => {} // Removed meanwhile.
                Err(error) => self.refused(hierarchy, path, error),
                Ok((stat, _)) if stat.st_dev != top.st_dev => {} // Something is mounted there.
                Ok((stat, fd)) => {
                    self.record(hierarchy, &path, stat.st_ino, parent_id);
                    if stack.len() >= MAX_DEPTH {
                        self.unseen.push(Unseen {
                            hierarchy,
                            path,
                            why: UnseenWhy::Depth,
                        });
                        continue;
                    }
                    match Dir::read_from(&fd) {
                        Ok(dir) => stack.push((dir, path, stat.st_ino)),
                        Err(error) => self.refused(hierarchy, path, error),
                    }
                }
            }
        }
        Ok(())
    }

    fn record(&mut self, hierarchy: u32, path: &[u8], id: u64, parent_id: u64) {
        self.ids.insert((hierarchy, path.to_owned()), id);
        self.records
            .push(walk_record(hierarchy, path, id, parent_id));
    }
}

/// Ground truth about one cgroup.
fn walk_record(hierarchy: u32, path: &[u8], id: u64, parent_id: u64) -> CgroupRecord {
    let mut kept = [0; CGROUP_PATH_LEN];
    let len = path.len().min(CGROUP_PATH_LEN);
    kept[..len].copy_from_slice(&path[..len]);
    CgroupRecord {
        header: RecordHeader {
            boottime_ns: boottime_ns(),
            cpu_seq: 0,
            kind: kind::CGROUP,
            hook: hook::CGROUPFS,
            cpu: 0,
            size: const { size_of::<CgroupRecord>() as u16 },
        },
        actor: TaskKey::default(),
        id,
        parent_id,
        hierarchy,
        op: cgroup_op::WALK,
        path_len: len as u32,
        reserved: 0,
        path: kept,
    }
}

fn path_of(record: &CgroupRecord) -> &[u8] {
    &record.path[..record.path_len as usize]
}

fn open_child(at: impl AsFd, name: &[u8]) -> Result<OwnedFd, rustix::io::Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, OsStr::from_bytes(name), flags, Mode::empty())
}

/// The next subdirectory; an unreadable rest ends the directory.
fn next_directory(dir: &mut Dir) -> Option<CString> {
    loop {
        let entry = dir.next()?.ok()?;
        let is_self = matches!(entry.file_name().to_bytes(), b"." | b"..");
        if entry.file_type() == FileType::Directory && !is_self {
            return Some(entry.file_name().to_owned());
        }
    }
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    let mut joined = path.strip_suffix(b"/").unwrap_or(path).to_owned();
    joined.push(b'/');
    joined.extend(name);
    joined
}

#[cfg(test)]
mod tests {
    //! Goal: hierarchies of v1, v2 and hybrid hosts are told apart, and a walk finds what there is without
    //! leaving it. Method: mount tables as text; a directory tree that plays cgroupfs; this machine's.

    use super::super::procfs::CgroupLine;
    use super::*;

    const HYBRID: &[u8] = b"32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
        33 31 0:31 /sub /mnt/memory rw - cgroup cgroup rw,memory\n\
        34 31 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n\
        27 1 254:0 / / rw - ext4 /dev/vda rw\n";

    fn table(rows: &[(&str, u32)]) -> Vec<(String, u32)> {
        rows.iter()
            .map(|&(name, id)| (name.to_owned(), id))
            .collect()
    }

    #[test]
    fn hybrid_hierarchies_are_told_apart() {
        let text = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t1\t1\ncpuacct\t1\t1\t1\n\
            memory\t4\t20\t1\npids\t0\t1\t1\n";
        let controllers = parse_controllers(text);
        let named = table(&[("name=systemd", 9)]);
        let mounts = mountinfo::parse(HYBRID).unwrap();
        let found = hierarchies(&mounts, &controllers, &named);
        let ids: Vec<u32> = found.iter().map(|hierarchy| hierarchy.id).collect();
        assert_eq!(ids, [0, 1, 4, 9]);
        assert_eq!(found[1].controllers, ["cpu", "cpuacct"]);
        assert_eq!(found[2].mount_root, b"/");
        assert_eq!(found[3].name.as_deref(), Some("systemd"));
    }

    #[test]
    fn slots_follow_the_kernel_names() {
        assert_eq!(slot_of("cpuset"), Some(1));
        assert_eq!(slot_of("blkio"), slot_of("io"));
        assert_eq!(slot_of("misc"), Some(CGROUP_SLOTS - 1));
        assert_eq!(slot_of("name=systemd"), None);
    }

    /// A tree over a directory that plays hierarchy `id`.
    fn tree_over(dir: &std::path::Path, id: u32, mount_root: &str) -> CgroupTree {
        let mut tree = CgroupTree::default();
        tree.walk(Hierarchy {
            id,
            controllers: vec!["cpu".into()],
            name: None,
            mount_point: dir.as_os_str().as_bytes().to_owned(),
            mount_root: mount_root.as_bytes().to_owned(),
        });
        tree
    }

    #[test]
    fn walk_finds_directories_only_and_parents_first() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("b/c")).unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::fs::write(dir.path().join("cgroup.procs"), "").unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("link")).unwrap();
        let tree = tree_over(dir.path(), 3, "/");
        let paths: Vec<&[u8]> = tree.records().iter().map(path_of).collect();
        assert_eq!(paths, [&b"/"[..], b"/a", b"/b", b"/b/c"]);
        assert_eq!(tree.records()[3].parent_id, tree.records()[2].id);
        assert_eq!(tree.records()[0].parent_id, 0);
        assert!(tree.unseen().is_empty());

        std::fs::create_dir(dir.path().join("later")).unwrap();
        assert!(tree.id(3, b"/later").is_some());
        assert_eq!(tree.id(3, b"/link/etc"), None);
        assert_eq!(tree.id(3, b"/../.."), None);
        assert_eq!(tree.id(0, b"/a"), None);
        let line = |path| CgroupLine {
            hierarchy: 3,
            controllers: b"cpu,blkio",
            path,
        };
        let slots = tree.slots(&[line(b"/a")]).unwrap();
        assert_eq!(
            (slots[2], slots[4]),
            (tree.records()[1].id, tree.records()[1].id)
        );
        assert_eq!(tree.slots(&[line(b"/gone (deleted)")]), None);
    }

    #[test]
    fn mount_of_a_subtree_keeps_full_paths() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("x")).unwrap();
        let tree = tree_over(dir.path(), 0, "/pod");
        assert_eq!(path_of(&tree.records()[1]), b"/pod/x");
        std::fs::create_dir(dir.path().join("y")).unwrap();
        assert!(tree.id(0, b"/pod/y").is_some() && tree.id(0, b"/pod").is_some());
        assert_eq!(tree.id(0, b"/podx/y"), None);
    }

    #[test]
    fn depth_is_bounded_and_reported() {
        let dir = tempfile::tempdir().unwrap();
        let deep: std::path::PathBuf = std::iter::repeat_n("d", MAX_DEPTH + 3).collect();
        std::fs::create_dir_all(dir.path().join(deep)).unwrap();
        let tree = tree_over(dir.path(), 0, "/");
        assert_eq!(tree.records().len(), MAX_DEPTH + 1);
        assert_eq!(tree.unseen()[0].why, UnseenWhy::Depth);
    }

    #[test]
    fn this_machine_walks() {
        let tree = CgroupTree::read().unwrap();
        for hierarchy in tree
            .hierarchies()
            .filter(|hierarchy| hierarchy.mount_root == b"/")
        {
            assert_eq!(tree.id(hierarchy.id, b"/"), Some(1), "{hierarchy:?}");
        }
        let own = std::fs::read("/proc/self/cgroup").unwrap();
        if tree.hierarchies().next().is_some() {
            assert!(tree.slots(&parse_cgroup(&own).unwrap()).is_some());
        }
    }
}
