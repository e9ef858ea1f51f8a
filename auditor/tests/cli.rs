//! The binary as a shell sees it: exit codes, streams, precedence, closed pipes.
#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test may fail like the test"
)]

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

fn auditor() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_auditor"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AUDITOR_") {
            command.env_remove(name);
        }
    }
    command.env_remove("NO_COLOR").stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    auditor().args(args).output().unwrap()
}

fn with_stdin(args: &[&str], input: &str) -> Output {
    let mut child = auditor()
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn file(dir: &tempfile::TempDir, name: &str, content: &str) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, content).unwrap();
    path
}

/// Goal: help and version are data (stdout, 0); wrong usage is not (stderr, 2).
#[test]
fn help_version_and_usage() {
    for args in [
        &["--help"][..],
        &["watch", "--help"],
        &["scan", "--help"],
        &["policy", "check", "-h"],
    ] {
        let out = run(args);
        assert_eq!(out.status.code(), Some(0), "{args:?}");
        assert!(!out.stdout.is_empty() && out.stderr.is_empty(), "{args:?}");
    }
    let help = run(&["--help"]);
    assert!(text(&help.stdout).contains("Exit codes:"));
    assert!(!text(&help.stdout).contains("self-test-helper"));
    let version = run(&["--version"]);
    assert!(text(&version.stdout).contains(env!("CARGO_PKG_VERSION")));
    assert!(text(&version.stdout).contains("ABI"));
    for args in [
        &[][..],
        &["wach"],
        &["watch", "--sweep", "5"],
        &["watch", "--ring-size", "3MiB"],
    ] {
        let out = run(args);
        assert_eq!(out.status.code(), Some(2), "{args:?}");
        assert!(out.stdout.is_empty() && !out.stderr.is_empty(), "{args:?}");
    }
}

/// Goal: a reader that hung up ends the command quietly, with 0. The pipe is closed before the
/// command starts, so that it cannot win the race.
#[test]
fn a_closed_pipe_is_quiet() {
    for args in [
        &["schema"][..],
        &["completions", "bash"],
        &["policy", "print-default"],
        &["explain", "drift"],
        &["--help"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let child = auditor()
            .args(args)
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = child.wait_with_output().unwrap();
        assert_eq!(out.status.code(), Some(0), "{args:?}");
        assert_eq!(text(&out.stderr), "", "{args:?}");
    }
}

/// Goal: a full disk is an error, not a success. /dev/full refuses every write.
#[test]
fn a_full_disk_is_an_error() {
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let out = auditor()
        .arg("schema")
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(
        text(&out.stderr).contains("standard output"),
        "{}",
        text(&out.stderr)
    );
}

/// Goal: flag > environment > file > default, seen through the colour of the output.
#[test]
fn precedence() {
    let dir = tempfile::tempdir().unwrap();
    let always = file(&dir, "always.toml", "color = \"always\"\n");
    let coloured = |command: &mut Command| {
        let out = command.args(["explain", "drift"]).output().unwrap();
        assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
        text(&out.stdout).contains('\x1b')
    };
    assert!(!coloured(&mut auditor()), "a pipe gets no colour");
    assert!(
        coloured(auditor().arg("--config").arg(&always)),
        "file over default"
    );
    assert!(
        coloured(auditor().env("AUDITOR_CONFIG", &always)),
        "the file may be named by environment"
    );
    let mut command = auditor();
    assert!(
        !coloured(
            command
                .env("AUDITOR_CONFIG", &always)
                .env("AUDITOR_COLOR", "never")
        ),
        "environment over file"
    );
    let mut command = auditor();
    assert!(
        coloured(command.env("AUDITOR_COLOR", "never").arg("--color=always")),
        "flag over environment"
    );
}

/// Goal: mistakes in file and environment are refused, with their place.
#[test]
fn mistakes_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let bad = file(&dir, "bad.toml", "color = \"never\"\nswep = \"1s\"\n");
    let out = auditor()
        .arg("--config")
        .arg(&bad)
        .args(["explain", "drift"])
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(
        text(&out.stderr).contains("bad.toml:2:1: unknown field `swep`"),
        "{}",
        text(&out.stderr)
    );
    assert!(text(&out.stderr).contains("\n  next: "));
    let out = auditor()
        .env("AUDITOR_TIER", "fast")
        .arg("watch")
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(2));
    let out = auditor()
        .env("AUDITOR_SWEPE", "1s")
        .args(["explain", "drift"])
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(0));
    assert!(
        text(&out.stderr).contains("AUDITOR_SWEPE"),
        "{}",
        text(&out.stderr)
    );
}

/// Goal: a policy is checked before anything else happens, in `check` and in `watch`.
#[test]
fn policies_are_checked() {
    let out = run(&["policy", "print-default"]);
    assert_eq!(out.status.code(), Some(0));
    let again = with_stdin(&["policy", "check", "-"], text(&out.stdout));
    assert_eq!(again.status.code(), Some(0), "{}", text(&again.stderr));
    assert!(text(&again.stdout).starts_with("valid: "));
    let dir = tempfile::tempdir().unwrap();
    let bad = file(&dir, "bad.toml", "[defaults]\nrequierd = []\n");
    let bad = bad.to_str().unwrap();
    for args in [
        &["policy", "check", bad][..],
        &["watch", "--policy", bad],
        &["scan", "--policy", bad],
    ] {
        let out = run(args);
        assert_eq!(out.status.code(), Some(2), "{args:?}");
        assert!(
            text(&out.stderr).contains("bad.toml:2:"),
            "{args:?}: {}",
            text(&out.stderr)
        );
    }
    let out = run(&["policy", "check", "/nonexistent.toml"]);
    assert_eq!(out.status.code(), Some(2));
}

/// Goal: schemas are JSON Schema, for each subject.
#[test]
fn schemas() {
    for args in [
        &["schema"][..],
        &["schema", "change"],
        &["schema", "scan"],
        &["schema", "doctor"],
    ] {
        let out = run(args);
        assert_eq!(out.status.code(), Some(0));
        let schema: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        jsonschema::validator_for(&schema).unwrap();
    }
}

/// Goal: `explain` answers a rule, a line by every way in, and says where a bad line is bad.
#[test]
fn explain() {
    let page = include_str!("../../docs/rules/namespace-join.md");
    let line = page.lines().skip_while(|l| *l != "```json").nth(1).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "lines.jsonl", &format!("{line}\n\n{line}\n"));
    let from_file = run(&["explain", path.to_str().unwrap()]);
    assert_eq!(text(&from_file.stdout).matches("Why it matters").count(), 2);
    for out in [
        with_stdin(&["explain", "-"], line),
        with_stdin(&["explain"], line),
        run(&["explain", line]),
        run(&["explain", "namespace-join"]),
    ] {
        assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
        assert_eq!(text(&out.stdout).matches("Why it matters").count(), 1);
    }
    let out = with_stdin(
        &["explain"],
        &format!("{line}\n{{\"schema\":\"auditor/1\",}}\n"),
    );
    assert_eq!(out.status.code(), Some(2));
    assert!(
        text(&out.stderr).contains("line 2 of stdin"),
        "{}",
        text(&out.stderr)
    );
    assert!(
        text(&out.stderr).contains("column 23"),
        "{}",
        text(&out.stderr)
    );
    let out = run(&["explain", "namespace-jion"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(
        text(&out.stderr).contains("namespace-join"),
        "{}",
        text(&out.stderr)
    );
    assert_eq!(with_stdin(&["explain"], "").status.code(), Some(2));
}
