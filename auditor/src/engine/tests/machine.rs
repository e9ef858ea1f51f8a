//! Goal: histories by hand, in a line each. Method: a small simulated machine that writes the records
//! which the kernel would, in the order in which real runtimes were seen to act.

use crate::engine::{Config, Engine, Event, LossMark};
use crate::inventory::container::{ContainerAnswer, Runtime, SpecSummary};
use crate::model::NsKind;
use crate::model::output::{Finding, Record};
use crate::model::policy::Policy;
use auditor_common::hook;
use auditor_common::limits::{CGROUP_PATH_LEN, CGROUP_SLOTS, FILENAME_LEN};
use auditor_common::record::*;
use std::collections::BTreeMap;

pub(super) const CLONE_NEW_ALL: u64 =
    0x0002_0000 | 0x2000_0000 | 0x4000_0000 | 0x0800_0000 | 0x0400_0000;
const HOST_MNT: u32 = 1000;

pub(super) struct Machine {
    pub(super) engine: Engine,
    pub(super) out: Vec<Record>,
    pub(super) now_ns: u64,
    pub(super) tasks: BTreeMap<u32, TaskState>,
    pub(super) next_tid: u32,
    pub(super) next_inum: u32,
    pub(super) specs: BTreeMap<String, ContainerAnswer>,
    /// The runtime leaves its working directory to the container.
    pub(super) leak_cwd: bool,
    /// What containers start with.
    pub(super) capabilities: u64,
    /// As whom.
    pub(super) uid: u32,
    /// In whose pid namespace, if not in their own.
    pub(super) pids_of: Option<u32>,
}

pub(super) fn host_state(tid: u32) -> TaskState {
    let mut state = TaskState {
        key: TaskKey {
            tid,
            tgid: tid,
            start_boottime_ns: u64::from(tid) * 1_000_000_000,
        },
        known: known::ALL,
        task_flags: task_flags::LEADER,
        ns_tid: tid,
        ..TaskState::default()
    };
    for (slot, ns) in state.ns.iter_mut().enumerate() {
        ns.inum = HOST_MNT + u32::try_from(slot).unwrap();
    }
    state.ns[ns::PID_FOR_CHILDREN].inum = state.ns[ns::PID].inum;
    state.ns[ns::TIME_FOR_CHILDREN].inum = state.ns[ns::TIME].inum;
    state.cgroups[cgroup::V2] = 1;
    state.root = PathRef {
        ino: 2,
        dev: 8,
        mnt_ns_inum: HOST_MNT,
        mnt_id: 1,
        flags: 0,
    };
    state.cwd = state.root;
    state.creds.cap_permitted = 0x1ff_ffff_ffff;
    state.creds.cap_effective = 0x1ff_ffff_ffff;
    state.creds.cap_bounding = 0x1ff_ffff_ffff;
    state.comm[..4].copy_from_slice(b"test");
    state
}

/// The namespaces that who is sent into a container joins.
pub(super) const ENTERED: [NsKind; 5] = [
    NsKind::Mnt,
    NsKind::Net,
    NsKind::Ipc,
    NsKind::Uts,
    NsKind::Pid,
];

impl Machine {
    pub(super) fn new(policy: &str) -> Self {
        let mut hierarchies = [None; CGROUP_SLOTS];
        hierarchies[cgroup::V2] = Some(0);
        Self::on(hierarchies, policy)
    }

    /// A machine with these hierarchies.
    pub(super) fn on(hierarchies: [Option<u32>; CGROUP_SLOTS], policy: &str) -> Self {
        let config = Config {
            hierarchies,
            ..Config::default()
        };
        let policy = Policy::parse(policy, "test").unwrap();
        let mut machine = Self {
            engine: Engine::new(config, &policy),
            out: Vec::new(),
            now_ns: 1_000_000_000_000,
            tasks: BTreeMap::new(),
            next_tid: 100,
            next_inum: 5000,
            specs: BTreeMap::new(),
            leak_cwd: false,
            capabilities: 0xa804_25fb,
            uid: 0,
            pids_of: None,
        };
        machine.cgroup(1, "/");
        machine.tasks.insert(1, host_state(1));
        machine.sweep();
        assert!(matches!(machine.out.remove(0), Record::Start(_)));
        machine
    }

