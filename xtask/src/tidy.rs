//! Checks what compilers cannot: which layer may touch what, and what a reader needs.
//!
//! The architecture's invariants are absences (no clock in the engine, no aya outside the sensor); an absence is
//! checked by looking at every file. Sizes are printed, never enforced.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::project;

/// Check what the compiler cannot.
#[derive(clap::Args)]
pub(crate) struct Args {}

/// Runs the task.
pub(crate) fn run(_: &Args) -> Result<()> {
    check()
}

/// A text that must not occur in some files.
struct Absence {
    text: &'static str,
    /// Part of the paths that this is about.
    within: &'static [&'static str],
    /// Part of the paths that are excepted.
    except: &'static [&'static str],
    why: &'static str,
}

const fn pure(text: &'static str) -> Absence {
    let within = &[
        "auditor/src/model",
        "auditor/src/engine",
        "auditor/src/import",
    ];
    Absence {
        text,
        within,
        except: &[],
        why: "model, engine and import are pure",
    }
}

const ABSENCES: [Absence; 13] = [
    pure("std::fs"),
    pure("std::net"),
    pure("Instant::now"),
    pure("SystemTime"),
    pure("tokio"),
    pure("std::process"),
    pure("libc::"),
    pure("aya::"),
    Absence {
        text: "aya::",
        within: &["auditor/src"],
        except: &["auditor/src/sensor"],
        why: "only the sensor knows aya",
    },
    Absence {
        text: concat!("#[", "allow("),
        within: &[""],
        except: &[],
        why: "say why, with #[expect(lint, reason = …)]",
    },
    Absence {
        text: concat!("#![", "allow("),
        within: &[""],
        except: &[],
        why: "say why",
    },
    Absence {
        text: concat!("/wo", "rk/"),
        within: &[""],
        except: &[],
        why: "no path of one machine belongs here",
    },
    Absence {
        text: concat!("/ro", "ot/."),
        within: &[""],
        except: &[],
        why: "no path of one machine belongs here",
    },
];

/// Fails when something is untidy; prints the largest files and functions.
pub(crate) fn check() -> Result<()> {
    let mut problems = Vec::new();
    let mut sizes = Vec::new();
    let mut functions = Vec::new();
    for path in sources()? {
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let name = path
            .strip_prefix(project::root())
            .unwrap_or(&path)
            .display()
            .to_string();
        problems.extend(look(&name, &text));
        sizes.push((text.lines().count(), name.clone()));
        functions.extend(long_functions(&name, &text));
    }
    print_largest("files", sizes);
    print_largest("functions", functions);
    for problem in &problems {
        eprintln!("{problem}");
    }
    ensure!(problems.is_empty(), "{} untidy places", problems.len());
    Ok(())
}

/// Every file that git knows and that is Rust.
fn sources() -> Result<Vec<PathBuf>> {
    let mut git = std::process::Command::new("git");
    git.current_dir(project::root()).args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "*.rs",
    ]);
    let list = project::output(&mut git)?;
    Ok(list
        .lines()
        .map(|line| project::root().join(line))
        .filter(|path| path.is_file())
        .collect())
}

fn look(name: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if !text.trim_start().starts_with("//!") {
        problems.push(format!(
            "{name}:1: a file starts with why it exists (`//!`)"
        ));
    }
    for (number, line) in code_before_tests(name, text) {
        for absence in &ABSENCES {
            let matches = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
            if line.contains(absence.text) && matches(absence.within) && !matches(absence.except) {
                problems.push(format!(
                    "{name}:{number}: `{}`: {}",
                    absence.text, absence.why
                ));
            }
        }
        if line.contains(concat!(".unw", "rap()")) {
            problems.push(format!("{name}:{number}: no unwrap outside tests"));
        }
        if name.starts_with("auditor-ebpf/") && is_offset_literal(line) {
            problems.push(format!(
                "{name}:{number}: offsets come from BTF, not from literals"
            ));
        }
    }
    problems
}

/// Numbered lines that are neither comments nor test code. Test modules stand last in a file.
fn code_before_tests<'a>(name: &str, text: &'a str) -> Vec<(usize, &'a str)> {
    let is_test_file =
        name.ends_with("/tests.rs") || name.contains("/tests/") && !name.starts_with("tests/");
    if is_test_file || name.starts_with("tests/tests/") || name.contains("/benches/") {
        return Vec::new();
    }
    let inline_tests = |line: &str| line.trim_start().ends_with("mod tests {");
    (text.lines().enumerate())
        .map(|(index, line)| (index + 1, line))
        .take_while(|(_, line)| !inline_tests(line))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .collect()
}

/// `.add(2824)`, `.offset(16)`, `+ 0x58) as *const`: a number where a resolved field belongs. Small numbers step
/// through buffers.
fn is_offset_literal(line: &str) -> bool {
    const SMALL: u64 = 64;
    [".add(", ".byte_add(", ".offset(", ".byte_offset("]
        .iter()
        .any(|call| {
            line.split(call).skip(1).any(|rest| {
                let number = rest.split(')').next().unwrap_or_default().replace('_', "");
                number.parse::<u64>().is_ok_and(|number| number > SMALL)
            })
        })
}

/// Length of each function: from `fn` to the brace at the same indentation, as rustfmt writes it.
fn long_functions(name: &str, text: &str) -> Vec<(usize, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let is_function = |line: &str| {
        let words = line.trim_start();
        !words.starts_with("//")
            && (words.starts_with("fn ") || words.contains(" fn "))
            && !words.ends_with(';')
    };
    let measure = |(start, line): (usize, &&str)| {
        if !is_function(line) {
            return None;
        }
        let closes =
            |other: &&str| indent(other) == indent(line) && other.trim_start().starts_with('}');
        let length = lines[start..].iter().position(closes)? + 1;
        let title = line.split("fn ").nth(1)?.split(['(', '<']).next()?;
        Some((length, format!("{name}:{}: {title}", start + 1)))
    };
    lines.iter().enumerate().filter_map(measure).collect()
}

fn print_largest(what: &str, mut sizes: Vec<(usize, String)>) {
    const SHOWN: usize = 5;
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    let median = sizes.get(sizes.len() / 2).map_or(0, |(length, _)| *length);
    println!("longest {what} (median {median} lines):");
    for (length, name) in sizes.iter().take(SHOWN) {
        println!("  {length:>5} {name}");
    }
}

#[cfg(test)]
mod tests {
    use super::{is_offset_literal, look};

    /// Goal: each absence is noticed, and only in its layer. Method: one line in two files.
    #[test]
    fn layers_are_kept_apart() {
        let text = "//! Why.\nuse std::fs::File;\n";
        assert_eq!(look("auditor/src/engine/mod.rs", text).len(), 1);
        assert!(look("auditor/src/sink/jsonl.rs", text).is_empty());
    }

    /// Goal: tests may do what code may not. Method: an unwrap in both.
    #[test]
    fn tests_are_not_code() {
        let text = "//! Why.\nfn f() { g().unwrap() }\n#[cfg(test)]\nmod tests {\n x.unwrap()\n}\n";
        assert_eq!(look("auditor/src/cli/mod.rs", text).len(), 1);
    }

    /// Goal: kernel offsets are caught, steps through buffers are not. Method: one of each.
    #[test]
    fn offset_literals_are_found() {
        assert!(is_offset_literal("let x = task.byte_add(2_824);"));
        assert!(!is_offset_literal("let x = buffer.add(8);"));
        assert!(!is_offset_literal("let x = task.byte_add(offset);"));
    }
}
