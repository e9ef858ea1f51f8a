//! What was learned of images over many runs: accounts that outlive the run that kept them.
//!
//! Two histories become one by a join: sets are united, the earliest time of a use is kept, and of each piece of
//! observation the longest. So it does not matter in which order runs come, nor how often one is taken in; and nothing
//! that was used in any of them is ever forgotten but with its whole image, when there is no room for all.

use super::confidence::Evidence;
use super::privileges::{Observed, Sight};
use crate::model::calls::Calls;
use crate::model::privileges::{Account, Granted, Used};
use crate::model::touched::Touched;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// Images that are kept; the one that was seen least recently makes room.
const MAX_IMAGES: usize = 1024;
/// Pieces that are kept of one image; the shortest make room. They count for the time of observation only.
const MAX_PIECES: usize = 1024;

/// See the [module](self).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// By image, or by id where no image is known.
    pub learned: BTreeMap<String, Learned>,
    /// Some made room for others.
    #[serde(default)]
    pub incomplete: bool,
}

/// What is known of one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learned {
    /// Whether it is called by its image; else by an id.
    pub is_image: bool,
    /// What any container of it was granted; `None` where that could not be read.
    pub granted: Option<Granted>,
    /// What all of them used. Times are nanoseconds since 1970.
    pub used: Used,
    /// What else they reached; times as of `used`.
    #[serde(default, skip_serializing_if = "Touched::is_empty")]
    pub touched: Touched,
    /// The system calls that they made; absent: nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<Calls>,
    /// How uses were seen, at worst, where they were seen.
    pub sight: Sight,
    /// When it was last seen, nanoseconds since 1970.
    pub last_ns: u64,
    /// How long each container was observed in each run, by digests of both.
    pub pieces: BTreeMap<Key, Piece>,
}

/// Digests of a container and of a run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(String);

/// What one run saw of one container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Piece {
    /// For how long, in nanoseconds.
    pub observed_ns: u64,
    /// Execs.
    pub execs: u64,
    /// From its start on.
    pub whole: bool,
}

impl Key {
    fn new(observed: &Observed) -> Self {
        let party = &observed.privileges.party;
        let incarnation = party.incarnation.unwrap_or_default();
        let container = format!(
            "{}\0{}\0{}\0{incarnation}",
            observed.node, observed.boot_id, party.id
        );
        Self(format!("{}-{}", digest(&container), digest(&observed.run)))
    }

    fn halves(&self) -> (&str, &str) {
        self.0.split_once('-').unwrap_or((&self.0, ""))
    }
}

