//! Which hooks should have fired, given what the helper child did.

use std::collections::BTreeSet;

use auditor_common::hook::{self, HOOKS, Tier};

use super::helper::{Act, HelperReport};

/// What is known about one hook after the helper acted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookState {
    /// It fired.
    Fired,
    /// Something happened that it should have shown, and it did not: missing, though attached.
    Silent,
    /// Nothing happened that it could have shown.
    NotExercised,
}

/// The hooks that must show an act, over both tiers.
///
/// `cgroup_transfer_tasks` runs only when the kernel empties a v1 cpuset whose last CPU went, and is not
/// provoked. Nor is io_uring, which many machines forbid: no compiler hides a typed tracepoint. `cgroup_release` comes late,
/// when the last reference goes: wait a moment before judging.
#[must_use]
pub const fn hooks_of(act: Act) -> &'static [u16] {
    match act {
        Act::Unshare => &[hook::SWITCH_NS, hook::UNSHARE_NSPROXY, hook::EXIT_UNSHARE],
        Act::Setns => &[hook::SWITCH_NS, hook::EXIT_SETNS],
        Act::Clone => &[hook::TASK_NEWTASK, hook::SCHED_EXIT],
        Act::Exec => &[
            hook::TASK_NEWTASK,
            hook::SCHED_EXEC,
            hook::SCHED_EXIT,
            hook::MMAP_FILE,
        ],
        Act::Chdir => &[hook::SET_FS_PWD, hook::EXIT_CHDIR],
        Act::Chroot => &[hook::SET_FS_ROOT, hook::EXIT_CHROOT],
        Act::Credentials => &[hook::COMMIT_CREDS, hook::EXIT_CRED],
        // A tmpfs is mounted for it.
        Act::PivotRoot => &[hook::CHROOT_FS_REFS, hook::EXIT_PIVOT, hook::GET_TREE],
        Act::Mounts => &[
            hook::SB_MOUNT,
            hook::MOVE_MOUNT,
            hook::SB_UMOUNT,
            hook::EXIT_MOUNT,
        ],
        Act::MountAttributes => &[hook::MOUNT_SETATTR],
        Act::Sysctl => &[hook::SYSCTL],
        Act::Mknod => &[hook::INODE_MKNOD, hook::ENTER_MKNOD, hook::EXIT_MKNOD],
        Act::Kernel => &[
            hook::KERNEL_BPF,
            hook::PERF_OPEN,
            hook::ENTER_KERNEL,
            hook::EXIT_KERNEL,
        ],
        Act::Socket => &[hook::SOCKET_CREATE, hook::ENTER_SOCKET],
        Act::Splice => &[hook::SPLICE, hook::ENTER_SOCKET],
        Act::SendFile => &[hook::SPLICE_DIRECT, hook::ENTER_SOCKET],
        Act::Capability => &[hook::CAPABLE, hook::CAPABLE_ENTRY],
        Act::Signal => &[hook::SIGNAL_GENERATE],
        Act::Trace => &[hook::PTRACE_ACCESS, hook::ENTER_ACCESS, hook::EXIT_ACCESS],
        Act::Limit => &[hook::TASK_PRLIMIT, hook::ENTER_ACCESS, hook::EXIT_ACCESS],
        Act::Schedule => &[
            hook::TASK_SETSCHED,
            hook::TASK_SETNICE,
            hook::TASK_SETIOPRIO,
            hook::ENTER_ACCESS,
            hook::EXIT_ACCESS,
        ],
        Act::Connect => &[
            hook::UNIX_CONNECT,
            hook::ENTER_CONNECT,
            hook::EXIT_CONNECT,
            hook::SYS_ENTER,
        ],
        Act::Send => &[hook::UNIX_SEND],
        Act::Open => &[hook::FILE_OPEN, hook::EXIT_OPEN],
        Act::Receive => &[hook::FILE_RECEIVE],
        Act::CgroupMkdir => &[hook::CGROUP_MKDIR],
        Act::CgroupAttach => &[hook::CGROUP_ATTACH],
        Act::CgroupRmdir => &[hook::CGROUP_RMDIR, hook::CGROUP_RELEASE],
    }
}

