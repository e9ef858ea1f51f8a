//! Namespaces by identity, not by inode number.
//!
//! The kernel reuses an inum as soon as its namespace dies: five `unshare -u` in a row get the same
//! one. So identity is (kind, unique id where the kernel has one, else a dense id given at first
//! sight). A *fresh* namespace always gets a new identity, because the operation says that it is
//! fresh; an identity is retired when the last task and the last baseline let go of it.
//!
//! Tasks that share all namespaces share one [`NsSet`], so that a fork costs one counter.

use crate::model::NsKind;
use crate::model::facts::{EntityId, HOST, NsId, ObjectKey};
use auditor_common::limits::NS_SLOTS;
use auditor_common::record::{NsRef, ns};
use hashbrown::HashMap;

/// Makers remembered of namespaces that no task holds any more.
const MAX_MAKERS: usize = 1 << 14;

/// "This kernel has no such namespace."
pub const NO_NS: NsId = NsId(u32::MAX);

/// One namespace.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// Its kind (never a `…_for_children`).
    pub kind: NsKind,
    /// Inode number on nsfs.
    pub inum: u32,
    /// Number of the object, never given twice: ids are, once nobody holds them.
    pub serial: u64,
    /// The kernel's unique id, or 0.
    pub unique_id: u64,
    /// Inum of the owning user namespace (of the parent, for a user namespace), or 0.
    pub owner_inum: u32,
    /// Whether it is the machine's own.
    pub initial: bool,
    /// Label of the task that made it; the host where that was not seen.
    pub made_by: EntityId,
    /// The entity whose own namespace it is, by baseline.
    pub entity: Option<EntityId>,
    /// A sweep found a container's task in it, and nobody is known to have made it or to have been in it before.
    pub unknown: bool,
    refs: u32,
    /// The threads in it, if it is a mount or pid namespace and not the machine's own.
    members: Vec<u32>,
}

/// A task's namespaces, by slot.
pub type NsIds = [NsId; NS_SLOTS];

#[derive(Clone, Debug)]
struct NsSet {
    ids: NsIds,
    refs: u32,
}

/// Index of a [`NsSet`]'s place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SetId(u32);

/// How many namespaces each container made; the host is not counted.
#[derive(Debug, Default)]
struct Made {
    counts: HashMap<EntityId, u32>,
}

impl Made {
    fn more(&mut self, maker: EntityId) {
        if maker != HOST {
            *self.counts.entry(maker).or_default() += 1;
        }
    }

    fn less(&mut self, maker: EntityId) {
        let Some(count) = self.counts.get_mut(&maker) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            self.counts.remove(&maker);
        }
    }
}

/// All namespaces.
#[derive(Debug, Default)]
pub struct Namespaces {
    slots: Vec<Option<Namespace>>,
    free: Vec<u32>,
    last_serial: u64,
    by_inum: HashMap<(NsKind, u32), NsId>,
    /// Containers that made what no task holds any more.
    makers: HashMap<(NsKind, u32), EntityId>,
    /// How often a container stands in `made_by` and in `makers`.
    made: Made,
    sets: Vec<NsSet>,
    free_sets: Vec<u32>,
    /// Mount namespaces that retired and that nobody was told of.
    retired_mounts: Vec<NsId>,
}

impl Namespaces {
    /// The namespace behind an id; `None` for [`NO_NS`] and retired ids.
    #[must_use]
    pub fn get(&self, id: NsId) -> Option<&Namespace> {
        self.slots.get(id.0 as usize)?.as_ref()
    }

    /// As [`Self::get`].
    pub fn get_mut(&mut self, id: NsId) -> Option<&mut Namespace> {
        self.slots.get_mut(id.0 as usize)?.as_mut()
    }

    /// The living namespace of this kind and inum.
    #[must_use]
    pub fn by_inum(&self, kind: NsKind, inum: u32) -> Option<NsId> {
        self.by_inum.get(&(kind.object_kind(), inum)).copied()
    }

    /// What tells a namespace from all that were and will be; 0 for [`NO_NS`] and retired ids.
    #[must_use]
    pub fn serial(&self, id: NsId) -> u64 {
        self.get(id).map_or(0, |ns| ns.serial)
    }

