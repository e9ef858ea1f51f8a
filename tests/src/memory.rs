//! The kernel's memory as /proc/kcore shows it: where a task's fields are, and what is in them.
//!
//! Only for reading. The kernel lets nobody write there; see `tamper` for who does.

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail, ensure};
use auditor::sensor::btf::{Btf, Field};
use auditor::sensor::resolve::load_btf;

/// Tasks looked at before the list counts as broken.
const MAX_TASKS: usize = 1 << 16;
/// How often the list of tasks is walked before a task is taken for missing.
const WALKS: u32 = 5;
/// Segments of /proc/kcore; a machine has a few dozen.
const MAX_SEGMENTS: usize = 1 << 12;
/// Physical address of a segment that has none.
const NOWHERE: u64 = u64::MAX;

/// The kernel's memory.
#[derive(Debug)]
pub(crate) struct Memory {
    file: File,
    segments: Vec<Segment>,
    types: Btf,
    first_task: u64,
}

/// A field of some object in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Virtual address.
    pub(crate) address: u64,
    /// Bytes.
    pub(crate) len: usize,
}

impl Place {
    const fn of(object: u64, field: Field) -> Self {
        Self {
            address: object.wrapping_add(field.offset as u64),
            len: field.size as usize,
        }
    }
}

/// A part of the kernel's address space, as a program header gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    offset: u64,
    virtual_start: u64,
    physical_start: u64,
    len: u64,
}

impl Segment {
    /// How far into the segment so many bytes begin, if all are in it.
    fn position(&self, address: u64, len: usize) -> Option<u64> {
        let position = address.checked_sub(self.virtual_start)?;
        let end = position.checked_add(len as u64)?;
        (end <= self.len).then_some(position)
    }
}

impl Memory {
    /// Opens it. Takes root, a kernel that is not locked down, and its type information.
    pub(crate) fn open() -> Result<Self> {
        let file = File::open("/proc/kcore").context("open /proc/kcore")?;
        let mut head = [0; HEADER_LEN];
        file.read_exact_at(&mut head, 0)
            .context("read the header of /proc/kcore")?;
        let (start, count) = program_headers(&head)?;
        let mut table = vec![0; count * PROGRAM_HEADER_LEN];
        file.read_exact_at(&mut table, start)
            .context("read the program headers of /proc/kcore")?;
        Ok(Self {
            file,
            segments: segments(&table),
            types: load_btf(None)?,
            first_task: symbol("init_task")?,
        })
    }

    /// The `task_struct` of a process, as the host numbers it.
    pub(crate) fn task(&self, pid: i32) -> Result<u64> {
        let mut found = self.walk_to(pid);
        for _ in 1..WALKS {
            if found.is_ok() {
                break;
            }
            found = self.walk_to(pid);
        }
        found
    }

    /// Nothing holds the list still: a task that ends meanwhile may lead anywhere.
    fn walk_to(&self, pid: i32) -> Result<u64> {
        let links = u64::from(self.types.field("task_struct.tasks")?.offset);
        let id = self.types.field("task_struct.pid")?;
        let mut task = self.first_task;
        for _ in 0..MAX_TASKS {
            // The list's links point at links, not at tasks.
            task = self.pointer(task.wrapping_add(links))?.wrapping_sub(links);
            ensure!(
                task != self.first_task,
                "no task {pid} in the kernel's list"
            );
            if self.read(Place::of(task, id))? == pid.to_le_bytes() {
                return Ok(task);
            }
        }
        bail!("the kernel's list of tasks does not end")
    }

    /// A field of the object at an address; the path begins with the object's type.
    pub(crate) fn field(&self, object: u64, path: &str) -> Result<Place> {
        Ok(Place::of(object, self.types.field(path)?))
    }

    /// The pointer at an address.
    pub(crate) fn pointer(&self, address: u64) -> Result<u64> {
        let bytes = self.read(Place { address, len: 8 })?;
        Ok(word(&bytes, 0))
    }

    /// What is in a field.
    pub(crate) fn read(&self, place: Place) -> Result<Vec<u8>> {
        let (segment, position) = self.find(place)?;
        let mut bytes = vec![0; place.len];
        self.file
            .read_exact_at(&mut bytes, segment.offset + position)
            .with_context(|| format!("read {place:x?} from /proc/kcore"))?;
        Ok(bytes)
    }

