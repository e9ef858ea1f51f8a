//! Goal: over any history the engine says what isolation.md says, and no stream can hurt it.
//! Method: random histories of a simulated kernel through `Engine::step`, compared step by step with
//! an oracle over true objects; and streams that no kernel would write.
//!
//! `PROPTEST_CASES` sets the number of cases.

use super::kernel::{Kernel, Task};
use super::lines::{counted, told};
use super::machine::Machine;
use super::oracle::Oracle;
use super::sim::{Owned, Sim, Step};
use crate::agent::once;
use crate::agent::what_if::suppose;
use crate::engine::{Config, Engine, Event, LossMark};
use crate::inventory::container::{ContainerAnswer, Runtime};
use crate::model::facts::{EntityId, HOST};
use crate::model::output::Record;
use crate::model::policy::{Policy, REQUIRED};
use crate::model::{Dimension, NsKind};
use auditor_common::limits::CGROUP_SLOTS;
use auditor_common::record::{TaskKey, cgroup};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use zerocopy::IntoBytes;

/// An engine, what it said, and a runtime that knows its containers by the ids of their inits.
struct Driver {
    engine: Engine,
    out: Vec<Record>,
    names: BTreeSet<u32>,
}

impl Driver {
    fn new() -> Self {
        let mut hierarchies = [None; CGROUP_SLOTS];
        hierarchies[cgroup::V2] = Some(0);
        let config = Config {
            hierarchies,
            ..Config::default()
        };
        Self {
            engine: Engine::new(config, &Policy::default()),
            out: Vec::new(),
            names: BTreeSet::new(),
        }
    }

    fn step(&mut self, event: &Owned) {
        let event = match event {
            Owned::Task(record) => Event::Task(record),
            Owned::Exec(record) => Event::Exec(record),
            Owned::Exit(record) => {
                self.names.remove(&record.key.tid);
                Event::Exit(record)
            }
            Owned::Cgroup(record) => Event::Cgroup(record),
            Owned::SweepBegin(boottime_ns) => Event::SweepBegin {
                boottime_ns: *boottime_ns,
            },
            Owned::SweepEnd(boottime_ns) => Event::SweepEnd {
                boottime_ns: *boottime_ns,
                complete: true,
            },
            Owned::Tick(boottime_ns) => Event::Tick {
                boottime_ns: *boottime_ns,
            },
            Owned::Loss(mark) => Event::Loss(mark),
            Owned::Name(tid) => {
                self.names.insert(*tid);
                return;
            }
        };
        self.engine.step(event, &mut self.out);
        while let Some(query) = self.engine.next_query() {
            let known = query.init_pid.filter(|pid| self.names.contains(pid));
            let answer = known.map(|pid| {
                let path = query.cgroup_path.clone();
                let mut answer = ContainerAnswer::bare(path, Runtime::Runc, format!("c{pid}"));
                answer.init_pid = Some(pid);
                answer
            });
            let event = Event::Answer {
                query: query.id,
                answer: answer.as_ref(),
            };
            self.engine.step(event, &mut self.out);
        }
    }

    fn steps(&mut self, events: &[Owned]) {
        events.iter().for_each(|event| self.step(event));
    }

    /// The engine's ids by order of birth, as the oracle counts.
    fn ids(&self, oracle: &Oracle) -> BTreeMap<u32, EntityId> {
        let engine: Vec<_> = self.engine.world().entities.iter().collect();
        let found = engine.iter().skip(1).map(|(_, e)| e.init.tid);
        let expected = oracle.entities.values().skip(1).map(|e| e.init.tid);
        assert!(found.eq(expected), "inits of the living containers");
        let oracles = oracle.entities.keys().copied();
        oracles.zip(engine.iter().map(|(id, _)| **id)).collect()
    }

