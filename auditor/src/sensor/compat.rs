//! Calls by the 32-bit table, which every 64-bit program of x86 can make too: the tracepoints of single system calls are
//! silent about them. One program beside those tells of them in the same names; here stands what it has to know.

use crate::model::syscalls::{native_of, native_of_x32, number_of};
use auditor_common::hook::{self, Attach, HOOKS, Tier};
use auditor_common::limits::{COMPAT_HOOK_SHIFT, COMPAT_LIMIT, COMPAT_NONE};
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

/// The hooks in whose name 32-bit calls can be told: each that tells of single system calls when they end, and the one that
/// tells when they begin.
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
        // A tracepoint has the name of the kernel's function, which may say how wide its arguments are.
        Attach::SyscallExit(calls) | Attach::SyscallEnter(calls) => calls
            .iter()
            .any(|name| *name == call || name.strip_suffix("64") == Some(call)),
        _ => false,
    })
}

/// What each call by another table is, for the kernel programs: its native number, and above that the hook that tells of it.
/// First come those of the 32-bit table, then those of x32.
pub(super) fn table(arch: &str) -> [u32; 2 * COMPAT_LIMIT] {
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

/// The name of a call by number.
type Native = fn(&str, u32) -> Option<&'static str>;

/// Whether this machine's kernel knows such calls; if nobody tells, it may.
pub(super) fn is_there() -> bool {
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
        let table = table("x86_64");
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
        let table = table("x86_64");
        for half in table.chunks(COMPAT_LIMIT) {
            let told: Vec<u16> = (0..COMPAT_LIMIT)
                .map(|number| entry(half, number).0)
                .collect();
            for index in served() {
                assert!(told.contains(&index), "{}", HOOKS[usize::from(index)].name);
            }
        }
    }

    /// Goal: elsewhere nothing is translated.
    #[test]
    fn other_machines_have_none() {
        assert!(table("aarch64").iter().all(|entry| *entry == COMPAT_NONE));
    }
}
