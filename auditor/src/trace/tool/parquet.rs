//! The items of a trace as one flat table, for programs that work on tables. `docs/trace-export.md` says what the
//! columns mean.
//!
//! A row per item, a column per thing that one could ask for, empty where an item does not say it. Rows are written in
//! groups, so that memory is bounded by a group.

use super::ToolError;
use super::entry::{Lens, path_of};
use super::filter::{Filter, Selection};
use super::kind::Kind;
use super::names;
use crate::engine::Event;
use crate::trace::{Item, TraceReader};
use auditor_common::limits::CGROUP_SLOTS;
use auditor_common::record::{
    ActRecord, CgroupRecord, Creds, FileRef, PathRef, RecordHeader, TaskKey, TaskRecord, TaskState,
    kernel_str, ns,
};
use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, Int64Type};
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use std::io::{self, Read, Write};
use std::sync::Arc;

/// Rows of a group.
const GROUP_ROWS: usize = 1 << 15;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    /// Signed, 64 bits.
    Int,
    /// Unsigned, 64 bits.
    Unsigned,
    /// Nanoseconds since 1970, UTC.
    Time,
    Flag,
    Text,
}

#[derive(Debug)]
enum Value {
    Number(i64),
    Flag(bool),
    Text(String),
}

type Get = fn(&Row<'_>) -> Option<Value>;

#[derive(Debug)]
struct Column {
    name: &'static str,
    holds: Holds,
    get: Get,
}

const fn column(name: &'static str, holds: Holds, get: Get) -> Column {
    Column { name, holds, get }
}

/// An item, and what it is seen through.
struct Row<'a> {
    number: i64,
    in_prologue: bool,
    lens: &'a Lens,
    item: &'a Item<'a>,
}

fn int(value: impl Into<i64>) -> Value {
    Value::Number(value.into())
}

fn unsigned(value: u64) -> Value {
    Value::Number(value.cast_signed())
}

fn text(value: impl Into<String>) -> Value {
    Value::Text(value.into())
}

fn json(value: &impl serde::Serialize) -> Option<Value> {
    serde_json::to_string(value).ok().map(Value::Text)
}

