//! Tools that isolate a program without a runtime's state: bubblewrap, systemd-nspawn.

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
