//! Sets of hooks.

use auditor_common::hook::HOOKS;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A set of hooks, by their indices in [`HOOKS`].
///
/// In a trace it is a number with a bit for each; where 64 bits are too few, an array of such numbers, the lowest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HookSet([u64; 2]);

const _: () = assert!(HOOKS.len() <= 128);

impl HookSet {
    /// The hooks that there are.
    #[must_use]
    pub fn all() -> Self {
        (0_u16..).zip(HOOKS).map(|(index, _)| index).collect()
    }

    /// Whether a hook is among them.
    #[must_use]
    pub fn has(self, index: u16) -> bool {
        let word = self.0.get(usize::from(index / 64)).copied();
        word.unwrap_or(0) >> (index % 64) & 1 == 1
    }

    /// Whether any of these hooks is among them.
    #[must_use]
    pub fn has_any(self, indices: &[u16]) -> bool {
        indices.iter().any(|&index| self.has(index))
    }

    /// With the hooks of another set.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self([self.0[0] | other.0[0], self.0[1] | other.0[1]])
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// What no hook has as its index is left out.
impl FromIterator<u16> for HookSet {
    fn from_iter<T: IntoIterator<Item = u16>>(indices: T) -> Self {
        let mut set = Self::default();
        for index in indices {
            if let Some(word) = set.0.get_mut(usize::from(index / 64)) {
                *word |= 1 << (index % 64);
            }
        }
        set
    }
}

impl Serialize for HookSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            [low, 0] => low.serialize(serializer),
            words => words.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for HookSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a number, or an array of two")]
        enum Written {
            One(u64),
            Two([u64; 2]),
        }
        Ok(match Written::deserialize(deserializer)? {
            Written::One(low) => Self([low, 0]),
            Written::Two(words) => Self(words),
        })
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a set is read as it was written, and as it was written when there were fewer hooks.

    use super::*;

    #[test]
    fn it_is_read_as_it_was_written() {
        for indices in [&[][..], &[3, 63], &[0, 64, 127]] {
            let set: HookSet = indices.iter().copied().collect();
            let text = serde_json::to_string(&set).unwrap();
            assert_eq!(serde_json::from_str::<HookSet>(&text).unwrap(), set);
            for index in 0..200 {
                assert_eq!(set.has(index), indices.contains(&index), "{index}");
            }
        }
        let old: HookSet = serde_json::from_str("9").unwrap();
        assert_eq!(old, [0, 3].into_iter().collect());
        assert!(old.has_any(&[1, 3]) && !old.has_any(&[1, 2]));
        assert!(serde_json::from_str::<HookSet>("[1,2,3]").is_err());
    }

    #[test]
    fn what_is_no_hook_is_in_no_set() {
        let set: HookSet = [128, u16::MAX].into_iter().collect();
        assert!(set.is_empty());
        let all = HookSet::all();
        assert!((0..u16::try_from(HOOKS.len()).unwrap()).all(|index| all.has(index)));
        assert!(!all.has(u16::try_from(HOOKS.len()).unwrap()));
        assert_eq!(all.and(HookSet::default()), all);
    }
}
