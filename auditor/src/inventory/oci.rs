//! Parsers of what OCI runtimes write down: runc's `state.json`, crun's `status`, and `config.json`.
//!
//! Pure: bytes in, values out. The files are outside this project's control, and what is in them comes
//! in part from whoever started the container, so fields that are absent, null or of a newer version are
//! tolerated, lists are bounded, and a file that makes no sense is a typed error, never a panic.
//!
//! Formats: runc `libcontainer.State` (1.0 to 1.3; the start time was a string before 1.0), crun
//! `libcrun_container_status_t` (1.8 to 1.20), OCI runtime specification 1.0 to 1.2.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::container::{
    DeclaredCapabilities, DeclaredMount, DeclaredNamespace, NamespaceKind, SpecSummary,
};
use super::limits;

/// Why a runtime's file could not be understood.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// Not JSON, or a field of another type than the format's.
    #[error("{format}: not understood at line {}, column {}", source.line(), source.column())]
    Json {
        /// The format that was expected.
        format: &'static str,
        /// The position and what was wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A field without which the file identifies nothing.
    #[error("{format}: field {field} is missing or empty")]
    Missing {
        /// The format that was expected.
        format: &'static str,
        /// The field.
        field: &'static str,
    },
}

/// Parses JSON with the format's name in the error.
pub(super) fn json<T: DeserializeOwned>(
    format: &'static str,
    bytes: &[u8],
) -> Result<T, ParseError> {
    serde_json::from_slice(bytes).map_err(|source| ParseError::Json { format, source })
}

/// The cgroups of one container as its runtime recorded them, below each hierarchy's root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupPaths(Vec<(String, String)>);

impl CgroupPaths {
    /// From runc's map of hierarchy (v1 controller, or empty for v2) to absolute directory.
    ///
    /// A directory outside `/sys/fs/cgroup` says nothing about the path below the root and is left out.
    #[must_use]
    pub fn from_directories(directories: &BTreeMap<String, String>) -> Self {
        let hybrid = directories.keys().any(|key| !key.is_empty());
        let below_root = |(key, directory): (&String, &String)| {
            let path = directory.strip_prefix("/sys/fs/cgroup")?;
            let path = match (key.is_empty(), hybrid) {
                (true, false) => path,
                (true, true) => path.strip_prefix("/unified").unwrap_or(path),
                (false, _) => path
                    .strip_prefix('/')?
                    .split_once('/')
                    .map_or("", |(mount, _)| path.get(mount.len() + 1..).unwrap_or("")),
            };
            let path = path.trim_end_matches('/');
            path.starts_with('/')
                .then(|| (key.clone(), path.to_owned()))
        };
        Self(directories.iter().filter_map(below_root).collect())
    }

    /// From a single path below the root.
    #[must_use]
    pub fn from_path(path: &str) -> Self {
        let path = path.trim_matches('/');
        if path.is_empty() {
            return Self::default();
        }
        Self(vec![(String::new(), format!("/{path}"))])
    }

    /// All paths with their hierarchy.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(hierarchy, path)| (hierarchy.as_str(), path.as_str()))
    }

    /// The path to show: that of v2, else of v1's named systemd hierarchy, else the first.
    #[must_use]
    pub fn primary(&self) -> Option<&str> {
        ["", "name=systemd"]
            .iter()
            .find_map(|wanted| self.iter().find(|(hierarchy, _)| hierarchy == wanted))
            .or_else(|| self.iter().next())
            .map(|(_, path)| path)
    }
}

/// What runc keeps of a container.
#[derive(Clone, Debug, PartialEq)]
pub struct RuncState {
    /// Container id.
    pub id: String,
    /// Init's pid; `None` once it is gone.
    pub init_pid: Option<u32>,
    /// Init's start in clock ticks since boot.
    pub init_start_ticks: Option<u64>,
    /// Creation time, RFC 3339.
    pub created: Option<String>,
    /// Bundle directory, from the `bundle=` label.
    pub bundle: Option<String>,
    /// The spec's annotations, which runc keeps as labels.
    pub annotations: BTreeMap<String, String>,
    /// Cgroups.
    pub cgroup_paths: CgroupPaths,
    /// The namespaces that init really is in, as `/proc` paths.
    pub namespace_paths: BTreeMap<NamespaceKind, String>,
    /// Whether runc ran rootless.
    pub rootless: bool,
    /// What the state repeats of the spec; `config.json` says more.
    pub spec: SpecSummary,
}

const RUNC_STATE: &str = "runc state.json";

