//! Every bound on what the inventory reads, in one place.
//!
//! State files are written by runtimes, but what stands in them (labels, annotations, mount lists)
//! comes from whoever starts containers. None of it may grow the auditor without bound.

/// Largest state, spec or configuration file that is read, in bytes. A larger one is an error value.
pub const FILE_BYTES: u64 = 4 << 20;
/// Most entries looked at in one directory. What lies beyond is reported as a problem.
pub const DIR_ENTRIES: usize = 8192;
/// Most problems kept with their text; further ones are only counted.
pub const PROBLEMS: usize = 64;
/// Most labels kept of one container.
pub const LABELS: usize = 64;
/// Most bytes of a label's key; a longer one is left out and counted.
pub const LABEL_KEY_BYTES: usize = 256;
/// Most bytes of a label's value, a name or an image; longer ones are cut.
pub const TEXT_BYTES: usize = 1024;
/// Most mounts, masked paths and other list entries kept of one spec.
pub const SPEC_LIST: usize = 1024;
/// Longest cgroup path that is looked at (the kernel's own bound on a path).
pub const CGROUP_PATH_BYTES: usize = 4096;
