//! The log of another tool as one stream: its lines become events, and at its end stands what the log could not tell.

use super::judge::{Given, Judge, Line, Steps};
use super::pace::{Pace, event_time_ns};
use super::sources::{self, Place};
use super::tell::Teller;
use super::voice::{self, Gone};
use crate::cli::failure::{self, Failure};
use crate::engine::{Config, Engine};
use crate::import::{Importer, Input, Player, Summary, Tally, Tool, limits};
use crate::model::output::Record;
use std::io::{self, BufRead, Read};

/// Lines between two looks at the world outside.
const LOOK_EVERY: u32 = 256;
/// Things of a kind that are named in a note; the others are counted.
const NAMED: usize = 5;
/// Why the stream of a log ends.
const REASON: &str = "end_of_log";

/// A log.
#[derive(Debug)]
pub struct Log {
    /// Where it is.
    pub place: Place,
    /// Whose it is.
    pub tool: Tool,
}

/// What an engine is fed with.
enum Fed<'a> {
    Input(&'a Input),
    End,
}

/// An engine that is fed from a log.
#[derive(Debug)]
struct LogEngine {
    engine: Engine,
    player: Player,
}

impl LogEngine {
    /// A log has no policy in it.
    fn new(config: &Config, policy: &Given) -> Self {
        Self {
            engine: Engine::new(config.clone(), &policy.clone().unwrap_or_default()),
            player: Player::default(),
        }
    }
}

impl Steps<Fed<'_>> for LogEngine {
    fn step(&mut self, item: &Fed<'_>, out: &mut Vec<Record>) {
        match item {
            Fed::Input(input) => self.player.play(input, &mut self.engine, out),
            // Time does not go back to it.
            Fed::End => self.engine.stop(0, REASON, out),
        }
    }
}

/// Plays one log.
#[derive(Debug)]
pub struct LogPlayer<'a> {
    teller: Teller<'a>,
    tool: Tool,
    judge: Option<Judge<LogEngine>>,
    pace: Option<Pace>,
    lines: Vec<Line>,
}

impl<'a> LogPlayer<'a> {
    /// Who tells what it says.
    #[must_use]
    pub fn new(teller: Teller<'a>, tool: Tool) -> Self {
        Self {
            pace: teller.setup.speed.map(Pace::new),
            teller,
            tool,
            judge: None,
            lines: Vec::new(),
        }
    }

    /// Plays it to its end.
    ///
    /// # Errors
    /// When nobody listens any more.
    pub fn play(mut self, place: &Place) -> Result<(), Gone> {
        self.teller.heading(&place.to_string())?;
        let mut importer = Importer::new(self.tool, None);
        if let Err(error) = self.read(place, &mut importer)? {
            self.teller.outcome.failed = true;
            self.teller.flush()?;
            let failure = Failure::new(
                format!("cannot replay {place}"),
                "check that it is there and can be read",
            );
            let text = failure::report(&failure.caused_by(error).into()).1;
            self.teller.message(text.unwrap_or_default())?;
        }
        let node = importer.node().map(str::to_owned);
        let mut inputs = Vec::new();
        let summary = importer.finish(&mut |input| inputs.push(input));
        self.feed(node.as_deref(), &mut inputs)?;
        if let Some(judge) = &mut self.judge {
            judge.take(&Fed::End, &mut self.lines);
        }
        self.teller.lines(&mut self.lines)?;
        self.sum_up(place, &summary)?;
        self.teller.end()
    }

    fn read(&mut self, place: &Place, importer: &mut Importer) -> Result<io::Result<()>, Gone> {
        let mut from = match sources::open_plain(place) {
            Ok(from) => from,
            Err(error) => return Ok(Err(error)),
        };
        let (mut line, mut inputs) = (Vec::new(), Vec::new());
        let (mut lines, mut bytes) = (0, 0);
        loop {
            match next_line(&mut from, &mut line) {
                Ok(0) => break,
                Ok(read) => bytes += read,
                Err(error) => return Ok(Err(error)),
            }
            importer.line(&line, &mut |input| inputs.push(input));
            lines += 1;
            // What comes next may take its time.
            if lines == LOOK_EVERY || from.buffer().is_empty() {
                self.teller.flush()?;
                self.teller.look(lines, std::mem::take(&mut bytes))?;
                lines = 0;
            }
            self.feed(importer.node(), &mut inputs)?;
        }
        Ok(Ok(()))
    }

    /// Steps the engines, which begin when the stream does.
    fn feed(&mut self, node: Option<&str>, inputs: &mut Vec<Input>) -> Result<(), Gone> {
        for input in inputs.drain(..) {
            if let Some(event) = input.event() {
                self.teller.note(&event);
                if let Some(pace) = &mut self.pace
                    && let Some(at_ns) = event_time_ns(&event)
                {
                    self.teller.wait(pace, at_ns)?;
                }
            }
            let judge = self.judge.get_or_insert_with(|| {
                let mut config = self.tool.config();
                if let Some(node) = node {
                    node.clone_into(&mut config.node);
                }
                let engine = |policy: &Given| LogEngine::new(&config, policy);
                Judge::new(&self.teller.setup.policies, engine)
            });
            judge.take(&Fed::Input(&input), &mut self.lines);
            self.teller.lines(&mut self.lines)?;
        }
        Ok(())
    }

