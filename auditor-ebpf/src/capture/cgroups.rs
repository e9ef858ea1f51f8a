//! The cgroups that a task is in: the v2 leaf and one per v1 controller that is mounted as v1.

use crate::kernel::globals::{
    CGROUP_KN, CGROUP_ROOT, CSET_DFL, CSET_SUBSYS, CSS_CGROUP, KN_ID, KN_PARENT, ROOT_HIERARCHY,
    SSID_CPU, SSID_CPUACCT, SSID_CPUSET, SSID_DEVICES, SSID_FREEZER, SSID_HUGETLB, SSID_IO,
    SSID_MEMORY, SSID_MISC, SSID_NET_CLS, SSID_NET_PRIO, SSID_PERF_EVENT, SSID_PIDS, SSID_RDMA,
    V1_SLOTS, has,
};
use crate::kernel::{Access, Ptr};
use auditor_common::limits::CGROUP_SLOTS;
use auditor_common::record::{TaskState, cgroup, known};
use aya_ebpf::Global;

/// Index of each slot's controller in `css_set.subsys`, in the order of [`cgroup::CONTROLLERS`].
const SUBSYSTEMS: [&Global<u32>; CGROUP_SLOTS - 1] = [
    &SSID_CPUSET,
    &SSID_CPU,
    &SSID_CPUACCT,
    &SSID_IO,
    &SSID_MEMORY,
    &SSID_DEVICES,
    &SSID_FREEZER,
    &SSID_NET_CLS,
    &SSID_PERF_EVENT,
    &SSID_NET_PRIO,
    &SSID_HUGETLB,
    &SSID_PIDS,
    &SSID_RDMA,
    &SSID_MISC,
];

/// All slots, from a task's `css_set`.
#[inline(always)]
pub unsafe fn fill<A: Access>(set: Ptr, out: *mut TaskState) {
    if !has(&CSET_DFL) || !has(&KN_ID) {
        return;
    }
    // SAFETY: the caller's promise; pointers are checked.
    unsafe {
        let slots = (&raw mut (*out).cgroups).cast::<u64>();
        let leaf = A::ptr(set, &CSET_DFL);
        if !leaf.is_null() {
            *slots.add(cgroup::V2) = id::<A>(leaf);
        }
        (*out).known |= known::CGROUPS;
        let v1 = V1_SLOTS.load();
        if v1 == 0 || !has(&CSET_SUBSYS) {
            return;
        }
        macro_rules! slot {
            ($($index:literal)+) => { $(
                if v1 & (1 << ($index + 1)) != 0 && has(SUBSYSTEMS[$index]) {
                    *slots.add($index + 1) = controller::<A>(set, SUBSYSTEMS[$index].load());
                }
            )+ };
        }
        // Written out, for each slot is pruned on its own.
        slot!(0 1 2 3 4 5 6 7 8 9 10 11 12 13);
    }
}

#[inline(always)]
unsafe fn controller<A: Access>(set: Ptr, subsystem: u32) -> u64 {
    // SAFETY: the caller's promise; pointers are checked.
    unsafe {
        let css = A::ptr(
            set.wrapping_add(subsystem as usize * size_of::<Ptr>()),
            &CSET_SUBSYS,
        );
        if css.is_null() {
            return 0;
        }
        let cgroup = A::ptr(css, &CSS_CGROUP);
        if cgroup.is_null() {
            return 0;
        }
        id::<A>(cgroup)
    }
}

/// A cgroup's id; 0 where it has no directory.
///
/// # Safety
/// As for [`Access`].
#[inline(always)]
pub unsafe fn id<A: Access>(cgroup: Ptr) -> u64 {
    // SAFETY: the caller's promise; pointers are checked.
    unsafe {
        let node = A::ptr(cgroup, &CGROUP_KN);
        if node.is_null() {
            return 0;
        }
        A::u64(node, &KN_ID)
    }
}

/// The id of a cgroup's parent; 0 for a root.
///
/// # Safety
/// As for [`Access`].
#[inline(always)]
pub unsafe fn parent_id<A: Access>(cgroup: Ptr) -> u64 {
    // SAFETY: the caller's promise; pointers are checked.
    unsafe {
        let node = A::ptr(cgroup, &CGROUP_KN);
        if node.is_null() {
            return 0;
        }
        let parent = A::ptr(node, &KN_PARENT);
        if parent.is_null() {
            return 0;
        }
        A::u64(parent, &KN_ID)
    }
}

/// Number of the hierarchy that a cgroup is in. The kernel gives 0 to the default (v2) root, which it registers
/// first.
///
/// # Safety
/// As for [`Access`].
#[inline(always)]
pub unsafe fn hierarchy<A: Access>(cgroup: Ptr) -> u32 {
    // SAFETY: the caller's promise; pointers are checked.
    unsafe {
        let root = A::ptr(cgroup, &CGROUP_ROOT);
        if root.is_null() {
            return 0;
        }
        A::u32(root, &ROOT_HIERARCHY)
    }
}
