//! Which handles do tasks of different compartments hold together? Iterators (or /proc) list what each task holds; here
//! it is joined by object, and all that stays within one compartment is dropped. So the stream of events has only what
//! is shared, however much there is.
//!
//! A compartment is whatever the caller says that a task belongs to. Telling too many apart costs records; who is who
//! decides the engine.

pub mod at_rest;
mod open_files;
mod unix_peers;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::io::{self, Read};

use super::decode::{Decoded, records};
use super::load::Loaded;
use crate::model::hook_set::HookSet;
use auditor_common::hook;
use auditor_common::limits::ACT_NAME_LEN;
use auditor_common::record::{
    ActRecord, FileRef, HandleRecord, MAPPED, RecordHeader, TaskKey, TaskState, act, handle,
    handle_flags, kernel_str, kind, ns,
};
use zerocopy::FromZeros;

/// Handles of tasks that may be containers' in one sweep. If there are more, it is no answer.
pub const MAX_HANDLES: usize = 1 << 18;
/// Handles of the host in one sweep. More are left out: then not all that it shares with containers is found.
pub const MAX_OF_HOST: usize = 1 << 17;
/// What one sweep tells at most.
pub const MAX_SHARED: usize = 1 << 13;
/// Descriptors up to this one are standard streams.
const LAST_STREAM: u32 = 2;

/// Type bits of a mode, and types.
const TYPE: u32 = 0xf000;
const FIFO: u32 = 0x1000;
const CHARACTER: u32 = 0x2000;
const SOCKET: u32 = 0xc000;
/// `TMPFS_MAGIC`, `HUGETLBFS_MAGIC`: what memory without a file system is made of.
const MEMORY: [u32; 2] = [0x0102_1994, 0x9584_58f6];
/// How the kernel names the inode of a memfd.
const MEMFD: &[u8] = b"memfd:";
/// Devices that hold nothing: null, zero, full, random, urandom (major 1).
const EMPTY: [u32; 5] = [3, 5, 7, 8, 9];

/// Bits of [`act::HANDLES`]: what a sweep looked at.
pub mod looked {
    /// Open files.
    pub const FILES: u64 = 1;
    /// Mappings.
    pub const MAPPINGS: u64 = 2;
    /// Which end of a unix socket belongs to which.
    pub const PEERS: u64 = 4;
    /// Which descriptors are one open file.
    pub const OPEN_FILES: u64 = 8;
}

/// Whose a task is, as far as it matters here. 0 is the host.
pub type Compartment = u64;

/// What makes a handle itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Object {
    /// An inode, by device and number.
    Inode(u32, u64),
    /// One open file.
    File(u64),
}

/// What a sweep read of handles.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// All that it found.
    pub records: Vec<HandleRecord>,
    /// See [`looked`].
    pub looked: u64,
    /// Processes that may not be looked at.
    pub unreadable: usize,
    /// Of `records`, those of the host.
    of_host: usize,
    /// Handles of the host that did not fit.
    left_out: u64,
}

impl Held {
    /// Takes in one; says whether there was room, if it had to have some.
    #[must_use]
    pub fn take(&mut self, record: &HandleRecord) -> bool {
        if what(record).is_none() {
            return true;
        }
        if record.flags & handle_flags::MARKED == 0 {
            match self.of_host < MAX_OF_HOST {
                true => self.of_host += 1,
                false => {
                    self.left_out += 1;
                    return true;
                }
            }
        } else if self.records.len() - self.of_host >= MAX_HANDLES {
            return false;
        }
        self.records.push(*record);
        true
    }
}

/// What all tasks hold, as the iterators that work see it.
///
/// # Errors
/// When the kernel refuses, or there is more than is looked at.
pub fn iterate(loaded: &mut Loaded, working: HookSet) -> io::Result<Held> {
    let mut held = Held::default();
    let eyes = [
        (
            hook::ITER_HANDLE,
            looked::FILES | looked::PEERS | looked::OPEN_FILES,
        ),
        (hook::ITER_VMA, looked::MAPPINGS),
    ];
    for (iterator, sees) in eyes {
        if !working.has(iterator) {
            continue;
        }
        let file = loaded.iterate(iterator).map_err(io::Error::other)?;
        read(file, &mut held)?;
        held.looked |= sees;
    }
    Ok(held)
}

