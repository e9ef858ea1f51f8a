//! Boots guests, two at a time, and reads what the scenario runner in them wrote.
//!
//! The console and the results are two serial ports, each a file, so that kernel messages cannot damage a result.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use super::image;
use super::kernels::{self, KERNELS, Kernel};
use super::memory::{self, Hand};
use crate::deps;
use crate::project::{self, Artifacts};
use crate::tally::Tally;

/// Run the scenarios in guests.
#[derive(clap::Args, Clone)]
pub(crate) struct Args {
    /// Only these kernels (5.10, 6.1, …).
    #[arg(long = "kernel")]
    kernels: Vec<String>,
    /// How control groups are mounted.
    #[arg(long, value_enum, default_value_t = Cgroup::Unified)]
    cgroup: Cgroup,
    /// Only scenarios whose name contains this.
    #[arg(long)]
    only: Vec<String>,
    /// Start/stop cycles per runtime.
    #[arg(long, default_value_t = 50)]
    cycles: u32,
    /// Play each scenario with one runtime only: the next kernel takes the other one.
    #[arg(long)]
    by_turns: bool,
    /// Only perform the acts, without the auditor.
    #[arg(long)]
    no_auditor: bool,
    /// Put each guest's traces and lines here, in a directory for each session.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Guests at a time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Seconds that one guest may take.
    #[arg(long, default_value_t = 900)]
    timeout: u64,
    /// An interactive shell in one guest instead.
    #[arg(long)]
    shell: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Cgroup {
    /// Version 2 only.
    Unified,
    /// Version 1 with version 2 beside it, as systemd lays it out; without --only, what has to do with it.
    Hybrid,
}

impl Cgroup {
    const fn name(self) -> &'static str {
        match self {
            Self::Unified => "unified",
            Self::Hybrid => "hybrid",
        }
    }
}

/// Scenarios that have nothing to do with how control groups are mounted. A guest of the same kernel with version 2 runs
/// them.
const APART_FROM_CGROUPS: [&str; 22] = [
    "chain",
    "confinement",
    "escalation",
    "files",
    "gain",
    "handed",
    "handles",
    "host-runs",
    "list-processes",
    "mount-d",
    "mount-host",
    "mount-own",
    "mount-propagate",
    "noise",
    "prestep",
    "reach",
    "self-audit",
    "sharing",
    "signal",
    "sockets",
    "splice",
    "tamper",
];

/// One guest to boot.
#[derive(Clone, Copy)]
struct Guest {
    kernel: &'static Kernel,
    cgroup: Cgroup,
}

impl Guest {
    fn name(self) -> String {
        format!("{}-{}", self.kernel.series, self.cgroup.name())
    }

    /// Which runtime's turn it is. A kernel with another layout takes the other one.
    fn turn(self) -> usize {
        let index = KERNELS
            .iter()
            .position(|kernel| kernel.series == self.kernel.series);
        index.unwrap_or(0) + usize::from(self.cgroup == Cgroup::Hybrid)
    }
}

/// Runs the task.
pub(crate) fn main(args: &Args) -> Result<()> {
    deps::packages()?;
    let artifacts = project::build()?;
    let kernels = chosen(&args.kernels)?;
    if args.shell {
        let guest = Guest {
            kernel: kernels[0],
            cgroup: args.cgroup,
        };
        return shell(guest, &artifacts);
    }
    let guests = kernels
        .into_iter()
        .map(|kernel| Guest {
            kernel,
            cgroup: args.cgroup,
        })
        .collect();
    let tally = run_all(guests, args, &artifacts);
    report(&tally)
}

fn report(tally: &Tally) -> Result<()> {
    for failure in &tally.failures {
        eprintln!("FAIL {failure}");
    }
    let Tally {
        passed,
        failed,
        skipped,
        ..
    } = tally;
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    ensure!(*failed == 0, "{failed} failed");
    Ok(())
}

