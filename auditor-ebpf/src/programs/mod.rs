//! One program per hook, by subject. Names are those of `auditor_common::hook::HOOKS`.

/// Two programs with one body: one in front of the function through which the kernel asks its security modules, and one
/// that is asked itself (see `auditor_common::hook::MODULES`). Its answer is always yes.
macro_rules! security_hook {
    ($(#[$doc:meta])* $program:ident, $module:ident: $function:literal, $hook:literal, |$ctx:ident| { $($body:tt)* }) => {
        $(#[$doc])*
        #[aya_ebpf::macros::fentry(function = $function)]
        pub fn $program($ctx: aya_ebpf::programs::FEntryContext) -> i32 {
            $($body)*
            0
        }

        #[doc = concat!("As `", stringify!($program), "`, where that could be left out.")]
        #[aya_ebpf::macros::lsm(hook = $hook)]
        pub fn $module($ctx: aya_ebpf::programs::LsmContext) -> i32 {
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
mod file;
mod fs;
mod handle;
mod iter;
mod lifecycle;
mod mount;
mod namespaces;
mod proc_file;
mod process;
mod record;
mod socket;
mod syscall;
mod sysctl;
