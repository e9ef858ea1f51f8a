//! The engine: events in, records out, nothing else.
//!
//! [`Engine::step`] is total and deterministic: for any sequence of events, malformed ones included,
//! it ends, it does not panic, and the same sequence gives the same records. It touches no clock (time
//! comes with the events), no file and no socket; what it wants to know about a container it asks for
//! with a [`Query`], and the answer is an event too.
//!
//! Inside: `world` is what is, `label` decides who belongs to whom, `apply` turns a record into a
//! change, `rule` says what a change means, `sweep` compares the model with the kernel, `report` turns
//! drafts into records.

mod apply;
mod digest;
mod escalation;
pub mod event;
mod exits;
mod grants;
mod handles;
mod label;
mod layers;
mod naming;
mod own;
mod privileges;
mod report;
pub mod rule;
mod scan;
mod setup;
mod sweep;
#[cfg(test)]
mod tests;
mod transfers;
pub mod world;

pub use event::{Event, Look, LossMark, Query, Saved, SavedEntity, SavedLabel, Told};
pub use report::tier_of;
pub use scan::{Facts, NamespaceFact};

use crate::model::facts::{EntityId, HOST};
use crate::model::hook_set::HookSet;
use crate::model::isolation::{IsolationIndex, Scope};
use crate::model::output::{
    Counters, Head, Heartbeat, HookState, Loss, PolicyChange, Record, Start, Stop,
};
use crate::model::own::OwnLedger;
use crate::model::policy::Policy;
use crate::model::{Dimension, RuleId, Tier};
use auditor_common::hook::{HOOKS, bears_state};
use auditor_common::limits::CGROUP_SLOTS;
use hashbrown::HashMap;
use label::Pending;
use report::Reporter;
use std::collections::{BTreeMap, VecDeque};
use world::World;

/// Dimensions whose verdicts rest on kernel events, and so become unknown when events are lost.
const LOSSY: [Dimension; 11] = [
    Dimension::Mnt,
    Dimension::Pid,
    Dimension::PidForChildren,
    Dimension::Net,
    Dimension::Ipc,
    Dimension::Uts,
    Dimension::Cgroup,
    Dimension::Root,
    Dimension::Cwd,
    Dimension::References,
    Dimension::User,
];

/// What an engine is told once.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the machine.
    pub node: String,
    /// Boot id.
    pub boot_id: String,
    /// What to add to nanoseconds since boot to get nanoseconds since 1970 (UTC).
    pub realtime_offset_ns: i64,
    /// Version of the auditor.
    pub version: String,
    /// Kernel release.
    pub kernel: String,
    /// Machine architecture, as `uname -m` says.
    pub arch: String,
    /// Best tier that works.
    pub tier: Tier,
    /// Every hook.
    pub hooks: Vec<HookState>,
    /// The hooks that work.
    pub working: HookSet,
    /// Dimensions that nothing evaluates here.
    pub not_evaluated: Vec<Dimension>,
    /// Hierarchy id of each cgroup slot; `None` where the controller is not mounted as v1.
    pub hierarchies: [Option<u32>; CGROUP_SLOTS],
    /// A heartbeat each so many nanoseconds; 0: none.
    pub heartbeat_ns: u64,
    /// Repeats within so many nanoseconds are folded.
    pub fold_ns: u64,
    /// Names of syscalls by number.
    pub syscalls: fn(i32) -> Option<&'static str>,
    /// The tool whose log the events were made from: it is the witness, and every finding is inferred.
    pub imported_from: Option<&'static str>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node: "localhost".to_owned(),
            boot_id: String::new(),
            realtime_offset_ns: 0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: String::new(),
            arch: String::new(),
            tier: Tier::Scan,
            hooks: Vec::new(),
            working: HookSet::all(),
            not_evaluated: Vec::new(),
            hierarchies: [None; CGROUP_SLOTS],
            heartbeat_ns: 0,
            fold_ns: 60_000_000_000,
            syscalls: |_| None,
            imported_from: None,
        }
    }
}

