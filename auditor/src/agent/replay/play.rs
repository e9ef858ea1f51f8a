//! One recording from its first part to its last.
//!
//! A part that goes on where the one before ended is read by the same engine, and gives none of its prologue.
//! Where something lies between that nobody has, a new engine begins with the part's prologue: it knows what was
//! known then, and nothing of the gap. Damage ends a part; what stands before it is told.

use super::driver::Replay;
use super::judge::{Given, Judge, Line};
use super::order::{self, Before, Link, Recording, Title};
use super::pace::{Pace, time_ns};
use super::sources::{Input, Part, Place};
use super::tell::Teller;
use super::voice::{self, Gone};
use crate::trace::reader::Prologue;
use crate::trace::{Ending, Header, Item, TraceError, TraceReader};
use std::io::BufRead;

/// Items between two looks at the world outside.
const LOOK_EVERY: u32 = 4096;

/// Why playing a trace ended early.
enum Cut {
    Gone,
    Damaged(TraceError),
}

impl From<Gone> for Cut {
    fn from(Gone: Gone) -> Self {
        Self::Gone
    }
}

/// Plays one recording.
#[derive(Debug)]
pub struct Player<'a> {
    teller: Teller<'a>,
    judge: Option<Judge<Replay>>,
    pace: Option<Pace>,
    before: Option<Before>,
    lines: Vec<Line>,
    unanswered: u64,
}

impl<'a> Player<'a> {
    /// Who tells what it says.
    #[must_use]
    pub const fn new(teller: Teller<'a>) -> Self {
        Self {
            teller,
            judge: None,
            pace: None,
            before: None,
            lines: Vec::new(),
            unanswered: 0,
        }
    }

    /// Plays all parts.
    ///
    /// # Errors
    /// When nobody listens any more.
    pub fn play(mut self, recording: Recording) -> Result<(), Gone> {
        let title = Title::of(recording.header());
        self.teller.heading(&title.to_string())?;
        for part in recording.parts {
            self.part(part)?;
        }
        self.end_engine();
        self.sum_up(&title)?;
        self.teller.end()
    }

    fn part(&mut self, mut part: Part) -> Result<(), Gone> {
        let opened = part.open();
        let Part {
            place, mut header, ..
        } = part;
        let mut reader = match opened {
            Ok(reader) => reader,
            Err(error) => return self.unreadable(&place, header, error),
        };
        // What is written to a pipe, or was put together from parts, has one trace behind the other.
        loop {
            header = reader.header().clone();
            self.follow(&place, &mut reader)?;
            match self.trace(&mut reader) {
                Ok(()) => {}
                Err(Cut::Gone) => return Err(Gone),
                Err(Cut::Damaged(error)) => return self.unreadable(&place, header, error),
            }
            let ending = reader.ending().unwrap_or(Ending::Unfinished);
            let whole = ending == Ending::Finished;
            self.ending(&place, ending)?;
            self.before = Some(Before {
                header: header.clone(),
                whole,
            });
            let mut from = reader.into_reader();
            if !whole || from.fill_buf().is_ok_and(<[u8]>::is_empty) {
                return Ok(());
            }
            reader = match TraceReader::open(from) {
                Ok(next) => next,
                Err(error) => return self.unreadable(&place, header, error),
            };
        }
    }

    /// A trace that cannot be read, or not to its end.
    fn unreadable(&mut self, place: &Place, header: Header, error: TraceError) -> Result<(), Gone> {
        self.teller.outcome.failed = true;
        self.before = Some(Before {
            header,
            whole: false,
        });
        self.teller.message(voice::problem(place, error))
    }

