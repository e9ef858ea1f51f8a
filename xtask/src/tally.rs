//! Counts of what passed and failed, from every kind of test.

use std::ops::AddAssign;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// Counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
    /// The failed ones, with what was wrong.
    pub(crate) failures: Vec<String>,
}

impl Tally {
    /// One check.
    pub(crate) fn of(name: &str, result: &Result<()>) -> Self {
        match result {
            Ok(()) => Self {
                passed: 1,
                ..Self::default()
            },
            Err(error) => Self::failure(format!("{name}: {error:#}")),
        }
    }

    /// One failure.
    pub(crate) fn failure(what: String) -> Self {
        Self {
            failed: 1,
            failures: vec![what],
            ..Self::default()
        }
    }

    /// Reads the results file of a scenario run. `prefix` says where it ran.
    ///
    /// The second value is the exit code that a guest wrote last, if it did.
    pub(crate) fn of_results(path: &Path, prefix: &str) -> Result<(Self, Option<i32>)> {
        let text = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        let (mut tally, mut exit) = (Self::default(), None);
        for line in String::from_utf8_lossy(&text)
            .lines()
            .filter(|line| !line.trim().is_empty())
        {
            match serde_json::from_str(line) {
                Ok(Line::Exit { exit: code }) => exit = Some(code),
                // Heard while the guest ran.
                Ok(Line::Memory { .. }) => {}
                Ok(Line::Case {
                    case,
                    verdict,
                    detail,
                }) => match verdict {
                    Verdict::Passed => tally.passed += 1,
                    Verdict::Skipped => tally.skipped += 1,
                    Verdict::Failed => {
                        tally += Self::failure(format!("{prefix}/{case}: {detail}"));
                    }
                },
                Err(error) => {
                    tally += Self::failure(format!("{prefix}: bad result {line:?}: {error}"));
                }
            }
        }
        Ok((tally, exit))
    }

    /// Reads what `cargo test` printed.
    pub(crate) fn of_cargo_test(output: &str) -> Self {
        let mut tally = Self::default();
        for line in output.lines() {
            if let Some(counts) = line.strip_prefix("test result: ") {
                let number = |unit: &str| {
                    let before = counts.split(unit).next().unwrap_or_default();
                    before
                        .split_whitespace()
                        .last()
                        .and_then(|word| word.parse().ok())
                        .unwrap_or(0)
                };
                tally.passed += number(" passed");
                tally.failed += number(" failed");
                tally.skipped += number(" ignored");
            } else if let Some(name) = line.strip_suffix(" ... FAILED") {
                tally.failures.push(name.to_owned());
            }
        }
        tally
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.failures.extend(other.failures);
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Exit {
        exit: i32,
    },
    Memory {
        #[serde(rename = "memory")]
        _memory: IgnoredAny,
    },
    Case {
        case: String,
        verdict: Verdict,
        #[serde(default)]
        detail: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Passed,
    Failed,
    Skipped,
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::Tally;

    /// Goal: a guest's results are counted, and its other lines are not. Method: one line of each kind, and a broken one.
    #[test]
    fn results_are_counted() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let lines = [
            r#"{"case":"a","verdict":"passed","detail":"","millis":1}"#,
            r#"{"memory":[{"address":1,"bytes":[2]}]}"#,
            r#"{"case":"b","verdict":"skipped","detail":"needs X","millis":0}"#,
            r#"{"ca"#,
            r#"{"exit":1}"#,
        ];
        file.write_all(lines.join("\n").as_bytes()).unwrap();
        let (tally, exit) = Tally::of_results(file.path(), "guest").unwrap();
        assert_eq!((tally.passed, tally.failed, tally.skipped), (1, 1, 1));
        assert_eq!(exit, Some(1));
    }

    /// Goal: totals are right. Method: two result lines and a failed test as libtest prints them.
    #[test]
    fn cargo_test_output_is_counted() {
        let tally = Tally::of_cargo_test(
            "test a::b ... ok\ntest a::c ... FAILED\n\
             test result: FAILED. 1 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out\n\
             test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n",
        );
        assert_eq!((tally.passed, tally.failed, tally.skipped), (6, 1, 2));
        assert_eq!(tally.failures, ["test a::c"]);
    }
}
