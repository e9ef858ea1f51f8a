//! Tools that isolate a program without a runtime's state: bubblewrap, systemd-nspawn; and checkpoints.

use anyhow::Result;

use super::image::{self, LIFE};
use super::tool::{Done, Ids, Place, command, output};
use crate::runner::Options;

/// As desktops use it: with a root of its own, and with the host's, read-only.
pub(super) fn bubblewrap(options: &Options, _ids: &mut Ids) -> Result<Done> {
    let place = Place::new(options, "bubblewrap")?;
    let root = place.join("rootfs");
    image::root(options, &root)?;
    let mut own = command("bwrap");
    own.arg("--bind").arg(&root);
    own.args([
        "/",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--unshare-all",
        "--die-with-parent",
        "--clearenv",
    ]);
    output(
        own.args(["--setenv", "PATH", "/bin", "/bin/sh", "-c", LIFE]),
        options,
    )?;
    let hosts = [
        "--ro-bind",
        "/",
        "/",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--tmpfs",
        "/tmp",
        "--unshare-user",
        "--unshare-pid",
        "--unshare-net",
        "--unshare-ipc",
    ];
    output(
        command("bwrap")
            .args(hosts)
            .args(["/bin/sh", "-c", "id; ls -lR /tmp /proc/self/fd"]),
        options,
    )?;
    Ok(Done::Ran)
}

/// Without a machine manager: registered nowhere, in the caller's unit.
pub(super) fn nspawn(options: &Options, _ids: &mut Ids) -> Result<Done> {
    let place = Place::new(options, "nspawn")?;
    let root = place.join("rootfs");
    image::root(options, &root)?;
    let name = format!("{}-nspawn", options.prefix);
    for own_init in [&[][..], &["--as-pid2"]] {
        let mut nspawn = command("systemd-nspawn");
        nspawn.args([
            "--quiet",
            "--register=no",
            "--keep-unit",
            "--private-network",
            "--machine",
            &name,
        ]);
        nspawn
            .args(["--setenv=PATH=/bin", "--console=pipe", "--directory"])
            .arg(&root)
            .args(own_init);
        output(nspawn.args(["/bin/sh", "-c", LIFE]), options)?;
    }
    Ok(Done::Ran)
}

/// Restoring needs a criu that knows this kernel.
pub(super) fn checkpoint(options: &Options, _ids: &mut Ids) -> Result<Done> {
    if let Err(error) = output(command("criu").arg("check"), options) {
        let said = format!("{error:#}");
        let last = said.lines().last().unwrap_or_default();
        return Ok(Done::Impossible(format!("criu does not work here: {last}")));
    }
    let place = Place::new(options, "criu")?;
    let mut sleeper = std::process::Command::new("setsid");
    sleeper
        .args(["sleep", "1000"])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null());
    let child = sleeper.stderr(std::process::Stdio::null()).spawn()?;
    let mut service = super::tool::Service(child);
    let pid = service.0.id().to_string();
    let images = place.path.display().to_string();
    output(
        command("criu").args(["dump", "-t", &pid, "-D", &images]),
        options,
    )?;
    service.0.wait()?;
    output(
        command("criu").args(["restore", "-d", "-D", &images]),
        options,
    )?;
    crate::sys::kill(pid.parse()?, libc::SIGKILL)?;
    Ok(Done::Ran)
}
