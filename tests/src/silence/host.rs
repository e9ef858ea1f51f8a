//! What the host does to containers by right: backups, monitoring, an administrator's tests.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::tool::{Done, Ids, Place, command, output};
use super::{discard, prepare};
use crate::act::life;
use crate::runner::Options;
use crate::runtime::{Layout, Runtime};

fn runtime(options: &Options) -> Runtime {
    Runtime {
        name: "runc".to_owned(),
        layout: Layout::detect(),
        patience: options.patience * 10,
    }
}

/// Reads a container's files: through its root, and below a mount of its layers.
pub(super) fn backup(options: &Options, ids: &mut Ids) -> Result<Done> {
    let runtime = runtime(options);
    let bundle = prepare(options, &runtime, "backup", &["/bin/actor", "serve"])?;
    ids.insert(bundle.id.clone());
    let container = runtime.start(&bundle, None)?;
    let place = Place::new(options, "backup")?;
    let root = format!("/proc/{}/root", container.pid);
    let excluded = ["--exclude=./proc", "--exclude=./sys", "--exclude=./dev"];
    // To a file: tar reads nothing for /dev/null.
    let archive = place.join("backup.tar");
    output(
        Command::new("tar")
            .args(excluded)
            .arg("-cf")
            .arg(&archive)
            .args(["-C", &root, "."]),
        options,
    )?;
    let files = bundle.directory.join("rootfs");
    output(
        Command::new("tar")
            .arg("-cf")
            .arg(&archive)
            .arg("-C")
            .arg(&files)
            .arg("."),
        options,
    )?;
    container.stop()?;
    discard(&bundle)?;
    Ok(Done::Ran)
}

/// Reads all that /proc tells of everybody, by this process and by the actor.
pub(super) fn monitoring(options: &Options, ids: &mut Ids) -> Result<Done> {
    let runtime = runtime(options);
    let bundle = prepare(options, &runtime, "monitored", &["/bin/actor", "serve"])?;
    ids.insert(bundle.id.clone());
    let container = runtime.start(&bundle, None)?;
    life::read_processes(Path::new("/proc")).context("read /proc")?;
    output(Command::new(&options.programs.busybox).arg("ps"), options)?;
    output(
        Command::new(&options.programs.busybox).args(["top", "-b", "-n", "1"]),
        options,
    )?;
    container.stop()?;
    discard(&bundle)?;
    Ok(Done::Ran)
}

/// What kernel self-tests of namespaces do, as the host's root: leave, join, nest, change root, act on children.
pub(super) fn namespace_tests(options: &Options, _ids: &mut Ids) -> Result<Done> {
    let all = [
        "--mount",
        "--uts",
        "--ipc",
        "--net",
        "--pid",
        "--fork",
        "--mount-proc",
        "--cgroup",
    ];
    let nested = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "/bin/true",
    ];
    let actor = options.programs.actor.display().to_string();
    output(command("unshare").args(all).args(nested), options)?;
    output(command("unshare").args(all).args([&actor, "life"]), options)?;
    output(
        command("unshare").args([
            "--user",
            "--map-root-user",
            "--pid",
            "--fork",
            &actor,
            "life",
        ]),
        options,
    )?;
    let this = std::process::id().to_string();
    let own = ["--target", &this, "--mount", "--net", "--pid", "/bin/true"];
    output(command("nsenter").args(own), options)?;
    output(
        command("unshare")
            .args(["--mount", "--net", "nsenter"])
            .args(own),
        options,
    )?;
    output(Command::new(&options.programs.actor).arg("life"), options)?;
    Ok(Done::Ran)
}
