//! Acts on other processes.

use std::fs::File;
use std::io::Error;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Tried, compat, tried};
use crate::sys;

/// `PTRACE_SEIZE`: it does not stop the other.
const PTRACE_SEIZE: libc::c_uint = 0x4206;
/// An unprivileged user.
const USER: u32 = 1000;

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
    /// One way of reaching into a process.
    Reach {
        /// How.
        how: Reach,
        /// Into whom.
        pid: i32,
    },
    /// The same, into a child.
    ReachChild {
        /// How.
        how: Reach,
    },
    /// The same, as an ordinary user: it must be refused.
    Refused {
        /// How.
        how: Reach,
        /// Into whom.
        pid: i32,
    },
    /// Opens a file, and closes it again.
    Open {
        /// Its path.
        path: String,
    },
    /// Reads of all processes in /proc what there is to read, as `ps` and its like do.
    ListAll,
}

/// The nice value that leaves most to others.
const LOWEST_NICE: i32 = 19;
/// One process (`include/uapi/linux/ioprio.h`).
const IOPRIO_WHO_PROCESS: i32 = 1;
/// Class `IOPRIO_CLASS_IDLE`.
const IOPRIO_IDLE: i32 = 3 << 13;

/// Ways of reaching into a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// `ptrace(PTRACE_SEIZE)`.
    Trace,
    /// `process_vm_readv`, from an address where nothing is: access is granted before that is found.
    Memory,
    /// `pidfd_getfd` of its standard input.
    Descriptor,
    /// `kcmp` with the caller.
    Compare,
    /// `prlimit`, to what it is.
    Limits,
    /// `sched_setaffinity`, to what it is.
    Scheduling,
    /// `setpriority`, to the lowest.
    Nice,
    /// `ioprio_set`, to the lowest.
    InputOutput,
    /// As [`Self::Trace`], by the 32-bit table.
    Trace32,
    /// As [`Self::Limits`], by the 32-bit table.
    Limits32,
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
            Self::Reach { how, pid } => tried(format!("{how:?} {pid}"), how.into_process(*pid)),
            Self::ReachChild { how } => reach_child(*how),
            Self::Refused { how, pid } => refused(*how, *pid),
            Self::Open { path } => tried(format!("open {path}"), File::open(path).map(drop)),
            Self::ListAll => tried("read /proc", list_all()),
        }
    }
}

impl Reach {
    fn into_process(self, pid: i32) -> Result<(), Error> {
        match self {
            Self::Trace => trace(pid),
            Self::Memory => memory(pid),
            Self::Descriptor => descriptor(pid),
            Self::Compare => compare(pid),
            Self::Limits => limits(pid),
            Self::Scheduling => scheduling(pid),
            // SAFETY: no memory is passed.
            Self::Nice => done(i64::from(unsafe {
                libc::setpriority(libc::PRIO_PROCESS, pid.unsigned_abs(), LOWEST_NICE)
            })),
            // SAFETY: as above.
            Self::InputOutput => done(unsafe {
                libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, pid, IOPRIO_IDLE)
            }),
            Self::Trace32 => compat::trace(pid),
            Self::Limits32 => compat::limits(pid),
        }
    }
}

fn trace(pid: i32) -> Result<(), Error> {
    // SAFETY: no memory is passed.
    let seized = unsafe {
        libc::ptrace(
            PTRACE_SEIZE,
            pid,
            std::ptr::null_mut::<libc::c_void>(),
            std::ptr::null_mut::<libc::c_void>(),
        )
    };
    done(seized)
}

fn memory(pid: i32) -> Result<(), Error> {
    let mut byte = 0_u8;
    let own = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    let theirs = libc::iovec {
        iov_base: std::ptr::without_provenance_mut(8),
        iov_len: 1,
    };
    // SAFETY: `own` is one writable byte that outlives the call; the kernel checks the other address.
    let read = unsafe { libc::process_vm_readv(pid, &raw const own, 1, &raw const theirs, 1, 0) };
    match done(read as i64) {
        Err(error) if error.raw_os_error() == Some(libc::EFAULT) => Ok(()),
        other => other,
    }
}

fn descriptor(pid: i32) -> Result<(), Error> {
    let pidfd = sys::pidfd_open(pid)?;
    // SAFETY: no memory is passed. What is got stays open: the act's state is held.
    done(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), 0, 0) })
}

fn compare(pid: i32) -> Result<(), Error> {
    const KCMP_VM: i32 = 1;
    // SAFETY: no memory is passed.
    done(unsafe { libc::syscall(libc::SYS_kcmp, libc::getpid(), pid, KCMP_VM, 0, 0) })
}

fn limits(pid: i32) -> Result<(), Error> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let core = libc::RLIMIT_CORE;
    // SAFETY: the limit outlives both calls.
    unsafe {
        done(i64::from(libc::prlimit(
            0,
            core,
            std::ptr::null(),
            &raw mut limit,
        )))?;
        limit.rlim_cur = 0;
        done(i64::from(libc::prlimit(
            pid,
            core,
            &raw const limit,
            std::ptr::null_mut(),
        )))
    }
}

fn scheduling(pid: i32) -> Result<(), Error> {
    // SAFETY: a set of zeros is an empty one; it outlives both calls.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        let size = size_of::<libc::cpu_set_t>();
        done(i64::from(libc::sched_getaffinity(pid, size, &raw mut set)))?;
        done(i64::from(libc::sched_setaffinity(
            pid,
            size,
            &raw const set,
        )))
    }
}

fn reach_child(how: Reach) -> Tried<()> {
    let child = tried("fork", sys::fork())?;
    if child == 0 {
        std::thread::sleep(std::time::Duration::from_secs(3600));
        sys::exit_now(0);
    }
    let reached = how.into_process(child);
    tried("kill the child", sys::kill(child, libc::SIGKILL))?;
    tried("wait for the child", sys::waitpid(child))?;
    tried(format!("{how:?} of a child"), reached)
}

fn refused(how: Reach, pid: i32) -> Tried<()> {
    tried("become an ordinary user", sys::become_user(USER))?;
    let result = match how.into_process(pid) {
        Ok(()) => Err(Error::other("it was granted")),
        Err(error) => match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Ok(()),
            _ => Err(error),
        },
    };
    tried(format!("{how:?} {pid} as an ordinary user"), result)
}

fn list_all() -> Result<(), Error> {
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        if path.join("stat").exists() {
            look_into(&path);
        }
    }
    Ok(())
}

/// Whoever ends meanwhile, or is a kernel thread, has less to read.
fn look_into(process: &Path) {
    for file in ["stat", "status", "cmdline", "environ", "maps", "smaps"] {
        let _ = std::fs::read(process.join(file));
    }
    for link in ["exe", "cwd", "root", "ns/net"] {
        let _ = std::fs::read_link(process.join(link));
    }
}

fn send(pid: i32, signal: i32) -> Tried<()> {
    // SAFETY: no memory is passed.
    let sent = unsafe { libc::kill(pid, signal) };
    tried(format!("kill {pid}"), done(i64::from(sent)))
}

fn done(result: i64) -> Result<(), Error> {
    match result {
        0.. => Ok(()),
        _ => Err(Error::last_os_error()),
    }
}
