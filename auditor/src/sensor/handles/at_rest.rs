//! Handles as /proc tells them: what a look without kernel programs has to go by.
//!
//! Nothing is opened and no path is walked: a descriptor's link is looked at by `statx`, without synchronising with a
//! server. Which ends of a unix connection belong together, and which descriptors are one open file, the kernel is asked.

use super::open_files::Candidates;
use super::unix_peers::{self, Peers};
use super::{Held, MAX_HANDLES, compartment, is_apart, looked};
use crate::sensor::mountinfo::kernel_dev;
use crate::sensor::procfs::ProcFs;
use auditor_common::hook;
use auditor_common::record::{
    ActRecord, HandleRecord, MAPPED, TaskRecord, TaskState, handle_flags, kind, known, ns,
};
use rustix::fs::{AtFlags, StatxFlags, readlinkat, statx};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd};
use zerocopy::FromZeros;

/// What links and lines of memory begin with, and how the kernel calls its inode.
const MEMFD: &[u8] = b"/memfd:";
/// What they end with.
const DELETED: &[u8] = b" (deleted)";
const TYPE: u32 = 0xf000;
const FIFO: u32 = 0x1000;
const CHARACTER: u32 = 0x2000;
const DIRECTORY: u32 = 0x4000;
const BLOCK: u32 = 0x6000;
const REGULAR: u32 = 0x8000;
const SOCKET: u32 = 0xc000;
/// Network namespaces that are asked about unix sockets.
const MAX_NAMESPACES: usize = 1024;
/// `TMPFS_MAGIC`.
const TMPFS: u32 = 0x0102_1994;

/// Reads what all processes hold: nothing if containers hold more than is looked at. Who has ended, or may not be looked
/// at, holds nothing.
#[must_use]
pub fn read(proc: &ProcFs, tasks: &[TaskRecord]) -> Held {
    let mut held = Held {
        looked: looked::FILES | looked::MAPPINGS,
        ..Held::default()
    };
    let mut is_whole = true;
    let mut files = Candidates::default();
    let mut fits = true;
    let leaders = || tasks.iter().map(|task| &task.state);
    let Some(first) = leaders().find(|state| state.key.tid == 1) else {
        return Held::default();
    };
    for state in leaders().filter(|state| state.key.tid == state.key.tgid) {
        let blank = blank(state, first);
        let of = compartment(state, first);
        let (directory, numbers) = match proc.descriptors(state.key.tgid) {
            Ok(Some(found)) => found,
            Ok(None) => continue,
            Err(_) => {
                held.unreadable += 1;
                continue;
            }
        };
        for number in numbers {
            match open_file(directory.as_fd(), number, &blank) {
                Some(Seen::Handle(record)) => is_whole &= held.take(&record),
                Some(Seen::File(record)) => fits &= files.take(record, of, MAX_HANDLES),
                None => {}
            }
        }
        if let Ok(Some(maps)) = proc.read_file(state.key.tgid, "maps") {
            let lines = maps.split(|&b| b == b'\n');
            let mut found = lines.filter_map(|line| mapping(line, &blank));
            is_whole &= found.all(|record| held.take(&record));
        }
    }
    let (found, are_compared) = files.compare();
    is_whole &= found.iter().all(|record| held.take(record));
    if fits && are_compared {
        held.looked |= looked::OPEN_FILES;
    }
    if find_peers(proc, tasks, &mut held.records) {
        held.looked |= looked::PEERS;
    }
    match is_whole {
        true => held,
        false => Held::default(),
    }
}