/// The whole matrix: every kernel with version 2, and one with the hybrid layout.
pub(crate) fn matrix(artifacts: &Artifacts, cycles: u32) -> Tally {
    let args = Args {
        kernels: Vec::new(),
        cgroup: Cgroup::Unified,
        only: Vec::new(),
        cycles,
        // The host plays all with both. What the kernel says does not depend on who started the container.
        by_turns: true,
        no_auditor: false,
        keep: None,
        jobs: 2,
        timeout: 2400,
        shell: false,
    };
    let mut guests: Vec<Guest> = KERNELS
        .iter()
        .map(|kernel| Guest {
            kernel,
            cgroup: Cgroup::Unified,
        })
        .collect();
    guests.push(Guest {
        kernel: &KERNELS[1],
        cgroup: Cgroup::Hybrid,
    });
    run_all(guests, &args, artifacts)
}

fn chosen(series: &[String]) -> Result<Vec<&'static Kernel>> {
    if series.is_empty() {
        return Ok(KERNELS.iter().collect());
    }
    series
        .iter()
        .map(|series| kernels::by_series(series))
        .collect()
}

fn run_all(guests: Vec<Guest>, args: &Args, artifacts: &Artifacts) -> Tally {
    // Once, before guests of one kernel could do it side by side.
    for guest in &guests {
        if let Err(error) = kernels::fetch(guest.kernel) {
            return Tally::failure(format!("kernel {}: {error:#}", guest.kernel.series));
        }
    }
    let queue = Mutex::new(guests.into_iter());
    let total = Mutex::new(Tally::default());
    let next = || queue.lock().ok()?.next();
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.max(1) {
            scope.spawn(|| {
                while let Some(guest) = next() {
                    let started = Instant::now();
                    let tally = run_one(guest, args, artifacts).unwrap_or_else(|error| {
                        Tally::failure(format!("{}: {error:#}", guest.name()))
                    });
                    let Tally {
                        passed,
                        failed,
                        skipped,
                        ..
                    } = &tally;
                    eprintln!(
                        "guest {}: {passed} passed, {failed} failed, {skipped} skipped in {:.0?}",
                        guest.name(),
                        started.elapsed()
                    );
                    if let Ok(mut total) = total.lock() {
                        *total += tally;
                    }
                }
            });
        }
    });
    total
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Files of one guest.
struct Files {
    image: PathBuf,
    kernel: PathBuf,
    console: PathBuf,
    results: PathBuf,
    traces: PathBuf,
}

/// Runs a program in a guest of one processor whose clock counts instructions, and gives what it wrote to the second
/// serial port. The words of the program are separated by commas.
pub(crate) fn count_instructions(
    artifacts: &Artifacts,
    series: &str,
    program: &str,
    timeout: Duration,
) -> Result<String> {
    let guest = Guest {
        kernel: kernels::by_series(series)?,
        cgroup: Cgroup::Unified,
    };
    let files = prepare(guest, &format!("{}-instructions", guest.name()), artifacts)?;
    let mut child = qemu(&files, guest, program, Clock::Instructions)
        .arg("-serial")
        .arg(format!("file:{}", files.console.display()))
        .arg("-serial")
        .arg(format!("file:{}", files.results.display()))
        .args(["-serial", "null"])
        .stdin(Stdio::null())
        .spawn()
        .context("start qemu-system-x86_64")?;
    wait(&mut child, timeout, |_| Ok(()))
        .with_context(|| format!("console ends with:\n{}", tail(&files.console)))?;
    let results = std::fs::read_to_string(&files.results)
        .with_context(|| format!("read {}", files.results.display()))?;
    ensure!(
        results.lines().last() == Some("{\"exit\":0}"),
        "the guest failed; its console ends with:\n{}",
        tail(&files.console)
    );
    Ok(results)
}

/// Makes the files of a guest, in a directory of this name.
fn prepare(guest: Guest, name: &str, artifacts: &Artifacts) -> Result<Files> {
    let ready = kernels::fetch(guest.kernel)?;
    let directory = project::target().join("vm/guests").join(name);
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("create {}", directory.display()))?;
    let file = |name: &str| directory.join(name);
    let files = Files {
        image: file("initramfs.cpio"),
        kernel: ready.image.clone(),
        console: file("console.log"),
        results: file("results.jsonl"),
        traces: file("traces"),
    };
    image::build(artifacts, guest.kernel, &ready, &files.image)?;
    for path in [&files.console, &files.results, &files.traces] {
        std::fs::write(path, "").with_context(|| format!("clear {}", path.display()))?;
    }
    Ok(files)
}

