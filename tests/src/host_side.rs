//! What the host has for a scenario: a process that sleeps, and listeners on unix sockets.

use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::disk::Disk;
use crate::runner::Options;
use crate::runtime::Runtime;
use crate::scenario::{Container, Scenario};
use crate::sys;

/// See the [module](self).
pub(crate) struct HostSide {
    sleeper: Ended,
    share: Option<Share>,
}

/// The listeners, and their directory, which is a mount that shares with others what is mounted below it, as all mounts do
/// on most machines.
struct Share {
    directory: Mounted,
    /// The runner's own: `plain.sock`, and one by the path of a daemon's.
    _streams: [UnixListener; 2],
    _datagrams: UnixDatagram,
    /// Another program's, that has the name of a daemon: `control.sock`.
    _daemon: Ended,
    /// It has a node there, `disk`.
    _disk: Option<Disk>,
}

/// A directory that is bound onto itself, and shares with others what is mounted below it, for as long as this lives.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    pub(crate) fn new(directory: PathBuf) -> Result<Self> {
        let what = || format!("bind {} onto itself", directory.display());
        let source = directory.to_string_lossy();
        sys::mount(&source, &directory, "", libc::MS_BIND, "").with_context(what)?;
        let mounted = Self(directory.clone());
        sys::mount("", &directory, "", libc::MS_SHARED, "").with_context(what)?;
        Ok(mounted)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // What stays mounted is noticed when the directory is removed.
        let _ = sys::umount_detach(&self.0);
    }
}

/// A child that ends with us.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl HostSide {
    pub(crate) fn new(options: &Options, scenario: &Scenario, runtime: &Runtime) -> Result<Self> {
        let wants = |what: fn(&Container) -> bool| scenario.containers.iter().any(what);
        let has_disk = wants(|container| container.disk) && Disk::is_possible();
        let sleep = start(Command::new(&options.programs.busybox).args(["sleep", "3600"]))?;
        let directory = || {
            options
                .work
                .join(format!("share-{}-{}", scenario.id, runtime.name))
        };
        Ok(Self {
            sleeper: sleep,
            share: wants(|container| container.share)
                .then(|| Share::new(options, directory(), has_disk))
                .transpose()?,
        })
    }

    pub(crate) fn sleeper(&self) -> i32 {
        self.sleeper.0.id() as i32
    }

    pub(crate) fn directory(&self) -> Option<&Path> {
        self.share.as_ref().map(|share| share.directory.path())
    }

    pub(crate) fn leave(self) -> Result<()> {
        let Some(share) = self.share else {
            return Ok(());
        };
        let directory = share.directory.path().to_owned();
        drop(share);
        std::fs::remove_dir_all(&directory)
            .with_context(|| format!("remove {}", directory.display()))
    }
}

impl Share {
    fn new(options: &Options, directory: PathBuf, has_disk: bool) -> Result<Self> {
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("create {}", directory.display()))?;
        let mounted = Mounted::new(directory.clone())?;
        let at = |name: &str| directory.join(name);
        let listen =
            |name: &str| UnixListener::bind(at(name)).with_context(|| format!("listen on {name}"));
        let datagrams = UnixDatagram::bind(at("gram.sock")).context("bind gram.sock")?;
        let program = at("dockerd");
        std::fs::copy(&options.programs.actor, &program).context("copy the actor")?;
        let socket = at("control.sock");
        let daemon = start(Command::new(&program).arg("listen").arg(&socket))?;
        let deadline = Instant::now() + options.patience * 4;
        while !socket.exists() {
            ensure!(Instant::now() < deadline, "the daemon does not listen");
            std::thread::sleep(Duration::from_millis(2));
        }
        let disk = || Disk::new(&at("disk.image"), &at("disk"));
        Ok(Self {
            _disk: has_disk.then(disk).transpose()?,
            _streams: [listen("plain.sock")?, listen("docker.sock")?],
            _datagrams: datagrams,
            _daemon: daemon,
            directory: mounted,
        })
    }
}

fn start(command: &mut Command) -> Result<Ended> {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
    let child = quiet.stderr(Stdio::null()).spawn();
    Ok(Ended(child.with_context(|| format!("start {command:?}"))?))
}