/// Parses runc's `state.json`.
///
/// # Errors
/// When it is not such a file or holds no id.
pub fn parse_runc_state(bytes: &[u8]) -> Result<RuncState, ParseError> {
    let wire: RuncStateWire = json(RUNC_STATE, bytes)?;
    if wire.id.is_empty() {
        return Err(ParseError::Missing {
            format: RUNC_STATE,
            field: "id",
        });
    }
    let (bundle, annotations) = split_labels(wire.config.labels.clone().unwrap_or_default());
    let namespace_paths = wire
        .namespace_paths
        .unwrap_or_default()
        .into_iter()
        .filter_map(|(kind, path)| Some((NamespaceKind::from_clone_name(&kind)?, path)))
        .collect();
    Ok(RuncState {
        init_pid: positive_pid(wire.init_process_pid),
        init_start_ticks: wire.init_process_start.and_then(Ticks::known),
        created: wire.created,
        bundle,
        annotations,
        cgroup_paths: CgroupPaths::from_directories(&wire.cgroup_paths.unwrap_or_default()),
        namespace_paths,
        rootless: wire.rootless,
        spec: wire.config.into_summary(),
        id: wire.id,
    })
}

/// Splits `key=value` labels and takes out the bundle.
fn split_labels(labels: Vec<String>) -> (Option<String>, BTreeMap<String, String>) {
    let mut annotations: BTreeMap<String, String> = labels
        .into_iter()
        .filter_map(|label| {
            label
                .split_once('=')
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
        })
        .collect();
    (annotations.remove("bundle"), annotations)
}

fn positive_pid(pid: i64) -> Option<u32> {
    u32::try_from(pid).ok().filter(|pid| *pid > 0)
}

