//! The rules: what two holders of one object are to each other.
//!
//! Everything in here is a small total function of two origins and a relation. No rule looks at a
//! third entity, at time, or at which of the two came first, so every verdict is symmetric.
//!
//! A shared object is, by the first line that applies,
//!
//! | if | it is |
//! |---|---|
//! | the policy has a `share` for it | `declared_shared` |
//! | one acquired it and does not reach down to the other | `violated` |
//! | one acquired it (from above) | `declared_shared` |
//! | one declared it | `declared_shared` |
//! | both are of one pod (K1) and pods share its dimension | `declared_shared` |
//! | it is an initial namespace of an advisory dimension | `baseline_shared` |
//! | it is a handle that one did not get as a standard stream, and neither is nested in the other | `degraded` |
//! | one has it mounted although its spec is known and does not say so | `degraded` |
//! | one inherited it although its spec is known | `violated` |
//! | otherwise (own, granted, baseline) | `baseline_shared` |
//!
//! The host and every ancestor (K5) reach down; nobody reaches up.
//!
//! Handles (open files, pipes, sockets, memory) are never taken: both sides have to let the other have them. So one that
//! was acquired is a way between the two and no violation, and acquiring does not count as in the table.

use super::reach::Means;
use crate::model::facts::Origin;
use crate::model::kinds::{Dimension, PairClass, Severity, Verdict};
use crate::model::output::EntityKind;

/// What two entities are to each other, sharing aside. Arrays are in the order (a, b).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relation {
    /// Their kinds, where known.
    pub kinds: [Option<EntityKind>; 2],
    /// Whether both belong to one pod.
    pub same_pod: bool,
    /// Which of them the other is nested in.
    pub above: [bool; 2],
    /// Which of them is the host.
    pub host: [bool; 2],
}

impl Relation {
    const fn with_host(&self) -> bool {
        self.host[0] || self.host[1]
    }

    const fn reaches_down(&self, side: usize) -> bool {
        self.above[side] || self.host[side]
    }
}

/// One object in the hands of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sharing {
    /// What the two are to each other.
    pub relation: Relation,
    /// Dimension of the object.
    pub dimension: Dimension,
    /// How each holds it, in the order of the relation.
    pub origins: [Origin; 2],
    /// Whether a `share` of the policy covers it.
    pub by_policy: bool,
    /// Whether it is the host's own.
    pub initial: bool,
}

impl Sharing {
    fn any(&self, origin: Origin) -> bool {
        self.origins.contains(&origin)
    }

    /// A declared join of something that is not the host's: what makes a pair K4.
    #[must_use]
    pub fn is_declared_join(&self) -> bool {
        // A directory of the host that both were given joins them too.
        let is_join = !self.initial || self.dimension == Dimension::Mounts;
        is_join && self.any(Origin::Declared)
    }

    fn acquired_from_beside_or_below(&self) -> bool {
        let by = |side: usize| {
            self.origins[side] == Origin::Acquired && !self.relation.reaches_down(side)
        };
        by(0) || by(1)
    }
}

/// A verdict and how bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Its severity.
    pub severity: Severity,
}

/// The judgement on a user namespace from which one entity could enter another's namespaces.
pub const OWNERSHIP_REACH: Judgement = Judgement {
    verdict: Verdict::Degraded,
    severity: Severity::Medium,
};

/// The judgement on an entity that could do something to another's processes.
#[must_use]
pub const fn reach(means: Means) -> Judgement {
    Judgement {
        verdict: Verdict::Degraded,
        severity: match means {
            Means::Trace => Severity::Medium,
            Means::Signal => Severity::Low,
        },
    }
}

/// Severity by what happened in a dimension.
#[derive(Clone, Copy, Debug)]
struct Severities {
    /// A container took the host's.
    acquired_from_host: Severity,
    /// A container took another container's.
    acquired: Severity,
    /// A container has it although its spec does not say so.
    undeclared: Severity,
    /// Shared with the host by declaration or from the start: never silent.
    shared_with_host: Severity,
}

