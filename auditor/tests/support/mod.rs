//! A small simulated machine that is watched and recorded: its records go to an engine and to the recorder, as the live
//! agent's do. What happens on it follows runc as traced: clone, cgroup, unshare, clone, pivot_root, exec.
#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test may fail like the test"
)]

use auditor::agent::record::{
    Destination, PartStart, Privileges, RecordOptions, Recorder, Retention, Sync,
};
use auditor::agent::replay::Replay;
use auditor::engine::{Config, Engine, Event};
use auditor::inventory::container::ContainerAnswer;
use auditor::model::NsKind;
use auditor::model::output::Record;
use auditor::model::policy::Policy;
use auditor::trace::reader::Prologue;
use auditor::trace::{Answer, Header, Item, TraceReader};
use auditor_common::hook;
use auditor_common::limits::{CGROUP_PATH_LEN, CGROUP_SLOTS, FILENAME_LEN};
use auditor_common::record::{
    ATTACH_THREADGROUP, CgroupRecord, ExecRecord, ExitRecord, PathRef, RecordHeader, TaskKey,
    TaskRecord, TaskState, cause, cgroup, cgroup_op, kind, known, ns, task_flags,
};
use std::collections::BTreeMap;
use std::path::Path;

/// Seconds from boot to the beginning.
pub(crate) const BEGAN_S: u64 = 1000;
const OWN: [NsKind; 5] = [
    NsKind::Mnt,
    NsKind::Pid,
    NsKind::Net,
    NsKind::Ipc,
    NsKind::Uts,
];
const HOST_INUM: u32 = 1000;

/// The machine, the engine that watches it, and the recorder beside it.
pub(crate) struct Machine {
    engine: Engine,
    recorder: Recorder,
    /// What the engine said.
    pub(crate) records: Vec<Record>,
    /// Now, nanoseconds since boot.
    pub(crate) now_ns: u64,
    /// Who containers are, by path of their cgroup.
    pub(crate) answers: BTreeMap<String, ContainerAnswer>,
    tasks: BTreeMap<u32, TaskState>,
    cgroups: BTreeMap<u64, String>,
    next_tid: u32,
    next_inum: u32,
}

impl Machine {
    /// A machine with two tasks, recorded to this file.
    pub(crate) fn new(node: &str, policy: &Policy, file: &Path) -> Self {
        let mut hierarchies = [None; CGROUP_SLOTS];
        hierarchies[cgroup::V2] = Some(0);
        let config = Config {
            node: node.to_owned(),
            boot_id: "8dbc5577-d0e2-4706-8787-57d52c03ddf2".to_owned(),
            realtime_offset_ns: 1_700_000_000_000_000_000,
            arch: "x86_64".to_owned(),
            hierarchies,
            heartbeat_ns: 10_000_000_000,
            ..Config::default()
        };
        let options = RecordOptions {
            destination: Destination::File(file.to_owned()),
            rotate_bytes: None,
            rotate_after: None,
            retention: Retention::default(),
            sync: Sync::Never,
        };
        let now_ns = BEGAN_S * 1_000_000_000;
        let header = Header::new(&config, now_ns, policy.digest());
        let mut machine = Self {
            engine: Engine::new(header.config(), policy),
            recorder: Recorder::start(&options, header, Privileges::All).unwrap(),
            records: Vec::new(),
            now_ns,
            answers: BTreeMap::new(),
            tasks: [1, 2].map(|tid| (tid, host_task(tid))).into(),
            cgroups: BTreeMap::new(),
            next_tid: 100,
            next_inum: 5000,
        };
        machine.step(Event::Policy(policy));
        machine.cgroup(1, "/", cgroup_op::WALK);
        machine.sweep();
        machine
    }

    /// What reaches engine and recorder.
    pub(crate) fn step(&mut self, event: Event<'_>) {
        self.recorder.take(&Item::Event(event));
        self.engine.step(event, &mut self.records);
        while let Some(query) = self.engine.next_query() {
            let answer = self.answers.get(&query.cgroup_path);
            self.recorder.take(&Item::Answer(Answer {
                cgroup_path: &query.cgroup_path,
                init_pid: query.init_pid,
                answer,
            }));
            let event = Event::Answer {
                query: query.id,
                answer,
            };
            self.engine.step(event, &mut self.records);
        }
    }

