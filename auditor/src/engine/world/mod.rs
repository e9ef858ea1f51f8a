//! The model of the machine: tasks, namespaces, cgroups, entities.
//!
//! The world only says what is. What it means is the business of `label` (who belongs to whom) and of
//! the rules.

pub mod cgroups;
mod ended;
pub mod names;
pub mod namespaces;

use crate::inventory::container::ContainerAnswer;
use crate::model::Confidence;
use crate::model::facts::{EntityId, HOST, NsId, ObjectKey, Origin};
use crate::model::output::EntityKind;
use crate::model::privileges::Granted;
use crate::model::sorted::SortedMap;
use auditor_common::limits::{CGROUP_SLOTS, NS_SLOTS};
use auditor_common::record::{TaskKey, TaskRecord, TaskState, cgroup};
use cgroups::{CgroupKey, Cgroups};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use names::Names;
use namespaces::{NO_NS, Namespaces, NsIds, SetId};
use std::sync::Arc;

/// Two start times of one task may differ by a clock tick: /proc is no more precise.
pub const START_TOLERANCE_NS: u64 = 10_000_000;

/// A thread.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its last known state.
    pub state: TaskState,
    /// Its namespaces by identity.
    pub set: SetId,
    /// Sticky: inherited over fork and exec, never cleared by changing namespace or cgroup.
    pub label: EntityId,
    /// How sure the label is.
    pub confidence: Confidence,
    /// The container that this host task (or an ancestor of it) entered.
    pub entered: Option<EntityId>,
    /// Last executed file.
    pub exe: Option<Arc<str>>,
    /// Whether it or an ancestor changed its root by pivot_root or chroot.
    pub pivoted: bool,
    /// When it was last seen.
    pub seen_ns: u64,
    /// Number of the last event about it.
    pub event: u64,
    /// Credentials that grew by a call that must not let them grow, until an exec explains it.
    pub growth: Option<Box<Growth>>,
    /// A sweep's disagreement that the next sweep must confirm.
    pub suspect: Option<Box<TaskState>>,
    /// What the entity holds because of this task alone, beside its namespaces.
    pub extra: Vec<(ObjectKey, Origin)>,
    /// It became a container's from outside and still runs the program that brought it in.
    pub arriving: bool,
    /// The capabilities that it, or the ancestor that came into its container, had then, or could get by an exec.
    pub brought: u64,
    /// Whose mounts, other than its container's, its open files lie on.
    pub references: Vec<Reference>,
}

/// Files of one foreign mount namespace in a task's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The mount namespace.
    pub ns: NsId,
    /// When one was last reached, or found by a sweep.
    pub seen_ns: u64,
}

impl Task {
    /// A task of the host of which only a record is known.
    #[must_use]
    pub fn new(record: &TaskRecord, set: SetId, event: u64) -> Self {
        Self {
            state: record.state,
            set,
            label: HOST,
            confidence: Confidence::Exact,
            entered: None,
            exe: None,
            pivoted: false,
            seen_ns: record.header.boottime_ns,
            event,
            growth: None,
            suspect: None,
            extra: Vec::new(),
            arriving: false,
            brought: 0,
            references: Vec::new(),
        }
    }

    /// It comes into a container as it is now. What is not known it may have brought.
    pub fn note_brought(&mut self) {
        let has = Granted::of(&self.state, false);
        self.brought = has.map_or(u64::MAX, |has| has.may());
    }

    /// It runs another program: it is no runtime's any more.
    pub fn executed(&mut self) {
        if std::mem::take(&mut self.arriving) {
            self.note_brought();
        }
    }

    /// What is born of it: it is in the same namespaces, and has the same label and past.
    #[must_use]
    pub fn child(&self, record: &TaskRecord, event: u64) -> Box<Self> {
        Box::new(Self {
            state: record.state,
            set: self.set,
            label: self.label,
            confidence: self.confidence,
            entered: self.entered,
            exe: self.exe.clone(),
            pivoted: self.pivoted,
            seen_ns: record.header.boottime_ns,
            event,
            growth: None,
            suspect: None,
            extra: Vec::new(),
            arriving: self.arriving,
            brought: self.brought,
            references: self
                .references
                .iter()
                .map(|held| Reference {
                    seen_ns: record.header.boottime_ns,
                    ..*held
                })
                .collect(),
        })
    }
}

