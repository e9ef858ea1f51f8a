//! Which container is this cgroup, by what runtimes wrote to disk?
//!
//! The only part of the inventory that touches a file system. It reads the state files of OCI runtimes,
//! the specs of their bundles and the records of managers, and joins them to one [`ContainerAnswer`].
//!
//! What keeps it honest:
//! - it never follows a link as the last component, never blocks, never reads more than a bound (`read.rs`);
//! - a state file that belongs to an unprivileged user is believed about that user's own cgroups only, so
//!   that nobody can give a name to somebody else's container;
//! - what cannot be read is a value in [`Problems`], never the end of the pass.
//!
//! Not covered: files on a file system that hangs (a rootless bundle on FUSE or NFS) can block the calling
//! thread; call from one that may.

mod read;
mod roots;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use super::cgroup_path::{self, is_container_hash};
use super::container::{Certainty, ContainerAnswer, NamespaceKind, Runtime, SpecSummary};
use super::oci::{self, CgroupPaths, OciConfig, ParseError};
use super::storage::{StoredContainer, parse_containers};
use super::{annotations, docker};
pub use read::{Problems, StateError};
use roots::{Layout, Root};

/// What is known of a container that is to be looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CgroupQuery<'a> {
    /// Cgroup path below the root of any hierarchy.
    pub path: &'a str,
    /// Pid of the container's init in the initial pid namespace, where known.
    pub init_pid: Option<u32>,
    /// Its start in clock ticks since boot, where known: a reused pid then does not match.
    pub init_start_ticks: Option<u64>,
}

impl<'a> CgroupQuery<'a> {
    /// Asks by path alone.
    #[must_use]
    pub fn by_path(path: &'a str) -> Self {
        Self {
            path,
            ..Self::default()
        }
    }
}

/// The runtimes' directories below a root file system.
#[derive(Clone, Debug)]
pub struct StateDirs {
    prefix: PathBuf,
    proc: PathBuf,
    own_uid: u32,
}

impl StateDirs {
    /// Those of this machine.
    #[must_use]
    pub fn system() -> Self {
        Self::under("/")
    }

    /// Those below `prefix`: another root file system (the host's, mounted into the auditor's container),
    /// or a test's tree. Namespace paths of `/proc` are still looked up in `/proc`.
    #[must_use]
    pub fn under(prefix: impl Into<PathBuf>) -> Self {
        Self {
            prefix: prefix.into(),
            proc: PathBuf::from("/proc"),
            own_uid: roots::own_uid(),
        }
    }

    /// Sets where the process file system of the host is mounted.
    #[must_use]
    pub fn with_proc(mut self, proc: impl Into<PathBuf>) -> Self {
        self.proc = proc.into();
        self
    }

    /// [`Self::lookup_with`], with the problems dropped.
    #[must_use]
    pub fn lookup(&self, query: &CgroupQuery<'_>) -> Option<ContainerAnswer> {
        self.lookup_with(query, &mut Problems::default())
    }

    /// The container whose recorded cgroup is the query's, or whose init is the query's.
    ///
    /// Directories named like a component of the path are tried first; only when none of them is the one
    /// are all states read, so asking for a cgroup that is no container's costs a pass over all of them.
    /// For many questions at once take [`Self::list_with`].
    #[must_use]
    pub fn lookup_with(
        &self,
        query: &CgroupQuery<'_>,
        problems: &mut Problems,
    ) -> Option<ContainerAnswer> {
        let mut pass = Pass::new(self, problems);
        let path = query.path.strip_suffix(" (deleted)").unwrap_or(query.path);
        let query = CgroupQuery { path, ..*query };
        let best = pass.best(&query, Pass::named_candidates);
        let best = match best {
            Some((rank, candidate)) if rank.by_path > 0 => Some(candidate),
            _ => pass
                .best(&query, Pass::all_candidates)
                .map(|(_, candidate)| candidate),
        };
        best.map(|candidate| pass.complete(candidate))
    }

    /// [`Self::list_with`], with the problems dropped.
    #[must_use]
    pub fn list(&self) -> Vec<ContainerAnswer> {
        self.list_with(&mut Problems::default())
    }

