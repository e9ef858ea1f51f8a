//! The least of io_uring that does one thing: no library, one entry, one call.

use std::ffi::CString;
use std::io::Error;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

/// `IORING_OP_CONNECT` and `IORING_OP_OPENAT`.
const CONNECT: u8 = 16;
const OPENAT: u8 = 18;
/// `IOSQE_ASYNC`: a worker does it.
const ASYNC: u8 = 1 << 4;
/// `IORING_ENTER_GETEVENTS`.
const GETEVENTS: u32 = 1;
/// Offsets to map: the submission ring (the completion ring is in it since 5.4), the entries.
const SQ_RING: i64 = 0;
const SQES: i64 = 0x1000_0000;

/// `struct io_sqring_offsets`.
#[repr(C)]
#[derive(Default)]
struct Submission {
    head: u32,
    tail: u32,
    mask: u32,
    entries: u32,
    flags: u32,
    dropped: u32,
    array: u32,
    reserved: [u32; 3],
}

/// `struct io_cqring_offsets`.
#[repr(C)]
#[derive(Default)]
struct Completion {
    head: u32,
    tail: u32,
    mask: u32,
    entries: u32,
    overflow: u32,
    cqes: u32,
    flags: u32,
    reserved: [u32; 3],
}

/// `struct io_uring_params`.
#[repr(C)]
#[derive(Default)]
struct Params {
    sq_entries: u32,
    cq_entries: u32,
    flags: u32,
    sq_thread_cpu: u32,
    sq_thread_idle: u32,
    features: u32,
    wq_fd: u32,
    reserved: [u32; 3],
    sq: Submission,
    cq: Completion,
}

fn map(ring: &OwnedFd, len: usize, offset: i64) -> std::io::Result<*mut u8> {
    // SAFETY: a new mapping that nothing else refers to.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            ring.as_raw_fd(),
            offset,
        )
    };
    match at {
        libc::MAP_FAILED => Err(Error::last_os_error()),
        at => Ok(at.cast()),
    }
}

/// What is asked for: the fields of `struct io_uring_sqe` that count.
#[derive(Default)]
struct Request {
    opcode: u8,
    descriptor: i32,
    offset: u64,
    address: u64,
    flags: u32,
}

/// Opens a path for reading by a worker of a ring of its own, and keeps the descriptor.
///
/// # Errors
/// What the kernel says.
pub(super) fn open(path: &str) -> Result<(), Error> {
    let path = CString::new(path)?;
    submit(&Request {
        opcode: OPENAT,
        descriptor: libc::AT_FDCWD,
        address: path.as_ptr() as u64,
        flags: libc::O_RDONLY as u32,
        ..Request::default()
    })
}

/// Connects a stream socket to a path by a worker of a ring of its own, and keeps it.
///
/// # Errors
/// What the kernel says.
pub(super) fn connect(path: &str) -> Result<(), Error> {
    // SAFETY: an address of zeros is a valid one; no memory is passed to the call.
    let (mut address, socket) = unsafe {
        let address: libc::sockaddr_un = std::mem::zeroed();
        (address, libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0))
    };
    if socket < 0 {
        return Err(Error::last_os_error());
    }
    address.sun_family = libc::AF_UNIX as u16;
    // The last byte stays 0.
    let room = address.sun_path.len() - 1;
    if path.len() > room {
        return Err(Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    for (place, byte) in address.sun_path.iter_mut().zip(path.bytes()) {
        *place = byte as libc::c_char;
    }
    submit(&Request {
        opcode: CONNECT,
        descriptor: socket,
        offset: size_of_val(&address) as u64,
        address: (&raw const address) as u64,
        ..Request::default()
    })
}

/// Has a worker do one thing, and waits for it.
fn submit(request: &Request) -> Result<(), Error> {
    let mut params = Params::default();
    // SAFETY: the parameters outlive the call.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, &raw mut params) };
    if ring < 0 {
        return Err(Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor.
    let ring = unsafe { OwnedFd::from_raw_fd(ring as i32) };
    let page = map(&ring, 4096, SQ_RING)?;
    let entry = map(&ring, 4096, SQES)?;
    // SAFETY: one entry of 64 bytes in a mapped page, zeroed by the kernel; offsets are within the first page for
    // rings of one entry. What the request points to outlives the call, which waits for the worker.
    unsafe {
        entry.write(request.opcode);
        entry.add(1).write(ASYNC);
        entry.add(4).cast::<i32>().write(request.descriptor);
        entry.add(8).cast::<u64>().write(request.offset);
        entry.add(16).cast::<u64>().write(request.address);
        entry.add(28).cast::<u32>().write(request.flags);
        page.add(params.sq.array as usize).cast::<u32>().write(0);
        page.add(params.sq.tail as usize)
            .cast::<u32>()
            .write_volatile(1);
        let done = libc::syscall(
            libc::SYS_io_uring_enter,
            ring.as_raw_fd(),
            1,
            1,
            GETEVENTS,
            std::ptr::null::<u8>(),
            0,
        );
        if done < 0 {
            return Err(Error::last_os_error());
        }
        let result = page.add(params.cq.cqes as usize + 8).cast::<i32>();
        match result.read_volatile() {
            0.. => Ok(()),
            error => Err(Error::from_raw_os_error(-error)),
        }
    }
}
