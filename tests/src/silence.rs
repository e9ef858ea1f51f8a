//! Ordinary life that must not be a violation: start and stop, exec, hooks, redirection, administrators, services.
//!
//! The cases only perform; what the auditor said meanwhile is judged when its session ends. Those with real tools are in
//! the files below this one, each with a tool's name.

mod checkpoint;
mod containerd;
mod cri;
mod host;
mod image;
mod inside;
mod lxc;
mod podman;
mod sandbox;
mod tool;

use std::collections::BTreeSet;

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::bundle::{self, Bundle, Given};
use crate::identity::container_id;
use crate::interrupt;
use crate::outcome::Report;
use crate::runner::Options;
use crate::runtime::{Layout, Runtime, finish};
use crate::scenario::Container;

type Case = fn(&Options, &Runtime) -> Result<()>;
type HostCase = fn(&Options) -> Result<()>;

const CASES: [(&str, Case); 8] = [
    ("exec", exec),
    ("created-only", created_only),
    ("redirected", redirected),
    ("hooks", hooks),
    ("enter", enter),
    ("life", life),
    ("init", init),
    ("cycles", cycles),
];

/// Runs every case with every runtime, then what concerns the host alone, then real tools. Gives the names of cases and
/// the ids of containers whose lines are theirs.
///
/// # Errors
/// When the surroundings fail; a failed case is an outcome.
pub fn run(options: &Options, report: &mut Report) -> Result<Vec<(String, BTreeSet<String>)>> {
    for runtime in &options.runtimes {
        for (name, case) in CASES {
            let started = Instant::now();
            let problem = case(options, runtime)
                .err()
                .map(|error| format!("{error:#}"));
            report.check(
                format!("{}/silence/{name}", runtime.name),
                started.elapsed(),
                problem,
            )?;
        }
    }
    let host: [(&str, HostCase); 3] = [("unit", unit), ("sandbox", sandbox), ("veth", veth)];
    for (name, case) in host {
        let started = Instant::now();
        let problem = case(options).err().map(|error| format!("{error:#}"));
        report.check(format!("host/silence/{name}"), started.elapsed(), problem)?;
    }
    tool::run(options, report)
}

fn prepare(options: &Options, runtime: &Runtime, name: &str, args: &[&str]) -> Result<Bundle> {
    let id = container_id(&options.prefix, &runtime.name, "silence", name);
    let given = Given {
        id: &id,
        args,
        net_path: None,
        cgroup_namespace: runtime.layout == Layout::Unified,
        cgroup_parent: &options.cgroup_parent(),
        share: None,
    };
    bundle::write(
        &options.work,
        &options.programs,
        &Container::plain("silent"),
        &given,
    )
}

fn discard(bundle: &Bundle) -> Result<()> {
    std::fs::remove_dir_all(&bundle.directory)
        .with_context(|| format!("remove {}", bundle.directory.display()))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("{} is not text", path.display()))
}

fn exec(options: &Options, runtime: &Runtime) -> Result<()> {
    let bundle = prepare(options, runtime, "exec", &["/bin/actor", "serve"])?;
    let container = runtime.start(&bundle, None)?;
    for _ in 0..5 {
        runtime.run(&["exec", &bundle.id, "/bin/true"], None)?;
    }
    container.stop()?;
    discard(&bundle)
}

/// What ordinary programs do, as the container's first program and by exec.
fn life(options: &Options, runtime: &Runtime) -> Result<()> {
    let bundle = prepare(options, runtime, "life", &["/bin/sh", "-c", image::LIFE])?;
    runtime.run(
        &["run", "--bundle", text(&bundle.directory)?, &bundle.id],
        None,
    )?;
    discard(&bundle)?;
    let bundle = prepare(options, runtime, "lively", &["/bin/actor", "serve"])?;
    let container = runtime.start(&bundle, None)?;
    for _ in 0..2 {
        runtime.run(&["exec", &bundle.id, "/bin/sh", "-c", image::LIFE], None)?;
    }
    container.stop()?;
    discard(&bundle)
}

/// An init system, which starts services, is told to start another, and reaps what is left to it.
fn init(options: &Options, runtime: &Runtime) -> Result<()> {
    let bundle = prepare(options, runtime, "init", &["/bin/busybox", "init"])?;
    let etc = bundle.directory.join("rootfs/etc");
    let script = format!("{}\n: >/tmp/done\n", image::LIFE);
    let inittab = "::sysinit:/bin/true\n::wait:/bin/sh /etc/life\n::respawn:/bin/sleep 0.2\n";
    for (name, content) in [("life", script.as_str()), ("inittab", inittab)] {
        let path = etc.join(name);
        std::fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
    }
    let log = File::create(bundle.directory.join("log")).context("create a log")?;
    let mut child = runtime
        .command(None)
        .args(["run", "--bundle", text(&bundle.directory)?, &bundle.id])
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("share the log")?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("start {}", runtime.name))?;
    let deadline = Instant::now() + options.patience * 10;
    let done = bundle.directory.join("rootfs/tmp/done");
    while !done.exists() && Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    // HUP: it reads its table again.
    runtime.run(&["kill", &bundle.id, "HUP"], None)?;
    std::thread::sleep(std::time::Duration::from_millis(300));
    runtime.run(&["kill", &bundle.id, "KILL"], None)?;
    child.wait().context("wait for the runtime")?;
    let said = std::fs::read_to_string(bundle.directory.join("log")).unwrap_or_default();
    ensure!(done.exists(), "the services did not end: {said}");
    discard(&bundle)
}

