//! `page-cache-prestep` (T12): a container's task does what attacks on the page cache and on kernel memory begin with: it
//! makes a socket of the kernel's crypto or IPsec, splices into one of its crypto, or makes a user and a network namespace
//! of its own at once, with which it reaches kernel code that is closed to it otherwise.
//!
//! A step before, never a proof: ordinary programs do it too. It is told for the record.

use super::{Change, Deed, Draft, DraftKind, name};
use crate::engine::world::World;
use crate::model::facts::{EntityId, HOST};
use crate::model::output::Evidence;
use crate::model::{Confidence, Dimension, NsKind, RuleId, Severity, Transition};
use auditor_common::record::act;

/// Families of sockets (`include/linux/socket.h`).
const KEY: u64 = 15;
const NETLINK: u64 = 16;
const ALG: u64 = 38;

/// Tells what is spliced apart from the socket that it is spliced into.
const SPLICED: u64 = 1 << 32;

/// Drafts the line of a socket, or of what is spliced into one.
pub fn detect_socket(deed: &Deed<'_>, world: &World, out: &mut Vec<Draft>) {
    let what = match deed.record.arg0 {
        ALG => "crypto socket",
        KEY | NETLINK => "IPsec socket",
        _ => return,
    };
    let id = deed.record.arg0;
    if deed.record.act != act::SPLICE {
        out.push(draft(world, deed.label, what, id, deed.confidence));
        return;
    }
    out.push(Draft {
        observed: Some(Evidence::Kernel {
            what: what.to_owned(),
            detail: Some("splice".to_owned()),
        }),
        message: format!("{} spliced into a {what}", name(world, deed.label)),
        ..draft(world, deed.label, what, id | SPLICED, deed.confidence)
    });
}

/// Drafts the line of a task that got a fresh user and a fresh network namespace in one go.
pub fn detect_namespaces(change: &Change<'_>, world: &World, out: &mut Vec<Draft>) {
    let both = change.is_fresh(NsKind::User) && change.is_fresh(NsKind::Net);
    if change.label != HOST && change.label_before == change.label && both {
        let what = "user and network namespace";
        out.push(draft(world, change.label, what, 0, change.confidence));
    }
}

fn draft(
    world: &World,
    subject: EntityId,
    what: &str,
    object_id: u64,
    confidence: Confidence,
) -> Draft {
    Draft {
        kind: DraftKind::Audit,
        rule: RuleId::PageCachePrestep,
        transition: Some(Transition::T12),
        dimension: Dimension::Kernel,
        severity: Severity::Low,
        confidence,
        subject,
        object: HOST,
        object_id,
        by_iota: false,
        verdict: None,
        expected: None,
        observed: Some(Evidence::Kernel {
            what: what.to_owned(),
            detail: None,
        }),
        message: format!("{} made a {what} of its own", name(world, subject)),
    }
}
