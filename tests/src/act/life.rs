//! What ordinary programs do all day: everything here must be silent in whatever container it is done.
//!
//! Whether a deed is allowed differs from one container to the next, so what the kernel refuses is left out. What
//! matters is that nothing of it reaches beyond the container.

use std::ffi::CString;
use std::fs::File;
use std::io::{Error, IoSlice, Read, Result, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;

use crate::sys;

/// A name and what it does.
type Habit = (&'static str, fn() -> Result<()>);

const HABITS: [Habit; 15] = [
    ("debug a child", debug_child),
    ("look into a child", look_into_child),
    ("signal children", signal_children),
    ("leave an orphan", leave_orphan),
    ("run threads", run_threads),
    ("talk by unix sockets", talk_by_unix),
    ("pass a file", pass_file),
    ("talk by loopback", talk_by_loopback),
    ("execute from memory", execute_from_memory),
    ("read /proc", read_proc),
    ("set knobs of its own", own_knobs),
    ("use devices", use_devices),
    ("mount for itself", mount_for_itself),
    ("change root", change_root),
    ("share memory", share_memory),
];

/// Does all of it, in the calling process and its children; gives what was refused.
#[must_use]
pub fn live() -> Vec<String> {
    HABITS
        .iter()
        .filter_map(|(name, habit)| Some(format!("{name}: {}", habit().err()?)))
        .collect()
}

fn checked(result: i64) -> Result<i64> {
    if result < 0 {
        Err(Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// A child that sleeps until it is killed.
fn sleeper() -> Result<i32> {
    let pid = sys::fork()?;
    if pid == 0 {
        loop {
            // SAFETY: always sound.
            unsafe { libc::pause() };
        }
    }
    Ok(pid)
}

fn end(pid: i32) -> Result<()> {
    sys::kill(pid, libc::SIGKILL)?;
    sys::waitpid(pid).map(drop)
}

fn debug_child() -> Result<()> {
    let pid = sleeper()?;
    let none = std::ptr::null_mut::<libc::c_void>();
    let trace = || -> Result<()> {
        // SAFETY: the request takes no memory.
        checked(unsafe { libc::ptrace(libc::PTRACE_ATTACH, pid, none, none) })?;
        let mut status = 0;
        // SAFETY: the pointer is valid for the call.
        checked(i64::from(unsafe { libc::waitpid(pid, &raw mut status, 0) }))?;
        let here = std::ptr::from_ref(&HABITS)
            .cast_mut()
            .cast::<libc::c_void>();
        // SAFETY: the address is one of the child, which is a copy of this process; the word is given by value.
        unsafe { libc::ptrace(libc::PTRACE_PEEKDATA, pid, here, none) };
        // SAFETY: the request takes no memory.
        checked(unsafe { libc::ptrace(libc::PTRACE_DETACH, pid, none, none) }).map(drop)
    };
    let traced = trace();
    end(pid)?;
    traced
}

fn look_into_child() -> Result<()> {
    let pid = sleeper()?;
    let looked = look_into(pid);
    end(pid)?;
    looked
}

fn look_into(pid: i32) -> Result<()> {
    let mut buffer = [0_u8; 16];
    let local = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let remote = libc::iovec {
        iov_base: std::ptr::from_ref(&HABITS).cast_mut().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: the local buffer is valid; the remote address is one of the child, which is a copy of this process.
    let read = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    checked(read as i64)?;
    drop(File::open(format!("/proc/{pid}/mem"))?);
    std::fs::read(format!("/proc/{pid}/maps"))?;
    std::fs::read_dir(format!("/proc/{pid}/root"))?.for_each(drop);
    let task = sys::pidfd_open(pid)?;
    // SAFETY: no memory is passed.
    let fd = checked(unsafe { libc::syscall(libc::SYS_pidfd_getfd, task.as_raw_fd(), 1, 0) })?;
    // SAFETY: the kernel just gave us this descriptor.
    drop(unsafe { OwnedFd::from_raw_fd(fd as i32) });
    Ok(())
}

fn signal_children() -> Result<()> {
    for signal in [libc::SIGCONT, libc::SIGUSR1, libc::SIGTERM] {
        let pid = sleeper()?;
        // SAFETY: no memory is passed.
        checked(i64::from(unsafe { libc::setpgid(pid, pid) }))?;
        sys::kill(-pid, signal)?;
        sys::kill(pid, 0)?;
        end(pid)?;
    }
    // SAFETY: no memory is passed; a timer of no seconds is none.
    unsafe { libc::alarm(0) };
    Ok(())
}

/// A grandchild that the first process of the pid namespace takes over, and is ended by somebody else.
fn leave_orphan() -> Result<()> {
    let (mut here, mut there) = UnixStream::pair()?;
    let pid = sys::fork()?;
    if pid == 0 {
        let told = sleeper().and_then(|orphan| there.write_all(&orphan.to_ne_bytes()));
        sys::exit_now(i32::from(told.is_err()));
    }
    sys::waitpid(pid)?;
    let mut orphan = [0_u8; 4];
    here.read_exact(&mut orphan)?;
    sys::kill(i32::from_ne_bytes(orphan), libc::SIGKILL)
}

/// Threads that end before and after each other, one of which is signalled, and a child born of one.
fn run_threads() -> Result<()> {
    let born = || {
        std::process::Command::new("/bin/busybox")
            .arg("true")
            .status()
    };
    let quick: Vec<_> = (0..4).map(|_| std::thread::spawn(|| ())).collect();
    let parent = std::thread::spawn(born);
    for thread in quick {
        thread
            .join()
            .map_err(|_| Error::other("a thread panicked"))?;
    }
    let status = parent
        .join()
        .map_err(|_| Error::other("a thread panicked"))??;
    // SAFETY: always sound; a signal that does nothing to who does not ask for it.
    checked(i64::from(unsafe { libc::raise(libc::SIGURG) }))?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::other(status.to_string()))
    }
}

fn serve_one(listener: &UnixListener, connect: impl FnOnce() -> Result<UnixStream>) -> Result<()> {
    let mut client = connect()?;
    let (mut server, _) = listener.accept()?;
    client.write_all(b"x")?;
    server.read_exact(&mut [0_u8])
}

fn talk_by_unix() -> Result<()> {
    let path = Path::new("/tmp/life.sock");
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    serve_one(&listener, || UnixStream::connect(path))?;
    std::fs::remove_file(path)?;
    let address = SocketAddr::from_abstract_name(format!("life-{}", std::process::id()))?;
    let listener = UnixListener::bind_addr(&address)?;
    serve_one(&listener, || UnixStream::connect_addr(&address))
}

/// Sends a directory of its own to itself.
fn pass_file() -> Result<()> {
    let (here, there) = UnixStream::pair()?;
    let directory = File::open("/tmp")?;
    let byte = [IoSlice::new(b"x")];
    let mut control = [0_u64; 4];
    // SAFETY: all-zero is a valid value of this plain struct.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = byte.as_ptr().cast_mut().cast();
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: the macros only compute sizes.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(4) } as usize;
    // SAFETY: the control buffer is aligned and has room for one header and one descriptor.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(4) as usize;
        libc::CMSG_DATA(header)
            .cast::<i32>()
            .write_unaligned(directory.as_raw_fd());
    }
    // SAFETY: the message and all that it points to live until the call returns.
    checked(unsafe { libc::sendmsg(here.as_raw_fd(), &raw const message, 0) } as i64)?;
    // SAFETY: as above; the buffers have not moved, and the byte is only written with the same one.
    checked(unsafe { libc::recvmsg(there.as_raw_fd(), &raw mut message, 0) } as i64)?;
    // SAFETY: the kernel wrote the control message; one descriptor is in it.
    let received = unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        if header.is_null() {
            return Err(Error::other("no descriptor came"));
        }
        OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<i32>().read_unaligned())
    };
    // SAFETY: no memory is passed.
    checked(i64::from(unsafe { libc::fchdir(received.as_raw_fd()) }))?;
    std::env::set_current_dir("/")
}

