//! What changed since the caller last asked, and what pairs remember.
//!
//! Neither grows without bound: pending pairs collapse into "everything" at [`PENDING_PAIRS`], and
//! memory is kept only for pairs of living entities, on wide objects only per offender.

use super::IsolationIndex;
use super::rules::Relation;
use crate::model::facts::{EntityId, HOST, ObjectKey, Origin};
use crate::model::kinds::Verdict;
use std::collections::{BTreeMap, BTreeSet};

/// More pending pairs than this collapse into [`Changed::everything`].
pub const PENDING_PAIRS: usize = 1 << 16;

/// What may have changed since the last call of [`IsolationIndex::changed`]. A pair whose vector
/// differs is in `pairs`, or has an entity in `entities`, or holds an object in `objects` on both
/// sides, or `everything` is set. That an entity got its first facts about ownership or reach is
/// not told, unless the policy requires these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Pairs, each lower id first, in order. With entities that were removed too.
    pub pairs: Vec<(EntityId, EntityId)>,
    /// Wide objects whose holders changed; the pairs with the host are in `pairs`.
    pub objects: Vec<ObjectKey>,
    /// Entities of which every pair changed, those that share nothing included.
    pub entities: Vec<EntityId>,
    /// Every pair may have changed: policy, loss for all, or too much to list. What shares narrow
    /// objects is still in `pairs` unless that was too much.
    pub everything: bool,
}

impl Changed {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    pairs: BTreeSet<(EntityId, EntityId)>,
    objects: BTreeSet<ObjectKey>,
    entities: BTreeSet<EntityId>,
    everything: bool,
    overflowed: bool,
}

impl Changes {
    fn is_empty(&self) -> bool {
        let Self {
            pairs,
            objects,
            entities,
            everything,
            overflowed: _,
        } = self;
        pairs.is_empty() && objects.is_empty() && entities.is_empty() && !everything
    }

    pub(super) fn pair(&mut self, a: EntityId, b: EntityId) {
        if a == b || self.overflowed {
            return;
        }
        if self.pairs.len() >= PENDING_PAIRS {
            self.pairs.clear();
            self.overflowed = true;
            self.everything = true;
            return;
        }
        self.pairs.insert((a.min(b), a.max(b)));
    }

    pub(super) fn object(&mut self, object: ObjectKey) {
        self.objects.insert(object);
    }

    pub(super) fn row(&mut self, id: EntityId) {
        self.entities.insert(id);
    }
}

/// Which pairs were ever violated.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// Symmetric: each pair stands under both of its entities.
    pairs: BTreeMap<EntityId, BTreeSet<EntityId>>,
    /// The worst origin with which an offender ever held a wide object.
    wide: BTreeMap<ObjectKey, BTreeMap<EntityId, Origin>>,
}

impl Memory {
    fn remember(&mut self, a: EntityId, b: EntityId) {
        self.pairs.entry(a).or_default().insert(b);
        self.pairs.entry(b).or_default().insert(a);
    }

    fn remember_wide(&mut self, object: ObjectKey, offender: EntityId, origin: Origin) {
        let worst = self
            .wide
            .entry(object)
            .or_default()
            .entry(offender)
            .or_insert(origin);
        *worst = origin.max(*worst);
    }

    pub(super) fn forget(&mut self, id: EntityId) {
        for other in self.pairs.remove(&id).unwrap_or_default() {
            if let Some(others) = self.pairs.get_mut(&other) {
                others.remove(&id);
            }
        }
        self.wide.retain(|_, offenders| {
            offenders.remove(&id);
            !offenders.is_empty()
        });
    }
}

impl IsolationIndex {
    /// Whether [`Self::changed`] has anything to say.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Drains what may have changed since the last call.
    pub fn changed(&mut self) -> Changed {
        let Changes {
            pairs,
            objects,
            entities,
            everything,
            overflowed: _,
        } = std::mem::take(&mut self.changes);
        Changed {
            pairs: pairs.into_iter().collect(),
            objects: objects.into_iter().collect(),
            entities: entities.into_iter().collect(),
            everything,
        }
    }

    pub(super) fn ever_violated(&self, a: EntityId, b: EntityId, relation: &Relation) -> bool {
        let narrow = self
            .memory
            .pairs
            .get(&a)
            .is_some_and(|others| others.contains(&b));
        narrow
            || !self.memory.wide.is_empty()
                && self.common(a, b).any(|(object, of_a, of_b)| {
                    let Some(offenders) = self.memory.wide.get(&object) else {
                        return false;
                    };
                    let worst = |id, now: Origin| offenders.get(&id).map_or(now, |o| now.max(*o));
                    let (a, b) = ((a, worst(a, of_a)), (b, worst(b, of_b)));
                    let sharing = self.sharing(relation, object, a, b);
                    super::rules::judge(&sharing).verdict == Verdict::Violated
                })
    }

    /// One holder of one object changed: tells its pairs with the other holders.
    pub(super) fn rejoin(&mut self, id: EntityId, object: ObjectKey) {
        let holders = self.objects.get(&object).map_or(&[][..], Vec::as_slice);
        let mine = holders
            .binary_search_by_key(&id, |(h, _)| *h)
            .ok()
            .map(|at| holders[at]);
        if holders.len() > self.wide {
            self.changes.object(object);
            if holders[0].0 == HOST {
                self.changes.pair(HOST, id);
            }
            let just_widened = holders.len() == self.wide + 1;
            let news = if just_widened {
                holders
            } else {
                mine.as_slice()
            };
            for (offender, origin) in news.iter().filter(|(_, o)| *o >= Origin::Undeclared) {
                self.memory.remember_wide(object, *offender, *origin);
            }
            return;
        }
        let mut violated = Vec::new();
        for other in holders.iter().filter(|(holder, _)| *holder != id) {
            self.changes.pair(id, other.0);
            if mine.is_some_and(|m| self.verdict_on(object, m, *other) == Verdict::Violated) {
                violated.push(other.0);
            }
        }
        for other in violated {
            self.memory.remember(id, other);
        }
    }

    /// Something changed for all holders of an object.
    pub(super) fn rejoin_object(&mut self, object: ObjectKey) {
        let holders: Vec<EntityId> = self.holders(object).iter().map(|(id, _)| *id).collect();
        for id in holders {
            self.rejoin(id, object);
        }
    }

    /// Something changed for all pairs that an entity has.
    pub(super) fn rejoin_entity(&mut self, id: EntityId) {
        let held: Vec<ObjectKey> = self.held(id).map(|(object, _)| object).collect();
        for object in held {
            self.rejoin(id, object);
        }
        self.ownership.rejoin(id, self.wide, &mut self.changes);
        self.reaches.rejoin(id, self.wide, &mut self.changes);
    }

    /// Nesting changed at an entity: that concerns it and all that is nested in it.
    pub(super) fn rejoin_family(&mut self, id: EntityId) {
        if !self.children.contains_key(&id) {
            return self.rejoin_entity(id);
        }
        let mut family = BTreeSet::from([id]);
        let mut todo = vec![id];
        while let Some(next) = todo.pop() {
            for child in self.children.get(&next).into_iter().flatten() {
                if family.insert(*child) {
                    todo.push(*child);
                }
            }
        }
        for member in family {
            self.rejoin_entity(member);
        }
    }

    pub(super) fn rejoin_all(&mut self) {
        self.changes.everything = true;
        let ids: Vec<EntityId> = self.entities.keys().copied().collect();
        for id in ids {
            self.rejoin_entity(id);
        }
    }
}
