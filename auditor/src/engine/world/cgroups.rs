//! Cgroups by id, and whose territory each is.
//!
//! A container's *territory* is the subtree of its cgroup in every hierarchy. Territories come from
//! paths: either the path itself tells (Docker, Kubernetes, …), or a container claimed it at its
//! start. A path claims the same subtree in all hierarchies.

use crate::model::facts::{EntityId, HOST};
use hashbrown::HashMap;
use std::cell::Cell;
use std::collections::BTreeSet;

/// A cgroup's identity: hierarchy id (0: v2) and kernfs node id.
pub type CgroupKey = (u32, u64);

/// Cgroups kept at most. Beyond it new ones are not named (their tasks count as the host's) and
/// counted as unnamed.
pub const MAX_CGROUPS: usize = 1 << 18;

/// The slots in a mask, lowest first.
pub fn slots_in(mask: u16) -> impl Iterator<Item = usize> {
    let mut left = mask;
    std::iter::from_fn(move || {
        let slot = left.trailing_zeros() as usize;
        // Takes the lowest bit away.
        left &= left.checked_sub(1)?;
        Some(slot)
    })
}

/// A living cgroup.
#[derive(Clone, Debug)]
struct Cgroup {
    path: Box<str>,
    /// Whose territory it was, and in which generation of claims.
    territory: Cell<(u64, EntityId)>,
}

/// No generation.
const NEVER: u64 = u64::MAX;

/// All living cgroups.
#[derive(Debug, Default)]
pub struct Cgroups {
    living: HashMap<CgroupKey, Cgroup>,
    /// Subtree root path → entity.
    claims: HashMap<Box<str>, EntityId>,
    /// The paths that an entity claimed; some may be another's since.
    claimed: HashMap<EntityId, Vec<Box<str>>>,
    /// Grows whenever a claim changes. A claim concerns a whole subtree, of which few cgroups are looked up
    /// before the next one does.
    generation: u64,
    /// Cgroups that did not fit.
    pub unnamed: u64,
}

impl Cgroups {
    /// A cgroup appeared, or was found.
    pub fn insert(&mut self, key: CgroupKey, path: &str) {
        if self.living.len() >= MAX_CGROUPS && !self.living.contains_key(&key) {
            self.unnamed += 1;
            return;
        }
        let cgroup = Cgroup {
            path: path.into(),
            territory: Cell::new((NEVER, HOST)),
        };
        self.living.insert(key, cgroup);
    }

    /// A cgroup's id may be reused from here on.
    pub fn remove(&mut self, key: CgroupKey) {
        self.living.remove(&key);
    }

    /// Path below the hierarchy's root.
    #[must_use]
    pub fn path(&self, key: CgroupKey) -> Option<&str> {
        self.living.get(&key).map(|c| c.path.as_ref())
    }

