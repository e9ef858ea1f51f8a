//! Loss: what is lost is counted, what is not lost is still seen, and nobody waits for a reader.

use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::Survival;
use crate::act::Kind;
use crate::identity::is_type;
use crate::runtime::Runtime;

/// Forks of a storm. Each is at least two events.
const FORKS: u64 = 3000;

/// Goal: an overflow is counted exactly and repaired silently. Method: the auditor is stopped while a small ring overflows.
pub(super) fn stalled_reader(survival: &Survival<'_>, runtime: &Runtime) -> Result<()> {
    let mut container = survival.container(runtime, "stalled")?;
    let watch = survival.watch(&["--ring-size", "64KiB", "--heartbeat", "1s"])?;
    watch.signal(libc::SIGSTOP)?;
    watch.stopped()?;
    survival.on_host(&["forks", &FORKS.to_string()])?;
    container.exec(&["nests", "500", "uts", "ipc"])?;
    // A state that only the sweep can find.
    container.join_host(Kind::Uts)?;
    watch.signal(libc::SIGCONT)?;
    watch.expect("a loss line", |line| is_type(line, "loss"))?;
    container.join_host(Kind::Net)?;
    let join = watch.expect(
        "the join after the loss",
        container.broke("namespace-join", "net"),
    )?;
    ensure!(join["confidence"] == "exact", "not exact: {join}");
    let missed = watch.expect(
        "the join during the loss",
        container.broke("namespace-join", "uts"),
    )?;
    ensure!(missed["confidence"] == "inferred", "not inferred: {missed}");
    watch.heartbeats(4)?;
    container.end()?;
    let lines = survival.stop(watch, 4)?;
    survival.none(&lines, "drift")?;
    check_losses(&lines)
}

fn check_losses(lines: &[Value]) -> Result<()> {
    let losses: Vec<&Value> = lines.iter().filter(|line| is_type(line, "loss")).collect();
    let mut total = 0;
    for loss in losses {
        let sum = |key: &str| -> u64 {
            let counts = loss[key].as_object().into_iter().flatten();
            counts.filter_map(|(_, count)| count.as_u64()).sum()
        };
        let count = loss["count"].as_u64().context("a loss without a count")?;
        total += count;
        ensure!(
            count > 0
                && count == sum("by_hook")
                && count == sum("by_cpu")
                && loss["total"] == total,
            "the counts do not add up: {loss}"
        );
    }
    ensure!(
        total > FORKS,
        "only {total} lost: the ring did not overflow"
    );
    let stop = lines.last().context("no line at all")?;
    ensure!(stop["lost_events"] == total, "{total} in lines, but {stop}");
    Ok(())
}

/// Goal: a reader that goes ends the watch quietly. Method: read the start line, close.
pub(super) fn closed_output(survival: &Survival<'_>, _: &Runtime) -> Result<()> {
    let log = survival.file("closed", b"")?;
    let mut child = survival
        .command(&["watch", "--no-state", "--heartbeat", "1s"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(&log).context("create a log")?)
        .spawn()
        .context("start the auditor")?;
    let mut output = BufReader::new(child.stdout.take().context("its output is not piped")?);
    let mut line = String::new();
    output.read_line(&mut line).context("read the start line")?;
    drop(output);
    let status = end_of(&mut child, Duration::from_secs(10))?;
    let said = std::fs::read_to_string(&log).unwrap_or_default();
    ensure!(
        status.code() == Some(0) && said.is_empty(),
        "{status}: {said}"
    );
    Ok(())
}

/// Goal: a reader that never reads stops nothing. Method: a pipe of one page, filled by violations.
pub(super) fn unread_output(survival: &Survival<'_>, runtime: &Runtime) -> Result<()> {
    let mut container = survival.container(runtime, "unread")?;
    let other = survival.watch(&[])?;
    let (reader, writer) = std::io::pipe().context("make a pipe")?;
    // SAFETY: no memory is passed.
    let size = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, 4096) };
    ensure!(size == 4096, "the pipe has {size} bytes");
    let mut child = survival
        .command(&["watch", "--no-state", "--heartbeat", "1s"])
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::null())
        .spawn()
        .context("start the auditor")?;
    // The first byte comes when it watches; it is left in the pipe.
    readable(&reader)?;
    container.exec(&["nests", "200", "uts", "ipc", "net", "mnt", "cgroup"])?;
    container.join_host(Kind::Net)?;
    // Another auditor tells when there was time enough to see all that.
    other.expect("the join", container.broke("namespace-join", "net"))?;
    ensure!(
        child.try_wait().context("look at the auditor")?.is_none(),
        "it ended by itself"
    );
    let asked = Instant::now();
    crate::sys::kill(child.id() as i32, libc::SIGTERM).context("signal the auditor")?;
    let status = end_of(&mut child, Duration::from_secs(10))?;
    ensure!(status.code() == Some(4), "lines were lost, but {status}");
    eprintln!("     ended {:.1?} after SIGTERM", asked.elapsed());
    drop(reader);
    container.end()?;
    survival.stop(other, 0).map(drop)
}

fn readable(pipe: &std::io::PipeReader) -> Result<()> {
    let mut poll = libc::pollfd {
        fd: pipe.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one pollfd, which lives until the call returns.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 50_000) };
    ensure!(ready == 1, "nothing was written");
    Ok(())
}

fn end_of(child: &mut std::process::Child, patience: Duration) -> Result<std::process::ExitStatus> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait().context("wait for the auditor")? {
            return Ok(status);
        }
        if Instant::now() > deadline {
            // It is ours, and it had its time.
            let _ = child.kill();
            let _ = child.wait();
            bail!("it did not end within {patience:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Goal: storms lose nothing and mean nothing. Method: forks on the host and in a container at once, and short containers.
pub(super) fn storm(survival: &Survival<'_>, runtime: &Runtime) -> Result<()> {
    const CYCLES: u32 = 10;
    let mut container = survival.container(runtime, "storm")?;
    let watch = survival.watch(&["--heartbeat", "1s"])?;
    let forks = FORKS.to_string();
    let mut host = Command::new(&survival.options.programs.actor)
        .args(["forks", &forks])
        .spawn()
        .context("start a storm")?;
    container.exec(&["forks", &forks])?;
    ensure!(host.wait().context("wait for the storm")?.success());
    for cycle in 0..CYCLES {
        survival
            .container(runtime, &format!("storm-{cycle}"))?
            .end()?;
    }
    watch.heartbeats(3)?;
    container.join_host(Kind::Net)?;
    watch.expect("the join", container.broke("namespace-join", "net"))?;
    container.end()?;
    let lines = survival.stop(watch, 0)?;
    survival.none(&lines, "drift")?;
    let wrong = |line: &&Value| is_type(line, "violation") && survival.is_ours(line);
    let violations = lines.iter().filter(wrong).count();
    ensure!(
        violations == 1,
        "{violations} violations instead of the join"
    );
    let stop = lines.last().context("no line at all")?;
    eprintln!(
        "     {} events, {} repaired",
        stop["events"], stop["repaired"]
    );
    // The rest of the machine lives on: a few of its births and ends may be found by a sweep first.
    let few = stop["events"].as_u64().unwrap_or(0) / 100;
    let repaired = stop["repaired"].as_u64().unwrap_or(u64::MAX);
    ensure!(repaired <= few, "{repaired} repaired: {stop}");
    ensure!(stop["lost_events"] == 0, "lost: {stop}");
    Ok(())
}