    /// So many seconds pass, with a tick and a sweep each.
    pub(crate) fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now_ns += 1_000_000_000;
            let boottime_ns = self.now_ns;
            self.step(Event::Tick { boottime_ns });
            self.recorder.tick(boottime_ns);
            self.sweep();
        }
    }

    fn sweep(&mut self) {
        let boottime_ns = self.now_ns;
        self.step(Event::SweepBegin { boottime_ns });
        for task in self.swept() {
            self.step(Event::Task(&task));
        }
        self.now_ns += 1000;
        let boottime_ns = self.now_ns;
        let complete = true;
        self.step(Event::SweepEnd {
            boottime_ns,
            complete,
        });
    }

    fn swept(&self) -> Vec<TaskRecord> {
        let record = |state: &TaskState| TaskRecord {
            header: RecordHeader {
                hook: hook::ITER_TASK,
                ..self.header(kind::TASK, size_of::<TaskRecord>())
            },
            actor: state.key,
            cause: cause::SNAPSHOT,
            syscall: -1,
            arg0: 0,
            arg1: 0,
            state: *state,
        };
        self.tasks.values().map(record).collect()
    }

    /// The recorder begins another part, at the next sweep.
    pub(crate) fn rotate(&mut self) {
        self.now_ns += 1000;
        let boottime_ns = self.now_ns;
        self.recorder.begin_part(&PartStart {
            boottime_ns,
            policy: self.engine.index().policy(),
            saved: &self.engine.saved(),
            set_ups: &self.engine.set_ups(),
        });
        for (&id, path) in &self.cgroups {
            let record = self.cgroup_record(id, path, cgroup_op::WALK);
            self.recorder.take(&Item::Event(Event::Cgroup(&record)));
        }
        let begin = Event::SweepBegin { boottime_ns };
        self.recorder.take(&Item::Event(begin));
        for task in self.swept() {
            self.recorder.take(&Item::Event(Event::Task(&task)));
        }
        let complete = true;
        self.recorder.take(&Item::Event(Event::SweepEnd {
            boottime_ns,
            complete,
        }));
        self.recorder.end_prologue();
        self.sweep();
    }

    /// The watch ends. Gives all that the engine said.
    pub(crate) fn stop(mut self) -> Vec<Record> {
        let boottime_ns = self.now_ns;
        let reason = "signal";
        self.recorder.take(&Item::Stop {
            boottime_ns,
            reason,
        });
        self.engine.stop(boottime_ns, reason, &mut self.records);
        assert_eq!(self.recorder.finish(), 0);
        self.records
    }

    fn header(&self, kind: u16, size: usize) -> RecordHeader {
        RecordHeader {
            boottime_ns: self.now_ns,
            cpu_seq: 0,
            kind,
            hook: hook::SWITCH_NS,
            cpu: 0,
            size: size as u16,
        }
    }

    fn task_record(&mut self, tid: u32, actor: u32, cause: u32, arg0: u64) -> TaskRecord {
        self.now_ns += 1000;
        TaskRecord {
            header: self.header(kind::TASK, size_of::<TaskRecord>()),
            actor: self.tasks[&actor].key,
            cause,
            syscall: 308,
            arg0,
            arg1: 0,
            state: self.tasks[&tid],
        }
    }

    fn emit(&mut self, tid: u32, actor: u32, cause: u32, arg0: u64) {
        let record = self.task_record(tid, actor, cause, arg0);
        self.step(Event::Task(&record));
    }

    fn cgroup_record(&self, id: u64, path: &str, op: u32) -> CgroupRecord {
        let mut record = CgroupRecord {
            header: self.header(kind::CGROUP, size_of::<CgroupRecord>()),
            actor: TaskKey::default(),
            id,
            parent_id: 0,
            hierarchy: 0,
            op,
            path_len: path.len() as u32,
            reserved: 0,
            path: [0; CGROUP_PATH_LEN],
        };
        record.header.hook = match op {
            cgroup_op::WALK => hook::CGROUPFS,
            _ => hook::CGROUP_MKDIR,
        };
        record.path[..path.len()].copy_from_slice(path.as_bytes());
        record
    }

    fn cgroup(&mut self, id: u64, path: &str, op: u32) {
        self.now_ns += 1000;
        match op {
            cgroup_op::RMDIR => self.cgroups.remove(&id),
            _ => self.cgroups.insert(id, path.to_owned()),
        };
        let record = self.cgroup_record(id, path, op);
        self.step(Event::Cgroup(&record));
    }

    /// A task is born.
    pub(crate) fn fork(&mut self, parent: u32) -> u32 {
        self.next_tid += 1;
        let tid = self.next_tid;
        let mut state = self.tasks[&parent];
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
        self.emit(tid, parent, cause::FORK, 0);
        tid
    }

    /// A task executes a file, and has its name from then on.
    pub(crate) fn exec(&mut self, tid: u32, file: &str) {
        let name = file.rsplit('/').next().unwrap().as_bytes();
        let comm = &mut self.tasks.get_mut(&tid).unwrap().comm;
        comm.fill(0);
        let used = name.len().min(comm.len() - 1);
        comm[..used].copy_from_slice(&name[..used]);
        let mut filename = [0; FILENAME_LEN];
        filename[..file.len()].copy_from_slice(file.as_bytes());
        let task = self.task_record(tid, tid, cause::EXEC, u64::from(tid));
        self.step(Event::Exec(&ExecRecord { task, filename }));
    }

    /// A task ends.
    pub(crate) fn exit(&mut self, tid: u32) {
        self.now_ns += 1000;
        let record = ExitRecord {
            header: self.header(kind::EXIT, size_of::<ExitRecord>()),
            key: self.tasks.remove(&tid).unwrap().key,
            exit_code: 0,
            reserved: 0,
        };
        self.step(Event::Exit(&record));
    }

    /// A container starts in this cgroup. Gives its init.
    pub(crate) fn run(&mut self, cgroup_id: u64, path: &str, file: &str) -> u32 {
        let runc = self.fork(1);
        self.exec(runc, "/usr/sbin/runc");
        let stage = self.fork(runc);
        self.cgroup(cgroup_id, path, cgroup_op::MKDIR);
        self.tasks.get_mut(&stage).unwrap().cgroups[cgroup::V2] = cgroup_id;
        let mut attach = self.task_record(stage, runc, cause::ATTACH, cgroup_id);
        attach.arg1 = ATTACH_THREADGROUP;
        self.step(Event::Task(&attach));
        let mut flags = 0;
        for kind in OWN {
            self.next_inum += 1;
            flags |= kind.clone_flag();
            let slot = match kind {
                NsKind::Pid => ns::PID_FOR_CHILDREN,
                other => other.slot(),
            };
            self.tasks.get_mut(&stage).unwrap().ns[slot].inum = self.next_inum;
        }
        self.emit(stage, stage, cause::UNSHARE, flags);
        let init = self.fork(stage);
        self.exit(stage);
        let state = self.tasks.get_mut(&init).unwrap();
        state.root = PathRef {
            ino: 77_000 + cgroup_id,
            dev: 8,
            mnt_ns_inum: state.ns[ns::MNT].inum,
            mnt_id: 9,
            flags: 0,
        };
        state.cwd = state.root;
        self.emit(init, init, cause::PIVOT_ROOT, 0);
        self.exec(init, file);
        self.exit(runc);
        init
    }

    /// A task joins a namespace of another's.
    pub(crate) fn setns(&mut self, tid: u32, target: u32, kind: NsKind) {
        let slot = kind.slot();
        let from = self.tasks[&target].ns[slot];
        self.tasks.get_mut(&tid).unwrap().ns[slot] = from;
        self.emit(tid, tid, cause::SETNS, 0);
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
    state.comm[..7].copy_from_slice(b"systemd");
    state
}

/// What a replay of these traces, one after the other, says.
pub(crate) fn replay(traces: &[&[u8]]) -> Vec<Record> {
    let mut records = Vec::new();
    let mut engine: Option<Replay> = None;
    for bytes in traces {
        let mut trace = TraceReader::open(*bytes).unwrap();
        if engine.is_some() {
            trace.set_prologue(Prologue::Skip);
        }
        let replay = engine.get_or_insert_with(|| Replay::new(trace.header(), None));
        while let Some(item) = trace.next_item().unwrap() {
            replay.take(&item, &mut records);
        }
    }
    records
}
