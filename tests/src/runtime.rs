//! Container runtimes as child processes: run, exec, create, delete.
//!
//! crun before 1.9 refuses a hybrid cgroup tree. There it is started in a mount namespace of its own without the
//! version 2 part, and its containers have no version 2 leaf.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::act::{Act, Answer};
use crate::bundle::Bundle;
use crate::scenario::Leaked;
use crate::sys;

/// How control groups are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Version 2 at /sys/fs/cgroup.
    Unified,
    /// Version 1 below /sys/fs/cgroup, version 2 at /sys/fs/cgroup/unified.
    Hybrid,
    /// Version 1 only.
    Legacy,
}

impl Layout {
    /// Looks at /sys/fs/cgroup.
    #[must_use]
    pub fn detect() -> Self {
        let is_v2 = |path: &str| {
            sys::filesystem_magic(Path::new(path))
                .is_ok_and(|magic| magic == sys::CGROUP2_SUPER_MAGIC)
        };
        match (is_v2("/sys/fs/cgroup"), is_v2("/sys/fs/cgroup/unified")) {
            (true, _) => Self::Unified,
            (false, true) => Self::Hybrid,
            (false, false) => Self::Legacy,
        }
    }
}

/// A runtime.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// `runc` or `crun`.
    pub name: String,
    /// How control groups are mounted here.
    pub layout: Layout,
    /// How long anything may take.
    pub patience: Duration,
}

impl Runtime {
    /// Whether this runtime's containers have a leaf in a version 2 hierarchy.
    #[must_use]
    pub fn has_unified_leaf(&self) -> bool {
        self.layout == Layout::Unified || (self.layout == Layout::Hybrid && !self.hides_unified())
    }

    fn hides_unified(&self) -> bool {
        self.layout == Layout::Hybrid && self.name == "crun"
    }

    /// A command of the runtime, to be started inside `net` if given.
    #[must_use]
    pub fn command(&self, net: Option<&File>) -> Command {
        let mut command = Command::new(&self.name);
        let hide = self.hides_unified();
        let net = net.map(AsRawFd::as_raw_fd);
        if hide || net.is_some() {
            let prepare = move || {
                if let Some(fd) = net {
                    // SAFETY: no memory is passed; the caller's `File` outlives the spawn.
                    succeeded(unsafe { libc::setns(fd, libc::CLONE_NEWNET) })?;
                }
                if hide { hide_unified() } else { Ok(()) }
            };
            // SAFETY: the closure only makes system calls and allocates nothing.
            unsafe { command.pre_exec(prepare) };
        }
        command
    }

    /// Starts a container whose entry point is `actor serve`.
    ///
    /// # Errors
    /// When the container does not come up.
    pub fn start(&self, bundle: &Bundle, net: Option<&File>) -> Result<Running> {
        let pid_file = bundle.directory.join("pid");
        let log = bundle.directory.join("stderr");
        let mut command = self.command(net);
        let prepare: Option<fn() -> std::io::Result<()>> = match bundle.leaked {
            Leaked::Nothing => None,
            Leaked::Root => Some(hand_on_root),
            Leaked::Passed => Some(hand_on_socket),
        };
        command.arg("run");
        if let Some(prepare) = prepare {
            command.args(["--preserve-fds", "1"]);
            // SAFETY: the function only makes system calls and allocates nothing.
            unsafe { command.pre_exec(prepare) };
        }
        let mut child = command
            .arg("--bundle")
            .arg(&bundle.directory)
            .arg("--pid-file")
            .arg(&pid_file)
            .arg(&bundle.id)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).with_context(|| format!("create {}", log.display()))?)
            .spawn()
            .with_context(|| format!("start {}", self.name))?;
        let input = child.stdin.take();
        let output = child
            .stdout
            .take()
            .context("the container's output is not piped")?;
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { break };
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut running = Running {
            runtime: self.clone(),
            id: bundle.id.clone(),
            log,
            child,
            input,
            answers,
            pid: 0,
        };
        running
            .answer()
            .with_context(|| format!("start container {}", bundle.id))?;
        running.pid = read_pid(&pid_file, self.patience)?;
        Ok(running)
    }

    /// Runs a runtime command to its end.
    ///
    /// # Errors
    /// With its standard error, when it fails or takes too long.
    pub fn run(&self, arguments: &[&str], net: Option<&File>) -> Result<()> {
        let mut command = self.command(net);
        command.args(arguments);
        finish(&mut command, self.patience)
    }

    /// Removes a container whatever its state.
    ///
    /// # Errors
    /// When the runtime says so.
    pub fn delete(&self, id: &str) -> Result<()> {
        self.run(&["delete", "--force", id], None)
    }
}

/// Leaves a descriptor of the root directory to the program that is executed next.
fn hand_on_root() -> std::io::Result<()> {
    hand_on(open_root()?)
}

/// Leaves it a socket over which a descriptor of the root directory was passed.
fn hand_on_socket() -> std::io::Result<()> {
    let root = open_root()?;
    let mut ends = [0_i32; 2];
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    // SAFETY: the array has room for both descriptors.
    succeeded(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) })?;
    sys::send_descriptor(ends[0], root)?;
    hand_on(ends[1])
}

