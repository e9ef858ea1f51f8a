//! A thread that writes lines, so that nobody who makes lines ever waits for one who reads them.
//!
//! The producer is the thread that drains the kernel's ring buffer: if it waited for a slow pipe,
//! events would be lost in the kernel, unseen. So the queue is bounded and [`SinkHandle::try_send`]
//! returns at once. What does not fit, and what cannot be written, is counted, exactly:
//!
//! **lines offered = lines written + lines lost**, at every [`Sink::finish`].
//!
//! A full disk is survived (each batch tries again, a torn line is ended first); a reader that hung up
//! is final. Both are said once, not once per line.

use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

/// Lines that may wait for one sink. At the usual size of a line that is some 15 MB.
pub const QUEUE_LINES: usize = 16_384;
/// Bytes gathered into one write.
const BATCH_BYTES: usize = 64 << 10;
/// Pause when a non-blocking descriptor takes no more.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

#[derive(Debug, Default)]
struct Shared {
    offered: AtomicU64,
    written: AtomicU64,
    lost: AtomicU64,
    hung_up: AtomicBool,
    abandoned: AtomicBool,
}

/// The producer's side of a sink. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SinkHandle {
    name: Arc<str>,
    queue: SyncSender<String>,
    shared: Arc<Shared>,
}

impl SinkHandle {
    /// Hands over a line (without its newline). Never blocks: a line that does not fit is counted
    /// as lost, and `false` comes back.
    pub fn try_send(&self, line: String) -> bool {
        self.shared.offered.fetch_add(1, Ordering::Relaxed);
        if self.hung_up() {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        match self.queue.try_send(line) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.shared.lost.fetch_add(1, Ordering::Relaxed);
                false
            }
        }
    }

    /// Name in messages and loss records.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the reader hung up (EPIPE). Final.
    #[must_use]
    pub fn hung_up(&self) -> bool {
        self.shared.hung_up.load(Ordering::Acquire)
    }

    /// Lines lost so far: refused by the full queue, or not written.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Acquire)
    }
}

/// What became of all lines of a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkTotals {
    /// Lines offered.
    pub offered: u64,
    /// Lines written whole.
    pub written: u64,
    /// Lines lost.
    pub lost: u64,
    /// Whether the reader hung up.
    pub hung_up: bool,
}

/// The owner's side of a sink: the writer thread.
#[derive(Debug)]
pub struct Sink {
    handle: SinkHandle,
    done: Receiver<()>,
}

impl Sink {
    /// Starts the writer thread.
    ///
    /// # Errors
    /// When the thread cannot be made.
    pub fn spawn(name: &str, out: Box<dyn Write + Send>, capacity: usize) -> io::Result<Self> {
        let (queue, lines) = sync_channel(capacity);
        let (done_tx, done) = sync_channel(1);
        let shared = Arc::new(Shared::default());
        let handle = SinkHandle {
            name: name.into(),
            queue,
            shared: Arc::clone(&shared),
        };
        let mut writer = Writer {
            name: name.into(),
            out,
            shared,
            torn: false,
            failing: false,
        };
        std::thread::Builder::new()
            .name(format!("sink {name}"))
            .spawn(move || {
                writer.run(&lines);
                // Nobody listening means that the owner gave up waiting.
                let _ = done_tx.send(());
            })?;
        Ok(Self { handle, done })
    }

    /// The producer's side.
    #[must_use]
    pub fn handle(&self) -> SinkHandle {
        self.handle.clone()
    }

