//! The live agent: from the kernel to records, while the machine runs.
//!
//! Order is everything. *Attach* first, so that nothing after it is missed; *test* that what is attached
//! fires; *drop* every capability that only attaching needed, while there is one thread; then start the
//! reader, take the *snapshot*, and *fold* over it what the rings collected meanwhile. From then on one
//! loop steps the engine: batches, ticks, sweeps, signals. A sweep reads the kernel first and then waits
//! for what the rings held at that moment, so that it is compared with a model that knows as much.

mod reading;

use super::history::{self, HistoryFile};
use super::matrix::MatrixFile;
use super::once::report;
use super::own::{self, Own};
use super::privileges;
use super::record::{PartStart, Privileges, RecordOptions, Recorder};
use super::sensing::{Sensor, not_evaluated, open_sensor, states};
use super::state::StateDir;
use super::{Sources, step};
use crate::cli::config::TierChoice;
use crate::cli::failure::{self, Failure};
use crate::cli::live::{Capabilities, LiveOptions};
use crate::cli::outcome::{EndedBy, WatchOutcome};
use crate::cli::signals::{Signal, Signals};
use crate::engine::{self, Engine, Event, LossMark};
use crate::model::hook_set::HookSet;
use crate::model::output::Record;
use crate::model::policy::Policy;
use crate::model::{Tier, syscalls};
use crate::sensor::caps;
use crate::sensor::cgroupfs::CgroupTree;
use crate::sensor::clock::{self, Machine};
use crate::sensor::decode::{Decoded, records};
use crate::sensor::load::Attached;
use crate::sensor::procfs::{ProcFs, in_initial_namespaces};
use crate::sensor::reader::{Batch, Reader};
use crate::sink::human::Style;
use crate::sink::outputs::Outputs;
use crate::trace::{Header, Item};
use auditor_common::hook::HOOKS;
use auditor_common::record::ActRecord;
use reading::Found;
use std::collections::BTreeSet;
use std::io::Write;
use std::os::fd::AsFd;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, MissedTickBehavior};

/// How often time passes for the engine, and losses are looked for.
const TICK: Duration = Duration::from_millis(100);
/// How often labels are saved, when they changed.
const SAVE: Duration = Duration::from_secs(2);
/// How often what containers use is kept for advice.
const LEARN: Duration = Duration::from_secs(60);
/// How long a sweep waits for the reader before it is put off.
const FLUSH_PATIENCE: Duration = Duration::from_secs(2);
/// A sweep that walks all cgroups too comes once in so many.
const WALK_EVERY: u32 = 30;
/// After a sweep has looked for handles, those that follow do not for so many times as long as it took.
const HANDLES_REST: u32 = 100;
/// Sweeps after which uses of capabilities are told again: the kernel's memory of them is shared without locks.
const RENEW_EVERY: u32 = 600;

/// Everything that is ready to run.
#[derive(Debug)]
pub struct Agent {
    options: LiveOptions,
    machine: Machine,
    proc: ProcFs,
    tree: CgroupTree,
    sensor: Option<Sensor>,
    sources: Sources,
    state: Option<StateDir>,
    history: Option<HistoryFile>,
    engine: Engine,
    records: Vec<Record>,
    saved: Option<engine::Saved>,
    sweeps: u32,
    /// From when on a sweep looks for handles again.
    handles_due: Instant,
    recorder: Option<Recorder>,
    matrix: Option<MatrixFile>,
    /// What the agent says of its own capabilities, once the engine runs.
    own: Vec<ActRecord>,
    /// Name of this run, as a recording of it has it.
    run: String,
}

