//! An item of a trace as one JSON object: every field by name. `docs/trace-export.md` lists them.

use super::kind::Kind;
use super::names;
use crate::engine::{Event, LossMark, Saved};
use crate::inventory::container::ContainerAnswer;
use crate::model::capability;
use crate::model::policy::Policy;
use crate::model::setup::SetUp;
use crate::model::syscalls;
use crate::model::text::{escape, rfc3339};
use crate::trace::{Header, Item};
use auditor_common::limits::CGROUP_SLOTS;
use auditor_common::record::{
    ActRecord, CgroupRecord, Creds, FileRef, NsRef, PathRef, RecordHeader, TaskKey, TaskRecord,
    TaskState, cgroup, cgroup_op, kernel_str,
};
use hashbrown::HashMap;
use serde::{Serialize, Serializer};
use std::borrow::Cow;

/// Cgroups whose paths are remembered; the tasks of others have an id only.
const MAX_PATHS: usize = 1 << 18;

/// What the items of a trace are seen through: what the header says once, and the cgroups that are there.
#[derive(Debug)]
pub struct Lens {
    realtime_offset_ns: i64,
    syscalls: syscalls::Names,
    hierarchies: [Option<u32>; CGROUP_SLOTS],
    /// By hierarchy and id.
    paths: HashMap<(u32, u64), Box<str>>,
    /// What goes after the item that said so.
    gone: Option<(u32, u64)>,
}

/// One line. Fields without a value are left out.
#[derive(Debug, Serialize)]
pub struct Entry<'a> {
    kind: Kind,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    prologue: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    boottime_ns: Option<u64>,
    #[serde(flatten)]
    what: What<'a>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum What<'a> {
    Task(Change<'a>),
    Exec {
        #[serde(flatten)]
        change: Change<'a>,
        file: String,
    },
    Exit {
        #[serde(flatten)]
        seen: Seen,
        task: Key,
        exit_code: u32,
    },
    Cgroup {
        #[serde(flatten)]
        seen: Seen,
        op: Cow<'static, str>,
        actor: Key,
        id: u64,
        parent_id: u64,
        hierarchy: u32,
        path: String,
        path_bytes: u32,
    },
    Act {
        #[serde(flatten)]
        seen: Seen,
        act: Cow<'static, str>,
        syscall: Option<&'static str>,
        syscall_nr: i32,
        result: i32,
        actor: Key,
        #[serde(skip_serializing_if = "Option::is_none")]
        target: Option<Key>,
        #[serde(skip_serializing_if = "Option::is_none")]
        object: Option<File>,
        #[serde(skip_serializing_if = "String::is_empty")]
        name: String,
        arg0: u64,
        arg1: u64,
    },
    SweepEnd {
        complete: bool,
    },
    Answer {
        cgroup_path: &'a str,
        init_pid: Option<u32>,
        answer: Option<&'a ContainerAnswer>,
    },
    Looked {
        looked: &'a SetUp,
    },
    Saved {
        saved: &'a Saved,
    },
    Policy {
        policy: &'a Policy,
    },
    Loss(Loss<'a>),
    Stop {
        reason: &'a str,
    },
    Nothing {},
}

/// Where a record comes from.
#[derive(Debug, Serialize)]
struct Seen {
    hook: Cow<'static, str>,
    cpu: u16,
    cpu_seq: u64,
}

#[derive(Debug, Serialize)]
struct Key {
    tid: u32,
    tgid: u32,
    start_boottime_ns: u64,
}

#[derive(Debug, Serialize)]
struct Change<'a> {
    #[serde(flatten)]
    seen: Seen,
    cause: Cow<'static, str>,
    syscall: Option<&'static str>,
    syscall_nr: i32,
    arg0: u64,
    arg1: u64,
    actor: Key,
    task: Task<'a>,
}

#[derive(Debug, Serialize)]
struct Task<'a> {
    #[serde(flatten)]
    key: Key,
    parent: Key,
    comm: String,
    ns: Pairs<Namespace>,
    cgroups: Pairs<Place<'a>>,
    creds: Credentials,
    root: Directory,
    cwd: Directory,
    known: Vec<Cow<'static, str>>,
    flags: Vec<Cow<'static, str>>,
    ns_tid: u32,
    pid_level: u32,
    pid_parent_inum: u32,
    user_level: u32,
    seccomp: Cow<'static, str>,
    seccomp_filters: u32,
}

