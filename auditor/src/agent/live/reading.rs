//! What the agent reads of the kernel at rest: tasks, the files that they hold, and what they hold together.

use super::{Agent, HANDLES_REST};
use crate::agent::sensing::{iterate, iterate_files};
use crate::engine::Event;
use crate::engine::world::World;
use crate::sensor::handles::{self, Held};
use crate::sensor::snapshot::{MountTable, Snapshot};
use crate::sensor::{clock, files};
use auditor_common::record::{ActRecord, TaskRecord, TaskState};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// What a sweep read.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) tasks: Vec<TaskRecord>,
    pub(super) files: Vec<ActRecord>,
    /// What all tasks hold; of it what is shared is told.
    held: Held,
    pub(super) shared: Vec<ActRecord>,
    /// Whether nothing was left out.
    pub(super) complete: bool,
}

impl Found {
    /// The events of the sweep between its begin and its end.
    pub(super) fn events(&self) -> impl Iterator<Item = Event<'_>> {
        let tasks = self.tasks.iter().map(Event::Task);
        let acts = self.files.iter().chain(&self.shared);
        tasks.chain(acts.map(Event::Act))
    }

    /// Tells, of what tasks hold, what is shared, now that the engine knows whose they are as far as it can. Before its
    /// first sweep it knows nobody: then namespaces and cgroups tell tasks apart.
    fn find_shared(&mut self, world: &World, begin_ns: u64) {
        let held = std::mem::take(&mut self.held);
        let states: HashMap<u32, &TaskState> = self
            .tasks
            .iter()
            .map(|t| (t.state.key.tid, &t.state))
            .collect();
        self.shared = handles::shared(&held, |key| {
            let state = states.get(&key.tid)?;
            match world.task(key) {
                Some(task) => Some(u64::from(task.label.0)),
                None => Some(handles::compartment(state, states.get(&1)?)),
            }
        });
        for record in &mut self.shared {
            record.header.boottime_ns = begin_ns;
        }
    }
}

/// How long to rest after what took the processor since then. What others took meanwhile is not its cost.
fn rest(began: Duration) -> Duration {
    clock::thread_time().saturating_sub(began) * HANDLES_REST
}

impl Agent {
    /// All tasks by id, then their files, as they were at or after `begin_ns`. Each says that it was read then: an
    /// event since is newer than what the sweep says, and a recording need not keep when each was read.
    pub(super) fn read_kernel(&mut self, begin_ns: u64) -> Option<Found> {
        let (mut tasks, mut complete, mounts) = self.read_tasks_as_they_come()?;
        // After the tasks: their iterator marks whose files are looked at.
        let files = self.read_files_as_they_come(&tasks, mounts.as_ref(), begin_ns);
        let mut files = files.unwrap_or_else(|| {
            complete = false;
            Vec::new()
        });
        let tasks_headers = tasks.iter_mut().map(|task| &mut task.header);
        for header in tasks_headers.chain(files.iter_mut().map(|file| &mut file.header)) {
            header.boottime_ns = begin_ns;
            header.cpu = 0;
            header.cpu_seq = 0;
        }
        tasks.sort_unstable_by_key(|task| task.state.key.tid);
        files.sort_by_key(|file| (file.actor.tid, file.target.tid));
        Some(Found {
            held: self.read_handles(&tasks, begin_ns),
            shared: Vec::new(),
            tasks,
            files,
            complete,
        })
    }

    /// `None` where they should be readable and are not.
    fn read_files_as_they_come(
        &mut self,
        tasks: &[TaskRecord],
        mounts: Option<&MountTable>,
        at_ns: u64,
    ) -> Option<Vec<ActRecord>> {
        let Some(sensor) = self.sensor.as_mut() else {
            return Some(files::read(&self.proc, tasks, mounts?, at_ns));
        };
        if !sensor.finds_files() {
            return Some(Vec::new());
        }
        match iterate_files(&mut sensor.loaded) {
            Ok(files) => Some(files),
            Err(error) => {
                tracing::warn!("iterator over files: {error}");
                None
            }
        }
    }

    /// Nothing where nothing looks, it failed, or it is too early after the last time: then what was known of them stays.
    /// There are many files and mappings on a machine, and a sweep may come each second.
    fn read_handles(&mut self, tasks: &[TaskRecord], begin_ns: u64) -> Held {
        if Instant::now() < self.handles_due && !self.wants_part(begin_ns) {
            return Held::default();
        }
        let began = clock::thread_time();
        let held = self.read_all_handles(tasks);
        self.handles_due = Instant::now() + rest(began);
        held
    }

    pub(super) fn find_shared(&mut self, found: &mut Found, begin_ns: u64) {
        let began = clock::thread_time();
        found.find_shared(self.engine.world(), begin_ns);
        self.handles_due += rest(began);
    }

    pub(super) fn wants_part(&self, begin_ns: u64) -> bool {
        let recorder = self.recorder.as_ref();
        recorder.is_some_and(|recorder| recorder.wants_part(begin_ns))
    }

    fn read_all_handles(&mut self, tasks: &[TaskRecord]) -> Held {
        let Some(sensor) = self.sensor.as_mut() else {
            return handles::at_rest::read(&self.proc, tasks);
        };
        handles::iterate(&mut sensor.loaded, sensor.working).unwrap_or_else(|error| {
            tracing::warn!("iterators over handles: {error}");
            Held::default()
        })
    }

    /// Tasks, whether these are all, and where the mounts belong that they see, where /proc had to tell.
    fn read_tasks_as_they_come(&mut self) -> Option<(Vec<TaskRecord>, bool, Option<MountTable>)> {
        if let Some(sensor) = self.sensor.as_mut().filter(|s| s.iterates()) {
            match iterate(&mut sensor.loaded) {
                Ok(tasks) => return Some((tasks, true, None)),
                Err(error) => tracing::warn!("iterator: {error}; reading /proc instead"),
            }
        }
        match Snapshot::read(&self.proc, &self.tree) {
            Ok(snapshot) => {
                let complete = snapshot.tasks_left_out == 0;
                Some((snapshot.tasks, complete, Some(snapshot.mounts)))
            }
            Err(error) => {
                tracing::error!("cannot read /proc: {error}");
                None
            }
        }
    }
}
