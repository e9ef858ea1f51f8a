//! Directories that containers have mounted writable: who else has them?
//!
//! A tree is a directory of a file system, by device and path. Two containers share it when both have it mounted, or one
//! has it below what the other has. So each container holds its own trees and all known ones within them.

use crate::model::facts::{EntityId, ObjectKey};
use crate::model::setup::{Mount, SetUp, is_below};
use std::collections::{BTreeMap, BTreeSet};

/// Trees of one container that count.
const MAX_TREES: usize = 256;

/// File systems that hold no data of anybody, or that every container has anew.
const PSEUDO: [&str; 19] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "proc",
    "pstore",
    "securityfs",
    "sysfs",
    "tracefs",
];

/// A directory of a file system.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tree {
    /// Device of the superblock.
    pub(super) dev: u32,
    /// Path within it.
    pub(super) root: String,
}

impl Tree {
    fn contains(&self, other: &Self) -> bool {
        self.dev == other.dev && is_below(&other.root, &self.root)
    }
}

/// All trees that a container has.
#[derive(Debug, Default)]
pub(super) struct Trees {
    ids: BTreeMap<Tree, u32>,
    by_id: BTreeMap<u32, (Tree, String)>,
    /// What containers have mounted themselves.
    own: BTreeMap<EntityId, BTreeSet<u32>>,
    /// Those of them that are not its root.
    bound: BTreeMap<EntityId, BTreeSet<u32>>,
    next: u32,
}

impl Trees {
    /// The tree behind an id, and its kind of file system.
    #[must_use]
    pub(super) fn get(&self, id: u32) -> Option<(&Tree, &str)> {
        self.by_id.get(&id).map(|(tree, fs)| (tree, fs.as_str()))
    }

    /// A container has these mounts. Gives who holds what of its trees, others included.
    pub(super) fn insert(&mut self, id: EntityId, setup: &SetUp) -> Vec<(EntityId, ObjectKey)> {
        let mut holds = BTreeSet::new();
        let mut own = BTreeSet::new();
        let mut bound = BTreeSet::new();
        for mount in setup.mounts.iter().filter(|m| counts(m)).take(MAX_TREES) {
            let tree = Tree {
                dev: mount.dev,
                root: mount.root.clone(),
            };
            let key = self.intern(&tree, &mount.fs_type);
            own.insert(key);
            if mount.point != "/" {
                bound.insert(key);
            }
            for (other, within) in self.of_device(tree.dev) {
                if tree.contains(other) {
                    holds.insert((id, within));
                }
                if other.contains(&tree) {
                    let has = self.own.iter().filter(|(_, own)| own.contains(&within));
                    holds.extend(has.map(|(holder, _)| (*holder, key)));
                }
            }
        }
        self.own.insert(id, own);
        self.bound.insert(id, bound);
        let object = |(id, key)| (id, ObjectKey::Tree(key));
        holds.into_iter().map(object).collect()
    }

    /// A container is gone. Gives its trees that nobody else has mounted: they are forgotten.
    pub(super) fn remove(&mut self, id: EntityId) -> Vec<ObjectKey> {
        let mut gone = Vec::new();
        self.bound.remove(&id);
        for key in self.own.remove(&id).unwrap_or_default() {
            let used = self.own.values().any(|own| own.contains(&key));
            if !used && let Some((tree, _)) = self.by_id.remove(&key) {
                self.ids.remove(&tree);
                gone.push(ObjectKey::Tree(key));
            }
        }
        gone
    }

    /// What of a container's trees, or of everybody's, the host has mounted writable, roots of containers aside: all of
    /// them lie on its file systems.
    pub(super) fn of_host(&self, whose: Option<EntityId>, host: &SetUp) -> BTreeSet<ObjectKey> {
        let mut roots: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
        for mount in host.mounts.iter().filter(|m| counts(m)) {
            roots.entry(mount.dev).or_default().push(&mount.root);
        }
        let is_of_host = |key: &u32| {
            let Some((tree, _)) = self.by_id.get(key) else {
                return false;
            };
            let at = roots.get(&tree.dev);
            at.is_some_and(|at| at.iter().any(|root| is_below(&tree.root, root)))
        };
        let all = self.bound.iter();
        let all = all.filter(|(id, _)| whose.is_none_or(|whose| **id == whose));
        let keys = all
            .flat_map(|(_, bound)| bound)
            .filter(|key| is_of_host(key));
        keys.map(|key| ObjectKey::Tree(*key)).collect()
    }

    fn of_device(&self, dev: u32) -> impl Iterator<Item = (&Tree, u32)> {
        let first = Tree {
            dev,
            root: String::new(),
        };
        let all = self.ids.range(first..);
        all.take_while(move |(tree, _)| tree.dev == dev)
            .map(|(tree, id)| (tree, *id))
    }

    fn intern(&mut self, tree: &Tree, fs_type: &str) -> u32 {
        if let Some(id) = self.ids.get(tree) {
            return *id;
        }
        let id = self.next;
        self.next += 1;
        self.ids.insert(tree.clone(), id);
        self.by_id.insert(id, (tree.clone(), fs_type.to_owned()));
        id
    }
}

fn counts(mount: &Mount) -> bool {
    !mount.read_only && !mount.mask && !PSEUDO.contains(&mount.fs_type.as_str())
}

#[cfg(test)]
mod tests {
    use super::{EntityId, Mount, ObjectKey, SetUp, Trees};

    fn table(mounts: &[(u32, &str, bool)]) -> SetUp {
        let mount = |&(dev, root, read_only): &(u32, &str, bool)| Mount {
            dev,
            root: root.to_owned(),
            fs_type: "ext4".to_owned(),
            read_only,
            ..Mount::default()
        };
        SetUp {
            mounts: mounts.iter().map(mount).collect(),
            ..SetUp::default()
        }
    }

    /// Goal: what overlaps is one object for both. Method: the same directory, one below, one above, one beside, one
    /// read-only.
    #[test]
    fn overlapping_trees_are_shared() {
        let [a, b, c, d] = [1, 2, 3, 4].map(EntityId);
        let mut trees = Trees::default();
        let held = trees.insert(a, &table(&[(1, "/data", false), (2, "/", false)]));
        assert_eq!(held.len(), 2);
        let data = ObjectKey::Tree(0);
        let same = trees.insert(b, &table(&[(1, "/data", false)]));
        assert_eq!(same, [(a, data), (b, data)]);
        // Below: both know the smaller one, a and b have it too.
        let below = trees.insert(c, &table(&[(1, "/data/sub", false)]));
        let sub = ObjectKey::Tree(2);
        assert_eq!(below, [(a, sub), (b, sub), (c, sub)]);
        // Above: it has all that is within.
        let above = trees.insert(d, &table(&[(1, "/", false), (1, "/other", true)]));
        assert_eq!(above.len(), 3);
        for id in [a, b, c, d] {
            trees.remove(id);
        }
        assert!(trees.ids.is_empty() && trees.by_id.is_empty());
    }
}
