//! What every stream does with what its engine says: choose, write, count, and look at the world outside.

use super::filter::{Choice, Filter};
use super::judge::{Line, Policies};
use super::pace::Pace;
use super::voice::{Gone, Outcome, Voice};
use crate::cli::units::Factor;
use crate::engine::Event;
use crate::model::output::{Change, Changed, Record};
use crate::sink::human::{self, Paint, Style};
use crate::sink::jsonl;
use crate::sink::outputs::Form;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Who waits looks up so often.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);

/// What all streams have in common.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What they are judged by.
    pub policies: Policies,
    /// Which lines are wanted.
    pub choice: Choice,
    /// At which pace.
    pub speed: Option<Factor>,
    /// Form of the lines.
    pub form: Form,
    /// There are several streams, and a person must see which is which.
    pub headings: bool,
}

/// What those who play and those who listen tell each other while they do.
#[derive(Debug, Default)]
pub struct Shared {
    /// Nobody listens any more.
    pub stop: AtomicBool,
    /// Items given to engines.
    pub events: AtomicU64,
    /// Bytes read.
    pub bytes: AtomicU64,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Teller<'a> {
    /// What is asked for.
    pub setup: &'a Setup,
    shared: &'a Shared,
    voice: Voice,
    filter: Filter,
    /// What came of it so far.
    pub outcome: Outcome,
    /// Evidence that was lost when the stream was recorded, in events.
    pub lost_events: u64,
}

impl<'a> Teller<'a> {
    /// Who is heard by this voice.
    #[must_use]
    pub fn new(setup: &'a Setup, shared: &'a Shared, filter: Filter, voice: Voice) -> Self {
        Self {
            setup,
            shared,
            voice,
            filter,
            outcome: Outcome::default(),
            lost_events: 0,
        }
    }

    /// Tells a person what the lines that follow are about, where there are others.
    ///
    /// # Errors
    /// When nobody listens any more; so below.
    pub fn heading(&mut self, title: &str) -> Result<(), Gone> {
        match self.setup.form {
            Form::Human(style) if self.setup.headings => {
                let title = human::printable(title);
                self.voice.line(&style.paint(Paint::Strong, &title))
            }
            Form::Human(_) | Form::Json => Ok(()),
        }
    }

    /// Takes note of an event before it is judged.
    #[inline]
    pub fn note(&mut self, event: &Event<'_>) {
        if let Event::Loss(mark) = event
            && mark.place != "sink"
        {
            self.lost_events = self.lost_events.saturating_add(mark.events());
        }
    }

    /// Says the lines that are wanted.
    pub fn lines(&mut self, lines: &mut Vec<Line>) -> Result<(), Gone> {
        for line in lines.drain(..) {
            if !self.filter.takes(&line.record) {
                continue;
            }
            let counts = line.change.is_some() || matches!(line.record, Record::Violation(_));
            self.outcome.found += u64::from(counts);
            self.voice.line(&render(line, self.setup.form))?;
        }
        Ok(())
    }

    /// Says something that is no line, behind the lines before it.
    pub fn message(&mut self, text: String) -> Result<(), Gone> {
        self.voice.message(text)
    }

    /// Lets all lines be heard.
    pub fn flush(&mut self) -> Result<(), Gone> {
        self.voice.flush()
    }

    /// Counts what was done, and looks whether it is to go on.
    pub fn look(&self, items: u32, bytes: u64) -> Result<(), Gone> {
        let Shared {
            stop,
            events,
            bytes: all_bytes,
        } = self.shared;
        events.fetch_add(u64::from(items), Ordering::Relaxed);
        all_bytes.fetch_add(bytes, Ordering::Relaxed);
        if stop.load(Ordering::Relaxed) {
            return Err(Gone);
        }
        Ok(())
    }

    /// Waits until something that happened then is due.
    pub fn wait(&mut self, pace: &mut Pace, at_ns: u64) -> Result<(), Gone> {
        loop {
            let left = pace.wait(at_ns, Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.voice.flush()?;
            self.look(0, 0)?;
            std::thread::sleep(left.min(LONGEST_SLEEP));
        }
    }

    /// The stream is over.
    pub fn end(mut self) -> Result<(), Gone> {
        self.outcome.named = self.filter.named().to_vec();
        self.voice.end(self.outcome)
    }
}

fn render(line: Line, form: Form) -> String {
    let Line { change, record } = line;
    let rendered = match (form, change) {
        (Form::Json, None) => jsonl::encode(&record),
        (Form::Json, Some(change)) => jsonl::encode_changed(&Changed { change, record }),
        (Form::Human(style), None) => Ok(human::line(&record, style)),
        (Form::Human(style), Some(change)) => Ok(format!(
            "{} {}",
            mark(change, style),
            human::line(&record, style)
        )),
    };
    // Plain data always has a form.
    rendered.unwrap_or_default()
}

fn mark(change: Change, style: Style) -> String {
    match change {
        Change::Added => style.paint(Paint::Bad, "+"),
        Change::Removed => style.paint(Paint::Good, "-"),
    }
}
