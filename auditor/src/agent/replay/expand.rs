//! From arguments to places: files, directories, patterns that no shell has expanded, standard input.

use super::sources::Place;
use super::streams::Source;
use crate::agent::record::files::{EXTENSION, PARTIAL};
use crate::cli::failure::Failure;
use crate::model::policy::glob;
use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Files that one call replays at most.
const MAX_FILES: usize = 1 << 16;
/// Directories within directories that are looked into.
const MAX_DEPTH: u32 = 32;

/// The places that arguments stand for, each argument's in order.
///
/// # Errors
/// When one stands for nothing, or for too much.
pub fn expand(inputs: &[PathBuf], source: Source) -> Result<Vec<Place>, Failure> {
    let mut places = Vec::new();
    for input in inputs {
        if input.as_os_str() == "-" {
            if places.contains(&Place::Stdin) {
                return Err(Failure::new(
                    "standard input is named twice",
                    "give - once: it is read once",
                ));
            }
            places.push(Place::Stdin);
            continue;
        }
        for path in paths(input).map_err(|e| cannot_look(input, e))? {
            match (path.is_dir(), source) {
                (false, _) => places.push(Place::File(path)),
                (true, Source::Traces) => places.extend(directory(&path)?),
                (true, Source::Logs(_)) => {
                    return Err(Failure::new(
                        format!("{} is a directory", path.display()),
                        "name the logs: a directory is searched for traces only",
                    ));
                }
            }
        }
        if places.len() > MAX_FILES {
            return Err(Failure::new(
                format!("more than {MAX_FILES} traces are too many at once"),
                "replay them by and by, such as one directory per call",
            ));
        }
    }
    Ok(places)
}

fn cannot_look(path: &Path, error: io::Error) -> Failure {
    let what = format!("cannot look for traces in {}", path.display());
    Failure::new(what, "give files, directories, or - for standard input").caused_by(error)
}

/// What one argument stands for: itself, unless it is a pattern and no file has this name.
fn paths(input: &Path) -> io::Result<Vec<PathBuf>> {
    if !is_pattern(input.as_os_str()) || input.symlink_metadata().is_ok() {
        return Ok(vec![input.to_owned()]);
    }
    let found = matching(input)?;
    if found.is_empty() {
        return Err(io::Error::other("no file matches the pattern"));
    }
    Ok(found)
}

fn is_pattern(name: &OsStr) -> bool {
    let bytes = name.as_encoded_bytes();
    bytes.contains(&b'*') || bytes.contains(&b'?')
}

/// The paths that match a pattern, in order. `*` and `?` stand within one name, as in a shell.
fn matching(pattern: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        match component {
            Component::Normal(name) if is_pattern(name) => {
                let name = name.to_string_lossy();
                let mut longer = Vec::new();
                for base in &found {
                    longer.extend(matching_in(base, &name)?);
                }
                found = longer;
            }
            other => found.iter_mut().for_each(|path| path.push(other)),
        }
    }
    found.retain(|path| path.symlink_metadata().is_ok());
    found.sort();
    Ok(found)
}

/// What lies in a directory and matches. What is no directory has nothing in it.
fn matching_in(base: &Path, pattern: &str) -> io::Result<Vec<PathBuf>> {
    let here = if base.as_os_str().is_empty() {
        Path::new(".")
    } else {
        base
    };
    if !here.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(here)?.take(MAX_FILES) {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        let hidden = text.starts_with('.') && !pattern.starts_with('.');
        if !hidden && glob::matches(pattern, &text) {
            found.push(base.join(&name));
        }
    }
    Ok(found)
}

/// All traces in a directory and the directories in it, in order.
fn directory(path: &Path) -> Result<Vec<Place>, Failure> {
    let mut found = Vec::new();
    walk(path, 0, &mut found).map_err(|e| cannot_look(path, e))?;
    if found.is_empty() {
        return Err(Failure::new(
            format!("there is no trace in {}", path.display()),
            "traces in a directory are the files whose names end with .atrace or .atrace.partial",
        ));
    }
    found.sort();
    Ok(found.into_iter().map(Place::File).collect())
}

