//! The state of one task as /proc tells it: ground truth where no iterator runs, and the witness against
//! which the iterator is checked.
//!
//! Everything is read through a handle on `/proc/<pid>/task/<tid>`. The handle stays bound to that task:
//! when the task dies and its id is reused, reads fail instead of mixing two tasks into one record.
//! A task that vanishes is no error.
//!
//! Invariants: no file that a container controls is opened, and no path of one is walked: root and cwd are
//! looked at only through the kernel's own links, without synchronising with a (network, FUSE) server.
//!
//! What /proc cannot tell, and the `known` bits say so: owners and levels of namespaces, `securebits` (0 here),
//! unique namespace ids. A process in another pid or user namespace than the initial one sees translated
//! ids: see [`in_initial_namespaces`].

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use auditor_common::limits::COMM_LEN;
use auditor_common::record::{Creds, NsRef, PathRef, TaskKey, TaskState, known, ns, task_flags};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, fstat, openat, readlinkat, statx};
use rustix::io::Errno;
use thiserror::Error;

use super::cgroupfs::CgroupTree;
use super::mountinfo::kernel_dev;

/// Nanoseconds of a clock tick in /proc: `USER_HZ` is 100 on every architecture that the sensor runs on.
pub const TICK_NS: u64 = 10_000_000;
/// Bytes read of any file in /proc. Only `status` (supplementary groups) and `mountinfo` get large.
pub const MAX_FILE_LEN: u64 = 16 << 20;
/// Bytes of what `fdinfo` says of a descriptor that are read.
const MAX_INFO_LEN: u64 = 1024;

const PF_EXITING: u32 = 0x0000_0004;
const PF_IO_WORKER: u32 = 0x0000_0010;
const PF_KTHREAD: u32 = 0x0020_0000;

/// Names in `ns/`, in the order of [`auditor_common::record::ns`].
const NS_LINKS: [(usize, &str); 10] = [
    (ns::MNT, "mnt"),
    (ns::PID, "pid"),
    (ns::PID_FOR_CHILDREN, "pid_for_children"),
    (ns::NET, "net"),
    (ns::IPC, "ipc"),
    (ns::UTS, "uts"),
    (ns::CGROUP, "cgroup"),
    (ns::TIME, "time"),
    (ns::TIME_FOR_CHILDREN, "time_for_children"),
    (ns::USER, "user"),
];

/// Inums of the initial namespaces (`PROC_*_INIT_INO`; part of the ABI since 6.16, constant since 3.8).
const INITIAL: [(&str, u32); 2] = [("pid", 0xeffffffc), ("user", 0xeffffffd)];

/// A file in /proc that does not look as proc(5) says.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("/proc/<pid>/{file}: field {field} is malformed")]
pub struct ParseError {
    /// The file.
    pub file: &'static str,
    /// The field, as proc(5) names it.
    pub field: &'static str,
}

/// Why a task that still exists cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The kernel refused.
    #[error("cannot read /proc/{tid}/{file}: {source}")]
    Io {
        /// Thread id.
        tid: u32,
        /// The file.
        file: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file does not parse.
    #[error("task {tid}: {source}")]
    Parse {
        /// Thread id.
        tid: u32,
        /// What is wrong.
        source: ParseError,
    },
}

/// What `stat` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Thread id.
    pub tid: u32,
    /// Command name, NUL padded, cut to the kernel's length.
    pub comm: [u8; COMM_LEN],
    /// `R`, `S`, `Z`, …
    pub state: u8,
    /// Thread group id of the real parent; 0: none.
    pub ppid: u32,
    /// `task_struct.flags`.
    pub flags: u32,
    /// Start in nanoseconds since boot, rounded down to a tick.
    pub start_boottime_ns: u64,
}

impl Stat {
    /// A kernel thread, which is in no container.
    #[must_use]
    pub fn is_kernel_thread(&self) -> bool {
        self.flags & PF_KTHREAD != 0
    }

    fn is_exiting(&self) -> bool {
        self.flags & PF_EXITING != 0 || matches!(self.state, b'Z' | b'X')
    }
}

