//! A whole trace, item by item, from any reader: a file, a pipe, standard input.

use super::codec::Decoder;
use super::error::TraceError;
use super::frame::{Head, Kind, Next, Unpacker};
use super::header::{Header, read_up_to};
use super::limits::INDEX_FRAMES;
use super::writer::{END_MAGIC, IndexEntry, TRAILER_BYTES};
use super::{Item, TraceError as Error};
use std::io::Read;

/// How a trace ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With its index and end mark: whoever wrote it finished it.
    Finished,
    /// After a whole frame, without an end mark: the writer was killed, or still writes.
    Unfinished,
    /// Within a frame. So many bytes after the last whole one cannot be read.
    Cut {
        /// Where the last whole frame ends.
        offset: u64,
        /// What lies behind.
        bytes: u64,
    },
}

/// Which prologue to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prologue {
    /// It is needed: nothing was read before.
    Read,
    /// The part before was read: skip it.
    Skip,
}

/// What was read so far, prologues included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Frames, but for the index.
    pub frames: u64,
    /// Bytes of their payloads as stored.
    pub stored_bytes: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
}

/// See the [module](self).
#[derive(Debug)]
pub struct TraceReader<R> {
    from: R,
    header: Header,
    major: u16,
    offset: u64,
    frame_at: u64,
    unpacker: Unpacker,
    payload: Vec<u8>,
    decoder: Decoder,
    prologue: Prologue,
    head: Option<Head>,
    totals: Totals,
    /// CRC32C of the index that the frames read so far would have.
    index_crc: u32,
    ending: Option<Ending>,
}

