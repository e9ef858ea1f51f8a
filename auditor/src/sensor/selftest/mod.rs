//! Does the sensor tell the truth? Two questions, asked at every start before anything is judged.
//!
//! *Does it read right?* Offsets from type information could be wrong in ways that no lookup notices. So what
//! the iterator reads is compared with /proc, field by field ([`compare`]); disagreement refuses to run.
//!
//! *Does each hook fire?* Attached does not mean fires: a compiler may have inlined the function where it
//! matters. So a helper child acts ([`helper`]), and a hook that stays silent is reported missing ([`judge`]).

pub mod compare;
pub mod helper;
pub mod judge;
mod reach;
