//! What one line of a log says, whatever tool wrote it.
//!
//! The readers of the tools' formats make these; [`super::synth`] makes the engine's records of them. A
//! field that a log does not have stays unknown here: nothing is guessed before all is known that the
//! log says.

use crate::inventory::container::ContainerAnswer;
use auditor_common::limits::NS_SLOTS;
use auditor_common::record::Creds;

/// "The machine's own namespace of this kind", where a log says that and no number.
pub(super) const HOSTS: u32 = u32::MAX;

/// A line's statement about one task.
#[derive(Clone, Debug, Default)]
pub(super) struct Act {
    /// When, nanoseconds since 1970; 0: the line does not say.
    pub(super) at_ns: u64,
    /// About whom.
    pub(super) task: Seen,
    /// What.
    pub(super) what: What,
}

/// A task as a line describes it.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Thread id in the initial pid namespace.
    pub(super) tid: u32,
    /// Thread group id likewise.
    pub(super) tgid: u32,
    /// The tool's mark of the task's start: tells a reused id. Compared, never shown.
    pub(super) start: Option<u64>,
    /// Thread group id of its parent.
    pub(super) parent: Option<u32>,
    /// Command name.
    pub(super) comm: String,
    /// Inums by slot; 0: not said.
    pub(super) ns: [u32; NS_SLOTS],
    /// Bit per slot: the log says that this is the machine's own.
    pub(super) hosts: u16,
    /// Credentials, where the log has capabilities too.
    pub(super) creds: Option<Creds>,
    /// Real user id, where that is all the log has.
    pub(super) uid: u32,
    /// The container that the log puts it into.
    pub(super) container: Option<Box<ContainerAnswer>>,
    /// The log says that this container has not executed its first program yet: it is a runtime's task.
    pub(super) prepares: bool,
}

/// See [`Act`].
#[derive(Clone, Debug, Default)]
pub(super) enum What {
    /// It was there.
    #[default]
    Seen,
    /// It executed a file.
    Exec {
        /// The file.
        file: String,
        /// The log says that the process was born for this exec.
        newborn: bool,
    },
    /// It got a child.
    Fork {
        /// Thread id of the child.
        tid: u32,
        /// Thread group id of the child.
        tgid: u32,
    },
    /// Its namespaces are those of [`Act::task`] from here on.
    Switch,
    /// Its credentials changed.
    Creds {
        /// Those before.
        before: Creds,
        /// Those after.
        after: Creds,
        /// By an exec that is under way.
        in_exec: bool,
    },
    /// It put a task into a cgroup.
    Attach {
        /// Path below the hierarchy's root.
        path: String,
        /// Thread id of the moved task; `None`: itself.
        moved: Option<u32>,
    },
    /// It ended.
    Exit,
    /// Nothing about a task: there is a cgroup at this path.
    Cgroup {
        /// Path below the hierarchy's root.
        path: String,
    },
    /// Nothing about a task: the machine's own namespaces are those of [`Act::task`].
    Machine,
    /// Nothing about a task: the tool did not keep so many events.
    Lost {
        /// How many.
        count: u64,
    },
}
