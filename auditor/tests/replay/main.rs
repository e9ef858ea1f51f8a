//! `auditor replay` as a shell sees it. Goal: the lines of a watch, whatever became of its recording, and the
//! truth about what is missing. Method: a simulated node is watched and recorded by the parts that do so live; then
//! the program replays the files, whole, in pieces, damaged and mixed.
#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test may fail like the test"
)]

mod story;

use auditor::model::NsKind;
use auditor::model::output::{Change, Changed, Record};
use auditor::sink::jsonl;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use story::Story;

/// What came of a call.
#[derive(Debug, PartialEq, Eq)]
struct Ran {
    code: i32,
    lines: Vec<String>,
    log: String,
}

fn auditor() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_auditor"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AUDITOR_") {
            command.env_remove(name);
        }
    }
    command.arg("replay").stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran {
        code: output.status.code().unwrap(),
        lines: text(output.stdout).lines().map(str::to_owned).collect(),
        log: text(output.stderr),
    }
}

fn replay<A: AsRef<OsStr>>(args: &[A]) -> Ran {
    run(auditor().args(args))
}

fn piped(bytes: &[u8]) -> Ran {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    run(auditor().arg("-").stdin(file))
}

/// One recording in three parts, with something to find in each, and the lines of the watch.
fn three_parts(to: &Path, name: &str) -> (Vec<PathBuf>, Vec<String>) {
    let mut story = Story::begin(name, to);
    story.join_host(NsKind::Net);
    story.churn(5);
    story.rotate();
    story.join_host(NsKind::Uts);
    story.end_oldest();
    story.rotate();
    story.join_host(NsKind::Ipc);
    let lines = story.end();
    let stem = to.file_stem().unwrap().to_str().unwrap();
    let part = |n| to.with_file_name(format!("{stem}.0000{n}.atrace"));
    (vec![to.to_owned(), part(1), part(2)], lines)
}

fn of_type(lines: &[String], kind: &str) -> Vec<String> {
    let start = format!("{{\"type\":\"{kind}\"");
    let is_it = |line: &&String| line.starts_with(&start);
    lines.iter().filter(is_it).cloned().collect()
}

/// Goal: a recording in parts gives the very lines of its watch, however it is named.
#[test]
fn parts_give_the_lines_of_the_watch() {
    let dir = tempfile::tempdir().unwrap();
    let (parts, live) = three_parts(&dir.path().join("a.atrace"), "n1");
    assert_eq!(of_type(&live, "violation").len(), 3, "{live:#?}");
    let reversed: Vec<&PathBuf> = parts.iter().rev().collect();
    let pattern = dir.path().join("a*.atrace");
    let together: Vec<u8> = parts
        .iter()
        .flat_map(|part| std::fs::read(part).unwrap())
        .collect();
    for ran in [
        replay(&reversed),
        replay(&[dir.path()]),
        replay(&[&pattern]),
        // Twice the same file.
        replay(&[dir.path(), &parts[1]]),
        piped(&together),
    ] {
        assert_eq!(ran.lines, live);
        assert_eq!((ran.code, ran.log.as_str()), (1, ""));
    }
    // A part that comes through a pipe is read with those that lie in files.
    let first = std::fs::File::open(&parts[0]).unwrap();
    let mixed = run(auditor().args(&parts[1..]).arg("-").stdin(first));
    assert_eq!((mixed.lines, mixed.log.as_str()), (live, ""));
}

/// Goal: many recordings come in one order, whatever runs first, each as it comes alone.
#[test]
fn recordings_come_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut want = Vec::new();
    for (index, name) in ["n1", "n2", "n3", "n4", "n5"].into_iter().enumerate() {
        // Names of files, and lengths, are in another order than nodes.
        let path = dir.path().join(format!("{}.atrace", 9 - index));
        let mut story = Story::begin(name, &path);
        story.churn((5 - index) * 20);
        story.join_host(NsKind::Net);
        want.extend(story.end());
    }
    let first = replay(&[dir.path()]);
    assert_eq!(first.lines, want);
    assert_eq!(first.log, "");
    for _ in 0..3 {
        assert_eq!(replay(&[dir.path()]), first);
    }
    let table = replay(&[dir.path().as_os_str(), OsStr::new("--format=table")]);
    let heading = |line: &&String| line.contains("recorded from 1970-01-01T00:16:40Z");
    let headings: Vec<&String> = table.lines.iter().filter(heading).collect();
    assert_eq!(headings.len(), 5);
    assert!(headings[4].starts_with("n5, "), "{headings:?}");
}

