//! Goal: a stream is short and tells all. Method: floods, repeats and changes of policy on the simulated
//! machine; the tests look at the size of lines, and add up what they say.

use super::machine::{CLONE_NEW_ALL, Machine, host_state};
use crate::engine::Event;
use crate::inventory::container::{ContainerAnswer, Runtime};
use crate::model::NsKind;
use crate::model::hook_set::HookSet;
use crate::model::output::{Counters, Finding, MEDIAN_BYTES, Record};
use crate::model::policy::Policy;
use crate::model::{Confidence, Dimension, RuleId, Severity, Verdict};
use auditor_common::record::{PathRef, cause};

/// Lines of findings, and what they suppress.
pub(super) fn told(out: &[Record]) -> (u64, u64) {
    out.iter()
        .fold((0, 0), |(lines, suppressed), record| match record {
            Record::Violation(f) | Record::Audit(f) | Record::Drift(f) => {
                (lines + 1, suppressed + f.suppressed)
            }
            _ => (lines, suppressed),
        })
}

/// The same from the counters.
pub(super) const fn counted(counters: Counters) -> (u64, u64) {
    let lines = counters.violations + counters.audits + counters.drifts;
    (lines, counters.suppressed)
}

fn stop(m: &mut Machine) {
    m.engine.stop(m.now_ns, "end_of_input", &mut m.out);
}

/// A new namespace each time: repeats, which are folded.
fn nest(m: &mut Machine, tid: u32, times: u64) {
    for _ in 0..times {
        m.unshare(tid, NsKind::Uts.clone_flag());
    }
}

/// A walk through directories of the host, each another one: nothing to fold.
fn walk(m: &mut Machine, tid: u32, times: u64) {
    for _ in 0..times {
        let cwd = PathRef {
            ino: m.now_ns,
            ..host_state(1).cwd
        };
        m.tasks.get_mut(&tid).unwrap().cwd = cwd;
        m.emit(tid, tid, cause::CHDIR, 0);
    }
}

/// Goal: a line is short. Method: what containers with 64-digit ids do to each other, to the host and to
/// themselves, by tasks with names of full length and many parents.
#[test]
fn lines_fit_their_budget() {
    let mut m = Machine::new("");
    m.engine.config.node = "worker-17".to_owned();
    m.engine.config.boot_id = "5f3a1c52-77be-4c0e-9d34-0a9f3b6f2c11".to_owned();
    m.engine.config.syscalls = |_| Some("clone3");
    m.tasks.get_mut(&1).unwrap().comm[..15].copy_from_slice(b"containerd-shim");
    let mut inits = Vec::new();
    for (cgroup, name) in [(50, Some("web-frontend-1")), (51, None)] {
        let id = format!("{cgroup:x}").repeat(32);
        let path = format!("/system.slice/docker-{id}.scope");
        let mut answer = ContainerAnswer::bare(path.clone(), Runtime::Docker, id);
        answer.name = name.map(str::to_owned);
        m.specs.insert(path.clone(), answer);
        inits.push(m.runc(cgroup, &path));
    }
    for (init, other) in [(inits[0], inits[1]), (inits[1], inits[0])] {
        let mut tid = init;
        for _ in 0..6 {
            tid = m.fork(tid, 0);
            m.exec(tid, "/usr/local/bin/docker-entrypoint.sh");
        }
        m.setns(tid, 1, &[NsKind::Net, NsKind::Uts, NsKind::Mnt]);
        let child = m.fork(init, 0);
        let all = CLONE_NEW_ALL | NsKind::User.clone_flag() | NsKind::Cgroup.clone_flag();
        m.unshare(child, all);
        let child = m.fork(init, 0);
        m.setns(child, other, &[NsKind::Ipc]);
        m.tasks.get_mut(&child).unwrap().cwd = host_state(1).cwd;
        m.emit(child, child, cause::CHDIR, 0);
        m.attach(child, child, 1);
    }
    let found = m.violations();
    assert!(found.iter().any(|f| f.subject.name.is_none()));
    let nameless = |f: &Finding| f.message.starts_with("container 333333333333 joined ");
    assert!(found.iter().any(nameless), "{found:?}");
    let mut sizes: Vec<usize> = found
        .into_iter()
        .map(|f| serde_json::to_string(&Record::Violation(Box::new(f))))
        .map(|line| line.unwrap().len())
        .collect();
    sizes.sort_unstable();
    assert!(sizes.len() >= 20, "{sizes:?}");
    assert!(sizes[sizes.len() / 2] <= MEDIAN_BYTES, "{sizes:?}");
    assert!(sizes.last().is_some_and(|&s| s <= 1100), "{sizes:?}");
}

