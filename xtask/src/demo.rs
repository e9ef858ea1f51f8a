//! `cargo xtask demo`: two real containers, one breaks out, and the auditor says so.
//!
//! The way out is a common mistake, not an exploit: a container that may administer namespaces sees the host's
//! processes. The demonstration is one scenario of the test suite with its lines made readable; the runner removes
//! its containers whatever happens, and an interrupt reaches it as it reaches this task.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{deps, project};

/// Let a container break out of its isolation.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Container runtime.
    #[arg(long, default_value = "runc")]
    runtime: String,
    /// `join-host`, `join-neighbour`, `directories`, … (see `scenarios --list`).
    #[arg(long, default_value = "join-many-host")]
    scenario: String,
}

/// Runs the task.
pub(crate) fn run(args: &Args) -> Result<()> {
    deps::packages()?;
    // The runner removes its containers when it is interrupted; this task must outlive it to say so.
    let handler: extern "C" fn(i32) = outlive;
    // SAFETY: the handler does nothing, and programs that are started later have the default again.
    unsafe { libc::signal(libc::SIGINT, handler as libc::sighandler_t) };
    eprintln!("building");
    let artifacts = project::build()?;
    println!(
        "Two {} containers start; one of them has the host's pid namespace and CAP_SYS_ADMIN.",
        args.runtime
    );
    let mut runner = Command::new(&artifacts.scenarios)
        .arg("--auditor")
        .arg(&artifacts.auditor)
        .args([
            "--runtimes",
            &args.runtime,
            "--only",
            &args.scenario,
            "--show",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("start the scenario runner")?;
    let lines = runner
        .stdout
        .take()
        .context("the runner's output is not piped")?;
    let mut shown = 0;
    for line in BufReader::new(lines).lines() {
        let line = line.context("read the runner's output")?;
        let Ok(value) = serde_json::from_str::<Value>(&line) else {
            continue;
        };
        if value.get("type").and_then(Value::as_str) == Some("violation") {
            show(&value);
            shown += 1;
        }
    }
    runner.wait().context("wait for the scenario runner")?;
    ensure!(
        shown > 0,
        "the auditor reported nothing; `auditor doctor` says what it can see here"
    );
    println!("\n{shown} violations; the containers are gone.");
    Ok(())
}

extern "C" fn outlive(_signal: i32) {}

fn show(line: &Value) {
    let text = |pointer: &str| line.pointer(pointer).and_then(Value::as_str).unwrap_or("-");
    println!(
        "\n{}  {}",
        text("/severity").to_uppercase(),
        text("/message")
    );
    println!(
        "  rule     {} ({}), dimension {}",
        text("/rule"),
        text("/transition"),
        text("/dimension")
    );
    let pid = line
        .pointer("/subject/task/pid")
        .map_or_else(|| "-".to_owned(), Value::to_string);
    println!("  task     pid {pid}, {}", text("/subject/task/comm"));
    println!(
        "  witness  {} in {} ({})",
        text("/witness/hook"),
        text("/witness/syscall"),
        text("/tier")
    );
    println!("  line     {line}");
}
