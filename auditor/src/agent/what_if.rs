//! What would be different if containers had less, or something of their own: the captured state with that changed, told
//! to a new engine.
//!
//! Both sides of a comparison are played anew from one capture, so that nothing differs but what is supposed.

use super::capture::Capture;
use super::once::{report, scan_pair};
use crate::engine::Engine;
use crate::model::facts::{EntityId, Origin};
use crate::model::isolation::MatrixPair;
use crate::model::kinds::{NsKind, Tier};
use crate::model::layers::of_the_machine;
use crate::model::privileges::{Account, Granted};
use crate::model::setup::{Mount, is_below};
use crate::model::what_if::{Change, Supposition};
use crate::report::pair::{NameError, find};
use crate::report::scan::{ScanPair, ScanReport};
use crate::report::what_if::{WhatIfReport, WhatIfUse, compare};
use auditor_common::hook;
use auditor_common::record::{NsRef, TaskState, ns, task_flags};
use std::collections::BTreeSet;

/// Ids that a user namespace of its own maps.
const ID_RANGE: u32 = 1 << 16;

/// `IPC_LOCK`, `SYS_TIME`, `SYS_TTY_CONFIG`, `PERFMON`, `BPF`: good for nothing in a user namespace of one's own but for what few
/// do there (a token for bpf, a time namespace). Who uses them may well miss them.
const HARDLY: u64 = 1 << 14 | 1 << 25 | 1 << 26 | 1 << 38 | 1 << 39;
/// `NET_BIND_SERVICE`, `NET_BROADCAST`, `NET_ADMIN`, `NET_RAW`: asked over the owner of a network namespace.
const NETWORK: u64 = 0xf << 10;

/// Whom a supposition concerns.
struct Whom {
    /// Stable id.
    key: String,
    /// Threads of it.
    threads: BTreeSet<u32>,
    /// Its namespaces at its start, by slot.
    ns: Vec<u32>,
}

/// Compares what is with what would be.
///
/// # Errors
/// When a supposition names nobody, several, or the host.
pub fn suppose(
    engine: &Engine,
    suppositions: &[Supposition],
    boottime_ns: u64,
) -> Result<WhatIfReport, NameError> {
    let capture = Capture::of(engine, boottime_ns);
    let mut supposed = capture.clone();
    let scan = report(engine, boottime_ns);
    let (mut said, mut concerned) = (Vec::new(), BTreeSet::new());
    let mut uses = watched(engine).then(Vec::new);
    for Supposition { change, entity } in suppositions {
        let found = find(&scan, entity)?;
        let ids = engine.world().entities.keys().copied();
        let id = ids.into_iter().find(|id| engine.party(*id).id == found.id);
        let whom = id.and_then(|id| whom(engine, id, &found.id));
        let whom = whom.ok_or_else(|| NameError::Host(entity.clone()))?;
        apply(&mut supposed, change, &whom);
        concerned.insert(found.id.clone());
        said.push(format!("{} {change}", scan.name_of(&found.id)));
        if let Some(uses) = &mut uses {
            uses.extend(would_break(engine, change, &whom));
        }
    }
    let (was, would_be) = (capture.play(), supposed.play());
    let (before, after) = (report(&was, boottime_ns), report(&would_be, boottime_ns));
    let both = |(a, b)| Some((whole(&was, a, b)?, whole(&would_be, a, b)?));
    let touched = touched(&concerned, &before, &after).into_iter();
    let pairs: Vec<(ScanPair, ScanPair)> = touched.filter_map(both).collect();
    let may_miss = may_miss(suppositions, uses.is_some());
    Ok(WhatIfReport {
        would_break: uses,
        may_miss,
        ..compare(said, &pairs, &before, after)
    })
}

/// Pairs that may differ: those that a scan lists, and those of whom something is supposed.
fn touched<'r>(
    concerned: &'r BTreeSet<String>,
    before: &'r ScanReport,
    after: &'r ScanReport,
) -> BTreeSet<(&'r str, &'r str)> {
    let listed = before.pairs.iter().chain(&after.pairs);
    let listed = listed.map(|p| (p.a.as_str(), p.b.as_str()));
    let everybody = || before.entities.iter().map(|entity| entity.id.as_str());
    let pair = |a: &'r str, b: &'r str| (a != b).then(|| (a.min(b), a.max(b)));
    let of = |a: &'r String| everybody().filter_map(move |b| pair(a, b));
    listed.chain(concerned.iter().flat_map(of)).collect()
}

