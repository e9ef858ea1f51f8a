//! A task appears: born, or found without its birth having been seen.

use super::Engine;
use super::state::{are_same, fresh_at_birth};
use crate::engine::label::Entry;
use crate::engine::rule::cgroup_migration::Move;
use crate::engine::rule::{self, Change, Draft};
use crate::engine::world::Task;
use crate::model::Confidence;
use crate::model::facts::HOST;
use crate::model::output::Record;
use auditor_common::limits::CGROUP_SLOTS;
use auditor_common::record::{TaskRecord, TaskState, cause, known};

impl Engine {
    pub(super) fn on_fork(&mut self, record: &TaskRecord, out: &mut Vec<Record>) {
        let state = &record.state;
        if self.world.tasks.contains_key(&state.key.tid) {
            // Its exit was not seen, or a sweep found the newborn first: then what the first sweep read
            // is newer than this record.
            if self.is_stale(record) {
                return;
            }
            self.forget(state.key.tid);
        }
        let Some(parent) = self.world.task(&record.actor) else {
            self.adopt(record);
            return;
        };
        let fresh = fresh_at_birth(record);
        let same_ns = fresh == 0 && are_same(&parent.state.ns, &state.ns);
        let same_cgroups = parent.state.cgroups == state.cgroups;
        let child = parent.child(record, self.event);
        if same_ns && same_cgroups {
            self.be_born(child);
        } else {
            let before = parent.state;
            self.be_born_elsewhere(record, child, &before, fresh, out);
        }
    }

    /// An ordinary birth: what the child is in, its parent is in too, so no rule has anything to judge.
    fn be_born(&mut self, child: Box<Task>) {
        let (tid, label, set) = (child.state.key.tid, child.label, child.set);
        self.world.ns.share_set(set);
        if label == HOST {
            self.world.insert(child);
            return;
        }
        let extra = self.extra_of(label, &child.state, &child.references);
        if !child.references.is_empty() {
            self.files.inherit(tid);
        }
        self.world.insert(child);
        self.join_set(label, set, Entry::From(set));
        if !extra.is_empty() {
            self.set_extra(tid, extra);
        }
    }

    /// A birth into other namespaces or cgroups than the parent's.
    #[inline(never)]
    fn be_born_elsewhere(
        &mut self,
        record: &TaskRecord,
        mut child: Box<Task>,
        before: &TaskState,
        fresh: u16,
        out: &mut Vec<Record>,
    ) {
        let state = &record.state;
        let (label, confidence, parent_set) = (child.label, child.confidence, child.set);
        let ids_before = *self.world.ns.ids(parent_set);
        let same_ns = fresh == 0 && are_same(&before.ns, &state.ns);
        let (set, ids) = if same_ns {
            self.world.ns.share_set(parent_set);
            (parent_set, ids_before)
        } else {
            let ids = self.resolve(state, fresh, label);
            (self.world.ns.new_set(ids), ids)
        };
        child.set = set;
        child.label = HOST;
        self.world.insert(child);
        let before_iota = self.iotas_before(label, &ids, state);
        self.inherit_label(state.key.tid, label, parent_set);
        let taken = self.take_label(state.key.tid);
        let change = Change {
            label: taken,
            before: Some(before),
            ids_before: Some(ids_before),
            fresh,
            ..Change::of(record, self.event, label, ids, confidence)
        };
        let mut drafts = Vec::new();
        if taken != HOST {
            rule::namespace_join::detect(&change, &self.world, &mut drafts);
            rule::namespace_nest::detect(&change, &self.world, &mut drafts);
            rule::page_cache_prestep::detect_namespaces(&change, &self.world, &mut drafts);
            rule::privilege_gain::detect(&change, &before.creds, &self.world, &mut drafts);
            self.moves(&change, before, &mut drafts);
        }
        self.report(drafts, &change, &before_iota, out);
    }

    /// A task whose birth was not seen.
    #[inline(never)]
    pub(in crate::engine) fn adopt(&mut self, record: &TaskRecord) {
        let state = &record.state;
        let parent_label = self.world.label(&state.parent);
        let ids = self.resolve(state, 0, HOST);
        let set = self.world.ns.new_set(ids);
        let home = self.world.host().root;
        self.world.insert(Box::new(Task {
            confidence: if self.started {
                Confidence::Inferred
            } else {
                Confidence::Exact
            },
            pivoted: state.known & known::ROOT != 0
                && (state.root.dev, state.root.ino) != home
                && home != (0, 0),
            ..Task::new(record, set, self.event)
        }));
        let tid = state.key.tid;
        if let Some(label) = self.restored_label(&state.key) {
            self.set_label(tid, label);
        } else {
            self.label_found(tid, parent_label);
        }
        if record.cause == cause::EXEC {
            self.consider(tid);
        }
    }

    /// A birth into other cgroups than the parent's (CLONE_INTO_CGROUP).
    fn moves(&mut self, change: &Change<'_>, before: &TaskState, drafts: &mut Vec<Draft>) {
        for slot in 0..CGROUP_SLOTS {
            if before.cgroups[slot] == change.record.state.cgroups[slot] {
                continue;
            }
            let Some(to) = self.world.cgroup_key(&change.record.state, slot) else {
                continue;
            };
            let from = self.world.cgroup_key(before, slot);
            let moved = Move {
                to,
                from,
                territory: self.world.cgroups.territory(to),
            };
            rule::cgroup_migration::detect(change, &moved, &self.world, drafts);
        }
    }
}
