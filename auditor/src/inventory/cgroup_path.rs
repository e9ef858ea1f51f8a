//! From a cgroup path to a container, by name alone.
//!
//! Every runtime puts its containers into cgroups whose names follow a scheme. The schemes differ by
//! manager, by cgroup driver (systemd unit names or plain directories), by hierarchy (v1, v2, hybrid) and
//! by nesting, and they are the only identity at hand when a task is first seen. So they are parsed here,
//! purely and without allocation until something is found.
//!
//! Two properties matter more than coverage:
//!
//! - *Nothing is a container that only looks near one.* conmon, shims, LXC monitors and nspawn
//!   supervisors live in cgroups named after the container they serve, yet they are host processes. Ids
//!   are therefore checked by their full form (64 hex digits), never by a prefix.
//! - *A match names a subtree, not a leaf.* An init system inside a container makes cgroups of its own
//!   below it; [`CgroupMatch::subtree_len`] cuts the path where the container begins.
//!
//! What stands below a container's own cgroup was named by that container: a nested match is its claim,
//! not the host's. [`enclosing`] therefore yields from the outermost inwards, and whoever needs a name that
//! a container cannot forge takes the first. In the same way a user with a delegated
//! `user@<uid>.service` may make any name below it.
//!
//! Schemes as of Docker 27, containerd 2.0, CRI-O 1.31, Podman 5.3, LXC 6, systemd 257, BuildKit 0.17.

use super::container::{Certainty, CgroupIdentity, PodIdentity, QosClass, Role, Runtime};
use super::limits;

/// A container found in a cgroup path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupMatch {
    /// Who it is.
    pub identity: CgroupIdentity,
    /// Length in bytes of the prefix of the path that is the root of the container's own subtree. What
    /// follows it is the end of the path, a `/`, or the kernel's ` (deleted)`.
    pub subtree_len: usize,
}

impl CgroupMatch {
    /// The root of the container's subtree, as a prefix of the path that was asked about.
    #[must_use]
    pub fn subtree<'a>(&self, path: &'a str) -> &'a str {
        path.get(..self.subtree_len).unwrap_or(path)
    }
}

/// The innermost container that a cgroup path lies in; `None` for the host's own cgroups.
#[must_use]
pub fn identify(path: &str) -> Option<CgroupMatch> {
    enclosing(path).last()
}

/// The innermost container over the paths of one task in several hierarchies.
///
/// On v1 and hybrid machines a task has one path per hierarchy and some may lie outside the container
/// (the v2 hierarchy of a hybrid machine often stays with the daemon). A named scheme wins over an
/// inferred one, then the deeper nesting; ties go to the earlier path. The index tells which it was.
#[must_use]
pub fn identify_any<'a>(paths: impl IntoIterator<Item = &'a str>) -> Option<(usize, CgroupMatch)> {
    let mut best: Option<((bool, usize), usize, CgroupMatch)> = None;
    for (index, path) in paths.into_iter().enumerate() {
        let (depth, found) = enclosing(path).fold((0, None), |(depth, _), m| (depth + 1, Some(m)));
        let Some(found) = found else { continue };
        let rank = (found.identity.certainty == Certainty::Named, depth);
        if best
            .as_ref()
            .is_none_or(|(best_rank, ..)| rank > *best_rank)
        {
            best = Some((rank, index, found));
        }
    }
    best.map(|(_, index, found)| (index, found))
}

/// All containers that a cgroup path lies in, from the outermost inwards.
#[must_use]
pub fn enclosing(path: &str) -> Matches<'_> {
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    let path = if path.len() > limits::CGROUP_PATH_BYTES {
        ""
    } else {
        path
    };
    Matches {
        path,
        context: 0,
        cursor: 0,
    }
}

/// Iterator of [`enclosing`].
#[derive(Clone, Debug)]
pub struct Matches<'a> {
    path: &'a str,
    /// Where the subtree of the last match ends: parents above it belong to the enclosing container.
    context: usize,
    cursor: usize,
}

