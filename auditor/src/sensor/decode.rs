//! From bytes to records. Bytes come from the kernel's rings and iterators, so they should be whole; if
//! they are not, that is an error with its place and not a panic.

use auditor_common::record::{
    ActRecord, CgroupRecord, CodeRecord, ExecRecord, ExitRecord, HandleRecord, RecordHeader,
    TaskRecord, kind,
};
use zerocopy::FromBytes;

/// One decoded record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A task's state.
    Task(TaskRecord),
    /// An exec.
    Exec(ExecRecord),
    /// An exit.
    Exit(ExitRecord),
    /// A cgroup.
    Cgroup(CgroupRecord),
    /// An act on an object.
    Act(ActRecord),
    /// A handle that a task has: only iterators write it.
    Handle(HandleRecord),
    /// Instructions of a device program.
    Code(CodeRecord),
}

/// Bytes that are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Fewer bytes than a header, or than the header says.
    #[error("record at byte {offset} is cut: {have} of {want} bytes")]
    Cut {
        /// Where it starts.
        offset: usize,
        /// Bytes that are there.
        have: usize,
        /// Bytes that should be.
        want: usize,
    },
    /// A kind that this version does not know, or a size that is not that kind's.
    #[error(
        "record at byte {offset} has kind {kind} and size {size}, which do not belong together"
    )]
    Kind {
        /// Where it starts.
        offset: usize,
        /// Its kind.
        kind: u16,
        /// Its size.
        size: u16,
    },
}

/// The records of a batch.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    bytes: &'a [u8],
    offset: usize,
}

/// The records that `bytes` hold, one after the other. Ends at the first error.
#[must_use]
pub fn records(bytes: &[u8]) -> Records<'_> {
    Records { bytes, offset: 0 }
}

impl Iterator for Records<'_> {
    type Item = Result<Decoded, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let offset = self.offset;
        let rest = self.bytes.get(offset..).filter(|rest| !rest.is_empty())?;
        let decoded = decode(rest, offset);
        self.offset = match &decoded {
            Ok((_, size)) => offset + size,
            Err(_) => self.bytes.len(),
        };
        Some(decoded.map(|(record, _)| record))
    }
}

fn decode(bytes: &[u8], offset: usize) -> Result<(Decoded, usize), DecodeError> {
    let cut = |want| DecodeError::Cut {
        offset,
        have: bytes.len(),
        want,
    };
    let (header, _) =
        RecordHeader::read_from_prefix(bytes).map_err(|_| cut(size_of::<RecordHeader>()))?;
    let size = usize::from(header.size);
    let record = bytes.get(..size).ok_or_else(|| cut(size))?;
    let wrong = |_| DecodeError::Kind {
        offset,
        kind: header.kind,
        size: header.size,
    };
    let decoded = match header.kind {
        kind::TASK => TaskRecord::read_from_bytes(record)
            .map(Decoded::Task)
            .map_err(|_| wrong(())),
        kind::EXEC => ExecRecord::read_from_bytes(record)
            .map(Decoded::Exec)
            .map_err(|_| wrong(())),
        kind::EXIT => ExitRecord::read_from_bytes(record)
            .map(Decoded::Exit)
            .map_err(|_| wrong(())),
        kind::CGROUP => CgroupRecord::read_from_bytes(record)
            .map(Decoded::Cgroup)
            .map_err(|_| wrong(())),
        kind::ACT => ActRecord::read_from_bytes(record)
            .map(Decoded::Act)
            .map_err(|_| wrong(())),
        kind::CODE => CodeRecord::read_from_bytes(record)
            .map(Decoded::Code)
            .map_err(|_| wrong(())),
        kind::HANDLE => HandleRecord::read_from_bytes(record)
            .map(Decoded::Handle)
            .map_err(|_| wrong(())),
        _ => Err(wrong(())),
    }?;
    Ok((decoded, size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use auditor_common::record::TaskKey;
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    fn exit(tid: u32) -> ExitRecord {
        let size = u16::try_from(size_of::<ExitRecord>()).unwrap();
        ExitRecord {
            header: RecordHeader {
                boottime_ns: 1,
                cpu_seq: 2,
                kind: kind::EXIT,
                hook: 5,
                cpu: 0,
                size,
            },
            key: TaskKey {
                tid,
                tgid: tid,
                start_boottime_ns: 3,
            },
            exit_code: 0,
            reserved: 0,
        }
    }

    /// Whole records come out in order; a cut one is an error with its place.
    #[test]
    fn decodes_and_refuses() {
        let mut bytes = exit(1).as_bytes().to_vec();
        bytes.extend_from_slice(exit(2).as_bytes());
        let all: Vec<_> = records(&bytes).collect();
        assert_eq!(
            all,
            [Ok(Decoded::Exit(exit(1))), Ok(Decoded::Exit(exit(2)))]
        );
        bytes.pop();
        let last = records(&bytes).last().unwrap();
        assert_eq!(
            last,
            Err(DecodeError::Cut {
                offset: 48,
                have: 47,
                want: 48
            })
        );
        let mut lying = exit(1);
        lying.header.kind = kind::TASK;
        let error = records(lying.as_bytes()).next().unwrap();
        assert_eq!(
            error,
            Err(DecodeError::Kind {
                offset: 0,
                kind: kind::TASK,
                size: 48
            })
        );
    }

    proptest! {
        /// Arbitrary bytes end in records and at most one error, never in a panic or a loop.
        #[test]
        fn arbitrary_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
            prop_assert!(records(&bytes).take(5000).filter(Result::is_err).count() <= 1);
        }
    }
}