    /// The same machine with another engine, which knows nothing yet.
    pub(super) fn restarted(&self) -> Self {
        let config = self.engine.config.clone();
        Self {
            engine: Engine::new(config, self.engine.index().policy()),
            out: Vec::new(),
            tasks: self.tasks.clone(),
            specs: self.specs.clone(),
            ..*self
        }
    }

    pub(super) fn step(&mut self, event: Event<'_>) {
        self.engine.step(event, &mut self.out);
        while let Some(query) = self.engine.next_query() {
            let answer = self.specs.get(&query.cgroup_path).cloned();
            let event = Event::Answer {
                query: query.id,
                answer: answer.as_ref(),
            };
            self.engine.step(event, &mut self.out);
        }
    }

    pub(super) fn header(&mut self, kind: u16) -> RecordHeader {
        self.now_ns += 1000;
        RecordHeader {
            boottime_ns: self.now_ns,
            cpu_seq: 0,
            kind,
            hook: hook::SWITCH_NS,
            cpu: 0,
            size: 0,
        }
    }

    pub(super) fn record(&mut self, tid: u32, actor: u32, cause: u32, arg0: u64) -> TaskRecord {
        let header = self.header(kind::TASK);
        let actor = self.tasks[&actor].key;
        TaskRecord {
            header,
            actor,
            cause,
            syscall: -1,
            arg0,
            arg1: 0,
            state: self.tasks[&tid],
        }
    }

    pub(super) fn emit(&mut self, tid: u32, actor: u32, cause: u32, arg0: u64) {
        let record = self.record(tid, actor, cause, arg0);
        self.step(Event::Task(&record));
    }

    pub(super) fn inum(&mut self) -> u32 {
        self.next_inum += 1;
        self.next_inum
    }

    pub(super) fn cgroup(&mut self, id: u64, path: &str) {
        self.cgroup_event(0, id, path, cgroup_op::MKDIR);
    }

    pub(super) fn rmdir(&mut self, id: u64, path: &str) {
        self.cgroup_event(0, id, path, cgroup_op::RMDIR);
    }

    pub(super) fn cgroup_event(&mut self, hierarchy: u32, id: u64, path: &str, op: u32) {
        let mut record = CgroupRecord {
            header: self.header(kind::CGROUP),
            actor: TaskKey::default(),
            id,
            parent_id: 0,
            hierarchy,
            op,
            path_len: u32::try_from(path.len()).unwrap(),
            reserved: 0,
            path: [0; CGROUP_PATH_LEN],
        };
        record.path[..path.len()].copy_from_slice(path.as_bytes());
        self.step(Event::Cgroup(&record));
    }

    pub(super) fn sweep(&mut self) {
        self.now_ns += 1000;
        self.sweep_as_of(self.now_ns);
    }

    /// A sweep that began earlier.
    pub(super) fn sweep_as_of(&mut self, began_ns: u64) {
        self.step(Event::SweepBegin {
            boottime_ns: began_ns,
        });
        let tids: Vec<u32> = self.tasks.keys().copied().collect();
        for tid in tids {
            self.emit(tid, tid, cause::SNAPSHOT, 0);
        }
        self.now_ns += 1000;
        self.step(Event::SweepEnd {
            boottime_ns: self.now_ns,
            complete: true,
        });
    }

    pub(super) fn fork(&mut self, parent: u32, flags: u64) -> u32 {
        self.next_tid += 1;
        let tid = self.next_tid;
        let mut state = self.tasks[&parent];
        state.parent = state.key;
        state.key = TaskKey {
            tid,
            tgid: tid,
            start_boottime_ns: self.now_ns,
        };
        let for_children = state.ns[ns::PID_FOR_CHILDREN];
        state.ns[ns::PID] = for_children;
        let is_in = |task: &TaskState| task.ns[ns::PID].inum == for_children.inum;
        let is_first = !self.tasks.values().any(is_in);
        state.ns_tid = if is_first { 1 } else { tid };
        self.make_fresh(&mut state, flags, false);
        self.tasks.insert(tid, state);
        self.emit(tid, parent, cause::FORK, flags);
        tid
    }