/// Severities of every dimension that has objects. Whatever a container *takes* of the namespaces is
/// critical, for nobody gave it; what it merely has although nobody declared it weighs by what can be
/// done with it.
const fn severities(dimension: Dimension) -> Severities {
    use Severity::{Critical, High, Info, Low, Medium};
    match dimension {
        Dimension::Mnt | Dimension::Pid | Dimension::Root => {
            severity_row(Critical, Critical, High, Medium)
        }
        Dimension::User => severity_row(Critical, Critical, Medium, Info),
        Dimension::Cgroup => severity_row(High, Critical, High, Medium),
        Dimension::Net | Dimension::Ipc => severity_row(Critical, Critical, High, Medium),
        Dimension::Uts => severity_row(Critical, Critical, High, Info),
        Dimension::PidForChildren => severity_row(Critical, Critical, Medium, Info),
        Dimension::Cwd => severity_row(Critical, Critical, Medium, Info),
        Dimension::References => severity_row(High, High, Medium, Info),
        Dimension::Time | Dimension::CgroupNs => severity_row(Critical, Critical, Low, Info),
        Dimension::Ownership | Dimension::Privilege => severity_row(Medium, Medium, Medium, Info),
        Dimension::Handles => severity_row(Low, Medium, Medium, Info),
        Dimension::Mounts => severity_row(High, High, Medium, Low),
        Dimension::Processes
        | Dimension::Sockets
        | Dimension::Kernel
        | Dimension::Devices
        | Dimension::Setup => severity_row(High, High, Medium, Info),
    }
}

const fn severity_row(
    acquired_from_host: Severity,
    acquired: Severity,
    undeclared: Severity,
    shared_with_host: Severity,
) -> Severities {
    Severities {
        acquired_from_host,
        acquired,
        undeclared,
        shared_with_host,
    }
}

/// Namespaces that ordinary containers share with the host and with one another.
#[must_use]
pub const fn is_advisory_namespace(dimension: Dimension) -> bool {
    matches!(
        dimension,
        Dimension::User | Dimension::Time | Dimension::CgroupNs
    )
}

/// What containers of one pod share without saying so. Processes only by declaration.
#[must_use]
pub const fn pods_share(dimension: Dimension) -> bool {
    matches!(
        dimension,
        Dimension::Net
            | Dimension::Ipc
            | Dimension::Uts
            | Dimension::Time
            | Dimension::User
            | Dimension::CgroupNs
            | Dimension::Mounts
            | Dimension::Handles
    )
}

/// The judgement on one shared object.
#[must_use]
pub fn judge(sharing: &Sharing) -> Judgement {
    let verdict = verdict(sharing);
    let row = severities(sharing.dimension);
    let with_host = sharing.relation.with_host();
    let severity = match verdict {
        Verdict::Violated | Verdict::Degraded if sharing.acquired_from_beside_or_below() => {
            if with_host {
                row.acquired_from_host
            } else {
                row.acquired
            }
        }
        Verdict::Violated | Verdict::Degraded => row.undeclared,
        _ if with_host => row.shared_with_host,
        _ => Severity::Info,
    };
    Judgement { verdict, severity }
}

fn verdict(sharing: &Sharing) -> Verdict {
    let in_pod = sharing.relation.same_pod && pods_share(sharing.dimension);
    if sharing.by_policy {
        Verdict::DeclaredShared
    } else if sharing.dimension == Dimension::Handles {
        handle(sharing, in_pod)
    } else if sharing.acquired_from_beside_or_below() {
        Verdict::Violated
    } else if sharing.any(Origin::Acquired) || sharing.any(Origin::Declared) || in_pod {
        Verdict::DeclaredShared
    } else if sharing.initial && is_advisory_namespace(sharing.dimension) {
        Verdict::BaselineShared
    } else if sharing.any(Origin::Undeclared) && sharing.dimension == Dimension::Mounts {
        Verdict::Degraded
    } else if sharing.any(Origin::Undeclared) {
        Verdict::Violated
    } else {
        Verdict::BaselineShared
    }
}

/// A handle in the hands of two. What a container's starter gave it as standard streams, it was given for that.
fn handle(sharing: &Sharing, in_pod: bool) -> Verdict {
    if in_pod {
        Verdict::DeclaredShared
    } else if sharing.relation.above.contains(&true) || !sharing.any(Origin::Acquired) {
        Verdict::BaselineShared
    } else {
        Verdict::Degraded
    }
}

/// The class of a pair; `declared_join` when a declared object that is not the host's joins them.
#[must_use]
pub fn class(relation: &Relation, declared_join: bool) -> PairClass {
    let vms = relation
        .kinds
        .iter()
        .filter(|kind| **kind == Some(EntityKind::Vm))
        .count();
    if relation.same_pod {
        PairClass::K1
    } else if relation.above.contains(&true) {
        PairClass::K5
    } else if relation.with_host() {
        PairClass::K3
    } else if vms == 2 {
        PairClass::K6
    } else if vms == 1 {
        PairClass::K7
    } else if declared_join {
        PairClass::K4
    } else {
        PairClass::K2
    }
}