/// The loopback may be down; that is no failure.
fn talk_by_loopback() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let Ok(mut client) = TcpStream::connect(address) else {
        return Ok(());
    };
    let (mut server, _) = listener.accept()?;
    client.write_all(b"x")?;
    server.read_exact(&mut [0_u8])?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.send_to(b"x", socket.local_addr()?).map(drop)
}

fn execute_from_memory() -> Result<()> {
    // SAFETY: the name is a valid C string.
    let fd = checked(i64::from(unsafe {
        libc::memfd_create(c"life".as_ptr(), 0)
    }))?;
    // SAFETY: the kernel just gave us this descriptor.
    let mut file = unsafe { File::from_raw_fd(fd as i32) };
    file.write_all(&std::fs::read("/bin/busybox")?)?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let status = std::process::Command::new(path).arg("true").status()?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::other(status.to_string()))
    }
}

/// What `ps`, `top` and agents of monitoring read.
fn read_proc() -> Result<()> {
    read_processes(Path::new("/proc"))
}

/// Reads all that is told of every process in a /proc; what ends or is forbidden meanwhile is left out.
///
/// # Errors
/// When /proc cannot be listed.
pub fn read_processes(proc: &Path) -> Result<()> {
    let files = [
        "stat",
        "status",
        "statm",
        "maps",
        "smaps_rollup",
        "environ",
        "cmdline",
        "cgroup",
        "mountinfo",
        "limits",
        "io",
        "sched",
        "wchan",
        "oom_score",
        "net/tcp",
        "net/unix",
    ];
    for entry in std::fs::read_dir(proc)?.flatten() {
        let name = entry.file_name();
        if !name.as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        for file in files {
            let _ = std::fs::read(entry.path().join(file));
        }
        for directory in ["fd", "ns", "task", "map_files"] {
            let links = std::fs::read_dir(entry.path().join(directory));
            for link in links.into_iter().flatten().flatten() {
                let _ = std::fs::read_link(link.path());
            }
        }
        for link in ["exe", "cwd", "root"] {
            let _ = std::fs::read_link(entry.path().join(link));
        }
    }
    Ok(())
}

