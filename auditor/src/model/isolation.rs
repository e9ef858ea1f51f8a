//! The isolation function ι: which entities share what, and whether that is as it should be.
//!
//! [`IsolationIndex`] is told who exists ([`insert_entity`](IsolationIndex::insert_entity)) and who
//! holds which kernel object ([`hold`](IsolationIndex::hold)); it joins entities over the objects
//! that they hold. Every update costs the holders of *one* object, never a walk over all pairs:
//! there is no loop over entities × entities in here.
//!
//! ι is a vector first and a bit second. [`pair`](IsolationIndex::pair) gives one verdict per
//! dimension and then ι: 0 if a required dimension is violated or degraded; else null if one is
//! unknown or not evaluated; else 1. The rules that turn a shared object into a verdict stand in
//! [`rules`]; they see two holders and nothing else, and they are symmetric.
//!
//! # What many share
//! An object with more than [`WIDE_HOLDERS`] holders is *wide*. A change of a wide object is told
//! once ([`Changed::objects`]) and not per pair, save for the pair with the host, and
//! [`Matrix::shared`] lists it once with its members. Initial namespaces of advisory dimensions
//! (user, time, cgroup namespace), which on an ordinary machine all share, are always listed
//! there and never make a pair worth listing.
//!
//! # Misuse
//! A call that concerns an entity or a hold that does not exist changes nothing and is counted in
//! [`ignored`](IsolationIndex::ignored), so that a caller's mistake is visible and not fatal.

mod changes;
mod matrix;
mod ownership;
mod pair;
mod reach;
pub mod rules;
mod sets;
#[cfg(test)]
pub(crate) mod tests;

use super::facts::{EntityId, EntityProfile, HOST, NsId, ObjectKey, Origin};
use super::kinds::Dimension;
use super::policy::{Policy, ShareSides};
use super::sorted::SortedMap;
use hashbrown::HashMap;
use std::collections::{BTreeMap, BTreeSet};

pub use changes::{Changed, PENDING_PAIRS};
pub use matrix::{Matrix, MatrixPair, SharedObject, Summary};
pub use pair::{DimensionVerdict, PAIR_DIMENSIONS, Pair};
pub use reach::{Means, Powers, Reach};
use sets::{Counts, DimensionSet};

/// An object with more holders than this is reported once and not per pair.
pub const WIDE_HOLDERS: usize = 64;

/// What a container holds when nobody has left it: its namespaces, its root, its cgroup.
const USUALLY_HELD: usize = 12;

/// How deep entities nest at most; a longer chain of parents (or a cycle) is cut here.
pub const NESTING_DEPTH: usize = 16;

/// Whom a loss of evidence concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every entity.
    All,
    /// One entity, in all its pairs.
    Entity(EntityId),
}

/// Who holds what, and what follows from it. See the [module](self).
#[derive(Clone, Debug)]
pub struct IsolationIndex {
    entities: SortedMap<EntityId, Box<Entity>>,
    /// Holders by object, each with its worst origin, in order of their ids.
    objects: HashMap<ObjectKey, Vec<(EntityId, Origin)>>,
    children: BTreeMap<EntityId, BTreeSet<EntityId>>,
    ownership: ownership::Ownership,
    reaches: reach::Reaches,
    policy: Policy,
    unknown: DimensionSet,
    not_evaluated: DimensionSet,
    changes: changes::Changes,
    memory: changes::Memory,
    wide: usize,
    ignored: u64,
}

#[derive(Clone, Debug)]
struct Entity {
    profile: EntityProfile,
    sides: ShareSides,
    held: SortedMap<ObjectKey, Counts>,
    unknown: DimensionSet,
}

impl Default for IsolationIndex {
    fn default() -> Self {
        Self::new()
    }
}

impl IsolationIndex {
    /// An index that knows the host, which holds nothing yet, and the default policy.
    #[must_use]
    pub fn new() -> Self {
        Self::with_wide_holders(WIDE_HOLDERS)
    }

    /// An index with another limit than [`WIDE_HOLDERS`].
    #[must_use]
    pub fn with_wide_holders(wide: usize) -> Self {
        let mut index = Self {
            entities: SortedMap::default(),
            objects: HashMap::new(),
            children: BTreeMap::new(),
            ownership: ownership::Ownership::default(),
            reaches: reach::Reaches::default(),
            policy: Policy::default(),
            unknown: DimensionSet::default(),
            not_evaluated: DimensionSet::default(),
            changes: changes::Changes::default(),
            memory: changes::Memory::default(),
            wide,
            ignored: 0,
        };
        index.insert_entity(HOST, EntityProfile::host());
        index
    }