    /// Writes what waits, then reports. A reader that takes nothing is given up after `patience`, and
    /// what still waits counts as lost. All handles of producers must be dropped before.
    #[must_use]
    pub fn finish(self, patience: Duration) -> SinkTotals {
        let Self { handle, done } = self;
        let SinkHandle {
            name,
            queue,
            shared,
        } = handle;
        drop(queue);
        if done.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            shared.abandoned.store(true, Ordering::Release);
            tracing::warn!(sink = %name, "output takes no more lines: giving up on what still waits");
            let offered = shared.offered.load(Ordering::Acquire);
            let written = shared.written.load(Ordering::Acquire);
            return SinkTotals {
                offered,
                written,
                lost: offered - written,
                hung_up: false,
            };
        }
        SinkTotals {
            offered: shared.offered.load(Ordering::Acquire),
            written: shared.written.load(Ordering::Acquire),
            lost: shared.lost.load(Ordering::Acquire),
            hung_up: shared.hung_up.load(Ordering::Acquire),
        }
    }
}

struct Writer {
    name: Arc<str>,
    out: Box<dyn Write + Send>,
    shared: Arc<Shared>,
    /// The last write ended inside a line.
    torn: bool,
    /// The last batch failed; said once until one succeeds.
    failing: bool,
}

impl Writer {
    fn run(&mut self, lines: &Receiver<String>) {
        let mut batch = Vec::with_capacity(BATCH_BYTES + 4096);
        let mut ends = Vec::new();
        while let Ok(first) = lines.recv() {
            batch.clear();
            ends.clear();
            if self.torn {
                batch.push(b'\n');
            }
            let healing = batch.len();
            push_line(&mut batch, &mut ends, &first);
            while batch.len() < BATCH_BYTES
                && let Ok(line) = lines.try_recv()
            {
                push_line(&mut batch, &mut ends, &line);
            }
            if self.shared.hung_up.load(Ordering::Acquire) {
                self.count(0, ends.len());
                continue;
            }
            let (bytes, result) = write_counted(&mut *self.out, &batch);
            let whole = ends.partition_point(|&end| end <= bytes);
            if bytes > 0 {
                self.torn = bytes > healing && !ends.contains(&bytes);
            }
            // In this order: who sees the loss must also see that the reader hung up.
            self.judge(result);
            self.count(whole, ends.len() - whole);
        }
        let flushed = self.out.flush();
        self.judge(flushed);
    }

    fn count(&self, written: usize, lost: usize) {
        self.shared
            .written
            .fetch_add(written as u64, Ordering::AcqRel);
        self.shared.lost.fetch_add(lost as u64, Ordering::AcqRel);
    }

    fn judge(&mut self, result: io::Result<()>) {
        match result {
            Ok(()) => self.failing = false,
            Err(_) if self.shared.abandoned.load(Ordering::Acquire) => {}
            Err(e) if e.kind() == ErrorKind::BrokenPipe => {
                self.shared.hung_up.store(true, Ordering::Release);
            }
            Err(e) if !self.failing => {
                self.failing = true;
                tracing::error!(
                    sink = %self.name,
                    "cannot write output: {e}; lines are counted as lost until it works again"
                );
            }
            Err(_) => {}
        }
    }
}

fn push_line(batch: &mut Vec<u8>, ends: &mut Vec<usize>, line: &str) {
    batch.extend_from_slice(line.as_bytes());
    batch.push(b'\n');
    ends.push(batch.len());
}

/// Like `write_all`, but says how many bytes went out before an error.
fn write_counted(out: &mut dyn Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut done = 0;
    while done < bytes.len() {
        match out.write(&bytes[done..]) {
            Ok(0) => return (done, Err(ErrorKind::WriteZero.into())),
            Ok(n) => done += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => std::thread::sleep(RETRY_PAUSE),
            Err(e) => return (done, Err(e)),
        }
    }
    (done, out.flush())
}

