//! Acts on the kernel, its settings, and devices.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::Error;
use std::os::fd::{AsRawFd, FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use serde::{Deserialize, Serialize};

use super::{Tried, compat, tried};

/// A call that takes a privilege.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Call {
    /// As [`KernelAct::BpfMap`].
    Bpf,
    /// As [`KernelAct::Perf`].
    Perf,
    /// `finit_module` of no file.
    Module,
    /// `kexec_load` of no segments.
    Kexec,
}

impl Call {
    fn make(self) -> std::io::Result<()> {
        match self {
            Self::Bpf => bpf_map(),
            Self::Perf => perf(),
            Self::Module => {
                // SAFETY: the text ends, and there is no such descriptor.
                done(unsafe { libc::syscall(libc::SYS_finit_module, -1_i64, c"".as_ptr(), 0_i64) })
            }
            Self::Kexec => {
                // SAFETY: no memory is passed.
                done(unsafe { libc::syscall(libc::SYS_kexec_load, 0_i64, 0_i64, 0_i64, 0_i64) })
            }
        }
    }
}

/// One act. None changes anything on the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kernel", rename_all = "kebab-case")]
pub enum KernelAct {
    /// `bpf(BPF_MAP_CREATE)` of a small array.
    BpfMap,
    /// `perf_event_open` of a software counter of the calling task.
    Perf,
    /// `userfaultfd(0)`.
    Userfaultfd,
    /// `socket(family, kind, protocol)`.
    Socket {
        /// `AF_*`.
        family: i32,
        /// `SOCK_*`.
        kind: i32,
        /// Protocol.
        protocol: i32,
    },
    /// A file into a pipe, and that into a socket of the kernel's crypto which wants to hash it.
    SpliceToCrypto {
        /// The file.
        path: String,
    },
    /// The same, into a unix socket.
    SpliceToUnix {
        /// The file.
        path: String,
    },
    /// `sendfile` of a file into a socket of the kernel's crypto.
    SendToCrypto {
        /// The file.
        path: String,
    },
    /// The same, into a unix socket.
    SendToUnix {
        /// The file.
        path: String,
    },
    /// `unshare(CLONE_NEWUSER | CLONE_NEWNET)`.
    UnshareUserAndNet,
    /// `getpid` by its number in the 32-bit table; `ENOSYS` where there is none.
    Call32,
    /// A call that the kernel must refuse for want of a privilege.
    Refused {
        /// Which.
        call: Call,
    },
    /// Opens a file for writing, and writes nothing.
    OpenToWrite {
        /// Which.
        path: String,
    },
    /// The same, by the 32-bit table.
    OpenToWrite32 {
        /// Which.
        path: String,
    },
    /// Reads a file, and writes what it had.
    WriteBack {
        /// Which.
        path: String,
    },
    /// `mknod(path, mode, major:minor)`.
    Mknod {
        /// Where.
        path: String,
        /// Type and permissions.
        mode: u32,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// The same, by the 32-bit table.
    Mknod32 {
        /// Where.
        path: String,
        /// Type and permissions.
        mode: u32,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

impl KernelAct {
    /// Does it, in the calling process.
    ///
    /// # Errors
    /// What was tried, and why it failed.
    pub fn perform(&self) -> Tried<()> {
        match self {
            Self::BpfMap => tried("bpf", bpf_map()),
            Self::Perf => tried("perf_event_open", perf()),
            // SAFETY: no memory is passed.
            Self::Userfaultfd => tried(
                "userfaultfd",
                done(unsafe { libc::syscall(libc::SYS_userfaultfd, 0) }),
            ),
            Self::Socket {
                family,
                kind,
                protocol,
            } => {
                // SAFETY: no memory is passed.
                let socket = unsafe { libc::socket(*family, *kind, *protocol) };
                match done(socket.into()) {
                    // The question comes before the answer that this kernel has no such sockets.
                    Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => Ok(()),
                    result => tried("socket", result),
                }
            }
            Self::SpliceToCrypto { path } => tried(
                format!("splice {path} into a crypto socket"),
                crypto_socket().and_then(|socket| splice(path, &socket)),
            ),
            Self::SpliceToUnix { path } => {
                let pair = UnixStream::pair();
                let spliced = pair.and_then(|(here, _there)| splice(path, &here.into()));
                tried(format!("splice {path} into a unix socket"), spliced)
            }
            Self::SendToCrypto { path } => tried(
                format!("send {path} into a crypto socket"),
                crypto_socket().and_then(|socket| send_file(path, &socket)),
            ),
            Self::SendToUnix { path } => {
                let pair = UnixStream::pair();
                let sent = pair.and_then(|(here, _there)| send_file(path, &here.into()));
                tried(format!("send {path} into a unix socket"), sent)
            }
            Self::UnshareUserAndNet => tried(
                "unshare",
                crate::sys::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET),
            ),
            Self::Call32 => tried("getpid by the 32-bit table", compat::getpid()),
            Self::Refused { call } => {
                let result = match call.make() {
                    Ok(()) => Err(Error::other("it was granted")),
                    Err(error) => match error.raw_os_error() {
                        Some(libc::EPERM | libc::EACCES) => Ok(()),
                        _ => Err(error),
                    },
                };
                tried(format!("{call:?} without a privilege"), result)
            }
            Self::OpenToWrite { path } => {
                let opened = OpenOptions::new().write(true).open(path);
                tried(format!("open {path}"), opened.map(drop))
            }
            Self::OpenToWrite32 { path } => tried(format!("open {path}"), compat::open(path)),
            Self::WriteBack { path } => {
                let had = tried(format!("read {path}"), std::fs::read(path))?;
                tried(format!("write {path}"), std::fs::write(path, had))
            }
            Self::Mknod {
                path,
                mode,
                major,
                minor,
            } => {
                let name = tried("a path", CString::new(path.as_str()).map_err(Error::other))?;
                let device = libc::makedev(*major, *minor);
                // SAFETY: the path is a string that ends.
                let made = unsafe { libc::mknod(name.as_ptr(), *mode, device) };
                tried(format!("mknod {path}"), done(made.into()))
            }
            Self::Mknod32 {
                path,
                mode,
                major,
                minor,
            } => {
                let made = compat::mknod(path, *mode, libc::makedev(*major, *minor));
                tried(format!("mknod {path}"), made)
            }
        }
    }
}

fn done(result: i64) -> std::io::Result<()> {
    match result {
        0.. => Ok(()),
        _ => Err(Error::last_os_error()),
    }
}

/// Whether this kernel has sockets of its crypto.
pub(crate) fn has_crypto_sockets() -> bool {
    crypto_socket().is_ok()
}

/// A socket that hashes what is sent to it.
fn crypto_socket() -> std::io::Result<OwnedFd> {
    // SAFETY: all-zero is a valid value of this plain struct.
    let mut address: libc::sockaddr_alg = unsafe { std::mem::zeroed() };
    address.salg_family = libc::AF_ALG as u16;
    address.salg_type[..4].copy_from_slice(b"hash");
    address.salg_name[..6].copy_from_slice(b"sha256");
    // SAFETY: no memory is passed.
    let made = unsafe { libc::socket(libc::AF_ALG, libc::SOCK_SEQPACKET, 0) };
    let socket = owned(made)?;
    let size = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address has the size that is given, and outlives the call.
    let bound = unsafe { libc::bind(made, (&raw const address).cast(), size) };
    done(bound.into())?;
    // SAFETY: no address is asked for.
    let accepted = unsafe { libc::accept(made, std::ptr::null_mut(), std::ptr::null_mut()) };
    drop(socket);
    owned(accepted)
}

fn owned(descriptor: i32) -> std::io::Result<OwnedFd> {
    done(descriptor.into())?;
    // SAFETY: the kernel just gave us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// The first bytes of a file, by way of a pipe.
fn splice(path: &str, into: &OwnedFd) -> std::io::Result<()> {
    const BYTES: usize = 64;
    let file = File::open(path)?;
    let (reader, writer) = std::io::pipe()?;
    let push = |from: &dyn AsRawFd, into: &dyn AsRawFd| {
        let (from, into) = (from.as_raw_fd(), into.as_raw_fd());
        let none = std::ptr::null_mut;
        // SAFETY: no offsets are passed.
        done(unsafe { libc::splice(from, none(), into, none(), BYTES, 0) } as i64)
    };
    push(&file, &writer)?;
    push(&reader, into)
}

fn send_file(path: &str, into: &OwnedFd) -> std::io::Result<()> {
    const BYTES: usize = 64;
    let file = File::open(path)?;
    let (from, into) = (file.as_raw_fd(), into.as_raw_fd());
    // SAFETY: no offset is passed.
    done(unsafe { libc::sendfile(into, from, std::ptr::null_mut(), BYTES) } as i64)
}

/// `BPF_MAP_TYPE_ARRAY` with one entry: type, sizes of key and value, number of entries.
fn bpf_map() -> std::io::Result<()> {
    const MAP_CREATE: libc::c_long = 0;
    let attributes: [u32; 18] = {
        let mut all = [0; 18];
        (all[0], all[1], all[2], all[3]) = (2, 4, 8, 1);
        all
    };
    // SAFETY: the kernel reads as many bytes as the array has.
    done(unsafe {
        libc::syscall(
            libc::SYS_bpf,
            MAP_CREATE,
            attributes.as_ptr(),
            size_of_val(&attributes),
        )
    })
}

/// `PERF_TYPE_SOFTWARE`, `PERF_COUNT_SW_CPU_CLOCK`; the first size that the structure ever had.
fn perf() -> std::io::Result<()> {
    let mut attributes = [0_u32; 16];
    (attributes[0], attributes[1]) = (1, 64);
    // SAFETY: the kernel reads as many bytes as the array has.
    done(unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            attributes.as_ptr(),
            0_i64,
            -1_i64,
            -1_i64,
            0_u64,
        )
    })
}
