//! What containers are set up with: when to look, and what to make of it.
//!
//! The kernel hooks only say *that* a mount table changes. What it holds is read from the kernel at the next tick, so
//! that a burst of changes is one look, and again at later ones until the change shows: a hook that stands before the
//! change may be just before a tick. The first look at a container, when it begins, is its baseline.
//! A change that no act of the container's stands before came from outside (the host's mounts propagate into its
//! containers) and is taken over, unless a mount that was there has become weaker.

mod devices;
mod peers;
mod sharing;
mod trees;

use super::Engine;
use super::event::Look;
use super::rule::foreign_mount::{self, Changed, Tables};
use super::rule::{self, Draft, setup_mismatch};
use super::world::same_task;
use crate::model::facts::{EntityId, HOST, NsId, ObjectKey, Origin};
use crate::model::output::Record;
use crate::model::setup::{SetUp, Table};
use crate::model::{Confidence, NsKind};
use auditor_common::hook;
use auditor_common::record::{ActRecord, TaskKey, ns};
use peers::Peers;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use trees::Trees;

/// Mount tables of one container that are kept; tables of more namespaces are compared with its first.
const MAX_TABLES: usize = 16;
/// So many ticks after an act its effect is looked for.
const LOOKED_FOR: [u8; 4] = [1, 2, 4, 8];
/// Looks that wait for a tick at once. More changes are found by sweep.
const MAX_DUE: usize = 1024;
/// Looks that nobody has taken yet.
const MAX_LOOKS: usize = 1 << 16;
/// What a recording may repeat before its first sweep.
const MAX_EARLY: usize = 1 << 18;
/// A sweep looks at so many containers, in turn.
const PER_SWEEP: usize = 32;
/// Every so many sweeps the host is looked at.
const HOST_EVERY: u32 = 10;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Setups {
    looks: VecDeque<Look>,
    /// Acts whose effect has not shown yet, by container and mount namespace.
    due: BTreeMap<(EntityId, u32), Due>,
    tables: BTreeMap<EntityId, Known>,
    /// Devices whose mount was told when it was made, by container.
    told: BTreeSet<(EntityId, u32)>,
    /// Devices that were told because a table showed them, by container: when that was read.
    shown: BTreeMap<(EntityId, u32), u64>,
    /// What came before the start line.
    early: Vec<SetUp>,
    trees: Trees,
    peers: Peers,
    sweeps: u32,
    /// The container that the last sweep looked at last.
    cursor: Option<EntityId>,
}

/// An act whose effect is looked for.
#[derive(Debug)]
struct Due {
    act: ActRecord,
    /// Ticks since then.
    ticks: u8,
}

/// What is known of one entity.
#[derive(Debug, Default)]
struct Known {
    baseline: SetUp,
    /// By inum of the mount namespace.
    last: BTreeMap<u32, SetUp>,
    /// It was compared with its spec.
    compared: bool,
    /// What it holds of trees, its own and others', and of peer groups.
    holds: Vec<(ObjectKey, Origin)>,
    /// Where on the host the files of its root are that it wrote.
    upper: Option<String>,
    /// The container had changed its table before it was read first: the baseline holds more than its runtime made.
    is_late: bool,
    /// What was seen last, without the mounts that a look took over because it knew of no act. By inum.
    taken_over: BTreeMap<u32, SetUp>,
}

impl Known {
    /// A table is the last that was seen. Without an act of the container's what is new in it came from outside, or the
    /// record of the act has yet to come.
    fn keep(&mut self, setup: &SetUp, by_container: bool) {
        let inum = setup.mnt_ns;
        if self.last.len() >= MAX_TABLES && !self.last.contains_key(&inum) {
            return;
        }
        let before = self.last.get(&inum).unwrap_or(&self.baseline);
        let mut less = setup.clone();
        less.mounts
            .retain(|mount| foreign_mount::before(before, mount).is_some());
        match !by_container && less.mounts.len() < setup.mounts.len() {
            true => self.taken_over.insert(inum, less),
            false => self.taken_over.remove(&inum),
        };
        self.last.insert(inum, setup.clone());
    }
}

