//! Writes the "newc" archives that the kernel unpacks as its initial root (Documentation/driver-api/early-userspace).

use std::io::{Result, Write};

/// An archive being written.
pub(crate) struct Archive<W> {
    output: W,
    inode: u32,
}

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const LINK: u32 = 0o120_777;
const CHARACTER_DEVICE: u32 = 0o020_600;

impl<W: Write> Archive<W> {
    pub(crate) fn new(output: W) -> Self {
        Self { output, inode: 1 }
    }

    /// Adds a directory. Parents must have been added before.
    pub(crate) fn directory(&mut self, path: &str) -> Result<()> {
        self.entry(path, DIRECTORY, 0, &[])
    }

    /// Adds an executable file.
    pub(crate) fn program(&mut self, path: &str, content: &[u8]) -> Result<()> {
        self.entry(path, PROGRAM, 0, content)
    }

    /// Adds a symbolic link.
    pub(crate) fn link(&mut self, path: &str, target: &str) -> Result<()> {
        self.entry(path, LINK, 0, target.as_bytes())
    }

    /// Adds /dev/console, without which the first process has no standard output.
    pub(crate) fn console(&mut self) -> Result<()> {
        self.entry("dev/console", CHARACTER_DEVICE, 0x0005_0001, &[])
    }

    /// Ends the archive. Another may follow in the same file.
    pub(crate) fn finish(mut self) -> Result<W> {
        self.entry("TRAILER!!!", 0, 0, &[])?;
        Ok(self.output)
    }

    fn entry(&mut self, path: &str, mode: u32, device: u32, content: &[u8]) -> Result<()> {
        let name_length = path.len() as u32 + 1;
        let (major, minor) = (device >> 16, device & 0xffff);
        let inode = self.inode;
        self.inode += 1;
        let fields = [
            inode,
            mode,
            0,
            0,
            1,
            0,
            content.len() as u32,
            0,
            0,
            major,
            minor,
            name_length,
            0,
        ];
        self.output.write_all(b"070701")?;
        for field in fields {
            write!(self.output, "{field:08x}")?;
        }
        self.output.write_all(path.as_bytes())?;
        self.output.write_all(b"\0")?;
        self.pad(110 + name_length as usize)?;
        self.output.write_all(content)?;
        self.pad(content.len())
    }

    fn pad(&mut self, written: usize) -> Result<()> {
        self.output.write_all(&[0; 3][..written.wrapping_neg() % 4])
    }
}

#[cfg(test)]
mod tests {
    use super::Archive;

    /// Goal: headers, names and contents are aligned as the kernel expects. Method: one small file.
    #[test]
    fn entries_are_aligned() {
        let mut archive = Archive::new(Vec::new());
        archive.program("init", b"12345").unwrap();
        let bytes = archive.finish().unwrap();
        // 110 bytes of header and "init\0" make 115, padded to 116; then 5 bytes, padded to 8.
        assert_eq!(&bytes[110..116], b"init\0\0");
        assert_eq!(&bytes[116..121], b"12345");
        assert_eq!(&bytes[124..130], b"070701");
        assert_eq!(bytes.len() % 4, 0);
    }
}
