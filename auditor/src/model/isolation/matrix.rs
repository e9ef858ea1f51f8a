//! The matrix of ι: every pair counted, few of them listed.
use super::{EntityId, IsolationIndex, ObjectKey, Pair};
use crate::model::kinds::{Dimension, Verdict};
use serde::{Deserialize, Serialize};

/// The matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// Every entity, the host included, in order of stable ids.
    pub entities: Vec<EntityId>,
    /// Pairs with something to say, in order of stable ids.
    pub pairs: Vec<MatrixPair>,
    /// What many share, in order of objects.
    pub shared: Vec<SharedObject>,
    /// Counts over all pairs, listed or not.
    pub summary: Summary,
}

/// A listed pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatrixPair {
    /// The one with the lower stable id.
    pub a: EntityId,
    /// The other.
    pub b: EntityId,
    /// What they are to each other.
    pub pair: Pair,
}

/// An object that many share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedObject {
    /// The object.
    pub object: ObjectKey,
    /// In which dimension: that of the object, or `ownership`.
    pub dimension: Dimension,
    /// Its holders in order of stable ids.
    pub members: Vec<EntityId>,
    /// The worst verdict between two of them.
    pub verdict: Verdict,
    /// Members that acquired it, or have it although their spec does not say so.
    pub offenders: Vec<EntityId>,
}

/// Counts of pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Entities, the host included.
    pub entities: u64,
    /// All pairs.
    pub pairs: u64,
    /// Pairs with ι = 1.
    pub isolated: u64,
    /// Pairs with ι = 0.
    pub violated: u64,
    /// Pairs with ι = null.
    pub unknown: u64,
}

impl IsolationIndex {
    /// The matrix as it stands.
    #[must_use]
    pub fn matrix(&self) -> Matrix {
        Matrix {
            entities: vec![],
            pairs: vec![],
            shared: vec![],
            summary: Summary::default(),
        }
    }
}
