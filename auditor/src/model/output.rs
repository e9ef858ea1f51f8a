//! What leaves the auditor: one record, one JSON line.
//!
//! These types *are* the wire format `auditor/1`: `auditor schema` prints the JSON Schema that is
//! derived from them, and every line validates against it. A new optional field is a minor change;
//! anything else is a new major.
//!
//! A line has a budget: at most [`MEDIAN_BYTES`] in the median. So a field that says nothing is absent,
//! and what is the same in all lines of a run, or of a rule, stands once, in [`Start`].

use super::kinds::{
    Confidence, Dimension, NsKind, PairClass, RuleId, Severity, Tier, Transition, Verdict,
};
use super::own::OwnPrivileges;
use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// The version of the schema that stands in every line.
pub const SCHEMA: &str = "auditor/1";
/// Bytes that a violation may have in the median, without the newline.
pub const MEDIAN_BYTES: usize = 900;
/// The id of the host.
const HOST_ID: &str = "host";

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Record {
    /// First line of a stream.
    Start(Box<Start>),
    /// Isolation or privilege is violated.
    Violation(Box<Finding>),
    /// Worth a line, changes no exit code.
    Audit(Box<Finding>),
    /// Model and kernel differ and no event explains it.
    Drift(Box<Finding>),
    /// A pair that was violated is isolated again.
    Resolved(Box<Resolved>),
    /// Another policy is in force.
    Policy(Box<PolicyChange>),
    /// Evidence was lost.
    Loss(Box<Loss>),
    /// Sign of life.
    Heartbeat(Box<Heartbeat>),
    /// Last line of a stream.
    Stop(Box<Stop>),
}

impl Record {
    /// What it has in common with every other one.
    #[must_use]
    pub fn head(&self) -> &Head {
        match self {
            Self::Start(r) => &r.head,
            Self::Violation(r) | Self::Audit(r) | Self::Drift(r) => &r.head,
            Self::Resolved(r) => &r.head,
            Self::Policy(r) => &r.head,
            Self::Loss(r) => &r.head,
            Self::Heartbeat(r) => &r.head,
            Self::Stop(r) => &r.head,
        }
    }
}

/// A line of `auditor replay --diff-policy`: it comes under one of the two policies only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Changed {
    /// Under which.
    pub change: Change,
    /// The line.
    #[serde(flatten)]
    pub record: Record,
}

/// Under which of two policies a line comes.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Under the first only.
    Removed,
    /// Under the second only.
    Added,
}

/// What every line has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Head {
    /// Always `auditor/1`.
    pub schema: String,
    /// Number of the line in its stream, from 1.
    pub seq: u64,
    /// UTC with nanoseconds, RFC 3339.
    pub time: String,
    /// Nanoseconds since boot, suspend included.
    pub boottime_ns: u64,
    /// Name of the machine.
    pub node: String,
    /// `/proc/sys/kernel/random/boot_id`. Only in lines about the run itself (`start`, `loss`, `heartbeat`,
    /// `stop`): any other line belongs to the last start of its node before it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub boot_id: String,
}

/// A violation, an audit record, or a drift.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// Common part.
    #[serde(flatten)]
    pub head: Head,
    /// Tier of the witnessing hook.
    pub tier: Tier,
    /// The rule.
    pub rule: RuleId,
    /// The transition that the rule cites; absent for static pairs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transition: Option<Transition>,
    /// In which dimension.
    pub dimension: Dimension,
    /// How bad.
    pub severity: Severity,
    /// The dimension's verdict; absent in audit records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// ι of the pair before and after; absent in audit records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iota: Option<IotaChange>,
    /// What the two are to each other; absent where both are one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pair_class: Option<PairClass>,
    /// How sure; absent when exact.
    #[serde(default = "exact", skip_serializing_if = "is_exact")]
    pub confidence: Confidence,
    /// Who did it (or the lower-named of a static pair).
    pub subject: Party,
    /// Against whom.
    pub object: Party,
    /// What should be there; absent where nothing definite should.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Evidence>,
    /// What is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<Evidence>,
    /// What the verdict rests on.
    pub witness: Witness,
    /// Of a critical violation: numbers of the earlier lines of this stream that weakened the same container, oldest
    /// first; at most eight. Absent when there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weakening: Vec<u64>,
    /// Of a critical violation: what the container has had from the start that lets it do this: capabilities,
    /// namespaces that it shares, directories of the host. Absent when nothing does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub explained_by: Vec<String>,
    /// A critical violation that neither an earlier line nor the container's configuration explains; absent when
    /// explained, and where nothing can be said.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unexplained: bool,
    /// One sentence.
    pub message: String,
    /// Findings that this line stands for beside its own: folded repeats, or those over the rate limit;
    /// absent when none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub suppressed: u64,
    /// Events lost before this line; absent when none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost_events: u64,
}

