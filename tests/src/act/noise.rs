//! Acts that other threads disturb. Some rewrite its arguments while the kernel reads them: what was asked for is no
//! evidence of what was done. Such an act goes on until the call has met both objects, as the kernel says of what came of
//! it. Others do the like on the same processor all the time, so that the kernel interrupts one of them in the middle of
//! what watches.

use std::fs::File;
use std::io::Error;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::linux::fs::MetadataExt as _;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Tried, tried};
use crate::sys;

/// For how long the two objects may take turns.
const PATIENCE: Duration = Duration::from_secs(8);
/// Threads of a crowd.
const CROWD: usize = 24;
/// For how long a crowd is at it before and after the act.
const MILLING: Duration = Duration::from_millis(100);
/// Room for a path, its NUL included: that of a unix socket's address.
const ROOM: usize = 108;
/// Room for a family before it.
const FAMILY: usize = 2;
/// Where the container's own file is made.
const OWN_DIRECTORY: &str = "/tmp/";

/// One act. `own` and `other` are paths that take turns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "noise", rename_all = "kebab-case")]
pub enum NoiseAct {
    /// `open(path)` for reading, with the path rewritten. The act makes a file of the container's by itself.
    Open {
        /// Somebody else's.
        other: String,
    },
    /// `connect(address)`, with the address rewritten. The act listens at the container's by itself.
    Connect {
        /// The container's.
        own: String,
        /// Somebody else's.
        other: String,
    },
    /// `open(path)` for reading, while a crowd of threads on the same processor opens files of the container's.
    Crowd {
        /// Somebody else's.
        other: String,
    },
    /// Reading a link to another process's program, while a crowd reads the link to its own.
    Asks {
        /// Somebody else's.
        other: String,
    },
    /// Opening by a child that ends at once, while a crowd of threads on the same processor makes more of them.
    Births {
        /// Somebody else's.
        other: String,
    },
    /// `setns(descriptor)` of host name namespaces, with what is behind the descriptor replaced.
    Join {
        /// The container's.
        own: String,
        /// Somebody else's.
        other: String,
    },
}

impl NoiseAct {
    /// Does it, in the calling process.
    ///
    /// # Errors
    /// What was tried, and why it failed.
    pub fn perform(&self) -> Tried<()> {
        match self {
            Self::Open { other } => tried(format!("open {other} or another"), open(other)),
            Self::Crowd { other } => {
                tried(format!("open {other} in a crowd"), open_in_crowd(other))
            }
            Self::Asks { other } => tried(format!("read {other} in a crowd"), ask_in_crowd(other)),
            Self::Births { other } => tried(
                format!("open {other} by a child that is born in a crowd"),
                be_born_in_crowd(other),
            ),
            Self::Connect { own, other } => {
                tried(format!("connect to {own} or {other}"), connect(own, other))
            }
            Self::Join { own, other } => tried(format!("join {own} or {other}"), join(own, other)),
        }
    }
}

/// Which of the two objects a call met.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Met {
    Own,
    Other,
    /// Neither: the text was half of each.
    Nothing,
}

/// Calls until both were met, while another thread disturbs.
fn while_disturbed(
    disturb: impl Fn() + Sync,
    mut call: impl FnMut() -> std::io::Result<Met>,
) -> std::io::Result<()> {
    let over = AtomicBool::new(false);
    let deadline = Instant::now() + PATIENCE;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                disturb();
            }
        });
        let mut met = (false, false);
        let result = loop {
            match call() {
                Ok(Met::Own) => met.0 = true,
                Ok(Met::Other) => met.1 = true,
                Ok(Met::Nothing) => {}
                Err(error) => break Err(error),
            }
            if met == (true, true) {
                break Ok(());
            }
            if Instant::now() > deadline {
                break Err(Error::new(
                    std::io::ErrorKind::TimedOut,
                    format!("met its own: {}, the other: {}", met.0, met.1),
                ));
            }
        };
        over.store(true, Ordering::Relaxed);
        result
    })
}

/// A path in memory that is written while it is read, and before it the family of a unix socket's address.
struct Shifting {
    bytes: [AtomicU8; FAMILY + ROOM],
    texts: [[u8; ROOM]; 2],
}

impl Shifting {
    fn new(texts: [&str; 2]) -> std::io::Result<Self> {
        let mut padded = [[0; ROOM]; 2];
        for (place, text) in padded.iter_mut().zip(texts) {
            let room = place.get_mut(..text.len()).filter(|_| text.len() < ROOM);
            room.ok_or_else(|| Error::other(format!("{text} is too long")))?
                .copy_from_slice(text.as_bytes());
        }
        let bytes = [const { AtomicU8::new(0) }; FAMILY + ROOM];
        let family = (libc::AF_UNIX as u16).to_ne_bytes();
        // From the first call on there is a whole path: the beginning of one would name a directory on the way.
        for (place, byte) in bytes.iter().zip(family.into_iter().chain(padded[0])) {
            place.store(byte, Ordering::Relaxed);
        }
        Ok(Self {
            bytes,
            texts: padded,
        })
    }

    /// Writes one after the other.
    fn shift(&self) {
        for text in &self.texts {
            for (place, byte) in self.bytes.iter().skip(FAMILY).zip(text) {
                place.store(*byte, Ordering::Relaxed);
            }
            std::thread::yield_now();
        }
    }

    fn path(&self) -> *const libc::c_char {
        self.bytes.as_ptr().wrapping_add(FAMILY).cast()
    }

    const fn address(&self) -> *const libc::sockaddr {
        self.bytes.as_ptr().cast()
    }
}

/// Device and inode: the same file by whatever way.
fn identity(file: &File) -> std::io::Result<(u64, u64)> {
    let about = file.metadata()?;
    Ok((about.st_dev(), about.st_ino()))
}