/// Parses `/proc/<pid>/task/<tid>/stat`.
///
/// # Errors
/// When a field is missing or no number.
pub fn parse_stat(text: &[u8]) -> Result<Stat, ParseError> {
    let error = |field| ParseError {
        file: "stat",
        field,
    };
    // The name may hold anything, also parentheses and newlines; what follows it cannot.
    let open = text.iter().position(|&b| b == b'(').ok_or(error("comm"))?;
    let close = text.iter().rposition(|&b| b == b')').ok_or(error("comm"))?;
    let name = text.get(open + 1..close).ok_or(error("comm"))?;
    let mut comm = [0; COMM_LEN];
    let len = name.len().min(COMM_LEN - 1);
    comm[..len].copy_from_slice(&name[..len]);

    // Field numbers as in proc(5); `rest` starts with field 3.
    let rest: Vec<&[u8]> = words(&text[close + 1..]).collect();
    let field = |number: usize| rest.get(number - 3).copied();
    let ticks: u64 = field(22).and_then(number).ok_or(error("starttime"))?;
    Ok(Stat {
        tid: words(&text[..open])
            .next()
            .and_then(number)
            .ok_or(error("pid"))?,
        comm,
        state: field(3)
            .and_then(|state| state.first().copied())
            .ok_or(error("state"))?,
        ppid: field(4).and_then(number).ok_or(error("ppid"))?,
        flags: field(9).and_then(number).ok_or(error("flags"))?,
        start_boottime_ns: ticks.checked_mul(TICK_NS).ok_or(error("starttime"))?,
    })
}

/// What `status` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Thread group id.
    pub tgid: u32,
    /// Thread id in the task's own pid namespace.
    pub ns_tid: u32,
    /// Pid namespaces below the one of this /proc.
    pub pid_level: u32,
    /// Ids and capabilities; `securebits` is not told.
    pub creds: Creds,
    /// no_new_privs is set.
    pub no_new_privs: bool,
    /// 0 off, 1 strict, 2 filter. 0 also where the kernel is built without seccomp.
    pub seccomp_mode: u32,
    /// Number of filters; told since 5.9.
    pub seccomp_filters: u32,
}

/// Parses `/proc/<pid>/task/<tid>/status`.
///
/// # Errors
/// When a field that every kernel since 4.10 has is missing or malformed.
pub fn parse_status(text: &[u8]) -> Result<Status, ParseError> {
    let value = |key: &'static str| {
        let line = text
            .split(|&b| b == b'\n')
            .find_map(|line| line.strip_prefix(key.as_bytes()));
        line.and_then(|line| line.strip_prefix(b":"))
            .ok_or(ParseError {
                file: "status",
                field: key,
            })
    };
    let numbers = |key: &'static str| -> Result<Vec<u32>, ParseError> {
        let all: Option<Vec<u32>> = words(value(key)?).map(number).collect();
        all.filter(|all| !all.is_empty()).ok_or(ParseError {
            file: "status",
            field: key,
        })
    };
    let four = |key: &'static str| -> Result<[u32; 4], ParseError> {
        numbers(key)?.try_into().map_err(|_| ParseError {
            file: "status",
            field: key,
        })
    };
    let caps = |key: &'static str| {
        let word = std::str::from_utf8(value(key)?).ok();
        let bits = word.and_then(|word| u64::from_str_radix(word.trim(), 16).ok());
        bits.ok_or(ParseError {
            file: "status",
            field: key,
        })
    };
    let optional = |key: &'static str| match value(key) {
        Ok(_) => numbers(key).map(|all| all[0]),
        Err(_) => Ok(0),
    };
    let [uid, euid, suid, fsuid] = four("Uid")?;
    let [gid, egid, sgid, fsgid] = four("Gid")?;
    let nested_ids = numbers("NSpid")?;
    Ok(Status {
        tgid: numbers("Tgid")?[0],
        ns_tid: nested_ids.last().copied().unwrap_or(0),
        pid_level: u32::try_from(nested_ids.len() - 1).unwrap_or(u32::MAX),
        creds: Creds {
            uid,
            gid,
            suid,
            sgid,
            euid,
            egid,
            fsuid,
            fsgid,
            cap_inheritable: caps("CapInh")?,
            cap_permitted: caps("CapPrm")?,
            cap_effective: caps("CapEff")?,
            cap_bounding: caps("CapBnd")?,
            cap_ambient: caps("CapAmb")?,
            securebits: 0,
            reserved: 0,
        },
        no_new_privs: numbers("NoNewPrivs")?[0] != 0,
        seccomp_mode: optional("Seccomp")?,
        seccomp_filters: optional("Seccomp_filters")?,
    })
}

