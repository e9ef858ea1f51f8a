//! Which items of a trace are wanted.

use super::kind::Kind;
use crate::trace::Item;

/// A stretch of time, and kinds. What an item without a time belongs to is the item before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Not before this, nanoseconds since boot.
    pub since_ns: Option<u64>,
    /// Not after this, nanoseconds since boot.
    pub until_ns: Option<u64>,
    /// Only these; all when empty.
    pub kinds: Vec<Kind>,
}

/// What a [`Filter`] makes of the items of one trace, in order.
#[derive(Debug)]
pub struct Selection<'a> {
    filter: &'a Filter,
    /// Time of the last item that had one.
    now_ns: Option<u64>,
}

impl<'a> Selection<'a> {
    /// Nothing was seen yet.
    #[must_use]
    pub const fn new(filter: &'a Filter) -> Self {
        Self {
            filter,
            now_ns: None,
        }
    }

    /// Whether the next item is wanted.
    pub fn wants(&mut self, item: &Item<'_>) -> bool {
        self.now_ns = item.boottime_ns().or(self.now_ns);
        let Filter {
            since_ns,
            until_ns,
            kinds,
        } = self.filter;
        // What stands before all times was there when the trace began.
        let now_ns = self.now_ns.unwrap_or(0);
        since_ns.is_none_or(|since| now_ns >= since)
            && until_ns.is_none_or(|until| now_ns <= until)
            && (kinds.is_empty() || kinds.contains(&Kind::of(item)))
    }
}

#[cfg(test)]
mod tests {
    use super::{Filter, Selection};
    use crate::engine::Event;
    use crate::trace::tool::kind::Kind;
    use crate::trace::{Answer, Item};

    /// Goal: both bounds belong to the stretch, and an answer belongs to what raised its question. Method: ticks
    /// around both bounds, an answer behind each.
    #[test]
    fn bounds_and_kinds() {
        let answer = Item::Answer(Answer {
            cgroup_path: "/a",
            init_pid: None,
            answer: None,
        });
        let pick = |filter: &Filter| {
            let mut selection = Selection::new(filter);
            let mut wanted = Vec::new();
            for boottime_ns in 1..6 {
                let tick = Item::Event(Event::Tick { boottime_ns });
                for item in [tick, answer] {
                    wanted.push(selection.wants(&item));
                }
            }
            wanted
        };
        let mut filter = Filter {
            since_ns: Some(2),
            until_ns: Some(4),
            ..Filter::default()
        };
        let both = [
            false, false, true, true, true, true, true, true, false, false,
        ];
        assert_eq!(pick(&filter), both);
        filter.kinds = vec![Kind::Answer];
        let answers = pick(&filter);
        assert_eq!(answers.iter().filter(|w| **w).count(), 3);
        assert!(answers[3] && !answers[2]);
    }
}
