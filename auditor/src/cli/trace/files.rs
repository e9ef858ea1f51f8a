//! Traces in, something new out: names, permissions, errors with the file in them.

use crate::cli::failure::{Failure, HungUp};
use crate::trace::TraceReader;
use crate::trace::tool::ToolError;
use rustix::fs::{self, CWD, Mode, OFlags};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

/// Bytes read or written at once.
const BUFFER_BYTES: usize = 1 << 18;

/// A trace to read.
pub(super) type Input = TraceReader<BufReader<Box<dyn Read>>>;

/// What to do when a trace cannot be read.
const NEXT: &str = "check it with \"auditor trace verify\"";

/// An error about one file.
pub(super) fn cannot(
    verb: &str,
    path: &Path,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> anyhow::Error {
    Failure::new(format!("cannot {verb} {}", path.display()), NEXT)
        .caused_by(error)
        .into()
}

/// Opens a file, or standard input.
pub(super) fn bytes(path: &Path) -> io::Result<BufReader<Box<dyn Read>>> {
    let from: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        let file = File::open(path)?;
        if file.metadata()?.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Box::new(file)
    };
    Ok(BufReader::with_capacity(BUFFER_BYTES, from))
}

/// Opens a trace and reads its header.
pub(super) fn open(path: &Path) -> anyhow::Result<Input> {
    let bytes = bytes(path).map_err(|error| match error.kind() {
        io::ErrorKind::IsADirectory => {
            let next = "give one trace of it: it reads one at a time";
            Failure::new(format!("cannot read {}", path.display()), next)
                .caused_by(error)
                .into()
        }
        _ => cannot("read", path, error),
    })?;
    TraceReader::open(bytes).map_err(|e| cannot("read", path, e))
}

/// Where something new goes. A file that is not [`Self::finish`]ed is removed again.
pub(super) struct Output {
    /// None on standard output, and when it is finished.
    unfinished: Option<PathBuf>,
    path: PathBuf,
}

/// The writer of an [`Output`].
pub(super) type OutputWriter = BufWriter<Box<dyn Write + Send>>;

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Bytes that a terminal must not see.
    Binary,
    /// Lines.
    Text,
}

impl Output {
    /// Makes the file, which must not be there, or takes standard output.
    pub(super) fn create(path: &Path, content: Content) -> anyhow::Result<(Self, OutputWriter)> {
        if path.as_os_str() == "-" {
            if content == Content::Binary && io::stdout().is_terminal() {
                let next = "give a file, or send standard output to a program or file";
                return Err(Failure::new("a trace is not for a terminal", next).into());
            }
            let output = Self {
                unfinished: None,
                path: path.to_owned(),
            };
            return Ok((output, buffered(Box::new(io::stdout()))));
        }
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::openat(CWD, path, flags, Mode::RUSR | Mode::WUSR).map_err(|e| {
            let what = format!("cannot make {}", path.display());
            Failure::new(
                what,
                "give the name of a new file, in a directory that is there",
            )
            .caused_by(io::Error::from(e))
        })?;
        let output = Self {
            unfinished: Some(path.to_owned()),
            path: path.to_owned(),
        };
        Ok((output, buffered(Box::new(File::from(file)))))
    }

    /// All is written: the file stays.
    pub(super) fn finish(mut self) {
        self.unfinished = None;
    }

    /// An error of making this from that.
    pub(super) fn failed(&self, verb: &str, from: &Path, error: ToolError) -> anyhow::Error {
        match error {
            ToolError::Write(e) if e.kind() == io::ErrorKind::BrokenPipe => HungUp.into(),
            ToolError::Write(e) => {
                let what = format!("cannot write {}", self.path.display());
                Failure::new(what, "check where it leads, and the room there")
                    .caused_by(e)
                    .into()
            }
            other => cannot(verb, from, other),
        }
    }
}

fn buffered(out: Box<dyn Write + Send>) -> OutputWriter {
    BufWriter::with_capacity(BUFFER_BYTES, out)
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(path) = self.unfinished.take() {
            // Nobody else has the name: the file was not there before.
            let _ = std::fs::remove_file(path);
        }
    }
}