/// Goal: nothing of a flood is only in the counters. Method: more than the rate allows, then silence.
#[test]
fn the_rest_of_a_flood_is_told() {
    let mut m = Machine::new("");
    let a = m.runc(50, "/a");
    walk(&mut m, a, 200);
    assert_eq!(m.violations().len(), 64, "the burst");
    m.tick(100_000_000);
    assert!(m.out.is_empty(), "the rate allows no line yet");
    m.tick(150_000_000);
    let found = m.violations();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].suppressed, 135, "with its own line, 136 of 200");
    m.tick(60_000_000_000);
    assert!(m.out.is_empty(), "nothing is told twice");
    assert_eq!(counted(m.engine.counters()), (65, 135));
}

/// Goal: a flood whose container is gone is still told, with its name. Method: the container ends with the
/// flood.
#[test]
fn a_flood_outlives_its_container() {
    let mut m = Machine::new("");
    m.name("/a", "a");
    let a = m.runc(50, "/a");
    walk(&mut m, a, 100);
    m.exit(a);
    m.violations();
    m.tick(250_000_000);
    let found = m.violations();
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].suppressed, found[0].subject.id.as_str()),
        (35, "runc:a")
    );
}

/// Goal: a line that comes anyway takes the count with it, and one that waits is not lost at the end.
/// Method: a flood, a moment, one more; a flood, and the end.
#[test]
fn the_next_line_takes_the_count() {
    let mut m = Machine::new("");
    let a = m.runc(50, "/a");
    walk(&mut m, a, 70);
    m.violations();
    m.now_ns += 250_000_000;
    walk(&mut m, a, 1);
    let found = m.violations();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].suppressed, 6);
    walk(&mut m, a, 10);
    assert!(m.violations().is_empty());
    stop(&mut m);
    assert_eq!(told(&m.out), (1, 9));
}

/// Goal: each finding is counted once: as a line, or as suppressed. Method: repeats that are folded over
/// several windows and floods, in turns; the lines, and the counters, add up to what was done.
#[test]
fn counters_are_what_the_lines_say() {
    let mut m = Machine::new("");
    let a = m.runc(50, "/a");
    let mut all = Vec::new();
    let mut done = 0;
    for round in 0..5 {
        walk(&mut m, a, 50 * round);
        nest(&mut m, a, round + 1);
        done += 50 * round + round + 1;
        all.append(&mut m.out);
        let (lines, suppressed) = counted(m.engine.counters());
        assert!(
            lines + suppressed <= done,
            "{lines} and {suppressed} of {done}"
        );
        m.tick(7_000_000_000 * round);
    }
    m.tick(61_000_000_000);
    nest(&mut m, a, 2);
    stop(&mut m);
    all.append(&mut m.out);
    assert_eq!(told(&all), counted(m.engine.counters()));
    let (lines, suppressed) = told(&all);
    assert_eq!(lines + suppressed, done + 2);
    assert!(lines > 64 && suppressed > 64, "{lines} lines");
}

/// Goal: who reads the stream knows by which policy. Method: a policy before the start, another one, the
/// same again, and what they do to the lines.
#[test]
fn policies_are_told() {
    let text = "[[allow]]\nrule = \"namespace-nest\"\nsubject = \"*\"\nreason = \"builds\"\n";
    let allowing = Policy::parse(text, "test").unwrap();
    let mut m = Machine::new("");
    let a = m.runc(50, "/a");
    let mut again = m.restarted();
    again.step(Event::Policy(&allowing));
    again.cgroup(50, "/a");
    again.sweep();
    let Some(Record::Start(start)) = again.out.first() else {
        panic!("{:?}", again.out);
    };
    assert_eq!(start.policy_digest, allowing.digest());
    assert!(!again.out.iter().any(|r| matches!(r, Record::Policy(_))));

    m.step(Event::Policy(&allowing));
    m.step(Event::Policy(&allowing));
    nest(&mut m, a, 1);
    let out = std::mem::take(&mut m.out);
    let [Record::Policy(change)] = out.as_slice() else {
        panic!("{out:?}");
    };
    assert_eq!(change.policy_digest, allowing.digest());
    assert_eq!(change.previous_digest, Policy::default().digest());
    m.step(Event::Policy(&Policy::default()));
    nest(&mut m, a, 1);
    let kinds = m.take(|r| match r {
        Record::Policy(_) => Some("policy"),
        Record::Violation(_) => Some("violation"),
        _ => None,
    });
    assert_eq!(kinds, ["policy", "violation"]);
}

