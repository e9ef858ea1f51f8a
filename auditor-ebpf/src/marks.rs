//! Who may be a container's: a cheap, sticky filter for what the host does all the time.
//!
//! A thread is *marked* once it is apart from the host (another mount namespace than the machine's first, a pid or user
//! namespace below the initial one, another root by chroot), and so is all that is born of it. A mark stays when its
//! thread joins the host's namespaces again: an escaped task is looked at like before. It says "look", never "guilty":
//! services of the host with a mount namespace of their own are marked too. Whose a task is, the engine knows.
//!
//! The kernel may leave out the program that tells of births. So another bit says that a thread was told of, and hooks that
//! the kernel never leaves out look at it first: see [`is_current`].
//!
//! The rest of the byte tells apart who shares namespaces but not a label: a runtime that prepares a container, and the
//! container's program. See [`program`].

use crate::capture;
use crate::kernel::current;
use crate::kernel::globals::{
    CRED_USERNS, FS_ROOT_DENTRY, HOST_MNT, LEAVES_OUT, MM_EXE, MNT_INUM, NSPROXY_MNT, OWN_TGID,
    PID_LEVEL, TASK_CRED, TASK_FS, TASK_MM, TASK_NSPROXY, TASK_PID, TASK_TID, USERNS_LEVEL,
};
use crate::kernel::{Access, Direct, Probe, Ptr};
use crate::maps::{MARKS, RECENT_TOLD};
use crate::programs::record;

/// Bit of a mark: the thread is marked.
const MARKED: u8 = 1;
/// Bit of a mark: its program lies on a mount of its own mount namespace.
const AT_HOME: u8 = 1 << 1;
/// Bit of a mark: the thread descends from the agent, marked or not. It keeps the bit whatever it executes.
pub const OWN: u8 = 1 << 2;
/// Bit of a mark: its birth was told, or a walk has found it, and its end was not told yet.
const SEEN: u8 = 1 << 3;
/// The other bits: a digest of its root directory when its program began.
const ROOT_SHIFT: u32 = 4;

/// Whether a thread is marked.
#[inline(always)]
pub fn has(tid: u32) -> bool {
    is_marked(MARKS.get(tid))
}

/// Whether a mark says that its thread is marked.
#[inline(always)]
pub const fn is_marked(mark: u8) -> bool {
    mark & MARKED != 0
}

/// Whether the running task is marked, or its process: nothing tells of the birth of an io_uring worker.
#[inline(always)]
pub fn has_current() -> bool {
    is_marked(of_current())
}

/// As [`has_current`]. `LATE`: the program is asked where others are left out. Then the running task is told of, if nobody
/// told of its birth or of the namespaces that it is in.
#[inline(always)]
pub fn is_current<const LATE: bool>() -> bool {
    current_and_proxy::<LATE>().is_some()
}

/// As [`is_current`], by a program that is the same on every kernel.
#[inline(always)]
pub fn is_current_anywhere() -> bool {
    if LEAVES_OUT.load() != 0 {
        return is_current::<true>();
    }
    match of_current() {
        mark if mark & SEEN == 0 => is_marked(record::tell_birth()),
        mark => is_marked(mark),
    }
}

/// As [`is_current`]: `None` if not, and otherwise the task's nsproxy, or null if that was not looked at (not `LATE`).
#[inline(always)]
pub fn current_and_proxy<const LATE: bool>() -> Option<Ptr> {
    let id = current::pid_tgid();
    let mark = or_process(of_thread(id), id);
    if !LATE {
        return is_marked(mark).then_some(core::ptr::null());
    }
    let mark = match mark & SEEN {
        0 => record::tell_birth(),
        _ => mark,
    };
    if !is_marked(mark) {
        return None;
    }
    // SAFETY: current is typed.
    let told = unsafe { record::told::<Direct>(current::typed()) };
    if !RECENT_TOLD.has(id, &told) {
        record::follow();
    }
    Some(told.nsproxy as Ptr)
}

/// Whether a mark tells nothing of what its thread may be: it is one of the host's.
#[inline(always)]
pub const fn is_blank(mark: u8) -> bool {
    mark & !SEEN == 0
}

/// The mark of the running task, or of its process.
#[inline(always)]
pub fn of_current() -> u8 {
    let id = current::pid_tgid();
    or_process(of_thread(id), id)
}

/// As [`of_current`], with the thread's id; the agent's own tasks have [`OWN`].
#[inline(always)]
pub fn of_current_or_own() -> (u32, u8) {
    let id = current::pid_tgid();
    (id as u32, or_own(of_thread(id), id))
}

/// The mark of a thread itself, by its ids.
#[inline(always)]
pub fn of_thread(id: u64) -> u8 {
    MARKS.get(id as u32)
}

/// The mark of a thread, or of its process where it has none; the agent's own have [`OWN`].
#[inline(always)]
pub fn or_own(mark: u8, id: u64) -> u8 {
    let mark = or_process(mark, id);
    if (id >> 32) as u32 == OWN_TGID.load() {
        return mark | OWN;
    }
    mark
}

#[inline(always)]
fn or_process(mark: u8, id: u64) -> u8 {
    let (tid, tgid) = (id as u32, (id >> 32) as u32);
    if mark == 0 && tid != tgid {
        return MARKS.get(tgid);
    }
    mark
}

/// Marks a thread.
#[inline(always)]
pub fn set(tid: u32) {
    MARKS.put(tid, MARKS.get(tid) | MARKED);
}

