//! The kernel/user ABI of the runtime isolation auditor.
//!
//! Kernel programs write these records into ring buffers, the agent reads them, traces keep them.
//! Everything here is plain data of fixed layout: integers only, no padding, no pointers (a kernel
//! pointer in a record would leak KASLR), no Rust enums (a value that the reader does not know must
//! be an error value, not undefined behaviour).
//!
//! Invariant: no record changes its layout without a new [`ABI_VERSION`].
#![no_std]

pub mod fields;
pub mod hook;
pub mod limits;
pub mod record;

/// Version of every layout in this crate; stored in the object's `.rodata` and in traces.
pub const ABI_VERSION: u32 = 2;
