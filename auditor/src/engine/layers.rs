//! What stands between each container and its capabilities, put together from what is known of it.

use super::Engine;
use crate::model::facts::{EntityId, HOST};
use crate::model::layers::{Confined, Devices, Layers, Seccomp, Worn};
use auditor_common::record::{TaskState, known};

/// What a task is confined by, besides its capabilities.
pub(super) fn confined(state: &TaskState) -> Confined {
    let has = |bits: u32| state.known & bits == bits;
    Confined {
        // /proc tells neither who owns a namespace nor these.
        securebits: has(known::CREDS | known::NS_OWNERS).then_some(state.creds.securebits),
        seccomp: has(known::CONFINEMENT).then_some(Seccomp {
            mode: state.seccomp_mode,
            filters: state.seccomp_filters,
        }),
        landlock: None,
    }
}

impl Engine {
    /// The layers of a container that is there; `None` for the host, and for what nobody knows.
    #[must_use]
    pub fn layers(&self, id: EntityId) -> Option<Layers> {
        let entity = self.world.entities.get(&id).filter(|_| id != HOST)?;
        let (granted, confined) = self.ledger.begun(id)?;
        let spec = entity.answer.as_ref().and_then(|a| a.spec.as_ref());
        let answer = entity.answer.as_ref();
        let pod = answer.and_then(|answer| answer.pod.as_ref());
        let pod = pod.and_then(|pod| pod.uid.as_deref());
        let ids: Vec<&str> = answer
            .map(|a| a.id.as_str())
            .into_iter()
            .chain(pod)
            .collect();
        let setup = self.setups.table(id);
        Some(Layers {
            granted,
            confined,
            refused: spec
                .filter(|spec| spec.seccomp)
                .and_then(|spec| spec.seccomp_refuses.clone()),
            devices: self.devices(id),
            worn: setup.map(|setup| Worn::of(setup, self.setups.table(HOST), &ids)),
        })
    }

    /// The devices that a container may reach: by the rules of its cgroup, or by its spec where nobody has read those.
    pub(super) fn devices(&self, id: EntityId) -> Devices {
        let rules = self
            .setups
            .table(id)
            .and_then(|setup| setup.device_rules.clone());
        if let Some(rules) = rules {
            return Devices::Rules(rules);
        }
        let entity = self.world.entities.get(&id);
        let answer = entity.and_then(|entity| entity.answer.as_ref());
        let spec = answer.and_then(|answer| answer.spec.as_ref());
        spec.map_or(Devices::Unknown, |spec| Devices::Declared {
            all: spec.all_devices,
        })
    }
}