#[derive(Deserialize)]
struct RuncStateWire {
    #[serde(default)]
    id: String,
    #[serde(default)]
    init_process_pid: i64,
    init_process_start: Option<Ticks>,
    created: Option<String>,
    #[serde(default)]
    config: RuncConfigWire,
    #[serde(default)]
    rootless: bool,
    cgroup_paths: Option<BTreeMap<String, String>>,
    namespace_paths: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Ticks {
    Number(u64),
    Text(String),
}

impl Ticks {
    fn known(self) -> Option<u64> {
        let ticks = match self {
            Self::Number(ticks) => Some(ticks),
            Self::Text(text) => text.parse().ok(),
        };
        ticks.filter(|ticks| *ticks > 0)
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RuncConfigWire {
    rootfs: Option<String>,
    readonlyfs: bool,
    hostname: Option<String>,
    namespaces: Option<Vec<NamespaceWire>>,
    capabilities: Option<RuncCapabilitiesWire>,
    mask_paths: Option<Vec<String>>,
    readonly_paths: Option<Vec<String>>,
    mounts: Option<Vec<RuncMountWire>>,
    seccomp: Option<serde::de::IgnoredAny>,
    apparmor_profile: Option<String>,
    process_label: Option<String>,
    no_new_privileges: bool,
    uid_mappings: Option<Vec<serde::de::IgnoredAny>>,
    version: Option<String>,
    labels: Option<Vec<String>>,
}

/// libcontainer has no JSON tags here, so the names are Go's.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RuncCapabilitiesWire {
    bounding: Option<Vec<String>>,
    effective: Option<Vec<String>>,
    permitted: Option<Vec<String>>,
    inheritable: Option<Vec<String>>,
    ambient: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct RuncMountWire {
    #[serde(default)]
    destination: String,
    source: Option<String>,
    device: Option<String>,
}

impl RuncConfigWire {
    fn into_summary(self) -> SpecSummary {
        let mut omitted = 0;
        let (namespaces, unknown_namespaces) = declared_namespaces(
            self.namespaces,
            NamespaceKind::from_clone_name,
            &mut omitted,
        );
        let mount = |wire: RuncMountWire| DeclaredMount {
            destination: wire.destination,
            source: present(wire.source),
            kind: present(wire.device),
            options: Vec::new(),
        };
        let mounts = bounded(self.mounts, &mut omitted)
            .into_iter()
            .map(mount)
            .collect();
        let capabilities = self.capabilities.map(|caps| DeclaredCapabilities {
            bounding: bounded(caps.bounding, &mut omitted),
            effective: bounded(caps.effective, &mut omitted),
            permitted: bounded(caps.permitted, &mut omitted),
            inheritable: bounded(caps.inheritable, &mut omitted),
            ambient: bounded(caps.ambient, &mut omitted),
        });
        SpecSummary {
            oci_version: present(self.version),
            namespaces,
            unknown_namespaces,
            root_path: present(self.rootfs),
            readonly_root: self.readonlyfs,
            hostname: present(self.hostname),
            no_new_privileges: self.no_new_privileges,
            capabilities,
            masked_paths: bounded(self.mask_paths, &mut omitted),
            readonly_paths: bounded(self.readonly_paths, &mut omitted),
            mounts,
            omitted,
            seccomp: self.seccomp.is_some(),
            apparmor_profile: present(self.apparmor_profile),
            selinux_label: present(self.process_label),
            id_mapped: self.uid_mappings.is_some_and(|maps| !maps.is_empty()),
            ..SpecSummary::default()
        }
    }
}

/// What crun keeps of a container. The id is the name of the directory that the file lies in.
#[derive(Clone, Debug, PartialEq)]
pub struct CrunStatus {
    /// Init's pid; `None` once it is gone.
    pub init_pid: Option<u32>,
    /// Init's start in clock ticks since boot.
    pub init_start_ticks: Option<u64>,
    /// Cgroup.
    pub cgroup_paths: CgroupPaths,
    /// Systemd scope, with the systemd driver.
    pub scope: Option<String>,
    /// Whether systemd made the cgroup.
    pub systemd_cgroup: bool,
    /// Bundle directory.
    pub bundle: Option<String>,
    /// Root file system, relative to the bundle or absolute.
    pub rootfs: Option<String>,
    /// Creation time, RFC 3339.
    pub created: Option<String>,
    /// Name of the user who ran crun.
    pub owner: Option<String>,
}

const CRUN_STATUS: &str = "crun status";

/// Parses crun's `status`.
///
/// # Errors
/// When it is not such a file or names no bundle.
pub fn parse_crun_status(bytes: &[u8]) -> Result<CrunStatus, ParseError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Wire {
        #[serde(default)]
        pid: i64,
        process_start_time: Option<Ticks>,
        cgroup_path: Option<String>,
        scope: Option<String>,
        rootfs: Option<String>,
        #[serde(default)]
        systemd_cgroup: bool,
        bundle: Option<String>,
        created: Option<String>,
        owner: Option<String>,
    }
    let wire: Wire = json(CRUN_STATUS, bytes)?;
    let bundle = present(wire.bundle);
    if bundle.is_none() {
        return Err(ParseError::Missing {
            format: CRUN_STATUS,
            field: "bundle",
        });
    }
    Ok(CrunStatus {
        init_pid: positive_pid(wire.pid),
        init_start_ticks: wire.process_start_time.and_then(Ticks::known),
        cgroup_paths: CgroupPaths::from_path(wire.cgroup_path.as_deref().unwrap_or("")),
        scope: present(wire.scope),
        systemd_cgroup: wire.systemd_cgroup,
        bundle,
        rootfs: present(wire.rootfs),
        created: present(wire.created),
        owner: present(wire.owner),
    })
}

/// What `config.json` declares.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OciConfig {
    /// The declared shape.
    pub spec: SpecSummary,
    /// Annotations, where managers leave names.
    pub annotations: BTreeMap<String, String>,
}

const OCI_CONFIG: &str = "oci config.json";

/// Parses a bundle's `config.json`.
///
/// # Errors
/// When it is not JSON of that format or names no version.
pub fn parse_oci_config(bytes: &[u8]) -> Result<OciConfig, ParseError> {
    let mut wire: ConfigWire = json(OCI_CONFIG, bytes)?;
    if wire.oci_version.as_deref().is_none_or(str::is_empty) {
        return Err(ParseError::Missing {
            format: OCI_CONFIG,
            field: "ociVersion",
        });
    }
    let annotations = wire.annotations.take().unwrap_or_default();
    Ok(OciConfig {
        spec: wire.into_summary(),
        annotations,
    })
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ConfigWire {
    oci_version: Option<String>,
    hostname: Option<String>,
    root: Option<RootWire>,
    process: Option<ProcessWire>,
    mounts: Option<Vec<MountWire>>,
    linux: Option<LinuxWire>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RootWire {
    path: Option<String>,
    readonly: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ProcessWire {
    terminal: Option<bool>,
    user: Option<UserWire>,
    no_new_privileges: Option<bool>,
    capabilities: Option<CapabilitiesWire>,
    apparmor_profile: Option<String>,
    selinux_label: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct UserWire {
    uid: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CapabilitiesWire {
    bounding: Option<Vec<String>>,
    effective: Option<Vec<String>>,
    permitted: Option<Vec<String>>,
    inheritable: Option<Vec<String>>,
    ambient: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct MountWire {
    destination: String,
    source: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    options: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct LinuxWire {
    namespaces: Option<Vec<NamespaceWire>>,
    cgroups_path: Option<String>,
    masked_paths: Option<Vec<String>>,
    readonly_paths: Option<Vec<String>>,
    rootfs_propagation: Option<String>,
    seccomp: Option<SeccompWire>,
    resources: Option<ResourcesWire>,
    uid_mappings: Option<Vec<serde::de::IgnoredAny>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NamespaceWire {
    #[serde(rename = "type")]
    kind: String,
    path: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SeccompWire {
    default_action: Option<String>,
    syscalls: Option<Vec<serde::de::IgnoredAny>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ResourcesWire {
    devices: Option<Vec<DeviceRuleWire>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DeviceRuleWire {
    allow: bool,
    #[serde(rename = "type")]
    kind: Option<String>,
    major: Option<i64>,
    minor: Option<i64>,
    access: Option<String>,
}

impl ConfigWire {
    fn into_summary(self) -> SpecSummary {
        let Self {
            oci_version,
            hostname,
            root,
            process,
            mounts,
            linux,
            annotations: _,
        } = self;
        let root = root.unwrap_or_default();
        let process = process.unwrap_or_default();
        let linux = linux.unwrap_or_default();
        let mut omitted = 0;
        let (namespaces, unknown_namespaces) =
            declared_namespaces(linux.namespaces, NamespaceKind::from_oci_name, &mut omitted);
        let capabilities = process.capabilities.map(|caps| DeclaredCapabilities {
            bounding: bounded(caps.bounding, &mut omitted),
            effective: bounded(caps.effective, &mut omitted),
            permitted: bounded(caps.permitted, &mut omitted),
            inheritable: bounded(caps.inheritable, &mut omitted),
            ambient: bounded(caps.ambient, &mut omitted),
        });
        SpecSummary {
            oci_version,
            namespaces,
            unknown_namespaces,
            cgroups_path: present(linux.cgroups_path),
            root_path: present(root.path),
            readonly_root: root.readonly.unwrap_or(false),
            rootfs_propagation: present(linux.rootfs_propagation),
            hostname: present(hostname),
            terminal: process.terminal.unwrap_or(false),
            no_new_privileges: process.no_new_privileges.unwrap_or(false),
            uid: process.user.and_then(|user| user.uid),
            capabilities,
            masked_paths: bounded(linux.masked_paths, &mut omitted),
            readonly_paths: bounded(linux.readonly_paths, &mut omitted),
            mounts: declared_mounts(mounts, &mut omitted),
            omitted,
            seccomp: linux.seccomp.is_some_and(|filter| filter.restricts()),
            apparmor_profile: present(process.apparmor_profile),
            selinux_label: present(process.selinux_label),
            all_devices: allows_all_devices(
                &linux
                    .resources
                    .and_then(|resources| resources.devices)
                    .unwrap_or_default(),
            ),
            id_mapped: linux.uid_mappings.is_some_and(|maps| !maps.is_empty()),
        }
    }
}

impl SeccompWire {
    /// A filter that allows by default and lists nothing filters nothing.
    fn restricts(&self) -> bool {
        self.default_action.as_deref() != Some("SCMP_ACT_ALLOW")
            || self
                .syscalls
                .as_ref()
                .is_some_and(|rules| !rules.is_empty())
    }
}

fn declared_mounts(mounts: Option<Vec<MountWire>>, omitted: &mut usize) -> Vec<DeclaredMount> {
    let mut declared = Vec::new();
    for wire in bounded(mounts, omitted) {
        let MountWire {
            destination,
            source,
            kind,
            options,
        } = wire;
        let options = bounded(options, omitted);
        declared.push(DeclaredMount {
            destination,
            source: present(source),
            kind,
            options,
        });
    }
    declared
}

fn declared_namespaces(
    wires: Option<Vec<NamespaceWire>>,
    kind_of: fn(&str) -> Option<NamespaceKind>,
    omitted: &mut usize,
) -> (Vec<DeclaredNamespace>, Vec<String>) {
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for NamespaceWire { kind, path } in bounded(wires, omitted) {
        match kind_of(&kind) {
            Some(kind) => known.push(DeclaredNamespace {
                kind,
                path: present(path),
                inum: None,
            }),
            None => unknown.push(kind),
        }
    }
    (known, unknown)
}

/// The last rule about all devices decides; narrower rules cannot take back what it allows except one
/// by one, which still leaves the rest.
fn allows_all_devices(rules: &[DeviceRuleWire]) -> bool {
    let any = |number: Option<i64>| number.is_none_or(|n| n < 0);
    let all = |rule: &&DeviceRuleWire| {
        matches!(rule.kind.as_deref(), None | Some("" | "a")) && any(rule.major) && any(rule.minor)
    };
    let last = rules.iter().rfind(all);
    last.is_some_and(|rule| {
        rule.allow
            && rule
                .access
                .as_deref()
                .is_none_or(|a| a.is_empty() || a.contains('w'))
    })
}

/// Empty is how Go writes "absent".
fn present(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// At most [`limits::SPEC_LIST`] entries; the rest is counted.
fn bounded<T>(list: Option<Vec<T>>, omitted: &mut usize) -> Vec<T> {
    let mut list = list.unwrap_or_default();
    *omitted += list.len().saturating_sub(limits::SPEC_LIST);
    list.truncate(limits::SPEC_LIST);
    list
}

#[cfg(test)]
mod tests;
