//! Names of system calls by machine architecture: a trace is replayed on machines of other kinds than the one it was
//! recorded on.
//!
//! Numbers are an architecture's native ones. Those of 32-bit calls mean others: where the kernel programs do not translate
//! them, a name is a hint for a reader.

use std::str::FromStr as _;
use syscalls::{aarch64, x86, x86_64};

/// Names by number.
pub type Names = fn(i32) -> Option<&'static str>;

/// The names of all system calls of an architecture, as `uname -m` calls it. An unknown one has no names.
#[must_use]
pub fn all_of(arch: &str) -> Names {
    match arch {
        "x86_64" => on_x86_64,
        "aarch64" => on_aarch64,
        _ => |_| None,
    }
}

/// As [`all_of`], with those alone that can stand in a witness: what no rule expects there is a compat task's number,
/// which means another call.
#[must_use]
pub fn of(arch: &str) -> Names {
    match arch {
        "x86_64" => |number| on_x86_64(number).filter(|name| is_witness(name)),
        "aarch64" => |number| on_aarch64(number).filter(|name| is_witness(name)),
        _ => |_| None,
    }
}

fn on_x86_64(number: i32) -> Option<&'static str> {
    let number = usize::try_from(number).ok()?;
    x86_64::Sysno::new(number).map(|call| call.name())
}

fn on_aarch64(number: i32) -> Option<&'static str> {
    let number = usize::try_from(number).ok()?;
    aarch64::Sysno::new(number).map(|call| call.name())
}

/// What a 32-bit system call is natively, by its number: the name of the call that does the same. `None`: there is no
/// such call, or none does the same, or the architecture's 32-bit calls are not known here.
#[must_use]
pub fn native_of(arch: &str, number: u32) -> Option<&'static str> {
    if arch != "x86_64" {
        return None;
    }
    let name = x86::Sysno::new(usize::try_from(number).ok()?)?.name();
    // Calls that were made anew with wider arguments, which the native ones always had.
    let wider = ["", "32", "64", "_time64"];
    let narrow = wider.iter().filter_map(|end| name.strip_suffix(end));
    let renamed = match name {
        "umount" => Some("umount2"),
        "mmap2" => Some("mmap"),
        "waitpid" => Some("wait4"),
        _ => None,
    };
    let known = |name: &str| x86_64::Sysno::from_str(name).ok();
    renamed
        .into_iter()
        .chain(narrow)
        .find_map(known)
        .map(|call| call.name())
}

/// The same of a call by x86's x32 table, by its number without the bit that tells these. They are native ones but for some
/// that pass other structures (`arch/x86/entry/syscalls/syscall_64.tbl`).
#[must_use]
pub fn native_of_x32(arch: &str, number: u32) -> Option<&'static str> {
    if arch != "x86_64" {
        return None;
    }
    match usize::try_from(number).ok()?.checked_sub(X32_FIRST) {
        Some(place) => X32_CALLS.get(place).copied(),
        None => on_x86_64(i32::try_from(number).ok()?),
    }
}

/// The first number that is the x32 table's alone.
const X32_FIRST: usize = 512;

/// The calls from there on.
const X32_CALLS: [&str; 36] = [
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
];

/// The native number of a call.
#[must_use]
pub fn number_of(arch: &str, name: &str) -> Option<u32> {
    let number = match arch {
        "x86_64" => x86_64::Sysno::from_str(name).ok().map(|call| call as usize),
        "aarch64" => aarch64::Sysno::from_str(name)
            .ok()
            .map(|call| call as usize),
        _ => None,
    };
    number.and_then(|number| u32::try_from(number).ok())
}

fn is_witness(name: &str) -> bool {
    WITNESSES.binary_search(&name).is_ok()
}

