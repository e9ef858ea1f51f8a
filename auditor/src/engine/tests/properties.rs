//! Goal: over any history the engine says what isolation.md says, and no stream can hurt it.
//! Method: random histories of a simulated kernel through `Engine::step`, compared step by step with
//! an oracle over true objects; and streams that no kernel would write.
//!
//! `PROPTEST_CASES` sets the number of cases.

use super::kernel::Kernel;
use super::oracle::Oracle;
use super::sim::{Owned, Sim, Step};
use crate::engine::{Config, Engine, Event};
use crate::inventory::container::{ContainerAnswer, Runtime};
use crate::model::facts::{EntityId, HOST};
use crate::model::output::Record;
use crate::model::policy::{Policy, REQUIRED};
use auditor_common::limits::CGROUP_SLOTS;
use auditor_common::record::cgroup;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

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
        let inits = |keys: Vec<u32>| keys;
        assert_eq!(
            inits(engine.iter().skip(1).map(|(_, e)| e.init.tid).collect()),
            inits(
                oracle
                    .entities
                    .values()
                    .skip(1)
                    .map(|e| e.init.tid)
                    .collect()
            ),
            "inits of the living containers"
        );
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
        let mut algebra = oracle.algebra(kernel);
        algebra.unknown.clear();
        for (a, x) in &ids {
            for (b, y) in ids.iter().filter(|(b, _)| a < *b) {
                let pair = self.engine.index().pair(*x, *y);
                let (a, b) = (EntityId(*a), EntityId(*b));
                for d in REQUIRED {
                    let verdict = pair.dimension(d).unwrap().verdict;
                    assert_eq!(verdict, algebra.verdict(a, b, d), "{a:?} {b:?} {d}");
                }
                assert_eq!(pair.iota, algebra.iota(a, b), "iota of {a:?} {b:?}");
            }
        }
        assert_eq!(self.engine.index().ignored(), 0, "holds and releases match");
    }

    /// Counters of references are what a count of the holders gives.
    fn is_consistent(&self) {
        let world = self.engine.world();
        let labelled = |id| world.tasks.values().filter(|t| t.label == id).count();
        for (&id, entity) in &world.entities {
            if id != HOST {
                assert_eq!(entity.tasks as usize, labelled(id), "tasks of {id:?}");
                let in_sets: u32 = entity.sets.values().map(|h| h.tasks).sum();
                assert_eq!(in_sets, entity.tasks, "sets of {id:?}");
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

proptest! {
    #![proptest_config(config(96))]

    /// Labels, living containers, verdicts and ι are those of the oracle after every step, whatever
    /// numbers are reused; and sweeps in between find nothing to repair.
    #[test]
    fn agrees_with_the_oracle(steps in prop::collection::vec(step(), 1..40)) {
        history(&steps);
    }
}
