//! Goal: the right findings, and silence about what runtimes do. Method: fixtures that follow the tools'
//! published schemas, with a story each.

use super::*;
use crate::model::output::Evidence;
use crate::model::{Severity, Verdict};

const WEB: &str = "containerd:4be1a9d0c7f25e8b3a6d901f4c7be25d8a03f6c1e94b7d2058fa6c3e1b90d7a4";
const DB: &str = "containerd:c07d4e1fb5a2983c6d0e7f41a8b35c92e6d1f07b4a8c3e59d2f60b17c4a9e835";
/// The same where the log does not tell the runtime, or not all of the id.
const NAMELESS: &str = "unknown:4be1a9d0c7f25e8b3a6d901f4c7be25d8a03f6c1e94b7d2058fa6c3e1b90d7a4";
const SHORT: &str = "unknown:4be1a9d0c7f2";

/// Every finding says that it is inferred and whose log it is from.
fn all_inferred(story: &Story, tool: Tool) {
    for finding in story.violations().into_iter().chain(story.audits()) {
        assert_eq!(finding.confidence, Confidence::Inferred, "{finding:?}");
        assert_eq!(finding.witness.hook, tool.as_str());
    }
}

/// A container joined the machine's mount namespace.
fn joined_host(finding: &Finding, subject: &str) {
    assert_eq!(finding.subject.id, subject);
    assert_eq!(
        facts(&[finding]),
        [(RuleId::NamespaceJoin, "host", Dimension::Mnt)]
    );
    assert_eq!(finding.severity, Severity::Critical);
    assert_eq!(finding.verdict, Some(Verdict::Violated));
    assert_eq!(finding.iota.unwrap().after, Some(0));
    assert!(matches!(
        finding.observed,
        Some(Evidence::Ns { initial: true, .. })
    ));
}

/// Goal: a start and an exec by a runtime are silent but for the entry. Method: containerd and runc as
/// Tetragon sees them.
#[test]
fn tetragon_start_is_silent() {
    let story = Story::of(Tool::Tetragon, fixture!("tetragon-start"));
    assert!(story.violations().is_empty());
    assert_eq!(story.containers(), [WEB]);
    let audits = story.audits();
    assert_eq!(audits.len(), 1, "one entry");
    assert_eq!(audits[0].rule, RuleId::ContainerEnter);
    assert_eq!(audits[0].object.id, WEB);
    assert_eq!(
        audits[0].object.pod.as_deref(),
        Some("shop/web-6d4cf56db6-x2k9p")
    );
    all_inferred(&story, Tool::Tetragon);
    assert_eq!(story.summary.malformed, 0);
    assert_eq!(story.summary.mapped, story.summary.lines);
    assert!(story.summary.unknown_fields.named.is_empty());
    let first = fixture!("tetragon-start").lines().next().unwrap();
    assert_eq!(Tool::Tetragon.node(first.as_bytes()), story.summary.node);
    assert_eq!(story.summary.node.as_deref(), Some("worker-3"));
}

/// Goal: joins, a nest, gains and a move, each against the right one. Method: nsenter, unshare, sudo and a
/// shell that moves itself, in the middle of a container's life.
#[test]
fn tetragon_escapes_are_found() {
    let story = Story::of(Tool::Tetragon, fixture!("tetragon-escape"));
    let found = story.violations();
    assert_eq!(
        facts(&found),
        [
            (RuleId::NamespaceJoin, "host", Dimension::Mnt),
            (RuleId::NamespaceJoin, DB, Dimension::Net),
            (RuleId::NamespaceNest, "host", Dimension::Uts),
            (RuleId::CgroupMigration, "host", Dimension::Cgroup),
        ]
    );
    assert!(found.iter().all(|f| f.subject.id == WEB));
    joined_host(found[0], WEB);
    let task = found[0].subject.task.as_ref().unwrap();
    assert_eq!(
        (task.pid, task.exe.as_deref()),
        (5010, Some("/usr/bin/nsenter"))
    );
    assert_eq!(
        found[0].observed,
        Some(Evidence::Ns {
            kind: crate::model::NsKind::Mnt,
            inum: 4_026_531_841,
            initial: true
        })
    );
    assert_eq!(
        facts(&story.audits()),
        [(RuleId::PrivilegeGain, "host", Dimension::Privilege); 2]
    );
    all_inferred(&story, Tool::Tetragon);
    let unknown = &story.summary.unknown_events.named;
    assert_eq!(unknown["process_kprobe: __x64_sys_setns"], 1, "a request");
    assert!(!story.not_judged().contains(&Dimension::Cgroup));
    assert!(story.not_judged().contains(&Dimension::Root));
}

/// Goal: nothing in a log is fatal, all of it is counted. Method: each kind of line that is not understood.
#[test]
fn tetragon_oddities_are_counted() {
    let story = Story::of(Tool::Tetragon, fixture!("tetragon-odd"));
    let summary = &story.summary;
    assert_eq!(
        (summary.lines, summary.mapped, summary.malformed),
        (10, 3, 5)
    );
    let lines: Vec<u64> = summary.problems.iter().map(|p| p.line).collect();
    assert_eq!(lines, [3, 4, 5, 6, 11], "empty lines count in numbers");
    assert_eq!(summary.problems[2].reason, "no JSON object");
    let names = |tally: &crate::import::Tally| tally.named.keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        names(&summary.unknown_fields),
        ["process.binary_hash", "process.ns.syslog", "trace_id"]
    );
    assert_eq!(names(&summary.unknown_events), ["process_throttle"]);
    assert_eq!(names(&summary.other_nodes), ["worker-4"]);
    assert_eq!((summary.lost, story.losses()), (17, 17));
    assert!(!summary.is_unreadable());
    assert!(story.violations().is_empty());
}

