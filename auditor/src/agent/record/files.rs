//! Where parts go: names, permissions, what is kept.
//!
//! A part is written under its name with `.partial` behind it and gets its name when it is finished, so a
//! file with a trace's name is whole. An existing file is never written over.

use crate::trace::Header;
use rustix::fs::{self, CWD, Mode, OFlags, RenameFlags};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a trace's name ends with, where the recorder chooses it.
pub const EXTENSION: &str = "atrace";
/// What the name of a part that is being written ends with.
pub const PARTIAL: &str = "partial";
/// Traces of one directory that are looked through for old ones.
const MAX_LISTED: usize = 1 << 16;

/// Where a recording goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Standard output, in one part.
    Stdout,
    /// This file; further parts beside it, with their number in the name.
    File(PathBuf),
    /// Files in this directory, named by node, time and part.
    Directory(PathBuf),
}

impl Destination {
    /// `-` is standard output; what is a directory, or ends with `/`, is a directory.
    #[must_use]
    pub fn parse(path: &Path) -> Self {
        let text = path.as_os_str().as_encoded_bytes();
        if text == b"-" {
            Self::Stdout
        } else if text.ends_with(b"/") || path.is_dir() {
            Self::Directory(path.to_owned())
        } else {
            Self::File(path.to_owned())
        }
    }
}

/// How long finished parts are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// So many parts; the oldest go.
    pub parts: Option<u32>,
    /// So many bytes in all.
    pub bytes: Option<u64>,
}

/// When the disk is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sync {
    /// Never: a crash of the machine may cost what the kernel has not written yet.
    Never,
    /// When a part is finished.
    #[default]
    Part,
    /// After every frame: a crash costs two seconds at most.
    Frame,
}

/// How to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordOptions {
    /// Where to.
    pub destination: Destination,
    /// A part ends when it has so many bytes.
    pub rotate_bytes: Option<u64>,
    /// A part ends when it is so old.
    pub rotate_after: Option<Duration>,
    /// What is kept.
    pub retention: Retention,
    /// When the disk is waited for.
    pub sync: Sync,
}

impl RecordOptions {
    /// Whether the directory belongs to somebody else than this process, so that only CAP_DAC_OVERRIDE lets it make
    /// files there (a user's own directory, under sudo).
    #[must_use]
    pub fn is_in_foreign_directory(&self) -> bool {
        let directory = match &self.destination {
            Destination::Stdout => return false,
            Destination::File(path) => parent(path),
            Destination::Directory(path) => path,
        };
        let own = rustix::process::geteuid().as_raw();
        std::fs::metadata(directory).is_ok_and(|meta| meta.uid() != own)
    }
}

/// A part that is being written.
#[derive(Debug)]
pub(super) struct OpenPart {
    pub(super) file: File,
    /// Where it is, and where it will be; none on standard output.
    names: Option<(PathBuf, PathBuf)>,
}

/// Makes, finishes and removes the files of a recording.
#[derive(Debug)]
pub(super) struct Files {
    options: RecordOptions,
    /// What may be removed, oldest first, with its size.
    kept: VecDeque<(PathBuf, u64)>,
}

impl Files {
    /// # Errors
    /// When the directory cannot be listed.
    pub(super) fn new(options: &RecordOptions, node: &str) -> io::Result<Self> {
        let kept = match &options.destination {
            Destination::Directory(directory) => earlier(directory, node)?,
            Destination::File(_) | Destination::Stdout => VecDeque::new(),
        };
        Ok(Self {
            options: options.clone(),
            kept,
        })
    }

    pub(super) const fn options(&self) -> &RecordOptions {
        &self.options
    }

    /// The name that a part will have.
    fn name(&self, header: &Header) -> Option<PathBuf> {
        match &self.options.destination {
            Destination::Stdout => None,
            Destination::Directory(directory) => {
                let began =
                    i128::from(header.began_boottime_ns) + i128::from(header.realtime_offset_ns);
                let time: String = crate::model::text::rfc3339(began)
                    .chars()
                    .filter(|c| !matches!(c, ':' | '-'))
                    .take_while(|c| *c != '.')
                    .collect();
                let node = file_name_of(&header.node);
                let part = header.part;
                Some(directory.join(format!("{node}-{time}Z-{part:05}.{EXTENSION}")))
            }
            Destination::File(path) if header.part == 0 && !self.rotates() => Some(path.clone()),
            Destination::File(path) => Some(numbered(path, header.part)),
        }
    }