impl Agent {
    /// Attaches, tests, and drops what is not needed any more. Must run while there is one thread.
    ///
    /// # Errors
    /// A [`Failure`]: unsupported when no live tier works and none was asked for.
    pub fn start(options: &LiveOptions, policy: &Policy) -> anyhow::Result<Self> {
        let own = Own::begin();
        let machine = Machine::read().map_err(|e| {
            Failure::new("cannot tell which machine this is", "mount /proc").caused_by(e)
        })?;
        let (proc, tree) = at_rest(&machine)?;
        let mut sensor = if options.sight.tier == TierChoice::Scan {
            None
        } else {
            Some(open_sensor(options, &proc, &tree)?)
        };
        let state = options
            .state_dir
            .as_deref()
            .and_then(|dir| match StateDir::open(dir) {
                Ok(state) => Some(state),
                Err(error) => {
                    tracing::warn!("labels will not survive a restart: {error}");
                    None
                }
            });
        let history = options.state_dir.as_ref().filter(|_| state.is_some());
        let history = history.map(|dir| HistoryFile::new(dir.join(history::NAME)));
        let recorder_keeps = recorder_keeps(options);
        let kept = caps::kept(machine.kernel, options.writes_into_foreign_directory);
        if options.capabilities == Capabilities::Drop {
            let keep = [&kept[..], recorder_keeps.needed()].concat();
            let dropped = caps::drop_all_but(&keep).map_err(cannot_drop)?;
            tracing::debug!(?dropped, "capabilities dropped");
        }
        let own = own.attached(sensor.as_mut());
        let config = config(&machine, &tree, sensor.as_ref(), options.heartbeat);
        let mut header = Header::new(&config, clock::boottime_ns(), policy.digest());
        let run = header.recording.clone();
        let recorder = options
            .record
            .as_ref()
            .map(|record| {
                header.sweep_ns = u64::try_from(options.sweep.as_nanos()).unwrap_or(u64::MAX);
                header.ring_bytes = options.ring_size_bytes;
                start_recorder(record, header, recorder_keeps)
            })
            .transpose()?;
        if !recorder_keeps.needed().is_empty() {
            // The recorder's thread has it now; this one and those to come need not.
            caps::drop_in_thread(&kept).map_err(cannot_drop)?;
        }
        let engine = Engine::new(config, policy);
        let matrix = options.matrix.as_deref().map(MatrixFile::new).transpose()?;
        Ok(Self {
            options: options.clone(),
            machine,
            proc,
            tree,
            sensor,
            sources: Sources::system(),
            state,
            history,
            engine,
            records: Vec::new(),
            saved: None,
            sweeps: 0,
            handles_due: Instant::now(),
            recorder,
            matrix,
            own,
            run,
        })
    }

    /// Name of this run, as a recording of it has it.
    #[must_use]
    pub fn run_name(&self) -> &str {
        &self.run
    }

    /// Runs until something ends it.
    ///
    /// # Errors
    /// When threads or descriptors run out, or the machine cannot be read at all.
    pub fn run(mut self, outputs: &mut Outputs, signals: &Signals) -> anyhow::Result<WatchOutcome> {
        self.run_here(outputs, signals)
    }

