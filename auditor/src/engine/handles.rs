//! Handles: open files, pipes, sockets and memory that tasks of two entities hold at once.
//!
//! A sweep tells all that tasks of different compartments hold together, and what it does not tell is shared no longer.
//! Who they belong to is decided here, by label. What a container's first task, or one that was sent in, has as
//! standard streams, was given to it by who started it: to the starter, and to whoever got the same, that is as it was
//! meant. A task's own children prove nothing: it can give them anything.

use super::Engine;
use super::rule::{Draft, DraftKind, name};
use crate::model::facts::{EntityId, HOST, ObjectKey, Origin};
use crate::model::output::{Evidence, Holder, Record};
use crate::model::{Confidence, Dimension, RuleId, Severity, Verdict, text};
use auditor_common::record::{ActRecord, MAPPED, TaskKey, act, handle, kernel_str};
use std::collections::{BTreeMap, BTreeSet};

/// What one sweep may tell.
const MAX_FOUND: usize = 1 << 14;
/// Holders that evidence names.
const MAX_NAMED: usize = 8;
/// Descriptors up to this one are standard streams.
const LAST_STREAM: u32 = 2;
/// Bit of [`act::HANDLES`]: open files were looked at.
const FILES: u64 = 1;

/// What makes a handle itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// One open file.
    File(u64),
    /// An inode, by device and number.
    Inode(u32, u64),
}

/// One task's hold on one handle.
#[derive(Debug)]
struct Found {
    key: Key,
    dev: u32,
    ino: u64,
    kind: u64,
    name: Vec<u8>,
    who: TaskKey,
    descriptor: u32,
    hook: u16,
    event: u64,
}

/// How an entity holds a handle.
#[derive(Clone, Debug)]
struct Holding {
    who: TaskKey,
    descriptor: u32,
    origin: Origin,
    hook: u16,
    event: u64,
}

/// A handle that several entities hold.
#[derive(Debug)]
struct Shared {
    key: Key,
    dev: u32,
    ino: u64,
    kind: u64,
    name: Vec<u8>,
    holders: BTreeMap<EntityId, Holding>,
}

/// A kind of handle, and two containers.
type Told = (u64, EntityId, EntityId);

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Handles {
    /// What the sweep under way told; `None` where nothing looked.
    found: Option<Vec<Found>>,
    ids: BTreeMap<Key, u32>,
    shared: BTreeMap<u32, Shared>,
    /// Pairs that were told of a kind of handle, and hold one still.
    told: BTreeSet<Told>,
    next: u32,
    /// Something looks at handles here.
    evaluated: bool,
    /// What the last sweep looked at: bits of [`act::HANDLES`].
    looked: u64,
}

impl Engine {
    /// A sweep looked for handles, or found one.
    pub(super) fn on_handle(&mut self, record: &ActRecord) {
        if record.act == act::HANDLES {
            self.handles.looked = record.arg0;
            self.handles.found = (record.arg0 & FILES != 0).then(Vec::new);
            return;
        }
        let event = self.event;
        let Some(found) = &mut self.handles.found else {
            return;
        };
        if found.len() >= MAX_FOUND {
            return;
        }
        let (dev, ino) = (record.object.dev, record.object.ino);
        let key = match record.arg1 {
            0 => Key::Inode(dev, ino),
            number => Key::File(number),
        };
        found.push(Found {
            key,
            dev,
            ino,
            kind: record.arg0,
            name: kernel_str(record.name()).to_vec(),
            who: record.actor,
            descriptor: record.target.tid,
            hook: record.header.hook,
            event,
        });
    }

    /// What the last sweep looked at: bits of [`act::HANDLES`].
    #[must_use]
    pub const fn looked_at_handles(&self) -> u64 {
        self.handles.looked
    }

    /// A sweep was cut short: what it found is not all.
    pub(super) fn drop_handles(&mut self) {
        self.handles.found = None;
    }

    /// A sweep is over, and labels stand.
    pub(super) fn settle_handles(&mut self, out: &mut Vec<Record>) {
        let Some(found) = self.handles.found.take() else {
            return;
        };
        if !self.handles.evaluated {
            self.handles.evaluated = true;
            let blind = self.config.not_evaluated.iter().copied().collect();
            self.index.set_not_evaluated(&blind);
        }
        let now = self.by_entity(found);
        self.take_shared(now);
        self.tell_handles(out);
    }