/// Parses the text of a link in `ns/`: `mnt:[4026531832]`.
///
/// # Errors
/// When it has another form.
pub fn parse_ns_link(text: &[u8]) -> Result<u32, ParseError> {
    let inum = std::str::from_utf8(text).ok().and_then(|text| {
        let (_, inum) = text.split_once(":[")?;
        inum.strip_suffix(']')?.parse().ok()
    });
    inum.ok_or(ParseError {
        file: "ns",
        field: "inum",
    })
}

/// One line of `cgroup`: where a task is in one hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CgroupLine<'a> {
    /// Hierarchy id; 0 is v2.
    pub hierarchy: u32,
    /// Controllers, comma separated, or `name=…`; empty for v2.
    pub controllers: &'a [u8],
    /// Path from the root of the reader's cgroup namespace; ends with ` (deleted)` after a removal.
    pub path: &'a [u8],
}

/// Parses `/proc/<pid>/task/<tid>/cgroup`.
///
/// # Errors
/// When a line has not three fields.
pub fn parse_cgroup(text: &[u8]) -> Result<Vec<CgroupLine<'_>>, ParseError> {
    let error = ParseError {
        file: "cgroup",
        field: "line",
    };
    let lines = text.split(|&b| b == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let mut fields = line.splitn(3, |&b| b == b':');
            let hierarchy = fields.next().and_then(number);
            let (controllers, path) = (fields.next(), fields.next());
            Ok(CgroupLine {
                hierarchy: hierarchy.ok_or_else(|| error.clone())?,
                controllers: controllers.ok_or_else(|| error.clone())?,
                path: path
                    .filter(|p| p.starts_with(b"/"))
                    .ok_or_else(|| error.clone())?,
            })
        })
        .collect()
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|b| b.is_ascii_whitespace())
        .filter(|word| !word.is_empty())
}

fn number<T: std::str::FromStr>(word: &[u8]) -> Option<T> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// Whether two keys name the same task although one of them may come from /proc, whose start times are
/// rounded down to a tick.
#[must_use]
pub fn same_task(a: &TaskKey, b: &TaskKey) -> bool {
    a.tid == b.tid && a.start_boottime_ns / TICK_NS == b.start_boottime_ns / TICK_NS
}

/// Whether this process lives in the initial pid and user namespaces, as ids in records must.
///
/// # Errors
/// When the links cannot be read.
pub fn in_initial_namespaces() -> io::Result<bool> {
    let initial = |(name, inum): (&str, u32)| {
        let link = readlinkat(CWD, format!("/proc/self/ns/{name}"), Vec::new())?;
        Ok(parse_ns_link(link.as_bytes()) == Ok(inum))
    };
    let results: io::Result<Vec<bool>> = INITIAL.into_iter().map(initial).collect();
    Ok(results?.into_iter().all(|initial| initial))
}

/// A /proc, by default the one at `/proc`.
#[derive(Debug)]
pub struct ProcFs {
    root: OwnedFd,
    pf_user_worker: u32,
}

/// A task of a [`ProcFs`] and what was read of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskRead {
    /// State; `parent` holds only ids, no start time.
    pub state: TaskState,
    /// A kernel thread: only `key` and `comm` are filled.
    pub kernel_thread: bool,
}

impl ProcFs {
    /// Opens a /proc that is mounted here.
    ///
    /// # Errors
    /// When the directory cannot be opened.
    pub fn open(root: &std::path::Path, kernel: super::clock::KernelVersion) -> io::Result<Self> {
        Ok(Self {
            root: open_dir(CWD, root)?,
            // The bit meant something else up to 5.16.
            pf_user_worker: if kernel >= super::clock::KernelVersion::new(6, 4) {
                0x4000
            } else {
                0
            },
        })
    }

