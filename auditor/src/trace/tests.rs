//! Goal: what is written is read again, entry by entry, and nothing that is not a trace does harm.
//! Method: random machines through writer and reader, then the same bytes cut and damaged everywhere.

use super::frame::Kind as FrameKind;
use super::reader::Prologue;
use super::tool::anonymise::{Policies, Pseudonyms, anonymise};
use super::tool::filter::Filter;
use super::tool::info::End;
use super::tool::kind::Kind;
use super::tool::merge::Merger;
use super::tool::verify::verify;
use super::{Answer, Ending, Header, Item, TraceError, TraceReader, TraceWriter, tool};
use crate::engine::{Config, Event, LossMark, Saved};
use crate::inventory::container::{ContainerAnswer, Runtime};
use crate::model::policy::Policy;
use crate::model::setup::{Mount, SetUp};
use auditor_common::record::{
    ActRecord, CgroupRecord, ExecRecord, ExitRecord, RecordHeader, TaskKey, TaskRecord, cause,
    cgroup_op, kernel_str, kind,
};
use proptest::prelude::*;
use zerocopy::FromZeros;

/// An item that owns what it holds.
#[derive(Clone, Debug, PartialEq)]
enum Owned {
    Task(Box<TaskRecord>),
    Exec(Box<ExecRecord>),
    Exit(ExitRecord),
    Cgroup(Box<CgroupRecord>),
    Act(Box<ActRecord>),
    SweepBegin(u64),
    SweepEnd(u64, bool),
    Answer(String, Option<u32>, Option<Box<ContainerAnswer>>),
    Looked(Box<SetUp>),
    Restore(Box<Saved>),
    Policy(Box<Policy>),
    Loss(LossMark),
    Tick(u64),
    Stop(u64, String),
}

impl Owned {
    fn item(&self) -> Item<'_> {
        Item::Event(match self {
            Self::Task(r) => Event::Task(r),
            Self::Exec(r) => Event::Exec(r),
            Self::Exit(r) => Event::Exit(r),
            Self::Cgroup(r) => Event::Cgroup(r),
            Self::Act(r) => Event::Act(r),
            &Self::SweepBegin(boottime_ns) => Event::SweepBegin { boottime_ns },
            &Self::SweepEnd(boottime_ns, complete) => Event::SweepEnd {
                boottime_ns,
                complete,
            },
            Self::Looked(setup) => Event::Looked(setup),
            Self::Restore(saved) => Event::Restore(saved),
            Self::Policy(policy) => Event::Policy(policy),
            Self::Loss(mark) => Event::Loss(mark),
            &Self::Tick(boottime_ns) => Event::Tick { boottime_ns },
            Self::Answer(path, init_pid, answer) => {
                return Item::Answer(Answer {
                    cgroup_path: path,
                    init_pid: *init_pid,
                    answer: answer.as_deref(),
                });
            }
            Self::Stop(boottime_ns, reason) => {
                return Item::Stop {
                    boottime_ns: *boottime_ns,
                    reason,
                };
            }
        })
    }

    fn of(item: &Item<'_>) -> Self {
        match item {
            Item::Event(event) => match event {
                Event::Task(r) => Self::Task(Box::new(**r)),
                Event::Exec(r) => Self::Exec(Box::new(**r)),
                Event::Exit(r) => Self::Exit(**r),
                Event::Cgroup(r) => Self::Cgroup(Box::new(**r)),
                Event::Act(r) => Self::Act(Box::new(**r)),
                Event::SweepBegin { boottime_ns } => Self::SweepBegin(*boottime_ns),
                Event::SweepEnd {
                    boottime_ns,
                    complete,
                } => Self::SweepEnd(*boottime_ns, *complete),
                Event::Answer { .. } => unreachable!("a reader gives answers as items"),
                Event::Looked(setup) => Self::Looked(Box::new((*setup).clone())),
                Event::Restore(saved) => Self::Restore(Box::new((*saved).clone())),
                Event::Policy(policy) => Self::Policy(Box::new((*policy).clone())),
                Event::Loss(mark) => Self::Loss((*mark).clone()),
                Event::Tick { boottime_ns } => Self::Tick(*boottime_ns),
            },
            Item::Answer(a) => Self::Answer(
                a.cgroup_path.to_owned(),
                a.init_pid,
                a.answer.cloned().map(Box::new),
            ),
            Item::Stop {
                boottime_ns,
                reason,
            } => Self::Stop(*boottime_ns, (*reason).to_owned()),
        }
    }

    /// What a trace does not keep: bytes behind the end of a name or path, and what a kind always is.
    fn canonical(mut self) -> Self {
        let task_header = |r: &mut TaskRecord, kind, size: usize| {
            r.header.kind = kind;
            r.header.size = size as u16;
        };
        match &mut self {
            Self::Task(r) => task_header(r, kind::TASK, size_of::<TaskRecord>()),
            Self::Exec(r) => {
                task_header(&mut r.task, kind::EXEC, size_of::<ExecRecord>());
                let end = kernel_str(&r.filename).len();
                r.filename[end..].fill(0);
            }
            Self::Exit(r) => {
                (r.header.kind, r.header.size) = (kind::EXIT, size_of::<ExitRecord>() as u16);
                r.reserved = 0;
            }
            Self::Cgroup(r) => {
                (r.header.kind, r.header.size) = (kind::CGROUP, size_of::<CgroupRecord>() as u16);
                r.reserved = 0;
                let end = r.path.len().min(r.path_len as usize);
                r.path[end..].fill(0);
            }
            Self::Act(r) => {
                (r.header.kind, r.header.size) = (kind::ACT, size_of::<ActRecord>() as u16);
                r.name_len = r.name().len() as u32;
                let end = r.name().len();
                r.name[end..].fill(0);
            }
            _ => {}
        }
        self
    }
}