fn digest(text: &str) -> String {
    let bytes = Sha256::digest(text.as_bytes());
    bytes[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

impl History {
    /// Takes in what was observed of a container.
    pub fn note(&mut self, observed: &Observed) {
        if observed.sight == Sight::None {
            // Nothing of what it needs could be seen: that counts for nothing.
            return;
        }
        let mut one = Self::default();
        let learned = Learned::new(observed);
        one.learned.insert(observed.of().to_owned(), learned);
        self.merge(&one);
    }

    /// Takes in what another history knows.
    pub fn merge(&mut self, other: &Self) {
        self.incomplete |= other.incomplete;
        for (of, theirs) in &other.learned {
            match self.learned.get_mut(of) {
                Some(ours) => ours.merge(theirs),
                None => {
                    self.learned.insert(of.clone(), theirs.clone());
                }
            }
        }
        while self.learned.len() > MAX_IMAGES {
            let oldest = self.learned.iter().min_by_key(|(of, l)| (l.last_ns, *of));
            let Some(oldest) = oldest.map(|(of, _)| of.clone()) else {
                break;
            };
            self.learned.remove(&oldest);
            self.incomplete = true;
        }
    }
}

impl Learned {
    fn new(observed: &Observed) -> Self {
        let account = observed.at_realtime();
        let earlier = observed.privileges.earlier;
        let piece = Piece {
            observed_ns: account.observed_ns.saturating_sub(earlier.observed_ns),
            execs: account.execs.saturating_sub(earlier.execs),
            whole: account.whole,
        };
        Self {
            is_image: observed.privileges.party.image.is_some(),
            granted: account.granted,
            used: account.used,
            touched: account.touched,
            calls: account.calls,
            sight: observed.sight,
            last_ns: observed.until_ns,
            pieces: BTreeMap::from([(Key::new(observed), piece)]),
        }
    }

    fn merge(&mut self, other: &Self) {
        self.is_image |= other.is_image;
        self.granted = match (self.granted, other.granted) {
            (Some(a), Some(b)) => Some(a.or(&b)),
            (a, b) => a.or(b),
        };
        self.used.merge(&other.used);
        self.touched.merge(&other.touched);
        Calls::merge_known(&mut self.calls, other.calls.as_ref());
        self.sight = self.sight.min(other.sight);
        self.last_ns = self.last_ns.max(other.last_ns);
        for (key, piece) in &other.pieces {
            let kept = self.pieces.entry(key.clone()).or_default();
            *kept = (*kept).max(*piece);
        }
        while self.pieces.len() > MAX_PIECES {
            let shortest = self
                .pieces
                .iter()
                .min_by_key(|(key, piece)| (**piece, *key));
            let Some(shortest) = shortest.map(|(key, _)| key.clone()) else {
                break;
            };
            self.pieces.remove(&shortest);
        }
    }

    /// All of it as one account.
    #[must_use]
    pub fn account(&self) -> Account {
        let sum = |of: fn(&Piece) -> u64| {
            let values = self.pieces.values().map(of);
            values.fold(0, u64::saturating_add)
        };
        Account {
            granted: self.granted,
            used: self.used.clone(),
            touched: self.touched.clone(),
            calls: self.calls.clone(),
            execs: sum(|piece| piece.execs),
            observed_ns: sum(|piece| piece.observed_ns),
            // Every container was seen to start, if only in one of the runs that saw it.
            whole: self.evidence().starts == self.containers(),
        }
    }

    /// How many containers there were.
    #[must_use]
    pub fn containers(&self) -> usize {
        let all: BTreeSet<&str> = self.pieces.keys().map(|key| key.halves().0).collect();
        all.len()
    }

    /// How many runs saw any of them.
    #[must_use]
    pub fn runs(&self) -> usize {
        let all: BTreeSet<&str> = self.pieces.keys().map(|key| key.halves().1).collect();
        all.len()
    }

    /// What advice rests on.
    #[must_use]
    pub fn evidence(&self) -> Evidence {
        let whole = self.pieces.iter().filter(|(_, piece)| piece.whole);
        let started: BTreeSet<&str> = whole.map(|(key, _)| key.halves().0).collect();
        let times = self.pieces.values().map(|piece| piece.observed_ns);
        Evidence {
            observed_ns: times.fold(0, u64::saturating_add),
            starts: started.len(),
            sight: self.sight,
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the order of runs does not matter, nor how often one is taken in, and what was used in one of them is never
    //! called superfluous. Method: made-up runs of a few containers, in any order.

    use super::super::confidence::AdviceConfidence;
    use super::super::privileges::tests::{observed, used};
    use super::*;
    use crate::model::privileges::{Earlier, Scope};
    use proptest::prelude::*;

    const HOUR_NS: u64 = 3_600_000_000_000;

    prop_compose! {
        fn seen()(
            container in 0u64..4, image in prop::option::of(0u8..2), run in 0u8..3, capability in 0u8..6,
            granted: bool, probe: bool, whole: bool, observed_ns in 0u64..5, execs in 0u64..5, until_ns in 0u64..5,
            sight in prop::sample::select(vec![Sight::None, Sight::Uses, Sight::Probes]),
        ) -> Observed {
            let ways = used(&[(capability, granted, probe, Scope::Initial)]);
            let image = image.map(|number| format!("image-{number}"));
            let mut observed = observed(&container.to_string(), image.as_deref(), container, ways);
            let account = &mut observed.privileges.account;
            (account.whole, account.observed_ns, account.execs) = (whole, observed_ns, execs);
            (observed.run, observed.until_ns, observed.sight) = (run.to_string(), until_ns, sight);
            observed
        }
    }

    fn history(all: &[Observed]) -> History {
        let mut history = History::default();
        for observed in all {
            history.note(observed);
        }
        history
    }

    fn merged(a: &History, b: &History) -> History {
        let mut both = a.clone();
        both.merge(b);
        both
    }

    proptest! {
        #[test]
        fn merging_is_a_join(
            a in prop::collection::vec(seen(), 0..8),
            b in prop::collection::vec(seen(), 0..8),
            c in prop::collection::vec(seen(), 0..8),
        ) {
            let (a, b, c) = (history(&a), history(&b), history(&c));
            prop_assert_eq!(merged(&a, &b), merged(&b, &a));
            prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
            prop_assert_eq!(merged(&a, &a), a.clone());
            prop_assert_eq!(merged(&merged(&a, &b), &b), merged(&a, &b));
        }

        #[test]
        fn what_was_used_stays_used(
            before in prop::collection::vec(seen(), 0..8), after in prop::collection::vec(seen(), 0..8),
        ) {
            let history = merged(&history(&before), &history(&after));
            for observed in before.iter().chain(&after).filter(|o| o.sight != Sight::None) {
                let account = history.learned[observed.of()].account();
                let used = observed.privileges.account.used.used();
                prop_assert_eq!(account.used.used() & used, used);
                prop_assert_eq!(account.excess() & used, 0);
            }
        }

        #[test]
        fn what_is_written_down_is_read_back(all in prop::collection::vec(seen(), 0..8)) {
            let history = history(&all);
            let text = serde_json::to_string(&history).unwrap();
            prop_assert_eq!(serde_json::from_str::<History>(&text).unwrap(), history);
        }
    }

    /// One container in two runs was observed for both, and a run that goes on where one ended counts what is new.
    #[test]
    fn time_is_counted_once() {
        let mut one = observed("a", Some("web"), 1, Used::default());
        one.privileges.account.observed_ns = HOUR_NS;
        one.run = "1".to_owned();
        let mut again = one.clone();
        again.run = "2".to_owned();
        again.privileges.account.observed_ns = 3 * HOUR_NS;
        again.privileges.account.whole = false;
        again.privileges.earlier = Earlier {
            observed_ns: HOUR_NS,
            execs: 3,
        };
        let history = history(&[one.clone(), again, one]);
        let learned = &history.learned["web"];
        let account = learned.account();
        assert_eq!((account.observed_ns, account.execs), (3 * HOUR_NS, 3));
        assert_eq!((learned.containers(), learned.runs()), (1, 2));
        assert!(account.whole);
        assert_eq!(learned.evidence().confidence(), AdviceConfidence::Medium);
    }

    /// What is kept is bounded, and that something is gone is said.
    #[test]
    fn the_oldest_image_makes_room() {
        let all: Vec<Observed> = (0..=MAX_IMAGES as u64)
            .map(|number| {
                let mut observed = observed("a", Some(&format!("i{number}")), 1, Used::default());
                observed.until_ns = number;
                observed
            })
            .collect();
        let history = history(&all);
        assert_eq!(history.learned.len(), MAX_IMAGES);
        assert!(history.incomplete && !history.learned.contains_key("i0"));
        let many: Vec<Observed> = (0..=MAX_PIECES as u64)
            .map(|number| observed("a", Some("web"), number, Used::default()))
            .collect();
        assert_eq!(self::history(&many).learned["web"].pieces.len(), MAX_PIECES);
    }
}
