//! Kernel and oracle side by side, and the stream of events that the kernel writes meanwhile. Above the
//! single calls stand the ways in which real runtimes act, and the steps of a random history.

use super::kernel::{Kernel, MADE, Obj, STEP_NS};
use super::oracle::Oracle;
use crate::engine::LossMark;
use crate::model::NsKind;
use auditor_common::hook;
use auditor_common::limits::{CGROUP_PATH_LEN, FILENAME_LEN};
use auditor_common::record::*;

/// An event that owns its record, so that a stream can be kept, cut and repeated.
#[derive(Clone, Debug)]
pub(super) enum Owned {
    Task(Box<TaskRecord>),
    Exec(Box<ExecRecord>),
    Exit(ExitRecord),
    Cgroup(Box<CgroupRecord>),
    SweepBegin(u64),
    SweepEnd(u64),
    Tick(u64),
    Loss(LossMark),
    /// The runtime's state directory names the container of this process from here on.
    Name(u32),
}

/// One step of a history. Numbers choose among what there is.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Fork(usize, u8, Option<usize>),
    Unshare(usize, u8),
    Setns(usize, usize, u8),
    Attach(usize, usize, usize),
    Exit(usize),
    Chroot(usize, usize),
    Chdir(usize, usize),
    Pivot(usize),
    Cred(usize, u64),
    Exec(usize),
    Runc(usize, u8),
    Crun(usize, u8),
    RuncExec(usize),
    CrunExec(usize),
    Mkdir(usize),
    Rmdir,
    Sweep,
    Tick,
}

/// Living tasks at most: a history needs few.
const MAX_TASKS: usize = 24;
const ALL_NEW: u8 = 0b1_1111;

#[derive(Clone, Debug)]
pub(super) struct Sim {
    pub(super) kernel: Kernel,
    pub(super) oracle: Oracle,
    pub(super) events: Vec<Owned>,
}

fn kinds(mask: u8) -> Vec<NsKind> {
    let chosen = MADE
        .iter()
        .enumerate()
        .filter(|(i, _)| mask & (1 << i) != 0);
    chosen.map(|(_, &kind)| kind).collect()
}

fn flags(kinds: &[NsKind]) -> u64 {
    kinds.iter().fold(0, |all, kind| all | kind.clone_flag())
}

impl Sim {
    pub(super) fn new() -> Self {
        let kernel = Kernel::new();
        let oracle = Oracle::new(&kernel);
        let mut sim = Self {
            kernel,
            oracle,
            events: Vec::new(),
        };
        sim.keep();
        sim.tell_cgroup(1, cgroup_op::WALK);
        sim.sweep();
        sim
    }

    /// Mount namespaces of living containers stay, whoever leaves them.
    fn keep(&mut self) {
        let baselines = self.oracle.entities.values();
        self.kernel.kept = baselines.map(|e| e.base[ns::MNT]).collect();
    }

    fn header(&mut self, kind: u16) -> RecordHeader {
        RecordHeader {
            boottime_ns: self.kernel.tick(),
            cpu_seq: 0,
            kind,
            hook: hook::SWITCH_NS,
            cpu: 0,
            size: 0,
        }
    }

    fn record(&mut self, tid: u32, actor: u32, cause: u32, arg0: u64) -> TaskRecord {
        TaskRecord {
            header: self.header(kind::TASK),
            actor: self.kernel.tasks[&actor].key,
            cause,
            syscall: -1,
            arg0,
            arg1: 0,
            state: self.kernel.state(tid),
        }
    }

    fn tell(&mut self, tid: u32, actor: u32, cause: u32, arg0: u64) {
        let record = self.record(tid, actor, cause, arg0);
        self.events.push(Owned::Task(Box::new(record)));
        self.keep();
    }

