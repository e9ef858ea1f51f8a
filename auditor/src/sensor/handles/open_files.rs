//! Which descriptors are one open file, where no kernel program can say so: whoever may trace two processes may have the
//! kernel compare them (`kcmp(2)`).

use super::Compartment;
use auditor_common::record::HandleRecord;
use std::collections::BTreeMap;
use std::io;

/// `KCMP_FILE`.
const FILE: libc::c_int = 0;
/// Comparisons in one look: a fraction of a second.
const MAX_COMPARISONS: usize = 1 << 16;

/// Descriptors that may be one open file with others: those of one inode.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    by_inode: BTreeMap<(u32, u64), Vec<(HandleRecord, Compartment)>>,
    count: usize,
}

impl Candidates {
    /// Takes in one; says whether there was room.
    #[must_use]
    pub(super) fn take(
        &mut self,
        record: HandleRecord,
        compartment: Compartment,
        most: usize,
    ) -> bool {
        if self.count >= most {
            return false;
        }
        self.count += 1;
        let inode = (record.dev, record.ino);
        let same = self.by_inode.entry(inode).or_default();
        same.push((record, compartment));
        true
    }

    /// Those that more than one compartment has open; what is one open file has one identity. And whether all could be
    /// compared.
    #[must_use]
    pub(super) fn compare(self) -> (Vec<HandleRecord>, bool) {
        let (mut found, mut is_whole) = (Vec::new(), true);
        let (mut identity, mut comparisons) = (0, 0);
        for same in self.by_inode.into_values() {
            let first = same.first().map(|(_, compartment)| *compartment);
            if same.iter().all(|(_, of)| Some(*of) == first) {
                continue;
            }
            let mut known: Vec<HandleRecord> = Vec::new();
            for (mut record, _) in same {
                let mut one = None;
                for other in &known {
                    comparisons += 1;
                    if comparisons > MAX_COMPARISONS {
                        is_whole = false;
                        break;
                    }
                    match is_one(&record, other) {
                        Ok(true) => one = Some(other.identity),
                        Ok(false) => {}
                        Err(_) => is_whole = false,
                    }
                    if one.is_some() {
                        break;
                    }
                }
                record.identity = one.unwrap_or_else(|| {
                    identity += 1;
                    identity
                });
                if one.is_none() {
                    known.push(record);
                }
                found.push(record);
            }
        }
        (found, is_whole)
    }
}

/// Whether two descriptors are one open file. What is gone is no other's.
fn is_one(a: &HandleRecord, b: &HandleRecord) -> io::Result<bool> {
    // SAFETY: no memory is passed.
    let order = unsafe {
        libc::syscall(
            libc::SYS_kcmp,
            a.task.tgid,
            b.task.tgid,
            FILE,
            libc::c_ulong::from(a.descriptor),
            libc::c_ulong::from(b.descriptor),
        )
    };
    if order >= 0 {
        return Ok(order == 0);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ESRCH | libc::EBADF) => Ok(false),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    //! Goal: duplicates are one, files that were opened twice are not. Method: files of this process, said to be two
    //! compartments'.

    use super::*;
    use std::fs::File;
    use std::os::fd::AsRawFd;
    use zerocopy::FromZeros;

    fn record(file: &File) -> HandleRecord {
        let mut record = HandleRecord::new_zeroed();
        record.task.tgid = std::process::id();
        record.descriptor = u32::try_from(file.as_raw_fd()).unwrap();
        (record.dev, record.ino) = (1, 2);
        record
    }

    #[test]
    fn duplicates_are_one_open_file() {
        let first = File::open("/proc/self/maps").unwrap();
        let again = first.try_clone().unwrap();
        let other = File::open("/proc/self/maps").unwrap();
        let mut candidates = Candidates::default();
        for (file, compartment) in [(&first, 1), (&other, 2), (&again, 2)] {
            assert!(candidates.take(record(file), compartment, 3));
        }
        assert!(!candidates.take(record(&first), 1, 3));
        let (found, is_whole) = candidates.compare();
        if is_one(&record(&first), &record(&first)).is_err() {
            // A kernel may be built without.
            return;
        }
        assert!(is_whole);
        let of = |file: &File| {
            let of = record(file).descriptor;
            let mut found = found.iter();
            found
                .find(|record| record.descriptor == of)
                .unwrap()
                .identity
        };
        assert_eq!(of(&first), of(&again));
        assert_ne!(of(&first), of(&other));
    }

    /// What one compartment has open is its own business, however often.
    #[test]
    fn within_one_nothing_is_compared() {
        let file = File::open("/proc/self/maps").unwrap();
        let mut candidates = Candidates::default();
        for _ in 0..2 {
            assert!(candidates.take(record(&file), 7, 2));
        }
        assert_eq!(candidates.compare(), (Vec::new(), true));
    }
}
