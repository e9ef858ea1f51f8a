//! The matrix of a watch, in a file: the report of a scan, with what kernel programs know beyond one.
//!
//! It is a view and not a stream: each one takes the place of the last, and nothing waits for it.

use super::once::report;
use super::state::replace;
use crate::cli::failure::Failure;
use crate::engine::Engine;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// How often the file is written. One with a thousand containers takes milliseconds.
const EVERY: Duration = Duration::from_secs(10);

/// See the [module](self).
#[derive(Debug)]
pub(super) struct MatrixFile {
    path: PathBuf,
    due: Instant,
    /// Why it could not be written, if the last time failed: that is said once.
    failed: bool,
}

impl MatrixFile {
    /// A file that is written from now on.
    ///
    /// # Errors
    /// When something is there that is no file.
    pub(super) fn new(path: &Path) -> Result<Self, Failure> {
        let refused = |what: &str| {
            let said = format!("cannot keep the matrix in {}: {what}", path.display());
            Failure::new(said, "give the path of a file to --matrix; it is replaced")
        };
        match std::fs::symlink_metadata(path) {
            Ok(meta) if !meta.is_file() => return Err(refused("that is no regular file")),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(refused("it cannot be looked at").caused_by(error)),
        }
        Ok(Self {
            path: path.to_owned(),
            due: Instant::now(),
            failed: false,
        })
    }

    /// Writes it for the first time.
    ///
    /// # Errors
    /// When that fails: it will fail later too.
    pub(super) fn begin(&mut self, engine: &Engine, boottime_ns: u64) -> Result<(), Failure> {
        self.write(engine, boottime_ns).map_err(|error| {
            let what = format!("cannot write the matrix to {}", self.path.display());
            let next = "give a file in a directory of root's to --matrix, on a disk with room";
            Failure::new(what, next).caused_by(error)
        })
    }

    /// Writes it if it is time.
    pub(super) fn keep(&mut self, engine: &Engine, boottime_ns: u64) {
        if Instant::now() >= self.due {
            self.now(engine, boottime_ns);
        }
    }

    /// Writes it.
    pub(super) fn now(&mut self, engine: &Engine, boottime_ns: u64) {
        let written = self.write(engine, boottime_ns);
        if let Err(error) = &written
            && !self.failed
        {
            tracing::error!(
                "cannot write the matrix to {}: {error}",
                self.path.display()
            );
        }
        self.failed = written.is_err();
    }

    fn write(&mut self, engine: &Engine, boottime_ns: u64) -> io::Result<()> {
        self.due = Instant::now() + EVERY;
        let mut text = serde_json::to_vec(&report(engine, boottime_ns))?;
        text.push(b'\n');
        replace(&self.path, &text)
    }
}

#[cfg(test)]
mod tests {
    use super::MatrixFile;
    use crate::engine::{Config, Engine};
    use crate::model::policy::Policy;
    use crate::report::scan::ScanReport;

    /// Goal: the file is a scan's report, is replaced, and nothing but a file is. Method: write twice; a directory, a
    /// link and a place that is not there.
    #[test]
    fn only_files_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::new(Config::default(), &Policy::default());
        let path = dir.path().join("matrix.json");
        let mut file = MatrixFile::new(&path).unwrap();
        for at in [1, 2] {
            file.begin(&engine, at).unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            let report: ScanReport = serde_json::from_str(&text).unwrap();
            assert_eq!(report.summary.entities, 1);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(MatrixFile::new(dir.path()).is_err());
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(MatrixFile::new(&link).is_err());
        let mut nowhere = MatrixFile::new(&dir.path().join("a/b")).unwrap();
        assert!(nowhere.begin(&engine, 1).is_err());
        nowhere.keep(&engine, 1);
        assert!(!nowhere.failed);
        nowhere.now(&engine, 1);
        assert!(nowhere.failed);
    }
}