    fn tell_cgroup(&mut self, id: u64, op: u32) {
        let path = self.kernel.cgroups[&id].clone();
        let mut record = CgroupRecord {
            header: self.header(kind::CGROUP),
            actor: TaskKey::default(),
            id,
            parent_id: 0,
            hierarchy: 0,
            op,
            path_len: u32::try_from(path.len()).unwrap(),
            reserved: 0,
            path: [0; CGROUP_PATH_LEN],
        };
        record.path[..path.len()].copy_from_slice(path.as_bytes());
        self.events.push(Owned::Cgroup(Box::new(record)));
    }

    /// What a sweep before anything else was told would tell.
    pub(super) fn first_sweep(&mut self) -> Vec<Owned> {
        let ids: Vec<u64> = self.kernel.cgroups.keys().copied().collect();
        for id in ids {
            self.tell_cgroup(id, cgroup_op::WALK);
        }
        self.sweep();
        std::mem::take(&mut self.events)
    }

    /// A task that a container's init is the ancestor of, or that was sent in, and that is no init.
    pub(super) fn pick_inside(&self, by: usize) -> Option<u32> {
        let inits = || self.oracle.entities.values().map(|e| e.init.tid);
        let tids: Vec<u32> = (self.kernel.tasks.keys().copied())
            .filter(|tid| self.oracle.label(*tid) != 0 && !inits().any(|init| init == *tid))
            .collect();
        (!tids.is_empty()).then(|| tids[by % tids.len()])
    }

    pub(super) fn lives(&self, tid: u32) -> bool {
        self.kernel.tasks.contains_key(&tid)
    }

    pub(super) fn sweep(&mut self) {
        let now = self.kernel.tick();
        self.events.push(Owned::SweepBegin(now));
        let tids: Vec<u32> = self.kernel.tasks.keys().copied().collect();
        for tid in tids {
            self.tell(tid, tid, cause::SNAPSHOT, 0);
        }
        let now = self.kernel.tick();
        self.events.push(Owned::SweepEnd(now));
    }

    /// clone: `None` where the kernel would refuse.
    pub(super) fn fork(&mut self, parent: u32, mask: u8, cgroup: Option<u64>) -> Option<u32> {
        let mut task = self.kernel.tasks.get(&parent)?.clone();
        let (actor, around) = (task.key, (task.ns, task.cgroup));
        let pid = task.ns[ns::PID_FOR_CHILDREN];
        if self.kernel.ns[pid].dead || mask & 2 != 0 && pid != task.ns[ns::PID] {
            return None;
        }
        let made = kinds(mask);
        let tid = self.kernel.free_tid();
        task.parent = actor;
        task.key = TaskKey {
            tid,
            tgid: tid,
            start_boottime_ns: self.kernel.now_ns,
        };
        task.ns[ns::PID] = pid;
        task.cgroup = cgroup.unwrap_or(task.cgroup);
        let first = self.kernel.ns.len();
        self.kernel.make_fresh(&mut task, &made, true);
        let fresh: Vec<Obj> = (first..self.kernel.ns.len()).collect();
        let init = &mut self.kernel.ns[task.ns[ns::PID]].init;
        *init = init.or(Some(tid));
        let stays = around == (task.ns, task.cgroup);
        self.kernel.tasks.insert(tid, task);
        self.oracle.made_by(parent, &fresh);
        self.oracle.born(tid, parent);
        if !stays {
            self.oracle.take(&self.kernel, tid);
        }
        self.tell(tid, parent, cause::FORK, flags(&made));
        Some(tid)
    }

    pub(super) fn unshare(&mut self, tid: u32, mask: u8) {
        let Some(mut task) = self.kernel.tasks.get(&tid).cloned() else {
            return;
        };
        let mask = if task.ns[ns::PID_FOR_CHILDREN] == task.ns[ns::PID] {
            mask
        } else {
            mask & !2
        };
        let made = kinds(mask);
        if made.is_empty() {
            return;
        }
        let first = self.kernel.ns.len();
        self.kernel.make_fresh(&mut task, &made, false);
        let fresh: Vec<Obj> = (first..self.kernel.ns.len()).collect();
        self.kernel.tasks.insert(tid, task);
        self.oracle.made_by(tid, &fresh);
        self.oracle.take(&self.kernel, tid);
        self.tell(tid, tid, cause::UNSHARE, flags(&made));
    }

