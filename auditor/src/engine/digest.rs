//! The model in sixteen digits: two auditors that saw the same say the same.

use super::Engine;
use crate::model::NsKind;
use auditor_common::record::ns;
use sha2::{Digest, Sha256};

impl Engine {
    /// SHA-256 over what the model says of every task and entity, first 16 hexadecimal digits.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let mut tids: Vec<u32> = self.world.tasks.keys().copied().collect();
        tids.sort_unstable();
        for tid in tids {
            let Some(task) = self.world.tasks.get(&tid) else {
                continue;
            };
            let label = self
                .world
                .entities
                .get(&task.label)
                .map_or("", |e| e.key.as_str());
            hash.update(tid.to_le_bytes());
            hash.update(label.as_bytes());
            for kind in NsKind::ALL {
                hash.update(task.state.ns[kind.slot()].inum.to_le_bytes());
            }
            hash.update(task.state.creds.cap_permitted.to_le_bytes());
            hash.update(task.state.ns[ns::USER].inum.to_le_bytes());
        }
        for entity in self.world.entities.values() {
            hash.update(entity.key.as_bytes());
        }
        hash.finalize()
            .iter()
            .take(8)
            .map(|b| format!("{b:02x}"))
            .collect()
    }
}
