//! What hostile input does: one function for each place where bytes come from elsewhere. It must end, and not panic.
//!
//! Fuzzers drive these with coverage in hand (`fuzz/`), the ordinary suite with random bytes and with the inputs that
//! fuzzers found worth keeping (`fuzz/corpus`).

use auditor::agent::replay::Replay;
use auditor::engine::{Config, Engine, Event};
use auditor::import::{Importer, Input, Player, Tool};
use auditor::model::output::Record;
use auditor::model::policy::Policy;
use auditor::sensor::btf::Btf;
use auditor::sensor::decode::Decoded;
use auditor::sensor::handles::{self, Held, looked};
use auditor::sensor::{decode, mountinfo, resolve};
use auditor::sink::jsonl;
use auditor::trace::frame::{Frame, Kind};
use auditor::trace::writer::FrameWriter;
use auditor::trace::{Header, TraceReader};
use auditor_common::fields::FIELDS;

/// Items taken from one input: rows of sweeps repeat what a few bytes said.
const MAX_ITEMS: usize = 20_000;

/// A name and what takes the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 7] = [
    ("trace", trace),
    ("payload", payload),
    ("records", records),
    ("imports", imports),
    ("policy", policy),
    ("btf", btf),
    ("mountinfo", mounts),
];

/// A file that is said to be a trace.
pub fn trace(bytes: &[u8]) {
    let Ok(mut trace) = TraceReader::open(bytes) else {
        return;
    };
    let mut replay = Replay::new(trace.header(), None);
    let mut out = Vec::new();
    for _ in 0..MAX_ITEMS {
        let Ok(Some(item)) = trace.next_item() else {
            break;
        };
        replay.take(&item, &mut out);
        for record in out.drain(..) {
            // A record that cannot be a line would be a bug of its own.
            jsonl::encode(&record).expect("every record is a line");
        }
    }
}

/// Entries behind a header and a checksum that are right.
pub fn payload(bytes: &[u8]) {
    let header = Header::new(&Config::default(), 1, String::new());
    let mut frames = FrameWriter::new(Vec::new(), &header).expect("memory takes it");
    let frame = Frame {
        kind: Kind::Events,
        entries: 1,
        first_ns: 0,
        last_ns: 0,
        payload: bytes.to_vec(),
    };
    frames.write(&frame).expect("memory takes it");
    trace(&frames.finish().expect("memory takes it"));
}

/// What a kernel's ring is said to hold, and what the engine makes of it.
pub fn records(bytes: &[u8]) {
    let mut engine = Engine::new(Config::default(), &Policy::default());
    let mut out = Vec::new();
    let mut held = Held::default();
    held.looked = looked::FILES;
    for record in decode::records(bytes) {
        let Ok(record) = record else { break };
        if let Decoded::Handle(record) = record {
            if !held.take(&record) {
                break;
            }
            continue;
        }
        engine.step(
            match &record {
                Decoded::Task(record) => Event::Task(record),
                Decoded::Exec(record) => Event::Exec(record),
                Decoded::Exit(record) => Event::Exit(record),
                Decoded::Cgroup(record) => Event::Cgroup(record),
                Decoded::Act(record) => Event::Act(record),
                Decoded::Handle(_) | Decoded::Code(_) => continue,
            },
            &mut out,
        );
        answer_nothing(&mut engine, &mut out);
    }
    for act in handles::shared(&held, |task| Some(task.start_boottime_ns)) {
        engine.step(Event::Act(&act), &mut out);
    }
    engine.stop(u64::MAX, "hostile", &mut out);
    for record in out {
        jsonl::encode(&record).expect("every record is a line");
    }
}

/// Nobody knows any container.
fn answer_nothing(engine: &mut Engine, out: &mut Vec<Record>) {
    while let Some(query) = engine.next_query() {
        let (query, answer) = (query.id, None);
        engine.step(Event::Answer { query, answer }, out);
    }
}

/// A log that is said to be another tool's; of each tool in turn.
pub fn imports(bytes: &[u8]) {
    for tool in Tool::ALL {
        let mut engine = Engine::new(tool.config(), &Policy::default());
        let (mut player, mut out) = (Player::default(), Vec::new());
        let mut importer = Importer::new(tool, None);
        let mut play = |input: Input| {
            player.play(&input, &mut engine, &mut out);
            for record in out.drain(..) {
                jsonl::encode(&record).expect("every record is a line");
            }
        };
        for line in bytes.split(|&b| b == b'\n') {
            importer.line(line, &mut play);
        }
        importer.finish(&mut play);
    }
}

/// A policy.
pub fn policy(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(policy) = Policy::parse(text, "hostile")
    {
        // What is accepted has a digest and survives a trace.
        let json = serde_json::to_vec(&policy).expect("a policy is JSON");
        let again: Policy = serde_json::from_slice(&json).expect("and comes back");
        assert_eq!(policy.digest(), again.digest());
    }
}

/// Types of a kernel.
pub fn btf(bytes: &[u8]) {
    if let Ok(types) = Btf::parse(bytes) {
        // Missing fields are an error with a name; nothing else is expected of random types.
        let _ = resolve::resolve(&types, FIELDS);
        let _ = types.enumerators("cgroup_subsys_id");
        let _ = types.has_function("commit_creds");
    }
}

/// A mount table.
pub fn mounts(bytes: &[u8]) {
    // Refused or taken: both are an end.
    let _ = mountinfo::parse(bytes);
}

#[cfg(test)]
mod tests {
    use super::{TARGETS, Target};
    use proptest::prelude::*;
    use std::path::Path;

    fn target() -> impl Strategy<Value = Target> {
        proptest::sample::select(TARGETS.to_vec())
    }

    proptest! {
        /// Goal: no bytes panic or hang. Method: random ones, into every target.
        #[test]
        fn random_bytes(
            (_, take) in target(),
            bytes in proptest::collection::vec(any::<u8>(), 0..2000),
        ) {
            take(&bytes);
        }

        /// Goal: what is nearly right does no harm either. Method: kept inputs with a few bytes changed.
        #[test]
        fn damaged_inputs(
            (name, take) in target(),
            which: prop::sample::Index,
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        ) {
            let kept = kept(name);
            let mut bytes = kept[which.index(kept.len())].clone();
            for (at, byte) in changes {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
            }
            take(&bytes);
        }
    }

    /// Goal: what once broke stays mended. Method: every kept input through its target.
    #[test]
    fn kept_inputs() {
        for (name, take) in TARGETS {
            for bytes in kept(name) {
                take(&bytes);
            }
        }
    }

    /// At least one input for each target: a target without any is not tested.
    fn kept(name: &str) -> Vec<Vec<u8>> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../fuzz/corpus")
            .join(name);
        let mut paths: Vec<_> = std::fs::read_dir(&directory)
            .unwrap_or_else(|e| panic!("{}: {e}", directory.display()))
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        assert!(!paths.is_empty(), "{name} has no inputs");
        paths
            .iter()
            .map(|path| std::fs::read(path).unwrap())
            .collect()
    }
}
