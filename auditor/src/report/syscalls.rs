//! The system calls that containers made, and the seccomp profile that allows no others.

use super::privileges::CapabilitySets;
use crate::model::calls::Calls;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// `ENOSYS`: programs and libraries know what to do without a call that a kernel does not have.
const ENOSYS: i32 = 38;

/// What is called whether or not a container's program does: by the runtime between the filter and the program (as
/// `strace` shows it of runc and crun, and what Go's runtime does besides), by the kernel and the C library after a
/// signal, and by the vDSO where the machine's clock cannot be read without the kernel.
const ALWAYS: [&str; 65] = [
    "brk",
    "capget",
    "capset",
    "chdir",
    "clock_getres",
    "clock_gettime",
    "clock_nanosleep",
    "clone",
    "close",
    "close_range",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "eventfd2",
    "execve",
    "exit",
    "exit_group",
    "faccessat2",
    "fchdir",
    "fchown",
    "fcntl",
    "fstat",
    "fstatfs",
    "futex",
    "getcpu",
    "getcwd",
    "getdents64",
    "getpid",
    "getppid",
    "gettid",
    "gettimeofday",
    "ioctl",
    "lseek",
    "madvise",
    "mmap",
    "mprotect",
    "munmap",
    "nanosleep",
    "newfstatat",
    "openat",
    "openat2",
    "pipe2",
    "prctl",
    "pread64",
    "read",
    "readlinkat",
    "restart_syscall",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_getaffinity",
    "sched_yield",
    "set_robust_list",
    "set_tid_address",
    "setgid",
    "setgroups",
    "setresgid",
    "setresuid",
    "setuid",
    "sigaltstack",
    "statx",
    "tgkill",
    "time",
    "uname",
    "write",
];

/// The system calls that were made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SyscallsMade {
    /// By name, in order.
    pub used: Vec<String>,
    /// Whether others were made too, which have no name here: 32-bit ones on a 64-bit machine, or newer ones than are known.
    pub unnamed: bool,
    /// Whether they were seen from a container's start on, at least once.
    pub from_start: bool,
    /// Whether nobody looked for a part of the time.
    pub partly: bool,
}

impl SyscallsMade {
    pub(super) fn of(calls: &Calls) -> Self {
        Self {
            used: calls.names().map(str::to_owned).collect(),
            unnamed: calls.unnamed,
            from_start: calls.from_start,
            partly: calls.partly,
        }
    }
}

/// What a filter must allow, by name; or why there is no telling.
pub(super) fn allowed(sets: &CapabilitySets) -> Result<BTreeSet<&str>, &'static str> {
    let Some(made) = &sets.syscalls else {
        return Err("its system calls were not looked at (--syscalls): no seccomp profile");
    };
    if made.unnamed {
        return Err(
            "it made system calls that have no name here, such as 32-bit ones: no seccomp profile",
        );
    }
    if !made.from_start {
        return Err(
            "its system calls were not seen from its start on: no seccomp profile, for it would not start",
        );
    }
    let used = made.used.iter().map(String::as_str);
    Ok(used.chain(ALWAYS).collect())
}

/// A profile, as `linux.seccomp` of an OCI spec and as files for Docker, Podman and the kubelet have it; or why there is
/// none.
pub(super) fn profile(sets: &CapabilitySets) -> Result<Value, &'static str> {
    let names = allowed(sets)?;
    Ok(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": ENOSYS,
        "syscalls": [{ "names": names, "action": "SCMP_ACT_ALLOW" }],
    }))
}

/// What a reader of a profile must know, in sentences.
pub(super) fn caveats(sets: &CapabilitySets) -> Vec<String> {
    let Some(made) = &sets.syscalls else {
        return Vec::new();
    };
    let mut said = vec![format!(
        "system calls: {} seen; what it calls more rarely, a filter refuses as if the kernel did not have it",
        made.used.len()
    )];
    if made.partly {
        said.push("for a part of that time its system calls were not looked at".to_owned());
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_order() {
        assert!(ALWAYS.is_sorted());
        let name = crate::model::syscalls::all_of("x86_64");
        let known: BTreeSet<&str> = (0..512).filter_map(name).collect();
        let unknown: Vec<&str> = ALWAYS.into_iter().filter(|n| !known.contains(n)).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
}
