//! The device programs of a cgroup by system calls, where no kernel programs of ours are loaded. It takes `CAP_NET_ADMIN`
//! to ask which there are, and `CAP_SYS_ADMIN` to get at them: a look by root has both, a watch has given them up.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Commands of bpf(2) (`enum bpf_cmd`).
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const PROG_QUERY: libc::c_int = 16;
/// `BPF_CGROUP_DEVICE`.
const DEVICE: u32 = 6;
/// `BPF_F_QUERY_EFFECTIVE`: those of the cgroups above, too.
const EFFECTIVE: u32 = 1;
/// Programs that are looked at.
const MAX_PROGRAMS: usize = 16;
/// Bytes of one: the kernel takes no more than a million instructions, and these have a few hundred.
const MAX_CODE: u32 = 64 << 10;

/// `union bpf_attr`, as far as `BPF_PROG_QUERY` uses it.
#[repr(C)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

/// As [`Query`], for `BPF_PROG_GET_FD_BY_ID`.
#[repr(C)]
struct ById {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
}

/// As [`Query`], for `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct GetInfo {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// The beginning of `struct bpf_prog_info`: the kernel writes no more than it has room for.
#[repr(C)]
#[derive(Default)]
struct Info {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_prog_len: u32,
    xlated_prog_len: u32,
    jited_prog_insns: u64,
    xlated_prog_insns: u64,
}

/// The instructions of all programs in effect for a cgroup.
///
/// # Errors
/// Without the capabilities for it, and where there is more than is looked at.
pub(super) fn programs(cgroup: BorrowedFd<'_>) -> io::Result<Vec<Vec<u64>>> {
    let ids = query(cgroup)?;
    ids.into_iter().map(code).collect()
}

fn query(cgroup: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut ids = [0_u32; MAX_PROGRAMS];
    let mut query = Query {
        target_fd: number(cgroup),
        attach_type: DEVICE,
        query_flags: EFFECTIVE,
        attach_flags: 0,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: const { MAX_PROGRAMS as u32 },
        padding: 0,
    };
    // SAFETY: there is room for as many numbers as are said to be.
    unsafe { bpf(PROG_QUERY, &mut query)? };
    let count = query.prog_cnt as usize;
    let ids = ids.get(..count);
    ids.map(<[u32]>::to_vec).ok_or_else(too_much)
}

fn code(id: u32) -> io::Result<Vec<u64>> {
    let mut by_id = ById {
        prog_id: id,
        next_id: 0,
        open_flags: 0,
    };
    // SAFETY: no memory is passed.
    let program = unsafe { bpf(PROG_GET_FD_BY_ID, &mut by_id)? };
    // SAFETY: the kernel just gave us this descriptor and nobody else owns it.
    let program = unsafe { OwnedFd::from_raw_fd(program) };
    let mut info = Info::default();
    // SAFETY: there is room for no instructions, and that is said.
    unsafe { get_info(&program, &mut info)? };
    let length = info.xlated_prog_len;
    if length > MAX_CODE {
        return Err(too_much());
    }
    let mut code = vec![0_u64; length as usize / size_of::<u64>()];
    info = Info {
        xlated_prog_len: length,
        xlated_prog_insns: code.as_mut_ptr() as u64,
        ..Info::default()
    };
    // SAFETY: there is room for as many bytes of instructions as are said to be.
    unsafe { get_info(&program, &mut info)? };
    // Without the right to see them, the kernel gives none and says that there are none.
    match info.xlated_prog_len == length && length != 0 {
        true => Ok(code),
        false => Err(io::ErrorKind::PermissionDenied.into()),
    }
}

/// # Safety
/// `info` says truly how much room there is behind its pointers.
unsafe fn get_info(program: &OwnedFd, info: &mut Info) -> io::Result<()> {
    let mut get = GetInfo {
        bpf_fd: number(program.as_fd()),
        info_len: const { size_of::<Info>() as u32 },
        info: std::ptr::from_mut(info) as u64,
    };
    // SAFETY: the caller's promise.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut get).map(drop) }
}

fn number(descriptor: BorrowedFd<'_>) -> u32 {
    descriptor.as_raw_fd().cast_unsigned()
}

fn too_much() -> io::Error {
    io::Error::other("more than is looked at")
}

/// # Safety
/// `attributes` are the command's, and its pointers are as it says.
unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_int> {
    let attributes = std::ptr::from_mut(attributes);
    // SAFETY: the attributes outlive the call, and their size is given.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    match result {
        0.. => libc::c_int::try_from(result).map_err(io::Error::other),
        _ => Err(io::Error::last_os_error()),
    }
}
