//! Who could enter whose namespaces through the user namespace that owns them.
//!
//! A namespace belongs to the user namespace of its creator, and whoever is privileged in that one,
//! or in one above it, may enter. So entity x reaches y when x's own user namespace (unless it is
//! the initial one, where everybody is) owns one of y's namespaces or stands above its owner.
//!
//! The join is over user namespaces: [`Ownership::own`] × [`Ownership::over`]. Membership changes
//! one at a time, and each change tells the other side as it stands at that moment; so no pair
//! whose reach changed goes untold.

use super::changes::Changes;
use crate::model::facts::{EntityId, NsId, ObjectKey};
use crate::model::kinds::Dimension;
use std::collections::{BTreeMap, BTreeSet};

/// Levels of user namespaces that are looked at; the kernel allows 32 below the initial one.
const LEVELS: usize = 33;

#[derive(Clone, Debug, Default)]
pub(super) struct Ownership {
    chains: BTreeMap<EntityId, Vec<NsId>>,
    owners: BTreeMap<EntityId, BTreeSet<NsId>>,
    /// The parent of a user namespace, and how many chains say so.
    parents: BTreeMap<NsId, (NsId, u32)>,
    /// By user namespace that is not initial: whose own it is.
    own: BTreeMap<NsId, BTreeSet<EntityId>>,
    /// By user namespace: whose namespaces it, or one below it, owns.
    over: BTreeMap<NsId, BTreeSet<EntityId>>,
    /// Owners of an entity's namespaces and all above them: the transpose of `over`.
    closures: BTreeMap<EntityId, BTreeSet<NsId>>,
}

impl Ownership {
    /// The user namespace by which x reaches y.
    pub(super) fn reach(&self, x: EntityId, y: EntityId) -> Option<NsId> {
        let own = self.own_of(x)?;
        self.closures.get(&y)?.contains(&own).then_some(own)
    }

    /// Whether anything can be said about an entity.
    pub(super) fn knows(&self, id: EntityId) -> bool {
        self.chains.contains_key(&id) && self.owners.contains_key(&id)
    }

    /// Each user namespace by which someone may reach someone: whose own it is, who is below.
    pub(super) fn joins(
        &self,
    ) -> impl Iterator<Item = (NsId, &BTreeSet<EntityId>, &BTreeSet<EntityId>)> {
        self.own
            .iter()
            .filter_map(|(user, own)| Some((*user, own, self.over.get(user)?)))
    }

    pub(super) fn is_wide(
        own: &BTreeSet<EntityId>,
        over: &BTreeSet<EntityId>,
        wide: usize,
    ) -> bool {
        own.union(over).count() > wide
    }

    pub(super) fn set_chain(
        &mut self,
        id: EntityId,
        mut chain: Vec<NsId>,
        wide: usize,
        changes: &mut Changes,
    ) {
        chain.truncate(LEVELS);
        if self.chains.get(&id) == Some(&chain) {
            return;
        }
        self.drop_chain(id, wide, changes);
        for edge in chain.windows(2) {
            let known = self.parents.entry(edge[0]).or_insert((edge[1], 0));
            known.1 += 1;
            if known.1 == 1 {
                self.reclose(edge[0], wide, changes);
            }
        }
        if chain.len() > 1 {
            self.own.entry(chain[0]).or_default().insert(id);
        }
        self.chains.insert(id, chain);
        self.tell_own(id, wide, changes);
    }

    pub(super) fn set_owners(
        &mut self,
        id: EntityId,
        owners: BTreeSet<NsId>,
        wide: usize,
        changes: &mut Changes,
    ) {
        self.owners.insert(id, owners);
        self.close(id, wide, changes);
    }

    pub(super) fn remove(&mut self, id: EntityId, wide: usize, changes: &mut Changes) {
        self.drop_chain(id, wide, changes);
        self.owners.remove(&id);
        self.close(id, wide, changes);
        self.closures.remove(&id);
    }

    /// Tells every pair that an entity has by ownership.
    pub(super) fn rejoin(&self, id: EntityId, wide: usize, changes: &mut Changes) {
        self.tell_own(id, wide, changes);
        for user in self.closures.get(&id).into_iter().flatten() {
            self.tell(id, *user, wide, changes);
        }
    }

    fn own_of(&self, id: EntityId) -> Option<NsId> {
        self.chains
            .get(&id)
            .filter(|chain| chain.len() > 1)
            .map(|chain| chain[0])
    }

    fn drop_chain(&mut self, id: EntityId, wide: usize, changes: &mut Changes) {
        self.tell_own(id, wide, changes);
        let own = self.own_of(id);
        let chain = self.chains.remove(&id).unwrap_or_default();
        if let Some(own) = own {
            discard(&mut self.own, own, id);
        }
        for edge in chain.windows(2) {
            let Some(known) = self.parents.get_mut(&edge[0]) else {
                continue;
            };
            known.1 -= 1;
            if known.1 == 0 {
                self.parents.remove(&edge[0]);
                self.reclose(edge[0], wide, changes);
            }
        }
    }

    /// The parent of a user namespace became known or unknown.
    fn reclose(&mut self, user: NsId, wide: usize, changes: &mut Changes) {
        let below: Vec<EntityId> = self
            .over
            .get(&user)
            .into_iter()
            .flatten()
            .copied()
            .collect();
        for id in below {
            self.close(id, wide, changes);
        }
    }

    /// Recomputes the closure of an entity's owners.
    fn close(&mut self, id: EntityId, wide: usize, changes: &mut Changes) {
        let mut new = BTreeSet::new();
        for owner in self.owners.get(&id).into_iter().flatten() {
            let up = |user: &NsId| self.parents.get(user).map(|(parent, _)| *parent);
            new.extend(std::iter::successors(Some(*owner), up).take(LEVELS));
        }
        let old = self.closures.insert(id, new.clone()).unwrap_or_default();
        for user in old.symmetric_difference(&new) {
            self.tell(id, *user, wide, changes);
            if new.contains(user) {
                self.over.entry(*user).or_default().insert(id);
            } else {
                discard(&mut self.over, *user, id);
            }
        }
    }

    fn tell_own(&self, id: EntityId, wide: usize, changes: &mut Changes) {
        if let Some(own) = self.own_of(id) {
            self.tell(id, own, wide, changes);
        }
    }

    /// Tells the pairs of an entity with all that a user namespace concerns.
    fn tell(&self, id: EntityId, user: NsId, wide: usize, changes: &mut Changes) {
        let empty = BTreeSet::new();
        let own = self.own.get(&user).unwrap_or(&empty);
        let over = self.over.get(&user).unwrap_or(&empty);
        if own.is_empty() {
            return;
        }
        if Self::is_wide(own, over, wide) {
            changes.object(ObjectKey::Ns(Dimension::User, user));
            return;
        }
        for other in own.union(over) {
            changes.pair(id, *other);
        }
    }
}

fn discard(map: &mut BTreeMap<NsId, BTreeSet<EntityId>>, key: NsId, id: EntityId) {
    if let Some(set) = map.get_mut(&key) {
        set.remove(&id);
        if set.is_empty() {
            map.remove(&key);
        }
    }
}