/// All that is to be said of a pair. What a scan lists leaves out what many share, and pairs that share nothing else.
fn whole(engine: &Engine, a: &str, b: &str) -> Option<ScanPair> {
    let id = |key: &str| {
        let mut ids = engine.world().entities.keys().copied();
        ids.find(|id| engine.party(*id).id == key)
    };
    let (a, b) = (id(a)?, id(b)?);
    let pair = engine.index().pair(a, b);
    Some(scan_pair(engine, &MatrixPair { a, b, pair }))
}

/// Whether uses of capabilities were seen.
fn watched(engine: &Engine) -> bool {
    let config = engine.config();
    config.tier != Tier::Scan
        && config
            .working
            .has_any(&[hook::CAPABLE, hook::CAPABLE_ENTRY])
}

fn may_miss(suppositions: &[Supposition], watched: bool) -> Vec<String> {
    let mut said = Vec::new();
    let user = |s: &Supposition| matches!(s.change, Change::UserNs);
    if suppositions.iter().any(user) {
        said.push(
            "files of owners that a user namespace does not map, and what may not be mounted in one".to_owned(),
        );
    }
    let path = |s: &Supposition| matches!(s.change, Change::ReadOnly(_) | Change::Unmount(_));
    if suppositions.iter().any(path) {
        said.push("what is written to, or read from, a mount is not watched".to_owned());
    }
    if watched {
        said.push("what was used more rarely than it was watched".to_owned());
    }
    said
}

fn whom(engine: &Engine, id: EntityId, key: &str) -> Option<Whom> {
    let place = engine
        .saved()
        .entities
        .into_iter()
        .find(|saved| saved.key == key)?;
    let tasks = engine.world().tasks.values();
    Some(Whom {
        key: key.to_owned(),
        threads: tasks
            .filter(|task| task.label == id)
            .map(|task| task.state.key.tid)
            .collect(),
        ns: place.ns,
    })
}

fn apply(capture: &mut Capture, change: &Change, whom: &Whom) {
    match change {
        Change::Drop(set) => {
            each(capture, whom, |state| drop_capabilities(state, *set));
            grant(capture, whom, |granted| {
                granted.permitted &= !set;
                granted.bounding &= !set;
            });
        }
        Change::NoNewPrivs => {
            each(capture, whom, |state| {
                state.task_flags |= task_flags::NO_NEW_PRIVS;
            });
            grant(capture, whom, |granted| granted.no_new_privs = true);
        }
        Change::UserNs => own_user(capture, whom),
        Change::Own(kinds) => kinds.iter().for_each(|kind| own(capture, *kind, whom)),
        Change::ReadOnly(path) => tables(capture, whom, |mounts| {
            let below = mounts
                .iter_mut()
                .filter(|mount| is_below(&mount.point, path));
            below.for_each(|mount| mount.read_only = true);
        }),
        Change::Unmount(path) => tables(capture, whom, |mounts| {
            mounts.retain(|mount| !is_below(&mount.point, path));
        }),
    }
}

fn each(capture: &mut Capture, whom: &Whom, mut change: impl FnMut(&mut TaskState)) {
    let tasks = capture.tasks.iter_mut().map(|record| &mut record.state);
    tasks
        .filter(|state| whom.threads.contains(&state.key.tid))
        .for_each(&mut change);
}

/// What it was granted at its start, as that is remembered.
fn grant(capture: &mut Capture, whom: &Whom, change: impl Fn(&mut Granted)) {
    let saved = capture.saved.entities.iter_mut();
    let of_it = saved.filter(|saved| saved.key == whom.key);
    let granted = of_it.filter_map(|saved| saved.privileges.as_mut()?.granted.as_mut());
    granted.for_each(change);
}

const fn drop_capabilities(state: &mut TaskState, set: u64) {
    let creds = &mut state.creds;
    creds.cap_permitted &= !set;
    creds.cap_effective &= !set;
    creds.cap_bounding &= !set;
    creds.cap_inheritable &= !set;
    creds.cap_ambient &= !set;
}

/// The slots that tell where a task is, and where its children will be.
const fn slots(kind: NsKind) -> &'static [usize] {
    match kind {
        NsKind::Pid => &[ns::PID, ns::PID_FOR_CHILDREN],
        NsKind::Time => &[ns::TIME, ns::TIME_FOR_CHILDREN],
        _ => &[],
    }
}