/// Goal: what is missing between parts is said, and what is there is told.
#[test]
fn gaps_are_said() {
    let dir = tempfile::tempdir().unwrap();
    let (parts, live) = three_parts(&dir.path().join("a.atrace"), "n1");
    let gap = replay(&[&parts[0], &parts[2]]);
    assert_eq!(gap.code, 4);
    assert!(gap.log.starts_with("warning: "), "{}", gap.log);
    assert!(
        gap.log.contains("a.00002.atrace: part 1 is missing"),
        "{}",
        gap.log
    );
    assert_eq!(of_type(&gap.lines, "start").len(), 2);
    assert_eq!(gap.lines[..2], live[..2]);
    assert_eq!(
        of_type(&gap.lines, "violation").len(),
        2,
        "{:#?}",
        gap.lines
    );
    // The last part alone is no loss: nobody asked for more.
    let last = replay(&parts[2..]);
    assert_eq!(last.code, 1);
    assert!(last.log.starts_with("note: "), "{}", last.log);
    assert!(
        last.log.contains("parts 0 to 1 are missing"),
        "{}",
        last.log
    );
    assert_eq!(of_type(&last.lines, "violation").len(), 1);
    let first = replay(&parts[..1]);
    assert!(live.starts_with(&first.lines));
    assert!(
        first.log.contains("it goes on after the last part"),
        "{}",
        first.log
    );
}

/// Goal: damage and cuts are said with their place, and cost only what lies behind them.
#[test]
fn damage_costs_what_lies_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (parts, live) = three_parts(&dir.path().join("a.atrace"), "n1");
    let whole = std::fs::read(&parts[0]).unwrap();
    let alone = replay(&parts[..1]).lines;
    let end = whole.len() - 16;
    let index_at = u64::from_le_bytes(*whole[end..].first_chunk().unwrap()) as usize;
    let frame_at = |before: usize| {
        let found = whole[..before].windows(4).rposition(|w| w == b"AFRM");
        found.unwrap()
    };
    let last_frame = frame_at(index_at);
    let replay_as = |bytes: &[u8]| {
        std::fs::write(&parts[0], bytes).unwrap();
        replay(&parts[..1])
    };

    let mut damaged = whole.clone();
    damaged[last_frame + 50] ^= 1;
    let ran = replay_as(&damaged);
    assert_eq!(ran.code, 2);
    let want = format!(
        "error: cannot replay {}: byte {last_frame}: ",
        parts[0].display()
    );
    assert!(
        ran.log.contains(&want) && ran.log.contains("\n  next: "),
        "{}",
        ran.log
    );
    assert!(!ran.lines.is_empty() && alone.starts_with(&ran.lines));

    // What follows a damaged part is replayed all the same.
    let ran = replay(&parts);
    assert_eq!(ran.code, 2);
    assert!(
        ran.log.contains("part 0 could not be read to its end"),
        "{}",
        ran.log
    );
    // The new engine finds the first join as a state that is there.
    assert_eq!(
        of_type(&ran.lines, "violation").len(),
        4,
        "{:#?}",
        ran.lines
    );
    assert!(of_type(&ran.lines, "stop").last() == ran.lines.last());

    let cut = replay_as(&whole[..last_frame + 50]);
    assert_eq!(cut.code, 4);
    let place = format!("the 50 bytes from byte {last_frame} on");
    assert!(
        cut.log.contains(&place) && cut.log.contains("unfinished"),
        "{}",
        cut.log
    );
    assert_eq!(cut.lines, replay_as(&damaged).lines);

    // Killed between two frames: nothing is known to be lost.
    let killed = replay_as(&whole[..index_at]);
    assert_eq!((killed.code, &killed.lines), (1, &alone));
    assert!(
        killed.log.starts_with("note: ") && killed.log.contains("unfinished"),
        "{}",
        killed.log
    );

    let behind = replay_as(&[&whole[..], b"more"].concat());
    assert_eq!((behind.code, &behind.lines), (2, &alone));
    assert!(live.starts_with(&alone));
}

