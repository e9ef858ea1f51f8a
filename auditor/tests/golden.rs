//! Golden traces: each was recorded in a guest of its own kernel, by the format of its directory. Goal: this version
//! reads all of them and says what their lines are. Method: replay each and compare every byte.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest format; one directory for each since.
const FORMATS: [&str; 2] = ["1", "2"];
const LINES: &str = "lines.jsonl";

#[test]
fn golden_traces_give_their_lines() {
    for format in FORMATS {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/traces");
        let entries = std::fs::read_dir(root.join(format)).unwrap();
        let mut directories: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        directories.sort();
        assert!(directories.len() >= 4, "one for each kernel of the matrix");
        for directory in directories {
            let output = Command::new(env!("CARGO_BIN_EXE_auditor"))
                .args(["replay", "--format", "json"])
                .arg(&directory)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(
                output.status.code(),
                Some(1),
                "{}: {said}",
                directory.display()
            );
            let lines = String::from_utf8(output.stdout).unwrap();
            let golden = directory.join(LINES);
            if std::env::var_os("AUDITOR_GOLDEN").is_some_and(|v| v == "write") {
                std::fs::write(&golden, &lines).unwrap();
            }
            let want = std::fs::read_to_string(&golden).unwrap();
            for (number, (want, have)) in want.lines().zip(lines.lines()).enumerate() {
                assert_eq!(have, want, "{}:{}", golden.display(), number + 1);
            }
            assert_eq!(lines.len(), want.len(), "{}", golden.display());
        }
    }
}