    /// Where a field is in the machine's memory.
    pub(crate) fn physical(&self, place: Place) -> Result<u64> {
        let (segment, position) = self.find(place)?;
        ensure!(
            segment.physical_start != NOWHERE,
            "{place:x?} has no physical address"
        );
        Ok(segment.physical_start + position)
    }

    fn find(&self, place: Place) -> Result<(Segment, u64)> {
        let within = |segment: &Segment| {
            let position = segment.position(place.address, place.len)?;
            Some((*segment, position))
        };
        self.segments
            .iter()
            .find_map(within)
            .with_context(|| format!("{place:x?} is in no segment of /proc/kcore"))
    }
}

const HEADER_LEN: usize = 64;
const PROGRAM_HEADER_LEN: usize = 56;

/// `PT_LOAD`.
const LOAD: u32 = 1;

fn word(bytes: &[u8], at: usize) -> u64 {
    let chunk = bytes.get(at..).and_then(|rest| rest.first_chunk());
    chunk.map_or(0, |chunk| u64::from_le_bytes(*chunk))
}

fn half(bytes: &[u8], at: usize) -> usize {
    let chunk = bytes.get(at..).and_then(|rest| rest.first_chunk());
    chunk.map_or(0, |chunk| usize::from(u16::from_le_bytes(*chunk)))
}

/// Where the table of program headers begins, and how many there are (elf(5), 64 bit).
fn program_headers(head: &[u8]) -> Result<(u64, usize)> {
    ensure!(
        head.starts_with(b"\x7fELF\x02\x01"),
        "/proc/kcore is no 64-bit little-endian ELF file"
    );
    let (start, len, count) = (word(head, 32), half(head, 54), half(head, 56));
    ensure!(
        len == PROGRAM_HEADER_LEN && count <= MAX_SEGMENTS,
        "/proc/kcore has {count} program headers of {len} bytes"
    );
    Ok((start, count))
}

fn segments(table: &[u8]) -> Vec<Segment> {
    table
        .chunks_exact(PROGRAM_HEADER_LEN)
        .filter(|header| header.starts_with(&LOAD.to_le_bytes()))
        .map(|header| Segment {
            offset: word(header, 8),
            virtual_start: word(header, 16),
            physical_start: word(header, 24),
            len: word(header, 40),
        })
        .collect()
}

/// The address of a variable of the kernel.
fn symbol(name: &str) -> Result<u64> {
    let text = std::fs::read_to_string("/proc/kallsyms").context("read /proc/kallsyms")?;
    let address = text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next()?;
        (words.nth(1) == Some(name)).then(|| u64::from_str_radix(address, 16).ok())?
    });
    address
        .filter(|address| *address != 0)
        .with_context(|| format!("/proc/kallsyms does not tell where {name} is"))
}

#[cfg(test)]
mod tests {
    use super::{NOWHERE, Segment, program_headers, segments};

    /// Goal: an address is found where it is, and only if all of it is there. Method: a file of a note and two segments.
    #[test]
    fn segments_are_read() {
        let mut head = [0; 64];
        head[..6].copy_from_slice(b"\x7fELF\x02\x01");
        head[32] = 64;
        head[54] = 56;
        head[56] = 3;
        assert_eq!(program_headers(&head).unwrap(), (64, 3));
        head[54] = 57;
        assert!(program_headers(&head).is_err());

        let header = |kind: u32, words: [u64; 5]| {
            let mut bytes = [kind.to_le_bytes(), [0; 4]].concat();
            bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
            bytes.resize(56, 0);
            bytes
        };
        let table = [
            header(4, [1, 0, 0, 9, 9]),
            header(1, [0x1000, 0xffff_8000, 0x2000, 0x100, 0x100]),
            header(1, [0x3000, 0xffff_c000, NOWHERE, 0x10, 0x10]),
        ];
        let found = segments(&table.concat());
        let first = Segment {
            offset: 0x1000,
            virtual_start: 0xffff_8000,
            physical_start: 0x2000,
            len: 0x100,
        };
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], first);
        assert_eq!(first.position(0xffff_80f8, 8), Some(0xf8));
        assert_eq!(first.position(0xffff_80f9, 8), None);
        assert_eq!(first.position(0xffff_7fff, 8), None);
    }
}
