//! What the inventory can say about a container: pure data, no file and no clock.
//!
//! Two depths of answer exist. A [`CgroupIdentity`] is read off a cgroup path and is always at hand; a
//! [`ContainerAnswer`] joins it with what the runtime wrote down. Both say where the knowledge comes
//! from: a path can be made up by whoever may create cgroups, so a name read off it is a claim until a
//! state file confirms it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::limits;
use crate::model::device::Device;

/// The manager that a container belongs to: the name by which its user would look it up.
///
/// Docker starts its containers through containerd and runc; they are still Docker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Runtime {
    /// Docker Engine, and Amazon ECS on top of it.
    #[serde(rename = "docker")]
    Docker,
    /// containerd: its CRI plugin, `ctr` and nerdctl.
    #[serde(rename = "containerd")]
    Containerd,
    /// CRI-O.
    #[serde(rename = "cri-o")]
    CriO,
    /// Podman, rootful and rootless.
    #[serde(rename = "podman")]
    Podman,
    /// LXC, LXD, Incus, Proxmox VE containers, libvirt's LXC driver.
    #[serde(rename = "lxc")]
    Lxc,
    /// systemd-nspawn.
    #[serde(rename = "systemd-nspawn")]
    Nspawn,
    /// runc on its own, or BuildKit's use of it.
    #[serde(rename = "runc")]
    Runc,
    /// crun on its own.
    #[serde(rename = "crun")]
    Crun,
    /// A container whose manager is not known.
    #[serde(rename = "unknown")]
    Unknown,
}

impl Runtime {
    /// The stable name, as in entity ids (`docker:9f2c…`).
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Containerd => "containerd",
            Self::CriO => "cri-o",
            Self::Podman => "podman",
            Self::Lxc => "lxc",
            Self::Nspawn => "systemd-nspawn",
            Self::Runc => "runc",
            Self::Crun => "crun",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a container is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// An ordinary container. From a path alone also a pod's sandbox, which looks the same there.
    #[default]
    Workload,
    /// A pod's sandbox ("pause", "infra"): it holds the namespaces that the pod's containers share.
    Sandbox,
    /// One step of an image build.
    Build,
}

/// How the runtime of a [`CgroupIdentity`] is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// The path spells the runtime's own naming scheme (`docker-<id>.scope`).
    Named,
    /// Only the shape fits (`/<parent>/<64 hex digits>`); a state file may correct the runtime.
    Inferred,
}

/// Kubernetes quality-of-service class of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QosClass {
    /// Requests equal limits everywhere.
    Guaranteed,
    /// Some requests or limits.
    Burstable,
    /// None at all.
    BestEffort,
}

/// The pod that a container belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodIdentity {
    /// Pod UID (Kubernetes, with dashes) or pod id (Podman).
    pub uid: Option<String>,
    /// Pod name.
    pub name: Option<String>,
    /// Kubernetes namespace.
    pub namespace: Option<String>,
    /// Id of the sandbox container.
    pub sandbox_id: Option<String>,
    /// Kubernetes QoS class, where the cgroup path shows it.
    pub qos: Option<QosClass>,
}