/// Two containers, and a task of the first one that is in the cgroup with this id without an event that
/// told so.
fn displaced(to: u64) -> (Machine, u32) {
    let mut m = Machine::new("");
    m.name("/a", "a");
    m.name("/b", "b");
    let a = m.runc(50, "/a");
    m.runc(51, "/b");
    let child = m.fork(a, 0);
    m.tasks.get_mut(&child).unwrap().cgroups[0] = to;
    m.out.clear();
    (m, child)
}

fn found_at_start(m: &Machine) -> Vec<Finding> {
    let mut again = m.restarted();
    for (id, path) in [(1, "/"), (50, "/a"), (51, "/b"), (60, "/a/inner")] {
        again.cgroup(id, path);
    }
    again.sweep();
    again.violations()
}

/// Goal: a foreign cgroup that was there first is told. Method: an engine that starts after the move; the
/// silent neighbour is a cgroup below the container's own.
#[test]
fn a_standing_foreign_cgroup_is_told() {
    for (to, object, severity) in [
        (51, "runc:b", Severity::Critical),
        (1, "host", Severity::High),
    ] {
        let (m, child) = displaced(to);
        let found = found_at_start(&m);
        assert_eq!(found.len(), 1, "{found:?}");
        let f = &found[0];
        assert_eq!(
            (f.rule, f.dimension),
            (RuleId::CgroupMigration, Dimension::Cgroup)
        );
        assert_eq!(
            (f.subject.id.as_str(), f.object.id.as_str()),
            ("runc:a", object)
        );
        assert_eq!((f.severity, f.confidence), (severity, Confidence::Inferred));
        assert_eq!(f.verdict, Some(Verdict::Violated));
        assert_eq!(f.subject.task.as_ref().map(|t| t.pid), Some(child));
        let cgroup =
            |evidence: &Option<_>| serde_json::to_value(evidence).unwrap()["cgroup"].clone();
        assert_eq!(cgroup(&f.expected)["path"], "/a");
        assert_eq!(cgroup(&f.observed)["id"], to);
    }
    let (m, _) = displaced(60);
    assert_eq!(found_at_start(&m), []);
}

/// Goal: a move that no event told is told by sweeps, once, with the container that it led into; where the
/// hook works that should have seen it, a drift beside it says so. Method: a move without a record, and three
/// sweeps.
#[test]
fn a_sweep_finds_a_move() {
    for hooks in [true, false] {
        let (mut m, child) = displaced(50);
        if !hooks {
            m.engine.config.working = HookSet::default();
        }
        m.sweep();
        m.tasks.get_mut(&child).unwrap().cgroups[0] = 51;
        m.sweep();
        m.sweep();
        m.sweep();
        let found = m.take(|r| match r {
            Record::Violation(f) | Record::Drift(f) => Some(*f),
            _ => None,
        });
        let rules: Vec<RuleId> = found.iter().map(|f| f.rule).collect();
        let expected: &[RuleId] = if hooks {
            &[RuleId::Drift, RuleId::CgroupMigration]
        } else {
            &[RuleId::CgroupMigration]
        };
        assert_eq!(rules, expected);
        for f in found {
            assert_eq!(
                (f.subject.id.as_str(), f.object.id.as_str()),
                ("runc:a", "runc:b")
            );
            assert_eq!(f.subject.task.map(|t| t.pid), Some(child));
        }
    }
}

/// What is resolved and comes again is a line again, at once; what comes and goes all the time stands for a window.
#[test]
fn what_comes_again_is_told_again() {
    let mut m = Machine::new("");
    m.name("/a", "a");
    let a = m.runc(50, "/a");
    let child = m.fork(a, 0);
    let told = |m: &mut Machine| {
        m.take(|record| match record {
            Record::Violation(f) => Some(("violation", f.suppressed)),
            Record::Resolved(_) => Some(("resolved", 0)),
            _ => None,
        })
    };
    told(&mut m);
    let (violation, resolved) = (("violation", 0), ("resolved", 0));
    for _ in 0..3 {
        m.setns(child, 1, &[NsKind::Net]);
        assert_eq!(told(&mut m), [violation]);
        m.setns(child, a, &[NsKind::Net]);
        assert_eq!(told(&mut m), [resolved]);
    }
    m.setns(child, 1, &[NsKind::Net]);
    assert_eq!(told(&mut m), [violation]);
    for _ in 0..5 {
        m.setns(child, a, &[NsKind::Net]);
        m.setns(child, 1, &[NsKind::Net]);
    }
    m.setns(child, a, &[NsKind::Net]);
    assert_eq!(told(&mut m), [], "it is said to stand");
    m.tick(61_000_000_000);
    assert_eq!(told(&mut m), [("violation", 4), resolved]);
}