/// See the [module](self).
#[derive(Debug)]
pub struct Engine {
    config: Config,
    world: World,
    index: IsolationIndex,
    reporter: Reporter,
    counters: Counters,
    /// Number of the last kernel event.
    event: u64,
    now_ns: u64,
    started: bool,
    /// The first sweep is over, but questions about what it found may be open.
    starting: bool,
    sweeping: Option<sweep::Sweep>,
    /// Events were lost since the last complete sweep.
    lossy: bool,
    /// Hooks whose programs were left out since the last sweep, and before that one: a bit each.
    left_out: [HookSet; 2],
    lost_total: BTreeMap<String, u64>,
    queries: VecDeque<Query>,
    pending: HashMap<u64, Pending>,
    next_query: u64,
    asked: HashMap<world::cgroups::CgroupKey, u32>,
    restored: label::Restored,
    resumed: label::Resumed,
    found: label::Found,
    late: label::Late,
    growing: Vec<u32>,
    naming: naming::Naming,
    exits: exits::Exits,
    transfers: transfers::Transfers,
    setups: setup::Setups,
    handles: handles::Handles,
    grants: grants::Grants,
    files: apply::Files,
    ledger: privileges::Ledger,
    own: OwnLedger,
    last_heartbeat_ns: u64,
    /// End of the first sweep.
    folded_until_ns: u64,
    /// What follows was found by a sweep.
    at_rest: bool,
    /// The hook whose program was left out, where what follows was found without a sweep.
    met: Option<u16>,
}

impl Engine {
    /// An engine that knows nothing of the machine yet.
    #[must_use]
    pub fn new(config: Config, policy: &Policy) -> Self {
        let mut index = IsolationIndex::new();
        index.set_policy(policy);
        // Handles are, once a sweep has looked for them.
        let blind = config.not_evaluated.iter().copied();
        let blind = blind.chain([Dimension::Handles]).collect();
        index.set_not_evaluated(&blind);
        Self {
            world: World::new(config.hierarchies),
            config,
            index,
            reporter: Reporter::default(),
            counters: Counters::default(),
            event: 0,
            now_ns: 0,
            started: false,
            starting: false,
            sweeping: None,
            lossy: false,
            left_out: [HookSet::default(); 2],
            lost_total: BTreeMap::new(),
            queries: VecDeque::new(),
            pending: HashMap::new(),
            next_query: 1,
            asked: HashMap::new(),
            restored: label::Restored::default(),
            resumed: label::Resumed::default(),
            found: label::Found::default(),
            late: label::Late::default(),
            growing: Vec::new(),
            naming: naming::Naming::default(),
            exits: exits::Exits::default(),
            transfers: transfers::Transfers::default(),
            setups: setup::Setups::default(),
            handles: handles::Handles::default(),
            grants: grants::Grants::default(),
            files: apply::Files::default(),
            ledger: privileges::Ledger::default(),
            own: OwnLedger::default(),
            last_heartbeat_ns: 0,
            folded_until_ns: 0,
            at_rest: false,
            met: None,
        }
    }

    /// Takes in one event and appends what follows from it.
    pub fn step(&mut self, event: Event<'_>, out: &mut Vec<Record>) {
        match event {
            Event::Task(record) => {
                self.count(record.header.boottime_ns);
                self.on_task(record, None, out);
            }
            Event::Exec(record) => {
                self.count(record.task.header.boottime_ns);
                self.note_exec(&record.task.state.key);
                self.on_task(&record.task, Some(&record.filename), out);
            }
            Event::Exit(record) => {
                self.count(record.header.boottime_ns);
                self.on_exit(&record.key);
            }
            Event::Cgroup(record) => {
                self.count(record.header.boottime_ns);
                self.on_cgroup(record);
            }
            Event::Act(record) if own::is_own(record) => {
                self.advance(record.header.boottime_ns);
                self.on_own(record);
            }
            Event::Act(record) => {
                self.count(record.header.boottime_ns);
                self.on_act(record, out);
            }
            Event::SweepBegin { boottime_ns } => {
                self.advance(boottime_ns);
                self.sweeping = Some(sweep::Sweep::new(boottime_ns));
            }
            Event::SweepEnd {
                boottime_ns,
                complete,
            } => {
                self.advance(boottime_ns);
                self.end_sweep(complete);
                if !complete {
                    self.drop_handles();
                } else if self.started {
                    self.settle_handles(out);
                }
            }
            Event::Answer { query, answer } => self.on_answer(query, answer),
            Event::Looked(setup) => self.on_looked(setup, out),
            Event::Restore(saved) => {
                self.restored = label::Restored::new(saved, &self.config.boot_id);
            }
            Event::Policy(policy) => self.on_policy(policy, out),
            Event::Loss(mark) => self.on_loss(mark, out),
            Event::Tick { boottime_ns } => {
                self.advance(boottime_ns);
                self.on_tick(out);
            }
        }
        // The start line counts the containers that were there first: their names must be in.
        if self.starting && self.pending.is_empty() {
            self.report_start(out);
            self.take_early(out);
            self.settle_handles(out);
        }
        if self.started {
            self.settle_grants(out);
        }
        self.at_rest |= self.sweeping.is_some();
        if self.started && self.index.has_changed() {
            self.report_pairs(out);
        }
        self.met = None;
        if self.started && self.sweeping.is_none() {
            self.at_rest = false;
        }
        self.drain_ready(out);
    }