impl PodIdentity {
    /// Takes from `other` whatever is missing here.
    pub fn fill_from(&mut self, other: Self) {
        let Self {
            uid,
            name,
            namespace,
            sandbox_id,
            qos,
        } = other;
        self.uid = self.uid.take().or(uid);
        self.name = self.name.take().or(name);
        self.namespace = self.namespace.take().or(namespace);
        self.sandbox_id = self.sandbox_id.take().or(sandbox_id);
        self.qos = self.qos.or(qos);
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What a cgroup path alone says about a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupIdentity {
    /// The manager.
    pub runtime: Runtime,
    /// Its id for the container: 64 hex digits with most managers, a name with LXC, nspawn and `ctr`.
    pub id: String,
    /// The pod, where the path names one.
    pub pod: Option<PodIdentity>,
    /// What the container is for, as far as the path shows it.
    pub role: Role,
    /// How `runtime` is known.
    pub certainty: Certainty,
}

/// What is known of one container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerAnswer {
    /// Cgroup path below the hierarchy's root; the v2 one where the runtime recorded it.
    pub cgroup_path: String,
    /// The manager.
    pub runtime: Runtime,
    /// Its full id for the container.
    pub id: String,
    /// What the container is for.
    pub role: Role,
    /// Human name: Docker's and Podman's container name, Kubernetes' container name within the pod.
    pub name: Option<String>,
    /// Image reference as the user gave it.
    pub image: Option<String>,
    /// The pod.
    pub pod: Option<PodIdentity>,
    /// Labels and annotations, bounded by [`limits::LABELS`].
    pub labels: BTreeMap<String, String>,
    /// Labels left out because of the bounds.
    pub labels_omitted: usize,
    /// OCI bundle directory.
    pub bundle: Option<String>,
    /// Init's process id in the initial pid namespace. 0 in the file (stopped) becomes `None`.
    pub init_pid: Option<u32>,
    /// Init's start in clock ticks since boot (field 22 of `/proc/<pid>/stat`): tells a reused pid.
    pub init_start_ticks: Option<u64>,
    /// Whether the runtime has made it, but was not told yet to start its program; `None` where it does not say, or an
    /// older version read its state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<bool>,
    /// Creation time as the runtime wrote it (RFC 3339).
    pub created: Option<String>,
    /// User whose state directory this is from; 0 for the system's.
    pub owner_uid: u32,
    /// The declared shape.
    pub spec: Option<SpecSummary>,
}

impl ContainerAnswer {
    /// An answer that holds no more than the path does.
    #[must_use]
    pub fn from_identity(cgroup_path: &str, identity: CgroupIdentity) -> Self {
        let CgroupIdentity {
            runtime,
            id,
            pod,
            role,
            certainty: _,
        } = identity;
        Self {
            role,
            pod,
            ..Self::bare(cgroup_path.to_owned(), runtime, id)
        }
    }

    /// An answer with nothing but its identity.
    #[must_use]
    pub fn bare(cgroup_path: String, runtime: Runtime, id: String) -> Self {
        Self {
            cgroup_path,
            runtime,
            id,
            role: Role::Workload,
            name: None,
            image: None,
            pod: None,
            labels: BTreeMap::new(),
            labels_omitted: 0,
            bundle: None,
            init_pid: None,
            init_start_ticks: None,
            waits: None,
            created: None,
            owner_uid: 0,
            spec: None,
        }
    }

    /// The stable entity id: `<runtime>:<full id>`.
    #[must_use]
    pub fn entity_id(&self) -> String {
        format!("{}:{}", self.runtime, self.id)
    }

    /// Adds labels within the bounds of [`limits`]; what is already there stays, what does not fit is
    /// counted.
    pub fn add_labels(&mut self, labels: impl IntoIterator<Item = (String, String)>) {
        for (key, value) in labels {
            if self.labels.contains_key(&key) {
                continue;
            }
            if self.labels.len() >= limits::LABELS || key.len() > limits::LABEL_KEY_BYTES {
                self.labels_omitted += 1;
                continue;
            }
            self.labels.insert(key, bounded_text(value));
        }
    }

