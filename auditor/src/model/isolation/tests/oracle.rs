//! ι as isolation.md says it, by brute force: lists, all pairs, nothing kept between questions.
//! Shares no code with the index, only the vocabulary.

use crate::model::facts::{EntityId, HOST, NsId, ObjectKey, Origin};
use crate::model::isolation::Reach;
use crate::model::kinds::{Dimension, PairClass, Verdict};
use crate::model::output::EntityKind;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug)]
pub(crate) struct Who {
    pub(crate) kind: EntityKind,
    pub(crate) name: Option<&'static str>,
    pub(crate) pod: Option<&'static str>,
    pub(crate) parent: Option<EntityId>,
}

/// One side of a declared share: the host, or entities of a name.
pub(crate) type Side = Option<&'static str>;

#[derive(Clone, Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) entities: BTreeMap<EntityId, Who>,
    /// One line for each task and object.
    pub(crate) holds: Vec<(EntityId, ObjectKey, Origin)>,
    pub(crate) shares: Vec<(Side, Side, Vec<Dimension>)>,
    pub(crate) required: Vec<Dimension>,
    pub(crate) unknown: Vec<(Option<EntityId>, Dimension)>,
    pub(crate) blind: Vec<Dimension>,
    pub(crate) users: BTreeMap<EntityId, Vec<NsId>>,
    pub(crate) owners: BTreeMap<EntityId, BTreeSet<NsId>>,
    pub(crate) reaches: BTreeMap<EntityId, Reach>,
    pub(crate) ever: BTreeSet<(EntityId, EntityId)>,
}

impl Oracle {
    fn origin(&self, id: EntityId, object: ObjectKey) -> Option<Origin> {
        let mine = self
            .holds
            .iter()
            .filter(|(e, o, _)| (*e, *o) == (id, object));
        mine.map(|(_, _, origin)| *origin).max()
    }

    fn inside(&self, inner: EntityId, outer: EntityId) -> bool {
        let mut at = inner;
        for _ in 0..20 {
            match self.entities.get(&at).and_then(|who| who.parent) {
                Some(up) if up == HOST || !self.entities.contains_key(&up) => return false,
                Some(up) if up == outer => return inner != outer,
                Some(up) => at = up,
                None => return false,
            }
        }
        false
    }

    fn one_pod(&self, a: EntityId, b: EntityId) -> bool {
        let pod = |id| self.entities.get(&id).and_then(|who: &Who| who.pod);
        pod(a).is_some() && pod(a) == pod(b)
    }

    fn declared_by_policy(&self, a: EntityId, b: EntityId, dimension: Dimension) -> bool {
        let is = |side: Side, id: EntityId| match side {
            None => id == HOST,
            Some(name) => self.entities.get(&id).and_then(|who| who.name) == Some(name),
        };
        self.shares.iter().any(|(x, y, dimensions)| {
            dimensions.contains(&dimension)
                && ((is(*x, a) && is(*y, b)) || (is(*x, b) && is(*y, a)))
        })
    }

    fn initial(&self, object: ObjectKey) -> bool {
        self.origin(HOST, object) == Some(Origin::Own)
    }

    fn both_hold(&self, a: EntityId, b: EntityId) -> Vec<ObjectKey> {
        self.both_hold_where(a, b, |_| true)
    }

    fn both_hold_where(
        &self,
        a: EntityId,
        b: EntityId,
        wanted: impl Fn(&ObjectKey) -> bool,
    ) -> Vec<ObjectKey> {
        let of = |id| -> Vec<ObjectKey> {
            let his = self.holds.iter().filter(|(e, o, _)| *e == id && wanted(o));
            his.map(|(_, object, _)| *object).collect()
        };
        let of_b = of(b);
        of(a)
            .into_iter()
            .filter(|object| of_b.contains(object))
            .collect()
    }

    /// viol_d(x, y) = share_d(x, y) \ (declared_d ∪ universal_d), object by object.
    fn object_verdict(&self, a: EntityId, b: EntityId, object: ObjectKey) -> Verdict {
        use Dimension as D;
        let d = object.dimension();
        let (of_a, of_b) = (
            self.origin(a, object).unwrap(),
            self.origin(b, object).unwrap(),
        );
        let from_above = |x: EntityId, y: EntityId| x == HOST || self.inside(y, x);
        let stolen = (of_a == Origin::Acquired && !from_above(a, b))
            || (of_b == Origin::Acquired && !from_above(b, a));
        let reached_down = of_a == Origin::Acquired || of_b == Origin::Acquired;
        if d == D::Handles {
            return self.handle_verdict(a, b, of_a == Origin::Acquired || of_b == Origin::Acquired);
        }
        let pods = [D::Net, D::Ipc, D::Uts, D::Time, D::User, D::CgroupNs];
        let declared = of_a == Origin::Declared
            || of_b == Origin::Declared
            || reached_down
            || (self.one_pod(a, b) && pods.contains(&d));
        let universal = self.initial(object) && [D::User, D::Time, D::CgroupNs].contains(&d);
        let hidden = of_a == Origin::Undeclared || of_b == Origin::Undeclared;
        match (
            self.declared_by_policy(a, b, d),
            stolen,
            declared,
            universal,
            hidden,
        ) {
            (true, ..) => Verdict::DeclaredShared,
            (_, true, ..) => Verdict::Violated,
            (_, _, true, ..) => Verdict::DeclaredShared,
            (_, _, _, true, _) => Verdict::BaselineShared,
            (_, _, _, _, true) => Verdict::Violated,
            _ => Verdict::BaselineShared,
        }
    }