    /// The next question to the inventory. Each must be answered, by an answer of `None` if need be.
    pub fn next_query(&mut self) -> Option<Query> {
        self.queries.pop_front()
    }

    /// The last record of a stream.
    pub fn stop(&mut self, boottime_ns: u64, reason: &str, out: &mut Vec<Record>) {
        self.advance(boottime_ns);
        self.release_all();
        if self.started {
            self.settle_grants(out);
        }
        self.drain_ready(out);
        self.tell_put_off(out, true);
        self.refresh_counters();
        let stop = Stop {
            head: self.boot_head(),
            counters: self.counters,
            reason: reason.to_owned(),
            own: self.own_privileges(true),
        };
        out.push(Record::Stop(Box::new(stop)));
    }

    /// Counters so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// What it was told once.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The time of the last event, nanoseconds since boot.
    #[must_use]
    pub const fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// The model, for reading.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The isolation function, for reading.
    #[must_use]
    pub fn index(&self) -> &IsolationIndex {
        &self.index
    }

    fn count(&mut self, boottime_ns: u64) {
        self.event += 1;
        if self.sweeping.is_none() {
            self.counters.events += 1;
        }
        self.advance(boottime_ns);
    }

    fn advance(&mut self, boottime_ns: u64) {
        // Records of several CPUs are merged only nearly in order.
        self.now_ns = self.now_ns.max(boottime_ns);
    }

    /// The common part of the next record.
    fn head(&mut self) -> Head {
        self.reporter.head(&self.config, self.now_ns)
    }

    /// As [`Self::head`], of a record about the run itself.
    fn boot_head(&mut self) -> Head {
        let boot_id = self.config.boot_id.clone();
        Head {
            boot_id,
            ..self.head()
        }
    }

    fn refresh_counters(&mut self) {
        self.counters.entities = self.world.entities.len() as u64 - 1;
        self.counters.tasks = self.world.tasks.len() as u64;
    }

    #[cold]
    fn report_start(&mut self, out: &mut Vec<Record>) {
        self.started = true;
        self.starting = false;
        self.last_heartbeat_ns = self.now_ns;
        let start = Start {
            head: self.boot_head(),
            version: self.config.version.clone(),
            kernel: self.config.kernel.clone(),
            arch: self.config.arch.clone(),
            tier: self.config.tier,
            hooks: self.config.hooks.clone(),
            not_evaluated: self.config.not_evaluated.clone(),
            claim: "structural".to_owned(),
            references: references(),
            policy_digest: self.index.policy().digest(),
            entities: self.world.entities.len() - 1,
            tasks: self.world.tasks.len(),
            own: self.own_privileges(false),
        };
        out.push(Record::Start(Box::new(start)));
    }

    /// Before the start line there is nothing to tell: that line names the policy in force.
    fn on_policy(&mut self, policy: &Policy, out: &mut Vec<Record>) {
        let previous_digest = self.index.policy().digest();
        let policy_digest = policy.digest();
        self.index.set_policy(policy);
        self.judge_grants();
        if !self.started || policy_digest == previous_digest {
            return;
        }
        let change = PolicyChange {
            head: self.head(),
            policy_digest,
            previous_digest,
            message: "another policy is in force; the lines that follow are judged by it"
                .to_owned(),
        };
        out.push(Record::Policy(Box::new(change)));
    }

