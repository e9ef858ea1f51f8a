//! Acts with what passes between containers without a namespace: pipes, open files, connections, memory. What is made
//! stays for as long as the act's state is held.

use std::ffi::CString;
use std::fs::File;
use std::io::Error;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use serde::{Deserialize, Serialize};

use super::{Tried, tried};
use crate::sys;

/// Bytes of memory that is mapped.
const LEN: usize = 4096;

/// One act. Paths are the container's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "handle", rename_all = "kebab-case")]
pub enum HandleAct {
    /// Opens a named pipe for both directions; makes it if it is not there.
    Fifo {
        /// Where.
        path: String,
    },
    /// Maps a file shared and writable; makes it if it is not there.
    Map {
        /// Which.
        path: String,
    },
    /// Listens, and keeps the connection of whoever connects.
    Accept {
        /// Where.
        path: String,
    },
    /// Makes something, and passes it to whoever connects.
    Offer {
        /// Where it listens.
        path: String,
        /// What it passes.
        what: Made,
    },
    /// Connects, and keeps what is passed.
    Take {
        /// Where to.
        path: String,
    },
    /// Makes one of each, and shares it with a child of its own.
    Own,
}

/// What is made and passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Made {
    /// The end of a pipe.
    Pipe,
    /// One end of a connection.
    Stream,
    /// An open file that has no name: an eventfd.
    Event,
    /// Memory.
    Memory,
    /// An open file with a name.
    File,
}

impl HandleAct {
    /// Does it, in the calling process.
    ///
    /// # Errors
    /// What was tried, and why it failed.
    pub fn perform(&self) -> Tried<()> {
        match self {
            Self::Fifo { path } => tried(format!("open {path}"), fifo(path)),
            Self::Map { path } => tried(format!("map {path}"), map_path(path)),
            Self::Accept { path } => serve(path, |connection| {
                let _kept = connection.into_raw_fd();
            }),
            Self::Offer { path, what } => {
                let made = tried(format!("make {what:?}"), what.make())?.into_raw_fd();
                serve(path, move |connection| {
                    // Whoever went away in between gets nothing.
                    let _ = sys::send_descriptor(connection.as_raw_fd(), made);
                })
            }
            Self::Take { path } => {
                let connection = tried(format!("connect to {path}"), UnixStream::connect(path))?;
                let received = sys::receive_descriptor(connection.as_raw_fd());
                tried("receive a descriptor", received)
            }
            Self::Own => tried("make handles", own()),
        }
    }
}

impl Made {
    /// Makes it; where it has two ends, the other one is kept.
    fn make(self) -> std::io::Result<OwnedFd> {
        match self {
            Self::Pipe => {
                let (reader, writer) = std::io::pipe()?;
                let _kept = OwnedFd::from(reader).into_raw_fd();
                Ok(writer.into())
            }
            Self::Stream => {
                let (kept, passed) = UnixStream::pair()?;
                let _kept = kept.into_raw_fd();
                Ok(passed.into())
            }
            // SAFETY: no memory is passed.
            Self::Event => owned(unsafe { libc::eventfd(0, 0) }),
            Self::File => Ok(File::create("/tmp/passed")?.into()),
            Self::Memory => {
                // SAFETY: the name ends in NUL.
                let memory = owned(unsafe { libc::memfd_create(c"shared".as_ptr(), 0) })?;
                File::from(memory.try_clone()?).set_len(LEN as u64)?;
                Ok(memory)
            }
        }
    }
}

fn owned(descriptor: i32) -> std::io::Result<OwnedFd> {
    match descriptor {
        // SAFETY: the kernel just gave us this descriptor and nobody else owns it.
        0.. => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(Error::last_os_error()),
    }
}

fn fifo(path: &str) -> std::io::Result<()> {
    let name = CString::new(path)?;
    // SAFETY: the name ends in NUL and outlives the call.
    if unsafe { libc::mkfifo(name.as_ptr(), 0o666) } != 0 {
        let error = Error::last_os_error();
        if error.raw_os_error() != Some(libc::EEXIST) {
            return Err(error);
        }
    }
    let pipe = File::options().read(true).write(true).open(path)?;
    let _kept = pipe.into_raw_fd();
    Ok(())
}

fn map_path(path: &str) -> std::io::Result<()> {
    let mut options = File::options();
    let file = options.read(true).write(true).create(true).truncate(false);
    let file = file.open(path)?;
    file.set_len(LEN as u64)?;
    map(&file.into())
}

/// Maps memory for as long as the process lives.
fn map(file: &OwnedFd) -> std::io::Result<()> {
    // SAFETY: a new mapping that nothing refers to.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            LEN,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    match at {
        libc::MAP_FAILED => Err(Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Listens, and serves in the background whoever connects.
fn serve(path: &str, with: impl Fn(UnixStream) + Send + 'static) -> Tried<()> {
    let listener = tried(format!("listen on {path}"), UnixListener::bind(path))?;
    std::thread::spawn(move || listener.incoming().flatten().for_each(with));
    Ok(())
}

/// A child has all that its parent has, and both are one container's.
fn own() -> std::io::Result<()> {
    for what in [Made::Pipe, Made::Stream, Made::Event, Made::Memory] {
        let made = what.make()?;
        if what == Made::Memory {
            map(&made)?;
        }
        let _kept = made.into_raw_fd();
    }
    if sys::fork()? == 0 {
        // It ends with its parent.
        // SAFETY: no memory is passed.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        loop {
            std::thread::park();
        }
    }
    Ok(())
}
