//! Policy: what the owner of a machine declares as normal.
//!
//! A policy never hides a fact. It names what is required for ι, what may be shared, which findings
//! are expected, and which capabilities a role permits; everything else is a finding. Unknown keys
//! and names are refused with their position, because a typing error in a policy is a hole in it.
//!
//! ```toml
//! [defaults]
//! required = ["mnt", "pid", "net", "ipc", "uts", "cgroup", "root", "references"]
//! privilege_gain = "audit"            # or "violation", "ignore"
//!
//! [[role]]
//! name = "web"
//! match = { image = "nginx*", namespace = "prod", label.tier = "front" }  # every key must match
//! capabilities = ["NET_BIND_SERVICE"] # permissions(r); several roles intersect
//!
//! [[share]]
//! between = ["role:web", "runc:9f2c*"]
//! dimensions = ["net"]
//! reason = "same service"
//!
//! [[allow]]
//! rule = "namespace-nest"
//! subject = "role:web"
//! reason = "rootless builds"
//! ```
//!
//! Roles come from policy; `permitted(p) = ⋂ permissions(r)` over the roles that match p.

pub(crate) mod glob;
mod parse;
#[cfg(test)]
mod tests;

use super::facts::EntityProfile;
use super::kinds::{Dimension, RuleId};
use super::output::EntityKind;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// Bounds of a policy. A policy is written by people; what exceeds these is a mistake.
pub mod limits {
    /// Bytes of policy text.
    pub const TEXT_BYTES: usize = 1 << 20;
    /// Entries of each kind: roles, shares, allows.
    pub const ENTRIES: usize = 1024;
    /// Items of one list, or keys of one `match`.
    pub const ITEMS: usize = 64;
    /// Bytes of one string.
    pub const STRING_BYTES: usize = 1024;
}

/// The dimensions that ι requires unless the policy says otherwise.
pub const REQUIRED: [Dimension; 8] = [
    Dimension::Mnt,
    Dimension::Pid,
    Dimension::Net,
    Dimension::Ipc,
    Dimension::Uts,
    Dimension::Cgroup,
    Dimension::Root,
    Dimension::References,
];

/// What to make of capabilities or user ids that grow by a legitimate call (a set-user-id program).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrivilegeGain {
    /// An audit record.
    #[default]
    Audit,
    /// A violation.
    Violation,
    /// Nothing.
    Ignore,
}

/// A policy in force. Its serialized form is canonical: equal policies serialize equally.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The dimensions that ι requires.
    pub required: BTreeSet<Dimension>,
    /// What to make of legitimate gains of privilege.
    pub privilege_gain: PrivilegeGain,
    /// Roles.
    pub roles: Vec<Role>,
    /// Declared sharing.
    pub shares: Vec<Share>,
    /// Expected findings.
    pub allows: Vec<Allow>,
}

/// A name for entities, and what they may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Unique name.
    pub name: String,
    /// Who has this role.
    #[serde(rename = "match")]
    pub matcher: Matcher,
    /// Permitted capabilities as a bit mask; `None` permits whatever other roles permit.
    pub capabilities: Option<u64>,
}

/// Which entities a role is for. Each given glob must match; a glob never matches what is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matcher {
    /// Globs by key: `id`, `image`, `kind`, `name`, `namespace`, `runtime`, `uid`.
    pub fields: BTreeMap<String, String>,
    /// Globs by label.
    pub labels: BTreeMap<String, String>,
}

/// One side of a `share` or `allow`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// `host`.
    Host,
    /// `role:NAME`.
    Role(String),
    /// A glob over stable ids, with or without their `<runtime>:`.
    Id(String),
}

/// Two sides may share these dimensions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// The two sides, in order of their names: sharing has no direction.
    pub between: [Endpoint; 2],
    /// What they may share.
    pub dimensions: BTreeSet<Dimension>,
    /// Why.
    pub reason: String,
}

/// A finding is expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allow {
    /// Of this rule.
    pub rule: RuleId,
    /// By this one.
    pub subject: Endpoint,
    /// Against this one; anyone when absent.
    pub object: Option<Endpoint>,
    /// In this dimension; any when absent.
    pub dimension: Option<Dimension>,
    /// Why.
    pub reason: String,
}

/// A policy text that is refused, with its position. Displays as `policy.toml:12:3: unknown key …`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{origin}:{line}:{column}: {message}")]
pub struct PolicyError {
    /// Name of the text, as a person knows it.
    pub origin: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong and what would be right.
    pub message: String,
}

/// On which sides of which shares an entity stands: computed once per entity, so that a pair
/// costs two look-ups and no glob.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShareSides {
    sides: [BTreeSet<u16>; 2],
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            required: REQUIRED.into(),
            privilege_gain: PrivilegeGain::Audit,
            roles: Vec::new(),
            shares: Vec::new(),
            allows: Vec::new(),
        }
    }
}

impl Policy {
    /// A commented policy text that means the same as [`Policy::default`].
    pub const DEFAULT_TEXT: &'static str = include_str!("policy/default.toml");

    /// Reads a policy. `origin` names the text in errors.
    ///
    /// # Errors
    /// On anything that is not a complete, known and bounded policy.
    pub fn parse(text: &str, origin: &str) -> Result<Self, PolicyError> {
        parse::policy(text, origin)
    }

    /// SHA-256, hexadecimal, over the canonical form: comments, spelling and the order of keys do
    /// not matter; the order of roles, shares and allows does, since the first match is cited.
    ///
    /// # Panics
    /// Never: the canonical form has string keys only and no floats.
    #[must_use]
    pub fn digest(&self) -> String {
        use std::fmt::Write;
        let canonical = serde_json::to_vec(self).expect("plain data with string keys serializes");
        Sha256::digest(canonical)
            .iter()
            .fold(String::with_capacity(64), |mut hex, byte| {
                // Writing to a String cannot fail.
                let _ = write!(hex, "{byte:02x}");
                hex
            })
    }

