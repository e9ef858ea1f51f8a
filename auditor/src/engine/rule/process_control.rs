//! `process-control` (T9): a container's task reaches into a process of somebody else: it signals it, traces it,
//! reads its memory, takes its descriptors, or changes its limits.
//!
//! An attempt that the kernel refused broke nothing: it is for the record, and changes no verdict.

use super::{Deed, Draft, DraftKind, name, possessive};
use crate::engine::world::{START_TOLERANCE_NS, Task, World};
use crate::model::facts::{EntityId, HOST};
use crate::model::isolation::IsolationIndex;
use crate::model::output::Evidence;
use crate::model::{Dimension, NsKind, RuleId, Severity, Transition, Verdict, text};
use auditor_common::hook;
use auditor_common::record::{TaskKey, act, kernel_str, ns};

/// Bit of a mode of access: not only to read (`PTRACE_MODE_ATTACH`).
const MODE_ATTACH: u64 = 0x2;

/// Where numbers of signals begin.
const SIGNALS: u64 = 0x80;
/// Number of what only reads.
const READ: u64 = 8;

/// Whom an act was on.
struct Target<'a> {
    key: TaskKey,
    task: Option<&'a Task>,
    owner: EntityId,
}

/// What was done, in a word, how bad that is, and a number of the word for folding.
struct Access {
    word: String,
    severity: Severity,
    number: u64,
}

/// Drafts a finding when the target is neither the actor's own container nor nested in it.
pub fn detect(deed: &Deed<'_>, world: &World, index: &IsolationIndex, out: &mut Vec<Draft>) {
    let record = deed.record;
    let Some(target) = target(deed, world) else {
        return;
    };
    let (key, object) = (target.key, target.owner);
    if key.tgid == record.actor.tgid || object != HOST && world.contains(deed.label, object) {
        return;
    }
    // Somebody of the host that came into the container is seen there, as the container's own tasks are.
    let came_in = target.task.and_then(|task| task.entered);
    if record.act != act::SIGNAL && came_in.is_some_and(|into| world.contains(deed.label, into)) {
        return;
    }
    let Some(Access {
        word,
        severity,
        number,
    }) = access(deed)
    else {
        return;
    };
    if number == READ && may_see(index, deed.label, object) {
        return;
    }
    let refused = record.result < 0;
    let tried = if refused { "tried to reach" } else { "reached" };
    out.push(Draft {
        kind: if refused {
            DraftKind::Audit
        } else {
            DraftKind::Violation
        },
        rule: RuleId::ProcessControl,
        transition: Some(Transition::T9),
        dimension: Dimension::Processes,
        severity: if refused { Severity::Medium } else { severity },
        confidence: deed.confidence,
        subject: deed.label,
        object,
        object_id: (u64::from(key.tgid) << 32)
            ^ (key.start_boottime_ns / START_TOLERANCE_NS)
            ^ (number << 56),
        by_iota: false,
        verdict: (!refused).then_some(Verdict::Violated),
        expected: None,
        observed: Some(Evidence::Task {
            pid: key.tgid,
            tid: (key.tid != key.tgid).then_some(key.tid),
            start_boottime_ns: key.start_boottime_ns,
            comm: target
                .task
                .map(|task| text::escape(kernel_str(&task.state.comm))),
            access: word.clone(),
            refused: refused.then(|| reason(record.result)),
        }),
        message: format!(
            "{} {tried} into {} process {}: {word}",
            name(world, deed.label),
            possessive(world, object),
            key.tgid
        ),
    });
}

/// Whether two were put into one pid namespace on purpose, as containers of a pod are: they were to see each other's
/// processes, which `ps` and its like read.
fn may_see(index: &IsolationIndex, a: EntityId, b: EntityId) -> bool {
    let pair = index.pair(a, b);
    let pid = pair.dimension(Dimension::Pid);
    b != HOST && pid.is_some_and(|pid| pid.verdict == Verdict::DeclaredShared)
}

/// Whom the act was on; `None` where that is nobody else's business.
fn target<'a>(deed: &Deed<'_>, world: &'a World) -> Option<Target<'a>> {
    let record = deed.record;
    let named = record.act != act::SIGNAL && record.arg1 == act::AS_NAMED;
    let own = world.ns.by_inum(NsKind::Pid, deed.state.ns[ns::PID].inum);
    let inside = own.filter(|id| named && world.ns.get(*id).is_some_and(|ns| !ns.initial));
    let task = if let Some(id) = inside {
        // What is seen from a pid namespace lives in it, or below: a number that is nobody's there is nested.
        let inum = deed.state.ns[ns::PID].inum;
        let members = world.members(id);
        let is_meant = |tid: &&u32| {
            let state = world.tasks.get(*tid).map(|task| &task.state);
            state.is_some_and(|s| s.ns_tid == record.target.tid && s.ns[ns::PID].inum == inum)
        };
        Some(world.tasks.get(members.iter().filter(is_meant).min()?)?)
    } else if record.target.start_boottime_ns == 0 {
        world.tasks.get(&record.target.tid)
    } else {
        return Some(Target {
            key: record.target,
            task: world.task(&record.target),
            owner: world.owner(&record.target),
        });
    };
    let task = task.map(AsRef::as_ref);
    Some(match task {
        Some(task) => Target {
            key: task.state.key,
            task: Some(task),
            owner: task.label,
        },
        // Seen by nobody: no container's.
        None => Target {
            key: TaskKey {
                tgid: record.target.tid,
                ..record.target
            },
            task: None,
            owner: HOST,
        },
    })
}

/// What was done.
fn access(deed: &Deed<'_>) -> Option<Access> {
    let record = deed.record;
    let of = |word: &str, severity, number| {
        Some(Access {
            word: word.to_owned(),
            severity,
            number,
        })
    };
    match record.act {
        // No signal stands for another one.
        act::SIGNAL => of(
            &format!("signal {}", record.arg0),
            Severity::High,
            SIGNALS | record.arg0 & 0x7f,
        ),
        act::CONTROL => match (record.header.hook, deed.syscall) {
            (hook::TASK_PRLIMIT, _) | (_, Some("prlimit64" | "setrlimit")) => {
                of("limits", Severity::High, 1)
            }
            (hook::TASK_SETNICE, _) | (_, Some("setpriority")) => of("priority", Severity::High, 9),
            (hook::TASK_SETIOPRIO, _) | (_, Some("ioprio_set")) => {
                of("io-priority", Severity::High, 10)
            }
            _ => of("scheduling", Severity::High, 2),
        },
        act::ACCESS => {
            let attach = record.arg0 & MODE_ATTACH != 0;
            let severity = if attach {
                Severity::Critical
            } else {
                Severity::High
            };
            match deed.syscall {
                Some("process_vm_readv" | "process_vm_writev") => of("memory", severity, 3),
                Some("process_madvise" | "move_pages" | "migrate_pages") => {
                    of("memory", severity, 4)
                }
                Some("pidfd_getfd") => of("descriptor", severity, 5),
                Some("kcmp") => of("compare", severity, 6),
                _ if attach => of("attach", severity, 7),
                _ => of("read", severity, READ),
            }
        }
        _ => None,
    }
}

/// Why the kernel refused.
fn reason(result: i32) -> String {
    match result {
        -1 => "operation not permitted".to_owned(),
        -13 => "permission denied".to_owned(),
        other => format!("error {}", other.unsigned_abs()),
    }
}
