//! One program per hook, by subject. Names are those of `auditor_common::hook::HOOKS`.

mod cgroup;
mod creds;
mod fs;
mod iter;
mod lifecycle;
mod namespaces;
mod record;
mod syscall;
