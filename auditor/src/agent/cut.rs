//! A piece of a trace, as a trace of its own.
//!
//! An engine follows the trace up to the first complete sweep of the piece. There it knows what a prologue says of a
//! moment: policy, names, labels. Prologue, then the stream from that sweep on: what the recorder writes when it begins
//! a part, so who replays the piece starts as a watch does that is started again at that moment. What was violated
//! already is told at its start; a fold or a name that the piece does not hold is not known.

use super::record::known::Known;
use super::replay::Replay;
use crate::engine::{Event, Saved};
use crate::inventory::container::ContainerAnswer;
use crate::model::policy::Policy;
use crate::model::setup::SetUp;
use crate::trace::frame::Kind;
use crate::trace::limits::SLOTS;
use crate::trace::tool::ToolError;
use crate::trace::{Answer, Header, Item, TraceError, TraceReader, TraceWriter};
use auditor_common::hook;
use auditor_common::limits::CGROUP_PATH_LEN;
use auditor_common::record::{
    CgroupRecord, RecordHeader, TaskKey, TaskRecord, cause, cgroup_op, kind,
};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};

/// Cgroups that a prologue lists.
const MAX_CGROUPS: usize = 1 << 18;
/// Reason of the end of a piece that goes to a time before the trace's own end.
pub const REASON: &str = "cut";

/// Which piece; nanoseconds since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stretch {
    /// From the first complete sweep that begins then or later; from the trace's start when absent.
    pub since_ns: Option<u64>,
    /// Up to the last entry before the first one that is later; to the trace's end when absent.
    pub until_ns: Option<u64>,
}

/// What was cut out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it begins, nanoseconds since boot.
    pub began_ns: u64,
    /// Its last time.
    pub ended_ns: u64,
    /// Items behind the prologue.
    pub items: u64,
}

/// Why there is no piece.
#[derive(Debug, thiserror::Error)]
pub enum CutError {
    /// Reading or writing.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// Nowhere to begin.
    #[error("no complete sweep begins at or after that time: there is nothing to begin with")]
    NoSweep,
}

impl From<TraceError> for CutError {
    fn from(error: TraceError) -> Self {
        Self::Tool(error.into())
    }
}

impl From<io::Error> for CutError {
    fn from(error: io::Error) -> Self {
        Self::Tool(error.into())
    }
}

/// Writes a piece of a trace as a trace.
///
/// # Errors
/// When the trace is damaged, the writer fails, or there is nowhere to begin.
pub fn cut<R: Read, W: Write>(
    trace: &mut TraceReader<R>,
    stretch: &Stretch,
    out: W,
) -> Result<Piece, CutError> {
    let header = trace.header().clone();
    let since_ns = stretch.since_ns.unwrap_or(0);
    if since_ns <= header.began_boottime_ns {
        let header = named(
            &header,
            header.began_boottime_ns,
            header.policy_digest.clone(),
        );
        return Copy::new(&header, stretch, out)?.rest(trace);
    }
    let start = find(trace, since_ns)?;
    let header = named(&header, start.began_ns, start.policy.digest());
    let mut copy = Copy::new(&header, stretch, out)?;
    start.prologue(&mut copy.out)?;
    start.sweep(|item| copy.push(item))?;
    copy.rest(trace)
}

/// The header of a piece. It is no part of the recording any more.
fn named(header: &Header, began_ns: u64, policy_digest: String) -> Header {
    Header {
        recording: format!("{}-{REASON}-{began_ns:x}", header.recording),
        part: 0,
        continues: false,
        began_boottime_ns: began_ns,
        policy_digest,
        ..header.clone()
    }
}