fn header() -> Header {
    let config = Config {
        boot_id: "5f0c".to_owned(),
        ..Config::default()
    };
    Header::new(&config, 17, Policy::default().digest())
}

fn write(items: &[Owned]) -> Vec<u8> {
    let mut writer = TraceWriter::new(Vec::new(), &header()).unwrap();
    for (n, item) in items.iter().enumerate() {
        writer.push(&item.item()).unwrap();
        if n % 7 == 6 {
            writer.end_frame().unwrap();
        }
    }
    writer.finish().unwrap()
}

/// All that can be read, and how it ended.
fn read(bytes: &[u8]) -> (Vec<Owned>, Result<Ending, TraceError>) {
    let mut items = Vec::new();
    let mut reader = match TraceReader::open(bytes) {
        Ok(reader) => reader,
        Err(error) => return (items, Err(error)),
    };
    loop {
        match reader.next_item() {
            Ok(Some(item)) => items.push(Owned::of(&item)),
            Ok(None) => return (items, Ok(reader.ending().unwrap())),
            Err(error) => return (items, Err(error)),
        }
    }
}

prop_compose! {
    fn record_header()(boottime_ns: u64, cpu_seq: u64, hook in 0u16..30, cpu in 0u16..4) -> RecordHeader {
        RecordHeader { boottime_ns, cpu_seq, kind: 0, hook, cpu, size: 0 }
    }
}

prop_compose! {
    /// Few tasks, so that most entries refer to one that is known.
    fn key()(tid in 1u32..12, tgid in 1u32..12, start_boottime_ns in 0u64..3) -> TaskKey {
        TaskKey { tid, tgid, start_boottime_ns }
    }
}

prop_compose! {
    fn task()(
        header in record_header(),
        actor in key(),
        key in key(),
        cause in prop_oneof![Just(cause::FORK), Just(cause::SNAPSHOT), 0u32..12],
        syscall: i32,
        arg0: u64,
        words in proptest::collection::vec((0usize..132, any::<u32>()), 0..6),
    ) -> TaskRecord {
        let mut task = TaskRecord::new_zeroed();
        for (word, value) in words {
            super::codec::set_word(&mut task, word, value);
        }
        (task.header, task.actor, task.cause) = (header, actor, cause);
        (task.syscall, task.arg0) = (syscall, arg0);
        task.state.key = key;
        task
    }
}

