//! Frames: the unit that is compressed, checked, written and, when a trace is cut, lost.
//!
//! ```text
//! 0   4  "AFRM"
//! 4   1  kind, see [`Kind`]; a reader skips kinds that it does not know
//! 5   1  0 stored, 1 zstd
//! 6   2  zero
//! 8   4  bytes as stored
//! 12  4  bytes of the payload
//! 16  4  entries of the payload
//! 20  4  CRC32C of bytes 4..20, 24..40 and of the stored bytes
//! 24  8  earliest time of an entry, nanoseconds since boot; 0 when there is none
//! 32  8  latest
//! 40  …  the stored bytes
//! ```

use super::error::TraceError;
use super::header::read_up_to;
use super::limits::{FRAME_BYTES, STORED_BYTES};
use std::io::{self, Read, Write};

const MAGIC: [u8; 4] = *b"AFRM";
/// Bytes before the stored ones.
pub const HEAD_BYTES: usize = 40;
/// Compression level: a higher one costs more than it saves here.
const LEVEL: i32 = 3;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Entries of the stream.
    Events,
    /// Entries that make the part readable alone. Who read the part before it skips them.
    Prologue,
    /// Where the frames are. The last frame of a finished trace.
    Index,
    /// Something that a newer minor version added.
    Unknown(u8),
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::Events => 1,
            Self::Prologue => 2,
            Self::Index => 3,
            Self::Unknown(code) => code,
        }
    }

    const fn of(code: u8) -> Self {
        match code {
            1 => Self::Events,
            2 => Self::Prologue,
            3 => Self::Index,
            other => Self::Unknown(other),
        }
    }
}

/// A frame, decompressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it holds.
    pub kind: Kind,
    /// Entries.
    pub entries: u32,
    /// Earliest and latest time of an entry, nanoseconds since boot.
    pub first_ns: u64,
    /// See `first_ns`.
    pub last_ns: u64,
    /// The entries.
    pub payload: Vec<u8>,
}

/// What stands before the stored bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What the frame holds.
    pub kind: Kind,
    /// Whether the stored bytes are compressed.
    pub compressed: bool,
    /// Bytes as stored.
    pub stored: usize,
    /// Bytes of the payload.
    pub payload: usize,
    /// Entries.
    pub entries: u32,
    /// Earliest time.
    pub first_ns: u64,
    /// Latest time.
    pub last_ns: u64,
    crc: u32,
}

impl Head {
    fn bytes(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[4] = self.kind.code();
        bytes[5] = u8::from(self.compressed);
        bytes[8..12].copy_from_slice(&(self.stored as u32).to_le_bytes());
        bytes[12..16].copy_from_slice(&(self.payload as u32).to_le_bytes());
        bytes[16..20].copy_from_slice(&self.entries.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.crc.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first_ns.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.last_ns.to_le_bytes());
        bytes
    }

    pub(super) fn parse(bytes: &[u8; HEAD_BYTES]) -> Result<Self, String> {
        let u32_at = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if bytes[..4] != MAGIC {
            return Err("has no frame mark".to_owned());
        }
        let head = Self {
            kind: Kind::of(bytes[4]),
            compressed: match bytes[5] {
                0 => false,
                1 => true,
                other => return Err(format!("is compressed in an unknown way ({other})")),
            },
            stored: u32_at(8) as usize,
            payload: u32_at(12) as usize,
            entries: u32_at(16),
            crc: u32_at(20),
            first_ns: u64_at(24),
            last_ns: u64_at(32),
        };
        if head.stored > STORED_BYTES || head.payload > FRAME_BYTES {
            return Err(format!(
                "claims {} bytes stored and {} unpacked, more than {STORED_BYTES} and {FRAME_BYTES}",
                head.stored, head.payload
            ));
        }
        if !head.compressed && head.stored != head.payload {
            return Err("is not compressed, and yet has two lengths".to_owned());
        }
        Ok(head)
    }

