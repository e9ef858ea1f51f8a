//! The kernel fields that the programs read.
