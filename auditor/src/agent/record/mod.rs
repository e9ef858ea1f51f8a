//! The recorder: keeps beside a live watch everything that its engine consumes.
//!
//! The thread that steps the engine only encodes, some hundred nanoseconds per event; a thread of its own
//! compresses and writes. Between them stands a bounded queue that is never waited for. What does not fit,
//! and what the disk does not take, is counted and told in the stream (`loss` with `place` = `trace`); the
//! recording then goes on with a new part at a later sweep, which knows nothing of the lost stretch and says so.
//!
//! A part begins with a prologue: policy, labels, names and all tasks of that moment. So each part can be
//! read alone when older ones are gone, and in a row when they are not.

pub mod files;
pub(super) mod known;
mod writer;

pub use files::{Destination, EXTENSION, RecordOptions, Retention, Sync};

use crate::engine::Event;
use crate::trace::codec::Encoder;
use crate::trace::frame::Kind;
use crate::trace::limits::FRAME_TARGET_BYTES;
use crate::trace::{Header, Item};
use known::Known;
use std::io;
use std::time::Duration;
use writer::{Job, WriterThread};

pub use writer::Privileges;

/// An incomplete frame waits so long for more: what a kill of the agent may cost.
const FRAME_PATIENCE: Duration = Duration::from_secs(2);
/// After a failure of the disk the next part is tried so much later.
const RETRY: Duration = Duration::from_secs(5);

/// What every part's prologue begins with.
#[derive(Clone, Copy, Debug)]
pub struct PartStart<'a> {
    /// Now.
    pub boottime_ns: u64,
    /// The policy in force.
    pub policy: &'a crate::model::policy::Policy,
    /// Who is who.
    pub saved: &'a crate::engine::Saved,
    /// What is known of mount tables.
    pub set_ups: &'a [crate::model::setup::SetUp],
}

/// See the [module](self).
#[derive(Debug)]
pub struct Recorder {
    encoder: Encoder,
    /// Of the part under way.
    header: Header,
    writer: WriterThread,
    known: Known,
    kind: Kind,
    /// When the first entry of the frame under way came, nanoseconds since boot.
    frame_began_ns: Option<u64>,
    part_began_ns: u64,
    rotate_after: Option<Duration>,
    /// Events are lost until the next part, which may be tried from this time on.
    broken: Option<u64>,
    lost: u64,
}

impl Recorder {
    /// Creates the first part.
    ///
    /// # Errors
    /// When the file cannot be made, or is there already.
    pub fn start(options: &RecordOptions, header: Header, keep: Privileges) -> io::Result<Self> {
        let writer = WriterThread::start(options, &header, keep)?;
        Ok(Self {
            encoder: Encoder::default(),
            part_began_ns: header.began_boottime_ns,
            header,
            writer,
            known: Known::default(),
            kind: Kind::Events,
            frame_began_ns: None,
            rotate_after: options.rotate_after,
            broken: None,
            lost: 0,
        })
    }

    /// Keeps an item.
    pub fn take(&mut self, item: &Item<'_>) {
        self.known.note(item);
        if self.broken.is_some() {
            self.lost += 1;
            return;
        }
        if let Err(error) = self.encoder.push(item) {
            tracing::error!("{error}");
            self.lost += 1;
            return;
        }
        if self.encoder.pending_bytes() >= FRAME_TARGET_BYTES {
            self.end_frame();
        }
    }

    /// Ends the frame under way, so that a kill of the agent does not cost it.
    pub fn end_frame(&mut self) {
        self.frame_began_ns = None;
        if let Some(frame) = self.encoder.take_frame(self.kind)
            && let Err(entries) = self.writer.send(Job::Frame(frame))
        {
            self.fail(entries);
        }
    }

    fn fail(&mut self, lost: u64) {
        self.lost += lost;
        self.broken.get_or_insert(0);
        self.encoder = Encoder::default();
    }

    /// Time passes. Says how many items were lost since the last time.
    pub fn tick(&mut self, boottime_ns: u64) -> u64 {
        let failed = self.writer.take_lost();
        if failed > 0 {
            self.fail(failed);
        }
        if let Some(until) = &mut self.broken
            && *until == 0
        {
            *until = boottime_ns + nanos(RETRY);
        }
        if self.encoder.pending_bytes() > 0 {
            let began = *self.frame_began_ns.get_or_insert(boottime_ns);
            if boottime_ns.saturating_sub(began) >= nanos(FRAME_PATIENCE) {
                self.end_frame();
            }
        }
        std::mem::take(&mut self.lost)
    }

    /// Whether whoever read standard output is gone: time to end, quietly.
    #[must_use]
    pub fn hung_up(&self) -> bool {
        self.writer.hung_up()
    }

    /// Whether a new part is due: for its size or age, or because the last one broke.
    #[must_use]
    pub fn wants_part(&self, boottime_ns: u64) -> bool {
        match self.broken {
            Some(retry_at) => retry_at > 0 && boottime_ns >= retry_at,
            None => {
                let age = boottime_ns.saturating_sub(self.part_began_ns);
                self.writer.is_full() || self.rotate_after.is_some_and(|most| age >= nanos(most))
            }
        }
    }

    /// Begins a new part. Its prologue follows, up to [`Self::end_prologue`].
    pub fn begin_part(&mut self, start: &PartStart<'_>) {
        self.end_frame();
        let continues = self.broken.is_none();
        self.header.part += 1;
        self.header.continues = continues;
        self.header.began_boottime_ns = start.boottime_ns;
        self.header.policy_digest = start.policy.digest();
        self.part_began_ns = start.boottime_ns;
        self.broken = None;
        self.encoder = Encoder::default();
        if let Err(lost) = self.writer.send(Job::Part(Box::new(self.header.clone()))) {
            return self.fail(lost);
        }
        self.kind = Kind::Prologue;
        self.take(&Item::Event(Event::Policy(start.policy)));
        for answer in self.known.answers() {
            // As long as the answer that it is a copy of.
            let _ = self.encoder.push(&Item::Answer(answer));
        }
        self.take(&Item::Event(Event::Restore(start.saved)));
        for setup in start.set_ups {
            self.take(&Item::Event(Event::Looked(setup)));
        }
    }

    /// What follows is the stream itself again.
    pub fn end_prologue(&mut self) {
        self.end_frame();
        self.kind = Kind::Events;
    }

    /// Writes what is left and waits for the disk. Says how many items were lost since the last tick.
    pub fn finish(mut self) -> u64 {
        self.end_frame();
        self.lost + self.writer.finish()
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
