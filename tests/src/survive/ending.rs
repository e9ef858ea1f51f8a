//! How a watch ends, what it may still do while it runs, and the commands that look at what it said.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use auditor::model::{Dimension, Tier};
use auditor::report::scan::ScanReport;
use serde_json::Value;

use super::Survival;
use crate::act::Kind;
use crate::runtime::Runtime;
use crate::scenario::Leaked;

/// BPF, PERFMON, `SYS_PTRACE` and `DAC_READ_SEARCH`.
const KEPT: u64 = 1 << 39 | 1 << 38 | 1 << 19 | 1 << 2;

fn reason(lines: &[Value]) -> &str {
    lines
        .last()
        .and_then(|stop| stop["reason"].as_str())
        .unwrap_or_default()
}

/// Goal: --exit-on ends at its severity, not below. Method: a nest (low), then a join (critical).
pub(super) fn exit_on(survival: &Survival<'_>, runtime: &Runtime) -> Result<()> {
    let mut container = survival.container(runtime, "exit-on")?;
    let watch = survival.watch(&["--exit-on", "critical"])?;
    container.unshare(Kind::Uts)?;
    watch.expect("the nest", container.broke("namespace-nest", "uts"))?;
    container.join_host(Kind::Net)?;
    let lines = survival.ended(watch, 1)?;
    ensure!(reason(&lines) == "exit_on", "{:?}", lines.last());
    let join = container.broke("namespace-join", "net");
    ensure!(lines.iter().any(join), "it ended without the join");
    container.end()
}

/// Goal: --duration ends in time. Method: two seconds.
pub(super) fn duration(survival: &Survival<'_>, _: &Runtime) -> Result<()> {
    let watch = survival.watch(&["--duration", "2s"])?;
    let lines = survival.ended(watch, 0)?;
    let at = |line: Option<&Value>| line.and_then(|line| line["boottime_ns"].as_u64());
    let ends = at(lines.first()).zip(at(lines.last()));
    let (start, stop) = ends.context("the ends have no time")?;
    let took = Duration::from_nanos(stop.saturating_sub(start));
    ensure!(
        (Duration::from_millis(1500)..Duration::from_secs(10)).contains(&took),
        "{took:?}"
    );
    ensure!(reason(&lines) == "duration", "{:?}", lines.last());
    Ok(())
}

/// Goal: both signals end it with 0 and a stop line; SIGHUP does not.
pub(super) fn signals(survival: &Survival<'_>, _: &Runtime) -> Result<()> {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let watch = survival.watch(&["--heartbeat", "1s"])?;
        watch.signal(libc::SIGHUP)?;
        watch.heartbeats(1)?;
        watch.signal(signal)?;
        let lines = survival.ended(watch, 0)?;
        ensure!(reason(&lines) == "signal", "{signal}: {:?}", lines.last());
    }
    Ok(())
}

/// Goal: only four capabilities stay, in every thread, and they are enough. Method: /proc, then an escape and sweeps.
pub(super) fn capabilities(survival: &Survival<'_>, runtime: &Runtime) -> Result<()> {
    let mut container = survival.container(runtime, "capabilities")?;
    let watch = survival.watch(&["--heartbeat", "1s"])?;
    let threads = std::fs::read_dir(format!("/proc/{}/task", watch.pid()));
    for thread in threads.context("list its threads")? {
        let path = thread.context("list its threads")?.path().join("status");
        let status =
            std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::trim).unwrap_or_default()
        };
        for set in ["CapEff:", "CapPrm:", "CapBnd:", "CapInh:", "CapAmb:"] {
            let held = u64::from_str_radix(field(set), 16).context("read a capability set")?;
            ensure!(held & !KEPT == 0, "{set} {held:x} in {}", path.display());
        }
        ensure!(field("NoNewPrivs:") == "1", "{}: {status}", path.display());
    }
    container.join_host(Kind::Net)?;
    watch.expect("the join", container.broke("namespace-join", "net"))?;
    watch.heartbeats(3)?;
    let log = watch.log();
    ensure!(log.is_empty(), "complaints: {log}");
    container.end()?;
    survival.stop(watch, 0).map(drop)
}

