//! What a person or a program reads at the end of a command: plain structs and their renderings.
//!
//! The structs are the JSON form (schemas come from them); the text form is made from the same
//! structs, so that the two cannot disagree. Nothing here looks at the machine.

pub mod advice;
pub mod confidence;
pub mod doctor;
pub mod explain;
pub mod history;
pub mod layers;
pub mod pair;
pub mod privileges;
pub mod rules;
pub mod scan;
pub mod syscalls;
pub mod what_if;
mod words;
