//! The kernel side of a run: loaded, attached hook by hook, and tested before anything is believed.

use crate::cli::config::TierChoice;
use crate::cli::failure::Failure;
use crate::cli::live::LiveOptions;
use crate::cli::sight::Sight;
use crate::engine;
use crate::model::hook_set::HookSet;
use crate::model::output::HookState;
use crate::model::{Dimension, Tier};
use crate::sensor::cgroupfs::CgroupTree;
use crate::sensor::decode::{Decoded, records};
use crate::sensor::load::{self, Attached, LoadError, LoadOptions, Loaded, Want};
use crate::sensor::procfs::ProcFs;
use crate::sensor::reader;
use crate::sensor::selftest::{compare, helper, judge};
use crate::sensor::snapshot::Snapshot;
use crate::sensor::uses::OwnUse;
use auditor_common::hook::{self, HOOKS};
use auditor_common::record::{ActRecord, TaskRecord, cause};
use std::collections::BTreeSet;
use std::io::Read;
use std::time::Duration;

/// How often the self-test is tried while events are lost.
const EXERCISES: u32 = 5;

/// Why a hook is not attached that the user does without.
const LEFT_OUT: &str = "left out by --without-hook";

/// The kernel side, if any works.
#[derive(Debug)]
pub struct Sensor {
    pub(super) loaded: Loaded,
    /// By index in [`HOOKS`], and behind them [`hook::COMPAT`].
    pub(super) states: Vec<HookState>,
    pub(super) working: HookSet,
    pub(super) tier: Tier,
    /// What the rings collected before the reader runs.
    pub(super) early: Vec<u8>,
}

/// How the sensor is to be loaded for these options.
#[must_use]
pub fn load_options(sight: &Sight, ring_bytes: u32) -> LoadOptions {
    LoadOptions {
        btf: sight.btf.clone(),
        want: match sight.tier {
            TierChoice::Auto | TierChoice::Scan => Want::Auto,
            TierChoice::Trampoline => Want::Trampoline,
            TierChoice::Tracepoint => Want::Tracepoint,
        },
        ring_bytes,
        without: sight.without_hooks.iter().cloned().collect(),
        syscalls: sight.syscalls,
    }
}

impl Sensor {
    /// Attaches, and tests what is attached.
    ///
    /// # Errors
    /// When nothing can be loaded, or the iterator lies.
    pub fn open(
        options: &LoadOptions,
        proc: &ProcFs,
        tree: &CgroupTree,
    ) -> Result<Self, SensorError> {
        let mut loaded = Loaded::open(options, tree)?;
        let mut early = Vec::new();
        let fired = exercise_unlost(&mut loaded, &mut early)?;
        let silent: BTreeSet<u16> = fired
            .iter()
            .filter(|(_, state)| *state == judge::HookState::Silent)
            .map(|(hook, _)| *hook)
            .filter(|&hook| loaded.hooks[usize::from(hook)] == Attached::Yes && !is_filtered(hook))
            .collect();
        let replaced = loaded.replace_silent(&silent, options);
        let fired = if replaced.is_empty() {
            fired
        } else {
            exercise_unlost(&mut loaded, &mut early)?
        };
        let iterates = loaded.hooks[usize::from(hook::ITER_TASK)] == Attached::Yes;
        if iterates {
            verify_iterator(&mut loaded, proc, tree)?;
        }
        let mut states = states(&loaded.hooks, &fired, &replaced);
        for (index, state) in (0_u16..).zip(&mut states) {
            state.module = loaded.is_module(index);
        }
        let working = (0_u16..)
            .zip(&states)
            .filter(|(_, s)| matches!(s.state.as_str(), "fires" | "attached"))
            .map(|(index, _)| index)
            .collect();
        states.extend(compat_state(&loaded.compat()));
        let trampolines = loaded.hooks[usize::from(hook::SWITCH_NS)] == Attached::Yes;
        let tier = if trampolines {
            Tier::Trampoline
        } else {
            Tier::Tracepoint
        };
        loaded.settle();
        Ok(Self {
            loaded,
            states,
            working,
            tier,
            early,
        })
    }

    /// Every hook.
    #[must_use]
    pub fn states(&self) -> &[HookState] {
        &self.states
    }

    /// Best tier.
    #[must_use]
    pub const fn tier(&self) -> Tier {
        self.tier
    }