impl Iterator for Matches<'_> {
    type Item = CgroupMatch;

    fn next(&mut self) -> Option<CgroupMatch> {
        while self.cursor < self.path.len() {
            let start = self.cursor;
            let rest = self.path.get(start..)?;
            let component = rest.split('/').next().unwrap_or(rest);
            let end = start + component.len();
            self.cursor = end + 1;
            if component.is_empty() {
                continue;
            }
            let place = Place {
                component,
                ancestors: self.path.get(self.context..start)?,
                child: self
                    .path
                    .get(end + 1..)
                    .and_then(|below| below.split('/').next()),
            };
            let Some(hit) = place.classify() else {
                continue;
            };
            let subtree_len = match hit.extent {
                Extent::Component => end,
                Extent::Child => end + 1 + place.child.map_or(0, str::len),
            };
            let pod = pod_of(self.path.get(self.context..end)?);
            self.context = subtree_len;
            self.cursor = subtree_len + 1;
            let Hit {
                runtime,
                id,
                role,
                certainty,
                extent: _,
            } = hit;
            let identity = CgroupIdentity {
                runtime,
                id,
                pod,
                role,
                certainty,
            };
            return Some(CgroupMatch {
                identity,
                subtree_len,
            });
        }
        None
    }
}

/// Whether the subtree of a match ends at the component itself or includes the child that follows.
enum Extent {
    Component,
    Child,
}

struct Hit {
    runtime: Runtime,
    id: String,
    role: Role,
    certainty: Certainty,
    extent: Extent,
}

impl Hit {
    fn named(runtime: Runtime, id: &str) -> Self {
        Self {
            runtime,
            id: id.to_owned(),
            role: Role::Workload,
            certainty: Certainty::Named,
            extent: Extent::Component,
        }
    }

    fn inferred(runtime: Runtime, id: &str) -> Self {
        Self {
            certainty: Certainty::Inferred,
            ..Self::named(runtime, id)
        }
    }

    fn build(runtime: Runtime, id: &str) -> Self {
        Self {
            role: Role::Build,
            ..Self::named(runtime, id)
        }
    }
}

/// One component of a path with its surroundings inside the enclosing container.
struct Place<'a> {
    component: &'a str,
    /// The path above, from the enclosing container (or the root) down, slashes included.
    ancestors: &'a str,
    /// The next component.
    child: Option<&'a str>,
}

impl<'a> Place<'a> {
    fn parents(&self) -> impl DoubleEndedIterator<Item = &'a str> + use<'a> {
        self.ancestors.split('/').filter(|c| !c.is_empty())
    }

