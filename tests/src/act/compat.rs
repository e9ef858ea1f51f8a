//! Acts by the 32-bit table of system calls, which 64-bit programs of x86 can use too. What its calls are passed must lie
//! below 4 GiB.

use std::io::{Error, Result};

/// Numbers in `arch/x86/entry/syscalls/syscall_32.tbl`.
mod number {
    pub(super) const OPEN: u32 = 5;
    pub(super) const CHDIR: u32 = 12;
    pub(super) const MKNOD: u32 = 14;
    pub(super) const GETPID: u32 = 20;
    pub(super) const PTRACE: u32 = 26;
    pub(super) const SOCKETCALL: u32 = 102;
    pub(super) const PRLIMIT: u32 = 340;
    pub(super) const SOCKET: u32 = 359;
    pub(super) const CONNECT: u32 = 362;
}

/// What `socketcall` can be asked for.
mod asked {
    pub(super) const SOCKET: u32 = 1;
    pub(super) const CONNECT: u32 = 3;
}

/// Bytes that a path and its end may take.
const PATH: usize = 256;

/// By which call a socket is made and connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// `socket` and `connect`.
    Themselves,
    /// `socketcall`, which reads its arguments from memory.
    Socketcall,
}

/// Makes a call.
///
/// # Errors
/// What the kernel says; `ENOSYS` where there are none such.
#[cfg(target_arch = "x86_64")]
fn call(number: u32, arguments: [u32; 4]) -> Result<u32> {
    let [first, second, third, fourth] = arguments.map(u64::from);
    let result: u64;
    // SAFETY: what is passed lies in `Low` memory, which outlives the call; nothing but these registers and that changes.
    // The compiler keeps the first argument's register for itself.
    unsafe {
        std::arch::asm!(
            "xchg rbx, {first}", "int 0x80", "xchg rbx, {first}",
            first = inout(reg) first => _, inlateout("rax") u64::from(number) => result,
            in("rcx") second, in("rdx") third, in("rsi") fourth, in("rdi") 0_u64,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _, options(nostack)
        );
    }
    // It has 32 bits.
    match result as i32 {
        result @ 0.. => Ok(result as u32),
        error => Err(Error::from_raw_os_error(-error)),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn call(_: u32, _: [u32; 4]) -> Result<u32> {
    Err(Error::from_raw_os_error(libc::ENOSYS))
}

/// Zeroed memory below 4 GiB, for as long as the process lives.
struct Low(*mut u8);

impl Low {
    const BYTES: usize = 4096;

    fn new() -> Result<Self> {
        #[cfg(target_arch = "x86_64")]
        const BELOW: i32 = libc::MAP_32BIT;
        #[cfg(not(target_arch = "x86_64"))]
        const BELOW: i32 = 0;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | BELOW;
        // SAFETY: fresh memory is asked for, wherever there is room.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), Self::BYTES, protection, flags, -1, 0) };
        match at {
            libc::MAP_FAILED => Err(Error::last_os_error()),
            at => Ok(Self(at.cast())),
        }
    }

    /// Puts bytes there, and says where.
    fn put(&self, at: usize, bytes: &[u8]) -> Result<u32> {
        if at + bytes.len() > Self::BYTES {
            return Err(Error::from_raw_os_error(libc::ENAMETOOLONG));
        }
        // SAFETY: within the memory.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.add(at), bytes.len()) };
        u32::try_from(self.0 as usize + at).map_err(Error::other)
    }

    fn path(&self, path: &str) -> Result<u32> {
        if path.len() >= PATH {
            return Err(Error::from_raw_os_error(libc::ENAMETOOLONG));
        }
        self.put(0, path.as_bytes())
    }

    fn words(&self, at: usize, words: &[u32]) -> Result<u32> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        self.put(at, &bytes)
    }
}

/// `getpid`. A kernel without such calls ends who makes one: a child of its own.
///
/// # Errors
/// `ENOSYS` where there are none.
pub fn getpid() -> Result<()> {
    // SAFETY: the child touches nothing that its parent's threads could hold.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let made = call(number::GETPID, [0; 4]);
        // SAFETY: the child has nothing to clean up.
        unsafe { libc::_exit(i32::from(made.is_err())) }
    }
    let mut status = 0;
    // SAFETY: the place is writable.
    if unsafe { libc::waitpid(child, &raw mut status, 0) } < 0 {
        return Err(Error::last_os_error());
    }
    match status {
        0 => Ok(()),
        _ => Err(Error::from_raw_os_error(libc::ENOSYS)),
    }
}

/// Opens a file for writing, and writes nothing.
///
/// # Errors
/// What the kernel says.
pub fn open(path: &str) -> Result<()> {
    let path = Low::new()?.path(path)?;
    call(number::OPEN, [path, libc::O_WRONLY as u32, 0, 0]).map(drop)
}

/// Changes the working directory.
///
/// # Errors
/// What the kernel says.
pub fn chdir(path: &str) -> Result<()> {
    let path = Low::new()?.path(path)?;
    call(number::CHDIR, [path, 0, 0, 0]).map(drop)
}

/// Makes a device node.
///
/// # Errors
/// What the kernel says.
pub fn mknod(path: &str, mode: u32, device: u64) -> Result<()> {
    let path = Low::new()?.path(path)?;
    let device = u32::try_from(device).map_err(Error::other)?;
    call(number::MKNOD, [path, mode, device, 0]).map(drop)
}

/// Traces a process, without stopping it.
///
/// # Errors
/// What the kernel says.
pub fn trace(pid: i32) -> Result<()> {
    const PTRACE_SEIZE: u32 = 0x4206;
    call(number::PTRACE, [PTRACE_SEIZE, pid.cast_unsigned(), 0, 0]).map(drop)
}

/// Makes a process's soft limit of core files 0. The hard one becomes the caller's.
///
/// # Errors
/// What the kernel says.
pub fn limits(pid: i32) -> Result<()> {
    const CORE: u32 = 4;
    let low = Low::new()?;
    // The soft and the hard limit have 64 bits each.
    let limit = low.put(0, &[0; 16])?;
    call(number::PRLIMIT, [0, CORE, 0, limit])?;
    low.put(0, &[0; 8])?;
    call(number::PRLIMIT, [pid.cast_unsigned(), CORE, limit, 0]).map(drop)
}

/// Connects to a unix socket, and keeps the connection.
///
/// # Errors
/// What the kernel says.
pub fn connect(path: &str, by: By) -> Result<()> {
    const ARGUMENTS: usize = 2 * PATH;
    let (family, kind) = (libc::AF_UNIX as u32, libc::SOCK_STREAM as u32);
    let low = Low::new()?;
    // The family has 16 bits, and the name follows it.
    low.put(0, &(libc::AF_UNIX as u16).to_ne_bytes())?;
    let address = low.put(2, path.as_bytes())? - 2;
    let length = size_of::<libc::sockaddr_un>() as u32;
    let ask = |what: u32, arguments: [u32; 3]| {
        let arguments = low.words(ARGUMENTS, &arguments)?;
        call(number::SOCKETCALL, [what, arguments, 0, 0])
    };
    match by {
        By::Themselves => {
            let socket = call(number::SOCKET, [family, kind, 0, 0])?;
            call(number::CONNECT, [socket, address, length, 0])
        }
        By::Socketcall => {
            let socket = ask(asked::SOCKET, [family, kind, 0])?;
            ask(asked::CONNECT, [socket, address, length])
        }
    }
    .map(drop)
}
