//! Acts on the mount table.

use std::ffi::CString;
use std::fs::File;
use std::io::Error;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use serde::{Deserialize, Serialize};

use super::{Tried, tried};
use crate::{disk, sys};

/// From `linux/mount.h`: the libraries of old systems have none of these.
const OPEN_TREE_CLONE: libc::c_uint = 1;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const MOUNT_ATTR_RDONLY: u64 = 1;

/// One act. Targets are made if they are missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mount", rename_all = "kebab-case")]
pub enum MountAct {
    /// `mount(kind, target, kind, 0, data)`.
    Mount {
        /// Kind of file system.
        kind: String,
        /// Where.
        target: String,
        /// Options of the file system.
        data: String,
    },
    /// `fsopen`, `fsconfig`, `fsmount`, `move_mount`.
    MountByFd {
        /// Kind of file system.
        kind: String,
        /// Where.
        target: String,
    },
    /// Mounts the disk at `/tmp/disk`.
    Disk {
        /// How.
        way: DiskWay,
    },
    /// `mount(source, target, MS_BIND)`.
    Bind {
        /// What.
        source: String,
        /// Where.
        target: String,
    },
    /// `open_tree(source, OPEN_TREE_CLONE)` in the mount namespace behind a file, then `move_mount` back at home.
    Carry {
        /// File of the mount namespace.
        namespace: String,
        /// What, as seen from there.
        source: String,
        /// Where.
        target: String,
    },
    /// `mount(target, MS_REMOUNT | MS_BIND)`, without `MS_RDONLY`.
    MakeWritable {
        /// What.
        target: String,
    },
    /// `mount_setattr(target)`, which takes away `MOUNT_ATTR_RDONLY`.
    ClearReadOnly {
        /// What.
        target: String,
    },
    /// `mount(target, MS_SHARED)` or `MS_SLAVE`.
    Propagate {
        /// What.
        target: String,
        /// Shared, rather than a slave.
        shared: bool,
    },
    /// Nothing, for as long as the auditor may take to look at a container that has begun.
    Wait,
    /// `umount(target)`.
    Unmount {
        /// What.
        target: String,
    },
    /// Leaves for a fresh mount namespace and mounts a tmpfs there.
    Private {
        /// Where.
        target: String,
    },
}

/// How a disk is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskWay {
    /// By `mount`.
    Call,
    /// By `mount`, and `umount` follows.
    Briefly,
    /// By `fsopen`, `fsconfig`, `fsmount`, `move_mount`.
    Descriptor,
    /// By `fsopen`, `fsconfig`, `fsmount`: looked into, and attached to nothing.
    Detached,
}

impl DiskWay {
    fn mount(self) -> Tried<()> {
        const NODE: &str = "/share/disk";
        const TARGET: &str = "/tmp/disk";
        let detached = || tried(format!("fsmount {NODE}"), fsmount(disk::KIND, Some(NODE)));
        let called = || {
            let mounted = sys::mount(NODE, TARGET.as_ref(), disk::KIND, 0, "");
            tried(format!("mount {NODE}"), mounted)
        };
        make(TARGET)?;
        match self {
            Self::Call => called(),
            Self::Briefly => {
                called()?;
                unmount(TARGET)
            }
            Self::Descriptor => tried("move_mount", attach(&detached()?, TARGET)),
            Self::Detached => {
                let mount = detached()?;
                let root = format!("/proc/self/fd/{}", mount.as_raw_fd());
                tried("look into the disk", std::fs::read_dir(root).map(drop))
            }
        }
    }
}

