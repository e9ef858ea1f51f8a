//! The only place that reads kernel memory.
//!
//! [`Access`] has two back ends: [`Direct`] follows pointers that the verifier knows by type, at the price of
//! a load; [`Probe`] reads any address with a helper, at about 25 ns. Which one is possible is a property of where
//! a pointer comes from: typed program arguments and `bpf_get_current_task_btf` (5.11) can be followed, what
//! is reached by `container_of` or a computed index never can. Neither can fault: both read zeros from a bad address.

pub mod access;
pub mod current;
pub mod globals;

pub use access::{Access, Direct, Probe, Ptr, copy_string, string};
