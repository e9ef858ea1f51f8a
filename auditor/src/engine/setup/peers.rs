//! Propagation: mounts of two entities in one peer group see each other's mounts come and go, and one that is a slave
//! of a group sees what comes there.
//!
//! The kernel numbers peer groups, and each mount table tells the numbers. A group is one object for all who have a mount
//! in it. Who only receives has an object of his own with the host: two that receive from one group do not touch.

use crate::model::facts::{EntityId, ObjectKey};
use crate::model::setup::{Mount, SetUp};
use std::collections::{BTreeMap, BTreeSet};

/// Peer groups of one container that count.
const MAX_GROUPS: usize = 64;

/// What two may share of propagation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Peer {
    /// A group that both have a mount in.
    Group(u32),
    /// A group that this entity receives from.
    Receives(u32, EntityId),
}

impl Peer {
    /// The group's number.
    pub(super) const fn group(self) -> u32 {
        match self {
            Self::Group(group) | Self::Receives(group, _) => group,
        }
    }
}

/// All peer groups of containers.
#[derive(Debug, Default)]
pub(super) struct Peers {
    ids: BTreeMap<Peer, u32>,
    by_id: BTreeMap<u32, (Peer, Mount)>,
    /// Who has which.
    own: BTreeMap<EntityId, BTreeSet<u32>>,
    next: u32,
}

impl Peers {
    /// What is behind an id, and a mount of the container that brought it.
    pub(super) fn get(&self, id: u32) -> Option<(Peer, &Mount)> {
        self.by_id.get(&id).map(|(peer, mount)| (*peer, mount))
    }

    /// A container has these mounts. Gives what it holds of peer groups, each with the mount by which.
    pub(super) fn insert(&mut self, id: EntityId, setup: &SetUp) -> Vec<(ObjectKey, Mount)> {
        let mut found: BTreeMap<Peer, &Mount> = BTreeMap::new();
        for mount in &setup.mounts {
            if mount.shared != 0 {
                found.entry(Peer::Group(mount.shared)).or_insert(mount);
            }
            if mount.master != 0 {
                let receives = Peer::Receives(mount.master, id);
                found.entry(receives).or_insert(mount);
            }
        }
        let mut held = Vec::new();
        for (peer, mount) in found.into_iter().take(MAX_GROUPS) {
            let key = *self.ids.entry(peer).or_insert_with(|| {
                self.next += 1;
                self.next
            });
            self.by_id
                .entry(key)
                .or_insert_with(|| (peer, mount.clone()));
            self.own.entry(id).or_default().insert(key);
            held.push((ObjectKey::Peer(key), mount.clone()));
        }
        held
    }

    /// A container is gone. Gives what nobody else has: it is forgotten.
    pub(super) fn remove(&mut self, id: EntityId) -> Vec<ObjectKey> {
        let mut gone = Vec::new();
        for key in self.own.remove(&id).unwrap_or_default() {
            let used = self.own.values().any(|own| own.contains(&key));
            if !used && let Some((peer, _)) = self.by_id.remove(&key) {
                self.ids.remove(&peer);
                gone.push(ObjectKey::Peer(key));
            }
        }
        gone
    }

    /// What of a container's peer groups, or of everybody's, the host has mounts in.
    pub(super) fn of_host(&self, whose: Option<EntityId>, host: &SetUp) -> BTreeSet<ObjectKey> {
        let shared = host.mounts.iter().map(|mount| mount.shared);
        let groups: BTreeSet<u32> = shared.filter(|group| *group != 0).collect();
        let is_of_host = |key: &&u32| {
            let peer = self.by_id.get(key).map(|(peer, _)| peer.group());
            peer.is_some_and(|group| groups.contains(&group))
        };
        let all = self.own.iter();
        let all = all.filter(|(id, _)| whose.is_none_or(|whose| **id == whose));
        let keys = all.flat_map(|(_, own)| own).filter(is_of_host);
        keys.map(|key| ObjectKey::Peer(*key)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{EntityId, Mount, ObjectKey, Peers, SetUp};

    fn table(mounts: &[(u32, u32)]) -> SetUp {
        let mount = |&(shared, master): &(u32, u32)| Mount {
            shared,
            master,
            ..Mount::default()
        };
        SetUp {
            mounts: mounts.iter().map(mount).collect(),
            ..SetUp::default()
        }
    }

    /// Goal: members of a group meet in one object, receivers do not. Method: two members, two receivers, the host.
    #[test]
    fn groups_are_met_in_and_received_from() {
        let [a, b] = [1, 2].map(EntityId);
        let mut peers = Peers::default();
        let keys = |held: Vec<(ObjectKey, Mount)>| -> Vec<ObjectKey> {
            held.into_iter().map(|(object, _)| object).collect()
        };
        let of_a = keys(peers.insert(a, &table(&[(0, 0), (7, 0), (0, 9)])));
        let of_b = keys(peers.insert(b, &table(&[(7, 0), (0, 9)])));
        assert_eq!(of_a.len(), 2);
        let both: Vec<_> = of_a.iter().filter(|o| of_b.contains(o)).collect();
        assert_eq!(both, [&of_a[0]], "the group that both are in");
        let host = table(&[(9, 0), (8, 0)]);
        assert_eq!(
            peers
                .of_host(Some(a), &host)
                .into_iter()
                .collect::<Vec<_>>(),
            [of_a[1]]
        );
        assert_eq!(peers.of_host(None, &host).len(), 2);
        assert_eq!(peers.remove(a), [of_a[1]], "b is in the group still");
        assert_eq!(peers.remove(b).len(), 2);
        assert!(peers.ids.is_empty() && peers.by_id.is_empty());
    }
}
