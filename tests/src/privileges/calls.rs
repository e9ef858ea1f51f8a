//! What is said of the system calls that containers make, and what a filter of no others does.

use anyhow::{Context, Result, ensure};
use auditor::report::privileges::ContainerPrivileges;
use auditor::report::syscalls::SyscallsMade;
use serde_json::Value;

use crate::act::Act;
use crate::act::kernel::KernelAct;
use crate::cast::Cast;

fn made(container: &ContainerPrivileges) -> Result<&SyscallsMade> {
    let made = container.capabilities.syscalls.as_ref();
    made.with_context(|| format!("nobody looked at the system calls of {}", container.id))
}

/// What the ordinary container's work takes, and what it does not.
pub(super) fn of_plain(container: &ContainerPrivileges) -> Result<()> {
    let made = made(container)?;
    let has = |call: &str| made.used.iter().any(|name| name == call);
    for call in [
        "bind",
        "chown",
        "exit_group",
        "listen",
        "mount",
        "reboot",
        "socket",
        "unshare",
        "write",
    ] {
        ensure!(has(call), "{call} is missing among {:?}", made.used);
    }
    // The first two its runtime makes before its program runs.
    for call in ["pivot_root", "sethostname", "bpf", "ptrace"] {
        ensure!(!has(call), "{call} is among {:?}", made.used);
    }
    ensure!(
        made.from_start && !made.partly && !made.unnamed,
        "not seen from the start, or not all by name: {made:?}"
    );
    Ok(())
}

/// It ran before anybody looked.
pub(super) fn from_before(container: &ContainerPrivileges) -> Result<()> {
    let made = made(container)?;
    ensure!(!made.from_start, "said to be seen from its start");
    let has = made.used.iter().any(|name| name == "socket");
    ensure!(has, "socket is missing among {:?}", made.used);
    Ok(())
}

/// A call whose number means another one in the native table (20 is writev) has no name. Kernels that do not have such
/// calls show none.
pub(super) fn makes_32_bit_call(cast: &mut Cast<'_>, who: usize) -> Result<bool> {
    let answer = cast.running[who].act(&Act::Kernel(KernelAct::Call32))?;
    ensure!(
        matches!(answer.errno, 0 | libc::ENOSYS),
        "the call failed: {}: {}",
        answer.what,
        answer.errno
    );
    Ok(answer.errno == 0)
}

pub(super) fn of_32_bit(container: &ContainerPrivileges, called: bool) -> Result<()> {
    let made = made(container)?;
    ensure!(made.unnamed == called, "{made:?}");
    let has = made.used.iter().any(|name| name == "writev");
    ensure!(!has, "taken for writev");
    Ok(())
}

/// The filter is on, and refuses what was not seen: as if the kernel did not have it.
pub(super) fn is_filtered(cast: &mut Cast<'_>, patch: &Value) -> Result<()> {
    let allowed = &patch["linux"]["seccomp"]["syscalls"][0]["names"];
    let allowed = allowed.as_array().context("no filter is advised")?;
    ensure!(
        !allowed.iter().any(|name| name == "userfaultfd"),
        "userfaultfd is allowed"
    );
    let pid = cast.running[0].pid;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("read a status")?;
    ensure!(status.contains("\nSeccomp:\t2\n"), "no filter: {status}");
    let answer = cast.running[0].act(&Act::Kernel(KernelAct::Userfaultfd))?;
    ensure!(
        answer.errno == libc::ENOSYS,
        "userfaultfd: {} ({})",
        answer.errno,
        answer.what
    );
    Ok(())
}
