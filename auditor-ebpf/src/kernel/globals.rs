//! What the agent tells the programs before they are loaded: where fields are, and how this machine is set up.
//!
//! All are constants to the verifier, for the map is frozen.

use auditor_common::ABI_VERSION as VERSION;
use auditor_common::fields::MISSING;
use auditor_common::kernel_fields;
use auditor_common::limits::{COMPAT_LIMIT, COMPAT_NONE, X32_BIT};
use aya_ebpf::Global;
use core::arch::asm;

macro_rules! field_globals {
    ($($symbol:ident: [$($path:literal),+], $kind:expr, $need:ident, $sees:literal;)+) => {
        $(#[doc = concat!("Offset (or size, or value) of `", $($path, "`, `",)+ "`.")]
        #[unsafe(no_mangle)]
        pub static $symbol: Global<u32> = Global::new(MISSING);)+
    };
}
kernel_fields!(field_globals);

/// Version of the records that these programs write, for the agent to read from the object.
#[unsafe(no_mangle)]
pub static ABI_VERSION: Global<u32> = Global::new(VERSION);
/// Thread group id of the agent, in the initial pid namespace.
#[unsafe(no_mangle)]
pub static OWN_TGID: Global<u32> = Global::new(0);
/// Bytes waiting in a ring from which on each event wakes the reader.
#[unsafe(no_mangle)]
pub static WAKE_BYTES: Global<u32> = Global::new(256 << 10);
/// Bit n: the controller of cgroup slot n is mounted as v1.
#[unsafe(no_mangle)]
pub static V1_SLOTS: Global<u32> = Global::new(0);
/// Whether the kernel leaves programs out for whoever runs while a task is interrupted in them.
#[unsafe(no_mangle)]
pub static LEAVES_OUT: Global<u32> = Global::new(0);
/// Inum of the machine's first mount namespace; 0: unknown.
#[unsafe(no_mangle)]
pub static HOST_MNT: Global<u32> = Global::new(0);
/// Size of a kernel stack; 0: unknown.
#[unsafe(no_mangle)]
pub static THREAD_SIZE: Global<u32> = Global::new(0);
/// Number of setns in the machine's native table; -2: unknown.
#[unsafe(no_mangle)]
pub static NR_SETNS: Global<i32> = Global::new(-2);
/// Number of unshare in the machine's native table; -2: unknown.
#[unsafe(no_mangle)]
pub static NR_UNSHARE: Global<i32> = Global::new(-2);

/// Numbers of the syscalls by which tasks reach into others, in the machine's native table; -2: unknown.
#[unsafe(no_mangle)]
pub static NR_PTRACE: Global<i32> = Global::new(-2);
/// As [`NR_PTRACE`].
#[unsafe(no_mangle)]
pub static NR_VM_READV: Global<i32> = Global::new(-2);
/// As [`NR_PTRACE`].
#[unsafe(no_mangle)]
pub static NR_VM_WRITEV: Global<i32> = Global::new(-2);
/// As [`NR_PTRACE`].
#[unsafe(no_mangle)]
pub static NR_PIDFD_GETFD: Global<i32> = Global::new(-2);
/// As [`NR_PTRACE`].
#[unsafe(no_mangle)]
pub static NR_KCMP: Global<i32> = Global::new(-2);
/// As [`NR_PTRACE`].
#[unsafe(no_mangle)]
pub static NR_MADVISE: Global<i32> = Global::new(-2);
/// As [`NR_PTRACE`].
#[unsafe(no_mangle)]
pub static NR_MOVE_PAGES: Global<i32> = Global::new(-2);
/// As [`NR_PTRACE`].
#[unsafe(no_mangle)]
pub static NR_MIGRATE_PAGES: Global<i32> = Global::new(-2);
/// As [`NR_PTRACE`].
#[unsafe(no_mangle)]
pub static NR_SETPRIORITY: Global<i32> = Global::new(-2);
/// As [`NR_PTRACE`].
#[unsafe(no_mangle)]
pub static NR_IOPRIO_SET: Global<i32> = Global::new(-2);
/// As [`NR_PTRACE`].
#[unsafe(no_mangle)]
pub static NR_PRLIMIT: Global<i32> = Global::new(-2);
/// Number of mknodat in the machine's native table; -2: unknown.
#[unsafe(no_mangle)]
pub static NR_MKNODAT: Global<i32> = Global::new(-2);
/// Number of splice in the machine's native table; -2: unknown.
#[unsafe(no_mangle)]
pub static NR_SPLICE: Global<i32> = Global::new(-2);
/// Number of sendfile in the machine's native table; -2: unknown.
#[unsafe(no_mangle)]
pub static NR_SENDFILE: Global<i32> = Global::new(-2);