    fn agrees(&self, kernel: &Kernel, oracle: &Oracle) {
        let world = self.engine.world();
        let ids = self.ids(oracle);
        let mut tids: Vec<u32> = world.tasks.keys().copied().collect();
        tids.sort_unstable();
        assert!(tids.iter().eq(kernel.tasks.keys()), "living tasks");
        for tid in tids {
            let expected = ids[&oracle.label(tid)];
            assert_eq!(world.tasks[&tid].label, expected, "label of task {tid}");
        }
        for (id, entity) in &oracle.entities {
            let found = world.entities[&ids[id]].parent;
            assert_eq!(found, ids[&entity.parent], "parent of {id}");
        }
        let algebra = oracle.algebra(kernel);
        for (a, x) in &ids {
            for (b, y) in ids.iter().filter(|(b, _)| a < *b) {
                let pair = self.engine.index().pair(*x, *y);
                let (a, b) = (EntityId(*a), EntityId(*b));
                // Nobody opens files in these histories.
                for d in REQUIRED.into_iter().filter(|d| *d != Dimension::References) {
                    let verdict = pair.dimension(d).unwrap().verdict;
                    assert_eq!(verdict, algebra.verdict(a, b, d), "{a:?} {b:?} {d}");
                }
                assert_eq!(pair.iota, algebra.iota(a, b), "iota of {a:?} {b:?}");
            }
        }
        assert_eq!(self.engine.index().ignored(), 0, "holds and releases match");
    }

    /// Nothing grows beyond what the stream brought.
    fn is_bounded(&self, events: usize) {
        let world = self.engine.world();
        assert!(world.tasks.len() <= events && world.cgroups.len() <= events);
        assert!(world.entities.len() <= events + 1);
        assert_eq!(self.engine.index().entities().count(), world.entities.len());
        assert!(self.engine.pending.is_empty(), "each question was answered");
        assert!(world.ns.len() <= (world.tasks.len() + world.entities.len() + 1) * 10);
    }

    /// Counters of references are what a count of the holders gives.
    fn is_consistent(&self) {
        let world = self.engine.world();
        let labelled = |id| world.tasks.values().filter(|t| t.label == id).count();
        for (&id, entity) in &world.entities {
            if id != HOST {
                assert_eq!(entity.tasks() as usize, labelled(id), "tasks of {id:?}");
                assert!(entity.sets.values().all(|h| h.tasks > 0), "sets of {id:?}");
            }
        }
        let used: BTreeSet<_> = world
            .tasks
            .values()
            .flat_map(|t| *world.ns.ids(t.set))
            .collect();
        let pinned: BTreeSet<_> = world.entities.values().flat_map(|e| e.ns).collect();
        let mut living: BTreeSet<_> = used.union(&pinned).copied().collect();
        living.retain(|id| *id != crate::engine::world::namespaces::NO_NS);
        assert!(
            living.iter().all(|id| world.ns.get(*id).is_some()),
            "held and retired"
        );
        assert!(world.ns.counts_makers(), "who made what");
    }
}

fn step() -> impl Strategy<Value = Step> {
    let n = || any::<usize>();
    // Most calls concern one or two kinds.
    let mask = || {
        prop_oneof![
            3 => (0u8..7).prop_map(|bit| 1 << bit),
            2 => (0u8..7, 0u8..7).prop_map(|(a, b)| 1 << a | 1 << b),
            1 => any::<u8>(),
        ]
    };
    let births = prop_oneof![3 => Just(0u8), 1 => mask()];
    prop_oneof![
        6 => (n(), births, prop::option::weighted(0.1, n()))
            .prop_map(|(p, m, c)| Step::Fork(p, m, c)),
        4 => (n(), mask()).prop_map(|(t, m)| Step::Unshare(t, m)),
        6 => (n(), n(), mask()).prop_map(|(t, o, m)| Step::Setns(t, o, m)),
        3 => (n(), n(), n()).prop_map(|(t, a, c)| Step::Attach(t, a, c)),
        5 => n().prop_map(Step::Exit),
        2 => (n(), n()).prop_map(|(t, o)| Step::Chroot(t, o)),
        2 => (n(), n()).prop_map(|(t, o)| Step::Chdir(t, o)),
        2 => n().prop_map(Step::Pivot),
        1 => (n(), any::<u64>()).prop_map(|(t, k)| Step::Cred(t, k)),
        3 => n().prop_map(Step::Exec),
        4 => (prop_oneof![Just(0), n()], any::<u8>()).prop_map(|(s, m)| Step::Runc(s, m)),
        4 => (prop_oneof![Just(0), n()], any::<u8>()).prop_map(|(s, m)| Step::Crun(s, m)),
        2 => n().prop_map(Step::RuncExec),
        2 => n().prop_map(Step::CrunExec),
        1 => n().prop_map(Step::Mkdir),
        1 => Just(Step::Rmdir),
        1 => Just(Step::Sweep),
        1 => Just(Step::Tick),
    ]
}