/// Reads what an iterator writes, piece by piece: all of it at once may be more than what matters of it.
fn read(mut file: impl Read, held: &mut Held) -> io::Result<()> {
    const SIZE: usize = size_of::<HandleRecord>();
    let mut bytes = vec![0; SIZE << 12];
    let mut filled = 0;
    loop {
        let count = file.read(&mut bytes[filled..])?;
        if count == 0 {
            return Ok(());
        }
        filled += count;
        let whole = filled - filled % SIZE;
        for record in records(&bytes[..whole]) {
            if let Ok(Decoded::Handle(handle)) = record
                && !held.take(&handle)
            {
                return Err(io::Error::other("containers hold more than is looked at"));
            }
        }
        bytes.copy_within(whole..filled, 0);
        filled -= whole;
    }
}

/// Whose a task is, of which nothing but its state is known: the host's first, or one of those that have the same
/// namespaces and cgroups.
#[must_use]
pub fn compartment(state: &TaskState, first: &TaskState) -> Compartment {
    if !is_apart(state, first) {
        return 0;
    }
    // Keys are the same for all of one process, and nobody chooses what is hashed.
    let mut hasher = std::hash::DefaultHasher::new();
    state.ns.map(|ns| ns.inum).hash(&mut hasher);
    state.cgroups.hash(&mut hasher);
    hasher.finish() | 1 << 63
}

/// Whether a task is apart from the host's first namespaces, as the kernel programs would mark it.
#[must_use]
pub fn is_apart(state: &TaskState, first: &TaskState) -> bool {
    let apart = |slot: usize| state.ns[slot].inum != first.ns[slot].inum;
    [ns::MNT, ns::PID, ns::USER].into_iter().any(apart)
}

/// The handles that tasks of several compartments hold, as acts behind one that says what was looked at. Nothing if
/// nothing was.
#[must_use]
pub fn shared(held: &Held, of: impl Fn(&TaskKey) -> Option<Compartment>) -> Vec<ActRecord> {
    if held.looked & looked::FILES == 0 {
        return Vec::new();
    }
    let peers: HashMap<(u32, u64), u64> = held
        .records
        .iter()
        .filter(|r| r.peer_ino != 0)
        .map(|r| ((r.dev, r.ino), r.peer_ino))
        .collect();
    // What only the host holds is most of it, and never shared.
    let marked = |r: &&HandleRecord| r.flags & handle_flags::MARKED != 0;
    let matter: HashSet<Object> = held
        .records
        .iter()
        .filter(marked)
        .flat_map(|r| objects(r, &peers))
        .collect();
    let mut whose: HashMap<u32, Option<Compartment>> = HashMap::new();
    let mut holders: BTreeMap<Object, BTreeMap<Compartment, Holders<'_>>> = BTreeMap::new();
    for record in &held.records {
        for object in objects(record, &peers) {
            if !matter.contains(&object) {
                continue;
            }
            let task = &record.task;
            let Some(compartment) = *whose.entry(task.tid).or_insert_with(|| of(task)) else {
                continue;
            };
            let by_compartment = holders.entry(object).or_default();
            by_compartment.entry(compartment).or_default().add(record);
        }
    }
    let mut found = Vec::new();
    for (object, by_compartment) in holders {
        if by_compartment.len() > 1 {
            let all = by_compartment.values().flat_map(Holders::all);
            found.extend(all.map(|record| share(object, record)));
        }
    }
    let omitted = found.len().saturating_sub(MAX_SHARED);
    found.truncate(MAX_SHARED);
    let mut first = blank();
    first.act = act::HANDLES;
    first.arg0 = held.looked;
    first.arg1 = omitted as u64 + held.left_out;
    found.insert(0, first);
    found
}

/// The tasks of one compartment that are told of: the oldest that has it as a standard stream, and the oldest that has
/// it otherwise.
#[derive(Debug, Default)]
struct Holders<'a> {
    stream: Option<&'a HandleRecord>,
    other: Option<&'a HandleRecord>,
}

impl<'a> Holders<'a> {
    fn add(&mut self, record: &'a HandleRecord) {
        let place = match record.descriptor {
            0..=LAST_STREAM => &mut self.stream,
            _ => &mut self.other,
        };
        let age = |r: &HandleRecord| (r.task.start_boottime_ns, r.task.tid, r.descriptor);
        if place.is_none_or(|known| age(record) < age(known)) {
            *place = Some(record);
        }
    }

    fn all(&self) -> impl Iterator<Item = &'a HandleRecord> + use<'a> {
        self.stream.into_iter().chain(self.other)
    }
}

