//! A simulated node: it makes the records that the kernel would when containers come and go.
//!
//! The order of records is that of runc 1.1 as traced: clone, move into the cgroup, unshare, clone again,
//! pivot_root, drop capabilities, exec. What a node really does beside that is short programs, inside containers
//! (shells, probes) and outside (shims, timers), and they are the greater part of the stream here too.

use auditor::engine::{Config, Engine, Event};
use auditor::inventory::container::{ContainerAnswer, Runtime};
use auditor::model::NsKind;
use auditor::model::output::Record;
use auditor::model::policy::Policy;
use auditor_common::hook;
use auditor_common::limits::{CGROUP_PATH_LEN, CGROUP_SLOTS, FILENAME_LEN};
use auditor_common::record::{
    ATTACH_THREADGROUP, CgroupRecord, ExecRecord, ExitRecord, PathRef, RecordHeader, TaskKey,
    TaskRecord, TaskState, cause, cgroup, cgroup_op, kind, known, ns, task_flags,
};
use std::collections::BTreeMap;

/// CLONE_NEWNS, NEWPID, NEWNET, NEWIPC, NEWUTS: what runc unshares by default.
const FIVE: [NsKind; 5] = [
    NsKind::Mnt,
    NsKind::Pid,
    NsKind::Net,
    NsKind::Ipc,
    NsKind::Uts,
];
/// The default capabilities of a container.
const DEFAULT_CAPABILITIES: u64 = 0xa804_25fb;
const ALL_CAPABILITIES: u64 = 0x1ff_ffff_ffff;
/// Inum of the host's first namespace; the others follow.
const HOST_INUM: u32 = 1000;

/// A record, owned. Not boxed: a chunk of records is read in order and dropped.
#[derive(Clone, Copy, Debug)]
pub enum Owned {
    /// See [`Event::Task`].
    Task(TaskRecord),
    /// See [`Event::Exec`].
    Exec(ExecRecord),
    /// See [`Event::Exit`].
    Exit(ExitRecord),
    /// See [`Event::Cgroup`].
    Cgroup(CgroupRecord),
}

impl Owned {
    /// As the engine takes it.
    #[must_use]
    pub fn event(&self) -> Event<'_> {
        match self {
            Self::Task(record) => Event::Task(record),
            Self::Exec(record) => Event::Exec(record),
            Self::Exit(record) => Event::Exit(record),
            Self::Cgroup(record) => Event::Cgroup(record),
        }
    }
}

/// A living container.
#[derive(Debug)]
struct Container {
    tids: Vec<u32>,
    cgroup: u64,
    path: String,
}

/// The machine that the records are about.
#[derive(Debug)]
pub struct Node {
    /// Records since they were last taken.
    pub records: Vec<Owned>,
    tasks: BTreeMap<u32, TaskState>,
    containers: std::collections::VecDeque<Container>,
    now_ns: u64,
    next_tid: u32,
    next_inum: u32,
    next_cgroup: u64,
}

/// What an engine is told of such a node.
#[must_use]
pub fn config(name: &str) -> Config {
    let mut hierarchies = [None; CGROUP_SLOTS];
    hierarchies[cgroup::V2] = Some(0);
    Config {
        node: name.to_owned(),
        boot_id: name.to_owned(),
        hierarchies,
        ..Config::default()
    }
}

/// An engine for such a node.
#[must_use]
pub fn engine() -> Engine {
    Engine::new(config("bench"), &Policy::default())
}

/// Steps the engine, and names each container as a runtime's state directory would.
pub fn step(engine: &mut Engine, event: Event<'_>, out: &mut Vec<Record>) {
    engine.step(event, out);
    while let Some(query) = engine.next_query() {
        let answer = named(&query.cgroup_path);
        let event = Event::Answer {
            query: query.id,
            answer: Some(&answer),
        };
        engine.step(event, out);
    }
}

/// What a runtime's state directory would say of a container.
#[must_use]
pub fn named(cgroup_path: &str) -> ContainerAnswer {
    let id = cgroup_path.rsplit('/').next().unwrap_or_default();
    ContainerAnswer::bare(cgroup_path.to_owned(), Runtime::Runc, id.to_owned())
}

impl Node {
    /// A node with tasks of the host and no container.
    #[must_use]
    pub fn new(host_tasks: u32) -> Self {
        let mut node = Self {
            records: Vec::new(),
            tasks: BTreeMap::new(),
            containers: std::collections::VecDeque::new(),
            now_ns: 1_000_000_000_000,
            next_tid: host_tasks,
            next_inum: 5000,
            next_cgroup: 1,
        };
        node.cgroup(1, "/", cgroup_op::WALK);
        for tid in 1..=host_tasks {
            node.tasks.insert(tid, host_task(tid));
        }
        node
    }