/// See [`Task::growth`].
#[derive(Clone, Debug)]
pub struct Growth {
    /// The state before.
    pub before: TaskState,
    /// Number of the syscall at the time, or -1.
    pub syscall: i32,
    /// The hook.
    pub hook: u16,
    /// Number of the event.
    pub event: u64,
    /// When.
    pub boottime_ns: u64,
}

/// The host, or a container.
#[derive(Clone, Debug)]
pub struct Entity {
    /// Host, container or VM.
    pub kind: EntityKind,
    /// Stable id.
    pub key: String,
    /// What the inventory said.
    pub answer: Option<Box<ContainerAnswer>>,
    /// First process.
    pub init: TaskKey,
    /// Path of the cgroup at its start.
    pub home: String,
    /// Slots of the hierarchies in which its tasks sit inside its territory.
    pub slots: u16,
    /// Whose territory that is: its own, or that of the one it shares a cgroup with.
    pub territory: EntityId,
    /// Namespaces at its start: the baseline.
    pub ns: NsIds,
    /// How it came by them.
    pub origins: [Origin; NS_SLOTS],
    /// Root directory at its start: device and inode number.
    pub root: (u32, u64),
    /// Permitted capabilities of its first task at its start, over the user namespace that it has in `ns`.
    pub permitted: u64,
    /// The container that it is nested in, or the host.
    pub parent: EntityId,
    /// Labelled tasks by set of namespaces. The last one ends a container.
    pub sets: SortedMap<SetId, Holding>,
    /// How sure it is.
    pub confidence: Confidence,
}

impl Entity {
    /// Number of labelled tasks. The host's are not counted.
    #[must_use]
    pub fn tasks(&self) -> u32 {
        self.sets.values().map(|holding| holding.tasks).sum()
    }
}

/// Tasks of one entity that share one set of namespaces.
#[derive(Clone, Debug, Default)]
pub struct Holding {
    /// How many.
    pub tasks: u32,
    /// What the index was told that they hold. It must be released as it was held: whose a namespace
    /// is may have changed in between.
    pub held: Vec<(ObjectKey, Origin)>,
}

/// Everything.
#[derive(Debug)]
pub struct World {
    /// Threads by id in the initial pid namespace.
    pub tasks: HashMap<u32, Box<Task>>,
    /// Threads other than leaders, by thread group.
    pub threads: HashMap<u32, Vec<u32>>,
    /// Names of executed files.
    pub names: Names,
    /// Namespaces.
    pub ns: Namespaces,
    /// Cgroups.
    pub cgroups: Cgroups,
    /// Living entities; the host is always there.
    pub entities: SortedMap<EntityId, Box<Entity>>,
    /// Hierarchy id of each cgroup slot; `None`: not mounted as v1. Slot 0 is v2.
    pub hierarchies: [Option<u32>; CGROUP_SLOTS],
    /// Entities by whose territory they sit in, oldest first.
    tenants: HashMap<EntityId, Vec<EntityId>>,
    ended: ended::Ended,
    next_entity: u32,
}

/// Whether two keys name the same task.
#[must_use]
pub fn same_task(a: &TaskKey, b: &TaskKey) -> bool {
    a.tid == b.tid && a.start_boottime_ns.abs_diff(b.start_boottime_ns) <= START_TOLERANCE_NS
}

impl World {
    /// An empty machine.
    #[must_use]
    pub fn new(hierarchies: [Option<u32>; CGROUP_SLOTS]) -> Self {
        let host = Entity {
            kind: EntityKind::Host,
            key: "host".to_owned(),
            answer: None,
            init: TaskKey::default(),
            home: "/".to_owned(),
            slots: 0,
            territory: HOST,
            ns: [NO_NS; NS_SLOTS],
            origins: [Origin::Own; NS_SLOTS],
            root: (0, 0),
            permitted: 0,
            parent: HOST,
            sets: SortedMap::default(),
            confidence: Confidence::Exact,
        };
        let mut entities = SortedMap::default();
        entities.insert(HOST, Box::new(host));
        Self {
            tasks: HashMap::new(),
            threads: HashMap::new(),
            names: Names::default(),
            ns: Namespaces::default(),
            cgroups: Cgroups::default(),
            entities,
            hierarchies,
            tenants: HashMap::new(),
            ended: ended::Ended::default(),
            next_entity: 1,
        }
    }

