//! Container identity at rest: which container does a cgroup belong to, and what was declared for it?
//!
//! The kernel knows tasks, namespaces and cgroups, but not containers. Names, images, pods and the
//! declared shape of a container (its OCI spec) exist only in what runtimes leave behind: the name of
//! the cgroup, and state files below `/run` and `/var/lib`. This module reads both. It asks no daemon:
//! a runtime's socket may be missing, hang or lie, and asking it is itself an action worth auditing.
//!
//! The split inside:
//! - [`container`]: the answer types, pure data;
//! - [`cgroup_path`]: from a cgroup path alone, pure;
//! - [`oci`], [`annotations`], [`docker`], [`storage`]: parsers of runtime files, pure (`&[u8]` in);
//! - [`state_dirs`]: the only part that opens files, with [`limits`] on everything it reads.
//!
//! Nothing here writes, connects, executes, or blocks on a pipe.

pub mod annotations;
pub mod cgroup_path;
pub mod container;
pub mod docker;
pub mod limits;
pub mod oci;
pub mod state_dirs;
pub mod storage;

pub use cgroup_path::{CgroupMatch, enclosing, identify, identify_any};
pub use container::{
    Certainty, CgroupIdentity, ContainerAnswer, DeclaredCapabilities, DeclaredMount,
    DeclaredNamespace, NamespaceKind, PodIdentity, PrivilegeHint, QosClass, Role, Runtime,
    SpecSummary,
};
pub use state_dirs::{CgroupQuery, Problems, StateDirs, StateError};