const COLUMNS: &[Column] = &[
    column("row", Holds::Int, |r| Some(int(r.number))),
    column("kind", Holds::Text, |r| {
        Some(text(Kind::of(r.item).as_str()))
    }),
    column("prologue", Holds::Flag, |r| {
        Some(Value::Flag(r.in_prologue))
    }),
    column("time", Holds::Time, |r| {
        Some(int(r.lens.unix_ns(r.item.boottime_ns()?)))
    }),
    column("boottime_ns", Holds::Unsigned, |r| {
        r.item.boottime_ns().map(unsigned)
    }),
    column("hook", Holds::Text, |r| {
        Some(text(names::hook(r.header()?.hook)))
    }),
    column("cpu", Holds::Int, |r| Some(int(r.header()?.cpu))),
    column("cpu_seq", Holds::Unsigned, |r| {
        Some(unsigned(r.header()?.cpu_seq))
    }),
    column("cause", Holds::Text, |r| {
        Some(text(names::cause(r.record()?.cause)))
    }),
    column("syscall", Holds::Text, |r| {
        r.lens.syscall(r.call()?.0).map(text)
    }),
    column("syscall_nr", Holds::Int, |r| Some(int(r.call()?.0))),
    column("arg0", Holds::Unsigned, |r| Some(unsigned(r.call()?.1))),
    column("arg1", Holds::Unsigned, |r| Some(unsigned(r.call()?.2))),
    column("act", Holds::Text, |r| Some(text(names::act(r.act()?.act)))),
    column("act_result", Holds::Int, |r| Some(int(r.act()?.result))),
    column("act_name", Holds::Text, |r| {
        Some(text(crate::model::text::escape(r.act()?.name())))
    }),
    column("target_tid", Holds::Int, |r| Some(int(r.target()?.tid))),
    column("target_tgid", Holds::Int, |r| Some(int(r.target()?.tgid))),
    column("object_dev", Holds::Int, |r| Some(int(r.object()?.dev))),
    column("object_ino", Holds::Unsigned, |r| {
        Some(unsigned(r.object()?.ino))
    }),
    column("object_mnt_ns", Holds::Int, |r| {
        Some(int(r.object()?.mnt_ns_inum))
    }),
    column("object_mode", Holds::Int, |r| Some(int(r.object()?.mode))),
    column("object_rdev", Holds::Int, |r| Some(int(r.object()?.rdev))),
    column("object_fs_magic", Holds::Int, |r| {
        Some(int(r.object()?.fs_magic))
    }),
    column("actor_tid", Holds::Int, |r| Some(int(r.actor()?.tid))),
    column("actor_tgid", Holds::Int, |r| Some(int(r.actor()?.tgid))),
    column("actor_start_boottime_ns", Holds::Unsigned, |r| {
        Some(unsigned(r.actor()?.start_boottime_ns))
    }),
    column("tid", Holds::Int, |r| Some(int(r.key()?.tid))),
    column("tgid", Holds::Int, |r| Some(int(r.key()?.tgid))),
    column("start_boottime_ns", Holds::Unsigned, |r| {
        Some(unsigned(r.key()?.start_boottime_ns))
    }),
    column("parent_tid", Holds::Int, |r| {
        Some(int(r.state()?.parent.tid))
    }),
    column("parent_tgid", Holds::Int, |r| {
        Some(int(r.state()?.parent.tgid))
    }),
    column("comm", Holds::Text, |r| Some(kernel_text(&r.state()?.comm))),
    column("file", Holds::Text, |r| r.file()),
    column("exit_code", Holds::Int, |r| r.exit_code()),
    column("ns_mnt", Holds::Int, |r| r.namespace(ns::MNT)),
    column("ns_pid", Holds::Int, |r| r.namespace(ns::PID)),
    column("ns_pid_for_children", Holds::Int, |r| {
        r.namespace(ns::PID_FOR_CHILDREN)
    }),
    column("ns_net", Holds::Int, |r| r.namespace(ns::NET)),
    column("ns_ipc", Holds::Int, |r| r.namespace(ns::IPC)),
    column("ns_uts", Holds::Int, |r| r.namespace(ns::UTS)),
    column("ns_cgroup", Holds::Int, |r| r.namespace(ns::CGROUP)),
    column("ns_time", Holds::Int, |r| r.namespace(ns::TIME)),
    column("ns_time_for_children", Holds::Int, |r| {
        r.namespace(ns::TIME_FOR_CHILDREN)
    }),
    column("ns_user", Holds::Int, |r| r.namespace(ns::USER)),
    column("cgroup_id", Holds::Unsigned, |r| {
        r.cgroup_id().map(unsigned)
    }),
    column("cgroup_path", Holds::Text, |r| r.cgroup_path()),
    column("cgroup_op", Holds::Text, |r| {
        Some(text(names::cgroup_op(r.cgroup()?.op)))
    }),
    column("hierarchy", Holds::Int, |r| {
        Some(int(r.cgroup()?.hierarchy))
    }),
    column("uid", Holds::Int, |r| Some(int(r.creds()?.uid))),
    column("gid", Holds::Int, |r| Some(int(r.creds()?.gid))),
    column("suid", Holds::Int, |r| Some(int(r.creds()?.suid))),
    column("sgid", Holds::Int, |r| Some(int(r.creds()?.sgid))),
    column("euid", Holds::Int, |r| Some(int(r.creds()?.euid))),
    column("egid", Holds::Int, |r| Some(int(r.creds()?.egid))),
    column("fsuid", Holds::Int, |r| Some(int(r.creds()?.fsuid))),
    column("fsgid", Holds::Int, |r| Some(int(r.creds()?.fsgid))),
    column("cap_inheritable", Holds::Unsigned, |r| {
        Some(unsigned(r.creds()?.cap_inheritable))
    }),
    column("cap_permitted", Holds::Unsigned, |r| {
        Some(unsigned(r.creds()?.cap_permitted))
    }),
    column("cap_effective", Holds::Unsigned, |r| {
        Some(unsigned(r.creds()?.cap_effective))
    }),
    column("cap_bounding", Holds::Unsigned, |r| {
        Some(unsigned(r.creds()?.cap_bounding))
    }),
    column("cap_ambient", Holds::Unsigned, |r| {
        Some(unsigned(r.creds()?.cap_ambient))
    }),
    column("securebits", Holds::Int, |r| {
        Some(int(r.creds()?.securebits))
    }),
    column("root_dev", Holds::Int, |r| Some(int(r.root()?.dev))),
    column("root_ino", Holds::Unsigned, |r| {
        Some(unsigned(r.root()?.ino))
    }),
    column("root_mnt_ns", Holds::Int, |r| {
        Some(int(r.root()?.mnt_ns_inum))
    }),
    column("cwd_dev", Holds::Int, |r| Some(int(r.cwd()?.dev))),
    column("cwd_ino", Holds::Unsigned, |r| Some(unsigned(r.cwd()?.ino))),
    column("cwd_mnt_ns", Holds::Int, |r| {
        Some(int(r.cwd()?.mnt_ns_inum))
    }),
    column("known", Holds::Int, |r| Some(int(r.state()?.known))),
    column("task_flags", Holds::Int, |r| {
        Some(int(r.state()?.task_flags))
    }),
    column("ns_tid", Holds::Int, |r| Some(int(r.state()?.ns_tid))),
    column("pid_level", Holds::Int, |r| Some(int(r.state()?.pid_level))),
    column("user_level", Holds::Int, |r| {
        Some(int(r.state()?.user_level))
    }),
    column("seccomp", Holds::Text, |r| {
        Some(text(names::seccomp(r.state()?.seccomp_mode)))
    }),
    column("seccomp_filters", Holds::Int, |r| {
        Some(int(r.state()?.seccomp_filters))
    }),
    column("complete", Holds::Flag, |r| r.complete()),
    column("place", Holds::Text, |r| r.place()),
    column("count", Holds::Unsigned, |r| r.count()),
    column("reason", Holds::Text, |r| r.reason()),
    column("json", Holds::Text, |r| r.json()),
];

