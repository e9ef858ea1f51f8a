//! The kernel fields that the programs read: one table for both sides.
//!
//! rustc emits no CO-RE relocations, so the agent resolves each field's byte offset from the running
//! kernel's BTF and writes it into a `.rodata` global of the object before it is loaded. The macro
//! [`kernel_fields!`] hands the table to a callback macro: the kernel crate makes one global of each row, this
//! crate makes [`FIELDS`] for the resolver.

/// Offset of a field that this kernel does not have. The programs prune the code that needs it. An instruction compares
/// with 31 bits and a sign: what does not fit is loaded before, and that is never pruned.
pub const MISSING: u32 = i32::MAX as u32;

/// What a field must be for the programs to read it correctly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// An integer (or enum, or bool) of this many bytes.
    Int(u32),
    /// A pointer.
    Ptr,
    /// A struct or union that is embedded; only its place is used.
    Embedded,
    /// An array (of anything); only its place is used.
    Array,
    /// An array, struct or integer of exactly this many bytes that is read as opaque bytes.
    Bytes(u32),
    /// Not a field but the byte size of the type named by the path's first part.
    SizeOf,
    /// Not a field but the value of the enumerator (`enum_type.ENUMERATOR`).
    Enumerator,
}

/// What it means when no alternative resolves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The sensor cannot run.
    Required,
    /// The named thing is not seen.
    Optional,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct FieldSpec {
    /// Name of the global (`u32`) in the object.
    pub symbol: &'static str,
    /// Paths from a type, tried in order: `task_struct.nsproxy`, `mnt_namespace.ns.inum`. The walker
    /// looks into anonymous members by itself.
    pub paths: &'static [&'static str],
    /// What it must be.
    pub kind: FieldKind,
    /// What its absence means.
    pub need: Need,
    /// What is not seen without it, as the end of the sentence "not seen: …".
    pub sees: &'static str,
}