    /// Merges pod knowledge: what is known already stays.
    pub fn add_pod(&mut self, pod: PodIdentity) {
        if pod.is_empty() {
            return;
        }
        match &mut self.pod {
            Some(known) => known.fill_from(pod),
            None => self.pod = Some(pod),
        }
    }
}

/// Cuts a text to [`limits::TEXT_BYTES`], at a character boundary.
#[must_use]
pub fn bounded_text(mut text: String) -> String {
    if text.len() > limits::TEXT_BYTES {
        let mut end = limits::TEXT_BYTES;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}

/// A kind of namespace, named as in the OCI runtime specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NamespaceKind {
    /// Mount points.
    Mount,
    /// Process ids.
    Pid,
    /// Network stack.
    Network,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host and domain name.
    Uts,
    /// Cgroup root.
    Cgroup,
    /// Users, groups and capabilities.
    User,
    /// Boot-time and monotonic clocks.
    Time,
}

impl NamespaceKind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::Mount,
        Self::Pid,
        Self::Network,
        Self::Ipc,
        Self::Uts,
        Self::Cgroup,
        Self::User,
        Self::Time,
    ];

    /// Name in an OCI spec (`network`).
    #[must_use]
    pub fn oci_name(self) -> &'static str {
        match self {
            Self::Mount => "mount",
            Self::Pid => "pid",
            Self::Network => "network",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Cgroup => "cgroup",
            Self::User => "user",
            Self::Time => "time",
        }
    }

    /// Name of the file below `/proc/<pid>/ns` (`net`), also the name of the dimension.
    #[must_use]
    pub fn proc_name(self) -> &'static str {
        match self {
            Self::Mount => "mnt",
            Self::Network => "net",
            other => other.oci_name(),
        }
    }

    /// From the OCI name.
    #[must_use]
    pub fn from_oci_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.oci_name() == name)
    }

    /// From libcontainer's name (`NEWNS`, `NEWNET`, …), the clone flag without its prefix.
    #[must_use]
    pub fn from_clone_name(name: &str) -> Option<Self> {
        Some(match name {
            "NEWNS" => Self::Mount,
            "NEWPID" => Self::Pid,
            "NEWNET" => Self::Network,
            "NEWIPC" => Self::Ipc,
            "NEWUTS" => Self::Uts,
            "NEWCGROUP" => Self::Cgroup,
            "NEWUSER" => Self::User,
            "NEWTIME" => Self::Time,
            _ => return None,
        })
    }
}

/// One namespace as declared: a fresh one, or an existing one to join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredNamespace {
    /// The kind.
    pub kind: NamespaceKind,
    /// The namespace to join; `None` asks for a fresh one.
    pub path: Option<String>,
    /// Inode number behind `path` when it was looked at. Take it once, at first sight: the pid in a
    /// `/proc/<pid>/ns` path may be reused after its owner is gone.
    pub inum: Option<u32>,
}

/// One mount as declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredMount {
    /// Where in the container.
    pub destination: String,
    /// Host path, device or pseudo file system's name.
    pub source: Option<String>,
    /// File system type (`bind` for bind mounts with most tools).
    pub kind: Option<String>,
    /// Mount options, propagation included.
    pub options: Vec<String>,
}

impl DeclaredMount {
    /// Whether this binds a path of the host.
    #[must_use]
    pub fn is_bind(&self) -> bool {
        self.kind.as_deref() == Some("bind")
            || self.options.iter().any(|o| o == "bind" || o == "rbind")
    }

    /// Whether it is declared read-only.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.options.iter().any(|o| o == "ro" || o == "rro")
    }
}

/// The five declared capability sets, by name (`CAP_KILL`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredCapabilities {
    /// Upper bound of what an exec can gain.
    pub bounding: Vec<String>,
    /// What the entrypoint may use at once.
    pub effective: Vec<String>,
    /// What it may raise.
    pub permitted: Vec<String>,
    /// What survives an exec of a file with inheritable capabilities.
    pub inheritable: Vec<String>,
    /// What survives any exec.
    pub ambient: Vec<String>,
}