fn kernel_text(bytes: &[u8]) -> Value {
    Value::Text(crate::model::text::escape(kernel_str(bytes)))
}

impl<'a> Row<'a> {
    const fn event(&self) -> Option<&'a Event<'a>> {
        match self.item {
            Item::Event(event) => Some(event),
            Item::Answer(_) | Item::Stop { .. } => None,
        }
    }

    fn record(&self) -> Option<&'a TaskRecord> {
        match self.event()? {
            Event::Task(record) => Some(record),
            Event::Exec(record) => Some(&record.task),
            _ => None,
        }
    }

    fn cgroup(&self) -> Option<&'a CgroupRecord> {
        match self.event()? {
            Event::Cgroup(record) => Some(record),
            _ => None,
        }
    }

    fn act(&self) -> Option<&'a ActRecord> {
        match self.event()? {
            Event::Act(record) => Some(record),
            _ => None,
        }
    }

    /// Of an act on a file or a task.
    fn object(&self) -> Option<&'a FileRef> {
        let object = &self.act()?.object;
        (*object != FileRef::default()).then_some(object)
    }

    fn target(&self) -> Option<&'a TaskKey> {
        let target = &self.act()?.target;
        (*target != TaskKey::default()).then_some(target)
    }

    /// Number of the system call, and the two arguments.
    fn call(&self) -> Option<(i32, u64, u64)> {
        match self.act() {
            Some(act) => Some((act.syscall, act.arg0, act.arg1)),
            None => self.record().map(|r| (r.syscall, r.arg0, r.arg1)),
        }
    }

    fn state(&self) -> Option<&'a TaskState> {
        self.record().map(|record| &record.state)
    }

    fn creds(&self) -> Option<&'a Creds> {
        self.state().map(|state| &state.creds)
    }

    fn root(&self) -> Option<&'a PathRef> {
        self.state().map(|state| &state.root)
    }

    fn cwd(&self) -> Option<&'a PathRef> {
        self.state().map(|state| &state.cwd)
    }

    fn header(&self) -> Option<&'a RecordHeader> {
        match self.event()? {
            Event::Exit(record) => Some(&record.header),
            Event::Cgroup(record) => Some(&record.header),
            Event::Act(record) => Some(&record.header),
            _ => self.record().map(|record| &record.header),
        }
    }

    fn actor(&self) -> Option<&'a TaskKey> {
        match self.event()? {
            Event::Exit(record) => Some(&record.key),
            Event::Cgroup(record) => Some(&record.actor),
            Event::Act(record) => Some(&record.actor),
            _ => self.record().map(|record| &record.actor),
        }
    }

    fn key(&self) -> Option<&'a TaskKey> {
        match self.event()? {
            Event::Exit(record) => Some(&record.key),
            _ => self.state().map(|state| &state.key),
        }
    }

    fn namespace(&self, slot: usize) -> Option<Value> {
        let inum = self.state()?.ns[slot].inum;
        (inum != 0).then(|| int(inum))
    }

    fn file(&self) -> Option<Value> {
        match self.event()? {
            Event::Exec(record) => Some(kernel_text(&record.filename)),
            _ => None,
        }
    }

    fn exit_code(&self) -> Option<Value> {
        match self.event()? {
            Event::Exit(record) => Some(int(record.exit_code)),
            _ => None,
        }
    }

    /// Of a task the one of its first hierarchy: v2 where that is there.
    fn task_cgroup(&self) -> Option<(u64, Option<&'a str>)> {
        let state = self.state()?;
        (0..CGROUP_SLOTS).find_map(|slot| self.lens.cgroup(state, slot))
    }

    fn cgroup_id(&self) -> Option<u64> {
        let own = self.cgroup().map(|record| record.id);
        own.or_else(|| self.task_cgroup().map(|(id, _)| id))
    }

    fn cgroup_path(&self) -> Option<Value> {
        if let Item::Answer(answer) = self.item {
            return Some(text(answer.cgroup_path));
        }
        match self.cgroup() {
            Some(record) => Some(text(path_of(record))),
            None => self.task_cgroup()?.1.map(text),
        }
    }

    fn complete(&self) -> Option<Value> {
        match self.event()? {
            Event::SweepEnd { complete, .. } => Some(Value::Flag(*complete)),
            _ => None,
        }
    }

    fn place(&self) -> Option<Value> {
        match self.event()? {
            Event::Loss(mark) => Some(text(mark.place.as_str())),
            _ => None,
        }
    }

    fn count(&self) -> Option<Value> {
        match self.event()? {
            Event::Loss(mark) => Some(unsigned(mark.count)),
            _ => None,
        }
    }

    fn reason(&self) -> Option<Value> {
        match self.item {
            Item::Stop { reason, .. } => Some(text(*reason)),
            _ => None,
        }
    }

    fn json(&self) -> Option<Value> {
        if let Item::Answer(answer) = self.item {
            return json(answer.answer?);
        }
        match self.event()? {
            Event::Looked(setup) => json(setup),
            Event::Restore(saved) => json(saved),
            Event::Policy(policy) => json(policy),
            Event::Loss(mark) => json(mark),
            _ => None,
        }
    }
}

