//! Files that tasks reach: what they make their container hold, until a sweep finds them gone.
//!
//! An open tells that a task has a foreign file, a sweep tells that it still has it. So what was reached before a sweep
//! began and is not found by it is let go.

use super::Engine;
use crate::engine::report::Iotas;
use crate::engine::rule::{self, Deed, Draft, foreign_file};
use crate::engine::world::Reference;
use crate::model::NsKind;
use crate::model::facts::{EntityId, HOST, NsId};
use crate::model::output::Record;
use auditor_common::hook;
use auditor_common::record::{TaskRecord, act};
use std::collections::{BTreeMap, BTreeSet};

/// Files that are remembered as told. Beyond it a sweep's findings are told once more, and folded.
const MAX_TOLD: usize = 1 << 14;
/// Foreign mount namespaces that one task's files are kept for.
const MAX_REFERENCES: usize = 16;

/// Standard streams that are remembered, and files that a second sweep must find before they are told.
const MAX_STREAMS: usize = 1 << 12;

/// Who reached which foreign file.
type File = (EntityId, NsId, u64);

/// What is remembered of foreign files.
#[derive(Debug, Default)]
pub(in crate::engine) struct Files {
    /// When each was last reached, or found.
    told: BTreeMap<File, u64>,
    /// Threads that have any.
    holders: BTreeSet<u32>,
    /// Files that were somebody's standard streams: a shell that redirects saves them under other numbers. And those that
    /// a tracer handed over.
    streams: BTreeSet<(EntityId, u64)>,
    /// What one sweep found and the next has to confirm: the first and the last that found it.
    suspects: BTreeMap<File, (u64, u64)>,
    /// Sweeps so far.
    sweep: u64,
}

impl Files {
    /// A thread holds none any more.
    pub(super) fn forget(&mut self, tid: u32) {
        self.holders.remove(&tid);
    }

    /// Whether a file found among a task's descriptors may be told: not when it is a standard stream of the container,
    /// and at first sight only when it is a directory. A stream that a shell saves while it redirects is neither a way
    /// in nor there for long.
    fn is_held(&mut self, deed: &Deed<'_>, id: NsId) -> bool {
        let (record, label) = (deed.record, deed.label);
        if record.act != act::HOLD || foreign_file::is_directory(&record.object) {
            return true;
        }
        let object = foreign_file::object_id(&record.object);
        if self.streams.contains(&(label, object)) {
            return false;
        }
        let (file, sweep) = ((label, id, object), self.sweep);
        if self.suspects.len() >= MAX_STREAMS && !self.suspects.contains_key(&file) {
            return true;
        }
        let (first, last) = self.suspects.entry(file).or_insert((sweep, sweep));
        *last = sweep;
        *first < sweep || self.told.contains_key(&file)
    }

    /// A thread was born of one that holds some.
    pub(super) fn inherit(&mut self, tid: u32) {
        self.holders.insert(tid);
    }
}

impl Engine {
    /// A container's task reached a file.
    pub(super) fn on_file(&mut self, deed: &Deed<'_>, out: &mut Vec<Record>) {
        if foreign_file::is_stream(deed.record) {
            self.note_stream(deed);
        }
        let Some(id) = foreign_file::foreign_mount_ns(deed, &self.world) else {
            return;
        };
        if self.is_led(deed) {
            // A sweep that finds it finds the same.
            self.note_stream(deed);
            return;
        }
        if !self.files.is_held(deed, id) {
            return;
        }
        let (label, tid) = (deed.label, deed.state.key.tid);
        let object = rule::owner(&self.world, id);
        let before = Iotas::from([(object, self.index.pair(label, object).iota)]);
        let at_ns = deed.record.header.boottime_ns;
        self.note_reference(tid, id, at_ns);
        let file = (label, id, foreign_file::object_id(&deed.record.object));
        let is_known = self.remember_file(file, at_ns);
        if is_known && deed.record.act == act::HOLD {
            return;
        }
        let draft = foreign_file::draft(deed, &self.world, id);
        self.report_deed(vec![draft], deed, &before, out);
    }

