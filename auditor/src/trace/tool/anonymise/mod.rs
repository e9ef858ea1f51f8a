//! The same trace under other names, to be shown to somebody else.
//!
//! What a person or company chose goes: names of the node, containers, images, pods, labels, cgroups, commands, files,
//! roles. One name has one pseudonym ([`pseudonym`]), so that what belonged together still does, and a replay gives
//! the same findings about other names. What is a number stays: times, process and user ids, inode numbers, devices;
//! so does what says nothing about whose machine it is ([`allowed`]), and the kernel's release.
//!
//! What an entry holds is taken apart field by field: a new field of a record does not compile before it is decided
//! whether it is a name.

mod allowed;
mod answer;
mod cgroup;
mod file;
mod policy;
mod pseudonym;

pub use policy::Unfollowable;
pub use pseudonym::Pseudonyms;

use super::ToolError;
use crate::engine::{Event, LossMark};
use crate::model::fs;
use crate::model::policy::Policy;
use crate::trace::{Answer, Header, Item, TraceReader, TraceWriter};
use auditor_common::limits::COMM_LEN;
use auditor_common::record::{
    ActRecord, CgroupRecord, ExecRecord, TaskRecord, TaskState, act, kernel_str,
};
use hashbrown::HashMap;
use std::io::{self, Read, Write};

/// What becomes of the policies in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policies {
    /// They follow the names, or are refused.
    Follow,
    /// The default one stands for each.
    Drop,
}

/// Places of losses that are ours.
const PLACES: [&str; 5] = ["ring", "queue", "sink", "trace", LossMark::SKIPPED];
/// Reasons of an end that are ours.
const REASONS: [&str; 5] = ["signal", "duration", "exit_on", "hung_up", "cut"];
/// Command names whose pseudonyms are remembered.
const MAX_COMMANDS: usize = 1 << 16;

/// Writes a trace under other names.
///
/// # Errors
/// When the trace is damaged, the writer fails, or a policy cannot follow.
pub fn anonymise<R: Read, W: Write>(
    trace: &mut TraceReader<R>,
    names: &Pseudonyms,
    policies: Policies,
    out: W,
) -> Result<W, ToolError> {
    let mut other = Other {
        names,
        policies,
        commands: HashMap::new(),
    };
    let mut header = other.header(trace.header());
    let mut out = Some(out);
    let mut writer = None;
    while trace.more()? {
        let (kind, offset) = (trace.kind(), trace.frame_offset());
        let Some(item) = trace.next_item()? else {
            break;
        };
        if let (None, Item::Event(Event::Policy(policy))) = (&writer, &item) {
            // The first entry is the policy that the header has the digest of.
            header.policy_digest = other.policy(policy, offset)?.digest();
        }
        if let Some(out) = out.take() {
            writer = Some(TraceWriter::new(out, &header)?);
        }
        if let Some(writer) = &mut writer {
            writer.set_kind(kind)?;
            other.push(&item, offset, writer)?;
        }
    }
    let writer = match (writer, out) {
        (Some(writer), _) => writer,
        (None, Some(out)) => TraceWriter::new(out, &header)?,
        (None, None) => return Err(io::Error::other("the writer is gone").into()),
    };
    Ok(writer.finish_as(trace.ending())?)
}

struct Other<'a> {
    names: &'a Pseudonyms,
    policies: Policies,
    commands: HashMap<[u8; COMM_LEN], [u8; COMM_LEN]>,
}

