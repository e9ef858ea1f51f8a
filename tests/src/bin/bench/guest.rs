//! Instructions of system calls in a guest whose clock counts instructions.
//!
//! Under QEMU's `-icount shift=0` one instruction is one nanosecond of the guest, and the processor's time stamp
//! counter counts just these. What interrupts a batch adds to it, and nothing subtracts; so the least of many
//! batches is the number, and it is exact.

use std::ffi::CStr;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use auditor_tests::stream::Auditor;

use crate::load::{self, Short, apart};
use crate::measure::{Goal, say};

const PATIENCE: Duration = Duration::from_secs(120);
/// An ordinary file.
const FILE: &CStr = c"/opened";
const CALLS: u64 = 100;
const BATCHES: usize = 500;
const EXECS: usize = 300;
/// A build takes some billions of instructions, so few of them are enough.
const BUILDS: usize = 3;

/// What is counted, in one state of the guest.
struct Counted {
    getppid: f64,
    /// By a task of the host.
    open: f64,
    /// By one in a mount namespace of its own, which the hooks take for a container's.
    open_apart: f64,
    /// By that one, for writing: it may be a setting of the kernel, so this is the longest way that tells nothing.
    open_write_apart: f64,
    /// A check of a capability by a task of the host.
    check: f64,
    /// By that one apart, which was told before.
    check_apart: f64,
    /// Fork, exec and wait, by a task of the host. The agent's own work falls into other batches than the least.
    exec: f64,
}

/// Compares a guest with itself. The numbers' names begin with `named`.
pub(crate) fn main(auditor: &Path, tier: &str, named: &str) -> Result<()> {
    File::create("/opened").context("make a file to open")?;
    // A kernel that never had such programs is a few instructions faster, and stays slower after them: that is no cost
    // of what runs now.
    // So is one that never had a container: from then on what a task of any cgroup holds is accounted for.
    let build = Short::prepare_build()?;
    build.run_build()?;
    start(auditor, tier)?.stop(PATIENCE)?;
    let without = count()?;
    let build_without = median_build(&build)?;
    let running = start(auditor, tier)?;
    let with = count()?;
    let before = agents(running.id())?;
    let build_with = median_build(&build)?;
    let build_agent = (agents(running.id())? - before) / BUILDS as f64;
    running.stop(PATIENCE)?;
    let again = count()?;
    eprintln!(
        "again {} {} {}",
        again.open, again.open_apart, again.open_write_apart
    );
    let tell =
        |name: &str, value, goal| say(&format!("{named}.{name}"), value, "instructions", goal);
    tell("without", without.getppid, Goal::None);
    tell("after", again.getppid, Goal::None);
    let ratio = |name: &str, ratio, goal| {
        say(
            &format!("{named}.{name}.ratio"),
            ratio,
            "×",
            Goal::AtMost(goal),
        );
    };
    tell("exec", without.exec, Goal::None);
    ratio("exec", with.exec / without.exec, 1.03);
    tell("build", build_without, Goal::None);
    tell("build.agent", build_agent, Goal::None);
    ratio("build", build_with / build_without, 1.02);
    let added = with.getppid - without.getppid;
    if tier == "tracepoint" {
        tell("added", added, Goal::None);
        tell("open", without.open, Goal::None);
        tell("open.host", with.open - without.open, Goal::None);
        let apart = with.open_apart - without.open_apart;
        tell("open.container", apart, Goal::None);
        ratio("open", with.open / without.open, 1.05);
        return Ok(());
    }
    tell("added", added, Goal::AtMost(0.0));
    tell("open", without.open, Goal::None);
    tell("open.after", again.open, Goal::None);
    let added = with.open - without.open;
    tell("open.host", added, Goal::AtMost(150.0));
    let added = with.open_apart - without.open_apart;
    tell("open.container", added, Goal::AtMost(400.0));
    let added = with.open_write_apart - without.open_write_apart;
    tell("open.write", added, Goal::AtMost(400.0));
    tell("check", without.check, Goal::None);
    let added = with.check - without.check;
    tell("check.host", added, Goal::AtMost(200.0));
    let added = with.check_apart - without.check_apart;
    tell("check.container", added, Goal::AtMost(200.0));
    Ok(())
}

fn start(auditor: &Path, tier: &str) -> Result<Auditor> {
    let options = ["--no-state".to_owned(), format!("--tier={tier}")];
    Auditor::start(auditor, &options, PATIENCE)
}

/// What the kernel takes for an open file depends on who had one before beside it in memory: with these held, those that are
/// counted are in fresh memory.
const HELD: usize = 900;

fn count() -> Result<Counted> {
    // First: a program that starts would have to close them.
    let exec = least_exec()?;
    let held = (0..HELD).map(|_| File::open("/opened"));
    let _held: Vec<File> = held.collect::<Result<_, _>>().context("hold files open")?;
    let open = || least(|| load::open_and_close(FILE, libc::O_RDONLY));
    let write = || least(|| load::open_and_close(FILE, libc::O_WRONLY));
    let check = || least(load::check);
    Ok(Counted {
        exec,
        getppid: least(|| {
            // SAFETY: getppid has no arguments and cannot fail.
            unsafe { libc::syscall(libc::SYS_getppid) };
        }),
        open: open(),
        open_apart: apart(open)?,
        open_write_apart: apart(write)?,
        check: check(),
        check_apart: apart(check)?,
    })
}

/// Instructions of one program that starts and ends.
fn least_exec() -> Result<f64> {
    let mut least = u64::MAX;
    for _ in 0..EXECS {
        let before = stamp();
        let status = Command::new("/bin/true").status();
        least = least.min(stamp() - before);
        ensure!(
            status.context("run /bin/true")?.success(),
            "/bin/true failed"
        );
    }
    Ok(least as f64)
}

/// Instructions of a build in a container, its runtime's and the agent's own among them: there is one processor, and it
/// has always something to do.
fn median_build(build: &Short) -> Result<f64> {
    let mut all = Vec::new();
    for _ in 0..BUILDS {
        let before = stamp();
        build.run_build()?;
        all.push(stamp() - before);
    }
    all.sort_unstable();
    Ok(all[BUILDS / 2] as f64)
}

/// Instructions of the agent's own since it began.
fn agents(pid: u32) -> Result<f64> {
    let mut sum = 0.0;
    for thread in
        std::fs::read_dir(format!("/proc/{pid}/task")).context("list the agent's threads")?
    {
        let path = thread
            .context("list the agent's threads")?
            .path()
            .join("schedstat");
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let first = text.split_whitespace().next();
        sum += first
            .and_then(|word| word.parse::<f64>().ok())
            .with_context(|| format!("{} has no time", path.display()))?;
    }
    Ok(sum)
}

/// Instructions of one piece of work.
fn least(mut piece: impl FnMut()) -> f64 {
    let batch = |_| {
        let before = stamp();
        for _ in 0..CALLS {
            piece();
        }
        stamp() - before
    };
    let least = (0..BATCHES).map(batch).min().unwrap_or(0);
    least as f64 / CALLS as f64
}

#[cfg(target_arch = "x86_64")]
fn stamp() -> u64 {
    // SAFETY: the instruction reads a counter, and Linux leaves it open to programs.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
fn stamp() -> u64 {
    let started = std::time::SystemTime::UNIX_EPOCH;
    started.elapsed().map_or(0, |d| d.as_nanos() as u64)
}
