//! `auditor trace` over a recording of a simulated machine: what it says of traces, and the traces that it makes.
#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test may fail like the test"
)]

mod support;

use auditor::inventory::container::{ContainerAnswer, PodIdentity, Runtime};
use auditor::model::NsKind;
use auditor::model::output::{Finding, Record};
use auditor::model::policy::Policy;
use auditor::sink::jsonl;
use auditor::trace::frame::{Next, Unpacker};
use auditor::trace::{Header, TraceReader};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use support::{Machine, replay};

const HASH: &str = "3726184226f5d3147c25fdeab5b60097e378e8a720503a5e19ecfdf29f869860";
const POLICY: &str = r#"
[[role]]
name = "zanzibar-role"
match = { name = "zanzibar-web", runtime = "*" }
[[share]]
between = ["role:zanzibar-role", "lxc:zanzibar-db"]
dimensions = ["ipc"]
reason = "zanzibar says so"
"#;
/// All names that somebody chose, and nothing else, have this in them, or are [`HASH`].
const SECRET: &str = "zanzibar";

/// A directory with a recording, and what the engine said while it was made.
struct Recorded {
    dir: tempfile::TempDir,
    said: Vec<Record>,
}

impl Recorded {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// Runs the command in the directory.
    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_auditor"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("AUDITOR_") {
                command.env_remove(name);
            }
        }
        command
            .current_dir(self.dir.path())
            .arg("trace")
            .args(args)
            .output()
            .unwrap()
    }

    /// Runs it; it must succeed. Gives stdout.
    fn ok(&self, args: &[&str]) -> String {
        let out = self.run(args);
        let error = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(0), "{args:?}: {error}");
        String::from_utf8(out.stdout).unwrap()
    }

    /// Runs it; it must fail so. Gives stderr.
    fn fails(&self, code: i32, args: &[&str]) -> String {
        let out = self.run(args);
        let error = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(code), "{args:?}: {error}");
        error
    }
}

fn web() -> ContainerAnswer {
    let path = format!("/system.slice/docker-{HASH}.scope");
    let mut web = ContainerAnswer::bare(path, Runtime::Docker, HASH.to_owned());
    web.name = Some("zanzibar-web".to_owned());
    web.image = Some("registry.zanzibar.example/web:1".to_owned());
    web.labels = [("com.zanzibar".to_owned(), "zanzibar".to_owned())].into();
    web.bundle = Some("/run/zanzibar/bundle".to_owned());
    web.pod = Some(PodIdentity {
        name: Some("zanzibar-pod".to_owned()),
        ..PodIdentity::default()
    });
    web
}

/// A minute and a half with three containers that one after the other join what is not theirs; `rotate` begins a new
/// part after each.
fn record(rotate: bool) -> Recorded {
    let dir = tempfile::tempdir().unwrap();
    let policy = Policy::parse(POLICY, "test").unwrap();
    let mut m = Machine::new("zanzibar-node", &policy, &dir.path().join("node.atrace"));
    let db_path = "/lxc.payload.zanzibar-db".to_owned();
    let db = ContainerAnswer::bare(db_path.clone(), Runtime::Lxc, "zanzibar-db".to_owned());
    m.answers.insert(web().cgroup_path, web());
    m.answers.insert(db_path.clone(), db);
    let web = m.run(11, &web().cgroup_path, "/opt/zanzibar/bin/zanzibar-server");
    let db = m.run(12, &db_path, "/usr/bin/zanzibar-store");
    let unknown = m.run(13, "/zanzibar/jobs/one", "/bin/sh");
    m.wait(20);
    m.setns(web, 1, NsKind::Net);
    m.wait(10);
    if rotate {
        m.rotate();
    }
    let worker = m.fork(db);
    m.exec(worker, "/usr/bin/zanzibar-worker");
    m.setns(worker, 1, NsKind::Uts);
    // The policy expects this.
    m.setns(web, db, NsKind::Ipc);
    m.wait(20);
    m.setns(unknown, db, NsKind::Net);
    m.wait(5);
    m.exit(worker);
    if rotate {
        m.rotate();
    }
    m.wait(5);
    m.setns(unknown, 1, NsKind::Ipc);
    m.wait(30);
    let said = m.stop();
    Recorded { dir, said }
}