/// A path of the container's that is as long as another one. So a text that is half of each never ends before both do:
/// it would name a directory on the way to the other, and opening that would be another finding.
fn own_path(other: &str) -> std::io::Result<String> {
    let name = other.len().checked_sub(OWN_DIRECTORY.len());
    let name = name.filter(|&length| length > 0);
    let name = name.ok_or_else(|| Error::other(format!("{other} is too short")))?;
    Ok([OWN_DIRECTORY, &"o".repeat(name)].concat())
}

fn open(other: &str) -> std::io::Result<()> {
    let own = own_path(other)?;
    let is_own = identity(&File::create(&own)?)?;
    let path = Shifting::new([&own, other])?;
    while_disturbed(
        || path.shift(),
        || {
            // SAFETY: the memory outlives the call, and its last byte is always 0.
            let opened = unsafe { libc::open(path.path(), libc::O_RDONLY | libc::O_CLOEXEC) };
            if opened < 0 {
                return missed();
            }
            // SAFETY: the kernel just gave us this descriptor.
            let file = unsafe { File::from_raw_fd(opened) };
            Ok(match identity(&file)? == is_own {
                true => Met::Own,
                false => Met::Other,
            })
        },
    )
}

/// Acts while many threads of the same processor do the like.
fn in_crowd(
    like: impl Fn() + Sync,
    act: impl FnOnce() -> std::io::Result<()>,
) -> std::io::Result<()> {
    stay()?;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..CROWD {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    like();
                }
            });
        }
        std::thread::sleep(MILLING);
        let done = act();
        std::thread::sleep(MILLING);
        over.store(true, Ordering::Relaxed);
        done
    })
}

fn open_in_crowd(other: &str) -> std::io::Result<()> {
    let own = own_path(other)?;
    drop(File::create(&own)?);
    in_crowd(|| drop(File::open(&own)), || File::open(other).map(drop))
}

fn ask_in_crowd(other: &str) -> std::io::Result<()> {
    let read = |link: &str| std::fs::read_link(link).map(drop);
    in_crowd(
        || {
            let _own = read("/proc/self/exe");
        },
        || read(other),
    )
}

fn be_born_in_crowd(other: &str) -> std::io::Result<()> {
    // A child of a process with many threads may do next to nothing before it ends.
    let path = std::ffi::CString::new(other)?;
    in_crowd(
        || drop(std::thread::spawn(|| {}).join()),
        || {
            let child = sys::fork()?;
            if child == 0 {
                // SAFETY: the path outlives the call.
                let opened = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY) };
                sys::exit_now(i32::from(opened < 0));
            }
            match sys::waitpid(child)? {
                (_, 0) => Ok(()),
                _ => Err(Error::other("the child could not open it")),
            }
        },
    )
}

/// Keeps the calling thread, and those that it makes, on the processor where it is.
fn stay() -> std::io::Result<()> {
    // SAFETY: the set has the size that is given, and outlives the calls; its numbers are in range.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        match usize::try_from(libc::sched_getcpu()) {
            Ok(processor) => libc::CPU_SET(processor, &mut set),
            Err(_) => return Err(Error::last_os_error()),
        }
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set)
    };
    match result {
        0 => Ok(()),
        _ => Err(Error::last_os_error()),
    }
}

/// A text that was half of each names nothing.
fn missed() -> std::io::Result<Met> {
    let error = Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR | libc::ECONNREFUSED | libc::EINVAL) => Ok(Met::Nothing),
        _ => Err(error),
    }
}

fn connect(own: &str, other: &str) -> std::io::Result<()> {
    let listener = UnixListener::bind(own)?;
    let address = Shifting::new([own, other])?;
    let size = (FAMILY + ROOM) as libc::socklen_t;
    while_disturbed(
        || address.shift(),
        || {
            let socket = stream()?;
            // SAFETY: the memory outlives the call, and has the size that is given.
            if unsafe { libc::connect(socket.as_raw_fd(), address.address(), size) } < 0 {
                return missed();
            }
            if peer(&socket)? == std::process::id() as i32 {
                drop(listener.accept()?);
                return Ok(Met::Own);
            }
            Ok(Met::Other)
        },
    )
}

fn stream() -> std::io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let made = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    match made {
        // SAFETY: the kernel just gave us this descriptor.
        0.. => Ok(unsafe { OwnedFd::from_raw_fd(made) }),
        _ => Err(Error::last_os_error()),
    }
}

/// Who listens at the other end, in the caller's pid namespace; 0: somebody outside.
fn peer(socket: &OwnedFd) -> std::io::Result<i32> {
    let mut who = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut size = size_of_val(&who) as libc::socklen_t;
    // SAFETY: the credentials have the size that is given, and both outlive the call.
    let got = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut who).cast(),
            &raw mut size,
        )
    };
    match got {
        0.. => Ok(who.pid),
        _ => Err(Error::last_os_error()),
    }
}

fn join(own: &str, other: &str) -> std::io::Result<()> {
    let choices = [File::open(own)?, File::open(other)?];
    let ours = identity(&choices[0])?;
    let shifting = choices[0].try_clone()?;
    let number = shifting.as_raw_fd();
    while_disturbed(
        || {
            for choice in &choices {
                // SAFETY: no memory is passed; the number is that of a descriptor which lives as long as this.
                unsafe { libc::dup3(choice.as_raw_fd(), number, libc::O_CLOEXEC) };
                std::thread::yield_now();
            }
        },
        || {
            sys::setns(shifting.as_fd(), libc::CLONE_NEWUTS)?;
            let now = identity(&File::open("/proc/thread-self/ns/uts")?)?;
            Ok(match now == ours {
                true => Met::Own,
                false => Met::Other,
            })
        },
    )
}
