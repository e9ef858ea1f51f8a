//! The scenario runner: on a host as root, and as the first process of a guest.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use auditor_tests::bundle::Programs;
use auditor_tests::outcome::{Report, Verdict};
use auditor_tests::runner::{self, Options, Show};
use auditor_tests::runtime::{Layout, Runtime};
use auditor_tests::{contract, guest, identity, interrupt, sys, table};
use clap::Parser;

/// Runs real containers and checks what the auditor says about them.
#[derive(Debug, Parser)]
struct Arguments {
    /// The auditor to test.
    #[arg(long, required_unless_present_any = ["no_auditor", "list"])]
    auditor: Option<PathBuf>,
    /// Only perform the acts, to see that each succeeds here.
    #[arg(long, conflicts_with = "auditor")]
    no_auditor: bool,
    /// The actor; by default beside this program.
    #[arg(long)]
    actor: Option<PathBuf>,
    /// A static busybox.
    #[arg(long, default_value = "/bin/busybox")]
    busybox: PathBuf,
    /// Runtimes to use.
    #[arg(long, value_delimiter = ',', default_value = "runc,crun")]
    runtimes: Vec<String>,
    /// Play each scenario with one of the runtimes only, by turns; another number makes others of them.
    #[arg(long, value_name = "NUMBER")]
    turn: Option<usize>,
    /// Only scenarios whose name contains this; `silence` and `survive` are some too.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Leaves out scenarios whose name contains this.
    #[arg(long, value_delimiter = ',')]
    without: Vec<String>,
    /// Start/stop cycles per runtime.
    #[arg(long, default_value_t = 1000)]
    cycles: u32,
    /// How many seconds an expected line is waited for.
    #[arg(long, default_value_t = 5)]
    patience: u64,
    /// Append one JSON line per case to this file.
    #[arg(long)]
    results: Option<PathBuf>,
    /// Ask for changes of this machine's memory in this file, which somebody outside must read.
    #[arg(long)]
    memory: Option<PathBuf>,
    /// Append each session's traces and lines to this file, for a replay elsewhere.
    #[arg(long)]
    hand_over: Option<PathBuf>,
    /// Run nothing, but replay what a run elsewhere handed over.
    #[arg(long, value_name = "FILE", requires = "auditor")]
    replay: Option<PathBuf>,
    /// Where what was handed over is unpacked, a directory for each session; it stays.
    #[arg(long, value_name = "DIR", requires = "replay")]
    keep: Option<PathBuf>,
    /// Print the violations of our containers on standard output.
    #[arg(long)]
    show: bool,
    /// Print the scenarios and end.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    if std::process::id() == 1 && std::env::args().next().as_deref() == Some("/init") {
        guest::main();
    }
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("scenarios: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: Arguments) -> Result<bool> {
    if arguments.list {
        for scenario in table::scenarios() {
            println!(
                "{} [{}]: {}",
                scenario.id,
                scenario.session.name(),
                scenario.does
            );
        }
        return Ok(true);
    }
    interrupt::catch();
    sys::keep_descriptors();
    let work = tempfile::Builder::new()
        .prefix("auditor-tests-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir()
        .context("create a directory for bundles")?;
    let beside = std::env::current_exe()
        .context("find this program")?
        .with_file_name("actor");
    let patience = Duration::from_secs(arguments.patience);
    let layout = Layout::detect();
    let runtimes = arguments.runtimes.into_iter();
    let mut report = Report::new(arguments.results.as_deref())?;
    if let (Some(handed), Some(auditor)) = (&arguments.replay, &arguments.auditor) {
        let keep = arguments.keep.as_deref().unwrap_or(work.path());
        contract::replay_elsewhere(auditor, handed, keep, &mut report)?;
        return finish(&report);
    }
    let options = Options {
        auditor: arguments.auditor,
        programs: Programs {
            actor: arguments.actor.unwrap_or(beside),
            busybox: arguments.busybox,
        },
        runtimes: runtimes
            .map(|name| Runtime {
                name,
                layout,
                patience: patience * 10,
            })
            .collect(),
        turn: arguments.turn,
        only: arguments.only,
        without: arguments.without,
        cycles: arguments.cycles,
        patience,
        work: work.path().to_owned(),
        prefix: identity::run_prefix(),
        memory: arguments.memory,
        hand_over: arguments.hand_over,
        show: if arguments.show {
            Show::Violations
        } else {
            Show::Nothing
        },
    };
    runner::run(&options, &mut report)?;
    finish(&report)
}

fn finish(report: &Report) -> Result<bool> {
    let [passed, failed, skipped] =
        [Verdict::Passed, Verdict::Failed, Verdict::Skipped].map(|verdict| report.count(verdict));
    eprintln!("{passed} passed, {failed} failed, {skipped} skipped");
    Ok(failed == 0)
}
