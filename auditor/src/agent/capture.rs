//! What an engine knows at one moment, as events that make another engine know the same.
//!
//! It is the prologue of a part of a recording, kept in memory, so that something can be changed in it: see
//! [`what_if`](super::what_if). Handles that several hold are left out: nothing that can be supposed touches them.

use super::cut::found;
use crate::engine::{Config, Engine, Event, Saved};
use crate::inventory::container::ContainerAnswer;
use crate::model::policy::Policy;
use crate::model::setup::SetUp;
use crate::sensor::snapshot::task_record;
use auditor_common::hook;
use auditor_common::record::{ActRecord, CgroupRecord, RecordHeader, TaskRecord, act, kind};
use std::collections::BTreeMap;
use zerocopy::FromZeros;

/// `S_IFDIR`.
const DIRECTORY: u32 = 0x4000;
/// Behind the standard streams.
const DESCRIPTOR: u32 = 3;

/// See the [module](self).
#[derive(Clone, Debug)]
pub(super) struct Capture {
    config: Config,
    policy: Policy,
    boottime_ns: u64,
    /// By path of the cgroup.
    answers: BTreeMap<String, ContainerAnswer>,
    pub(super) saved: Saved,
    pub(super) set_ups: Vec<SetUp>,
    cgroups: Vec<CgroupRecord>,
    pub(super) tasks: Vec<TaskRecord>,
    references: Vec<ActRecord>,
}

impl Capture {
    /// What an engine knows.
    pub(super) fn of(engine: &Engine, boottime_ns: u64) -> Self {
        let world = engine.world();
        let named = world.entities.values();
        let answers = named.filter_map(|e| Some((e.home.clone(), e.answer.as_deref()?.clone())));
        let cgroups = world.cgroups.iter();
        let mut cgroups: Vec<CgroupRecord> = cgroups
            .map(|(key, path)| found(boottime_ns, key, path.as_bytes()))
            .collect();
        cgroups.sort_by_key(|record| (record.hierarchy, record.id));
        let mut threads: Vec<_> = world.tasks.values().collect();
        threads.sort_by_key(|task| (task.state.key.tgid, task.state.key.tid));
        let references = threads.iter().flat_map(|task| {
            let held = task
                .references
                .iter()
                .filter_map(|held| world.ns.get(held.ns));
            held.map(|ns| holds(task_record(task.state, boottime_ns), ns.inum))
        });
        Self {
            config: engine.config().clone(),
            policy: engine.index().policy().clone(),
            boottime_ns,
            answers: answers.collect(),
            saved: engine.saved(),
            set_ups: engine.set_ups(),
            references: references.collect(),
            tasks: threads
                .iter()
                .map(|task| task_record(task.state, boottime_ns))
                .collect(),
            cgroups,
        }
    }

    /// A new engine that knows it.
    pub(super) fn play(&self) -> Engine {
        let mut engine = Engine::new(self.config.clone(), &self.policy);
        let boottime_ns = self.boottime_ns;
        self.step(&mut engine, Event::Policy(&self.policy));
        self.step(&mut engine, Event::Restore(&self.saved));
        for setup in &self.set_ups {
            self.step(&mut engine, Event::Looked(setup));
        }
        for record in &self.cgroups {
            self.step(&mut engine, Event::Cgroup(record));
        }
        self.step(&mut engine, Event::SweepBegin { boottime_ns });
        for record in &self.tasks {
            self.step(&mut engine, Event::Task(record));
        }
        for record in &self.references {
            self.step(&mut engine, Event::Act(record));
        }
        let complete = true;
        self.step(
            &mut engine,
            Event::SweepEnd {
                boottime_ns,
                complete,
            },
        );
        engine
    }

    /// What it says of it is of no interest, only what it knows then.
    fn step(&self, engine: &mut Engine, event: Event<'_>) {
        let mut unheard = Vec::new();
        engine.step(event, &mut unheard);
        while let Some(query) = engine.next_query() {
            let answer = self.answers.get(&query.cgroup_path);
            let query = query.id;
            engine.step(Event::Answer { query, answer }, &mut unheard);
        }
        while engine.next_look().is_some() {}
    }
}

/// A task holds something in a mount namespace.
fn holds(task: TaskRecord, mnt_ns_inum: u32) -> ActRecord {
    let mut record = ActRecord::new_zeroed();
    record.header = RecordHeader {
        kind: kind::ACT,
        hook: hook::ITER_FILE,
        size: size_of::<ActRecord>() as u16,
        ..task.header
    };
    record.actor = task.state.key;
    record.target = task.state.key;
    record.target.tid = DESCRIPTOR;
    record.act = act::HOLD;
    record.syscall = -1;
    record.object.mnt_ns_inum = mnt_ns_inum;
    record.object.mode = DIRECTORY;
    record
}
