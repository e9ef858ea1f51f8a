//! `/proc/<pid>/mountinfo` as data. It is the one place where a process without kernel programs learns a
//! superblock's device as the kernel has it (statx reports another one for btrfs), and which mounts a mount
//! namespace holds.
//!
//! Format: proc_pid_mountinfo(5). Fields are separated by single spaces; space, tab, newline and backslash
//! within a field are written as three octal digits.

use thiserror::Error;

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Unique within the mount's life, over all mount namespaces.
    pub id: u32,
    /// The mount that this one is mounted on; may be out of sight.
    pub parent_id: u32,
    /// Device of the superblock, in the kernel's encoding (major << 20 | minor).
    pub dev: u32,
    /// Directory of the file system that is mounted.
    pub root: Vec<u8>,
    /// Where it is mounted, seen from the root of the process.
    pub mount_point: Vec<u8>,
    /// File system type.
    pub fs_type: Vec<u8>,
    /// Options of the superblock, for cgroup v1 also its controllers.
    pub super_options: Vec<u8>,
    /// Options of the mount itself: `ro`, `nosuid`, `nodev`, `noexec`, …
    pub options: Vec<u8>,
    /// Peer group that it propagates to (`shared:N`); 0: none.
    pub shared: u32,
    /// Peer group that it receives from (`master:N`); 0: none.
    pub master: u32,
}

impl Mount {
    /// Whether nothing can be written through it: the mount, or its superblock, is read-only.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        let read_only = |options: &[u8]| options.split(|&b| b == b',').any(|o| o == b"ro");
        read_only(&self.options) || read_only(&self.super_options)
    }
}

impl Mount {
    /// Of an overlay that can be written: the directory that takes what is written, where it is a whole path.
    #[must_use]
    pub fn upper(&self) -> Option<&[u8]> {
        let options = self.super_options.split(|&b| b == b',');
        let mut uppers = options.filter_map(|option| option.strip_prefix(b"upperdir="));
        let upper = uppers.next().filter(|_| self.fs_type == b"overlay");
        upper.filter(|path| path.starts_with(b"/"))
    }
}

/// A line that is no mount.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("mountinfo line {line} is malformed: {what}")]
pub struct MountinfoError {
    /// Number of the line, from 1.
    pub line: usize,
    /// The part that is wrong.
    pub what: &'static str,
}

/// Joins a device number the way `MKDEV` in the kernel does.
#[must_use]
pub fn kernel_dev(major: u32, minor: u32) -> u32 {
    (major << 20) | (minor & 0x000f_ffff)
}

/// Parses a whole file.
///
/// # Errors
/// At the first line that is malformed.
pub fn parse(text: &[u8]) -> Result<Vec<Mount>, MountinfoError> {
    let lines = text
        .split(|&b| b == b'\n')
        .enumerate()
        .filter(|(_, line)| !line.is_empty());
    lines
        .map(|(index, line)| {
            parse_line(line).map_err(|what| MountinfoError {
                line: index + 1,
                what,
            })
        })
        .collect()
}

fn parse_line(line: &[u8]) -> Result<Mount, &'static str> {
    let mut fields = line.split(|&b| b == b' ');
    let id = decimal(fields.next()).ok_or("mount id")?;
    let parent_id = decimal(fields.next()).ok_or("parent id")?;
    let dev = fields.next().and_then(device).ok_or("device")?;
    let root = fields.next().map(unescape).ok_or("root")?;
    let mount_point = fields.next().map(unescape).ok_or("mount point")?;
    let options = fields.next().map(unescape).ok_or("mount options")?;
    // Optional fields end with a lone hyphen.
    let (mut shared, mut master) = (0, 0);
    loop {
        let field = fields.next().ok_or("separator")?;
        if field == b"-" {
            break;
        }
        let group = |prefix: &[u8]| field.strip_prefix(prefix).and_then(|n| decimal(Some(n)));
        shared = group(b"shared:").unwrap_or(shared);
        master = group(b"master:").unwrap_or(master);
    }
    let fs_type = fields.next().map(unescape).ok_or("file system type")?;
    fields.next().ok_or("source")?;
    let super_options = fields.next().map(unescape).ok_or("super options")?;
    Ok(Mount {
        id,
        parent_id,
        dev,
        root,
        mount_point,
        fs_type,
        super_options,
        options,
        shared,
        master,
    })
}

fn decimal(field: Option<&[u8]>) -> Option<u32> {
    std::str::from_utf8(field?).ok()?.parse().ok()
}

fn device(field: &[u8]) -> Option<u32> {
    let (major, minor) = std::str::from_utf8(field).ok()?.split_once(':')?;
    Some(kernel_dev(major.parse().ok()?, minor.parse().ok()?))
}

/// Undoes `\040` and the like.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        match (byte, tail) {
            (
                b'\\',
                [
                    a @ b'0'..=b'3',
                    b @ b'0'..=b'7',
                    c @ b'0'..=b'7',
                    after @ ..,
                ],
            ) => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    //! Goal: real lines parse, odd ones are refused or unescaped, any bytes are survived. Method: lines
    //! from a hybrid host and random input.

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_with_and_without_optional_fields_parse() {
        let text = b"41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n\
            27 1 254:3 /sub /a\\040b\\134 rw shared:1 master:2 - ext4 /dev/vda rw,discard\n";
        let mounts = parse(text).unwrap();
        assert_eq!((mounts[0].id, mounts[0].dev), (41, 38));
        assert_eq!(mounts[0].fs_type, b"cgroup2");
        assert_eq!(mounts[1].dev, 254 << 20 | 3);
        assert_eq!(mounts[1].mount_point, b"/a b\\");
        assert_eq!(mounts[1].super_options, b"rw,discard");
        assert_eq!((mounts[1].shared, mounts[1].master), (1, 2));
        assert_eq!((mounts[0].shared, mounts[0].master), (0, 0));
    }

    #[test]
    fn read_only_is_the_mount_or_its_superblock() {
        let text = b"1 0 0:1 / /a ro,nosuid - proc p rw\n2 0 0:1 / /b rw - ext4 d ro\n\
            3 0 0:1 / /c rw,noexec - ext4 d rw,errors=remount-ro\n";
        let mounts = parse(text).unwrap();
        assert_eq!(
            mounts.iter().map(Mount::is_read_only).collect::<Vec<_>>(),
            [true, true, false]
        );
    }

    #[test]
    fn an_overlay_names_where_it_writes() {
        let text = b"1 0 0:1 / / rw - overlay o rw,lowerdir=/l,upperdir=/a\\040b/diff,workdir=/w\n\
            2 0 0:2 / /b rw - overlay o rw,lowerdir=l/X:l/Y,upperdir=c/diff,workdir=c/work\n\
            3 0 0:3 / /c ro - overlay o ro,lowerdir=/l:/m\n\
            4 0 0:4 / /d rw - ext4 d rw,upperdir=/x\n";
        let mounts = parse(text).unwrap();
        let uppers: Vec<_> = mounts.iter().map(Mount::upper).collect();
        assert_eq!(uppers, [Some(&b"/a b/diff"[..]), None, None, None]);
    }

    #[test]
    fn malformed_lines_are_named() {
        let error = parse(b"1 0 0:1 / / rw - a b c\n2 0 0;1 / / rw - a b c\n").unwrap_err();
        assert_eq!(error.to_string(), "mountinfo line 2 is malformed: device");
        assert_eq!(
            parse(b"1 0 0:1 / / rw a b c").unwrap_err().what,
            "separator"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(text in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = parse(&text);
        }
    }
}
