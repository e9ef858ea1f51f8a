//! The OCI spec of a bundle, `config.json`, reduced to what isolation depends on.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::super::container::{DeclaredCapabilities, DeclaredMount, NamespaceKind, SpecSummary};
use super::{NamespaceWire, ParseError, bounded, declared_namespaces, json, present};
use crate::model::device::Device;
use crate::model::layers;

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
    hooks: Option<HooksWire>,
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
    devices: Option<Vec<DeviceWire>>,
}

/// Those that run before the container's program does.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct HooksWire {
    prestart: Option<Vec<serde::de::IgnoredAny>>,
    create_runtime: Option<Vec<serde::de::IgnoredAny>>,
    create_container: Option<Vec<serde::de::IgnoredAny>>,
    start_container: Option<Vec<serde::de::IgnoredAny>>,
}

impl HooksWire {
    fn is_empty(&self) -> bool {
        let stages = [
            &self.prestart,
            &self.create_runtime,
            &self.create_container,
            &self.start_container,
        ];
        stages
            .iter()
            .all(|stage| stage.as_ref().is_none_or(Vec::is_empty))
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DeviceWire {
    #[serde(rename = "type")]
    kind: Option<String>,
    major: Option<i64>,
    minor: Option<i64>,
}

impl DeviceWire {
    /// `None` for what is no device node, or has no number.
    fn declared(&self) -> Option<Device> {
        let block = match self.kind.as_deref() {
            Some("b") => true,
            Some("c" | "u") => false,
            _ => return None,
        };
        Some(Device {
            block,
            major: u32::try_from(self.major?).ok()?,
            minor: u32::try_from(self.minor?).ok()?,
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SeccompWire {
    default_action: Option<String>,
    syscalls: Option<Vec<SyscallRuleWire>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SyscallRuleWire {
    names: Option<Vec<String>>,
    action: Option<String>,
    args: Option<Vec<serde::de::IgnoredAny>>,
}

/// Whether an action refuses a call, whoever listens.
fn refuses(action: Option<&str>) -> bool {
    action.is_some_and(|action| {
        action.starts_with("SCMP_ACT_KILL") || matches!(action, "SCMP_ACT_ERRNO" | "SCMP_ACT_TRAP")
    })
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
            hooks,
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
        let devices = linux
            .devices
            .map(|all| all.iter().filter_map(DeviceWire::declared).collect());
        let devices = bounded(devices, &mut omitted);
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
            seccomp: linux.seccomp.as_ref().is_some_and(SeccompWire::restricts),
            seccomp_refuses: linux.seccomp.as_ref().map(SeccompWire::refused),
            apparmor_profile: present(process.apparmor_profile),
            selinux_label: present(process.selinux_label),
            all_devices: allows_all_devices(
                &linux
                    .resources
                    .and_then(|resources| resources.devices)
                    .unwrap_or_default(),
            ),
            devices_final: omitted == 0 && hooks.unwrap_or_default().is_empty(),
            devices,
            id_mapped: linux.uid_mappings.is_some_and(|maps| !maps.is_empty()),
        }
    }
}

impl SeccompWire {
    /// Of the calls that capabilities are asked for by, those that no rule lets through. A rule with arguments may be
    /// passed by, and one that asks somebody may be told yes.
    fn refused(&self) -> Vec<String> {
        let rules = || self.syscalls.iter().flatten();
        let names = |rule: &SyscallRuleWire, call: &str| {
            rule.names.iter().flatten().any(|name| name == call)
        };
        let by_default = refuses(self.default_action.as_deref());
        let is_refused = |call: &&str| {
            let mut of_it = rules().filter(|rule| names(rule, call)).peekable();
            if of_it.peek().is_none() {
                return by_default;
            }
            let whatever = |rule: &SyscallRuleWire| rule.args.as_ref().is_none_or(Vec::is_empty);
            let mut all = true;
            let mut any = by_default;
            for rule in of_it {
                all &= refuses(rule.action.as_deref());
                any |= whatever(rule);
            }
            all && any
        };
        let calls = layers::CALLS.iter().flat_map(|(_, calls)| calls.iter());
        let calls: BTreeSet<&str> = calls.copied().collect();
        let refused = calls.into_iter().filter(is_refused);
        refused.map(str::to_owned).collect()
    }

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