/// As many cases as `PROPTEST_CASES` says, else few: each compares every pair after every step.
fn config(cases: u32) -> ProptestConfig {
    let given = std::env::var_os("PROPTEST_CASES").is_some();
    let config = ProptestConfig {
        max_shrink_iters: 4000,
        // A history of which nobody can tell what should come out is made anew, however many cases are asked for.
        max_global_rejects: u32::MAX,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    if given {
        config
    } else {
        ProptestConfig { cases, ..config }
    }
}

fn history(steps: &[Step]) {
    let (mut sim, mut driver) = (Sim::new(), Driver::new());
    driver.steps(&std::mem::take(&mut sim.events));
    for step in steps {
        sim.apply(step);
        driver.steps(&std::mem::take(&mut sim.events));
        driver.agrees(&sim.kernel, &sim.oracle);
        driver.is_consistent();
    }
    let counters = driver.engine.counters();
    assert_eq!((counters.drifts, counters.repaired), (0, 0), "sweeps agree");
}

/// What a runtime and the programs in its containers do when nobody leaves: no call of a labelled task
/// touches a namespace or a cgroup.
fn work() -> impl Strategy<Value = Step> {
    let n = || any::<usize>();
    prop_oneof![
        3 => n().prop_map(|p| Step::Fork(p, 0, None)),
        3 => n().prop_map(Step::Exit),
        2 => any::<u8>().prop_map(|m| Step::Runc(0, m)),
        2 => any::<u8>().prop_map(|m| Step::Crun(0, m)),
        2 => n().prop_map(Step::RuncExec),
        2 => n().prop_map(Step::CrunExec),
        1 => Just(Step::Mkdir(0)),
        1 => Just(Step::Rmdir),
        1 => Just(Step::Sweep),
        1 => Just(Step::Tick),
    ]
}

/// What happens in containers that a sweep can read off the kernel: births anywhere, namespaces and containers that are
/// made inside, moves out of the cgroup. The first processes stay where they are.
fn inside(sim: &mut Sim, (by, what, mask): (usize, u8, u8)) {
    let Some(tid) = sim.pick_inside(by) else {
        return;
    };
    if sim.kernel.tasks.len() > 40 {
        return;
    }
    match what {
        0 => drop(sim.fork(tid, 0, None)),
        1 => drop(sim.fork(tid, mask & 0x7f, None)),
        2 => sim.unshare(tid, mask & 0x7f),
        3 => drop(sim.runc(tid, mask & 0x60)),
        4 => drop(sim.crun(tid, mask & 0x60)),
        5 => sim.attach(tid, tid, 1),
        6 => sim.setns(tid, 1, mask & 0x5c),
        _ => sim.exit(tid),
    }
}

/// Who is whose: for each task, and each container, the first processes of the containers around it.
fn belongings(driver: &Driver) -> BTreeMap<u32, Vec<u32>> {
    let world = driver.engine.world();
    let around = |label: EntityId| {
        let mut at = label;
        std::iter::from_fn(move || {
            let entity = (at != HOST).then(|| &world.entities[&at])?;
            at = entity.parent;
            Some(entity.init.tid)
        })
    };
    let tasks = world.tasks.values();
    tasks
        .map(|task| (task.state.key.tid, around(task.label).collect()))
        .collect()
}

/// Steps whose outcome a sweep can read off the kernel.
fn readable() -> impl Strategy<Value = Step> {
    let n = || any::<usize>();
    prop_oneof![
        3 => (n(), n(), 0u8..7).prop_map(|(t, o, bit)| Step::Setns(t, o, 1 << bit)),
        2 => (n(), n(), n()).prop_map(|(t, a, c)| Step::Attach(t, a, c)),
        2 => n().prop_map(Step::Exit),
        1 => (n(), n()).prop_map(|(t, o)| Step::Chroot(t, o)),
        1 => (n(), n()).prop_map(|(t, o)| Step::Chdir(t, o)),
        1 => (n(), any::<u64>()).prop_map(|(t, k)| Step::Cred(t, k)),
        1 => n().prop_map(|p| Step::Fork(p, 0, None)),
    ]
}

/// After losses a sweep brings everything back that the kernel still tells: where tasks are, who is
/// gone. It cannot bring back who made a namespace, who was in a container only in between, and
/// whether a number was reused meanwhile; so births are not lost here, no label changes while events
/// are lost, no inum is reused, and no compartment is made that runs no program yet.
fn recovers(before: &[Step], during: &[(Step, bool)]) -> Result<(), TestCaseError> {
    let (mut sim, mut driver) = (Sim::new(), Driver::new());
    before.iter().for_each(|step| sim.apply(step));
    driver.steps(&std::mem::take(&mut sim.events));
    sim.kernel.fresh_inums = true;
    for (step, lost) in during {
        let labels = sim.oracle.labels.clone();
        sim.apply(step);
        let same = |(tid, label): (&u32, &u32)| labels.get(tid).is_none_or(|l| l == label);
        prop_assume!(sim.oracle.labels.iter().all(same));
        let events = std::mem::take(&mut sim.events);
        if !lost || matches!(step, Step::Fork(..)) {
            driver.steps(&events);
        }
    }
    driver.step(&Owned::Loss(LossMark {
        boottime_ns: sim.kernel.now_ns,
        place: "ring".to_owned(),
        count: 1,
        ..LossMark::default()
    }));
    // What one sweep finds and nobody knows, the next one confirms.
    sim.sweep();
    sim.sweep();
    driver.steps(&std::mem::take(&mut sim.events));
    assert_eq!(driver.engine.counters().drifts, 0, "lost is not drifted");
    // A compartment whose first exec may have been lost counts as a container; the oracle, which
    // lost nothing, knows whether there was one.
    let found = driver.engine.world().entities.values().map(|e| e.init.tid);
    prop_assume!(found.eq(sim.oracle.entities.values().map(|e| e.init.tid)));
    driver.agrees(&sim.kernel, &sim.oracle);
    sim.sweep();
    sim.sweep();
    driver.steps(&std::mem::take(&mut sim.events));
    driver.agrees(&sim.kernel, &sim.oracle);
    driver.is_consistent();
    assert_eq!(driver.engine.counters().drifts, 0, "lost is not drifted");
    Ok(())
}

/// How a stream is spoilt at one place.
#[derive(Clone, Debug)]
enum Spoil {
    Drop,
    Double,
    Swap,
    Byte(usize, u8),
    Cause(u32),
    Junk(u64),
}

fn spoil() -> impl Strategy<Value = Spoil> {
    prop_oneof![
        Just(Spoil::Drop),
        Just(Spoil::Double),
        Just(Spoil::Swap),
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Spoil::Byte(at, byte)),
        (0u32..14).prop_map(Spoil::Cause),
        any::<u64>().prop_map(Spoil::Junk),
    ]
}