/// How often a guest is started again that emulation broke.
const RESTARTS: u32 = 2;
/// What a guest may take from its start to the end of its first case, which takes seconds.
const FIRST_CASE: Duration = Duration::from_secs(300);

/// What a guest's time is made of.
#[derive(Clone, Copy)]
enum Clock {
    /// The host's time; two processors, in one thread: in two, one may execute code that the other is just patching. With
    /// two guests side by side it is not slower.
    Real,
    /// One nanosecond per instruction; one processor, because only then they have an order.
    Instructions,
}

impl Clock {
    const fn options(self) -> &'static [&'static str] {
        match self {
            // A plain processor: what newer ones have for speed is slow where it is emulated.
            Self::Real => &[
                "-accel",
                "tcg,thread=single",
                "-smp",
                "2",
                "-cpu",
                "Nehalem",
            ],
            Self::Instructions => &[
                "-accel",
                "tcg,thread=single",
                "-smp",
                "1",
                "-cpu",
                "max",
                "-icount",
                "shift=0,sleep=off",
            ],
        }
    }

    /// Words for the kernel.
    const fn words(self) -> &'static str {
        match self {
            // They cost 7 % of the time, and are against what a processor does that is not emulated.
            Self::Real => "mitigations=off",
            Self::Instructions => "",
        }
    }
}

fn qemu(files: &Files, guest: Guest, program: &str, clock: Clock) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args(clock.options())
        .args(["-m", "2048M"])
        .args(["-no-reboot", "-nodefaults", "-display", "none", "-kernel"])
        .arg(&files.kernel)
        .arg("-initrd")
        .arg(&files.image)
        .arg("-append")
        .arg(format!(
            "console=ttyS0 panic=-1 oops=panic quiet {} guest.cgroup={} guest.run={program}",
            clock.words(),
            guest.cgroup.name()
        ));
    command
}

/// Runs a guest. One that software emulation of two processors broke is started again: it dies before its first case, or
/// one processor executes the breakpoint by which the other one has just patched code, after the kernel has forgotten it.
/// Whatever else fails is a failure.
fn run_one(guest: Guest, args: &Args, artifacts: &Artifacts) -> Result<Tally> {
    for _ in 0..RESTARTS {
        let (tally, console) = boot(guest, args, artifacts)?;
        let why = if tally.passed == 0 {
            "no case ran"
        } else if console.contains("Oops: int3") {
            "emulation broke its kernel's code patching"
        } else {
            return Ok(tally);
        };
        eprintln!("guest {}: {why}; starting it again", guest.name());
    }
    Ok(boot(guest, args, artifacts)?.0)
}

