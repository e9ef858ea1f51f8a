//! What of a container's mounts others have too: directories of a file system, and peer groups. Other containers by what
//! they were started with, the host by its own table, where the container's root does not count: it lies on a file
//! system of the host's, whatever the container is.

use super::super::Engine;
use super::super::rule::setup_mismatch;
use super::peers::Peer;
use crate::inventory::container::SpecSummary;
use crate::model::facts::{EntityId, HOST, ObjectKey, Origin};
use crate::model::output::Evidence;
use crate::model::setup::{Mount, SetUp, is_below};

impl Engine {
    /// A container's baseline is known, or its spec: what of it do others have?
    pub(super) fn share_table(&mut self, label: EntityId) {
        self.forget_shared(label);
        let Some(known) = self.setups.tables.get_mut(&label) else {
            return;
        };
        let root = known.baseline.mounts.iter().rfind(|m| m.point == "/");
        known.upper = root.and_then(|root| root.upper.clone());
        let trees = self.setups.trees.insert(label, &known.baseline);
        let peers = self.setups.peers.insert(label, &known.baseline);
        let mut held: Vec<(EntityId, ObjectKey, Origin)> = Vec::new();
        for (id, object) in trees {
            let ObjectKey::Tree(key) = object else {
                continue;
            };
            held.push((id, object, self.tree_origin(id, key)));
        }
        for (object, mount) in peers {
            held.push((label, object, self.peer_origin(label, &mount)));
        }
        for (id, object, origin) in held {
            self.hold_shared(id, object, origin);
        }
        self.share_with_host(label);
    }

    /// What of a container's mounts the host has.
    fn share_with_host(&mut self, label: EntityId) {
        let Some(host) = self.setups.tables.get(&HOST) else {
            return;
        };
        let mut objects = self.setups.trees.of_host(Some(label), &host.baseline);
        objects.extend(self.setups.peers.of_host(Some(label), &host.baseline));
        for object in objects {
            self.hold_shared(HOST, object, Origin::Own);
        }
    }

    /// The host's table is another one.
    pub(super) fn share_all_with_host(&mut self) {
        let Some(host) = self.setups.tables.get(&HOST) else {
            return;
        };
        let mut objects = self.setups.trees.of_host(None, &host.baseline);
        objects.extend(self.setups.peers.of_host(None, &host.baseline));
        let gone: Vec<ObjectKey> = host
            .holds
            .iter()
            .map(|(object, _)| *object)
            .filter(|object| !objects.contains(object))
            .collect();
        for object in objects {
            self.hold_shared(HOST, object, Origin::Own);
        }
        for object in gone {
            self.release_shared(HOST, object);
        }
    }

    fn hold_shared(&mut self, id: EntityId, object: ObjectKey, origin: Origin) {
        let Some(known) = self.setups.tables.get_mut(&id) else {
            return;
        };
        if !known.holds.iter().any(|(o, _)| *o == object) {
            known.holds.push((object, origin));
            self.index.hold(id, object, origin);
        }
    }

    fn release_shared(&mut self, id: EntityId, object: ObjectKey) {
        let Some(known) = self.setups.tables.get_mut(&id) else {
            return;
        };
        if let Some(place) = known.holds.iter().position(|(o, _)| *o == object) {
            let (object, origin) = known.holds.swap_remove(place);
            self.index.release(id, object, origin);
        }
    }

    /// A container lets go of all that it holds. What only it had mounted, others no longer hold either: they had it as
    /// a part of what is theirs.
    pub(super) fn forget_shared(&mut self, label: EntityId) {
        let mut gone = self.setups.trees.remove(label);
        gone.extend(self.setups.peers.remove(label));
        for object in gone {
            let holders: Vec<EntityId> = self.index.holders(object).iter().map(|h| h.0).collect();
            for id in holders {
                self.release_shared(id, object);
            }
        }
        let known = self.setups.tables.get_mut(&label);
        let holds = known.map_or_else(Vec::new, |known| std::mem::take(&mut known.holds));
        for (object, origin) in holds {
            self.index.release(label, object, origin);
        }
        self.leave_host_alone();
    }

    /// The host holds what it has together with a container: no longer what it has alone.
    fn leave_host_alone(&mut self) {
        let Some(host) = self.setups.tables.get(&HOST) else {
            return;
        };
        let objects = host.holds.iter().map(|(object, _)| *object);
        let alone: Vec<ObjectKey> = objects
            .filter(|object| self.index.holders(*object).len() < 2)
            .collect();
        for object in alone {
            self.release_shared(HOST, object);
        }
    }