    /// Adds an entity, or replaces the profile of a known one: what it holds stays.
    pub fn insert_entity(&mut self, id: EntityId, profile: EntityProfile) {
        let sides = self.policy.share_sides(&profile);
        let parent = profile.parent;
        if let Some(entity) = self.entities.get_mut(&id) {
            if entity.profile == profile {
                return;
            }
            let old = std::mem::replace(&mut entity.profile, profile);
            entity.sides = sides;
            self.unlink(id, old.parent);
        } else {
            let entity = Entity {
                profile,
                sides,
                held: SortedMap::with_capacity(USUALLY_HELD),
                unknown: DimensionSet::default(),
            };
            self.entities.insert(id, Box::new(entity));
        }
        if let Some(parent) = parent {
            self.children.entry(parent).or_default().insert(id);
        }
        self.rejoin_family(id);
    }

    /// Forgets an entity, what it held and what its pairs remembered. The host stays.
    pub fn remove_entity(&mut self, id: EntityId) {
        let entity = if id == HOST {
            None
        } else {
            self.entities.remove(&id)
        };
        let Some(entity) = entity else {
            self.ignored += 1;
            return;
        };
        for object in entity.held.keys() {
            self.replace_holder(id, *object, None);
        }
        self.ownership.remove(id, self.wide, &mut self.changes);
        self.row_if_required(id, Dimension::Ownership);
        self.reaches.remove(id, self.wide, &mut self.changes);
        self.row_if_required(id, Dimension::Processes);
        if entity.unknown != DimensionSet::default() {
            self.changes.row(id);
        }
        self.unlink(id, entity.profile.parent);
        self.rejoin_family(id);
        self.memory.forget(id);
    }

    /// As [`Self::hold`], for all that a task brings.
    pub fn hold_all(&mut self, id: EntityId, objects: &[(ObjectKey, Origin)]) {
        let Some(place) = self.entities.find(&id) else {
            self.ignored += objects.len() as u64;
            return;
        };
        for &(object, origin) in objects {
            let counts = self.entities.at_mut(place).held.entry(object);
            let before = counts.worst();
            counts.add(origin);
            if before < Some(origin) {
                self.replace_holder(id, object, Some(origin));
            }
        }
    }

    /// One more task of an entity holds an object.
    pub fn hold(&mut self, id: EntityId, object: ObjectKey, origin: Origin) {
        self.hold_all(id, &[(object, origin)]);
    }

    /// One task less holds it; `origin` is the one that it was held with.
    pub fn release(&mut self, id: EntityId, object: ObjectKey, origin: Origin) {
        let held = self.entities.get_mut(&id).map(|e| &mut e.held);
        let Some((held, at)) = held.and_then(|held| held.find(&object).map(|at| (held, at))) else {
            self.ignored += 1;
            return;
        };
        let counts = held.at_mut(at);
        if !counts.has(origin) {
            self.ignored += 1;
            return;
        }
        let before = counts.worst();
        counts.remove(origin);
        let after = counts.worst();
        if after.is_none() {
            held.remove_at(at);
        }
        if before != after {
            self.replace_holder(id, object, after);
        }
    }

    /// Evidence about a dimension was lost: verdicts better than `degraded` become `unknown`.
    pub fn mark_unknown(&mut self, scope: Scope, dimension: Dimension) {
        self.edit_unknown(scope, |set| set.insert(dimension));
    }

    /// The evidence was read anew. [`Scope::All`] (a full sweep) clears every entity's mark too.
    pub fn clear_unknown(&mut self, scope: Scope, dimension: Dimension) {
        self.edit_unknown(scope, |set| set.remove(dimension));
        if scope == Scope::All {
            for entity in self.entities.values_mut() {
                entity.unknown.remove(dimension);
            }
        }
    }

    /// Which dimensions nothing looks at here; `references` unless told otherwise.
    pub fn set_not_evaluated(&mut self, dimensions: &BTreeSet<Dimension>) {
        let mut set = DimensionSet::default();
        dimensions.iter().for_each(|d| set.insert(*d));
        if set != self.not_evaluated {
            self.not_evaluated = set;
            self.rejoin_all();
        }
    }

    /// Puts a policy in force.
    pub fn set_policy(&mut self, policy: &Policy) {
        if *policy == self.policy {
            return;
        }
        self.policy = policy.clone();
        for entity in self.entities.values_mut() {
            entity.sides = self.policy.share_sides(&entity.profile);
        }
        self.rejoin_all();
    }

    /// User namespaces of an entity, from its own up to the initial one.
    pub fn set_user_chain(&mut self, id: EntityId, chain: Vec<NsId>) {
        if self.entities.contains_key(&id) {
            self.ownership
                .set_chain(id, chain, self.wide, &mut self.changes);
            self.row_if_required(id, Dimension::Ownership);
        } else {
            self.ignored += 1;
        }
    }

    /// User namespaces that own an entity's namespaces.
    pub fn set_owners(&mut self, id: EntityId, owners: BTreeSet<NsId>) {
        if self.entities.contains_key(&id) {
            self.ownership
                .set_owners(id, owners, self.wide, &mut self.changes);
            self.row_if_required(id, Dimension::Ownership);
        } else {
            self.ignored += 1;
        }
    }