    /// A container is there from here on.
    pub fn begin(&mut self, id: EntityId, entity: Entity) {
        self.tenants.entry(entity.territory).or_default().push(id);
        self.entities.insert(id, Box::new(entity));
    }

    /// A container is gone.
    pub fn end(&mut self, id: EntityId) -> Option<Box<Entity>> {
        let entity = self.entities.remove(&id)?;
        if let Some(tenants) = self.tenants.get_mut(&entity.territory) {
            tenants.retain(|tenant| *tenant != id);
            if tenants.is_empty() {
                self.tenants.remove(&entity.territory);
            }
        }
        Some(entity)
    }

    /// Who sits in an entity's territory, itself included, oldest first. Nobody is listed in the host's.
    #[must_use]
    pub fn tenants(&self, territory: EntityId) -> &[EntityId] {
        self.tenants.get(&territory).map_or(&[], Vec::as_slice)
    }

    /// A territory is another's from here on. Gives who sits in it.
    pub fn pass_territory(&mut self, from: EntityId, to: EntityId) -> Vec<EntityId> {
        let tenants = self.tenants.remove(&from).unwrap_or_default();
        for id in &tenants {
            if let Some(entity) = self.entities.get_mut(id) {
                entity.territory = to;
            }
        }
        let all = self.tenants.entry(to).or_default();
        all.extend(&tenants);
        all.sort_unstable();
        tenants
    }

    /// The host.
    ///
    /// # Panics
    /// Never: the host is put there by [`World::new`] and nothing removes it.
    #[must_use]
    pub fn host(&self) -> &Entity {
        let mut oldest = self.entities.values();
        oldest.next().expect("the host is never removed")
    }

    /// The entity that a task is labelled with.
    #[must_use]
    pub fn entity(&self, label: EntityId) -> &Entity {
        if label == HOST {
            return self.host();
        }
        // A label ends with its entity.
        self.entities
            .get(&label)
            .map_or_else(|| self.host(), AsRef::as_ref)
    }

    /// An id that was never used.
    pub fn new_entity_id(&mut self) -> EntityId {
        let id = EntityId(self.next_entity);
        self.next_entity += 1;
        id
    }

    /// The thread, if it is the one that the key means.
    #[must_use]
    pub fn task(&self, key: &TaskKey) -> Option<&Task> {
        self.tasks
            .get(&key.tid)
            .map(AsRef::as_ref)
            .filter(|t| same_task(&t.state.key, key))
    }

    /// Label of a task; the host's for unknown ones.
    #[must_use]
    pub fn label(&self, key: &TaskKey) -> EntityId {
        self.task(key).map_or(HOST, |t| t.label)
    }

    /// Whose a task is, or was when it ended; the host's for unknown ones. It is the other side of a deed, and may have
    /// ended before the deed: nothing but its creator's wait is left of it then.
    #[must_use]
    pub fn owner(&self, key: &TaskKey) -> EntityId {
        let label = self.task(key).map(|task| task.label);
        let label = label.or_else(|| self.ended.label(key));
        // The container may be gone too.
        label
            .filter(|label| self.entities.contains_key(label))
            .unwrap_or(HOST)
    }

    /// Whether `outer` is `inner` or one of the containers around it. Everything is in the host.
    #[must_use]
    pub fn contains(&self, outer: EntityId, inner: EntityId) -> bool {
        if outer == HOST {
            return true;
        }
        let mut at = inner;
        // Nesting is acyclic: a parent is always older than its child.
        while at != HOST {
            if at == outer {
                return true;
            }
            at = self.entities.get(&at).map_or(HOST, |e| e.parent);
        }
        false
    }

