//! Kinds of file systems, by the number that the kernel knows them by (`include/uapi/linux/magic.h`).

/// procfs.
pub const PROC: u32 = 0x9fa0;
/// sysfs.
pub const SYSFS: u32 = 0x6265_6572;
/// cgroup v1.
pub const CGROUP: u32 = 0x0027_e0eb;
/// cgroup v2.
pub const CGROUP2: u32 = 0x6367_7270;
/// debugfs.
pub const DEBUGFS: u32 = 0x6462_6720;
/// tracefs.
pub const TRACEFS: u32 = 0x7472_6163;
/// securityfs.
pub const SECURITYFS: u32 = 0x7363_6673;
/// The BPF file system.
pub const BPF: u32 = 0xcafe_4a11;
/// binfmt_misc.
pub const BINFMT: u32 = 0x4249_4e4d;
/// overlayfs.
pub const OVERLAY: u32 = 0x794c_7630;
/// devpts.
pub const DEVPTS: u32 = 0x1cd1;
/// nsfs: namespaces as files.
pub const NSFS: u32 = 0x6e73_6673;

/// What a file's mode says of its type (`S_IFMT`).
pub const TYPE_MASK: u32 = 0o170_000;
/// A directory.
pub const DIRECTORY: u32 = 0o040_000;
/// A character device.
pub const CHARACTER: u32 = 0o020_000;
/// A block device.
pub const BLOCK: u32 = 0o060_000;
/// A regular file.
pub const REGULAR: u32 = 0o100_000;
/// A socket.
pub const SOCKET: u32 = 0o140_000;