    /// How an entity came by a directory: what its runtime mounted, a spec that is known declares or not.
    fn tree_origin(&self, id: EntityId, key: u32) -> Origin {
        let (Some(spec), Some(known)) = (self.spec_of(id), self.setups.tables.get(&id)) else {
            return Origin::Baseline;
        };
        let Some((tree, _)) = self.setups.trees.get(key) else {
            return Origin::Baseline;
        };
        let has = |m: &&Mount| m.covers(tree.dev, &tree.root) && !m.protects();
        let mut by = known.baseline.mounts.iter().filter(has);
        let declares = |m: &Mount| setup_mismatch::explains(spec, &known.baseline, &m.point);
        match by.any(declares) {
            true => Origin::Declared,
            false => Origin::Undeclared,
        }
    }

    /// How a container came to propagate: to receive is what runtimes set up by themselves, to send has to be said.
    fn peer_origin(&self, id: EntityId, mount: &Mount) -> Origin {
        match self.spec_of(id) {
            Some(spec) if propagates(spec, mount) => Origin::Declared,
            Some(_) if mount.shared != 0 => Origin::Undeclared,
            _ => Origin::Baseline,
        }
    }

    /// Where on the host the files are that containers wrote into their roots. One inside of another container calls it
    /// as that one does.
    pub(in crate::engine) fn uppers(&self) -> impl Iterator<Item = (EntityId, &str)> {
        let is_outer = |id: &EntityId| {
            self.world
                .entities
                .get(id)
                .is_some_and(|e| e.parent == HOST)
        };
        let all = self.setups.tables.iter();
        all.filter_map(move |(id, known)| {
            let upper = known.upper.as_deref()?;
            is_outer(id).then_some((*id, upper))
        })
    }

    fn spec_of(&self, id: EntityId) -> Option<&SpecSummary> {
        let entity = self.world.entities.get(&id)?;
        entity.answer.as_ref()?.spec.as_ref()
    }

    /// A directory that entities share, as evidence: where it is in one of them, if only one is no host.
    #[must_use]
    pub fn tree_evidence(&self, id: u32) -> Option<Evidence> {
        let (tree, fs_type) = self.setups.trees.get(id)?;
        let holders = self.index.holders(ObjectKey::Tree(id));
        let mut containers = holders.iter().map(|h| h.0).filter(|id| *id != HOST);
        let only = containers.next().filter(|_| containers.next().is_none());
        let table = only.and_then(|id| self.setups.tables.get(&id));
        let point = |table: &SetUp| {
            let mut mounts = table.mounts.iter();
            let mount = mounts.find(|m| m.dev == tree.dev && m.root == tree.root)?;
            Some(mount.point.clone())
        };
        Some(Evidence::Mount {
            point: table
                .and_then(|known| point(&known.baseline))
                .unwrap_or_default(),
            root: tree.root.clone(),
            fs_type: fs_type.to_owned(),
            dev: tree.dev,
            flags: Vec::new(),
        })
    }

    /// A peer group that entities share, as evidence: the mount of the container that brought it.
    #[must_use]
    pub fn peer_evidence(&self, id: u32) -> Option<Evidence> {
        let (peer, mount) = self.setups.peers.get(id)?;
        let flag = match peer {
            Peer::Group(_) => "shared",
            Peer::Receives(..) => "slave",
        };
        Some(Evidence::Mount {
            point: mount.point.clone(),
            root: mount.root.clone(),
            fs_type: mount.fs_type.clone(),
            dev: mount.dev,
            flags: vec![flag.to_owned()],
        })
    }

    /// Whether mounts go both ways through a peer group.
    #[must_use]
    pub fn peer_is_mutual(&self, id: u32) -> bool {
        matches!(self.setups.peers.get(id), Some((Peer::Group(_), _)))
    }
}

/// Whether a spec says that a mount is in a peer group, or receives from one.
fn propagates(spec: &SpecSummary, mount: &Mount) -> bool {
    let wanted: &[&str] = match mount.shared {
        0 => &["slave", "rslave", "shared", "rshared"],
        _ => &["shared", "rshared"],
    };
    let of_root = spec.rootfs_propagation.as_deref();
    let of_mount = spec.mounts.iter().any(|declared| {
        is_below(&mount.point, declared.destination.trim_end_matches('/'))
            && declared
                .options
                .iter()
                .any(|o| wanted.contains(&o.as_str()))
    });
    of_mount || of_root.is_some_and(|kind| wanted.contains(&kind))
}