    fn sum_up(&mut self, place: &Place, summary: &Summary) -> Result<(), Gone> {
        if summary.is_unreadable() {
            self.teller.outcome.failed = true;
        }
        self.teller.outcome.lost |= self.teller.lost_events > 0;
        for message in messages(place, summary) {
            self.teller.message(message)?;
        }
        Ok(())
    }
}

/// Reads a line, or its start where it is longer than an importer takes; says how many bytes it had. 0: the end.
fn next_line(from: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<u64> {
    line.clear();
    // One more than is taken, so that what is too long is known to be.
    let most = limits::LINE_BYTES as u64 + 1;
    let mut read = from.by_ref().take(most).read_until(b'\n', line)? as u64;
    if read == most && line.last() != Some(&b'\n') {
        read += from.skip_until(b'\n')? as u64;
    }
    Ok(read)
}

/// What a reader of the lines must know of the log.
fn messages(place: &Place, summary: &Summary) -> Vec<String> {
    let Summary {
        tool,
        node,
        lines,
        mapped,
        too_long,
        malformed,
        problems,
        events: _,
        unknown_events,
        unknown_fields,
        other_nodes,
        lost,
        containers,
        not_evaluated,
        notes,
    } = summary;
    if summary.is_unreadable() {
        let why = problems.first().map_or("", |p| p.reason.as_str());
        let failure = Failure::new(
            format!("no line of {place} is one of {tool}: {why}"),
            "give its JSON output, and the tool that wrote it to --from",
        );
        return failure::report(&failure.into()).1.into_iter().collect();
    }
    let mut out = vec![voice::note(&format!(
        "{place}: {lines} lines of {tool}, {mapped} of them told of tasks; {containers} containers"
    ))];
    let mut note = |text: String| out.push(voice::note(&format!("{place}: {text}")));
    let skipped = too_long + malformed;
    if skipped > 0 {
        let first = problems.iter().take(NAMED);
        let first: Vec<String> = first
            .map(|p| format!("line {}: {}", p.line, p.reason))
            .collect();
        note(format!(
            "{skipped} lines were skipped ({})",
            first.join("; ")
        ));
    }
    let others = format!(
        "lines about other machines than {}",
        node.as_deref().unwrap_or("this")
    );
    for (what, tally) in [
        ("lines of unknown events", unknown_events),
        ("unknown fields", unknown_fields),
        (others.as_str(), other_nodes),
    ] {
        if tally.total() > 0 {
            note(format!("{} {what}: {}", tally.total(), names(tally)));
        }
    }
    for missing in not_evaluated.chunk_by(|a, b| a.why == b.why) {
        let dimensions: Vec<&str> = missing.iter().map(|n| n.dimension.as_str()).collect();
        note(format!(
            "not judged: {} ({})",
            dimensions.join(", "),
            missing[0].why
        ));
    }
    notes.iter().cloned().for_each(&mut note);
    if *lost > 0 {
        let text = format!(
            "{place}: {tool} lost {lost} events: silence about what they told proves nothing"
        );
        out.push(voice::warning(&text));
    }
    out
}

/// The most frequent names with their counts.
fn names(tally: &Tally) -> String {
    let mut named: Vec<(&String, &u64)> = tally.named.iter().collect();
    named.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let rest = tally.total() - named.iter().take(NAMED).map(|(_, n)| **n).sum::<u64>();
    let mut text: Vec<String> = (named.iter().take(NAMED))
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    if rest > 0 {
        text.push(format!("{rest} others"));
    }
    text.join(", ")
}

#[cfg(test)]
mod tests {
    use super::{names, next_line};
    use crate::import::{Tally, limits};

    /// Goal: a line is read whole, and one that never ends costs no memory. Method: lines around the limit.
    #[test]
    fn long_lines_are_read_in_part() {
        let long = vec![b'x'; limits::LINE_BYTES + 10];
        let log = [b"one\n".as_slice(), &long, b"\nlast"].concat();
        let (mut from, mut line) = (log.as_slice(), Vec::new());
        let mut read = || {
            let bytes = next_line(&mut from, &mut line).unwrap();
            (bytes as usize, line.len())
        };
        assert_eq!(read(), (4, 4));
        assert_eq!(read(), (long.len() + 1, limits::LINE_BYTES + 1));
        assert_eq!(read(), (4, 4));
        assert_eq!(read(), (0, 0));
    }

    /// Goal: what is frequent is named, the rest counted.
    #[test]
    fn tallies_are_short() {
        let mut tally = Tally::default();
        for name in ["a", "b", "b", "c", "d", "e", "f"] {
            tally.add(name);
        }
        assert_eq!(names(&tally), "2 b, 1 a, 1 c, 1 d, 1 e, 1 others");
    }
}
