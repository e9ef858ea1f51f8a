//! What the agent costs others: each load runs without and with it in turn, so that a machine that becomes
//! slower or faster does so for both.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use auditor_tests::stream::Auditor;

use crate::load::{self, Short};
use crate::measure::{Goal, median, say};
use crate::model::memory_of;

const PATIENCE: Duration = Duration::from_secs(60);
/// Turns without and with the agent.
const TURNS: usize = 5;
/// Batches of each load per turn.
const BATCHES: usize = 9;
/// The agent's own start must be over: the sweep after it, and what freed memory causes.
const SETTLE: Duration = Duration::from_millis(300);

/// Medians of a load, without and with the agent.
struct Cost {
    without: f64,
    with: f64,
}

impl Cost {
    fn ratio(&self) -> f64 {
        self.with / self.without
    }
}

fn start(auditor: &Path) -> Result<Auditor> {
    start_with(auditor, &[])
}

fn start_with(auditor: &Path, more: &[String]) -> Result<Auditor> {
    let arguments = [&["--no-state".to_owned()], more].concat();
    let running = Auditor::start(auditor, &arguments, PATIENCE)?;
    std::thread::sleep(SETTLE);
    Ok(running)
}

fn compare(auditor: &Path, load: impl FnMut() -> Result<f64>) -> Result<Cost> {
    compare_watches([None, Some(&[])], auditor, load)
}

/// As [`compare`], of two watches with these flags, or of none.
fn compare_watches(
    watches: [Option<&[String]>; 2],
    auditor: &Path,
    mut load: impl FnMut() -> Result<f64>,
) -> Result<Cost> {
    let mut all = [Vec::new(), Vec::new()];
    // What the first batch loads into caches is nobody's cost.
    load()?;
    for _ in 0..TURNS {
        for (watch, values) in watches.iter().zip(&mut all) {
            let start = |flags: &[String]| start_with(auditor, flags);
            let running = watch.map(start).transpose()?;
            for _ in 0..BATCHES {
                values.push(load()?);
            }
            if let Some(running) = running {
                running.stop(PATIENCE)?;
            }
        }
    }
    let [without, with] = all.map(median);
    Ok(Cost { without, with })
}

/// Every system call of everybody, where the agent looks at those of containers.
pub(crate) fn looked_at(auditor: &Path) -> Result<()> {
    let looks = ["--syscalls".to_owned()];
    let compare = |load: &dyn Fn() -> Result<f64>| {
        let cost = compare_watches([None, Some(&looks)], auditor, load)?;
        anyhow::Ok(cost.with - cost.without)
    };
    let added = compare(&load::getppid)?;
    say("syscalls.host.added", added, "ns", Goal::None);
    let added = compare(&load::container_getppid)?;
    say("syscalls.added", added, "ns", Goal::None);
    Ok(())
}

/// Every system call of everybody.
pub(crate) fn syscalls(auditor: &Path) -> Result<()> {
    let cost = compare(auditor, load::getppid)?;
    say("getppid.without", cost.without, "ns", Goal::None);
    say("getppid.with", cost.with, "ns", Goal::None);
    let added = cost.with - cost.without;
    say("getppid.added", added, "ns", Goal::AtMost(45.0));
    Ok(())
}

/// Files that are opened.
pub(crate) fn opens(auditor: &Path) -> Result<()> {
    let cost = compare(auditor, load::open)?;
    say("open.without", cost.without, "ns", Goal::None);
    say("open.ratio", cost.ratio(), "×", Goal::AtMost(1.05));
    Ok(())
}

/// Checks of capabilities: a watch by one that does not look at them.
pub(crate) fn checks(auditor: &Path) -> Result<()> {
    let blind = ["cap_capable", "cap_capable/entry"].map(|hook| format!("--without-hook={hook}"));
    let compare =
        |load: &dyn Fn() -> Result<f64>| compare_watches([Some(&blind), Some(&[])], auditor, load);
    let cost = compare(&load::host_checks)?;
    say("check.without", cost.without, "ns", Goal::None);
    let added = cost.with - cost.without;
    say("check.host.added", added, "ns", Goal::None);
    let cost = compare(&load::container_checks)?;
    let added = cost.with - cost.without;
    say("check.added", added, "ns", Goal::None);
    let steps = load::steps_of_a_check();
    let cost = compare(&|| load::paced_checks(steps))?;
    say("check.paced", cost.without / 1e3, "µs", Goal::None);
    say("check.ratio", cost.ratio(), "×", Goal::AtMost(1.01));
    Ok(())
}