fn schema() -> Result<Type> {
    let fields = COLUMNS.iter().map(|column| {
        let (physical, logical) = match column.holds {
            Holds::Int => (Physical::INT64, None),
            Holds::Unsigned => (Physical::INT64, Some(LogicalType::integer(64, false))),
            Holds::Time => (
                Physical::INT64,
                Some(LogicalType::timestamp(true, TimeUnit::NANOS)),
            ),
            Holds::Flag => (Physical::BOOLEAN, None),
            Holds::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        };
        Type::primitive_type_builder(column.name, physical)
            .with_logical_type(logical)
            .with_repetition(Repetition::OPTIONAL)
            .build()
            .map(Arc::new)
    });
    Type::group_type_builder("trace")
        .with_fields(fields.collect::<Result<_>>()?)
        .build()
}

/// One column of a group: its values, and which rows have one.
#[derive(Debug, Default)]
struct Cells {
    present: Vec<i16>,
    numbers: Vec<i64>,
    flags: Vec<bool>,
    texts: Vec<ByteArray>,
}

impl Cells {
    fn push(&mut self, value: Option<Value>) {
        self.present.push(i16::from(value.is_some()));
        match value {
            Some(Value::Number(number)) => self.numbers.push(number),
            Some(Value::Flag(flag)) => self.flags.push(flag),
            Some(Value::Text(text)) => self.texts.push(text.into_bytes().into()),
            None => {}
        }
    }

    fn clear(&mut self) {
        self.present.clear();
        self.numbers.clear();
        self.flags.clear();
        self.texts.clear();
    }
}

/// Collects rows and writes them in groups.
struct Table<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    cells: Vec<Cells>,
    rows: usize,
}

impl<W: Write + Send> Table<W> {
    fn new(out: W) -> Result<Self> {
        let compression = Compression::ZSTD(ZstdLevel::try_new(3)?);
        let properties = WriterProperties::builder().set_compression(compression);
        let writer =
            SerializedFileWriter::new(out, Arc::new(schema()?), Arc::new(properties.build()))?;
        Ok(Self {
            writer,
            cells: COLUMNS.iter().map(|_| Cells::default()).collect(),
            rows: 0,
        })
    }

    fn push(&mut self, row: &Row<'_>) -> Result<()> {
        for (column, cells) in COLUMNS.iter().zip(&mut self.cells) {
            cells.push((column.get)(row));
        }
        self.rows += 1;
        if self.rows == GROUP_ROWS {
            self.end_group()?;
        }
        Ok(())
    }

    fn end_group(&mut self) -> Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let mut group = self.writer.next_row_group()?;
        for (column, cells) in COLUMNS.iter().zip(&mut self.cells) {
            let Some(mut out) = group.next_column()? else {
                break;
            };
            let present = Some(cells.present.as_slice());
            match column.holds {
                Holds::Int | Holds::Unsigned | Holds::Time => out
                    .typed::<Int64Type>()
                    .write_batch(&cells.numbers, present, None)?,
                Holds::Flag => out
                    .typed::<BoolType>()
                    .write_batch(&cells.flags, present, None)?,
                Holds::Text => {
                    out.typed::<ByteArrayType>()
                        .write_batch(&cells.texts, present, None)?
                }
            };
            out.close()?;
            cells.clear();
        }
        group.close()?;
        self.rows = 0;
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        self.end_group()?;
        self.writer.finish()?;
        self.writer.inner_mut().flush()?;
        Ok(())
    }
}

