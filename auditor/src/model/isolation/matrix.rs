//! The matrix of ι: every pair counted, few of them listed, no loop over all of them.
//!
//! Two entities have a verdict of their own only if something narrow joins them: an object with
//! few holders, a pod, nesting, a user namespace, or that one of them is the host. Those pairs are
//! *special*, and there are about as many as there are such joins. Every other pair depends only on
//! what its two sides hold of the wide and universal objects that have an offender. So entities
//! with equal [`Signature`]s are interchangeable there: one representative pair speaks for a whole
//! block of the matrix, and the block counts as many pairs as it has, less the special ones in it.
//! On an ordinary machine there is one signature.

use super::ownership::Ownership;
use super::reach::{Powers, Reaches};
use super::sets::{Counts, DimensionSet};
use super::{DimensionVerdict, IsolationIndex, Pair};
use crate::model::facts::{EntityId, HOST, NsId, ObjectKey, Origin};
use crate::model::kinds::{Dimension, Verdict};
use crate::model::policy::ShareSides;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// Every entity, the host included, in order of stable ids.
    pub entities: Vec<EntityId>,
    /// Pairs with something to say, in order of stable ids.
    pub pairs: Vec<MatrixPair>,
    /// What many share, in order of objects.
    pub shared: Vec<SharedObject>,
    /// Counts over all pairs, listed or not.
    pub summary: Summary,
}

/// A listed pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatrixPair {
    /// The one with the lower stable id.
    pub a: EntityId,
    /// The other.
    pub b: EntityId,
    /// What they are to each other.
    pub pair: Pair,
}

/// An object that many share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedObject {
    /// The object.
    pub object: ObjectKey,
    /// In which dimension: that of the object, or `ownership`, or `processes`.
    pub dimension: Dimension,
    /// Its holders in order of stable ids.
    pub members: Vec<EntityId>,
    /// The worst verdict between two of them.
    pub verdict: Verdict,
    /// Members that acquired it, or have it although their spec does not say so; of `processes` those that reach
    /// others.
    pub offenders: Vec<EntityId>,
}

/// Counts of pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Entities, the host included.
    pub entities: u64,
    /// All pairs.
    pub pairs: u64,
    /// Pairs with ι = 1.
    pub isolated: u64,
    /// Pairs with ι = 0.
    pub violated: u64,
    /// Pairs with ι = null.
    pub unknown: u64,
}

/// All that decides ι between entities that nothing narrow joins.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Signature<'i> {
    /// Objects with an offender, in required dimensions.
    contested: Vec<(ObjectKey, Origin)>,
    /// Only where something is contested.
    sides: Option<&'i ShareSides>,
    unknown: DimensionSet,
    /// Wide user namespaces, whether it is the entity's own and whether it is above it. Only where
    /// ownership is required.
    users: Vec<(NsId, bool, bool)>,
    ownership_known: bool,
    /// Only where processes are required.
    reach: Option<Place>,
}

/// What of an entity's reach counts where nothing narrow joins two.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// Wide pid namespaces, and whether it is the entity's own.
    pids: Vec<(NsId, bool)>,
    users: Vec<NsId>,
    powers: Powers,
    uid: u32,
}

type Special = BTreeSet<(EntityId, EntityId)>;

impl IsolationIndex {
    /// The matrix as it stands.
    #[must_use]
    pub fn matrix(&self) -> Matrix {
        let mut entities: Vec<EntityId> = self.entities.keys().copied().collect();
        self.sort_by_key(&mut entities);
        let rank: BTreeMap<EntityId, usize> = entities
            .iter()
            .enumerate()
            .map(|(rank, id)| (*id, rank))
            .collect();
        let special = self.special_pairs();
        let mut summary = self.ordinary_summary(&special);
        let mut pairs = Vec::new();
        for (a, b) in special {
            let pair = self.pair(a, b);
            summary.count(pair.iota, 1);
            if pair
                .dimensions
                .iter()
                .any(|d| self.says_something(d, a == HOST))
            {
                let (a, b) = if rank[&a] < rank[&b] { (a, b) } else { (b, a) };
                pairs.push(MatrixPair { a, b, pair });
            }
        }
        pairs.sort_by_key(|p| (rank[&p.a], rank[&p.b]));
        Matrix {
            entities,
            pairs,
            shared: self.shared(),
            summary,
        }
    }

