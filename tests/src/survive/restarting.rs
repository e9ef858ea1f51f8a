//! Restarts: who escaped must be known to the next auditor, and what was there before it must be no stranger.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Contained, Survival, Wanderer};
use crate::act::Kind;
use crate::identity::{confidence, is_type};
use crate::runtime::Runtime;

/// A task that joined the host's network and was moved out of its cgroup while one auditor watched and was killed.
fn escaped(
    survival: &Survival<'_>,
    container: &Contained,
    state: &str,
) -> Result<(Wanderer, Value)> {
    let mut task = Wanderer::start(container)?;
    let watch = survival.watch(&["--state-dir", state])?;
    task.join_host(Kind::Net)?;
    let join = watch.expect("the join", container.broke("namespace-join", "net"))?;
    task.move_to_root()?;
    watch.signal(libc::SIGKILL)?;
    let ran = watch.finish()?;
    survival.validate(&ran.lines, &[]);
    ensure!(ran.code.is_none(), "it survived SIGKILL");
    Ok((task, join))
}

/// Goal: a label survives a kill. Method: the next auditor, with the same state, sees the same task's next join.
pub(super) fn killed(survival: &Survival<'_>, runtime: &Runtime) -> Result<()> {
    let container = survival.container(runtime, "killed")?;
    let state = survival.path("state").display().to_string();
    let (mut task, first) = escaped(survival, &container, &state)?;
    let watch = survival.watch(&["--state-dir", &state])?;
    let standing = watch.expect(
        "what stands from before",
        container.broke("namespace-join", "net"),
    )?;
    ensure!(
        confidence(&standing) == "inferred",
        "not inferred: {standing}"
    );
    let moved = watch.expect(
        "where it was moved",
        container.broke("cgroup-migration", "cgroup"),
    )?;
    ensure!(
        confidence(&moved) == "inferred" && moved["subject"]["task"]["pid"] == task.pid,
        "not inferred, or another task: {moved}"
    );
    task.join_host(Kind::Uts)?;
    let next = watch.expect("the next join", container.broke("namespace-join", "uts"))?;
    for (key, line) in [("id", &standing), ("id", &next), ("incarnation", &next)] {
        ensure!(
            line["subject"][key] == first["subject"][key],
            "another subject: {line}, first {first}"
        );
    }
    ensure!(
        confidence(&next) == "exact" && next["subject"]["task"]["pid"] == task.pid,
        "not that task, or not exact: {next}"
    );
    survival.stop(watch, 0)?;
    drop(task);
    container.end()
}

/// Goal: without state the task is still known by what it kept, its pid namespace at least: that cannot be joined from
/// below. Method: as above, with --no-state.
pub(super) fn forgetful(survival: &Survival<'_>, runtime: &Runtime) -> Result<()> {
    let container = survival.container(runtime, "forgetful")?;
    let state = survival.path("state").display().to_string();
    let (mut task, first) = escaped(survival, &container, &state)?;
    let watch = survival.watch(&[])?;
    task.join_host(Kind::Uts)?;
    for (dimension, sure) in [("net", "inferred"), ("uts", "exact")] {
        let join = container.broke("namespace-join", dimension);
        let line = watch.expect(&format!("the join in {dimension}"), join)?;
        ensure!(
            confidence(&line) == sure && line["subject"]["id"] == first["subject"]["id"],
            "not {sure}, or another subject: {line}"
        );
    }
    survival.stop(watch, 0)?;
    drop(task);
    container.end()
}

/// Goal: containers that were there first are entities. Method: start one, then the auditor, then escape.
pub(super) fn started_after(survival: &Survival<'_>, runtime: &Runtime) -> Result<()> {
    let mut container = survival.container(runtime, "first")?;
    let watch = survival.watch(&[])?;
    let start = watch
        .seen(|line| is_type(line, "start"))
        .context("no start line")?;
    ensure!(start["entities"].as_u64() >= Some(1), "no entity: {start}");
    container.join_host(Kind::Net)?;
    let join = watch.expect("the join", container.broke("namespace-join", "net"))?;
    let id = format!("{}:{}", runtime.name, container.id());
    ensure!(
        confidence(&join) == "exact" && join["subject"]["id"] == id.as_str(),
        "not exact, or not {id}: {join}"
    );
    container.end()?;
    survival.stop(watch, 0).map(drop)
}

/// Goal: containers that were there first are told apart, and what one made is its own. Method: one in the pid namespace of
/// another, in which a task made a pid namespace; nothing of that is worth a line, and who escapes then has its own name.
pub(super) fn found_together(survival: &Survival<'_>, runtime: &Runtime) -> Result<()> {
    let first = survival.container(runtime, "together")?;
    let mut second = survival.container_beside(runtime, "beside", &first)?;
    let makes = [
        "/bin/busybox",
        "unshare",
        "-fp",
        "/bin/busybox",
        "sleep",
        "600",
    ];
    runtime.run(&[&["exec", "-d", first.id()], &makes[..]].concat(), None)?;
    let watch = survival.watch(&["--heartbeat", "1s"])?;
    watch.heartbeats(2)?;
    second.join_host(Kind::Net)?;
    let join = watch.expect("the join", second.broke("namespace-join", "net"))?;
    ensure!(
        confidence(&join) == "exact",
        "not exact, though it was seen: {join}"
    );
    let lines = survival.stop(watch, 0)?;
    let structural = |line: &&Value| {
        let rules = ["namespace-join", "cgroup-migration", "shared-namespace"];
        rules.iter().any(|rule| line["rule"] == *rule)
    };
    let told = lines.iter().filter(structural);
    let other = told
        .into_iter()
        .find(|line| survival.is_ours(line) && !second.broke("namespace-join", "net")(line));
    ensure!(other.is_none(), "unexpected: {other:?}");
    second.end()?;
    first.end()
}
