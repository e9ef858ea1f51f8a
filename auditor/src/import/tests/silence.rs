//! Goal: a log with gaps accuses nobody of what runtimes do. Method: starts and execs of containers with
//! any of their lines missing or out of order; set-ups that share on purpose.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Inums of a Tetragon process by what is its own; all else is the machine's.
fn namespaces(own: &[(&str, u32)]) -> Value {
    let machine = [
        ("uts", 4_026_531_838_u32),
        ("ipc", 4_026_531_839),
        ("mnt", 4_026_531_841),
        ("pid", 4_026_531_836),
        ("pid_for_children", 4_026_531_836),
        ("net", 4_026_531_840),
        ("time", 4_026_531_834),
        ("time_for_children", 4_026_531_834),
        ("cgroup", 4_026_531_835),
        ("user", 4_026_531_837),
    ];
    let one = |&(kind, inum): &(&str, u32)| {
        let own = own.iter().find(|(k, _)| *k == kind);
        let value = match own {
            Some((_, inum)) => json!({ "inum": inum }),
            None => json!({ "inum": inum, "is_host": true }),
        };
        (kind.to_owned(), value)
    };
    Value::Object(machine.iter().map(one).collect())
}

fn process(pid: u32, binary: &str, id: Option<&str>, own: &[(&str, u32)]) -> Value {
    let mut process = json!({
        "pid": pid, "uid": 0, "binary": binary, "flags": "execve clone", "ns": namespaces(own),
    });
    if let Some(id) = id {
        process["docker"] = json!(id);
    }
    process
}

fn exec(second: u32, process: &Value, parent: &Value) -> String {
    let event = json!({
        "process_exec": { "process": process, "parent": parent },
        "node_name": "n", "time": format!("2025-03-03T11:00:{second:02}Z"),
    });
    event.to_string()
}

/// Goal: sharing since the start is nobody's deed. Method: a pod of three with the sandbox's network, host
/// names and IPC, then one with the machine's network and processes.
#[test]
fn pods_and_host_networks_are_silent() {
    let shim = process(50, "/usr/bin/shim", None, &[]);
    let shared = [("net", 5001), ("uts", 5002), ("ipc", 5003)];
    let mut log = vec![exec(0, &shim, &process(1, "/sbin/init", None, &[]))];
    for (n, id) in (1..).zip(["aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"]) {
        let own = [
            ("mnt", 6000 + n),
            ("pid", 6100 + n),
            ("pid_for_children", 6100 + n),
        ];
        let own: Vec<_> = shared.iter().chain(&own).copied().collect();
        let init = process(100 + n, "/pause", Some(id), &own);
        log.push(exec(n, &init, &shim));
        let child = process(200 + n, "/bin/sh", Some(id), &own);
        log.push(exec(10 + n, &child, &init));
    }
    let host = process(
        300,
        "/agent",
        Some("dddddddddddd"),
        &[("mnt", 6010), ("cgroup", 6011)],
    );
    log.push(exec(20, &host, &shim));
    let child = process(
        301,
        "/bin/sh",
        Some("dddddddddddd"),
        &[("mnt", 6010), ("cgroup", 6011)],
    );
    log.push(exec(21, &child, &host));
    let story = Story::of(Tool::Tetragon, &log.join("\n"));
    assert_eq!(facts(&story.violations()), []);
    assert_eq!(story.containers().len(), 4);
}

/// Goal: a container that got the numbers of one whose end is not in the log is another one. Method: two
/// lives with the same numbers, and a child in the second.
#[test]
fn reused_numbers_are_other_namespaces() {
    let shim = process(50, "/usr/bin/shim", None, &[]);
    let own = [
        ("mnt", 6001),
        ("pid", 6002),
        ("pid_for_children", 6002),
        ("net", 6003),
    ];
    let first = process(100, "/a", Some("aaaaaaaaaaaa"), &own);
    let second = process(101, "/b", Some("bbbbbbbbbbbb"), &own);
    let child = process(102, "/c", Some("bbbbbbbbbbbb"), &own);
    let log = [
        exec(1, &first, &shim),
        exec(2, &second, &shim),
        exec(3, &child, &second),
    ];
    let story = Story::of(Tool::Tetragon, &log.join("\n"));
    assert_eq!(facts(&story.violations()), []);
    assert_eq!(story.containers(), ["unknown:bbbbbbbbbbbb"]);
}

/// Goal: a join is found although the log has nothing of the container before it. Method: one line, whose
/// parent is still at home.
#[test]
fn one_line_is_enough() {
    let own = [
        ("mnt", 6001),
        ("pid", 6002),
        ("pid_for_children", 6002),
        ("net", 6003),
    ];
    let shell = process(100, "/bin/sh", Some("aaaaaaaaaaaa"), &own);
    let escaped = process(101, "/bin/sh", Some("aaaaaaaaaaaa"), &own[1..]);
    let story = Story::of(Tool::Tetragon, &exec(1, &escaped, &shell));
    assert_eq!(
        facts(&story.violations()),
        [(RuleId::NamespaceJoin, "host", Dimension::Mnt)]
    );
}

