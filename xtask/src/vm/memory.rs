//! A hand in a guest's memory: what a kernel exploit leaves there can be tested without one.
//!
//! The guest asks for writes by a line among its results. QEMU keeps the guest's memory in a file without a name, which is
//! open in /proc as long as QEMU lives. A guest has so little memory that all of it lies below the PCI hole, so a
//! physical address is an offset in the file.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Child;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// Makes QEMU share the guest's memory, as large as without.
pub(super) const OPTIONS: [&str; 4] = [
    "-object",
    "memory-backend-memfd,id=memory,size=2048M,share=on",
    "-machine",
    "memory-backend=memory",
];

/// One guest's requests, and its memory.
pub(super) struct Hand {
    requests: File,
    /// The end of what was read, without a line's end.
    partial: Vec<u8>,
    memory: Option<File>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Request {
    memory: Vec<Write>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Write {
    /// Physical.
    address: u64,
    bytes: Vec<u8>,
}

impl Hand {
    /// Follows the file in which the guest's results will be.
    pub(super) fn new(results: &Path) -> Result<Self> {
        let requests =
            File::open(results).with_context(|| format!("open {}", results.display()))?;
        Ok(Self {
            requests,
            partial: Vec::new(),
            memory: None,
        })
    }

    /// Does what the guest has asked for since the last time.
    pub(super) fn serve(&mut self, qemu: &Child) -> Result<()> {
        self.requests
            .read_to_end(&mut self.partial)
            .context("read the guest's requests")?;
        for request in requests(&mut self.partial) {
            let memory = match &self.memory {
                Some(memory) => memory,
                None => self.memory.insert(open(qemu.id())?),
            };
            write(memory, &request)?;
        }
        Ok(())
    }
}

/// Takes the complete lines, and gives the requests among them.
fn requests(text: &mut Vec<u8>) -> Vec<Request> {
    let end = text.iter().rposition(|byte| *byte == b'\n');
    let rest = text.split_off(end.map_or(0, |end| end + 1));
    let lines = std::mem::replace(text, rest);
    lines
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect()
}

/// Opens the file that QEMU keeps the guest's memory in.
fn open(pid: u32) -> Result<File> {
    let descriptors = format!("/proc/{pid}/fd");
    let is_memory = |path: &Path| {
        let target = std::fs::read_link(path).unwrap_or_default();
        target
            .as_os_str()
            .as_encoded_bytes()
            .starts_with(b"/memfd:memory-backend")
    };
    let path = std::fs::read_dir(&descriptors)
        .with_context(|| format!("list {descriptors}"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| is_memory(path))
        .with_context(|| format!("no guest's memory in {descriptors}"))?;
    File::options()
        .read(true)
        .write(true)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))
}

fn write(memory: &File, request: &Request) -> Result<()> {
    let size = memory.metadata().context("look at a guest's memory")?.len();
    for Write { address, bytes } in &request.memory {
        let end = address.checked_add(bytes.len() as u64);
        ensure!(
            end.is_some_and(|end| end <= size),
            "{address:#x} is outside of the guest's memory"
        );
        memory
            .write_all_at(bytes, *address)
            .with_context(|| format!("write to the guest's memory at {address:#x}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Request, Write, requests, write};

    /// Goal: requests are found among results, also when a read ends within a line. Method: three lines in two parts.
    #[test]
    fn requests_are_found() {
        let mut text =
            b"{\"case\":\"a\",\"verdict\":\"passed\"}\nnoise\n{\"memory\":[{\"addr".to_vec();
        assert_eq!(requests(&mut text), []);
        text.extend(b"ess\":4096,\"bytes\":[1,255]}]}\n{\"ex");
        let memory = vec![Write {
            address: 4096,
            bytes: vec![1, 255],
        }];
        assert_eq!(requests(&mut text), [Request { memory }]);
        assert_eq!(text, b"{\"ex");
    }

    /// Goal: nothing is written beyond the guest's memory. Method: a file of four bytes.
    #[test]
    fn writes_stay_inside() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4).unwrap();
        let at = |address, bytes: &[u8]| {
            let bytes = bytes.to_vec();
            let memory = vec![Write { address, bytes }];
            write(&file, &Request { memory })
        };
        assert!(at(2, &[7, 8]).is_ok());
        assert!(at(3, &[7, 8]).is_err());
        assert!(at(u64::MAX, &[7, 8]).is_err());
        let mut bytes = [0; 4];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, 0).unwrap();
        assert_eq!(bytes, [0, 0, 7, 8]);
    }
}