    /// A sweep over every task, as the iterator gives it.
    pub fn sweep(&mut self, mut take: impl FnMut(Event<'_>)) {
        for record in std::mem::take(&mut self.records) {
            take(record.event());
        }
        let begin = Event::SweepBegin {
            boottime_ns: self.now_ns,
        };
        take(begin);
        let tids: Vec<u32> = self.tasks.keys().copied().collect();
        let began_ns = self.now_ns;
        for tid in tids {
            let mut record = self.record(tid, tid, cause::SNAPSHOT, 0, 0);
            record.header.boottime_ns = began_ns;
            self.records.push(Owned::Task(record));
        }
        for record in std::mem::take(&mut self.records) {
            take(record.event());
        }
        let end = Event::SweepEnd {
            boottime_ns: self.now_ns,
            complete: true,
        };
        take(end);
    }

    /// Now, nanoseconds since boot.
    #[must_use]
    pub const fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// So much time passes.
    pub const fn pass(&mut self, ns: u64) {
        self.now_ns += ns;
    }

    /// The cgroups that there are, as a walk finds them.
    pub fn walk(&mut self) {
        let places = self.containers.iter().map(|c| (c.cgroup, c.path.clone()));
        let root = (1, "/".to_owned());
        for (id, path) in std::iter::once(root).chain(places).collect::<Vec<_>>() {
            self.cgroup(id, &path, cgroup_op::WALK);
        }
    }

    /// The first task of the oldest container joins a namespace of the host.
    pub fn join_host(&mut self, kind: NsKind) {
        let Some(tid) = self.containers.front().map(|c| c.tids[0]) else {
            return;
        };
        let host = host_task(1);
        self.change(tid, |state| state.ns[kind.slot()] = host.ns[kind.slot()]);
        self.emit(tid, tid, cause::SETNS, 0, 0);
    }

    /// One container starts, with `tasks` tasks.
    pub fn start(&mut self, tasks: u32) {
        let runc = self.fork(1);
        self.exec(runc, "/usr/sbin/runc");
        let stage0 = self.fork(runc);
        self.exec(stage0, "/proc/self/exe");
        self.next_cgroup += 1;
        let cgroup = self.next_cgroup;
        let path = format!("/system.slice/pods/bench-{cgroup}");
        self.cgroup(cgroup, &path, cgroup_op::MKDIR);
        self.change(stage0, |state| state.cgroups[cgroup::V2] = cgroup);
        self.emit(stage0, runc, cause::ATTACH, cgroup, ATTACH_THREADGROUP);
        let stage1 = self.fork(stage0);
        self.unshare(stage1);
        let init = self.fork(stage1);
        self.exit(stage1);
        self.exit(stage0);
        self.change(init, |state| {
            state.root = PathRef {
                ino: 77_000 + cgroup,
                dev: 8,
                mnt_ns_inum: state.ns[ns::MNT].inum,
                mnt_id: 9,
                flags: 0,
            };
            state.cwd = state.root;
        });
        self.emit(init, init, cause::PIVOT_ROOT, 0, 0);
        for capabilities in [0x3f_ffff_ffff, DEFAULT_CAPABILITIES] {
            self.change(init, |state| {
                state.creds.cap_permitted = capabilities;
                state.creds.cap_effective = capabilities;
                state.creds.cap_bounding = capabilities;
            });
            self.emit(init, init, cause::CRED, 0, 0);
        }
        self.exec(init, "/bin/service");
        self.exit(runc);
        let mut tids = vec![init];
        for _ in 1..tasks {
            tids.push(self.fork(init));
        }
        self.containers.push_back(Container { tids, cgroup, path });
    }

    /// The oldest container ends.
    pub fn stop(&mut self) {
        let Some(Container { tids, cgroup, path }) = self.containers.pop_front() else {
            return;
        };
        for tid in tids.into_iter().rev() {
            self.exit(tid);
        }
        self.cgroup(cgroup, &path, cgroup_op::RMDIR);
    }

    /// A short program runs as a child of a task of some container.
    pub fn work_inside(&mut self, seed: usize) {
        let at = seed % self.containers.len().max(1);
        let Some(parent) = self.containers.get(at).map(|c| c.tids[0]) else {
            return;
        };
        self.work(parent, "/bin/sh");
    }

    /// A short program runs on the host.
    pub fn work_outside(&mut self, seed: u32) {
        self.work(1 + seed % 100, "/usr/bin/env");
    }

    /// One unit of churn: a container comes, another goes, and programs run meanwhile. 103 records.
    pub fn churn(&mut self, seed: usize) {
        self.start(4);
        for n in 0..16 {
            self.work_inside(seed.wrapping_mul(31).wrapping_add(n * 7));
        }
        for n in 0..8 {
            self.work_outside(n * 13);
        }
        self.stop();
    }

    fn work(&mut self, parent: u32, file: &str) {
        let child = self.fork(parent);
        self.exec(child, file);
        self.exit(child);
    }

    fn change(&mut self, tid: u32, change: impl FnOnce(&mut TaskState)) {
        if let Some(state) = self.tasks.get_mut(&tid) {
            change(state);
        }
    }

    fn header(&mut self, kind: u16) -> RecordHeader {
        self.now_ns += 1000;
        RecordHeader {
            boottime_ns: self.now_ns,
            cpu_seq: 0,
            kind,
            hook: hook::SWITCH_NS,
            cpu: 0,
            size: match kind {
                kind::EXIT => size_of::<ExitRecord>() as u16,
                kind::CGROUP => size_of::<CgroupRecord>() as u16,
                _ => size_of::<TaskRecord>() as u16,
            },
        }
    }

    fn record(&mut self, tid: u32, actor: u32, cause: u32, arg0: u64, arg1: u64) -> TaskRecord {
        let state = |tid: u32| self.tasks.get(&tid).copied().unwrap_or_default();
        let (actor, state) = (state(actor).key, state(tid));
        TaskRecord {
            header: self.header(kind::TASK),
            actor,
            cause,
            syscall: -1,
            arg0,
            arg1,
            state,
        }
    }

    fn emit(&mut self, tid: u32, actor: u32, cause: u32, arg0: u64, arg1: u64) {
        let record = self.record(tid, actor, cause, arg0, arg1);
        self.records.push(Owned::Task(record));
    }

    fn cgroup(&mut self, id: u64, path: &str, op: u32) {
        let mut record = CgroupRecord {
            header: self.header(kind::CGROUP),
            actor: TaskKey::default(),
            id,
            parent_id: 0,
            hierarchy: 0,
            op,
            path_len: path.len() as u32,
            reserved: 0,
            path: [0; CGROUP_PATH_LEN],
        };
        record.path[..path.len()].copy_from_slice(path.as_bytes());
        self.records.push(Owned::Cgroup(record));
    }

    fn fork(&mut self, parent: u32) -> u32 {
        self.next_tid += 1;
        let tid = self.next_tid;
        let mut state = self.tasks.get(&parent).copied().unwrap_or_default();
        state.parent = state.key;
        state.key = TaskKey {
            tid,
            tgid: tid,
            start_boottime_ns: self.now_ns,
        };
        let moved = state.ns[ns::PID_FOR_CHILDREN].inum != state.ns[ns::PID].inum;
        state.ns[ns::PID] = state.ns[ns::PID_FOR_CHILDREN];
        state.ns_tid = if moved { 1 } else { tid };
        self.tasks.insert(tid, state);
        self.emit(tid, parent, cause::FORK, 0, 0);
        tid
    }

    fn unshare(&mut self, tid: u32) {
        let first = self.next_inum;
        self.next_inum += FIVE.len() as u32;
        let mut flags = 0;
        self.change(tid, |state| {
            for (inum, kind) in (first..).zip(FIVE) {
                flags |= kind.clone_flag();
                let slot = match kind {
                    NsKind::Pid => ns::PID_FOR_CHILDREN,
                    other => other.slot(),
                };
                state.ns[slot].inum = inum;
            }
            state.root.mnt_ns_inum = state.ns[ns::MNT].inum;
            state.cwd.mnt_ns_inum = state.ns[ns::MNT].inum;
        });
        self.emit(tid, tid, cause::UNSHARE, flags, 0);
    }

    fn exec(&mut self, tid: u32, file: &str) {
        let mut filename = [0; FILENAME_LEN];
        filename[..file.len()].copy_from_slice(file.as_bytes());
        let task = self.record(tid, tid, cause::EXEC, u64::from(tid), 0);
        self.records
            .push(Owned::Exec(ExecRecord { task, filename }));
    }

    fn exit(&mut self, tid: u32) {
        let Some(state) = self.tasks.remove(&tid) else {
            return;
        };
        let record = ExitRecord {
            header: self.header(kind::EXIT),
            key: state.key,
            exit_code: 0,
            reserved: 0,
        };
        self.records.push(Owned::Exit(record));
    }
}

fn host_task(tid: u32) -> TaskState {
    let mut state = TaskState {
        key: TaskKey {
            tid,
            tgid: tid,
            start_boottime_ns: u64::from(tid) * 1_000_000,
        },
        known: known::ALL,
        task_flags: task_flags::LEADER,
        ns_tid: tid,
        ..TaskState::default()
    };
    for (inum, ns) in (HOST_INUM..).zip(&mut state.ns) {
        ns.inum = inum;
    }
    state.ns[ns::PID_FOR_CHILDREN].inum = state.ns[ns::PID].inum;
    state.ns[ns::TIME_FOR_CHILDREN].inum = state.ns[ns::TIME].inum;
    state.cgroups[cgroup::V2] = 1;
    state.root = PathRef {
        ino: 2,
        dev: 8,
        mnt_ns_inum: HOST_INUM,
        mnt_id: 1,
        flags: 0,
    };
    state.cwd = state.root;
    state.creds.cap_permitted = ALL_CAPABILITIES;
    state.creds.cap_effective = ALL_CAPABILITIES;
    state.creds.cap_bounding = ALL_CAPABILITIES;
    state.comm[..5].copy_from_slice(b"bench");
    state
}