impl<R: Read> TraceReader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// When it is no trace, a newer one, or its header is damaged.
    pub fn open(mut from: R) -> Result<Self, TraceError> {
        let (header, major, offset) = Header::read(&mut from)?;
        let unpacker = Unpacker::new().map_err(|source| Error::Io { offset, source })?;
        Ok(Self {
            from,
            header,
            major,
            offset,
            frame_at: offset,
            unpacker,
            payload: Vec::new(),
            decoder: Decoder::default(),
            prologue: Prologue::Read,
            head: None,
            totals: Totals::default(),
            index_crc: 0,
            ending: None,
        })
    }

    /// Whether the prologue is given.
    pub const fn set_prologue(&mut self, prologue: Prologue) {
        self.prologue = prologue;
    }

    /// What stands at the start.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Major version of the format.
    pub const fn major(&self) -> u16 {
        self.major
    }

    /// Bytes read so far.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Byte at which the frame of the next item starts (after [`Self::more`]), or of the last one.
    pub const fn frame_offset(&self) -> u64 {
        self.frame_at
    }

    /// Whether the item given last, or after [`Self::more`] the next one, stands in the prologue.
    pub fn in_prologue(&self) -> bool {
        self.head.is_some_and(|head| head.kind == Kind::Prologue)
    }

    /// As [`Self::in_prologue`], for a writer of the same.
    pub fn kind(&self) -> Kind {
        match self.in_prologue() {
            true => Kind::Prologue,
            false => Kind::Events,
        }
    }

    /// What was read so far.
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    /// How the trace ends; `None` before it does.
    pub const fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// Whether the next item, if there is one, has to be read from outside: that may take its time.
    pub fn at_frame_end(&self) -> bool {
        self.decoder.is_done(&self.payload)
    }

    /// What the trace is read from, standing behind all that was read of it.
    pub fn into_reader(self) -> R {
        self.from
    }

    /// Goes to the next item. Says whether there is one.
    ///
    /// # Errors
    /// As [`Self::next_item`].
    pub fn more(&mut self) -> Result<bool, TraceError> {
        while self.decoder.is_done(&self.payload) {
            self.check_entries()?;
            if !self.next_frame()? {
                return Ok(false);
            }
            if self.in_prologue() && self.prologue == Prologue::Skip {
                // The states that it holds are what later entries are differences from.
                self.pass_over()?;
            }
        }
        Ok(true)
    }

    /// The next item; `None` at the end.
    ///
    /// # Errors
    /// When a frame is damaged. What came before it stands; nothing after it can be read.
    pub fn next_item(&mut self) -> Result<Option<Item<'_>>, TraceError> {
        if !self.more()? {
            return Ok(None);
        }
        let offset = self.frame_at;
        self.decoder
            .next(&self.payload)
            .map(Some)
            .map_err(|source| Error::Payload { offset, source })
    }

    /// Whether the frame had as many entries as it says.
    fn check_entries(&mut self) -> Result<(), TraceError> {
        let have = self.decoder.entries();
        match self.head.take() {
            Some(head) if head.entries != have => {
                self.end(Ending::Unfinished);
                let what = format!("has {have} entries and claims {}", head.entries);
                let offset = self.frame_at;
                Err(Error::Frame { offset, what })
            }
            head => {
                self.head = head;
                Ok(())
            }
        }
    }

    fn pass_over(&mut self) -> Result<(), TraceError> {
        let offset = self.frame_at;
        while !self.decoder.is_done(&self.payload) {
            self.decoder
                .next(&self.payload)
                .map_err(|source| Error::Payload { offset, source })?;
        }
        Ok(())
    }

    /// Reads the next frame that holds items.
    fn next_frame(&mut self) -> Result<bool, TraceError> {
        if self.ending.is_some() {
            return Ok(false);
        }
        loop {
            self.frame_at = self.offset;
            let next = self
                .unpacker
                .read(&mut self.from, self.offset, &mut self.payload);
            self.decoder.restart();
            let (head, size) = match next {
                Ok(Next::Frame(head, size)) => (head, size),
                Ok(Next::End) => return Ok(self.end(Ending::Unfinished)),
                Ok(Next::Cut(bytes)) => {
                    let offset = self.offset;
                    return Ok(self.end(Ending::Cut { offset, bytes }));
                }
                Err(error) => {
                    self.end(Ending::Unfinished);
                    return Err(error);
                }
            };
            self.offset += size;
            if head.kind == Kind::Index {
                return self.trailer(&head);
            }
            self.count(&head);
            if matches!(head.kind, Kind::Events | Kind::Prologue) {
                self.head = Some(head);
                return Ok(true);
            }
            // Something that a newer minor version added.
            self.payload.clear();
        }
    }

    fn count(&mut self, head: &Head) {
        if self.totals.frames < INDEX_FRAMES as u64 {
            let entry = IndexEntry {
                offset: self.frame_at,
                entries: head.entries,
                first_ns: head.first_ns,
                last_ns: head.last_ns,
            };
            self.index_crc = crc32c::crc32c_append(self.index_crc, &entry.bytes());
        }
        self.totals.frames += 1;
        self.totals.stored_bytes += head.stored as u64;
        self.totals.payload_bytes += head.payload as u64;
    }

    fn end(&mut self, ending: Ending) -> bool {
        self.head = None;
        self.payload.clear();
        self.decoder.restart();
        self.ending = Some(ending);
        false
    }

    /// What stands behind the index: where it starts, and the end mark.
    fn trailer(&mut self, index: &Head) -> Result<bool, TraceError> {
        let bytes = self.totals.frames.min(INDEX_FRAMES as u64) * IndexEntry::BYTES as u64;
        if bytes != index.payload as u64 || crc32c::crc32c(&self.payload) != self.index_crc {
            self.end(Ending::Unfinished);
            return Err(Error::Frame {
                offset: self.frame_at,
                what: "is an index that does not agree with the frames before it".to_owned(),
            });
        }
        let mut bytes = [0; TRAILER_BYTES];
        let offset = self.offset;
        let have = read_up_to(&mut self.from, &mut bytes)
            .map_err(|source| Error::Io { offset, source })?;
        self.offset += have as u64;
        let at = u64::from_le_bytes(*bytes.first_chunk::<8>().unwrap_or(&[0; 8]));
        let ending = if have == bytes.len() && bytes[8..] == END_MAGIC && at == self.frame_at {
            Ending::Finished
        } else if have < bytes.len() {
            Ending::Cut {
                offset,
                bytes: have as u64,
            }
        } else {
            self.end(Ending::Unfinished);
            return Err(Error::Frame {
                offset: self.frame_at,
                what: "is an index without an end mark behind it".to_owned(),
            });
        };
        Ok(self.end(ending))
    }
}
