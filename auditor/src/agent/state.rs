//! What survives a restart of the agent: labels and baselines, in a file that only root can read.
//!
//! The kernel forgets who escaped from where; this file does not. It is replaced atomically, so a reader
//! finds the old one or the new one, and it is only believed within the same boot.

use crate::engine::Saved;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A larger file is not read: a label takes about 100 bytes.
const MAX_BYTES: u64 = 256 << 20;
const NAME: &str = "labels.json";

/// Why the state cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file system refused.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Somebody else can write there.
    #[error("{} belongs to user {owner} or can be written by others: not used", path.display())]
    Untrusted {
        /// The directory or file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Not ours, or damaged.
    #[error("{} is not a state file: {source}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// The directory that holds the file.
#[derive(Clone, Debug)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// Makes the directory, or takes the one that is there.
    ///
    /// # Errors
    /// When it cannot be made, or others than its owner could write to it.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let failed = |action| {
            move |source| StateError::Io {
                action,
                path: path.to_owned(),
                source,
            }
        };
        DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(path)
            .map_err(failed("make"))?;
        let meta = std::fs::metadata(path).map_err(failed("look at"))?;
        trusted(path, &meta)?;
        Ok(Self(path.to_owned()))
    }

    /// What an earlier run left; `None` when there is nothing.
    ///
    /// # Errors
    /// When it cannot be read or is no state file.
    pub fn load(&self) -> Result<Option<Saved>, StateError> {
        let path = self.0.join(NAME);
        let failed = |source| StateError::Io {
            action: "read",
            path: path.clone(),
            source,
        };
        let file = match OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
        {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        trusted(&path, &file.metadata().map_err(failed)?)?;
        let mut text = String::new();
        file.take(MAX_BYTES)
            .read_to_string(&mut text)
            .map_err(failed)?;
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|source| StateError::Malformed { path, source })
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// When it cannot be written. The old one is then still there.
    pub fn save(&self, saved: &Saved) -> Result<(), StateError> {
        let path = self.0.join(NAME);
        let failed = |source| StateError::Io {
            action: "write",
            path: path.clone(),
            source,
        };
        let text = serde_json::to_vec(saved).map_err(|source| StateError::Malformed {
            path: path.clone(),
            source,
        })?;
        replace(&path, &text).map_err(failed)
    }
}

/// Puts a file of its owner's in place of one, if any: whoever reads it finds the old one or the new one. It outlives
/// this process, but for the disk nobody waits.
///
/// # Errors
/// When it cannot be written. The old one is then still there.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut next = path.as_os_str().to_owned();
    next.push(".new");
    let next = PathBuf::from(next);
    match std::fs::remove_file(&next) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Nobody else's file, and none that a link leads to: it is new.
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&next)?;
    file.write_all(bytes)?;
    std::fs::rename(&next, path)
}

pub(super) fn trusted(path: &Path, meta: &std::fs::Metadata) -> Result<(), StateError> {
    let own = rustix::process::geteuid().as_raw();
    if (meta.uid() != own && meta.uid() != 0) || meta.mode() & 0o022 != 0 {
        return Err(StateError::Untrusted {
            path: path.to_owned(),
            owner: meta.uid(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// What is saved is read back; nothing, damage and a directory of others are told apart.
    #[test]
    fn round_trip_and_refusals() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("a/b")).unwrap();
        assert_eq!(state.load().unwrap(), None);
        let saved = Saved {
            boot_id: "x".into(),
            ..Saved::default()
        };
        state.save(&saved).unwrap();
        assert_eq!(state.load().unwrap(), Some(saved));
        std::fs::write(dir.path().join("a/b").join(NAME), "{").unwrap();
        assert!(matches!(state.load(), Err(StateError::Malformed { .. })));
        let open = dir.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, PermissionsExt::from_mode(0o777)).unwrap();
        assert!(matches!(
            StateDir::open(&open),
            Err(StateError::Untrusted { .. })
        ));
    }
}