fn owned() -> impl Strategy<Value = Owned> {
    let answer = ContainerAnswer::bare("/a/b".to_owned(), Runtime::Runc, "b".to_owned());
    let saved = Saved {
        boot_id: "5f0c".to_owned(),
        ..Saved::default()
    };
    let exec = (task(), "[a-z/]{0,128}").prop_map(|(task, name)| {
        let mut exec = ExecRecord::new_zeroed();
        exec.task = task;
        exec.filename[..name.len()].copy_from_slice(name.as_bytes());
        Owned::Exec(Box::new(exec))
    });
    let cgroup = (record_header(), key(), any::<u64>(), "/[a-z/]{0,600}").prop_map(
        |(header, actor, id, path)| {
            let mut cgroup = CgroupRecord::new_zeroed();
            (cgroup.header, cgroup.actor, cgroup.id) = (header, actor, id);
            let used = path.len().min(cgroup.path.len());
            cgroup.path[..used].copy_from_slice(&path.as_bytes()[..used]);
            cgroup.path_len = path.len() as u32;
            cgroup.op = cgroup_op::MKDIR;
            Owned::Cgroup(Box::new(cgroup))
        },
    );
    let act = (
        record_header(),
        key(),
        key(),
        any::<[u32; 8]>(),
        0u32..60,
        "[a-z/]{0,200}",
    )
        .prop_map(|(header, actor, target, numbers, act, name)| {
            let mut record = ActRecord::new_zeroed();
            (record.header, record.actor, record.target) = (header, actor, target);
            (record.act, record.arg0) = (act, u64::from(numbers[0]) << 20);
            (record.syscall, record.result) = (numbers[1] as i32, numbers[2] as i32);
            if numbers[3] % 2 == 0 {
                record.object.ino = u64::from(numbers[4]) << 7;
                (record.object.dev, record.object.mode) = (numbers[5], numbers[6]);
                record.object.fs_magic = numbers[7];
            }
            let components = name.replace('/', "\0");
            record.name[..components.len()].copy_from_slice(components.as_bytes());
            record.name_len = components.len() as u32;
            Owned::Act(Box::new(record))
        });
    let exit = (record_header(), key(), any::<u32>()).prop_map(|(header, key, exit_code)| {
        Owned::Exit(ExitRecord {
            header,
            key,
            exit_code,
            reserved: 0,
        })
    });
    prop_oneof![
        8 => task().prop_map(|t| Owned::Task(Box::new(t))),
        3 => exec,
        3 => exit,
        2 => cgroup,
        2 => act,
        2 => any::<u64>().prop_map(Owned::SweepBegin),
        2 => any::<(u64, bool)>().prop_map(|(t, c)| Owned::SweepEnd(t, c)),
        1 => any::<u64>().prop_map(Owned::Tick),
        1 => any::<Option<u32>>().prop_map(move |pid| {
            Owned::Answer("/a/b".to_owned(), pid, pid.map(|_| Box::new(answer.clone())))
        }),
        1 => Just(Owned::Restore(Box::new(saved))),
        1 => ("/[a-z]{0,9}", any::<(u32, bool)>()).prop_map(|(point, (dev, read_only))| {
            let mount = Mount { point, dev, read_only, ..Mount::default() };
            Owned::Looked(Box::new(SetUp { pid: dev, mounts: vec![mount], ..SetUp::default() }))
        }),
        1 => Just(Owned::Policy(Box::default())),
        1 => any::<(u64, u64)>().prop_map(|(boottime_ns, count)| Owned::Loss(LossMark {
            boottime_ns,
            place: "ring".to_owned(),
            count,
            ..LossMark::default()
        })),
        1 => any::<u64>().prop_map(|t| Owned::Stop(t, "signal".to_owned())),
    ]
}

