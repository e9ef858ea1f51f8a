//! Several streams at once, and their lines in one order.
//!
//! Threads take streams in order, and what each says waits in its own bounded channel until everything before
//! it was told. The stream whose turn it is was taken first, so it is being played, or is the next to be: nobody
//! waits for who waits for him.

use super::filter::Filter;
use super::progress::{Console, Done};
use super::streams::Stream;
use super::tell::{Setup, Shared, Teller};
use super::voice::{self, Outcome, QUEUE, Said, Voice};
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::signals::{Signal, Signals};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Between two looks at signals and the clock.
const PERIOD: Duration = Duration::from_millis(100);

type Job = (Stream, Filter, Voice);

/// Streams that are being played.
#[derive(Debug)]
pub struct Pool {
    setup: Arc<Setup>,
    shared: Arc<Shared>,
    of_bytes: Option<u64>,
    /// One per stream, in order.
    heard: Vec<Receiver<Said>>,
}

impl Pool {
    /// Begins to play.
    ///
    /// # Errors
    /// When a filter's time counts from an end that cannot be known, or no thread can be started.
    pub fn start(streams: Vec<Stream>, setup: &Arc<Setup>, threads: usize) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared::default());
        let of_bytes = streams.iter().map(Stream::bytes).sum();
        let threads = threads.clamp(1, streams.len().max(1));
        let (mut jobs, mut heard) = (Vec::<Job>::new(), Vec::new());
        for stream in streams {
            let (to, from) = sync_channel(QUEUE);
            let filter = stream.filter(&setup.choice)?;
            jobs.push((stream, filter, Voice::new(to)));
            heard.push(from);
        }
        let jobs = Arc::new(Mutex::new(jobs.into_iter()));
        for _ in 0..threads {
            let (jobs, setup, shared) = (Arc::clone(&jobs), Arc::clone(setup), Arc::clone(&shared));
            std::thread::Builder::new()
                .name("replay".to_owned())
                .spawn(move || work(&jobs, &setup, &shared))
                .map_err(|e| {
                    Failure::new("cannot start a thread", "see the limits of this session")
                        .caused_by(e)
                })?;
        }
        Ok(Self {
            setup: Arc::clone(setup),
            shared,
            of_bytes,
            heard,
        })
    }

    /// Tells what is said, in order, until all is; says how that ends.
    ///
    /// # Errors
    /// When nobody can be told, or a signal ends it.
    pub fn listen(self, console: &mut Console, signals: &Signals) -> anyhow::Result<Exit> {
        let mut all = Outcome::default();
        let told = self.heard.iter().try_for_each(|heard| {
            all.add(&self.listen_to(heard, console, signals)?);
            Ok(())
        });
        // Whoever still plays need not. One that waits for standard input is not waited for.
        self.shared.stop.store(true, Ordering::Relaxed);
        console.clear();
        told.map(|()| self.exit(&all, console))
    }

    fn listen_to(
        &self,
        heard: &Receiver<Said>,
        console: &mut Console,
        signals: &Signals,
    ) -> anyhow::Result<Outcome> {
        loop {
            match heard.recv_timeout(PERIOD) {
                Ok(Said::Lines(lines)) => console.lines(&lines)?,
                Ok(Said::Message(text)) => console.say(&text),
                Ok(Said::End(outcome)) => return Ok(outcome),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let what = "a stream ended without a word";
                    return Err(Failure::new(what, "report this as a bug").into());
                }
            }
            if signals.take()? == Some(Signal::Stop) {
                let next = "run it again for the rest; the lines so far are whole";
                return Err(Failure::new("a signal ended the replay early", next).into());
            }
            console.draw(&self.done());
        }
    }

    fn done(&self) -> Done {
        Done {
            events: self.shared.events.load(Ordering::Relaxed),
            bytes: self.shared.bytes.load(Ordering::Relaxed),
            of_bytes: self.of_bytes,
        }
    }

    fn exit(&self, all: &Outcome, console: &mut Console) -> Exit {
        let Outcome {
            found,
            lost,
            failed,
            named,
        } = all;
        for (name, named) in self.setup.choice.entities.iter().zip(named) {
            if !named {
                console.say(&voice::note(&format!("no line names \"{name}\"")));
            }
        }
        let mut exit = Exit::Clean;
        for (happened, then) in [
            (*found > 0, Exit::Violations),
            (*lost, Exit::EvidenceLost),
            (*failed, Exit::Error),
        ] {
            if happened {
                exit = exit.and(then);
            }
        }
        exit
    }
}

/// Plays streams until none is left, or nobody listens.
fn work(jobs: &Mutex<std::vec::IntoIter<Job>>, setup: &Setup, shared: &Shared) {
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).next();
        let Some((stream, filter, voice)) = next else {
            return;
        };
        if stream
            .play(Teller::new(setup, shared, filter, voice))
            .is_err()
        {
            return;
        }
    }
}