    fn parent(&self) -> &'a str {
        self.parents().next_back().unwrap_or("")
    }

    fn classify(&self) -> Option<Hit> {
        if let Some(stem) = self.component.strip_suffix(".scope") {
            return self.scope(stem);
        }
        if let Some(stem) = self.component.strip_suffix(".service") {
            return self.nspawn_service(stem);
        }
        if self.component.contains(':') {
            return colon_form(self.component);
        }
        if is_container_hash(self.component) {
            return self.bare_hash();
        }
        self.plain_name()
    }

    /// `<prefix>-<id>.scope`: the systemd driver of every OCI manager, and machined's scopes.
    fn scope(&self, stem: &str) -> Option<Hit> {
        if let Some(escaped) = stem.strip_prefix("machine-") {
            return self.machine_scope(escaped);
        }
        SYSTEMD_PREFIXES.iter().find_map(|prefix| {
            let id = stem.strip_prefix(prefix)?.strip_prefix('-')?;
            managed(prefix, id)
        })
    }

    /// `machine-<name>.scope`, registered with machined: nspawn on a command line, libvirt's LXC driver,
    /// and virtual machines, which are no containers.
    fn machine_scope(&self, escaped: &str) -> Option<Hit> {
        let name = unescape_unit(escaped);
        let (driver, rest) = name.split_once('-').unwrap_or((&name, ""));
        let numbered = rest
            .split_once('-')
            .filter(|(number, _)| is_decimal(number));
        match (driver, numbered) {
            ("qemu", Some(_)) => return None,
            ("lxc", Some((_, domain))) if !domain.is_empty() => {
                return Some(Hit::named(Runtime::Lxc, domain));
            }
            _ => {}
        }
        let in_machine_slice = self.parents().any(is_machine_slice);
        if !in_machine_slice && self.child != Some("payload") {
            return None;
        }
        self.nspawn(&name, Certainty::Inferred)
    }

    /// `systemd-nspawn@<name>.service`.
    fn nspawn_service(&self, stem: &str) -> Option<Hit> {
        let name = unescape_unit(stem.strip_prefix("systemd-nspawn@")?);
        self.nspawn(&name, Certainty::Named)
    }

    /// nspawn splits its unit into `payload` (the container) and `supervisor` (itself, on the host).
    fn nspawn(&self, name: &str, certainty: Certainty) -> Option<Hit> {
        if name.is_empty() {
            return None;
        }
        match self.child {
            Some("supervisor") => None,
            Some("payload") => Some(Hit {
                extent: Extent::Child,
                ..Hit::named(Runtime::Nspawn, name)
            }),
            _ => Some(Hit {
                certainty,
                ..Hit::named(Runtime::Nspawn, name)
            }),
        }
    }

    /// 64 hex digits and nothing else: the cgroupfs driver, where only the parents hint at the manager.
    fn bare_hash(&self) -> Option<Hit> {
        let id = self.component;
        let parent = self.parent();
        match parent {
            // A pod of Podman's, and the host side of Kata's virtual machines.
            "libpod_parent" | "kata_overhead" => return None,
            "docker" | "buildx" | "moby" => return Some(Hit::named(Runtime::Docker, id)),
            "k8s.io" => return Some(Hit::named(Runtime::Containerd, id)),
            "default" => return Some(Hit::inferred(Runtime::Containerd, id)),
            _ => {}
        }
        if parent
            .strip_prefix("libpod-conmon-")
            .is_some_and(is_container_hash)
        {
            return Some(Hit::named(Runtime::Podman, id));
        }
        if pod_of(self.ancestors).is_some() {
            return Some(Hit::inferred(Runtime::Containerd, id));
        }
        // Below a systemd unit that is not a runtime's, a hash says "container" but not whose.
        let runtime = if is_unit(parent) {
            Runtime::Unknown
        } else {
            Runtime::Docker
        };
        Some(Hit::inferred(runtime, id))
    }

    /// Names that carry their manager in a prefix or in the directory above.
    fn plain_name(&self) -> Option<Hit> {
        let name = self.component;
        for (prefix, runtime) in PLAIN_PREFIXES {
            if let Some(id) = name.strip_prefix(prefix).filter(|id| is_container_hash(id)) {
                return Some(Hit::named(runtime, id));
            }
        }
        if let Some(id) = name
            .strip_prefix("lxc.payload.")
            .filter(|id| !id.is_empty())
        {
            return Some(Hit::named(Runtime::Lxc, id));
        }
        if is_unit(name) {
            return None;
        }
        match self.parent() {
            "lxc" | "lxc.payload" => Some(Hit::named(Runtime::Lxc, name)),
            "buildkit" if is_build_id(name) => Some(Hit::build(Runtime::Runc, name)),
            // `ctr run` in containerd's default namespace; ids are free there.
            "default" if self.parents().count() == 1 && is_oci_id(name) => {
                Some(Hit::inferred(Runtime::Containerd, name))
            }
            _ if self.parents().next() == Some("ecs") && is_fargate_id(name) => {
                Some(Hit::inferred(Runtime::Containerd, name))
            }
            _ => None,
        }
    }
}

/// Unit name prefixes of the managers that use the systemd driver. Longer before shorter does not matter:
/// the id behind the prefix must be of the manager's full form.
const SYSTEMD_PREFIXES: [&str; 8] = [
    "docker",
    "cri-containerd",
    "nerdctl",
    "crio",
    "libpod",
    "buildkit",
    "runc",
    "crun",
];

