//! Event records, as kernel programs write them.
//!
//! One idea carries the format: **a state-bearing event is the whole state of a task after the
//! fact**, plus what caused it. The engine compares it with what it knew; it never has to trust
//! a syscall's arguments, and a sweep's ground truth is the same record with another cause.

use crate::limits::{
    ACT_NAME_LEN, CGROUP_PATH_LEN, CGROUP_SLOTS, COMM_LEN, FILENAME_LEN, NS_SLOTS,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Values of [`RecordHeader::kind`].
pub mod kind {
    /// A [`super::TaskRecord`].
    pub const TASK: u16 = 1;
    /// An [`super::ExecRecord`].
    pub const EXEC: u16 = 2;
    /// An [`super::ExitRecord`].
    pub const EXIT: u16 = 3;
    /// A [`super::CgroupRecord`].
    pub const CGROUP: u16 = 4;
    /// An [`super::ActRecord`].
    pub const ACT: u16 = 5;
    /// A [`super::HandleRecord`].
    pub const HANDLE: u16 = 6;
    /// A [`super::CodeRecord`].
    pub const CODE: u16 = 7;
}

/// Values of [`TaskRecord::cause`]: why this state was captured.
pub mod cause {
    /// Ground truth from an iterator or from /proc; nothing happened.
    pub const SNAPSHOT: u32 = 1;
    /// The task was born; `arg0` holds the clone flags. `actor` is the parent.
    pub const FORK: u32 = 2;
    /// The task executed a file.
    pub const EXEC: u32 = 3;
    /// The task joined existing namespaces (setns).
    pub const SETNS: u32 = 4;
    /// The task made fresh namespaces; `arg0` holds the unshare flags, 0 where they are unknown.
    pub const UNSHARE: u32 = 5;
    /// The task's credentials changed by a call that may change them, or by one that the hook
    /// cannot name: see `syscall`.
    pub const CRED: u32 = 6;
    /// chroot.
    pub const CHROOT: u32 = 7;
    /// pivot_root: moves every task whose root was the old root.
    pub const PIVOT_ROOT: u32 = 8;
    /// chdir, fchdir.
    pub const CHDIR: u32 = 9;
    /// The task was moved into another cgroup; `arg0` holds the destination's id, `arg1` the
    /// hierarchy (0 for v2) and, in bit 32, whether the whole thread group moved.
    pub const ATTACH: u32 = 10;
    /// A program met the task with other namespaces than were told of it, or after an exec that was not: the kernel left
    /// out what should have told. `arg0` holds whether it executed something.
    pub const FOUND: u32 = 11;
}

/// Bit of `arg0` of a [`cause::FOUND`] record: the task executed something that was not told.
pub const FOUND_EXECUTED: u64 = 1;

/// Bit of `arg1` of a [`cause::ATTACH`] record: the whole thread group moved.
pub const ATTACH_THREADGROUP: u64 = 1 << 32;

/// Indexes into [`TaskState::ns`].
pub mod ns {
    /// Mount namespace.
    pub const MNT: usize = 0;
    /// The pid namespace that the task lives in.
    pub const PID: usize = 1;
    /// The pid namespace that its children will be born in.
    pub const PID_FOR_CHILDREN: usize = 2;
    /// Network namespace.
    pub const NET: usize = 3;
    /// System V IPC and POSIX message queue namespace.
    pub const IPC: usize = 4;
    /// Host name namespace.
    pub const UTS: usize = 5;
    /// Cgroup namespace.
    pub const CGROUP: usize = 6;
    /// Time namespace (5.6+).
    pub const TIME: usize = 7;
    /// Time namespace of children.
    pub const TIME_FOR_CHILDREN: usize = 8;
    /// User namespace of the task's credentials.
    pub const USER: usize = 9;
}

/// Slots of [`TaskState::cgroups`].
pub mod cgroup {
    /// Slot of the v2 (default) hierarchy.
    pub const V2: usize = 0;
    /// Kernel names of the v1 controllers in slots 1.., as in the BTF enum `cgroup_subsys_id`
    /// (suffix of the enumerator) and in `/proc/cgroups` (where `io` is called `blkio`).
    pub const CONTROLLERS: [&str; super::CGROUP_SLOTS - 1] = [
        "cpuset",
        "cpu",
        "cpuacct",
        "io",
        "memory",
        "devices",
        "freezer",
        "net_cls",
        "perf_event",
        "net_prio",
        "hugetlb",
        "pids",
        "rdma",
        "misc",
    ];
}

/// Bits of [`TaskState::known`]: which parts of the state were readable.
pub mod known {
    /// All of `ns` (a slot with inum 0 does not exist on this kernel).
    pub const NS: u32 = 1;
    /// All of `cgroups`.
    pub const CGROUPS: u32 = 1 << 1;
    /// `creds`.
    pub const CREDS: u32 = 1 << 2;
    /// `root`.
    pub const ROOT: u32 = 1 << 3;
    /// `cwd`.
    pub const CWD: u32 = 1 << 4;
    /// `seccomp_mode`, `seccomp_filters`, `no_new_privs`.
    pub const CONFINEMENT: u32 = 1 << 5;
    /// `parent`.
    pub const PARENT: u32 = 1 << 6;
    /// `ns[..].owner_inum`, `pid_parent_inum`, levels.
    pub const NS_OWNERS: u32 = 1 << 7;
    /// `root.mnt_ns_inum`, `cwd.mnt_ns_inum`.
    pub const PATH_MNT_NS: u32 = 1 << 8;
    /// Everything.
    pub const ALL: u32 = (1 << 9) - 1;
}

/// Bits of [`PathRef::flags`].
pub mod path_flags {
    /// The mount belongs to no mount namespace any more (or not yet): lazily unmounted, open_tree.
    pub const DETACHED: u32 = 1;
    /// Of an opened file: it is also one of the task's descriptors 0 to 2.
    pub const STREAM: u32 = 1 << 1;
}

/// Bits of [`TaskState::task_flags`].
pub mod task_flags {
    /// A kernel thread.
    pub const KTHREAD: u32 = 1;
    /// The leader of its thread group.
    pub const LEADER: u32 = 1 << 1;
    /// no_new_privs is set.
    pub const NO_NEW_PRIVS: u32 = 1 << 2;
    /// The task is exiting: its namespaces may be gone already.
    pub const EXITING: u32 = 1 << 3;
    /// An io_uring or vhost worker: a thread that user code never runs in (`PF_USER_WORKER`, `PF_IO_WORKER`).
    pub const USER_WORKER: u32 = 1 << 4;
    /// Its program lies on no mount of its own mount namespace: a runtime that makes a container, or sends somebody in.
    /// Only iterators say so.
    pub const ABROAD: u32 = 1 << 5;
}

/// First bytes of every record.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct RecordHeader {
    /// Nanoseconds since boot, suspend included (`CLOCK_BOOTTIME`), when the state was captured.
    pub boottime_ns: u64,
    /// Number of this event on its CPU, lost ones included; a gap localises a loss. 0 from /proc.
    pub cpu_seq: u64,
    /// See [`kind`].
    pub kind: u16,
    /// The hook that wrote it: an index into [`crate::hook::HOOKS`].
    pub hook: u16,
    /// CPU it was written on.
    pub cpu: u16,
    /// Bytes of the whole record, header included.
    pub size: u16,
}

