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
pub mod rules;
#[cfg(test)]
mod tests;

use super::facts::{EntityId, EntityProfile, HOST, NsId, ObjectKey, Origin};
use super::kinds::{Dimension, PairClass, Severity, Verdict};
use super::policy::{Policy, ShareSides};
use std::collections::{BTreeMap, BTreeSet};

pub use changes::{Changed, PENDING_PAIRS};
pub use matrix::{Matrix, MatrixPair, SharedObject, Summary};

/// An object with more holders than this is reported once and not per pair.
pub const WIDE_HOLDERS: usize = 64;

/// How deep entities nest at most; a longer chain of parents (or a cycle) is cut here.
pub const NESTING_DEPTH: usize = 16;

/// The dimensions of a pair's vector, in order. `privilege` belongs to one entity, not to two.
pub const PAIR_DIMENSIONS: [Dimension; 14] = [
    Dimension::Mnt,
    Dimension::Pid,
    Dimension::PidForChildren,
    Dimension::Net,
    Dimension::Ipc,
    Dimension::Uts,
    Dimension::Cgroup,
    Dimension::Root,
    Dimension::Cwd,
    Dimension::References,
    Dimension::User,
    Dimension::Time,
    Dimension::CgroupNs,
    Dimension::Ownership,
];

/// Whom a loss of evidence concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every entity.
    All,
    /// One entity, in all its pairs.
    Entity(EntityId),
}

/// What two entities are to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Class of the pair.
    pub class: PairClass,
    /// ι: isolated, not isolated, or not known.
    pub iota: Option<bool>,
    /// One verdict for each of [`PAIR_DIMENSIONS`], in that order.
    pub dimensions: Vec<DimensionVerdict>,
    /// Whether any dimension was ever `violated` while both lived. For wide objects this is kept
    /// per offender and answered for those that hold the object now.
    pub ever_violated: bool,
}

/// One component of ι.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DimensionVerdict {
    /// Which.
    pub dimension: Dimension,
    /// The worst verdict of what both hold in it.
    pub verdict: Verdict,
    /// How bad that is between these two.
    pub severity: Severity,
    /// The object on which the verdict rests; none when nothing is shared.
    pub object: Option<ObjectKey>,
}

impl Pair {
    /// The component of one dimension; `None` for `privilege`, which no pair has.
    #[must_use]
    pub fn dimension(&self, dimension: Dimension) -> Option<&DimensionVerdict> {
        self.dimensions.iter().find(|d| d.dimension == dimension)
    }
}

/// Who holds what, and what follows from it. See the [module](self).
#[derive(Clone, Debug)]
pub struct IsolationIndex {
    entities: BTreeMap<EntityId, Entity>,
    /// Holders by object, each with its worst origin, in order of their ids.
    objects: BTreeMap<ObjectKey, Vec<(EntityId, Origin)>>,
    children: BTreeMap<EntityId, BTreeSet<EntityId>>,
    ownership: ownership::Ownership,
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
    held: BTreeMap<ObjectKey, Counts>,
    unknown: DimensionSet,
}

/// How many tasks hold an object, by origin.
#[derive(Clone, Copy, Debug, Default)]
struct Counts([u32; Origin::ALL.len()]);

