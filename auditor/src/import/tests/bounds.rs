//! Goal: no log grows the importer without bound. Method: more of everything than fits.

use super::*;
use crate::import::limits;
use auditor_common::record::cause;

fn tracee(n: usize, name: &str, pid: usize, container: &str) -> String {
    format!(
        r#"{{"timestamp":{},"eventName":"{name}","hostProcessId":{pid},"mountNamespace":{},"pidNamespace":5,"containerId":"{container}"}}"#,
        1_000_000 + n,
        if container.is_empty() {
            4_026_531_841
        } else {
            6000 + pid
        },
    )
}

/// Goal: lines that are too long are skipped and said. Method: one of each side of the bound.
#[test]
fn long_lines_are_skipped() {
    let long = format!("{{\"eventName\":\"{}\"}}", "x".repeat(limits::LINE_BYTES));
    let fits = format!(
        "{{\"eventName\":\"{}\"}}",
        "x".repeat(limits::LINE_BYTES - 30)
    );
    let story = Story::of_lines(Tool::Tracee, [long.as_bytes(), fits.as_bytes()]);
    assert_eq!((story.summary.lines, story.summary.too_long), (2, 1));
    assert_eq!(story.summary.problems[0].line, 1);
    assert_eq!(story.summary.malformed, 0);
    let longest = story.summary.unknown_events.named.keys().map(String::len);
    assert_eq!(longest.max(), Some(limits::NAME_BYTES));
}

/// Goal: the documentation names the bounds that hold. Method: its numbers against the constants.
#[test]
fn bounds_are_documented() {
    let page = include_str!("../../../../docs/import.md");
    let named = [
        limits::LINE_BYTES >> 20,
        limits::PROLOGUE,
        limits::TASKS,
        limits::CONTAINERS,
        limits::CGROUPS,
        limits::MALFORMED,
        limits::NAMES,
    ];
    for number in named {
        assert!(page.contains(&format!(" {number} ")), "{number}");
    }
}

/// Goal: only the first malformed lines are kept. Method: many.
#[test]
fn problems_are_bounded() {
    let story = Story::of(Tool::Falco, &"{\n".repeat(limits::MALFORMED * 3));
    assert_eq!(story.summary.malformed, limits::MALFORMED as u64 * 3);
    assert_eq!(story.summary.problems.len(), limits::MALFORMED);
    assert!(story.summary.is_unreadable());
}

/// Goal: deep nesting is no stack overflow. Method: a line of brackets.
#[test]
fn deep_lines_are_malformed() {
    let story = Story::of(Tool::Tetragon, &"[".repeat(limits::LINE_BYTES / 2));
    assert_eq!(story.summary.malformed, 1);
}

/// Goal: tasks and containers whose ends are not in the log do not pile up. Method: more of both than fit;
/// what the engine is told to know is counted.
#[test]
fn unended_tasks_are_given_up() {
    let mut importer = Importer::new(Tool::Tracee, None);
    let (mut alive, mut most) = (0_usize, 0);
    let mut sink = |input: Input| {
        match input {
            Input::Task(record) if record.cause == cause::FORK => alive += 1,
            Input::Exit(_) => alive -= 1,
            _ => {}
        }
        most = most.max(alive);
    };
    let (tasks, containers) = (limits::TASKS + 100, limits::CONTAINERS + 10);
    importer.line(tracee(0, "openat", 7, "").as_bytes(), &mut sink);
    for n in 0..tasks {
        let container = if n < containers {
            format!("{n:012}")
        } else {
            String::new()
        };
        let line = tracee(n, "openat", 100 + n, &container);
        importer.line(line.as_bytes(), &mut sink);
    }
    let summary = importer.finish(&mut sink);
    assert!(most < limits::TASKS, "{most}");
    assert!(alive > limits::TASKS / 2, "not more than must be");
    assert_eq!(summary.containers, limits::CONTAINERS as u64);
    assert_eq!(summary.notes.len(), 2, "both are said: {:?}", summary.notes);
}
