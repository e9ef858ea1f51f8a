//! A small disk of the machine, for as long as this lives: a block device over a file.

use std::fs::{File, OpenOptions};
use std::io::Error;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::sys;

/// Its kind of file system, which every kernel of the matrix has built in.
pub(crate) const KIND: &str = "ext4";

/// From `linux/loop.h`.
const LOOP_SET_FD: libc::c_ulong = 0x4c00;
const LOOP_SET_STATUS64: libc::c_ulong = 0x4c04;
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4c82;
const LO_FLAGS_AUTOCLEAR: u64 = 4;
/// 64-bit words of `struct loop_info64`, and the one whose upper half has the flags.
const INFO_WORDS: usize = 29;
const INFO_FLAGS: usize = 6;

/// How many free devices are tried.
const ATTACHES: u32 = 5;

/// What makes files block devices.
const CONTROL: &str = "/dev/loop-control";

/// The open device: the kernel lets go of the file when nobody has it open or mounted any more.
#[derive(Debug)]
pub(crate) struct Disk(#[expect(dead_code, reason = "it is only held open")] File);

impl Disk {
    /// Whether this machine can have one.
    pub(crate) fn is_possible() -> bool {
        let has_tool = Command::new("mke2fs").arg("-V").output().is_ok();
        has_tool && Path::new(CONTROL).exists()
    }

    /// Makes one over a new file, and a node for it.
    pub(crate) fn new(file: &Path, node: &Path) -> Result<Self> {
        let made = Command::new("mke2fs")
            .args(["-q", "-F", "-t", KIND, "-O", "^has_journal"])
            .arg(file)
            .arg("1M")
            .output()
            .context("start mke2fs")?;
        let said = String::from_utf8_lossy(&made.stderr);
        ensure!(made.status.success(), "mke2fs: {}: {said}", made.status);
        let backing = open(file)?;
        let mut tried = attach(&backing);
        for _ in 1..ATTACHES {
            // Somebody else may take the device that was free.
            match &tried {
                Err(error) if is_busy(error) => tried = attach(&backing),
                _ => break,
            }
        }
        let device = tried.context("make a block device of a file")?;
        let number = device.metadata().context("look at the device")?.rdev();
        sys::make_block_node(node, number)
            .with_context(|| format!("make the node {}", node.display()))?;
        Ok(Self(device))
    }
}

fn is_busy(error: &anyhow::Error) -> bool {
    let cause = error.downcast_ref::<Error>();
    cause.and_then(Error::raw_os_error) == Some(libc::EBUSY)
}

fn open(path: &Path) -> Result<File> {
    let opened = OpenOptions::new().read(true).write(true).open(path);
    opened.with_context(|| format!("open {}", path.display()))
}

fn attach(file: &File) -> Result<File> {
    let control = open(Path::new(CONTROL))?;
    // SAFETY: no memory is passed.
    let free = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
    ensure!(free >= 0, "{CONTROL}: {}", Error::last_os_error());
    let device = open(&PathBuf::from(format!("/dev/loop{free}")))?;
    let mut info = [0_u64; INFO_WORDS];
    info[INFO_FLAGS] = LO_FLAGS_AUTOCLEAR << 32;
    // SAFETY: the first call passes no memory, the second as much as the kernel reads.
    let status = unsafe {
        match libc::ioctl(device.as_raw_fd(), LOOP_SET_FD, file.as_raw_fd()) {
            0 => libc::ioctl(device.as_raw_fd(), LOOP_SET_STATUS64, info.as_ptr()),
            refused => refused,
        }
    };
    if status != 0 {
        return Err(Error::last_os_error()).with_context(|| format!("/dev/loop{free}"));
    }
    Ok(device)
}
