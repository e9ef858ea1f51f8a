//! One pair: what both hold, judged dimension by dimension, and ι.

use super::sets::{Counts, DimensionSet};
use super::{IsolationIndex, NESTING_DEPTH, rules};
use crate::model::facts::{EntityId, HOST, ObjectKey, Origin};
use crate::model::kinds::{Dimension, PairClass, Severity, Verdict};

/// The dimensions of a pair's vector, in order. `privilege` belongs to one entity, not to two.
pub const PAIR_DIMENSIONS: [Dimension; 17] = [
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
    Dimension::Processes,
    Dimension::Mounts,
    Dimension::Handles,
];

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

impl IsolationIndex {
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
        self.weigh_reach(a, b, &relation, &mut vector[slot(Dimension::Processes)]);
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

    /// Whether any dimension of the pair is violated: what [`Self::pair`] says, at the price of what both hold.
    #[must_use]
    pub fn is_violated(&self, a: EntityId, b: EntityId) -> bool {
        let (a, b) = (a.min(b), a.max(b));
        let entity = |id| self.entities.get(&id);
        let offends = |id| entity(id).is_some_and(|e| e.held.values().any(Counts::offends));
        if !offends(a) && !offends(b) {
            return false;
        }
        let relation = self.relation(a, b);
        self.common(a, b).any(|(object, of_a, of_b)| {
            let sharing = self.sharing(&relation, object, (a, of_a), (b, of_b));
            !self.not_evaluated.contains(object.dimension())
                && rules::judge(&sharing).verdict == Verdict::Violated
        })
    }

    /// Objects that both hold, each with its worst origin on both sides.
    pub(super) fn common(
        &self,
        a: EntityId,
        b: EntityId,
    ) -> impl Iterator<Item = (ObjectKey, Origin, Origin)> + '_ {
        let held = |id| self.entities.get(&id).map(|entity| &entity.held);
        let sides = held(a).zip(held(b)).filter(|_| a != b);
        // Both are in order, so one walk over both finds what is in both.
        sides.into_iter().flat_map(|(of_a, of_b)| {
            let mut others = of_b.iter().peekable();
            of_a.iter().filter_map(move |(object, counts)| {
                while others.next_if(|(other, _)| *other < object).is_some() {}
                let (_, of_b) = others.next_if(|(other, _)| *other == object)?;
                Some((*object, counts.worst()?, of_b.worst()?))
            })
        })
    }

    pub(super) fn relation(&self, a: EntityId, b: EntityId) -> rules::Relation {
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

    pub(super) fn sharing(
        &self,
        relation: &rules::Relation,
        object: ObjectKey,
        a: (EntityId, Origin),
        b: (EntityId, Origin),
    ) -> rules::Sharing {
        let dimension = object.dimension();
        let by_policy = self.is_declared(a.0, b.0, dimension);
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
    pub(super) fn verdict_on(
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

    /// Initial: the host's own.
    pub(super) fn is_initial(&self, object: ObjectKey) -> bool {
        is_initial(self.holders(object))
    }

    /// All share it on an ordinary machine.
    pub(super) fn is_universal(&self, object: ObjectKey) -> bool {
        rules::is_advisory_namespace(object.dimension()) && self.is_initial(object)
    }

    pub(super) fn is_wide(&self, object: ObjectKey) -> bool {
        self.holders(object).len() > self.wide
    }

    /// Those that an entity is nested in, nearest first. The host does not count as one.
    pub(super) fn ancestors(&self, id: EntityId) -> impl Iterator<Item = EntityId> + '_ {
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

    fn weigh_reach(
        &self,
        a: EntityId,
        b: EntityId,
        relation: &rules::Relation,
        component: &mut DimensionVerdict,
    ) {
        if self.reaches.get(a).is_none() || self.reaches.get(b).is_none() {
            component.verdict = Verdict::NotEvaluated;
            return;
        }
        let [a_above, b_above] = relation.above;
        for (x, y, above) in [(a, b, a_above), (b, a, b_above)] {
            let Some((means, pid)) = self.reaches.means(x, y) else {
                continue;
            };
            if above || relation.same_pod {
                continue;
            }
            let mut judgement = rules::reach(means);
            if self.is_declared(a, b, Dimension::Processes) {
                judgement.verdict = Verdict::DeclaredShared;
            }
            component.worsen(judgement, ObjectKey::Ns(Dimension::Pid, pid));
        }
    }

    /// Whether a `share` of the policy covers a dimension of a pair.
    fn is_declared(&self, a: EntityId, b: EntityId, dimension: Dimension) -> bool {
        let sides = |id| self.entities.get(&id).map(|entity| &entity.sides);
        !self.policy.shares.is_empty()
            && sides(a)
                .zip(sides(b))
                .is_some_and(|(x, y)| self.policy.share_between(x, y, dimension).is_some())
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

/// Whether what they hold is the host's own. The host has the lowest id and so stands first.
pub(super) fn is_initial(holders: &[(EntityId, Origin)]) -> bool {
    holders.first() == Some(&(HOST, Origin::Own))
}

/// Where a dimension stands in a pair's vector.
fn slot(dimension: Dimension) -> usize {
    PAIR_DIMENSIONS
        .iter()
        .position(|d| *d == dimension)
        .expect("objects are of dimensions that pairs have")
}
