//! `cargo xtask test`: everything that has to hold, in the order in which it fails fastest.
//!
//! One release build serves the host's scenarios and every guest. A failed step does not keep the next from running:
//! one run shows all that is wrong. The last line is `N passed, M failed`.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};

use crate::project::{self, Artifacts};
use crate::tally::Tally;
use crate::{coverage, deps, ebpf, tidy, vm};

/// Run every check and test.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave out the guests, and start few containers on the host.
    #[arg(long)]
    quick: bool,
    /// Only these steps.
    #[arg(long = "only", value_name = "STEP")]
    only: Vec<String>,
    /// Print the steps.
    #[arg(long)]
    list: bool,
}

/// What steps share.
struct Shared {
    quick: bool,
    began: SystemTime,
    artifacts: Option<Artifacts>,
}

impl Shared {
    fn artifacts(&mut self) -> Result<&Artifacts> {
        if self.artifacts.is_none() {
            self.artifacts = Some(project::build()?);
        }
        self.artifacts.as_ref().context("the build gave nothing")
    }
}

struct Step {
    name: &'static str,
    about: &'static str,
    run: fn(&mut Shared) -> Tally,
}

const STEPS: [Step; 10] = [
    Step {
        name: "deps",
        about: "install what the tests need",
        run: |_| one("deps", install),
    },
    Step {
        name: "fmt",
        about: "formatting",
        run: |_| one("fmt", format),
    },
    Step {
        name: "tidy",
        about: "what the compiler cannot check",
        run: |_| one("tidy", tidy::check),
    },
    Step {
        name: "clippy",
        about: "lints, of the kernel programs too",
        run: |_| {
            let mut tally = one("clippy", clippy);
            tally += one("clippy of the kernel programs", ebpf::clippy);
            tally
        },
    },
    Step {
        name: "deny",
        about: "licences, bans and sources of dependencies",
        run: |_| one("deny", deny),
    },
    Step {
        name: "ebpf",
        about: "the committed object matches its sources",
        run: |_| one("ebpf", ebpf::check),
    },
    Step {
        name: "unit",
        about: "unit, property and golden tests",
        run: |_| unit(),
    },
    Step {
        name: "scenarios",
        about: "real containers on this host",
        run: scenarios,
    },
    Step {
        name: "vm",
        about: "real containers on every kernel of the matrix",
        run: guests,
    },
    Step {
        name: "coverage",
        about: "the page of what is proven agrees with what the scenarios just showed",
        run: coverage,
    },
];

/// Runs the task.
pub(crate) fn run(args: &Args) -> Result<()> {
    if args.list {
        for step in &STEPS {
            println!("{}: {}", step.name, step.about);
        }
        return Ok(());
    }
    if let Some(unknown) = args
        .only
        .iter()
        .find(|name| STEPS.iter().all(|step| step.name != **name))
    {
        bail!("no step {unknown}; `--list` prints them");
    }
    let mut shared = Shared {
        quick: args.quick,
        began: SystemTime::now(),
        artifacts: None,
    };
    let mut total = Tally::default();
    let mut summary = Vec::new();
    for step in STEPS.iter().filter(|step| wanted(step, args)) {
        eprintln!("== {}: {}", step.name, step.about);
        let started = Instant::now();
        let tally = (step.run)(&mut shared);
        summary.push(line(step.name, &tally, started.elapsed()));
        total += tally;
    }
    for text in &summary {
        println!("{text}");
    }
    for failure in &total.failures {
        println!("FAIL {failure}");
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    if total.failed > 0 {
        // The last line stays the last: no error message follows.
        std::process::exit(1);
    }
    Ok(())
}

fn wanted(step: &Step, args: &Args) -> bool {
    if args.only.is_empty() {
        !(args.quick && step.name == "vm")
    } else {
        args.only.iter().any(|name| name == step.name)
    }
}

fn line(name: &str, tally: &Tally, took: Duration) -> String {
    let mark = if tally.failed == 0 { "ok  " } else { "FAIL" };
    let Tally {
        passed,
        failed,
        skipped,
        ..
    } = tally;
    format!(
        "{mark} {name:<10} {:>6.1}s  {passed} passed, {failed} failed, {skipped} skipped",
        took.as_secs_f64()
    )
}

fn one(name: &str, check: fn() -> Result<()>) -> Tally {
    Tally::of(name, &check())
}

fn install() -> Result<()> {
    deps::packages()?;
    deps::tools()
}

fn format() -> Result<()> {
    project::run(project::cargo().args(["fmt", "--all", "--check"]))?;
    // A workspace of its own.
    let kernel_programs = ["--manifest-path", "auditor-ebpf/Cargo.toml"];
    project::run(
        project::cargo()
            .args(["fmt", "--check"])
            .args(kernel_programs),
    )
}

fn clippy() -> Result<()> {
    let lint = |scope: &[&str]| {
        let mut cargo = project::cargo();
        cargo.arg("clippy").args(scope);
        project::run(cargo.args(["--all-targets", "--quiet", "--", "--deny", "warnings"]))
    };
    lint(&["--workspace"])?;
    lint(&["--package", "auditor", "--all-features"])
}

fn deny() -> Result<()> {
    project::run(project::cargo().args([
        "deny",
        "--log-level",
        "error",
        "--all-features",
        "check",
        "licenses",
        "bans",
        "sources",
    ]))
}

/// Runs `cargo test`, shows what it prints, and counts.
fn unit() -> Tally {
    let tested = || -> Result<(String, bool)> {
        let output = project::cargo()
            .args([
                "test",
                "--workspace",
                "--no-fail-fast",
                "--quiet",
                "--",
                "--format",
                "pretty",
            ])
            .stderr(Stdio::inherit())
            .output()
            .context("start cargo test")?;
        Ok((
            String::from_utf8_lossy(&output.stdout).into_owned(),
            output.status.success(),
        ))
    };
    let (text, succeeded) = match tested() {
        Ok(tested) => tested,
        Err(error) => return Tally::failure(format!("unit: {error:#}")),
    };
    let mut tally = Tally::of_cargo_test(&text);
    if !succeeded {
        eprint!("{text}");
        if tally.failed == 0 {
            tally += Tally::failure("unit: cargo test failed".to_owned());
        }
    }
    tally
}

fn scenarios(shared: &mut Shared) -> Tally {
    let cycles = if shared.quick { "20" } else { "1000" };
    let mut ran = || -> Result<Tally> {
        let artifacts = shared.artifacts()?;
        let results = coverage::host_results();
        std::fs::write(&results, "").with_context(|| format!("clear {}", results.display()))?;
        let status = Command::new(&artifacts.scenarios)
            .arg("--auditor")
            .arg(&artifacts.auditor)
            .arg("--actor")
            .arg(&artifacts.actor)
            .arg("--results")
            .arg(&results)
            .args(["--cycles", cycles])
            .status()
            .context("start the scenarios")?;
        let (mut tally, _) = Tally::of_results(&results, "host")?;
        if !status.success() && tally.failed == 0 {
            tally += Tally::failure(format!("host: the runner ended with {status}"));
        }
        Ok(tally)
    };
    ran().unwrap_or_else(|error| Tally::failure(format!("scenarios: {error:#}")))
}

fn guests(shared: &mut Shared) -> Tally {
    match shared.artifacts() {
        Ok(artifacts) => vm::matrix(artifacts, 10),
        Err(error) => Tally::failure(format!("vm: {error:#}")),
    }
}

fn coverage(shared: &mut Shared) -> Tally {
    let results = coverage::results_since(shared.began);
    Tally::of("coverage", &coverage::check(&results))
}
