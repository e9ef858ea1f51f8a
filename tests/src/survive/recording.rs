//! Recording: what a kill, a full disk or another user's directory leave of a trace.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Survival;
use super::losing::Disk;
use super::watch::Ran;
use crate::act::Kind;
use crate::identity::is_type;
use crate::runtime::Runtime;

/// Some user who is not root.
const SOMEBODY: u32 = 1000;
/// A watch tries a broken recording again after five seconds, at its next sweep.
const RETRIED: Duration = Duration::from_secs(60);

fn replay(survival: &Survival<'_>, trace: &Path) -> Result<Ran> {
    let trace = trace.display().to_string();
    let ran = survival.run(&["replay", "--format", "json", &trace])?;
    survival.validate(&ran.lines, &ran.bad);
    Ok(ran)
}

/// Goal: a kill costs no violation that was printed. Method: SIGKILL right after one, then a replay of what is there.
pub(super) fn killed(survival: &Survival<'_>, runtime: &Runtime) -> Result<()> {
    let mut container = survival.container(runtime, "recorded")?;
    let trace = survival.path("killed.atrace");
    let watch = survival.watch(&["--record", &trace.display().to_string()])?;
    container.join_host(Kind::Net)?;
    let join = container.broke("namespace-join", "net");
    watch.expect("the join", &join)?;
    // The frame is written by a thread of its own, right after the line.
    let partial = trace.with_extension("atrace.partial");
    let deadline = Instant::now() + survival.options.patience * 4;
    let written = loop {
        let ran = replay(survival, &partial)?;
        if ran.lines.iter().any(&join) || Instant::now() > deadline {
            break ran.lines;
        }
    };
    watch.signal(libc::SIGKILL)?;
    let live = watch.finish()?;
    ensure!(
        !trace.exists(),
        "an unfinished trace has a finished one's name"
    );
    let after = replay(survival, &partial)?;
    ensure!(
        written.iter().any(&join) && after.lines.starts_with(&written),
        "the join is not in the trace"
    );
    ensure!(
        live.lines.starts_with(&after.lines) || after.lines.starts_with(&live.lines),
        "the replay gives other lines: {:?}",
        after.lines
    );
    ensure!(
        after.log.contains("unfinished"),
        "nothing says that it is unfinished: {}",
        after.log
    );
    container.end()
}

/// Goal: a full disk costs a stretch of the trace, which is counted, and no line. Method: a tmpfs that is full for a while.
pub(super) fn full_disk(survival: &Survival<'_>, runtime: &Runtime) -> Result<()> {
    let mut container = survival.container(runtime, "unrecorded")?;
    // Two parts and what begins them must have room.
    const KIB: usize = 1024;
    let disk = Disk::new(survival.path("disk"), KIB)?;
    let directory = disk.0.display().to_string();
    let watch = survival.watch(&["--record", &directory, "--heartbeat", "1s"])?;
    let ballast = disk.0.join("ballast");
    // All that is left, whatever that is.
    let filled = std::fs::write(&ballast, vec![0; KIB << 10]);
    ensure!(filled.is_err(), "the disk is not full");
    container.join_host(Kind::Uts)?;
    watch.expect("the join", container.broke("namespace-join", "uts"))?;
    let is_loss = |line: &Value| is_type(line, "loss") && line["place"] == "trace";
    let deadline = Instant::now() + survival.options.patience * 10;
    // The last page of the trace may still take some of it.
    while watch.seen(is_loss).is_none() {
        ensure!(Instant::now() < deadline, "no loss line");
        container.exec(&["nests", "50", "uts", "ipc"])?;
    }
    std::fs::remove_file(&ballast).context("empty the disk")?;
    let parts = || -> Result<usize> {
        let entries = std::fs::read_dir(&disk.0).context("list the disk")?;
        Ok(entries.count())
    };
    let deadline = Instant::now() + RETRIED;
    while parts()? < 2 {
        ensure!(Instant::now() < deadline, "the recording does not go on");
        std::thread::sleep(Duration::from_millis(100));
    }
    container.join_host(Kind::Net)?;
    let join = container.broke("namespace-join", "net");
    watch.expect("the other join", &join)?;
    survival.stop(watch, 4)?;
    let ran = replay(survival, &disk.0)?;
    ensure!(
        ran.code == Some(4),
        "ended with {:?}: {}",
        ran.code,
        ran.log
    );
    ensure!(
        ran.lines.iter().any(&join) && ran.lines.last().is_some_and(|l| is_type(l, "stop")),
        "what came after the disk had room is not there"
    );
    container.end()
}

/// Goal: `sudo auditor record` works in a user's own directory, though the agent drops its privileges. Method: a directory
/// of another user, parts included.
pub(super) fn foreign_directory(survival: &Survival<'_>, _: &Runtime) -> Result<()> {
    let directory = survival.path("home");
    std::fs::create_dir(&directory).context("make a directory")?;
    std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o755))?;
    chown(&directory, Some(SOMEBODY), Some(SOMEBODY)).context("give it away")?;
    let trace = directory.join("a.atrace");
    let path = trace.display().to_string();
    let common = ["--rotate-after", "10s", "--duration", "15s", "--no-state"];
    let ran = survival.run(&[&["record", &path], &common[..]].concat())?;
    ensure!(
        ran.code == Some(0),
        "ended with {:?}: {}",
        ran.code,
        ran.log
    );
    ensure!(
        ran.lines.is_empty() && ran.bad.is_empty(),
        "a recording prints lines"
    );
    for part in ["a.00000.atrace", "a.00001.atrace"] {
        let ran = replay(survival, &directory.join(part))?;
        ensure!(
            ran.lines.first().is_some_and(|l| is_type(l, "start")),
            "{part} gives no start line: {}",
            ran.log
        );
    }
    let again = survival.run(&[&["record", &path], &common[..]].concat())?;
    ensure!(
        again.code == Some(2) && again.log.contains("is there already"),
        "it wrote over a trace: {}",
        again.log
    );
    Ok(())
}

/// Goal: a trace goes through a pipe. Method: `auditor record - | auditor replay -`.
pub(super) fn piped(survival: &Survival<'_>, _: &Runtime) -> Result<()> {
    let mut recorder = survival
        .command(&["record", "-", "--no-state", "--duration", "2s"])
        .stdout(Stdio::piped())
        .spawn()
        .context("start a recorder")?;
    let trace = recorder.stdout.take().context("it has no output")?;
    let output = survival
        .command(&["replay", "--format", "json", "-"])
        .stdin(trace)
        .output()
        .context("start a replay")?;
    let status = recorder.wait().context("wait for the recorder")?;
    ensure!(status.success(), "the recorder ended with {status}");
    let lines: Vec<Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .context("read the lines")?;
    survival.validate(&lines, &[]);
    ensure!(
        lines.first().is_some_and(|l| is_type(l, "start"))
            && lines.last().is_some_and(|l| is_type(l, "stop")),
        "not a whole stream: {lines:?}"
    );
    Ok(())
}
