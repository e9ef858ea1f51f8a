//! A map in two sorted vectors.
//!
//! For maps that have few entries, or whose keys come nearly in order, and that are read far more often than
//! changed: a look-up is a binary search over the keys alone, and iteration is in order and walks memory in
//! order. An insertion in the middle moves all that follows.

use std::iter::Zip;
use std::ops::Index;
use std::slice;

/// See the [module](self).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SortedMap<K, V> {
    keys: Vec<K>,
    values: Vec<V>,
}

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            values: Vec::new(),
        }
    }
}

impl<K: Copy + Ord, V> SortedMap<K, V> {
    /// An empty map with room for so many entries.
    #[must_use]
    pub fn with_capacity(entries: usize) -> Self {
        Self {
            keys: Vec::with_capacity(entries),
            values: Vec::with_capacity(entries),
        }
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        let at = self.keys.binary_search(key).ok()?;
        self.values.get(at)
    }

    /// As [`Self::get`].
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let at = self.keys.binary_search(key).ok()?;
        self.values.get_mut(at)
    }

    /// The place of a key, for [`Self::at_mut`] and [`Self::remove_at`]. It holds until the map is changed.
    #[must_use]
    pub fn find(&self, key: &K) -> Option<usize> {
        self.keys.binary_search(key).ok()
    }

    /// The value at a place.
    ///
    /// # Panics
    /// If there is none.
    pub fn at_mut(&mut self, place: usize) -> &mut V {
        &mut self.values[place]
    }

    /// Takes the entry at a place out.
    ///
    /// # Panics
    /// If there is none.
    pub fn remove_at(&mut self, place: usize) -> V {
        self.keys.remove(place);
        self.values.remove(place)
    }

    /// Whether a key has a value.
    #[must_use]
    pub fn contains_key(&self, key: &K) -> bool {
        self.keys.binary_search(key).is_ok()
    }

    /// Sets a value and gives the one that was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.keys.binary_search(&key) {
            Ok(at) => Some(std::mem::replace(&mut self.values[at], value)),
            Err(at) => {
                self.keys.insert(at, key);
                self.values.insert(at, value);
                None
            }
        }
    }

    /// The value of a key, made by default if there is none.
    pub fn entry(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        let at = match self.keys.binary_search(&key) {
            Ok(at) => at,
            Err(at) => {
                self.keys.insert(at, key);
                self.values.insert(at, V::default());
                at
            }
        };
        &mut self.values[at]
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.find(key).map(|at| self.remove_at(at))
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys, in order.
    pub fn keys(&self) -> slice::Iter<'_, K> {
        self.keys.iter()
    }

    /// The values, in order of their keys.
    pub fn values(&self) -> slice::Iter<'_, V> {
        self.values.iter()
    }

    /// As [`Self::values`].
    pub fn values_mut(&mut self) -> slice::IterMut<'_, V> {
        self.values.iter_mut()
    }

    /// The entries, in order.
    pub fn iter(&self) -> Iter<'_, K, V> {
        self.keys.iter().zip(&self.values)
    }
}

/// The entries of a [`SortedMap`], in order.
pub type Iter<'m, K, V> = Zip<slice::Iter<'m, K>, slice::Iter<'m, V>>;

impl<'m, K: Copy + Ord, V> IntoIterator for &'m SortedMap<K, V> {
    type Item = (&'m K, &'m V);
    type IntoIter = Iter<'m, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K: Copy + Ord, V> Index<&K> for SortedMap<K, V> {
    type Output = V;

    /// # Panics
    /// If the key has no value.
    fn index(&self, key: &K) -> &V {
        self.get(key).expect("the caller knows the key")
    }
}

#[cfg(test)]
mod tests {
    use super::SortedMap;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Goal: it is a map in order. Method: any calls, side by side with the library's ordered map.
        #[test]
        fn is_an_ordered_map(calls in prop::collection::vec((0u8..4, 0u8..12, any::<u8>()), 0..60)) {
            let (mut map, mut model) = (SortedMap::default(), BTreeMap::new());
            for (call, key, value) in calls {
                match call {
                    0 => prop_assert_eq!(map.insert(key, value), model.insert(key, value)),
                    1 => prop_assert_eq!(map.remove(&key), model.remove(&key)),
                    2 => *map.entry(key) = *model.entry(key).or_default(),
                    _ => prop_assert_eq!(map.get_mut(&key), model.get_mut(&key)),
                }
                prop_assert_eq!(map.get(&key), model.get(&key));
                prop_assert_eq!(map.contains_key(&key), model.contains_key(&key));
                prop_assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
                prop_assert!(map.iter().eq(&model));
                prop_assert!(map.keys().eq(model.keys()) && map.values().eq(model.values()));
            }
        }
    }
}
