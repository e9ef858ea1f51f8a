//! Who could trace or signal whose processes.
//!
//! A process can be named by whoever sees it: by those in its pid namespace and in the ones above. To signal it takes
//! the same user id, or `CAP_KILL` in its user namespace or above; to trace it (and with that to read its memory and
//! to take its descriptors) takes `CAP_SYS_PTRACE` there. The same user id allows tracing too, but only where the
//! other side has no capability that one lacks, so it counts as a signal only. So entity x reaches y when x's pid
//! namespace is y's or stands above it, and x has the power. That is directed: nobody reaches up.
//!
//! The facts are those of an entity's first task at its start. A reach that a task gains later is not in here: what it
//! does with it is an act, and acts are told as they happen. The host reaches all and is not counted.
//!
//! The join is over pid namespaces: [`Reaches::own`] × [`Reaches::below`], as [`ownership`](super::ownership) joins over
//! user namespaces.

use super::changes::Changes;
use crate::model::facts::{EntityId, HOST, NsId, ObjectKey};
use crate::model::kinds::Dimension;
use std::collections::{BTreeMap, BTreeSet};

/// Levels of namespaces that are looked at; the kernel allows 32 below the initial one.
const LEVELS: usize = 33;

/// What decides whom an entity reaches and who reaches it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Pid namespaces, from its own up to the initial one.
    pub pid: Vec<NsId>,
    /// User namespaces, likewise.
    pub user: Vec<NsId>,
    /// What it may do to processes of others, in its user namespace and below.
    pub powers: Powers,
    /// User id in the initial user namespace.
    pub uid: u32,
}

/// Capabilities over processes of other users.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Powers {
    /// `CAP_SYS_PTRACE`.
    pub trace: bool,
    /// `CAP_KILL`.
    pub signal: bool,
}

/// What one entity could do to processes of another. In order of badness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Means {
    /// Signal them.
    Signal,
    /// Trace them, and with that read their memory and take their descriptors.
    Trace,
}

impl Reach {
    /// What `self` could do to processes of `other`.
    #[must_use]
    pub fn over(&self, other: &Self) -> Option<Means> {
        let own = self.pid.first()?;
        if !other.pid.contains(own) {
            return None;
        }
        let rules = self.user.first().is_some_and(|u| other.user.contains(u));
        if rules && self.powers.trace {
            Some(Means::Trace)
        } else if rules && self.powers.signal || self.uid == other.uid {
            Some(Means::Signal)
        } else {
            None
        }
    }
}

/// The facts of all entities, joined over pid namespaces.
#[derive(Clone, Debug, Default)]
pub(super) struct Reaches {
    facts: BTreeMap<EntityId, Reach>,
    /// By pid namespace: whose own it is, the host left out.
    own: BTreeMap<NsId, BTreeSet<EntityId>>,
    /// By pid namespace: who lives in it or below.
    below: BTreeMap<NsId, BTreeSet<EntityId>>,
}

impl Reaches {
    /// What x could do to processes of y, nesting aside.
    pub(super) fn means(&self, x: EntityId, y: EntityId) -> Option<(Means, NsId)> {
        let (of_x, of_y) = (self.facts.get(&x)?, self.facts.get(&y)?);
        let means = of_x.over(of_y).filter(|_| x != HOST && x != y)?;
        Some((means, *of_x.pid.first()?))
    }

    pub(super) fn get(&self, id: EntityId) -> Option<&Reach> {
        self.facts.get(&id)
    }

    /// Each pid namespace by which someone may reach someone: whose own it is, and who is in it or below.
    pub(super) fn joins(
        &self,
    ) -> impl Iterator<Item = (NsId, &BTreeSet<EntityId>, &BTreeSet<EntityId>)> {
        self.own
            .iter()
            .filter_map(|(pid, own)| Some((*pid, own, self.below.get(pid)?)))
    }

    /// Whoever a namespace is the own of lives in it, so these are all whom it joins.
    pub(super) fn is_wide(below: &BTreeSet<EntityId>, wide: usize) -> bool {
        below.len() > wide
    }

    pub(super) fn set(
        &mut self,
        id: EntityId,
        mut reach: Reach,
        wide: usize,
        changes: &mut Changes,
    ) {
        reach.pid.truncate(LEVELS);
        reach.user.truncate(LEVELS);
        if self.facts.get(&id) == Some(&reach) {
            return;
        }
        self.remove(id, wide, changes);
        if let Some(own) = reach.pid.first()
            && id != HOST
        {
            self.own.entry(*own).or_default().insert(id);
        }
        for pid in &reach.pid {
            self.below.entry(*pid).or_default().insert(id);
        }
        self.facts.insert(id, reach);
        self.rejoin(id, wide, changes);
    }

