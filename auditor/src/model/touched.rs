//! What a container reached beside its capabilities: namespaces that it joined, devices that it opened or made nodes for,
//! settings of the machine that it opened for writing. What it has is one thing, what it does with it another.

use super::firsts::Firsts;
use super::output::Evidence;
use super::privileges::First;
use serde::{Deserialize, Serialize};

/// Things kept for one container.
const MAX_THINGS: usize = 256;

/// What kind of thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThingKind {
    /// A namespace that is not its own.
    Namespace,
    /// A device that not every container has.
    Device,
    /// A setting of the whole machine.
    Knob,
}

impl ThingKind {
    /// In words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::Device => "device",
            Self::Knob => "knob",
        }
    }
}

/// A thing, by a name that is the same for every container and at every time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Thing {
    /// What kind.
    pub kind: ThingKind,
    /// Kind of namespace, and whether it is the machine's; `character 10:229`; name of the setting.
    pub name: String,
}

impl Thing {
    /// What a finding is about; `None` where that is no such thing.
    #[must_use]
    pub fn of(evidence: &Evidence) -> Option<Self> {
        let (kind, name) = match evidence {
            Evidence::Ns { kind, initial, .. } => {
                let whose = if *initial {
                    "the machine's"
                } else {
                    "another's"
                };
                (ThingKind::Namespace, format!("{kind} ({whose})"))
            }
            Evidence::Device {
                kind, major, minor, ..
            } => (ThingKind::Device, format!("{kind} {major}:{minor}")),
            Evidence::Knob { name, .. } => (ThingKind::Knob, name.clone()),
            _ => return None,
        };
        Some(Self { kind, name })
    }
}

/// A thing with the first time that it was reached, as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Written {
    #[serde(flatten)]
    thing: Thing,
    #[serde(flatten)]
    first: First,
}

/// Everything that a container reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Written>", into = "Vec<Written>")]
pub struct Touched(Firsts<Thing, MAX_THINGS>);

impl From<Vec<Written>> for Touched {
    fn from(entries: Vec<Written>) -> Self {
        let mut touched = Self::default();
        for entry in entries {
            touched.note(entry.thing, entry.first);
        }
        touched
    }
}

impl From<Touched> for Vec<Written> {
    fn from(touched: Touched) -> Self {
        let entry = |(thing, first)| Written { thing, first };
        touched.0.into_iter().map(entry).collect()
    }
}

impl Touched {
    /// Takes in one; the earliest time is kept.
    pub fn note(&mut self, thing: Thing, first: First) {
        self.0.note(thing, first);
    }

    /// Takes in what another container, or the same at another time, has reached.
    pub fn merge(&mut self, other: &Self) {
        self.0.merge(&other.0);
    }

    /// Counts times from another moment.
    pub fn shift(&mut self, by_ns: i64) {
        self.0.shift(by_ns);
    }

    /// Gives commands and files other names. Things have none but the kernel's.
    pub fn rename(&mut self, comm: impl Fn(&str) -> String, exe: impl Fn(&str) -> String) {
        self.0.rename(comm, exe);
    }

    /// All things, by kind and name.
    pub fn iter(&self) -> impl Iterator<Item = (&Thing, &First)> {
        self.0.iter()
    }

    /// Whether nothing was reached.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    //! Goal: things are told by names that mean the same everywhere, each once, with its earliest time.

    use super::*;
    use crate::model::NsKind;

    fn first(boottime_ns: u64) -> First {
        First {
            boottime_ns,
            syscall: Some("openat".into()),
            pid: 1,
            comm: "sh".to_owned(),
            exe: None,
            inferred: false,
        }
    }

    fn knob(name: &str) -> Thing {
        let value = None;
        let name = name.to_owned();
        Thing::of(&Evidence::Knob { name, value }).unwrap()
    }

    #[test]
    fn names_tell_no_numbers_that_change() {
        let name = |evidence| Thing::of(&evidence).map(|thing| thing.name);
        let ns = |initial| Evidence::Ns {
            kind: NsKind::Net,
            inum: 5,
            initial,
        };
        assert_eq!(name(ns(true)).unwrap(), "net (the machine's)");
        assert_eq!(name(ns(false)).unwrap(), "net (another's)");
        let device = Evidence::Device {
            kind: "character".to_owned(),
            major: 10,
            minor: 229,
            path: Some("/fuse".to_owned()),
            access: vec![],
        };
        assert_eq!(name(device).unwrap(), "character 10:229");
        let value = String::new();
        let part = String::new();
        assert_eq!(name(Evidence::Setup { part, value }), None);
    }

    #[test]
    fn the_earliest_time_is_kept_and_room_is_bounded() {
        let mut touched = Touched::default();
        for at in [5, 3, 9] {
            touched.note(knob("a"), first(at));
        }
        let times = |touched: &Touched| {
            touched
                .iter()
                .map(|(_, f)| f.boottime_ns)
                .collect::<Vec<_>>()
        };
        assert_eq!(times(&touched), [3]);
        let mut other = Touched::default();
        for number in 0..2 * MAX_THINGS {
            other.note(knob(&format!("a{number}")), first(1));
        }
        assert_eq!(other.iter().count(), MAX_THINGS);
        touched.merge(&other);
        touched.merge(&other.clone());
        assert_eq!(touched.iter().count(), MAX_THINGS);
        let text = serde_json::to_string(&touched).unwrap();
        assert_eq!(serde_json::from_str::<Touched>(&text).unwrap(), touched);
    }
}