impl Other<'_> {
    fn header(&self, header: &Header) -> Header {
        let mut other = header.clone();
        let Header {
            recording,
            part: _,
            continues: _,
            version: _,
            node,
            boot_id,
            kernel: _,
            arch: _,
            realtime_offset_ns: _,
            began_boottime_ns: _,
            tier: _,
            hooks: _,
            working: _,
            not_evaluated: _,
            hierarchies: _,
            heartbeat_ns: _,
            fold_ns: _,
            sweep_ns: _,
            ring_bytes: _,
            policy_digest,
        } = &mut other;
        let boot = self.names.id(boot_id.as_bytes());
        *recording = match recording.strip_prefix(boot_id.as_str()) {
            Some(start) if !boot_id.is_empty() => format!("{boot}{start}"),
            _ => self.names.word(recording.as_bytes()),
        };
        *boot_id = boot;
        self.names.text(node);
        *policy_digest = self
            .names
            .hex(policy_digest.as_bytes(), policy_digest.len());
        other
    }

    fn policy(&self, policy: &Policy, offset: u64) -> Result<Policy, ToolError> {
        match self.policies {
            Policies::Drop => Ok(Policy::default()),
            Policies::Follow => self.names.policy(policy).map_err(|e| ToolError::Refused {
                offset,
                what: e.to_string(),
            }),
        }
    }

    fn push<W: Write>(
        &mut self,
        item: &Item<'_>,
        offset: u64,
        out: &mut TraceWriter<W>,
    ) -> Result<(), ToolError> {
        match item {
            Item::Event(event) => return self.event(event, offset, out),
            Item::Answer(answer) => {
                let cgroup_path = self.names.cgroup_path(answer.cgroup_path.as_bytes());
                let other = answer.answer.map(|answer| self.names.answer(answer));
                out.push(&Item::Answer(Answer {
                    cgroup_path: &cgroup_path,
                    init_pid: answer.init_pid,
                    answer: other.as_ref(),
                }))?;
            }
            &Item::Stop {
                boottime_ns,
                reason,
            } => {
                let reason = &self.word_unless(&REASONS, reason);
                out.push(&Item::Stop {
                    boottime_ns,
                    reason,
                })?;
            }
        }
        Ok(())
    }

    fn event<W: Write>(
        &mut self,
        event: &Event<'_>,
        offset: u64,
        out: &mut TraceWriter<W>,
    ) -> Result<(), ToolError> {
        let pushed = match *event {
            Event::Task(record) => out.push(&Item::Event(Event::Task(&self.task(record)))),
            Event::Exec(record) => out.push(&Item::Event(Event::Exec(&self.exec(record)))),
            Event::Cgroup(record) => out.push(&Item::Event(Event::Cgroup(&self.cgroup(record)))),
            Event::Act(record) => out.push(&Item::Event(Event::Act(&self.act(record)))),
            Event::Looked(setup) => out.push(&Item::Event(Event::Looked(&self.names.setup(setup)))),
            Event::Restore(saved) => {
                out.push(&Item::Event(Event::Restore(&self.names.saved(saved))))
            }
            Event::Policy(policy) => {
                out.push(&Item::Event(Event::Policy(&self.policy(policy, offset)?)))
            }
            Event::Loss(mark) => out.push(&Item::Event(Event::Loss(&self.loss(mark)))),
            // Numbers only. An answer without its question stands in no trace.
            Event::Exit(_)
            | Event::SweepBegin { .. }
            | Event::SweepEnd { .. }
            | Event::Tick { .. }
            | Event::Answer { .. } => out.push(&Item::Event(*event)),
        };
        Ok(pushed?)
    }

    fn word_unless(&self, ours: &[&str], word: &str) -> String {
        match ours.contains(&word) {
            true => word.to_owned(),
            false => self.names.word(word.as_bytes()),
        }
    }

    fn loss(&self, mark: &LossMark) -> LossMark {
        let LossMark {
            boottime_ns,
            place,
            by_hook,
            by_cpu,
            count,
        } = mark;
        LossMark {
            boottime_ns: *boottime_ns,
            place: self.word_unless(&PLACES, place),
            by_hook: by_hook.clone(),
            by_cpu: by_cpu.clone(),
            count: *count,
        }
    }

    fn task(&mut self, record: &TaskRecord) -> TaskRecord {
        let mut other = *record;
        let TaskRecord {
            header: _,
            actor: _,
            cause: _,
            syscall: _,
            arg0: _,
            arg1: _,
            state:
                TaskState {
                    key: _,
                    parent: _,
                    ns: _,
                    cgroups: _,
                    creds: _,
                    root: _,
                    cwd: _,
                    comm,
                    known: _,
                    task_flags: _,
                    ns_tid: _,
                    pid_level: _,
                    pid_parent_inum: _,
                    user_level: _,
                    seccomp_mode: _,
                    seccomp_filters: _,
                },
        } = &mut other;
        *comm = self.command(*comm);
        other
    }

    fn command(&mut self, comm: [u8; COMM_LEN]) -> [u8; COMM_LEN] {
        if let Some(other) = self.commands.get(&comm) {
            return *other;
        }
        let other = padded(&self.names.command(kernel_str(&comm)), COMM_LEN - 1);
        if self.commands.len() >= MAX_COMMANDS {
            self.commands.clear();
        }
        self.commands.insert(comm, other);
        other
    }

    fn exec(&mut self, record: &ExecRecord) -> ExecRecord {
        let ExecRecord { task, filename } = record;
        let other = self.names.file_path(kernel_str(filename));
        ExecRecord {
            task: self.task(task),
            filename: padded(other.as_bytes(), filename.len()),
        }
    }

    fn act(&self, record: &ActRecord) -> ActRecord {
        let mut other = *record;
        let ActRecord {
            header: _,
            actor: _,
            target: _,
            object: _,
            act,
            syscall: _,
            result: _,
            name_len,
            arg0: _,
            arg1: _,
            name,
        } = &mut other;
        let hidden = match *act {
            // What the value of a kernel knob says is somebody's; which knob it is decides.
            act::SYSCTL => self.names.sysctl(record.name()),
            act::CONNECT | act::SEND => self.names.socket(record.name()),
            // The kernel's own word for a kind of file system.
            act::MOUNT_DEVICE => return other,
            _ if is_the_kernels(record.object.fs_magic) => return other,
            _ => self.names.components(record.name()),
        };
        *name = padded(&hidden, name.len());
        *name_len = hidden.len().min(name.len()) as u32;
        other
    }

    fn cgroup(&self, record: &CgroupRecord) -> CgroupRecord {
        let mut other = *record;
        let CgroupRecord {
            header: _,
            actor: _,
            id: _,
            parent_id: _,
            hierarchy: _,
            op: _,
            path_len,
            reserved: _,
            path,
        } = &mut other;
        let used = path.len().min(*path_len as usize);
        let name = self.names.cgroup_path(&path[..used]);
        *path = padded(name.as_bytes(), path.len());
        *path_len = name.len().min(path.len()) as u32;
        other
    }
}

/// Whether a file system holds what the kernel named: its names are everybody's.
const fn is_the_kernels(fs_magic: u32) -> bool {
    matches!(fs_magic, fs::PROC | fs::SYSFS)
}

/// As many bytes as fit, at most `most`, and zeros.
fn padded<const N: usize>(bytes: &[u8], most: usize) -> [u8; N] {
    let mut out = [0; N];
    for (to, from) in out.iter_mut().take(most).zip(bytes) {
        *to = *from;
    }
    out
}