proptest! {
    /// Goal: any stream comes back as it was. Method: random items, sweeps and tasks mixed as they come.
    #[test]
    fn round_trip(items in proptest::collection::vec(owned(), 0..120)) {
        let (got, ending) = read(&write(&items));
        let want: Vec<Owned> = items.into_iter().map(Owned::canonical).collect();
        prop_assert_eq!(got, want);
        prop_assert_eq!(ending.unwrap(), Ending::Finished);
    }

    /// Goal: a trace cut anywhere gives a beginning of its items, and says that it is cut.
    #[test]
    fn cut_anywhere(items in proptest::collection::vec(owned(), 1..40), place: prop::sample::Index) {
        let bytes = write(&items);
        let (all, _) = read(&bytes);
        let (got, ending) = read(&bytes[..place.index(bytes.len())]);
        prop_assert!(all.starts_with(&got));
        prop_assert!(!matches!(ending, Ok(Ending::Finished)));
    }

    /// Goal: a changed byte is noticed or harmless, and never a panic. Method: change one anywhere.
    #[test]
    fn damaged_anywhere(
        items in proptest::collection::vec(owned(), 1..40),
        place: prop::sample::Index,
        change in 1u8..,
    ) {
        let mut bytes = write(&items);
        let at = place.index(bytes.len());
        bytes[at] ^= change;
        let (all, _) = read(&write(&items));
        let (got, ending) = read(&bytes);
        prop_assert!(all.starts_with(&got));
        // The minor version and an unknown kind may be skipped.
        prop_assert!(ending.is_err() || got == all || got.len() < all.len());
    }

    /// Goal: whatever a trace holds, the tools take it, and lose no item. Method: random items as lines, merged, and under
    /// other names; a name that becomes another leaves kinds and times as they are.
    #[test]
    fn tools_take_anything(items in proptest::collection::vec(owned(), 0..60)) {
        let bytes = write(&items);
        let open = || TraceReader::open(bytes.as_slice()).unwrap();
        let mut lines = Vec::new();
        let count = tool::lines::write(&mut open(), &Filter::default(), &mut lines).unwrap();
        prop_assert_eq!(count, items.len() as u64);
        for line in lines.split_inclusive(|b| *b == b'\n') {
            prop_assert!(serde_json::from_slice::<serde_json::Value>(line).is_ok());
        }
        let mut merger = Merger::new(&header(), Vec::new()).unwrap();
        merger.take(&mut open()).unwrap();
        prop_assert_eq!(read(&merger.finish().unwrap()).0, read(&bytes).0);
        let names = Pseudonyms::new(b"key");
        let other = anonymise(&mut open(), &names, Policies::Follow, Vec::new()).unwrap();
        let shapes = |bytes: &[u8]| -> Vec<_> {
            let items = read(bytes).0;
            items.iter().map(|i| (Kind::of(&i.item()), i.item().boottime_ns())).collect()
        };
        prop_assert_eq!(shapes(&other), shapes(&bytes));
        prop_assert_eq!(verify(other.as_slice()).ending, End::Finished);
    }

    /// Goal: a payload with a right checksum and wrong entries is an error, never a panic or endless.
    #[test]
    fn any_payload_ends(payload in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut decoder = super::codec::Decoder::default();
        let mut items = 0;
        while !decoder.is_done(&payload) && decoder.next(&payload).is_ok() {
            items += 1;
        }
        // A row gives again what earlier entries of the payload gave.
        prop_assert!(items <= payload.len() * payload.len());
    }
}

/// Goal: a part read after another gives nothing of its prologue, and what follows refers to it.
#[test]
fn prologues_are_skipped() {
    let mut task = TaskRecord::new_zeroed();
    (task.state.key.tid, task.syscall) = (7, 3);
    let sweep = [
        Owned::SweepBegin(1),
        Owned::Task(Box::new(task)),
        Owned::SweepEnd(2, true),
    ];
    let mut later = task;
    later.syscall = 4;
    let mut writer = TraceWriter::new(Vec::new(), &header()).unwrap();
    writer.set_kind(FrameKind::Prologue).unwrap();
    for item in &sweep {
        writer.push(&item.item()).unwrap();
    }
    writer.set_kind(FrameKind::Events).unwrap();
    let later = Owned::Task(Box::new(later));
    writer.push(&later.item()).unwrap();
    let bytes = writer.finish().unwrap();
    assert_eq!(read(&bytes).0.len(), 4);
    let mut reader = TraceReader::open(bytes.as_slice()).unwrap();
    reader.set_prologue(Prologue::Skip);
    let only = Owned::of(&reader.next_item().unwrap().unwrap());
    assert_eq!(only, later.canonical());
    assert!(reader.next_item().unwrap().is_none());
}