/// A task's identity within one boot: ids are reused, the start time tells them apart.
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
pub struct TaskKey {
    /// Thread id in the initial pid namespace.
    pub tid: u32,
    /// Thread group id in the initial pid namespace.
    pub tgid: u32,
    /// Start in nanoseconds since boot (`task_struct.start_boottime`); from /proc it is only
    /// precise to a clock tick.
    pub start_boottime_ns: u64,
}

/// One namespace as a task refers to it.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct NsRef {
    /// Inode number on nsfs. Reused after the namespace dies. 0: no such namespace here.
    pub inum: u32,
    /// Inum of the owning user namespace; for a user namespace its parent's. 0: unknown, or none.
    pub owner_inum: u32,
    /// Unique id within the boot where the kernel has one (`ns_common.ns_id`, 6.18+; `mnt_namespace.seq`
    /// before), else 0.
    pub unique_id: u64,
}

/// A directory as a task refers to it (root or cwd).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PathRef {
    /// Inode number.
    pub ino: u64,
    /// Device of the superblock, in the kernel's encoding (major << 20 | minor).
    pub dev: u32,
    /// Inum of the mount namespace that the mount belongs to; 0: unknown, or detached.
    pub mnt_ns_inum: u32,
    /// Mount id, unique within the mount's life; 0: unknown.
    pub mnt_id: u32,
    /// See [`path_flags`].
    pub flags: u32,
}