/// Judges every hook of a live tier that has a kernel program; `fired` holds the hooks of all events whose
/// actor or task was the helper or one of its children.
///
/// Iterators are not judged here but by [`super::compare`].
#[must_use]
pub fn judge(tier: Tier, fired: &BTreeSet<u16>, report: &HelperReport) -> Vec<(u16, HookState)> {
    let expected: BTreeSet<u16> = report.succeeded().flat_map(hooks_of).copied().collect();
    let hooks = (0_u16..).zip(HOOKS).filter(|(_, spec)| {
        let in_tier = matches!(spec.tier, Tier::Both | Tier::OnDemand) || spec.tier == tier;
        in_tier && !matches!(spec.attach, hook::Attach::Agent | hook::Attach::Iter(_))
    });
    hooks
        .map(|(id, _)| {
            let state = match (fired.contains(&id), expected.contains(&id)) {
                (true, _) => HookState::Fired,
                (false, true) => HookState::Silent,
                (false, false) => HookState::NotExercised,
            };
            (id, state)
        })
        .collect()
}

/// Takes back that hooks were silent: events were lost, and theirs may be among them.
pub fn excuse(judged: &mut [(u16, HookState)]) {
    for (_, state) in judged {
        if *state == HookState::Silent {
            *state = HookState::NotExercised;
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: silence is told apart from absence of cause, tier by tier.

    use super::super::helper::Outcome;
    use super::*;

    fn report(acts: &[(Act, bool)]) -> HelperReport {
        let outcome = |&(act, done): &(Act, bool)| {
            let error = (!done).then(|| "operation not permitted".to_owned());
            (act, Outcome { error })
        };
        HelperReport {
            pid: 1,
            children: vec![],
            acts: acts.iter().map(outcome).collect(),
        }
    }

    fn state(states: &[(u16, HookState)], hook: u16) -> Option<HookState> {
        states
            .iter()
            .find(|(id, _)| *id == hook)
            .map(|&(_, state)| state)
    }

    #[test]
    fn silent_and_unexercised_differ() {
        let report = report(&[
            (Act::Setns, true),
            (Act::Unshare, true),
            (Act::Chroot, false),
        ]);
        let fired = BTreeSet::from([hook::SWITCH_NS, hook::SCHED_EXIT]);
        let states = judge(Tier::Trampoline, &fired, &report);
        assert_eq!(state(&states, hook::SWITCH_NS), Some(HookState::Fired));
        assert_eq!(state(&states, hook::SCHED_EXIT), Some(HookState::Fired));
        assert_eq!(
            state(&states, hook::UNSHARE_NSPROXY),
            Some(HookState::Silent)
        );
        assert_eq!(
            state(&states, hook::SET_FS_ROOT),
            Some(HookState::NotExercised)
        );
        assert_eq!(state(&states, hook::EXIT_SETNS), None, "other tier");
        assert_eq!(state(&states, hook::PROC), None, "no program");

        let mut excused = states;
        excuse(&mut excused);
        assert_eq!(state(&excused, hook::SWITCH_NS), Some(HookState::Fired));
        let silent = |&(_, state): &(u16, HookState)| state == HookState::Silent;
        assert!(!excused.iter().any(silent));
    }

    #[test]
    fn every_hook_but_the_unprovoked_has_an_act() {
        let acts = Act::ALL.map(|act| (act, true));
        for tier in [Tier::Trampoline, Tier::Tracepoint] {
            let states = judge(tier, &BTreeSet::new(), &report(&acts));
            let unexercised: Vec<u16> = states
                .iter()
                .filter(|(_, state)| *state == HookState::NotExercised)
                .map(|&(id, _)| id)
                .collect();
            // Nothing is loaded into a kernel to see whether it is seen.
            let loads = [hook::KERNEL_READ, hook::KERNEL_LOAD];
            let mut unprovoked = vec![hook::CGROUP_TRANSFER];
            match tier {
                Tier::Trampoline => unprovoked.extend(loads),
                _ => unprovoked.push(hook::RING_COMPLETE),
            }
            assert_eq!(unexercised, unprovoked);
        }
    }
}
