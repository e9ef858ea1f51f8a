//! Items as differences from what both sides know already.
//!
//! Encoder and decoder keep the same [`slots::Slots`]: the last state of every task. A record is stored as
//! the 32-bit words in which it differs from what its task's last state predicts; a birth from its parent's;
//! a sweep, where nearly every task is as predicted, as the lengths of the rows that are. So a kernel record
//! of 552 bytes takes about twenty before compression. `docs/trace-format.md` gives every entry.

mod decode;
mod encode;
mod slots;

pub use decode::Decoder;
pub use encode::{Encoder, TooLong};

use auditor_common::record::{
    ActRecord, CgroupRecord, ExecRecord, ExitRecord, RecordHeader, TaskRecord, cause, kind,
};
use zerocopy::IntoBytes;

/// First byte of an entry.
mod tag {
    pub(super) const BIRTH: u8 = 1;
    pub(super) const TASK: u8 = 2;
    pub(super) const EXEC: u8 = 3;
    pub(super) const EXIT: u8 = 4;
    pub(super) const CGROUP: u8 = 5;
    pub(super) const ACT: u8 = 6;
    pub(super) const SWEEP_BEGIN: u8 = 16;
    pub(super) const SWEEP_SAME: u8 = 17;
    pub(super) const SWEEP_TASK: u8 = 18;
    pub(super) const SWEEP_END: u8 = 19;
    pub(super) const ANSWER: u8 = 32;
    pub(super) const RESTORE: u8 = 33;
    pub(super) const POLICY: u8 = 34;
    pub(super) const LOSS: u8 = 35;
    pub(super) const TICK: u8 = 36;
    pub(super) const STOP: u8 = 37;
    pub(super) const LOOKED: u8 = 38;
}

/// Bytes of a task record that are coded as words: all but its header.
const BODY_AT: usize = size_of::<RecordHeader>();
const WORD: usize = size_of::<u32>();
const WORDS: usize = (size_of::<TaskRecord>() - BODY_AT) / WORD;

/// The times and numbers that the next record's header is predicted from.
#[derive(Debug, Default)]
struct Clock {
    last_ns: u64,
    /// Last number per CPU.
    seqs: Vec<u64>,
}

impl Clock {
    fn expected_seq(&mut self, cpu: u16) -> &mut u64 {
        let cpu = usize::from(cpu);
        if self.seqs.len() <= cpu {
            self.seqs.resize(cpu + 1, 0);
        }
        &mut self.seqs[cpu]
    }
}

/// A record that says nothing.
fn blank() -> ExecRecord {
    zerocopy::FromZeros::new_zeroed()
}

const fn header(kind: u16, size: usize) -> RecordHeader {
    RecordHeader {
        boottime_ns: 0,
        cpu_seq: 0,
        kind,
        hook: 0,
        cpu: 0,
        size: size as u16,
    }
}

const TASK_HEADER: RecordHeader = header(kind::TASK, size_of::<TaskRecord>());
const EXEC_HEADER: RecordHeader = header(kind::EXEC, size_of::<ExecRecord>());
const EXIT_HEADER: RecordHeader = header(kind::EXIT, size_of::<ExitRecord>());
const CGROUP_HEADER: RecordHeader = header(kind::CGROUP, size_of::<CgroupRecord>());
const ACT_HEADER: RecordHeader = header(kind::ACT, size_of::<ActRecord>());

/// Makes of a task's last record what its next one is predicted to be.
fn predict_next(task: &mut TaskRecord) {
    task.actor = task.state.key;
}

/// As [`predict_next`], for an exec.
fn predict_exec(task: &mut TaskRecord) {
    predict_next(task);
    task.cause = cause::EXEC;
}

/// Makes of a parent's last record what a child's first one is predicted to be.
fn predict_birth(task: &mut TaskRecord, tid: u32, boottime_ns: u64) {
    let parent = task.state.key;
    task.actor = parent;
    task.cause = cause::FORK;
    task.state.parent = parent;
    task.state.key.tid = tid;
    task.state.key.tgid = tid;
    task.state.key.start_boottime_ns = boottime_ns;
}

/// Makes of a task's last record what a sweep is predicted to show.
fn predict_sweep(task: &mut TaskRecord, sweep_ns: u64, hook: u16) {
    task.header = RecordHeader {
        boottime_ns: sweep_ns,
        hook,
        ..TASK_HEADER
    };
    predict_next(task);
    task.cause = cause::SNAPSHOT;
    task.syscall = -1;
    task.arg0 = 0;
    task.arg1 = 0;
}

fn body(task: &TaskRecord) -> &[u8] {
    &task.as_bytes()[BODY_AT..]
}

fn body_mut(task: &mut TaskRecord) -> &mut [u8] {
    &mut task.as_mut_bytes()[BODY_AT..]
}

/// Sets one word of what is coded as words.
#[cfg(test)]
pub(super) fn set_word(task: &mut TaskRecord, word: usize, value: u32) {
    body_mut(task)[word * WORD..][..WORD].copy_from_slice(&value.to_le_bytes());
}