impl Setups {
    /// The table that an entity has, as it was seen last.
    pub(super) fn table(&self, id: EntityId) -> Option<&SetUp> {
        let known = self.tables.get(&id)?;
        Some(
            known
                .last
                .get(&known.baseline.mnt_ns)
                .unwrap_or(&known.baseline),
        )
    }

    fn forget(&mut self, id: EntityId) {
        self.tables.remove(&id);
        self.due.retain(|(of, _), _| *of != id);
        self.told.retain(|(of, _)| *of != id);
        self.shown.retain(|(of, _), _| *of != id);
    }
}

impl Engine {
    /// The next thing to look at. Nobody need look: what is not told is not judged.
    pub fn next_look(&mut self) -> Option<Look> {
        // An answer within a sweep would stand between its tasks.
        match self.sweeping {
            Some(_) => None,
            None => self.setups.looks.pop_front(),
        }
    }

    /// What is known of mount tables, for another engine to go on with.
    #[must_use]
    pub fn set_ups(&self) -> Vec<SetUp> {
        let repeat = |setup: &SetUp, table| SetUp {
            repeats: Some(table),
            ..setup.clone()
        };
        let of = |known: &Known| {
            let first = std::iter::once(repeat(&known.baseline, Table::Baseline));
            let last = known.last.values().map(|s| repeat(s, Table::Last));
            first.chain(last).collect::<Vec<_>>()
        };
        self.setups.tables.values().flat_map(of).collect()
    }

    fn ask_look(&mut self, look: Look) {
        if self.setups.looks.len() < MAX_LOOKS {
            self.setups.looks.push_back(look);
        }
    }

    /// Asks for an entity's first process.
    pub(super) fn look_at(&mut self, id: EntityId, always: bool) {
        let Some(entity) = self.world.entities.get(&id) else {
            return;
        };
        let Some(task) = self.world.task(&entity.init) else {
            return;
        };
        let spec = entity.answer.as_ref().and_then(|a| a.spec.as_ref());
        let paths = spec.map_or_else(Vec::new, setup_mismatch::paths);
        let (key, mnt_ns) = (task.state.key, task.state.ns[ns::MNT].inum);
        let devices = spec.is_some_and(|spec| spec.devices_final);
        self.ask_look(Look {
            key,
            mnt_ns,
            paths,
            devices,
            always,
        });
    }

    /// A container's task changed a mount table.
    pub(super) fn note_mount(&mut self, label: EntityId, inum: u32, record: &ActRecord) {
        if let Some(known) = self.setups.tables.get_mut(&label)
            && known.baseline.mnt_ns == inum
            && record.header.boottime_ns <= known.baseline.read_ns
        {
            known.is_late = true;
        }
        // A look was quicker than the record of this act: what it took over is judged again.
        if let Some(known) = self.setups.tables.get_mut(&label)
            && let Some(last) = known.last.get_mut(&inum)
            && record.header.boottime_ns <= last.read_ns
            && let Some(less) = known.taken_over.remove(&inum)
        {
            *last = less;
        }
        let place = (label, inum);
        let due = &mut self.setups.due;
        let known = due.get(&place);
        // The first of a burst stands for all of it.
        let in_burst = known.is_some_and(|due| due.ticks == 0);
        if !in_burst && (known.is_some() || due.len() < MAX_DUE) {
            let act = *record;
            due.insert(place, Due { act, ticks: 0 });
        }
    }

