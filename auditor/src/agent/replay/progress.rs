//! What a person sees on standard error while it takes its time: messages, and below them one line that says
//! how far it is. Only a terminal gets that line, and nothing else is ever written over.

use crate::cli::failure::stdout_error;
use crate::sink::human::printable;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Before that nobody has begun to wonder.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two looks of the line.
const PERIOD: Duration = Duration::from_millis(200);
/// To the start of the line, and clear it.
const CLEAR: &str = "\r\x1b[K";

/// How far a replay is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Items given to engines.
    pub events: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Of so many; `None` where that is not known.
    pub of_bytes: Option<u64>,
}

/// Standard output and standard error.
#[derive(Debug)]
pub struct Console {
    began: Instant,
    /// When the line was drawn; `None` on what is no terminal.
    drawn: Option<Instant>,
    visible: bool,
}

impl Console {
    /// Looks whether a person looks.
    #[must_use]
    pub fn new() -> Self {
        let now = Instant::now();
        Self {
            began: now,
            drawn: std::io::stderr().is_terminal().then_some(now),
            visible: false,
        }
    }

    /// Writes lines to standard output.
    ///
    /// # Errors
    /// When that fails; a reader that went away is [`crate::cli::failure::HungUp`].
    pub fn lines(&mut self, lines: &str) -> anyhow::Result<()> {
        self.clear();
        let mut out = std::io::stdout().lock();
        out.write_all(lines.as_bytes())
            .and_then(|()| out.flush())
            .map_err(stdout_error)
    }

    /// Writes a message to standard error. What is in a trace may have been chosen by the audited.
    pub fn say(&mut self, text: &str) {
        self.clear();
        let mut err = std::io::stderr().lock();
        for line in text.lines() {
            // With standard error gone there is nobody left to tell.
            let _ = writeln!(err, "{}", printable(line));
        }
    }

    /// Draws the line anew, when it is time to.
    pub fn draw(&mut self, done: &Done) {
        let now = Instant::now();
        let Some(drawn) = &mut self.drawn else {
            return;
        };
        let elapsed = now.saturating_duration_since(self.began);
        if elapsed < PATIENCE || now.saturating_duration_since(*drawn) < PERIOD {
            return;
        }
        *drawn = now;
        self.visible = true;
        let mut err = std::io::stderr();
        let _ = write!(err, "{CLEAR}{}", text(done, elapsed)).and_then(|()| err.flush());
    }

    /// Takes the line away.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.visible) {
            let _ = write!(std::io::stderr(), "{CLEAR}");
        }
    }
}

impl Default for Console {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.clear();
    }
}

fn text(done: &Done, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
    let rate = format!("{} events/s", scaled(done.events as f64 / seconds));
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let Some(of_bytes) = done.of_bytes.filter(|of| *of > 0) else {
        return format!("replaying: {:.1} MiB, {rate}", mib(done.bytes));
    };
    let part = (done.bytes as f64 / of_bytes as f64).min(1.0);
    let mut text = format!(
        "replaying: {:.0} % of {:.1} MiB, {rate}",
        part * 100.0,
        mib(of_bytes)
    );
    if part > 0.0 {
        let left = Duration::from_secs_f64((seconds / part - seconds).clamp(0.0, 1e9)).as_secs();
        text += &format!(", {}:{:02} left", left / 60, left % 60);
    }
    text
}

fn scaled(number: f64) -> String {
    match number {
        n if n >= 1e6 => format!("{:.1} M", n / 1e6),
        n if n >= 1e3 => format!("{:.0} k", n / 1e3),
        n => format!("{n:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Done, text};
    use std::time::Duration;

    /// Goal: rate, percent and time left follow from bytes and time, and nothing divides by zero.
    #[test]
    fn the_line_adds_up() {
        let seconds = Duration::from_secs;
        let mut done = Done {
            events: 6_000_000,
            bytes: 1 << 20,
            of_bytes: Some(4 << 20),
        };
        let want = "replaying: 25 % of 4.0 MiB, 3.0 M events/s, 0:06 left";
        assert_eq!(text(&done, seconds(2)), want);
        // A recording that grows.
        done.bytes = 5 << 20;
        assert!(text(&done, seconds(2)).contains("100 % of 4.0 MiB"));
        done.of_bytes = None;
        assert_eq!(
            text(&done, seconds(2)),
            "replaying: 5.0 MiB, 3.0 M events/s"
        );
        let nothing = Done {
            of_bytes: Some(0),
            ..Done::default()
        };
        assert_eq!(text(&nothing, seconds(0)), "replaying: 0.0 MiB, 0 events/s");
    }
}
