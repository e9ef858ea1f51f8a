//! Programs by subject: most have a hook of their own, and one at the end of all system calls serves many. Names are those
//! of `auditor_common::hook::HOOKS`.

/// Two programs with one body: one in front of the function through which the kernel asks its security modules, and one
/// that is asked itself (see `auditor_common::hook::MODULES`), whose answer is always yes. `LATE` is true in this one: births
/// can be left out where it is used.
macro_rules! security_hook {
    ($(#[$doc:meta])* $program:ident, $module:ident: $function:literal, $hook:literal, |$ctx:ident| { $($body:tt)* }) => {
        $(#[$doc])*
        #[aya_ebpf::macros::fentry(function = $function)]
        pub fn $program($ctx: aya_ebpf::programs::FEntryContext) -> i32 {
            const LATE: bool = false;
            $($body)*
            0
        }

        #[doc = concat!("As `", stringify!($program), "`, where that could be left out.")]
        #[aya_ebpf::macros::lsm(hook = $hook)]
        pub fn $module($ctx: aya_ebpf::programs::LsmContext) -> i32 {
            const LATE: bool = true;
            $($body)*
            0
        }
    };
}

mod access;
mod act;
mod calls;
mod capable;
mod cgroup;
mod code;
mod creds;
mod device;
mod exits;
mod file;
mod fs;
mod handle;
mod iter;
mod lifecycle;
mod mount;
mod namespaces;
mod proc_file;
mod process;
pub mod record;
mod ring;
mod socket;
mod syscall;
mod sysctl;
