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
    /// Entry tracepoints of these syscalls (`syscalls:sys_enter_*`). A machine need not have all of them.
    SyscallEnter(&'static [&'static str]),
    /// Exit tracepoints of these syscalls (`syscalls:sys_exit_*`), or [`EXITS`] in their place. A machine need not have all of
    /// them.
    SyscallExit(&'static [&'static str]),
    /// The root cgroup's writes of sysctls (`cgroup/sysctl`).
    CgroupSysctl,
    /// Iterator.
    Iter(&'static str),
    /// No kernel program: the agent reads /proc or cgroupfs.
    Agent,
}

/// The function behind a system call that has no other with a stable name.
#[cfg(not(target_arch = "aarch64"))]
const SYS_MOUNT_SETATTR: &str = "__x64_sys_mount_setattr";
/// The same, as this architecture names it.
#[cfg(target_arch = "aarch64")]
const SYS_MOUNT_SETATTR: &str = "__arm64_sys_mount_setattr";

/// Which live tier needs a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Both live tiers.
    Both,
    /// Only where trampolines work.
    Trampoline,
    /// Only where trampolines are refused.
    Tracepoint,
    /// None, unless somebody asks for what it sees: both can.
    OnDemand,
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

/// Whether a hook tells the state of tasks and cgroups; the others tell what tasks do.
#[must_use]
pub const fn bears_state(index: u16) -> bool {
    index >= TASK_NEWTASK && index <= EXIT_CHDIR
}

/// A program that serves several hooks.
#[derive(Clone, Copy, Debug)]
pub struct ProgramSpec {
    /// Name in the object.
    pub program: &'static str,
    /// Where it attaches.
    pub attach: Attach,
}

/// A program that the kernel asks as one of its security modules (`BPF_LSM_MAC`). It is the last that is asked, so it sees
/// what all others allow.
#[derive(Clone, Copy, Debug)]
pub struct ModuleSpec {
    /// Index in [`HOOKS`] of the hook that it serves.
    pub hook: u16,
    /// Name of the program in the object: unique, at most 15 characters.
    pub program: &'static str,
    /// What the module is asked, as the kernel names it (`include/linux/lsm_hook_defs.h`).
    pub asked: &'static str,
    /// Whether the hook's own program stays, and tells what was refused. Else this one takes its place.
    pub beside: bool,
}

/// All of them. The kernel leaves such a program out for nobody, where it leaves others out while a task is interrupted
/// in them.
pub const MODULES: &[ModuleSpec] = &[
    beside(PTRACE_ACCESS, "lsm_ptrace", "ptrace_access_check"),
    beside(TASK_SETSCHED, "lsm_setsched", "task_setscheduler"),
    instead_of(UNIX_CONNECT, "lsm_connect", "unix_stream_connect"),
    instead_of(UNIX_SEND, "lsm_send", "unix_may_send"),
    instead_of(FILE_OPEN, "lsm_file_open", "file_open"),
    instead_of(FILE_RECEIVE, "lsm_receive", "file_receive"),
    instead_of(MMAP_FILE, "lsm_mmap_file", "mmap_file"),
    instead_of(INODE_MKNOD, "lsm_mknod", "inode_mknod"),
    instead_of(SB_MOUNT, "lsm_sb_mount", "sb_mount"),
    instead_of(MOVE_MOUNT, "lsm_move_mount", "move_mount"),
    instead_of(SB_UMOUNT, "lsm_sb_umount", "sb_umount"),
    instead_of(KERNEL_BPF, "lsm_bpf", "bpf"),
    instead_of(KERNEL_READ, "lsm_read_file", "kernel_read_file"),
    instead_of(KERNEL_LOAD, "lsm_load_data", "kernel_load_data"),
    instead_of(PERF_OPEN, "lsm_perf_open", "perf_event_open"),
    instead_of(SOCKET_CREATE, "lsm_socket", "socket_create"),
];

/// The program at the end of every system call, which can tell in the name of each hook that is [`Attach::SyscallExit`].
pub const EXITS: ProgramSpec = ProgramSpec {
    program: "exit_calls",
    attach: Attach::TpBtf("sys_exit"),
};

/// What that program tells of calls by another table than the machine's native one, in the name of the hooks for the native
/// ones: so it has no index.
pub const COMPAT: HookSpec = HookSpec {
    program: EXITS.program,
    name: "sys_exit/compat",
    attach: Attach::SyscallExit(&[]),
    tier: Tier::Tracepoint,
    sees: "what containers do by 32-bit system calls",
};

const fn instead_of(hook: u16, program: &'static str, asked: &'static str) -> ModuleSpec {
    ModuleSpec {
        hook,
        program,
        asked,
        beside: false,
    }
}