    /// What decides whose processes an entity reaches.
    pub fn set_reach(&mut self, id: EntityId, reach: Reach) {
        if self.entities.contains_key(&id) {
            self.reaches.set(id, reach, self.wide, &mut self.changes);
            self.row_if_required(id, Dimension::Processes);
        } else {
            self.ignored += 1;
        }
    }

    /// What `x` could do to processes of `y`: nothing where it is around it, for that is how it is meant.
    #[must_use]
    pub fn reach(&self, x: EntityId, y: EntityId) -> Option<Means> {
        let relation = self.relation(x, y);
        let means = self.reaches.means(x, y).map(|(means, _)| means);
        means.filter(|_| !relation.above[0] && !relation.same_pod)
    }

    /// What decides whose processes an entity reaches, if it is known.
    #[must_use]
    pub fn reach_of(&self, id: EntityId) -> Option<&Reach> {
        self.reaches.get(id)
    }

    /// The worst origin with which each holder of an object holds it, in order of ids.
    #[must_use]
    pub fn holders(&self, object: ObjectKey) -> &[(EntityId, Origin)] {
        self.objects.get(&object).map_or(&[], Vec::as_slice)
    }

    /// What an entity holds, each with its worst origin, in order.
    pub fn held(&self, id: EntityId) -> impl Iterator<Item = (ObjectKey, Origin)> + '_ {
        let held = self
            .entities
            .get(&id)
            .into_iter()
            .flat_map(|entity| entity.held.iter());
        held.filter_map(|(object, counts)| Some((*object, counts.worst()?)))
    }

    /// The entities directly nested in one, known or gone, in order.
    #[must_use]
    pub fn nested_in(&self, id: EntityId) -> Vec<EntityId> {
        let children = self.children.get(&id).into_iter().flatten();
        children.copied().collect()
    }

    /// The profile of an entity.
    #[must_use]
    pub fn profile(&self, id: EntityId) -> Option<&EntityProfile> {
        self.entities.get(&id).map(|entity| &entity.profile)
    }

    /// Every entity, the host included, in order of ids.
    pub fn entities(&self) -> impl Iterator<Item = (EntityId, &EntityProfile)> {
        self.entities
            .iter()
            .map(|(id, entity)| (*id, &entity.profile))
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Calls that concerned nothing known.
    #[must_use]
    pub const fn ignored(&self) -> u64 {
        self.ignored
    }
}

/// Updates.
impl IsolationIndex {
    fn unlink(&mut self, child: EntityId, parent: Option<EntityId>) {
        let Some(parent) = parent else { return };
        let Some(siblings) = self.children.get_mut(&parent) else {
            return;
        };
        siblings.remove(&child);
        if siblings.is_empty() {
            self.children.remove(&parent);
        }
    }

    /// Sets or removes one holder of one object, and tells the pairs which that concerns.
    fn replace_holder(&mut self, id: EntityId, object: ObjectKey, origin: Option<Origin>) {
        let holders = self.objects.entry(object).or_default();
        let was_initial = pair::is_initial(holders);
        match (
            holders.binary_search_by_key(&id, |(holder, _)| *holder),
            origin,
        ) {
            (Ok(at), Some(origin)) => holders[at].1 = origin,
            (Ok(at), None) => drop(holders.remove(at)),
            (Err(at), Some(origin)) => holders.insert(at, (id, origin)),
            (Err(_), None) => {}
        }
        let is_initial = pair::is_initial(holders);
        let others = holders.len() - usize::from(origin.is_some());
        if holders.is_empty() {
            self.objects.remove(&object);
        }
        if others == 0 {
            return;
        }
        self.rejoin(id, object);
        // Whether it is initial matters to all who hold it.
        if was_initial != is_initial {
            self.rejoin_object(object);
        }
    }

    fn edit_unknown(&mut self, scope: Scope, edit: impl Fn(&mut DimensionSet)) {
        match scope {
            Scope::All => {
                let before = self.unknown;
                edit(&mut self.unknown);
                if before != self.unknown
                    || self
                        .entities
                        .values()
                        .any(|e| e.unknown != DimensionSet::default())
                {
                    self.rejoin_all();
                }
            }
            Scope::Entity(id) => {
                let Some(entity) = self.entities.get_mut(&id) else {
                    self.ignored += 1;
                    return;
                };
                let before = entity.unknown;
                edit(&mut entity.unknown);
                if before != entity.unknown {
                    self.changes.row(id);
                    self.rejoin_entity(id);
                }
            }
        }
    }

    fn row_if_required(&mut self, id: EntityId, dimension: Dimension) {
        if self.policy.required.contains(&dimension) {
            self.changes.row(id);
        }
    }
}