/// Follows a trace up to the end of the sweep that a piece begins with.
fn find<R: Read>(trace: &mut TraceReader<R>, since_ns: u64) -> Result<Start, CutError> {
    let mut replay = Replay::new(trace.header(), None);
    let (mut known, mut cgroups) = (Known::default(), Cgroups::default());
    let mut records = Vec::new();
    // The first sweep only makes the engine know who is who.
    let mut knows = false;
    let mut start: Option<Start> = None;
    while let Some(item) = trace.next_item()? {
        replay.take(&item, &mut records);
        records.clear();
        known.note(&item);
        cgroups.note(&item);
        match &item {
            Item::Event(Event::SweepBegin { boottime_ns }) => {
                let begins = knows && *boottime_ns >= since_ns;
                start = begins.then(|| Start::new(*boottime_ns, &replay));
            }
            Item::Event(Event::SweepEnd {
                boottime_ns,
                complete,
            }) => {
                knows = true;
                if let Some(start) = start.take().filter(|_| *complete) {
                    return Ok(Start {
                        ended_ns: *boottime_ns,
                        known,
                        cgroups,
                        ..start
                    });
                }
            }
            // What is no sweep as the recorder writes it cannot stand in a prologue.
            item => start = start.and_then(|start| start.with(item)),
        }
    }
    Err(CutError::NoSweep)
}

/// Cgroups that are there: paths by hierarchy and id.
#[derive(Debug, Default)]
struct Cgroups(BTreeMap<(u32, u64), Box<[u8]>>);

impl Cgroups {
    fn note(&mut self, item: &Item<'_>) {
        let Item::Event(Event::Cgroup(record)) = item else {
            return;
        };
        let key = (record.hierarchy, record.id);
        match record.op {
            cgroup_op::MKDIR | cgroup_op::WALK
                if self.0.len() < MAX_CGROUPS || self.0.contains_key(&key) =>
            {
                let used = record.path.len().min(record.path_len as usize);
                self.0.insert(key, record.path[..used].into());
            }
            cgroup_op::RMDIR | cgroup_op::RELEASE => {
                self.0.remove(&key);
            }
            _ => {}
        }
    }
}

/// One thing in a sweep.
#[derive(Debug)]
enum Swept {
    Task(Box<TaskRecord>),
    Answer(String, Option<u32>, Option<Box<ContainerAnswer>>),
}

/// The sweep that a piece begins with, and what was known before it.
#[derive(Debug)]
struct Start {
    began_ns: u64,
    ended_ns: u64,
    policy: Policy,
    saved: Saved,
    set_ups: Vec<SetUp>,
    known: Known,
    cgroups: Cgroups,
    swept: Vec<Swept>,
}

impl Start {
    fn new(began_ns: u64, replay: &Replay) -> Self {
        Self {
            began_ns,
            ended_ns: began_ns,
            policy: replay.engine().index().policy().clone(),
            saved: replay.engine().saved(),
            set_ups: replay.engine().set_ups(),
            known: Known::default(),
            cgroups: Cgroups::default(),
            swept: Vec::new(),
        }
    }

    /// With the next item of the sweep; `None` when that cannot be in one.
    fn with(mut self, item: &Item<'_>) -> Option<Self> {
        if self.swept.len() >= SLOTS {
            return None;
        }
        self.swept.push(match item {
            Item::Event(Event::Task(record)) if record.cause == cause::SNAPSHOT => {
                Swept::Task(Box::new(**record))
            }
            Item::Answer(answer) => Swept::Answer(
                answer.cgroup_path.to_owned(),
                answer.init_pid,
                answer.answer.cloned().map(Box::new),
            ),
            _ => return None,
        });
        Some(self)
    }

    /// What the recorder writes at the beginning of a part.
    fn prologue<W: Write>(&self, out: &mut TraceWriter<W>) -> io::Result<()> {
        out.set_kind(Kind::Prologue)?;
        out.push(&Item::Event(Event::Policy(&self.policy)))?;
        for answer in self.known.answers() {
            out.push(&Item::Answer(answer))?;
        }
        out.push(&Item::Event(Event::Restore(&self.saved)))?;
        for setup in &self.set_ups {
            out.push(&Item::Event(Event::Looked(setup)))?;
        }
        for (&key, path) in &self.cgroups.0 {
            let record = found(self.began_ns, key, path);
            out.push(&Item::Event(Event::Cgroup(&record)))?;
        }
        let boottime_ns = self.began_ns;
        out.push(&Item::Event(Event::SweepBegin { boottime_ns }))?;
        for swept in &self.swept {
            if let Swept::Task(record) = swept {
                out.push(&Item::Event(Event::Task(record)))?;
            }
        }
        let complete = true;
        out.push(&Item::Event(Event::SweepEnd {
            boottime_ns,
            complete,
        }))?;
        out.set_kind(Kind::Events)
    }