    pub(super) fn make_fresh(&mut self, state: &mut TaskState, flags: u64, unshare: bool) {
        for kind in [
            NsKind::Mnt,
            NsKind::Net,
            NsKind::Ipc,
            NsKind::Uts,
            NsKind::Cgroup,
            NsKind::User,
            NsKind::Pid,
        ] {
            if flags & kind.clone_flag() == 0 {
                continue;
            }
            let inum = self.inum();
            if kind == NsKind::Pid {
                state.ns[ns::PID_FOR_CHILDREN].inum = inum;
                if unshare {
                    continue;
                }
                state.ns_tid = 1;
            }
            if kind == NsKind::User {
                state.ns[ns::USER].owner_inum = state.ns[ns::USER].inum;
            }
            if kind == NsKind::Mnt {
                state.root.mnt_ns_inum = inum;
                state.cwd.mnt_ns_inum = inum;
            }
            state.ns[kind.slot()].inum = inum;
        }
    }

    pub(super) fn unshare(&mut self, tid: u32, flags: u64) {
        let mut state = self.tasks[&tid];
        self.make_fresh(&mut state, flags, true);
        self.tasks.insert(tid, state);
        self.emit(tid, tid, cause::UNSHARE, flags);
    }

    pub(super) fn setns(&mut self, tid: u32, target: u32, kinds: &[NsKind]) {
        for &kind in kinds {
            let from = self.tasks[&target];
            let state = self.tasks.get_mut(&tid).unwrap();
            match kind {
                NsKind::Pid => state.ns[ns::PID_FOR_CHILDREN] = from.ns[ns::PID],
                NsKind::Mnt => {
                    state.ns[ns::MNT] = from.ns[ns::MNT];
                    state.root = from.root;
                    state.cwd = from.root;
                }
                _ => state.ns[kind.slot()] = from.ns[kind.slot()],
            }
        }
        self.emit(tid, tid, cause::SETNS, 0);
    }

    pub(super) fn attach(&mut self, tid: u32, actor: u32, id: u64) {
        self.tasks.get_mut(&tid).unwrap().cgroups[cgroup::V2] = id;
        let mut record = self.record(tid, actor, cause::ATTACH, id);
        record.arg1 = ATTACH_THREADGROUP;
        self.step(Event::Task(&record));
    }

    /// A process of the host goes into a container's cgroup and namespaces, as `exec` of a runtime does; it runs nothing of
    /// the container yet.
    pub(super) fn send_in(&mut self, cgroup_id: u64, init: u32) -> u32 {
        let sent = self.fork(1, 0);
        self.attach(sent, sent, cgroup_id);
        self.setns(sent, init, &ENTERED);
        self.fork(sent, 0)
    }

    pub(super) fn exec(&mut self, tid: u32, file: &str) {
        let mut filename = [0; FILENAME_LEN];
        filename[..file.len()].copy_from_slice(file.as_bytes());
        let task = self.record(tid, tid, cause::EXEC, u64::from(tid));
        self.step(Event::Exec(&ExecRecord { task, filename }));
    }

    /// A task's parent has ended, and this is its next one.
    pub(super) fn adopt_by(&mut self, parent: u32, tid: u32) {
        let parent = self.tasks[&parent].key;
        self.tasks.get_mut(&tid).unwrap().parent = parent;
    }

    /// Events were lost.
    pub(super) fn lose(&mut self) {
        let mark = LossMark {
            boottime_ns: self.now_ns,
            place: "ring".to_owned(),
            count: 1,
            ..LossMark::default()
        };
        self.step(Event::Loss(&mark));
    }

    pub(super) fn exit(&mut self, tid: u32) {
        let state = self.tasks.remove(&tid).unwrap();
        let header = self.header(kind::EXIT);
        self.step(Event::Exit(&ExitRecord {
            header,
            key: state.key,
            exit_code: 0,
            reserved: 0,
        }));
    }

    /// `runc run`, as traced: returns the container's init.
    pub(super) fn runc(&mut self, cgroup_id: u64, path: &str) -> u32 {
        self.runc_from(1, cgroup_id, path, CLONE_NEW_ALL)
    }

    pub(super) fn runc_from(
        &mut self,
        starter: u32,
        cgroup_id: u64,
        path: &str,
        flags: u64,
    ) -> u32 {
        let init = self.runc_started(starter, cgroup_id, path, flags);
        // Until it is clear that nobody knows the container.
        for _ in 0..12 {
            self.tick(100_000_000);
        }
        init
    }

    /// As [`Self::runc_from`] the host, for a container whose first program runs under another user id.
    pub(super) fn runc_started_as(
        &mut self,
        uid: u32,
        cgroup_id: u64,
        path: &str,
        flags: u64,
    ) -> u32 {
        self.uid = uid;
        let init = self.runc_from(1, cgroup_id, path, flags);
        self.uid = 0;
        init
    }

