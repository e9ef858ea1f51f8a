//! Every bound on what an import reads and keeps, in one place.
//!
//! A log comes from another machine and may be made up. None of it may grow the auditor without bound.

/// Longest line that is read, in bytes. A longer one is skipped and counted.
pub const LINE_BYTES: usize = 1 << 20;
/// Statements held back until the log tells the machine's own mount namespace. Then, or when there are
/// more, the stream begins.
pub const PROLOGUE: usize = 1024;
/// Tasks followed at once. Where there are more, the quarter that was not heard of for longest is taken
/// for dead: few logs have every exit.
pub const TASKS: usize = 1 << 16;
/// Containers followed at once. Tasks of more count as the host's.
pub const CONTAINERS: usize = 1 << 14;
/// Cgroups that are told apart beside those of containers. Moves into more are counted, not judged.
pub const CGROUPS: usize = 1 << 14;
/// Stand-ins that turned out to be a real namespace. More stay apart.
pub const ALIASES: usize = 1 << 14;
/// Malformed lines kept with number and reason. Further ones are only counted.
pub const MALFORMED: usize = 32;
/// Names (of fields, events, nodes) counted one by one. Further ones are counted together.
pub const NAMES: usize = 64;
/// Bytes kept of such a name.
pub const NAME_BYTES: usize = 64;
/// Bytes kept of a text that the engine shows: a name, an image, a path.
pub const TEXT_BYTES: usize = 256;
/// Bytes kept of a cgroup path.
pub const PATH_BYTES: usize = auditor_common::limits::CGROUP_PATH_LEN - 1;
