//! One state of a task beside another: what is the same, what is new, what both know together.

use crate::model::NsKind;
use auditor_common::limits::{CGROUP_SLOTS, NS_SLOTS};
use auditor_common::record::{Creds, NsRef, PathRef, TaskRecord, TaskState, cause, known};
use std::mem::offset_of;
use std::ops::Range;
use zerocopy::IntoBytes;

/// The bytes of a state that rules look at: namespaces, cgroups, credentials, directories.
const JUDGED: Range<usize> = offset_of!(TaskState, ns)..offset_of!(TaskState, comm);
const _: () = assert!(
    JUDGED.end - JUDGED.start
        == size_of::<[NsRef; NS_SLOTS]>()
            + size_of::<[u64; CGROUP_SLOTS]>()
            + size_of::<Creds>()
            + 2 * size_of::<PathRef>()
);

/// Whether two states are the same in all that rules look at.
pub(super) fn look_alike(a: &TaskState, b: &TaskState) -> bool {
    a.known == b.known && a.as_bytes()[JUDGED] == b.as_bytes()[JUDGED]
}

/// Whether two paths are one directory of one mount namespace: a copy of a mount tree has the same
/// inodes.
pub(super) fn same_place(a: &PathRef, b: &PathRef) -> bool {
    (a.dev, a.ino, a.mnt_ns_inum) == (b.dev, b.ino, b.mnt_ns_inum)
}

/// Whether parent and child are in the same namespaces. One side may know more of them than the other.
pub(super) fn are_same(parent: &[NsRef; NS_SLOTS], child: &[NsRef; NS_SLOTS]) -> bool {
    let mut both = parent.iter().zip(child);
    parent.as_bytes() == child.as_bytes() || both.all(|(a, b)| a.inum == b.inum)
}

/// Flags of a clone that makes any namespace.
const ANY_NEW: u64 = {
    let (mut all, mut at) = (0, 0);
    while at < NsKind::ALL.len() {
        all |= NsKind::ALL[at].clone_flag();
        at += 1;
    }
    all
};

/// Slots that a clone made anew.
pub(super) fn fresh_at_birth(record: &TaskRecord) -> u16 {
    let flags = record.arg0;
    if flags & ANY_NEW == 0 {
        return 0;
    }
    NsKind::ALL
        .iter()
        .filter(|kind| flags & kind.clone_flag() != 0 && record.state.ns[kind.slot()].inum != 0)
        .fold(0, |mask, kind| mask | 1 << kind.slot())
}

/// Slots that a change made anew, by what caused it.
pub(super) fn fresh_by_cause(record: &TaskRecord, before: &TaskState) -> u16 {
    let differs = |slot: usize| {
        let (a, b) = (before.ns[slot], record.state.ns[slot]);
        a.inum != b.inum || a.unique_id != 0 && b.unique_id != 0 && a.unique_id != b.unique_id
    };
    let mut fresh = 0;
    for kind in NsKind::ALL {
        let slot = kind.slot();
        let made = match record.cause {
            cause::UNSHARE => match kind {
                // A task never changes its own pid namespace, and its time namespace only at exec.
                NsKind::Pid | NsKind::Time => false,
                // The user namespace comes with the credentials, where those are committed later.
                NsKind::User => differs(slot),
                _ => differs(slot) || record.arg0 & kind.clone_flag() != 0,
            },
            // unshare(CLONE_NEWUSER) commits credentials; a join of a user namespace does too, and
            // only the parent tells: a fresh one is a child of the namespace that the task was in.
            cause::CRED => {
                *kind == NsKind::User
                    && differs(slot)
                    && record.state.ns[slot].owner_inum == before.ns[slot].inum
            }
            _ => false,
        };
        if made && record.state.ns[slot].inum != 0 {
            fresh |= 1 << slot;
        }
    }
    fresh
}

/// The new state, with what it does not know taken from the old one.
pub(in crate::engine) fn merge(before: &TaskState, after: &TaskState) -> TaskState {
    let mut merged = *after;
    let lacks = |bit| after.known & bit == 0 && before.known & bit != 0;
    if lacks(known::NS) {
        merged.ns = before.ns;
        merged.known |= known::NS;
    } else {
        for (new, old) in merged.ns.iter_mut().zip(&before.ns) {
            if new.inum == 0 {
                *new = *old;
            }
            if new.inum == old.inum && new.owner_inum == 0 {
                new.owner_inum = old.owner_inum;
            }
            if new.inum == old.inum && new.unique_id == 0 {
                new.unique_id = old.unique_id;
            }
        }
    }
    if lacks(known::CGROUPS) {
        merged.cgroups = before.cgroups;
        merged.known |= known::CGROUPS;
    }
    if lacks(known::CREDS) {
        merged.creds = before.creds;
        merged.known |= known::CREDS;
    }
    if lacks(known::ROOT) {
        merged.root = before.root;
        merged.known |= known::ROOT;
    }
    if lacks(known::CWD) {
        merged.cwd = before.cwd;
        merged.known |= known::CWD;
    }
    if lacks(known::PARENT) {
        merged.parent = before.parent;
        merged.known |= known::PARENT;
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No rule's field may differ unnoticed, and what no rule looks at may.
    #[test]
    fn whatever_rules_look_at_counts() {
        let old = TaskState::default();
        let alike = |change: &dyn Fn(&mut TaskState)| {
            let mut new = old;
            change(&mut new);
            look_alike(&old, &new)
        };
        for slot in 0..NS_SLOTS {
            assert!(!alike(&|s| s.ns[slot].inum = 1));
            assert!(!alike(&|s| s.ns[slot].owner_inum = 1));
            assert!(!alike(&|s| s.ns[slot].unique_id = 1));
        }
        for slot in 0..CGROUP_SLOTS {
            assert!(!alike(&|s| s.cgroups[slot] = 1));
        }
        assert!(!alike(&|s| s.creds.uid = 1));
        assert!(!alike(&|s| s.creds.euid = 1));
        assert!(!alike(&|s| s.creds.cap_permitted = 1));
        assert!(!alike(&|s| s.creds.cap_bounding = 1));
        assert!(!alike(&|s| s.root.ino = 1));
        assert!(!alike(&|s| s.root.mnt_ns_inum = 1));
        assert!(!alike(&|s| s.cwd.ino = 1));
        assert!(!alike(&|s| s.cwd.flags = 1));
        assert!(!alike(&|s| s.known = 1));
        assert!(alike(&|s| s.comm[0] = 1));
        assert!(alike(&|s| s.seccomp_filters = 1));
    }
}