    /// Asks what is due. Once a tick.
    pub(super) fn ask_due(&mut self) {
        let due = &mut self.setups.due;
        due.retain(|_, due| Some(&due.ticks) != LOOKED_FOR.last());
        due.values_mut().for_each(|due| due.ticks += 1);
        let asked: Vec<_> = due
            .iter()
            .filter(|(_, due)| LOOKED_FOR.contains(&due.ticks))
            .map(|(place, due)| (*place, due.act.actor, due.ticks == 1))
            .collect();
        // What the host has mounted since it was looked at is not the container's: it must be known first.
        if asked.iter().any(|(_, _, first)| *first) {
            self.look_at(HOST, false);
        }
        for ((label, inum), actor, first) in asked {
            if let Some(key) = self.witness_of(label, inum, &actor) {
                self.ask_look(Look {
                    key,
                    mnt_ns: inum,
                    paths: Vec::new(),
                    devices: false,
                    always: first,
                });
            }
        }
    }

    /// What was looked for shows. Others of the burst may still be under way: one tick more is theirs.
    fn show(&mut self, place: (EntityId, u32)) {
        let due = self.setups.due.get(&place);
        if due.is_some_and(|due| due.ticks > 1) {
            self.setups.due.remove(&place);
        }
    }

    /// A task of a mount namespace whose view of it is the whole: the first one, who acted, anybody.
    fn witness_of(&self, label: EntityId, inum: u32, actor: &TaskKey) -> Option<TaskKey> {
        let sits = |key: &TaskKey| {
            let task = self.world.task(key)?;
            (task.state.ns[ns::MNT].inum == inum).then_some(task.state.key)
        };
        let init = self.world.entities.get(&label).map(|e| e.init);
        init.as_ref()
            .and_then(sits)
            .or_else(|| sits(actor))
            .or_else(|| {
                let id = self.world.ns.by_inum(NsKind::Mnt, inum)?;
                let tasks = self.world.members(id);
                let task = tasks.iter().filter_map(|tid| self.world.tasks.get(tid));
                task.filter(|t| t.label == label)
                    .map(|t| t.state.key)
                    .min_by_key(|key| (key.start_boottime_ns, key.tid))
            })
    }

    /// A sweep is over: looks at a few containers, and now and then at the host.
    pub(super) fn look_around(&mut self) {
        self.setups.sweeps = self.setups.sweeps.wrapping_add(1);
        if self.setups.sweeps.is_multiple_of(HOST_EVERY) {
            self.look_at(HOST, false);
        }
        let known = &self.setups.tables;
        let after = known.range((
            std::ops::Bound::Excluded(self.setups.cursor.unwrap_or(HOST)),
            std::ops::Bound::Unbounded,
        ));
        let next: Vec<EntityId> = after.map(|(&id, _)| id).take(PER_SWEEP).collect();
        self.setups.cursor = match next.last() {
            Some(&last) if next.len() == PER_SWEEP => Some(last),
            _ => None,
        };
        for id in next {
            if id != HOST {
                self.look_at(id, false);
            }
        }
    }

    /// The agent looked.
    #[cold]
    pub(super) fn on_looked(&mut self, setup: &SetUp, out: &mut Vec<Record>) {
        if self.started {
            self.take_setup(setup, out);
        } else if self.setups.early.len() < MAX_EARLY {
            self.setups.early.push(setup.clone());
        }
    }

    /// After the start line: what came before it.
    pub(super) fn take_early(&mut self, out: &mut Vec<Record>) {
        for setup in std::mem::take(&mut self.setups.early) {
            self.take_setup(&setup, out);
        }
    }

    fn take_setup(&mut self, setup: &SetUp, out: &mut Vec<Record>) {
        let key = TaskKey {
            tid: setup.pid,
            tgid: setup.pid,
            start_boottime_ns: setup.start_boottime_ns,
        };
        let Some(task) = self.world.task(&key) else {
            return;
        };
        let (label, mnt) = (task.label, self.world.ns.ids(task.set)[ns::MNT]);
        if task.state.ns[ns::MNT].inum != setup.mnt_ns || !self.is_of(label, mnt, &key) {
            return;
        }
        if label != HOST && same_task(&entity_init(self, label), &key) {
            self.note_confinement(label, setup.lsm.as_deref());
        }
        match setup.repeats {
            Some(table) => self.recall(label, setup, table),
            None if label == HOST => {
                let known = self.setups.tables.entry(HOST).or_default();
                let changed = known.baseline.mounts != setup.mounts;
                known.baseline = setup.clone();
                if changed {
                    self.share_all_with_host();
                }
            }
            None => self.compare(label, mnt, &key, setup, out),
        }
    }