/// Whether a task is apart from the host's first namespaces.
///
/// # Safety
/// As for [`Access`].
#[inline(always)]
pub unsafe fn is_apart<A: Access>(task: Ptr) -> bool {
    // SAFETY: the caller's promise; pointers are checked.
    unsafe {
        let proxy = A::ptr(task, &TASK_NSPROXY);
        if !proxy.is_null() {
            let mnt = A::ptr(proxy, &NSPROXY_MNT);
            if !mnt.is_null() && A::u32(mnt, &MNT_INUM) != HOST_MNT.load() {
                return true;
            }
        }
        let pid = A::ptr(task, &TASK_PID);
        if !pid.is_null() && A::u32(pid, &PID_LEVEL) != 0 {
            return true;
        }
        let cred = A::ptr(task, &TASK_CRED);
        if cred.is_null() {
            return false;
        }
        let user = A::ptr(cred, &CRED_USERNS);
        !user.is_null() && A::u32(user, &USERNS_LEVEL) != 0
    }
}

/// Marks a task that is apart, and leaves others as they are.
///
/// # Safety
/// As for [`Access`].
#[inline(always)]
pub unsafe fn note<A: Access>(task: Ptr) {
    // SAFETY: the caller's promise.
    unsafe {
        if is_apart::<A>(task) {
            set(A::u32(task, &TASK_TID));
        }
    }
}

/// A task was found by a walk over all. One that was marked before is known better than a walk can tell.
///
/// # Safety
/// As for [`Access`].
#[inline(always)]
pub unsafe fn find<A: Access>(task: Ptr) {
    // SAFETY: the caller's promise.
    unsafe {
        let tid = A::u32(task, &TASK_TID);
        let mut mark = MARKS.get(tid);
        if !is_marked(mark) && is_apart::<A>(task) {
            mark = mark & OWN | MARKED | program::<A>(task);
        }
        MARKS.put(tid, mark | SEEN);
    }
}

/// A task has executed a file. It may have had another id before.
///
/// # Safety
/// As for [`Access`].
#[inline(always)]
pub unsafe fn executed<A: Access>(task: Ptr, old_tid: u32) {
    // SAFETY: the caller's promise.
    unsafe {
        let tid = A::u32(task, &TASK_TID);
        let mut mark = MARKS.get(tid) | MARKS.get(old_tid);
        if is_marked(mark) || is_apart::<A>(task) {
            mark = mark & OWN | MARKED | program::<A>(task);
        }
        MARKS.put(tid, mark | SEEN);
    }
}

/// A task is born of the running one.
///
/// # Safety
/// As for [`Access`].
#[inline(always)]
pub unsafe fn inherit<A: Access>(task: Ptr) {
    // SAFETY: the caller's promise.
    unsafe {
        let (_, mut mark) = of_current_or_own();
        if !is_marked(mark) && is_apart::<A>(task) {
            mark |= MARKED;
        }
        MARKS.put(A::u32(task, &TASK_TID), mark | SEEN);
    }
}

/// Whether a thread was told of, and has not ended.
#[inline(always)]
pub fn is_seen(tid: u32) -> bool {
    MARKS.get(tid) & SEEN != 0
}

/// A thread is told of now, and gets the mark of another one, its process or its parent; of nobody, if that is 0. What
/// stands there may be left from a task that ended.
#[inline(always)]
pub fn see(tid: u32, from: u32) {
    let mark = MARKS.get(from);
    MARKS.put(tid, if mark & SEEN != 0 { mark } else { SEEN });
}

/// The running task ends. What its mark says otherwise stays true of it.
#[inline(always)]
pub fn end_current() {
    let tid = current::pid_tgid() as u32;
    MARKS.put(tid, MARKS.get(tid) & !SEEN);
}

/// Whether a task's program lies on a mount of its own mount namespace; `None` where that is not known.
///
/// # Safety
/// As for [`Access`].
#[inline(always)]
pub unsafe fn lies_at_home<A: Access>(task: Ptr) -> Option<bool> {
    // SAFETY: the caller's promise; Probe takes any address.
    unsafe {
        let mm: Ptr = A::ptr(task, &TASK_MM);
        let file = Probe::ptr(mm, &MM_EXE);
        if file.is_null() {
            return None;
        }
        let lies_on = capture::mount_ns::<Probe>(file).filter(|mount_ns| *mount_ns != 0)?;
        let proxy = Probe::ptr(task, &TASK_NSPROXY);
        Some(Probe::ptr(proxy, &NSPROXY_MNT) as u64 == lies_on)
    }
}

/// What program a task runs, as far as that tells a container's tasks from those that prepare it or come into it from
/// outside: these run a file of the host, or have another root. It holds until the next exec and is inherited.
///
/// # Safety
/// As for [`Access`].
#[inline(always)]
unsafe fn program<A: Access>(task: Ptr) -> u8 {
    // SAFETY: the caller's promise; Probe takes any address.
    unsafe {
        let mark = match lies_at_home::<A>(task) {
            Some(true) => AT_HOME,
            _ => 0,
        };
        let fs = Probe::ptr(task, &TASK_FS);
        let root = Probe::ptr(fs, &FS_ROOT_DENTRY) as u64;
        // The upper bits of a product depend on all bits of the address.
        let digest = (root.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60) as u8;
        mark | digest << ROOT_SHIFT
    }
}