/// Calls `$callback! { SYMBOL: [paths], kind, need, sees; … }` with every row.
#[macro_export]
macro_rules! kernel_fields {
    ($callback:ident) => {
        $callback! {
            TASK_TID: ["task_struct.pid"], Int(4), Required, "any task";
            TASK_TGID: ["task_struct.tgid"], Int(4), Required, "any task";
            TASK_START: ["task_struct.start_boottime", "task_struct.real_start_time"], Int(8), Required, "any task";
            TASK_FLAGS: ["task_struct.flags"], Int(4), Required, "any task";
            TASK_LEADER: ["task_struct.group_leader"], Ptr, Required, "any task";
            TASK_PARENT: ["task_struct.real_parent"], Ptr, Required, "parents";
            TASK_PTRACE: ["task_struct.ptrace"], Int(4), Optional, "who traces a task that receives a file";
            TASK_TRACER: ["task_struct.parent"], Ptr, Optional, "who traces a task that receives a file";
            TASK_EXIT_CODE: ["task_struct.exit_code"], Int(4), Required, "exit codes";
            TASK_COMM: ["task_struct.comm"], Bytes(16), Required, "command names";
            TASK_ATOMIC: ["task_struct.atomic_flags"], Int(8), Optional, "no_new_privs";
            TASK_SECCOMP: ["task_struct.seccomp.mode"], Int(4), Optional, "seccomp modes";
            TASK_FILTERS: ["task_struct.seccomp.filter_count"], Bytes(4), Optional, "numbers of seccomp filters";
            TASK_IO_WORKER: ["task_struct.worker_private", "task_struct.pf_io_worker"], Ptr, Optional, "io_uring workers as what they are";
            VHOST_TASK_SIZE: ["vhost_task"], SizeOf, Optional, "vhost workers as what they are";
            TASK_EXEC_ID: ["task_struct.self_exec_id"], Int(8), Optional, "execs that the kernel left out";
            TASK_STACK: ["task_struct.stack"], Ptr, Optional, "syscall numbers before 5.15";

            TASK_NSPROXY: ["task_struct.nsproxy"], Ptr, Required, "namespaces";
            NSPROXY_MNT: ["nsproxy.mnt_ns"], Ptr, Required, "mount namespaces";
            NSPROXY_PID: ["nsproxy.pid_ns_for_children"], Ptr, Required, "pid namespaces of children";
            NSPROXY_NET: ["nsproxy.net_ns"], Ptr, Required, "network namespaces";
            NSPROXY_IPC: ["nsproxy.ipc_ns"], Ptr, Required, "IPC namespaces";
            NSPROXY_UTS: ["nsproxy.uts_ns"], Ptr, Required, "UTS namespaces";
            NSPROXY_CGROUP: ["nsproxy.cgroup_ns"], Ptr, Optional, "cgroup namespaces";
            NSPROXY_TIME: ["nsproxy.time_ns"], Ptr, Optional, "time namespaces";
            NSPROXY_TIMECH: ["nsproxy.time_ns_for_children"], Ptr, Optional, "time namespaces of children";

            MNT_INUM: ["mnt_namespace.ns.inum"], Int(4), Required, "mount namespaces";
            MNT_UNIQUE: ["mnt_namespace.ns.ns_id", "mnt_namespace.seq"], Int(8), Optional, "reuse of mount namespace numbers";
            MNT_OWNER: ["mnt_namespace.user_ns"], Ptr, Optional, "owners of mount namespaces";
            NET_INUM: ["net.ns.inum"], Int(4), Required, "network namespaces";
            NET_UNIQUE: ["net.ns.ns_id"], Int(8), Optional, "reuse of network namespace numbers";
            NET_OWNER: ["net.user_ns"], Ptr, Optional, "owners of network namespaces";
            IPC_INUM: ["ipc_namespace.ns.inum"], Int(4), Optional, "IPC namespaces";
            IPC_UNIQUE: ["ipc_namespace.ns.ns_id"], Int(8), Optional, "reuse of IPC namespace numbers";
            IPC_OWNER: ["ipc_namespace.user_ns"], Ptr, Optional, "owners of IPC namespaces";
            UTS_INUM: ["uts_namespace.ns.inum"], Int(4), Required, "UTS namespaces";
            UTS_UNIQUE: ["uts_namespace.ns.ns_id"], Int(8), Optional, "reuse of UTS namespace numbers";
            UTS_OWNER: ["uts_namespace.user_ns"], Ptr, Optional, "owners of UTS namespaces";
            CGNS_INUM: ["cgroup_namespace.ns.inum"], Int(4), Optional, "cgroup namespaces";
            CGNS_UNIQUE: ["cgroup_namespace.ns.ns_id"], Int(8), Optional, "reuse of cgroup namespace numbers";
            CGNS_OWNER: ["cgroup_namespace.user_ns"], Ptr, Optional, "owners of cgroup namespaces";
            TIME_INUM: ["time_namespace.ns.inum"], Int(4), Optional, "time namespaces";
            TIME_UNIQUE: ["time_namespace.ns.ns_id"], Int(8), Optional, "reuse of time namespace numbers";
            TIME_OWNER: ["time_namespace.user_ns"], Ptr, Optional, "owners of time namespaces";

            TASK_PID: ["task_struct.thread_pid"], Ptr, Required, "pid namespaces";
            PID_LEVEL: ["pid.level"], Int(4), Required, "pid namespaces";
            PID_NUMBERS: ["pid.numbers"], Array, Required, "pid namespaces";
            UPID_SIZE: ["upid"], SizeOf, Required, "pid namespaces";
            UPID_NR: ["upid.nr"], Int(4), Required, "pids inside their namespaces";
            UPID_NS: ["upid.ns"], Ptr, Required, "pid namespaces";
            PIDNS_INUM: ["pid_namespace.ns.inum"], Int(4), Required, "pid namespaces";
            PIDNS_UNIQUE: ["pid_namespace.ns.ns_id"], Int(8), Optional, "reuse of pid namespace numbers";
            PIDNS_OWNER: ["pid_namespace.user_ns"], Ptr, Optional, "owners of pid namespaces";
            PIDNS_PARENT: ["pid_namespace.parent"], Ptr, Required, "ancestry of pid namespaces";

            TASK_CRED: ["task_struct.real_cred"], Ptr, Required, "credentials";
            CRED_UID: ["cred.uid"], Bytes(4), Required, "credentials";
            CRED_GID: ["cred.gid"], Bytes(4), Required, "credentials";
            CRED_SUID: ["cred.suid"], Bytes(4), Required, "credentials";
            CRED_SGID: ["cred.sgid"], Bytes(4), Required, "credentials";
            CRED_EUID: ["cred.euid"], Bytes(4), Required, "credentials";
            CRED_EGID: ["cred.egid"], Bytes(4), Required, "credentials";
            CRED_FSUID: ["cred.fsuid"], Bytes(4), Required, "credentials";
            CRED_FSGID: ["cred.fsgid"], Bytes(4), Required, "credentials";
            CRED_SECUREBITS: ["cred.securebits"], Int(4), Required, "credentials";
            CRED_INH: ["cred.cap_inheritable"], Bytes(8), Required, "capabilities";
            CRED_PRM: ["cred.cap_permitted"], Bytes(8), Required, "capabilities";
            CRED_EFF: ["cred.cap_effective"], Bytes(8), Required, "capabilities";
            CRED_BND: ["cred.cap_bset"], Bytes(8), Required, "capabilities";
            CRED_AMB: ["cred.cap_ambient"], Bytes(8), Required, "capabilities";
            CRED_USERNS: ["cred.user_ns"], Ptr, Required, "user namespaces";
            USERNS_INUM: ["user_namespace.ns.inum"], Int(4), Required, "user namespaces";
            USERNS_UNIQUE: ["user_namespace.ns.ns_id"], Int(8), Optional, "reuse of user namespace numbers";
            USERNS_PARENT: ["user_namespace.parent"], Ptr, Required, "ancestry of user namespaces";
            USERNS_OWNER: ["user_namespace.owner"], Bytes(4), Optional, "that capabilities over a user namespace come with having made it";
            USERNS_LEVEL: ["user_namespace.level"], Int(4), Required, "ancestry of user namespaces";

            TASK_FS: ["task_struct.fs"], Ptr, Required, "root and working directories";
            FS_ROOT_MNT: ["fs_struct.root.mnt"], Ptr, Required, "root directories";
            FS_ROOT_DENTRY: ["fs_struct.root.dentry"], Ptr, Required, "root directories";
            FS_PWD_MNT: ["fs_struct.pwd.mnt"], Ptr, Required, "working directories";
            FS_PWD_DENTRY: ["fs_struct.pwd.dentry"], Ptr, Required, "working directories";
            DENTRY_INODE: ["dentry.d_inode"], Ptr, Required, "root and working directories";
            DENTRY_SB: ["dentry.d_sb"], Ptr, Required, "root and working directories";
            INODE_INO: ["inode.i_ino"], Int(8), Required, "root and working directories";
            SB_DEV: ["super_block.s_dev"], Int(4), Required, "root and working directories";
            MOUNT_MNT: ["mount.mnt"], Embedded, Optional, "mount namespaces of root and working directories";
            MOUNT_NS: ["mount.mnt_ns"], Ptr, Optional, "mount namespaces of root and working directories";
            MOUNT_ID: ["mount.mnt_id"], Int(4), Optional, "mount ids of root and working directories";

            TASK_INFO_STATUS: ["task_struct.thread_info.status"], Int(4), Optional, "which system calls are 32-bit ones, on x86";
            TASK_INFO_FLAGS: ["task_struct.thread_info.flags"], Int(8), Optional, "which system calls are 32-bit ones, on arm64";
            SIGINFO_CODE: ["kernel_siginfo.si_code"], Int(4), Optional, "whether user space sent a signal";

            READING_MODULE: ["kernel_read_file_id.READING_MODULE"], Enumerator, Optional, "modules loaded from files";
            READING_KEXEC: ["kernel_read_file_id.READING_KEXEC_IMAGE"], Enumerator, Optional, "kernels loaded from files";
            LOADING_MODULE: ["kernel_load_data_id.LOADING_MODULE"], Enumerator, Optional, "modules loaded from memory";
            LOADING_KEXEC: ["kernel_load_data_id.LOADING_KEXEC_IMAGE"], Enumerator, Optional, "kernels loaded from memory";

            FILE_MNT: ["file.f_path.mnt"], Ptr, Optional, "files that are opened";
            FILE_DENTRY: ["file.f_path.dentry"], Ptr, Optional, "files that are opened";
            FILE_INODE: ["file.f_inode"], Ptr, Optional, "files that are opened";
            FILE_FLAGS: ["file.f_flags"], Int(4), Optional, "how files are opened";
            FILE_MODE: ["file.f_mode"], Int(4), Optional, "how files are opened";
            DENTRY_NAME: ["dentry.d_name.name", "dentry.__d_name.name"], Ptr, Optional, "names of files";
            DENTRY_PARENT: ["dentry.d_parent"], Ptr, Optional, "paths of files";
            INODE_MODE: ["inode.i_mode"], Int(2), Optional, "types of files";
            INODE_SB: ["inode.i_sb"], Ptr, Optional, "settings of the machine that containers open for writing";
            INODE_RDEV: ["inode.i_rdev"], Int(4), Optional, "device nodes";
            SB_MAGIC: ["super_block.s_magic"], Int(8), Optional, "kinds of file systems";
            FC_ROOT: ["fs_context.root"], Ptr, Optional, "devices that containers mount and unmount within a tick";
            SB_TYPE: ["super_block.s_type"], Ptr, Optional, "kinds of file systems on devices";
            FS_TYPE_NAME: ["file_system_type.name"], Ptr, Optional, "kinds of file systems on devices";
            SB_USERNS: ["super_block.s_user_ns"], Ptr, Optional, "owners of file systems";
            TASK_FILES: ["task_struct.files"], Ptr, Optional, "files behind descriptors";
            FILES_FDT: ["files_struct.fdt"], Ptr, Optional, "files behind descriptors";
            FDT_FD: ["fdtable.fd"], Ptr, Optional, "files behind descriptors";
            FDT_MAX: ["fdtable.max_fds"], Int(4), Optional, "files behind descriptors";
            VMA_FILE: ["vm_area_struct.vm_file"], Ptr, Optional, "files that are mapped";
            VMA_FLAGS: ["vm_area_struct.vm_flags", "vm_area_struct.__vm_flags"], Int(8), Optional, "files that are mapped";
            BPRM_FILE: ["linux_binprm.file"], Ptr, Optional, "mounts of executed files";
            TASK_MM: ["task_struct.mm"], Ptr, Optional, "whose memory and environment are opened in /proc; what runtimes and containers use of capabilities apart";
            MM_EXE: ["mm_struct.exe_file"], Ptr, Optional, "what runtimes and containers use of capabilities apart";

            FILE_PRIVATE: ["file.private_data"], Ptr, Optional, "sockets and processes behind descriptors";
            INODE_PRIVATE: ["inode.i_private"], Ptr, Optional, "processes behind descriptors since 6.9";
            PROC_INODE: ["proc_inode.vfs_inode"], Embedded, Optional, "whose memory and environment are opened in /proc";
            PROC_PID: ["proc_inode.pid"], Ptr, Optional, "whose memory and environment are opened in /proc";
            PID_TASKS: ["pid.tasks"], Array, Optional, "whose memory and environment are opened in /proc";
            TASK_PID_LINKS: ["task_struct.pid_links"], Array, Optional, "whose memory and environment are opened in /proc";
            SOCKET_SK: ["socket.sk"], Ptr, Optional, "unix sockets";
            SOCK_FAMILY: ["sock.__sk_common.skc_family"], Int(2), Optional, "unix sockets";
            RING_OPCODE: ["io_kiocb.opcode"], Int(1), Optional, "what containers have io_uring do";
            RING_RESULT: ["io_kiocb.cqe.res"], Int(4), Optional, "what containers have io_uring do";
            RING_FILE: ["io_kiocb.file"], Ptr, Optional, "sockets that containers connect by io_uring";
            SOCK_PEER_PID: ["sock.sk_peer_pid"], Ptr, Optional, "who listens on unix sockets";
            UNIX_ADDR: ["unix_sock.addr"], Ptr, Optional, "names of unix sockets";
            UNIX_DENTRY: ["unix_sock.path.dentry"], Ptr, Optional, "files of unix sockets";
            UNIX_MNT: ["unix_sock.path.mnt"], Ptr, Optional, "files of unix sockets";
            UNIX_PEER: ["unix_sock.peer"], Ptr, Optional, "other ends of unix sockets";
            SK_SOCKET: ["sock.sk_socket"], Ptr, Optional, "which sockets are connected";
            SOCKET_FILE: ["socket.file"], Ptr, Optional, "which sockets are connected";
            UNIX_ADDR_LEN: ["unix_address.len"], Int(4), Optional, "names of unix sockets";
            UNIX_ADDR_NAME: ["unix_address.name"], Array, Optional, "names of unix sockets";

            TASK_CGROUPS: ["task_struct.cgroups"], Ptr, Optional, "cgroups";
            TASK_CG_LIST: ["task_struct.cg_list"], Embedded, Optional, "whether a task that a walk meets has its cgroup yet";
            CSET_DFL: ["css_set.dfl_cgrp"], Ptr, Optional, "cgroups of the v2 hierarchy";
            CSET_SUBSYS: ["css_set.subsys"], Array, Optional, "cgroups of v1 hierarchies";
            CSS_CGROUP: ["cgroup_subsys_state.cgroup"], Ptr, Optional, "cgroups of v1 hierarchies";
            CGROUP_KN: ["cgroup.kn"], Ptr, Optional, "cgroups";
            CGROUP_BPF: ["cgroup.bpf"], Embedded, Optional, "device rules of the v2 hierarchy";
            CGROUP_EFFECTIVE: ["cgroup_bpf.effective"], Array, Optional, "device rules of the v2 hierarchy";
            ATTACH_DEVICE: ["cgroup_bpf_attach_type.CGROUP_DEVICE", "bpf_attach_type.BPF_CGROUP_DEVICE"], Enumerator, Optional, "device rules of the v2 hierarchy";
            PROGS_ITEMS: ["bpf_prog_array.items"], Array, Optional, "device rules of the v2 hierarchy";
            PROGS_ITEM_SIZE: ["bpf_prog_array_item"], SizeOf, Optional, "device rules of the v2 hierarchy";
            PROGS_ITEM: ["bpf_prog_array_item.prog"], Ptr, Optional, "device rules of the v2 hierarchy";
            PROG_LEN: ["bpf_prog.len"], Int(4), Optional, "device rules of the v2 hierarchy";
            PROG_INSNS: ["bpf_prog.insnsi"], Array, Optional, "device rules of the v2 hierarchy";
            CGROUP_ROOT: ["cgroup.root"], Ptr, Optional, "which hierarchy a cgroup is in";
            ROOT_HIERARCHY: ["cgroup_root.hierarchy_id"], Int(4), Optional, "which hierarchy a cgroup is in";
            KN_ID: ["kernfs_node.id"], Int(8), Optional, "cgroups";
            KN_PARENT: ["kernfs_node.__parent", "kernfs_node.parent"], Ptr, Optional, "parents of new cgroups";
            SSID_CPUSET: ["cgroup_subsys_id.cpuset_cgrp_id"], Enumerator, Optional, "cgroups of v1 cpuset";
            SSID_CPU: ["cgroup_subsys_id.cpu_cgrp_id"], Enumerator, Optional, "cgroups of v1 cpu";
            SSID_CPUACCT: ["cgroup_subsys_id.cpuacct_cgrp_id"], Enumerator, Optional, "cgroups of v1 cpuacct";
            SSID_IO: ["cgroup_subsys_id.io_cgrp_id"], Enumerator, Optional, "cgroups of v1 blkio";
            SSID_MEMORY: ["cgroup_subsys_id.memory_cgrp_id"], Enumerator, Optional, "cgroups of v1 memory";
            SSID_DEVICES: ["cgroup_subsys_id.devices_cgrp_id"], Enumerator, Optional, "cgroups of v1 devices";
            SSID_FREEZER: ["cgroup_subsys_id.freezer_cgrp_id"], Enumerator, Optional, "cgroups of v1 freezer";
            SSID_NET_CLS: ["cgroup_subsys_id.net_cls_cgrp_id"], Enumerator, Optional, "cgroups of v1 net_cls";
            SSID_PERF_EVENT: ["cgroup_subsys_id.perf_event_cgrp_id"], Enumerator, Optional, "cgroups of v1 perf_event";
            SSID_NET_PRIO: ["cgroup_subsys_id.net_prio_cgrp_id"], Enumerator, Optional, "cgroups of v1 net_prio";
            SSID_HUGETLB: ["cgroup_subsys_id.hugetlb_cgrp_id"], Enumerator, Optional, "cgroups of v1 hugetlb";
            SSID_PIDS: ["cgroup_subsys_id.pids_cgrp_id"], Enumerator, Optional, "cgroups of v1 pids";
            SSID_RDMA: ["cgroup_subsys_id.rdma_cgrp_id"], Enumerator, Optional, "cgroups of v1 rdma";
            SSID_MISC: ["cgroup_subsys_id.misc_cgrp_id"], Enumerator, Optional, "cgroups of v1 misc";

            BPRM_FILENAME: ["linux_binprm.filename"], Ptr, Optional, "names of executed files";
            ITER_SEQ: ["bpf_iter_meta.seq"], Ptr, Optional, "state at rest by iterator";
            REGS_SIZE: ["pt_regs"], SizeOf, Optional, "syscall numbers before 5.15";
            REGS_ORIG_AX: ["pt_regs.orig_ax"], Int(8), Optional, "syscall numbers on x86";
            REGS_BX: ["pt_regs.bx"], Int(8), Optional, "arguments of 32-bit system calls, on x86";
            REGS_CX: ["pt_regs.cx"], Int(8), Optional, "arguments of 32-bit system calls, on x86";
            REGS_DX: ["pt_regs.dx"], Int(8), Optional, "arguments of 32-bit system calls, on x86";
            REGS_SI: ["pt_regs.si"], Int(8), Optional, "arguments of 32-bit system calls, on x86";
            REGS_DI: ["pt_regs.di"], Int(8), Optional, "arguments of x32 system calls, on x86";
            REGS_R10: ["pt_regs.r10"], Int(8), Optional, "arguments of x32 system calls, on x86";
            REGS_SYSCALLNO: ["pt_regs.syscallno"], Int(4), Optional, "syscall numbers on arm64";
            HELPER_TASK_BTF: ["bpf_func_id.BPF_FUNC_get_current_task_btf"], Enumerator, Optional, "nothing: slower reads";
            HELPER_TASK_REGS: ["bpf_func_id.BPF_FUNC_task_pt_regs"], Enumerator, Optional, "nothing: syscall numbers are read from the stack";
        }
    };
}

macro_rules! field_table {
    ($($symbol:ident: [$($path:literal),+], $kind:expr, $need:ident, $sees:literal;)+) => {
        /// All rows.
        pub const FIELDS: &[FieldSpec] = {
            use FieldKind::*;
            &[$(FieldSpec {
                symbol: stringify!($symbol), paths: &[$($path),+], kind: $kind, need: Need::$need, sees: $sees,
            }),+]
        };
    };
}
kernel_fields!(field_table);