/// Credentials (`struct cred`, the objective ones: `real_cred`).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Creds {
    /// Real user id, in the initial user namespace (as all ids here).
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// Saved user id.
    pub suid: u32,
    /// Saved group id.
    pub sgid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Effective group id.
    pub egid: u32,
    /// User id for file access.
    pub fsuid: u32,
    /// Group id for file access.
    pub fsgid: u32,
    /// Bit set of inheritable capabilities.
    pub cap_inheritable: u64,
    /// Bit set of permitted capabilities.
    pub cap_permitted: u64,
    /// Bit set of effective capabilities.
    pub cap_effective: u64,
    /// Bounding set.
    pub cap_bounding: u64,
    /// Ambient set.
    pub cap_ambient: u64,
    /// `SECBIT_*`.
    pub securebits: u32,
    /// Zero.
    pub reserved: u32,
}

/// Everything about a task that isolation depends on.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct TaskState {
    /// Who.
    pub key: TaskKey,
    /// Its real parent. `tid` is the thread group leader's.
    pub parent: TaskKey,
    /// Namespaces, see [`ns`].
    pub ns: [NsRef; NS_SLOTS],
    /// Leaf cgroup ids (kernfs node ids = inode numbers), see [`cgroup`]. v1 slots are 0 for
    /// controllers that are not mounted as v1.
    pub cgroups: [u64; CGROUP_SLOTS],
    /// Credentials.
    pub creds: Creds,
    /// Root directory.
    pub root: PathRef,
    /// Current working directory.
    pub cwd: PathRef,
    /// Command name, NUL padded. Any bytes.
    pub comm: [u8; COMM_LEN],
    /// What of this is readable: see [`known`].
    pub known: u32,
    /// See [`task_flags`].
    pub task_flags: u32,
    /// Thread id in the task's own pid namespace (1: that namespace's init). 0: unknown.
    pub ns_tid: u32,
    /// Depth of the task's pid namespace; 0 is the initial one.
    pub pid_level: u32,
    /// Inum of the parent of the task's pid namespace; 0: none, or unknown.
    pub pid_parent_inum: u32,
    /// Depth of the task's user namespace; 0 is the initial one.
    pub user_level: u32,
    /// 0 off, 1 strict, 2 filter.
    pub seccomp_mode: u32,
    /// Number of filters installed.
    pub seccomp_filters: u32,
}

/// A task's state and why it was captured.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct TaskRecord {
    /// Common header; `kind` is [`kind::TASK`] (or [`kind::EXEC`] inside an [`ExecRecord`]).
    pub header: RecordHeader,
    /// Who acted: `current`. The task itself but for births and attaches.
    pub actor: TaskKey,
    /// See [`cause`].
    pub cause: u32,
    /// Number of the syscall that the actor is in, by the machine's native table; -1 unknown.
    pub syscall: i32,
    /// Depends on the cause.
    pub arg0: u64,
    /// Depends on the cause.
    pub arg1: u64,
    /// The state after the fact.
    pub state: TaskState,
}

