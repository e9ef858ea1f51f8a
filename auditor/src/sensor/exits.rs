//! What the program at the ends of system calls has to know: which calls are told in the name of which hook, also when they
//! are made by a table that is not the machine's native one. Every 64-bit program of x86 can use the 32-bit one too.

use crate::model::syscalls::{native_of, native_of_x32, number_of};
use auditor_common::hook::{self, Attach, HOOKS, Tier};
use auditor_common::limits::{CALL_FOREIGN, COMPAT_HOOK_SHIFT, COMPAT_LIMIT, COMPAT_NONE};
use std::io::{BufRead as _, BufReader};

/// What kernels have had that know such a table, one of them in each version.
const ENTRIES: [&str; 7] = [
    "ia32_sys_call",
    "ia32_sys_call_table",
    "do_int80_syscall_32",
    "do_int80_emulation",
    "int80_emulation",
    "x32_sys_call",
    "x32_sys_call_table",
];

/// `socketcall` of the 32-bit table: one call for all that is done to sockets.
const SOCKETCALL: usize = 102;

/// The hooks in whose name 32-bit calls can be told: each that tells of system calls when they end, and the one that tells
/// when they begin.
pub(super) fn served() -> impl Iterator<Item = u16> {
    let hooks = (0_u16..).zip(HOOKS).filter(|(index, spec)| {
        let tells = matches!(spec.attach, Attach::SyscallExit(_)) || *index == hook::ENTER_SOCKET;
        tells && spec.tier == Tier::Tracepoint
    });
    hooks.map(|(index, _)| index)
}

/// The hook that tells of a native call.
fn hook_of(call: &str) -> Option<u16> {
    served().find(|&index| match HOOKS[usize::from(index)].attach {
        Attach::SyscallExit(calls) | Attach::SyscallEnter(calls) => {
            calls.iter().any(|name| is_named(name, call))
        }
        _ => false,
    })
}

/// A tracepoint has the name of the kernel's function, which may say how wide its arguments are.
fn is_named(tracepoint: &str, call: &str) -> bool {
    tracepoint == call || tracepoint.strip_suffix("64") == Some(call)
}

/// What each call by another table is: its native number, and above that the hook that tells of it.
/// First come those of the 32-bit table, then those of x32.
pub(super) fn foreign(arch: &str) -> [u32; 2 * COMPAT_LIMIT] {
    let mut table = [COMPAT_NONE; 2 * COMPAT_LIMIT];
    let (compat, x32) = table.split_at_mut(COMPAT_LIMIT);
    for (names, entries) in [(native_of as Native, compat), (native_of_x32, x32)] {
        for (number, entry) in (0..).zip(entries) {
            let Some(call) = names(arch, number) else {
                continue;
            };
            let native = number_of(arch, call).unwrap_or(COMPAT_NONE);
            *entry = u32::from(hook_of(call).unwrap_or(0)) << COMPAT_HOOK_SHIFT | native;
        }
    }
    table
}

/// What the one program at the ends of all calls may tell, by numbers in any table: whether a call by another table than the
/// native one, and if `native` is set, the hook that tells of the native one, the first if there are two.
pub(super) fn at_exit(arch: &str, native: bool, foreign: &[u32]) -> [u8; COMPAT_LIMIT] {
    let mut table = [0; COMPAT_LIMIT];
    for (number, entry) in foreign.iter().enumerate() {
        if entry >> COMPAT_HOOK_SHIFT != 0 {
            table[number % COMPAT_LIMIT] = CALL_FOREIGN;
            table[SOCKETCALL] = CALL_FOREIGN;
        }
    }
    for (index, spec) in (0_u8..).zip(HOOKS).filter(|_| native) {
        let Attach::SyscallExit(calls) = spec.attach else {
            continue;
        };
        for call in calls {
            let number = number_of(arch, call);
            if let Some(place) = number.and_then(|number| table.get_mut(number as usize))
                && *place & !CALL_FOREIGN == 0
            {
                *place |= index;
            }
        }
    }
    table
}

/// The name of a call by number.
type Native = fn(&str, u32) -> Option<&'static str>;

/// Whether this machine's kernel knows such calls; if nobody tells, it may.
pub(super) fn has_foreign() -> bool {
    if std::env::consts::ARCH != "x86_64" {
        return false;
    }
    let Ok(symbols) = std::fs::File::open("/proc/kallsyms") else {
        return true;
    };
    let mut lines = BufReader::new(symbols)
        .lines()
        .map_while(Result::ok)
        .peekable();
    let is_entry = |line: String| {
        line.split(' ')
            .nth(2)
            .is_some_and(|name| ENTRIES.contains(&name))
    };
    lines.peek().is_none() || lines.any(is_entry)
}

