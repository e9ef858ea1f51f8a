//! Podman with runc, its storage and state in a directory of the test's own.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::image::{self, LIFE};
use super::tool::{Done, Ids, Place, command, expect, find, output};
use crate::runner::Options;

/// Programs.
pub(super) const NEEDS: &[&str] = &["podman", "runc", "conmon", "tar", "sha256sum"];

const IMAGE: &str = "localhost/auditor-life:1";
/// Limits that a machine without `CAP_SYS_RESOURCE` can set too.
const LIMITS: [&str; 4] = [
    "--ulimit",
    "nofile=1024:1024",
    "--ulimit",
    "nproc=1024:1024",
];

struct Podman<'a> {
    options: &'a Options,
    place: Place,
}

impl<'a> Podman<'a> {
    /// With the image loaded.
    fn new(options: &'a Options, name: &str) -> Result<Self> {
        let place = Place::new(options, name)?;
        let podman = Self { options, place };
        std::fs::write(
            podman.place.join("containers.conf"),
            "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n",
        )
        .context("write containers.conf")?;
        let archive = image::archive(options, &podman.place, IMAGE)?;
        podman.say(&["load", "-i", &archive.display().to_string()])?;
        Ok(podman)
    }

    fn command(&self) -> Command {
        let mut command = command("podman");
        for (option, directory) in [
            ("--root", "root"),
            ("--runroot", "run"),
            ("--tmpdir", "tmp"),
        ] {
            command.arg(option).arg(self.place.join(directory));
        }
        command
            .args([
                "--cgroup-manager",
                "cgroupfs",
                "--events-backend",
                "file",
                "--storage-driver",
                "overlay",
            ])
            .arg("--runtime")
            .arg(find("runc").unwrap_or_default())
            .env("CONTAINERS_CONF", self.place.join("containers.conf"));
        command
    }

    fn say(&self, arguments: &[&str]) -> Result<String> {
        output(self.command().args(arguments), self.options)
    }

    /// Starts a container in the background and gives its id.
    fn run(&self, arguments: &[&str], ids: &mut Ids) -> Result<String> {
        let mut command = self.command();
        command
            .args(["run", "--detach"])
            .args(LIMITS)
            .args(arguments);
        let id = output(&mut command, self.options)?;
        ensure!(id.len() == 64, "not an id: {id}");
        ids.insert(id.clone());
        Ok(id)
    }
}

impl Drop for Podman<'_> {
    fn drop(&mut self) {
        // A failed case leaves them; otherwise there are none.
        let _ = self.say(&["pod", "rm", "--all", "--force", "-t", "0"]);
        let _ = self.say(&["rm", "--all", "--force", "-t", "0"]);
    }
}

/// Run, exec, stop, start again; a container that lives its life, one that ends, one that is privileged.
pub(super) fn containers(options: &Options, ids: &mut Ids) -> Result<Done> {
    let podman = Podman::new(options, "podman")?;
    let name = format!("{}-podman", options.prefix);
    let id = podman.run(
        &["--name", &name, "--network", "none", IMAGE, "sleep", "1000"],
        ids,
    )?;
    expect(
        options,
        &format!("podman:{id}"),
        &[("name", &name), ("image", IMAGE), ("runtime", "podman")],
    )?;
    for _ in 0..2 {
        podman.say(&["exec", &name, "/bin/sh", "-c", LIFE])?;
    }
    podman.say(&["exec", "--user", "1000", &name, "/bin/actor", "life"])?;
    podman.say(&["top", &name])?;
    podman.say(&[
        "cp",
        &format!("{name}:/etc/passwd"),
        &podman.place.join("copied").display().to_string(),
    ])?;
    podman.say(&["restart", "-t", "0", &name])?;
    podman.say(&["exec", &name, "/bin/true"])?;
    let powers = [
        "--cap-add",
        "SYS_ADMIN,SYS_PTRACE,SYS_CHROOT",
        "--network",
        "none",
    ];
    let strong = [&powers[..], &[IMAGE, "/bin/sh", "-c", LIFE]].concat();
    let strong = podman.run(&strong, ids)?;
    let code = podman.say(&["wait", &strong])?;
    ensure!(code == "0", "{}", podman.say(&["logs", &strong])?);
    with_volume(&podman, ids)?;
    podman.say(&["diff", &name])?;
    podman.say(&["stop", "-t", "0", &name])?;
    podman.say(&["rm", &name, &strong])?;
    Ok(Done::Ran)
}

/// A directory of the host that two containers write to and execute from, one after the other, with a root that is
/// read-only; the host reads it too.
fn with_volume(podman: &Podman<'_>, ids: &mut Ids) -> Result<()> {
    let volume = podman.place.join("volume");
    std::fs::create_dir_all(&volume).context("create a volume")?;
    let mount = format!("{}:/data", volume.display());
    let arguments = [
        "--network",
        "none",
        "--read-only",
        "--tmpfs",
        "/tmp",
        "--volume",
        &mount,
        IMAGE,
    ];
    let write = "cp /bin/busybox /data/busybox; echo data >/data/file; /data/busybox true";
    let read = "cat /data/file; exec /data/busybox true";
    for script in [
        write.replace("cp ", "busybox cp "),
        read.to_owned(),
        LIFE.to_owned(),
    ] {
        let id = podman.run(&[&arguments[..], &["/bin/sh", "-c", &script]].concat(), ids)?;
        let code = podman.say(&["wait", &id])?;
        ensure!(code == "0", "{}", podman.say(&["logs", &id])?);
        std::fs::read(volume.join("file")).context("read the volume")?;
        podman.say(&["rm", &id])?;
    }
    Ok(())
}

/// A pod: an infra container, and two that share its network, IPC and host name.
pub(super) fn pod(options: &Options, ids: &mut Ids) -> Result<Done> {
    let podman = Podman::new(options, "podman-pod")?;
    let pod = format!("{}-pod", options.prefix);
    let arguments = [
        "--name",
        &pod,
        "--network",
        "none",
        "--infra-image",
        IMAGE,
        "--share",
        "net,ipc,uts",
    ];
    let pod_id = podman.say(&[&["pod", "create"][..], &arguments].concat())?;
    let infra = podman.say(&["pod", "inspect", "--format", "{{.InfraContainerID}}", &pod])?;
    ids.insert(infra);
    for name in ["main", "sidecar"] {
        let name = format!("{pod}-{name}");
        let id = podman.run(
            &["--pod", &pod, "--name", &name, IMAGE, "sleep", "1000"],
            ids,
        )?;
        expect(
            options,
            &format!("podman:{id}"),
            &[("name", &name), ("image", IMAGE), ("pod", &pod_id)],
        )?;
        podman.say(&["exec", &name, "/bin/sh", "-c", LIFE])?;
    }
    podman.say(&["pod", "stop", "-t", "0", &pod])?;
    podman.say(&["pod", "rm", "-f", &pod])?;
    Ok(Done::Ran)
}
