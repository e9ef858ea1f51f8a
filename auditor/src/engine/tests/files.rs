//! Goal: foreign files are found and let go, own ones and standard streams are silent, and of the host only what it
//! executes counts. Method: containers on the simulated machine reach files by made-up records.

use super::machine::{CLONE_NEW_ALL, Machine};
use crate::engine::Event;
use crate::model::facts::{EntityId, HOST};
use crate::model::output::{Evidence, Finding, Record};
use crate::model::{Confidence, Dimension, NsKind, RuleId, Severity, Verdict};
use auditor_common::hook;
use auditor_common::limits::ACT_NAME_LEN;
use auditor_common::record::*;
use std::collections::BTreeSet;

const DIRECTORY: u32 = 0o040_755;
const REGULAR: u32 = 0o100_644;
const READ: u64 = 1;
const READ_WRITE: u64 = 3;

impl Machine {
    /// A machine on which sweeps find open files.
    fn with_files() -> Self {
        let mut m = Self::new("");
        m.engine.index.set_not_evaluated(&BTreeSet::new());
        m.name("/a", "a");
        m.name("/b", "b");
        m
    }

    /// `actor` does something to a file of `whose` mounts.
    fn file(&mut self, actor: u32, act: u32, whose: u32, mode: u32, access: u64) -> ActRecord {
        let object = FileRef {
            ino: 4711,
            dev: 8,
            mnt_ns_inum: self.tasks[&whose].ns[ns::MNT].inum,
            mnt_id: 3,
            mode,
            ..FileRef::default()
        };
        let mut record = ActRecord {
            header: RecordHeader {
                hook: hook::FILE_OPEN,
                ..self.header(kind::ACT)
            },
            actor: self.tasks[&actor].key,
            target: TaskKey::default(),
            object,
            act,
            syscall: -1,
            result: 0,
            name_len: 11,
            arg0: 0,
            arg1: access,
            name: [0; ACT_NAME_LEN],
        };
        record.name[..11].copy_from_slice(b"shadow\0etc\0");
        record
    }

    fn reach(&mut self, actor: u32, act: u32, whose: u32, mode: u32, access: u64) {
        let record = self.file(actor, act, whose, mode, access);
        self.step(Event::Act(&record));
    }

    /// A sweep that finds these files.
    fn sweep_with(&mut self, files: &[ActRecord]) {
        let began_ns = self.now_ns;
        self.step(Event::SweepBegin {
            boottime_ns: began_ns,
        });
        for file in files {
            let mut file = *file;
            file.header.boottime_ns = began_ns;
            self.step(Event::Act(&file));
        }
        let tids: Vec<u32> = self.tasks.keys().copied().collect();
        for tid in tids {
            self.emit(tid, tid, cause::SNAPSHOT, 0);
        }
        self.step(Event::SweepEnd {
            boottime_ns: self.now_ns,
            complete: true,
        });
    }

    fn findings(&mut self) -> Vec<Finding> {
        self.take(|r| match r {
            Record::Violation(f) => Some(*f),
            _ => None,
        })
    }

    fn resolved(&mut self) -> Vec<(RuleId, Dimension)> {
        self.take(|r| match r {
            Record::Resolved(r) => Some((r.rule, r.dimension)),
            _ => None,
        })
    }
}