    /// Makes ready for a trace: the engine that there is, or a new one.
    fn follow(&mut self, place: &Place, reader: &mut TraceReader<Input>) -> Result<(), Gone> {
        let header = reader.header();
        match (order::link(self.before.as_ref(), header), &self.judge) {
            (Link::GoesOn, Some(_)) => {
                reader.set_prologue(Prologue::Skip);
                return Ok(());
            }
            (Link::Begins | Link::GoesOn, _) if header.part > 0 && self.before.is_none() => {
                let missing = order::missing(0, header.part - 1);
                self.teller.message(voice::note(&format!(
                    "{place}: {missing}: the lines begin with what part {} knew when it began",
                    header.part
                )))?;
            }
            (Link::Begins | Link::GoesOn, _) => {}
            (Link::Gap(why), _) => {
                self.teller.outcome.lost = true;
                self.teller.message(voice::warning(&format!(
                    "{place}: {why}: what happened there is lost, and a new engine begins with what part {} knew",
                    header.part
                )))?;
            }
        }
        self.end_engine();
        let setup = self.teller.setup;
        let engine = |policy: &Given| Replay::new(header, policy.clone());
        self.judge = Some(Judge::new(&setup.policies, engine));
        self.pace = setup.speed.map(Pace::new);
        Ok(())
    }

    fn end_engine(&mut self) {
        let unanswered = |judge: &Judge<Replay>| judge.largest(Replay::unanswered);
        self.unanswered += self.judge.as_ref().map_or(0, unanswered);
    }

    /// Plays one trace to its end.
    fn trace(&mut self, reader: &mut TraceReader<Input>) -> Result<(), Cut> {
        let Some(mut judge) = self.judge.take() else {
            return Ok(());
        };
        let played = self.items(reader, &mut judge);
        self.judge = Some(judge);
        // Lines before the damage are heard before it is.
        self.teller.flush()?;
        played
    }

    fn items(
        &mut self,
        reader: &mut TraceReader<Input>,
        judge: &mut Judge<Replay>,
    ) -> Result<(), Cut> {
        let (mut items, mut read) = (0, 0);
        while let Some(item) = reader.next_item().map_err(Cut::Damaged)? {
            if let Some(pace) = &mut self.pace
                && let Some(at_ns) = time_ns(&item)
            {
                self.teller.wait(pace, at_ns)?;
            }
            if let Item::Event(event) = &item {
                self.teller.note(event);
            }
            judge.take(&item, &mut self.lines);
            if !self.lines.is_empty() {
                self.teller.lines(&mut self.lines)?;
            }
            items += 1;
            let at_frame_end = reader.at_frame_end();
            if items == LOOK_EVERY || at_frame_end {
                self.teller.look(items, reader.offset() - read)?;
                (items, read) = (0, reader.offset());
            }
            // What comes next may take its time.
            if at_frame_end {
                self.teller.flush()?;
            }
        }
        Ok(())
    }

    /// Says how a trace ended, where it did not end as it should.
    fn ending(&mut self, place: &Place, ending: Ending) -> Result<(), Gone> {
        let text = match ending {
            Ending::Finished => return Ok(()),
            Ending::Unfinished => voice::note(&format!(
                "{place} is unfinished: it is still being written, or its recorder was killed, and then up to two \
                 seconds of what it saw are missing"
            )),
            Ending::Cut { offset, bytes } => {
                self.teller.outcome.lost = true;
                voice::warning(&format!(
                    "{place} is unfinished, and cut within a frame: the {bytes} bytes from byte {offset} on cannot be \
                     read, and what they held is lost"
                ))
            }
        };
        self.teller.message(text)
    }

    /// Says what the lines do not.
    fn sum_up(&mut self, title: &Title) -> Result<(), Gone> {
        if self.teller.lost_events > 0 {
            self.teller.outcome.lost = true;
            self.teller.message(voice::warning(&format!(
                "{title}: {} events were lost while it was recorded; after each loss, silence proves nothing until \
                 the next sweep",
                self.teller.lost_events
            )))?;
        }
        if self.unanswered > 0 {
            self.teller.message(voice::note(&format!(
                "{title}: {} questions about containers have no answer in the trace, so these go by their cgroups",
                self.unanswered
            )))?;
        }
        let whole = self.before.as_ref().is_some_and(|before| before.whole);
        let stopped = |judge: &Judge<Replay>| judge.first().stopped();
        if whole && !self.judge.as_ref().is_some_and(stopped) {
            self.teller.message(voice::note(&format!(
                "{title}: it goes on after the last part that was given"
            )))?;
        }
        Ok(())
    }
}
