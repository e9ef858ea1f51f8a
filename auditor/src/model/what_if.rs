//! What a person supposes of a container: that it had less, or something of its own instead of what it shares.
//!
//! Every supposition takes something away. What a container would do if it had more, no state of a machine tells.

use super::capability;
use super::kinds::NsKind;
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

/// A change that is supposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// These capabilities are in none of its sets.
    Drop(u64),
    /// It is in a user namespace of its own, with ids of its own.
    UserNs,
    /// It is in namespaces of its own, of these kinds.
    Own(Vec<NsKind>),
    /// No exec gives it anything.
    NoNewPrivs,
    /// What is mounted there, or below, cannot be written through it.
    ReadOnly(String),
    /// Nothing is mounted there, or below.
    Unmount(String),
}

/// A change and whom it concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Supposition {
    /// What is different.
    pub change: Change,
    /// Of whom: an id, a name, or the start of an id.
    pub entity: String,
}

/// Kinds of namespaces that a container may share and could do without sharing.
const KINDS: [NsKind; 7] = [
    NsKind::Pid,
    NsKind::Net,
    NsKind::Ipc,
    NsKind::Uts,
    NsKind::Cgroup,
    NsKind::Time,
    NsKind::User,
];

/// Why a text is no supposition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WhatIfError {
    /// No colon.
    #[error("\"{0}\" names no container: write CHANGE:CONTAINER, such as drop=SYS_ADMIN:web")]
    Nobody(String),
    /// No such change.
    #[error(
        "\"{0}\" is no change: there are drop=CAPABILITY[,…], userns, own=KIND[,…], no-new-privs, read-only=PATH, \
         unmount=PATH"
    )]
    Change(String),
    /// No such capability.
    #[error("\"{0}\" is no capability: write it as SYS_ADMIN or CAP_SYS_ADMIN, or ALL")]
    Capability(String),
    /// No such kind.
    #[error(
        "\"{0}\" is no kind of namespace that a container may share: pid, net, ipc, uts, cgroup, time, user"
    )]
    Kind(String),
    /// No whole path.
    #[error("\"{0}\" is no path from the container's root: it begins with /")]
    Path(String),
}

impl FromStr for Supposition {
    type Err = WhatIfError;

    fn from_str(text: &str) -> Result<Self, WhatIfError> {
        // Ids hold colons, paths of mounts hardly ever do.
        let named = text
            .split_once(':')
            .filter(|(_, entity)| !entity.is_empty());
        let (what, entity) = named.ok_or_else(|| WhatIfError::Nobody(text.to_owned()))?;
        let change = match what.split_once('=') {
            None if what == "userns" => Change::UserNs,
            None if what == "no-new-privs" => Change::NoNewPrivs,
            Some(("drop", names)) => Change::Drop(capabilities(names)?),
            Some(("own", kinds)) => own(kinds)?,
            Some(("read-only", path)) => Change::ReadOnly(whole(path)?),
            Some(("unmount", path)) => Change::Unmount(whole(path)?),
            _ => return Err(WhatIfError::Change(what.to_owned())),
        };
        Ok(Self {
            change,
            entity: entity.to_owned(),
        })
    }
}

fn capabilities(names: &str) -> Result<u64, WhatIfError> {
    names.split(',').try_fold(0, |set, name| {
        if name.eq_ignore_ascii_case("all") {
            return Ok(u64::MAX);
        }
        let bit = capability::parse(name);
        let bit = bit.ok_or_else(|| WhatIfError::Capability(name.to_owned()))?;
        Ok(set | 1 << bit)
    })
}

fn own(kinds: &str) -> Result<Change, WhatIfError> {
    let kind = |text: &str| {
        let known = KINDS.iter().find(|kind| kind.as_str() == text).copied();
        known.ok_or_else(|| WhatIfError::Kind(text.to_owned()))
    };
    let kinds: Vec<NsKind> = kinds.split(',').map(kind).collect::<Result<_, _>>()?;
    Ok(match kinds.as_slice() {
        [NsKind::User] => Change::UserNs,
        _ if kinds.contains(&NsKind::User) => {
            return Err(WhatIfError::Kind(
                "user beside others: give userns apart".to_owned(),
            ));
        }
        _ => Change::Own(kinds),
    })
}

fn whole(path: &str) -> Result<String, WhatIfError> {
    match path.starts_with('/') {
        true => Ok(path.to_owned()),
        false => Err(WhatIfError::Path(path.to_owned())),
    }
}

/// As a phrase that follows a container's name: `without SYS_ADMIN`.
impl Display for Change {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drop(u64::MAX) => f.write_str("without capabilities"),
            Self::Drop(set) => write!(f, "without {}", capability::names(*set).join(", ")),
            Self::UserNs => f.write_str("in a user namespace of its own"),
            Self::Own(kinds) => {
                let kinds: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
                let noun = if kinds.len() == 1 {
                    "a namespace"
                } else {
                    "namespaces"
                };
                write!(f, "in {noun} of its own ({})", kinds.join(", "))
            }
            Self::NoNewPrivs => f.write_str("with no_new_privs"),
            Self::ReadOnly(path) => write!(f, "with {path} read-only"),
            Self::Unmount(path) => write!(f, "without what is mounted at {path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, Supposition, WhatIfError};
    use crate::model::NsKind;

    fn read(text: &str) -> Result<(Change, String), WhatIfError> {
        let Supposition { change, entity } = text.parse()?;
        Ok((change, entity))
    }

    /// Goal: each form is read, with names that hold colons. Method: one of each.
    #[test]
    fn suppositions_are_read() {
        let drop = Change::Drop(1 << 21 | 1 << 12);
        assert_eq!(
            read("drop=SYS_ADMIN,cap_net_admin:web"),
            Ok((drop, "web".into()))
        );
        assert_eq!(
            read("drop=all:runc:3f2a"),
            Ok((Change::Drop(u64::MAX), "runc:3f2a".into()))
        );
        assert_eq!(read("userns:web"), Ok((Change::UserNs, "web".into())));
        assert_eq!(read("own=user:web"), Ok((Change::UserNs, "web".into())));
        let own = Change::Own(vec![NsKind::Net, NsKind::Pid]);
        assert_eq!(read("own=net,pid:web"), Ok((own, "web".into())));
        assert_eq!(
            read("no-new-privs:web"),
            Ok((Change::NoNewPrivs, "web".into()))
        );
        let path = Change::ReadOnly("/var/a".into());
        assert_eq!(read("read-only=/var/a:web"), Ok((path, "web".into())));
        let path = Change::Unmount("/var".into());
        assert_eq!(
            read("unmount=/var:runc:3f2a"),
            Ok((path, "runc:3f2a".into()))
        );
    }

    /// Goal: what is none is refused with what there is. Method: one mistake of each kind.
    #[test]
    fn mistakes_are_named() {
        for (text, said) in [
            ("drop=SYS_ADMIN", "names no container"),
            ("userns:", "names no container"),
            ("drop=ROOT:web", "is no capability"),
            ("add=CHOWN:web", "is no change"),
            ("own=mnt:web", "is no kind"),
            ("own=net,user:web", "give userns apart"),
            ("unmount=var:web", "begins with /"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    /// Goal: a change reads as a phrase.
    #[test]
    fn changes_are_phrases() {
        let phrase = |text: &str| read(text).unwrap().0.to_string();
        assert_eq!(phrase("drop=SYS_ADMIN:web"), "without SYS_ADMIN");
        assert_eq!(phrase("own=net:web"), "in a namespace of its own (net)");
    }
}
