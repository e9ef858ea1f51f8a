//! Goal: what two entities hold at once degrades the pair, what they were given at their start does not, and nothing
//! stays when it is no longer found. Method: sweeps on the simulated machine tell of handles by made-up records.

use super::machine::Machine;
use crate::engine::Event;
use crate::model::facts::{EntityId, HOST};
use crate::model::output::{Evidence, Finding, Record};
use crate::model::{Confidence, Dimension, RuleId, Severity, Verdict};
use auditor_common::hook;
use auditor_common::record::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use zerocopy::FromZeros;

/// What a task holds: its id, the handle's inode number, the descriptor.
type Held = (u32, u64, u32);

impl Machine {
    fn handle(&mut self, act: u32) -> ActRecord {
        let mut record = ActRecord::new_zeroed();
        record.header = RecordHeader {
            hook: hook::ITER_HANDLE,
            ..self.header(kind::ACT)
        };
        record.act = act;
        record.syscall = -1;
        record
    }

    /// A sweep that finds these pipes.
    fn sweep_handles(&mut self, held: &[Held]) {
        self.sweep_handles_until(held, true);
    }

    fn sweep_handles_until(&mut self, held: &[Held], complete: bool) {
        self.now_ns += 1000;
        let boottime_ns = self.now_ns;
        self.step(Event::SweepBegin { boottime_ns });
        let tids: Vec<u32> = self.tasks.keys().copied().collect();
        for tid in tids {
            self.emit(tid, tid, cause::SNAPSHOT, 0);
        }
        let mut looked = self.handle(act::HANDLES);
        looked.arg0 = 7;
        self.step(Event::Act(&looked));
        for &(tid, ino, descriptor) in held {
            let mut record = self.handle(act::SHARE);
            record.actor = self.tasks[&tid].key;
            record.target.tid = descriptor;
            record.object.ino = ino;
            record.object.dev = 12;
            record.arg0 = handle::PIPE;
            self.step(Event::Act(&record));
        }
        self.now_ns += 1000;
        let boottime_ns = self.now_ns;
        self.step(Event::SweepEnd {
            boottime_ns,
            complete,
        });
    }

    fn of(&self, tid: u32) -> EntityId {
        self.engine.world().label(&self.tasks[&tid].key)
    }

    fn handles_between(&self, a: EntityId, b: EntityId) -> Verdict {
        let pair = self.engine.index().pair(a, b);
        pair.dimension(Dimension::Handles).unwrap().verdict
    }

    fn told_handles(&mut self) -> Vec<Finding> {
        self.take(|record| match record {
            Record::Audit(finding) if finding.rule == RuleId::SharedHandle => Some(*finding),
            _ => None,
        })
    }
}

/// A machine with two containers: their first tasks.
fn two(policy: &str) -> (Machine, u32, u32) {
    let mut m = Machine::new(policy);
    m.name("/a", "a");
    m.name("/b", "b");
    let (a, b) = (m.runc(50, "/a"), m.runc(51, "/b"));
    (m, a, b)
}

/// One pipe in two containers: told once with both holders, advisory, and gone when it is not found again.
#[test]
fn a_pipe_of_two_containers_degrades_them() {
    let (mut m, a, b) = two("");
    let (of_a, of_b) = (m.of(a), m.of(b));
    assert_eq!(m.handles_between(of_a, of_b), Verdict::NotEvaluated);
    for _ in 0..3 {
        m.sweep_handles(&[(a, 77, 5), (b, 77, 6)]);
    }
    let [told] = &m.told_handles()[..] else {
        panic!("one line");
    };
    assert_eq!(told.dimension, Dimension::Handles);
    assert_eq!(told.severity, Severity::Medium);
    assert_eq!(told.confidence, Confidence::Sampled);
    assert_eq!(told.message, "container a and container b hold one pipe");
    let Some(Evidence::Handle {
        kind, ino, holders, ..
    }) = &told.observed
    else {
        panic!("{told:?}");
    };
    assert_eq!((kind.as_str(), *ino), ("pipe", 77));
    let named = holders.iter().map(|h| (h.pid, h.descriptor));
    assert_eq!(named.collect::<Vec<_>>(), [(a, Some(5)), (b, Some(6))]);
    assert_eq!(m.handles_between(of_a, of_b), Verdict::Degraded);
    assert_eq!(m.engine.index().pair(of_a, of_b).iota, Some(true));
    m.sweep_handles(&[]);
    assert_eq!(m.handles_between(of_a, of_b), Verdict::Isolated);
    assert_eq!(m.engine.handle_sizes(), [0; 3]);
    assert!(m.told_handles().is_empty());
}

