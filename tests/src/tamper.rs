//! The kernel's memory changed behind its back, as the last step of a kernel exploit leaves it, without an exploit.
//!
//! Nothing in this machine can do it: where the machine is a guest, whoever runs it writes its memory. A request is one
//! JSON line with physical addresses and bytes; that it was heard is seen in /proc/kcore.
//!
//! What is changed is put back before the task ends, for it would let go of references that it never took.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::memory::{Memory, Place};
use crate::scenario::Tamper;

/// How often memory is looked at.
const POLL: Duration = Duration::from_millis(10);

/// Whose state a task is given: the host's first task.
const HOST: i32 = 1;

/// What was changed, and who can change it.
pub(crate) struct Tampering {
    memory: Memory,
    requests: File,
    patience: Duration,
    /// What was there, the latest last.
    before: Vec<(Place, Vec<u8>)>,
}

/// Fields, and the pointer in the task through which they are reached, if they are not in the task itself.
const fn fields(what: Tamper) -> (Option<&'static str>, &'static [&'static str]) {
    const CREDS: Option<&str> = Some("task_struct.real_cred");
    match what {
        Tamper::Capabilities | Tamper::First => {
            (CREDS, &["cred.cap_permitted", "cred.cap_effective"])
        }
        Tamper::Effective => (CREDS, &["cred.cap_effective"]),
        Tamper::Ids => (CREDS, &["cred.uid", "cred.euid", "cred.suid", "cred.fsuid"]),
        Tamper::Namespaces => (None, &["task_struct.nsproxy"]),
        Tamper::HostName => (Some("task_struct.nsproxy"), &["nsproxy.uts_ns"]),
        Tamper::Directories => (None, &["task_struct.fs"]),
    }
}

impl Tampering {
    /// `requests`: where whoever runs this machine listens.
    pub(crate) fn new(requests: &Path, patience: Duration) -> Result<Self> {
        let file = File::options().append(true).open(requests);
        Ok(Self {
            memory: Memory::open()?,
            requests: file.with_context(|| format!("open {}", requests.display()))?,
            patience,
            before: Vec::new(),
        })
    }

    /// Gives a task what the host's first task has.
    pub(crate) fn change(&mut self, pid: i32, what: Tamper) -> Result<()> {
        let (pointer, fields) = fields(what);
        let object = |pid| -> Result<u64> {
            let task = self.memory.task(pid)?;
            pointer.map_or(Ok(task), |path| {
                let place = self.memory.field(task, path)?;
                self.memory.pointer(place.address)
            })
        };
        let (from, to) = (object(HOST)?, object(pid)?);
        let mut after = Vec::new();
        for path in fields {
            let bytes = self.memory.read(self.memory.field(from, path)?)?;
            let place = self.memory.field(to, path)?;
            self.before.push((place, self.memory.read(place)?));
            after.push((place, bytes));
        }
        self.write(&after)
    }

    /// Puts back whatever was there.
    pub(crate) fn restore(&mut self) -> Result<()> {
        let mut before = std::mem::take(&mut self.before);
        before.reverse();
        if before.is_empty() {
            return Ok(());
        }
        self.write(&before)
    }

    fn write(&mut self, contents: &[(Place, Vec<u8>)]) -> Result<()> {
        let mut writes = Vec::new();
        for (place, bytes) in contents {
            let address = self.memory.physical(*place)?;
            writes.push(json!({"address": address, "bytes": bytes}));
        }
        let request = format!("{}\n", json!({ "memory": writes }));
        self.requests
            .write_all(request.as_bytes())
            .context("ask for a change of memory")?;
        let deadline = Instant::now() + self.patience;
        for (place, bytes) in contents {
            while self.memory.read(*place)? != *bytes {
                if Instant::now() > deadline {
                    bail!("nobody wrote {place:x?}");
                }
                std::thread::sleep(POLL);
            }
        }
        Ok(())
    }
}

impl Drop for Tampering {
    fn drop(&mut self) {
        if let Err(error) = self.restore() {
            eprintln!("memory stays changed: {error:#}");
        }
    }
}