    /// Whether at least births, execs and namespace changes are seen as they happen.
    #[must_use]
    pub fn is_live(&self) -> bool {
        let works = |h: u16| self.working.has(h);
        works(hook::TASK_NEWTASK)
            && works(hook::SCHED_EXEC)
            && (works(hook::SWITCH_NS) || works(hook::EXIT_SETNS))
    }

    /// Fields that this kernel lacks.
    #[must_use]
    pub const fn fields(&self) -> &crate::sensor::resolve::Resolved {
        &self.loaded.fields
    }

    /// Whether a hook sees which capabilities tasks ask for.
    pub(super) fn sees_uses(&self) -> bool {
        self.working.has_any(&[hook::CAPABLE, hook::CAPABLE_ENTRY])
    }

    /// How the agent itself asked for capabilities since the last call.
    pub(super) fn take_own_uses(&mut self) -> Vec<OwnUse> {
        let mut uses = self.loaded.uses.take_own();
        uses.extend(self.loaded.used_before.take());
        uses
    }

    pub(super) fn iterates(&self) -> bool {
        self.working.has(hook::ITER_TASK)
    }

    /// Whether a sweep finds the files that tasks hold open.
    #[must_use]
    pub fn finds_files(&self) -> bool {
        self.working.has(hook::ITER_FILE)
    }

    /// Whether a sweep finds what tasks hold together.
    #[must_use]
    pub fn finds_handles(&self) -> bool {
        self.working.has(hook::ITER_HANDLE)
    }
}

/// Dimensions that nothing evaluates here.
#[must_use]
pub fn not_evaluated(sensor: Option<&Sensor>) -> Vec<Dimension> {
    let mut blind = Vec::new();
    // Without kernel programs /proc tells of them.
    if sensor.is_some_and(|sensor| !sensor.finds_files()) {
        blind.push(Dimension::References);
    }
    if sensor.is_some_and(|sensor| !sensor.finds_handles()) {
        blind.push(Dimension::Handles);
    }
    blind
}