    /// Every container that has state here, stopped ones included, in a stable order.
    #[must_use]
    pub fn list_with(&self, problems: &mut Problems) -> Vec<ContainerAnswer> {
        let mut pass = Pass::new(self, problems);
        let mut seen = BTreeSet::new();
        let mut answers = Vec::new();
        for candidate in pass.all_candidates("") {
            let answer = pass.complete(candidate);
            // The same container stands in a runtime's directory and in its manager's; the first wins.
            if seen.insert((answer.owner_uid, answer.runtime, answer.id.clone())) {
                answers.push(answer);
            }
        }
        answers
    }

    fn at(&self, absolute: &str) -> PathBuf {
        self.prefix.join(absolute.trim_start_matches('/'))
    }

    /// Inode number of the namespace behind a declared path.
    ///
    /// Only `/proc/<pid>/ns/<kind>` and bind mounts below `/run` and `/var/run` are looked at, and only
    /// what really is a namespace file counts: a plain file at a path whose mount is gone has an inode
    /// number too.
    #[must_use]
    pub fn namespace_inum(&self, path: &str) -> Option<u32> {
        let target = if is_proc_namespace(path) {
            self.proc.join(path.strip_prefix("/proc/")?)
        } else if ["/run/", "/var/run/"]
            .iter()
            .any(|lead| path.starts_with(lead))
        {
            plain_absolute(path)?;
            self.at(path)
        } else {
            return None;
        };
        let nsfs = fs::metadata("/proc/self/ns/mnt").ok()?.dev();
        let metadata = fs::metadata(target)
            .ok()
            .filter(|metadata| metadata.dev() == nsfs)?;
        u32::try_from(metadata.ino()).ok()
    }
}

impl Default for StateDirs {
    fn default() -> Self {
        Self::system()
    }
}

/// `/proc/<pid>/ns/<kind>` or `/proc/<pid>/task/<tid>/ns/<kind>`.
fn is_proc_namespace(path: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let kind = |text: &str| {
        NamespaceKind::ALL
            .iter()
            .any(|kind| kind.proc_name() == text)
    };
    let parts: Vec<&str> = path.split('/').collect();
    match parts[..] {
        ["", "proc", pid, "ns", name] => number(pid) && kind(name),
        ["", "proc", pid, "task", tid, "ns", name] => number(pid) && number(tid) && kind(name),
        _ => false,
    }
}

/// A path from a file, if it is absolute and does not climb.
fn plain_absolute(path: &str) -> Option<&Path> {
    let climbs = |c: Component<'_>| matches!(c, Component::ParentDir | Component::CurDir);
    let path = Path::new(path);
    (path.is_absolute() && !path.components().any(climbs)).then_some(path)
}

/// Whether a container of runc or crun has not been started: its first process waits at this pipe until then.
fn waits(directory: &Path) -> bool {
    fs::symlink_metadata(directory.join("exec.fifo")).is_ok()
}

/// A container's state as far as it takes to recognise it.
#[derive(Clone, Debug)]
struct Candidate {
    root: Root,
    id: String,
    init_pid: Option<u32>,
    init_start_ticks: Option<u64>,
    waits: Option<bool>,
    cgroups: CgroupPaths,
    bundle: Option<String>,
    created: Option<String>,
    annotations: BTreeMap<String, String>,
    spec: Option<SpecSummary>,
}

/// How well a candidate answers a query; larger is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// Length of the recorded cgroup path that matched; 0: none did.
    by_path: usize,
    by_pid: bool,
}

impl Candidate {
    fn rank(&self, query: &CgroupQuery<'_>) -> Option<Rank> {
        if self.root.owner.uid != 0 && !is_in_cgroups_of(self.root.owner.uid, query.path) {
            return None;
        }
        let matching = self
            .cgroups
            .iter()
            .filter(|(_, path)| self.holds(path, query.path));
        let by_path = matching.map(|(_, path)| path.len()).max().unwrap_or(0);
        let same_start = match (self.init_start_ticks, query.init_start_ticks) {
            (Some(recorded), Some(asked)) => recorded == asked,
            _ => true,
        };
        let by_pid = self.init_pid.is_some() && self.init_pid == query.init_pid && same_start;
        (by_path > 0 || by_pid).then_some(Rank { by_path, by_pid })
    }

