//! Devices by their numbers.

use super::Severity;
use serde::{Deserialize, Serialize};

/// A device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Device {
    /// Whether it is a block device.
    pub block: bool,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl Device {
    /// Whether every container has it: null, zero, full, random, urandom, terminals.
    #[must_use]
    pub const fn is_plain(self) -> bool {
        !self.block
            && match self.major {
                1 => matches!(self.minor, 3 | 5 | 7 | 8 | 9),
                5 => self.minor <= 2,
                136..=143 => true,
                _ => false,
            }
    }

    /// How bad it is to have it without being meant to.
    #[must_use]
    pub const fn severity(self) -> Severity {
        match (self.block, self.major, self.minor) {
            // A disk; memory; ports.
            (true, ..) | (false, 1, 1 | 2 | 4) => Severity::Critical,
            // net/tun, fuse: for the container's own network and mounts.
            (false, 10, 200 | 229) => Severity::Low,
            _ => Severity::Medium,
        }
    }

    /// `block` or `character`.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self.block {
            true => "block",
            false => "character",
        }
    }
}