    /// As [`Self::runc`], looked at in the moment after its first program started.
    pub(super) fn runc_unnamed(&mut self, cgroup_id: u64, path: &str) -> u32 {
        self.runc_started(1, cgroup_id, path, CLONE_NEW_ALL)
    }

    /// As [`Self::runc_unnamed`], for a container that has the host's pid namespace.
    pub(super) fn runc_unnamed_with_host_pids(&mut self, cgroup_id: u64, path: &str) -> u32 {
        let flags = CLONE_NEW_ALL & !NsKind::Pid.clone_flag();
        self.runc_started(1, cgroup_id, path, flags)
    }

    fn runc_started(&mut self, starter: u32, cgroup_id: u64, path: &str, flags: u64) -> u32 {
        let (runc, init) = self.runc_created(starter, cgroup_id, path, flags);
        self.exec(init, "/bin/sh");
        self.exit(runc);
        init
    }

    /// `runc create`: the runtime and the first process of a container whose program was not started yet.
    pub(super) fn runc_created(
        &mut self,
        starter: u32,
        cgroup_id: u64,
        path: &str,
        flags: u64,
    ) -> (u32, u32) {
        let runc = self.fork(starter, 0);
        self.exec(runc, "/usr/sbin/runc");
        let stage0 = self.fork(runc, 0);
        self.exec(stage0, "/proc/self/exe");
        self.cgroup(cgroup_id, path);
        self.attach(stage0, runc, cgroup_id);
        let stage1 = self.fork(stage0, 0);
        if let Some(of) = self.pids_of {
            self.setns(stage1, of, &[NsKind::Pid]);
        }
        self.unshare(stage1, flags);
        let init = self.fork(stage1, 0);
        self.exit(stage1);
        self.exit(stage0);
        let state = self.tasks.get_mut(&init).unwrap();
        let mnt = state.ns[ns::MNT].inum;
        state.parent = TaskKey {
            tid: runc,
            tgid: runc,
            start_boottime_ns: self.now_ns,
        };
        state.root = PathRef {
            ino: 77_000 + u64::from(init),
            dev: 8,
            mnt_ns_inum: mnt,
            mnt_id: 9,
            flags: 0,
        };
        state.cwd = state.root;
        if self.leak_cwd {
            state.cwd = host_state(1).cwd;
        }
        self.emit(init, init, cause::PIVOT_ROOT, 0);
        // Dropping capabilities, one commit after the other.
        for bit in [0x3f_ffff_ffff, self.capabilities] {
            let uid = self.uid;
            let state = self.tasks.get_mut(&init).unwrap();
            state.creds.uid = uid;
            state.creds.cap_permitted = bit;
            state.creds.cap_effective = bit;
            state.creds.cap_bounding = bit;
            self.emit(init, init, cause::CRED, 0);
        }
        (runc, init)
    }

    pub(super) fn spec(&mut self, path: &str, id: &str, spec: SpecSummary) {
        let mut answer = ContainerAnswer::bare(path.to_owned(), Runtime::Runc, id.to_owned());
        answer.spec = Some(spec);
        self.specs.insert(path.to_owned(), answer);
    }

    /// What is known of a path is about the container of this first process.
    pub(super) fn names_init(&mut self, path: &str, init: u32) {
        self.specs.get_mut(path).unwrap().init_pid = Some(init);
    }

    pub(super) fn name(&mut self, path: &str, id: &str) {
        let answer = ContainerAnswer::bare(path.to_owned(), Runtime::Runc, id.to_owned());
        self.specs.insert(path.to_owned(), answer);
    }

    /// The name of the entity that a task belongs to.
    pub(super) fn label_of(&self, tid: u32) -> String {
        let label = self.engine.world().label(&self.tasks[&tid].key);
        self.engine.world().entities[&label].key.clone()
    }

    pub(super) fn violations(&mut self) -> Vec<Finding> {
        self.take(|r| match r {
            Record::Violation(f) => Some(*f),
            _ => None,
        })
    }

    pub(super) fn take<T>(&mut self, pick: impl Fn(Record) -> Option<T>) -> Vec<T> {
        std::mem::take(&mut self.out)
            .into_iter()
            .filter_map(pick)
            .collect()
    }

    pub(super) fn tick(&mut self, after_ns: u64) {
        self.now_ns += after_ns;
        self.step(Event::Tick {
            boottime_ns: self.now_ns,
        });
    }
}
