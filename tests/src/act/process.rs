//! Acts on other processes.

use serde::{Deserialize, Serialize};

use super::{Tried, tried};

/// One act. Pids are those of the container's pid namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "process", rename_all = "kebab-case")]
pub enum ProcessAct {
    /// `kill(pid, signal)`.
    Signal {
        /// To whom.
        pid: i32,
        /// Which.
        signal: i32,
    },
    /// The same, to the parent.
    SignalParent {
        /// Which.
        signal: i32,
    },
}

impl ProcessAct {
    /// Does it, in the calling process.
    ///
    /// # Errors
    /// What was tried, and why it failed.
    pub fn perform(&self) -> Tried<()> {
        match self {
            Self::Signal { pid, signal } => send(*pid, *signal),
            // SAFETY: always sound.
            Self::SignalParent { signal } => send(unsafe { libc::getppid() }, *signal),
        }
    }
}

fn send(pid: i32, signal: i32) -> Tried<()> {
    // SAFETY: no memory is passed.
    let sent = unsafe { libc::kill(pid, signal) };
    tried(format!("kill {pid}"), done(sent))
}

fn done(result: i32) -> std::io::Result<()> {
    match result {
        0.. => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
