//! End-to-end scenarios: real containers act, and the auditor's lines are compared with what must come out.
//!
//! The same runner works on the development host and inside the guests of the kernel matrix. It starts
//! `auditor watch`, starts containers with real runtimes, tells an [`act`]or inside them what to do, and asserts that
//! exactly the expected findings appeared. What each scenario does and expects is data, in [`table`].
//!
//! No test carries exploit code: an act is one ordinary system call (or the few that belong together) that the
//! container's configuration allows. What only a broken kernel would do, whoever runs a guest does to its memory
//! from outside.

pub mod act;
pub mod bundle;
mod cast;
pub mod contract;
pub mod coverage;
mod disk;
pub mod guest;
mod handed;
mod host_side;
pub mod hostile;
pub mod identity;
pub mod interrupt;
mod memory;
pub mod node;
pub mod outcome;
mod own;
mod privileges;
pub mod runner;
pub mod runtime;
pub mod scenario;
mod sharing;
pub mod silence;
pub mod stream;
mod survive;
pub mod sys;
pub mod table;
mod tamper;
