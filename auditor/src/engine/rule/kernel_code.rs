//! `kernel-code` (T10): a container's task hands code to the kernel, or opens a way deep into it: modules, kexec, bpf,
//! perf events, userfaultfd.
//!
//! A call that was refused breached nothing: it is told for the record. The security hooks do not know the outcome; there,
//! who lacks the capability that the call takes was refused.

use super::{Deed, Draft, DraftKind, name};
use crate::engine::world::World;
use crate::model::facts::HOST;
use crate::model::output::Evidence;
use crate::model::{Dimension, RuleId, Severity, Transition, Verdict, capability, text};
use auditor_common::record::{ActRecord, act};

/// What is loaded, as the kernel programs number it.
const MODULE: u64 = 1;
const KEXEC: u64 = 2;

/// `EPERM`, `EACCES`: refused for want of a privilege. Any other error comes after that question.
const REFUSALS: [i32; 2] = [-1, -13];

/// Commands of bpf(2), by number.
const COMMANDS: [&str; 38] = [
    "map create",
    "map lookup",
    "map update",
    "map delete",
    "map next key",
    "program load",
    "object pin",
    "object get",
    "program attach",
    "program detach",
    "program test run",
    "program next id",
    "map next id",
    "program by id",
    "map by id",
    "object info",
    "program query",
    "raw tracepoint open",
    "btf load",
    "btf by id",
    "task fd query",
    "map lookup and delete",
    "map freeze",
    "btf next id",
    "map lookup batch",
    "map lookup and delete batch",
    "map update batch",
    "map delete batch",
    "link create",
    "link update",
    "link by id",
    "link next id",
    "enable statistics",
    "iterator create",
    "link detach",
    "program bind map",
    "token create",
    "program stream read",
];
/// Commands that put something into the kernel or hook it: load, create, attach.
const CHANGING: [u64; 8] = [0, 5, 8, 10, 17, 28, 29, 36];

/// What one of these calls amounts to.
struct Reach {
    what: &'static str,
    detail: Option<String>,
    severity: Severity,
    /// One of these lets it.
    capabilities: &'static [&'static str],
}

/// Drafts the finding of one act; `call` is the name of the system call.
pub fn detect(deed: &Deed<'_>, call: Option<&str>, world: &World, out: &mut Vec<Draft>) {
    let record = deed.record;
    let Some(reach) = reach(record, call) else {
        return;
    };
    let refused = match record.act {
        act::KERNEL_CALL => REFUSALS.contains(&record.result),
        // These are asked only after the capability.
        act::KERNEL_LOAD => false,
        _ => !holds_any(deed, reach.capabilities),
    };
    let Reach {
        what,
        detail,
        severity,
        capabilities: _,
    } = reach;
    let named = detail
        .as_ref()
        .map_or_else(|| what.to_owned(), |detail| format!("{what} ({detail})"));
    let (kind, severity, verb) = match refused {
        true => (DraftKind::Audit, Severity::Low, "tried to use"),
        false => (DraftKind::Violation, severity, "used"),
    };
    out.push(Draft {
        kind,
        rule: RuleId::KernelCode,
        transition: Some(Transition::T10),
        dimension: Dimension::Kernel,
        severity,
        confidence: deed.confidence,
        subject: deed.label,
        object: HOST,
        object_id: text::stable_hash(named.as_bytes()) ^ u64::from(refused),
        by_iota: false,
        verdict: (!refused).then_some(Verdict::Violated),
        expected: None,
        observed: Some(Evidence::Kernel {
            what: what.to_owned(),
            detail: match refused {
                true => Some(detail.map_or_else(
                    || "refused".to_owned(),
                    |detail| format!("{detail}, refused"),
                )),
                false => detail,
            },
        }),
        message: format!("{} {verb} {named}", name(world, deed.label)),
    });
}

fn reach(record: &ActRecord, call: Option<&str>) -> Option<Reach> {
    let of = |what, severity, capabilities| {
        Some(Reach {
            what,
            detail: None,
            severity,
            capabilities,
        })
    };
    match (record.act, call) {
        (act::BPF, _) | (act::KERNEL_CALL, Some("bpf")) => Some(bpf(record.arg0)),
        (act::PERF, _) | (act::KERNEL_CALL, Some("perf_event_open")) => {
            of("perf", Severity::Medium, &["PERFMON", "SYS_ADMIN"])
        }
        (act::USERFAULTFD, _) | (act::KERNEL_CALL, Some("userfaultfd")) => {
            of("userfaultfd", Severity::Low, &["SYS_PTRACE"])
        }
        (act::KERNEL_LOAD, _) if record.arg0 == MODULE => {
            let path = text::file_path(record.name());
            Some(Reach {
                what: "module",
                detail: (!path.is_empty()).then_some(path),
                severity: Severity::Critical,
                capabilities: &["SYS_MODULE"],
            })
        }
        (act::KERNEL_LOAD, _) if record.arg0 == KEXEC => {
            of("kexec", Severity::Critical, &["SYS_BOOT"])
        }
        (act::KERNEL_CALL, Some("init_module" | "finit_module")) => {
            of("module", Severity::Critical, &["SYS_MODULE"])
        }
        (act::KERNEL_CALL, Some("kexec_load" | "kexec_file_load")) => {
            of("kexec", Severity::Critical, &["SYS_BOOT"])
        }
        _ => None,
    }
}

fn bpf(command: u64) -> Reach {
    let name = usize::try_from(command)
        .ok()
        .and_then(|command| COMMANDS.get(command));
    Reach {
        what: "bpf",
        detail: Some(name.map_or_else(|| format!("command {command}"), |name| (*name).to_owned())),
        severity: if CHANGING.contains(&command) {
            Severity::High
        } else {
            Severity::Low
        },
        capabilities: &["BPF", "SYS_ADMIN"],
    }
}

/// Whether the acting task has one of these capabilities over the machine.
fn holds_any(deed: &Deed<'_>, capabilities: &[&str]) -> bool {
    let held = capability::names(deed.state.creds.cap_effective);
    deed.state.user_level == 0 && capabilities.iter().any(|c| held.contains(c))
}
