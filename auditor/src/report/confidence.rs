//! How far advice can be believed: by what it was seen from, and by nothing else.

use super::privileges::Sight;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const HOUR_NS: u64 = 3_600_000_000_000;

/// What advice rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// For how long was observed, all containers together.
    pub observed_ns: u64,
    /// Containers that were seen to start.
    pub starts: usize,
    /// How uses were seen.
    pub sight: Sight,
}

/// In short.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum AdviceConfidence {
    /// Less than an hour, or no start: what it does seldom, or only at its start, is probably missing.
    Low,
    /// An hour and a start.
    Medium,
    /// A day and two starts: what it does daily, and when it is started again.
    High,
}

impl AdviceConfidence {
    /// In words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

impl Evidence {
    /// What advice for two containers together rests on.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            observed_ns: self.observed_ns.saturating_add(other.observed_ns),
            starts: self.starts + other.starts,
            sight: self.sight.min(other.sight),
        }
    }

    /// How far it carries.
    #[must_use]
    pub fn confidence(&self) -> AdviceConfidence {
        let Self {
            observed_ns,
            starts,
            sight,
        } = *self;
        match (observed_ns / HOUR_NS, starts) {
            _ if sight == Sight::None => AdviceConfidence::Low,
            (24.., 2..) => AdviceConfidence::High,
            (1.., 1..) => AdviceConfidence::Medium,
            _ => AdviceConfidence::Low,
        }
    }
}