const fn beside(hook: u16, program: &'static str, asked: &'static str) -> ModuleSpec {
    ModuleSpec {
        beside: true,
        ..instead_of(hook, program, asked)
    }
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
    EXIT_CRED = 19: "exit_cred", "sys_exit_cred", Attach::SyscallExit(&["setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setfsuid", "setfsgid", "setgroups", "capset", "prctl", "landlock_restrict_self"]), Tracepoint, "credential changes";
    EXIT_CHROOT = 20: "exit_chroot", "sys_exit_chroot", Attach::SyscallExit(&["chroot"]), Tracepoint, "chroot";
    EXIT_PIVOT = 21: "exit_pivot", "sys_exit_pivot_root", Attach::SyscallExit(&["pivot_root"]), Tracepoint, "pivot_root";
    EXIT_CHDIR = 22: "exit_chdir", "sys_exit_chdir", Attach::SyscallExit(&["chdir", "fchdir"]), Tracepoint, "chdir, fchdir";
    SIGNAL_GENERATE = 23: "signal_generate", "signal_generate", Attach::TpBtf("signal_generate"), Both, "signals that containers send to others";
    PTRACE_ACCESS = 24: "ptrace_access", "__ptrace_may_access", Attach::Fexit("__ptrace_may_access"), Trampoline, "containers that trace or read others' processes";
    TASK_PRLIMIT = 25: "task_prlimit", "do_prlimit", Attach::Fentry("do_prlimit"), Trampoline, "containers that change others' limits";
    TASK_SETSCHED = 26: "task_setsched", "security_task_setscheduler", Attach::Fexit("security_task_setscheduler"), Trampoline, "containers that change others' scheduling";
    ENTER_ACCESS = 27: "enter_access", "sys_enter_access", Attach::SyscallEnter(&["ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp", "process_madvise", "move_pages", "migrate_pages", "prlimit64", "setpriority", "ioprio_set", "sched_setaffinity", "sched_setscheduler", "sched_setparam", "sched_setattr"]), Tracepoint, "containers that trace or read others' processes";
    EXIT_ACCESS = 28: "exit_access", "sys_exit_access", Attach::SyscallExit(&["ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp", "process_madvise", "move_pages", "migrate_pages", "prlimit64", "setpriority", "ioprio_set", "sched_setaffinity", "sched_setscheduler", "sched_setparam", "sched_setattr"]), Tracepoint, "containers that trace or read others' processes";
    UNIX_CONNECT = 29: "unix_connect", "security_unix_stream_connect", Attach::Fentry("security_unix_stream_connect"), Trampoline, "connections to others' unix sockets";
    UNIX_SEND = 30: "unix_send", "security_unix_may_send", Attach::Fentry("security_unix_may_send"), Trampoline, "messages to others' unix sockets";
    EXIT_CONNECT = 31: "exit_connect", "sys_exit_connect", Attach::SyscallExit(&["connect"]), Tracepoint, "connections to others' unix sockets";
    FILE_OPEN = 32: "file_open", "security_file_open", Attach::Fentry("security_file_open"), Trampoline, "files, knobs and devices that containers open";
    FILE_RECEIVE = 33: "file_receive", "security_file_receive", Attach::Fentry("security_file_receive"), Trampoline, "descriptors that containers receive (found by sweep instead)";
    MMAP_FILE = 34: "mmap_file", "security_mmap_file", Attach::Fentry("security_mmap_file"), Trampoline, "containers' files that the host maps to execute them";
    EXIT_OPEN = 35: "exit_open", "sys_exit_open", Attach::SyscallExit(&["open", "openat", "openat2", "creat", "open_by_handle_at", "pidfd_getfd"]), Tracepoint, "files, knobs and devices that containers open";
    ITER_FILE = 36: "iter_file", "iter/task_file", Attach::Iter("task_file"), Both, "files that containers hold open";
    INODE_MKNOD = 37: "inode_mknod", "security_inode_mknod", Attach::Fentry("security_inode_mknod"), Trampoline, "device nodes that containers make";
    EXIT_MKNOD = 38: "exit_mknod", "sys_exit_mknod", Attach::SyscallExit(&["mknod", "mknodat"]), Tracepoint, "device nodes that containers make";
    SYSCTL = 39: "sysctl", "cgroup/sysctl", Attach::CgroupSysctl, Both, "values that containers write to sysctls";
    SB_MOUNT = 40: "sb_mount", "security_sb_mount", Attach::Fentry("security_sb_mount"), Trampoline, "mounts that containers make";
    MOVE_MOUNT = 41: "move_mount", "security_move_mount", Attach::Fentry("security_move_mount"), Trampoline, "mounts that containers move and attach";
    SB_UMOUNT = 42: "sb_umount", "security_sb_umount", Attach::Fentry("security_sb_umount"), Trampoline, "mounts that containers take away (found by sweep instead)";
    EXIT_MOUNT = 43: "exit_mount", "sys_exit_mount", Attach::SyscallExit(&["mount", "umount2", "move_mount", "mount_setattr"]), Tracepoint, "mounts that containers make, move and take away";
    KERNEL_BPF = 44: "kernel_bpf", "security_bpf", Attach::Fentry("security_bpf"), Trampoline, "containers that use bpf";
    KERNEL_READ = 45: "kernel_read", "security_kernel_read_file", Attach::Fentry("security_kernel_read_file"), Trampoline, "containers that load kernel code from files";
    KERNEL_LOAD = 46: "kernel_load", "security_kernel_load_data", Attach::Fentry("security_kernel_load_data"), Trampoline, "containers that load kernel code from memory";
    PERF_OPEN = 47: "perf_open", "security_perf_event_open", Attach::Fentry("security_perf_event_open"), Trampoline, "containers that open perf events";
    ENTER_KERNEL = 48: "enter_kernel", "sys_enter_kernel", Attach::SyscallEnter(&["bpf", "init_module", "finit_module", "kexec_load", "kexec_file_load", "perf_event_open", "userfaultfd"]), Tracepoint, "containers that use bpf, load kernel code, or open perf events";
    EXIT_KERNEL = 49: "exit_kernel", "sys_exit_kernel", Attach::SyscallExit(&["bpf", "init_module", "finit_module", "kexec_load", "kexec_file_load", "perf_event_open", "userfaultfd"]), Tracepoint, "containers that use bpf, load kernel code, or open perf events";
    SOCKET_CREATE = 50: "socket_create", "security_socket_create", Attach::Fentry("security_socket_create"), Trampoline, "containers that open sockets into the kernel's crypto or netlink";
    ENTER_SOCKET = 51: "enter_socket", "sys_enter_socket", Attach::SyscallEnter(&["socket", "splice", "sendfile64"]), Tracepoint, "containers that open sockets into the kernel's crypto or netlink, and splice into them";
    ENTER_CONNECT = 52: "enter_connect", "sys_enter_connect", Attach::SyscallEnter(&["connect"]), Tracepoint, "connections to others' unix sockets";
    ENTER_MKNOD = 53: "enter_mknod", "sys_enter_mknod", Attach::SyscallEnter(&["mknod", "mknodat"]), Tracepoint, "device nodes that containers make";
    ITER_HANDLE = 54: "iter_handle", "iter/handles", Attach::Iter("task_file"), Both, "pipes, sockets and open files that containers share";
    ITER_VMA = 55: "iter_vma", "iter/task_vma", Attach::Iter("task_vma"), Both, "memory that containers share by mapping one file";
    MOUNT_SETATTR = 56: "mount_setattr", "sys_mount_setattr", Attach::Fexit(SYS_MOUNT_SETATTR), Trampoline, "attributes of mounts that containers change by mount_setattr (found by sweep instead)";
    CAPABLE = 57: "capable", "cap_capable", Attach::TpBtf("cap_capable"), Both, "capabilities that containers use";
    CAPABLE_ENTRY = 58: "capable_entry", "cap_capable/entry", Attach::Fentry("cap_capable"), Trampoline, "capabilities that containers use";
    SPLICE = 59: "splice", "do_splice", Attach::Fentry("do_splice"), Trampoline, "containers that splice into sockets of the kernel's crypto";
    GET_TREE = 60: "get_tree", "vfs_get_tree", Attach::Fexit("vfs_get_tree"), Trampoline, "devices that containers mount and unmount within a tick";
    SYS_ENTER = 61: "sys_calls", "sys_enter", Attach::TpBtf("sys_enter"), OnDemand, "system calls that containers make";
    SPLICE_DIRECT = 62: "splice_direct", "do_splice_direct", Attach::Fentry("do_splice_direct"), Trampoline, "containers that send files into sockets of the kernel's crypto";
    ITER_DEVICE = 63: "iter_device", "iter/devices", Attach::Iter("task"), Both, "devices that version 2 cgroups let containers reach (taken from their specs instead)";
    TASK_SETNICE = 64: "task_setnice", "security_task_setnice", Attach::Fexit("security_task_setnice"), Trampoline, "containers that change others' nice values";
    TASK_SETIOPRIO = 65: "task_setioprio", "security_task_setioprio", Attach::Fexit("security_task_setioprio"), Trampoline, "containers that change others' priorities in input and output";
    RING_COMPLETE = 66: "ring_complete", "io_uring_complete", Attach::TpBtf("io_uring_complete"), Tracepoint, "files that containers open, and sockets that they connect, by io_uring";
}