/// Directory name prefixes before a hash, with the cgroupfs driver or inside a service.
const PLAIN_PREFIXES: [(&str, Runtime); 3] = [
    ("libpod-payload-", Runtime::Podman),
    ("libpod-", Runtime::Podman),
    ("crio-", Runtime::CriO),
];

/// The manager behind a systemd prefix, if the id is of its form.
fn managed(prefix: &str, id: &str) -> Option<Hit> {
    let hashed = |runtime| is_container_hash(id).then(|| Hit::named(runtime, id));
    match prefix {
        "docker" if is_build_id(id) => Some(Hit::build(Runtime::Runc, id)),
        "docker" => hashed(Runtime::Docker),
        "cri-containerd" | "nerdctl" => hashed(Runtime::Containerd),
        "crio" => hashed(Runtime::CriO),
        "libpod" => hashed(Runtime::Podman),
        "buildkit" if is_build_id(id) => Some(Hit::build(Runtime::Runc, id)),
        "runc" if is_oci_id(id) => Some(Hit::named(Runtime::Runc, id)),
        "crun" if id.starts_with("buildah-") && is_oci_id(id) => {
            Some(Hit::build(Runtime::Crun, id))
        }
        "crun" if is_oci_id(id) => Some(Hit::named(Runtime::Crun, id)),
        _ => None,
    }
}

/// `<slice>:<prefix>:<id>`: a systemd driver's path handed to a runtime that took it for a directory.
fn colon_form(component: &str) -> Option<Hit> {
    let (slice, rest) = component.split_once(':')?;
    let (prefix, id) = rest.split_once(':')?;
    (slice.is_empty() || slice.ends_with(".slice"))
        .then(|| managed(prefix, id))
        .flatten()
}

/// The pod that the parents of a container name. The last component may be the container itself.
fn pod_of(parents: &str) -> Option<PodIdentity> {
    let mut in_kubepods = false;
    let mut in_libpod = false;
    let mut qos = QosClass::Guaranteed;
    let mut found = None;
    for component in parents.split('/').filter(|c| !c.is_empty()) {
        let unit = component.split(':').next().unwrap_or(component);
        if let Some(stem) = unit.strip_suffix(".slice") {
            found = pod_of_slice(stem).or(found);
        } else if in_libpod && is_container_hash(component) {
            found = Some(PodIdentity {
                uid: Some(component.to_owned()),
                ..PodIdentity::default()
            });
        } else if in_kubepods {
            match component {
                "burstable" => qos = QosClass::Burstable,
                "besteffort" => qos = QosClass::BestEffort,
                _ => {
                    let uid = component.strip_prefix("pod").filter(|uid| is_oci_id(uid));
                    found = uid.map(|uid| kube_pod(uid, qos)).or(found);
                }
            }
        }
        in_kubepods |= component == "kubepods";
        in_libpod = component == "libpod_parent";
    }
    found
}

/// `kubepods[-burstable|-besteffort]-pod<uid>`, possibly below a cgroup root of its own
/// (`kubelet-kubepods-…`), or `<parent>-libpod_pod_<id>`.
fn pod_of_slice(stem: &str) -> Option<PodIdentity> {
    if let Some((_, id)) = stem.split_once("libpod_pod_") {
        let id = is_container_hash(id).then(|| id.to_owned());
        return id.map(|uid| PodIdentity {
            uid: Some(uid),
            ..PodIdentity::default()
        });
    }
    let below = match stem.strip_prefix("kubepods-") {
        Some(below) => below,
        None => stem.split_once("-kubepods-")?.1,
    };
    let (qos, below) = match below.split_once('-') {
        Some(("burstable", below)) => (QosClass::Burstable, below),
        Some(("besteffort", below)) => (QosClass::BestEffort, below),
        _ => (QosClass::Guaranteed, below),
    };
    let uid = below.strip_prefix("pod").filter(|uid| is_oci_id(uid))?;
    Some(kube_pod(&uid.replace('_', "-"), qos))
}

