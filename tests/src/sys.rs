//! The few system calls that the standard library does not offer, each as one safe function.
//!
//! Callers are single-threaded at the time of `fork` and `clone3` (the actor nearly always is; the runner uses
//! `Command::pre_exec` instead), so the child may go on as an ordinary process. Else it makes system calls and ends.

use std::ffi::CString;
use std::io::{Error, Result};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

/// Magic number of a cgroup v2 mount, as `statfs` gives it.
pub const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;

/// `CLONE_INTO_CGROUP` (Linux 5.7), which needs a 64-bit flag word.
pub const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

fn check(status: i64) -> Result<i64> {
    if status < 0 {
        Err(Error::last_os_error())
    } else {
        Ok(status)
    }
}

fn c_path(path: &Path) -> Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_os_str().as_bytes()).map_err(Error::other)
}

/// Joins the namespace behind `fd` (`flags` 0: any kind), or several of the task behind a pidfd.
///
/// # Errors
/// Whatever the kernel says.
pub fn setns(fd: BorrowedFd<'_>, flags: i32) -> Result<()> {
    // SAFETY: no memory is passed.
    check(i64::from(unsafe { libc::setns(fd.as_raw_fd(), flags) })).map(drop)
}

/// Leaves the namespaces named by `flags` for fresh ones.
///
/// # Errors
/// Whatever the kernel says.
pub fn unshare(flags: i32) -> Result<()> {
    // SAFETY: no memory is passed.
    check(i64::from(unsafe { libc::unshare(flags) })).map(drop)
}

/// A descriptor for process `pid`, as this process's pid namespace numbers it.
///
/// # Errors
/// Whatever the kernel says.
pub fn pidfd_open(pid: i32) -> Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the kernel just gave us this descriptor and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Forks; the child goes on with `Ok(0)`.
///
/// # Errors
/// Whatever the kernel says.
pub fn fork() -> Result<i32> {
    // SAFETY: callers are single-threaded (see the module's text).
    check(i64::from(unsafe { libc::fork() })).map(|pid| pid as i32)
}

/// Forks with namespace flags and, if given, straight into a cgroup directory.
///
/// # Errors
/// Whatever the kernel says.
pub fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<i32> {
    let into = if cgroup.is_some() {
        CLONE_INTO_CGROUP
    } else {
        0
    };
    clone_by(&CloneArgs {
        flags: flags | into,
        cgroup: cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
        ..CloneArgs::default()
    })
}

/// Forks a child with chosen ids, one per pid namespace, the innermost first (Linux 5.5).
///
/// # Errors
/// Whatever the kernel says; `EEXIST` when an id is taken.
pub fn clone_with_ids(ids: &[i32]) -> Result<i32> {
    clone_by(&CloneArgs {
        set_tid: ids.as_ptr() as u64,
        set_tid_size: ids.len() as u64,
        ..CloneArgs::default()
    })
}

/// `struct clone_args`.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

fn clone_by(args: &CloneArgs) -> Result<i32> {
    let args = CloneArgs {
        exit_signal: libc::SIGCHLD as u64,
        ..*args
    };
    // SAFETY: `args` and what it points to outlive the call and its size is passed; without CLONE_VM and a stack this is
    // a fork, and callers are single-threaded.
    check(unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) })
        .map(|pid| pid as i32)
}

/// Waits for a child; `-1` waits for any. Gives the reaped pid and its raw status.
///
/// # Errors
/// Whatever the kernel says, `ECHILD` included.
pub fn waitpid(pid: i32) -> Result<(i32, i32)> {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    let reaped = check(i64::from(unsafe { libc::waitpid(pid, &raw mut status, 0) }))?;
    Ok((reaped as i32, status))
}

/// Leaves at once, without running destructors that belong to the parent.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Becomes user and group `id`, dropping every capability on the way if it was root.
///
/// # Errors
/// Whatever the kernel says.
pub fn become_user(id: u32) -> Result<()> {
    // SAFETY: no memory is passed (an empty list of groups).
    check(i64::from(unsafe { libc::setgroups(0, std::ptr::null()) }))?;
    // SAFETY: no memory is passed.
    check(i64::from(unsafe { libc::setresgid(id, id, id) }))?;
    // SAFETY: no memory is passed.
    check(i64::from(unsafe { libc::setresuid(id, id, id) })).map(drop)
}