/// [`cause::EXEC`] with the file's name.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ExecRecord {
    /// The state; `arg0` holds the id that the thread had before it became the leader.
    pub task: TaskRecord,
    /// File name as the kernel kept it (`linux_binprm.filename`), NUL padded, cut when longer.
    pub filename: [u8; FILENAME_LEN],
}

/// A task ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ExitRecord {
    /// Common header; `kind` is [`kind::EXIT`].
    pub header: RecordHeader,
    /// Who.
    pub key: TaskKey,
    /// `task_struct.exit_code`.
    pub exit_code: u32,
    /// Zero.
    pub reserved: u32,
}

/// Values of [`CgroupRecord::op`].
pub mod cgroup_op {
    /// A cgroup was made.
    pub const MKDIR: u32 = 1;
    /// Its directory was removed.
    pub const RMDIR: u32 = 2;
    /// Its last reference went: its id may be reused.
    pub const RELEASE: u32 = 3;
    /// All tasks of it were moved by the kernel (cgroup_transfer_tasks); `id` is the destination.
    pub const TRANSFER: u32 = 4;
    /// Ground truth: the agent found it while walking cgroupfs.
    pub const WALK: u32 = 5;
}

/// A cgroup appeared or went.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct CgroupRecord {
    /// Common header; `kind` is [`kind::CGROUP`].
    pub header: RecordHeader,
    /// Who acted.
    pub actor: TaskKey,
    /// Its id (kernfs node id = inode number), unique within its hierarchy.
    pub id: u64,
    /// Its parent's id; 0: root, or unknown.
    pub parent_id: u64,
    /// Hierarchy id; 0 is v2.
    pub hierarchy: u32,
    /// See [`cgroup_op`].
    pub op: u32,
    /// Bytes of `path` in use. Equal to the capacity when it was cut.
    pub path_len: u32,
    /// Zero.
    pub reserved: u32,
    /// Path below the hierarchy's root, starting with `/`, not NUL terminated. Any bytes.
    pub path: [u8; CGROUP_PATH_LEN],
}

