//! The tools whose logs are understood, and what each of them can never tell.

use super::summary::{NotEvaluated, bounded};
use super::{Evidence, json, limits};
use crate::engine::Config;
use crate::model::Dimension;
use auditor_common::limits::CGROUP_SLOTS;
use auditor_common::record::cgroup;
use serde::Serialize;
use serde_json::Value;

/// Whose log it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tool {
    /// Tetragon's JSON export.
    Tetragon,
    /// Tracee's JSON output.
    Tracee,
    /// Falco's JSON alerts.
    Falco,
}

/// No log of such a tool is understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown tool \"{0}\" (known: tetragon, tracee, falco)")]
pub struct UnknownTool(String);

impl std::str::FromStr for Tool {
    type Err = UnknownTool;

    fn from_str(name: &str) -> Result<Self, UnknownTool> {
        Self::ALL
            .into_iter()
            .find(|tool| tool.as_str() == name)
            .ok_or_else(|| UnknownTool(name.to_owned()))
    }
}

impl std::fmt::Display for Tool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

const NO_PATHS: &str = "the tool shows paths, not the mount that a directory lies on";
const NO_FILES: &str = "the tool does not list open files";
const NO_OWNERS: &str = "the tool does not show which user namespace owns another";

impl Tool {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tetragon, Self::Tracee, Self::Falco];

    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tetragon => "tetragon",
            Self::Tracee => "tracee",
            Self::Falco => "falco",
        }
    }

    /// How an engine is made that is fed with such a log. The clock since boot becomes the one since 1970:
    /// logs do not say when their machine booted.
    #[must_use]
    pub fn config(self) -> Config {
        let mut hierarchies = [None; CGROUP_SLOTS];
        hierarchies[cgroup::V2] = Some(0);
        Config {
            hierarchies,
            not_evaluated: self.never().iter().map(|n| n.dimension).collect(),
            imported_from: Some(self.as_str()),
            ..Config::default()
        }
    }

    /// The machine that a line is about, for [`Config::node`]; `None` where the tool does not say.
    #[must_use]
    pub fn node(self, line: &[u8]) -> Option<String> {
        let line = line.get(..limits::LINE_BYTES).unwrap_or(line);
        let value = serde_json::from_slice(line).ok()?;
        self.node_of(&value).map(str::to_owned)
    }

    /// As [`Self::node`], of a line that was read.
    pub(super) fn node_of(self, line: &Value) -> Option<&str> {
        let name = match self {
            Self::Tetragon => "node_name",
            Self::Falco => "hostname",
            // What it calls a host name is that of the process's UTS namespace.
            Self::Tracee => return None,
        };
        json::text(line, name).map(|node| bounded(node, limits::TEXT_BYTES))
    }

    /// Whether its descriptions of processes have namespaces, so that some line may tell the machine's.
    pub(super) const fn has_namespaces(self) -> bool {
        !matches!(self, Self::Falco)
    }

    /// Whether it says of each namespace if it is the machine's.
    pub(super) const fn tells_hosts(self) -> bool {
        matches!(self, Self::Tetragon)
    }

    /// What none of its logs can tell.
    fn never(self) -> Vec<NotEvaluated> {
        let because = |why, dimensions: &[Dimension]| -> Vec<NotEvaluated> {
            let of = |&dimension| NotEvaluated { dimension, why };
            dimensions.iter().map(of).collect()
        };
        let mut never = because(NO_PATHS, &[Dimension::Root, Dimension::Cwd]);
        never.extend(because(NO_FILES, &[Dimension::References]));
        never.extend(because(
            NO_OWNERS,
            &[
                Dimension::Ownership,
                Dimension::Processes,
                Dimension::Mounts,
                Dimension::Handles,
            ],
        ));
        match self {
            Self::Tetragon => {}
            Self::Tracee => never.extend(because(
                "the tool has no event for it",
                &[Dimension::User, Dimension::Time],
            )),
            Self::Falco => never.extend(because(
                "no field of the tool is a namespace or a cgroup",
                &[
                    Dimension::Pid,
                    Dimension::PidForChildren,
                    Dimension::Net,
                    Dimension::Ipc,
                    Dimension::Uts,
                    Dimension::User,
                    Dimension::Time,
                    Dimension::CgroupNs,
                    Dimension::Cgroup,
                ],
            )),
        }
        never
    }

    /// What this log did not tell.
    pub(super) fn not_judged(self, evidence: &Evidence) -> Vec<NotEvaluated> {
        let mut list = self.never();
        let mut add = |missing: bool, why, dimensions: &[Dimension]| {
            for &dimension in dimensions {
                if missing && !list.iter().any(|n| n.dimension == dimension) {
                    list.push(NotEvaluated { dimension, why });
                }
            }
        };
        let proper = [
            Dimension::Net,
            Dimension::Ipc,
            Dimension::Uts,
            Dimension::PidForChildren,
            Dimension::CgroupNs,
        ];
        let placed = [Dimension::Mnt, Dimension::Pid];
        match self {
            Self::Tetragon => {
                let why = "no process has namespaces (--enable-process-ns)";
                let missing = !evidence.namespaces;
                add(missing, why, &placed);
                add(missing, why, &proper);
                add(missing, why, &[Dimension::User, Dimension::Time]);
                let why = "no process has capabilities (--enable-process-cred)";
                add(!evidence.credentials, why, &[Dimension::Privilege]);
                let why = "no tracepoint cgroup_attach_task (a tracing policy)";
                add(!evidence.attaches, why, &[Dimension::Cgroup]);
            }
            Self::Tracee => {
                let why = "no event switch_task_ns";
                add(!evidence.switches, why, &proper);
                add(!evidence.switches && !evidence.namespaces, why, &placed);
                let why = "no event commit_creds";
                add(!evidence.credentials, why, &[Dimension::Privilege]);
                let why = "no event cgroup_attach_task";
                add(!evidence.attaches, why, &[Dimension::Cgroup]);
            }
            Self::Falco => {
                let why = "only joins of the machine's by a container that sees its processes";
                add(true, why, &[Dimension::Mnt]);
                let why = "no alert shows thread.cap_permitted and thread.cap_effective";
                add(!evidence.credentials, why, &[Dimension::Privilege]);
            }
        }
        list.sort_by_key(|n| n.dimension);
        list
    }
}