/// A directory of the host and a file of a neighbour: right object, severity, evidence and ι; they are let go when a
/// sweep does not find them any more.
#[test]
fn foreign_files_are_found_and_let_go() {
    let mut m = Machine::with_files();
    let (a, b) = (m.runc(50, "/a"), m.runc(51, "/b"));
    m.reach(a, act::OPEN, 1, DIRECTORY, READ);
    m.reach(a, act::OPEN, b, REGULAR, READ);
    m.reach(a, act::OPEN, b, REGULAR, READ);
    m.reach(a, act::RECEIVE, b, REGULAR, READ_WRITE);
    let found = m.findings();
    let facts: Vec<_> = found
        .iter()
        .map(|f| (f.rule, f.object.id.as_str(), f.severity, f.dimension))
        .collect();
    let rule = RuleId::ForeignFile;
    assert_eq!(
        facts,
        [
            (rule, "host", Severity::Critical, Dimension::References),
            (rule, "runc:b", Severity::High, Dimension::References),
            (rule, "runc:b", Severity::Critical, Dimension::References),
        ],
        "the third is a repeat of the second, and the fourth is worse"
    );
    assert_eq!(
        found[0].message,
        "container a opened a directory on the host's mounts"
    );
    let pair = m.engine.index().pair(HOST, EntityId(1));
    let references = pair.dimension(Dimension::References).unwrap();
    assert_eq!(references.verdict, Verdict::Violated);
    let Some(Evidence::File { path, access, .. }) = &found[1].observed else {
        panic!("{found:?}");
    };
    assert_eq!(path.as_deref(), Some("…/etc/shadow"));
    assert_eq!(access, &["read"]);
    let held = m.file(a, act::HOLD, 1, DIRECTORY, READ);
    m.sweep_with(&[held]);
    assert_eq!(m.resolved(), [(rule, Dimension::References)], "b's is gone");
    assert!(m.findings().is_empty(), "a held one is not told again");
    m.exit(a);
    m.sweep_with(&[]);
    assert!(m.findings().is_empty());
}

/// What no hook saw is found by a sweep, once; so is what was there at a container's first exec.
#[test]
fn sweeps_find_what_is_held() {
    let mut m = Machine::with_files();
    let a = m.runc(50, "/a");
    let mut held = m.file(a, act::HOLD, 1, DIRECTORY, READ);
    held.target.tid = 5;
    m.sweep_with(&[held]);
    m.sweep_with(&[held]);
    let found = m.findings();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].confidence, Confidence::Sampled);
    assert_eq!(
        found[0].message,
        "container a holds a directory on the host's mounts"
    );
    m.sweep_with(&[]);
    assert_eq!(m.resolved().len(), 1);
}

/// Own files, standard streams, files of nobody and of namespaces, the device null, and what a runtime has on its way
/// in are no violation.
#[test]
fn own_files_are_silent() {
    let mut m = Machine::with_files();
    let (a, b) = (m.runc(50, "/a"), m.runc(51, "/b"));
    m.reach(a, act::OPEN, a, DIRECTORY, READ);
    m.reach(a, act::OPEN, a, REGULAR, READ_WRITE);
    let mut stream = m.file(a, act::HOLD, 1, REGULAR, READ_WRITE);
    stream.target.tid = 1;
    let mut again = m.file(a, act::OPEN, 1, REGULAR, READ_WRITE);
    again.object.flags = path_flags::STREAM;
    let mut detached = m.file(a, act::OPEN, 1, DIRECTORY, READ);
    detached.object.flags = path_flags::DETACHED;
    let mut namespace = m.file(a, act::OPEN, 1, REGULAR, READ);
    namespace.object.fs_magic = 0x6e73_6673;
    let mut null = m.file(a, act::OPEN, 1, 0o020_666, READ_WRITE);
    null.object.rdev = 1 << 20 | 3;
    for record in [again, detached, namespace, null] {
        m.step(Event::Act(&record));
    }
    m.sweep_with(&[stream]);
    // runc exec: becomes the container's before it executes the container's program.
    let exec = m.fork(1, 0);
    m.setns(exec, a, &[NsKind::Ipc, NsKind::Uts, NsKind::Net]);
    m.setns(exec, a, &[NsKind::Pid, NsKind::Mnt]);
    let inside = m.fork(exec, 0);
    m.attach(inside, 1, 50);
    m.reach(inside, act::OPEN, 1, DIRECTORY, READ);
    assert!(m.findings().is_empty());
    m.exec(inside, "/bin/ls");
    m.reach(inside, act::OPEN, b, DIRECTORY, READ);
    assert_eq!(m.findings().len(), 1, "from its first program on it counts");
}

