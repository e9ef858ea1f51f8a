//! Everything that touches the kernel: what to read (BTF), what is true now (/proc, cgroupfs), what this
//! process may do (capabilities), the kernel programs, and whether they tell the truth (self-test).
//!
//! Invariant: nothing in here judges. The sensor produces records; the engine reads them.

pub mod btf;
pub mod caps;
pub mod cgroupfs;
pub mod clock;
#[cfg(feature = "debug-log")]
mod debug_log;
pub mod decode;
pub mod device_code;
mod device_query;
mod exits;
pub mod files;
pub mod handles;
pub mod load;
pub mod look;
pub mod mountinfo;
pub mod preemption;
pub mod procfs;
pub mod reader;
pub mod resolve;
pub mod selftest;
pub mod skipped;
pub mod snapshot;
pub mod uses;