/// A build in a container.
pub(crate) fn builds(auditor: &Path) -> Result<()> {
    let build = Short::prepare_build()?;
    let mut all = [const { Vec::new() }; 4];
    build.run_build()?;
    for _ in 0..TURNS {
        for index in [0, 1] {
            let running = (index == 1).then(|| start(auditor)).transpose()?;
            for _ in 0..BATCHES {
                let [processor, clock] = build.run_build()?;
                all[index].push(processor);
                all[index + 2].push(clock);
            }
            if let Some(running) = running {
                running.stop(PATIENCE)?;
            }
        }
    }
    let [without, with, clock_without, clock_with] = all.map(median);
    say("build.without", without / 1e6, "ms", Goal::None);
    say("build.ratio", with / without, "×", Goal::AtMost(1.02));
    say("build.clock", clock_with / clock_without, "×", Goal::None);
    Ok(())
}

/// Programs that start and end.
pub(crate) fn execs(auditor: &Path) -> Result<()> {
    let cost = compare(auditor, load::exec)?;
    say("exec.without", cost.without / 1e3, "µs", Goal::None);
    say("exec.ratio", cost.ratio(), "×", Goal::AtMost(1.03));
    Ok(())
}

/// Programs that start and end under a watch, and under one that records.
pub(crate) fn recording(auditor: &Path) -> Result<()> {
    let directory = tempfile::tempdir().context("make a directory")?;
    let mut all = [Vec::new(), Vec::new()];
    for turn in 0..TURNS {
        for (index, values) in all.iter_mut().enumerate() {
            let path = directory.path().join(format!("{turn}.atrace"));
            let record = ["--record".to_owned(), path.display().to_string()];
            let more = if index == 1 { &record[..] } else { &[] };
            let running = start_with(auditor, more)?;
            for _ in 0..BATCHES {
                values.push(load::exec()?);
            }
            running.stop(PATIENCE)?;
        }
    }
    let [without, with] = all.map(median);
    say("record.ratio", with / without, "×", Goal::AtMost(1.05));
    Ok(())
}

/// Namespaces that are made.
pub(crate) fn unshares(auditor: &Path) -> Result<()> {
    let cost = compare(auditor, load::unshare)?;
    say("unshare.without", cost.without / 1e3, "µs", Goal::None);
    say("unshare.ratio", cost.ratio(), "×", Goal::None);
    Ok(())
}

/// Containers that start and end.
pub(crate) fn containers(auditor: &Path) -> Result<()> {
    let short = Short::prepare()?;
    let cost = compare(auditor, || short.run())?;
    say("runc.without", cost.without / 1e6, "ms", Goal::None);
    say("runc.ratio", cost.ratio(), "×", Goal::None);
    Ok(())
}

/// Memory of the agent on this machine.
pub(crate) fn memory(auditor: &Path) -> Result<()> {
    let running = start(auditor)?;
    let pid = running.id().to_string();
    let all = memory_of(&pid, "VmRSS")?;
    let rings = rings(&pid)?;
    running.stop(PATIENCE)?;
    say("memory.rings", rings / 1024.0, "MiB", Goal::None);
    let rest = (all - rings) / 1024.0;
    say("memory.agent", rest, "MiB", Goal::AtMost(40.0));
    Ok(())
}

/// Resident KiB of mapped ring buffers. Their pages are the kernel's, and there whether mapped or not.
fn rings(pid: &str) -> Result<f64> {
    let path = format!("/proc/{pid}/smaps");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let mut inside = false;
    let mut total = 0.0;
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["Rss:", kilobytes, ..] if inside => total += kilobytes.parse::<f64>().unwrap_or(0.0),
            [range, ..] if range.contains('-') && !range.ends_with(':') => {
                inside = line.contains("bpf-map") || line.contains("bpf_map");
            }
            _ => {}
        }
    }
    Ok(total)
}
