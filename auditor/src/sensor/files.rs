//! Open files as /proc tells them: which tasks that may be containers' hold a file on a mount that belongs to another
//! mount namespace than theirs. What a look without kernel programs has to go by.
//!
//! Nothing is opened and no path is walked: which mount a descriptor is on stands in `fdinfo`, and its link is looked at
//! by `statx`, without synchronising with a server. A mount in no namespace that any task is in says nothing.

use super::handles::is_apart;
use super::mountinfo::kernel_dev;
use super::procfs::ProcFs;
use super::snapshot::MountTable;
use auditor_common::hook;
use auditor_common::limits::ACT_NAME_LEN;
use auditor_common::record::{
    ActRecord, FileRef, RecordHeader, TaskRecord, TaskState, act, kind, ns,
};
use rustix::fs::{AtFlags, OFlags, StatxFlags, readlinkat, statx};
use std::os::fd::{AsFd, BorrowedFd};
use zerocopy::FromZeros;

/// Files that one look tells.
const MAX_FILES: usize = 1 << 14;
/// `FMODE_READ` and `FMODE_WRITE`, in `file.f_mode`.
const READ: u64 = 0x1;
const WRITE: u64 = 0x2;

/// What a line of `fdinfo` says of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Info {
    mnt_id: u32,
    mode: u64,
}

/// Foreign files that tasks hold, as an iterator over files tells them. Who has ended, or may not be looked at, holds
/// nothing.
#[must_use]
pub fn read(
    proc: &ProcFs,
    tasks: &[TaskRecord],
    mounts: &MountTable,
    at_ns: u64,
) -> Vec<ActRecord> {
    let mut found = Vec::new();
    let leaders = || tasks.iter().map(|task| &task.state);
    let Some(first) = leaders().find(|state| state.key.tid == 1) else {
        return found;
    };
    let apart = leaders().filter(|state| state.key.tid == state.key.tgid);
    for state in apart.filter(|state| is_apart(state, first)) {
        let (Ok(Some((links, numbers))), Ok(Some(infos))) = (
            proc.descriptors(state.key.tgid),
            proc.descriptor_infos(state.key.tgid),
        ) else {
            continue;
        };
        let told = numbers.into_iter().filter_map(|number| {
            let info = info(&ProcFs::descriptor_info(infos.as_fd(), number).ok()?)?;
            let (home, dev) = mounts.home(info.mnt_id)?;
            (home != state.ns[ns::MNT].inum)
                .then(|| file(links.as_fd(), number, (home, dev), info))
                .flatten()
                .map(|(object, name)| hold(state, number, object, info.mode, &name, at_ns))
        });
        found.extend(told.take(MAX_FILES - found.len()));
        if found.len() >= MAX_FILES {
            tracing::warn!("more than {MAX_FILES} foreign files are held: the rest is not told");
            break;
        }
    }
    found
}

/// Reads `fdinfo`: `pos: …`, `flags: 0100000`, `mnt_id: 29`, and more that depends on the file.
fn info(text: &[u8]) -> Option<Info> {
    let text = String::from_utf8_lossy(text);
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map(str::trim)
    };
    let flags = u32::from_str_radix(value("flags:")?, 8).ok()?;
    let flags = OFlags::from_bits_retain(flags);
    let mode = match flags & OFlags::ACCMODE {
        _ if flags.contains(OFlags::PATH) => 0,
        OFlags::RDONLY => READ,
        OFlags::WRONLY => WRITE,
        _ => READ | WRITE,
    };
    let mnt_id = value("mnt_id:")?.parse().ok()?;
    Some(Info { mnt_id, mode })
}

fn file(
    links: BorrowedFd<'_>,
    number: u32,
    (home, dev): (u32, u32),
    info: Info,
) -> Option<(FileRef, Vec<u8>)> {
    let link = number.to_string();
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    let wanted = StatxFlags::TYPE | StatxFlags::MODE | StatxFlags::INO;
    let found = statx(links, &link, flags, wanted).ok()?;
    let name = readlinkat(links, &link, Vec::new()).ok()?.into_bytes();
    let object = FileRef {
        ino: found.stx_ino,
        dev,
        mnt_ns_inum: home,
        mnt_id: info.mnt_id,
        mode: u32::from(found.stx_mode),
        rdev: kernel_dev(found.stx_rdev_major, found.stx_rdev_minor),
        ..FileRef::default()
    };
    Some((object, name))
}

