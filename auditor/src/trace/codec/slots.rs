//! The last state of every task, kept alike on both sides.

use super::super::limits::SLOTS;
use super::blank;
use auditor_common::record::ExecRecord;
use hashbrown::HashMap;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Slots {
    by_tid: HashMap<u32, u32>,
    slab: Vec<Slot>,
    free: Vec<u32>,
    /// What a sweep under way refers to: all tasks when it began, by id.
    order: Vec<u32>,
    cursor: usize,
    sweep: u64,
}

#[derive(Debug)]
struct Slot {
    record: ExecRecord,
    /// The sweep that showed it last.
    swept: u64,
}

impl Slots {
    pub(super) fn contains(&self, tid: u32) -> bool {
        self.by_tid.contains_key(&tid)
    }

    pub(super) fn get(&self, tid: u32) -> Option<&ExecRecord> {
        let index = *self.by_tid.get(&tid)?;
        Some(&self.slab[index as usize].record)
    }

    /// The task's slot, blank when it is new.
    pub(super) fn entry(&mut self, tid: u32) -> &mut ExecRecord {
        let index = self.index(tid);
        &mut self.slab[index as usize].record
    }

    /// A slot for a new task, with its parent's record in it, or a blank one.
    pub(super) fn born(&mut self, tid: u32, parent: u32) -> &mut ExecRecord {
        let record = self.get(parent).copied().unwrap_or_else(blank);
        let slot = self.entry(tid);
        *slot = record;
        slot
    }

    pub(super) fn remove(&mut self, tid: u32) {
        if let Some(index) = self.by_tid.remove(&tid) {
            self.free.push(index);
        }
    }

    fn index(&mut self, tid: u32) -> u32 {
        if let Some(&index) = self.by_tid.get(&tid) {
            return index;
        }
        if self.by_tid.len() >= SLOTS {
            // Both sides come here at the same entry, so both forget the same.
            self.by_tid.clear();
            self.slab.clear();
            self.free.clear();
        }
        let slot = Slot {
            record: blank(),
            swept: self.sweep,
        };
        let index = match self.free.pop() {
            Some(index) => {
                self.slab[index as usize] = slot;
                index
            }
            None => {
                self.slab.push(slot);
                self.slab.len() as u32 - 1
            }
        };
        self.by_tid.insert(tid, index);
        index
    }

    /// A sweep begins: rows refer to the tasks of this moment.
    pub(super) fn begin_sweep(&mut self) {
        self.sweep += 1;
        self.cursor = 0;
        self.order.clear();
        self.order.extend(self.by_tid.keys());
        self.order.sort_unstable();
    }

    /// The row's next task.
    pub(super) fn next_in_order(&mut self) -> Option<u32> {
        let tid = self.order.get(self.cursor).copied()?;
        self.cursor += 1;
        Some(tid)
    }

    /// How many tasks of the row come before this one; `None` when it is not ahead.
    pub(super) fn distance(&self, tid: u32) -> Option<usize> {
        self.order.get(self.cursor..)?.binary_search(&tid).ok()
    }

    pub(super) fn skip(&mut self, tasks: usize) {
        self.cursor = self.cursor.saturating_add(tasks).min(self.order.len());
    }

    /// The sweep showed this task.
    pub(super) fn swept(&mut self, tid: u32) -> &mut ExecRecord {
        let index = self.index(tid) as usize;
        self.slab[index].swept = self.sweep;
        &mut self.slab[index].record
    }

    /// The sweep is over. A complete one listed all that live: what it did not list is gone.
    pub(super) fn end_sweep(&mut self, complete: bool) {
        let order = std::mem::take(&mut self.order);
        if complete {
            for &tid in &order {
                let gone = self
                    .by_tid
                    .get(&tid)
                    .is_some_and(|&index| self.slab[index as usize].swept < self.sweep);
                if gone {
                    self.remove(tid);
                }
            }
        }
        self.order = order;
        self.order.clear();
        self.cursor = 0;
    }
}