    /// All living cgroups, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (CgroupKey, &str)> {
        self.living.iter().map(|(key, c)| (*key, c.path.as_ref()))
    }

    /// Hierarchies in which a path exists. Walks all cgroups: for rare use.
    #[must_use]
    pub fn hierarchies_of(&self, path: &str) -> BTreeSet<u32> {
        self.living
            .iter()
            .filter(|(_, c)| c.path.as_ref() == path)
            .map(|(key, _)| key.0)
            .collect()
    }

    /// The cgroup at a path of one hierarchy. Walks all cgroups: for rare use.
    #[must_use]
    pub fn find(&self, hierarchy: u32, path: &str) -> Option<CgroupKey> {
        self.living
            .iter()
            .filter(|(key, c)| key.0 == hierarchy && c.path.as_ref() == path)
            .map(|(key, _)| *key)
            .min()
    }

    /// Number of known cgroups.
    #[must_use]
    pub fn len(&self) -> usize {
        self.living.len()
    }

    /// Whether no cgroup is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.living.is_empty()
    }

    /// The subtree at `path` belongs to `entity` from here on.
    pub fn claim(&mut self, path: &str, entity: EntityId) {
        self.claims.insert(path.into(), entity);
        let claimed = self.claimed.entry(entity).or_default();
        if !claimed.iter().any(|p| p.as_ref() == path) {
            claimed.push(path.into());
        }
        self.generation += 1;
    }

    /// Who claimed exactly this path.
    #[must_use]
    pub fn claimant(&self, path: &str) -> Option<EntityId> {
        self.claims.get(path).copied()
    }

    /// The entity is gone; its claims pass to an heir, or end.
    pub fn release_claims(&mut self, entity: EntityId, heir: Option<EntityId>) {
        for path in self.claimed.remove(&entity).unwrap_or_default() {
            if self.claims.get(&path) != Some(&entity) {
                continue;
            }
            if let Some(heir) = heir {
                self.claim(&path, heir);
            } else {
                self.claims.remove(&path);
                self.generation += 1;
            }
        }
    }

    /// Whose territory a cgroup is: the innermost claim on its path, else the host's.
    #[must_use]
    pub fn territory(&self, key: CgroupKey) -> EntityId {
        let Some(cgroup) = self.living.get(&key).filter(|_| key.1 != 0) else {
            return HOST;
        };
        let (generation, entity) = cgroup.territory.get();
        if generation == self.generation {
            return entity;
        }
        let entity = self.territory_of_path(&cgroup.path);
        cgroup.territory.set((self.generation, entity));
        entity
    }

    /// As [`Self::territory`], by a path.
    #[must_use]
    pub fn territory_of_path(&self, path: &str) -> EntityId {
        if self.claims.is_empty() {
            return HOST;
        }
        let mut end = path.len();
        loop {
            if let Some(&entity) = self.claims.get(&path[..end]) {
                return entity;
            }
            match path[..end].rfind('/') {
                Some(cut) if cut > 0 => end = cut,
                _ => return HOST,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A mask is all of its bits, in order.
    #[test]
    fn masks_are_slots() {
        assert!(slots_in(0).next().is_none());
        assert!(slots_in(0b1000_0000_0000_0101).eq([0, 2, 15]));
    }

    /// The innermost claim wins; siblings with a common prefix stay apart.
    #[test]
    fn territories_follow_claims() {
        let mut all = Cgroups::default();
        all.insert((0, 1), "/pods/a");
        all.insert((0, 2), "/pods/a/inner/x");
        all.insert((3, 1), "/pods/ab");
        all.claim("/pods/a", EntityId(1));
        all.claim("/pods/a/inner", EntityId(2));
        assert_eq!(all.territory((0, 1)), EntityId(1));
        assert_eq!(all.territory((0, 2)), EntityId(2));
        assert_eq!(all.territory((3, 1)), HOST);
        all.release_claims(EntityId(2), None);
        assert_eq!(all.territory((0, 2)), EntityId(1));
    }

    /// A claim that was taken over is not released with the one who had it before; an heir gets the rest.
    #[test]
    fn claims_pass_to_heirs() {
        let mut all = Cgroups::default();
        all.insert((0, 1), "/a");
        all.insert((0, 2), "/b/x");
        all.claim("/a", EntityId(1));
        all.claim("/b", EntityId(1));
        all.claim("/a", EntityId(2));
        all.release_claims(EntityId(1), Some(EntityId(3)));
        assert_eq!(all.territory((0, 1)), EntityId(2));
        assert_eq!(all.territory((0, 2)), EntityId(3));
        all.release_claims(EntityId(3), None);
        assert_eq!(all.territory((0, 2)), HOST);
        assert!(all.claimed.len() == 1 && all.claims.len() == 1, "no trace");
    }

    proptest! {
        /// Goal: a territory is always that of the innermost claim. Method: any calls, then every living
        /// cgroup against a walk up its path.
        #[test]
        fn territories_are_always_current(
            calls in prop::collection::vec((0u8..4, 0u64..6, 0usize..9, 1u32..5), 0..60)
        ) {
            const PATHS: [&str; 9] = ["/", "/a", "/a/b", "/a/b/c", "/a-b", "/a/b0", "/a0", "/a/", ""];
            let mut all = Cgroups::default();
            for (call, id, path, entity) in calls {
                match call {
                    0 => all.insert((u32::from(id > 3), id), PATHS[path]),
                    1 => all.remove((u32::from(id > 3), id)),
                    2 => all.claim(PATHS[path], EntityId(entity)),
                    _ => all.release_claims(EntityId(entity), (id > 3).then_some(EntityId(9))),
                }
                for (key, cgroup) in all.living.iter().filter(|(key, _)| key.1 != 0) {
                    prop_assert_eq!(all.territory(*key), all.territory_of_path(&cgroup.path));
                }
            }
        }
    }
}