    fn sort_by_key(&self, ids: &mut [EntityId]) {
        ids.sort_by_key(|id| (self.profile(*id).map(|profile| &profile.key), *id));
    }

    /// Whether a component makes a pair worth listing. What many share is listed once, in
    /// [`Matrix::shared`]; with the host only what all share.
    fn says_something(&self, component: &DimensionVerdict, with_host: bool) -> bool {
        match component.verdict {
            Verdict::Degraded | Verdict::Violated => true,
            Verdict::DeclaredShared | Verdict::BaselineShared => {
                component.object.is_some_and(|object| {
                    !self.is_universal(object) && (with_host || !self.is_wide(object))
                })
            }
            Verdict::Isolated | Verdict::NotEvaluated | Verdict::Unknown => false,
        }
    }

    /// Listed once and not per pair.
    fn is_for_many(&self, object: ObjectKey) -> bool {
        self.is_wide(object) || self.is_universal(object)
    }

    fn special_pairs(&self) -> Special {
        let mut special = Special::new();
        let mut join = |ids: &[EntityId]| {
            for (i, a) in ids.iter().enumerate() {
                special.extend(ids[i + 1..].iter().map(|b| (*a.min(b), *a.max(b))));
            }
        };
        for (object, holders) in &self.objects {
            if !self.is_for_many(*object) {
                join(&holders.iter().map(|(id, _)| *id).collect::<Vec<_>>());
            }
        }
        let mut pods: BTreeMap<&str, Vec<EntityId>> = BTreeMap::new();
        for (id, entity) in &self.entities {
            join(&[HOST, *id]);
            self.ancestors(*id).for_each(|above| join(&[above, *id]));
            if let Some(pod) = &entity.profile.pod {
                pods.entry(pod).or_default().push(*id);
            }
        }
        pods.values().for_each(|pod| join(pod));
        for (_, own, over) in self.ownership.joins() {
            if !Ownership::is_wide(own, over, self.wide) {
                own.iter()
                    .for_each(|x| over.iter().for_each(|y| join(&[*x, *y])));
            }
        }
        for (_, own, below) in self.reaches.joins() {
            if !Reaches::is_wide(below, self.wide) {
                own.iter()
                    .for_each(|x| below.iter().for_each(|y| join(&[*x, *y])));
            }
        }
        special.retain(|(a, b)| a != b);
        special
    }

    /// Counts of all pairs that are not special.
    fn ordinary_summary(&self, special: &Special) -> Summary {
        let n = self.entities.len() as u64;
        let mut summary = Summary {
            entities: n,
            pairs: pairs_among(n),
            ..Summary::default()
        };
        let contested = self.contested_objects();
        let users = self.wide_users();
        let mut blocks: BTreeMap<Signature<'_>, Vec<EntityId>> = BTreeMap::new();
        for id in self.entities.keys() {
            blocks
                .entry(self.signature(*id, &contested, &users))
                .or_default()
                .push(*id);
        }
        let blocks: Vec<Vec<EntityId>> = blocks.into_values().collect();
        let block_of: BTreeMap<EntityId, usize> = blocks
            .iter()
            .enumerate()
            .flat_map(|(block, ids)| ids.iter().map(move |id| (*id, block)))
            .collect();
        let mut special_in: BTreeMap<(usize, usize), u64> = BTreeMap::new();
        for (a, b) in special {
            let (x, y) = (block_of[a], block_of[b]);
            *special_in.entry((x.min(y), x.max(y))).or_default() += 1;
        }
        for (x, rows) in blocks.iter().enumerate() {
            for (y, columns) in blocks.iter().enumerate().skip(x) {
                let (r, c) = (rows.len() as u64, columns.len() as u64);
                let all = if x == y { pairs_among(r) } else { r * c };
                let ordinary = all - special_in.get(&(x, y)).copied().unwrap_or_default();
                let pair = (ordinary > 0)
                    .then(|| representative(rows, columns, special))
                    .flatten();
                if let Some((a, b)) = pair {
                    summary.count(self.pair(a, b).iota, ordinary);
                }
            }
        }
        summary
    }