fn created_only(options: &Options, runtime: &Runtime) -> Result<()> {
    let bundle = prepare(options, runtime, "created", &["/bin/true"])?;
    runtime.run(
        &["create", "--bundle", text(&bundle.directory)?, &bundle.id],
        None,
    )?;
    runtime.delete(&bundle.id)?;
    discard(&bundle)
}

fn redirected(options: &Options, runtime: &Runtime) -> Result<()> {
    let bundle = prepare(
        options,
        runtime,
        "redirected",
        &["/bin/sh", "-c", "echo out; cat"],
    )?;
    let input = bundle.directory.join("config.json");
    let path = bundle.directory.join("output");
    let output = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    let status = runtime
        .command(None)
        .args(["run", "--bundle", text(&bundle.directory)?, &bundle.id])
        .stdin(File::open(&input).with_context(|| format!("open {}", input.display()))?)
        .stderr(output.try_clone().context("share the output")?)
        .stdout(output)
        .status()
        .with_context(|| format!("start {}", runtime.name))?;
    let written =
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    ensure!(
        status.success() && written.starts_with("out\n"),
        "{status}: {written}"
    );
    discard(&bundle)
}

fn hooks(options: &Options, runtime: &Runtime) -> Result<()> {
    let bundle = prepare(options, runtime, "hooks", &["/bin/true"])?;
    let path = bundle.directory.join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(
        &std::fs::read(&path).with_context(|| format!("read {}", path.display()))?,
    )?;
    // It must read what it is given: crun takes a closed pipe for a failure.
    let hook = json!([{ "path": "/bin/cat", "args": ["cat"] }]);
    config["hooks"] = json!({
        "prestart": hook, "createRuntime": hook, "createContainer": hook,
        "startContainer": hook, "poststart": hook, "poststop": hook,
    });
    std::fs::write(&path, serde_json::to_vec(&config)?)
        .with_context(|| format!("write {}", path.display()))?;
    runtime.run(
        &["run", "--bundle", text(&bundle.directory)?, &bundle.id],
        None,
    )?;
    discard(&bundle)
}

fn enter(options: &Options, runtime: &Runtime) -> Result<()> {
    let bundle = prepare(options, runtime, "enter", &["/bin/actor", "serve"])?;
    let container = runtime.start(&bundle, None)?;
    let mut command = Command::new(&options.programs.actor);
    command.args(["enter", &container.pid.to_string(), "/bin/true"]);
    finish(&mut command, options.patience * 10)?;
    container.stop()?;
    discard(&bundle)
}

fn cycles(options: &Options, runtime: &Runtime) -> Result<()> {
    let bundle = prepare(options, runtime, "cycle", &["/bin/true"])?;
    let started = Instant::now();
    for done in 0..options.cycles {
        interrupt::check()?;
        let id = format!("{}-{done}", bundle.id);
        let given = Given {
            id: &id,
            args: &["/bin/true"],
            net_path: None,
            cgroup_namespace: runtime.layout == Layout::Unified,
            cgroup_parent: &options.cgroup_parent(),
            share: None,
        };
        bundle::configure(&bundle.directory, &Container::plain("silent"), &given)?;
        runtime.run(&["run", "--bundle", text(&bundle.directory)?, &id], None)?;
        if (done + 1) % (options.cycles / 5).max(1) == 0 {
            eprintln!(
                "     {}: {} cycles in {:.1?}",
                runtime.name,
                done + 1,
                started.elapsed()
            );
        }
    }
    discard(&bundle)
}

fn unit(options: &Options) -> Result<()> {
    let root = options.work.join("unit-root");
    bundle::root_file_system(&root, &options.programs)?;
    let mut command = Command::new(&options.programs.actor);
    command.arg("unit").arg(&root);
    finish(&mut command, options.patience * 10)?;
    std::fs::remove_dir_all(&root).with_context(|| format!("remove {}", root.display()))
}

fn sandbox(options: &Options) -> Result<()> {
    finish(
        Command::new(&options.programs.actor).arg("sandbox"),
        options.patience * 10,
    )
}

/// What a CNI plug-in does: a named network namespace, a veth pair, one end moved.
fn veth(options: &Options) -> Result<()> {
    let name = &options.prefix;
    let inner = format!("{name}i");
    let ip = |arguments: &[&str]| finish(Command::new("ip").args(arguments), options.patience * 10);
    if Command::new("ip")
        .arg("-V")
        .stdout(Stdio::null())
        .status()
        .is_err()
    {
        return Ok(());
    }
    ip(&["netns", "add", name])?;
    let moved = ip(&["link", "add", name, "type", "veth", "peer", "name", &inner])
        .and_then(|()| ip(&["link", "set", &inner, "netns", name]))
        .and_then(|()| ip(&["-n", name, "link", "set", &inner, "up"]));
    ip(&["netns", "delete", name])?;
    match moved {
        // The veth driver is a module that small guests do not carry.
        Err(error) if format!("{error:#}").contains("Unknown device type") => Ok(()),
        other => other,
    }
}