#[derive(Debug, Serialize)]
struct Namespace {
    inum: u32,
    owner_inum: u32,
    unique_id: u64,
}

#[derive(Debug, Serialize)]
struct Place<'a> {
    id: u64,
    path: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Credentials {
    uid: u32,
    gid: u32,
    suid: u32,
    sgid: u32,
    euid: u32,
    egid: u32,
    fsuid: u32,
    fsgid: u32,
    inheritable: Vec<Cow<'static, str>>,
    permitted: Vec<Cow<'static, str>>,
    effective: Vec<Cow<'static, str>>,
    bounding: Vec<Cow<'static, str>>,
    ambient: Vec<Cow<'static, str>>,
    securebits: u32,
}

#[derive(Debug, Serialize)]
struct Directory {
    dev: u32,
    ino: u64,
    mnt_ns: u32,
    mnt_id: u32,
    flags: Vec<Cow<'static, str>>,
}

#[derive(Debug, Serialize)]
struct File {
    dev: u32,
    ino: u64,
    mnt_ns: u32,
    mnt_id: u32,
    mode: u32,
    rdev: u32,
    fs_magic: u32,
    fs_owner: u32,
    flags: Vec<Cow<'static, str>>,
}

#[derive(Debug, Serialize)]
struct Loss<'a> {
    place: &'a str,
    count: u64,
    by_hook: Vec<(Cow<'static, str>, u64)>,
    by_cpu: Vec<(u32, u64)>,
}