    /// Ids of all processes, in order.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn processes(&self) -> io::Result<Vec<u32>> {
        numeric_entries(self.root.as_fd())
    }

    /// Ids of a process's threads, in order; none when it is gone.
    ///
    /// # Errors
    /// When the directory exists but cannot be listed.
    pub fn threads(&self, tgid: u32) -> io::Result<Vec<u32>> {
        let dir = match open_dir(self.root.as_fd(), format!("{tgid}/task")) {
            Err(Errno::NOENT | Errno::SRCH) => return Ok(Vec::new()),
            other => other?,
        };
        match numeric_entries(dir.as_fd()) {
            Err(error) if is_gone(&error) => Ok(Vec::new()),
            other => other,
        }
    }

    /// The directory of a process's descriptors, and their numbers in order. `None` when the process is gone.
    ///
    /// # Errors
    /// When it exists but cannot be listed.
    pub fn descriptors(&self, tgid: u32) -> Result<Option<(OwnedFd, Vec<u32>)>, ReadError> {
        let list = || -> io::Result<_> {
            let dir = open_dir(self.root.as_fd(), format!("{tgid}/fd"))?;
            let numbers = numeric_entries(dir.as_fd())?;
            Ok((dir, numbers))
        };
        gone_is_none(list(), tgid, "fd")
    }

    /// The directory that tells of each descriptor of a process. `None` when the process is gone.
    ///
    /// # Errors
    /// When it exists but cannot be read.
    pub fn descriptor_infos(&self, tgid: u32) -> Result<Option<OwnedFd>, ReadError> {
        let dir = open_dir(self.root.as_fd(), format!("{tgid}/fdinfo"));
        gone_is_none(dir.map_err(io::Error::from), tgid, "fdinfo")
    }

    /// What such a directory tells of one. What depends on the kind of file comes last, and may be cut.
    ///
    /// # Errors
    /// When it was closed meanwhile, or cannot be read.
    pub fn descriptor_info(infos: BorrowedFd<'_>, number: u32) -> io::Result<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(infos, number.to_string(), flags, Mode::empty())?;
        let mut text = Vec::new();
        File::from(file).take(MAX_INFO_LEN).read_to_end(&mut text)?;
        Ok(text)
    }

    /// Reads a file of the process, whole. `None` when the process is gone.
    ///
    /// # Errors
    /// When it exists but cannot be read.
    pub fn read_file(&self, tgid: u32, file: &'static str) -> Result<Option<Vec<u8>>, ReadError> {
        let text = open_dir(self.root.as_fd(), tgid.to_string())
            .map_err(io::Error::from)
            .and_then(|dir| read_at(dir.as_fd(), file));
        gone_is_none(text, tgid, file)
    }

    /// Opens a process's namespace, by its name in `ns/`. `None` when the process is gone, or in another one by now.
    ///
    /// # Errors
    /// When it exists but cannot be opened.
    pub fn open_namespace(
        &self,
        tgid: u32,
        name: &'static str,
        inum: u32,
    ) -> Result<Option<OwnedFd>, ReadError> {
        let open = || -> io::Result<Option<OwnedFd>> {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let path = format!("{tgid}/ns/{name}");
            let namespace = openat(self.root.as_fd(), path, flags, Mode::empty())?;
            let is_it = fstat(&namespace)?.st_ino == u64::from(inum);
            Ok(is_it.then_some(namespace))
        };
        gone_is_none(open(), tgid, name).map(Option::flatten)
    }

    /// Reads the state of one task. `None` when it is gone.
    ///
    /// # Errors
    /// When it exists but `stat` or `status` cannot be read or parsed; what else cannot be read is left
    /// out of `known`.
    pub fn read_task(
        &self,
        tgid: u32,
        tid: u32,
        cgroups: &CgroupTree,
    ) -> Result<Option<TaskRead>, ReadError> {
        let path = format!("{tgid}/task/{tid}");
        let dir = open_dir(self.root.as_fd(), path).map_err(io::Error::from);
        let Some(dir) = gone_is_none(dir, tid, "task")? else {
            return Ok(None);
        };
        let dir = dir.as_fd();
        let parse = |source| ReadError::Parse { tid, source };

        let Some(text) = gone_is_none(read_at(dir, "stat"), tid, "stat")? else {
            return Ok(None);
        };
        let stat = parse_stat(&text).map_err(parse)?;
        let key = TaskKey {
            tid,
            tgid,
            start_boottime_ns: stat.start_boottime_ns,
        };
        let mut state = TaskState {
            key,
            comm: stat.comm,
            ..TaskState::default()
        };
        if stat.is_kernel_thread() {
            state.task_flags = task_flags::KTHREAD;
            return Ok(Some(TaskRead {
                state,
                kernel_thread: true,
            }));
        }
        let Some(text) = gone_is_none(read_at(dir, "status"), tid, "status")? else {
            return Ok(None);
        };
        let status = parse_status(&text).map_err(parse)?;
        self.fill_from_status(&mut state, &stat, &status);
        if let Some(namespaces) = read_namespaces(dir) {
            state.ns = namespaces;
            state.known |= known::NS;
        }
        if let Some(path) = read_path(dir, "root") {
            state.root = path;
            state.known |= known::ROOT;
        }
        if let Some(path) = read_path(dir, "cwd") {
            state.cwd = path;
            state.known |= known::CWD;
        }
        let lines = read_at(dir, "cgroup").ok();
        let slots = lines.and_then(|text| cgroups.slots(&parse_cgroup(&text).ok()?));
        if let Some(slots) = slots {
            state.cgroups = slots;
            state.known |= known::CGROUPS;
        }
        Ok(Some(TaskRead {
            state,
            kernel_thread: false,
        }))
    }

    fn fill_from_status(&self, state: &mut TaskState, stat: &Stat, status: &Status) {
        state.known |= known::CREDS | known::CONFINEMENT;
        state.parent = TaskKey {
            tid: stat.ppid,
            tgid: stat.ppid,
            start_boottime_ns: 0,
        };
        state.creds = status.creds;
        state.ns_tid = status.ns_tid;
        state.pid_level = status.pid_level;
        state.seccomp_mode = status.seccomp_mode;
        state.seccomp_filters = status.seccomp_filters;
        let flag = |is_set: bool, bit: u32| if is_set { bit } else { 0 };
        state.task_flags = flag(state.key.tid == state.key.tgid, task_flags::LEADER)
            | flag(status.no_new_privs, task_flags::NO_NEW_PRIVS)
            | flag(stat.is_exiting(), task_flags::EXITING)
            | flag(
                stat.flags & (PF_IO_WORKER | self.pf_user_worker) != 0,
                task_flags::USER_WORKER,
            );
    }
}