/// Becomes another effective user; the real and the saved one stay.
///
/// # Errors
/// Whatever the kernel says.
pub fn set_effective_user(id: u32) -> Result<()> {
    // SAFETY: no memory is passed.
    check(i64::from(unsafe { libc::seteuid(id) })).map(drop)
}

/// `_LINUX_CAPABILITY_VERSION_3`, this task.
const CAPABILITY_HEADER: [u32; 2] = [0x2008_0522, 0];

/// This task's permitted capabilities, a bit each.
///
/// # Errors
/// Whatever the kernel says.
pub fn permitted() -> Result<u64> {
    let mut header = CAPABILITY_HEADER;
    // Effective, permitted, inheritable: the lower halves first.
    let mut data = [0_u32; 6];
    // SAFETY: both arrays have the layout and size of version 3 and outlive the call.
    check(unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), data.as_mut_ptr()) })?;
    Ok(u64::from(data[1]) | u64::from(data[4]) << 32)
}

/// Sets this task's effective and permitted capabilities; none stay inheritable.
///
/// # Errors
/// Whatever the kernel says.
pub fn set_capabilities(effective: u64, permitted: u64) -> Result<()> {
    let mut header = CAPABILITY_HEADER;
    let halves = |set: u64| [set as u32, (set >> 32) as u32];
    let ([e0, e1], [p0, p1]) = (halves(effective), halves(permitted));
    let data = [e0, p0, 0, e1, p1, 0];
    // SAFETY: both arrays have the layout and size of version 3 and outlive the call.
    check(unsafe { libc::syscall(libc::SYS_capset, header.as_mut_ptr(), data.as_ptr()) }).map(drop)
}

/// Mounts; an empty `kind` passes none.
///
/// # Errors
/// Whatever the kernel says.
pub fn mount(source: &str, target: &Path, kind: &str, flags: u64, data: &str) -> Result<()> {
    let source = CString::new(source).map_err(Error::other)?;
    let target = c_path(target)?;
    let kind = CString::new(kind).map_err(Error::other)?;
    let data = CString::new(data).map_err(Error::other)?;
    // SAFETY: all four strings outlive the call and end in NUL.
    let status = unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            flags,
            data.as_ptr().cast(),
        )
    };
    check(i64::from(status)).map(drop)
}

/// Detaches a mount lazily.
///
/// # Errors
/// Whatever the kernel says.
pub fn umount_detach(target: &Path) -> Result<()> {
    let target = c_path(target)?;
    // SAFETY: the string outlives the call.
    check(i64::from(unsafe {
        libc::umount2(target.as_ptr(), libc::MNT_DETACH)
    }))
    .map(drop)
}

/// Makes a node for a block device, for its owner.
///
/// # Errors
/// Whatever the kernel says.
pub fn make_block_node(path: &Path, device: u64) -> Result<()> {
    let path = c_path(path)?;
    // SAFETY: the string outlives the call.
    let made = unsafe { libc::mknod(path.as_ptr(), libc::S_IFBLK | 0o600, device) };
    check(made.into()).map(drop)
}

/// Makes a named pipe.
///
/// # Errors
/// Whatever the kernel says.
pub fn make_pipe(path: &Path) -> Result<()> {
    let path = c_path(path)?;
    // SAFETY: the string outlives the call.
    let made = unsafe { libc::mkfifo(path.as_ptr(), 0o600) };
    check(made.into()).map(drop)
}

/// The magic number of the file system that holds `path`.
///
/// # Errors
/// Whatever the kernel says.
pub fn filesystem_magic(path: &Path) -> Result<i64> {
    let path = c_path(path)?;
    let mut stat = std::mem::MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: both pointers are valid for the call.
    check(i64::from(unsafe {
        libc::statfs(path.as_ptr(), stat.as_mut_ptr())
    }))?;
    // SAFETY: zeroed memory is a valid `statfs`, and the kernel filled it.
    Ok(unsafe { stat.assume_init() }.f_type)
}