/// What a handle is a handle of. The two ends of a unix connection have one name, that of the lower inode; who sends to
/// a socket that is connected to nobody holds his own and the other one.
fn objects(record: &HandleRecord, peers: &HashMap<(u32, u64), u64>) -> Vec<Object> {
    let inode = |ino| Object::Inode(record.dev, ino);
    match what(record) {
        None => Vec::new(),
        Some(handle::FILE) => vec![Object::File(record.identity)],
        Some(handle::SOCKET) if record.peer_ino != 0 => {
            let (own, other) = (record.ino, record.peer_ino);
            match peers.get(&(record.dev, other)) {
                Some(&back) if back == own => vec![inode(own.min(other))],
                _ => vec![inode(own), inode(other)],
            }
        }
        Some(_) => vec![inode(record.ino)],
    }
}

/// What a handle is; `None` where nothing can pass through it.
fn what(record: &HandleRecord) -> Option<u64> {
    let is_memory = record.flags & handle_flags::INTERNAL != 0 && MEMORY.contains(&record.fs_magic);
    let is_empty = record.mode & TYPE == CHARACTER
        && record.rdev >> 20 == 1
        && EMPTY.contains(&(record.rdev & 0xf_ffff));
    if is_memory && (record.descriptor != MAPPED || kernel_str(&record.name).starts_with(MEMFD)) {
        return Some(handle::MEMORY);
    }
    match record.mode & TYPE {
        _ if is_empty => None,
        _ if record.descriptor == MAPPED => Some(handle::MAPPING),
        FIFO => Some(handle::PIPE),
        SOCKET => Some(handle::SOCKET),
        _ => (record.identity != 0).then_some(handle::FILE),
    }
}

fn share(object: Object, record: &HandleRecord) -> ActRecord {
    let mut told = blank();
    told.header.hook = record.header.hook;
    told.act = act::SHARE;
    told.actor = record.task;
    told.target.tid = record.descriptor;
    let (ino, identity) = match object {
        Object::Inode(_, ino) => (ino, 0),
        Object::File(identity) => (record.ino, identity),
    };
    told.object = FileRef {
        ino,
        dev: record.dev,
        mode: record.mode,
        rdev: record.rdev,
        fs_magic: record.fs_magic,
        ..FileRef::default()
    };
    told.arg0 = what(record).unwrap_or_default();
    told.arg1 = identity;
    let name = kernel_str(&record.name);
    // Sockets and pipes have none, whatever the kernel puts there.
    if !matches!(told.arg0, handle::PIPE | handle::SOCKET)
        || record.flags & handle_flags::INTERNAL == 0
    {
        for (to, from) in told.name.iter_mut().zip(name) {
            *to = *from;
        }
        told.name_len = name.len().min(ACT_NAME_LEN) as u32;
    }
    told
}

/// An act of nobody, whose time the sweep sets.
fn blank() -> ActRecord {
    let mut record = ActRecord::new_zeroed();
    record.header = RecordHeader {
        boottime_ns: 0,
        cpu_seq: 0,
        kind: kind::ACT,
        hook: hook::ITER_HANDLE,
        cpu: 0,
        size: const { size_of::<ActRecord>() as u16 },
    };
    record.syscall = -1;
    record
}

#[cfg(test)]
mod tests {
    //! Goal: of all that tasks hold, exactly what several compartments hold is told, each by one or two tasks. Method:
    //! lists by hand, the tens digit of a task's id being its compartment.

    use super::*;

    const PIPE: u32 = 0o010_600;
    const REGULAR: u32 = 0o100_644;
    const STREAM: u32 = 0o140_777;

    fn held(tid: u32, mode: u32, ino: u64, descriptor: u32) -> HandleRecord {
        let mut record = HandleRecord::new_zeroed();
        record.task.tid = tid;
        record.task.start_boottime_ns = u64::from(tid);
        record.mode = mode;
        record.ino = ino;
        record.dev = 12;
        record.descriptor = descriptor;
        record.identity = u64::from(tid) << 32 | u64::from(descriptor);
        if tid >= 10 {
            record.flags = handle_flags::MARKED;
        }
        record
    }

    fn told(records: &[HandleRecord]) -> Vec<(u64, u32, u64, u32)> {
        let held = Held {
            records: records.to_vec(),
            looked: looked::FILES,
            ..Held::default()
        };
        let acts = shared(&held, |task| Some(u64::from(task.tid / 10)));
        assert_eq!((acts[0].act, acts[0].arg0), (act::HANDLES, looked::FILES));
        let row = |a: &ActRecord| (a.arg0, a.actor.tid, a.object.ino, a.target.tid);
        acts[1..].iter().map(row).collect()
    }