fn walk(directory: &Path, depth: u32, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)?.take(MAX_FILES) {
        let entry = entry?;
        let path = entry.path();
        // A link to a directory may lead back.
        if entry.file_type()?.is_dir() {
            if depth < MAX_DEPTH {
                walk(&path, depth + 1, found)?;
            }
        } else if found.len() <= MAX_FILES && is_trace_name(&path) && path.is_file() {
            found.push(path);
        }
    }
    Ok(())
}

fn is_trace_name(path: &Path) -> bool {
    let is = |path: &Path, extension: &str| path.extension() == Some(OsStr::new(extension));
    is(path, EXTENSION)
        || is(path, PARTIAL)
            && path
                .file_stem()
                .is_some_and(|stem| is(Path::new(stem), EXTENSION))
}

#[cfg(test)]
mod tests {
    use super::{Place, Source, expand};
    use crate::cli::failure::report;
    use crate::import::Tool;
    use std::path::{Path, PathBuf};

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("b/c")).unwrap();
        for name in [
            "a1.atrace",
            "a2.atrace",
            "a3.atrace.partial",
            "a4.partial",
            ".hidden.atrace",
            "notes.txt",
            "b/x.atrace",
            "b/c/y.atrace",
        ] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        std::os::unix::fs::symlink(dir.path(), dir.path().join("b/loop")).unwrap();
        dir
    }

    fn names(dir: &Path, inputs: &[&str]) -> Vec<String> {
        let inputs: Vec<PathBuf> = inputs.iter().map(|name| dir.join(name)).collect();
        let place = |place: &Place| {
            let text = place.to_string();
            let below = Path::new(&text).strip_prefix(dir).unwrap().to_owned();
            below.display().to_string()
        };
        expand(&inputs, Source::Traces)
            .unwrap()
            .iter()
            .map(place)
            .collect()
    }

    /// Goal: arguments become files as documented. Method: a tree with what is a trace by name, and what is not.
    #[test]
    fn arguments_are_expanded() {
        let dir = tree();
        let dir = dir.path();
        assert_eq!(
            names(dir, &["a2.atrace", "nosuch"]),
            ["a2.atrace", "nosuch"]
        );
        assert_eq!(names(dir, &["a?.atrace"]), ["a1.atrace", "a2.atrace"]);
        assert_eq!(names(dir, &["*/*.atrace"]), ["b/x.atrace"]);
        assert_eq!(
            names(dir, &["b/?", "b/*.atrace"]),
            ["b/c/y.atrace", "b/x.atrace"]
        );
        assert_eq!(
            names(dir, &[""]),
            [
                ".hidden.atrace",
                "a1.atrace",
                "a2.atrace",
                "a3.atrace.partial",
                "b/c/y.atrace",
                "b/x.atrace"
            ]
        );
    }

    /// Goal: a name with a star in it is a name when there is such a file.
    #[test]
    fn a_file_goes_before_a_pattern() {
        let dir = tree();
        std::fs::write(dir.path().join("a*.atrace"), "").unwrap();
        assert_eq!(names(dir.path(), &["a*.atrace"]), ["a*.atrace"]);
    }

    /// Goal: what stands for nothing is refused, with a way out.
    #[test]
    fn nothing_is_an_error() {
        let dir = tree();
        std::fs::create_dir(dir.path().join("empty")).unwrap();
        for input in ["empty", "z*.atrace"] {
            let failure = expand(&[dir.path().join(input)], Source::Traces).unwrap_err();
            let text = report(&failure.into()).1.unwrap();
            assert!(
                text.contains(input) && text.contains("\n  next: "),
                "{text}"
            );
        }
        assert!(expand(&["-".into(), "-".into()], Source::Traces).is_err());
        let logs = Source::Logs(Tool::Tracee);
        assert!(expand(&[dir.path().to_owned()], logs).is_err());
    }
}
