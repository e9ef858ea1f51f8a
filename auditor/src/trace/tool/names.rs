//! Numbers of records by name. A number without a name stays a number, as text.

use crate::model::NsKind;
use auditor_common::hook::HOOKS;
use auditor_common::record::{act, cause, cgroup_op, known, path_flags, task_flags};
use std::borrow::Cow;

type Name = Cow<'static, str>;

fn named(name: Option<&'static str>, number: impl ToString) -> Name {
    name.map_or_else(|| number.to_string().into(), Cow::Borrowed)
}

/// Why a state was captured.
pub(super) fn cause(number: u32) -> Name {
    let name = match number {
        cause::SNAPSHOT => "snapshot",
        cause::FORK => "fork",
        cause::EXEC => "exec",
        cause::SETNS => "setns",
        cause::UNSHARE => "unshare",
        cause::CRED => "cred",
        cause::CHROOT => "chroot",
        cause::PIVOT_ROOT => "pivot_root",
        cause::CHDIR => "chdir",
        cause::ATTACH => "attach",
        cause::FOUND => "found",
        other => return named(None, other),
    };
    name.into()
}

/// What happened to a cgroup.
pub(super) fn cgroup_op(number: u32) -> Name {
    let name = match number {
        cgroup_op::MKDIR => "mkdir",
        cgroup_op::RMDIR => "rmdir",
        cgroup_op::RELEASE => "release",
        cgroup_op::TRANSFER => "transfer",
        cgroup_op::WALK => "walk",
        other => return named(None, other),
    };
    name.into()
}

/// What a task did to an object.
pub(super) fn act(number: u32) -> Name {
    let name = match number {
        act::OPEN => "open",
        act::EXEC => "exec",
        act::RECEIVE => "receive",
        act::HOLD => "hold",
        act::MAP => "map",
        act::SHARE => "share",
        act::HANDLES => "handles",
        act::MKNOD => "mknod",
        act::SYSCTL => "sysctl",
        act::MOUNT => "mount",
        act::ACCESS => "access",
        act::SIGNAL => "signal",
        act::CONTROL => "control",
        act::CONNECT => "connect",
        act::SEND => "send",
        act::BPF => "bpf",
        act::KERNEL_LOAD => "kernel_load",
        act::PERF => "perf",
        act::USERFAULTFD => "userfaultfd",
        act::SOCKET => "socket",
        act::KERNEL_CALL => "kernel_call",
        act::SPLICE => "splice",
        act::MOUNT_DEVICE => "mount_device",
        act::CAPABLE => "capable",
        act::CALL => "call",
        act::OWN_GRANT => "own_grant",
        act::OWN_USE => "own_use",
        other => return named(None, other),
    };
    name.into()
}

/// Who saw it.
pub(super) fn hook(index: u16) -> Name {
    named(HOOKS.get(usize::from(index)).map(|spec| spec.name), index)
}

/// `disabled`, `strict`, `filter`.
pub(super) fn seccomp(mode: u32) -> Name {
    let name = ["disabled", "strict", "filter"].get(mode as usize).copied();
    named(name, mode)
}

/// Kinds of namespaces by slot.
pub(super) fn namespace(slot: usize) -> &'static str {
    NsKind::ALL
        .get(slot)
        .map_or("unknown", |kind| kind.as_str())
}

/// Bits with names.
type Bits = &'static [(u32, &'static str)];

/// Which parts of a state were readable.
pub(super) const KNOWN: Bits = &[
    (known::NS, "ns"),
    (known::CGROUPS, "cgroups"),
    (known::CREDS, "creds"),
    (known::ROOT, "root"),
    (known::CWD, "cwd"),
    (known::CONFINEMENT, "confinement"),
    (known::PARENT, "parent"),
    (known::NS_OWNERS, "ns_owners"),
    (known::PATH_MNT_NS, "path_mnt_ns"),
];

/// What kind of task it is.
pub(super) const TASK_FLAGS: Bits = &[
    (task_flags::KTHREAD, "kthread"),
    (task_flags::LEADER, "leader"),
    (task_flags::NO_NEW_PRIVS, "no_new_privs"),
    (task_flags::EXITING, "exiting"),
    (task_flags::USER_WORKER, "user_worker"),
    (task_flags::ABROAD, "abroad"),
];

/// What is special about a directory.
pub(super) const PATH_FLAGS: Bits = &[
    (path_flags::DETACHED, "detached"),
    (path_flags::STREAM, "stream"),
];

/// The bits that are set, by name; what has no name as one hexadecimal number.
pub(super) fn bits(value: u32, names: Bits) -> Vec<Name> {
    let set = names.iter().filter(|(bit, _)| value & bit != 0);
    let rest = names.iter().fold(value, |rest, (bit, _)| rest & !bit);
    set.map(|(_, name)| Cow::Borrowed(*name))
        .chain((rest != 0).then(|| format!("{rest:#x}").into()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{KNOWN, TASK_FLAGS, bits, cause, hook, namespace};
    use auditor_common::limits::NS_SLOTS;
    use auditor_common::record::{known, ns};

    /// Goal: every bit and slot has a name, and what has none is not lost.
    #[test]
    fn nothing_is_nameless() {
        assert_eq!(bits(known::ALL, KNOWN).len(), 9);
        assert!(!bits(known::ALL, KNOWN).iter().any(|n| n.starts_with("0x")));
        assert_eq!(bits(1 << 31 | 1, TASK_FLAGS), ["kthread", "0x80000000"]);
        assert_eq!((cause(4), cause(99)), ("setns".into(), "99".into()));
        assert_eq!(
            (hook(4), hook(999)),
            ("sched_process_exec".into(), "999".into())
        );
        assert_eq!(namespace(ns::USER), "user");
        assert!((0..NS_SLOTS).all(|slot| namespace(slot) != "unknown"));
    }
}
