//! As fast as it was recorded, or some factor faster: how long to wait before an item.

use crate::cli::units::Factor;
use crate::engine::Event;
use crate::trace::Item;
use std::time::{Duration, Instant};

/// See the [module](self).
#[derive(Debug)]
pub struct Pace {
    factor: Factor,
    /// When the first item with a time was given, and that time.
    began: Option<(Instant, u64)>,
}

impl Pace {
    /// A pace that begins with the first item.
    #[must_use]
    pub const fn new(factor: Factor) -> Self {
        Self {
            factor,
            began: None,
        }
    }

    /// How long it is from `now` until what happened then, in nanoseconds since boot, is due.
    pub fn wait(&mut self, at_ns: u64, now: Instant) -> Duration {
        let (began, first_ns) = *self.began.get_or_insert((now, at_ns));
        let due = self.factor.of(at_ns.saturating_sub(first_ns));
        due.saturating_sub(now.saturating_duration_since(began))
    }
}

/// When an item happened, nanoseconds since boot, where it says so.
#[must_use]
pub fn time_ns(item: &Item<'_>) -> Option<u64> {
    match item {
        Item::Event(event) => event_time_ns(event),
        Item::Stop { boottime_ns, .. } => Some(*boottime_ns),
        Item::Answer(_) => None,
    }
}

/// As [`time_ns`].
#[must_use]
pub fn event_time_ns(event: &Event<'_>) -> Option<u64> {
    Some(match event {
        Event::Task(r) => r.header.boottime_ns,
        Event::Exec(r) => r.task.header.boottime_ns,
        Event::Exit(r) => r.header.boottime_ns,
        Event::Cgroup(r) => r.header.boottime_ns,
        Event::Act(r) => r.header.boottime_ns,
        Event::SweepBegin { boottime_ns }
        | Event::SweepEnd { boottime_ns, .. }
        | Event::Tick { boottime_ns } => *boottime_ns,
        Event::Loss(mark) => mark.boottime_ns,
        Event::Answer { .. } | Event::Looked(_) | Event::Restore(_) | Event::Policy(_) => {
            return None;
        }
    })
}

#[cfg(test)]
mod tests {
    use super::Pace;
    use std::time::{Duration, Instant};

    /// Goal: time passes as in the trace, times a factor, and what is late is not waited for. Method: a clock
    /// that the test sets.
    #[test]
    fn waiting_follows_the_trace() {
        let start = Instant::now();
        let seconds = Duration::from_secs;
        let mut pace = Pace::new("10".parse().unwrap());
        let mut wait = |at_s: u64, now| pace.wait(at_s * 1_000_000_000, now);
        assert_eq!(wait(100, start), Duration::ZERO);
        assert_eq!(wait(120, start), seconds(2));
        assert_eq!(wait(120, start + seconds(1)), seconds(1));
        assert_eq!(wait(120, start + seconds(3)), Duration::ZERO);
        assert_eq!(wait(99, start), Duration::ZERO);
    }
}
