//! How a new container came by each of its namespaces, and who owns them.

use super::Engine;
use crate::engine::world::namespaces::{NO_NS, NsIds};
use crate::inventory::container::SpecSummary;
use crate::model::NsKind;
use crate::model::facts::{EntityId, HOST, NsId, Origin};
use auditor_common::limits::NS_SLOTS;
use auditor_common::record::ns;
use std::collections::BTreeSet;

impl Engine {
    /// How a new container came by each of its namespaces.
    pub(in crate::engine) fn origins(
        &self,
        ids: &NsIds,
        around: EntityId,
        spec: Option<&SpecSummary>,
        own: Option<EntityId>,
    ) -> [Origin; NS_SLOTS] {
        let outer = self
            .world
            .entities
            .get(&around)
            .map_or([NO_NS; NS_SLOTS], |e| e.ns);
        let mut origins = [Origin::Own; NS_SLOTS];
        for &kind in NsKind::ALL {
            let slot = kind.slot();
            let id = ids[slot];
            if id == NO_NS {
                continue;
            }
            let namespace = self.world.ns.get(id);
            let initial = namespace.is_some_and(|n| n.initial);
            let taken = namespace.is_some_and(|n| n.entity.is_some() && n.entity != own);
            let inherited = id == outer[slot];
            let declared = spec.map(|spec| {
                let name = kind.object_kind().as_str();
                spec.namespaces.iter().find(|d| d.kind.proc_name() == name)
            });
            origins[slot] = match declared {
                // No spec: what it has in common with others it was given.
                None if initial || inherited || taken => Origin::Baseline,
                None => Origin::Own,
                Some(Some(named)) if named.path.is_some() => Origin::Declared,
                Some(Some(_)) if inherited || taken => Origin::Undeclared,
                Some(Some(_)) => Origin::Own,
                // The spec asks for those of the one who starts it.
                Some(None) if initial || around != HOST && inherited => Origin::Declared,
                Some(None) => Origin::Undeclared,
            };
        }
        origins
    }

    pub(super) fn set_ownership(&mut self, id: EntityId, ids: &NsIds) {
        let mut chain = Vec::new();
        let mut at = ids[ns::USER];
        // A chain has at most 32 links in the kernel.
        while let Some(namespace) = self.world.ns.get(at) {
            chain.push(at);
            if namespace.initial || chain.len() > 32 {
                break;
            }
            match self.world.ns.by_inum(NsKind::User, namespace.owner_inum) {
                Some(parent) if parent != at => at = parent,
                _ => break,
            }
        }
        let owners: BTreeSet<NsId> = ids
            .iter()
            .filter_map(|&object| self.world.ns.get(object))
            .filter(|n| n.kind != NsKind::User && !n.initial)
            .filter_map(|n| self.world.ns.by_inum(NsKind::User, n.owner_inum))
            .collect();
        self.index.set_user_chain(id, chain);
        self.index.set_owners(id, owners);
    }
}