/// Goal: scan, explain and doctor work on real things. Method: three containers, an escape and a directory of the host's.
pub(super) fn reports(survival: &Survival<'_>, runtime: &Runtime) -> Result<()> {
    let mut first = survival.container(runtime, "reports-a")?;
    let second = survival.container(runtime, "reports-b")?;
    let third = survival.container_as(runtime, "reports-c", Leaked::Root)?;
    let watch = survival.watch(&[])?;
    first.join_host(Kind::Net)?;
    let join = watch.expect("the join", first.broke("namespace-join", "net"))?;
    survival.stop(watch, 0)?;

    let ran = survival.run(&["scan", "--format", "json"])?;
    ensure!(ran.code == Some(1), "scan: {:?} {}", ran.code, ran.log);
    let [scan] = ran.lines.as_slice() else {
        anyhow::bail!("scan gave {} lines", ran.lines.len())
    };
    let ids: Vec<String> = [&first, &second, &third]
        .map(|container| format!("{}:{}", runtime.name, container.id()))
        .into();
    for id in &ids {
        let mut entities = scan["entities"].as_array().into_iter().flatten();
        let entity = entities.find(|entity| entity["id"] == id.as_str());
        let entity = entity.with_context(|| format!("scan does not list {id}"))?;
        let kinds = entity["namespaces"]
            .as_object()
            .map_or(0, |kinds| kinds.len());
        ensure!(kinds >= 7, "{id} has {kinds} kinds of namespaces: {entity}");
    }
    let with_host = |id: &str| {
        let mut pairs = scan["pairs"].as_array().into_iter().flatten();
        let pair = pairs.find(|pair| {
            let names = [&pair["a"], &pair["b"]];
            names.iter().any(|name| **name == id) && names.iter().any(|name| **name == "host")
        });
        pair.with_context(|| format!("scan has no pair of {id} and the host"))
    };
    let violated = |pair: &Value, dimension: &str| {
        let mut all = pair["dimensions"].as_array().into_iter().flatten();
        pair["iota"] == 0 && all.any(|d| d["dimension"] == dimension && d["verdict"] == "violated")
    };
    let pair = with_host(&ids[0])?;
    ensure!(
        violated(pair, "net"),
        "the escape is not seen at rest: {pair}"
    );
    let pair = with_host(&ids[2])?;
    ensure!(
        violated(pair, "references"),
        "the host's directory in its hands is not seen at rest: {pair}"
    );
    ensure!(with_host(&ids[1])?["iota"] == 1, "{}", with_host(&ids[1])?);

    explain(survival, &["explain"], &join.to_string(), "namespace-join")?;
    explain(
        survival,
        &["explain", "--pair", &ids[0], "host"],
        &scan.to_string(),
        "net",
    )?;
    let doctor = survival.run(&["doctor", "--format", "json"])?;
    ensure!(
        doctor.code == Some(0) && doctor.lines.len() == 1,
        "doctor: {:?} {}",
        doctor.code,
        doctor.log
    );
    first.end()?;
    third.end()?;
    second.end()
}

/// Goal: a watch shows who is isolated from whom, by file and by signal, and as a scan does. Method: a container and the
/// host before and after it joins the host's network namespace.
pub(super) fn matrix(survival: &Survival<'_>, runtime: &Runtime) -> Result<()> {
    let mut container = survival.container(runtime, "matrix")?;
    let id = format!("{}:{}", runtime.name, container.id());
    let path = survival.path("matrix.json");
    let path = path.to_str().context("the path is not UTF-8")?;
    let watch = survival.watch(&["--matrix", path])?;
    let iota = || -> Result<Value> {
        let text = std::fs::read_to_string(path).context("read the matrix")?;
        let matrix: ScanReport = serde_json::from_str(&text).context("read the matrix")?;
        ensure!(matrix.tier != Tier::Scan, "the matrix is that of a scan");
        ensure!(
            !matrix.not_evaluated.contains(&Dimension::References),
            "open files are not looked at"
        );
        Ok(matrix.iota(&id, "host").into())
    };
    let asked = |times| {
        watch.signal(libc::SIGUSR1)?;
        watch.expect_log("claim: structural", times)
    };
    asked(1)?;
    ensure!(iota()? == 1, "before: {}", iota()?);
    container.join_host(Kind::Net)?;
    watch.expect("the join", container.broke("namespace-join", "net"))?;
    asked(2)?;
    ensure!(iota()? == 0, "after: {}", iota()?);
    let log = watch.log();
    ensure!(log.contains(container.id()), "not in the table: {log}");
    let ran = survival.run(&["explain", "--pair", &id, "host", "--scan", path])?;
    let said = ran.bad.join("\n");
    ensure!(said.contains("not isolated"), "explain: {said} {}", ran.log);
    survival.stop(watch, 0)?;
    container.end()
}

fn explain(survival: &Survival<'_>, words: &[&str], input: &str, wanted: &str) -> Result<()> {
    let mut child = survival
        .command(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("start explain")?;
    let mut stdin = child.stdin.take().context("its input is not piped")?;
    stdin
        .write_all(input.as_bytes())
        .context("write to explain")?;
    drop(stdin);
    let output = child.wait_with_output().context("wait for explain")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && text.contains(wanted),
        "{words:?}: {}: {text}",
        output.status
    );
    Ok(())
}
