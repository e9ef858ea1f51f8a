//! Drains the rings on a thread of its own that never waits for anybody.
//!
//! Records leave in batches over a bounded channel. When the channel is full the batch is dropped and
//! counted: the rings must be drained whatever the rest of the agent does, or the kernel would lose
//! events that it could have kept. Empty batches come back to be filled again.
//!
//! The two rings leave as one stream in the order of time: a task's frequent events must not come after
//! its end.

use auditor_common::record::RecordHeader;
use aya::maps::{MapData, RingBuf};
use bytes::BytesMut;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::mpsc;
use zerocopy::FromBytes;

/// A batch is handed over when it holds this many bytes.
pub const BATCH_BYTES: usize = 256 << 10;
/// Batches between reader and engine.
pub const BATCHES: usize = 64;
/// Batches handed over before marks and the stop are looked at again.
const DRAIN_BATCHES: u32 = 32;
/// How long a record may wait in a ring that nobody's urgency empties.
const PATIENCE_NS: i64 = 50_000_000;

/// What the reader hands over.
#[derive(Debug)]
pub enum Batch {
    /// Whole records, one after the other, each with its size in its header.
    Records(BytesMut),
    /// Everything that was in the rings when this mark was asked for has been handed over.
    Flushed(u64),
}

/// The other end: what the agent holds of the reader.
#[derive(Debug)]
pub struct Reader {
    /// Batches, in order.
    pub batches: mpsc::Receiver<Batch>,
    recycle: mpsc::Sender<BytesMut>,
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    wake: OwnedFd,
    stop: AtomicBool,
    flush: AtomicU64,
    dropped: AtomicU64,
}

struct Loop {
    events: RingBuf<MapData>,
    bulk: RingBuf<MapData>,
    /// The next frequent record while an older event goes first; empty when there is none.
    frequent: Vec<u8>,
    outlet: Outlet,
}

/// The way to the agent, with the batch that is being filled.
struct Outlet {
    out: mpsc::Sender<Batch>,
    recycled: mpsc::Receiver<BytesMut>,
    shared: Arc<Shared>,
    batch: BytesMut,
    records: u64,
}

impl Reader {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the process is out of threads or descriptors.
    pub fn start(events: RingBuf<MapData>, bulk: RingBuf<MapData>) -> io::Result<Self> {
        let (out, batches) = mpsc::channel(BATCHES);
        let (recycle, recycled) = mpsc::channel(BATCHES);
        let shared = Arc::new(Shared {
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            stop: AtomicBool::new(false),
            flush: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        });
        let mut work = Loop {
            events,
            bulk,
            frequent: Vec::new(),
            outlet: Outlet {
                out,
                recycled,
                shared: Arc::clone(&shared),
                batch: BytesMut::with_capacity(BATCH_BYTES),
                records: 0,
            },
        };
        let thread = std::thread::Builder::new()
            .name("ring-reader".to_owned())
            .spawn(move || work.run())?;
        Ok(Self {
            batches,
            recycle,
            shared,
            thread: Some(thread),
        })
    }

    /// Asks for a [`Batch::Flushed`] with this mark.
    pub fn flush(&self, mark: u64) {
        self.shared.flush.store(mark, Ordering::Release);
        self.shared.wake();
    }

    /// Gives an empty batch back.
    pub fn recycle(&self, mut batch: BytesMut) {
        batch.clear();
        // When the way back is full the batch is freed.
        let _ = self.recycle.try_send(batch);
    }

    /// Records dropped because the channel was full, since the last call.
    #[must_use]
    pub fn take_dropped(&self) -> u64 {
        self.shared.dropped.swap(0, Ordering::AcqRel)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            // It only ends early by a panic, which has been printed.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn wake(&self) {
        // The counter cannot overflow: the reader resets it.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

impl Loop {
    fn run(&mut self) {
        let shared = Arc::clone(&self.outlet.shared);
        while !shared.stop.load(Ordering::Acquire) {
            self.wait();
            let mark = shared.flush.swap(0, Ordering::AcqRel);
            self.drain();
            self.outlet.hand_over();
            let flushed = || self.outlet.out.try_send(Batch::Flushed(mark));
            if mark != 0 && (!self.outlet.batch.is_empty() || flushed().is_err()) {
                // The engine is behind: it will ask again.
                shared.flush.store(mark, Ordering::Release);
            }
        }
    }

    fn wait(&self) {
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: PATIENCE_NS,
        };
        let wake = &self.outlet.shared.wake;
        let mut fds = [
            PollFd::from_borrowed_fd(self.events.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.bulk.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(wake.as_fd(), PollFlags::IN),
        ];
        // Interrupted or not: the rings are looked at.
        let _ = poll(&mut fds, Some(&timeout));
        let mut counter = [0; 8];
        let _ = rustix::io::read(wake, &mut counter);
    }

    /// Empties the rings, in the order of time. State-bearing events wait only for frequent ones that are
    /// older, which one ring's size bounds.
    fn drain(&mut self) {
        let mut left = DRAIN_BATCHES;
        // Bounded: a machine that makes events faster than they are read must not keep us here.
        while left > 0 {
            // Taken first: what a task did before an event is in the other ring when the event is in this one.
            let event = self.events.next();
            let until_ns = event.as_ref().map_or(u64::MAX, |e| time_ns(e));
            while left > 0 {
                if self.frequent.is_empty() {
                    let Some(next) = self.bulk.next() else { break };
                    self.frequent.extend_from_slice(&next);
                }
                if time_ns(&self.frequent) > until_ns {
                    break;
                }
                left -= self.outlet.put(&self.frequent);
                self.frequent.clear();
            }
            let Some(event) = event else { break };
            left = left.saturating_sub(self.outlet.put(&event));
        }
    }
}

/// When a record was written; 0 for one without a header, which the decoder will refuse.
fn time_ns(record: &[u8]) -> u64 {
    RecordHeader::read_from_prefix(record).map_or(0, |(header, _)| header.boottime_ns)
}

impl Outlet {
    /// Adds a record; gives the number of batches that this filled, which then went.
    fn put(&mut self, record: &[u8]) -> u32 {
        self.batch.extend_from_slice(record);
        self.records += 1;
        let full = self.batch.len() >= BATCH_BYTES;
        if full {
            self.hand_over();
        }
        u32::from(full)
    }

    /// Lets the batch go. While the engine is behind, small batches grow together; only a full one is dropped.
    fn hand_over(&mut self) {
        let behind = self.out.capacity() == 0;
        if self.batch.is_empty() || behind && self.batch.len() < BATCH_BYTES {
            return;
        }
        let fresh = self
            .recycled
            .try_recv()
            .unwrap_or_else(|_| BytesMut::with_capacity(BATCH_BYTES + (64 << 10)));
        let full = std::mem::replace(&mut self.batch, fresh);
        let records = std::mem::take(&mut self.records);
        if let Err(mpsc::error::TrySendError::Full(Batch::Records(mut back))) =
            self.out.try_send(Batch::Records(full))
        {
            self.shared.dropped.fetch_add(records, Ordering::AcqRel);
            back.clear();
            self.batch = back;
        }
    }
}

/// Drains rings that no thread reads yet, record by record.
pub fn drain_once(
    events: &mut RingBuf<MapData>,
    bulk: &mut RingBuf<MapData>,
    mut each: impl FnMut(&[u8]),
) {
    for ring in [events, bulk] {
        while let Some(item) = ring.next() {
            each(&item);
        }
    }
}