    pub(super) fn setns(&mut self, tid: u32, target: u32, mask: u8) {
        let (true, Some(from)) = (self.lives(tid), self.kernel.tasks.get(&target).cloned()) else {
            return;
        };
        let root_ino = self.kernel.ns[from.ns[ns::MNT]].root_ino;
        let task = self.kernel.tasks.get_mut(&tid).unwrap();
        let before = task.ns;
        for kind in kinds(mask) {
            match kind {
                NsKind::Pid => task.ns[ns::PID_FOR_CHILDREN] = from.ns[ns::PID],
                NsKind::Mnt => {
                    // Whoever joins a mount namespace gets its root.
                    task.pivoted &= task.ns[ns::MNT] == from.ns[ns::MNT];
                    task.ns[ns::MNT] = from.ns[ns::MNT];
                    task.root = (from.ns[ns::MNT], root_ino);
                    task.cwd = task.root;
                }
                _ => task.ns[kind.slot()] = from.ns[kind.slot()],
            }
        }
        if before != task.ns {
            self.oracle.take(&self.kernel, tid);
        }
        self.tell(tid, tid, cause::SETNS, 0);
    }

    pub(super) fn attach(&mut self, tid: u32, actor: u32, cgroup: u64) {
        if !self.lives(tid) || !self.lives(actor) {
            return;
        }
        self.kernel.tasks.get_mut(&tid).unwrap().cgroup = cgroup;
        self.oracle.take(&self.kernel, tid);
        let mut record = self.record(tid, actor, cause::ATTACH, cgroup);
        record.arg1 = ATTACH_THREADGROUP;
        self.events.push(Owned::Task(Box::new(record)));
        self.keep();
    }

    pub(super) fn exit(&mut self, tid: u32) {
        if tid == 1 || !self.lives(tid) {
            return;
        }
        for gone in self.kernel.ends_with(tid) {
            let task = self.kernel.tasks.remove(&gone).unwrap();
            self.kernel.reparent(&task);
            self.oracle.gone(gone);
            let header = self.header(kind::EXIT);
            self.events.push(Owned::Exit(ExitRecord {
                header,
                key: task.key,
                exit_code: 0,
                reserved: 0,
            }));
            self.keep();
        }
    }

    /// chroot (or chdir) to another task's root.
    pub(super) fn change_dir(&mut self, tid: u32, target: u32, root: bool) {
        let to = self.kernel.tasks[&target].root;
        let task = self.kernel.tasks.get_mut(&tid).unwrap();
        if root {
            task.root = to;
            task.pivoted = true;
            self.tell(tid, tid, cause::CHROOT, 0);
        } else {
            task.cwd = to;
            self.tell(tid, tid, cause::CHDIR, 0);
        }
    }

    /// pivot_root to a new root within the task's mount namespace.
    pub(super) fn pivot(&mut self, tid: u32) {
        let ino = self.kernel.new_ino();
        let Some(task) = self.kernel.tasks.get(&tid) else {
            return;
        };
        let (mnt, old) = (task.ns[ns::MNT], task.root);
        if old.0 != mnt || mnt == self.kernel.tasks[&1].ns[ns::MNT] {
            return;
        }
        let new = (mnt, ino);
        self.kernel.ns[mnt].root_ino = ino;
        for other in self.kernel.tasks.values_mut() {
            if other.root == old {
                other.root = new;
                other.pivoted = true;
            }
            if other.cwd == old {
                other.cwd = new;
            }
        }
        self.tell(tid, tid, cause::PIVOT_ROOT, 0);
    }

    pub(super) fn exec(&mut self, tid: u32, named: bool) {
        if !self.lives(tid) {
            return;
        }
        if named {
            self.events.push(Owned::Name(tid));
        }
        self.oracle.executed(&self.kernel, tid, named);
        let task = self.record(tid, tid, cause::EXEC, u64::from(tid));
        let mut filename = [0; FILENAME_LEN];
        filename[..7].copy_from_slice(b"/bin/sh");
        self.events
            .push(Owned::Exec(Box::new(ExecRecord { task, filename })));
        self.keep();
    }

