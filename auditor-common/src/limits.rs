//! Every bound that kernel and agent must agree on, in one place.

/// Bytes of a task's command name, terminating NUL included (`TASK_COMM_LEN`).
pub const COMM_LEN: usize = 16;
/// Bytes kept of an executed file's name.
pub const FILENAME_LEN: usize = 128;
/// Bytes kept of a cgroup path. Longer paths are marked truncated and resolved by the agent.
pub const CGROUP_PATH_LEN: usize = 512;
/// Bytes kept of the name of what a task acted on, see [`crate::record::ActRecord`].
pub const ACT_NAME_LEN: usize = 256;
/// Components of a file's path that are kept.
pub const PATH_COMPONENTS: usize = 12;
/// Thread ids that there can be at most on a 64-bit kernel (`PID_MAX_LIMIT`).
pub const PID_LIMIT: usize = 1 << 22;
/// Numbers of system calls that are told apart. Native tables are shorter.
pub const CALL_LIMIT: usize = 512;
/// The number that stands for all calls by another table than the machine's native one, whose numbers mean others, and for
/// those that are not told apart.
pub const FOREIGN_CALL: u64 = CALL_LIMIT as u64 - 1;
/// Numbers that are translated of each table of system calls that is not the native one.
pub const COMPAT_LIMIT: usize = 1024;
/// What all numbers of x86's x32 table have (`__X32_SYSCALL_BIT`).
pub const X32_BIT: u32 = 1 << 30;
/// Bit of what may be told when a call ends, above the hook that tells of the native one: a hook tells of a call with this
/// number by another table.
pub const CALL_FOREIGN: u8 = 1 << 7;
/// Where a translated call has the hook that tells of it, above its native number.
pub const COMPAT_HOOK_SHIFT: u32 = 16;
/// The native number of a call that has none.
pub const COMPAT_NONE: u32 = (1 << COMPAT_HOOK_SHIFT) - 1;
/// Namespace slots in a task's state, see [`crate::record::ns`].
pub const NS_SLOTS: usize = 10;
/// Cgroup slots in a task's state: the v2 leaf and one for each v1 controller, see [`crate::record::cgroup`].
pub const CGROUP_SLOTS: usize = 15;
/// CPUs that the per-CPU counters have room for.
pub const MAX_CPUS: u32 = 1024;