/// Goal: what is no trace, or a newer one, is refused by name.
#[test]
fn refusals() {
    let mut bytes = write(&[Owned::Tick(1)]);
    assert!(matches!(read(b"# yaml").1, Err(TraceError::NotATrace)));
    assert!(matches!(read(&bytes[..10]).1, Err(TraceError::Header(_))));
    bytes[8] = 3;
    let error = read(&bytes).1.unwrap_err();
    assert!(matches!(error, TraceError::Newer { found: 3 }));
    assert!(error.to_string().contains("newer than 2"), "{error}");
}

/// Goal: a sweep in which nothing changed costs a few bytes. Method: two sweeps of 500 tasks.
#[test]
fn quiet_sweeps_are_small() {
    let sweep = |at: u64| {
        let tasks = (1..=500).map(move |tid| {
            let mut task = TaskRecord::new_zeroed();
            task.header = RecordHeader {
                boottime_ns: at,
                hook: 3,
                kind: kind::TASK,
                size: size_of::<TaskRecord>() as u16,
                cpu_seq: 0,
                cpu: 0,
            };
            (task.state.key.tid, task.cause, task.syscall) = (tid, cause::SNAPSHOT, -1);
            task.actor = task.state.key;
            Owned::Task(Box::new(task))
        });
        std::iter::once(Owned::SweepBegin(at))
            .chain(tasks)
            .chain([Owned::SweepEnd(at, true)])
            .collect::<Vec<_>>()
    };
    let mut encoder = super::codec::Encoder::default();
    for item in sweep(1000) {
        encoder.push(&item.item()).unwrap();
    }
    let first = encoder.pending_bytes();
    for item in sweep(2000) {
        encoder.push(&item.item()).unwrap();
    }
    assert!(encoder.pending_bytes() - first < 40, "{first}");
}

/// Goal: what a frame or the index says of itself must be so, even if its checksum is right. Method: a frame that claims
/// one entry more, an index of another trace, an end mark that points elsewhere.
#[test]
fn claims_are_checked() {
    let ticks = |count: u64| -> Vec<Owned> { (1..=count).map(Owned::Tick).collect() };
    let mut encoder = super::codec::Encoder::default();
    for tick in ticks(3) {
        encoder.push(&tick.item()).unwrap();
    }
    let mut frame = encoder.take_frame(FrameKind::Events).unwrap();
    frame.entries += 1;
    let mut writer = super::writer::FrameWriter::new(Vec::new(), &header()).unwrap();
    writer.write(&frame).unwrap();
    let (got, ending) = read(&writer.finish().unwrap());
    assert_eq!(got, ticks(3));
    let error = ending.unwrap_err().to_string();
    assert!(error.contains("has 3 entries and claims 4"), "{error}");

    // Both begin with the same frame; the index of the second one has another.
    let (one, two) = (write(&ticks(7)), write(&ticks(14)));
    let index_of = |bytes: &[u8]| {
        let at = bytes.len() - 16;
        u64::from_le_bytes(*bytes[at..].first_chunk().unwrap()) as usize
    };
    let mixed = [&one[..index_of(&one)], &two[index_of(&two)..]].concat();
    let (got, ending) = read(&mixed);
    assert_eq!(got, ticks(7));
    assert!(ending.unwrap_err().to_string().contains("does not agree"));
    let mut elsewhere = one;
    let at = elsewhere.len() - 16;
    elsewhere[at] ^= 1;
    assert!(
        read(&elsewhere)
            .1
            .unwrap_err()
            .to_string()
            .contains("end mark")
    );
}
