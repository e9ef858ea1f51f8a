//! The helper child: does on purpose, to itself, one of each thing that the hooks watch, and reports what it
//! was allowed to do. It runs before the agent drops capabilities, because most of it takes CAP_SYS_ADMIN.
//!
//! Nothing outlives it: namespaces die with it, and the one thing that it makes on the host, an empty
//! cgroup, is removed again, by the agent if need be. It starts no shell and no program but its own.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use caps::CapSet;
use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount,
    mount_change, move_mount, open_tree, unmount,
};
use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, WaitOptions, getpid, pidfd_getfd, pidfd_open, waitpid,
};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::super::cgroupfs::{hierarchies, parse_controllers};
use super::super::mountinfo;
use super::super::procfs::parse_cgroup;
use super::reach;

/// Hidden subcommand that runs [`run_helper`].
pub const HELPER_COMMAND: &str = "self-test-helper";
/// Argument to it that does nothing but end: what the helper executes.
pub const EXIT_ARGUMENT: &str = "--exit";
/// How long the helper may take. It needs a few milliseconds.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of its report.
const MAX_REPORT_LEN: u64 = 64 << 10;

/// One thing the helper does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Makes a host name namespace for itself.
    Unshare,
    /// Goes back into the one it came from.
    Setns,
    /// Has a child in a new host name namespace, which ends.
    Clone,
    /// Executes itself; that ends as well.
    Exec,
    /// Makes a cgroup.
    CgroupMkdir,
    /// Moves into it and back.
    CgroupAttach,
    /// Removes it.
    CgroupRmdir,
    /// chdir.
    Chdir,
    /// chroot.
    Chroot,
    /// Gives up a capability and takes it back.
    Credentials,
    /// pivot_root, in a mount namespace of its own.
    PivotRoot,
    /// Ends a child by a signal.
    Signal,
    /// Begins to trace a child.
    Trace,
    /// Sets a child's limit to what it is.
    Limit,
    /// Sets a child's scheduling to what it is.
    Schedule,
    /// Connects to a unix socket of its own.
    Connect,
    /// Sends to one.
    Send,
    /// Opens a directory.
    Open,
    /// Takes a descriptor of a process: its own.
    Receive,
    /// Mounts, moves a mount, and unmounts, in a mount namespace of its own.
    Mounts,
    /// Asks for no change of a mount's attributes, there.
    MountAttributes,
    /// Reads a sysctl.
    Sysctl,
    /// Makes a node for the null device, in a file system of its own.
    Mknod,
    /// Asks for a bpf command that does not exist, and a perf event that counts nothing.
    Kernel,
    /// Asks for a socket of the kernel's IPsec.
    Socket,
    /// Splices a byte from one pipe into another.
    Splice,
    /// Sends a byte of a file into a socket.
    SendFile,
    /// Asks for a host name that is too long, which takes a capability to be told.
    Capability,
}

impl Act {
    /// All acts, in the order in which they are done.
    pub const ALL: [Self; 28] = [
        Self::Unshare,
        Self::Setns,
        Self::Clone,
        Self::Exec,
        Self::CgroupMkdir,
        Self::CgroupAttach,
        Self::CgroupRmdir,
        Self::Chdir,
        Self::Chroot,
        Self::Credentials,
        Self::Mounts,
        Self::MountAttributes,
        Self::PivotRoot,
        Self::Signal,
        Self::Trace,
        Self::Limit,
        Self::Schedule,
        Self::Connect,
        Self::Send,
        Self::Open,
        Self::Receive,
        Self::Sysctl,
        Self::Mknod,
        Self::Kernel,
        Self::Socket,
        Self::Splice,
        Self::SendFile,
        Self::Capability,
    ];
}

/// How one act ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Why it was not possible; `None` when it was done.
    pub error: Option<String>,
}

/// What the helper did: the JSON object on its standard output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelperReport {
    /// Process id of the helper, as it sees it.
    pub pid: u32,
    /// Process ids of its children.
    pub children: Vec<u32>,
    /// How each act ended.
    pub acts: BTreeMap<Act, Outcome>,
}

impl HelperReport {
    /// The acts that were done.
    pub fn succeeded(&self) -> impl Iterator<Item = Act> + '_ {
        self.acts
            .iter()
            .filter(|(_, outcome)| outcome.error.is_none())
            .map(|(&act, _)| act)
    }

    pub(super) fn note(&mut self, act: Act, result: io::Result<()>) {
        self.acts.insert(
            act,
            Outcome {
                error: result.err().map(|error| error.to_string()),
            },
        );
    }
}

