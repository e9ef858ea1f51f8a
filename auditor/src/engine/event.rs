//! What the engine consumes, and what it asks for.
//!
//! One ordered stream carries everything: kernel records, the ground truth of sweeps, answers about
//! containers, policies, losses and the passing of time. Nothing else reaches the engine, so whoever
//! keeps this stream can repeat every verdict.

use crate::inventory::container::ContainerAnswer;
use crate::model::facts::Origin;
use crate::model::policy::Policy;
use crate::model::privileges::Account;
use crate::model::setup::SetUp;
use auditor_common::record::{
    ActRecord, CgroupRecord, ExecRecord, ExitRecord, TaskKey, TaskRecord,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One event.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A task's state after something happened, or within a sweep.
    Task(&'a TaskRecord),
    /// A task executed a file.
    Exec(&'a ExecRecord),
    /// A task ended.
    Exit(&'a ExitRecord),
    /// A cgroup appeared or went.
    Cgroup(&'a CgroupRecord),
    /// A task did something to an object outside of its own state.
    Act(&'a ActRecord),
    /// Ground truth follows: task records with cause `SNAPSHOT`.
    SweepBegin {
        /// When the sweep began.
        boottime_ns: u64,
    },
    /// The sweep is over.
    SweepEnd {
        /// When the sweep ended.
        boottime_ns: u64,
        /// Whether every task was listed. If not, absence proves nothing.
        complete: bool,
    },
    /// Answer to a [`Query`].
    Answer {
        /// [`Query::id`].
        query: u64,
        /// Who it is; `None` when nobody knows.
        answer: Option<&'a ContainerAnswer>,
    },
    /// Answer to a [`Look`], or what a recording repeats of earlier ones. The agent says nothing where nothing changed.
    Looked(&'a SetUp),
    /// What an earlier run of the agent knew. Comes before the first sweep.
    Restore(&'a Saved),
    /// The policy in force from here on. After the start line, another one is told.
    Policy(&'a Policy),
    /// Events were lost before this point.
    Loss(&'a LossMark),
    /// Time passed.
    Tick {
        /// Now.
        boottime_ns: u64,
    },
}

/// Where and how many events were lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossMark {
    /// When the loss was noticed.
    pub boottime_ns: u64,
    /// `ring`, `queue`, `sink`, `trace`, [`Self::EARLY`], or [`Self::SKIPPED`]. The first two touch the model, and the last
    /// where the hooks tell states.
    pub place: String,
    /// Lost events by index of the hook. Empty where the place does not know.
    pub by_hook: BTreeMap<u16, u64>,
    /// Lost events by CPU. Empty where the place does not know.
    pub by_cpu: BTreeMap<u32, u64>,
    /// All lost events.
    pub count: u64,
}

impl LossMark {
    /// The place of what a kernel program was left out of, for a task was interrupted in it. Nobody knows whether it would
    /// have told anything, so these are no lost events.
    pub const SKIPPED: &str = "program";

    /// The place of what a container did before it was known to be one, when that was too much to be kept.
    pub const EARLY: &str = "early";

    /// Lost events, as far as they are events.
    #[must_use]
    pub fn events(&self) -> u64 {
        match self.place.as_str() {
            Self::SKIPPED => 0,
            _ => self.count,
        }
    }
}

/// The engine asks who a compartment is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// To be echoed in [`Event::Answer`].
    pub id: u64,
    /// Path of its cgroup.
    pub cgroup_path: String,
    /// Its first process, by its id in the initial pid namespace.
    pub init_pid: Option<u32>,
}

/// The engine asks what a process is set up with. The answer is an [`Event::Looked`], and need not come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// The process.
    pub key: TaskKey,
    /// Its mount namespace, as the engine knows it.
    pub mnt_ns: u32,
    /// Which of these paths does this kernel have? All are below `/proc` and `/sys`.
    pub paths: Vec<String>,
    /// Which device nodes does it have?
    pub devices: bool,
    /// Answer even if nothing changed.
    pub always: bool,
}

/// What must survive a restart of the agent: who is what, where the kernel no longer tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Ids of tasks are only meaningful within this boot.
    pub boot_id: String,
    /// Entities with their frozen baselines.
    pub entities: Vec<SavedEntity>,
    /// Labelled tasks.
    pub labels: Vec<SavedLabel>,
}

/// A container as frozen at its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedEntity {
    /// Stable id.
    pub key: String,
    /// Path of its cgroup.
    pub cgroup_path: String,
    /// First process.
    pub init_pid: u32,
    /// Start of its first process, nanoseconds since boot.
    pub incarnation: u64,
    /// Inums of its namespaces, by slot.
    pub ns: Vec<u32>,
    /// How it came by them, by slot.
    pub origins: Vec<Origin>,
    /// Root directory at its start: device and inode number.
    pub root: (u32, u64),
    /// Index in `entities` of the container that it is nested in.
    pub parent: Option<usize>,
    /// What it was granted and used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privileges: Option<Account>,
    /// What of its standing was told, and is not told again.
    #[serde(default, skip_serializing_if = "Told::is_nothing")]
    pub told: Told,
}

/// What of a container's standing was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Its dangerous capabilities.
    #[serde(default)]
    pub capabilities: u64,
    /// What its confinement lacks, as bits.
    #[serde(default)]
    pub confinement: u64,
    /// Capabilities that it used although its roles do not permit them.
    #[serde(default)]
    pub used: u64,
    /// Capabilities that somebody used who came in with more than it has.
    #[serde(default)]
    pub brought: u64,
}

impl Told {
    /// Whether there was nothing to tell.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// A task's sticky label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedLabel {
    /// Thread id.
    pub tid: u32,
    /// Thread group id.
    pub tgid: u32,
    /// Start, nanoseconds since boot.
    pub start_boottime_ns: u64,
    /// Index in `entities`.
    pub entity: usize,
}
