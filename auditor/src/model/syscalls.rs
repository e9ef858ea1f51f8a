//! Names of the system calls that can stand in a witness, by machine architecture: a trace is replayed on
//! machines of other kinds than the one it was recorded on.
//!
//! Numbers are an architecture's native ones (`arch/x86/entry/syscalls/syscall_64.tbl`,
//! `include/uapi/asm-generic/unistd.h`); a compat task's numbers mean others, so a name is a hint for a
//! reader.

mod all;

/// Names by number.
pub type Names = fn(i32) -> Option<&'static str>;

/// The table of an architecture, as `uname -m` calls it. An unknown one has no names.
#[must_use]
pub fn of(arch: &str) -> Names {
    match arch {
        "x86_64" => |number| find(&TABLE, number, |row| row.1),
        "aarch64" => |number| find(&TABLE, number, |row| row.2),
        _ => |_| None,
    }
}

/// As [`of`], with the names of all system calls: also of those that no rule knows.
#[must_use]
pub fn all_of(arch: &str) -> Names {
    match arch {
        "x86_64" => |number| find(&all::TABLE, number, |row| row.1),
        "aarch64" => |number| find(&all::TABLE, number, |row| row.2),
        _ => |_| None,
    }
}

fn find(table: &[Row], number: i32, column: fn(&Row) -> i32) -> Option<&'static str> {
    table
        .iter()
        .find(|row| number >= 0 && column(row) == number)
        .map(|row| row.0)
}

/// Name, number on x86_64, number on aarch64; -1 where there is none.
type Row = (&'static str, i32, i32);

const TABLE: [Row; 64] = [
    ("setns", 308, 268),
    ("unshare", 272, 97),
    ("clone", 56, 220),
    ("clone3", 435, 435),
    ("fork", 57, -1),
    ("vfork", 58, -1),
    ("execve", 59, 221),
    ("execveat", 322, 281),
    ("chroot", 161, 51),
    ("pivot_root", 155, 41),
    ("chdir", 80, 49),
    ("fchdir", 81, 50),
    ("setuid", 105, 146),
    ("setgid", 106, 144),
    ("setreuid", 113, 145),
    ("setregid", 114, 143),
    ("setresuid", 117, 147),
    ("setresgid", 119, 149),
    ("setfsuid", 122, 151),
    ("setfsgid", 123, 152),
    ("setgroups", 116, 159),
    ("capset", 126, 91),
    ("prctl", 157, 167),
    ("write", 1, 64),
    ("openat", 257, 56),
    ("ioctl", 16, 29),
    ("keyctl", 250, 219),
    ("mount", 165, 40),
    ("io_uring_enter", 426, 426),
    ("ptrace", 101, 117),
    ("process_vm_readv", 310, 270),
    ("process_vm_writev", 311, 271),
    ("process_madvise", 440, 440),
    ("move_pages", 279, 239),
    ("migrate_pages", 256, 238),
    ("pidfd_getfd", 438, 438),
    ("kcmp", 312, 272),
    ("prlimit64", 302, 261),
    ("setrlimit", 160, 164),
    ("sched_setaffinity", 203, 122),
    ("sched_setscheduler", 144, 119),
    ("sched_setparam", 142, 118),
    ("sched_setattr", 314, 274),
    ("connect", 42, 203),
    ("sendto", 44, 206),
    ("sendmsg", 46, 211),
    ("sendmmsg", 307, 269),
    ("kill", 62, 129),
    ("tkill", 200, 130),
    ("tgkill", 234, 131),
    ("pidfd_send_signal", 424, 424),
    ("open", 2, -1),
    ("readlink", 89, -1),
    ("readlinkat", 267, 78),
    ("bpf", 321, 280),
    ("init_module", 175, 105),
    ("finit_module", 313, 273),
    ("kexec_load", 246, 104),
    ("kexec_file_load", 320, 294),
    ("perf_event_open", 298, 241),
    ("userfaultfd", 323, 282),
    ("socket", 41, 198),
    ("mknod", 133, -1),
    ("mknodat", 259, 33),
];

#[cfg(test)]
mod tests {
    use super::{TABLE, all, all_of, of};

    /// Goal: numbers have the names of their own architecture. Method: known ones of each, and none.
    #[test]
    fn names() {
        assert_eq!(of("x86_64")(308), Some("setns"));
        assert_eq!(of("aarch64")(268), Some("setns"));
        assert_eq!(of("aarch64")(308), None);
        assert_eq!(of("aarch64")(-1), None);
        assert_eq!(of("riscv64")(268), None);
    }

    /// Goal: the long list has what the short one has, and no number twice.
    #[test]
    fn the_long_list_holds_the_short_one() {
        assert!(TABLE.iter().all(|row| all::TABLE.contains(row)));
        for column in [|row: &super::Row| row.1, |row: &super::Row| row.2] {
            let mut numbers: Vec<i32> = all::TABLE.iter().map(column).filter(|n| *n >= 0).collect();
            numbers.sort_unstable();
            assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]));
        }
        assert_eq!(all_of("x86_64")(9), Some("mmap"));
        assert_eq!(all_of("aarch64")(222), Some("mmap"));
        assert_eq!(
            all_of(std::env::consts::ARCH)(libc::SYS_bind as i32),
            Some("bind")
        );
        assert_eq!(all_of("x86_64")(-1), None);
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
