//! Tasks that ended since the last sweep.
//!
//! A sweep that read a task before it ended must not revive it. Ends are many and such readings few, so an end
//! is only noted; the notes are put in order when a sweep first asks.

use super::world::same_task;
use auditor_common::record::TaskKey;
use hashbrown::HashMap;

/// Half of the ends remembered: when so many are young, the old ones are forgotten. At worst a dead task lives
/// until the next sweep.
const GENERATION: usize = 1 << 15;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Exits {
    old: Vec<TaskKey>,
    young: Vec<TaskKey>,
    /// The last end of each id, as of `indexed` ends.
    by_tid: HashMap<u32, TaskKey>,
    indexed: usize,
}

impl Exits {
    /// A task ended.
    pub(super) fn note(&mut self, key: TaskKey) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
            self.by_tid.clear();
            self.indexed = 0;
        }
        self.young.push(key);
    }

    /// Whether a task is among those that ended.
    pub(super) fn contains(&mut self, key: &TaskKey) -> bool {
        let news = self.old.iter().chain(&self.young).skip(self.indexed);
        self.by_tid.extend(news.map(|k| (k.tid, *k)));
        self.indexed = self.len();
        let ended = self.by_tid.get(&key.tid);
        ended.is_some_and(|ended| same_task(ended, key))
    }

    /// The sweep is over: what it read is the past.
    pub(super) fn clear(&mut self) {
        self.old = Vec::new();
        self.young.clear();
        self.by_tid.clear();
        self.indexed = 0;
    }

    /// Ends remembered.
    pub(super) fn len(&self) -> usize {
        self.old.len() + self.young.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tid: u32, start_boottime_ns: u64) -> TaskKey {
        TaskKey {
            tid,
            tgid: tid,
            start_boottime_ns,
        }
    }

    /// An id that was used again is another task, whenever one asks.
    #[test]
    fn the_last_end_of_an_id_counts() {
        const LATER: u64 = 1_000_000_000;
        let mut exits = Exits::default();
        exits.note(key(7, 0));
        assert!(exits.contains(&key(7, 0)) && !exits.contains(&key(8, 0)));
        exits.note(key(7, LATER));
        assert!(exits.contains(&key(7, LATER)) && !exits.contains(&key(7, 0)));
        exits.clear();
        assert!(!exits.contains(&key(7, LATER)));
    }

    /// However many end between two sweeps, the last ones are remembered and memory is bounded.
    #[test]
    fn the_oldest_are_forgotten() {
        let mut exits = Exits::default();
        let many = GENERATION as u32 * 3 + 5;
        for tid in 0..many {
            exits.note(key(tid, 0));
            if tid % 1000 == 0 {
                assert!(exits.contains(&key(tid, 0)));
            }
            assert!(exits.len() <= 2 * GENERATION && exits.by_tid.len() <= 2 * GENERATION);
        }
        let recent = many - GENERATION as u32..many;
        assert!(recent.into_iter().all(|tid| exits.contains(&key(tid, 0))));
        assert!(!exits.contains(&key(0, 0)));
    }
}
