//! From entries to items.

use super::super::limits::{REASON_BYTES, TEXT_BYTES};
use super::super::wire::{Malformed, Place};
use super::super::{Answer, Item};
use super::slots::Slots;
use super::{
    ACT_HEADER, CGROUP_HEADER, Clock, EXEC_HEADER, EXIT_HEADER, TASK_HEADER, WORD, WORDS, blank,
    body_mut, predict_birth, predict_exec, predict_next, predict_sweep, tag,
};
use crate::engine::{Event, LossMark, Saved};
use crate::inventory::container::ContainerAnswer;
use crate::model::policy::Policy;
use crate::model::setup::SetUp;
use auditor_common::limits::{ACT_NAME_LEN, CGROUP_PATH_LEN, FILENAME_LEN};
use auditor_common::record::{
    ActRecord, CgroupRecord, ExecRecord, ExitRecord, FileRef, RecordHeader, TaskKey, TaskRecord,
};
use serde::de::DeserializeOwned;
use zerocopy::FromZeros;

/// Turns the payload of frames into items. Bounded by the tasks that live, whatever the payload says.
#[derive(Debug)]
pub struct Decoder {
    slots: Slots,
    clock: Clock,
    sweep_ns: Option<u64>,
    sweep_hook: u16,
    /// Unchanged tasks of a row that are still to be given.
    row: u64,
    /// Entries of the payload so far.
    entries: u32,
    exit: ExitRecord,
    cgroup: CgroupRecord,
    act: ActRecord,
    path: String,
    reason: String,
    answer: Option<Box<ContainerAnswer>>,
    setup: SetUp,
    saved: Box<Saved>,
    policy: Option<Box<Policy>>,
    loss: LossMark,
    place: Place,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            slots: Slots::default(),
            clock: Clock::default(),
            sweep_ns: None,
            sweep_hook: 0,
            row: 0,
            entries: 0,
            exit: ExitRecord::new_zeroed(),
            cgroup: CgroupRecord::new_zeroed(),
            act: ActRecord::new_zeroed(),
            path: String::new(),
            reason: String::new(),
            answer: None,
            setup: SetUp::default(),
            saved: Box::default(),
            policy: None,
            loss: LossMark::default(),
            place: Place::default(),
        }
    }
}

impl Decoder {
    /// A new payload follows.
    pub fn restart(&mut self) {
        self.place = Place::default();
        self.row = 0;
        self.entries = 0;
    }

    /// Entries of the payload so far. One entry may give several items.
    #[must_use]
    pub const fn entries(&self) -> u32 {
        self.entries
    }

    /// Whether all of the payload has been given.
    #[must_use]
    pub const fn is_done(&self, payload: &[u8]) -> bool {
        self.row == 0 && self.place.offset >= payload.len()
    }

