//! Labels and baselines over a restart of the agent.

use super::Engine;
use super::compartment::{MAX_PENDING, Pending};
use crate::engine::event::{Query, Saved, SavedEntity, SavedLabel};
use crate::engine::world::namespaces::NO_NS;
use crate::engine::world::{Entity, START_TOLERANCE_NS};
use crate::model::facts::{EntityId, HOST, Origin};
use crate::model::output::EntityKind;
use crate::model::sorted::SortedMap;
use crate::model::{Confidence, NsKind};
use auditor_common::limits::{CGROUP_SLOTS, NS_SLOTS};
use auditor_common::record::{NsRef, TaskKey};
use hashbrown::HashMap;
use std::collections::{BTreeMap, BTreeSet};

/// Labels of an earlier run.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct Restored {
    labels: HashMap<u32, (u64, usize)>,
    entities: Vec<SavedEntity>,
    made: BTreeMap<usize, EntityId>,
}

impl Restored {
    /// What can be used of it: nothing, when the machine has booted since.
    pub(in crate::engine) fn new(saved: &Saved, boot_id: &str) -> Self {
        if saved.boot_id != boot_id {
            return Self::default();
        }
        let labels = saved
            .labels
            .iter()
            .filter(|l| l.entity < saved.entities.len())
            .map(|l| (l.tid, (l.start_boottime_ns, l.entity)))
            .collect();
        Self {
            labels,
            entities: saved.entities.clone(),
            made: BTreeMap::new(),
        }
    }
}

impl Engine {
    /// Containers of an earlier run whose tasks still live come back with the baseline they had:
    /// their init may have left it since.
    pub(in crate::engine) fn restore_entities(&mut self) {
        let saved = std::mem::take(&mut self.restored.entities);
        for (index, entity) in saved.iter().enumerate() {
            let alive = self.restored.labels.iter().any(|(tid, (start, of))| {
                *of == index
                    && self.world.tasks.get(tid).is_some_and(|t| {
                        t.state.key.start_boottime_ns.abs_diff(*start) <= START_TOLERANCE_NS
                    })
            });
            if alive && entity.ns.len() == NS_SLOTS && entity.origins.len() == NS_SLOTS {
                let id = self.restore_entity(entity);
                self.restored.made.insert(index, id);
            }
        }
        self.restore_labels();
        self.restored = Restored::default();
    }

    fn restore_entity(&mut self, saved: &SavedEntity) -> EntityId {
        let parent = saved
            .parent
            .and_then(|p| self.restored.made.get(&p).copied())
            .unwrap_or(HOST);
        let id = self.world.new_entity_id();
        let mut ids = [NO_NS; NS_SLOTS];
        let mut origins = [Origin::Own; NS_SLOTS];
        for &kind in NsKind::ALL {
            let slot = kind.slot();
            let reference = NsRef {
                inum: saved.ns[slot],
                owner_inum: 0,
                unique_id: 0,
            };
            ids[slot] = self.world.ns.resolve(kind, &reference, false, HOST);
            origins[slot] = saved.origins[slot];
        }
        self.world.cgroups.claim(&saved.cgroup_path, id);
        let init = TaskKey {
            tid: saved.init_pid,
            tgid: saved.init_pid,
            start_boottime_ns: saved.incarnation,
        };
        // What it had when it started is not kept; its first task has seldom changed.
        let first = self.world.task(&init);
        let permitted = first.map_or(0, |task| task.state.creds.cap_permitted);
        let entity = Entity {
            kind: EntityKind::Container,
            key: saved.key.clone(),
            answer: None,
            init,
            home: saved.cgroup_path.clone(),
            slots: self.slots_below(&saved.cgroup_path),
            territory: id,
            ns: ids,
            origins,
            root: saved.root,
            permitted,
            parent,
            sets: SortedMap::default(),
            confidence: Confidence::Exact,
        };
        self.settle(id, entity);
        if let Some(account) = &saved.privileges {
            self.restore_account(id, account);
        }
        self.restore_told(id, saved.told);
        if parent == HOST && self.pending.len() < MAX_PENDING {
            let query = self.next_query;
            self.next_query += 1;
            let path = saved.cgroup_path.clone();
            self.pending.insert(query, Pending::Name(id));
            self.queries.push_back(Query {
                id: query,
                cgroup_path: path,
                init_pid: Some(init.tgid),
            });
        }
        id
    }