    /// Indices of the roles that an entity has.
    #[must_use]
    pub fn roles(&self, profile: &EntityProfile) -> Vec<usize> {
        let has = |role: &Role| role.matcher.matches(profile);
        self.roles
            .iter()
            .enumerate()
            .filter(|(_, role)| has(role))
            .map(|(i, _)| i)
            .collect()
    }

    /// Names of the roles that limit what an entity may have.
    #[must_use]
    pub fn limits(&self, profile: &EntityProfile) -> Vec<&str> {
        let limits = |role: &&Role| role.capabilities.is_some() && role.matcher.matches(profile);
        let roles = self.roles.iter().filter(limits);
        roles.map(|role| role.name.as_str()).collect()
    }

    /// ⋂ permissions(r) over the roles that an entity has; `None` when none of them restricts it.
    #[must_use]
    pub fn permitted(&self, profile: &EntityProfile) -> Option<u64> {
        let of = |role: &Role| role.capabilities.filter(|_| role.matcher.matches(profile));
        self.roles.iter().filter_map(of).reduce(|a, b| a & b)
    }

    /// The first entry that expects this finding.
    #[must_use]
    pub fn allows(
        &self,
        rule: RuleId,
        subject: &EntityProfile,
        object: Option<&EntityProfile>,
        dimension: Dimension,
    ) -> Option<&Allow> {
        self.allows.iter().find(|allow| {
            allow.rule == rule
                && allow.dimension.is_none_or(|d| d == dimension)
                && self.stands_at(&allow.subject, subject)
                && allow
                    .object
                    .as_ref()
                    .is_none_or(|endpoint| object.is_some_and(|o| self.stands_at(endpoint, o)))
        })
    }

    /// The first entry by which two entities may share a dimension. Symmetric.
    #[must_use]
    pub fn shares(
        &self,
        a: &EntityProfile,
        b: &EntityProfile,
        dimension: Dimension,
    ) -> Option<&Share> {
        self.share_between(&self.share_sides(a), &self.share_sides(b), dimension)
    }

    /// On which sides of which shares an entity stands.
    #[must_use]
    pub fn share_sides(&self, profile: &EntityProfile) -> ShareSides {
        let mut sides = ShareSides::default();
        for (i, share) in (0u16..).zip(&self.shares) {
            for (set, endpoint) in sides.sides.iter_mut().zip(&share.between) {
                if self.stands_at(endpoint, profile) {
                    set.insert(i);
                }
            }
        }
        sides
    }

    /// [`Policy::shares`] for entities whose sides are known.
    #[must_use]
    pub fn share_between(
        &self,
        a: &ShareSides,
        b: &ShareSides,
        dimension: Dimension,
    ) -> Option<&Share> {
        let across = |x: &ShareSides, y: &ShareSides| {
            let both = x.sides[0].intersection(&y.sides[1]).copied();
            both.map(usize::from)
                .find(|i| self.shares[*i].dimensions.contains(&dimension))
        };
        let first = [across(a, b), across(b, a)].into_iter().flatten().min()?;
        self.shares.get(first)
    }

    fn stands_at(&self, endpoint: &Endpoint, profile: &EntityProfile) -> bool {
        match endpoint {
            Endpoint::Host => profile.kind == EntityKind::Host,
            Endpoint::Role(name) => self
                .roles
                .iter()
                .any(|r| r.name == *name && r.matcher.matches(profile)),
            Endpoint::Id(pattern) => id_matches(pattern, &profile.key),
        }
    }
}

impl Matcher {
    /// Keys of a `match` beside `label.*`.
    pub const FIELDS: [&'static str; 7] =
        ["id", "image", "kind", "name", "namespace", "runtime", "uid"];

    /// Whether every given glob matches.
    #[must_use]
    pub fn matches(&self, profile: &EntityProfile) -> bool {
        self.fields
            .iter()
            .all(|(key, pattern)| field_matches(key, pattern, profile))
            && self.labels.iter().all(|(key, pattern)| {
                profile
                    .labels
                    .get(key)
                    .is_some_and(|value| glob::matches(pattern, value))
            })
    }
}

fn field_matches(key: &str, pattern: &str, profile: &EntityProfile) -> bool {
    let optional = |value: &Option<String>| {
        value
            .as_deref()
            .is_some_and(|value| glob::matches(pattern, value))
    };
    match key {
        "id" => id_matches(pattern, &profile.key),
        "image" => optional(&profile.image),
        "kind" => glob::matches(pattern, kind_name(profile.kind)),
        "name" => optional(&profile.name),
        "namespace" => optional(&profile.namespace),
        "runtime" => optional(&profile.runtime),
        "uid" => profile
            .uid
            .is_some_and(|uid| glob::matches(pattern, &uid.to_string())),
        // A key of a newer version, read from a trace: what is not understood matches nothing.
        _ => false,
    }
}

/// A pattern is for the stable id, or for the part behind its `<runtime>:`.
fn id_matches(pattern: &str, key: &str) -> bool {
    glob::matches(pattern, key)
        || key
            .split_once(':')
            .is_some_and(|(_, bare)| glob::matches(pattern, bare))
}

const fn kind_name(kind: EntityKind) -> &'static str {
    match kind {
        EntityKind::Host => "host",
        EntityKind::Container => "container",
        EntityKind::Vm => "vm",
    }
}
