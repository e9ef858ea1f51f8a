//! Devices that containers mount, as the kernel tells it at once: what is gone again by the next tick stands in no table.

use super::super::Engine;
use super::super::rule::{Deed, Draft, foreign_mount};
use crate::model::facts::EntityId;
use crate::model::output::Evidence;
use crate::model::setup::{Mount, SetUp};
use crate::model::text;

/// Devices of containers of which it is known that they were told. What goes beyond is told a second time by a table.
const MAX_TOLD: usize = 4096;

impl Engine {
    /// A container's task got at the file system on a device, to mount it.
    pub(in crate::engine) fn on_device(&mut self, deed: &Deed<'_>, out: &mut Vec<Draft>) {
        let mount = Mount {
            dev: deed.record.object.dev,
            root: "/".to_owned(),
            fs_type: text::escape(deed.record.name()),
            ..Mount::default()
        };
        let empty = SetUp::default();
        let tables = self.tables(deed.label, None, &empty);
        let Some(draft) = foreign_mount::detect_device(&tables, deed, &mount, &self.world) else {
            return;
        };
        out.push(draft);
        if self.setups.told.len() < MAX_TOLD {
            self.setups.told.insert((deed.label, mount.dev));
        }
    }

    /// Whether a table shows what was told when the kernel did it: the whole of a device.
    pub(super) fn is_told(&self, label: EntityId, draft: &Draft) -> bool {
        let Some(Evidence::Mount {
            root, dev, flags, ..
        }) = &draft.observed
        else {
            return false;
        };
        root == "/" && flags.is_empty() && self.setups.told.contains(&(label, *dev))
    }
}