    /// The next item. There is one unless [`Self::is_done`].
    ///
    /// # Errors
    /// When the payload is not what an encoder writes.
    pub fn next(&mut self, payload: &[u8]) -> Result<Item<'_>, Malformed> {
        if self.row > 0 {
            return self.same();
        }
        let tag = self.place.byte(payload)?;
        self.entries = self.entries.saturating_add(1);
        match tag {
            tag::BIRTH | tag::TASK | tag::SWEEP_TASK => self.task(tag, payload),
            tag::EXEC => self.exec(payload),
            tag::EXIT => self.exit(payload),
            tag::CGROUP => self.cgroup(payload),
            tag::ACT => self.act(payload),
            tag::SWEEP_BEGIN => {
                let boottime_ns = self.time(payload)?;
                self.slots.begin_sweep();
                self.sweep_ns = Some(boottime_ns);
                Ok(Item::Event(Event::SweepBegin { boottime_ns }))
            }
            tag::SWEEP_SAME => {
                let skipped = self.place.fit(payload, "a row's start")?;
                self.row = self.place.u(payload)?;
                self.slots.skip(skipped);
                self.same()
            }
            tag::SWEEP_END => {
                let boottime_ns = self.time(payload)?;
                let complete = self.place.byte(payload)? != 0;
                self.sweep_ns = None;
                self.slots.end_sweep(complete);
                Ok(Item::Event(Event::SweepEnd {
                    boottime_ns,
                    complete,
                }))
            }
            tag::TICK => {
                let boottime_ns = self.time(payload)?;
                Ok(Item::Event(Event::Tick { boottime_ns }))
            }
            _ => self.text_item(tag, payload),
        }
    }

    fn text_item(&mut self, tag: u8, payload: &[u8]) -> Result<Item<'_>, Malformed> {
        match tag {
            tag::ANSWER => self.answer(payload),
            tag::LOOKED => {
                self.setup = self.json(payload, "a mount table")?;
                Ok(Item::Event(Event::Looked(&self.setup)))
            }
            tag::RESTORE => {
                *self.saved = self.json(payload, "saved labels")?;
                Ok(Item::Event(Event::Restore(&self.saved)))
            }
            tag::POLICY => {
                let policy = Box::new(self.json(payload, "a policy")?);
                Ok(Item::Event(Event::Policy(self.policy.insert(policy))))
            }
            tag::LOSS => {
                self.loss = self.json(payload, "a loss")?;
                self.loss.boottime_ns = self.time(payload)?;
                Ok(Item::Event(Event::Loss(&self.loss)))
            }
            tag::STOP => {
                let boottime_ns = self.time(payload)?;
                let reason = self.place.text(payload, REASON_BYTES, "a reason")?;
                reason.clone_into(&mut self.reason);
                Ok(Item::Stop {
                    boottime_ns,
                    reason: &self.reason,
                })
            }
            other => Err(self.place.malformed(format!("unknown entry {other}"))),
        }
    }

    fn answer(&mut self, payload: &[u8]) -> Result<Item<'_>, Malformed> {
        let path = self.place.text(payload, TEXT_BYTES, "a cgroup path")?;
        path.clone_into(&mut self.path);
        let init: u64 = self.place.u(payload)?;
        let init_pid = match init.checked_sub(1) {
            Some(pid) => Some(
                u32::try_from(pid).map_err(|_| self.place.malformed("a pid is out of range"))?,
            ),
            None => None,
        };
        let text = self.place.bytes(payload, TEXT_BYTES, "an answer")?;
        self.answer = if text.is_empty() {
            None
        } else {
            let answer = serde_json::from_slice(text)
                .map_err(|e| self.place.malformed(format!("an answer: {e}")))?;
            Some(Box::new(answer))
        };
        Ok(Item::Answer(Answer {
            cgroup_path: &self.path,
            init_pid,
            answer: self.answer.as_deref(),
        }))
    }

    fn json<T: DeserializeOwned>(&mut self, payload: &[u8], what: &str) -> Result<T, Malformed> {
        let text = self.place.bytes(payload, TEXT_BYTES, what)?;
        serde_json::from_slice(text).map_err(|e| self.place.malformed(format!("{what}: {e}")))
    }

    #[inline]
    fn time(&mut self, payload: &[u8]) -> Result<u64, Malformed> {
        let past = self.place.i(payload)?;
        self.clock.last_ns = self.clock.last_ns.wrapping_add(past as u64);
        Ok(self.clock.last_ns)
    }

    #[inline]
    fn head(&mut self, payload: &[u8], of: RecordHeader) -> Result<RecordHeader, Malformed> {
        let boottime_ns = self.time(payload)?;
        let hook = self.place.fit(payload, "a hook")?;
        let cpu = self.place.fit(payload, "a CPU")?;
        let ahead = self.place.i(payload)?;
        let seq = self.clock.expected_seq(cpu);
        *seq = seq.wrapping_add(1).wrapping_add(ahead as u64);
        Ok(RecordHeader {
            boottime_ns,
            cpu_seq: *seq,
            hook,
            cpu,
            ..of
        })
    }

    fn task(&mut self, tag: u8, payload: &[u8]) -> Result<Item<'_>, Malformed> {
        let header = self.head(payload, TASK_HEADER)?;
        let tid = self.place.fit(payload, "a task id")?;
        let task = match tag {
            tag::BIRTH => {
                let parent = self.place.fit(payload, "a task id")?;
                let task = &mut self.slots.born(tid, parent).task;
                predict_birth(task, tid, header.boottime_ns);
                task
            }
            tag::SWEEP_TASK => {
                let Some(sweep_ns) = self.sweep_ns else {
                    return Err(self.place.malformed("a sweep's task outside of a sweep"));
                };
                self.sweep_hook = header.hook;
                if let Some(skipped) = self.slots.distance(tid) {
                    self.slots.skip(skipped + 1);
                }
                let task = &mut self.slots.swept(tid).task;
                predict_sweep(task, sweep_ns, header.hook);
                task
            }
            _ => {
                let task = &mut self.slots.entry(tid).task;
                predict_next(task);
                task
            }
        };
        task.header = header;
        take_words(&mut self.place, payload, task)?;
        // The slot's key must stay the one that it is found by.
        task.state.key.tid = tid;
        Ok(Item::Event(Event::Task(task)))
    }

    fn exec(&mut self, payload: &[u8]) -> Result<Item<'_>, Malformed> {
        let header = self.head(payload, EXEC_HEADER)?;
        let tid = self.place.fit(payload, "a task id")?;
        let slot: &mut ExecRecord = self.slots.entry(tid);
        predict_exec(&mut slot.task);
        slot.task.header = header;
        take_words(&mut self.place, payload, &mut slot.task)?;
        slot.task.state.key.tid = tid;
        let len: usize = self.place.fit(payload, "a file name")?;
        if let Some(len) = len.checked_sub(1) {
            if len > FILENAME_LEN {
                return Err(self.place.malformed("a file name is too long"));
            }
            slot.filename = blank().filename;
            for byte in &mut slot.filename[..len] {
                *byte = self.place.byte(payload)?;
            }
        }
        Ok(Item::Event(Event::Exec(slot)))
    }

    fn exit(&mut self, payload: &[u8]) -> Result<Item<'_>, Malformed> {
        let header = self.head(payload, EXIT_HEADER)?;
        let key = self.known_key(payload)?;
        self.exit = ExitRecord {
            header,
            key,
            exit_code: self.place.fit(payload, "an exit code")?,
            reserved: 0,
        };
        self.slots.remove(key.tid);
        Ok(Item::Event(Event::Exit(&self.exit)))
    }

    fn known_key(&mut self, payload: &[u8]) -> Result<TaskKey, Malformed> {
        let tid = self.place.fit(payload, "a task id")?;
        if self.place.byte(payload)? == 0 {
            return match self.slots.get(tid) {
                Some(slot) => Ok(slot.task.state.key),
                None => Err(self.place.malformed(format!("task {tid} is not known"))),
            };
        }
        Ok(TaskKey {
            tid,
            tgid: self.place.fit(payload, "a process id")?,
            start_boottime_ns: self.place.u(payload)?,
        })
    }

    fn cgroup(&mut self, payload: &[u8]) -> Result<Item<'_>, Malformed> {
        let header = self.head(payload, CGROUP_HEADER)?;
        let actor = self.known_key(payload)?;
        let id = self.place.u(payload)?;
        let parent_id = self.place.u(payload)?;
        let hierarchy = self.place.fit(payload, "a hierarchy")?;
        let op = self.place.fit(payload, "an operation")?;
        let path_len: u32 = self.place.fit(payload, "a path's length")?;
        let common: usize = self.place.fit(payload, "a path's common part")?;
        let rest = self.place.bytes(payload, CGROUP_PATH_LEN, "a path")?;
        let end = common + rest.len();
        let used = CGROUP_PATH_LEN.min(path_len as usize);
        if common > CGROUP_PATH_LEN || end != used {
            return Err(self.place.malformed("a path is not as long as it says"));
        }
        let mut path = self.cgroup.path;
        path[common..end].copy_from_slice(rest);
        path[end..].fill(0);
        self.cgroup = CgroupRecord {
            header,
            actor,
            id,
            parent_id,
            hierarchy,
            op,
            path_len,
            reserved: 0,
            path,
        };
        Ok(Item::Event(Event::Cgroup(&self.cgroup)))
    }

    fn act(&mut self, payload: &[u8]) -> Result<Item<'_>, Malformed> {
        let header = self.head(payload, ACT_HEADER)?;
        let actor = self.known_key(payload)?;
        let act = self.place.fit(payload, "an act")?;
        let target = self.known_key(payload)?;
        let object = self.file(payload)?;
        let syscall = self.signed(payload, "a system call")?;
        let result = self.signed(payload, "a result")?;
        let arg0 = self.place.u(payload)?;
        let arg1 = self.place.u(payload)?;
        let bytes = self.place.bytes(payload, ACT_NAME_LEN, "a name")?;
        let mut name = [0; ACT_NAME_LEN];
        name[..bytes.len()].copy_from_slice(bytes);
        self.act = ActRecord {
            header,
            actor,
            target,
            object,
            act,
            syscall,
            result,
            name_len: bytes.len() as u32,
            arg0,
            arg1,
            name,
        };
        Ok(Item::Event(Event::Act(&self.act)))
    }

    fn signed(&mut self, payload: &[u8], what: &'static str) -> Result<i32, Malformed> {
        let number = self.place.i(payload)?;
        i32::try_from(number).map_err(|_| self.place.malformed(format!("{what} is too large")))
    }

    fn file(&mut self, payload: &[u8]) -> Result<FileRef, Malformed> {
        if self.place.byte(payload)? == 0 {
            return Ok(FileRef::default());
        }
        Ok(FileRef {
            ino: self.place.u(payload)?,
            dev: self.place.fit(payload, "a device")?,
            mnt_ns_inum: self.place.fit(payload, "a mount namespace")?,
            mnt_id: self.place.fit(payload, "a mount id")?,
            mode: self.place.fit(payload, "a mode")?,
            rdev: self.place.fit(payload, "a device node")?,
            fs_magic: self.place.fit(payload, "a kind of file system")?,
            fs_owner_inum: self.place.fit(payload, "an owner")?,
            flags: self.place.fit(payload, "flags")?,
        })
    }

    /// The next unchanged task of a row.
    fn same(&mut self) -> Result<Item<'_>, Malformed> {
        let (Some(sweep_ns), Some(tid)) = (self.sweep_ns, self.slots.next_in_order()) else {
            self.row = 0;
            return Err(self.place.malformed("a row of a sweep has no tasks left"));
        };
        self.row = self.row.saturating_sub(1);
        let task = &mut self.slots.swept(tid).task;
        predict_sweep(task, sweep_ns, self.sweep_hook);
        Ok(Item::Event(Event::Task(task)))
    }
}

/// Applies what [`super::encode`] found to differ.
#[inline]
fn take_words(place: &mut Place, payload: &[u8], task: &mut TaskRecord) -> Result<(), Malformed> {
    let body = body_mut(task);
    let mut next = 0usize;
    loop {
        let passed: usize = place.fit(payload, "a number of words")?;
        let Some(passed) = passed.checked_sub(1) else {
            return Ok(());
        };
        let word = next.saturating_add(passed);
        if word >= WORDS {
            return Err(place.malformed("a difference lies behind the record's end"));
        }
        let difference = place.i(payload)? as u32;
        let at = word * WORD;
        if let Some(bytes) = body[at..].first_chunk_mut::<WORD>() {
            *bytes = u32::from_le_bytes(*bytes)
                .wrapping_add(difference)
                .to_le_bytes();
        }
        next = word + 1;
    }
}