impl MountAct {
    /// Does it, in the calling process.
    ///
    /// # Errors
    /// What was tried, and why it failed.
    pub fn perform(&self) -> Tried<()> {
        match self {
            Self::Mount { kind, target, data } => {
                make(target)?;
                let mounted = sys::mount(kind, target.as_ref(), kind, 0, data);
                tried(format!("mount {kind} at {target}"), mounted)
            }
            Self::MountByFd { kind, target } => {
                make(target)?;
                let mount = tried(format!("fsmount {kind}"), fsmount(kind, None))?;
                tried(format!("move_mount to {target}"), attach(&mount, target))
            }
            Self::Disk { way } => way.mount(),
            Self::Bind { source, target } => {
                make(target)?;
                let mounted = sys::mount(source, target.as_ref(), "", libc::MS_BIND, "");
                tried(format!("bind {source} to {target}"), mounted)
            }
            Self::Carry {
                namespace,
                source,
                target,
            } => {
                make(target)?;
                let tree = tried(format!("carry {source}"), carry(namespace, source))?;
                tried(format!("move_mount to {target}"), attach(&tree, target))
            }
            Self::MakeWritable { target } => {
                let flags = libc::MS_REMOUNT | libc::MS_BIND;
                let mounted = sys::mount("", target.as_ref(), "", flags, "");
                tried(format!("remount {target}"), mounted)
            }
            Self::ClearReadOnly { target } => {
                tried(format!("mount_setattr {target}"), clear_read_only(target))
            }
            Self::Propagate { target, shared } => {
                let flags = if *shared {
                    libc::MS_SHARED
                } else {
                    libc::MS_SLAVE
                };
                let changed = sys::mount("", target.as_ref(), "", flags, "");
                tried(format!("change the propagation of {target}"), changed)
            }
            Self::Wait => {
                std::thread::sleep(std::time::Duration::from_secs(1));
                Ok(())
            }
            Self::Unmount { target } => unmount(target),
            Self::Private { target } => {
                make(target)?;
                tried("unshare", sys::unshare(libc::CLONE_NEWNS))?;
                let mounted = sys::mount("tmpfs", target.as_ref(), "tmpfs", 0, "");
                tried(format!("mount tmpfs at {target}"), mounted)
            }
        }
    }
}

fn make(directory: &str) -> Tried<()> {
    let made = std::fs::create_dir_all(directory);
    tried(format!("mkdir {directory}"), made)
}

fn unmount(target: &str) -> Tried<()> {
    let unmounted = sys::umount_detach(target.as_ref());
    tried(format!("umount {target}"), unmounted)
}

/// A descriptor that a call made.
fn fd(result: libc::c_long) -> std::io::Result<OwnedFd> {
    match i32::try_from(result) {
        // SAFETY: the kernel just gave us this descriptor.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(Error::last_os_error()),
    }
}

fn done(result: libc::c_long) -> std::io::Result<()> {
    match result {
        0.. => Ok(()),
        _ => Err(Error::last_os_error()),
    }
}

fn text(text: &str) -> std::io::Result<CString> {
    CString::new(text).map_err(Error::other)
}

fn fsmount(kind: &str, source: Option<&str>) -> std::io::Result<OwnedFd> {
    let kind = text(kind)?;
    // SAFETY: the name is terminated and outlives the call.
    let context = fd(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), 0) })?;
    if let Some(source) = source {
        let source = text(source)?;
        // SAFETY: both strings are terminated and outlive the call.
        done(unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                context.as_raw_fd(),
                FSCONFIG_SET_STRING,
                c"source".as_ptr(),
                source.as_ptr(),
                0,
            )
        })?;
    }
    let none = std::ptr::null::<u8>();
    // SAFETY: creating takes no key and no value.
    done(unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            FSCONFIG_CMD_CREATE,
            none,
            none,
            0,
        )
    })?;
    // SAFETY: no memory is passed.
    fd(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), 0, 0) })
}

fn clear_read_only(target: &str) -> std::io::Result<()> {
    // `struct mount_attr`: set, clear, propagation, user namespace.
    let attributes: [u64; 4] = [0, MOUNT_ATTR_RDONLY, 0, 0];
    let target = text(target)?;
    // SAFETY: the path is terminated, the attributes have the size that is given, and both outlive the call.
    done(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            target.as_ptr(),
            0,
            attributes.as_ptr(),
            size_of_val(&attributes),
        )
    })
}

fn carry(namespace: &str, source: &str) -> std::io::Result<OwnedFd> {
    let home = File::open("/proc/self/ns/mnt")?;
    let root = File::open("/")?;
    let there = File::open(namespace)?;
    sys::setns(there.as_fd(), libc::CLONE_NEWNS)?;
    let source = text(source)?;
    // SAFETY: the path is terminated and outlives the call.
    let tree = fd(unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            libc::AT_FDCWD,
            source.as_ptr(),
            OPEN_TREE_CLONE,
        )
    });
    sys::setns(home.as_fd(), libc::CLONE_NEWNS)?;
    // SAFETY: no memory is passed.
    done(unsafe { libc::fchdir(root.as_raw_fd()) }.into())?;
    tree
}

fn attach(mount: &OwnedFd, target: &str) -> std::io::Result<()> {
    let (empty, target) = (text("")?, text(target)?);
    // SAFETY: both paths are terminated and outlive the call.
    done(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            empty.as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    })
}
