//! Whether the kernel leaves programs out, and whether it has what it leaves out for nobody.
//!
//! Where a task can be interrupted within a program, the kernel leaves that program out for whatever runs on the same CPU
//! in between, unless the kernel asks it as a security module. That has its price, so it is done only where it is needed.

use super::clock::KernelVersion;
use std::fs;

/// Kernels since this one have no other kind of preemption.
const ALWAYS: KernelVersion = KernelVersion::new(7, 0);
/// The system call's number, the same for all architectures.
const LSM_LIST_MODULES: libc::c_long = 461;
/// `LSM_ID_BPF` (`include/uapi/linux/lsm.h`).
const LSM_ID_BPF: u64 = 109;
/// More modules than any kernel has.
const MAX_MODULES: usize = 64;
/// The mode that is in force, in parentheses; a kernel without debugfs does not say.
const MODE: &str = "/sys/kernel/debug/sched/preempt";

/// Whether a task can be interrupted within the kernel for another one. A kernel that does not say is taken for one that
/// does not, as most of those are built.
pub fn is_preemptible() -> bool {
    let uname = rustix::system::uname();
    let release = KernelVersion::parse(&uname.release().to_string_lossy());
    release.is_none_or(|release| release >= ALWAYS)
        || is_preempted(
            &uname.version().to_string_lossy(),
            fs::read_to_string(MODE).ok().as_deref(),
            &fs::read_to_string("/proc/cmdline").unwrap_or_default(),
        )
}

/// The same, of older kernels: by `uname -v`, the mode and the kernel's command line.
fn is_preempted(version: &str, mode: Option<&str>, command_line: &str) -> bool {
    let kind = version.split(' ').find(|word| word.starts_with("PREEMPT"));
    match (kind, mode) {
        (None, _) => false,
        (Some("PREEMPT_DYNAMIC"), Some(mode)) => mode.contains("(full)") || mode.contains("(lazy)"),
        (Some("PREEMPT_DYNAMIC"), None) => {
            let asked = command_line
                .split_whitespace()
                .rev()
                .find_map(|word| word.strip_prefix("preempt="));
            matches!(asked, Some("full" | "lazy"))
        }
        (Some(_), _) => true,
    }
}

/// Whether BPF programs are asked as a security module is: the kernel can be built or started without. It says so since
/// 6.8, and has never left out such programs since 6.2.
pub fn asks_programs() -> bool {
    let mut ids = [0_u64; MAX_MODULES];
    let mut bytes = size_of_val(&ids) as u32;
    // SAFETY: the kernel writes at most `bytes` bytes into `ids`, and both outlive the call.
    let count = unsafe { libc::syscall(LSM_LIST_MODULES, ids.as_mut_ptr(), &raw mut bytes, 0_u32) };
    let count = usize::try_from(count).unwrap_or(0);
    ids.iter().take(count).any(|&id| id == LSM_ID_BPF)
}

#[cfg(test)]
mod tests {
    //! Goal: each kind of kernel is told apart. Method: what kernels of distributions say.

    use super::is_preempted;

    #[test]
    fn kinds_of_preemption_are_told_apart() {
        let dynamic = "#1 SMP PREEMPT_DYNAMIC Debian 6.1.90-1 (2024-05-03)";
        let modes = |mode| is_preempted(dynamic, Some(mode), "preempt=full");
        assert!(!modes("none (voluntary) full \n"));
        assert!(modes("none voluntary (full) \n"));
        assert!(modes("none voluntary full (lazy) \n"));
        assert!(!is_preempted(dynamic, None, "quiet"));
        assert!(!is_preempted(dynamic, None, "preempt=full preempt=none"));
        assert!(is_preempted(dynamic, None, "quiet preempt=full"));
        assert!(!is_preempted("#1 SMP Debian 5.10.216-1", None, ""));
        assert!(is_preempted("#1 SMP PREEMPT_RT Debian", None, ""));
        assert!(is_preempted("#1 SMP PREEMPT Tue", None, ""));
    }
}
