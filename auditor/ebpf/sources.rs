//! What the committed object was built from, as one hash. Included by `auditor/build.rs`, which refuses a stale
//! object, and by `cargo xtask ebpf`, which writes and checks the sidecar: both must count the same files.

use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// Files and directories that decide what the object is, below the repository's root.
pub(crate) const SOURCES: [&str; 5] = [
    "auditor-common/Cargo.toml",
    "auditor-common/src",
    "auditor-ebpf/Cargo.lock",
    "auditor-ebpf/Cargo.toml",
    "auditor-ebpf/src",
];

/// SHA-256 over the sorted paths of all sources, with their lengths and contents.
pub(crate) fn hash(root: &Path) -> io::Result<String> {
    let mut files = Vec::new();
    for source in SOURCES {
        walk(&root.join(source), &mut files)?;
    }
    files.sort();
    let mut hasher = Sha256::new();
    for file in files {
        let contents = std::fs::read(&file)?;
        let name = file.strip_prefix(root).unwrap_or(&file).to_string_lossy();
        hasher.update(format!("{name}\0{}\0", contents.len()));
        hasher.update(contents);
    }
    Ok(hex(&hasher.finalize()))
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The value of a `key = "value"` line of the sidecar.
pub(crate) fn value<'a>(sidecar: &'a str, key: &str) -> Option<&'a str> {
    sidecar.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == key).then(|| value.trim().trim_matches('"'))
    })
}

fn walk(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in std::fs::read_dir(path)? {
        walk(&entry?.path(), files)?;
    }
    Ok(())
}
