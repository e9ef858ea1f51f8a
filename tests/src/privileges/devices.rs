//! What is said of a container's devices is what the kernel says when somebody in its cgroups asks for them.

use std::ffi::CString;
use std::io::Error;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use auditor::model::setup::DeviceRule;
use auditor::report::layers::LayersReport;

const READ: i32 = 1;
const WRITE: i32 = 2;
const MKNOD: i32 = 4;
/// Added to an answer, so that it is no error number.
const ANSWER: i32 = 0x1_0000;

/// Whether a block device, its numbers. They are there, and opening them does nothing; or nobody has them.
const DEVICES: [(bool, u32, u32); 9] = [
    (false, 1, 3),
    (false, 1, 5),
    (false, 1, 8),
    (false, 1, 11),
    (false, 5, 0),
    (false, 240, 7),
    (false, 511, 3),
    (true, 240, 1),
    (true, 259, 77),
];

/// Compares for each of them.
pub(super) fn agree(layers: &LayersReport, pid: i32, work: &Path) -> Result<()> {
    let devices = layers.devices.as_ref().context("nothing of devices")?;
    ensure!(devices.from == "kernel", "{devices:?}");
    let rules = devices.rules.as_deref().context("no rules")?;
    for (block, major, minor) in DEVICES {
        let says = rules.iter().filter(|rule| {
            rule.block.is_none_or(|only| only == block)
                && rule.major.is_none_or(|only| only == major)
                && rule.minor.is_none_or(|only| only == minor)
        });
        let says = says.fold(0, |all, rule| all | bits(rule));
        let kernel = kernel_allows(block, major, minor, pid, work)?;
        ensure!(
            says == kernel,
            "block {block}, {major}:{minor}: {says} by {rules:?}, and {kernel} by the kernel"
        );
    }
    let all = rules.iter().any(|rule| {
        (rule.block, rule.major, rule.minor) == (None, None, None) && bits(rule) & WRITE != 0
    });
    ensure!(devices.all == all, "{devices:?}");
    Ok(())
}

fn bits(rule: &DeviceRule) -> i32 {
    let bit = |allowed: bool, bit| if allowed { bit } else { 0 };
    bit(rule.read, READ) | bit(rule.write, WRITE) | bit(rule.mknod, MKNOD)
}

/// Asks for a device from within the cgroups of a process.
fn kernel_allows(block: bool, major: u32, minor: u32, pid: i32, work: &Path) -> Result<i32> {
    let place = |name: &str| -> Result<(PathBuf, CString)> {
        let path = work.join(format!("node-{name}"));
        let _absent = std::fs::remove_file(&path);
        let text = CString::new(path.as_os_str().as_bytes())?;
        Ok((path, text))
    };
    let ((given, given_text), (made, made_text)) = (place("given")?, place("made")?);
    let kind = if block { libc::S_IFBLK } else { libc::S_IFCHR };
    let device = libc::makedev(major, minor);
    // SAFETY: the path is NUL-terminated.
    let status = unsafe { libc::mknod(given_text.as_ptr(), kind | 0o600, device) };
    ensure!(status == 0, "make a node: {}", Error::last_os_error());
    let procs: Vec<CString> = procs(pid)?;
    let mut command = Command::new("/bin/true");
    let ask = move || {
        for procs in &procs {
            // SAFETY: the path is NUL-terminated, the byte outlives the call.
            let joined = unsafe {
                let file = libc::open(procs.as_ptr(), libc::O_WRONLY);
                file >= 0 && libc::write(file, b"0".as_ptr().cast(), 1) == 1
            };
            if !joined {
                return Err(Error::last_os_error());
            }
        }
        let mut allowed = 0;
        let is_allowed =
            |status: i32| status >= 0 || Error::last_os_error().raw_os_error() != Some(libc::EPERM);
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        // SAFETY: the paths are NUL-terminated.
        unsafe {
            if is_allowed(libc::open(given_text.as_ptr(), libc::O_RDONLY | flags)) {
                allowed |= READ;
            }
            if is_allowed(libc::open(given_text.as_ptr(), libc::O_WRONLY | flags)) {
                allowed |= WRITE;
            }
            if is_allowed(libc::mknod(made_text.as_ptr(), kind | 0o600, device)) {
                allowed |= MKNOD;
            }
        }
        Err(Error::from_raw_os_error(ANSWER + allowed))
    };
    // SAFETY: the closure only makes system calls and allocates nothing.
    let answer = unsafe { command.pre_exec(ask) }.spawn();
    let _absent = std::fs::remove_file(&made);
    std::fs::remove_file(&given).context("remove a node")?;
    match answer.map(drop).map_err(|error| error.raw_os_error()) {
        Err(Some(answer)) if answer >= ANSWER => Ok(answer - ANSWER),
        Err(Some(error)) => bail!("join: {}", Error::from_raw_os_error(error)),
        other => bail!("{other:?}"),
    }
}

/// Where to write oneself into the cgroups of a process that say which devices it may reach.
fn procs(pid: i32) -> Result<Vec<CString>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).context("read cgroups")?;
    let mut places = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(id), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            bail!("no cgroup: {line}");
        };
        let path = path.trim_start_matches('/');
        let root = match (id, controllers) {
            ("0", "") if Path::new("/sys/fs/cgroup/cgroup.procs").exists() => "/sys/fs/cgroup",
            (_, "devices") => "/sys/fs/cgroup/devices",
            _ => continue,
        };
        let place = Path::new(root).join(path).join("cgroup.procs");
        places.push(CString::new(place.as_os_str().as_bytes())?);
    }
    ensure!(!places.is_empty(), "no cgroup says anything of devices");
    Ok(places)
}