/// Why there is no report.
#[derive(Debug, Error)]
pub enum HelperError {
    /// It could not be started, or its output not be read.
    #[error("cannot run the self-test helper: {0}")]
    Io(#[from] io::Error),
    /// It took longer than [`TIMEOUT`] and was ended.
    #[error("the self-test helper did not end within {} s", TIMEOUT.as_secs())]
    Timeout,
    /// It wrote something else than a report.
    #[error("the self-test helper's report is malformed: {0}")]
    Report(#[from] serde_json::Error),
}

/// Starts the helper, waits for it, and reads its report. Called by the agent, once everything is attached.
///
/// # Errors
/// When it does not start, does not end in time, or reports nothing.
pub fn spawn_and_wait() -> Result<HelperReport, HelperError> {
    let mut command = Command::new("/proc/self/exe");
    wait_for(command.arg(HELPER_COMMAND))
}

fn wait_for(command: &mut Command) -> Result<HelperReport, HelperError> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn()?;
    let ended = wait_until(&mut child, Instant::now() + TIMEOUT);
    if !matches!(ended, Ok(true)) {
        child.kill()?;
        child.wait()?;
    }
    remove_cgroups_of(child.id());
    if !ended? {
        return Err(HelperError::Timeout);
    }
    let mut report = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_REPORT_LEN).read_to_end(&mut report)?;
    }
    Ok(serde_json::from_slice(&report)?)
}

/// Whether the child ended in time. Its report is smaller than a pipe holds, so it never waits for us.
fn wait_until(child: &mut Child, deadline: Instant) -> io::Result<bool> {
    while child.try_wait()?.is_none() {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(true)
}

/// The hidden subcommand: acts, and writes the report to standard output. With [`EXIT_ARGUMENT`] the
/// caller must not call this but end.
///
/// # Errors
/// When standard output is closed.
pub fn run_helper() -> io::Result<()> {
    let report = act(&[HELPER_COMMAND, EXIT_ARGUMENT]);
    let mut line = serde_json::to_vec(&report)?;
    line.push(b'\n');
    io::stdout().write_all(&line)
}

/// Does everything, in an order in which nothing spoils what follows. Leaves the calling process in another
/// mount namespace with an empty root: it has to end.
#[must_use]
pub fn act(exec_arguments: &[&str]) -> HelperReport {
    let mut report = HelperReport {
        pid: std::process::id(),
        ..HelperReport::default()
    };
    unshare_and_back(&mut report);
    let child = clone_child();
    report.children.extend(child.as_ref().ok());
    report.note(Act::Clone, child.map(drop));
    let child = exec_self(exec_arguments);
    report.children.extend(child.as_ref().ok());
    report.note(Act::Exec, child.map(drop));
    cgroup_round_trip(&mut report);
    report.note(Act::Chdir, std::env::set_current_dir("/"));
    report.note(Act::Chroot, std::os::unix::fs::chroot("/"));
    report.note(Act::Credentials, change_credentials());
    report.note(Act::Mounts, change_mounts());
    report.note(Act::MountAttributes, change_no_attributes());
    report.note(
        Act::Sysctl,
        std::fs::read("/proc/sys/kernel/ostype").map(drop),
    );
    report.note(Act::PivotRoot, pivot_root());
    // From here on in a mount namespace of its own, as a container's task is.
    report.note(Act::Signal, signal_child());
    reach::reach(&mut report);
    report.note(Act::Open, File::open("/").map(drop));
    report.note(Act::Receive, receive_descriptor());
    report.note(Act::Mknod, make_null());
    report.note(Act::Kernel, ask_the_kernel());
    report.note(Act::Socket, ask_for_socket());
    report.note(Act::Splice, splice_a_byte());
    report.note(Act::SendFile, send_a_byte());
    report.note(Act::Capability, ask_for_long_name());
    report
}

/// In the empty file system that is the root now.
fn make_null() -> io::Result<()> {
    let null = libc::makedev(1, 3);
    // SAFETY: the path is a string that ends.
    let made = unsafe { libc::mknod(c"/null".as_ptr(), libc::S_IFCHR | 0o600, null) };
    done(i64::from(made))
}

/// A bpf command that there is none of, which is refused after the question whether this process may ask, and a perf
/// event that counts nothing.
fn ask_the_kernel() -> io::Result<()> {
    const NO_COMMAND: libc::c_long = 9999;
    // SAFETY: null pointers with no length, which the kernel does not follow.
    let bpf = unsafe { libc::syscall(libc::SYS_bpf, NO_COMMAND, 0_usize, 0_usize) };
    expect(bpf, libc::EINVAL)?;
    // PERF_TYPE_SOFTWARE, PERF_COUNT_SW_DUMMY, the first size that the description ever had: some kernels read it before
    // they ask whether this process may.
    let mut description = [0_u32; 16];
    (description[0], description[1], description[2]) = (1, 64, 9);
    // SAFETY: the kernel reads as many bytes as the array has.
    let perf = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            description.as_ptr(),
            0_i64,
            -1_i64,
            -1_i64,
            0_u64,
        )
    };
    match done(perf) {
        Ok(()) => {
            // SAFETY: the descriptor is ours alone.
            unsafe { libc::close(perf as i32) };
            Ok(())
        }
        // Refused by who was asked, or for want of a privilege after that.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The kernel need not have such sockets.
fn ask_for_socket() -> io::Result<()> {
    const NETLINK_XFRM: i32 = 6;
    // SAFETY: no memory is passed.
    let socket = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, NETLINK_XFRM) };
    if socket >= 0 {
        // SAFETY: the descriptor is ours alone.
        unsafe { libc::close(socket) };
    }
    Ok(())
}

