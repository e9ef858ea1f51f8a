//! First times of things, each once: what accounts of containers keep of what their tasks did.

use super::privileges::First;
use std::collections::BTreeMap;
use std::collections::btree_map::{Entry, IntoIter};

/// The first time of each key. Of more than `MOST` the least keys are kept, so that it does not matter in which order
/// they come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firsts<K, const MOST: usize>(BTreeMap<K, First>);

impl<K, const MOST: usize> Default for Firsts<K, MOST> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord, const MOST: usize> Firsts<K, MOST> {
    /// Takes in one time; the earliest is kept.
    pub fn note(&mut self, key: K, first: First) {
        match self.0.entry(key) {
            // Of two at one time the same one, whichever comes first.
            Entry::Occupied(mut known) if *known.get() > first => {
                known.insert(first);
            }
            Entry::Occupied(_) => {}
            Entry::Vacant(place) => {
                place.insert(first);
            }
        }
        if self.0.len() > MOST {
            self.0.pop_last();
        }
    }

    /// Takes in those of another.
    pub fn merge(&mut self, other: &Self)
    where
        K: Clone,
    {
        for (key, first) in &other.0 {
            self.note(key.clone(), first.clone());
        }
    }

    /// Counts times from another moment.
    pub fn shift(&mut self, by_ns: i64) {
        for first in self.0.values_mut() {
            first.boottime_ns = first.boottime_ns.saturating_add_signed(by_ns);
        }
    }

    /// Gives commands and files other names.
    pub fn rename(&mut self, comm: impl Fn(&str) -> String, exe: impl Fn(&str) -> String) {
        for first in self.0.values_mut() {
            first.comm = comm(&first.comm);
            first.exe = first.exe.as_deref().map(&exe);
        }
    }

    /// All of them, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &First)> {
        self.0.iter()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K, const MOST: usize> IntoIterator for Firsts<K, MOST> {
    type Item = (K, First);
    type IntoIter = IntoIter<K, First>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    //! Goal: two accounts become one, in whatever order and however often. Method: any entries, more than there is room
    //! for, many at one time.

    use super::*;
    use proptest::prelude::*;

    type Few = Firsts<u8, 8>;

    fn few() -> impl Strategy<Value = Few> {
        let entry = (0u8..16, 0u64..3, 0u32..3);
        prop::collection::vec(entry, 0..24).prop_map(|entries| {
            let mut few = Few::default();
            for (key, boottime_ns, pid) in entries {
                let first = First {
                    boottime_ns,
                    syscall: None,
                    pid,
                    comm: String::new(),
                    exe: None,
                    inferred: false,
                };
                few.note(key, first);
            }
            few
        })
    }

    fn both(a: &Few, b: &Few) -> Few {
        let mut both = a.clone();
        both.merge(b);
        both
    }

    proptest! {
        #[test]
        fn merging_is_a_join(a in few(), b in few(), c in few()) {
            prop_assert_eq!(both(&a, &b), both(&b, &a));
            prop_assert_eq!(both(&both(&a, &b), &c), both(&a, &both(&b, &c)));
            prop_assert_eq!(both(&a, &a), a.clone());
            prop_assert!(both(&a, &b).iter().count() <= 8);
        }
    }
}