    /// Whether a mount namespace is one that a container has by itself: its own, or one that it made. The tables of
    /// others are others'.
    fn is_of(&self, label: EntityId, mnt: NsId, key: &TaskKey) -> bool {
        if label == HOST {
            return same_task(&self.world.host().init, key);
        }
        let owner = rule::owner(&self.world, mnt);
        owner != HOST && self.world.contains(label, owner)
    }

    /// What an engine before this one knew.
    fn recall(&mut self, label: EntityId, setup: &SetUp, table: Table) {
        let spec = self
            .world
            .entities
            .get(&label)
            .and_then(|e| e.answer.as_ref())
            .is_some_and(|a| a.spec.is_some());
        let known = self.setups.tables.entry(label).or_default();
        let setup = SetUp {
            repeats: None,
            ..setup.clone()
        };
        match table {
            Table::Baseline => known.baseline = setup,
            Table::Last if known.last.len() < MAX_TABLES => {
                known.last.insert(setup.mnt_ns, setup);
            }
            Table::Last => {}
        }
        known.compared = spec;
        if table == Table::Baseline {
            self.share_table(label);
        }
    }

    /// An entity is gone.
    pub(super) fn forget_setup(&mut self, id: EntityId) {
        // The index has forgotten what it held.
        if let Some(known) = self.setups.tables.get_mut(&id) {
            known.holds.clear();
        }
        self.forget_shared(id);
        self.setups.forget(id);
    }

    fn compare(
        &mut self,
        label: EntityId,
        mnt: NsId,
        key: &TaskKey,
        setup: &SetUp,
        out: &mut Vec<Record>,
    ) {
        let Some(entity) = self.world.entities.get(&label) else {
            return;
        };
        let own = entity.ns[ns::MNT] == mnt;
        let acted = (label, setup.mnt_ns);
        let due = self.setups.due.get(&acted).map(|due| due.ticks);
        if own && !self.setups.tables.contains_key(&label) {
            let is_late = due.is_some();
            self.setups.tables.insert(
                label,
                Known {
                    baseline: setup.clone(),
                    is_late,
                    ..Known::default()
                },
            );
            self.share_table(label);
        } else if due != Some(0) {
            self.judge_table(label, own, key, setup, out);
        }
        if own && same_task(&entity_init(self, label), key) {
            self.judge_spec(label, setup, out);
        }
        // What was done since the last tick is judged by the look at the next one, which knows the host's table.
        if due != Some(0)
            && let Some(known) = self.setups.tables.get_mut(&label)
        {
            known.keep(setup, due.is_some());
        }
    }

    /// What a table has that it had not before.
    fn judge_table(
        &mut self,
        label: EntityId,
        own: bool,
        key: &TaskKey,
        setup: &SetUp,
        out: &mut Vec<Record>,
    ) {
        let acted = (label, setup.mnt_ns);
        // Another look may come before the one that is due for the act, and show what came of it already.
        let act = self.setups.due.get(&acted).map(|due| due.act);
        let corrected = self.correct_baseline(label, setup.mnt_ns);
        let (true, Some(entity), Some(task)) = (
            self.setups.tables.contains_key(&label),
            self.world.entities.get(&label),
            self.world.task(key),
        ) else {
            return;
        };
        let ids = self.world.ns.ids(task.set);
        let empty = SetUp::default();
        let tables = self.tables(label, Some(setup), &empty);
        let works = |h: u16| self.config.working.has(h);
        let sees = works(hook::SB_MOUNT) && works(hook::MOVE_MOUNT) || works(hook::EXIT_MOUNT);
        let changed = Changed {
            label,
            by_container: act.is_some() || corrected || !sees,
            own_pid: ids[ns::PID] != entity.ns[ns::PID],
            own_user: ids[ns::USER] != entity.ns[ns::USER],
            own_mounts: own,
            confidence: match act {
                Some(_) => task.confidence,
                None => Confidence::Sampled.max(task.confidence),
            },
        };
        let mut drafts = foreign_mount::detect(&tables, &changed, &self.world);
        if tables.before.mounts != setup.mounts {
            self.show(acted);
        }
        drafts.retain(|draft| self.is_new_mount(label, draft, setup.read_ns));
        let (who, hook, syscall) = act.map_or((*key, hook::PROC, -1), |record| {
            (record.actor, record.header.hook, record.syscall)
        });
        self.tell_setup(drafts, who, hook, syscall, out);
    }