#[cfg(test)]
mod tests {
    //! Goal: each 32-bit call comes out as the hook for the native one would tell it.

    use super::*;

    fn entry(table: &[u32], number: usize) -> (u16, Option<u32>) {
        let native = table[number] & COMPAT_NONE;
        let hook = u16::try_from(table[number] >> COMPAT_HOOK_SHIFT).unwrap();
        (hook, (native != COMPAT_NONE).then_some(native))
    }

    /// Goal: numbers and hooks are right. Method: known calls, under old names and new ones.
    #[test]
    fn calls_have_their_hooks() {
        let table = foreign("x86_64");
        for (number, hook, native) in [
            (5, hook::EXIT_OPEN, 2),
            (8, hook::EXIT_OPEN, 85),
            (14, hook::EXIT_MKNOD, 133),
            (22, hook::EXIT_MOUNT, 166),
            (26, hook::EXIT_ACCESS, 101),
            (52, hook::EXIT_MOUNT, 166),
            (213, hook::EXIT_CRED, 105),
            (239, hook::ENTER_SOCKET, 40),
            (310, hook::EXIT_UNSHARE, 272),
            (340, hook::EXIT_ACCESS, 302),
            (346, hook::EXIT_SETNS, 308),
            (357, hook::EXIT_KERNEL, 321),
            (359, hook::ENTER_SOCKET, 41),
            (362, hook::EXIT_CONNECT, 42),
        ] {
            assert_eq!(entry(&table, number), (hook, Some(native)), "{number}");
        }
        let x32 = &table[COMPAT_LIMIT..];
        assert_eq!(entry(x32, 2), (hook::EXIT_OPEN, Some(2)));
        assert_eq!(entry(x32, 521), (hook::EXIT_ACCESS, Some(101)));
        assert_eq!(entry(&table, 4), (0, Some(1)), "write");
        assert_eq!(entry(&table, 102), (0, None), "socketcall");
    }

    /// Goal: no call that a hook tells of can be made by another table unseen. Method: each call that has a 32-bit number.
    #[test]
    fn no_hook_is_forgotten() {
        let table = foreign("x86_64");
        for half in table.chunks(COMPAT_LIMIT) {
            let told: Vec<u16> = (0..COMPAT_LIMIT)
                .map(|number| entry(half, number).0)
                .collect();
            for index in served() {
                assert!(told.contains(&index), "{}", HOOKS[usize::from(index)].name);
            }
        }
    }

    /// Goal: whatever is to be told when a call ends is looked at, and nothing else of what is called most. Method: by numbers,
    /// with the other tables and without.
    #[test]
    fn what_may_be_told_is_known_by_its_number() {
        let told = at_exit("x86_64", true, &foreign("x86_64"));
        let native = |hook: u16| u8::try_from(hook).unwrap();
        for (number, hook, call) in [
            (2, hook::EXIT_OPEN, "open"),
            (101, hook::EXIT_ACCESS, "ptrace"),
            (257, hook::EXIT_OPEN, "openat"),
            (302, hook::EXIT_ACCESS, "prlimit64"),
            (308, hook::EXIT_SETNS, "setns"),
            (438, hook::EXIT_ACCESS, "pidfd_getfd, which opens, too"),
        ] {
            // By the x32 table it has the same number.
            assert_eq!(told[number], native(hook) | CALL_FOREIGN, "{call}");
        }
        assert_eq!(told[5], CALL_FOREIGN, "fstat, and the 32-bit open");
        assert_eq!(told[SOCKETCALL], CALL_FOREIGN, "getuid");
        assert_eq!(told[1], 0, "write");

        let alone = at_exit("x86_64", true, &[COMPAT_NONE; 2 * COMPAT_LIMIT]);
        assert_eq!((alone[5], alone[SOCKETCALL]), (0, 0));
        assert_eq!(alone[257], native(hook::EXIT_OPEN));
        let arm = at_exit("aarch64", true, &foreign("aarch64"));
        assert_eq!(arm[56], native(hook::EXIT_OPEN), "openat");
        let others = at_exit("x86_64", false, &foreign("x86_64"));
        assert_eq!(
            (others[257], others[59]),
            (CALL_FOREIGN, 0),
            "openat, execve"
        );
    }

    /// Goal: elsewhere nothing is translated.
    #[test]
    fn other_machines_have_none() {
        assert!(foreign("aarch64").iter().all(|entry| *entry == COMPAT_NONE));
    }
}