/// Who connects ever anew is told once; once it held nothing, and a minute later, again.
#[test]
fn ever_new_handles_are_told_once() {
    let (mut m, a, b) = two("");
    for ino in 0..5 {
        m.sweep_handles(&[(a, ino, 5), (b, ino, 6)]);
    }
    assert_eq!(m.told_handles().len(), 1);
    m.sweep_handles(&[]);
    m.tick(61_000_000_000);
    m.sweep_handles(&[(a, 9, 5), (b, 9, 6)]);
    assert_eq!(m.told_handles().len(), 1);
}

/// What is shared within one container, or among tasks of the host, is nothing.
#[test]
fn within_one_entity_nothing_is_shared() {
    let (mut m, a, b) = two("");
    let child = m.fork(a, 0);
    let other = m.fork(1, 0);
    m.sweep_handles(&[
        (a, 1, 3),
        (child, 1, 3),
        (1, 2, 0),
        (other, 2, 4),
        (b, 3, 3),
    ]);
    assert_eq!(m.engine.handle_sizes(), [0; 3]);
    assert!(m.told_handles().is_empty());
}

/// Standard streams were given by who started both. What one has of the other's streams under another number, or gives a
/// child of its own as a stream, was not.
#[test]
fn standard_streams_are_given() {
    let (mut m, a, b) = two("");
    let (of_a, of_b) = (m.of(a), m.of(b));
    m.sweep_handles(&[(1, 9, 40), (a, 9, 1), (a, 9, 10), (b, 9, 2)]);
    for (x, y) in [(of_a, of_b), (HOST, of_a), (HOST, of_b)] {
        assert_eq!(m.handles_between(x, y), Verdict::BaselineShared);
    }
    assert!(m.told_handles().is_empty());
    m.sweep_handles(&[(1, 9, 40), (a, 9, 1), (b, 9, 7)]);
    assert_eq!(m.handles_between(of_a, of_b), Verdict::Degraded);
    assert_eq!(m.handles_between(HOST, of_a), Verdict::BaselineShared);
    assert_eq!(m.handles_between(HOST, of_b), Verdict::Degraded);
    assert_eq!(m.told_handles().len(), 1);
    let child = m.fork(b, 0);
    m.sweep_handles(&[(a, 9, 1), (child, 9, 0)]);
    assert_eq!(m.handles_between(of_a, of_b), Verdict::Degraded);
}

/// With the host it is in the matrix, at a low severity, and no line.
#[test]
fn with_the_host_it_is_in_the_matrix_alone() {
    let (mut m, a, _) = two("");
    let of_a = m.of(a);
    m.sweep_handles(&[(1, 9, 40), (a, 9, 12)]);
    let pair = m.engine.index().pair(HOST, of_a);
    let handles = pair.dimension(Dimension::Handles).unwrap();
    assert_eq!(handles.verdict, Verdict::Degraded);
    assert_eq!(handles.severity, Severity::Low);
    assert!(m.told_handles().is_empty());
}

/// A declared share is no finding.
#[test]
fn a_policy_declares_it() {
    let (mut m, a, b) = two(
        "[[share]]\nbetween = [\"runc:a\", \"runc:b\"]\ndimensions = [\"handles\"]\nreason = \"one queue\"\n",
    );
    m.sweep_handles(&[(a, 77, 5), (b, 77, 6)]);
    let (of_a, of_b) = (m.of(a), m.of(b));
    assert_eq!(m.handles_between(of_a, of_b), Verdict::DeclaredShared);
    assert!(m.told_handles().is_empty());
}

