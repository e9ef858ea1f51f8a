//! Devices that containers mount, as the kernel tells it at once: what is gone again by the next tick stands in no table.

use super::super::Engine;
use super::super::rule::{Deed, Draft, foreign_mount};
use crate::model::facts::EntityId;
use crate::model::output::Evidence;
use crate::model::setup::{Mount, SetUp};
use crate::model::text;

/// Devices of containers of which it is known that they were told. What goes beyond is told a second time.
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
        let told = (deed.label, mount.dev);
        let shown_ns = self.setups.shown.get(&told);
        if shown_ns.is_some_and(|read_ns| deed.record.header.boottime_ns <= *read_ns) {
            return;
        }
        let empty = SetUp::default();
        let tables = self.tables(deed.label, None, &empty);
        let Some(draft) = foreign_mount::detect_device(&tables, deed, &mount, &self.world) else {
            return;
        };
        out.push(draft);
        if self.setups.told.len() < MAX_TOLD {
            self.setups.told.insert(told);
        }
    }

    /// Whether what a table shows, read at a moment, is to be told: not if it is the whole of a device, and was told when
    /// the kernel did it. The record of that may also be yet to come.
    pub(super) fn is_new_mount(&mut self, label: EntityId, draft: &Draft, read_ns: u64) -> bool {
        let Some(Evidence::Mount {
            root, dev, flags, ..
        }) = &draft.observed
        else {
            return true;
        };
        if root != "/" || !flags.is_empty() {
            return true;
        }
        let told = (label, *dev);
        if self.setups.told.contains(&told) {
            return false;
        }
        if self.setups.shown.len() < MAX_TOLD {
            self.setups.shown.insert(told, read_ns);
        }
        true
    }
}