fn open_root() -> std::io::Result<i32> {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: the path is NUL-terminated.
    let root = unsafe { libc::open(c"/".as_ptr(), flags) };
    succeeded(root)?;
    Ok(root)
}

/// Makes it descriptor 3, which outlives the exec. Whatever had that number ends with the exec.
fn hand_on(descriptor: i32) -> std::io::Result<()> {
    // SAFETY: no memory is passed.
    let kept = unsafe {
        if descriptor == 3 {
            libc::fcntl(3, libc::F_SETFD, 0)
        } else {
            libc::dup2(descriptor, 3)
        }
    };
    succeeded(kept)
}

/// Runs a command to its end, within `patience`.
///
/// # Errors
/// With its standard error, when it fails or takes too long.
pub fn finish(command: &mut Command, patience: Duration) -> Result<()> {
    let what = format!("{command:?}");
    let errors = tempfile::tempfile().context("create a temporary file")?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors.try_clone().context("share a temporary file")?)
        .spawn()
        .with_context(|| format!("start {what}"))?;
    let status = wait(&mut child, patience).with_context(|| what.clone())?;
    if status.success() {
        return Ok(());
    }
    let mut text = String::new();
    let mut errors = errors;
    std::io::Seek::rewind(&mut errors).context("rewind a temporary file")?;
    std::io::Read::read_to_string(&mut errors, &mut text).context("read a temporary file")?;
    bail!("{what}: {status}: {}", text.trim())
}

/// Runtimes write the pid after they started the container, so the actor may speak first.
fn read_pid(path: &Path, patience: Duration) -> Result<i32> {
    let deadline = Instant::now() + patience;
    loop {
        match std::fs::read_to_string(path)
            .ok()
            .and_then(|text| text.trim().parse().ok())
        {
            Some(pid) => return Ok(pid),
            None if Instant::now() > deadline => bail!("no pid in {}", path.display()),
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

fn wait(child: &mut Child, patience: Duration) -> Result<std::process::ExitStatus> {
    let deadline = Instant::now() + patience;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait().context("wait for a child")? {
            return Ok(status);
        }
        if Instant::now() > deadline {
            // It is ours, and it had its time.
            let _ = child.kill();
            let _ = child.wait();
            bail!("still running after {patience:?}");
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

fn succeeded(status: i32) -> std::io::Result<()> {
    if status < 0 {
        Err(std::io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Leaves for a mount namespace without the version 2 hierarchy.
fn hide_unified() -> std::io::Result<()> {
    // SAFETY: no memory is passed.
    succeeded(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    let none = std::ptr::null();
    // SAFETY: the strings are static, and the others may be null for a change of propagation.
    succeeded(unsafe { libc::mount(none, c"/".as_ptr(), none, flags, none.cast()) })?;
    // SAFETY: the string is static.
    succeeded(unsafe { libc::umount2(c"/sys/fs/cgroup/unified".as_ptr(), libc::MNT_DETACH) })
}

/// A container that listens.
#[derive(Debug)]
pub struct Running {
    runtime: Runtime,
    /// Its id.
    pub id: String,
    log: PathBuf,
    child: Child,
    input: Option<ChildStdin>,
    answers: Receiver<String>,
    /// Its first process, as the host numbers it.
    pub pid: i32,
}

impl Running {
    fn answer(&mut self) -> Result<Answer> {
        let line = self
            .answers
            .recv_timeout(self.runtime.patience)
            .map_err(|error| {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                anyhow!("{} gave no answer ({error}): {}", self.id, log.trim())
            })?;
        serde_json::from_str(&line).with_context(|| format!("{} answered {line:?}", self.id))
    }

    /// Makes the actor act.
    ///
    /// # Errors
    /// When the actor is gone; a failed act is an [`Answer`].
    pub fn act(&mut self, act: &Act) -> Result<Answer> {
        let input = self
            .input
            .as_mut()
            .context("the container was told to end")?;
        writeln!(input, "{}", serde_json::to_string(act)?).context("write to the actor")?;
        self.answer()
    }

    /// Finds the host's number for a task of this container.
    #[must_use]
    pub fn host_pid(&self, inner: i32) -> Option<i32> {
        let namespace = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let own = namespace(self.pid)?;
        let pids = std::fs::read_dir("/proc")
            .ok()?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| namespace(*pid).as_ref() == Some(&own))
            .find(|pid| {
                let status =
                    std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
                let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
                numbers.and_then(|text| text.split_whitespace().last()?.parse().ok()) == Some(inner)
            })
    }

    /// Lets the container end by itself.
    ///
    /// # Errors
    /// When it does not end well.
    pub fn stop(mut self) -> Result<()> {
        drop(self.input.take());
        let status = wait(&mut self.child, self.runtime.patience)?;
        ensure!(status.success(), "{} ended with {status}", self.id);
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Something went wrong elsewhere; leave nothing behind.
            let _ = self.runtime.delete(&self.id);
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
