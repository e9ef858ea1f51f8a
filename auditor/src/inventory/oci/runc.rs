//! runc's `state.json`: what the low-level runtime under Docker, containerd and CRI-O remembers.
//!
//! The file is Go's default encoding of `libcontainer.State`, so some keys are Go identifiers and absent
//! values may be null, empty or missing.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::super::container::{DeclaredCapabilities, DeclaredMount, NamespaceKind, SpecSummary};
use super::{
    CgroupPaths, NamespaceWire, ParseError, Ticks, bounded, declared_namespaces, json,
    positive_pid, present,
};

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