    /// A handle of both: it degrades unless it was given, or is the business of those around one.
    fn handle_verdict(&self, a: EntityId, b: EntityId, taken: bool) -> Verdict {
        let nested = self.inside(a, b) || self.inside(b, a);
        if self.declared_by_policy(a, b, Dimension::Handles) || self.one_pod(a, b) {
            Verdict::DeclaredShared
        } else if taken && !nested {
            Verdict::Degraded
        } else {
            Verdict::BaselineShared
        }
    }

    /// Whether x's own user namespace owns a namespace of y, or stands above an owner.
    fn could_enter(&self, x: EntityId, y: EntityId) -> bool {
        let Some([own, _, ..]) = self.users.get(&x).map(Vec::as_slice) else {
            return false;
        };
        if self.inside(y, x) || self.one_pod(x, y) {
            return false;
        }
        let parent = |user: NsId| {
            let edges = self.users.values().flat_map(|chain| chain.windows(2));
            edges
                .into_iter()
                .find(|edge| edge[0] == user)
                .map(|edge| edge[1])
        };
        self.owners.get(&y).into_iter().flatten().any(|owner| {
            let mut at = Some(*owner);
            while let Some(user) = at {
                if user == *own {
                    return true;
                }
                at = parent(user);
            }
            false
        })
    }

    /// Whether x sees y's processes and may do anything to them.
    fn could_touch(&self, x: EntityId, y: EntityId) -> bool {
        let (Some(of_x), Some(of_y)) = (self.reaches.get(&x), self.reaches.get(&y)) else {
            return false;
        };
        if x == HOST || self.inside(y, x) || self.one_pod(x, y) {
            return false;
        }
        let sees = of_y.pid.contains(&of_x.pid[0]);
        let rules = of_y.user.contains(&of_x.user[0]);
        let able = of_x.powers.trace || of_x.powers.signal;
        sees && (rules && able || of_x.uid == of_y.uid)
    }

    fn facts(&self, id: EntityId) -> bool {
        self.users.contains_key(&id) && self.owners.contains_key(&id)
    }

    pub(crate) fn verdict(&self, a: EntityId, b: EntityId, d: Dimension) -> Verdict {
        if self.blind.contains(&d) {
            return Verdict::NotEvaluated;
        }
        let shared = self.both_hold_where(a, b, |object| object.dimension() == d);
        let mut verdict = shared
            .iter()
            .map(|object| self.object_verdict(a, b, *object))
            .max()
            .unwrap_or(Verdict::Isolated);
        if d == Dimension::Ownership {
            if self.could_enter(a, b) || self.could_enter(b, a) {
                verdict = Verdict::Degraded;
            } else if !self.facts(a) || !self.facts(b) {
                verdict = Verdict::NotEvaluated;
            }
        }
        if d == Dimension::Processes {
            if !self.reaches.contains_key(&a) || !self.reaches.contains_key(&b) {
                verdict = Verdict::NotEvaluated;
            } else if self.could_touch(a, b) || self.could_touch(b, a) {
                let declared = self.declared_by_policy(a, b, d);
                verdict = if declared {
                    Verdict::DeclaredShared
                } else {
                    Verdict::Degraded
                };
            }
        }
        let lost = self
            .unknown
            .iter()
            .any(|(who, dimension)| *dimension == d && who.is_none_or(|who| who == a || who == b));
        let proven = verdict == Verdict::Violated || verdict == Verdict::Degraded;
        if lost && !proven {
            Verdict::Unknown
        } else {
            verdict
        }
    }

    pub(crate) fn iota(&self, a: EntityId, b: EntityId) -> Option<bool> {
        let all: Vec<Verdict> = self
            .required
            .iter()
            .map(|d| self.verdict(a, b, *d))
            .collect();
        let bad = |v: &Verdict| matches!(v, Verdict::Violated | Verdict::Degraded);
        let open = |v: &Verdict| matches!(v, Verdict::Unknown | Verdict::NotEvaluated);
        if all.iter().any(bad) {
            Some(false)
        } else if all.iter().any(open) {
            None
        } else {
            Some(true)
        }
    }

    pub(crate) fn class(&self, a: EntityId, b: EntityId) -> PairClass {
        let vm = |id: EntityId| self.entities[&id].kind == EntityKind::Vm;
        let declared_join = self.both_hold(a, b).into_iter().any(|object| {
            let declared = |id| self.origin(id, object) == Some(Origin::Declared);
            !self.initial(object) && (declared(a) || declared(b))
        });
        if self.one_pod(a, b) {
            PairClass::K1
        } else if self.inside(a, b) || self.inside(b, a) {
            PairClass::K5
        } else if a == HOST || b == HOST {
            PairClass::K3
        } else {
            match (vm(a), vm(b)) {
                (true, true) => PairClass::K6,
                (false, false) if declared_join => PairClass::K4,
                (false, false) => PairClass::K2,
                _ => PairClass::K7,
            }
        }
    }

    /// To be called after every step: pairs remember.
    pub(crate) fn remember(&mut self) {
        let ids: Vec<EntityId> = self.entities.keys().copied().collect();
        self.ever
            .retain(|(a, b)| ids.contains(a) && ids.contains(b));
        for a in &ids {
            for b in ids.iter().filter(|b| a < b) {
                let bad = |d: &Dimension| self.verdict(*a, *b, *d) == Verdict::Violated;
                if Dimension::ALL.iter().any(bad) {
                    self.ever.insert((*a, *b));
                }
            }
        }
    }
}