/// What an OCI spec declares, as far as isolation depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecSummary {
    /// Specification version.
    pub oci_version: Option<String>,
    /// Namespaces; a kind that is absent is shared with the runtime that creates the container.
    pub namespaces: Vec<DeclaredNamespace>,
    /// Namespace types that this version does not know.
    pub unknown_namespaces: Vec<String>,
    /// `linux.cgroupsPath`, raw: a path, or `slice:prefix:name` for the systemd driver.
    pub cgroups_path: Option<String>,
    /// Root file system, relative to the bundle or absolute.
    pub root_path: Option<String>,
    /// Whether the root is read-only.
    pub readonly_root: bool,
    /// Propagation of the root mount.
    pub rootfs_propagation: Option<String>,
    /// Host name.
    pub hostname: Option<String>,
    /// Whether the entrypoint has a terminal.
    pub terminal: bool,
    /// `no_new_privs` bit.
    pub no_new_privileges: bool,
    /// User id of the entrypoint, inside its user namespace.
    pub uid: Option<u32>,
    /// Capability sets; `None` where the spec has no such section, which leaves the runtime's own.
    pub capabilities: Option<DeclaredCapabilities>,
    /// Paths hidden from the container.
    pub masked_paths: Vec<String>,
    /// Paths made read-only.
    pub readonly_paths: Vec<String>,
    /// Mounts.
    pub mounts: Vec<DeclaredMount>,
    /// Entries of the lists above left out because of [`limits::SPEC_LIST`].
    pub omitted: usize,
    /// Whether a seccomp filter is declared.
    pub seccomp: bool,
    /// Of the system calls that capabilities are asked for by ([`crate::model::layers::CALLS`]), those that it refuses
    /// whatever their arguments; `None` where no filter is declared, or an older version read the spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seccomp_refuses: Option<Vec<String>>,
    /// AppArmor profile.
    pub apparmor_profile: Option<String>,
    /// SELinux label of the process.
    pub selinux_label: Option<String>,
    /// Whether the device rules end by allowing everything.
    pub all_devices: bool,
    /// Device nodes that the runtime makes for it.
    #[serde(default)]
    pub devices: Vec<Device>,
    /// Whether these are all that it was given: the whole spec is known, and no hook of it can have added some.
    #[serde(default)]
    pub devices_final: bool,
    /// Whether id mappings are declared.
    pub id_mapped: bool,
}

/// A declared departure from a confined container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrivilegeHint {
    /// `CAP_SYS_ADMIN` in the bounding set.
    SysAdmin,
    /// `/proc` and `/sys` are not masked.
    NoMaskedPaths,
    /// No seccomp filter.
    NoSeccomp,
    /// Every device is allowed.
    AllDevices,
    /// The pid namespace is not the container's own.
    SharedPid,
    /// The network namespace is not the container's own.
    SharedNetwork,
    /// The mount namespace is not the container's own.
    SharedMount,
    /// The IPC namespace is not the container's own.
    SharedIpc,
    /// The root mount propagates to the host.
    SharedPropagation,
}

impl SpecSummary {
    /// The declaration for a kind of namespace.
    #[must_use]
    pub fn namespace(&self, kind: NamespaceKind) -> Option<&DeclaredNamespace> {
        self.namespaces.iter().find(|ns| ns.kind == kind)
    }

    /// Whether the spec asks for a fresh namespace of this kind.
    #[must_use]
    pub fn has_own(&self, kind: NamespaceKind) -> bool {
        self.namespace(kind).is_some_and(|ns| ns.path.is_none())
    }

    /// Departures from a confined container, in the order of [`PrivilegeHint`].
    #[must_use]
    pub fn privilege_hints(&self) -> Vec<PrivilegeHint> {
        let sys_admin = self
            .capabilities
            .as_ref()
            .is_some_and(|caps| caps.bounding.iter().any(|cap| cap == "CAP_SYS_ADMIN"));
        let shared_root = matches!(
            self.rootfs_propagation.as_deref(),
            Some("shared" | "rshared")
        );
        [
            (sys_admin, PrivilegeHint::SysAdmin),
            (self.masked_paths.is_empty(), PrivilegeHint::NoMaskedPaths),
            (!self.seccomp, PrivilegeHint::NoSeccomp),
            (self.all_devices, PrivilegeHint::AllDevices),
            (!self.has_own(NamespaceKind::Pid), PrivilegeHint::SharedPid),
            (
                !self.has_own(NamespaceKind::Network),
                PrivilegeHint::SharedNetwork,
            ),
            (
                !self.has_own(NamespaceKind::Mount),
                PrivilegeHint::SharedMount,
            ),
            (!self.has_own(NamespaceKind::Ipc), PrivilegeHint::SharedIpc),
            (shared_root, PrivilegeHint::SharedPropagation),
        ]
        .into_iter()
        .filter_map(|(present, hint)| present.then_some(hint))
        .collect()
    }
}