/// A set of dimensions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct DimensionSet(u32);

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
            entities: BTreeMap::new(),
            objects: BTreeMap::new(),
            children: BTreeMap::new(),
            ownership: ownership::Ownership::default(),
            policy: Policy::default(),
            unknown: DimensionSet::default(),
            not_evaluated: DimensionSet::of(Dimension::References),
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
            let (held, unknown) = (BTreeMap::new(), DimensionSet::default());
            self.entities.insert(
                id,
                Entity {
                    profile,
                    sides,
                    held,
                    unknown,
                },
            );
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
        if entity.unknown != DimensionSet::default() {
            self.changes.row(id);
        }
        self.unlink(id, entity.profile.parent);
        self.rejoin_family(id);
        self.memory.forget(id);
    }

    /// One more task of an entity holds an object.
    pub fn hold(&mut self, id: EntityId, object: ObjectKey, origin: Origin) {
        let Some(entity) = self.entities.get_mut(&id) else {
            self.ignored += 1;
            return;
        };
        let counts = entity.held.entry(object).or_default();
        let before = counts.worst();
        counts.add(origin);
        if before < Some(origin) {
            self.replace_holder(id, object, Some(origin));
        }
    }

    /// One task less holds it; `origin` is the one that it was held with.
    pub fn release(&mut self, id: EntityId, object: ObjectKey, origin: Origin) {
        let counts = self
            .entities
            .get_mut(&id)
            .and_then(|e| e.held.get_mut(&object));
        let Some(counts) = counts.filter(|counts| counts.has(origin)) else {
            self.ignored += 1;
            return;
        };
        let before = counts.worst();
        counts.remove(origin);
        let after = counts.worst();
        if after.is_none()
            && let Some(entity) = self.entities.get_mut(&id)
        {
            entity.held.remove(&object);
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

    /// What two entities are to each other; symmetric. Who is not in the index (or is compared to
    /// itself) shares nothing.
    #[must_use]
    pub fn pair(&self, a: EntityId, b: EntityId) -> Pair {
        let (a, b) = (a.min(b), a.max(b));
        let relation = self.relation(a, b);
        let mut vector = PAIR_DIMENSIONS.map(DimensionVerdict::isolated);
        let mut joined = false;
        for (object, of_a, of_b) in self.common(a, b) {
            let sharing = self.sharing(&relation, object, (a, of_a), (b, of_b));
            joined |= sharing.is_declared_join();
            vector[slot(object.dimension())].worsen(rules::judge(&sharing), object);
        }
        self.weigh_ownership(a, b, &relation, &mut vector[slot(Dimension::Ownership)]);
        let unknown = self.unknown_between(a, b);
        for component in &mut vector {
            component.qualify(self.not_evaluated, unknown);
        }
        Pair {
            class: rules::class(&relation, joined),
            iota: self.iota(&vector),
            dimensions: vector.to_vec(),
            ever_violated: self.ever_violated(a, b, &relation),
        }
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
            .flat_map(|entity| &entity.held);
        held.filter_map(|(object, counts)| Some((*object, counts.worst()?)))
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

/// Queries.
impl IsolationIndex {
    /// Objects that both hold, each with its worst origin on both sides.
    fn common(
        &self,
        a: EntityId,
        b: EntityId,
    ) -> impl Iterator<Item = (ObjectKey, Origin, Origin)> + '_ {
        let held = |id| self.entities.get(&id).map(|entity| &entity.held);
        let sides = held(a).zip(held(b)).filter(|_| a != b);
        sides.into_iter().flat_map(|(of_a, of_b)| {
            let swap = of_a.len() > of_b.len();
            let (few, many) = if swap { (of_b, of_a) } else { (of_a, of_b) };
            few.iter().filter_map(move |(object, counts)| {
                let (x, y) = (counts.worst()?, many.get(object)?.worst()?);
                Some(if swap {
                    (*object, y, x)
                } else {
                    (*object, x, y)
                })
            })
        })
    }

    fn relation(&self, a: EntityId, b: EntityId) -> rules::Relation {
        let kind = |id| self.profile(id).map(|profile| profile.kind);
        let pod = |id| self.profile(id).and_then(|profile| profile.pod.as_deref());
        rules::Relation {
            kinds: [kind(a), kind(b)],
            same_pod: a != b && pod(a).is_some() && pod(a) == pod(b),
            above: [
                self.ancestors(b).any(|x| x == a),
                self.ancestors(a).any(|x| x == b),
            ],
            host: [a == HOST, b == HOST],
        }
    }

    fn sharing(
        &self,
        relation: &rules::Relation,
        object: ObjectKey,
        a: (EntityId, Origin),
        b: (EntityId, Origin),
    ) -> rules::Sharing {
        let dimension = object.dimension();
        let sides = |id| self.entities.get(&id).map(|entity| &entity.sides);
        let by_policy = sides(a.0)
            .zip(sides(b.0))
            .is_some_and(|(x, y)| self.policy.share_between(x, y, dimension).is_some());
        let initial = self.is_initial(object);
        rules::Sharing {
            relation: *relation,
            dimension,
            origins: [a.1, b.1],
            by_policy,
            initial,
        }
    }

    /// The verdict on one object for two of its holders.
    fn verdict_on(
        &self,
        object: ObjectKey,
        a: (EntityId, Origin),
        b: (EntityId, Origin),
    ) -> Verdict {
        if self.not_evaluated.contains(object.dimension()) {
            return Verdict::NotEvaluated;
        }
        rules::judge(&self.sharing(&self.relation(a.0, b.0), object, a, b)).verdict
    }

    /// Initial: the host's own. The host has the lowest id and so stands first.
    fn is_initial(&self, object: ObjectKey) -> bool {
        self.holders(object).first() == Some(&(HOST, Origin::Own))
    }

    /// All share it on an ordinary machine.
    fn is_universal(&self, object: ObjectKey) -> bool {
        rules::is_advisory_namespace(object.dimension()) && self.is_initial(object)
    }

    fn is_wide(&self, object: ObjectKey) -> bool {
        self.holders(object).len() > self.wide
    }

    /// Those that an entity is nested in, nearest first. The host does not count as one.
    fn ancestors(&self, id: EntityId) -> impl Iterator<Item = EntityId> + '_ {
        let up = |id: &EntityId| self.profile(*id)?.parent.filter(|p| *p != HOST);
        let known = |id: &EntityId| self.entities.contains_key(id);
        std::iter::successors(Some(id), move |x| up(x).filter(known))
            .skip(1)
            .take(NESTING_DEPTH)
            .filter(move |x| *x != id)
    }

    fn weigh_ownership(
        &self,
        a: EntityId,
        b: EntityId,
        relation: &rules::Relation,
        component: &mut DimensionVerdict,
    ) {
        let one_way = |x, y, x_above_y: bool| {
            self.ownership
                .reach(x, y)
                .filter(|_| !x_above_y && !relation.same_pod)
        };
        let [a_above, b_above] = relation.above;
        let reach = [one_way(a, b, a_above), one_way(b, a, b_above)]
            .into_iter()
            .flatten()
            .min();
        if let Some(user) = reach.filter(|_| a != b) {
            component.worsen(rules::OWNERSHIP_REACH, ObjectKey::Ns(Dimension::User, user));
        } else if !(self.ownership.knows(a) && self.ownership.knows(b)) {
            component.verdict = Verdict::NotEvaluated;
        }
    }

    fn unknown_between(&self, a: EntityId, b: EntityId) -> DimensionSet {
        let of = |id| {
            self.entities
                .get(&id)
                .map_or(DimensionSet::default(), |e| e.unknown)
        };
        self.unknown.union(of(a)).union(of(b))
    }

    /// 0 if a required dimension is violated or degraded, else null if one is not known, else 1.
    fn iota(&self, vector: &[DimensionVerdict]) -> Option<bool> {
        let mut iota = Some(true);
        for dimension in &self.policy.required {
            match vector
                .iter()
                .find(|d| d.dimension == *dimension)
                .map(|d| d.verdict)
            {
                Some(Verdict::Violated | Verdict::Degraded) => return Some(false),
                None | Some(Verdict::Unknown | Verdict::NotEvaluated) => iota = None,
                Some(Verdict::Isolated | Verdict::DeclaredShared | Verdict::BaselineShared) => {}
            }
        }
        iota
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
        let was_initial = self.is_initial(object);
        let holders = self.objects.entry(object).or_default();
        match (
            holders.binary_search_by_key(&id, |(holder, _)| *holder),
            origin,
        ) {
            (Ok(at), Some(origin)) => holders[at].1 = origin,
            (Ok(at), None) => drop(holders.remove(at)),
            (Err(at), Some(origin)) => holders.insert(at, (id, origin)),
            (Err(_), None) => {}
        }
        if holders.is_empty() {
            self.objects.remove(&object);
        }
        self.rejoin(id, object);
        // Whether it is initial matters to all who hold it.
        if was_initial != self.is_initial(object) {
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

impl DimensionVerdict {
    const fn isolated(dimension: Dimension) -> Self {
        let (verdict, severity) = (Verdict::Isolated, Severity::Info);
        Self {
            dimension,
            verdict,
            severity,
            object: None,
        }
    }

    /// Takes the worse of two judgements; of equal ones that on the lower object.
    fn worsen(&mut self, by: rules::Judgement, object: ObjectKey) {
        let new = (by.verdict, by.severity, std::cmp::Reverse(Some(object)));
        if new > (self.verdict, self.severity, std::cmp::Reverse(self.object)) {
            (self.verdict, self.severity) = (by.verdict, by.severity);
            self.object = Some(object);
        }
    }

    /// Replaces what the evidence does not bear: what is bad is bad even if more was lost.
    fn qualify(&mut self, not_evaluated: DimensionSet, unknown: DimensionSet) {
        if not_evaluated.contains(self.dimension) {
            *self = Self {
                verdict: Verdict::NotEvaluated,
                ..Self::isolated(self.dimension)
            };
        } else if unknown.contains(self.dimension)
            && !matches!(self.verdict, Verdict::Degraded | Verdict::Violated)
        {
            self.verdict = Verdict::Unknown;
            self.severity = Severity::Info;
        }
    }
}

impl Counts {
    fn add(&mut self, origin: Origin) {
        let count = &mut self.0[origin as usize];
        *count = count.saturating_add(1);
    }

    fn remove(&mut self, origin: Origin) {
        let count = &mut self.0[origin as usize];
        *count = count.saturating_sub(1);
    }

    const fn has(&self, origin: Origin) -> bool {
        self.0[origin as usize] > 0
    }

    fn worst(&self) -> Option<Origin> {
        Origin::ALL
            .into_iter()
            .rev()
            .find(|origin| self.has(*origin))
    }
}

impl DimensionSet {
    const fn of(dimension: Dimension) -> Self {
        Self(1 << dimension as u32)
    }

    const fn contains(self, dimension: Dimension) -> bool {
        self.0 & Self::of(dimension).0 != 0
    }

    const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    const fn insert(&mut self, dimension: Dimension) {
        self.0 |= Self::of(dimension).0;
    }

    const fn remove(&mut self, dimension: Dimension) {
        self.0 &= !Self::of(dimension).0;
    }
}

/// Where a dimension stands in a pair's vector.
fn slot(dimension: Dimension) -> usize {
    PAIR_DIMENSIONS
        .iter()
        .position(|d| *d == dimension)
        .expect("objects are of dimensions that pairs have")
}