/// All namespaces, or `None` when they cannot be told (no permission, or the task let go of them on exit).
fn read_namespaces(task: BorrowedFd<'_>) -> Option<[NsRef; NS_LINKS.len()]> {
    let mut out = [NsRef::default(); NS_LINKS.len()];
    for (slot, name) in NS_LINKS {
        out[slot].inum = match readlinkat(task, format!("ns/{name}"), Vec::new()) {
            Ok(link) => parse_ns_link(link.as_bytes()).ok()?,
            // The kernel has no such kind. Or, for pid_for_children, the namespace has no init yet.
            Err(Errno::NOENT) if optional_ns(slot) => 0,
            Err(_) => return None,
        };
    }
    Some(out)
}

fn optional_ns(slot: usize) -> bool {
    matches!(
        slot,
        ns::TIME | ns::TIME_FOR_CHILDREN | ns::PID_FOR_CHILDREN
    )
}

/// What `root` or `cwd` points at, without opening it.
fn read_path(task: BorrowedFd<'_>, link: &str) -> Option<PathRef> {
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    let found = statx(task, link, flags, StatxFlags::INO | StatxFlags::MNT_ID).ok()?;
    let has_mnt_id = found.stx_mask & StatxFlags::MNT_ID.bits() != 0; // Since 5.8.
    Some(PathRef {
        ino: found.stx_ino,
        dev: kernel_dev(found.stx_dev_major, found.stx_dev_minor),
        mnt_ns_inum: 0,
        mnt_id: if has_mnt_id {
            u32::try_from(found.stx_mnt_id).unwrap_or(0)
        } else {
            0
        },
        flags: 0,
    })
}

fn open_dir<P: rustix::path::Arg>(at: impl AsFd, path: P) -> Result<OwnedFd, Errno> {
    openat(
        at,
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

fn read_at(dir: BorrowedFd<'_>, file: &str) -> io::Result<Vec<u8>> {
    let fd = openat(dir, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = Vec::new();
    File::from(fd).take(MAX_FILE_LEN).read_to_end(&mut text)?;
    Ok(text)
}

fn numeric_entries(dir: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut ids = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        ids.extend(number::<u32>(entry?.file_name().to_bytes()));
    }
    ids.sort_unstable();
    Ok(ids)
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOENT | Errno::SRCH)
    )
}

fn gone_is_none<T>(
    read: io::Result<T>,
    tid: u32,
    file: &'static str,
) -> Result<Option<T>, ReadError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(source) => Err(ReadError::Io { tid, file, source }),
    }
}

#[cfg(test)]
mod tests;
