//! A task appears: born, or found without its birth having been seen.

use super::Engine;
use crate::engine::rule::cgroup_migration::Move;
use crate::engine::rule::{self, Change, Draft};
use crate::engine::world::Task;
use crate::model::facts::HOST;
use crate::model::output::Record;
use crate::model::{Confidence, NsKind};
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
        let (set, label, confidence) = (parent.set, parent.label, parent.confidence);
        let (entered, exe, pivoted) = (parent.entered, parent.exe.clone(), parent.pivoted);
        let fresh = fresh_at_birth(record);
        let same_ns = fresh == 0
            && parent
                .state
                .ns
                .iter()
                .zip(&state.ns)
                .all(|(a, b)| a.inum == b.inum);
        let same_cgroups = parent.state.cgroups == state.cgroups;
        // An ordinary birth brings nothing that a rule could judge, so the parent's state is not kept.
        let before = (!same_ns || !same_cgroups).then_some(parent.state);
        let ids_before = *self.world.ns.ids(set);
        let parent_set = set;
        let (set, ids) = if same_ns {
            self.world.ns.share_set(set);
            (set, ids_before)
        } else {
            let ids = self.resolve(state, fresh, label);
            (self.world.ns.new_set(ids), ids)
        };
        self.world.insert(Task {
            state: *state,
            set,
            label: HOST,
            confidence,
            entered,
            exe,
            pivoted,
            seen_ns: record.header.boottime_ns,
            event: self.event,
            growth: None,
            suspect: None,
            extra: Vec::new(),
        });
        let Some(before) = before else {
            self.inherit_label(state.key.tid, label, parent_set);
            return;
        };
        let before_iota = self.iotas_before(label, &ids, state);
        self.inherit_label(state.key.tid, label, parent_set);
        let taken = self.take_label(state.key.tid);
        let change = Change {
            record,
            event: self.event,
            label: taken,
            label_before: label,
            actor: label,
            before: Some(&before),
            ids_before: Some(ids_before),
            ids,
            fresh,
            confidence,
        };
        let mut drafts = Vec::new();
        if taken != HOST {
            rule::namespace_join::detect(&change, &self.world, &mut drafts);
            rule::namespace_nest::detect(&change, &self.world, &mut drafts);
            rule::privilege_gain::detect(&change, &before.creds, &self.world, &mut drafts);
            if !same_cgroups {
                self.moves(&change, &before, &mut drafts);
            }
        }
        self.report(drafts, &change, &before_iota, out);
    }

    /// A task whose birth was not seen.
    pub(in crate::engine) fn adopt(&mut self, record: &TaskRecord) {
        let state = &record.state;
        let parent_label = self.world.label(&state.parent);
        let ids = self.resolve(state, 0, HOST);
        let set = self.world.ns.new_set(ids);
        let home = self.world.host().root;
        self.world.insert(Task {
            state: *state,
            set,
            label: HOST,
            confidence: if self.started {
                Confidence::Inferred
            } else {
                Confidence::Exact
            },
            entered: None,
            exe: None,
            pivoted: state.known & known::ROOT != 0
                && (state.root.dev, state.root.ino) != home
                && home != (0, 0),
            seen_ns: record.header.boottime_ns,
            event: self.event,
            growth: None,
            suspect: None,
            extra: Vec::new(),
        });
        let tid = state.key.tid;
        if let Some(label) = self.restored_label(&state.key) {
            self.set_label(tid, label);
        } else {
            self.set_label(tid, parent_label);
            let taken = self.take_label(tid);
            if taken == parent_label {
                self.recognise(tid);
            }
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

/// Slots that a clone made anew.
fn fresh_at_birth(record: &TaskRecord) -> u16 {
    let flags = record.arg0;
    NsKind::ALL
        .iter()
        .filter(|kind| flags & kind.clone_flag() != 0 && record.state.ns[kind.slot()].inum != 0)
        .fold(0, |mask, kind| mask | 1 << kind.slot())
}
