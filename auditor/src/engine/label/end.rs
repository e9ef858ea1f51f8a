//! The end of a container, and of what its tasks held.

use super::Engine;
use crate::engine::world::Task;
use crate::model::facts::{EntityId, HOST, ObjectKey, Origin};
use auditor_common::record::path_flags;
use std::collections::BTreeSet;

impl Engine {
    #[inline(never)]
    pub(super) fn end_entity(&mut self, id: EntityId) {
        // Later it has no name any more.
        self.release_held(id);
        self.close_grant(id);
        self.close_account(id);
        let Some(entity) = self.world.end(id) else {
            return;
        };
        // What it made and others still use has no other owner than those around it.
        let back = self.world.ns.bequeath(id, &entity.ns, entity.parent);
        for object in entity.ns {
            self.world.ns.unpin(object);
        }
        // The oldest of those that share its cgroup.
        let heir = self.world.tenants(id).first().copied();
        self.world.cgroups.release_claims(id, heir);
        let mut strangers = self.other_holders(ObjectKey::Territory(id), id);
        strangers.extend(self.containers_of(entity.parent));
        self.index.remove_entity(id);
        self.reporter.forget(id, entity.parent);
        self.forget_setup(id);
        self.forget_handles(id);
        if let Some(heir) = heir {
            self.inherit_territory(id, heir);
        }
        // What was nested in it is nested in what it was nested in.
        for orphan in self.index.nested_in(id) {
            if let Some(e) = self.world.entities.get_mut(&orphan) {
                e.parent = entity.parent;
            }
            self.index.insert_entity(orphan, self.profile(orphan));
        }
        self.refresh_extras(&strangers);
        // Who had it as one's that is nested has it as another's.
        let holders = back
            .into_iter()
            .flat_map(|object| self.other_holders(object, id));
        for holder in holders.collect::<BTreeSet<EntityId>>() {
            self.rejudge(holder);
        }
        self.bury_mounts();
    }

    /// Whoever shared a cgroup with an entity that ended shares it with the heir.
    fn inherit_territory(&mut self, from: EntityId, heir: EntityId) {
        for id in self.world.pass_territory(from, heir) {
            let origin = if id == heir {
                Origin::Own
            } else {
                Origin::Undeclared
            };
            self.index.hold(id, ObjectKey::Territory(heir), origin);
            self.index
                .release(id, ObjectKey::Territory(from), Origin::Undeclared);
        }
    }

    /// Roots, working directories and files in mount namespaces that ended belong to nobody any more; their
    /// inums may come back.
    pub(in crate::engine) fn bury_mounts(&mut self) {
        for id in self.world.ns.take_retired_mounts() {
            let mut labels = self.other_holders(ObjectKey::Root(id), HOST);
            labels.extend(self.other_holders(ObjectKey::Cwd(id), HOST));
            labels.extend(self.other_holders(ObjectKey::Reference(id), HOST));
            if labels.is_empty() {
                continue;
            }
            let is_of = |t: &Task, object| t.extra.iter().any(|(o, _)| *o == object);
            for task in self.world.tasks.values_mut() {
                if is_of(task, ObjectKey::Root(id)) {
                    task.state.root.flags |= path_flags::DETACHED;
                }
                if is_of(task, ObjectKey::Cwd(id)) {
                    task.state.cwd.flags |= path_flags::DETACHED;
                }
                task.references.retain(|held| held.ns != id);
            }
            self.refresh_extras(&labels);
        }
    }
}