    /// Which entities hold what, of handles that several hold.
    fn by_entity(&self, found: Vec<Found>) -> BTreeMap<Key, Shared> {
        let mut all: BTreeMap<Key, Shared> = BTreeMap::new();
        for one in found {
            let Some(task) = self.world.task(&one.who) else {
                continue;
            };
            let label = task.label;
            if task.arriving || !self.world.entities.contains_key(&label) {
                continue;
            }
            let parent = self.world.tasks.get(&task.state.parent.tid);
            let is_given = parent.is_none_or(|parent| parent.label != label);
            let origin = match label {
                HOST => Origin::Own,
                _ if one.descriptor <= LAST_STREAM && is_given => Origin::Granted,
                _ => Origin::Acquired,
            };
            let shared = all.entry(one.key).or_insert_with(|| Shared {
                key: one.key,
                dev: one.dev,
                ino: one.ino,
                kind: one.kind,
                name: Vec::new(),
                holders: BTreeMap::new(),
            });
            // Of what the host holds no name is known.
            if shared.name.is_empty() && !one.name.is_empty() {
                (shared.kind, shared.name) = (one.kind, one.name);
            }
            let holding = Holding {
                who: one.who,
                descriptor: one.descriptor,
                origin,
                hook: one.hook,
                event: one.event,
            };
            let known = shared
                .holders
                .entry(label)
                .or_insert_with(|| holding.clone());
            // Given once, given to all of it.
            if holding.origin < known.origin {
                *known = holding;
            }
        }
        all.retain(|_, shared| shared.holders.len() > 1);
        all
    }

    /// What a sweep found takes the place of what was known: first the new is held, then the old let go, so that nothing
    /// looks released in between.
    fn take_shared(&mut self, now: BTreeMap<Key, Shared>) {
        let mut before = std::mem::take(&mut self.handles.shared);
        let ids = std::mem::take(&mut self.handles.ids);
        for (key, shared) in now {
            let id = ids.get(&key).copied().unwrap_or_else(|| {
                self.handles.next += 1;
                self.handles.next
            });
            let object = ObjectKey::Handle(id);
            let known = before.get_mut(&id).map(|old| &mut old.holders);
            let mut known = known.map_or_else(BTreeMap::new, std::mem::take);
            for (&entity, holding) in &shared.holders {
                let old = known.remove(&entity).map(|old| old.origin);
                if old != Some(holding.origin) {
                    self.index.hold(entity, object, holding.origin);
                    if let Some(origin) = old {
                        self.index.release(entity, object, origin);
                    }
                }
            }
            for (entity, old) in known {
                self.index.release(entity, object, old.origin);
            }
            self.handles.ids.insert(key, id);
            self.handles.shared.insert(id, shared);
        }
        for (id, old) in before {
            for (entity, holding) in old.holders {
                self.index
                    .release(entity, ObjectKey::Handle(id), holding.origin);
            }
        }
    }

    /// An entity is gone, and the index has forgotten it. What only one still holds is not shared.
    pub(super) fn forget_handles(&mut self, gone: EntityId) {
        let mut lonely = Vec::new();
        for (&id, shared) in &mut self.handles.shared {
            if shared.holders.remove(&gone).is_some() && shared.holders.len() < 2 {
                lonely.push(id);
            }
        }
        for id in lonely {
            let Some(shared) = self.handles.shared.remove(&id) else {
                continue;
            };
            self.handles.ids.remove(&shared.key);
            for (entity, holding) in shared.holders {
                self.index
                    .release(entity, ObjectKey::Handle(id), holding.origin);
            }
        }
        self.handles
            .told
            .retain(|(_, a, b)| *a != gone && *b != gone);
    }