    /// Objects for many, in required dimensions, that can make a pair violated: all others are at
    /// most `baseline_shared` between any two.
    fn contested_objects(&self) -> BTreeSet<ObjectKey> {
        let required = |object: &ObjectKey| self.policy.required.contains(&object.dimension());
        let contested = |object: &ObjectKey| {
            self.is_for_many(*object)
                && self
                    .holders(*object)
                    .iter()
                    .any(|(_, origin)| *origin >= Origin::Undeclared)
        };
        self.objects
            .keys()
            .filter(|o| required(o) && contested(o))
            .copied()
            .collect()
    }

    fn wide_users(&self) -> Vec<(NsId, &BTreeSet<EntityId>, &BTreeSet<EntityId>)> {
        let is_wide = |(_, own, over): &(_, &_, &_)| Ownership::is_wide(own, over, self.wide);
        self.ownership.joins().filter(is_wide).collect()
    }

    fn signature(
        &self,
        id: EntityId,
        contested: &BTreeSet<ObjectKey>,
        users: &[(NsId, &BTreeSet<EntityId>, &BTreeSet<EntityId>)],
    ) -> Signature<'_> {
        let entity = self.entities.get(&id);
        let origin = |object: &ObjectKey| entity?.held.get(object).and_then(Counts::worst);
        let mut required = DimensionSet::default();
        self.policy
            .required
            .iter()
            .for_each(|dimension| required.insert(*dimension));
        let ownership = required.contains(Dimension::Ownership);
        let processes = required.contains(Dimension::Processes);
        let role = |(user, own, over): &(NsId, &BTreeSet<EntityId>, &BTreeSet<EntityId>)| {
            Some((*user, own.contains(&id), over.contains(&id))).filter(|(_, x, y)| *x || *y)
        };
        Signature {
            contested: contested
                .iter()
                .filter_map(|o| Some((*o, origin(o)?)))
                .collect(),
            sides: entity
                .map(|e| &e.sides)
                .filter(|_| !contested.is_empty() || processes),
            unknown: entity.map_or(required, |e| e.unknown.intersection(required)),
            users: if ownership {
                users.iter().filter_map(role).collect()
            } else {
                Vec::new()
            },
            ownership_known: ownership && self.ownership.knows(id),
            reach: processes.then(|| self.place(id)).flatten(),
        }
    }

    fn place(&self, id: EntityId) -> Option<Place> {
        let reach = self.reaches.get(id)?;
        let wide = self.wide_pids();
        let pids = wide.filter(|(_, _, below)| below.contains(&id));
        Some(Place {
            pids: pids.map(|(pid, own, _)| (pid, own.contains(&id))).collect(),
            users: reach.user.clone(),
            powers: reach.powers,
            uid: reach.uid,
        })
    }

    fn wide_pids(&self) -> impl Iterator<Item = (NsId, &BTreeSet<EntityId>, &BTreeSet<EntityId>)> {
        let is_wide = |(_, _, below): &(_, _, &_)| Reaches::is_wide(below, self.wide);
        self.reaches.joins().filter(is_wide)
    }

    /// What one pid namespace lets those in it do to many.
    fn wide_reach(
        &self,
        pid: NsId,
        own: &BTreeSet<EntityId>,
        below: &BTreeSet<EntityId>,
    ) -> Option<SharedObject> {
        let verdict = |x: EntityId, y: EntityId| {
            self.reach(x, y)?;
            Some(self.pair(x, y).dimension(Dimension::Processes)?.verdict)
        };
        let worst = |x: &EntityId| below.iter().filter_map(|y| verdict(*x, *y)).max();
        let mut offenders: Vec<EntityId> = own.iter().copied().collect();
        offenders.retain(|x| worst(x) == Some(Verdict::Degraded));
        let verdict = own.iter().filter_map(worst).max()?;
        let mut members: Vec<EntityId> = below.iter().copied().collect();
        self.sort_by_key(&mut members);
        self.sort_by_key(&mut offenders);
        Some(SharedObject {
            object: ObjectKey::Ns(Dimension::Pid, pid),
            dimension: Dimension::Processes,
            members,
            verdict,
            offenders,
        })
    }

    fn shared(&self) -> Vec<SharedObject> {
        let mut shared = Vec::new();
        let mut many: Vec<(&ObjectKey, &Vec<(EntityId, Origin)>)> = self
            .objects
            .iter()
            .filter(|(object, holders)| holders.len() >= 2 && self.is_for_many(**object))
            .collect();
        many.sort_unstable_by_key(|(object, _)| **object);
        for (object, holders) in many {
            let mut members: Vec<EntityId> = holders.iter().map(|(id, _)| *id).collect();
            let (verdict, mut offenders) = self.worst_among(*object, holders);
            self.sort_by_key(&mut members);
            self.sort_by_key(&mut offenders);
            let dimension = object.dimension();
            shared.push(SharedObject {
                object: *object,
                dimension,
                members,
                verdict,
                offenders,
            });
        }
        for (user, own, over) in self.wide_users() {
            let mut members: Vec<EntityId> = own.union(over).copied().collect();
            self.sort_by_key(&mut members);
            shared.push(SharedObject {
                object: ObjectKey::Ns(Dimension::User, user),
                dimension: Dimension::Ownership,
                members,
                verdict: Verdict::Degraded,
                offenders: Vec::new(),
            });
        }
        let reaches = self.wide_pids();
        shared.extend(reaches.filter_map(|(pid, own, below)| self.wide_reach(pid, own, below)));
        shared
    }

    /// The worst verdict between two holders, and who causes it. A holder is tried against
    /// [`examples`](Self::examples) and no further than needed.
    fn worst_among(
        &self,
        object: ObjectKey,
        holders: &[(EntityId, Origin)],
    ) -> (Verdict, Vec<EntityId>) {
        if self.not_evaluated.contains(object.dimension()) {
            return (Verdict::NotEvaluated, Vec::new());
        }
        let examples = self.examples(holders);
        let any = |x: &(EntityId, Origin), verdict| {
            let mut others = examples.iter().filter(|y| y.0 != x.0);
            others.any(|y| self.verdict_on(object, *x, *y) == verdict)
        };
        let suspects = holders
            .iter()
            .filter(|(_, origin)| *origin >= Origin::Undeclared);
        let offenders: Vec<EntityId> = suspects
            .filter(|x| any(x, Verdict::Violated))
            .map(|(id, _)| *id)
            .collect();
        let verdict = if !offenders.is_empty() {
            Verdict::Violated
        } else if examples.iter().any(|x| any(x, Verdict::Degraded)) {
            Verdict::Degraded
        } else if examples.iter().any(|x| any(x, Verdict::BaselineShared)) {
            Verdict::BaselineShared
        } else {
            Verdict::DeclaredShared
        };
        (verdict, offenders)
    }

    /// Two holders of each sort (a holder is not compared to itself). All that a verdict depends
    /// on tells sorts apart: origin, the host, pod, nesting, the policy's sides.
    fn examples(&self, holders: &[(EntityId, Origin)]) -> Vec<(EntityId, Origin)> {
        let mut sorts: BTreeMap<_, Vec<(EntityId, Origin)>> = BTreeMap::new();
        for holder in holders {
            let entity = self.entities.get(&holder.0);
            // An entity that nests others is a sort of its own.
            let nests = self.children.contains_key(&holder.0).then_some(holder.0);
            let sort = entity.map(|e| (e.profile.pod.as_deref(), &e.sides, e.profile.parent));
            let examples = sorts
                .entry((holder.1, holder.0 == HOST, nests, sort))
                .or_default();
            if examples.len() < 2 {
                examples.push(*holder);
            }
        }
        sorts.into_values().flatten().collect()
    }
}

impl Summary {
    fn count(&mut self, iota: Option<bool>, pairs: u64) {
        let place = match iota {
            Some(true) => &mut self.isolated,
            Some(false) => &mut self.violated,
            None => &mut self.unknown,
        };
        *place += pairs;
    }
}

const fn pairs_among(n: u64) -> u64 {
    n * n.saturating_sub(1) / 2
}

/// The first pair of a block that is not special. Looks at no more pairs than there are special
/// ones, and one.
fn representative(
    rows: &[EntityId],
    columns: &[EntityId],
    special: &Special,
) -> Option<(EntityId, EntityId)> {
    let pairs = rows
        .iter()
        .flat_map(|a| columns.iter().map(move |b| (*a.min(b), *a.max(b))));
    pairs
        .into_iter()
        .find(|(a, b)| a != b && !special.contains(&(*a, *b)))
}