/// Goal: what is no trace does not keep others from being replayed.
#[test]
fn strangers_are_refused_and_others_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let (_, live) = three_parts(&dir.path().join("a.atrace"), "n1");
    std::fs::write(dir.path().join("z.atrace"), "# a policy?").unwrap();
    std::fs::write(dir.path().join("empty.atrace.partial"), "").unwrap();
    let ran = replay(&[dir.path()]);
    assert_eq!((ran.code, ran.lines), (2, live));
    assert!(ran.log.contains("z.atrace: not a trace"), "{}", ran.log);
    assert!(!ran.log.contains("empty"), "{}", ran.log);
    let none = replay(&["/nonexistent.atrace"]);
    assert!(none.code == 2 && none.lines.is_empty(), "{none:?}");
    let none = piped(b"");
    assert!(
        none.code == 2 && none.log.contains("standard input"),
        "{none:?}"
    );
}

/// Goal: lost evidence outranks what was found, but that a line found no reader is no lost evidence.
#[test]
fn losses_decide_the_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let code = |name: &str, tell: fn(&mut Story)| {
        let path = dir.path().join(name);
        let mut story = Story::begin("n1", &path);
        tell(&mut story);
        let live = story.end();
        let ran = replay(&[&path]);
        assert_eq!(ran.lines, live);
        assert_eq!(
            ran.code == 4,
            ran.log.contains("events were lost"),
            "{}",
            ran.log
        );
        ran.code
    };
    assert_eq!(code("clean", |_| {}), 0);
    assert_eq!(code("found", |s| s.join_host(NsKind::Net)), 1);
    assert_eq!(code("sink", |s| s.lose("sink", 3)), 0);
    let both = |s: &mut Story| {
        s.lose("ring", 3);
        s.join_host(NsKind::Net);
    };
    assert_eq!(code("both", both), 4);
}

/// Goal: filters choose lines and the exit code, and change nothing in a line.
#[test]
fn filters_choose_lines() {
    let dir = tempfile::tempdir().unwrap();
    let (_, live) = three_parts(&dir.path().join("a.atrace"), "n1");
    let filtered = |flags: &[&str]| {
        let ran = run(auditor().arg(dir.path()).args(flags));
        assert!(
            ran.lines.iter().all(|line| live.contains(line)),
            "{flags:?}"
        );
        ran
    };
    let found = of_type(&live, "violation");
    let joins = filtered(&["--rule=namespace-join", "--severity=info"]);
    assert_eq!((joins.code, &joins.lines), (1, &found));
    let clean = filtered(&["--rule=foreign-root"]);
    assert_eq!(
        (clean.code, clean.lines.len(), clean.log.as_str()),
        (0, 0, "")
    );
    assert_eq!(filtered(&["--severity=critical"]).lines.len(), 3);

    let record = |line: &String| jsonl::decode(line).unwrap();
    let Record::Violation(second) = record(&found[1]) else {
        panic!("{}", found[1])
    };
    let of_second = filtered(&["--entity", &second.subject.id, "--rule=namespace-join"]);
    assert!(of_second.lines.contains(&found[1]) && of_second.lines.len() < 3);
    let nobody = filtered(&["--entity=wbe"]);
    assert_eq!((nobody.code, nobody.lines.len()), (0, 0));
    assert!(
        nobody.log.contains("no line names \"wbe\""),
        "{}",
        nobody.log
    );

    let time = second.head.time.as_str();
    let since = filtered(&["--since", time]);
    let until = filtered(&["--until", time]);
    assert_eq!(since.lines.first(), Some(&found[1]));
    assert_eq!(until.lines.last(), Some(&found[1]));
    assert_eq!(since.lines.len() + until.lines.len(), live.len() + 1);
    let end_ns = record(live.last().unwrap()).head().boottime_ns;
    let recent = filtered(&["--since", "-1s"]);
    let last_second = |line: &&String| record(line).head().boottime_ns + 1_000_000_000 >= end_ns;
    let want: Vec<String> = live.iter().filter(last_second).cloned().collect();
    assert!(!want.is_empty() && want.len() < live.len());
    assert_eq!(recent.lines, want);
    let first = std::fs::read(dir.path().join("a.atrace")).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&first).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    // A file on standard input has an end, but a pipe has none: they are not told apart.
    let piped = run(auditor().args(["-", "--since=1s"]).stdin(file));
    assert!(
        piped.code == 2 && piped.log.contains("--since and --until as times"),
        "{piped:?}"
    );
}

