//! Namespaces of a task.
//!
//! The pid namespace that a task lives in hangs at a computed index of its `struct pid`, so it is always
//! probed; mostly it is also the one for its children, whose slot is then copied.

use crate::kernel::globals::{
    CGNS_INUM, CGNS_OWNER, CGNS_UNIQUE, IPC_INUM, IPC_OWNER, IPC_UNIQUE, MNT_INUM, MNT_OWNER,
    MNT_UNIQUE, NET_INUM, NET_OWNER, NET_UNIQUE, NSPROXY_CGROUP, NSPROXY_IPC, NSPROXY_MNT,
    NSPROXY_NET, NSPROXY_PID, NSPROXY_TIME, NSPROXY_TIMECH, NSPROXY_UTS, PID_LEVEL, PID_NUMBERS,
    PIDNS_INUM, PIDNS_OWNER, PIDNS_PARENT, PIDNS_UNIQUE, TASK_NSPROXY, TASK_PID, TIME_INUM,
    TIME_OWNER, TIME_UNIQUE, UPID_NR, UPID_NS, UPID_SIZE, USERNS_INUM, UTS_INUM, UTS_OWNER,
    UTS_UNIQUE,
};
use crate::kernel::{Access, Probe, Ptr};
use auditor_common::record::{NsRef, TaskState, known, ns};
use aya_ebpf::Global;

/// Greatest depth of pid namespaces (`MAX_PID_NS_LEVEL`) is 32: levels fit this mask.
const LEVEL_MASK: u32 = 63;

/// Where one kind of namespace keeps what identifies it.
struct Layout {
    inum: &'static Global<u32>,
    unique: &'static Global<u32>,
    owner: &'static Global<u32>,
}

const MNT: Layout = Layout {
    inum: &MNT_INUM,
    unique: &MNT_UNIQUE,
    owner: &MNT_OWNER,
};
const NET: Layout = Layout {
    inum: &NET_INUM,
    unique: &NET_UNIQUE,
    owner: &NET_OWNER,
};
const IPC: Layout = Layout {
    inum: &IPC_INUM,
    unique: &IPC_UNIQUE,
    owner: &IPC_OWNER,
};
const UTS: Layout = Layout {
    inum: &UTS_INUM,
    unique: &UTS_UNIQUE,
    owner: &UTS_OWNER,
};
const CGROUP: Layout = Layout {
    inum: &CGNS_INUM,
    unique: &CGNS_UNIQUE,
    owner: &CGNS_OWNER,
};
const TIME: Layout = Layout {
    inum: &TIME_INUM,
    unique: &TIME_UNIQUE,
    owner: &TIME_OWNER,
};
const PID: Layout = Layout {
    inum: &PIDNS_INUM,
    unique: &PIDNS_UNIQUE,
    owner: &PIDNS_OWNER,
};

#[inline(always)]
unsafe fn identify<A: Access>(namespace: Ptr, layout: &Layout, out: *mut NsRef) {
    if namespace.is_null() {
        return;
    }
    // SAFETY: the caller's promise; pointers are checked.
    unsafe {
        (*out).inum = A::u32(namespace, layout.inum);
        (*out).unique_id = A::u64(namespace, layout.unique);
        let owner = A::ptr(namespace, layout.owner);
        if !owner.is_null() {
            (*out).owner_inum = A::u32(owner, &USERNS_INUM);
        }
    }
}

/// All namespaces that hang on the nsproxy.
#[inline(always)]
pub unsafe fn fill<A: Access>(task: Ptr, out: *mut TaskState) {
    // SAFETY: the caller's promise; pointers are checked.
    unsafe {
        let proxy = A::ptr(task, &TASK_NSPROXY);
        if proxy.is_null() {
            return;
        }
        let slots = &raw mut (*out).ns;
        identify::<A>(
            A::ptr(proxy, &NSPROXY_MNT),
            &MNT,
            &raw mut (*slots)[ns::MNT],
        );
        identify::<A>(
            A::ptr(proxy, &NSPROXY_PID),
            &PID,
            &raw mut (*slots)[ns::PID_FOR_CHILDREN],
        );
        identify::<A>(
            A::ptr(proxy, &NSPROXY_NET),
            &NET,
            &raw mut (*slots)[ns::NET],
        );
        identify::<A>(
            A::ptr(proxy, &NSPROXY_IPC),
            &IPC,
            &raw mut (*slots)[ns::IPC],
        );
        identify::<A>(
            A::ptr(proxy, &NSPROXY_UTS),
            &UTS,
            &raw mut (*slots)[ns::UTS],
        );
        identify::<A>(
            A::ptr(proxy, &NSPROXY_CGROUP),
            &CGROUP,
            &raw mut (*slots)[ns::CGROUP],
        );
        identify::<A>(
            A::ptr(proxy, &NSPROXY_TIME),
            &TIME,
            &raw mut (*slots)[ns::TIME],
        );
        identify::<A>(
            A::ptr(proxy, &NSPROXY_TIMECH),
            &TIME,
            &raw mut (*slots)[ns::TIME_FOR_CHILDREN],
        );
        (*out).known |= known::NS | known::NS_OWNERS;
    }
}

/// The pid namespace that the task lives in, and its id there.
#[inline(always)]
pub unsafe fn fill_pid<A: Access>(task: Ptr, out: *mut TaskState) {
    // SAFETY: all but the first read go through Probe, which takes any address.
    unsafe {
        let pid = Probe::ptr(task, &TASK_PID);
        if pid.is_null() {
            (*out).known &= !known::NS;
            return;
        }
        let level = Probe::u32(pid, &PID_LEVEL);
        let at =
            PID_NUMBERS.load() as usize + (level & LEVEL_MASK) as usize * UPID_SIZE.load() as usize;
        let upid = pid.wrapping_add(at);
        (*out).ns_tid = Probe::u32(upid, &UPID_NR);
        (*out).pid_level = level;
        let namespace = Probe::ptr(upid, &UPID_NS);
        identify::<Probe>(namespace, &PID, &raw mut (*out).ns[ns::PID]);
        if namespace.is_null() || level == 0 {
            return;
        }
        let parent = Probe::ptr(namespace, &PIDNS_PARENT);
        if !parent.is_null() {
            (*out).pid_parent_inum = Probe::u32(parent, &PIDNS_INUM);
        }
    }
}
