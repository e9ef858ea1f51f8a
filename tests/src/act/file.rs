//! Acts on files: the many ways to a file, most of them past the container's own tree.

use std::fs::File;
use std::io::Error;
use std::os::fd::AsRawFd;

use serde::{Deserialize, Serialize};

use super::{Tried, ring, tried};

/// One act. Paths are the container's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "file", rename_all = "kebab-case")]
pub enum FileAct {
    /// `open(path)` for reading.
    Read {
        /// Which.
        path: String,
    },
    /// `open(path)` for writing. Nothing is written.
    Write {
        /// Which.
        path: String,
    },
    /// `open(path, O_PATH)`, kept.
    Refer {
        /// Which.
        path: String,
    },
    /// `openat` by a directory descriptor that was there before.
    ReadBelow {
        /// The descriptor's number.
        descriptor: i32,
        /// The path below it.
        path: String,
    },
    /// `name_to_handle_at` of a file that is seen, `open_by_handle_at`.
    ByHandle {
        /// A file on the mount.
        path: String,
    },
    /// `IORING_OP_OPENAT`, kept.
    ByRing {
        /// Which.
        path: String,
    },
    /// Receives a descriptor over a unix socket that was there before, and keeps it.
    Receive {
        /// The socket's number.
        socket: i32,
    },
    /// Reads all of a directory's status files, as `ps` does.
    ReadAll {
        /// A /proc.
        proc: String,
    },
}

impl FileAct {
    /// Does it, in the calling process, and keeps what it opened until that ends.
    ///
    /// # Errors
    /// What was tried, and why it failed.
    pub fn perform(&self) -> Tried<()> {
        match self {
            Self::Read { path } => keep(path, libc::AT_FDCWD, libc::O_RDONLY),
            Self::Write { path } => keep(path, libc::AT_FDCWD, libc::O_WRONLY),
            Self::Refer { path } => keep(path, libc::AT_FDCWD, libc::O_PATH),
            Self::ReadBelow { descriptor, path } => keep(path, *descriptor, libc::O_RDONLY),
            Self::ByHandle { path } => tried(format!("open the handle of {path}"), by_handle(path)),
            Self::ByRing { path } => tried(format!("open {path} by ring"), ring::open(path)),
            Self::Receive { socket } => tried(
                "receive a descriptor",
                crate::sys::receive_descriptor(*socket),
            ),
            Self::ReadAll { proc } => tried(format!("read {proc}"), read_all(proc)),
        }
    }
}

fn keep(path: &str, directory: i32, flags: i32) -> Tried<()> {
    tried(format!("open {path}"), open(path, directory, flags))
}

fn open(path: &str, directory: i32, flags: i32) -> std::io::Result<()> {
    let path = std::ffi::CString::new(path)?;
    // SAFETY: the path is NUL-terminated and outlives the call.
    let opened = unsafe { libc::openat(directory, path.as_ptr(), flags) };
    kept(i64::from(opened))
}

/// Leaves a descriptor open for the rest of the process.
fn kept(descriptor: i64) -> std::io::Result<()> {
    match descriptor {
        0.. => Ok(()),
        _ => Err(Error::last_os_error()),
    }
}

fn read_all(proc: &str) -> std::io::Result<()> {
    for entry in std::fs::read_dir(proc)?.flatten() {
        for file in ["stat", "status", "cmdline", "cgroup"] {
            // A process may have ended meanwhile.
            let _ = std::fs::read(entry.path().join(file));
        }
        let _ = std::fs::read_link(entry.path().join("exe"));
        let _ = std::fs::read_link(entry.path().join("root"));
    }
    Ok(())
}

/// Room for a file handle (`struct file_handle` with `MAX_HANDLE_SZ` bytes).
#[repr(C, align(8))]
struct Handle {
    bytes: u32,
    kind: i32,
    data: [u8; 128],
}

fn by_handle(path: &str) -> std::io::Result<()> {
    let mount = File::open(path)?;
    let text = std::ffi::CString::new(path)?;
    let mut handle = Handle {
        bytes: 128,
        kind: 0,
        data: [0; 128],
    };
    let mut mount_id = 0_i32;
    let (at, raw) = (libc::AT_FDCWD, &raw mut handle);
    // SAFETY: the handle has the room that it says, path and mount id outlive the call.
    let named = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            at,
            text.as_ptr(),
            raw,
            &raw mut mount_id,
            0,
        )
    };
    kept(named)?;
    // SAFETY: as above.
    kept(unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            mount.as_raw_fd(),
            raw,
            libc::O_RDONLY,
        )
    })
}