/// Goal: what runc really does is silent but for the entry. Method: each fork, switch, attach and exec of a
/// start and of an exec, as Tracee sees them.
#[test]
fn tracee_start_is_silent() {
    let story = Story::of(Tool::Tracee, fixture!("tracee-start"));
    assert!(story.violations().is_empty());
    assert_eq!(story.containers(), [WEB]);
    assert_eq!(
        facts(&story.audits()),
        [(RuleId::ContainerEnter, WEB, Dimension::Mnt)]
    );
    assert!(story.summary.unknown_fields.named.is_empty());
    let home = &story.engine.world().entities.values().nth(1).unwrap().home;
    assert!(home.ends_with(".scope"), "the log shows its cgroup: {home}");
}

/// Goal: joins, a nest, a gain and a move. Method: a container that is first seen in the middle of its life.
#[test]
fn tracee_escapes_are_found() {
    let story = Story::of(Tool::Tracee, fixture!("tracee-escape"));
    let found = story.violations();
    assert_eq!(
        facts(&found),
        [
            (RuleId::NamespaceJoin, "host", Dimension::Mnt),
            (RuleId::NamespaceJoin, "host", Dimension::Net),
            (RuleId::NamespaceNest, "host", Dimension::Uts),
            (RuleId::CgroupMigration, "host", Dimension::Cgroup),
        ]
    );
    joined_host(found[0], NAMELESS);
    assert_eq!(
        facts(&story.audits()),
        [(RuleId::PrivilegeGain, "host", Dimension::Privilege)]
    );
    all_inferred(&story, Tool::Tracee);
    assert!(story.not_judged().contains(&Dimension::User));
    assert!(!story.not_judged().contains(&Dimension::Net));
}

/// Goal: the newer form, which has no namespaces in its contexts, is judged by its switches. Method: a start
/// from its first fork, then a join.
#[test]
fn modern_tracee_is_read() {
    let story = Story::of(Tool::Tracee, fixture!("tracee-modern"));
    let found = story.violations();
    assert_eq!(found.len(), 1);
    joined_host(found[0], NAMELESS);
    assert_eq!(story.summary.mapped, story.summary.lines);
    assert!(story.not_judged().contains(&Dimension::Privilege));
}

/// Goal: as for Tetragon.
#[test]
fn tracee_oddities_are_counted() {
    let story = Story::of(Tool::Tracee, fixture!("tracee-odd"));
    let summary = &story.summary;
    assert_eq!(
        (summary.lines, summary.mapped, summary.malformed),
        (7, 3, 4)
    );
    assert_eq!(summary.unknown_fields.named["lsmLabel"], 1);
    assert_eq!(summary.unknown_events.named["security_bpf_prog"], 1);
    assert!(
        story.not_judged().contains(&Dimension::Net),
        "no switch seen"
    );
}

/// Goal: an alert about a namespace is not a join. Method: alerts that say so, without what would prove it.
#[test]
fn falco_alerts_are_not_verdicts() {
    let story = Story::of(Tool::Falco, fixture!("falco-quiet"));
    assert!(story.violations().is_empty() && story.audits().is_empty());
    assert_eq!(story.containers(), [SHORT]);
    assert_eq!(story.summary.unknown_events.total(), 5);
    let all = story.not_judged();
    assert!(all.contains(&Dimension::Mnt) && all.contains(&Dimension::Net));
}

/// Goal: what the fields do prove is found. Method: a process that sees the machine's processes joins the
/// mounts of the machine's first one; capabilities among the fields.
#[test]
fn falco_evidence_is_used() {
    let story = Story::of(Tool::Falco, fixture!("falco-escape"));
    let found = story.violations();
    assert_eq!(found.len(), 1);
    joined_host(found[0], SHORT);
    assert_eq!(
        facts(&story.audits()),
        [(RuleId::PrivilegeGain, "host", Dimension::Privilege)]
    );
    all_inferred(&story, Tool::Falco);
}

/// Goal: as for Tetragon.
#[test]
fn falco_oddities_are_counted() {
    let story = Story::of(Tool::Falco, fixture!("falco-odd"));
    let summary = &story.summary;
    assert_eq!(
        (summary.lines, summary.mapped, summary.malformed),
        (5, 2, 3)
    );
    assert_eq!(
        summary.unknown_fields.named["output_fields.custom.colour"],
        1
    );
    assert_eq!((summary.lost, story.losses()), (35, 35));
}

/// Goal: a log of another tool is refused as a whole. Method: each tool's log as each other's.
#[test]
fn logs_of_other_tools_are_unreadable() {
    let logs = [
        (Tool::Tetragon, fixture!("tetragon-escape")),
        (Tool::Tracee, fixture!("tracee-escape")),
        (Tool::Falco, fixture!("falco-escape")),
    ];
    for tool in Tool::ALL {
        assert_eq!(tool.as_str().parse(), Ok(tool));
        for (of, log) in logs {
            let story = Story::of(tool, log);
            assert_eq!(story.summary.is_unreadable(), of != tool, "{of} as {tool}");
            assert!(of == tool || story.violations().is_empty());
        }
    }
    assert!(!Story::of(Tool::Falco, "").summary.is_unreadable(), "empty");
    assert!("sysdig".parse::<Tool>().is_err());
}