/// Values of [`ActRecord::act`]: what a task did to something outside of its own state. What is not
/// mentioned for an act is 0.
pub mod act {
    /// Opened a file. `object` and `name`: the file; `arg0`: the open flags as the kernel keeps them (`file.f_flags`),
    /// `arg1`: `file.f_mode`.
    pub const OPEN: u32 = 1;
    /// Opened a file in order to execute it; as [`OPEN`].
    pub const EXEC: u32 = 2;
    /// Received a descriptor from another process; as [`OPEN`], `target`: the task that traces this one and made itself
    /// its tracer.
    pub const RECEIVE: u32 = 3;
    /// Has a file open, as a sweep found; as [`OPEN`], `target.tid`: the descriptor's number.
    pub const HOLD: u32 = 4;
    /// Mapped a file executable; as [`OPEN`], `arg0`: the protection bits.
    pub const MAP: u32 = 5;
    /// Holds a handle that a task of another compartment holds too, as a sweep found. `target.tid`: the descriptor's
    /// number, [`super::MAPPED`] for a mapping; `object`: its inode, for a unix socket that of the end that names the
    /// connection; `arg0`: what it is, see [`super::handle`]; `arg1`: for a shared open file the number that stands
    /// for it while the agent runs, else 0; `name`: its last component.
    pub const SHARE: u32 = 8;
    /// Nobody's deed: a sweep looked for handles, and every [`SHARE`] of it follows. `arg0`: what it looked at (1 open
    /// files, 2 mappings, 4 which end of a unix socket belongs to which); `arg1`: how many did not fit.
    pub const HANDLES: u32 = 9;
    /// Made a device node. `object`: its mode and device number; `name`: its last component.
    pub const MKNOD: u32 = 6;
    /// Wrote a sysctl. `name`: its name, a NUL, the new value.
    pub const SYSCTL: u32 = 7;
    /// Changed the mount table of its mount namespace; `object.mnt_ns_inum`: that namespace.
    pub const MOUNT: u32 = 16;
    /// Asked for access to another task (`__ptrace_may_access`). `target`: that task; `arg0`: the mode
    /// (`PTRACE_MODE_*`); `result`: 0 granted, else the negative error; `arg1`: see [`AS_NAMED`].
    pub const ACCESS: u32 = 32;
    /// Sent a signal from user space. `target`: who got it; `arg0`: the signal; `arg1`: 0 delivered, else why it was
    /// not queued (`TRACE_SIGNAL_*`).
    pub const SIGNAL: u32 = 33;
    /// Changed the limits or the scheduling of another task. `target`: that task; `result`, `arg1`: as for [`ACCESS`].
    pub const CONTROL: u32 = 34;
    /// Connected to a unix socket. `target`: thread group id of who listens, or 0 where nobody ever did; `object`: the
    /// socket's file, where it has one, through the mount of who bound it; `name`: the path by which it was bound, or a
    /// NUL and its abstract name.
    pub const CONNECT: u32 = 40;
    /// Sent to a unix datagram socket; as [`CONNECT`].
    pub const SEND: u32 = 41;
    /// bpf(2). `arg0`: the command.
    pub const BPF: u32 = 48;
    /// Asked the kernel to load code: a module, a kernel image. `arg0`: the kernel's id of what is loaded
    /// (`enum kernel_read_file_id`); `object`, `name`: the file, where there is one.
    pub const KERNEL_LOAD: u32 = 49;
    /// perf_event_open. `arg0`: the type of access asked for.
    pub const PERF: u32 = 50;
    /// Made a userfaultfd. `arg0`: its flags.
    pub const USERFAULTFD: u32 = 51;
    /// Value of `arg1`: all that is known of the target is the number by which the actor called it, in the actor's pid
    /// namespace; it stands in `target.tid`.
    pub const AS_NAMED: u64 = 1;
    /// Made a socket by which a program reaches deep into the kernel: `arg0` family, `arg1` type and protocol.
    pub const SOCKET: u32 = 52;
    /// Made a system call that reaches into the kernel (bpf, modules, kexec, perf, userfaultfd): `syscall` says which.
    /// `arg0`, `arg1`: its first arguments; `result`: what it returned, 0 for success.
    pub const KERNEL_CALL: u32 = 53;
    /// Spliced into a socket of a family by which a program reaches deep into the kernel: `arg0`.
    pub const SPLICE: u32 = 54;
    /// Got at the file system on a block device, to mount it: `object` is its root; the name is the kind of file system.
    pub const MOUNT_DEVICE: u32 = 55;
    /// Was asked for a capability, for the first time in its container. `arg0`: its number; `arg1`: see
    /// [`super::capable`]; `result`: whether it has it.
    pub const CAPABLE: u32 = 64;
    /// Made a system call, for the first time in its container. `arg0`: its number, or
    /// [`FOREIGN_CALL`](crate::limits::FOREIGN_CALL).
    pub const CALL: u32 = 67;
    /// Nobody's deed: what the agent may do from here on, as it says itself. `arg0`: its permitted capabilities; `arg1`: 0
    /// when it began, 1 once it has dropped what it does not need any more.
    pub const OWN_GRANT: u32 = 65;
    /// Nobody's deed: how the agent, or its helper, asked for a capability since the last [`OWN_GRANT`]. As [`CAPABLE`];
    /// in `arg1` only [`super::capable::KNOWN`] and [`super::capable::PROBE`].
    pub const OWN_USE: u32 = 66;
}