/// A sweep that did not see all, and one that looked at no handles, leave what is known.
#[test]
fn what_was_not_looked_at_stays() {
    let (mut m, a, b) = two("");
    let (of_a, of_b) = (m.of(a), m.of(b));
    m.sweep_handles(&[(a, 77, 5), (b, 77, 6)]);
    m.sweep_handles_until(&[], false);
    m.sweep();
    assert_eq!(m.handles_between(of_a, of_b), Verdict::Degraded);
}

/// The end of a container takes its handles along.
#[test]
fn an_end_lets_go() {
    let (mut m, a, b) = two("");
    m.sweep_handles(&[(1, 9, 4), (a, 77, 5), (b, 77, 6), (b, 9, 4)]);
    assert_eq!(m.engine.handle_sizes(), [2, 2, 1]);
    m.exit(b);
    assert_eq!(m.engine.handle_sizes(), [0; 3]);
    assert_eq!(m.engine.index().ignored(), 0);
    m.sweep_handles(&[(a, 77, 5)]);
    assert_eq!(m.engine.handle_sizes(), [0; 3]);
}

/// What the last sweep found, judged by brute force.
fn expected(last: &[Held], of: &BTreeMap<u32, EntityId>, x: EntityId, y: EntityId) -> Verdict {
    let holds = |who: EntityId, ino: u64| {
        let his: Vec<u32> = last
            .iter()
            .filter(|(tid, i, _)| of.get(tid) == Some(&who) && *i == ino)
            .map(|(.., descriptor)| *descriptor)
            .collect();
        let given = who == HOST || his.iter().any(|d| *d <= 2);
        (!his.is_empty()).then_some(given)
    };
    let objects: BTreeSet<u64> = last.iter().map(|(_, ino, _)| *ino).collect();
    let judge = |ino: u64| match (holds(x, ino)?, holds(y, ino)?) {
        (true, true) => Some(Verdict::BaselineShared),
        _ => Some(Verdict::Degraded),
    };
    let verdicts = objects.into_iter().filter_map(judge);
    verdicts.max().unwrap_or(Verdict::Isolated)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Goal: whatever sweeps find, pairs are what the last one says, nothing is let go that was not held, and nothing
    /// is kept. Method: random sweeps over the host and four containers, one of which ends.
    #[test]
    fn the_last_sweep_decides(
        sweeps in prop::collection::vec(
            prop::collection::vec((0usize..5, 0u64..4, 0u32..6), 0..12),
            1..6,
        ),
        ends in 0usize..6,
    ) {
        let mut m = Machine::new("");
        let mut tids = vec![1];
        for (id, path) in [(50, "/a"), (51, "/b"), (52, "/c"), (53, "/d")] {
            tids.push(m.runc(id, path));
        }
        let mut of: BTreeMap<u32, EntityId> = tids.iter().map(|tid| (*tid, m.of(*tid))).collect();
        for (round, sweep) in sweeps.iter().enumerate() {
            if round == ends {
                m.exit(tids[4]);
                of.remove(&tids[4]);
            }
            let alive = |who: &usize| of.contains_key(&tids[*who]);
            let held: Vec<Held> = sweep
                .iter()
                .filter(|(who, ..)| alive(who))
                .map(|(who, ino, descriptor)| (tids[*who], *ino, *descriptor))
                .collect();
            m.sweep_handles(&held);
            let entities: Vec<EntityId> = of.values().copied().collect();
            for x in &entities {
                for y in entities.iter().filter(|y| *y > x) {
                    let wanted = expected(&held, &of, *x, *y);
                    prop_assert_eq!(m.handles_between(*x, *y), wanted, "{:?} {:?}", x, y);
                }
            }
            prop_assert_eq!(m.engine.index().ignored(), 0);
        }
        m.sweep_handles(&[]);
        prop_assert_eq!(m.engine.handle_sizes(), [0; 3]);
    }
}