    /// Whether a recorded cgroup is the container of the path that is asked about.
    fn holds(&self, recorded: &str, asked: &str) -> bool {
        // Where the path names its container, that container and no enclosing one is meant. Some runtimes
        // record a child of the scope (`…/container`).
        if let Some(found) = cgroup_path::identify(asked) {
            let subtree = found.subtree(asked);
            let same_id = found.identity.id == self.id && is_container_hash(&self.id);
            return is_within(recorded, subtree) || (same_id && recorded.contains(&self.id));
        }
        is_within(asked, recorded)
    }
}

fn is_within(path: &str, subtree: &str) -> bool {
    path.strip_prefix(subtree)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a path lies in what systemd gives to a user.
fn is_in_cgroups_of(uid: u32, path: &str) -> bool {
    let (slice, service) = (format!("user-{uid}.slice"), format!("user@{uid}.service"));
    path.split('/')
        .any(|component| component == slice || component == service)
}

/// One walk over the directories: what it has read already and what went wrong.
struct Pass<'a> {
    dirs: &'a StateDirs,
    problems: &'a mut Problems,
    roots: Vec<Root>,
    stored: BTreeMap<PathBuf, Vec<StoredContainer>>,
}

impl<'a> Pass<'a> {
    fn new(dirs: &'a StateDirs, problems: &'a mut Problems) -> Self {
        let roots = roots::discover(&dirs.prefix, dirs.own_uid, problems);
        Self {
            dirs,
            problems,
            roots,
            stored: BTreeMap::new(),
        }
    }

    fn best(
        &mut self,
        query: &CgroupQuery<'_>,
        candidates: fn(&mut Self, &str) -> Vec<Candidate>,
    ) -> Option<(Rank, Candidate)> {
        let mut best: Option<(Rank, Candidate)> = None;
        for candidate in candidates(self, query.path) {
            let Some(rank) = candidate.rank(query) else {
                continue;
            };
            if best.as_ref().is_none_or(|(known, _)| rank > *known) {
                best = Some((rank, candidate));
            }
        }
        best
    }

    /// Those whose id is the one that the path names, or one of its components.
    fn named_candidates(&mut self, path: &str) -> Vec<Candidate> {
        let named = cgroup_path::identify(path).map(|found| found.identity.id);
        let plain = |c: &&str| !matches!(*c, "" | "." | "..");
        let mut ids: Vec<String> = path.split('/').filter(plain).map(str::to_owned).collect();
        ids.extend(named.filter(|id| !id.contains('/') && plain(&id.as_str())));
        let mut found = Vec::new();
        for root in self.roots.clone() {
            found.extend(ids.iter().filter_map(|id| self.candidate(&root, id)));
        }
        found
    }

    fn all_candidates(&mut self, _path: &str) -> Vec<Candidate> {
        let mut found = Vec::new();
        for root in self.roots.clone() {
            for id in read::subdirectories(&root.directory, self.problems) {
                found.extend(self.candidate(&root, &id));
            }
        }
        found
    }

    fn candidate(&mut self, root: &Root, id: &str) -> Option<Candidate> {
        let directory = root.directory.join(id);
        let read = match root.layout {
            Layout::Runc => self.runc(root, &directory),
            Layout::Crun => self.crun(root, id, &directory),
            Layout::ContainerdTask => self.containerd_task(root, id, &directory),
        };
        let candidate = read?;
        if candidate.id != id {
            let claimed = super::container::bounded_text(candidate.id);
            self.problems.push(StateError::IdMismatch {
                path: directory,
                claimed,
            });
            return None;
        }
        Some(candidate)
    }

    fn runc(&mut self, root: &Root, directory: &Path) -> Option<Candidate> {
        let state = self.parse(&directory.join("state.json"), root, oci::parse_runc_state)?;
        Some(Candidate {
            root: root.clone(),
            id: state.id,
            init_pid: state.init_pid,
            init_start_ticks: state.init_start_ticks,
            waits: Some(waits(directory)),
            cgroups: state.cgroup_paths,
            bundle: state.bundle,
            created: state.created,
            annotations: state.annotations,
            spec: Some(state.spec),
        })
    }

