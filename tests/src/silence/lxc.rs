//! LXC with a configuration of the test's own: no template, no network, no daemon.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::image::{self, LIFE};
use super::tool::{Done, Ids, Place, command, expect, output};
use crate::runner::Options;

/// Programs.
pub(super) const NEEDS: &[&str] = &["lxc-start", "lxc-attach", "lxc-info", "lxc-stop"];

struct Lxc<'a> {
    options: &'a Options,
    place: Place,
    name: String,
}

impl Lxc<'_> {
    fn say(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = command(program);
        command
            .arg("-P")
            .arg(&self.place.path)
            .args(["-n", &self.name])
            .args(arguments);
        output(&mut command, self.options)
    }
}

impl Drop for Lxc<'_> {
    fn drop(&mut self) {
        // It may have been stopped.
        let _ = self.say("lxc-stop", &["-k"]);
    }
}

/// Start, look, attach, stop; in cgroups of LXC's naming.
pub(super) fn container(options: &Options, ids: &mut Ids) -> Result<Done> {
    let name = format!("{}-lxc", options.prefix);
    live(options, &name, "", ids)
}

/// The same in a scope as libvirt has systemd name it.
pub(super) fn scope(options: &Options, ids: &mut Ids) -> Result<Done> {
    let name = format!("{}scope", options.prefix);
    let cgroup = format!(r"machine.slice/machine-lxc\x2d4242\x2d{name}.scope");
    live(options, &name, &format!("lxc.cgroup.dir = {cgroup}\n"), ids)
}

fn live(options: &Options, name: &str, more: &str, ids: &mut Ids) -> Result<Done> {
    let lxc = Lxc {
        options,
        place: Place::new(options, name)?,
        name: name.to_owned(),
    };
    ids.insert(lxc.name.clone());
    let root = lxc.place.join("rootfs");
    image::root(options, &root)?;
    let config = format!(
        "lxc.uts.name = {name}
lxc.rootfs.path = dir:{root}
lxc.net.0.type = empty
lxc.init.cmd = /bin/sleep 1000
lxc.mount.auto = proc:mixed sys:ro
lxc.tty.max = 0
lxc.pty.max = 4
lxc.apparmor.profile = unconfined
lxc.log.file = {log}
{more}",
        name = lxc.name,
        root = root.display(),
        log = lxc.place.join("log").display(),
    );
    let directory = lxc.place.join(&lxc.name);
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("create {}", directory.display()))?;
    std::fs::write(directory.join("config"), config).context("write LXC's configuration")?;
    lxc.say("lxc-start", &["--daemon"])?;
    let deadline = Instant::now() + options.patience * 4;
    while lxc.say("lxc-info", &["-sH"])? != "RUNNING" {
        ensure!(Instant::now() < deadline, "{} does not run", lxc.name);
        std::thread::sleep(Duration::from_millis(20));
    }
    expect(options, &format!("lxc:{}", lxc.name), &[("runtime", "lxc")])?;
    for _ in 0..2 {
        lxc.say(
            "lxc-attach",
            &[
                "--clear-env",
                "--set-var",
                "PATH=/bin",
                "--",
                "/bin/sh",
                "-c",
                LIFE,
            ],
        )?;
    }
    lxc.say("lxc-info", &[])?;
    lxc.say("lxc-stop", &["-k"])?;
    Ok(Done::Ran)
}
