//! The start of a trace: what an engine is told once, and what a reader should know before it reads on.
//!
//! ```text
//! 0   8  "AUDTRACE"
//! 8   2  major version: a reader refuses a newer one
//! 10  2  minor version: what a newer one adds may be skipped
//! 12  4  bytes of the text
//! 16  4  CRC32C of bytes 8..16 and of the text
//! 20  …  the text: one JSON object, [`Header`]
//! ```
//! Numbers are little-endian here and in frames.

use super::compat;
use super::error::TraceError;
use super::limits::HEADER_BYTES;
use crate::engine::Config;
use crate::model::hook_set::HookSet;
use crate::model::output::HookState;
use crate::model::{Dimension, Tier, syscalls};
use auditor_common::limits::CGROUP_SLOTS;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};

/// First bytes of every trace.
pub const MAGIC: [u8; 8] = *b"AUDTRACE";
/// Newest major version that is read, and the one that is written.
pub const MAJOR: u16 = 2;
/// Minor version that is written.
pub const MINOR: u16 = 0;
const FIXED_BYTES: usize = 20;

/// What stands at the start of a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Name of this recording: the same in all its parts, unique per machine and boot.
    pub recording: String,
    /// Number of this part, from 0.
    pub part: u32,
    /// The stream goes on where the part before it ended. If not, what lies between them is lost.
    pub continues: bool,
    /// Version of the auditor that recorded.
    pub version: String,
    /// Name of the machine.
    pub node: String,
    /// Boot id.
    pub boot_id: String,
    /// Kernel release.
    pub kernel: String,
    /// Machine architecture, as `uname -m` says. Numbers of system calls are by its table.
    pub arch: String,
    /// What to add to nanoseconds since boot to get nanoseconds since 1970 (UTC).
    pub realtime_offset_ns: i64,
    /// Nanoseconds since boot when this part began.
    pub began_boottime_ns: u64,
    /// Best tier that worked.
    pub tier: Tier,
    /// Every hook.
    pub hooks: Vec<HookState>,
    /// The hooks that worked.
    pub working: HookSet,
    /// Dimensions that nothing evaluated.
    pub not_evaluated: Vec<Dimension>,
    /// Hierarchy id of each cgroup slot.
    pub hierarchies: [Option<u32>; CGROUP_SLOTS],
    /// Nanoseconds between heartbeats; 0: none.
    pub heartbeat_ns: u64,
    /// Repeats within so many nanoseconds are folded.
    pub fold_ns: u64,
    /// Nanoseconds between sweeps.
    pub sweep_ns: u64,
    /// Bytes of the kernel's ring buffer.
    pub ring_bytes: u32,
    /// Digest of the policy in force when this part began.
    pub policy_digest: String,
}

impl Header {
    /// The first part's header for an engine that is told `config`.
    #[must_use]
    pub fn new(config: &Config, began_boottime_ns: u64, policy_digest: String) -> Self {
        let Config {
            node,
            boot_id,
            realtime_offset_ns,
            version,
            kernel,
            arch,
            tier,
            hooks,
            working,
            not_evaluated,
            hierarchies,
            heartbeat_ns,
            fold_ns,
            syscalls: _,
            imported_from: _,
        } = config;
        Self {
            recording: format!("{boot_id}-{began_boottime_ns:x}"),
            part: 0,
            continues: false,
            version: version.clone(),
            node: node.clone(),
            boot_id: boot_id.clone(),
            kernel: kernel.clone(),
            arch: arch.clone(),
            realtime_offset_ns: *realtime_offset_ns,
            began_boottime_ns,
            tier: *tier,
            hooks: hooks.clone(),
            working: *working,
            not_evaluated: not_evaluated.clone(),
            hierarchies: *hierarchies,
            heartbeat_ns: *heartbeat_ns,
            fold_ns: *fold_ns,
            sweep_ns: 0,
            ring_bytes: 0,
            policy_digest,
        }
    }

    /// What the engine that recorded was told.
    #[must_use]
    pub fn config(&self) -> Config {
        Config {
            node: self.node.clone(),
            boot_id: self.boot_id.clone(),
            realtime_offset_ns: self.realtime_offset_ns,
            version: self.version.clone(),
            kernel: self.kernel.clone(),
            arch: self.arch.clone(),
            tier: self.tier,
            hooks: self.hooks.clone(),
            working: self.working,
            not_evaluated: self.not_evaluated.clone(),
            hierarchies: self.hierarchies,
            heartbeat_ns: self.heartbeat_ns,
            fold_ns: self.fold_ns,
            syscalls: syscalls::of(&self.arch),
            imported_from: None,
        }
    }

    /// Writes it; says how many bytes that took.
    ///
    /// # Errors
    /// The writer's, or when the text exceeds [`HEADER_BYTES`].
    pub fn write(&self, out: &mut impl Write) -> io::Result<u64> {
        let text = serde_json::to_vec(self)?;
        if text.len() > HEADER_BYTES {
            return Err(io::Error::other("the header of a trace is too long"));
        }
        let mut bytes = Vec::with_capacity(FIXED_BYTES + text.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&MAJOR.to_le_bytes());
        bytes.extend_from_slice(&MINOR.to_le_bytes());
        bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[8..16]), &text);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(&text);
        out.write_all(&bytes)?;
        Ok(bytes.len() as u64)
    }

    /// Reads it; says its major version and how many bytes it took.
    ///
    /// # Errors
    /// When it is no trace, one of a newer version, or damaged.
    pub fn read(from: &mut impl Read) -> Result<(Self, u16, u64), TraceError> {
        let mut fixed = [0; FIXED_BYTES];
        let have =
            read_up_to(from, &mut fixed).map_err(|source| TraceError::Io { offset: 0, source })?;
        if !fixed.starts_with(&MAGIC) {
            return Err(TraceError::NotATrace);
        }
        let damaged = |what: &str| TraceError::Header(what.to_owned());
        if have < FIXED_BYTES {
            return Err(damaged("it ends within its first 20 bytes"));
        }
        let (major, len) = (
            u16::from_le_bytes([fixed[8], fixed[9]]),
            u32::from_le_bytes([fixed[12], fixed[13], fixed[14], fixed[15]]) as usize,
        );
        if major > MAJOR {
            return Err(TraceError::Newer { found: major });
        }
        if len > HEADER_BYTES {
            return Err(TraceError::Header(format!(
                "it claims {len} bytes, more than {HEADER_BYTES}"
            )));
        }
        let mut text = Vec::new();
        from.take(len as u64)
            .read_to_end(&mut text)
            .map_err(|source| TraceError::Io {
                offset: FIXED_BYTES as u64,
                source,
            })?;
        if text.len() < len {
            return Err(damaged("it ends within its text"));
        }
        let crc = crc32c::crc32c_append(crc32c::crc32c(&fixed[8..16]), &text);
        if crc != u32::from_le_bytes([fixed[16], fixed[17], fixed[18], fixed[19]]) {
            return Err(damaged("its checksum is wrong"));
        }
        let header = compat::header(major, &text)?;
        Ok((header, major, (FIXED_BYTES + len) as u64))
    }
}

/// Fills `buffer` as far as there are bytes.
pub(super) fn read_up_to(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut have = 0;
    while have < buffer.len() {
        match from.read(&mut buffer[have..]) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(have)
}