    fn crun(&mut self, root: &Root, id: &str, directory: &Path) -> Option<Candidate> {
        let status = self.parse(&directory.join("status"), root, oci::parse_crun_status)?;
        Some(Candidate {
            root: root.clone(),
            id: id.to_owned(),
            init_pid: status.init_pid,
            init_start_ticks: status.init_start_ticks,
            waits: Some(waits(directory)),
            cgroups: status.cgroup_paths,
            bundle: status.bundle,
            created: status.created,
            annotations: BTreeMap::new(),
            spec: None,
        })
    }

    fn containerd_task(&mut self, root: &Root, id: &str, directory: &Path) -> Option<Candidate> {
        let config = self.parse(&directory.join("config.json"), root, oci::parse_oci_config)?;
        let OciConfig { spec, annotations } = config;
        let pid = self.read(&directory.join("init.pid"), root);
        let pid = pid.and_then(|bytes| String::from_utf8(bytes).ok()?.trim().parse().ok());
        let expanded = spec
            .cgroups_path
            .as_deref()
            .map(cgroup_path::expand_cgroups_path);
        let below_prefix = directory.strip_prefix(&self.dirs.prefix).ok()?;
        Some(Candidate {
            root: root.clone(),
            id: id.to_owned(),
            init_pid: pid.filter(|pid| *pid > 0),
            init_start_ticks: None,
            waits: None,
            cgroups: CgroupPaths::from_path(expanded.as_deref().unwrap_or("")),
            bundle: below_prefix.to_str().map(|path| format!("/{path}")),
            created: None,
            annotations,
            spec: Some(spec),
        })
    }

    /// Adds to a state what the spec and the manager's records say.
    fn complete(&mut self, candidate: Candidate) -> ContainerAnswer {
        let config = self.config(&candidate);
        let Candidate {
            root,
            id,
            init_pid,
            init_start_ticks,
            waits,
            cgroups,
            ..
        } = candidate;
        let Candidate {
            bundle,
            created,
            mut annotations,
            spec,
            ..
        } = candidate;
        let spec = match config {
            Some(config) => {
                annotations.extend(config.annotations);
                Some(config.spec)
            }
            None => spec,
        };
        let path = cgroups.primary().unwrap_or("").to_owned();
        let named = cgroup_path::identify(&path).map(|found| found.identity);
        let named = named.filter(|identity| identity.id == id);

        let mut answer = ContainerAnswer::bare(path, root.runtime, id);
        answer.owner_uid = root.owner.uid;
        (answer.init_pid, answer.init_start_ticks) = (init_pid, init_start_ticks);
        answer.waits = waits;
        (answer.bundle, answer.created) = (bundle, created);
        if matches!(root.runtime, Runtime::Runc | Runtime::Crun) {
            let by_name = named
                .as_ref()
                .filter(|identity| identity.certainty == Certainty::Named);
            let by_name = by_name.map(|identity| identity.runtime);
            let manager = annotations::manager(&annotations).or(by_name);
            answer.runtime = manager.unwrap_or(root.runtime);
        }
        if let Some(identity) = named {
            answer.role = identity.role;
            identity.pod.into_iter().for_each(|pod| answer.add_pod(pod));
        }
        annotations::apply(&annotations, &mut answer);
        self.add_manager_record(&root, &mut answer);
        answer.add_labels(annotations);
        answer.spec = spec.map(|spec| self.with_inums(spec, &root));
        answer
    }

    /// The spec: crun's copy beside its state, else the bundle's.
    fn config(&mut self, candidate: &Candidate) -> Option<OciConfig> {
        let Candidate {
            root, id, bundle, ..
        } = candidate;
        if root.layout == Layout::ContainerdTask {
            return None;
        }
        let directory = root.directory.join(id);
        if root.layout == Layout::Crun {
            let copy = self.parse(&directory.join("config.json"), root, oci::parse_oci_config);
            if copy.is_some() {
                return copy;
            }
        }
        let bundle = bundle.as_deref()?;
        if plain_absolute(bundle).is_none() {
            let bundle = super::container::bounded_text(bundle.to_owned());
            self.problems.push(StateError::BadBundle {
                path: directory,
                bundle,
            });
            return None;
        }
        self.parse(
            &self.dirs.at(bundle).join("config.json"),
            root,
            oci::parse_oci_config,
        )
    }

