//! A whole trace, item by item, to any writer. The live recorder uses its parts on two threads instead.

use super::Item;
use super::codec::Encoder;
use super::frame::{Frame, Kind, Packer};
use super::header::Header;
use super::limits::{FRAME_TARGET_BYTES, INDEX_FRAMES};
use super::reader::Ending;
use std::io::{self, Write};

/// Last bytes of a finished trace: where its index starts, and this mark.
pub const END_MAGIC: [u8; 8] = *b"AUDTREND";
/// Bytes behind the index: where it starts, and [`END_MAGIC`].
pub const TRAILER_BYTES: usize = size_of::<u64>() + END_MAGIC.len();

/// Frames to a writer, and where they are.
#[derive(Debug)]
pub struct FrameWriter<W> {
    out: W,
    packer: Packer,
    offset: u64,
    index: Vec<IndexEntry>,
}

/// Where a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// Byte of the trace at which it starts.
    pub offset: u64,
    /// Its entries.
    pub entries: u32,
    /// Its earliest time.
    pub first_ns: u64,
    /// Its latest time.
    pub last_ns: u64,
}

impl IndexEntry {
    /// Bytes of one entry in an index.
    pub const BYTES: usize = 28;

    pub(super) fn bytes(&self) -> [u8; Self::BYTES] {
        let Self {
            offset,
            entries,
            first_ns,
            last_ns,
        } = self;
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&offset.to_le_bytes());
        bytes[8..12].copy_from_slice(&entries.to_le_bytes());
        bytes[12..20].copy_from_slice(&first_ns.to_le_bytes());
        bytes[20..].copy_from_slice(&last_ns.to_le_bytes());
        bytes
    }
}

impl<W: Write> FrameWriter<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// The writer's.
    pub fn new(mut out: W, header: &Header) -> io::Result<Self> {
        let offset = header.write(&mut out)?;
        Ok(Self {
            out,
            packer: Packer::new()?,
            offset,
            index: Vec::new(),
        })
    }

    /// Writes a frame.
    ///
    /// # Errors
    /// The writer's. The trace then ends within a frame.
    pub fn write(&mut self, frame: &Frame) -> io::Result<()> {
        let entry = IndexEntry {
            offset: self.offset,
            entries: frame.entries,
            first_ns: frame.first_ns,
            last_ns: frame.last_ns,
        };
        self.offset += self.packer.write(frame, &mut self.out)?;
        // An index is a convenience: a trace with more frames has a shorter one.
        if self.index.len() < INDEX_FRAMES {
            self.index.push(entry);
        }
        Ok(())
    }

    /// Bytes so far.
    pub const fn bytes(&self) -> u64 {
        self.offset
    }

    /// Gives the writer back, with neither index nor end mark: what is copied was not finished either.
    ///
    /// # Errors
    /// The writer's.
    pub fn leave(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }

    /// Writes the index and the end mark, and gives the writer back.
    ///
    /// # Errors
    /// The writer's.
    pub fn finish(mut self) -> io::Result<W> {
        let mut payload = Vec::with_capacity(self.index.len() * IndexEntry::BYTES);
        for entry in &self.index {
            payload.extend_from_slice(&entry.bytes());
        }
        let index = Frame {
            kind: Kind::Index,
            entries: self.index.len() as u32,
            first_ns: self.index.first().map_or(0, |e| e.first_ns),
            last_ns: self.index.last().map_or(0, |e| e.last_ns),
            payload,
        };
        let at = self.offset;
        self.packer.write(&index, &mut self.out)?;
        self.out.write_all(&at.to_le_bytes())?;
        self.out.write_all(&END_MAGIC)?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Items to a writer.
#[derive(Debug)]
pub struct TraceWriter<W> {
    frames: FrameWriter<W>,
    encoder: Encoder,
    kind: Kind,
}

impl<W: Write> TraceWriter<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// The writer's.
    pub fn new(out: W, header: &Header) -> io::Result<Self> {
        Ok(Self {
            frames: FrameWriter::new(out, header)?,
            encoder: Encoder::default(),
            kind: Kind::Events,
        })
    }

    /// What follows is a prologue, or is not one, from here on.
    ///
    /// # Errors
    /// The writer's.
    pub fn set_kind(&mut self, kind: Kind) -> io::Result<()> {
        if self.kind != kind {
            self.end_frame()?;
            self.kind = kind;
        }
        Ok(())
    }

    /// Appends an item.
    ///
    /// # Errors
    /// The writer's, and when a text in it is too long.
    pub fn push(&mut self, item: &Item<'_>) -> io::Result<()> {
        self.encoder.push(item).map_err(io::Error::other)?;
        if self.encoder.pending_bytes() >= FRAME_TARGET_BYTES {
            self.end_frame()?;
        }
        Ok(())
    }

    /// Ends the frame under way, so that what was pushed can be read even if nothing follows.
    ///
    /// # Errors
    /// The writer's.
    pub fn end_frame(&mut self) -> io::Result<()> {
        match self.encoder.take_frame(self.kind) {
            Some(frame) => self.frames.write(&frame),
            None => Ok(()),
        }
    }

    /// Writes what is left, the index and the end mark.
    ///
    /// # Errors
    /// The writer's.
    pub fn finish(mut self) -> io::Result<W> {
        self.end_frame()?;
        self.frames.finish()
    }
    /// Writes what is left and ends as a trace that was copied ended.
    ///
    /// # Errors
    /// The writer's.
    pub fn finish_as(mut self, ending: Option<Ending>) -> io::Result<W> {
        match ending {
            Some(Ending::Finished) => self.finish(),
            Some(Ending::Unfinished | Ending::Cut { .. }) | None => {
                self.end_frame()?;
                self.frames.leave()
            }
        }
    }
}