fn bytes(event: &mut Owned) -> Option<&mut [u8]> {
    match event {
        Owned::Task(record) => Some(record.as_mut_bytes()),
        Owned::Exec(record) => Some(record.as_mut_bytes()),
        Owned::Exit(record) => Some(record.as_mut_bytes()),
        Owned::Cgroup(record) => Some(record.as_mut_bytes()),
        _ => None,
    }
}

fn spoilt(mut events: Vec<Owned>, spoils: &[(usize, Spoil)]) -> Vec<Owned> {
    for (at, spoil) in spoils {
        let at = at % events.len();
        match *spoil {
            Spoil::Drop => drop(events.remove(at)),
            Spoil::Double => events.insert(at, events[at].clone()),
            Spoil::Swap => {
                let other = (at * 7 + 3) % events.len();
                events.swap(at, other);
            }
            Spoil::Byte(place, byte) => {
                if let Some(bytes) = bytes(&mut events[at]) {
                    bytes[place % bytes.len()] = byte;
                }
            }
            Spoil::Cause(cause) => match &mut events[at] {
                Owned::Task(record) => record.cause = cause,
                Owned::Exec(record) => record.task.cause = cause,
                _ => {}
            },
            Spoil::Junk(mut seed) => {
                let words = bytes(&mut events[at])
                    .into_iter()
                    .flat_map(|b| b.chunks_mut(8));
                for word in words {
                    // SplitMix64: every bit pattern may come.
                    seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
                    let mut mixed = (seed ^ seed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
                    word.copy_from_slice(&(mixed ^ mixed >> 31).to_ne_bytes()[..word.len()]);
                }
            }
        }
        if events.is_empty() {
            break;
        }
    }
    events
}

/// Runs a stream to its end: the lines, and the digest.
fn lines(events: &[Owned]) -> (Vec<String>, String) {
    let mut driver = Driver::new();
    driver.steps(events);
    driver.is_consistent();
    driver.is_bounded(events.len());
    let digest = driver.engine.digest();
    driver
        .engine
        .stop(u64::MAX, "end_of_input", &mut driver.out);
    assert_eq!(told(&driver.out), counted(driver.engine.counters()));
    let line = |record: &Record| serde_json::to_string(record).unwrap();
    (driver.out.iter().map(line).collect(), digest)
}

proptest! {
    #![proptest_config(config(96))]

    /// Records of any bytes in any order do not end the engine, leave its accounts straight and its
    /// maps small, and give the same lines and the same digest every time.
    #[test]
    fn any_stream_is_survived_and_repeatable(
        steps in prop::collection::vec(step(), 1..30),
        spoils in prop::collection::vec((any::<usize>(), spoil()), 0..60),
    ) {
        let mut sim = Sim::new();
        steps.iter().for_each(|step| sim.apply(step));
        let events = spoilt(sim.events, &spoils);
        assert_eq!(lines(&events), lines(&events));
    }

    /// The work of runtimes, and programs that stay where they were put, violate nothing.
    #[test]
    fn runtimes_violate_nothing(steps in prop::collection::vec(work(), 1..60)) {
        let (mut sim, mut driver) = (Sim::new(), Driver::new());
        steps.iter().for_each(|step| sim.apply(step));
        driver.steps(&sim.events);
        let bad = |r: &&Record| matches!(r, Record::Violation(_) | Record::Drift(_));
        assert_eq!(driver.out.iter().find(bad), None);
        assert_eq!(driver.engine.counters().repaired, 0);
    }

    /// See [`recovers`].
    #[test]
    fn a_sweep_recovers_from_losses(
        before in prop::collection::vec(step(), 1..20),
        during in prop::collection::vec((readable(), any::<bool>()), 1..6),
    ) {
        recovers(&before, &during)?;
    }

    /// An agent that begins now knows whose everything is as well as one that was there before.
    #[test]
    fn a_late_start_finds_the_same_labels(
        steps in prop::collection::vec(
            prop_oneof![
                work().prop_map(Ok),
                (any::<usize>(), 0u8..9, any::<u8>()).prop_map(Err),
            ],
            1..40,
        ),
    ) {
        let (mut sim, mut driver) = (Sim::new(), Driver::new());
        for step in steps {
            match step {
                Ok(step) => sim.apply(&step),
                Err(step) => inside(&mut sim, step),
            }
        }
        // With the first process of a pid namespace the kernel also ends those in the namespaces below, this one not.
        let tasks = &sim.kernel.tasks;
        let has_parent = |t: &Task| tasks.get(&t.parent.tid).is_some_and(|p| p.key == t.parent);
        prop_assume!(tasks.values().skip(1).all(has_parent));
        // Nobody can tell any more who was first.
        let lives = |init: &TaskKey| tasks.get(&init.tid).is_some_and(|t| t.key == *init);
        prop_assume!(sim.oracle.entities.values().all(|e| lives(&e.init)));
        driver.steps(&std::mem::take(&mut sim.events));
        let mut late = Driver::new();
        late.names.clone_from(&driver.names);
        late.steps(&sim.first_sweep());
        assert_eq!(belongings(&late), belongings(&driver), "{:?}", sim.kernel.tasks);
        late.is_consistent();
    }

    /// When everybody has gone, so has everything but the machine's own.
    #[test]
    fn nothing_remains(steps in prop::collection::vec(step(), 1..40)) {
        let (mut sim, mut driver) = (Sim::new(), Driver::new());
        driver.steps(&std::mem::take(&mut sim.events));
        let held: Vec<_> = driver.engine.index().held(HOST).collect();
        let namespaces = driver.engine.world().ns.len();
        steps.iter().for_each(|step| sim.apply(step));
        while let Some(tid) = sim.kernel.tasks.keys().find(|t| **t != 1).copied() {
            sim.exit(tid);
        }
        sim.rmdir();
        driver.steps(&sim.events);
        let (world, index) = (driver.engine.world(), driver.engine.index());
        assert_eq!(world.tasks.len(), 1);
        assert_eq!(world.entities.len(), 1);
        assert_eq!(world.ns.len(), namespaces);
        assert_eq!(world.cgroups.len(), 1);
        assert_eq!(index.entities().count(), 1);
        assert_eq!(index.held(HOST).collect::<Vec<_>>(), held);
        assert!(driver.engine.asked.len() <= 1 && driver.engine.pending.is_empty());
    }

    /// Where nobody leaves what he was given, the state that suppositions are tried on is the state itself.
    #[test]
    fn supposing_nothing_changes_nothing(steps in prop::collection::vec(work(), 1..30)) {
        let (mut sim, mut driver) = (Sim::new(), Driver::new());
        steps.iter().for_each(|step| sim.apply(step));
        driver.steps(&std::mem::take(&mut sim.events));
        let now_ns = sim.kernel.now_ns;
        let report = suppose(&driver.engine, &[], now_ns).unwrap();
        prop_assert!(report.pairs.is_empty() && report.privileges.is_empty());
        prop_assert_eq!(report.before, once::report(&driver.engine, now_ns).summary);
    }

    /// Labels, living containers, verdicts and ι are those of the oracle after every step, whatever
    /// numbers are reused; and sweeps in between find nothing to repair.
    #[test]
    fn agrees_with_the_oracle(steps in prop::collection::vec(step(), 1..40)) {
        history(&steps);
    }
}

/// Goal: pivot_root moves whoever stands at the old root, also from another mount namespace. Method: one container's
/// task goes into another's root, which is then another.
#[test]
fn who_stands_elsewhere_moves_with_the_root() {
    for (root, entered) in [(true, false), (false, false), (true, true)] {
        let (mut sim, mut driver) = (Sim::new(), Driver::new());
        let [first, second] = [0, 0].map(|mask| sim.runc(1, mask));
        let (first, second) = (first.unwrap(), second.unwrap());
        sim.change_dir(second, first, root);
        // Also where who moves it came in from the host, and is not the container's.
        let who = match entered {
            true => sim.fork(1, 0, None).unwrap(),
            false => first,
        };
        if entered {
            sim.setns(who, first, 1);
        }
        sim.pivot(who);
        // A difference is told when a second sweep finds it too.
        sim.sweep();
        sim.kernel.now_ns += 1_000_000_000;
        sim.sweep();
        driver.steps(&std::mem::take(&mut sim.events));
        driver.agrees(&sim.kernel, &sim.oracle);
        let counters = driver.engine.counters();
        assert_eq!((counters.drifts, counters.repaired), (0, 0));
    }
}

/// Ten thousand containers, one after the other, and a few that stay: no map remembers them.
#[test]
fn churn_leaves_nothing() {
    let mut m = Machine::new("");
    m.runc(50, "/stays");
    let round = |m: &mut Machine, n: u64| {
        let id = 100 + n % 7;
        let path = format!("/c{n}");
        let init = m.runc(id, &path);
        m.unshare(init, NsKind::Net.clone_flag());
        m.exit(init);
        m.rmdir(id, &path);
        if n.is_multiple_of(100) {
            m.sweep();
        }
        m.tick(100_000_000);
        m.out.clear();
    };
    let sizes = |m: &Machine| {
        let (engine, world) = (&m.engine, m.engine.world());
        let [namespaces, sets] = world.ns.places();
        let [folds, buckets, pairs, chains] = engine.reporter.sizes();
        BTreeMap::from([
            ("tasks", world.tasks.len()),
            ("threads", world.threads.len()),
            ("entities", world.entities.len()),
            ("indexed", engine.index().entities().count()),
            ("namespaces", world.ns.len()),
            ("places", namespaces),
            ("sets", sets),
            ("cgroups", world.cgroups.len()),
            ("asked", engine.asked.len()),
            ("pending", engine.pending.len()),
            ("queries", engine.queries.len()),
            ("growing", engine.growing.len()),
            ("exits", engine.exits.len()),
            ("folds", folds),
            ("buckets", buckets),
            ("pairs", pairs),
            ("chains", chains),
        ])
    };
    // Folds live for a minute: the first rounds fill their windows.
    (0..2000).for_each(|n| round(&mut m, n));
    let before = sizes(&m);
    (2000..10_000).for_each(|n| round(&mut m, n));
    for (what, after) in sizes(&m) {
        let before = before[what];
        assert!(
            after <= before + before / 4,
            "{what}: {before}, then {after}"
        );
    }
    assert_eq!(m.engine.world().entities.len(), 2);
}
