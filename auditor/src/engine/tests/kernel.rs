//! A simulated kernel: tasks, namespaces and cgroups as objects that are never reused, from which the
//! records are written with numbers (inums, task ids, cgroup ids) that are reused at once, as the
//! kernel's lowest-free allocators do. No engine and no label here: only what is.

use crate::model::NsKind;
use auditor_common::limits::NS_SLOTS;
use auditor_common::record::{
    NsRef, PathRef, TaskKey, TaskState, cgroup, known, ns, path_flags, task_flags,
};
use std::collections::{BTreeMap, BTreeSet};

/// A namespace, by a number that is never used twice.
pub(super) type Obj = usize;

const FIRST_INUM: u32 = 4000;
const FIRST_TID: u32 = 100;
pub(super) const STEP_NS: u64 = 20_000_000;
/// Kinds that unshare and clone may make here.
pub(super) const MADE: [NsKind; 7] = [
    NsKind::Mnt,
    NsKind::Pid,
    NsKind::Net,
    NsKind::Ipc,
    NsKind::Uts,
    NsKind::Cgroup,
    NsKind::User,
];

#[derive(Clone, Debug)]
pub(super) struct Namespace {
    pub(super) inum: u32,
    /// The owning user namespace; of a user namespace its parent.
    pub(super) owner: Option<Obj>,
    /// A pid namespace has had its init, and a dead one takes no more tasks.
    pub(super) init: Option<u32>,
    pub(super) dead: bool,
    /// Inode of the root directory of a mount namespace.
    pub(super) root_ino: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) key: TaskKey,
    pub(super) parent: TaskKey,
    pub(super) ns: [Obj; NS_SLOTS],
    pub(super) cgroup: u64,
    pub(super) root: (Obj, u64),
    pub(super) cwd: (Obj, u64),
    pub(super) caps: u64,
    pub(super) pivoted: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Kernel {
    pub(super) now_ns: u64,
    pub(super) ns: Vec<Namespace>,
    pub(super) tasks: BTreeMap<u32, Task>,
    pub(super) cgroups: BTreeMap<u64, String>,
    /// Mount namespaces that something beside tasks keeps alive.
    pub(super) kept: BTreeSet<Obj>,
    /// Inums are not reused from here on.
    pub(super) fresh_inums: bool,
    next_ino: u64,
    next_path: u32,
}

impl Kernel {
    pub(super) fn new() -> Self {
        let mut kernel = Self {
            now_ns: 1_000_000_000_000,
            next_ino: 100,
            ..Self::default()
        };
        let mut slots = [0; NS_SLOTS];
        for &kind in NsKind::ALL {
            slots[kind.slot()] = if kind.object_kind() == kind {
                kernel.make(None)
            } else {
                slots[kind.object_kind().slot()]
            };
        }
        kernel.ns[slots[ns::PID]].init = Some(1);
        kernel.ns[slots[ns::MNT]].root_ino = 2;
        let key = TaskKey {
            tid: 1,
            tgid: 1,
            start_boottime_ns: 1_000_000,
        };
        let root = (slots[ns::MNT], 2);
        let init = Task {
            key,
            parent: TaskKey::default(),
            ns: slots,
            cgroup: 1,
            root,
            cwd: root,
            caps: u64::MAX >> 23,
            pivoted: false,
        };
        kernel.tasks.insert(1, init);
        kernel.cgroups.insert(1, "/".to_owned());
        kernel
    }

    pub(super) fn tick(&mut self) -> u64 {
        self.now_ns += STEP_NS;
        self.now_ns
    }

    /// Namespaces with a task in them, the user namespaces above them, and what is kept.
    fn alive(&self) -> BTreeSet<Obj> {
        let mut alive: BTreeSet<Obj> = self.tasks.values().flat_map(|t| t.ns).collect();
        alive.extend(&self.kept);
        loop {
            let above: Vec<Obj> = alive.iter().filter_map(|&o| self.ns[o].owner).collect();
            let before = alive.len();
            alive.extend(above);
            if alive.len() == before {
                return alive;
            }
        }
    }

    /// A new namespace with the lowest number that no living one has.
    pub(super) fn make(&mut self, owner: Option<Obj>) -> Obj {
        let used: BTreeSet<u32> = self.alive().iter().map(|&o| self.ns[o].inum).collect();
        // Within one operation the objects made so far have no holder yet.
        let young = self.ns.iter().rev().take(NS_SLOTS).map(|n| n.inum);
        let young: BTreeSet<u32> = young.collect();
        let highest = self.ns.iter().map(|n| n.inum).max().unwrap_or(FIRST_INUM);
        let lowest = if self.fresh_inums {
            highest + 1
        } else {
            FIRST_INUM
        };
        let inum = (lowest..)
            .find(|i| !used.contains(i) && !young.contains(i))
            .unwrap();
        self.ns.push(Namespace {
            inum,
            owner,
            init: None,
            dead: false,
            root_ino: 0,
        });
        self.ns.len() - 1
    }