/// An object with a key for each pair.
#[derive(Debug)]
struct Pairs<T>(Vec<(&'static str, T)>);

impl<T: Serialize> Serialize for Pairs<T> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl Lens {
    /// For the trace that begins so.
    #[must_use]
    pub fn new(header: &Header) -> Self {
        Self {
            realtime_offset_ns: header.realtime_offset_ns,
            syscalls: syscalls::of(&header.arch),
            hierarchies: header.hierarchies,
            paths: HashMap::new(),
            gone: None,
        }
    }

    /// Learns from an item what later ones refer to. Every item goes through here, in order, before its
    /// [`Self::entry`].
    pub fn learn(&mut self, item: &Item<'_>) {
        if let Some(key) = self.gone.take() {
            self.paths.remove(&key);
        }
        let Item::Event(Event::Cgroup(record)) = item else {
            return;
        };
        let key = (record.hierarchy, record.id);
        match record.op {
            cgroup_op::MKDIR | cgroup_op::WALK
                if self.paths.len() < MAX_PATHS || self.paths.contains_key(&key) =>
            {
                self.paths.insert(key, path_of(record).into());
            }
            cgroup_op::RMDIR | cgroup_op::RELEASE => self.gone = Some(key),
            _ => {}
        }
    }

    /// UTC of a time since boot, RFC 3339.
    #[must_use]
    pub fn time(&self, boottime_ns: u64) -> String {
        rfc3339(i128::from(boottime_ns) + i128::from(self.realtime_offset_ns))
    }

    /// Nanoseconds since 1970 of a time since boot.
    #[cfg(feature = "parquet")]
    pub(super) fn unix_ns(&self, boottime_ns: u64) -> i64 {
        let unix_ns = i128::from(boottime_ns) + i128::from(self.realtime_offset_ns);
        i64::try_from(unix_ns).unwrap_or(i64::MAX)
    }

    /// Name of a system call.
    pub(super) fn syscall(&self, number: i32) -> Option<&'static str> {
        (self.syscalls)(number)
    }

    /// The cgroup of a task in one slot: its id, and its path where that is known.
    pub(super) fn cgroup(&self, state: &TaskState, slot: usize) -> Option<(u64, Option<&str>)> {
        let id = state.cgroups[slot];
        let path = self.hierarchies[slot].and_then(|h| self.paths.get(&(h, id)));
        (id != 0).then(|| (id, path.map(AsRef::as_ref)))
    }

    /// The item as a line.
    #[must_use]
    pub fn entry<'a>(&'a self, item: &Item<'a>, in_prologue: bool) -> Entry<'a> {
        let boottime_ns = item.boottime_ns();
        Entry {
            kind: Kind::of(item),
            prologue: in_prologue,
            time: boottime_ns.map(|ns| self.time(ns)),
            boottime_ns,
            what: self.what(item),
        }
    }

    fn what<'a>(&'a self, item: &Item<'a>) -> What<'a> {
        let event = match item {
            Item::Event(event) => event,
            Item::Answer(answer) => {
                return What::Answer {
                    cgroup_path: answer.cgroup_path,
                    init_pid: answer.init_pid,
                    answer: answer.answer,
                };
            }
            Item::Stop { reason, .. } => return What::Stop { reason },
        };
        match event {
            Event::Task(record) => What::Task(self.change(record)),
            Event::Exec(record) => What::Exec {
                change: self.change(&record.task),
                file: escape(kernel_str(&record.filename)),
            },
            Event::Exit(record) => What::Exit {
                seen: Seen::of(&record.header),
                task: Key::of(&record.key),
                exit_code: record.exit_code,
            },
            Event::Cgroup(record) => cgroup_line(record),
            Event::Act(record) => self.act(record),
            Event::SweepEnd { complete, .. } => What::SweepEnd {
                complete: *complete,
            },
            Event::Looked(looked) => What::Looked { looked },
            Event::Restore(saved) => What::Saved { saved },
            Event::Policy(policy) => What::Policy { policy },
            Event::Loss(mark) => What::Loss(loss(mark)),
            // An answer without its question: no trace holds one.
            Event::Answer { .. } | Event::SweepBegin { .. } | Event::Tick { .. } => {
                What::Nothing {}
            }
        }
    }

    fn change(&self, record: &TaskRecord) -> Change<'_> {
        let TaskRecord {
            header,
            actor,
            cause,
            syscall,
            arg0,
            arg1,
            state,
        } = record;
        Change {
            seen: Seen::of(header),
            cause: names::cause(*cause),
            syscall: self.syscall(*syscall),
            syscall_nr: *syscall,
            arg0: *arg0,
            arg1: *arg1,
            actor: Key::of(actor),
            task: self.task(state),
        }
    }

    fn act(&self, record: &ActRecord) -> What<'static> {
        let ActRecord {
            header,
            actor,
            target,
            object,
            act,
            syscall,
            result,
            name_len: _,
            arg0,
            arg1,
            name: _,
        } = record;
        What::Act {
            seen: Seen::of(header),
            act: names::act(*act),
            syscall: self.syscall(*syscall),
            syscall_nr: *syscall,
            result: *result,
            actor: Key::of(actor),
            target: (*target != TaskKey::default()).then(|| Key::of(target)),
            object: (*object != FileRef::default()).then(|| File::of(object)),
            name: escape(record.name()),
            arg0: *arg0,
            arg1: *arg1,
        }
    }

    fn task(&self, state: &TaskState) -> Task<'_> {
        let TaskState {
            key,
            parent,
            ns,
            cgroups: _,
            creds,
            root,
            cwd,
            comm,
            known,
            task_flags,
            ns_tid,
            pid_level,
            pid_parent_inum,
            user_level,
            seccomp_mode,
            seccomp_filters,
        } = state;
        let places = (0..CGROUP_SLOTS).filter_map(|slot| {
            let (id, path) = self.cgroup(state, slot)?;
            Some((slot_name(slot), Place { id, path }))
        });
        let namespaces = ns
            .iter()
            .enumerate()
            .filter(|(_, ns)| **ns != NsRef::default());
        Task {
            key: Key::of(key),
            parent: Key::of(parent),
            comm: escape(kernel_str(comm)),
            ns: Pairs(
                namespaces
                    .map(|(slot, ns)| (names::namespace(slot), Namespace::of(ns)))
                    .collect(),
            ),
            cgroups: Pairs(places.collect()),
            creds: Credentials::of(creds),
            root: Directory::of(root),
            cwd: Directory::of(cwd),
            known: names::bits(*known, names::KNOWN),
            flags: names::bits(*task_flags, names::TASK_FLAGS),
            ns_tid: *ns_tid,
            pid_level: *pid_level,
            pid_parent_inum: *pid_parent_inum,
            user_level: *user_level,
            seccomp: names::seccomp(*seccomp_mode),
            seccomp_filters: *seccomp_filters,
        }
    }
}