#[cfg(test)]
mod tests {
    use super::{Sink, SinkTotals};
    use std::io::{self, ErrorKind, Write};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, Instant};

    const PATIENCE: Duration = Duration::from_secs(10);

    /// A disk with this much room; more room can be made.
    #[derive(Clone)]
    struct Disk(Arc<Mutex<(Vec<u8>, usize)>>);

    impl Disk {
        fn new(room: usize) -> Self {
            Self(Arc::new(Mutex::new((Vec::new(), room))))
        }
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().0.clone()).unwrap()
        }
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut disk = self.0.lock().unwrap();
            let n = bytes.len().min(disk.1 - disk.0.len());
            if n == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            disk.0.extend_from_slice(&bytes[..n]);
            Ok(n)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct HungUp;
    impl Write for HungUp {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A reader that never reads, and whether somebody tried to write.
    struct Stalled(Arc<AtomicBool>);
    impl Write for Stalled {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            self.0.store(true, Ordering::Release);
            Err(ErrorKind::WouldBlock.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn wait_for(what: &str, mut is_true: impl FnMut() -> bool) {
        let start = Instant::now();
        while !is_true() {
            assert!(start.elapsed() < PATIENCE, "never happened: {what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Goal: in good times every line goes out, in order.
    #[test]
    fn writes_every_line_in_order() {
        let disk = Disk::new(usize::MAX);
        let sink = Sink::spawn("test", Box::new(disk.clone()), 4096).unwrap();
        let handle = sink.handle();
        for i in 0..1000 {
            assert!(handle.try_send(i.to_string()));
        }
        drop(handle);
        let totals = sink.finish(PATIENCE);
        let want = SinkTotals {
            offered: 1000,
            written: 1000,
            lost: 0,
            hung_up: false,
        };
        assert_eq!(totals, want);
        let want: String = (0..1000).map(|i| format!("{i}\n")).collect();
        assert_eq!(disk.text(), want);
    }

    /// Goal: a stalled reader never blocks the producer, and every line is accounted for.
    #[test]
    fn overflow_is_counted_and_never_blocks() {
        let stalls = Arc::new(AtomicBool::new(false));
        let sink = Sink::spawn("test", Box::new(Stalled(Arc::clone(&stalls))), 8).unwrap();
        let handle = sink.handle();
        assert!(handle.try_send("first".to_owned()));
        // From here on nothing leaves the queue.
        wait_for("the writer stalls", || stalls.load(Ordering::Acquire));
        let start = Instant::now();
        let refused = (1..100).filter(|i| !handle.try_send(i.to_string())).count();
        assert!(start.elapsed() < Duration::from_secs(2));
        assert_eq!(refused, 99 - 8);
        assert_eq!(handle.lost(), refused as u64);
        drop(handle);
        let totals = sink.finish(Duration::from_millis(20));
        assert_eq!((totals.offered, totals.written, totals.lost), (100, 0, 100));
    }

    /// Goal: a full disk loses exactly the lines that did not fit, and the torn one does not spoil
    /// the next.
    #[test]
    fn full_disk_is_survived() {
        let disk = Disk::new(6);
        let sink = Sink::spawn("test", Box::new(disk.clone()), 8).unwrap();
        let handle = sink.handle();
        handle.try_send("aaa".to_owned());
        wait_for("first line written", || disk.text() == "aaa\n");
        handle.try_send("bbb".to_owned());
        wait_for("loss counted", || handle.lost() == 1);
        assert_eq!(disk.text(), "aaa\nbb");
        disk.0.lock().unwrap().1 = 100;
        handle.try_send("ccc".to_owned());
        drop(handle);
        let totals = sink.finish(PATIENCE);
        assert_eq!(disk.text(), "aaa\nbb\nccc\n");
        assert_eq!((totals.offered, totals.written, totals.lost), (3, 2, 1));
    }

    /// Goal: a reader that hung up is noticed, and what follows is counted.
    #[test]
    fn a_hung_up_reader_is_final() {
        let sink = Sink::spawn("test", Box::new(HungUp), 8).unwrap();
        let handle = sink.handle();
        handle.try_send("a".to_owned());
        wait_for("hang-up noticed", || handle.hung_up());
        assert!(!handle.try_send("b".to_owned()));
        drop(handle);
        let totals = sink.finish(PATIENCE);
        assert_eq!(
            totals,
            SinkTotals {
                offered: 2,
                written: 0,
                lost: 2,
                hung_up: true
            }
        );
    }
}
