//! From items to entries.

use super::super::frame::{Frame, Kind};
use super::super::limits::{REASON_BYTES, SLOTS, TEXT_BYTES};
use super::super::wire::{put_bytes, put_i, put_u};
use super::super::{Answer, Item};
use super::slots::Slots;
use super::{Clock, WORD, body, predict_birth, predict_exec, predict_next, predict_sweep, tag};
use crate::engine::Event;
use auditor_common::record::{
    ActRecord, CgroupRecord, ExecRecord, ExitRecord, FileRef, RecordHeader, TaskKey, TaskRecord,
    cause, kernel_str,
};
use serde::Serialize;
use zerocopy::FromBytes;

/// Turns items into the payload of frames. Bounded by the tasks that live.
#[derive(Debug, Default)]
pub struct Encoder {
    slots: Slots,
    clock: Clock,
    cgroup_path: Vec<u8>,
    sweep: Option<SweepState>,
    sweep_hook: u16,
    payload: Vec<u8>,
    entries: u32,
    first_ns: u64,
    last_ns: u64,
}

/// The row of unchanged tasks that is not written yet.
#[derive(Debug, Default)]
struct SweepState {
    began_ns: u64,
    skipped: usize,
    same: usize,
}

/// What no reader would take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is too long for a trace: {bytes} bytes")]
pub struct TooLong {
    what: &'static str,
    bytes: usize,
}

fn text(what: &'static str, value: &impl Serialize) -> Result<Vec<u8>, TooLong> {
    // These types have string keys and no custom serializer: they cannot fail to become JSON.
    let text = serde_json::to_vec(value).unwrap_or_default();
    match text.len() {
        bytes if bytes > TEXT_BYTES => Err(TooLong { what, bytes }),
        _ => Ok(text),
    }
}

impl Encoder {
    /// Appends an item to the frame under way.
    ///
    /// # Errors
    /// When its text exceeds [`TEXT_BYTES`]. Nothing was appended then.
    pub fn push(&mut self, item: &Item<'_>) -> Result<(), TooLong> {
        match item {
            Item::Event(event) => return self.event(event),
            Item::Answer(answer) => return self.answer(answer),
            Item::Stop {
                boottime_ns,
                reason,
            } => {
                self.open(tag::STOP);
                self.time(*boottime_ns);
                let end = reason.floor_char_boundary(REASON_BYTES);
                put_bytes(&mut self.payload, &reason.as_bytes()[..end]);
            }
        }
        Ok(())
    }