/// Why there is no sensor.
#[derive(Debug, thiserror::Error)]
pub enum SensorError {
    /// Loading.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The self-test could not run.
    #[error(transparent)]
    Helper(#[from] helper::HelperError),
    /// The iterator and /proc disagree: fields are read wrongly, so no record can be believed.
    #[error("the kernel programs read this kernel wrongly: {0}")]
    Disagrees(String),
    /// /proc or the iterator could not be read.
    #[error("read the state at rest: {0}")]
    Io(#[from] std::io::Error),
}

/// As [`exercise`]. While events are lost, silence proves nothing: then once more, and in the end nothing is held against a
/// hook. What was lost so early is in the snapshot, which comes later.
fn exercise_unlost(
    loaded: &mut Loaded,
    early: &mut Vec<u8>,
) -> Result<Vec<(u16, judge::HookState)>, SensorError> {
    let mut left = EXERCISES;
    loop {
        let mut judged = exercise(loaded, early)?;
        left -= 1;
        let lost = loaded.losses().count;
        let silent = judged
            .iter()
            .any(|(hook, state)| *state == judge::HookState::Silent && !is_filtered(*hook));
        if !silent || lost == 0 {
            return Ok(judged);
        }
        if left == 0 {
            tracing::warn!(
                "events of the self-test were lost each time: hooks that showed nothing are not known to work"
            );
            judge::excuse(&mut judged);
            return Ok(judged);
        }
        tracing::debug!(lost, "events of the self-test were lost: again");
    }
}

/// Has the helper act and looks which hooks show it.
fn exercise(
    loaded: &mut Loaded,
    early: &mut Vec<u8>,
) -> Result<Vec<(u16, judge::HookState)>, SensorError> {
    let report = helper::spawn_and_wait()?;
    let Some((mut events, mut bulk)) = loaded.take_rings() else {
        return Ok(Vec::new());
    };
    let mut fired = BTreeSet::new();
    let mine: BTreeSet<u32> = report
        .children
        .iter()
        .copied()
        .chain([report.pid])
        .collect();
    // A cgroup's last reference goes a moment after its directory.
    for _ in 0..10 {
        reader::drain_once(&mut events, &mut bulk, |bytes| {
            early.extend_from_slice(bytes);
            if let Some(Ok(record)) = records(bytes).next() {
                note_fired(&record, &mine, &mut fired);
            }
        });
        std::thread::sleep(Duration::from_millis(5));
    }
    loaded.return_rings(events, bulk);
    fired.extend(loaded.filtering());
    let mut judged = judge::judge(hook::Tier::Trampoline, &fired, &report);
    judged.extend(judge::judge(hook::Tier::Tracepoint, &fired, &report));
    judged.sort_by_key(|(hook, _)| *hook);
    judged.dedup();
    Ok(judged)
}

fn note_fired(record: &Decoded, mine: &BTreeSet<u32>, fired: &mut BTreeSet<u16>) {
    let (hook, actor, subject) = match record {
        Decoded::Task(r) => (r.header.hook, r.actor, r.state.key),
        Decoded::Exec(r) => (r.task.header.hook, r.task.actor, r.task.state.key),
        Decoded::Exit(r) => (r.header.hook, r.key, r.key),
        Decoded::Cgroup(r) => (r.header.hook, r.actor, r.actor),
        Decoded::Act(r) => (r.header.hook, r.actor, r.actor),
        Decoded::Handle(r) => (r.header.hook, r.task, r.task),
        Decoded::Code(r) => (r.header.hook, r.task, r.task),
    };
    let ours = mine.contains(&actor.tgid) || mine.contains(&subject.tgid);
    // The kernel may release a cgroup on a worker of its own.
    if ours || hook == hook::CGROUP_RELEASE {
        fired.insert(hook);
    }
    if let Decoded::Task(r) = record
        && hook == hook::SWITCH_NS
        && r.cause == cause::UNSHARE
    {
        // Only a mark that this hook left can have told so.
        fired.insert(hook::UNSHARE_NSPROXY);
    }
}

fn verify_iterator(
    loaded: &mut Loaded,
    proc: &ProcFs,
    tree: &CgroupTree,
) -> Result<(), SensorError> {
    // Threads of this moment only: what changes between the readings is skipped.
    let before = Snapshot::read(proc, tree)?;
    let iterated = iterate(loaded)?;
    let after = Snapshot::read(proc, tree)?;
    let found = compare::compare(&before.tasks, &iterated, &after.tasks);
    if let Some(first) = found.disagreements.first() {
        let more = found.disagreements.len() - 1;
        return Err(SensorError::Disagrees(format!("{first} (and {more} more)")));
    }
    tracing::debug!(
        compared = found.compared,
        skipped = found.skipped,
        "iterator agrees with /proc"
    );
    Ok(())
}

/// All tasks, as the iterator sees them.
pub(super) fn iterate(loaded: &mut Loaded) -> std::io::Result<Vec<TaskRecord>> {
    read_all(loaded, hook::ITER_TASK, |record| match record {
        Decoded::Task(task) => Some(task),
        _ => None,
    })
}

/// The open files that matter, as the iterator sees them.
pub(super) fn iterate_files(loaded: &mut Loaded) -> std::io::Result<Vec<ActRecord>> {
    read_all(loaded, hook::ITER_FILE, |record| match record {
        Decoded::Act(file) => Some(file),
        _ => None,
    })
}

fn read_all<T>(
    loaded: &mut Loaded,
    hook: u16,
    pick: impl Fn(Decoded) -> Option<T>,
) -> std::io::Result<Vec<T>> {
    let mut bytes = Vec::new();
    loaded
        .iterate(hook)
        .map_err(std::io::Error::other)?
        .read_to_end(&mut bytes)?;
    Ok(records(&bytes).flatten().filter_map(pick).collect())
}

/// What is said of each hook.
pub(super) fn states(
    hooks: &[Attached],
    judged: &[(u16, judge::HookState)],
    replaced: &BTreeSet<u16>,
) -> Vec<HookState> {
    let judged_of = |index: u16| judged.iter().find(|(h, _)| *h == index).map(|(_, s)| *s);
    let state_of = |index: u16, attached: &Attached| match attached {
        Attached::Yes => match judged_of(index) {
            Some(judge::HookState::Fired) => ("fires", None),
            Some(judge::HookState::Silent) if is_filtered(index) => ("attached", None),
            Some(judge::HookState::Silent) => (
                "silent",
                Some("attached, but shows nothing: the function is inlined".to_owned()),
            ),
            Some(judge::HookState::NotExercised) => ("attached", None),
            // The iterator is tested by comparison.
            None => ("fires", None),
        },
        Attached::No(error) => ("failed", Some(error.clone())),
        Attached::NotNeeded if replaced.contains(&index) => (
            "silent",
            Some("attached, but showed nothing: replaced".to_owned()),
        ),
        Attached::NotNeeded => ("not_needed", None),
        Attached::LeftOut => ("failed", Some(LEFT_OUT.to_owned())),
    };
    let mut states: Vec<HookState> = (0_u16..)
        .zip(HOOKS)
        .zip(hooks)
        .map(|((index, spec), attached)| {
            let (state, error) = if spec.attach == hook::Attach::Agent {
                ("fires", None)
            } else {
                state_of(index, attached)
            };
            HookState {
                hook: spec.name.to_owned(),
                tier: engine::tier_of(index),
                state: state.to_owned(),
                module: false,
                error,
                not_seen: None,
            }
        })
        .collect();
    for (index, spec) in HOOKS.iter().enumerate() {
        let works = |s: &HookState| matches!(s.state.as_str(), "fires" | "attached");
        let index_u16 = u16::try_from(index).unwrap_or(u16::MAX);
        let others = load::instead_of(index_u16);
        let is_only_one = others.is_none() && spec.tier == hook::Tier::Trampoline;
        let same_eyes =
            others.is_some_and(|others| others.iter().all(|&o| works(&states[usize::from(o)])));
        let only = || load::seen_only_by(index_u16).map(str::to_owned);
        states[index].not_seen = match states[index].state.as_str() {
            "failed" | "silent" if !same_eyes => Some(spec.sees.to_owned()),
            "failed" | "silent" => only(),
            "not_needed" if same_eyes => only(),
            // It was not wanted.
            "not_needed" if is_only_one => Some(spec.sees.to_owned()),
            _ => None,
        };
    }
    states
}

/// What is said of the program for calls by the 32-bit table, which is no hook of its own; nothing where it is not needed.
fn compat_state(compat: &Attached) -> Option<HookState> {
    let error = match compat {
        Attached::NotNeeded => return None,
        Attached::Yes => None,
        Attached::No(error) => Some(error.clone()),
        Attached::LeftOut => Some(LEFT_OUT.to_owned()),
    };
    let spec = &hook::COMPAT;
    let is_failed = error.is_some();
    Some(HookState {
        hook: spec.name.to_owned(),
        tier: Tier::Tracepoint,
        state: if is_failed { "failed" } else { "attached" }.to_owned(),
        module: false,
        error,
        not_seen: is_failed.then(|| spec.sees.to_owned()),
    })
}

/// Hooks whose silence proves nothing: the kernel side drops changes of cwd that mean nothing, and a
/// cgroup's last reference may go long after its directory.
const fn is_filtered(index: u16) -> bool {
    matches!(
        index,
        hook::SET_FS_PWD | hook::EXIT_CHDIR | hook::CGROUP_RELEASE
    )
}

const WITHOUT_BTF: &str =
    "leave --btf out to use the running kernel's own types, or watch with --tier scan";

pub(super) fn open_sensor(
    options: &LiveOptions,
    proc: &ProcFs,
    tree: &CgroupTree,
) -> anyhow::Result<Sensor> {
    let load = load_options(&options.sight, options.ring_size_bytes);
    let sight = &options.sight;
    let next = "run \"auditor doctor\" to see what is missing, or watch with --tier scan";
    let sensor = Sensor::open(&load, proc, tree).map_err(|e| match (&e, &sight.btf) {
        // The file was the user's choice: that the environment is at fault is not known.
        (SensorError::Load(LoadError::Btf(_) | LoadError::Fields(_)), Some(path)) => {
            let what = format!("cannot use --btf {}", path.display());
            Failure::new(what, WITHOUT_BTF).caused_by(e)
        }
        _ => Failure::unsupported("no live tier works here", next).caused_by(e),
    })?;
    let asked_trampoline = sight.tier == TierChoice::Trampoline;
    if !sensor.is_live() && sight.without_hooks.is_empty()
        || asked_trampoline && sensor.tier() != Tier::Trampoline && sight.without_hooks.is_empty()
    {
        let failed: Vec<String> = sensor
            .states()
            .iter()
            .filter_map(|s| Some(format!("{}: {}", s.hook, s.error.as_ref()?)))
            .take(3)
            .collect();
        let what = format!("no live tier works here ({})", failed.join("; "));
        return Err(Failure::unsupported(what, next).into());
    }
    Ok(sensor)
}