    pub(super) fn remove(&mut self, id: EntityId, wide: usize, changes: &mut Changes) {
        self.rejoin(id, wide, changes);
        let Some(reach) = self.facts.remove(&id) else {
            return;
        };
        for pid in reach.pid {
            for map in [&mut self.own, &mut self.below] {
                if let Some(set) = map.get_mut(&pid) {
                    set.remove(&id);
                    if set.is_empty() {
                        map.remove(&pid);
                    }
                }
            }
        }
    }

    /// Tells every pair that an entity has by reach: with those below it, and with those whose own namespace it
    /// lives in.
    pub(super) fn rejoin(&self, id: EntityId, wide: usize, changes: &mut Changes) {
        let chain = self.facts.get(&id).map_or(&[][..], |r| r.pid.as_slice());
        for (level, pid) in chain.iter().enumerate() {
            let (Some(own), Some(below)) = (self.own.get(pid), self.below.get(pid)) else {
                continue;
            };
            if Self::is_wide(below, wide) {
                changes.object(ObjectKey::Ns(Dimension::Pid, *pid));
                // The pairs with the host are always told one by one.
                changes.pair(HOST, id);
                continue;
            }
            let others = if level == 0 && id != HOST { below } else { own };
            for other in others.union(own) {
                changes.pair(id, *other);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Means, Powers, Reach};
    use crate::model::facts::NsId;
    use proptest::prelude::*;

    /// Namespaces form a tree: the parent of n is (n - 1) / 2.
    fn chain(own: u32) -> Vec<NsId> {
        let up = |n: &u32| (*n > 0).then(|| (n - 1) / 2);
        std::iter::successors(Some(own), up).map(NsId).collect()
    }

    fn reach() -> impl Strategy<Value = Reach> {
        (0u32..8, 0u32..8, any::<[bool; 2]>(), 0u32..3).prop_map(
            |(pid, user, [trace, signal], uid)| Reach {
                pid: chain(pid),
                user: chain(user),
                powers: Powers { trace, signal },
                uid,
            },
        )
    }

    proptest! {
        /// Goal: nobody reaches up. Method: who lives strictly below is tried against the one above.
        #[test]
        fn nobody_reaches_up(x in reach(), y in reach()) {
            if y.pid.contains(&x.pid[0]) && x.pid[0] != y.pid[0] {
                prop_assert_eq!(y.over(&x), None);
            }
        }

        /// Goal: reach is contained: by capability it goes on to all that lies below. Method: three of a chain.
        #[test]
        fn who_reaches_one_reaches_those_below(x in reach(), y in reach(), z in reach()) {
            let below = z.pid.contains(&y.pid[0]) && z.user.contains(&y.user[0]);
            let rules = y.user.contains(&x.user[0]);
            if below && rules && (x.powers.trace || x.powers.signal) && x.over(&y).is_some() {
                prop_assert!(x.over(&z) >= x.over(&y));
            }
        }

        /// Goal: equals reach each other. Method: the same namespaces, the same user or the same powers.
        #[test]
        fn equals_reach_each_other(x in reach(), y in reach()) {
            let y = Reach { pid: x.pid.clone(), user: x.user.clone(), ..y };
            if x.powers == y.powers {
                prop_assert_eq!(x.over(&y), y.over(&x));
            }
            if x.uid == y.uid {
                prop_assert!(x.over(&y).is_some() && y.over(&x).is_some());
            }
        }

        /// Goal: more power never reaches less. Method: the same entity with and without.
        #[test]
        fn power_only_adds(x in reach(), y in reach()) {
            let strong = Reach { powers: Powers { trace: true, signal: true }, ..x.clone() };
            prop_assert!(strong.over(&y) >= x.over(&y));
            let weak = Reach { powers: Powers::default(), ..x.clone() };
            prop_assert!(weak.over(&y) <= x.over(&y));
        }
    }

    /// The host's pid namespace, as monitoring agents have it: with the capability all can be traced, without it
    /// those of the same user be signalled.
    #[test]
    fn the_host_pid_namespace_reaches_all() {
        let of = |pid, user, trace, uid| Reach {
            pid: chain(pid),
            user: chain(user),
            powers: Powers {
                trace,
                signal: false,
            },
            uid,
        };
        let (agent, web) = (of(0, 0, true, 0), of(1, 0, false, 33));
        assert_eq!(agent.over(&web), Some(Means::Trace));
        assert_eq!(web.over(&agent), None);
        let agent = of(0, 0, false, 0);
        assert_eq!(agent.over(&web), None);
        assert_eq!(agent.over(&of(1, 0, false, 0)), Some(Means::Signal));
        // A capability in a user namespace of its own rules nobody outside of it.
        assert_eq!(of(0, 1, true, 1000).over(&web), None);
    }
}
