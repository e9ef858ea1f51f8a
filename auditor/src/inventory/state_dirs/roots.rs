//! Where runtimes keep their state.
//!
//! One table of places, so that supporting another runtime is a line. The order is the order of trust in
//! case two places know the same container: the low-level runtime's state first (it holds the pid and the
//! real cgroup), then a manager's task directory, then what users keep for themselves.
//!
//! Places as of runc 1.3, crun 1.20, containerd 2.0, Docker 27, CRI-O 1.31, Podman 5.3.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::super::container::Runtime;
use super::read::{Owner, Problems, subdirectories};

/// How a state directory is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// `<id>/state.json`.
    Runc,
    /// `<id>/status` and a copy of the spec, `<id>/config.json`.
    Crun,
    /// `<id>/config.json` and `<id>/init.pid`: containerd's bundle, whatever the runtime below it.
    ContainerdTask,
}

/// One directory whose subdirectories are containers.
#[derive(Clone, Debug)]
pub(super) struct Root {
    pub(super) directory: PathBuf,
    pub(super) layout: Layout,
    /// The manager that this place belongs to, unless the container's names say otherwise.
    pub(super) runtime: Runtime,
    pub(super) owner: Owner,
}

/// Below `/run`: directories whose subdirectories are containers.
const FLAT: [(&str, Layout, Runtime); 3] = [
    ("runc", Layout::Runc, Runtime::Runc),
    ("runc-ctrs", Layout::Runc, Runtime::Runc),
    ("crun", Layout::Crun, Runtime::Crun),
];

/// Below `/run`: directories with one more level, containerd's namespaces.
const NAMESPACED: [(&str, Layout, Runtime); 4] = [
    ("containerd/runc", Layout::Runc, Runtime::Containerd),
    ("docker/runtime-runc", Layout::Runc, Runtime::Docker),
    ("docker/runtime-crun", Layout::Crun, Runtime::Docker),
    (
        "containerd/io.containerd.runtime.v2.task",
        Layout::ContainerdTask,
        Runtime::Containerd,
    ),
];

/// containerd's namespace of Docker's containers.
const MOBY: &str = "moby";

/// All state directories that exist below a root file system.
pub(super) fn discover(prefix: &Path, own_uid: u32, problems: &mut Problems) -> Vec<Root> {
    let mut roots = Vec::new();
    let system = Owner { uid: 0, own_uid };
    let mut runs = vec![prefix.join("run")];
    // On a machine where /var/run is no link to /run it is a place of its own.
    let var_run = prefix.join("var/run");
    if fs::symlink_metadata(&var_run).is_ok_and(|metadata| metadata.is_dir()) {
        runs.push(var_run);
    }
    for run in &runs {
        below(run, system, &mut roots, problems);
    }
    for run in &runs {
        let users = run.join("user");
        for name in subdirectories(&users, problems) {
            let Ok(uid) = name.parse::<u32>() else {
                continue;
            };
            below(
                &users.join(name),
                Owner { uid, own_uid },
                &mut roots,
                problems,
            );
        }
    }
    roots
}

fn below(run: &Path, owner: Owner, roots: &mut Vec<Root>, problems: &mut Problems) {
    for (place, layout, runtime) in FLAT {
        let directory = run.join(place);
        if directory.is_dir() {
            roots.push(Root {
                directory,
                layout,
                runtime,
                owner,
            });
        }
    }
    for (place, layout, runtime) in NAMESPACED {
        let parent = run.join(place);
        for namespace in subdirectories(&parent, problems) {
            let runtime = if namespace == MOBY {
                Runtime::Docker
            } else {
                runtime
            };
            roots.push(Root {
                directory: parent.join(namespace),
                layout,
                runtime,
                owner,
            });
        }
    }
}

/// The user that the auditor runs as: the owner of its own entry in `/proc`.
pub(super) fn own_uid() -> u32 {
    fs::metadata("/proc/self").map_or(0, |metadata| metadata.uid())
}
