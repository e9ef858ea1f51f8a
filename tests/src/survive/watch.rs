//! One auditor of a case: its lines, its standard error, its end.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::identity::is_type;
use crate::stream::{Auditor, START};

/// How often something is looked at that cannot be waited for.
const POLL: Duration = Duration::from_millis(5);

/// A running `auditor watch`.
pub(super) struct Watch {
    auditor: Auditor,
    log: PathBuf,
    patience: Duration,
}

/// What a command left.
pub(super) struct Ran {
    /// Its exit code; none when a signal ended it.
    pub(super) code: Option<i32>,
    /// JSON lines of its standard output.
    pub(super) lines: Vec<Value>,
    /// Its other lines.
    pub(super) bad: Vec<String>,
    /// Its standard error.
    pub(super) log: String,
}

impl Watch {
    /// Starts it and waits for its start line.
    pub(super) fn start(command: &mut Command, log: PathBuf, patience: Duration) -> Result<Self> {
        let file = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        command.stderr(file);
        let auditor = Auditor::start_command(command, patience * START)
            .with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?;
        Ok(Self {
            auditor,
            log,
            patience,
        })
    }

    pub(super) fn pid(&self) -> i32 {
        self.auditor.pid()
    }

    pub(super) fn signal(&self, signal: i32) -> Result<()> {
        self.auditor.signal(signal)
    }

    /// Waits for a line and gives it.
    pub(super) fn expect(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut found = None;
        let deadline = Instant::now() + self.patience * 4;
        self.auditor.wait(deadline, |lines| {
            found = lines.iter().find(|line| fits(line)).cloned();
            found.is_some()
        });
        found.with_context(|| format!("{what} did not come{}", self.said()))
    }

    /// Waits until this many heartbeats more have come. A sweep is due as often, but may take longer: among several
    /// heartbeats there was one.
    pub(super) fn heartbeats(&self, more: usize) -> Result<()> {
        let count = |lines: &[Value]| lines.iter().filter(|l| is_type(l, "heartbeat")).count();
        let until = self.auditor.with_lines(count) + more;
        let deadline = Instant::now() + self.patience * 10;
        if !self.auditor.wait(deadline, |lines| count(lines) >= until) {
            bail!("no heartbeat{}", self.said());
        }
        Ok(())
    }

    /// The first line that fits, of those that have come.
    pub(super) fn seen(&self, fits: impl Fn(&Value) -> bool) -> Option<Value> {
        self.auditor
            .with_lines(|lines| lines.iter().find(|line| fits(line)).cloned())
    }

    /// Waits until standard error holds this text `times` times.
    pub(super) fn expect_log(&self, text: &str, times: usize) -> Result<()> {
        let deadline = Instant::now() + self.patience * 4;
        while self.log().matches(text).count() < times {
            if Instant::now() > deadline {
                bail!("{text:?} is not on standard error: {}", self.log());
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn said(&self) -> String {
        let log = self.log();
        if log.is_empty() {
            log
        } else {
            format!("; standard error: {}", log.trim())
        }
    }

    /// Waits until every thread of it is stopped.
    pub(super) fn stopped(&self) -> Result<()> {
        let is_stopped = |status: PathBuf| {
            std::fs::read_to_string(status).is_ok_and(|text| text.contains("State:\tT"))
        };
        let tasks = PathBuf::from(format!("/proc/{}/task", self.pid()));
        let deadline = Instant::now() + self.patience * 4;
        loop {
            let mut all = std::fs::read_dir(&tasks).context("list its threads")?;
            if all.all(|task| task.is_ok_and(|task| is_stopped(task.path().join("status")))) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("the auditor does not stop");
            }
            std::thread::sleep(POLL);
        }
    }

    /// Waits for its end.
    pub(super) fn finish(self) -> Result<Ran> {
        let ended = self.auditor.finish(self.patience * 10)?;
        Ok(Ran {
            code: ended.status.code(),
            lines: ended.lines,
            bad: ended.bad,
            log: std::fs::read_to_string(&self.log).unwrap_or_default(),
        })
    }
}

/// Runs a command to its end, within `patience`, through files beside `path`.
pub(super) fn run(command: &mut Command, path: &Path, patience: Duration) -> Result<Ran> {
    let (out, log) = (path.with_extension("out"), path.with_extension("err"));
    let create =
        |path: &Path| File::create(path).with_context(|| format!("create {}", path.display()));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(create(&out)?)
        .stderr(create(&log)?)
        .spawn()
        .with_context(|| format!("start {command:?}"))?;
    let deadline = Instant::now() + patience;
    let status = loop {
        if let Some(status) = child.try_wait().context("wait for a command")? {
            break status;
        }
        if Instant::now() > deadline {
            // It is ours, and it had its time.
            let _ = child.kill();
            let _ = child.wait();
            bail!("{command:?} still ran after {patience:?}");
        }
        std::thread::sleep(POLL);
    };
    let text = |path: &Path| {
        String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
    };
    let mut ran = Ran {
        code: status.code(),
        lines: Vec::new(),
        bad: Vec::new(),
        log: text(&log),
    };
    for line in text(&out).lines() {
        match serde_json::from_str(line) {
            Ok(value) => ran.lines.push(value),
            Err(_) => ran.bad.push(line.to_owned()),
        }
    }
    Ok(ran)
}
