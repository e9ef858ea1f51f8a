//! The thread that compresses and writes.
//!
//! When the disk refuses a frame, the part is cut back to its last whole frame and left as it is, unfinished;
//! frames are counted and thrown away until the next part begins.

use super::files::{Files, OpenPart, RecordOptions, Sync};
use crate::sensor::caps;
use crate::trace::Header;
use crate::trace::frame::Frame;
use crate::trace::writer::FrameWriter;
use ::caps::Capability;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

/// Frames that may wait for the disk: 16 MiB.
const QUEUE_FRAMES: usize = 64;

/// What the writing thread may still do once it runs. It needs no more than to make files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privileges {
    /// Whatever the process has.
    All,
    /// Nothing beyond its user's.
    None,
    /// To make files in another user's directory.
    Override,
}

impl Privileges {
    /// What must stay of the process's capabilities until the thread runs.
    #[must_use]
    pub const fn needed(self) -> &'static [Capability] {
        match self {
            Self::All | Self::None => &[],
            Self::Override => &[Capability::CAP_DAC_OVERRIDE],
        }
    }

    fn restrict(self) {
        if self != Self::All
            && let Err(error) = caps::drop_in_thread(self.needed())
        {
            tracing::warn!("the recorder keeps its capabilities: {error}");
        }
    }
}

/// What the thread is to do.
#[derive(Debug)]
pub(super) enum Job {
    /// Write this frame.
    Frame(Frame),
    /// Finish the part under way and begin another.
    Part(Box<Header>),
}

#[derive(Debug, Default)]
struct Shared {
    /// Entries that were not written.
    lost: AtomicU64,
    /// The part has the size at which it is to end.
    full: AtomicBool,
    /// Whoever read standard output is gone.
    hung_up: AtomicBool,
}

/// The engine's side of the thread.
#[derive(Debug)]
pub(super) struct WriterThread {
    queue: Option<SyncSender<Job>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl WriterThread {
    /// Makes the first part's file and starts the thread.
    ///
    /// # Errors
    /// When either cannot be made.
    pub(super) fn start(
        options: &RecordOptions,
        header: &Header,
        keep: Privileges,
    ) -> io::Result<Self> {
        let files = Files::new(options, &header.node)?;
        let part = Part::begin(&files, header)?;
        let shared = Arc::new(Shared::default());
        let (queue, jobs) = sync_channel(QUEUE_FRAMES);
        let mut writer = Writer {
            files,
            part: Some(part),
            shared: Arc::clone(&shared),
        };
        let thread = std::thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || {
                keep.restrict();
                writer.run(&jobs);
            })?;
        Ok(Self {
            queue: Some(queue),
            shared,
            thread: Some(thread),
        })
    }

    /// Hands over a job without waiting.
    ///
    /// # Errors
    /// Says how many entries were lost by that.
    pub(super) fn send(&self, job: Job) -> Result<(), u64> {
        let Some(queue) = &self.queue else {
            return Err(entries_of(&job));
        };
        queue.try_send(job).map_err(|refused| match refused {
            TrySendError::Full(job) | TrySendError::Disconnected(job) => entries_of(&job),
        })
    }

    /// Entries lost since the last time.
    pub(super) fn take_lost(&self) -> u64 {
        self.shared.lost.swap(0, Ordering::AcqRel)
    }

    /// Whether the part has the size at which it is to end.
    pub(super) fn is_full(&self) -> bool {
        self.shared.full.load(Ordering::Acquire)
    }

    /// Whether whoever read standard output is gone.
    pub(super) fn hung_up(&self) -> bool {
        self.shared.hung_up.load(Ordering::Acquire)
    }

    /// Writes what waits and finishes the part. Says how many entries were lost since the last time.
    pub(super) fn finish(&mut self) -> u64 {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the recorder ended unexpectedly: its last part is unfinished");
        }
        self.take_lost()
    }
}

fn entries_of(job: &Job) -> u64 {
    match job {
        Job::Frame(frame) => u64::from(frame.entries),
        Job::Part(_) => 0,
    }
}

/// A part under way.
struct Part {
    file: OpenPart,
    frames: FrameWriter<File>,
    /// Where its last whole frame ends.
    whole: u64,
}

impl Part {
    fn begin(files: &Files, header: &Header) -> io::Result<Self> {
        let file = files.open(header)?;
        let frames = FrameWriter::new(file.file.try_clone()?, header)?;
        let whole = frames.bytes();
        Ok(Self {
            file,
            frames,
            whole,
        })
    }
}

struct Writer {
    files: Files,
    /// None after a failure, until the next part begins.
    part: Option<Part>,
    shared: Arc<Shared>,
}

impl Writer {
    fn run(&mut self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            let result = match &job {
                Job::Frame(frame) => self.write(frame),
                Job::Part(header) => self.next_part(header),
            };
            if let Err(error) = result {
                self.fail(&error, entries_of(&job).max(1));
            }
        }
        if let Err(error) = self.finish_part() {
            self.fail(&error, 0);
        }
    }

    fn write(&mut self, frame: &Frame) -> io::Result<()> {
        if self.shared.hung_up.load(Ordering::Acquire) {
            return Ok(());
        }
        let Some(part) = &mut self.part else {
            self.lose(u64::from(frame.entries));
            return Ok(());
        };
        part.frames.write(frame)?;
        if self.files.options().sync == Sync::Frame {
            part.file.file.sync_data()?;
        }
        part.whole = part.frames.bytes();
        let most = self.files.options().rotate_bytes;
        let full = most.is_some_and(|most| part.whole >= most);
        self.shared.full.store(full, Ordering::Release);
        Ok(())
    }

    fn next_part(&mut self, header: &Header) -> io::Result<()> {
        let finished = self.finish_part();
        self.part = Some(Part::begin(&self.files, header)?);
        self.shared.full.store(false, Ordering::Release);
        finished.or_else(|error| {
            // The old part is whole but for its end; the new one is open.
            tracing::error!("cannot finish a part of the recording: {error}");
            Ok(())
        })
    }

    fn finish_part(&mut self) -> io::Result<()> {
        let Some(Part { file, frames, .. }) = self.part.take() else {
            return Ok(());
        };
        frames.finish()?;
        self.files.finish(file)
    }

    fn fail(&mut self, error: &io::Error, entries: u64) {
        if error.kind() == io::ErrorKind::BrokenPipe {
            self.shared.hung_up.store(true, Ordering::Release);
            self.part = None;
            return;
        }
        tracing::error!("cannot record: {error}");
        self.lose(entries);
        if let Some(part) = self.part.take() {
            // Standard output cannot be cut; a full disk can.
            let _ = part.file.file.set_len(part.whole);
        }
    }

    fn lose(&self, entries: u64) {
        self.shared.lost.fetch_add(entries, Ordering::AcqRel);
    }
}