/// Parts of [`ActRecord::arg1`] of an [`act::CAPABLE`].
pub mod capable {
    /// Over which user namespace: one of [`INITIAL`], [`OWN`], [`OTHER`], [`MADE`].
    pub const SCOPE: u64 = 3;
    /// Over the initial user namespace.
    pub const INITIAL: u64 = 0;
    /// Over the task's own, which is not the initial one.
    pub const OWN: u64 = 1;
    /// Over another one.
    pub const OTHER: u64 = 2;
    /// Over a child of the task's own that the task's user has made: he has every capability over it.
    pub const MADE: u64 = 3;
    /// It is known whether the kernel would tell its audit of a refusal: see [`PROBE`].
    pub const KNOWN: u64 = 1 << 2;
    /// It would not (`CAP_OPT_NOAUDIT`): the kernel only looked whether it may do more than it was asked for.
    pub const PROBE: u64 = 1 << 3;
    /// From this bit on: inum of the user namespace.
    pub const INUM_SHIFT: u32 = 32;

    /// How one of the agent's own tasks asked for a capability over the initial user namespace: its number in the lowest
    /// byte, these bits, and from [`own::SYSCALL_SHIFT`] on the system call that asked, 0xffff: none is known.
    pub mod own {
        /// The task had it.
        pub const GRANTED: u32 = 1 << 8;
        /// As [`super::KNOWN`].
        pub const KNOWN: u32 = 1 << 9;
        /// As [`super::PROBE`].
        pub const PROBE: u32 = 1 << 10;
        /// The system call stands from this bit on.
        pub const SYSCALL_SHIFT: u32 = 16;
    }
}

/// A file system object, as a task reached it.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct FileRef {
    /// Inode number.
    pub ino: u64,
    /// Device of the superblock, in the kernel's encoding (major << 20 | minor).
    pub dev: u32,
    /// Inum of the mount namespace that the mount belongs to; 0: unknown, or detached.
    pub mnt_ns_inum: u32,
    /// Mount id, unique within the mount's life; 0: unknown.
    pub mnt_id: u32,
    /// Type and permissions (`S_IFMT` and so on).
    pub mode: u32,
    /// Device that a device node stands for, in the kernel's encoding; else 0.
    pub rdev: u32,
    /// `super_block.s_magic`: the kind of file system.
    pub fs_magic: u32,
    /// Inum of the user namespace that owns the superblock (`s_user_ns`); 0: unknown.
    pub fs_owner_inum: u32,
    /// See [`path_flags`].
    pub flags: u32,
}

/// A task did something to an object: a file, another task, a socket, the kernel itself.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ActRecord {
    /// Common header; `kind` is [`kind::ACT`].
    pub header: RecordHeader,
    /// Who acted: `current`.
    pub actor: TaskKey,
    /// To whom; zero where no task is the object.
    pub target: TaskKey,
    /// To what; zero where no file is the object.
    pub object: FileRef,
    /// See [`act`].
    pub act: u32,
    /// Number of the syscall that the actor is in, by the machine's native table; -1 unknown.
    pub syscall: i32,
    /// 0: done, or granted; a negative error number: refused.
    pub result: i32,
    /// Bytes of `name` in use.
    pub name_len: u32,
    /// Depends on the act.
    pub arg0: u64,
    /// Depends on the act.
    pub arg1: u64,
    /// Depends on the act. The path of a file stands by component, the last one first, each ended by a NUL, up to
    /// the root of its file system or to what fits.
    pub name: [u8; ACT_NAME_LEN],
}

/// What a handle is: values of `arg0` of an [`act::SHARE`].
pub mod handle {
    /// One open file (`struct file`) in several descriptor tables.
    pub const FILE: u64 = 1;
    /// A pipe.
    pub const PIPE: u64 = 2;
    /// A socket, or an end of a unix connection.
    pub const SOCKET: u64 = 3;
    /// Memory behind a descriptor (memfd).
    pub const MEMORY: u64 = 4;
    /// A file, or memory, that is mapped shared and writable.
    pub const MAPPING: u64 = 5;
}

/// Number of a handle that is a mapping and no descriptor.
pub const MAPPED: u32 = u32::MAX;

/// Bits of [`HandleRecord::flags`].
pub mod handle_flags {
    /// The task is, or once was, apart from the host's first namespaces.
    pub const MARKED: u32 = 1;
    /// Its mount is the kernel's own and in no mount namespace: pipes, sockets, memory.
    pub const INTERNAL: u32 = 1 << 1;
    /// It is a unix socket.
    pub const UNIX: u32 = 1 << 2;
}

