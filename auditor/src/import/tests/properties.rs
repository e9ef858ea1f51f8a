//! Goal: no line hurts: no panic, bounded output, the same output each time. Method: arbitrary bytes,
//! arbitrary JSON, JSON of the tools' own fields with arbitrary values, and the fixtures with any of their
//! values changed.

use super::*;
use proptest::prelude::*;
use serde_json::Value;

/// Inputs that one line may cause at most, ends of tasks left aside: each of those had a birth.
const PER_LINE: usize = 24;

fn tool() -> impl Strategy<Value = Tool> {
    prop::sample::select(Tool::ALL.to_vec())
}

/// Runs a log twice and compares.
fn check(tool: Tool, lines: &[Vec<u8>]) -> Result<(), TestCaseError> {
    let run = || Story::of_lines(tool, lines.iter().map(Vec::as_slice));
    let (one, two) = (run(), run());
    prop_assert_eq!(
        format!("{:?}", one.inputs),
        format!("{:?}", two.inputs),
        "the same log, the same events"
    );
    prop_assert_eq!(&one.out, &two.out);
    prop_assert_eq!(&one.summary, &two.summary);
    let exits = |i: &&Input| matches!(i, Input::Exit(_));
    let ends = one.inputs.iter().filter(exits).count();
    prop_assert!(one.inputs.len() - ends <= PER_LINE * (lines.len() + 1));
    let summary = &one.summary;
    let counted = summary.malformed + summary.too_long + summary.other_nodes.total();
    prop_assert!(summary.mapped + counted <= summary.lines);
    Ok(())
}

/// Names that the tools use, so that what is made of them gets past the first look.
fn name() -> impl Strategy<Value = String> {
    let names = "process_exec process_exit process_kprobe process_tracepoint process parent pid tid uid ns \
        mnt pid_for_children net user inum is_host cap permitted effective flags docker pod container id name \
        image process_credentials euid node_name time args string_arg event rate_limit_info \
        number_of_dropped_process_events eventName timestamp hostProcessId hostThreadId hostParentProcessId \
        threadStartTime mountNamespace pidNamespace containerId processName value new_mnt new_net new_pid \
        child_tid child_pid pathname old_cred new_cred CapPermitted CapEffective cgroup_path workload hostPid \
        host_pid thread hostTid data uInt32 str rule output_fields container.id proc.pid proc.vpid proc.ppid \
        evt.type evt.res fd.name thread.cap_permitted thread.cap_effective user.uid hostname n_drops";
    let names: Vec<String> = names.split_whitespace().map(str::to_owned).collect();
    prop_oneof![9 => prop::sample::select(names), 1 => ".{0,12}"]
}

/// Values that mean something to a tool, or nothing.
fn leaf() -> impl Strategy<Value = Value> {
    let words = [
        "execve clone",
        "procFS",
        "cgroup_attach_task",
        "switch_task_ns",
        "sched_process_fork",
        "sched_process_exec",
        "sched_process_exit",
        "commit_creds",
        "init_namespaces",
        "existing_container",
        "/",
        "/docker/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "aaaaaaaaaaaa",
        "docker://bbbbbbbbbbbbbbbb",
        "host",
        "setns",
        "procexit",
        "SUCCESS",
        "/proc/1/ns/mnt",
        "2025-03-03T11:00:01Z",
        "2554-01-01T00:00:00Z",
        "CAP_SYS_ADMIN",
    ];
    prop_oneof![
        4 => prop::sample::select(words.to_vec()).prop_map(Value::from),
        4 => (0_u32..6).prop_map(Value::from),
        2 => (4_026_531_830_u32..4_026_531_850).prop_map(Value::from),
        1 => any::<u64>().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => ".{0,20}".prop_map(Value::from),
        1 => Just(Value::Null),
    ]
}

fn json() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(5, 64, 12, |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            4 => prop::collection::hash_map(name(), inner, 0..12)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Lines of all fixtures of a tool.
fn lines(tool: Tool) -> Vec<Value> {
    let logs = match tool {
        Tool::Tetragon => [fixture!("tetragon-start"), fixture!("tetragon-escape")],
        Tool::Tracee => [fixture!("tracee-escape"), fixture!("tracee-modern")],
        Tool::Falco => [fixture!("falco-quiet"), fixture!("falco-escape")],
    };
    let lines = logs.iter().flat_map(|log| log.lines());
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Replaces the value that a number picks.
fn replace(value: &mut Value, pick: &mut usize, with: &Value) {
    if *pick == 0 {
        value.clone_from(with);
    }
    *pick = pick.wrapping_sub(1);
    match value {
        Value::Array(items) => items.iter_mut().for_each(|v| replace(v, pick, with)),
        Value::Object(map) => map.values_mut().for_each(|v| replace(v, pick, with)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(config(96))]

    /// Arbitrary bytes.
    #[test]
    fn bytes_are_safe(tool in tool(), lines in prop::collection::vec(any::<Vec<u8>>(), 0..8)) {
        check(tool, &lines)?;
    }

    /// Arbitrary JSON of the tools' names.
    #[test]
    fn json_is_safe(tool in tool(), lines in prop::collection::vec(json(), 0..24)) {
        let lines: Vec<Vec<u8>> = lines.iter().map(|v| v.to_string().into_bytes()).collect();
        check(tool, &lines)?;
    }

    /// Real lines, with some of their values changed, some lines repeated, left out and moved.
    #[test]
    fn changed_lines_are_safe(
        tool in tool(),
        picks in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..120, leaf()), 1..40),
    ) {
        let all = lines(tool);
        let lines: Vec<Vec<u8>> = picks
            .iter()
            .map(|(line, pick, with)| {
                let mut value = line.get(&all).clone();
                replace(&mut value, &mut pick.clone(), with);
                value.to_string().into_bytes()
            })
            .collect();
        check(tool, &lines)?;
    }
}