    /// Tells, for the record, which containers hold something together that neither was given at its start: once for each
    /// kind, for who connects often holds ever new ones. With the host that is in the matrix alone: its services talk to
    /// containers in many ways.
    fn tell_handles(&mut self, out: &mut Vec<Record>) {
        let mut now: BTreeMap<Told, u32> = BTreeMap::new();
        for (&id, shared) in &self.handles.shared {
            let mut containers = shared.holders.iter().filter(|(id, _)| **id != HOST);
            let Some((&first, holding)) = containers.next() else {
                continue;
            };
            for (&other, of_other) in containers {
                if [holding.origin, of_other.origin].contains(&Origin::Acquired) {
                    now.entry((shared.kind, first, other)).or_insert(id);
                }
            }
        }
        self.handles.told.retain(|told| now.contains_key(told));
        now.retain(|told, _| !self.handles.told.contains(told));
        for (told, id) in now {
            let (_, a, b) = told;
            let pair = self.index.pair(a, b);
            let verdict = pair.dimension(Dimension::Handles).map(|d| d.verdict);
            if verdict != Some(Verdict::Degraded) {
                continue;
            }
            self.handles.told.insert(told);
            self.tell_handle(id, a, b, out);
        }
    }

    fn tell_handle(&mut self, id: u32, a: EntityId, b: EntityId, out: &mut Vec<Record>) {
        let Some(shared) = self.handles.shared.get(&id) else {
            return;
        };
        let Some(holding) = shared.holders.get(&a).cloned() else {
            return;
        };
        let draft = Draft {
            kind: DraftKind::Audit,
            rule: RuleId::SharedHandle,
            transition: None,
            dimension: Dimension::Handles,
            severity: Severity::Medium,
            confidence: Confidence::Sampled,
            subject: a,
            object: b,
            object_id: shared.kind,
            by_iota: false,
            verdict: None,
            expected: None,
            observed: self.handle_between(shared, &[a, b]),
            message: format!(
                "{} and {} hold one {}",
                name(&self.world, a),
                name(&self.world, b),
                words(shared.kind)
            ),
        };
        let witness = self.seen_by(holding.hook, -1, holding.event);
        self.emit(draft, holding.who, witness, None, out);
    }

    /// What people call a shared handle.
    #[must_use]
    pub fn handle_words(&self, id: u32) -> Option<&'static str> {
        self.handles
            .shared
            .get(&id)
            .map(|shared| words(shared.kind))
    }

    /// A handle that several hold, as evidence.
    #[must_use]
    pub fn handle_evidence(&self, id: u32) -> Option<Evidence> {
        let shared = self.handles.shared.get(&id)?;
        let holders: Vec<EntityId> = shared.holders.keys().copied().collect();
        self.handle_between(shared, &holders)
    }

    fn handle_between(&self, shared: &Shared, whose: &[EntityId]) -> Option<Evidence> {
        let holder = |id: &EntityId| {
            let holding = shared.holders.get(id)?;
            let task = self.world.task(&holding.who);
            Some(Holder {
                id: self.party(*id).id,
                pid: holding.who.tgid,
                descriptor: (holding.descriptor != MAPPED).then_some(holding.descriptor),
                comm: task.map(|t| text::escape(kernel_str(&t.state.comm))),
            })
        };
        Some(Evidence::Handle {
            kind: kind(shared.kind)?.to_owned(),
            dev: shared.dev,
            ino: shared.ino,
            name: (!shared.name.is_empty()).then(|| text::escape(&shared.name)),
            holders: whose.iter().filter_map(holder).take(MAX_NAMED).collect(),
        })
    }

    /// Handles known, objects interned, pairs told.
    #[cfg(test)]
    pub(super) fn handle_sizes(&self) -> [usize; 3] {
        let Handles {
            ids, shared, told, ..
        } = &self.handles;
        [shared.len(), ids.len(), told.len()]
    }
}

const fn kind(kind: u64) -> Option<&'static str> {
    match kind {
        handle::FILE => Some("file"),
        handle::PIPE => Some("pipe"),
        handle::SOCKET => Some("socket"),
        handle::MEMORY => Some("memfd"),
        handle::MAPPING => Some("mapping"),
        _ => None,
    }
}

const fn words(kind: u64) -> &'static str {
    match kind {
        handle::FILE => "open file",
        handle::PIPE => "pipe",
        handle::SOCKET => "socket",
        handle::MEMORY => "memfd",
        handle::MAPPING => "shared mapping",
        _ => "handle",
    }
}