    fn run_here(
        &mut self,
        outputs: &mut Outputs,
        signals: &Signals,
    ) -> anyhow::Result<WatchOutcome> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(self.run_loop(outputs, signals))
    }

    /// As [`Self::run`], and gives what the engine knows in the end.
    ///
    /// # Errors
    /// As there.
    pub fn run_and_keep(
        mut self,
        outputs: &mut Outputs,
        signals: &Signals,
    ) -> anyhow::Result<(WatchOutcome, Engine)> {
        let outcome = self.run_here(outputs, signals)?;
        Ok((outcome, self.engine))
    }

    async fn run_loop(
        &mut self,
        outputs: &mut Outputs,
        signals: &Signals,
    ) -> anyhow::Result<WatchOutcome> {
        let rings = self.sensor.as_mut().and_then(|s| s.loaded.take_rings());
        let mut reader = rings
            .map(|(events, bulk)| Reader::start(events, bulk))
            .transpose()?;
        let policy = self.engine.index().policy().clone();
        self.step(Event::Policy(&policy));
        for act in std::mem::take(&mut self.own) {
            self.step(Event::Act(&act));
        }
        self.restore();
        self.first_sweep()?;
        self.give_back_memory();
        if let Some(matrix) = &mut self.matrix {
            matrix.begin(&self.engine, clock::boottime_ns())?;
        }
        if let Some(ended_by) = self.emit(outputs)? {
            return self.end(ended_by, outputs);
        }
        // The descriptor is shared; reading it is still the signals' own business.
        let taken = || signals.take();
        let descriptor = signals.as_fd().try_clone_to_owned()?;
        // SAFETY: an OwnedFd always gives the descriptor that it owns, open until it is dropped.
        let signals = unsafe { AsyncFd::register(descriptor) }?;
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let started = Instant::now();
        let (mut next_sweep, mut next_save) = (started + self.options.sweep, started + SAVE);
        let mut next_learn = started + LEARN;
        // It was read before anything was attached, and may be another one by now: it is read once more.
        let mut policy_seen = None;
        loop {
            let mut sweep_now = false;
            tokio::select! {
                biased;
                ready = signals.readable() => {
                    ready?.clear_ready();
                    match taken()? {
                        Some(Signal::Stop) => {
                            self.settle(&mut reader, outputs).await;
                            return self.end(EndedBy::Signal, outputs);
                        }
                        Some(Signal::Reload) => self.reload_policy(),
                        Some(Signal::Show) => self.show_matrix(),
                        None => {}
                    }
                }
                batch = next_batch(&mut reader) => {
                    if let (Some(batch), Some(reader)) = (batch, &mut reader) {
                        self.take_batch(batch, reader);
                    }
                }
                _ = ticks.tick() => {
                    sweep_now = self.tick(reader.as_ref(), outputs);
                    let stamp = self.options.policy.stamp();
                    if stamp != policy_seen {
                        policy_seen = stamp;
                        self.reload_policy();
                    }
                }
            }
            if sweep_now || Instant::now() >= next_sweep {
                self.sweep(reader.as_mut()).await?;
                next_sweep = Instant::now() + self.options.sweep;
            }
            if Instant::now() >= next_save {
                self.save();
                next_save = Instant::now() + SAVE;
            }
            if let Some(matrix) = &mut self.matrix {
                matrix.keep(&self.engine, clock::boottime_ns());
            }
            if Instant::now() >= next_learn {
                self.learn();
                next_learn = Instant::now() + LEARN;
            }
            if let Some(ended_by) = self.emit(outputs)? {
                return self.end(ended_by, outputs);
            }
            if self
                .options
                .duration
                .is_some_and(|d| started.elapsed() >= d)
            {
                self.settle(&mut reader, outputs).await;
                return self.end(EndedBy::Duration, outputs);
            }
        }
    }

    /// What happened before the end is still told, and what was lost; what waits for a tick does not wait for ever.
    async fn settle(&mut self, reader: &mut Option<Reader>, outputs: &mut Outputs) {
        if let Some(reader) = reader {
            self.flush(reader).await;
        }
        self.tick(reader.as_ref(), outputs);
        self.note_skipped(true);
    }

    /// Tells what kernel programs were left out of. `ends`: there is no later.
    fn note_skipped(&mut self, ends: bool) {
        let sensor = self.sensor.as_mut();
        if let Some(by_hook) = sensor.and_then(|s| s.loaded.skipped.take(ends)) {
            let mark = LossMark {
                boottime_ns: clock::boottime_ns(),
                place: LossMark::SKIPPED.to_owned(),
                count: by_hook.values().sum(),
                by_hook,
                ..LossMark::default()
            };
            self.step(Event::Loss(&mark));
        }
    }

    fn step(&mut self, event: Event<'_>) {
        let tape = self.recorder.as_mut();
        step(
            &mut self.engine,
            &mut self.sources,
            self.sensor.as_mut().map(|sensor| &mut sensor.loaded),
            tape,
            event,
            &mut self.records,
        );
    }

    fn take_batch(&mut self, batch: Batch, reader: &mut Reader) -> Option<u64> {
        match batch {
            Batch::Flushed(mark) => Some(mark),
            Batch::Records(bytes) => {
                self.take_records(&bytes);
                reader.recycle(bytes);
                None
            }
        }
    }

    fn take_records(&mut self, bytes: &[u8]) {
        for record in records(bytes) {
            match record {
                Ok(Decoded::Task(r)) => self.step(Event::Task(&r)),
                Ok(Decoded::Exec(r)) => self.step(Event::Exec(&r)),
                Ok(Decoded::Exit(r)) => self.step(Event::Exit(&r)),
                Ok(Decoded::Cgroup(r)) => self.step(Event::Cgroup(&r)),
                Ok(Decoded::Act(r)) => self.step(Event::Act(&r)),
                // What an iterator writes never comes through a ring.
                Ok(Decoded::Handle(_) | Decoded::Code(_)) => {}
                Err(error) => {
                    // The rest of the batch is unreadable: that is a loss like any other.
                    tracing::error!("{error}");
                    self.lose("queue", 1);
                }
            }
        }
    }

    fn lose(&mut self, place: &str, count: u64) {
        let mark = LossMark {
            boottime_ns: clock::boottime_ns(),
            place: place.to_owned(),
            count,
            ..LossMark::default()
        };
        self.step(Event::Loss(&mark));
    }

    /// Time passes. Says whether events were lost, so that a sweep must follow at once.
    fn tick(&mut self, reader: Option<&Reader>, outputs: &mut Outputs) -> bool {
        self.step(Event::Tick {
            boottime_ns: clock::boottime_ns(),
        });
        for loss in outputs.take_losses() {
            self.lose("sink", loss.count);
        }
        let now_ns = clock::boottime_ns();
        let unrecorded = self.recorder.as_mut().map_or(0, |r| r.tick(now_ns));
        if unrecorded > 0 {
            self.lose("trace", unrecorded);
        }
        #[cfg(feature = "debug-log")]
        if let Some(sensor) = &mut self.sensor {
            sensor.loaded.show_log();
        }
        let mut lost = false;
        if let Some(loss) = self
            .sensor
            .as_mut()
            .map(|s| s.loaded.losses())
            .filter(|l| l.count > 0)
        {
            let mark = LossMark {
                boottime_ns: clock::boottime_ns(),
                place: "ring".to_owned(),
                by_hook: loss.by_hook,
                by_cpu: loss.by_cpu,
                count: loss.count,
            };
            self.step(Event::Loss(&mark));
            lost = true;
        }
        let dropped = reader.map_or(0, Reader::take_dropped);
        if dropped > 0 {
            self.lose("queue", dropped);
            lost = true;
        }
        if self.engine.take_renewal() {
            self.renew_uses();
        }
        lost
    }

    /// Has uses of capabilities told again that may have been missed.
    fn renew_uses(&mut self) {
        if let Some(sensor) = &mut self.sensor {
            sensor.loaded.uses.forget();
        }
    }

    /// Reads the kernel, lets the events of that moment through, and compares.
    async fn sweep(&mut self, reader: Option<&mut Reader>) -> anyhow::Result<()> {
        self.sweeps = self.sweeps.wrapping_add(1);
        let begin_ns = clock::boottime_ns();
        let Some(mut found) = self.read_kernel(begin_ns) else {
            return Ok(());
        };
        if let Some(reader) = reader
            && !self.flush(reader).await
        {
            // The engine is behind. A comparison now would find differences that are none.
            return Ok(());
        }
        if self.sensor.is_none() || self.sweeps.is_multiple_of(WALK_EVERY) {
            self.walk_cgroups();
        }
        self.find_shared(&mut found, begin_ns);
        // Before the comparison, which would take what was not seen for what nobody could have done.
        self.note_skipped(false);
        if self.sweeps.is_multiple_of(RENEW_EVERY) {
            self.renew_uses();
        }
        if self.wants_part(begin_ns) {
            self.begin_part(begin_ns, &found);
        }
        self.fold(begin_ns, &found);
        Ok(())
    }

    /// Begins a part of the recording with all that is known now.
    fn begin_part(&mut self, begin_ns: u64, found: &Found) {
        let Some(recorder) = &mut self.recorder else {
            return;
        };
        recorder.begin_part(&PartStart {
            boottime_ns: begin_ns,
            policy: self.engine.index().policy(),
            saved: &self.engine.saved(),
            set_ups: &self.engine.set_ups(),
        });
        for record in self.tree.records() {
            recorder.take(&Item::Event(Event::Cgroup(record)));
        }
        let begin = Event::SweepBegin {
            boottime_ns: begin_ns,
        };
        recorder.take(&Item::Event(begin));
        for event in found.events() {
            recorder.take(&Item::Event(event));
        }
        let end = Event::SweepEnd {
            boottime_ns: begin_ns,
            complete: found.complete,
        };
        recorder.take(&Item::Event(end));
        recorder.end_prologue();
    }

    async fn flush(&mut self, reader: &mut Reader) -> bool {
        let mark = u64::from(self.sweeps) + 1;
        reader.flush(mark);
        let deadline = Instant::now() + FLUSH_PATIENCE;
        loop {
            match tokio::time::timeout_at(deadline, reader.batches.recv()).await {
                Ok(Some(batch)) => {
                    if self.take_batch(batch, reader) == Some(mark) {
                        return true;
                    }
                }
                Ok(None) | Err(_) => return false,
            }
        }
    }

    fn fold(&mut self, begin_ns: u64, found: &Found) {
        self.step(Event::SweepBegin {
            boottime_ns: begin_ns,
        });
        for event in found.events() {
            self.step(event);
        }
        self.step(Event::SweepEnd {
            boottime_ns: clock::boottime_ns(),
            complete: found.complete,
        });
    }

    fn walk_cgroups(&mut self) {
        match CgroupTree::read() {
            Ok(tree) => self.tree = tree,
            Err(error) => return tracing::warn!("cannot walk the cgroups: {error}"),
        }
        let records = self.tree.records().to_vec();
        for record in &records {
            self.step(Event::Cgroup(record));
        }
    }

    fn restore(&mut self) {
        match self.state.as_ref().map(StateDir::load) {
            Some(Ok(Some(saved))) => self.step(Event::Restore(&saved)),
            Some(Err(error)) => tracing::warn!("labels of the last run are lost: {error}"),
            Some(Ok(None)) | None => {}
        }
    }

    fn first_sweep(&mut self) -> anyhow::Result<()> {
        let begin_ns = clock::boottime_ns();
        self.walk_cgroups();
        let Some(mut found) = self.read_kernel(begin_ns) else {
            anyhow::bail!(Failure::new("cannot read any task", "mount /proc"));
        };
        self.find_shared(&mut found, begin_ns);
        self.fold(begin_ns, &found);
        let early = self
            .sensor
            .as_mut()
            .map(|s| std::mem::take(&mut s.early))
            .unwrap_or_default();
        self.take_records(&early);
        Ok(())
    }

    fn reload_policy(&mut self) {
        match self.options.policy.load() {
            Ok(policy) => {
                tracing::info!(digest = policy.digest(), "policy loaded");
                self.step(Event::Policy(&policy));
            }
            Err(error) => {
                tracing::error!(
                    "the old policy stays in force: {}",
                    failure::in_words(&error)
                );
            }
        }
    }

    /// For the person who asks, by a signal, who is isolated from whom now.
    fn show_matrix(&mut self) {
        let boottime_ns = clock::boottime_ns();
        // The file first: whoever reads the table finds the same in it.
        if let Some(matrix) = &mut self.matrix {
            matrix.now(&self.engine, boottime_ns);
        }
        let table = report(&self.engine, boottime_ns).table(Style::Plain);
        // Who closed stderr does not want to see it.
        let _ = std::io::stderr().write_all(table.as_bytes());
    }

    fn save(&mut self) {
        let Some(state) = &self.state else { return };
        let saved = self.engine.saved();
        if self.saved.as_ref() == Some(&saved) {
            return;
        }
        match state.save(&saved) {
            Ok(()) => self.saved = Some(saved),
            Err(error) => tracing::warn!("cannot save labels: {error}"),
        }
    }

    /// Keeps what containers use, for advice from many runs.
    fn learn(&self) {
        let Some(file) = &self.history else { return };
        let seen = privileges::seen(&self.engine, &self.run);
        if seen.learned.is_empty() {
            return;
        }
        if let Err(error) = file.add(&seen) {
            tracing::warn!("what containers use is not kept for advice: {error}");
        }
    }

    /// Hands out what the engine said; says whether that ends the watch.
    fn emit(&mut self, outputs: &Outputs) -> anyhow::Result<Option<EndedBy>> {
        let mut ended = None;
        let mut found = false;
        for record in self.records.drain(..) {
            outputs.emit(&record)?;
            found |= matches!(record, Record::Violation(_));
            if ended.is_none() && self.options.ends_on(&record) {
                ended = Some(EndedBy::ExitOn);
            }
        }
        if found {
            // Who has escaped must be known even if the agent dies now, and what it did.
            self.save();
            if let Some(recorder) = &mut self.recorder {
                recorder.end_frame();
            }
        }
        let unread = self.recorder.as_ref().is_some_and(Recorder::hung_up);
        let hung_up = unread || outputs.hung_up();
        Ok(ended.or_else(|| hung_up.then_some(EndedBy::HungUp)))
    }

    fn end(&mut self, ended_by: EndedBy, outputs: &Outputs) -> anyhow::Result<WatchOutcome> {
        let reason = match ended_by {
            EndedBy::Signal => "signal",
            EndedBy::Duration => "duration",
            EndedBy::ExitOn => "exit_on",
            EndedBy::HungUp => "hung_up",
        };
        for act in self.sensor.as_mut().map(own::uses).unwrap_or_default() {
            self.step(Event::Act(&act));
        }
        let boottime_ns = clock::boottime_ns();
        if let Some(recorder) = &mut self.recorder {
            recorder.take(&Item::Stop {
                boottime_ns,
                reason,
            });
        }
        if let Some(matrix) = &mut self.matrix {
            matrix.now(&self.engine, boottime_ns);
        }
        self.engine.stop(boottime_ns, reason, &mut self.records);
        self.emit(outputs)?;
        self.save();
        self.learn();
        let unrecorded = self.recorder.take().map_or(0, Recorder::finish);
        let counters = self.engine.counters();
        Ok(WatchOutcome {
            ended_by,
            lost_events: counters.lost_events.saturating_add(unrecorded),
        })
    }

    /// Start-up needs much more memory than running: the kernel's types, the object, the snapshot.
    fn give_back_memory(&self) {
        #[cfg(target_env = "gnu")]
        // SAFETY: malloc_trim has no preconditions and frees only what is free.
        unsafe {
            libc::malloc_trim(0);
        }
        tracing::info!(node = self.machine.node, "watching");
    }
}