/// A run, and what its kernel said.
fn boot(guest: Guest, args: &Args, artifacts: &Artifacts) -> Result<(Tally, String)> {
    let files = prepare(guest, &guest.name(), artifacts)?;
    let mut program = vec![
        "/bin/scenarios".to_owned(),
        format!("--cycles={}", args.cycles),
    ];
    program.extend([
        "--results=/dev/ttyS1".to_owned(),
        "--memory=/dev/ttyS1".to_owned(),
        "--hand-over=/dev/ttyS2".to_owned(),
        "--patience=10".to_owned(),
        // What the auditor survives does not depend on the kernel, and takes longest where time is slow.
        "--without=survive".to_owned(),
    ]);
    if args.by_turns {
        program.push(format!("--turn={}", guest.turn()));
    }
    if guest.cgroup == Cgroup::Hybrid && args.only.is_empty() {
        let apart = APART_FROM_CGROUPS.iter();
        program.extend(apart.map(|name| format!("--without={name}")));
    }
    program.extend(args.only.iter().map(|only| format!("--only={only}")));
    program.push(
        if args.no_auditor {
            "--no-auditor"
        } else {
            "--auditor=/bin/auditor"
        }
        .to_owned(),
    );
    let mut hand = Hand::new(&files.results)?;
    let mut child = qemu(&files, guest, &program.join(","), Clock::Real)
        .args(memory::OPTIONS)
        .arg("-serial")
        .arg(format!("file:{}", files.console.display()))
        .arg("-serial")
        .arg(format!("file:{}", files.results.display()))
        .arg("-serial")
        .arg(format!("file:{}", files.traces.display()))
        .stdin(Stdio::null())
        .spawn()
        .context("start qemu-system-x86_64")?;
    let timeout = Duration::from_secs(args.timeout);
    let started = Instant::now();
    let ended = wait(&mut child, timeout, |child| {
        let begun = started.elapsed() < FIRST_CASE || std::fs::metadata(&files.results)?.len() > 0;
        ensure!(begun, "no case ran within {FIRST_CASE:?}");
        hand.serve(child)
    });
    let (mut tally, exit) = Tally::of_results(&files.results, &guest.name())?;
    let problem = match (&ended, exit) {
        (Err(error), _) => Some(format!("{error:#}")),
        (Ok(()), Some(0 | 1)) if tally.passed + tally.failed > 0 => None,
        (Ok(()), other) => Some(format!("the runner ended with {other:?}")),
    };
    if let Some(problem) = problem {
        let (name, console) = (guest.name(), tail(&files.console));
        tally += Tally::failure(format!("{name}: {problem}; console ends with:\n{console}"));
    }
    // Of a guest that was stopped the last trace may be torn.
    if ended.is_ok() && !args.no_auditor {
        tally += replay(&files, guest, args, artifacts)?;
    }
    let console = std::fs::read(&files.console)
        .with_context(|| format!("read {}", files.console.display()))?;
    Ok((tally, String::from_utf8_lossy(&console).into_owned()))
}

/// Replays on this machine what the guest recorded.
fn replay(files: &Files, guest: Guest, args: &Args, artifacts: &Artifacts) -> Result<Tally> {
    let results = files.results.with_extension("replayed");
    std::fs::write(&results, "").with_context(|| format!("clear {}", results.display()))?;
    let mut command = Command::new(&artifacts.scenarios);
    command.arg("--auditor").arg(&artifacts.auditor);
    command.arg("--replay").arg(&files.traces);
    command.arg("--results").arg(&results);
    if let Some(directory) = &args.keep {
        let directory = directory.join(guest.name());
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("create {}", directory.display()))?;
        command.arg("--keep").arg(directory);
    }
    let status = command.status().context("start the replays")?;
    let (mut tally, _) = Tally::of_results(&results, &guest.name())?;
    if !status.success() && tally.failed == 0 {
        let name = guest.name();
        tally += Tally::failure(format!("{name}: the replays ended with {status}"));
    }
    Ok(tally)
}

/// Waits for a guest's end, and meanwhile does for it what it asks for.
fn wait(
    child: &mut Child,
    timeout: Duration,
    mut serve: impl FnMut(&Child) -> Result<()>,
) -> Result<()> {
    let deadline = Instant::now() + timeout;
    while child.try_wait().context("wait for the guest")?.is_none() {
        let mut served = serve(child);
        if served.is_ok() && Instant::now() > deadline {
            served = Err(anyhow!("the guest did not end within {timeout:?}"));
        }
        if served.is_err() {
            child.kill().context("stop the guest")?;
            child.wait().context("wait for the guest")?;
            return served;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn tail(path: &Path) -> String {
    const LINES: usize = 30;
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

fn shell(guest: Guest, artifacts: &Artifacts) -> Result<()> {
    let files = prepare(guest, &guest.name(), artifacts)?;
    eprintln!("leave with `exit`, or Ctrl-A X");
    project::run(
        qemu(&files, guest, "/bin/sh", Clock::Real)
            .args(["-serial", "mon:stdio", "-serial"])
            .arg(format!("file:{}", files.results.display()))
            .args(["-serial", "null"]),
    )
}