    fn checksum(&self, stored: &[u8]) -> u32 {
        let bytes = self.bytes();
        let crc = crc32c::crc32c(&bytes[4..20]);
        crc32c::crc32c_append(crc32c::crc32c_append(crc, &bytes[24..]), stored)
    }
}

/// Packs frames, reusing its memory.
pub struct Packer {
    zstd: zstd::bulk::Compressor<'static>,
    stored: Vec<u8>,
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer").finish_non_exhaustive()
    }
}

impl Packer {
    /// A packer.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            zstd: zstd::bulk::Compressor::new(LEVEL)?,
            stored: Vec::new(),
        })
    }

    /// Writes one frame; says how many bytes that took.
    ///
    /// # Errors
    /// The writer's, or when the payload exceeds [`FRAME_BYTES`].
    pub fn write(&mut self, frame: &Frame, out: &mut impl Write) -> io::Result<u64> {
        if frame.payload.len() > FRAME_BYTES {
            return Err(io::Error::other("a frame is too long"));
        }
        self.stored.clear();
        self.stored
            .reserve(zstd::zstd_safe::compress_bound(frame.payload.len()));
        self.zstd
            .compress_to_buffer(&frame.payload, &mut self.stored)?;
        let compressed = self.stored.len() < frame.payload.len();
        let stored = if compressed {
            &self.stored
        } else {
            &frame.payload
        };
        let mut head = Head {
            kind: frame.kind,
            compressed,
            stored: stored.len(),
            payload: frame.payload.len(),
            entries: frame.entries,
            first_ns: frame.first_ns,
            last_ns: frame.last_ns,
            crc: 0,
        };
        head.crc = head.checksum(stored);
        out.write_all(&head.bytes())?;
        out.write_all(stored)?;
        Ok((HEAD_BYTES + stored.len()) as u64)
    }
}

/// What came of reading a frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A frame; its payload is in the buffer. So many bytes were read.
    Frame(Head, u64),
    /// Nothing follows.
    End,
    /// The trace ends within a frame, so many bytes after its start.
    Cut(u64),
}

/// Unpacks frames, reusing its memory.
pub struct Unpacker {
    zstd: zstd::bulk::Decompressor<'static>,
    stored: Vec<u8>,
}

impl std::fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unpacker").finish_non_exhaustive()
    }
}

impl Unpacker {
    /// An unpacker.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            zstd: zstd::bulk::Decompressor::new()?,
            stored: Vec::new(),
        })
    }

    /// Reads the frame that starts at `offset` into `payload`.
    ///
    /// # Errors
    /// When it is damaged, or the reader fails.
    pub fn read(
        &mut self,
        from: &mut impl Read,
        offset: u64,
        payload: &mut Vec<u8>,
    ) -> Result<Next, TraceError> {
        let io = |source| TraceError::Io { offset, source };
        let damaged = |what: String| TraceError::Frame { offset, what };
        let mut bytes = [0; HEAD_BYTES];
        match read_up_to(from, &mut bytes).map_err(io)? {
            0 => return Ok(Next::End),
            HEAD_BYTES => {}
            have => return Ok(Next::Cut(have as u64)),
        }
        let head = Head::parse(&bytes).map_err(damaged)?;
        self.stored.clear();
        from.take(head.stored as u64)
            .read_to_end(&mut self.stored)
            .map_err(io)?;
        let size = (HEAD_BYTES + self.stored.len()) as u64;
        if self.stored.len() < head.stored {
            return Ok(Next::Cut(size));
        }
        if head.crc != head.checksum(&self.stored) {
            return Err(damaged("has a wrong checksum".to_owned()));
        }
        payload.clear();
        if head.compressed {
            payload.reserve(head.payload);
            self.zstd
                .decompress_to_buffer(&self.stored, payload)
                .map_err(|e| damaged(format!("cannot be unpacked: {e}")))?;
        } else {
            payload.extend_from_slice(&self.stored);
        }
        if payload.len() != head.payload {
            let what = format!("holds {} bytes and claims {}", payload.len(), head.payload);
            return Err(damaged(what));
        }
        Ok(Next::Frame(head, size))
    }
}
