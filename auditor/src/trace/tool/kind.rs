//! What kinds of entries there are, by name.

use crate::engine::Event;
use crate::trace::Item;
use auditor_common::hook::{Attach, HOOKS, ITER_TASK};
use auditor_common::record::cause;
use serde::Serialize;

/// The kind of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Kind {
    /// A task was born.
    Birth,
    /// A task's state changed: `cause` says by what.
    Change,
    /// A task executed a file.
    Exec,
    /// A task ended.
    Exit,
    /// A cgroup appeared, went, or was found.
    Cgroup,
    /// A task did something to an object: `act` says what.
    Act,
    /// A sweep begins.
    SweepBegin,
    /// A task in a sweep.
    SweepTask,
    /// A sweep ends.
    SweepEnd,
    /// What the inventory said about a container.
    Answer,
    /// What a process was set up with.
    Looked,
    /// Labels of an earlier run.
    Saved,
    /// A policy came into force.
    Policy,
    /// Events were lost.
    Loss,
    /// Time passed.
    Tick,
    /// The watch ended.
    Stop,
}

impl Kind {
    /// All kinds, in order.
    pub const ALL: [Self; 16] = [
        Self::Birth,
        Self::Change,
        Self::Exec,
        Self::Exit,
        Self::Cgroup,
        Self::Act,
        Self::SweepBegin,
        Self::SweepTask,
        Self::SweepEnd,
        Self::Answer,
        Self::Looked,
        Self::Saved,
        Self::Policy,
        Self::Loss,
        Self::Tick,
        Self::Stop,
    ];

    /// Of an item.
    #[must_use]
    pub const fn of(item: &Item<'_>) -> Self {
        match item {
            Item::Event(event) => match event {
                Event::Task(record) => match record.cause {
                    cause::FORK => Self::Birth,
                    cause::SNAPSHOT => Self::SweepTask,
                    _ => Self::Change,
                },
                Event::Exec(_) => Self::Exec,
                Event::Exit(_) => Self::Exit,
                Event::Cgroup(_) => Self::Cgroup,
                Event::Act(_) => Self::Act,
                Event::SweepBegin { .. } => Self::SweepBegin,
                Event::SweepEnd { .. } => Self::SweepEnd,
                Event::Answer { .. } => Self::Answer,
                Event::Looked(_) => Self::Looked,
                Event::Restore(_) => Self::Saved,
                Event::Policy(_) => Self::Policy,
                Event::Loss(_) => Self::Loss,
                Event::Tick { .. } => Self::Tick,
            },
            Item::Answer(_) => Self::Answer,
            Item::Stop { .. } => Self::Stop,
        }
    }

    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Birth => "birth",
            Self::Change => "change",
            Self::Exec => "exec",
            Self::Exit => "exit",
            Self::Cgroup => "cgroup",
            Self::Act => "act",
            Self::SweepBegin => "sweep_begin",
            Self::SweepTask => "sweep_task",
            Self::SweepEnd => "sweep_end",
            Self::Answer => "answer",
            Self::Looked => "looked",
            Self::Saved => "saved",
            Self::Policy => "policy",
            Self::Loss => "loss",
            Self::Tick => "tick",
            Self::Stop => "stop",
        }
    }
}

/// The hook by which a kernel program saw what an item tells; `None` for what the auditor itself found or said.
#[must_use]
pub fn kernel_hook(item: &Item<'_>) -> Option<u16> {
    let Item::Event(event) = item else {
        return None;
    };
    let hook = match event {
        Event::Task(record) if record.cause != cause::SNAPSHOT => record.header.hook,
        Event::Exec(record) => record.task.header.hook,
        Event::Exit(record) => record.header.hook,
        Event::Cgroup(record) => record.header.hook,
        Event::Act(record) => record.header.hook,
        _ => return None,
    };
    let is_agent = HOOKS
        .get(usize::from(hook))
        .is_some_and(|spec| spec.attach == Attach::Agent);
    (!is_agent && hook != ITER_TASK).then_some(hook)
}

#[cfg(test)]
mod tests {
    use super::Kind;

    /// Goal: one name everywhere. Method: the name in JSON, on the command line and in text.
    #[test]
    fn names_agree() {
        use clap::ValueEnum;
        for kind in Kind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
            let value = kind.to_possible_value().unwrap();
            assert_eq!(value.get_name(), kind.as_str());
        }
        assert_eq!(Kind::value_variants(), Kind::ALL);
    }
}