    fn cred(&mut self, tid: u32, keep: u64) {
        self.kernel.tasks.get_mut(&tid).unwrap().caps &= keep;
        self.tell(tid, tid, cause::CRED, 0);
    }

    fn mkdir(&mut self, starter: u32) -> u64 {
        let is_host = self.oracle.label(starter) == 0;
        let parent = if is_host {
            1
        } else {
            self.kernel.tasks[&starter].cgroup
        };
        let id = self.kernel.make_cgroup(parent);
        self.tell_cgroup(id, cgroup_op::MKDIR);
        id
    }

    /// `runc run`, as traced.
    pub(super) fn runc(&mut self, starter: u32, more: u8) -> Option<u32> {
        let runc = self.fork(starter, 0, None)?;
        self.exec(runc, false);
        let stage0 = self.fork(runc, 0, None)?;
        self.exec(stage0, false);
        let cgroup = self.mkdir(starter);
        self.attach(stage0, runc, cgroup);
        let stage1 = self.fork(stage0, 0, None)?;
        self.unshare(stage1, ALL_NEW | more);
        let init = self.fork(stage1, 0, None)?;
        self.exit(stage1);
        self.exit(stage0);
        let parent = self.kernel.tasks.get(&runc)?.key;
        self.kernel.tasks.get_mut(&init)?.parent = parent;
        self.pivot(init);
        self.cred(init, 0xa804_25fb);
        self.exec(init, true);
        self.exit(runc);
        Some(init)
    }

    /// `crun run` on v2: one clone into namespaces and cgroup.
    pub(super) fn crun(&mut self, starter: u32, more: u8) -> Option<u32> {
        let crun = self.fork(starter, 0, None)?;
        self.exec(crun, false);
        let cgroup = self.mkdir(starter);
        let init = self.fork(crun, ALL_NEW | more, Some(cgroup))?;
        self.pivot(init);
        self.cred(init, 0xa804_25fb);
        self.exec(init, true);
        self.exit(crun);
        Some(init)
    }

    /// `runc exec`: namespaces first, the cgroup last.
    pub(super) fn runc_exec(&mut self, target: u32) -> Option<u32> {
        let cgroup = self.kernel.tasks.get(&target)?.cgroup;
        let stage1 = self.fork(1, 0, None)?;
        for mask in [1 << 6, 1 << 3, 1 << 4, 1 << 2, 1 << 1, 1] {
            self.setns(stage1, target, mask);
        }
        let inside = self.fork(stage1, 0, None)?;
        self.attach(inside, 1, cgroup);
        self.exec(inside, false);
        self.exit(stage1);
        Some(inside)
    }

    /// `crun exec` on v2: born in the leaf with the host's namespaces, then many setns.
    pub(super) fn crun_exec(&mut self, target: u32) -> Option<u32> {
        let cgroup = self.kernel.tasks.get(&target)?.cgroup;
        let crun = self.fork(1, 0, None)?;
        let stage = self.fork(crun, 0, Some(cgroup))?;
        for mask in [1, 1, 1 << 6, 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 5] {
            self.setns(stage, target, mask);
        }
        let inside = self.fork(stage, 0, None)?;
        self.exec(inside, false);
        self.exit(stage);
        self.exit(crun);
        Some(inside)
    }

    fn pick(&self, by: usize) -> u32 {
        let tids: Vec<u32> = self.kernel.tasks.keys().copied().collect();
        tids[by % tids.len()]
    }

    /// Any task but the machine's init.
    fn pick_other(&self, by: usize) -> Option<u32> {
        let tids: Vec<u32> = self
            .kernel
            .tasks
            .keys()
            .copied()
            .filter(|t| *t != 1)
            .collect();
        (!tids.is_empty()).then(|| tids[by % tids.len()])
    }