    fn note_stream(&mut self, deed: &Deed<'_>) {
        if self.files.streams.len() < MAX_STREAMS {
            let object = foreign_file::object_id(&deed.record.object);
            self.files.streams.insert((deed.label, object));
        }
    }

    /// Whether a task of the host has taken hold of this one and has it receive what it hands it: who makes a checkpoint
    /// does, by a program of its own that runs in the task's place.
    fn is_led(&self, deed: &Deed<'_>) -> bool {
        let tracer = (deed.record.act == act::RECEIVE).then_some(&deed.record.target);
        let tracer = tracer.and_then(|tracer| self.world.task(tracer));
        tracer.is_some_and(|tracer| tracer.label == HOST)
    }

    fn note_reference(&mut self, tid: u32, id: NsId, seen_ns: u64) {
        let Some(task) = self.world.tasks.get_mut(&tid) else {
            return;
        };
        if let Some(held) = task.references.iter_mut().find(|held| held.ns == id) {
            held.seen_ns = held.seen_ns.max(seen_ns);
            return;
        }
        if task.references.len() >= MAX_REFERENCES {
            return;
        }
        task.references.push(Reference { ns: id, seen_ns });
        self.files.holders.insert(tid);
        self.refresh_extra(tid);
    }

    /// A sweep that began then has found all files that were held: what it did not find is gone.
    pub(in crate::engine) fn settle_files(&mut self, began_ns: u64) {
        let entities = &self.world.entities;
        let files = &mut self.files;
        files.told.retain(|_, seen_ns| *seen_ns >= began_ns);
        files.suspects.retain(|_, (_, last)| *last == files.sweep);
        files
            .streams
            .retain(|(label, _)| entities.contains_key(label));
        files.sweep += 1;
        for tid in std::mem::take(&mut self.files.holders) {
            let Some(task) = self.world.tasks.get_mut(&tid) else {
                continue;
            };
            let count = task.references.len();
            task.references.retain(|held| held.seen_ns >= began_ns);
            let (left, changed) = (task.references.len(), task.references.len() != count);
            if left > 0 {
                self.files.holders.insert(tid);
            }
            if changed {
                self.refresh_extra(tid);
            }
        }
    }

    /// A task of the host executed or mapped a file.
    pub(super) fn on_host_code(&mut self, deed: &Deed<'_>, drafts: &mut Vec<Draft>) {
        // Where opens are seen, they tell of scripts too.
        let sees_opens = self.config.working.has(hook::FILE_OPEN);
        if deed.record.header.hook == hook::SCHED_EXEC && sees_opens {
            return;
        }
        let Some(draft) = rule::host_runs_container_file::detect(deed, &self.world) else {
            return;
        };
        let (object, namespace) = (&deed.record.object, deed.record.object.mnt_ns_inum);
        if let Some(id) = self.world.ns.by_inum(NsKind::Mnt, namespace) {
            let file = (HOST, id, foreign_file::object_id(object));
            let is_known = self.remember_file(file, deed.record.header.boottime_ns);
            // Whoever executes a file maps it next.
            if is_known && deed.record.act == act::MAP {
                return;
            }
        }
        drafts.push(draft);
    }

    /// A file was reached; says whether that is remembered already.
    fn remember_file(&mut self, file: File, at_ns: u64) -> bool {
        let is_known = self.files.told.contains_key(&file);
        if is_known || self.files.told.len() < MAX_TOLD {
            self.files.told.insert(file, at_ns);
        }
        is_known
    }

    /// A task of the host executed a file by this path.
    pub(super) fn judge_host_exec(
        &mut self,
        record: &TaskRecord,
        filename: &[u8],
        out: &mut Vec<Record>,
    ) {
        let state = &record.state;
        let mut drafts = Vec::new();
        let uppers = self.uppers();
        rule::host_runs_container_file::detect_by_path(
            state,
            filename,
            uppers,
            &self.world,
            &mut drafts,
        );
        for draft in drafts {
            let witness = self.seen_by(record.header.hook, record.syscall, self.event);
            self.emit(draft, state.key, witness, None, out);
        }
    }

    /// Whether a task is the host's still: a label is not taken back.
    pub(super) fn is_host(&self, tid: u32) -> bool {
        self.world.tasks.get(&tid).is_some_and(|t| t.label == HOST)
    }
}