    /// The key of the cgroup in a task's slot; `None` for slots that do not count here.
    #[must_use]
    pub fn cgroup_key(&self, state: &TaskState, slot: usize) -> Option<CgroupKey> {
        let hierarchy = self.hierarchies[slot]?;
        (state.cgroups[slot] != 0).then_some((hierarchy, state.cgroups[slot]))
    }

    /// The path that names a task's place best: the v2 leaf, unless that is the root, else the
    /// longest of the v1 leaves.
    #[must_use]
    pub fn home_path(&self, state: &TaskState) -> &str {
        let path = |slot| {
            self.cgroup_key(state, slot)
                .and_then(|key| self.cgroups.path(key))
        };
        match path(cgroup::V2) {
            Some(p) if p != "/" => p,
            _ => (1..CGROUP_SLOTS)
                .filter_map(path)
                .max_by_key(|p| p.len())
                .unwrap_or("/"),
        }
    }

    /// All different cgroup paths of a task, v2 first.
    #[must_use]
    pub fn cgroup_paths(&self, state: &TaskState) -> Vec<&str> {
        let mut paths = Vec::new();
        for slot in 0..CGROUP_SLOTS {
            let Some(path) = self
                .cgroup_key(state, slot)
                .and_then(|k| self.cgroups.path(k))
            else {
                continue;
            };
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        paths
    }

    /// All threads of a group.
    #[must_use]
    pub fn group(&self, tgid: u32) -> Vec<u32> {
        let mut tids = vec![tgid];
        tids.extend(self.threads.get(&tgid).into_iter().flatten());
        tids
    }

    /// A thread is known from here on. Whoever had its id before is gone.
    pub fn insert(&mut self, task: Box<Task>) {
        let key = task.state.key;
        if key.tid != key.tgid {
            let threads = self.threads.entry(key.tgid).or_default();
            if !threads.contains(&key.tid) {
                threads.push(key.tid);
            }
        }
        let set = task.set;
        if let Some(old) = self.tasks.insert(key.tid, task) {
            self.ns.leave(key.tid, old.set);
        }
        self.ns.join(key.tid, set);
    }

    /// The threads in a mount or pid namespace, in no order. Walks all threads for the machine's own ones.
    #[must_use]
    pub fn members(&self, id: NsId) -> Vec<u32> {
        if let Some(members) = self.ns.members(id) {
            return members.to_vec();
        }
        self.tasks
            .values()
            .filter(|t| self.ns.ids(t.set).contains(&id))
            .map(|t| t.state.key.tid)
            .collect()
    }

    /// A thread's namespaces are others from here on. Gives the set that it had; the caller drops it.
    pub fn switch(&mut self, tid: u32, set: SetId) -> Option<SetId> {
        let task = self.tasks.get_mut(&tid)?;
        let old = std::mem::replace(&mut task.set, set);
        self.ns.leave(tid, old);
        self.ns.join(tid, set);
        Some(old)
    }

    /// Forgets a thread and gives what the caller must account for.
    pub fn remove(&mut self, tid: u32) -> Option<Box<Task>> {
        let task = self.tasks.remove(&tid)?;
        self.depart(&task);
        Some(task)
    }

    /// As [`Self::remove`], if it is the one that the key means.
    pub fn take(&mut self, key: &TaskKey) -> Option<Box<Task>> {
        let Entry::Occupied(entry) = self.tasks.entry(key.tid) else {
            return None;
        };
        if !same_task(&entry.get().state.key, key) {
            return None;
        }
        let task = entry.remove();
        self.depart(&task);
        Some(task)
    }

    fn depart(&mut self, task: &Task) {
        let TaskKey { tid, tgid, .. } = task.state.key;
        self.ns.leave(tid, task.set);
        self.ended.note(task.state.key, task.label);
        if tid != tgid
            && let Some(threads) = self.threads.get_mut(&tgid)
        {
            threads.retain(|&t| t != tid);
            if threads.is_empty() {
                self.threads.remove(&tgid);
            }
        }
    }
}