    fn pick_cgroup(&self, by: usize) -> u64 {
        let ids: Vec<u64> = self.kernel.cgroups.keys().copied().collect();
        ids[by % ids.len()]
    }

    /// A container's init that lives, and lives in its container.
    fn pick_init(&self, by: usize) -> Option<u32> {
        let inits: Vec<u32> = self
            .oracle
            .entities
            .iter()
            .filter(|(id, e)| **id != 0 && self.lives(e.init.tid))
            .map(|(_, e)| e.init.tid)
            .collect();
        (!inits.is_empty()).then(|| inits[by % inits.len()])
    }

    pub(super) fn apply(&mut self, step: &Step) {
        let crowded = self.kernel.tasks.len() >= MAX_TASKS;
        match *step {
            Step::Fork(parent, mask, cgroup) if !crowded => {
                let cgroup = cgroup.map(|by| self.pick_cgroup(by));
                self.fork(self.pick(parent), mask & 0x7f, cgroup);
            }
            Step::Runc(starter, more) if !crowded => {
                self.runc(self.pick(starter), more & 0x60);
            }
            Step::Crun(starter, more) if !crowded => {
                self.crun(self.pick(starter), more & 0x60);
            }
            Step::RuncExec(by) if !crowded => {
                self.pick_init(by).map(|init| self.runc_exec(init));
            }
            Step::CrunExec(by) if !crowded => {
                self.pick_init(by).map(|init| self.crun_exec(init));
            }
            Step::Fork(..)
            | Step::Runc(..)
            | Step::Crun(..)
            | Step::RuncExec(_)
            | Step::CrunExec(_) => {}
            Step::Mkdir(by) => {
                self.mkdir(self.pick(by));
            }
            Step::Rmdir => self.rmdir(),
            Step::Sweep => self.sweep(),
            Step::Tick => {
                self.kernel.now_ns += 40 * STEP_NS;
                self.events.push(Owned::Tick(self.kernel.now_ns));
            }
            ref step => self.apply_to_task(step),
        }
    }

    fn apply_to_task(&mut self, step: &Step) {
        let (Step::Unshare(by, _)
        | Step::Setns(by, ..)
        | Step::Attach(by, ..)
        | Step::Exit(by)
        | Step::Chroot(by, _)
        | Step::Chdir(by, _)
        | Step::Pivot(by)
        | Step::Cred(by, _)
        | Step::Exec(by)) = *step
        else {
            return;
        };
        let Some(tid) = self.pick_other(by) else {
            return;
        };
        match *step {
            Step::Unshare(_, mask) => self.unshare(tid, mask & 0x7f),
            Step::Setns(_, target, mask) => self.setns(tid, self.pick(target), mask & 0x7f),
            Step::Attach(_, actor, cgroup) => {
                self.attach(tid, self.pick(actor), self.pick_cgroup(cgroup));
            }
            Step::Exit(_) => self.exit(tid),
            Step::Chroot(_, target) => self.change_dir(tid, self.pick(target), true),
            Step::Chdir(_, target) => self.change_dir(tid, self.pick(target), false),
            Step::Pivot(_) => self.pivot(tid),
            Step::Cred(_, keep) => self.cred(tid, keep),
            Step::Exec(_) => self.exec(tid, false),
            _ => {}
        }
    }

    /// Removes every cgroup that is empty and has none below it.
    pub(super) fn rmdir(&mut self) {
        let empty = |sim: &Self| {
            let all = &sim.kernel.cgroups;
            let leaf = |path: &str| {
                let below = format!("{path}/");
                !all.values().any(|p| p.starts_with(&below))
            };
            all.iter()
                .find(|(id, path)| {
                    **id != 1 && leaf(path) && !sim.kernel.tasks.values().any(|t| t.cgroup == **id)
                })
                .map(|(id, _)| *id)
        };
        while let Some(id) = empty(self) {
            self.tell_cgroup(id, cgroup_op::RMDIR);
            self.kernel.cgroups.remove(&id);
        }
    }
}