/// Number of landlock_restrict_self in the machine's native table; -2: unknown.
#[unsafe(no_mangle)]
pub static NR_LANDLOCK: Global<i32> = Global::new(-2);

/// System calls that usually only probe for a capability, a bit each by their numbers in the machine's native table.
#[unsafe(no_mangle)]
pub static HABITS: [u64; HABIT_WORDS] = [0; HABIT_WORDS];

/// Words of [`HABITS`]: calls have smaller numbers.
const HABIT_WORDS: usize = 8;

/// Whether a system call is among [`HABITS`].
#[inline(always)]
pub fn is_habit(number: i32) -> bool {
    const { assert!(HABIT_WORDS == 8) };
    let mut word = u64::from(number as u32 / 64);
    if word as usize >= HABIT_WORDS {
        return false;
    }
    // The compiler finds that the mask changes nothing, and leaves the verifier without it.
    // SAFETY: nothing but the register is touched.
    unsafe { asm!("{0} &= 7", inout(reg) word, options(pure, nomem, nostack)) };
    // SAFETY: within bounds. The loader has written what the compiler does not see.
    let word = unsafe { HABITS.as_ptr().add(word as usize).read_volatile() };
    word >> (number as u32 % 64) & 1 == 1
}

/// What may be told when a system call ends, by its number in whatever table: the hook that tells of the native call with this
/// number, and [`CALL_FOREIGN`] if a hook tells of one by another table; 0: nothing.
#[unsafe(no_mangle)]
pub static CALLS_AT_EXIT: [u8; COMPAT_LIMIT] = [0; COMPAT_LIMIT];

/// See [`CALLS_AT_EXIT`]; 0 for numbers that no table has.
#[inline(always)]
pub fn call_at_exit(number: u32) -> u8 {
    const { assert!(COMPAT_LIMIT == 1024) };
    let mut place = u64::from(number & !X32_BIT);
    if place >= COMPAT_LIMIT as u64 {
        return 0;
    }
    // As above.
    // SAFETY: nothing but the register is touched.
    unsafe { asm!("{0} &= 1023", inout(reg) place, options(pure, nomem, nostack)) };
    // SAFETY: within bounds. The loader has written what the compiler does not see.
    unsafe { CALLS_AT_EXIT.as_ptr().add(place as usize).read_volatile() }
}

/// What system calls by other tables than the native one are: the 32-bit table's by their numbers, then the x32 table's. Each
/// has its native number, and above it the hook that tells of the call; 0: none does. Where the machine has no such
/// tables, nothing is ever looked up.
#[unsafe(no_mangle)]
pub static COMPAT_CALLS: [u32; 2 * COMPAT_LIMIT] = [COMPAT_NONE; 2 * COMPAT_LIMIT];

/// What a system call by another table is: see [`COMPAT_CALLS`].
#[inline(always)]
pub fn compat_call(number: u32) -> u32 {
    const { assert!(2 * COMPAT_LIMIT == 2048) };
    let (first, number) = match number & X32_BIT {
        0 => (0, number),
        _ => (COMPAT_LIMIT as u64, number & !X32_BIT),
    };
    if number >= COMPAT_LIMIT as u32 {
        return COMPAT_NONE;
    }
    let mut place = first + u64::from(number);
    // As above.
    // SAFETY: nothing but the register is touched.
    unsafe { asm!("{0} &= 2047", inout(reg) place, options(pure, nomem, nostack)) };
    // SAFETY: within bounds. The loader has written what the compiler does not see.
    unsafe { COMPAT_CALLS.as_ptr().add(place as usize).read_volatile() }
}

/// The key by which addresses of open files become numbers that tell nothing of them. Made anew by each agent, and kept
/// nowhere.
#[unsafe(no_mangle)]
pub static FILE_KEY_0: Global<u32> = Global::new(0);
/// As [`FILE_KEY_0`].
#[unsafe(no_mangle)]
pub static FILE_KEY_1: Global<u32> = Global::new(0);
/// As [`FILE_KEY_0`].
#[unsafe(no_mangle)]
pub static FILE_KEY_2: Global<u32> = Global::new(0);
/// As [`FILE_KEY_0`].
#[unsafe(no_mangle)]
pub static FILE_KEY_3: Global<u32> = Global::new(0);

/// Whether this kernel has a field.
#[inline(always)]
pub fn has(field: &Global<u32>) -> bool {
    place(field).is_some()
}

/// Where a field is; `None`: this kernel has none.
#[inline(always)]
pub fn place(field: &Global<u32>) -> Option<usize> {
    match field.load() {
        MISSING => None,
        offset => Some(offset as usize),
    }
}