/// Path of a cgroup record as text.
pub(super) fn path_of(record: &CgroupRecord) -> String {
    escape(&record.path[..record.path.len().min(record.path_len as usize)])
}

fn slot_name(slot: usize) -> &'static str {
    match slot.checked_sub(1) {
        None => "v2",
        Some(controller) => cgroup::CONTROLLERS
            .get(controller)
            .copied()
            .unwrap_or("unknown"),
    }
}

fn cgroup_line(record: &CgroupRecord) -> What<'static> {
    let CgroupRecord {
        header,
        actor,
        id,
        parent_id,
        hierarchy,
        op,
        path_len,
        reserved: _,
        path: _,
    } = record;
    What::Cgroup {
        seen: Seen::of(header),
        op: names::cgroup_op(*op),
        actor: Key::of(actor),
        id: *id,
        parent_id: *parent_id,
        hierarchy: *hierarchy,
        path: path_of(record),
        path_bytes: *path_len,
    }
}

fn loss(mark: &LossMark) -> Loss<'_> {
    let LossMark {
        boottime_ns: _,
        place,
        by_hook,
        by_cpu,
        count,
    } = mark;
    Loss {
        place,
        count: *count,
        by_hook: by_hook.iter().map(|(&h, &n)| (names::hook(h), n)).collect(),
        by_cpu: by_cpu.iter().map(|(&cpu, &n)| (cpu, n)).collect(),
    }
}

impl Seen {
    fn of(header: &RecordHeader) -> Self {
        let RecordHeader {
            boottime_ns: _,
            cpu_seq,
            kind: _,
            hook,
            cpu,
            size: _,
        } = *header;
        Self {
            hook: names::hook(hook),
            cpu,
            cpu_seq,
        }
    }
}

impl Key {
    fn of(key: &TaskKey) -> Self {
        let TaskKey {
            tid,
            tgid,
            start_boottime_ns,
        } = *key;
        Self {
            tid,
            tgid,
            start_boottime_ns,
        }
    }
}

impl Namespace {
    fn of(ns: &NsRef) -> Self {
        let NsRef {
            inum,
            owner_inum,
            unique_id,
        } = *ns;
        Self {
            inum,
            owner_inum,
            unique_id,
        }
    }
}

impl Credentials {
    fn of(creds: &Creds) -> Self {
        let Creds {
            uid,
            gid,
            suid,
            sgid,
            euid,
            egid,
            fsuid,
            fsgid,
            cap_inheritable,
            cap_permitted,
            cap_effective,
            cap_bounding,
            cap_ambient,
            securebits,
            reserved: _,
        } = *creds;
        Self {
            uid,
            gid,
            suid,
            sgid,
            euid,
            egid,
            fsuid,
            fsgid,
            inheritable: capabilities(cap_inheritable),
            permitted: capabilities(cap_permitted),
            effective: capabilities(cap_effective),
            bounding: capabilities(cap_bounding),
            ambient: capabilities(cap_ambient),
            securebits,
        }
    }
}

fn capabilities(mask: u64) -> Vec<Cow<'static, str>> {
    let rest = capability::unnamed(mask);
    capability::names(mask)
        .into_iter()
        .map(Cow::Borrowed)
        .chain((rest != 0).then(|| format!("{rest:#x}").into()))
        .collect()
}

impl File {
    fn of(file: &FileRef) -> Self {
        let FileRef {
            ino,
            dev,
            mnt_ns_inum,
            mnt_id,
            mode,
            rdev,
            fs_magic,
            fs_owner_inum,
            flags,
        } = *file;
        Self {
            dev,
            ino,
            mnt_ns: mnt_ns_inum,
            mnt_id,
            mode,
            rdev,
            fs_magic,
            fs_owner: fs_owner_inum,
            flags: names::bits(flags, names::PATH_FLAGS),
        }
    }
}

impl Directory {
    fn of(path: &PathRef) -> Self {
        let PathRef {
            ino,
            dev,
            mnt_ns_inum,
            mnt_id,
            flags,
        } = *path;
        Self {
            dev,
            ino,
            mnt_ns: mnt_ns_inum,
            mnt_id,
            flags: names::bits(flags, names::PATH_FLAGS),
        }
    }
}