/// In order.
const WITNESSES: [&str; 70] = [
    "bpf",
    "capset",
    "chdir",
    "chroot",
    "clone",
    "clone3",
    "connect",
    "execve",
    "execveat",
    "fchdir",
    "finit_module",
    "fork",
    "init_module",
    "io_uring_enter",
    "ioctl",
    "ioprio_set",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "kill",
    "landlock_restrict_self",
    "migrate_pages",
    "mknod",
    "mknodat",
    "mount",
    "move_pages",
    "open",
    "openat",
    "perf_event_open",
    "pidfd_getfd",
    "pidfd_send_signal",
    "pivot_root",
    "prctl",
    "prlimit64",
    "process_madvise",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "readlink",
    "readlinkat",
    "sched_setaffinity",
    "sched_setattr",
    "sched_setparam",
    "sched_setscheduler",
    "sendfile",
    "sendmmsg",
    "sendmsg",
    "sendto",
    "setfsgid",
    "setfsuid",
    "setgid",
    "setgroups",
    "setns",
    "setpriority",
    "setregid",
    "setresgid",
    "setresuid",
    "setreuid",
    "setrlimit",
    "setuid",
    "socket",
    "splice",
    "tgkill",
    "tkill",
    "umount2",
    "unshare",
    "userfaultfd",
    "vfork",
    "write",
];

#[cfg(test)]
mod tests {
    use super::{WITNESSES, all_of, native_of, native_of_x32, number_of, of};

    /// Goal: numbers have the names of their own architecture. Method: known ones of each, and none.
    #[test]
    fn names() {
        assert_eq!(of("x86_64")(308), Some("setns"));
        assert_eq!(of("aarch64")(268), Some("setns"));
        assert_eq!(of("aarch64")(308), None);
        assert_eq!(of("aarch64")(-1), None);
        assert_eq!(of("riscv64")(268), None);
    }

    /// Goal: every name is found, and names of calls that no rule knows are only in the long list.
    #[test]
    fn witnesses_are_in_order_and_known() {
        assert!(WITNESSES.is_sorted());
        let known: Vec<&str> = (0..1024).filter_map(all_of("x86_64")).collect();
        assert!(WITNESSES.iter().all(|name| known.contains(name)));
        assert_eq!(all_of("x86_64")(9), Some("mmap"));
        assert_eq!(of("x86_64")(9), None);
        assert_eq!(all_of("aarch64")(222), Some("mmap"));
        assert_eq!(all_of("x86_64")(-1), None);
    }

    /// Goal: a 32-bit call is told as the native one that does the same. Method: calls of the same name, of an older, a wider
    /// and another one, and calls that have none.
    #[test]
    fn translated() {
        let native = |number| native_of("x86_64", number);
        assert_eq!(native(5), Some("open"));
        assert_eq!(native(14), Some("mknod"));
        assert_eq!(native(22), Some("umount2"));
        assert_eq!(native(23), Some("setuid"));
        assert_eq!(native(213), Some("setuid"));
        assert_eq!(native(239), Some("sendfile"));
        assert_eq!(native(340), Some("prlimit64"));
        assert_eq!(native(414), Some("ppoll"));
        assert_eq!(native(102), None, "socketcall");
        assert_eq!(native(511), None);
        assert_eq!(native_of("aarch64", 5), None);
        assert_eq!(native_of_x32("x86_64", 2), Some("open"));
        assert_eq!(native_of_x32("x86_64", 521), Some("ptrace"));
        assert_eq!(native_of_x32("x86_64", 547), Some("pwritev2"));
        assert_eq!(native_of_x32("x86_64", 548), None);
        assert_eq!(number_of("x86_64", "open"), Some(2));
        assert_eq!(number_of("aarch64", "open"), None);
    }

    /// Goal: the table is the machine's own. Method: compare with the C library's constants.
    #[test]
    fn native_numbers() {
        let names = of(std::env::consts::ARCH);
        for (number, name) in [
            (libc::SYS_setns, "setns"),
            (libc::SYS_unshare, "unshare"),
            (libc::SYS_clone, "clone"),
            (libc::SYS_execveat, "execveat"),
            (libc::SYS_pivot_root, "pivot_root"),
            (libc::SYS_setresgid, "setresgid"),
            (libc::SYS_capset, "capset"),
            (libc::SYS_keyctl, "keyctl"),
            (libc::SYS_mount, "mount"),
            (libc::SYS_io_uring_enter, "io_uring_enter"),
        ] {
            assert_eq!(names(i32::try_from(number).unwrap()), Some(name));
        }
    }
}