fn kube_pod(uid: &str, qos: QosClass) -> PodIdentity {
    PodIdentity {
        uid: Some(uid.to_owned()),
        qos: Some(qos),
        ..PodIdentity::default()
    }
}

/// 64 lowercase hex digits, the id form of Docker, containerd's CRI plugin, nerdctl, CRI-O and Podman.
#[must_use]
pub fn is_container_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(is_lower_hex)
}

fn is_lower_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

/// BuildKit's identity: 25 digits of base 36.
fn is_build_id(text: &str) -> bool {
    text.len() == 25
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
}

/// What runc accepts as an id.
fn is_oci_id(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'-' | b'.');
    !text.is_empty() && text != "." && text != ".." && text.bytes().all(allowed)
}

/// Fargate's `<32 hex>-<digits>`.
fn is_fargate_id(text: &str) -> bool {
    text.split_once('-').is_some_and(|(task, number)| {
        task.len() == 32 && task.bytes().all(is_lower_hex) && is_decimal(number)
    })
}

fn is_decimal(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_unit(component: &str) -> bool {
    [".slice", ".service", ".scope"]
        .iter()
        .any(|suffix| component.ends_with(suffix))
}

fn is_machine_slice(component: &str) -> bool {
    component.starts_with("machine") && component.ends_with(".slice")
}

/// Undoes systemd's `\xNN` escaping of unit names; what is not an escape, or not UTF-8 once undone, stays. The backslash
/// may be doubled, as the auditor writes it: systemd escapes its own, so no name of a unit has two.
fn unescape_unit(escaped: &str) -> String {
    let mut out = Vec::with_capacity(escaped.len());
    let mut rest = escaped.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let byte = match tail {
            [b'x', high, low, ..] if first == b'\\' => hex_pair(*high, *low).map(|b| (b, 3)),
            [b'\\', b'x', high, low, ..] if first == b'\\' => hex_pair(*high, *low).map(|b| (b, 4)),
            _ => None,
        };
        let (byte, used) = byte.unwrap_or((first, 0));
        out.push(byte);
        rest = tail.get(used..).unwrap_or_default();
    }
    String::from_utf8(out).unwrap_or_else(|_| escaped.to_owned())
}

fn hex_pair(high: u8, low: u8) -> Option<u8> {
    let digit = |b: u8| char::from(b).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// The cgroup path that a spec's `linux.cgroupsPath` stands for below the hierarchy's root.
///
/// A path stays what it is. `slice:prefix:name`, the systemd driver's form, becomes the unit's path:
/// a slice `a-b.slice` lies in `a.slice`, and the scope is `<prefix>-<name>.scope`.
#[must_use]
pub fn expand_cgroups_path(raw: &str) -> String {
    let parts: Vec<&str> = raw.split(':').collect();
    let [slice, prefix, name] = parts[..] else {
        let lead = if raw.starts_with('/') { "" } else { "/" };
        return format!("{lead}{raw}");
    };
    let slice = if slice.is_empty() {
        "system.slice"
    } else {
        slice
    };
    let mut path = expand_slice(slice);
    path.push('/');
    if !prefix.is_empty() && !name.ends_with(".slice") {
        path.push_str(prefix);
        path.push('-');
    }
    path.push_str(name);
    if !name.ends_with(".slice") {
        path.push_str(".scope");
    }
    path
}

fn expand_slice(slice: &str) -> String {
    let Some(stem) = slice.strip_suffix(".slice").filter(|stem| *stem != "-") else {
        return String::new();
    };
    let dashes = stem
        .match_indices('-')
        .map(|(at, _)| at)
        .chain([stem.len()]);
    dashes.fold(String::new(), |path, end| {
        format!("{path}/{}.slice", stem.get(..end).unwrap_or(stem))
    })
}

#[cfg(test)]
mod tests;
