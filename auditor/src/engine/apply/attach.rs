//! Tasks are moved into other cgroups.

use super::Engine;
use crate::engine::rule::cgroup_migration::Move;
use crate::engine::rule::{self, Change};
use crate::model::facts::HOST;
use crate::model::output::Record;
use auditor_common::limits::CGROUP_SLOTS;
use auditor_common::record::{ATTACH_THREADGROUP, TaskRecord};

impl Engine {
    #[inline(never)]
    pub(super) fn on_attach(&mut self, record: &TaskRecord, out: &mut Vec<Record>) {
        let tid = record.state.key.tid;
        if self.world.task(&record.state.key).is_none() {
            if self.world.tasks.contains_key(&tid) {
                self.forget(tid);
            }
            self.adopt(record);
        }
        let hierarchy = record.arg1 as u32;
        let group = if record.arg1 & ATTACH_THREADGROUP != 0 {
            self.world.group(record.state.key.tgid)
        } else {
            vec![tid]
        };
        let actor = self.world.label(&record.actor);
        let Some(task) = self.world.tasks.get(&tid) else {
            return;
        };
        let (before, label, confidence) = (task.state, task.label, task.confidence);
        let ids = *self.world.ns.ids(task.set);
        let before_iota = self.iotas_before(actor, &ids, &record.state);
        for member in group {
            self.place(member, hierarchy, record.arg0, record.header.boottime_ns);
        }
        let taken = self.world.label(&record.state.key);
        let mut state = before;
        state.cgroups = self
            .world
            .tasks
            .get(&tid)
            .map_or(before.cgroups, |t| t.state.cgroups);
        let settled = TaskRecord { state, ..*record };
        let change = Change {
            label: taken,
            actor,
            before: Some(&before),
            ..Change::of(&settled, self.event, label, ids, confidence)
        };
        let mut drafts = Vec::new();
        if actor != HOST {
            let to = (hierarchy, record.arg0);
            let slot = self.slots_of(hierarchy).next();
            let from = slot.and_then(|slot| self.world.cgroup_key(&before, slot));
            let territory = self.world.cgroups.territory(to);
            let moved = Move {
                to,
                from,
                territory,
            };
            rule::cgroup_migration::detect(&change, &moved, &self.world, &mut drafts);
        }
        self.report(drafts, &change, &before_iota, out);
    }

    /// Slots that belong to a hierarchy.
    fn slots_of(&self, hierarchy: u32) -> impl Iterator<Item = usize> + use<> {
        let hierarchies = self.world.hierarchies;
        (0..CGROUP_SLOTS).filter(move |&slot| hierarchies[slot] == Some(hierarchy))
    }

    /// One task sits in another cgroup from here on.
    fn place(&mut self, tid: u32, hierarchy: u32, id: u64, now_ns: u64) {
        let slots: Vec<usize> = self.slots_of(hierarchy).collect();
        let event = self.event;
        let Some(task) = self.world.tasks.get_mut(&tid) else {
            return;
        };
        for slot in slots {
            task.state.cgroups[slot] = id;
        }
        task.seen_ns = now_ns;
        task.event = event;
        task.suspect = None;
        self.take_label(tid);
        self.refresh_extra(tid);
    }
}
