//! The auditor as a child process, and the lines it prints.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::sys;

#[derive(Debug, Default)]
struct Lines {
    all: Vec<Value>,
    raw: Vec<String>,
    bad: Vec<String>,
    ended: bool,
}

#[derive(Debug, Default)]
struct Shared {
    lines: Mutex<Lines>,
    grown: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many times as long as for a line one waits for the first: before that the kernel verifies all programs, which takes
/// an emulated processor half a minute.
pub(crate) const START: u32 = 30;

/// A running `auditor watch`.
#[derive(Debug)]
pub struct Auditor {
    child: Child,
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

/// What is left of it at the end.
#[derive(Debug)]
pub struct Ended {
    /// Every line, in order.
    pub lines: Vec<Value>,
    /// The same, as they were printed.
    pub raw: Vec<String>,
    /// Lines that are not JSON.
    pub bad: Vec<String>,
    /// How it ended.
    pub status: ExitStatus,
}

impl Auditor {
    /// Starts it and waits for its `start` line.
    ///
    /// # Errors
    /// When it cannot be started, or says something else first, or nothing in time.
    pub fn start(binary: &Path, arguments: &[String], patience: Duration) -> Result<Self> {
        let mut command = Command::new(binary);
        command.arg("watch").args(arguments);
        Self::start_command(&mut command, patience)
    }

    /// Starts a command that was prepared by the caller (its standard error, its environment).
    ///
    /// # Errors
    /// As [`Auditor::start`].
    pub fn start_command(command: &mut Command, patience: Duration) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        let output = child
            .stdout
            .take()
            .context("the auditor's output is not piped")?;
        let shared = Arc::new(Shared::default());
        let writer = Arc::clone(&shared);
        let reader = std::thread::spawn(move || read_all(BufReader::new(output), &writer));
        let mut auditor = Self {
            child,
            shared,
            reader: Some(reader),
        };
        if !auditor.wait(Instant::now() + patience, |lines| !lines.is_empty()) {
            // It is ours to end, whatever state it is in.
            let _ = auditor.child.kill();
            bail!("no start line within {patience:?}");
        }
        let first = auditor.with_lines(|lines| lines[0].clone());
        if first.get("type").and_then(Value::as_str) != Some("start") {
            bail!("the first line is not a start line: {first}");
        }
        Ok(auditor)
    }

    /// Waits until `enough` says so of the lines; `false` if it did not by the deadline or the stream ended first.
    pub fn wait(&self, deadline: Instant, mut enough: impl FnMut(&[Value]) -> bool) -> bool {
        let mut lines = self.shared.lock();
        loop {
            if enough(&lines.all) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || lines.ended {
                return false;
            }
            lines = self
                .shared
                .grown
                .wait_timeout(lines, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Looks at the lines so far.
    pub fn with_lines<T>(&self, look: impl FnOnce(&[Value]) -> T) -> T {
        look(&self.shared.lock().all)
    }

    /// What the first line says of a hook.
    #[must_use]
    pub fn hook(&self, name: &str) -> Option<Value> {
        let named = |state: &&Value| state["hook"] == name;
        self.with_lines(|lines| {
            let hooks = lines.first()?["hooks"].as_array()?;
            hooks.iter().find(named).cloned()
        })
    }

    /// Asks it to end as a service manager does, and waits.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(self, patience: Duration) -> Result<Ended> {
        self.signal(libc::SIGTERM)?;
        self.finish(patience)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn signal(&self, signal: i32) -> Result<()> {
        sys::kill(self.pid(), signal).context("signal the auditor")
    }

    /// Waits for its end, whatever brings it.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn finish(mut self, patience: Duration) -> Result<Ended> {
        let deadline = Instant::now() + patience;
        let status = loop {
            if let Some(status) = self.child.try_wait().context("wait for the auditor")? {
                break status;
            }
            if Instant::now() > deadline {
                bail!("the auditor did not end within {patience:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        if let Some(reader) = self.reader.take() {
            // The reader ends with the stream and has no result.
            let _ = reader.join();
        }
        let mut lines = self.shared.lock();
        Ok(Ended {
            lines: std::mem::take(&mut lines.all),
            raw: std::mem::take(&mut lines.raw),
            bad: std::mem::take(&mut lines.bad),
            status,
        })
    }
}

impl Drop for Auditor {
    fn drop(&mut self) {
        // Already reaped after `stop`; otherwise an error elsewhere must not leave it behind.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn read_all(input: impl BufRead, shared: &Shared) {
    for line in input.lines() {
        let Ok(line) = line else { break };
        let mut lines = shared.lock();
        match serde_json::from_str(&line) {
            Ok(value) => {
                lines.all.push(value);
                lines.raw.push(line);
            }
            Err(_) => lines.bad.push(line),
        }
        shared.grown.notify_all();
    }
    shared.lock().ended = true;
    shared.grown.notify_all();
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::Auditor;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Something that behaves like an auditor.
    fn stand_in(script: &str) -> Command {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", script]);
        shell
    }

    /// Goal: lines are awaited and the end is seen. Method: a script that prints three lines and heeds SIGTERM.
    #[test]
    fn lines_are_read_until_the_end() {
        let mut script = stand_in(
            "trap 'echo \"{\\\"type\\\":\\\"stop\\\"}\"; exit 0' TERM\n\
             echo '{\"type\":\"start\"}'; echo oops; echo '{\"type\":\"violation\"}'\n\
             while :; do sleep 0.05; done",
        );
        let auditor = Auditor::start_command(&mut script, PATIENCE).unwrap();
        assert!(auditor.wait(Instant::now() + PATIENCE, |lines| lines.len() == 2));
        let ended = auditor.stop(PATIENCE).unwrap();
        let types: Vec<_> = ended
            .lines
            .iter()
            .map(|line| line["type"].as_str().unwrap())
            .collect();
        assert_eq!(types, ["start", "violation", "stop"]);
        assert_eq!(ended.bad, ["oops"]);
        assert!(ended.status.success());
    }

    /// Goal: what is no auditor is refused at once. Method: a script that ends without a start line.
    #[test]
    fn a_silent_program_is_refused() {
        let mut script = stand_in("echo '{\"type\":\"stop\"}'");
        let refused = Auditor::start_command(&mut script, PATIENCE).err().unwrap();
        assert!(refused.to_string().contains("start line"), "{refused:#}");
    }
}