/// ι before and after: 1, 0, or null where a required dimension is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IotaChange {
    /// Before.
    pub before: Option<u8>,
    /// After.
    pub after: Option<u8>,
}

/// What kind of thing an entity is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum EntityKind {
    /// The machine itself.
    Host,
    /// A container, known or not.
    Container,
    /// A virtual machine.
    Vm,
}

/// One side of a finding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Party {
    /// Its kind.
    pub entity: EntityKind,
    /// Stable id: `<runtime>:<full id>`, `unknown:<cgroup path>`; absent for the `host`.
    #[serde(default = "host_id", skip_serializing_if = "is_host_id")]
    pub id: String,
    /// Human name, where one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Runtime, where the id does not begin with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// `namespace/name` of the pod, or its uid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Start of its init, nanoseconds since boot: tells incarnations of one id apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<u64>,
    /// The task concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskInfo>,
}

/// A task in a finding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskInfo {
    /// Thread group id in the initial pid namespace.
    pub pid: u32,
    /// Thread id in the initial pid namespace; absent for the leader of its group, whose id is `pid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tid: Option<u32>,
    /// Start, nanoseconds since boot.
    pub start_boottime_ns: u64,
    /// Command name.
    pub comm: String,
    /// Name of the last executed file, as the kernel kept it; absent when not seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// Real user id in the initial user namespace.
    pub uid: u32,
    /// Command names of parents, nearest first; at most three.
    pub ancestry: Vec<String>,
}

