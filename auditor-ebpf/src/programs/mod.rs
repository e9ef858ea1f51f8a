//! One program per hook, by subject. Names are those of `auditor_common::hook::HOOKS`.

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