fn findings(records: &[Record]) -> Vec<&Finding> {
    let found = records.iter().filter_map(|record| match record {
        Record::Violation(finding) => Some(finding),
        _ => None,
    });
    found.map(AsRef::as_ref).collect()
}

fn lines(records: &[Record]) -> Vec<String> {
    records.iter().map(|r| jsonl::encode(r).unwrap()).collect()
}

fn json(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Goal: the machine of these tests does what they are about. Method: what was said live is what a replay says, and
/// there are violations in each third of the time.
#[test]
fn the_recording_is_one() {
    let recorded = record(false);
    assert_eq!(
        lines(&replay(&[&recorded.bytes("node.atrace")])),
        lines(&recorded.said)
    );
    let found = findings(&recorded.said);
    assert!(found.len() >= 4, "{found:#?}");
    let at = |s: u64| (support::BEGAN_S + s) * 1_000_000_000;
    for (from, to) in [(0, 25), (25, 45), (45, 95)] {
        let inside = |f: &&&Finding| (at(from)..at(to)).contains(&f.head.boottime_ns);
        assert!(found.iter().any(|f| inside(&f)), "{from} to {to}");
    }
}

/// Goal: numbers are those of what happened. Method: count the kinds in the JSON of `cat`, compare with `info`; and the
/// starts of programs with the story.
#[test]
fn info_counts() {
    let recorded = record(false);
    let info = &json(&recorded.ok(&["info", "--format", "json", "node.atrace"]))[0];
    let entries = json(&recorded.ok(&["cat", "node.atrace"]));
    for (kind, count) in info["counts"].as_object().unwrap() {
        let have = entries.iter().filter(|e| e["kind"] == **kind).count();
        assert_eq!(count.as_u64(), Some(have as u64), "{kind}");
    }
    assert_eq!(info["counts"]["exec"], 7);
    assert_eq!(info["counts"]["stop"], 1);
    assert_eq!(info["ending"]["state"], "finished");
    assert_eq!(info["header"]["node"], "zanzibar-node");
    let size = std::fs::metadata(recorded.path("node.atrace"))
        .unwrap()
        .len();
    assert_eq!(info["bytes"].as_u64(), Some(size));
    let per_event = info["bytes_per_event"].as_f64().unwrap();
    assert!((per_event * info["kernel_events"].as_f64().unwrap() - size as f64).abs() < 1.0);
    let table = recorded.ok(&["info", "--format", "table", "node.atrace"]);
    assert!(
        table.contains("sweep_task") && table.contains("finished"),
        "{table}"
    );
}

/// Goal: an entry says by name what happened, and filters choose entries. Method: the one setns of a known second.
#[test]
fn cat_speaks_in_names() {
    let recorded = record(false);
    let args = [
        "cat",
        "node.atrace",
        "--kind",
        "change",
        "--since",
        "+19s",
        "--until",
        "+25s",
    ];
    let entries = json(&recorded.ok(&args));
    assert_eq!(entries.len(), 1);
    let entry = &entries[0];
    assert_eq!(
        (&entry["cause"], &entry["syscall"]),
        (&"setns".into(), &"setns".into())
    );
    assert_eq!(entry["task"]["comm"], "zanzibar-server");
    assert_eq!(entry["task"]["ns"]["net"]["inum"], 1003);
    let place = &entry["task"]["cgroups"]["v2"];
    assert_eq!(place["path"], web().cgroup_path);
    assert!(entry["time"].as_str().unwrap().ends_with('Z'));
    let same = [
        "cat",
        "node.atrace",
        "--kind",
        "change",
        "--since",
        entry["time"].as_str().unwrap(),
    ];
    assert_eq!(json(&recorded.ok(&same))[0], *entry);
    let all = recorded.ok(&["cat", "node.atrace"]);
    recorded.ok(&["export", "node.atrace", "--to", "jsonl", "-o", "node.jsonl"]);
    assert_eq!(
        String::from_utf8(recorded.bytes("node.jsonl")).unwrap(),
        all
    );
}

/// Goal: damage is found where it is, and how a trace ends is told apart. Method: change a byte, cut, cut off the end,
/// something else altogether.
#[test]
fn verify_finds_damage() {
    let recorded = record(false);
    let bytes = recorded.bytes("node.atrace");
    let write = |name: &str, bytes: &[u8]| std::fs::write(recorded.path(name), bytes).unwrap();
    let verdict = |code: i32, name: &str| {
        let out = recorded.run(&["verify", "--format", "json", name]);
        assert_eq!(out.status.code(), Some(code), "{name}");
        json(std::str::from_utf8(&out.stdout).unwrap()).remove(0)
    };
    let whole = verdict(0, "node.atrace");
    assert_eq!(whole["readable_bytes"].as_u64(), Some(bytes.len() as u64));
    let starts = frames(&bytes)
        .into_iter()
        .map(|(at, _)| at)
        .collect::<Vec<_>>();
    let (second, last) = (starts[1], starts[starts.len() - 1]);

    let mut damaged = bytes.clone();
    damaged[second as usize + 50] ^= 1;
    write("damaged.atrace", &damaged);
    let found = verdict(2, "damaged.atrace");
    assert_eq!(found["ending"]["state"], "damaged");
    assert_eq!(found["ending"]["offset"].as_u64(), Some(second));
    assert!(
        0 < found["items"].as_u64().unwrap() && found["items"].as_u64() < whole["items"].as_u64()
    );

    write("cut.atrace", &bytes[..last as usize + 7]);
    let found = verdict(4, "cut.atrace");
    assert_eq!(
        (&found["ending"]["state"], &found["ending"]["bytes"]),
        (&"cut".into(), &7.into())
    );
    write("open.atrace", &bytes[..last as usize]);
    assert_eq!(verdict(4, "open.atrace")["ending"]["state"], "unfinished");
    write("text.atrace", b"# not a trace\n");
    assert_eq!(verdict(2, "text.atrace")["frames"], 0);
    assert_eq!(
        recorded
            .run(&["verify", "node.atrace", "cut.atrace", "absent"])
            .status
            .code(),
        Some(2)
    );
}

/// Where each frame starts, and what it holds.
fn frames(bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut from = bytes;
    let (_, _, mut offset) = Header::read(&mut from).unwrap();
    let mut unpacker = Unpacker::new().unwrap();
    let mut frames = Vec::new();
    loop {
        let mut payload = Vec::new();
        let Ok(Next::Frame(_, size)) = unpacker.read(&mut from, offset, &mut payload) else {
            return frames;
        };
        frames.push((offset, payload));
        offset += size;
    }
}

/// What two replays have in common when one of them starts later: who did what to whom, how bad, and when.
fn essence(finding: &Finding) -> Value {
    let mut value = serde_json::to_value(finding).unwrap();
    let object = value.as_object_mut().unwrap();
    object.remove("seq");
    object["witness"].as_object_mut().unwrap().remove("events");
    for side in ["subject", "object"] {
        let task = object[side].get_mut("task").and_then(Value::as_object_mut);
        // Which file a task executed before the piece is not known.
        task.map(|task| task.remove("exe"));
    }
    value
}

/// Goal: a piece says of its stretch what the whole says. Method: cut pieces, compare the violations behind their
/// first sweep.
#[test]
fn a_piece_says_the_same() {
    let recorded = record(false);
    let whole = replay(&[&recorded.bytes("node.atrace")]);
    for (since, until) in [(10, 35), (25, 62), (40, 95)] {
        let name = format!("piece-{since}.atrace");
        let (from, to) = (format!("+{since}s"), format!("+{until}s"));
        recorded.ok(&[
            "cut",
            "node.atrace",
            "--since",
            &from,
            "--until",
            &to,
            "-o",
            &name,
        ]);
        let piece = recorded.bytes(&name);
        let began_ns = TraceReader::open(piece.as_slice())
            .unwrap()
            .header()
            .began_boottime_ns;
        assert!(began_ns >= (support::BEGAN_S + since) * 1_000_000_000);
        let until_ns = (support::BEGAN_S + until) * 1_000_000_000;
        let inside = |f: &&&Finding| (began_ns + 2000..=until_ns).contains(&f.head.boottime_ns);
        let of = |records: &[Record]| -> Vec<Value> {
            let found = findings(records);
            found
                .iter()
                .filter(|f| inside(f))
                .map(|f| essence(f))
                .collect()
        };
        let said = replay(&[&piece]);
        assert_eq!(of(&said), of(&whole), "{since} to {until}");
        assert!(!of(&said).is_empty(), "{since} to {until}");
        assert!(matches!(said[0], Record::Start(_)));
        let reason = match said.last() {
            Some(Record::Stop(stop)) => stop.reason.as_str(),
            _ => "none",
        };
        assert_eq!(reason, if until == 95 { "signal" } else { "cut" });
        recorded.ok(&["verify", &name]);
    }
    recorded.ok(&[
        "cut",
        "node.atrace",
        "--until",
        "+35s",
        "-o",
        "first.atrace",
    ]);
    let first = replay(&[&recorded.bytes("first.atrace")]);
    let (first, whole) = (lines(&first), lines(&whole));
    assert_eq!(first[..first.len() - 1], whole[..first.len() - 1]);
    let error = recorded.fails(
        2,
        &["cut", "node.atrace", "--since", "+1h", "-o", "x.atrace"],
    );
    assert!(error.contains("no complete sweep"), "{error}");
    assert!(!recorded.path("x.atrace").exists());
}

/// Goal: merged parts are the parts. Method: a recording in three parts, given in the wrong order; then parts that do
/// not belong together.
#[test]
fn parts_become_one() {
    let recorded = record(true);
    let names = ["node.atrace", "node.00001.atrace", "node.00002.atrace"];
    let parts = names.map(|name| recorded.bytes(name));
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    assert_eq!(lines(&replay(&parts)), lines(&recorded.said));
    recorded.ok(&["merge", names[2], names[0], names[1], "-o", "all.atrace"]);
    assert_eq!(
        lines(&replay(&[&recorded.bytes("all.atrace")])),
        lines(&recorded.said)
    );
    recorded.ok(&["verify", "all.atrace"]);

    recorded.ok(&["merge", names[1], names[2], "-o", "tail.atrace"]);
    let tail = lines(&replay(&[&recorded.bytes("tail.atrace")]));
    assert_eq!(tail, lines(&replay(&parts[1..])));

    let refused = |args: &[&str]| recorded.fails(2, &[&["merge", "-o", "x.atrace"], args].concat());
    assert!(refused(&[names[0], names[2]]).contains("part 1 is missing"));
    assert!(refused(&[names[0], names[0]]).contains("twice"));
    std::fs::write(recorded.path("cut.atrace"), &parts[0][..parts[0].len() - 9]).unwrap();
    assert!(refused(&["cut.atrace", names[1]]).contains("not finished"));
    let other = record(false);
    std::fs::copy(other.path("node.atrace"), recorded.path("other.atrace")).unwrap();
    assert!(refused(&["other.atrace", names[1], names[0]]).contains("twice"));
    assert!(!recorded.path("x.atrace").exists());
}

/// Goal: under other names the same is found, and no name stays. Method: replay both, look at every byte.
#[test]
fn names_are_gone() {
    let recorded = record(true);
    let names = ["node.atrace", "node.00001.atrace", "node.00002.atrace"];
    recorded.ok(&[&["merge", "-o", "all.atrace"], &names[..]].concat());
    std::fs::write(recorded.path("key"), [7; 32]).unwrap();
    recorded.ok(&["anonymise", "all.atrace", "-o", "a.atrace", "--key", "key"]);
    recorded.ok(&["anonymise", "all.atrace", "-o", "b.atrace"]);
    for name in ["a.atrace", "b.atrace"] {
        let bytes = recorded.bytes(name);
        let other = replay(&[&bytes]);
        let same = |records: &[Record]| -> Vec<Value> { records.iter().map(shape).collect() };
        assert_eq!(same(&other), same(&recorded.said));
        recorded.ok(&["verify", name]);
        let header = &bytes[..frames(&bytes)[0].0 as usize];
        for (at, payload) in frames(&bytes).into_iter().chain([(0, header.to_vec())]) {
            for secret in [SECRET, HASH, "8dbc5577"] {
                let inside = payload
                    .windows(secret.len())
                    .any(|w| w == secret.as_bytes());
                assert!(!inside, "{secret} in the frame at {at} of {name}");
            }
        }
        let said = lines(&other).join("\n");
        let text = recorded.ok(&["cat", name]);
        // What is nobody's name is still there.
        for kept in ["docker:", "lxc:x", "unknown:/x"] {
            assert!(said.contains(kept), "{kept}");
        }
        for kept in [
            "\"systemd\"",
            "/usr/sbin/runc",
            "/system.slice/docker-",
            "/lxc.payload.x",
        ] {
            assert!(text.contains(kept), "{kept}");
        }
        let start = other.iter().find_map(|r| match r {
            Record::Start(start) => Some(start.policy_digest.as_str()),
            _ => None,
        });
        let digest = Policy::parse(POLICY, "test").unwrap().digest();
        assert!(start.is_some_and(|s| s.len() == 64 && s != digest));
    }
    assert_ne!(recorded.bytes("a.atrace"), recorded.bytes("b.atrace"));
    // One key, one set of names: a part has those of the whole.
    recorded.ok(&[
        "anonymise",
        "node.atrace",
        "-o",
        "part.atrace",
        "--key",
        "key",
    ]);
    let ids = |name: &str| -> Vec<String> {
        let said = replay(&[&recorded.bytes(name)]);
        findings(&said)
            .iter()
            .map(|f| f.subject.id.clone())
            .collect()
    };
    assert!(ids("a.atrace").starts_with(&ids("part.atrace")) && !ids("part.atrace").is_empty());
}

/// What must not change with the names.
fn shape(record: &Record) -> Value {
    let value = serde_json::to_value(record).unwrap();
    let keys = [
        "type",
        "rule",
        "severity",
        "verdict",
        "dimension",
        "iota",
        "pair_class",
        "boottime_ns",
        "confidence",
        "witness",
    ];
    keys.iter().map(|key| value[*key].clone()).collect()
}

/// Goal: a policy that cannot follow its names is refused, or left out. Method: one with a pattern.
#[test]
fn patterns_cannot_follow() {
    let dir = tempfile::tempdir().unwrap();
    let policy = "[[role]]\nname = \"a\"\nmatch = { image = \"nginx*\" }\n";
    let policy = Policy::parse(policy, "test").unwrap();
    let machine = Machine::new("node", &policy, &dir.path().join("node.atrace"));
    let said = machine.stop();
    let recorded = Recorded { dir, said };
    let error = recorded.fails(2, &["anonymise", "node.atrace", "-o", "x.atrace"]);
    assert!(
        error.contains("nginx*") && error.contains("--drop-policy"),
        "{error}"
    );
    assert!(error.contains("node.atrace: byte "), "{error}");
    assert!(!recorded.path("x.atrace").exists());
    recorded.ok(&[
        "anonymise",
        "node.atrace",
        "-o",
        "x.atrace",
        "--drop-policy",
    ]);
    let said = replay(&[&recorded.bytes("x.atrace")]);
    let Record::Start(start) = &said[0] else {
        panic!("{said:?}")
    };
    assert_eq!(start.policy_digest, Policy::default().digest());
}

/// Goal: what is made is new, and its maker's alone; standard output works as a file does. Method: make it twice, look
/// at its permissions, compare with what `-` gives.
#[test]
fn outputs_are_new_and_private() {
    let recorded = record(false);
    let cut = ["cut", "node.atrace", "--since", "+10s", "-o"];
    recorded.ok(&[&cut[..], &["piece.atrace"]].concat());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&recorded.path("piece.atrace")), 0o600);
    let before = recorded.bytes("piece.atrace");
    let error = recorded.fails(2, &[&cut[..], &["piece.atrace"]].concat());
    assert!(
        error.contains("piece.atrace") && error.contains("new file"),
        "{error}"
    );
    assert_eq!(recorded.bytes("piece.atrace"), before);
    let out = recorded.run(&[&cut[..], &["-"]].concat());
    assert_eq!((out.status.code(), out.stdout), (Some(0), before));
    let error = recorded.fails(2, &["cat", "absent.atrace"]);
    assert!(error.contains("cannot read absent.atrace"), "{error}");
    assert!(
        recorded
            .fails(2, &["cat", "node.atrace", "--since", "noon"])
            .contains("noon")
    );
}

/// Goal: without the feature the command says how to get it; with it there is a table.
#[test]
fn parquet_is_a_feature() {
    let recorded = record(false);
    let out = recorded.run(&[
        "export",
        "node.atrace",
        "--to",
        "parquet",
        "-o",
        "node.parquet",
    ]);
    if cfg!(feature = "parquet") {
        assert_eq!(out.status.code(), Some(0));
        assert!(recorded.bytes("node.parquet").starts_with(b"PAR1"));
    } else {
        assert_eq!(out.status.code(), Some(3));
        assert!(String::from_utf8_lossy(&out.stderr).contains("--features parquet"));
        assert!(!recorded.path("node.parquet").exists());
    }
}