    /// Slots of the hierarchies in which the path exists.
    fn slots_below(&self, path: &str) -> u16 {
        let named: BTreeSet<u32> = self.world.cgroups.hierarchies_of(path);
        (0..CGROUP_SLOTS)
            .filter(|&slot| self.world.hierarchies[slot].is_some_and(|h| named.contains(&h)))
            .fold(0, |mask, slot| mask | 1 << slot)
    }

    /// The label that a task had in an earlier run.
    pub(in crate::engine) fn restored_label(&self, key: &TaskKey) -> Option<EntityId> {
        let (start, entity) = self.restored.labels.get(&key.tid)?;
        if start.abs_diff(key.start_boottime_ns) > START_TOLERANCE_NS {
            return None;
        }
        self.restored.made.get(entity).copied()
    }

    /// Tasks that an earlier run knew as a container's get their labels back, wherever they are now.
    fn restore_labels(&mut self) {
        let mut labels: Vec<(u32, EntityId)> = self
            .world
            .tasks
            .values()
            .filter_map(|t| Some((t.state.key.tid, self.restored_label(&t.state.key)?)))
            .collect();
        labels.sort_unstable();
        for (tid, label) in labels {
            self.set_label(tid, label);
        }
        self.label_the_young();
    }

    /// What was born since is its parent's, or was sent in, as what a later sweep finds.
    fn label_the_young(&mut self) {
        if self.restored.made.is_empty() {
            return;
        }
        let mut tids: Vec<(u64, u32)> = (self.world.tasks.values())
            .map(|task| (task.state.key.start_boottime_ns, task.state.key.tid))
            .collect();
        tids.sort_unstable();
        for (_, tid) in tids {
            let Some(task) = self.world.tasks.get(&tid).filter(|t| t.label == HOST) else {
                continue;
            };
            let parent = self.world.label(&task.state.parent);
            self.label_found(tid, parent);
        }
    }

    /// What must survive a restart of the agent.
    #[must_use]
    pub fn saved(&self) -> Saved {
        let mut saved = Saved {
            boot_id: self.config.boot_id.clone(),
            ..Saved::default()
        };
        let mut places: BTreeMap<EntityId, usize> = BTreeMap::new();
        for (&id, entity) in self.world.entities.iter().filter(|(id, _)| **id != HOST) {
            places.insert(id, saved.entities.len());
            saved.entities.push(SavedEntity {
                key: entity.key.clone(),
                cgroup_path: entity.home.clone(),
                init_pid: entity.init.tgid,
                incarnation: entity.init.start_boottime_ns,
                origins: entity.origins.to_vec(),
                root: entity.root,
                ns: entity
                    .ns
                    .iter()
                    .map(|id| self.world.ns.get(*id).map_or(0, |n| n.inum))
                    .collect(),
                parent: places.get(&entity.parent).copied(),
                privileges: self.account_of(id),
                told: self.told_of(id),
            });
        }
        let mut labels: Vec<SavedLabel> = self
            .world
            .tasks
            .values()
            .filter_map(|t| {
                Some(SavedLabel {
                    tid: t.state.key.tid,
                    tgid: t.state.key.tgid,
                    start_boottime_ns: t.state.key.start_boottime_ns,
                    entity: *places.get(&t.label)?,
                })
            })
            .collect();
        labels.sort_unstable_by_key(|l| l.tid);
        saved.labels = labels;
        saved
    }
}