    /// The tables that a container's is compared with. `now`: as it is; `empty` stands for what is not known.
    fn tables<'a>(
        &'a self,
        label: EntityId,
        now: Option<&'a SetUp>,
        empty: &'a SetUp,
    ) -> Tables<'a> {
        let known = &self.setups.tables;
        let baseline = |id: EntityId| known.get(&id).map_or(empty, |k| &k.baseline);
        let others = known
            .iter()
            .filter(|(id, _)| **id != HOST && !self.world.contains(label, **id));
        let now = now.unwrap_or(empty);
        let last = known.get(&label).and_then(|k| k.last.get(&now.mnt_ns));
        Tables {
            host: baseline(HOST),
            baseline: baseline(label),
            before: last.unwrap_or(baseline(label)),
            now,
            others: others.map(|(id, k)| (*id, &k.baseline)).collect(),
        }
    }

    /// A baseline that was read too late is cut down to what the spec explains, once that is known: the rest is judged
    /// as what came after it.
    fn correct_baseline(&mut self, label: EntityId, mnt_ns: u32) -> bool {
        let (Some(known), Some(entity)) = (
            self.setups.tables.get_mut(&label),
            self.world.entities.get(&label),
        ) else {
            return false;
        };
        let spec = entity.answer.as_ref().and_then(|a| a.spec.as_ref());
        let Some(spec) = spec.filter(|_| known.is_late && known.baseline.mnt_ns == mnt_ns) else {
            return false;
        };
        known.is_late = false;
        let mut mounts = std::mem::take(&mut known.baseline.mounts);
        let whole = SetUp {
            mounts: mounts.clone(),
            ..SetUp::default()
        };
        mounts.retain(|mount| setup_mismatch::explains(spec, &whole, &mount.point));
        known.baseline.mounts = mounts;
        known.last.remove(&mnt_ns);
        true
    }

    /// The running container against its spec, once both are known.
    fn judge_spec(&mut self, label: EntityId, setup: &SetUp, out: &mut Vec<Record>) {
        let (Some(known), Some(entity)) = (
            self.setups.tables.get_mut(&label),
            self.world.entities.get(&label),
        ) else {
            return;
        };
        let spec = entity.answer.as_ref().and_then(|a| a.spec.as_ref());
        let (Some(spec), Some(task)) = (spec, self.world.task(&entity.init)) else {
            return;
        };
        if std::mem::replace(&mut known.compared, true) {
            return;
        }
        let drafts = setup_mismatch::detect(spec, setup, label, task, &self.world);
        let key = task.state.key;
        self.share_table(label);
        self.tell_setup(drafts, key, hook::PROC, -1, out);
    }

    fn tell_setup(
        &mut self,
        drafts: Vec<Draft>,
        who: TaskKey,
        hook: u16,
        syscall: i32,
        out: &mut Vec<Record>,
    ) {
        for draft in drafts {
            let witness = self.seen_by(hook, syscall, self.event);
            self.emit(draft, who, witness, None, out);
        }
    }
}

fn entity_init(engine: &Engine, id: EntityId) -> TaskKey {
    engine
        .world
        .entities
        .get(&id)
        .map_or_else(TaskKey::default, |entity| entity.init)
}
