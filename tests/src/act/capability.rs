//! Acts that ask the kernel for one capability each.

use std::ffi::CString;
use std::fs::File;
use std::io::Error;
use std::net::TcpListener;

use serde::{Deserialize, Serialize};

use super::{Tried, tried};
use crate::sys;

/// One act. None changes anything on the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "capability", rename_all = "kebab-case")]
pub enum CapabilityAct {
    /// Opens a raw socket, as `ping` does: `NET_RAW`.
    RawSocket,
    /// Makes a file and gives it away: `CHOWN`.
    Chown {
        /// Which file.
        path: String,
    },
    /// Listens on a port below 1024: `NET_BIND_SERVICE`.
    ListenLow,
    /// Mounts a tmpfs in a fresh user and mount namespace: `SYS_ADMIN`, over that user namespace alone.
    MountInside {
        /// Over which directory.
        path: String,
    },
    /// Mounts a tmpfs: `SYS_ADMIN`.
    Mount {
        /// Over which directory.
        path: String,
    },
    /// Asks for a restart of the machine by wrong numbers: `SYS_BOOT`. It is refused, for want of that or for the numbers.
    Reboot,
    /// Restricts itself by Landlock, in a child: no task of its may execute anything any more. Where there is no Landlock,
    /// nothing.
    Landlock,
}

impl CapabilityAct {
    /// Does it, in the calling process.
    ///
    /// # Errors
    /// What was tried, and why it failed.
    pub fn perform(&self) -> Tried<()> {
        match self {
            Self::RawSocket => {
                // SAFETY: no memory is passed.
                let socket =
                    unsafe { libc::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP) };
                tried("socket", done(socket))
            }
            Self::Chown { path } => {
                tried(format!("create {path}"), File::create(path))?;
                let chown = std::os::unix::fs::chown(path, Some(7), Some(7));
                tried(format!("chown {path}"), chown)
            }
            Self::ListenLow => {
                // The address of any interface: the loopback device may be down.
                tried("listen", TcpListener::bind("0.0.0.0:99")).map(drop)
            }
            Self::Landlock => restrict(),
            Self::MountInside { path } => mount_inside(path),
            Self::Mount { path } => mount(path),
            Self::Reboot => {
                // SAFETY: numbers that mean nothing; no memory is passed.
                let asked = unsafe { libc::syscall(libc::SYS_reboot, 0, 0, 0, 0) };
                match done(asked) {
                    Err(error)
                        if matches!(error.raw_os_error(), Some(libc::EPERM | libc::EINVAL)) =>
                    {
                        Ok(())
                    }
                    Err(error) => Err(("reboot".to_owned(), error)),
                    Ok(()) => Err(("reboot".to_owned(), Error::other("it was not refused"))),
                }
            }
        }
    }
}

/// Whether this kernel has Landlock.
#[must_use]
pub fn has_landlock() -> bool {
    const VERSION: u32 = 1;
    let nothing = std::ptr::null::<u8>();
    // SAFETY: no memory is passed.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0, VERSION) };
    version >= 1
}

fn restrict() -> Tried<()> {
    // That it handles executing, and no rule allows any.
    let handled = 1_u64;
    if !has_landlock() {
        return Ok(());
    }
    let child = tried("fork", sys::fork())?;
    if child == 0 {
        // SAFETY: the rule set outlives the call, and its size is given; nothing else is passed.
        let restricted = unsafe {
            let size = size_of_val(&handled);
            let rules = libc::syscall(
                libc::SYS_landlock_create_ruleset,
                &raw const handled,
                size,
                0,
            );
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            libc::syscall(libc::SYS_landlock_restrict_self, rules, 0)
        };
        sys::exit_now(i32::from(restricted != 0));
    }
    let (_, status) = tried("wait for the child", sys::waitpid(child))?;
    let refused = (status != 0).then(|| Error::other("it was refused"));
    tried("restrict itself", refused.map_or(Ok(()), Err))
}

fn mount_inside(path: &str) -> Tried<()> {
    // SAFETY: no memory is passed.
    let unshared = unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) };
    tried("unshare", done(unshared))?;
    mount(path)
}

fn mount(path: &str) -> Tried<()> {
    let place = tried("name a directory", CString::new(path).map_err(Error::other))?;
    // SAFETY: the strings end, and a tmpfs takes no data.
    let mounted = unsafe {
        libc::mount(
            c"none".as_ptr(),
            place.as_ptr(),
            c"tmpfs".as_ptr(),
            0,
            std::ptr::null(),
        )
    };
    tried(format!("mount over {path}"), done(mounted))
}

fn done(result: impl Into<i64>) -> std::io::Result<()> {
    match result.into() {
        0.. => Ok(()),
        _ => Err(Error::last_os_error()),
    }
}