    pub(super) fn free_tid(&self) -> u32 {
        (FIRST_TID..).find(|t| !self.tasks.contains_key(t)).unwrap()
    }

    pub(super) fn new_ino(&mut self) -> u64 {
        self.next_ino += 1;
        self.next_ino
    }

    /// A new cgroup below `parent`, with the lowest free id.
    pub(super) fn make_cgroup(&mut self, parent: u64) -> u64 {
        self.next_path += 1;
        let id = (2..).find(|id| !self.cgroups.contains_key(id)).unwrap();
        let above = self.cgroups[&parent].trim_end_matches('/').to_owned();
        self.cgroups
            .insert(id, format!("{above}/c{}", self.next_path));
        id
    }

    /// Makes fresh namespaces for a task that is born or unshares.
    pub(super) fn make_fresh(&mut self, task: &mut Task, kinds: &[NsKind], birth: bool) {
        if kinds.contains(&NsKind::User) {
            task.ns[ns::USER] = self.make(Some(task.ns[ns::USER]));
        }
        let owner = Some(task.ns[ns::USER]);
        for &kind in kinds {
            match kind {
                NsKind::User => {}
                NsKind::Pid => {
                    let made = self.make(owner);
                    task.ns[ns::PID_FOR_CHILDREN] = made;
                    if birth {
                        task.ns[ns::PID] = made;
                    }
                }
                NsKind::Mnt => {
                    let (old, made) = (task.ns[ns::MNT], self.make(owner));
                    self.ns[made].root_ino = self.ns[old].root_ino;
                    task.ns[ns::MNT] = made;
                    for path in [&mut task.root, &mut task.cwd] {
                        if path.0 == old {
                            path.0 = made;
                        }
                    }
                }
                _ => task.ns[kind.slot()] = self.make(owner),
            }
        }
    }

    /// All tasks that a task takes with it when it ends: an init of a pid namespace, everybody.
    pub(super) fn ends_with(&mut self, tid: u32) -> Vec<u32> {
        let own = self.tasks[&tid].ns[ns::PID];
        let mut gone = vec![tid];
        if self.ns[own].init == Some(tid) {
            self.ns[own].dead = true;
            let inside: Vec<u32> = self
                .tasks
                .values()
                .filter(|t| t.ns[ns::PID] == own && t.key.tid != tid)
                .map(|t| t.key.tid)
                .collect();
            gone.extend(inside);
        }
        gone
    }

    /// What a task that is gone has borne has the first of its pid namespace for a parent from here on.
    pub(super) fn reparent(&mut self, gone: &Task) {
        let init = self.ns[gone.ns[ns::PID]].init;
        let init = init.and_then(|tid| self.tasks.get(&tid)).map(|t| t.key);
        for task in self.tasks.values_mut() {
            if let Some(init) = init.filter(|_| task.parent == gone.key) {
                task.parent = init;
            }
        }
    }

    pub(super) fn mount_alive(&self, mnt: Obj) -> bool {
        self.kept.contains(&mnt) || self.tasks.values().any(|t| t.ns[ns::MNT] == mnt)
    }

    fn path(&self, (mnt, ino): (Obj, u64)) -> PathRef {
        let alive = self.mount_alive(mnt);
        PathRef {
            ino,
            dev: 8,
            mnt_ns_inum: if alive { self.ns[mnt].inum } else { 0 },
            mnt_id: 1,
            flags: if alive { 0 } else { path_flags::DETACHED },
        }
    }

    /// What the kernel would write of a task.
    pub(super) fn state(&self, tid: u32) -> TaskState {
        let task = &self.tasks[&tid];
        let mut state = TaskState {
            key: task.key,
            parent: task.parent,
            root: self.path(task.root),
            cwd: self.path(task.cwd),
            known: known::ALL,
            task_flags: task_flags::LEADER,
            ..TaskState::default()
        };
        for (slot, &object) in task.ns.iter().enumerate() {
            state.ns[slot] = NsRef {
                inum: self.ns[object].inum,
                owner_inum: self.ns[object].owner.map_or(0, |o| self.ns[o].inum),
                unique_id: 0,
            };
        }
        let is_init = self.ns[task.ns[ns::PID]].init == Some(tid);
        state.ns_tid = if is_init { 1 } else { tid };
        state.user_level = u32::from(self.ns[task.ns[ns::USER]].owner.is_some());
        state.cgroups[cgroup::V2] = task.cgroup;
        state.creds.cap_permitted = task.caps;
        state.creds.cap_effective = task.caps;
        state.creds.cap_bounding = task.caps;
        state.comm[..3].copy_from_slice(b"sim");
        state
    }
}