    /// The sweep itself, as it stood in the trace.
    fn sweep(&self, mut push: impl FnMut(&Item<'_>) -> io::Result<()>) -> io::Result<()> {
        push(&Item::Event(Event::SweepBegin {
            boottime_ns: self.began_ns,
        }))?;
        for swept in &self.swept {
            push(&match swept {
                Swept::Task(record) => Item::Event(Event::Task(record)),
                Swept::Answer(cgroup_path, init_pid, answer) => Item::Answer(Answer {
                    cgroup_path,
                    init_pid: *init_pid,
                    answer: answer.as_deref(),
                }),
            })?;
        }
        push(&Item::Event(Event::SweepEnd {
            boottime_ns: self.ended_ns,
            complete: true,
        }))
    }
}

/// A cgroup as a walk of cgroupfs finds it.
pub(super) fn found(boottime_ns: u64, (hierarchy, id): (u32, u64), path: &[u8]) -> CgroupRecord {
    let mut record = CgroupRecord {
        header: RecordHeader {
            boottime_ns,
            cpu_seq: 0,
            kind: kind::CGROUP,
            hook: hook::CGROUPFS,
            cpu: 0,
            size: size_of::<CgroupRecord>() as u16,
        },
        actor: TaskKey::default(),
        id,
        parent_id: 0,
        hierarchy,
        op: cgroup_op::WALK,
        path_len: path.len() as u32,
        reserved: 0,
        path: [0; CGROUP_PATH_LEN],
    };
    for (byte, from) in record.path.iter_mut().zip(path) {
        *byte = *from;
    }
    record
}

/// Copies items until the piece is over.
struct Copy<W> {
    out: TraceWriter<W>,
    until_ns: u64,
    piece: Piece,
    sweeping: bool,
}

impl<W: Write> Copy<W> {
    fn new(header: &Header, stretch: &Stretch, out: W) -> Result<Self, CutError> {
        Ok(Self {
            out: TraceWriter::new(out, header)?,
            until_ns: stretch.until_ns.unwrap_or(u64::MAX),
            piece: Piece {
                began_ns: header.began_boottime_ns,
                ended_ns: header.began_boottime_ns,
                items: 0,
            },
            sweeping: false,
        })
    }

    fn push(&mut self, item: &Item<'_>) -> io::Result<()> {
        match item {
            Item::Event(Event::SweepBegin { .. }) => self.sweeping = true,
            Item::Event(Event::SweepEnd { .. }) => self.sweeping = false,
            _ => {}
        }
        let at = item.boottime_ns().unwrap_or(0);
        self.piece.ended_ns = self.piece.ended_ns.max(at);
        self.piece.items += 1;
        self.out.push(item)
    }

    /// Copies what is left of the trace, or of the piece.
    fn rest<R: Read>(mut self, trace: &mut TraceReader<R>) -> Result<Piece, CutError> {
        while trace.more()? {
            let kind = trace.kind();
            let Some(item) = trace.next_item()? else {
                break;
            };
            let is_later = item.boottime_ns().is_some_and(|at| at > self.until_ns);
            if is_later && !self.sweeping && kind == Kind::Events {
                return self.stop();
            }
            self.out.set_kind(kind)?;
            if kind == Kind::Prologue {
                self.out.push(&item)?;
            } else {
                self.push(&item)?;
            }
        }
        self.out.finish_as(trace.ending())?;
        Ok(self.piece)
    }

    /// Ends the piece in order, so that a replay tells what still waits to be told.
    fn stop(mut self) -> Result<Piece, CutError> {
        let boottime_ns = self.piece.ended_ns;
        self.out.push(&Item::Stop {
            boottime_ns,
            reason: REASON,
        })?;
        self.out.finish()?;
        Ok(self.piece)
    }
}