fn own_knobs() -> Result<()> {
    std::fs::write("/proc/self/comm", "life")?;
    std::fs::write("/proc/self/coredump_filter", "0")?;
    std::fs::write("/proc/self/oom_score_adj", "1000")?;
    for knob in [
        "core_pattern",
        "modprobe",
        "hostname",
        "pid_max",
        "random/uuid",
    ] {
        let _ = std::fs::read(Path::new("/proc/sys/kernel").join(knob));
    }
    Ok(())
}

fn use_devices() -> Result<()> {
    std::fs::write("/dev/null", "x")?;
    for device in ["/dev/zero", "/dev/urandom"] {
        File::open(device)?.read_exact(&mut [0_u8; 16])?;
    }
    let _ = File::open("/dev/ptmx");
    let _ = File::open("/dev/tty");
    Ok(())
}

/// Where it may: a file system of its own, and a directory of its own at another place.
fn mount_for_itself() -> Result<()> {
    let (mounted, bound) = (Path::new("/tmp/life-mount"), Path::new("/tmp/life-bind"));
    for directory in [mounted, bound] {
        std::fs::create_dir_all(directory)?;
    }
    sys::mount("none", mounted, "tmpfs", libc::MS_NOSUID, "")?;
    std::fs::write(mounted.join("file"), "x")?;
    sys::mount("/etc", bound, "", libc::MS_BIND, "")?;
    sys::umount_detach(bound)?;
    sys::umount_detach(mounted)
}

fn change_root() -> Result<()> {
    let root = "/tmp/life-root";
    std::fs::create_dir_all(root)?;
    let pid = sys::fork()?;
    if pid == 0 {
        let changed = std::os::unix::fs::chroot(root).and_then(|()| std::env::set_current_dir("/"));
        sys::exit_now(i32::from(changed.is_err()));
    }
    sys::waitpid(pid).map(drop)
}

fn share_memory() -> Result<()> {
    let name = CString::new(format!("/life-{}", std::process::id()))?;
    // SAFETY: the name is a valid C string.
    let fd = checked(i64::from(unsafe {
        libc::shm_open(name.as_ptr(), libc::O_CREAT | libc::O_RDWR, 0o600)
    }))?;
    // SAFETY: the kernel just gave us this descriptor.
    let file = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    // SAFETY: no memory is passed.
    checked(i64::from(unsafe {
        libc::ftruncate(file.as_fd().as_raw_fd(), 4096)
    }))?;
    // SAFETY: the name is a valid C string.
    checked(i64::from(unsafe { libc::shm_unlink(name.as_ptr()) }))?;
    // SAFETY: no memory is passed.
    let id = checked(i64::from(unsafe {
        libc::shmget(libc::IPC_PRIVATE, 4096, 0o600)
    }))?;
    // SAFETY: the buffer may be null for a removal.
    checked(i64::from(unsafe {
        libc::shmctl(id as i32, libc::IPC_RMID, std::ptr::null_mut())
    }))
    .map(drop)
}
