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

use super::container::{DeclaredNamespace, NamespaceKind};
use super::limits;

mod config;
mod crun;
mod runc;

pub use config::{OciConfig, parse_oci_config};
pub use crun::{CrunStatus, parse_crun_status};
pub use runc::{RuncState, parse_runc_state};

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

fn positive_pid(pid: i64) -> Option<u32> {
    u32::try_from(pid).ok().filter(|pid| *pid > 0)
}

/// Clock ticks: a number, and a string before runc 1.0.
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
struct NamespaceWire {
    #[serde(rename = "type")]
    kind: String,
    path: Option<String>,
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