/// A namespace that nobody is in, for those tasks that are in the one that the container has. Where a task has left that,
/// it stays where it is.
fn own(capture: &mut Capture, kind: NsKind, whom: &Whom) {
    let inum = unused(capture);
    let alone = [kind.slot()];
    let slots = match slots(kind) {
        [] => &alone,
        several => several,
    };
    let had: Vec<u32> = slots.iter().map(|slot| whom.ns[*slot]).collect();
    each(capture, whom, |state| {
        for (slot, had) in slots.iter().zip(&had) {
            if state.ns[*slot].inum == *had {
                state.ns[*slot] = NsRef {
                    inum,
                    owner_inum: state.ns[*slot].owner_inum,
                    unique_id: 0,
                };
            }
        }
        if kind == NsKind::Pid {
            state.pid_level += 1;
            state.pid_parent_inum = had[0];
        }
    });
    keep(capture, whom, slots, inum);
}

/// A user namespace below the one that the container has: its other namespaces belong to it, and its ids are others.
fn own_user(capture: &mut Capture, whom: &Whom) {
    let had = whom.ns[ns::USER];
    let inum = unused(capture);
    let first = free_ids(capture);
    let shared: BTreeSet<u32> = capture
        .tasks
        .iter()
        .filter(|record| !whom.threads.contains(&record.state.key.tid))
        .flat_map(|record| record.state.ns.map(|reference| reference.inum))
        .collect();
    each(capture, whom, |state| {
        if state.ns[ns::USER].inum != had {
            return;
        }
        state.ns[ns::USER] = NsRef {
            inum,
            owner_inum: had,
            unique_id: 0,
        };
        state.user_level += 1;
        let own = state.ns.iter_mut().enumerate();
        let own = own.filter(|(slot, reference)| {
            *slot != ns::USER && reference.owner_inum != 0 && !shared.contains(&reference.inum)
        });
        own.for_each(|(_, reference)| reference.owner_inum = inum);
        let creds = &mut state.creds;
        let ids = [
            &mut creds.uid,
            &mut creds.gid,
            &mut creds.suid,
            &mut creds.sgid,
            &mut creds.euid,
            &mut creds.egid,
            &mut creds.fsuid,
            &mut creds.fsgid,
        ];
        for id in ids.into_iter().filter(|id| **id < ID_RANGE) {
            *id += first;
        }
    });
    keep(capture, whom, &[ns::USER], inum);
    grant(capture, whom, |granted| granted.initial = false);
}

/// The container has it by itself from its start on.
fn keep(capture: &mut Capture, whom: &Whom, slots: &[usize], inum: u32) {
    let saved = capture.saved.entities.iter_mut();
    for saved in saved.filter(|saved| saved.key == whom.key) {
        for slot in slots {
            saved.ns[*slot] = inum;
            saved.origins[*slot] = Origin::Own;
        }
    }
}

fn tables(capture: &mut Capture, whom: &Whom, change: impl Fn(&mut Vec<Mount>)) {
    let set_ups = capture.set_ups.iter_mut();
    set_ups
        .filter(|setup| whom.threads.contains(&setup.pid))
        .for_each(|setup| change(&mut setup.mounts));
}

/// The number of a namespace that no task is in.
fn unused(capture: &Capture) -> u32 {
    let all = capture.tasks.iter().flat_map(|record| record.state.ns);
    let last = all.map(|reference| reference.inum).max().unwrap_or(0);
    last.checked_add(1).unwrap_or(1)
}

/// The first of ids that no task has.
fn free_ids(capture: &Capture) -> u32 {
    let ids = capture.tasks.iter().map(|record| record.state.creds.euid);
    let last = ids.filter(|id| *id != u32::MAX).max().unwrap_or(0);
    (last / ID_RANGE).saturating_add(1).saturating_mul(ID_RANGE)
}

/// What it was seen to use and would not have.
fn would_break(engine: &Engine, change: &Change, whom: &Whom) -> Vec<WhatIfUse> {
    let key = whom.key.as_str();
    let host = engine.world().host().ns[ns::NET];
    let host_net = engine.world().ns.get(host).map_or(0, |net| net.inum);
    let lost = match change {
        Change::Drop(set) => *set,
        // The host's network is not its own user namespace's.
        Change::UserNs if whom.ns[ns::NET] == host_net => of_the_machine() | HARDLY | NETWORK,
        Change::UserNs => of_the_machine() | HARDLY,
        _ => return Vec::new(),
    };
    let account = |account: &Account| {
        let ways = account.used.iter();
        let ways = ways.filter(|(way, _)| {
            way.granted && !way.probe && way.scope.counts() && lost >> way.capability & 1 == 1
        });
        ways.map(|(way, first)| WhatIfUse::of(key, way, first))
            .collect::<Vec<_>>()
    };
    let all = engine.privileges();
    let of_it = all.iter().filter(|p| p.party.id == key && !p.ended);
    of_it.flat_map(|p| account(&p.account)).collect()
}
