//! Where records go once the engine has made them.
//!
//! Absences: nothing here waits for a reader of the output, nothing loses a line without counting
//! it, and nothing decides what is worth a line.

pub mod human;
pub mod jsonl;
pub mod outputs;
#[cfg(test)]
pub(crate) mod samples;
pub mod writer;