    const fn rotates(&self) -> bool {
        self.options.rotate_bytes.is_some() || self.options.rotate_after.is_some()
    }

    /// Makes the file of a part.
    pub(super) fn open(&self, header: &Header) -> io::Result<OpenPart> {
        let Some(name) = self.name(header) else {
            let fd = rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3)?;
            return Ok(OpenPart {
                file: fd.into(),
                names: None,
            });
        };
        if name.symlink_metadata().is_ok() {
            let there = io::Error::new(io::ErrorKind::AlreadyExists, "is there already");
            return Err(at(&there, &name));
        }
        let mut partial = name.clone().into_os_string();
        partial.push(".");
        partial.push(PARTIAL);
        let partial = PathBuf::from(partial);
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::openat(CWD, &partial, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|e| at(&e.into(), &partial))?;
        Ok(OpenPart {
            file: file.into(),
            names: Some((partial, name)),
        })
    }

    /// Gives a finished part its name, and removes what is older than is to be kept.
    pub(super) fn finish(&mut self, part: OpenPart) -> io::Result<()> {
        let OpenPart { file, names } = part;
        let Some((partial, name)) = names else {
            return Ok(());
        };
        let sync = self.options.sync != Sync::Never;
        if sync {
            file.sync_all()?;
        }
        fs::renameat_with(CWD, &partial, CWD, &name, RenameFlags::NOREPLACE)?;
        if sync {
            File::open(parent(&name))?.sync_all()?;
        }
        let bytes = file.metadata()?.len();
        self.kept.push_back((name, bytes));
        self.prune()
    }

    /// Removes the oldest parts until what is left may stay. The newest always stays.
    fn prune(&mut self) -> io::Result<()> {
        let Retention { parts, bytes } = self.options.retention;
        let mut total: u64 = self.kept.iter().map(|(_, bytes)| bytes).sum();
        while self.kept.len() > 1
            && (parts.is_some_and(|most| self.kept.len() > most as usize)
                || bytes.is_some_and(|most| total > most))
        {
            let Some((oldest, bytes)) = self.kept.pop_front() else {
                break;
            };
            total -= bytes;
            match std::fs::remove_file(&oldest) {
                // Somebody else tidied up.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other.map_err(|e| at(&e, &oldest))?,
            }
        }
        Ok(())
    }
}

/// What earlier recordings of this node left in a directory, oldest first; unfinished parts too, so that an
/// agent that is killed again and again does not fill the disk.
fn earlier(directory: &Path, node: &str) -> io::Result<VecDeque<(PathBuf, u64)>> {
    let start = format!("{}-", file_name_of(node));
    let (whole, partial) = (format!(".{EXTENSION}"), format!(".{EXTENSION}.{PARTIAL}"));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)
        .map_err(|e| at(&e, directory))?
        .take(MAX_LISTED)
    {
        let entry = entry?;
        let name = entry.file_name();
        let is_ours = name.to_str().is_some_and(|n| {
            n.starts_with(&start) && (n.ends_with(&whole) || n.ends_with(&partial))
        });
        if is_ours && entry.file_type()?.is_file() {
            found.push((entry.path(), entry.metadata()?.len()));
        }
    }
    // The time in the name orders them.
    found.sort();
    Ok(found.into())
}

fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

fn file_name_of(node: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    node.chars()
        .map(|c| if plain(c) { c } else { '_' })
        .collect()
}

fn at(source: &io::Error, path: &Path) -> io::Error {
    io::Error::new(source.kind(), format!("{}: {source}", path.display()))
}

/// `node.atrace` becomes `node.00001.atrace`.
fn numbered(path: &Path, part: u32) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_os_string();
    name.push(format!(".{part:05}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}
