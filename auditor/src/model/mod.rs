//! Pure data and algebra: what the auditor talks about.
//!
//! Nothing here touches a clock, a file, the network or the kernel.

pub mod kinds;
pub mod output;
pub mod text;

pub use kinds::{
    Confidence, Dimension, NsKind, PairClass, RuleId, Severity, Tier, Transition, Verdict,
};