/// Bytes of a handle's name that are kept.
pub const HANDLE_NAME_LEN: usize = 40;

/// One descriptor or shared mapping of one task, as an iterator writes it. Sweeps compare them; no recording has them.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HandleRecord {
    /// Common header; `kind` is [`kind::HANDLE`].
    pub header: RecordHeader,
    /// Whose.
    pub task: TaskKey,
    /// Inode number.
    pub ino: u64,
    /// Of a connected unix socket: inode number of the socket at the other end; else 0.
    pub peer_ino: u64,
    /// Stands for the open file while the agent runs: a keyed hash, and no address. 0 for mappings.
    pub identity: u64,
    /// Device of the superblock (major << 20 | minor).
    pub dev: u32,
    /// Type and permissions.
    pub mode: u32,
    /// Kind of file system.
    pub fs_magic: u32,
    /// Device that a device node stands for.
    pub rdev: u32,
    /// The descriptor, or [`MAPPED`].
    pub descriptor: u32,
    /// See [`handle_flags`].
    pub flags: u32,
    /// Last component of its name, NUL padded; empty for what the host holds.
    pub name: [u8; HANDLE_NAME_LEN],
}

const _: () = assert!(size_of::<HandleRecord>() == 128);

/// Bytes of an instruction of a kernel program (`struct bpf_insn`).
pub const INSTRUCTION: usize = 8;
/// Instructions in one [`CodeRecord`]. In bytes, a mask can bound them.
pub const CODE_CHUNK: usize = 63;
/// Records for one program at most: what is longer is cut.
pub const CODE_CHUNKS: usize = 12;
/// Programs that are written. The last task's fit into the kernel's buffer for iterators, 32 KiB.
pub const CODE_PROGRAMS: usize = 4;

/// Instructions of a kernel program that decides which devices a cgroup may reach, as an iterator writes them. The first
/// record for a task has none.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct CodeRecord {
    /// Common header; `kind` is [`kind::CODE`].
    pub header: RecordHeader,
    /// Whose cgroup it is.
    pub task: TaskKey,
    /// Programs in effect; more than [`CODE_PROGRAMS`]: not all are written.
    pub total: u32,
    /// Which of them, from 1; 0: none, this is the first record.
    pub program: u32,
    /// Instructions of the whole program.
    pub length: u32,
    /// Number of the first one here.
    pub first: u32,
    /// How many are here.
    pub count: u32,
    /// For alignment.
    pub padding: u32,
    /// `struct bpf_insn` each.
    pub code: [u64; CODE_CHUNK],
}

const _: () = assert!(size_of::<CodeRecord>() == 64 + CODE_CHUNK * INSTRUCTION);
const _: () = assert!((1 + CODE_PROGRAMS * CODE_CHUNKS) * size_of::<CodeRecord>() <= 32 << 10);

impl ActRecord {
    /// The bytes of `name` in use.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        let used = (self.name_len as usize).min(self.name.len());
        &self.name[..used]
    }
}

const _: () = assert!(size_of::<FileRef>() == 40);
const _: () = assert!(size_of::<ActRecord>() == 128 + ACT_NAME_LEN);
const _: () = assert!(size_of::<RecordHeader>() == 24);
const _: () = assert!(size_of::<TaskState>() == 488);
const _: () = assert!(size_of::<TaskRecord>() == 552);
const _: () = assert!(size_of::<ExecRecord>() == 680);
const _: () = assert!(size_of::<ExitRecord>() == 48);
const _: () = assert!(size_of::<CgroupRecord>() == 584);

/// Cuts a NUL-padded kernel string at its first NUL.
#[must_use]
pub fn kernel_str(bytes: &[u8]) -> &[u8] {
    match bytes.iter().position(|&b| b == 0) {
        Some(end) => &bytes[..end],
        None => bytes,
    }
}
