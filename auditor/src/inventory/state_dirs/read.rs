//! Opening files that others may have prepared.
//!
//! State directories belong to runtimes, some of them to unprivileged users. A file there may be a link to
//! somewhere else, a pipe that never delivers, larger than memory, or owned by somebody who should not be
//! able to write it. So every file is opened without following a final link and without blocking, checked on
//! the open descriptor (never by name), and read up to a bound. What is wrong is a value in [`Problems`]:
//! one container's broken state must not hide the others.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::super::limits;
use super::super::oci::ParseError;

/// Something in a state directory that could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Opening, examining or reading failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A link, pipe, device or directory where a file should be.
    #[error("{}: not a regular file", path.display())]
    NotRegular {
        /// The path.
        path: PathBuf,
    },
    /// Larger than any honest file of its kind.
    #[error("{}: {size} bytes, only up to {} are read", path.display(), limits::FILE_BYTES)]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
    },
    /// Owned by somebody other than the owner of the state directory.
    #[error("{}: owned by user {uid}, expected {expected}", path.display())]
    ForeignOwner {
        /// The file.
        path: PathBuf,
        /// Who owns it.
        uid: u32,
        /// Who should.
        expected: u32,
    },
    /// A directory with more entries than are looked at.
    #[error("{}: more than {} entries, the rest is not looked at", path.display(), limits::DIR_ENTRIES)]
    TooManyEntries {
        /// The directory.
        path: PathBuf,
    },
    /// The content makes no sense.
    #[error("{}: {source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What and where.
        #[source]
        source: ParseError,
    },
    /// A state file that claims to be another container's.
    #[error("{}: claims to be container {claimed:?}", path.display())]
    IdMismatch {
        /// The file.
        path: PathBuf,
        /// The id inside.
        claimed: String,
    },
    /// A bundle path that is relative or climbs.
    #[error("{}: bundle path {bundle:?} is not absolute and plain", path.display())]
    BadBundle {
        /// The state file that names it.
        path: PathBuf,
        /// The path.
        bundle: String,
    },
}

/// What went wrong during a pass over state directories: a bounded list and an exact count.
#[derive(Debug, Default)]
pub struct Problems {
    kept: Vec<StateError>,
    total: u64,
}

impl Problems {
    /// Records one.
    pub fn push(&mut self, error: StateError) {
        self.total += 1;
        if self.kept.len() < limits::PROBLEMS {
            self.kept.push(error);
        }
    }

    /// The first ones, at most [`limits::PROBLEMS`].
    pub fn iter(&self) -> impl Iterator<Item = &StateError> {
        self.kept.iter()
    }

    /// How many there were.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }
}

/// Whose files are believed in a state directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    /// The user that the directory belongs to.
    pub(super) uid: u32,
    /// The user that the auditor runs as, believed beside root in the system's directories.
    pub(super) own_uid: u32,
}

impl Owner {
    fn accepts(self, uid: u32) -> bool {
        uid == self.uid || (self.uid == 0 && uid == self.own_uid)
    }
}

/// Reads a whole file; `None` if there is none.
pub(super) fn read(path: &Path, owner: Owner) -> Result<Option<Vec<u8>>, StateError> {
    let io = |source| StateError::Io {
        path: path.to_owned(),
        source,
    };
    let file = match open(path) {
        Ok(file) => file,
        Err(error) if is_absent(&error) => return Ok(None),
        // A link as the last component; also a socket, which cannot be opened.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENXIO)) => {
            return Err(StateError::NotRegular {
                path: path.to_owned(),
            });
        }
        Err(error) => return Err(io(error)),
    };
    let metadata = file.metadata().map_err(io)?;
    if !metadata.is_file() {
        return Err(StateError::NotRegular {
            path: path.to_owned(),
        });
    }
    if !owner.accepts(metadata.uid()) {
        let (path, uid, expected) = (path.to_owned(), metadata.uid(), owner.uid);
        return Err(StateError::ForeignOwner {
            path,
            uid,
            expected,
        });
    }
    if metadata.len() > limits::FILE_BYTES {
        return Err(StateError::TooLarge {
            path: path.to_owned(),
            size: metadata.len(),
        });
    }
    let mut bytes = Vec::new();
    // The file may grow between the check and the read.
    file.take(limits::FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    let size = bytes.len() as u64;
    if size > limits::FILE_BYTES {
        return Err(StateError::TooLarge {
            path: path.to_owned(),
            size,
        });
    }
    Ok(Some(bytes))
}

fn open(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// Not there, or gone since its name was seen: containers end while their state is read.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Names of the subdirectories of a directory, sorted; none if there is no such directory. Links are no
/// directories.
pub(super) fn subdirectories(directory: &Path, problems: &mut Problems) -> Vec<String> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Vec::new(),
        Err(source) => {
            problems.push(StateError::Io {
                path: directory.to_owned(),
                source,
            });
            return Vec::new();
        }
    };
    let mut names = Vec::new();
    for (index, entry) in entries.enumerate() {
        if index >= limits::DIR_ENTRIES {
            problems.push(StateError::TooManyEntries {
                path: directory.to_owned(),
            });
            break;
        }
        let Ok(entry) = entry else { continue };
        // Container ids and namespaces are ASCII; another name is not a runtime's.
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            names.push(name);
        }
    }
    names.sort_unstable();
    names
}
