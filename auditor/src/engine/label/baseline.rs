//! How a new container came by each of its namespaces, and who owns them.

use super::Engine;
use crate::engine::world::namespaces::{NO_NS, NsIds};
use crate::inventory::container::SpecSummary;
use crate::model::NsKind;
use crate::model::facts::{EntityId, HOST, NsId, Origin};
use crate::model::isolation::{Powers, Reach};
use auditor_common::limits::NS_SLOTS;
use auditor_common::record::{TaskKey, known, ns};
use std::collections::BTreeSet;

/// Bit of `CAP_KILL`.
const CAP_KILL: u8 = 5;
/// Bit of `CAP_SYS_PTRACE`.
const CAP_SYS_PTRACE: u8 = 19;

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

    /// Tells the index whose processes an entity's tasks reach.
    pub(super) fn set_reach(&mut self, id: EntityId, ids: &NsIds, init: &TaskKey) {
        let Some(state) = self.world.task(init).map(|task| task.state) else {
            return;
        };
        if state.known & known::CREDS == 0 {
            return;
        }
        let mut user = self.users_above(ids[ns::USER]);
        self.end_chain(&mut user, |host| &host.user);
        let may = |bit: u8| state.creds.cap_permitted >> bit & 1 == 1;
        let reach = Reach {
            pid: self.pids_above(ids[ns::PID], state.pid_parent_inum),
            user,
            powers: Powers {
                trace: may(CAP_SYS_PTRACE),
                signal: may(CAP_KILL),
            },
            uid: state.creds.uid,
        };
        self.index.set_reach(id, reach);
    }

    /// A pid namespace and those above it, as far as they are somebody's own, and the initial one.
    fn pids_above(&self, own: NsId, parent_inum: u32) -> Vec<NsId> {
        let mut chain = vec![own];
        if let Some(parent) = self.world.ns.by_inum(NsKind::Pid, parent_inum) {
            let owner = self.world.ns.get(parent).and_then(|n| n.entity);
            let above = owner.and_then(|owner| self.index.reach_of(owner));
            match above.filter(|above| above.pid.first() == Some(&parent)) {
                Some(above) => chain.extend(&above.pid),
                None => chain.push(parent),
            }
        }
        self.end_chain(&mut chain, |host| &host.pid);
        chain
    }

    /// Every chain ends in the initial namespace, whatever of it is not known (/proc shows no parents).
    fn end_chain(&self, chain: &mut Vec<NsId>, of: fn(&Reach) -> &Vec<NsId>) {
        let host = self.index.reach_of(HOST).map(of);
        chain.extend(host.and_then(|host| host.first()));
        let mut seen = BTreeSet::new();
        chain.retain(|id| seen.insert(*id));
    }

    /// A user namespace and those above it.
    fn users_above(&self, own: NsId) -> Vec<NsId> {
        let mut chain = Vec::new();
        let mut at = own;
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
        chain
    }

    pub(super) fn set_ownership(&mut self, id: EntityId, ids: &NsIds) {
        let chain = self.users_above(ids[ns::USER]);
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
