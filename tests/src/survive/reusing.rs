//! Ids that come again: namespaces with the number of the last one, processes with the id of another.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Survival;
use crate::act::Kind;
use crate::identity::{is_type, told};
use crate::runtime::Runtime;

/// Goal: repeats are folded and counted exactly. Method: five fresh UTS namespaces, one after the other.
pub(super) fn folded(survival: &Survival<'_>, runtime: &Runtime) -> Result<()> {
    let container = survival.container(runtime, "folded")?;
    let watch = survival.watch(&["--heartbeat", "1s"])?;
    let nest = container.broke("namespace-nest", "uts");
    container.exec(&["nests", "5", "uts"])?;
    watch.expect("a nest", &nest)?;
    watch.heartbeats(2)?;
    container.end()?;
    let lines = survival.stop(watch, 0)?;
    let nests: Vec<&Value> = lines.iter().filter(|line| nest(line)).collect();
    ensure!(
        nests.len() == 2 && nests[1]["suppressed"] == 3 && told(&nests) == 5,
        "one line, and one for the rest, were to stand for 5: {nests:?}"
    );
    survival.none(&lines, "drift")
}

/// Goal: an id that a container's task had means nothing when a host's task has it. Method: children with a chosen id, on
/// the host and in a container in turn.
pub(super) fn same_pid(survival: &Survival<'_>, runtime: &Runtime) -> Result<()> {
    const ROUNDS: u64 = 5;
    const EACH: u64 = 20;
    let mut container = survival.container(runtime, "same-pid")?;
    let watch = survival.watch(&["--heartbeat", "1s"])?;
    // The kernel gives it again only after all others.
    let mut child = std::process::Command::new("/bin/true")
        .spawn()
        .context("start a child")?;
    let pid = child.id();
    child.wait().context("wait for a child")?;
    let each = EACH.to_string();
    for _ in 0..ROUNDS {
        survival.on_host(&["same-id", &pid.to_string(), &each])?;
        container.exec(&["same-id", &format!("500,{pid}"), &each])?;
    }
    survival.on_host(&["same-id", &pid.to_string(), &each])?;
    container.join_host(Kind::Net)?;
    watch.expect("the join", container.broke("namespace-join", "net"))?;
    watch.heartbeats(2)?;
    let nest = container.broke("namespace-nest", "uts");
    container.end()?;
    let lines = survival.stop(watch, 0)?;
    let nests: Vec<&Value> = lines.iter().filter(|line| nest(line)).collect();
    ensure!(
        told(&nests) == ROUNDS * EACH,
        "{} instead of {} told: {nests:?}",
        told(&nests),
        ROUNDS * EACH
    );
    let is_it = |line: &&Value| line["subject"]["task"]["pid"] == pid;
    let strange = |line: &&Value| is_type(line, "violation") && is_it(line) && !nest(line);
    let other = lines.iter().find(strange);
    ensure!(other.is_none(), "the host's task is blamed: {other:?}");
    survival.none(&lines, "drift")
}
