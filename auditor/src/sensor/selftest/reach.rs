//! What the helper does to a child and to sockets of its own, in order to see whether such things are seen.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};

use rustix::process::{Pid, Resource, WaitOptions, prlimit, waitpid};

use super::helper::{Act, HelperReport};

/// `PTRACE_SEIZE`: it does not stop the child.
const PTRACE_SEIZE: libc::c_uint = 0x4206;

/// One process (`include/uapi/linux/ioprio.h`).
const IOPRIO_WHO_PROCESS: libc::c_int = 1;
/// What a process has that nobody gave another priority: class `IOPRIO_CLASS_BE`, level 4.
const IOPRIO_NORMAL: libc::c_int = 2 << 13 | 4;

/// Does all of it, each in its turn.
pub(super) fn reach(report: &mut HelperReport) {
    match pausing_child() {
        Ok(child) => {
            report.note(Act::Limit, set_limit(child));
            report.note(Act::Schedule, set_scheduling(child));
            report.note(Act::Trace, trace(child));
            let ended = rustix::process::kill_process(child, rustix::process::Signal::KILL);
            if ended.is_ok() {
                // A traced child's end is told to its tracer, which is its parent here.
                let _status = waitpid(Some(child), WaitOptions::empty());
            }
        }
        Err(error) => {
            let text = error.to_string();
            for act in [Act::Limit, Act::Schedule, Act::Trace] {
                report.note(act, Err(io::Error::other(text.clone())));
            }
        }
    }
    report.note(Act::Connect, connect());
    report.note(Act::Send, send());
}

/// A child that does nothing until it is ended.
pub(super) fn pausing_child() -> io::Result<Pid> {
    // SAFETY: a fork without shared memory; the child calls nothing but pause and _exit, which are safe whatever
    // locks other threads held.
    match unsafe { libc::fork() } {
        // SAFETY: as above.
        0 => unsafe {
            libc::pause();
            libc::_exit(0)
        },
        -1 => Err(io::Error::last_os_error()),
        child => Pid::from_raw(child).ok_or_else(|| io::Error::other("no process id")),
    }
}

fn done(result: i64) -> io::Result<()> {
    match result {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// To what it is already: only that it is set counts.
fn set_limit(child: Pid) -> io::Result<()> {
    let now = rustix::process::getrlimit(Resource::Core);
    prlimit(Some(child), Resource::Core, now)?;
    Ok(())
}

fn set_scheduling(child: Pid) -> io::Result<()> {
    let child = child.as_raw_nonzero().get();
    let param = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameter outlives the call, which only reads it; the others are passed no memory.
    unsafe {
        let set = libc::sched_setscheduler(child, libc::SCHED_OTHER, &raw const param);
        done(i64::from(set))?;
        let nice = libc::getpriority(libc::PRIO_PROCESS, child.unsigned_abs());
        let set = libc::setpriority(libc::PRIO_PROCESS, child.unsigned_abs(), nice);
        done(i64::from(set))?;
        done(libc::syscall(
            libc::SYS_ioprio_set,
            IOPRIO_WHO_PROCESS,
            child,
            IOPRIO_NORMAL,
        ))
    }
}

fn trace(child: Pid) -> io::Result<()> {
    // SAFETY: no memory is passed.
    let seized = unsafe {
        libc::ptrace(
            PTRACE_SEIZE,
            child.as_raw_nonzero().get(),
            core::ptr::null_mut::<libc::c_void>(),
            core::ptr::null_mut::<libc::c_void>(),
        )
    };
    done(seized)
}

fn address(kind: &str) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("auditor-selftest-{kind}-{}", std::process::id()))
}

fn connect() -> io::Result<()> {
    let address = address("stream")?;
    let _listener = UnixListener::bind_addr(&address)?;
    UnixStream::connect_addr(&address).map(drop)
}

fn send() -> io::Result<()> {
    let address = address("datagram")?;
    let _receiver = UnixDatagram::bind_addr(&address)?;
    UnixDatagram::unbound()?
        .send_to_addr(b"1", &address)
        .map(drop)
}
