//! The runtime isolation auditor as a library.

pub mod inventory;