    /// How often kernel programs were left out.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        let skipped = self.lost_total.get(LossMark::SKIPPED);
        skipped.copied().unwrap_or_default()
    }

    /// Lost events, and what programs were left out of: an explanation of what is found may be among them.
    fn may_have_missed(&self) -> u64 {
        self.counters.lost_events.saturating_add(self.skipped())
    }

    #[cold]
    fn on_loss(&mut self, mark: &LossMark, out: &mut Vec<Record>) {
        self.advance(mark.boottime_ns);
        if mark.count == 0 {
            return;
        }
        self.counters.lost_events = self.counters.lost_events.saturating_add(mark.events());
        let total = self.lost_total.entry(mark.place.clone()).or_default();
        *total = total.saturating_add(mark.count);
        let total = *total;
        let model_hurt = match mark.place.as_str() {
            "ring" | "queue" => true,
            LossMark::SKIPPED => mark.by_hook.keys().any(|&index| bears_state(index)),
            _ => false,
        };
        if model_hurt {
            match mark.place.as_str() {
                // It says which hooks: only what these should have shown is explained.
                LossMark::SKIPPED => self.leave_out(&mark.by_hook),
                _ => self.lossy = true,
            }
            for dimension in LOSSY {
                self.index.mark_unknown(Scope::All, dimension);
            }
        }
        match mark.place.as_str() {
            "ring" | "queue" => self.renew_uses(),
            LossMark::SKIPPED => self.renew_skipped_uses(&mark.by_hook),
            _ => {}
        }
        let hook_name = |index: u16| {
            HOOKS
                .get(usize::from(index))
                .map_or_else(|| format!("hook {index}"), |h| h.name.to_owned())
        };
        let message = if mark.place == LossMark::SKIPPED {
            let until = match model_hurt {
                true => "; verdicts are unknown until the sweep that follows",
                false => "",
            };
            format!(
                "the kernel left its programs out {} times, for a task was interrupted in one: what was done then was not \
                 seen{until}",
                mark.count
            )
        } else if model_hurt {
            format!(
                "{} events lost; verdicts are unknown until the sweep that follows",
                mark.count
            )
        } else if mark.place == LossMark::EARLY {
            format!(
                "{} acts of a container were not judged: its runtime wrote it down only after them",
                mark.count
            )
        } else if mark.place == "trace" {
            format!("{} events are missing in the recorded trace", mark.count)
        } else {
            format!(
                "{} lines lost: the receiver is too slow or gone",
                mark.count
            )
        };
        let loss = Loss {
            head: self.boot_head(),
            place: mark.place.clone(),
            count: mark.count,
            total,
            by_hook: mark
                .by_hook
                .iter()
                .map(|(&hook, &n)| (hook_name(hook), n))
                .collect(),
            by_cpu: mark.by_cpu.clone(),
            unknown: if model_hurt {
                LOSSY.to_vec()
            } else {
                Vec::new()
            },
            message,
        };
        out.push(Record::Loss(Box::new(loss)));
    }

    #[cold]
    fn on_tick(&mut self, out: &mut Vec<Record>) {
        self.retry_names();
        self.ask_about_unborn();
        self.ask_due();
        self.settle_growth(out);
        self.tell_put_off(out, false);
        let due = self.config.heartbeat_ns;
        if self.started && due > 0 && self.now_ns >= self.last_heartbeat_ns.saturating_add(due) {
            self.last_heartbeat_ns = self.now_ns;
            self.refresh_counters();
            let heartbeat = Heartbeat {
                head: self.boot_head(),
                counters: self.counters,
                model_digest: self.digest(),
            };
            out.push(Record::Heartbeat(Box::new(heartbeat)));
        }
    }

    /// Whether an entity is (or is nested in) another; see [`World::contains`].
    #[must_use]
    pub fn is_nested(&self, outer: EntityId, inner: EntityId) -> bool {
        outer != HOST && self.world.contains(outer, inner)
    }
}

/// What the start line says of each rule.
fn references() -> BTreeMap<RuleId, Vec<String>> {
    let of = |rule: RuleId| rule.references().iter().map(|&r| r.to_owned()).collect();
    RuleId::ALL.iter().map(|&rule| (rule, of(rule))).collect()
}
