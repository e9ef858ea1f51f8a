//! Loss: what is lost is counted, what is not lost is still seen, and nobody waits for a reader.

use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::Survival;
use crate::act::Kind;
use crate::identity::{confidence, is_type, told};
use crate::runtime::Runtime;
use crate::sys;

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
    watch.expect("a loss line", is_overflow)?;
    container.join_host(Kind::Net)?;
    let join = watch.expect(
        "the join after the loss",
        container.broke("namespace-join", "net"),
    )?;
    ensure!(confidence(&join) == "exact", "not exact: {join}");
    let missed = watch.expect(
        "the join during the loss",
        container.broke("namespace-join", "uts"),
    )?;
    ensure!(confidence(&missed) == "inferred", "not inferred: {missed}");
    watch.heartbeats(4)?;
    container.end()?;
    let lines = survival.stop(watch, 4)?;
    survival.none(&lines, "drift")?;
    check_losses(&lines)
}

/// What kernel programs could not hand over. What the kernel left out of them is told by lines of another place.
fn is_overflow(line: &Value) -> bool {
    is_type(line, "loss") && line["place"] == "ring"
}

fn check_losses(lines: &[Value]) -> Result<()> {
    let losses: Vec<&Value> = lines.iter().filter(|line| is_overflow(line)).collect();
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

/// Goal: the self-test at the start is not fooled by a storm that overflows the ring. Method: a small ring, and forks all
/// the while.
pub(super) fn start_in_storm(survival: &Survival<'_>, _: &Runtime) -> Result<()> {
    let mut storm = Command::new(&survival.options.programs.actor)
        .args(["forks", "100000"])
        .spawn()
        .context("start a storm")?;
    let started = survival.watch(&["--ring-size", "64KiB"]);
    // It is ours, and it has done its part.
    let _ = storm.kill();
    storm.wait().context("wait for the storm")?;
    let watch = started?;
    watch.signal(libc::SIGTERM)?;
    let ran = watch.finish()?;
    survival.validate(&ran.lines, &ran.bad);
    // A ring this small may overflow again.
    ensure!(
        matches!(ran.code, Some(0 | 4)),
        "{:?}: {}",
        ran.code,
        ran.log
    );
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
    let status = end_of(&mut child, survival.options.patience * 10)?;
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
    sys::kill(child.id() as i32, libc::SIGTERM).context("signal the auditor")?;
    let status = end_of(&mut child, survival.options.patience * 10)?;
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

/// A small file system that is gone with this.
pub(super) struct Disk(pub(super) PathBuf);

impl Disk {
    /// One of this many KiB.
    pub(super) fn new(path: PathBuf, size: usize) -> Result<Self> {
        std::fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
        let size = format!("size={size}k");
        sys::mount("tmpfs", &path, "tmpfs", 0, &size).context("mount a small tmpfs")?;
        Ok(Self(path))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A mount that stays would be seen when the work directory is removed.
        let _ = sys::umount_detach(&self.0);
    }
}

/// Goal: a full disk costs lines, which are counted, and nothing else. Method: --output on a tmpfs that is full for a while.
pub(super) fn full_disk(survival: &Survival<'_>, runtime: &Runtime) -> Result<()> {
    let mut container = survival.container(runtime, "full-disk")?;
    let disk = Disk::new(survival.path("disk"), 64)?;
    let (ballast, output) = (disk.0.join("ballast"), disk.0.join("lines"));
    std::fs::write(&ballast, [0; 48 << 10]).context("fill the disk")?;
    let path = output.display().to_string();
    let watch = survival.watch(&["--output", &path, "--heartbeat", "1s"])?;
    container.exec(&["nests", "1", "uts", "ipc", "net", "mnt", "cgroup"])?;
    // All that is left.
    let rest = std::fs::write(disk.0.join("rest"), [0; 64 << 10]);
    ensure!(rest.is_err(), "the disk is not full");
    let is_loss = |line: &Value| is_type(line, "loss") && line["place"] == "sink";
    for kind in [Kind::Uts, Kind::Ipc, Kind::Mnt, Kind::Cgroup] {
        container.join_host(kind)?;
    }
    watch.heartbeats(5)?;
    watch.expect("a loss line", is_loss)?;
    std::fs::remove_file(&ballast).context("empty the disk")?;
    container.join_host(Kind::Net)?;
    let join = container.broke("namespace-join", "net");
    watch.expect("the join", &join)?;
    container.end()?;
    survival.stop(watch, 4)?;
    let text = std::fs::read_to_string(&output).context("read the lines")?;
    let (whole, torn): (Vec<_>, Vec<_>) = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).map_err(|_| line))
        .partition(Result::is_ok);
    let whole: Vec<Value> = whole.into_iter().flatten().collect();
    survival.validate(&whole, &[]);
    ensure!(torn.len() <= 1, "{} torn lines", torn.len());
    ensure!(
        whole.iter().any(join) && whole.last().is_some_and(|line| is_type(line, "stop")),
        "what came after the disk had room is not there: {text}"
    );
    Ok(())
}

/// Goal: a flood of different findings is limited and still counted exactly. Method: a task visits many of the host's
/// directories.
pub(super) fn flood(survival: &Survival<'_>, runtime: &Runtime) -> Result<()> {
    const DIRECTORIES: u64 = 300;
    let container = survival.container(runtime, "flood")?;
    let parent = survival.path("directories");
    for number in 0..DIRECTORIES {
        std::fs::create_dir_all(parent.join(number.to_string())).context("make a directory")?;
    }
    let watch = survival.watch(&["--heartbeat", "1s"])?;
    let parent = format!("/hostproc/{}/root{}", std::process::id(), parent.display());
    container.exec(&["walk", &parent])?;
    watch.heartbeats(2)?;
    container.end()?;
    let lines = survival.stop(watch, 0)?;
    let visit = |line: &&Value| {
        is_type(line, "violation") && line["rule"] == "foreign-cwd" && survival.is_ours(line)
    };
    let walked: Vec<&Value> = lines.iter().filter(visit).collect();
    let visits = walked.len() as u64;
    // All are of one short-lived task, and yet none may come after its end.
    let inexact = lines
        .iter()
        .find(|line| visit(line) && confidence(line) != "exact");
    ensure!(inexact.is_none(), "not exact: {inexact:?}");
    let stop = lines.last().context("no line at all")?;
    ensure!(
        (60..100).contains(&visits),
        "{visits} lines: not limited, or too much"
    );
    ensure!(
        stop["suppressed"] == DIRECTORIES - visits,
        "{visits} lines of {DIRECTORIES}, but {stop}"
    );
    ensure!(
        told(&walked) == DIRECTORIES,
        "{visits} lines stand for {} of {DIRECTORIES}",
        told(&walked)
    );
    Ok(())
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