    /// Number of living namespaces.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether no namespace is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn allocate(&mut self, kind: NsKind, ns: &NsRef, made_by: EntityId) -> NsId {
        self.last_serial += 1;
        let namespace = Namespace {
            kind,
            inum: ns.inum,
            serial: self.last_serial,
            unique_id: ns.unique_id,
            owner_inum: ns.owner_inum,
            initial: false,
            made_by,
            entity: None,
            unknown: false,
            refs: 0,
            members: Vec::new(),
        };
        let id = if let Some(place) = self.free.pop() {
            self.slots[place as usize] = Some(namespace);
            NsId(place)
        } else {
            self.slots.push(Some(namespace));
            NsId(u32::try_from(self.slots.len() - 1).expect("fewer namespaces than 2^32 - 1"))
        };
        self.by_inum.insert((kind, ns.inum), id);
        self.made.more(made_by);
        id
    }

    /// The identity of what a task's slot refers to.
    ///
    /// `fresh`: the operation made it, so a known inum is a reused one.
    pub fn resolve(&mut self, kind: NsKind, ns: &NsRef, fresh: bool, actor: EntityId) -> NsId {
        if ns.inum == 0 {
            return NO_NS;
        }
        let object = kind.object_kind();
        if !fresh
            && let Some(&id) = self.by_inum.get(&(object, ns.inum))
            && let Some(known) = self.slots[id.0 as usize].as_mut()
        {
            let same = known.unique_id == 0 || ns.unique_id == 0 || known.unique_id == ns.unique_id;
            if same {
                if known.unique_id == 0 {
                    known.unique_id = ns.unique_id;
                }
                if known.owner_inum == 0 {
                    known.owner_inum = ns.owner_inum;
                }
                return id;
            }
        }
        // Who joins what no task held has not made it: its maker is remembered, or is the host.
        let remembered = self.makers.remove(&(object, ns.inum));
        self.made.less(remembered.unwrap_or(HOST));
        let maker = if fresh {
            actor
        } else {
            remembered.unwrap_or(HOST)
        };
        self.allocate(object, ns, maker)
    }

    /// A sweep found a container's task in it. Whoever has it is not to be guessed, unless somebody made it or is in it.
    pub fn find(&mut self, id: NsId) {
        if let Some(ns) = self.get_mut(id).filter(|ns| ns.refs == 0 && !ns.initial) {
            ns.unknown = ns.made_by == HOST;
        }
    }

    /// The machine's own namespace is known: nearly all threads are in it, so they are not listed.
    pub fn set_initial(&mut self, id: NsId) {
        if let Some(ns) = self.get_mut(id) {
            ns.initial = true;
            ns.members = Vec::new();
        }
    }

    /// The threads in a mount or pid namespace, in no order; `None` where they are not listed.
    #[must_use]
    pub fn members(&self, id: NsId) -> Option<&[u32]> {
        self.get(id)
            .filter(|ns| !ns.initial)
            .map(|ns| &ns.members[..])
    }

    /// A thread has this set of namespaces from here on.
    pub fn join(&mut self, tid: u32, set: SetId) {
        for id in self.listing(set) {
            if let Some(ns) = self.get_mut(id).filter(|ns| !ns.initial) {
                ns.members.push(tid);
            }
        }
    }

    /// A thread has it no more.
    pub fn leave(&mut self, tid: u32, set: SetId) {
        for id in self.listing(set) {
            let Some(ns) = self.get_mut(id).filter(|ns| !ns.initial) else {
                continue;
            };
            // The young end first.
            if let Some(at) = ns.members.iter().rposition(|&t| t == tid) {
                ns.members.swap_remove(at);
            }
        }
    }

    /// The namespaces of a set that list their members.
    fn listing(&self, set: SetId) -> [NsId; 2] {
        let ids = self.ids(set);
        [ids[ns::MNT], ids[ns::PID]]
    }

    /// Keeps an identity alive.
    pub fn pin(&mut self, id: NsId) {
        if let Some(ns) = self.get_mut(id) {
            ns.refs += 1;
        }
    }

    /// Lets go of an identity; the last one retires it.
    pub fn unpin(&mut self, id: NsId) {
        let Some(ns) = self.get_mut(id) else { return };
        ns.refs = ns.refs.saturating_sub(1);
        if ns.refs > 0 || ns.initial {
            return;
        }
        let key = (ns.kind, ns.inum);
        let made_by = ns.made_by;
        let maker = ns.entity.unwrap_or(made_by);
        self.made.less(made_by);
        if maker != HOST && self.makers.len() < MAX_MAKERS {
            // A bind mount or a descriptor may keep it alive without any task.
            let before = self.makers.insert(key, maker);
            self.made.less(before.unwrap_or(HOST));
            self.made.more(maker);
        }
        if self.by_inum.get(&key) == Some(&id) {
            self.by_inum.remove(&key);
        }
        if key.0 == NsKind::Mnt {
            self.retired_mounts.push(id);
        }
        self.slots[id.0 as usize] = None;
        self.free.push(id.0);
    }

    /// Mount namespaces that retired since the last call. Whoever keeps an id without pinning it must
    /// forget it before the next namespace is made.
    pub fn take_retired_mounts(&mut self) -> Vec<NsId> {
        std::mem::take(&mut self.retired_mounts)
    }

    /// One of which nobody saw who made it was made by this one; whether it was such a one.
    pub fn attribute(&mut self, id: NsId, maker: EntityId) -> bool {
        let Some(ns) = self.get_mut(id) else {
            return false;
        };
        let is_open = ns.made_by == HOST && ns.entity.is_none() && !ns.initial;
        if is_open {
            ns.made_by = maker;
            self.made.more(maker);
        }
        is_open
    }

    /// What one made is another's from here on, and what it had as its own (`own`: its baseline) is its maker's again: what
    /// of that is not `to`'s.
    pub fn bequeath(&mut self, from: EntityId, own: &NsIds, to: EntityId) -> Vec<ObjectKey> {
        let mut back = Vec::new();
        for (&kind, &id) in NsKind::ALL.iter().zip(own) {
            if let Some(ns) = self.get_mut(id).filter(|ns| ns.entity == Some(from)) {
                ns.entity = None;
                if ns.made_by != from && ns.made_by != to {
                    back.push(ObjectKey::ns(kind, id));
                }
            }
        }
        // Most containers make nothing, and this walks all that there is.
        if self.made.counts.remove(&from).is_none() {
            return back;
        }
        self.makers.retain(|_, maker| {
            if *maker == from {
                *maker = to;
                self.made.more(to);
            }
            *maker != HOST
        });
        for namespace in self.slots.iter_mut().flatten() {
            if namespace.made_by == from {
                namespace.made_by = to;
                self.made.more(to);
            }
        }
        back
    }

    /// A new set of these namespaces, held once.
    pub fn new_set(&mut self, ids: NsIds) -> SetId {
        for id in ids {
            self.pin(id);
        }
        let set = NsSet { ids, refs: 1 };
        if let Some(place) = self.free_sets.pop() {
            self.sets[place as usize] = set;
            SetId(place)
        } else {
            self.sets.push(set);
            SetId(u32::try_from(self.sets.len() - 1).expect("fewer sets than tasks"))
        }
    }

    /// Places for namespaces and for sets, free ones included.
    #[cfg(test)]
    pub(crate) fn places(&self) -> [usize; 2] {
        [self.slots.len(), self.sets.len()]
    }

    /// Whether what each container made is counted right.
    #[cfg(test)]
    pub(crate) fn counts_makers(&self) -> bool {
        let living = self.slots.iter().flatten().map(|ns| ns.made_by);
        let mut counts: HashMap<EntityId, u32> = HashMap::new();
        for maker in living.chain(self.makers.values().copied()) {
            *counts.entry(maker).or_default() += 1;
        }
        counts.remove(&HOST);
        counts == self.made.counts
    }

    /// The namespaces of a set.
    #[must_use]
    pub fn ids(&self, set: SetId) -> &NsIds {
        &self.sets[set.0 as usize].ids
    }

    /// One more task shares the set.
    pub fn share_set(&mut self, set: SetId) {
        self.sets[set.0 as usize].refs += 1;
    }

    /// One task less shares the set.
    pub fn drop_set(&mut self, set: SetId) {
        let entry = &mut self.sets[set.0 as usize];
        entry.refs -= 1;
        if entry.refs == 0 {
            let ids = entry.ids;
            self.free_sets.push(set.0);
            for id in ids {
                self.unpin(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ns(inum: u32) -> NsRef {
        NsRef {
            inum,
            owner_inum: 0,
            unique_id: 0,
        }
    }

    /// A fresh namespace with a reused inum is another one; both stay apart while held.
    #[test]
    fn reused_inums_are_different_namespaces() {
        let mut all = Namespaces::default();
        let a = all.resolve(NsKind::Uts, &ns(7), true, HOST);
        all.pin(a);
        let b = all.resolve(NsKind::Uts, &ns(7), true, HOST);
        all.pin(b);
        assert_ne!(a, b);
        assert_eq!(all.resolve(NsKind::Uts, &ns(7), false, HOST), b);
        all.unpin(a);
        assert_eq!(
            all.by_inum(NsKind::Uts, 7),
            Some(b),
            "retiring the old one keeps the new one"
        );
    }

    /// Where the kernel numbers its namespaces, the number decides.
    #[test]
    fn unique_ids_decide() {
        let mut all = Namespaces::default();
        let first = NsRef {
            inum: 7,
            owner_inum: 0,
            unique_id: 1,
        };
        let second = NsRef {
            unique_id: 2,
            ..first
        };
        let a = all.resolve(NsKind::Net, &first, false, HOST);
        assert_eq!(all.resolve(NsKind::Net, &first, false, HOST), a);
        assert_ne!(all.resolve(NsKind::Net, &second, false, HOST), a);
    }

    /// `pid_for_children` refers to the same object as `pid`.
    #[test]
    fn for_children_is_the_same_object() {
        let mut all = Namespaces::default();
        let a = all.resolve(NsKind::Pid, &ns(9), false, HOST);
        assert_eq!(all.resolve(NsKind::PidForChildren, &ns(9), false, HOST), a);
    }

    /// Sets hold their namespaces; the last holder retires them.
    #[test]
    fn last_holder_retires() {
        let mut all = Namespaces::default();
        let mut ids = [NO_NS; NS_SLOTS];
        ids[0] = all.resolve(NsKind::Mnt, &ns(5), false, HOST);
        let set = all.new_set(ids);
        all.share_set(set);
        all.drop_set(set);
        assert_eq!(all.len(), 1);
        all.drop_set(set);
        assert!(all.is_empty());
        assert_eq!(all.by_inum(NsKind::Mnt, 5), None);
    }
}