fn splice_a_byte() -> io::Result<()> {
    let (from, mut full) = io::pipe()?;
    let (_empty, into) = io::pipe()?;
    full.write_all(b"x")?;
    let (from, into) = (from.as_raw_fd(), into.as_raw_fd());
    let none = std::ptr::null_mut;
    // SAFETY: no offsets are passed.
    done(unsafe { libc::splice(from, none(), into, none(), 1, 0) } as i64)
}

fn send_a_byte() -> io::Result<()> {
    let (into, _peer) = UnixStream::pair()?;
    let file = File::open("/proc/self/exe")?;
    let (from, into) = (file.as_raw_fd(), into.as_raw_fd());
    // SAFETY: no offset is passed.
    done(unsafe { libc::sendfile(into, from, std::ptr::null_mut(), 1) } as i64)
}

/// Refused before or after the length is looked at, and in any case after the kernel looked at capabilities.
fn ask_for_long_name() -> io::Result<()> {
    const TOO_LONG: libc::c_long = 1 << 20;
    // SAFETY: the kernel does not read a name of this length.
    let named = unsafe { libc::syscall(libc::SYS_sethostname, 0_usize, TOO_LONG) };
    match expect(named, libc::EINVAL) {
        Err(error) if error.raw_os_error() != Some(libc::EPERM) => Err(error),
        _ => Ok(()),
    }
}

/// A call that must fail with just this error.
fn expect(result: libc::c_long, errno: i32) -> io::Result<()> {
    match done(result) {
        Err(error) if error.raw_os_error() == Some(errno) => Ok(()),
        Err(error) => Err(error),
        Ok(()) => Err(io::Error::other("succeeded against expectation")),
    }
}

