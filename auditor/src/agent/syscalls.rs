//! Names of the syscalls that can stand in a witness. Numbers are the machine's native ones; a compat
//! task's numbers mean others, so a name is a hint for a reader and never decides anything.

/// The name of a syscall, if it is one that changes what the auditor watches.
#[must_use]
pub fn name(number: i32) -> Option<&'static str> {
    macro_rules! table {
        ($($name:ident: $number:ident,)+) => {
            match libc::c_long::from(number) {
                $(libc::$number => Some(stringify!($name)),)+
                _ => None,
            }
        };
    }
    #[cfg(target_arch = "x86_64")]
    let legacy = table! {
        fork: SYS_fork,
        vfork: SYS_vfork,
    };
    #[cfg(not(target_arch = "x86_64"))]
    let legacy = None;
    let common = table! {
        setns: SYS_setns,
        unshare: SYS_unshare,
        clone: SYS_clone,
        clone3: SYS_clone3,
        execve: SYS_execve,
        execveat: SYS_execveat,
        chroot: SYS_chroot,
        pivot_root: SYS_pivot_root,
        chdir: SYS_chdir,
        fchdir: SYS_fchdir,
        setuid: SYS_setuid,
        setgid: SYS_setgid,
        setreuid: SYS_setreuid,
        setregid: SYS_setregid,
        setresuid: SYS_setresuid,
        setresgid: SYS_setresgid,
        setfsuid: SYS_setfsuid,
        setfsgid: SYS_setfsgid,
        setgroups: SYS_setgroups,
        capset: SYS_capset,
        prctl: SYS_prctl,
        write: SYS_write,
        openat: SYS_openat,
        ioctl: SYS_ioctl,
        keyctl: SYS_keyctl,
        mount: SYS_mount,
        io_uring_enter: SYS_io_uring_enter,
    };
    common.or(legacy)
}

#[cfg(test)]
mod tests {
    /// Known numbers have names, others have none.
    #[test]
    fn names() {
        let setns = i32::try_from(libc::SYS_setns).unwrap();
        assert_eq!(super::name(setns), Some("setns"));
        assert_eq!(super::name(-1), None);
    }
}