/// Notes the other ends of unix sockets; says whether all network namespaces in which containers have sockets could be
/// asked.
fn find_peers(proc: &ProcFs, tasks: &[TaskRecord], records: &mut [HandleRecord]) -> bool {
    let is_socket = |record: &&HandleRecord| record.mode & TYPE == SOCKET;
    let holders = records.iter().filter(is_socket);
    let holders: HashSet<u32> = holders.map(|record| record.task.tgid).collect();
    let namespaces = tasks.iter().map(|task| &task.state);
    let namespaces: BTreeMap<u32, u32> = namespaces
        .filter(|state| state.known & known::NS != 0 && holders.contains(&state.key.tgid))
        .map(|state| (state.ns[ns::NET].inum, state.key.tgid))
        .collect();
    let mut peers = Peers::new();
    let mut is_whole = namespaces.len() <= MAX_NAMESPACES;
    for (inum, tgid) in namespaces.into_iter().take(MAX_NAMESPACES) {
        let asked = match proc.open_namespace(tgid, "net", inum) {
            Ok(Some(namespace)) => unix_peers::ask(namespace.as_fd(), &mut peers),
            // Its sockets are gone, or somebody else's.
            Ok(None) => Ok(()),
            Err(error) => Err(std::io::Error::other(error)),
        };
        if let Err(error) = asked {
            tracing::debug!("unix sockets of network namespace {inum}: {error}");
            is_whole = false;
        }
    }
    for record in records {
        let ino = u32::try_from(record.ino).ok();
        let peer = ino.filter(|_| record.mode & TYPE == SOCKET);
        let peer = peer.and_then(|ino| peers.get(&ino));
        record.peer_ino = peer.copied().map_or(0, u64::from);
    }
    is_whole
}

/// What of it is shared, as [`super::shared`] tells it, where of tasks only their state is known.
#[must_use]
pub fn shared(held: &Held, tasks: &[TaskRecord]) -> Vec<ActRecord> {
    let states = tasks.iter().map(|task| (task.state.key.tid, &task.state));
    let states: HashMap<u32, &TaskState> = states.collect();
    super::shared(held, |key| {
        Some(compartment(states.get(&key.tid)?, states.get(&1)?))
    })
}

fn blank(state: &TaskState, first: &TaskState) -> HandleRecord {
    let mut record = HandleRecord::new_zeroed();
    record.header.kind = kind::HANDLE;
    record.header.hook = hook::PROC;
    record.task = state.key;
    if is_apart(state, first) {
        record.flags = handle_flags::MARKED;
    }
    record
}

/// What a descriptor is.
enum Seen {
    /// Something whose inode says all.
    Handle(HandleRecord),
    /// A file that may be opened more than once.
    File(HandleRecord),
}

fn open_file(directory: BorrowedFd<'_>, number: u32, blank: &HandleRecord) -> Option<Seen> {
    let link = number.to_string();
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    let wanted = StatxFlags::TYPE | StatxFlags::MODE | StatxFlags::INO | StatxFlags::NLINK;
    let found = statx(directory, &link, flags, wanted).ok()?;
    let mut record = *blank;
    record.descriptor = number;
    record.ino = found.stx_ino;
    record.dev = kernel_dev(found.stx_dev_major, found.stx_dev_minor);
    record.mode = u32::from(found.stx_mode);
    match record.mode & TYPE {
        FIFO | SOCKET => Some(Seen::Handle(record)),
        REGULAR if found.stx_nlink == 0 => {
            let text = readlinkat(directory, &link, Vec::new()).ok()?;
            Some(match note_memory(&mut record, text.as_bytes()) {
                true => Seen::Handle(record),
                false => Seen::File(record),
            })
        }
        REGULAR | DIRECTORY => Some(Seen::File(record)),
        CHARACTER | BLOCK => {
            record.rdev = kernel_dev(found.stx_rdev_major, found.stx_rdev_minor);
            Some(Seen::File(record))
        }
        // Without a type: what has one inode for all, such as eventfd and epoll.
        _ => None,
    }
}

