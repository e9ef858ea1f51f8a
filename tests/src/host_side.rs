//! What the host has for a scenario: a process that sleeps, and listeners on unix sockets.

use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::runner::Options;
use crate::runtime::Runtime;

/// See the [module](self).
pub(crate) struct HostSide {
    sleeper: Ended,
    share: Option<Share>,
}

/// The listeners, and their directory.
struct Share {
    directory: PathBuf,
    /// The runner's own: `plain.sock`, and one by the path of a daemon's.
    _streams: [UnixListener; 2],
    _datagrams: UnixDatagram,
    /// Another program's, that has the name of a daemon: `control.sock`.
    _daemon: Ended,
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
    pub(crate) fn new(
        options: &Options,
        scenario: &str,
        runtime: &Runtime,
        shares: bool,
    ) -> Result<Self> {
        let sleep = start(Command::new(&options.programs.busybox).args(["sleep", "3600"]))?;
        let directory = || {
            options
                .work
                .join(format!("share-{scenario}-{}", runtime.name))
        };
        Ok(Self {
            sleeper: sleep,
            share: shares
                .then(|| Share::new(options, directory()))
                .transpose()?,
        })
    }

    pub(crate) fn sleeper(&self) -> i32 {
        self.sleeper.0.id() as i32
    }

    pub(crate) fn directory(&self) -> Option<&Path> {
        self.share.as_ref().map(|share| share.directory.as_path())
    }

    pub(crate) fn leave(self) -> Result<()> {
        let Some(share) = self.share else {
            return Ok(());
        };
        std::fs::remove_dir_all(&share.directory)
            .with_context(|| format!("remove {}", share.directory.display()))
    }
}

impl Share {
    fn new(options: &Options, directory: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("create {}", directory.display()))?;
        let at = |name: &str| directory.join(name);
        let listen =
            |name: &str| UnixListener::bind(at(name)).with_context(|| format!("listen on {name}"));
        let datagrams = UnixDatagram::bind(at("gram.sock")).context("bind gram.sock")?;
        let program = at("dockerd");
        std::fs::copy(&options.programs.actor, &program).context("copy the actor")?;
        let socket = at("control.sock");
        let daemon = start(Command::new(&program).arg("listen").arg(&socket))?;
        let deadline = Instant::now() + options.patience;
        while !socket.exists() {
            ensure!(Instant::now() < deadline, "the daemon does not listen");
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(Self {
            _streams: [listen("plain.sock")?, listen("docker.sock")?],
            _datagrams: datagrams,
            _daemon: daemon,
            directory,
        })
    }
}

fn start(command: &mut Command) -> Result<Ended> {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
    let child = quiet.stderr(Stdio::null()).spawn();
    Ok(Ended(child.with_context(|| format!("start {command:?}"))?))
}
