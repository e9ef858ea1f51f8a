//! Who the tasks were that ended.
//!
//! A task that ended may be named once more: whoever gave birth to it signals it before he has waited for it, and the
//! kernel tells that as it tells any other signal. Nobody is reached by that, but it must be known whose the task was.

use super::same_task;
use crate::model::facts::{EntityId, HOST};
use auditor_common::record::TaskKey;
use hashbrown::HashMap;
use std::collections::VecDeque;

/// Ends remembered, of containers' tasks alone. A task that ended earlier counts as one that nobody knew.
const MAX_ENDED: usize = 4096;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// The last end of each id.
    by_tid: HashMap<u32, (TaskKey, EntityId)>,
    /// Ids in the order of their ends; one may be in it again.
    order: VecDeque<TaskKey>,
}

impl Ended {
    /// A task ended that had this label.
    pub(super) fn note(&mut self, key: TaskKey, label: EntityId) {
        if label == HOST {
            return;
        }
        if self.order.len() >= MAX_ENDED
            && let Some(oldest) = self.order.pop_front()
            && self
                .by_tid
                .get(&oldest.tid)
                .is_some_and(|(last, _)| *last == oldest)
        {
            self.by_tid.remove(&oldest.tid);
        }
        self.order.push_back(key);
        self.by_tid.insert(key.tid, (key, label));
    }

    /// The label that a task ended with.
    pub(super) fn label(&self, key: &TaskKey) -> Option<EntityId> {
        let (last, label) = self.by_tid.get(&key.tid)?;
        same_task(last, key).then_some(*label)
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

    /// Goal: labels of ended tasks are found, not those of later tasks with their ids, and memory is bounded.
    #[test]
    fn the_last_ends_are_remembered() {
        const LATER: u64 = 1_000_000_000;
        let mut ended = Ended::default();
        ended.note(key(1, 0), HOST);
        assert_eq!(ended.label(&key(1, 0)), None);
        ended.note(key(1, 0), EntityId(7));
        assert_eq!(ended.label(&key(1, 0)), Some(EntityId(7)));
        assert_eq!(ended.label(&key(1, LATER)), None);
        for tid in 0..3 * MAX_ENDED as u32 {
            ended.note(key(tid, LATER), EntityId(8));
            assert!(ended.order.len() <= MAX_ENDED && ended.by_tid.len() <= MAX_ENDED);
        }
        assert_eq!(ended.label(&key(0, LATER)), None);
        let last = key(3 * MAX_ENDED as u32 - 1, LATER);
        assert_eq!(ended.label(&last), Some(EntityId(8)));
    }
}
