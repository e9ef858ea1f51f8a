//! Signals as something to wait for, not something that interrupts.
//!
//! They are blocked in every thread and read from a descriptor by the one thread that decides, so
//! no handler runs anywhere and a stop happens between two steps, never inside one.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// A signal that means something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT, SIGTERM: flush and end.
    Stop,
    /// SIGHUP: read the policy again.
    Reload,
    /// SIGUSR1: show the matrix.
    Show,
}

/// The descriptor that signals arrive on.
#[derive(Debug)]
pub struct Signals(OwnedFd);

impl Signals {
    /// Blocks the signals in this thread and in all that it starts from now on: call it first.
    /// Children started with `std::process::Command` begin with nothing blocked.
    ///
    /// # Errors
    /// When the system refuses the descriptor.
    pub fn block() -> io::Result<Self> {
        // SAFETY: `set` is a plain C struct that sigemptyset initialises before anything reads it;
        // all pointers are to live locals or null where the call allows it.
        let fd = unsafe {
            let mut set = std::mem::zeroed::<libc::sigset_t>();
            libc::sigemptyset(&raw mut set);
            for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1] {
                libc::sigaddset(&raw mut set, signal);
            }
            let error =
                libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            if error != 0 {
                return Err(io::Error::from_raw_os_error(error));
            }
            libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave us this descriptor and nobody else knows it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Waits for a signal, at most this long.
    ///
    /// # Errors
    /// When waiting fails; a timeout is `None`.
    pub fn wait(&self, timeout: Duration) -> io::Result<Option<Signal>> {
        let mut poll = libc::pollfd {
            fd: self.0.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let timeout_ms = libc::c_int::try_from(timeout.as_millis()).unwrap_or(libc::c_int::MAX);
        // SAFETY: one pollfd, which lives until the call returns.
        if unsafe { libc::poll(&raw mut poll, 1, timeout_ms) } < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted {
                Ok(None)
            } else {
                Err(error)
            };
        }
        self.take()
    }

    /// The next signal that has arrived, without waiting.
    ///
    /// # Errors
    /// When reading fails.
    pub fn take(&self) -> io::Result<Option<Signal>> {
        // SAFETY: all-zero is a valid signalfd_siginfo, which is integers only.
        let mut info = unsafe { std::mem::zeroed::<libc::signalfd_siginfo>() };
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the buffer is `info`, writable and of this size.
        let n = unsafe { libc::read(self.0.as_raw_fd(), (&raw mut info).cast(), size) };
        if n < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error),
            };
        }
        Ok(Some(match info.ssi_signo.cast_signed() {
            libc::SIGHUP => Signal::Reload,
            libc::SIGUSR1 => Signal::Show,
            _ => Signal::Stop,
        }))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::{Signal, Signals};
    use std::time::Duration;

    /// Goal: signals arrive on the descriptor, each as what it means. Sent to this thread only.
    #[test]
    fn signals_are_read() {
        let signals = Signals::block().unwrap();
        assert_eq!(signals.wait(Duration::ZERO).unwrap(), None);
        for (number, want) in [
            (libc::SIGHUP, Signal::Reload),
            (libc::SIGUSR1, Signal::Show),
            (libc::SIGTERM, Signal::Stop),
            (libc::SIGINT, Signal::Stop),
        ] {
            // SAFETY: the thread is this one, and the signal is blocked in it.
            unsafe { libc::pthread_kill(libc::pthread_self(), number) };
            assert_eq!(signals.wait(Duration::from_secs(5)).unwrap(), Some(want));
        }
    }
}