/// Writes what is wanted of a trace; says how many rows that were.
///
/// # Errors
/// When the trace is damaged, or the writer fails.
pub fn write<R: Read, W: Write + Send>(
    trace: &mut TraceReader<R>,
    filter: &Filter,
    out: W,
) -> std::result::Result<u64, ToolError> {
    let mut lens = Lens::new(trace.header());
    let mut selection = Selection::new(filter);
    let mut table = Table::new(out).map_err(cannot_write)?;
    let mut number = 0;
    while trace.more()? {
        let in_prologue = trace.in_prologue();
        let Some(item) = trace.next_item()? else {
            break;
        };
        lens.learn(&item);
        if selection.wants(&item) {
            let row = Row {
                number,
                in_prologue,
                lens: &lens,
                item: &item,
            };
            table.push(&row).map_err(cannot_write)?;
            number += 1;
        }
    }
    table.finish().map_err(cannot_write)?;
    Ok(number.unsigned_abs())
}

fn cannot_write(error: ParquetError) -> ToolError {
    let source = match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(io) => *io,
            Err(other) => io::Error::other(other),
        },
        other => io::Error::other(other),
    };
    ToolError::Write(source)
}

#[cfg(test)]
mod tests {
    use super::{COLUMNS, GROUP_ROWS, write};
    use crate::engine::{Config, Event};
    use crate::trace::tool::filter::Filter;
    use crate::trace::{Header, Item, TraceReader, TraceWriter};
    use auditor_common::record::{ExecRecord, cause};
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;
    use zerocopy::FromZeros;

    /// Goal: what is written is read again by another reader, over more than one group. Method: the crate's own
    /// reader of rows over execs and ticks.
    #[test]
    fn rows_come_back() {
        let config = Config {
            realtime_offset_ns: 1_000_000,
            ..Config::default()
        };
        let header = Header::new(&config, 1, String::new());
        let mut writer = TraceWriter::new(Vec::new(), &header).unwrap();
        let mut exec = ExecRecord::new_zeroed();
        exec.task.cause = cause::EXEC;
        exec.task.state.creds.cap_permitted = u64::MAX;
        exec.filename[..7].copy_from_slice(b"/bin/sh");
        let pairs = GROUP_ROWS as u32;
        for tid in 1..=pairs {
            exec.task.state.key.tid = tid;
            writer.push(&Item::Event(Event::Exec(&exec))).unwrap();
            let boottime_ns = u64::from(tid);
            writer
                .push(&Item::Event(Event::Tick { boottime_ns }))
                .unwrap();
        }
        let bytes = writer.finish().unwrap();
        let mut table = Vec::new();
        let mut trace = TraceReader::open(bytes.as_slice()).unwrap();
        let rows = write(&mut trace, &Filter::default(), &mut table).unwrap();
        assert_eq!(rows, u64::from(2 * pairs));

        let reader = SerializedFileReader::new(bytes::Bytes::from(table)).unwrap();
        assert_eq!(reader.num_row_groups(), 2);
        let at = |name: &str| COLUMNS.iter().position(|c| c.name == name).unwrap();
        let mut tid = 0;
        for (number, row) in reader.get_row_iter(None).unwrap().enumerate() {
            let row = row.unwrap();
            assert_eq!(row.get_long(at("row")).unwrap(), number as i64);
            if row.get_string(at("kind")).unwrap() == "tick" {
                assert!(row.get_string(at("file")).is_err());
                assert_eq!(row.get_ulong(at("boottime_ns")).unwrap(), tid as u64);
                continue;
            }
            tid += 1;
            assert_eq!(row.get_long(at("tid")).unwrap(), tid);
            assert_eq!(row.get_string(at("file")).unwrap(), "/bin/sh");
            assert_eq!(row.get_ulong(at("cap_permitted")).unwrap(), u64::MAX);
        }
        assert_eq!(tid, i64::from(pairs));
    }

    /// Goal: every column is described. Method: the page.
    #[test]
    fn columns_are_documented() {
        let page = include_str!("../../../../docs/trace-export.md");
        for column in COLUMNS {
            assert!(
                page.contains(&format!("`{}`", column.name)),
                "{}",
                column.name
            );
        }
    }
}
