//! Every place in the kernel that the sensor can hook, as one table.

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// Trampoline at a function's entry.
    Fentry(&'static str),
    /// Trampoline at a function's return.
    Fexit(&'static str),
    /// Typed tracepoint (`tp_btf`).
    TpBtf(&'static str),
    /// Exit tracepoints of these syscalls (`syscalls:sys_exit_*`).
    SyscallExit(&'static [&'static str]),
    /// Iterator.
    Iter(&'static str),
    /// No kernel program: the agent reads /proc or cgroupfs.
    Agent,
}

/// Which live tier needs a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Both live tiers.
    Both,
    /// Only where trampolines work.
    Trampoline,
    /// Only where trampolines are refused.
    Tracepoint,
}

/// One hook.
#[derive(Clone, Copy, Debug)]
pub struct HookSpec {
    /// Name of the program in the object: unique, at most 15 characters.
    pub program: &'static str,
    /// Name in output (`witness.hook`): the kernel function or tracepoint.
    pub name: &'static str,
    /// Where it attaches.
    pub attach: Attach,
    /// Which tier uses it.
    pub tier: Tier,
    /// What is not seen without it, as the end of the sentence "not seen: …".
    pub sees: &'static str,
}

macro_rules! hooks {
    ($($id:ident = $index:literal: $program:literal, $name:literal, $attach:expr, $tier:ident, $sees:literal;)+) => {
        $(#[doc = concat!("Index of `", $name, "` in [`HOOKS`].")] pub const $id: u16 = $index;)+
        /// All hooks, indexed by `RecordHeader::hook`.
        pub const HOOKS: &[HookSpec] = &[$(HookSpec {
            program: $program, name: $name, attach: $attach, tier: Tier::$tier, sees: $sees,
        }),+];
        const _: () = { let mut want = 0; $(assert!($index == want); want += 1;)+ let _ = want; };
    };
}

hooks! {
    PROC = 0: "", "proc", Attach::Agent, Both, "state at rest without an iterator";
    CGROUPFS = 1: "", "cgroupfs", Attach::Agent, Both, "cgroups at rest";
    ITER_TASK = 2: "iter_task", "iter/task", Attach::Iter("task"), Both, "state at rest by iterator (read from /proc instead)";
    TASK_NEWTASK = 3: "task_newtask", "task_newtask", Attach::TpBtf("task_newtask"), Both, "births: tasks, namespaces and cgroups at clone";
    SCHED_EXEC = 4: "sched_exec", "sched_process_exec", Attach::TpBtf("sched_process_exec"), Both, "execs: container starts, time namespaces";
    SCHED_EXIT = 5: "sched_exit", "sched_process_exit", Attach::TpBtf("sched_process_exit"), Both, "ends of tasks (found by sweep instead)";
    CGROUP_ATTACH = 6: "cgroup_attach", "cgroup_attach_task", Attach::TpBtf("cgroup_attach_task"), Both, "moves between cgroups (found by sweep, without the actor)";
    CGROUP_TRANSFER = 7: "cgroup_transfer", "cgroup_transfer_tasks", Attach::TpBtf("cgroup_transfer_tasks"), Both, "moves of all tasks of a v1 cgroup";
    CGROUP_MKDIR = 8: "cgroup_mkdir", "cgroup_mkdir", Attach::TpBtf("cgroup_mkdir"), Both, "births of cgroups (found by walk instead)";
    CGROUP_RMDIR = 9: "cgroup_rmdir", "cgroup_rmdir", Attach::TpBtf("cgroup_rmdir"), Both, "removals of cgroups (found by walk instead)";
    CGROUP_RELEASE = 10: "cgroup_release", "cgroup_release", Attach::TpBtf("cgroup_release"), Both, "ends of cgroups (found by walk instead)";
    SWITCH_NS = 11: "switch_ns", "switch_task_namespaces", Attach::Fexit("switch_task_namespaces"), Trampoline, "setns and unshare";
    UNSHARE_NSPROXY = 12: "unshare_nsproxy", "unshare_nsproxy_namespaces", Attach::Fexit("unshare_nsproxy_namespaces"), Trampoline, "whether a switched namespace is fresh or joined";
    COMMIT_CREDS = 13: "commit_creds", "commit_creds", Attach::Fentry("commit_creds"), Trampoline, "credential changes, user namespaces";
    SET_FS_ROOT = 14: "set_fs_root", "set_fs_root", Attach::Fexit("set_fs_root"), Trampoline, "chroot";
    SET_FS_PWD = 15: "set_fs_pwd", "set_fs_pwd", Attach::Fexit("set_fs_pwd"), Trampoline, "chdir, fchdir";
    CHROOT_FS_REFS = 16: "chroot_fs_refs", "chroot_fs_refs", Attach::Fexit("chroot_fs_refs"), Trampoline, "pivot_root";
    EXIT_SETNS = 17: "exit_setns", "sys_exit_setns", Attach::SyscallExit(&["setns"]), Tracepoint, "setns";
    EXIT_UNSHARE = 18: "exit_unshare", "sys_exit_unshare", Attach::SyscallExit(&["unshare"]), Tracepoint, "unshare";
    EXIT_CRED = 19: "exit_cred", "sys_exit_cred", Attach::SyscallExit(&["setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setfsuid", "setfsgid", "setgroups", "capset", "prctl"]), Tracepoint, "credential changes";
    EXIT_CHROOT = 20: "exit_chroot", "sys_exit_chroot", Attach::SyscallExit(&["chroot"]), Tracepoint, "chroot";
    EXIT_PIVOT = 21: "exit_pivot", "sys_exit_pivot_root", Attach::SyscallExit(&["pivot_root"]), Tracepoint, "pivot_root";
    EXIT_CHDIR = 22: "exit_chdir", "sys_exit_chdir", Attach::SyscallExit(&["chdir", "fchdir"]), Tracepoint, "chdir, fchdir";
}
