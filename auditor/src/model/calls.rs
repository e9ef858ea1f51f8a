//! Which system calls a container made. A profile that allows no others keeps what it does from reaching the rest of the
//! kernel; what it calls more rarely than it was watched, nobody knows.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Names kept for one container. Native tables are shorter.
const MAX_NAMES: usize = 1024;

/// See the [module](self).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Calls {
    /// By name: machines of several architectures give them different numbers.
    names: BTreeSet<Cow<'static, str>>,
    /// Others were made too, which have no name here: 32-bit ones on a 64-bit machine, or newer ones than are known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unnamed: bool,
    /// At least one container was looked at from its first exec on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub from_start: bool,
    /// For a part of the time nobody looked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partly: bool,
}

impl Calls {
    /// None yet. `from_start`: the container has just begun.
    #[must_use]
    pub fn none(from_start: bool) -> Self {
        Self {
            from_start,
            ..Self::default()
        }
    }

    /// Takes in one call; `None`: one that has no name here.
    pub fn note(&mut self, name: Option<&'static str>) {
        match name {
            Some(name) if self.names.len() < MAX_NAMES => {
                self.names.insert(Cow::Borrowed(name));
            }
            Some(_) | None => self.unnamed = true,
        }
    }

    /// Names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(AsRef::as_ref)
    }

    /// Takes in what another container did, or the same at another time.
    pub fn merge(&mut self, other: &Self) {
        for name in &other.names {
            if self.names.len() >= MAX_NAMES && !self.names.contains(name) {
                self.unnamed = true;
                break;
            }
            self.names.insert(name.clone());
        }
        self.unnamed |= other.unnamed;
        self.from_start |= other.from_start;
        self.partly |= other.partly;
    }

    /// The same, where one may not have been looked at.
    pub fn merge_known(ours: &mut Option<Self>, theirs: Option<&Self>) {
        match (ours.as_mut(), theirs) {
            (Some(ours), Some(theirs)) => ours.merge(theirs),
            (Some(ours), None) => ours.partly = true,
            (None, Some(theirs)) => {
                *ours = Some(Self {
                    partly: true,
                    ..theirs.clone()
                });
            }
            (None, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: in whatever order accounts are taken together, and however often, the same comes out, and nothing is lost.

    use super::*;
    use proptest::prelude::*;

    const NAMES: [&str; 4] = ["bpf", "openat", "read", "write"];

    prop_compose! {
        fn calls()(
            made in prop::collection::vec(prop::option::of(0usize..NAMES.len()), 0..4), from_start: bool,
        ) -> Calls {
            let mut calls = Calls::none(from_start);
            for call in made {
                calls.note(call.map(|index| NAMES[index]));
            }
            calls
        }
    }

    fn all(of: &[&Option<Calls>]) -> Option<Calls> {
        let (first, others) = of.split_first().unwrap();
        let mut sum = (*first).clone();
        for other in others {
            Calls::merge_known(&mut sum, other.as_ref());
        }
        sum
    }

    proptest! {
        #[test]
        fn order_does_not_matter(
            a in prop::option::of(calls()), b in prop::option::of(calls()), c in prop::option::of(calls()),
        ) {
            let sum = all(&[&a, &b, &c]);
            prop_assert_eq!(&sum, &all(&[&c, &a, &b]));
            prop_assert_eq!(&sum, &all(&[&a, &all(&[&b, &c])]));
            prop_assert_eq!(&sum, &all(&[&sum, &a]));
            let of_any = [&a, &b, &c].into_iter().flatten();
            let names: BTreeSet<&str> = of_any.flat_map(Calls::names).collect();
            let kept: BTreeSet<&str> = sum.iter().flat_map(Calls::names).collect();
            prop_assert_eq!(names, kept);
        }

        #[test]
        fn it_is_read_as_it_was_written(calls in calls()) {
            let text = serde_json::to_string(&calls).unwrap();
            prop_assert_eq!(serde_json::from_str::<Calls>(&text).unwrap(), calls);
        }
    }

    /// A file may say anything.
    #[test]
    fn there_is_an_end() {
        let many = |from: usize| Calls {
            names: (from..from + MAX_NAMES)
                .map(|n| Cow::Owned(n.to_string()))
                .collect(),
            ..Calls::default()
        };
        let mut calls = many(0);
        calls.merge(&many(0));
        assert!(!calls.unnamed);
        calls.merge(&many(1));
        assert!(calls.unnamed);
        assert_eq!(calls.names().count(), MAX_NAMES);
    }
}