    fn add_manager_record(&mut self, root: &Root, answer: &mut ContainerAnswer) {
        if !is_container_hash(&answer.id) {
            return;
        }
        match answer.runtime {
            Runtime::Docker if root.owner.uid == 0 => self.add_docker_record(root, answer),
            Runtime::Podman | Runtime::CriO => self.add_storage_record(root, answer),
            _ => {}
        }
    }

    fn add_docker_record(&mut self, root: &Root, answer: &mut ContainerAnswer) {
        let path = format!("/var/lib/docker/containers/{}/config.v2.json", answer.id);
        let record = self.parse(&self.dirs.at(&path), root, docker::parse_docker_config);
        let Some(record) = record.filter(|record| record.id == answer.id) else {
            return;
        };
        answer.name = record
            .name
            .map(super::container::bounded_text)
            .or(answer.name.take());
        answer.image = record
            .image
            .map(super::container::bounded_text)
            .or(answer.image.take());
        answer.add_labels(record.labels);
    }

    /// The list lies beside the container's directory, which for Podman holds the bundle
    /// (`…/overlay-containers/<id>/userdata`); CRI-O's bundle lies elsewhere, its list in the usual place.
    fn add_storage_record(&mut self, root: &Root, answer: &mut ContainerAnswer) {
        if answer.name.is_some() && answer.image.is_some() {
            return;
        }
        let tail = format!("/{}/userdata", answer.id);
        let beside = answer
            .bundle
            .as_deref()
            .and_then(|bundle| bundle.strip_suffix(&tail));
        let usual = "/var/lib/containers/storage/overlay-containers";
        let usual = (root.owner.uid == 0).then_some(usual);
        let beside = beside.filter(|path| plain_absolute(path).is_some());
        for directory in [beside, usual].into_iter().flatten() {
            let path = self.dirs.at(directory).join("containers.json");
            let found = self
                .stored(&path, root)
                .iter()
                .find(|stored| stored.id == answer.id);
            let Some(StoredContainer { name, image, .. }) = found.cloned() else {
                continue;
            };
            answer.name = answer
                .name
                .take()
                .or(name.map(super::container::bounded_text));
            answer.image = answer
                .image
                .take()
                .or(image.map(super::container::bounded_text));
            return;
        }
    }

    fn stored(&mut self, path: &Path, root: &Root) -> &[StoredContainer] {
        if !self.stored.contains_key(path) {
            let list = self.parse(path, root, parse_containers).unwrap_or_default();
            self.stored.insert(path.to_owned(), list);
        }
        self.stored.get(path).map_or(&[], Vec::as_slice)
    }

    /// A user's spec may name any path; only the system's are looked at beyond `/proc`.
    fn with_inums(&self, mut spec: SpecSummary, root: &Root) -> SpecSummary {
        for namespace in &mut spec.namespaces {
            let path = namespace.path.as_deref();
            let path = path.filter(|path| root.owner.uid == 0 || is_proc_namespace(path));
            namespace.inum = path.and_then(|path| self.dirs.namespace_inum(path));
        }
        spec
    }

    fn read(&mut self, path: &Path, root: &Root) -> Option<Vec<u8>> {
        read::read(path, root.owner).unwrap_or_else(|error| {
            self.problems.push(error);
            None
        })
    }

    fn parse<T>(
        &mut self,
        path: &Path,
        root: &Root,
        parse: fn(&[u8]) -> Result<T, ParseError>,
    ) -> Option<T> {
        let bytes = self.read(path, root)?;
        parse(&bytes)
            .map_err(|source| StateError::Parse {
                path: path.to_owned(),
                source,
            })
            .map_err(|error| self.problems.push(error))
            .ok()
    }
}

#[cfg(test)]
mod tests;