/// A shell that redirects saves its streams under other numbers: what was a stream is none of the files that count, and
/// what no sweep saw as one counts when the next sweep finds it too. A directory counts at once.
/// Goal: what a sandbox leaves of itself inside is not yet a program of the container's. Method: bubblewrap's reaper opens a
/// directory of the host's /proc after the sandbox's program has begun, and again as another program.
#[test]
fn a_reaper_of_the_runtime_is_on_its_way() {
    let mut m = Machine::with_files();
    let bwrap = m.fork(1, 0);
    m.exec(bwrap, "/usr/bin/bwrap");
    m.cgroup(50, "/sandbox");
    m.attach(bwrap, 1, 50);
    let reaper = m.fork(bwrap, CLONE_NEW_ALL);
    let mnt = m.tasks[&reaper].ns[ns::MNT].inum;
    let state = m.tasks.get_mut(&reaper).unwrap();
    state.root = PathRef {
        ino: 99,
        dev: 8,
        mnt_ns_inum: mnt,
        mnt_id: 9,
        flags: 0,
    };
    state.cwd = state.root;
    m.emit(reaper, reaper, cause::PIVOT_ROOT, 0);
    let program = m.fork(reaper, 0);
    m.exec(program, "/bin/sh");
    for _ in 0..12 {
        m.tick(100_000_000);
    }
    let label = |m: &Machine, tid: u32| m.engine.world().tasks[&tid].label;
    assert_ne!(label(&m, reaper), HOST);
    assert_eq!(label(&m, reaper), label(&m, program));
    m.out.clear();
    m.reach(reaper, act::OPEN, 1, DIRECTORY, READ);
    assert_eq!(m.violations(), []);
    m.exec(reaper, "/bin/other");
    m.reach(reaper, act::OPEN, 1, DIRECTORY, READ);
    assert_eq!(m.violations().len(), 1);
}

#[test]
fn saved_streams_are_silent() {
    let mut m = Machine::with_files();
    let a = m.runc(50, "/a");
    let at = |m: &mut Machine, number: u32, ino: u64, mode: u32| {
        let mut held = m.file(a, act::HOLD, 1, mode, READ_WRITE);
        held.target.tid = number;
        held.object.ino = ino;
        held
    };
    let (stream, saved) = (at(&mut m, 1, 5, REGULAR), at(&mut m, 10, 5, REGULAR));
    let (other, directory) = (at(&mut m, 10, 6, REGULAR), at(&mut m, 11, 7, DIRECTORY));
    m.sweep_with(&[stream]);
    m.sweep_with(&[saved]);
    m.sweep_with(&[saved]);
    m.sweep_with(&[other, other]);
    m.sweep_with(&[]);
    m.sweep_with(&[other]);
    assert_eq!(m.findings(), []);
    m.sweep_with(&[other]);
    assert_eq!(m.findings().len(), 1);
    m.sweep_with(&[directory]);
    assert_eq!(m.findings().len(), 1);
}

/// The host executes and maps a container's file: told, and not when it is in the container.
#[test]
fn the_host_runs_a_containers_file() {
    let mut m = Machine::with_files();
    let a = m.runc(50, "/a");
    let task = m.fork(1, 0);
    m.reach(task, act::OPEN, a, REGULAR, READ);
    assert!(m.findings().is_empty(), "reading is not running");
    m.reach(task, act::EXEC, a, REGULAR, READ);
    let found = m.findings();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].rule, RuleId::HostRunsContainerFile);
    assert_eq!(found[0].object.id, "runc:a");
    assert_eq!(
        found[0].message,
        "a task of the host executed a file of container a"
    );
    m.reach(task, act::MAP, a, REGULAR, READ);
    assert!(m.findings().is_empty(), "executing it maps it");
    let visitor = m.fork(1, 0);
    m.setns(visitor, a, &[NsKind::Mnt]);
    m.reach(visitor, act::EXEC, a, REGULAR, READ);
    m.reach(1, act::EXEC, 1, REGULAR, READ);
    assert!(m.findings().is_empty());
}

/// A path below a container's root file system is the container's, whoever's mount it is; beside it, it is not.
#[test]
fn the_host_runs_a_path_in_a_bundle() {
    let mut m = Machine::with_files();
    m.specs.get_mut("/a").unwrap().bundle = Some("/run/bundles/a".to_owned());
    m.runc(50, "/a");
    let helper = m.fork(1, 0);
    m.exec(helper, "/run/bundles/a/hook");
    assert!(m.findings().is_empty());
    m.exec(helper, "/run/bundles/a/rootfs/bin/helper");
    let found = m.findings();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].rule, RuleId::HostRunsContainerFile);
}