fn done(result: i64) -> io::Result<()> {
    match result {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn unshare_and_back(report: &mut HelperReport) {
    let home = File::open("/proc/thread-self/ns/uts");
    // SAFETY: only unsharing the file descriptor table can surprise other code; this is not that.
    let unshared = unsafe { unshare_unsafe(UnshareFlags::NEWUTS) };
    report.note(Act::Unshare, unshared.map_err(io::Error::from));
    let back = home.and_then(|home| {
        let kind = Some(LinkNameSpaceType::HostNameAndNISDomainName);
        Ok(move_into_link_name_space(home.as_fd(), kind)?)
    });
    report.note(Act::Setns, back);
}

fn clone_child() -> io::Result<u32> {
    let flags = libc::c_long::from(libc::CLONE_NEWUTS | libc::SIGCHLD);
    // SAFETY: without CLONE_VM this is a fork: the child has its own copy of memory, and it calls nothing
    // but _exit, which is safe whatever locks other threads held. All pointers are null: the order
    // of the last two arguments, which differs between architectures, does not matter.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0_usize, 0_usize, 0_usize, 0_usize) };
    match pid {
        // SAFETY: always sound.
        0 => unsafe { libc::_exit(0) },
        -1 => Err(io::Error::last_os_error()),
        pid => {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            let pid = pid.ok_or_else(|| io::Error::other("clone returned no process id"))?;
            waitpid(Some(pid), WaitOptions::empty())?;
            Ok(pid.as_raw_nonzero().get().unsigned_abs())
        }
    }
}

fn signal_child() -> io::Result<()> {
    let child = reach::pausing_child()?;
    rustix::process::kill_process(child, rustix::process::Signal::KILL)?;
    waitpid(Some(child), WaitOptions::empty())?;
    Ok(())
}

fn receive_descriptor() -> io::Result<()> {
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    Ok(pidfd_getfd(own, 0, PidfdGetfdFlags::empty()).map(drop)?)
}

fn exec_self(arguments: &[&str]) -> io::Result<u32> {
    let mut command = Command::new("/proc/self/exe");
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn()?;
    child.wait()?;
    Ok(child.id())
}

/// Really changes: a hook may drop what changes nothing.
fn change_credentials() -> io::Result<()> {
    let held = caps::read(None, CapSet::Effective).map_err(io::Error::other)?;
    // The highest one is the least likely to be needed by what follows.
    let cap = held.into_iter().max_by_key(|cap| cap.index());
    let cap = cap.ok_or_else(|| io::Error::other("no capability to give up"))?;
    caps::drop(None, CapSet::Effective, cap).map_err(io::Error::other)?;
    caps::raise(None, CapSet::Effective, cap).map_err(io::Error::other)
}

/// A mount namespace in which nothing propagates to the host.
fn unshare_mounts() -> io::Result<()> {
    // SAFETY: only unsharing the file descriptor table can surprise other code; this is not that.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    Ok(())
}

/// What is mounted covers a directory that every system has, and goes again.
fn change_mounts() -> io::Result<()> {
    unshare_mounts()?;
    let place = "/proc";
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, place, flags)?;
    let moved = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(tree, "", CWD, place, moved)?;
    Ok(unmount(place, UnmountFlags::DETACH)?)
}

/// The kernel asks whether this process may before it finds that there is nothing to do.
fn change_no_attributes() -> io::Result<()> {
    // `struct mount_attr`: set, clear, propagation, user namespace.
    let none = [0_u64; 4];
    // SAFETY: the path is a string that ends, and the attributes have the size that is given.
    done(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            c"/".as_ptr(),
            0_i64,
            none.as_ptr(),
            size_of_val(&none),
        )
    })
}

fn pivot_root() -> io::Result<()> {
    unshare_mounts()?;
    // Any directory will do that every system has; only this process sees what covers it.
    let place = "/proc";
    mount(
        "none",
        place,
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
        None,
    )?;
    std::env::set_current_dir(place)?;
    // Puts the old root on top of the new one, so that it needs no directory within.
    Ok(rustix::process::pivot_root(".", ".")?)
}

/// Tries the hierarchies in turn, v2 first, until one allows all three acts.
fn cgroup_round_trip(report: &mut HelperReport) {
    let directories = own_cgroups().unwrap_or_else(|error| {
        report.note(Act::CgroupMkdir, Err(error));
        Vec::new()
    });
    for directory in directories {
        round_trip_in(report, &directory);
        let acts = [Act::CgroupMkdir, Act::CgroupAttach, Act::CgroupRmdir];
        if acts.iter().all(|act| {
            report
                .acts
                .get(act)
                .is_some_and(|done| done.error.is_none())
        }) {
            return;
        }
    }
    let none = || Err(io::Error::other("no cgroup hierarchy allows it"));
    for act in [Act::CgroupMkdir, Act::CgroupAttach, Act::CgroupRmdir] {
        if !report.acts.contains_key(&act) {
            report.note(act, none());
        }
    }
}

fn cgroup_name(pid: u32) -> String {
    format!("auditor-selftest-{pid}")
}

/// Removes what a helper that was ended, or that could not move back, has left. Usually there is nothing.
fn remove_cgroups_of(pid: u32) {
    for own in own_cgroups().unwrap_or_default() {
        let _ = std::fs::remove_dir(own.join(cgroup_name(pid)));
    }
}