fn hold(
    state: &TaskState,
    number: u32,
    object: FileRef,
    mode: u64,
    path: &[u8],
    at_ns: u64,
) -> ActRecord {
    let mut record = ActRecord::new_zeroed();
    record.header = RecordHeader {
        boottime_ns: at_ns,
        cpu_seq: 0,
        kind: kind::ACT,
        hook: hook::PROC,
        cpu: 0,
        size: const { size_of::<ActRecord>() as u16 },
    };
    record.actor = state.key;
    record.target.tid = number;
    record.object = object;
    record.act = act::HOLD;
    record.syscall = -1;
    record.arg1 = mode;
    record.name_len = components(path, &mut record.name) as u32;
    record
}

/// A path by component, the last one first; says how many bytes that takes. What does not fit is left out at its front.
fn components(path: &[u8], into: &mut [u8; ACT_NAME_LEN]) -> usize {
    let mut used = 0;
    let parts = path.split(|&b| b == b'/').rev();
    for part in parts.filter(|part| !part.is_empty()).chain([&b"/"[..]]) {
        let Some(room) = into.get_mut(used..used + part.len() + 1) else {
            break;
        };
        room[..part.len()].copy_from_slice(part);
        room[part.len()] = 0;
        used += part.len() + 1;
    }
    used
}

#[cfg(test)]
mod tests {
    //! Goal: a descriptor is told by mount, mode and path. Method: texts as kernels write them, and paths of every
    //! length.

    use super::*;
    use crate::model::text::file_path;

    #[test]
    fn infos_are_read() {
        let of = |text: &str| info(text.as_bytes()).map(|info| (info.mnt_id, info.mode));
        assert_eq!(
            of("pos:\t0\nflags:\t0100000\nmnt_id:\t29\nino:\t3\n"),
            Some((29, READ))
        );
        assert_eq!(
            of("pos:\t0\nflags:\t02100001\nmnt_id:\t7\n"),
            Some((7, WRITE))
        );
        assert_eq!(of("flags:\t0100002\nmnt_id:\t7\n"), Some((7, READ | WRITE)));
        assert_eq!(
            of("flags:\t012000000\nmnt_id:\t7\n"),
            Some((7, 0)),
            "O_PATH"
        );
        for text in [
            "",
            "pos:\t0\n",
            "flags:\t9\nmnt_id:\t7\n",
            "flags:\t0\nmnt_id:\tx\n",
        ] {
            assert_eq!(of(text), None, "{text:?}");
        }
    }

    #[test]
    fn paths_go_there_and_back() {
        let back = |path: &str| {
            let mut name = [0; ACT_NAME_LEN];
            let used = components(path.as_bytes(), &mut name);
            file_path(&name[..used])
        };
        for path in ["/", "/a", "/var/lib/x"] {
            assert_eq!(back(path), path);
        }
        let long = format!("/{}/{}", "a".repeat(ACT_NAME_LEN), "b".repeat(9));
        assert_eq!(back(&long), format!("…/{}", "b".repeat(9)));
    }

    /// Goal: the mount of a descriptor is the one that the mount table has. Method: this process's own root.
    #[test]
    fn a_file_of_this_process_is_on_a_mount_of_its_namespace() {
        use crate::sensor::clock::KernelVersion;
        use std::os::fd::AsRawFd;
        let file = std::fs::File::open("/proc/self/mountinfo").unwrap();
        let proc = ProcFs::open("/proc".as_ref(), KernelVersion::new(6, 1)).unwrap();
        let infos = proc.descriptor_infos(std::process::id()).unwrap().unwrap();
        let number = u32::try_from(file.as_raw_fd()).unwrap();
        let text = ProcFs::descriptor_info(infos.as_fd(), number).unwrap();
        let info = info(&text).unwrap();
        assert_eq!(info.mode, READ);
        let table = std::io::read_to_string(file).unwrap();
        let mount = format!("{} ", info.mnt_id);
        assert!(
            table.lines().any(|line| line.starts_with(&mount)),
            "{mount}"
        );
    }
}
