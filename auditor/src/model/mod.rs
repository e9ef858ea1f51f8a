//! Pure data and algebra: what the auditor talks about.
//!
//! Nothing here touches a clock, a file, the network or the kernel.

pub mod calls;
pub mod capability;
pub mod device;
pub mod facts;
pub mod firsts;
pub mod fs;
pub mod hook_set;
pub mod isolation;
pub mod kinds;
pub mod layers;
pub mod lsm;
pub mod output;
pub mod own;
pub mod policy;
pub mod power;
pub mod privileges;
pub mod setup;
pub mod sorted;
pub mod surfaces;
pub mod syscalls;
pub mod text;
pub mod time;
pub mod touched;
pub mod what_if;

pub use facts::{EntityId, EntityProfile, HOST, NsId, ObjectKey, Origin};
pub use kinds::{
    Confidence, Dimension, NsKind, PairClass, RuleId, Severity, Tier, Transition, Verdict,
};
