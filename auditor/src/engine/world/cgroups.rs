//! Cgroups by id, and whose territory each is.
//!
//! A container's *territory* is the subtree of its cgroup in every hierarchy. Territories come from
//! paths: either the path itself tells (Docker, Kubernetes, …), or a container claimed it at its
//! start. A path claims the same subtree in all hierarchies.

use crate::model::facts::{EntityId, HOST};
use hashbrown::HashMap;
use std::collections::BTreeSet;

/// A cgroup's identity: hierarchy id (0: v2) and kernfs node id.
pub type CgroupKey = (u32, u64);

/// Cgroups kept at most. Beyond it new ones are not named (their tasks count as the host's) and
/// counted as unnamed.
pub const MAX_CGROUPS: usize = 1 << 18;

/// All living cgroups.
#[derive(Debug, Default)]
pub struct Cgroups {
    paths: HashMap<CgroupKey, Box<str>>,
    /// Subtree root path → entity.
    claims: HashMap<Box<str>, EntityId>,
    /// Resolved territories, forgotten whenever a claim changes.
    cache: HashMap<CgroupKey, EntityId>,
    /// Cgroups that did not fit.
    pub unnamed: u64,
}

impl Cgroups {
    /// A cgroup appeared, or was found.
    pub fn insert(&mut self, key: CgroupKey, path: &str) {
        if self.paths.len() >= MAX_CGROUPS && !self.paths.contains_key(&key) {
            self.unnamed += 1;
            return;
        }
        self.paths.insert(key, path.into());
        self.cache.remove(&key);
    }

    /// A cgroup's id may be reused from here on.
    pub fn remove(&mut self, key: CgroupKey) {
        self.paths.remove(&key);
        self.cache.remove(&key);
    }

    /// Path below the hierarchy's root.
    #[must_use]
    pub fn path(&self, key: CgroupKey) -> Option<&str> {
        self.paths.get(&key).map(AsRef::as_ref)
    }

    /// Hierarchies in which a path exists. Walks all cgroups: for rare use.
    #[must_use]
    pub fn hierarchies_of(&self, path: &str) -> BTreeSet<u32> {
        self.paths
            .iter()
            .filter(|(_, p)| p.as_ref() == path)
            .map(|(key, _)| key.0)
            .collect()
    }

    /// The cgroup at a path of one hierarchy. Walks all cgroups: for rare use.
    #[must_use]
    pub fn find(&self, hierarchy: u32, path: &str) -> Option<CgroupKey> {
        self.paths
            .iter()
            .filter(|(key, p)| key.0 == hierarchy && p.as_ref() == path)
            .map(|(key, _)| *key)
            .min()
    }

    /// Number of known cgroups.
    #[must_use]
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether no cgroup is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// The subtree at `path` belongs to `entity` from here on.
    pub fn claim(&mut self, path: &str, entity: EntityId) {
        self.claims.insert(path.into(), entity);
        self.cache.clear();
    }

    /// Who claimed exactly this path.
    #[must_use]
    pub fn claimant(&self, path: &str) -> Option<EntityId> {
        self.claims.get(path).copied()
    }

    /// The entity is gone; its claims pass to an heir, or end.
    pub fn release_claims(&mut self, entity: EntityId, heir: Option<EntityId>) {
        let before = self.claims.len();
        let mut passed = false;
        self.claims.retain(|_, owner| {
            let is_its = *owner == entity;
            if let (true, Some(heir)) = (is_its, heir) {
                *owner = heir;
                passed = true;
            }
            !is_its || heir.is_some()
        });
        if passed || self.claims.len() != before {
            self.cache.clear();
        }
    }

    /// Whose territory a cgroup is: the innermost claim on its path, else the host's.
    pub fn territory(&mut self, key: CgroupKey) -> EntityId {
        if key.1 == 0 {
            return HOST;
        }
        if let Some(&entity) = self.cache.get(&key) {
            return entity;
        }
        let entity = match self.paths.get(&key) {
            Some(path) => self.territory_of_path(path),
            None => HOST,
        };
        self.cache.insert(key, entity);
        entity
    }

    fn territory_of_path(&self, path: &str) -> EntityId {
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
}
