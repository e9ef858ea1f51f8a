//! The file in which advice accumulates: what each run saw of each image, merged into what earlier runs saw.
//!
//! It is read before anything is observed, so that a damaged file costs no observation, and read again before it is
//! replaced, so that two commands that end at the same time both count. It is never written over what cannot be read.

use super::state::{StateError, trusted};
use crate::report::history::History;
use serde::{Deserialize, Serialize};
use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Where `auditor watch` keeps one, in its state directory.
pub const NAME: &str = "privileges.json";
/// What the file is.
const FORMAT: &str = "auditor-privileges-history";
const VERSION: u32 = 1;
/// A larger file is neither read nor written.
const MAX_BYTES: u64 = 64 << 20;

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file system refused, or others can write there, or it is damaged.
    #[error(transparent)]
    State(#[from] StateError),
    /// A later version of the auditor wrote it.
    #[error("{} has version {version}, and this auditor knows {VERSION}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// Something else.
    #[error("{} is not a state file of \"auditor privileges\"", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// It has no room for more.
    #[error("{} would have more than {} MiB", path.display(), MAX_BYTES >> 20)]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

/// The file's content.
#[derive(Debug, Serialize, Deserialize)]
struct Content {
    format: String,
    version: u32,
    #[serde(default, flatten)]
    history: History,
}

/// Only what tells who wrote it.
#[derive(Debug, Deserialize)]
struct Begin {
    #[serde(default)]
    format: String,
    #[serde(default)]
    version: u32,
}

/// The file.
#[derive(Clone, Debug)]
pub struct HistoryFile(PathBuf);

impl HistoryFile {
    /// Names it.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// What earlier runs left; nothing, where there is no file.
    ///
    /// # Errors
    /// When it cannot be read, can be written by others, or is damaged.
    pub fn load(&self) -> Result<History, HistoryError> {
        let path = &self.0;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path);
        let file = match file {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(History::default()),
            Err(error) => return Err(self.failed("read", error)),
        };
        let meta = file.metadata().map_err(|e| self.failed("look at", e))?;
        trusted(path, &meta)?;
        if !meta.is_file() {
            return Err(HistoryError::Foreign { path: path.clone() });
        }
        if meta.len() > MAX_BYTES {
            return Err(HistoryError::TooLarge { path: path.clone() });
        }
        let mut text = Vec::new();
        file.take(MAX_BYTES)
            .read_to_end(&mut text)
            .map_err(|e| self.failed("read", e))?;
        self.parse(&text)
    }

    fn parse(&self, text: &[u8]) -> Result<History, HistoryError> {
        let path = &self.0;
        let malformed = |source| StateError::Malformed {
            path: path.clone(),
            source,
        };
        let begin: Begin = serde_json::from_slice(text).map_err(malformed)?;
        if begin.format != FORMAT {
            return Err(HistoryError::Foreign { path: path.clone() });
        }
        if begin.version > VERSION {
            let version = begin.version;
            return Err(HistoryError::Newer {
                path: path.clone(),
                version,
            });
        }
        let content: Content = serde_json::from_slice(text).map_err(malformed)?;
        Ok(content.history)
    }

    /// Takes in what was seen, and gives all that is known.
    ///
    /// # Errors
    /// As [`Self::load`], or when it cannot be written. The old file is then still there.
    pub fn add(&self, seen: &History) -> Result<History, HistoryError> {
        let lock = self.beside(".lock");
        let lock = write_only().create(true).truncate(false).open(&lock);
        let lock = lock.map_err(|e| self.failed("lock", e))?;
        lock.lock().map_err(|e| self.failed("lock", e))?;
        let before = self.load()?;
        let mut all = before.clone();
        all.merge(seen);
        if all != before {
            self.save(&all)?;
        }
        Ok(all)
    }

    fn save(&self, history: &History) -> Result<(), HistoryError> {
        let content = Content {
            format: FORMAT.to_owned(),
            version: VERSION,
            history: history.clone(),
        };
        let text = serde_json::to_vec(&content).map_err(|source| StateError::Malformed {
            path: self.0.clone(),
            source,
        })?;
        if text.len() as u64 > MAX_BYTES {
            return Err(HistoryError::TooLarge {
                path: self.0.clone(),
            });
        }
        let next = self.beside(".new");
        match std::fs::remove_file(&next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(self.failed("replace", error));
            }
            _ => {}
        }
        // It must outlive this boot: the disk has it before the old one goes.
        let written = write_only()
            .create_new(true)
            .open(&next)
            .and_then(|mut file| {
                file.write_all(&text)?;
                file.sync_all()
            });
        written.map_err(|e| self.failed("write", e))?;
        std::fs::rename(&next, &self.0).map_err(|e| self.failed("replace", e))
    }

    /// Whether only its directory's owner, and not this process without its capabilities, may write there.
    #[must_use]
    pub fn is_in_foreign_directory(&self) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        let own = rustix::process::geteuid().as_raw();
        let directory = self.0.parent().filter(|path| !path.as_os_str().is_empty());
        std::fs::metadata(directory.unwrap_or(Path::new("."))).is_ok_and(|meta| meta.uid() != own)
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.0.as_os_str().to_owned();
        name.push(suffix);
        name.into()
    }

    fn failed(&self, action: &'static str, source: io::Error) -> HistoryError {
        let path = self.0.clone();
        StateError::Io {
            action,
            path,
            source,
        }
        .into()
    }
}

/// For a file of its owner's, and none that a link leads to.
fn write_only() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .write(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW);
    options
}

#[cfg(test)]
mod tests {
    //! Goal: what is added is found by the next run, and whatever cannot be read is said and left as it is.

    use super::*;
    use crate::model::privileges::{Scope, Used};
    use crate::report::privileges::tests::{observed, used};
    use std::os::unix::fs::PermissionsExt as _;

    fn seen(used: Used, run: &str) -> History {
        let mut observed = observed("a", Some("web"), 1, used);
        observed.run = run.to_owned();
        let mut history = History::default();
        history.note(&observed);
        history
    }

    #[test]
    fn runs_accumulate() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        let file = HistoryFile::new(path.clone());
        assert_eq!(file.load().unwrap(), History::default());
        let way = |capability| used(&[(capability, true, false, Scope::Initial)]);
        let one = file.add(&seen(way(0), "1")).unwrap();
        assert_eq!(file.load().unwrap(), one);
        let both = file.add(&seen(way(1), "2")).unwrap();
        assert_eq!(both.learned["web"].account().used.used(), 0b11);
        assert_eq!(both.learned["web"].runs(), 2);
        assert_eq!(file.add(&seen(way(1), "2")).unwrap(), both);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_cannot_be_read_is_left_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        let file = HistoryFile::new(path.clone());
        let newer = format!("{{\"format\": \"{FORMAT}\", \"version\": 2, \"learned\": 7}}");
        for text in ["{", "", "{}", newer.as_str(), "[1]"] {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            assert!(file.load().is_err(), "{text}");
            assert!(file.add(&seen(Used::default(), "1")).is_err(), "{text}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        let good = HistoryFile::new(directory.path().join("good.json"));
        good.add(&seen(Used::default(), "1")).unwrap();
        let open = std::fs::Permissions::from_mode(0o666);
        std::fs::set_permissions(&good.0, open).unwrap();
        assert!(matches!(
            good.load(),
            Err(HistoryError::State(StateError::Untrusted { .. }))
        ));
    }
}