/// Gives `path` a file capability, permitted and effective, as `setcap NAME+ep` does.
///
/// # Errors
/// Whatever the kernel says; `ENOTSUP` where the file system keeps no extended attributes.
pub fn set_file_capability(path: &Path, capability: u32) -> Result<()> {
    let path = c_path(path)?;
    let bit = 1_u32 << (capability % 32);
    let (low, high) = if capability < 32 { (bit, 0) } else { (0, bit) };
    // struct vfs_cap_data, revision 2, with the effective flag.
    let words = [0x0200_0001_u32, low, 0, high, 0];
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    // SAFETY: path, name and value outlive the call, and the value's length is passed.
    let status = unsafe {
        libc::setxattr(
            path.as_ptr(),
            c"security.capability".as_ptr(),
            bytes.as_ptr().cast(),
            bytes.len(),
            0,
        )
    };
    check(i64::from(status)).map(drop)
}

/// Switches a terminal to raw mode, so that the line discipline changes no byte.
///
/// # Errors
/// Whatever the kernel says.
pub fn make_raw(fd: BorrowedFd<'_>) -> Result<()> {
    let mut settings = std::mem::MaybeUninit::<libc::termios>::zeroed();
    // SAFETY: the pointer is valid for the call.
    check(i64::from(unsafe {
        libc::tcgetattr(fd.as_raw_fd(), settings.as_mut_ptr())
    }))?;
    // SAFETY: zeroed memory is a valid `termios`, and the kernel filled it.
    let mut settings = unsafe { settings.assume_init() };
    // SAFETY: the pointer is valid for the call.
    unsafe { libc::cfmakeraw(&raw mut settings) };
    // SAFETY: the pointer is valid for the call.
    check(i64::from(unsafe {
        libc::tcsetattr(fd.as_raw_fd(), libc::TCSANOW, &raw const settings)
    }))
    .map(drop)
}

/// Sends `signal` to `pid`.
///
/// # Errors
/// Whatever the kernel says.
pub fn kill(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: no memory is passed.
    check(i64::from(unsafe { libc::kill(pid, signal) })).map(drop)
}

/// Powers the machine off. Only a guest's first process calls this.
pub fn power_off() -> ! {
    // SAFETY: no memory is passed; the machine is ours to stop.
    unsafe {
        libc::sync();
        libc::reboot(libc::RB_POWER_OFF);
    }
    exit_now(1)
}

/// Keeps what this process was given beyond its standard streams from its children: a descriptor that leaks into a
/// container is a finding.
pub fn keep_descriptors() {
    let given = std::fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten();
    let numbers = given.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    for fd in numbers.filter(|fd| *fd > 2) {
        // SAFETY: no memory is passed. It may be closed already.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// Room for one control message with one descriptor.
type Control = [u64; 4];

/// Passes a descriptor over a unix socket, with one byte. Allocates nothing.
///
/// # Errors
/// When the kernel refuses.
pub fn send_descriptor(socket: i32, descriptor: i32) -> Result<()> {
    let (mut byte, mut control) = (0_u8, Control::default());
    let mut data = iovec(&mut byte);
    let mut message = message(&mut data, &mut control);
    // SAFETY: the message points to memory that outlives the call and has room for the one control message.
    let sent = unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(4) as _;
        libc::CMSG_DATA(header)
            .cast::<i32>()
            .write_unaligned(descriptor);
        message.msg_controllen = libc::CMSG_SPACE(4) as _;
        libc::sendmsg(socket, &raw const message, 0)
    };
    if sent == 1 {
        Ok(())
    } else {
        Err(Error::last_os_error())
    }
}

/// Receives a descriptor from a unix socket, and leaves it open.
///
/// # Errors
/// When the kernel refuses.
pub fn receive_descriptor(socket: i32) -> Result<()> {
    let (mut byte, mut control) = (0_u8, Control::default());
    let mut data = iovec(&mut byte);
    let mut message = message(&mut data, &mut control);
    // SAFETY: the message points to memory that outlives the call.
    let received = unsafe { libc::recvmsg(socket, &raw mut message, 0) };
    match received {
        1 if message.msg_controllen > 0 => Ok(()),
        0.. => Err(Error::other("no descriptor came")),
        _ => Err(Error::last_os_error()),
    }
}

fn iovec(byte: &mut u8) -> libc::iovec {
    libc::iovec {
        iov_base: (&raw mut *byte).cast(),
        iov_len: 1,
    }
}

fn message(data: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    // SAFETY: all zero is an empty message.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = data;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of::<Control>() as _;
    message
}