/// What was expected or observed: one tagged kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// A namespace.
    Ns {
        /// Its kind.
        kind: NsKind,
        /// Its inode number on nsfs.
        inum: u32,
        /// Whether it is the machine's initial one; absent when not.
        #[serde(default, skip_serializing_if = "is_false")]
        initial: bool,
    },
    /// A cgroup.
    Cgroup {
        /// Its path below the hierarchy's root; absent where the id is not known by name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
        /// Its id (inode number).
        id: u64,
        /// Hierarchy id; 0 is v2.
        hierarchy: u32,
    },
    /// A file or directory.
    File {
        /// Device (major << 20 | minor).
        dev: u32,
        /// Inode number.
        ino: u64,
        /// Mount namespace of its mount; 0 when detached or unknown.
        mnt_ns: u32,
        /// Its path from the root of its file system; absent when it was not seen.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
        /// `read`, `write`, `execute`, `hold`; absent for directories that are a task's own.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        access: Vec<String>,
    },
    /// A task of somebody else.
    Task {
        /// Thread group id in the initial pid namespace.
        pid: u32,
        /// Thread id, where it is not the leader's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tid: Option<u32>,
        /// Start, nanoseconds since boot.
        start_boottime_ns: u64,
        /// Command name; absent when it is not known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        comm: Option<String>,
        /// What was done or asked for: `signal 9`, `attach`, `read`.
        access: String,
        /// Why the kernel refused it; absent when it did not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        refused: Option<String>,
    },
    /// A mount.
    Mount {
        /// Where it is, seen from the entity's root.
        point: String,
        /// What is mounted: the directory of the file system.
        root: String,
        /// Kind of file system.
        fs_type: String,
        /// Device (major << 20 | minor) of the superblock.
        dev: u32,
        /// What is wrong with it: `read_write`, `shared`, `unmasked`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        flags: Vec<String>,
    },
    /// A unix socket.
    Socket {
        /// Its path, or `@` and its abstract name; absent when it has none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Thread group id of who listens; 0: not known.
        peer_pid: u32,
        /// Command name of who listens; absent when it is not known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        peer_comm: Option<String>,
    },
    /// A device.
    Device {
        /// `block` or `character`.
        kind: String,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
        /// Path of the node in its file system.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
        /// `read`, `write`, `make`.
        access: Vec<String>,
    },
    /// A setting of the whole machine.
    Knob {
        /// Its name, as below `/proc/sys`, or its path.
        name: String,
        /// The value written, where it was seen.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<String>,
    },
    /// Part of a container's set-up.
    Setup {
        /// Which: `masked_path`, `capability`, `seccomp`, …
        part: String,
        /// What it is.
        value: String,
    },
    /// Code for the kernel, or a way into it.
    Kernel {
        /// Which: `bpf`, `module`, `kexec`, `perf`, …
        what: String,
        /// Of it: the command, the file, the type.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
    /// A handle that two hold at once.
    Handle {
        /// `file` (one open file), `pipe`, `socket`, `memfd` or `mapping`.
        kind: String,
        /// Device (major << 20 | minor).
        dev: u32,
        /// Inode number; of a unix connection that of the end which names it.
        ino: u64,
        /// Last component of its name, where it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Who holds it, one task of each; at most eight.
        holders: Vec<Holder>,
    },
    /// Credentials.
    Creds {
        /// Real user id.
        uid: u32,
        /// Effective user id.
        euid: u32,
        /// Permitted capabilities by name.
        permitted: Vec<String>,
        /// Effective capabilities by name; absent when they are the permitted ones.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        effective: Option<Vec<String>>,
        /// Inum of their user namespace.
        user_ns: u32,
    },
}

/// Who holds a handle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Holder {
    /// Stable id of the entity.
    pub id: String,
    /// Thread group id of the task in the initial pid namespace.
    pub pid: u32,
    /// The descriptor's number; absent for a mapping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<u32>,
    /// Command name; absent when it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comm: Option<String>,
}

/// What a verdict rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Witness {
    /// The hook that saw it.
    pub hook: String,
    /// The syscall that the actor was in; absent: in none, or not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syscall: Option<String>,
    /// Numbers of the events in the stream of events.
    pub events: Vec<u64>,
}

/// A pair is isolated again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Resolved {
    /// Common part.
    #[serde(flatten)]
    pub head: Head,
    /// Which rule's violation.
    pub rule: RuleId,
    /// In which dimension.
    pub dimension: Dimension,
    /// ι before and after.
    pub iota: IotaChange,
    /// One side.
    pub subject: Party,
    /// The other.
    pub object: Party,
    /// Always true: the pair remembers.
    pub ever_violated: bool,
    /// One sentence.
    pub message: String,
}

/// Another policy took the place of the one that was in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyChange {
    /// Common part.
    #[serde(flatten)]
    pub head: Head,
    /// Digest (SHA-256, hexadecimal) of the policy that holds for the lines that follow.
    pub policy_digest: String,
    /// Digest of the one that held for the lines before.
    pub previous_digest: String,
    /// One sentence.
    pub message: String,
}

/// State of one hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HookState {
    /// Name of the hook.
    pub hook: String,
    /// `trampoline`, `tracepoint` or `scan`.
    pub tier: Tier,
    /// `fires`, `attached` (not exercised), `silent`, `failed`, `not_needed`.
    pub state: String,
    /// Whether the kernel asks its program as one of its security modules, and so leaves it out for nobody. What was refused
    /// before it is asked, it does not see.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub module: bool,
    /// What the kernel said, for a failed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What is not seen without it; absent where it works or something else sees the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_seen: Option<String>,
}

