//! Tasks that the kernel itself moves: when the last processor of a v1 cpuset goes, its tasks are sent to the
//! nearest ancestor that has one (`cgroup_transfer_tasks`).
//!
//! The record names the destination, not the tasks. So it moves nobody in the model; it is remembered, and what a
//! sweep finds in the destination, and had below it, is taken in as explained.

use super::Engine;
use super::rule::drift::Difference;
use super::world::World;
use super::world::cgroups::slots_in;
use crate::model::text;
use auditor_common::record::{CgroupRecord, TaskState};

/// Transfers remembered. After more than that each move in a hierarchy that had one is explained.
const MAX_TRANSFERS: usize = 256;

#[derive(Debug)]
struct Transfer {
    hierarchy: u32,
    destination: u64,
    /// Path of the destination; `None` when anything in the hierarchy may have been moved anywhere.
    path: Option<String>,
    boottime_ns: u64,
}

impl Transfer {
    fn explains(&self, world: &World, hierarchy: u32, from: u64, to: u64) -> bool {
        let Some(path) = &self.path else {
            return self.hierarchy == hierarchy;
        };
        let below = |place: &str| {
            let rest = place.strip_prefix(path.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        // What was emptied may be gone already.
        let was_below = world.cgroups.path((hierarchy, from)).is_none_or(below);
        (self.hierarchy, self.destination) == (hierarchy, to) && was_below
    }
}

/// Transfers since the last sweep.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    known: Vec<Transfer>,
}

impl Transfers {
    fn note(&mut self, transfer: Transfer) {
        let same = |t: &Transfer| {
            t.hierarchy == transfer.hierarchy
                && (t.path.is_none() || t.destination == transfer.destination)
        };
        if let Some(known) = self.known.iter_mut().find(|t| same(t)) {
            known.boottime_ns = transfer.boottime_ns.max(known.boottime_ns);
        } else if self.known.len() < MAX_TRANSFERS {
            self.known.push(transfer);
        } else {
            let (hierarchy, boottime_ns) = (transfer.hierarchy, transfer.boottime_ns);
            // Always one at least goes: the table has room again.
            self.known.retain(|t| t.hierarchy != hierarchy);
            self.known.truncate(MAX_TRANSFERS - 1);
            self.known.push(Transfer {
                path: None,
                boottime_ns,
                ..transfer
            });
        }
    }

    /// A sweep that began then has seen what all earlier ones did.
    pub(super) fn forget_before(&mut self, boottime_ns: u64) {
        self.known.retain(|t| t.boottime_ns >= boottime_ns);
    }

    /// Transfers remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}

impl Engine {
    /// The kernel moved tasks to a cgroup from one below it.
    pub(super) fn on_transfer(&mut self, record: &CgroupRecord) {
        let len = (record.path_len as usize).min(record.path.len());
        let told = || text::escape(&record.path[..len]);
        let path = self.world.cgroups.path((record.hierarchy, record.id));
        self.transfers.note(Transfer {
            hierarchy: record.hierarchy,
            destination: record.id,
            path: Some(path.map_or_else(told, str::to_owned)),
            boottime_ns: record.header.boottime_ns,
        });
    }

    /// Takes the moves in that transfers explain, and gives what else differs.
    pub(super) fn take_transfers(
        &mut self,
        tid: u32,
        kernel: &TaskState,
        difference: Difference,
    ) -> Difference {
        if self.transfers.known.is_empty() || difference.cgroups == 0 {
            return difference;
        }
        let Some(task) = self.world.tasks.get(&tid) else {
            return difference;
        };
        let is_explained = |&slot: &usize| {
            let (from, to) = (task.state.cgroups[slot], kernel.cgroups[slot]);
            self.world.hierarchies[slot].is_some_and(|hierarchy| {
                let mut all = self.transfers.known.iter();
                all.any(|t| t.explains(&self.world, hierarchy, from, to))
            })
        };
        let explained: Vec<usize> = slots_in(difference.cgroups).filter(is_explained).collect();
        if explained.is_empty() {
            return difference;
        }
        let mut rest = difference;
        if let Some(task) = self.world.tasks.get_mut(&tid) {
            for slot in explained {
                task.state.cgroups[slot] = kernel.cgroups[slot];
                rest.cgroups &= !(1 << slot);
            }
        }
        self.take_label(tid);
        self.refresh_extra(tid);
        self.counters.repaired += 1;
        rest
    }
}