/// Goal: another policy gives the lines that it would have given, and a comparison exactly the difference.
#[test]
fn policies_can_be_compared() {
    let dir = tempfile::tempdir().unwrap();
    let (_, live) = three_parts(&dir.path().join("a.atrace"), "n1");
    let policy = |name: &str, dimension: &str| {
        let path = dir.path().join(name);
        let text = format!(
            "[[allow]]\nrule = \"namespace-join\"\nsubject = \"*\"\ndimension = \"{dimension}\"\nreason = \"x\"\n"
        );
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (net, uts) = (policy("net.toml", "net"), policy("uts.toml", "uts"));
    let with = |flags: &[&str]| run(auditor().arg(dir.path()).args(flags));
    let found = of_type(&live, "violation");
    let alone = with(&["--policy", &net]);
    assert_eq!(
        (alone.code, of_type(&alone.lines, "violation").len()),
        (1, 2)
    );

    let changes = |flags: &[&str]| -> Vec<(Change, String)> {
        let ran = with(flags);
        assert_eq!(
            (ran.code, ran.log.as_str()),
            (i32::from(!ran.lines.is_empty()), "")
        );
        let told = |line: &String| {
            let Changed { change, record } = serde_json::from_str(line).unwrap();
            let Record::Violation(f) = &record else {
                panic!("{line}")
            };
            (change, f.dimension.to_string())
        };
        ran.lines.iter().map(told).collect()
    };
    let (added, removed) = (Change::Added, Change::Removed);
    assert_eq!(
        changes(&["--diff-policy", "recorded", &net]),
        [(removed, "net".to_owned())]
    );
    assert_eq!(
        changes(&["--diff-policy", &net, &uts]),
        [(added, "net".to_owned()), (removed, "uts".to_owned())]
    );
    let default = dir.path().join("default.toml");
    std::fs::write(&default, auditor::model::policy::Policy::DEFAULT_TEXT).unwrap();
    assert_eq!(
        changes(&["--diff-policy", "recorded", default.to_str().unwrap()]),
        []
    );
    let table = with(&["--diff-policy", &net, &uts, "--format=table"]);
    let signs: Vec<&str> = table.lines.iter().map(|l| &l[..2]).collect();
    assert_eq!(signs, ["+ ", "- "]);
    assert_eq!(found.len(), 3);
}

fn log_of(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/import/fixtures")
        .join(name)
}

/// Goal: what another tool has recorded is judged, and what it could not tell is said.
#[test]
fn logs_of_other_tools_are_judged() {
    let escape = log_of("tetragon-escape.jsonl");
    let from = |tool: &str, path: &Path| run(auditor().args(["--from", tool]).arg(path));
    let ran = from("tetragon", &escape);
    assert_eq!(ran.code, 1, "{}", ran.log);
    let found = of_type(&ran.lines, "violation");
    assert!(
        !found.is_empty()
            && found
                .iter()
                .all(|l| l.contains("\"confidence\":\"inferred\""))
    );
    assert!(
        ran.lines
            .last()
            .unwrap()
            .contains("\"reason\":\"end_of_log\"")
    );
    assert!(
        ran.log.contains("lines of tetragon") && ran.log.contains("not judged: "),
        "{}",
        ran.log
    );
    assert_eq!(from("tetragon", &escape), ran);
    let piped = run(auditor()
        .args(["--from=tetragon", "-"])
        .stdin(std::fs::File::open(&escape).unwrap()));
    assert_eq!((piped.code, &piped.lines), (1, &ran.lines));
    let rule = run(auditor()
        .args(["--from=tetragon", "--rule=drift"])
        .arg(&escape));
    assert_eq!((rule.code, rule.lines.len()), (0, 0));

    assert_eq!(from("falco", &log_of("falco-quiet.jsonl")).code, 0);
    let dir = tempfile::tempdir().unwrap();
    let stranger = dir.path().join("x.json");
    std::fs::write(&stranger, "no\nlog\n").unwrap();
    let ran = from("tracee", &stranger);
    assert!(ran.code == 2 && ran.log.contains("no line of"), "{ran:?}");
    let ran = from("tracee", Path::new("/nonexistent.json"));
    assert!(
        ran.code == 2 && ran.log.contains("cannot replay /nonexistent.json"),
        "{ran:?}"
    );
}

/// Goal: two policies can be compared over a log as well, which has none of its own.
#[test]
fn policies_are_compared_over_logs() {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("allow.toml");
    let allow = "[[allow]]\nrule = \"namespace-join\"\nsubject = \"*\"\nreason = \"x\"\n";
    std::fs::write(&policy, allow).unwrap();
    let escape = log_of("tetragon-escape.jsonl");
    let all = run(auditor().args(["--from=tetragon"]).arg(&escape));
    let joins = all
        .lines
        .iter()
        .filter(|l| l.contains("\"rule\":\"namespace-join\""))
        .count();
    let mut command = auditor();
    command.args(["--from=tetragon", "--diff-policy", "recorded"]);
    let ran = run(command.arg(&policy).arg(&escape));
    assert_eq!((ran.code, ran.lines.len()), (1, joins), "{:?}", ran.lines);
    assert!(
        ran.lines
            .iter()
            .all(|l| l.starts_with("{\"change\":\"removed\""))
    );
}

/// Goal: the pace changes nothing but the time. Method: a factor at which hours take no time.
#[test]
fn pace_changes_no_line() {
    let dir = tempfile::tempdir().unwrap();
    let (_, live) = three_parts(&dir.path().join("a.atrace"), "n1");
    let ran = run(auditor().arg(dir.path()).arg("--speed=1000000"));
    assert_eq!((ran.code, ran.lines), (1, live));
}

/// Goal: a signal ends a replay between two lines, and nobody takes that for the end. Method: a pace at which it
/// would take hours, and a signal after the first line.
#[test]
fn a_signal_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let (_, live) = three_parts(&dir.path().join("a.atrace"), "n1");
    let mut child = auditor()
        .arg(dir.path())
        .arg("--speed=0.001")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    lines.read_line(&mut first).unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    let out = child.wait_with_output().unwrap();
    let log = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(2), "{log}");
    assert!(log.contains("a signal ended the replay early"), "{log}");
    let told: Vec<String> = (first + &rest).lines().map(str::to_owned).collect();
    assert!(
        live.starts_with(&told) && told.len() < live.len(),
        "{told:?}"
    );
}

/// Goal: a reader that goes away ends a replay quietly. Method: a pipe that is closed before it starts.
#[test]
fn a_closed_pipe_is_quiet() {
    let dir = tempfile::tempdir().unwrap();
    three_parts(&dir.path().join("a.atrace"), "n1");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let child = auditor()
        .arg(dir.path())
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let out = child.wait_with_output().unwrap();
    assert_eq!((out.status.code(), out.stderr.len()), (Some(0), 0));
}