/// First line: who looks, with what, and what it cannot see.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Start {
    /// Common part.
    #[serde(flatten)]
    pub head: Head,
    /// Version of the auditor.
    pub version: String,
    /// Kernel release.
    pub kernel: String,
    /// Machine architecture.
    pub arch: String,
    /// Best live tier that works.
    pub tier: Tier,
    /// Every hook.
    pub hooks: Vec<HookState>,
    /// Dimensions that nothing evaluates here.
    pub not_evaluated: Vec<Dimension>,
    /// Always `structural`: what every verdict of the run claims. Structural isolation is not
    /// non-interference.
    pub claim: String,
    /// Where to read on about each rule.
    pub references: BTreeMap<RuleId, Vec<String>>,
    /// Digest (SHA-256, hexadecimal) of the effective policy.
    pub policy_digest: String,
    /// Entities known after the first snapshot.
    pub entities: usize,
    /// Tasks known after the first snapshot.
    pub tasks: usize,
    /// The auditor's own capabilities.
    #[serde(default, rename = "self", skip_serializing_if = "Option::is_none")]
    pub own: Option<Box<OwnPrivileges>>,
}

/// Events were lost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Loss {
    /// Common part.
    #[serde(flatten)]
    pub head: Head,
    /// Where: `ring`, `queue`, `sink`, `trace`, `program`, `early`.
    pub place: String,
    /// Lost since the last loss line.
    pub count: u64,
    /// Lost since the start.
    pub total: u64,
    /// By hook.
    pub by_hook: BTreeMap<String, u64>,
    /// By CPU number.
    #[serde(deserialize_with = "numbered")]
    pub by_cpu: BTreeMap<u32, u64>,
    /// What became unknown until the next sweep.
    pub unknown: Vec<Dimension>,
    /// One sentence.
    pub message: String,
}

/// Sign of life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Heartbeat {
    /// Common part.
    #[serde(flatten)]
    pub head: Head,
    /// Counters.
    #[serde(flatten)]
    pub counters: Counters,
    /// Digest of the model (SHA-256, hexadecimal, first 16 digits).
    pub model_digest: String,
}

/// Last line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stop {
    /// Common part.
    #[serde(flatten)]
    pub head: Head,
    /// Counters.
    #[serde(flatten)]
    pub counters: Counters,
    /// Why: `signal`, `duration`, `exit_on`, `hung_up`.
    pub reason: String,
    /// The auditor's own capabilities, over the whole run.
    #[serde(default, rename = "self", skip_serializing_if = "Option::is_none")]
    pub own: Option<Box<OwnPrivileges>>,
}

/// Counters of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counters {
    /// Kernel events consumed.
    pub events: u64,
    /// Events lost, anywhere.
    pub lost_events: u64,
    /// Violation lines.
    pub violations: u64,
    /// Audit lines.
    pub audits: u64,
    /// Drift lines.
    pub drifts: u64,
    /// Findings folded or over the rate limit.
    pub suppressed: u64,
    /// States that a sweep repaired.
    pub repaired: u64,
    /// Living entities, the host not counted.
    pub entities: u64,
    /// Living tasks.
    pub tasks: u64,
    /// Findings that the policy allowed.
    pub allowed: u64,
}

/// For fields that are absent when they say nothing.
fn is_false(value: &bool) -> bool {
    !value
}

/// As [`is_false`].
fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// As [`is_false`].
fn is_exact(value: &Confidence) -> bool {
    *value == Confidence::Exact
}

/// As [`is_false`].
fn is_host_id(id: &str) -> bool {
    id == HOST_ID
}

/// What an absent confidence means.
fn exact() -> Confidence {
    Confidence::Exact
}

/// What an absent id means.
fn host_id() -> String {
    HOST_ID.to_owned()
}

/// Reads a map whose keys are numbers. By itself serde cannot do that inside a tagged enum: it buffers
/// the object there, and a buffered key stays text.
fn numbered<'de, D: Deserializer<'de>>(input: D) -> Result<BTreeMap<u32, u64>, D::Error> {
    BTreeMap::<String, u64>::deserialize(input)?
        .into_iter()
        .map(|(key, count)| Ok((key.parse().map_err(D::Error::custom)?, count)))
        .collect()
}