/// Goal: what a container makes for itself is a nest and nothing worse, whatever kind. Method: an exec after
/// one unshare of each kind, by the process itself or by a child.
#[test]
fn made_namespaces_are_nests() {
    let own = [("mnt", 6001), ("pid", 6002), ("pid_for_children", 6002)];
    let shell = process(100, "/bin/sh", Some("aaaaaaaaaaaa"), &own);
    let kinds = [
        ("mnt", Dimension::Mnt),
        ("pid", Dimension::Pid),
        ("net", Dimension::Net),
        ("ipc", Dimension::Ipc),
        ("uts", Dimension::Uts),
        ("cgroup", Dimension::CgroupNs),
        ("time", Dimension::Time),
        ("user", Dimension::User),
    ];
    for (kind, dimension) in kinds {
        for pid in [100, 101] {
            let for_children = format!("{kind}_for_children");
            let mut all = vec![(kind, 7001), (for_children.as_str(), 7001)];
            all.extend(own);
            let mut after = process(pid, "/bin/sh", Some("aaaaaaaaaaaa"), &all);
            if pid == 100 {
                after["flags"] = json!("execve");
            }
            let log = [exec(1, &shell, &shell), exec(2, &after, &shell)];
            let story = Story::of(Tool::Tetragon, &log.join("\n"));
            assert_eq!(
                facts(&story.violations()),
                [(RuleId::NamespaceNest, "host", dimension)],
                "{kind} of {pid}"
            );
        }
    }
}

/// Goal: the machine's number may become known late. Method: a pods' log, in which the first line with the
/// machine's mount namespace is the escape itself, after more lines than are held back.
#[test]
fn the_machine_may_be_met_late() {
    let own = [
        ("mnt", 6001),
        ("pid", 6002),
        ("pid_for_children", 6002),
        ("net", 6003),
    ];
    let shell = process(100, "/bin/sh", Some("aaaaaaaaaaaa"), &own);
    let mut log = Vec::new();
    for n in 0..u32::try_from(crate::import::limits::PROLOGUE).unwrap() {
        let child = process(1000 + n, "/bin/true", Some("aaaaaaaaaaaa"), &own);
        log.push(exec(1, &child, &shell));
    }
    let escaped = process(101, "/bin/sh", Some("aaaaaaaaaaaa"), &own[1..]);
    log.push(exec(2, &escaped, &shell));
    let story = Story::of(Tool::Tetragon, &log.join("\n"));
    assert_eq!(
        facts(&story.violations()),
        [(RuleId::NamespaceJoin, "host", Dimension::Mnt)]
    );
    assert_eq!(story.summary.notes.len(), 1, "the number is a stand-in");
}

fn tracee(second: u32, name: &str, pid: u32, pid_ns: u32, args: &Value) -> String {
    let event = json!({
        "timestamp": 1_000_000_000 * u64::from(second), "eventName": name,
        "hostProcessId": pid, "hostParentProcessId": 100, "threadStartTime": 1_000_000_000 * u64::from(pid),
        "mountNamespace": 6001, "pidNamespace": pid_ns, "container": {"id": "aaaaaaaaaaaa"},
        "contextFlags": {"containerStarted": true}, "args": args,
    });
    event.to_string()
}

/// Goal: a pid namespace that a container made unseen is no join of the machine's, and the machine's own is
/// one. Method: children whose own events show another pid namespace than their births did.
#[test]
fn pid_namespaces_of_children() {
    let child = |pid: u32| json!([{"name": "child_tid", "value": pid}, {"name": "child_pid", "value": pid}]);
    let none = json!([]);
    let machine = 0xefff_fffc;
    let log = [
        tracee(1, "openat", 100, 6002, &none),
        tracee(2, "sched_process_fork", 100, 6002, &child(101)),
        tracee(3, "openat", 101, 6500, &none),
        tracee(4, "sched_process_fork", 100, 6002, &child(102)),
        tracee(5, "openat", 102, machine, &none),
    ];
    let story = Story::of(Tool::Tracee, &log.join("\n"));
    assert_eq!(
        facts(&story.violations()),
        [
            (RuleId::NamespaceNest, "host", Dimension::Pid),
            (RuleId::NamespaceJoin, "host", Dimension::Pid),
            (RuleId::NamespaceJoin, "host", Dimension::PidForChildren),
        ]
    );
}

/// Runs the lines of a log that a mask keeps, in an order that keys give.
fn some_lines(tool: Tool, log: &str, keep: &[bool], keys: &[u8]) -> Story {
    let mut lines: Vec<(usize, &str)> = log.lines().enumerate().collect();
    lines.retain(|(n, _)| keep[n % keep.len()]);
    // A key moves a line by a few places.
    lines.sort_by_key(|(n, _)| n * 2 + usize::from(keys[n % keys.len()]));
    Story::of_lines(tool, lines.iter().map(|(_, line)| line.as_bytes()))
}

fn mask() -> impl Strategy<Value = Vec<bool>> {
    prop::collection::vec(prop::bool::weighted(0.8), 30)
}

/// What is said of somebody.
fn accuses(story: &Story) -> Vec<String> {
    let violations = story.violations();
    violations.iter().map(|f| f.message.clone()).collect()
}

proptest! {
    #![proptest_config(config(100))]

    /// Goal: gaps in what Tetragon saw of a runtime are no escape.
    #[test]
    fn tetragon_gaps_are_no_escapes(keep in mask(), keys in prop::collection::vec(0_u8..6, 30)) {
        let story = some_lines(Tool::Tetragon, fixture!("tetragon-start"), &keep, &keys);
        prop_assert_eq!(accuses(&story), Vec::<String>::new());
    }

    /// Goal: gaps in what Tracee saw of a runtime are no escape.
    #[test]
    fn tracee_gaps_are_no_escapes(keep in mask(), keys in prop::collection::vec(0_u8..6, 30)) {
        let story = some_lines(Tool::Tracee, fixture!("tracee-start"), &keep, &keys);
        prop_assert_eq!(accuses(&story), Vec::<String>::new());
    }
}