    #[test]
    fn only_what_crosses_is_told() {
        let records = [
            held(1, PIPE, 5, 0),
            held(2, PIPE, 5, 3),
            held(10, PIPE, 6, 4),
            held(11, PIPE, 6, 4),
            held(12, PIPE, 7, 1),
            held(13, PIPE, 7, 5),
            held(14, PIPE, 7, 5),
            held(3, PIPE, 7, 9),
            held(10, REGULAR, 8, 5),
            held(20, REGULAR, 8, 5),
        ];
        let wanted = [
            (handle::PIPE, 3, 7, 9),
            (handle::PIPE, 12, 7, 1),
            (handle::PIPE, 13, 7, 5),
        ];
        assert_eq!(told(&records), wanted);
    }

    /// A record may be cut between two reads.
    #[test]
    fn what_is_read_in_pieces_is_whole() {
        use zerocopy::IntoBytes;
        struct Pieces<'a>(&'a [u8]);
        impl Read for Pieces<'_> {
            fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
                let count = self.0.len().min(100).min(to.len());
                to[..count].copy_from_slice(&self.0[..count]);
                self.0 = &self.0[count..];
                Ok(count)
            }
        }
        let one = |tid| {
            let mut record = held(tid, PIPE, 5, 3);
            record.header.kind = kind::HANDLE;
            record.header.size = const { size_of::<HandleRecord>() as u16 };
            record
        };
        let all: Vec<HandleRecord> = (1..40).map(one).collect();
        let bytes: Vec<u8> = all.iter().flat_map(|r| r.as_bytes().to_vec()).collect();
        let mut held = Held::default();
        read(Pieces(&bytes), &mut held).unwrap();
        assert_eq!(held.records, all);
        assert_eq!((held.of_host, held.left_out), (9, 0));
    }

    /// What the host holds beyond the bound is left out and counted.
    #[test]
    fn the_host_has_a_bound() {
        let mut all = Held::default();
        for _ in 0..=MAX_OF_HOST {
            assert!(all.take(&held(1, PIPE, 5, 3)));
        }
        assert!(all.take(&held(10, PIPE, 5, 3)));
        assert_eq!((all.records.len(), all.left_out), (MAX_OF_HOST + 1, 1));
        all.looked = looked::FILES;
        let told = shared(&all, |task| Some(u64::from(task.tid)));
        assert_eq!((told[0].arg1, told.len()), (1, 3));
    }

    /// One open file is one number, whoever holds it; two of one inode are two.
    #[test]
    fn open_files_are_told_by_their_number() {
        let mut records = [held(10, REGULAR, 8, 5), held(20, REGULAR, 8, 6)];
        assert!(told(&records).is_empty());
        records[1].identity = records[0].identity;
        let files = [(handle::FILE, 10, 8, 5), (handle::FILE, 20, 8, 6)];
        assert_eq!(told(&records), files);
        let null = |record: &mut HandleRecord| {
            (record.mode, record.rdev) = (0o020_666, 1 << 20 | 3);
        };
        records.iter_mut().for_each(null);
        assert!(told(&records).is_empty(), "nothing passes through null");
    }

    /// Two ends of a connection are one object; a datagram socket that many are connected to is one for each.
    #[test]
    fn ends_of_a_connection_meet() {
        let mut records = [held(10, STREAM, 31, 5), held(20, STREAM, 32, 6)];
        assert!(told(&records).is_empty());
        (records[0].peer_ino, records[1].peer_ino) = (32, 31);
        let both = [(handle::SOCKET, 10, 31, 5), (handle::SOCKET, 20, 31, 6)];
        assert_eq!(told(&records), both);
        records[1].peer_ino = 0;
        let other = [(handle::SOCKET, 10, 32, 5), (handle::SOCKET, 20, 32, 6)];
        assert_eq!(told(&records), other);
    }

    /// Memory is memory whether it is open or mapped, and a file that is only open is none.
    #[test]
    fn memory_is_told_by_its_inode() {
        let mut records = [held(10, REGULAR, 8, 5), held(20, REGULAR, 8, MAPPED)];
        records[1].identity = 0;
        assert!(told(&records).is_empty());
        for record in &mut records {
            record.flags |= handle_flags::INTERNAL;
            record.fs_magic = MEMORY[0];
            record.name[..8].copy_from_slice(b"memfd:mq");
        }
        let both = [(handle::MEMORY, 10, 8, 5), (handle::MEMORY, 20, 8, MAPPED)];
        assert_eq!(told(&records), both);
        assert!(shared(&Held::default(), |_| None).is_empty());
    }
}