fn cannot_drop(error: caps::DropError) -> Failure {
    let next = "run with --keep-capabilities, and report this";
    Failure::new("cannot drop capabilities", next).caused_by(error)
}

fn recorder_keeps(options: &LiveOptions) -> Privileges {
    match (options.capabilities, &options.record) {
        (Capabilities::Keep, _) => Privileges::All,
        (Capabilities::Drop, Some(record)) if record.is_in_foreign_directory() => {
            Privileges::Override
        }
        (Capabilities::Drop, _) => Privileges::None,
    }
}

fn start_recorder(
    options: &RecordOptions,
    header: Header,
    keep: Privileges,
) -> anyhow::Result<Recorder> {
    Recorder::start(options, header, keep).map_err(|e| {
        Failure::new(
            "cannot record",
            "give a new file or an existing directory to --record, on a disk with room",
        )
        .caused_by(e)
        .into()
    })
}

async fn next_batch(reader: &mut Option<Reader>) -> Option<Batch> {
    match reader {
        Some(reader) => reader.batches.recv().await,
        None => std::future::pending().await,
    }
}

/// /proc and cgroupfs, as this process sees them.
///
/// # Errors
/// A [`Failure`] when they are not there, or are those of a container.
pub fn at_rest(machine: &Machine) -> anyhow::Result<(ProcFs, CgroupTree)> {
    let proc = ProcFs::open("/proc".as_ref(), machine.kernel)
        .map_err(|e| Failure::new("cannot open /proc", "mount it").caused_by(e))?;
    let tree = CgroupTree::read().map_err(|e| {
        Failure::new("cannot read the cgroups", "mount /proc and cgroupfs").caused_by(e)
    })?;
    match in_initial_namespaces() {
        Ok(true) => {}
        Ok(false) => {
            return Err(Failure::unsupported(
                "this process is not in the machine's initial pid namespace and would see a part of it",
                "run it on the host, or in a container with the host's pid namespace (hostPID: true)",
            )
            .into());
        }
        Err(error) => {
            tracing::warn!("cannot tell whether this is the initial pid namespace: {error}");
        }
    }
    Ok((proc, tree))
}

/// What the engine is told once.
#[must_use]
pub fn config(
    machine: &Machine,
    tree: &CgroupTree,
    sensor: Option<&Sensor>,
    heartbeat: Duration,
) -> engine::Config {
    let at_rest = || {
        let hooks = vec![Attached::NotNeeded; HOOKS.len()];
        states(&hooks, &[], &BTreeSet::new())
    };
    engine::Config {
        node: machine.node.clone(),
        boot_id: machine.boot_id.clone(),
        realtime_offset_ns: clock::realtime_offset_ns(),
        kernel: machine.kernel_release.clone(),
        arch: machine.arch.clone(),
        tier: sensor.map_or(Tier::Scan, |s| s.tier),
        hooks: sensor.map_or_else(at_rest, |s| s.states.clone()),
        working: sensor.map_or_else(HookSet::default, |s| s.working),
        not_evaluated: not_evaluated(sensor),
        hierarchies: tree.slot_hierarchies(),
        heartbeat_ns: u64::try_from(heartbeat.as_nanos()).unwrap_or(u64::MAX),
        syscalls: syscalls::of(&machine.arch),
        ..engine::Config::default()
    }
}