fn round_trip_in(report: &mut HelperReport, own: &Path) {
    let fresh = own.join(cgroup_name(std::process::id()));
    let made = std::fs::create_dir(&fresh);
    let is_made = made.is_ok();
    report.note(Act::CgroupMkdir, made);
    if !is_made {
        return;
    }
    // Writing 0 moves the writer.
    let attached = std::fs::write(fresh.join("cgroup.procs"), "0");
    let back = std::fs::write(own.join("cgroup.procs"), "0");
    report.note(Act::CgroupAttach, attached.and(back));
    report.note(Act::CgroupRmdir, std::fs::remove_dir(&fresh));
}

/// Directories of this process's cgroups, v2 first.
fn own_cgroups() -> io::Result<Vec<PathBuf>> {
    let mounts = mountinfo::parse(&std::fs::read("/proc/self/mountinfo")?);
    let mounts = mounts.map_err(io::Error::other)?;
    let own = std::fs::read("/proc/self/cgroup")?;
    let own = parse_cgroup(&own).map_err(io::Error::other)?;
    let controllers = std::fs::read_to_string("/proc/cgroups").unwrap_or_default();
    let found = hierarchies(&mounts, &parse_controllers(&controllers), &[]);
    let directory = |hierarchy: &super::super::cgroupfs::Hierarchy| {
        let line = own.iter().find(|line| line.hierarchy == hierarchy.id)?;
        let root = hierarchy
            .mount_root
            .strip_suffix(b"/")
            .unwrap_or(&hierarchy.mount_root);
        let below = line
            .path
            .strip_prefix(root)?
            .strip_prefix(b"/")
            .unwrap_or_default();
        let mount_point = Path::new(OsStr::from_bytes(&hierarchy.mount_point));
        Some(mount_point.join(OsStr::from_bytes(below)))
    };
    Ok(found.iter().filter_map(directory).collect())
}

#[cfg(test)]
mod tests {
    //! Goal: every act either happens or says why not, nothing is left behind, and a child that hangs or
    //! talks nonsense is an error. Method: the test binary runs itself as the helper.

    use super::*;

    const CHILD: &str = "AUDITOR_TEST_HELPER_REPORT";

    #[test]
    fn every_act_has_an_outcome_and_nothing_stays() {
        if let Some(path) = std::env::var_os(CHILD) {
            // The report goes to a file opened before the root changes: the harness owns stdout.
            let mut out = File::create(path).unwrap();
            let report = act(&["--exact", "none"]);
            out.write_all(&serde_json::to_vec(&report).unwrap())
                .unwrap();
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report");
        let mut child = Command::new(std::env::current_exe().unwrap());
        let name = "sensor::selftest::helper::tests::every_act_has_an_outcome_and_nothing_stays";
        child.args(["--exact", name]).env(CHILD, &path);
        assert!(child.output().unwrap().status.success());
        let report: HelperReport = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();

        for act in Act::ALL {
            assert!(report.acts.contains_key(&act), "{act:?}: {report:?}");
        }
        assert!(report.succeeded().any(|act| act == Act::Chdir));
        assert!(report.succeeded().any(|act| act == Act::Exec));
        let uts = |path: &str| std::fs::read_link(path).unwrap();
        assert_eq!(uts("/proc/self/ns/uts"), uts("/proc/thread-self/ns/uts"));
        for own in own_cgroups().unwrap() {
            let left = own.join(cgroup_name(report.pid));
            assert!(!left.exists(), "{}", left.display());
        }
        if caps::has_cap(None, CapSet::Effective, caps::Capability::CAP_SYS_ADMIN).unwrap() {
            for act in [Act::Unshare, Act::Setns, Act::Clone, Act::Credentials] {
                assert_eq!(report.acts[&act], Outcome::default(), "{act:?}");
            }
            assert_eq!(report.children.len(), 2);
        }
    }

    #[test]
    fn reports_survive_json() {
        let mut report = HelperReport {
            pid: 1,
            children: vec![2],
            ..HelperReport::default()
        };
        report.note(Act::PivotRoot, Err(io::Error::other("no")));
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(
            text,
            r#"{"pid":1,"children":[2],"acts":{"pivot_root":{"error":"no"}}}"#
        );
        assert_eq!(serde_json::from_str::<HelperReport>(&text).unwrap(), report);
    }

    #[test]
    fn nonsense_is_an_error() {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let result = wait_for(command.args(["--exact", "none"]));
        assert!(matches!(result, Err(HelperError::Report(_))));
    }
}
