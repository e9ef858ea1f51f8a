//! All outputs of one run: the lines on stdout and, where asked for, a file beside them.
//!
//! The one place that fans a record out. It renders a record once per form, offers it to each sink
//! and keeps the account of what the sinks lost, for the engine to report as `loss` with `place` =
//! `sink`.

use super::human::{self, Style};
use super::jsonl::{self, EncodeError};
use super::writer::{QUEUE_LINES, Sink, SinkHandle, SinkTotals};
use crate::model::output::Record;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// In what form lines go to stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The wire format, see [`jsonl`].
    Json,
    /// One readable line per record, see [`super::human`].
    Human(Style),
}

/// Why an output cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file.
    #[error("open {} for appending: {source}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Standard output.
    #[error("duplicate standard output: {0}")]
    Stdout(#[source] io::Error),
    /// A writer thread.
    #[error("start a writer thread: {0}")]
    Thread(#[source] io::Error),
}

/// Lines that one sink lost since the last look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkLoss {
    /// `stdout`, or the file's path.
    pub sink: String,
    /// Lost since the last look.
    pub count: u64,
    /// Lost since the start.
    pub total: u64,
}

struct Output {
    sink: Sink,
    handle: SinkHandle,
    form: Form,
    reported: u64,
}

/// A writer to be: its name, itself, and the form of its lines.
pub type Wanted = (String, Box<dyn Write + Send>, Form);

/// Where the records of a run go. The first output is the one whose reader may end the run by
/// hanging up.
pub struct Outputs {
    outputs: Vec<Output>,
}

impl Outputs {
    /// Opens stdout for lines in this form, and `file` for JSON lines to be appended. Starts nothing yet.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn prepare(stdout: Form, file: Option<&Path>) -> Result<Vec<Wanted>, OpenError> {
        // Not `io::stdout()`: its buffer would hide which lines really went out.
        let fd = io::stdout()
            .as_fd()
            .try_clone_to_owned()
            .map_err(OpenError::Stdout)?;
        let mut wanted: Vec<Wanted> = vec![("stdout".to_owned(), Box::new(File::from(fd)), stdout)];
        if let Some(path) = file {
            let opened = open_append(path).map_err(|source| OpenError::File {
                path: path.to_owned(),
                source,
            })?;
            wanted.push((path.display().to_string(), Box::new(opened), Form::Json));
        }
        Ok(wanted)
    }

    /// Nobody listens.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            outputs: Vec::new(),
        }
    }

    /// Starts a thread for each writer. The first plays the part of stdout.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn to_writers(wanted: Vec<Wanted>) -> Result<Self, OpenError> {
        let outputs = wanted
            .into_iter()
            .map(|(name, out, form)| {
                let sink = Sink::spawn(&name, out, QUEUE_LINES).map_err(OpenError::Thread)?;
                let handle = sink.handle();
                Ok(Output {
                    sink,
                    handle,
                    form,
                    reported: 0,
                })
            })
            .collect::<Result<_, OpenError>>()?;
        Ok(Self { outputs })
    }

    /// Offers a record to every output. Never blocks.
    ///
    /// # Errors
    /// When the record cannot be encoded.
    pub fn emit(&self, record: &Record) -> Result<(), EncodeError> {
        let json = if self.outputs.iter().any(|o| o.form == Form::Json) {
            jsonl::encode(record)?
        } else {
            String::new()
        };
        for output in &self.outputs {
            let line = match output.form {
                Form::Json => json.clone(),
                Form::Human(style) => human::line(record, style),
            };
            output.handle.try_send(line);
        }
        Ok(())
    }

    /// What sinks lost since the last call: at most one entry per sink. That the reader of the first
    /// output hung up is its wish and no loss of evidence, so it is not in here.
    pub fn take_losses(&mut self) -> Vec<SinkLoss> {
        let mut losses = Vec::new();
        for (index, output) in self.outputs.iter_mut().enumerate() {
            let total = output.handle.lost();
            let wished = index == 0 && output.handle.hung_up();
            if total > output.reported && !wished {
                losses.push(SinkLoss {
                    sink: output.handle.name().to_owned(),
                    count: total - output.reported,
                    total,
                });
                output.reported = total;
            }
        }
        losses
    }

    /// Whether the reader of the first output hung up: time to end, quietly.
    #[must_use]
    pub fn hung_up(&self) -> bool {
        self.outputs.first().is_some_and(|o| o.handle.hung_up())
    }

    /// Flushes and closes all outputs; totals by sink.
    #[must_use]
    pub fn finish(self, patience: Duration) -> Vec<(String, SinkTotals)> {
        self.outputs
            .into_iter()
            .map(|Output { sink, handle, .. }| {
                let name = handle.name().to_owned();
                drop(handle);
                (name, sink.finish(patience))
            })
            .collect()
    }
}

/// Opens for appending, private to the owner when made: lines name processes and files. A last line
/// that a crash tore is ended, so that it does not run into ours.
fn open_append(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    if file.metadata()?.is_file() && file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::{Form, Outputs, SinkLoss, open_append};
    use crate::sink::human::Style;
    use crate::sink::{jsonl, samples};
    use std::io::Write;
    use std::time::{Duration, Instant};

    /// Goal: two outputs, two forms, one record each; totals say so.
    #[test]
    fn fans_out() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        let outputs = Outputs::to_writers(vec![
            (
                "a".to_owned(),
                Box::new(open_append(&a).unwrap()),
                Form::Json,
            ),
            (
                "b".to_owned(),
                Box::new(open_append(&b).unwrap()),
                Form::Human(Style::Plain),
            ),
        ])
        .unwrap();
        outputs.emit(&samples::violation()).unwrap();
        let totals = outputs.finish(Duration::from_secs(5));
        assert!(
            totals.iter().all(|(_, t)| t.written == 1 && t.lost == 0),
            "{totals:?}"
        );
        let line = std::fs::read_to_string(a).unwrap();
        assert_eq!(jsonl::decode(&line).unwrap(), samples::violation());
        assert!(
            std::fs::read_to_string(b)
                .unwrap()
                .contains("namespace-join")
        );
    }

    /// Goal: that the reader of stdout went away ends the run and is no loss; for another output it is
    /// one, reported once.
    #[test]
    fn a_closed_pipe_is_a_wish_or_a_loss() {
        let closed = || {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            Box::new(writer) as Box<dyn Write + Send>
        };
        let mut outputs = Outputs::to_writers(vec![
            ("stdout".to_owned(), closed(), Form::Json),
            ("other".to_owned(), closed(), Form::Json),
        ])
        .unwrap();
        outputs.emit(&samples::violation()).unwrap();
        let start = Instant::now();
        let mut losses = Vec::new();
        while !outputs.hung_up() || losses.is_empty() {
            assert!(start.elapsed() < Duration::from_secs(10), "{losses:?}");
            losses.extend(outputs.take_losses());
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(
            losses,
            [SinkLoss {
                sink: "other".to_owned(),
                count: 1,
                total: 1
            }]
        );
        assert_eq!(outputs.take_losses(), []);
    }

    /// Goal: a file that a crash left with half a line is continued on a line of its own.
    #[test]
    fn appending_ends_a_torn_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("torn");
        std::fs::write(&path, "{\"whole\":1}\n{\"tor").unwrap();
        open_append(&path).unwrap().write_all(b"{}\n").unwrap();
        open_append(&path).unwrap().write_all(b"{}\n").unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "{\"whole\":1}\n{\"tor\n{}\n{}\n"
        );
    }
}