    /// Bytes of the frame under way.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.payload.len()
    }

    /// Ends the frame under way; `None` when nothing is in it.
    pub fn take_frame(&mut self, kind: Kind) -> Option<Frame> {
        self.flush_row();
        if self.entries == 0 {
            return None;
        }
        let frame = Frame {
            kind,
            entries: self.entries,
            first_ns: self.first_ns,
            last_ns: self.last_ns,
            payload: std::mem::take(&mut self.payload),
        };
        (self.entries, self.first_ns, self.last_ns) = (0, 0, 0);
        Some(frame)
    }

    fn event(&mut self, event: &Event<'_>) -> Result<(), TooLong> {
        match event {
            Event::Task(record) => self.task(record),
            Event::Exec(record) => self.exec(record),
            Event::Exit(record) => self.exit(record),
            Event::Cgroup(record) => self.cgroup(record),
            Event::Act(record) => self.act(record),
            Event::SweepBegin { boottime_ns } => {
                self.open(tag::SWEEP_BEGIN);
                self.time(*boottime_ns);
                self.slots.begin_sweep();
                self.sweep = Some(SweepState {
                    began_ns: *boottime_ns,
                    ..SweepState::default()
                });
            }
            Event::SweepEnd {
                boottime_ns,
                complete,
            } => {
                self.open(tag::SWEEP_END);
                self.time(*boottime_ns);
                self.payload.push(u8::from(*complete));
                self.sweep = None;
                self.slots.end_sweep(*complete);
            }
            Event::Answer { query, answer } => {
                // Without its question nobody could tell whose answer it is. The recorder never comes here.
                debug_assert!(false, "an answer to {query} without its question");
                self.answer(&Answer {
                    cgroup_path: "",
                    init_pid: None,
                    answer: *answer,
                })?;
            }
            Event::Looked(setup) => self.json(tag::LOOKED, "a mount table", setup)?,
            Event::Restore(saved) => self.json(tag::RESTORE, "saved labels", saved)?,
            Event::Policy(policy) => self.json(tag::POLICY, "a policy", policy)?,
            Event::Loss(mark) => {
                self.json(tag::LOSS, "a loss", mark)?;
                self.time(mark.boottime_ns);
            }
            Event::Tick { boottime_ns } => {
                self.open(tag::TICK);
                self.time(*boottime_ns);
            }
        }
        Ok(())
    }

    fn answer(&mut self, answer: &Answer<'_>) -> Result<(), TooLong> {
        let Answer {
            cgroup_path,
            init_pid,
            answer,
        } = answer;
        let text = match answer {
            Some(answer) => text("an answer", answer)?,
            None => Vec::new(),
        };
        self.open(tag::ANSWER);
        put_bytes(&mut self.payload, cgroup_path.as_bytes());
        put_u(
            &mut self.payload,
            init_pid.map_or(0, |pid| u64::from(pid) + 1),
        );
        put_bytes(&mut self.payload, &text);
        Ok(())
    }

    fn json(&mut self, tag: u8, what: &'static str, value: &impl Serialize) -> Result<(), TooLong> {
        let text = text(what, value)?;
        self.open(tag);
        put_bytes(&mut self.payload, &text);
        Ok(())
    }

    /// Starts an entry.
    fn open(&mut self, tag: u8) {
        self.flush_row();
        self.payload.push(tag);
        self.entries = self.entries.saturating_add(1);
    }

    fn time(&mut self, boottime_ns: u64) {
        let past = boottime_ns.wrapping_sub(self.clock.last_ns);
        put_i(&mut self.payload, past as i64);
        self.clock.last_ns = boottime_ns;
        if self.first_ns == 0 || boottime_ns < self.first_ns {
            self.first_ns = boottime_ns;
        }
        self.last_ns = self.last_ns.max(boottime_ns);
    }

    fn head(&mut self, header: &RecordHeader) {
        let RecordHeader {
            boottime_ns,
            cpu_seq,
            kind: _,
            hook,
            cpu,
            size: _,
        } = *header;
        self.time(boottime_ns);
        put_u(&mut self.payload, u64::from(hook));
        put_u(&mut self.payload, u64::from(cpu));
        let expected = self.clock.expected_seq(cpu);
        let ahead = cpu_seq.wrapping_sub(expected.wrapping_add(1));
        *expected = cpu_seq;
        put_i(&mut self.payload, ahead as i64);
    }

    fn task(&mut self, record: &TaskRecord) {
        let tid = record.state.key.tid;
        if record.cause == cause::SNAPSHOT && self.sweep.is_some() {
            return self.sweep_task(record);
        }
        let parent = record.actor.tid;
        if record.cause == cause::FORK && parent != tid {
            self.open(tag::BIRTH);
            self.head(&record.header);
            put_u(&mut self.payload, u64::from(tid));
            put_u(&mut self.payload, u64::from(parent));
            let slot = self.slots.born(tid, parent);
            predict_birth(&mut slot.task, tid, record.header.boottime_ns);
            put_words(&mut self.payload, &slot.task, record);
            slot.task = *record;
        } else {
            self.open(tag::TASK);
            self.head(&record.header);
            put_u(&mut self.payload, u64::from(tid));
            let slot = self.slots.entry(tid);
            predict_next(&mut slot.task);
            put_words(&mut self.payload, &slot.task, record);
            slot.task = *record;
        }
    }

    fn exec(&mut self, record: &ExecRecord) {
        let tid = record.task.state.key.tid;
        self.open(tag::EXEC);
        self.head(&record.task.header);
        put_u(&mut self.payload, u64::from(tid));
        let slot = self.slots.entry(tid);
        predict_exec(&mut slot.task);
        put_words(&mut self.payload, &slot.task, &record.task);
        let name = kernel_str(&record.filename);
        if name == kernel_str(&slot.filename) {
            put_u(&mut self.payload, 0);
        } else {
            put_u(&mut self.payload, name.len() as u64 + 1);
            self.payload.extend_from_slice(name);
        }
        *slot = *record;
    }

    fn exit(&mut self, record: &ExitRecord) {
        let ExitRecord {
            header,
            key,
            exit_code,
            reserved: _,
        } = record;
        self.open(tag::EXIT);
        self.head(header);
        self.known_key(key);
        put_u(&mut self.payload, u64::from(*exit_code));
        self.slots.remove(key.tid);
    }

    /// A task that is most likely known.
    fn known_key(&mut self, key: &TaskKey) {
        let TaskKey {
            tid,
            tgid,
            start_boottime_ns,
        } = *key;
        put_u(&mut self.payload, u64::from(tid));
        if self
            .slots
            .get(tid)
            .is_some_and(|slot| slot.task.state.key == *key)
        {
            self.payload.push(0);
        } else {
            self.payload.push(1);
            put_u(&mut self.payload, u64::from(tgid));
            put_u(&mut self.payload, start_boottime_ns);
        }
    }

    fn cgroup(&mut self, record: &CgroupRecord) {
        let CgroupRecord {
            header,
            actor,
            id,
            parent_id,
            hierarchy,
            op,
            path_len,
            reserved: _,
            path,
        } = record;
        self.open(tag::CGROUP);
        self.head(header);
        self.known_key(actor);
        for number in [
            *id,
            *parent_id,
            u64::from(*hierarchy),
            u64::from(*op),
            u64::from(*path_len),
        ] {
            put_u(&mut self.payload, number);
        }
        let path = &path[..path.len().min(*path_len as usize)];
        let common = path
            .iter()
            .zip(&self.cgroup_path)
            .take_while(|(a, b)| a == b)
            .count();
        put_u(&mut self.payload, common as u64);
        put_bytes(&mut self.payload, &path[common..]);
        self.cgroup_path.clear();
        self.cgroup_path.extend_from_slice(path);
    }

    fn act(&mut self, record: &ActRecord) {
        let ActRecord {
            header,
            actor,
            target,
            object,
            act,
            syscall,
            result,
            name_len: _,
            arg0,
            arg1,
            name: _,
        } = record;
        self.open(tag::ACT);
        self.head(header);
        self.known_key(actor);
        put_u(&mut self.payload, u64::from(*act));
        self.known_key(target);
        self.file(object);
        put_i(&mut self.payload, i64::from(*syscall));
        put_i(&mut self.payload, i64::from(*result));
        put_u(&mut self.payload, *arg0);
        put_u(&mut self.payload, *arg1);
        put_bytes(&mut self.payload, record.name());
    }

    fn file(&mut self, file: &FileRef) {
        let FileRef {
            ino,
            dev,
            mnt_ns_inum,
            mnt_id,
            mode,
            rdev,
            fs_magic,
            fs_owner_inum,
            flags,
        } = *file;
        if *file == FileRef::default() {
            self.payload.push(0);
            return;
        }
        self.payload.push(1);
        put_u(&mut self.payload, ino);
        for number in [
            dev,
            mnt_ns_inum,
            mnt_id,
            mode,
            rdev,
            fs_magic,
            fs_owner_inum,
            flags,
        ] {
            put_u(&mut self.payload, u64::from(number));
        }
    }

    fn sweep_task(&mut self, record: &TaskRecord) {
        let tid = record.state.key.tid;
        let began_ns = self.sweep.as_ref().map_or(0, |s| s.began_ns);
        if let Some(skipped) = self.slots.distance(tid)
            && self.slots.contains(tid)
        {
            let slot = &mut self.slots.swept(tid).task;
            predict_sweep(slot, began_ns, self.sweep_hook);
            let same = slot == record;
            if same {
                if skipped > 0 {
                    self.flush_row();
                }
                if let Some(row) = &mut self.sweep {
                    row.skipped += skipped;
                    row.same += 1;
                }
                self.slots.skip(skipped + 1);
                return;
            }
        }
        self.open(tag::SWEEP_TASK);
        self.head(&record.header);
        put_u(&mut self.payload, u64::from(tid));
        self.sweep_hook = record.header.hook;
        if let Some(skipped) = self.slots.distance(tid) {
            self.slots.skip(skipped + 1);
        }
        let slot = &mut self.slots.swept(tid).task;
        predict_sweep(slot, began_ns, record.header.hook);
        put_words(&mut self.payload, slot, record);
        *slot = *record;
    }

    /// Writes the row of unchanged tasks.
    fn flush_row(&mut self) {
        let Some(row) = self.sweep.as_mut().filter(|row| row.same > 0) else {
            return;
        };
        let (skipped, same) = (row.skipped, row.same);
        (row.skipped, row.same) = (0, 0);
        self.payload.push(tag::SWEEP_SAME);
        self.entries = self.entries.saturating_add(1);
        put_u(&mut self.payload, skipped as u64);
        put_u(&mut self.payload, same as u64);
    }
}

/// The words of `record` that differ from `predicted`: how many to pass over, and the difference; then 0.
fn put_words(out: &mut Vec<u8>, predicted: &TaskRecord, record: &TaskRecord) {
    let (old, new) = (body(predicted), body(record));
    let mut passed = 1;
    for (old, new) in old.chunks_exact(2 * WORD).zip(new.chunks_exact(2 * WORD)) {
        if old == new {
            passed += 2;
            continue;
        }
        for (old, new) in old.chunks_exact(WORD).zip(new.chunks_exact(WORD)) {
            if old == new {
                passed += 1;
                continue;
            }
            let word = |bytes| u32::read_from_bytes(bytes).unwrap_or_default();
            put_u(out, passed);
            put_i(out, i64::from(word(new).wrapping_sub(word(old)) as i32));
            passed = 1;
        }
    }
    put_u(out, 0);
}

const _: () = assert!(super::WORDS.is_multiple_of(2));
const _: () = assert!(SLOTS < u32::MAX as usize);