/// A line of `maps`: `7f…-7f… rw-s 00000000 00:01 1034 /memfd:name (deleted)`.
fn mapping(line: &[u8], blank: &HandleRecord) -> Option<HandleRecord> {
    let line = std::str::from_utf8(line).ok().map_or_else(
        // A name may be any bytes; what stands before it is text.
        || String::from_utf8_lossy(line).into_owned(),
        str::to_owned,
    );
    let mut words = line.splitn(6, ' ');
    let (_, rights, _, dev, ino) = (
        words.next()?,
        words.next()?.as_bytes(),
        words.next()?,
        words.next()?,
        words.next()?,
    );
    if rights.get(1) != Some(&b'w') || rights.get(3) != Some(&b's') {
        return None;
    }
    let (major, minor) = dev.split_once(':')?;
    let mut record = *blank;
    record.descriptor = MAPPED;
    record.dev = kernel_dev(
        u32::from_str_radix(major, 16).ok()?,
        u32::from_str_radix(minor, 16).ok()?,
    );
    record.ino = ino.parse().ok().filter(|ino| *ino != 0)?;
    record.mode = REGULAR;
    let name = words.next().unwrap_or_default().trim_start().as_bytes();
    if !note_memory(&mut record, name) {
        let last = name.rsplit(|&b| b == b'/').next().unwrap_or_default();
        note_name(&mut record, last);
    }
    Some(record)
}

/// Notes that it is memory and how that is called; says whether it is.
fn note_memory(record: &mut HandleRecord, link: &[u8]) -> bool {
    if !link.starts_with(MEMFD) {
        return false;
    }
    record.flags |= handle_flags::INTERNAL;
    record.fs_magic = TMPFS;
    let name = &link[1..];
    note_name(record, name.strip_suffix(DELETED).unwrap_or(name));
    true
}

fn note_name(record: &mut HandleRecord, name: &[u8]) {
    let room = record.name.len() - 1;
    for (to, from) in record.name[..room].iter_mut().zip(name) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    //! Goal: lines of /proc give the handles they are of. Method: lines as kernels write them, and this process.

    use super::*;
    use crate::sensor::clock::KernelVersion;
    use auditor_common::record::kernel_str;
    use std::os::fd::AsRawFd;

    fn of(line: &str) -> Option<(u32, u64, Vec<u8>, u32)> {
        let record = mapping(line.as_bytes(), &HandleRecord::new_zeroed())?;
        assert_eq!(record.descriptor, MAPPED);
        let name = kernel_str(&record.name).to_vec();
        Some((record.dev, record.ino, name, record.flags))
    }

    #[test]
    fn mappings_are_told_from_lines() {
        let memory =
            "7f01-7f02 rw-s 00000000 00:01 1034                       /memfd:a b (deleted)";
        let name = b"memfd:a b".to_vec();
        assert_eq!(of(memory), Some((1, 1034, name, handle_flags::INTERNAL)));
        let file = "7f01-7f02 -w-s 00000000 fd:0a 7 /data/queue";
        assert_eq!(of(file), Some((0xfd << 20 | 10, 7, b"queue".to_vec(), 0)));
        for line in [
            "",
            "7f01-7f02 rw-p 00000000 fd:0a 7 /data/queue",
            "7f01-7f02 r--s 00000000 fd:0a 7 /data/queue",
            "7f01-7f02 rw-s 00000000 00:00 0",
            "7f01-7f02 rw-s",
        ] {
            assert_eq!(of(line), None, "{line}");
        }
    }

    #[test]
    fn a_pipe_of_this_process_is_found() {
        let (reader, writer) = std::io::pipe().unwrap();
        let proc = ProcFs::open("/proc".as_ref(), KernelVersion::new(6, 1)).unwrap();
        let (directory, numbers) = proc.descriptors(std::process::id()).unwrap().unwrap();
        let find = |descriptor: i32| {
            let number = u32::try_from(descriptor).unwrap();
            assert!(numbers.contains(&number));
            match open_file(directory.as_fd(), number, &HandleRecord::new_zeroed()) {
                Some(Seen::Handle(record)) => record,
                _ => panic!("no pipe"),
            }
        };
        let ends = [find(reader.as_raw_fd()), find(writer.as_raw_fd())];
        assert_eq!(ends[0].mode & TYPE, FIFO);
        assert_eq!((ends[0].dev, ends[0].ino), (ends[1].dev, ends[1].ino));
    }
}
