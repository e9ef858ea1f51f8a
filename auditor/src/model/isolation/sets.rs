//! Two small sets: origins with their counts, and dimensions.

use crate::model::facts::Origin;
use crate::model::kinds::Dimension;

/// How many tasks hold an object, by origin.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts([u32; Origin::ALL.len()]);

/// A set of dimensions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DimensionSet(u32);

impl Counts {
    pub(super) fn add(&mut self, origin: Origin) {
        let count = &mut self.0[origin as usize];
        *count = count.saturating_add(1);
    }

    pub(super) fn remove(&mut self, origin: Origin) {
        let count = &mut self.0[origin as usize];
        *count = count.saturating_sub(1);
    }

    pub(super) const fn has(&self, origin: Origin) -> bool {
        self.0[origin as usize] > 0
    }

    /// Whether it is held in a way that may violate anything.
    pub(super) const fn offends(&self) -> bool {
        self.has(Origin::Undeclared) || self.has(Origin::Acquired)
    }

    pub(super) fn worst(&self) -> Option<Origin> {
        Origin::ALL
            .into_iter()
            .rev()
            .find(|origin| self.has(*origin))
    }
}

impl DimensionSet {
    pub(super) const fn of(dimension: Dimension) -> Self {
        Self(1 << dimension as u32)
    }

    pub(super) const fn contains(self, dimension: Dimension) -> bool {
        self.0 & Self::of(dimension).0 != 0
    }

    pub(super) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) const fn insert(&mut self, dimension: Dimension) {
        self.0 |= Self::of(dimension).0;
    }

    pub(super) const fn remove(&mut self, dimension: Dimension) {
        self.0 &= !Self::of(dimension).0;
    }
}
