//! The index against an oracle that knows no index, over random histories; and examples by hand.

mod examples;
pub(crate) mod oracle;

use super::{Changed, IsolationIndex, PAIR_DIMENSIONS, Pair, Scope, WIDE_HOLDERS};
use super::{Powers, Reach};
use crate::model::facts::{EntityId, EntityProfile, HOST, NsId, ObjectKey, Origin};
use crate::model::kinds::{Dimension, Verdict};
use crate::model::output::EntityKind;
use crate::model::policy::{Endpoint, Matcher, Policy, Role, Share};
use oracle::{Oracle, Side, Who};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const NAMES: [&str; 2] = ["red", "blue"];
const PODS: [&str; 2] = ["p", "q"];
const SLOTS: u32 = 6;
const NAMESPACES: [Dimension; 9] = [
    Dimension::Mnt,
    Dimension::Pid,
    Dimension::PidForChildren,
    Dimension::Net,
    Dimension::Ipc,
    Dimension::Uts,
    Dimension::User,
    Dimension::Time,
    Dimension::CgroupNs,
];

/// One step of a history, as kernel and runtime would make it.
#[derive(Clone, Debug)]
enum Step {
    /// A container appears with an init task; the numbers choose its objects and origins.
    Create {
        who: u32,
        kind: u8,
        name: u8,
        pod: u8,
        parent: u32,
        holds: Vec<(u8, u8, u8)>,
    },
    /// Name, pod or parent become known later.
    Describe {
        who: u32,
        name: u8,
        pod: u8,
        parent: u32,
    },
    Destroy {
        who: u32,
    },
    Fork {
        task: usize,
    },
    /// setns, attach, chdir: the task leaves what it had in the dimension for something there is.
    Join {
        task: usize,
        object: u8,
        id: u8,
        origin: u8,
    },
    /// unshare: for something new.
    Unshare {
        task: usize,
        object: u8,
    },
    Exit {
        task: usize,
    },
    Lose {
        who: Option<u32>,
        dimension: u8,
    },
    Recover {
        who: Option<u32>,
        dimension: u8,
    },
    Blind {
        dimensions: u8,
    },
    Users {
        who: u32,
        own: u8,
        owners: Vec<u8>,
    },
    Reach {
        who: u32,
        pid: u8,
        user: u8,
        powers: u8,
        uid: u32,
    },
    Policy {
        shares: Vec<(u8, u8, u8)>,
        required: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..SLOTS;
    let holds = prop::collection::vec((0u8..13, 0u8..5, any::<u8>()), 0..8);
    let create = (
        1..SLOTS,
        any::<u8>(),
        any::<u8>(),
        any::<u8>(),
        who.clone(),
        holds,
    );
    let task = any::<usize>();
    prop_oneof![
        6 => create.prop_map(|(who, kind, name, pod, parent, holds)| {
            Step::Create { who, kind, name, pod, parent, holds }
        }),
        1 => (1..SLOTS, any::<u8>(), any::<u8>(), who.clone())
            .prop_map(|(who, name, pod, parent)| Step::Describe { who, name, pod, parent }),
        2 => (0..SLOTS).prop_map(|who| Step::Destroy { who }),
        3 => task.prop_map(|task| Step::Fork { task }),
        6 => (task, 0u8..13, 0u8..5, any::<u8>())
            .prop_map(|(task, object, id, origin)| Step::Join { task, object, id, origin }),
        3 => (task, 0u8..13).prop_map(|(task, object)| Step::Unshare { task, object }),
        3 => task.prop_map(|task| Step::Exit { task }),
        1 => (prop::option::of(0..SLOTS), any::<u8>())
            .prop_map(|(who, dimension)| Step::Lose { who, dimension }),
        1 => (prop::option::of(0..SLOTS), any::<u8>())
            .prop_map(|(who, dimension)| Step::Recover { who, dimension }),
        1 => any::<u8>().prop_map(|dimensions| Step::Blind { dimensions }),
        3 => (who, 0u8..8, prop::collection::vec(0u8..8, 0..3))
            .prop_map(|(who, own, owners)| Step::Users { who, own, owners }),
        4 => (0..SLOTS, 0u8..6, 0u8..4, 0u8..4, 0u32..2)
            .prop_map(|(who, pid, user, powers, uid)| Step::Reach { who, pid, user, powers, uid }),
        1 => (prop::collection::vec((0u8..3, 0u8..3, any::<u8>()), 0..3), any::<u8>())
            .prop_map(|(shares, required)| Step::Policy { shares, required }),
    ]
}

fn object(kind: u8, id: u8) -> ObjectKey {
    let ns = NsId(u32::from(id));
    match usize::from(kind) {
        9 => ObjectKey::Territory(EntityId(u32::from(id))),
        10 => ObjectKey::Root(ns),
        11 => ObjectKey::Cwd(ns),
        12 => ObjectKey::Handle(u32::from(id)),
        kind => ObjectKey::Ns(NAMESPACES[kind], ns),
    }
}

fn pick<T: Copy>(from: &[T], by: u8) -> T {
    from[usize::from(by) % from.len()]
}

fn maybe(from: &[&'static str], by: u8) -> Option<&'static str> {
    from.get(usize::from(by) % (from.len() + 1)).copied()
}

/// User namespaces form a tree: the parent of n is (n - 1) / 2.
fn chain(own: u8) -> Vec<NsId> {
    let up = |n: &u32| (*n > 0).then(|| (n - 1) / 2);
    std::iter::successors(Some(u32::from(own)), up)
        .map(NsId)
        .collect()
}

/// Index and oracle side by side, and the tasks that live in both.
struct World {
    index: IsolationIndex,
    oracle: Oracle,
    tasks: Vec<(EntityId, Vec<(ObjectKey, Origin)>)>,
    fresh: u8,
}

impl World {
    fn new(wide: usize) -> Self {
        let mut world = Self {
            index: IsolationIndex::with_wide_holders(wide),
            oracle: Oracle {
                required: crate::model::policy::REQUIRED.into(),
                blind: Vec::new(),
                ..Oracle::default()
            },
            tasks: Vec::new(),
            fresh: 100,
        };
        let host = Who {
            kind: EntityKind::Host,
            name: None,
            pod: None,
            parent: None,
        };
        world.oracle.entities.insert(HOST, host);
        let own = (0..12).map(|kind| (object(kind, 0), Origin::Own)).collect();
        world.spawn(HOST, own);
        world
    }

    fn spawn(&mut self, id: EntityId, holds: Vec<(ObjectKey, Origin)>) {
        for (object, origin) in &holds {
            self.index.hold(id, *object, *origin);
            self.oracle.holds.push((id, *object, *origin));
        }
        self.tasks.push((id, holds));
    }

    fn exit(&mut self, task: usize) {
        let (id, holds) = self.tasks.remove(task);
        for (object, origin) in holds {
            self.release(id, object, origin);
        }
    }

    fn release(&mut self, id: EntityId, object: ObjectKey, origin: Origin) {
        self.index.release(id, object, origin);
        let at = self
            .oracle
            .holds
            .iter()
            .position(|hold| *hold == (id, object, origin));
        self.oracle.holds.remove(at.unwrap());
    }

    fn replace(&mut self, task: usize, new: ObjectKey, origin: Origin) {
        let id = self.tasks[task].0;
        let dimension = new.dimension();
        let old = self.tasks[task]
            .1
            .iter()
            .position(|(o, _)| o.dimension() == dimension);
        if let Some(at) = old {
            let (object, origin) = self.tasks[task].1.remove(at);
            self.release(id, object, origin);
        }
        self.index.hold(id, new, origin);
        self.oracle.holds.push((id, new, origin));
        self.tasks[task].1.push((new, origin));
    }

    fn describe(&mut self, id: EntityId, who: Who) {
        let mut profile = EntityProfile::new(who.kind, format!("runc:{:02}", id.0 * 37 % 50));
        profile.name = who.name.map(str::to_owned);
        profile.pod = who.pod.map(str::to_owned);
        profile.parent = who.parent;
        self.index.insert_entity(id, profile);
        self.oracle.entities.insert(id, who);
    }

    fn apply(&mut self, step: &Step) {
        let alive = |who: &u32| self.oracle.entities.contains_key(&EntityId(*who));
        match step {
            Step::Create {
                who,
                kind,
                name,
                pod,
                parent,
                holds,
            } => {
                if alive(who) {
                    return;
                }
                let id = EntityId(*who);
                let kind = pick(
                    &[EntityKind::Container, EntityKind::Container, EntityKind::Vm],
                    *kind,
                );
                let parent = (parent < who && parent % 2 == 1).then_some(EntityId(*parent));
                let (name, pod) = (maybe(&NAMES, *name), maybe(&PODS, *pod));
                self.describe(
                    id,
                    Who {
                        kind,
                        name,
                        pod,
                        parent,
                    },
                );
                let by_dimension: BTreeMap<_, _> = holds
                    .iter()
                    .map(|(kind, id, by)| (object(*kind, *id), pick(&Origin::ALL, *by)))
                    .map(|(object, origin)| (object.dimension(), (object, origin)))
                    .collect();
                self.spawn(id, by_dimension.into_values().collect());
            }
            Step::Describe {
                who,
                name,
                pod,
                parent,
            } => {
                let id = EntityId(*who);
                let Some(old) = self.oracle.entities.get(&id).cloned() else {
                    return;
                };
                let parent = (parent < who).then_some(EntityId(*parent));
                let (name, pod) = (maybe(&NAMES, *name), maybe(&PODS, *pod));
                self.describe(
                    id,
                    Who {
                        name,
                        pod,
                        parent,
                        ..old
                    },
                );
            }
            Step::Destroy { who } => self.destroy(EntityId(*who)),
            Step::Fork { task } => {
                if self.tasks.len() < 24 {
                    let (id, holds) = self.tasks[task % self.tasks.len()].clone();
                    self.spawn(id, holds);
                }
            }
            Step::Join {
                task,
                object: kind,
                id,
                origin,
            } => {
                let task = task % self.tasks.len();
                self.replace(task, object(*kind, *id), pick(&Origin::ALL, *origin));
            }
            Step::Unshare { task, object: kind } => {
                self.fresh = self.fresh.wrapping_add(1).max(100);
                self.replace(
                    task % self.tasks.len(),
                    object(*kind, self.fresh),
                    Origin::Own,
                );
            }
            Step::Exit { task } => {
                // The first task of the host never exits.
                if self.tasks.len() > 1 {
                    self.exit(1 + task % (self.tasks.len() - 1));
                }
            }
            Step::Lose { who, dimension } => {
                let dimension = pick(&PAIR_DIMENSIONS, *dimension);
                let who = who.map(EntityId);
                if who.is_none_or(|id| self.oracle.entities.contains_key(&id)) {
                    self.index
                        .mark_unknown(who.map_or(Scope::All, Scope::Entity), dimension);
                    self.oracle.unknown.push((who, dimension));
                }
            }
            Step::Recover { who, dimension } => {
                let dimension = pick(&PAIR_DIMENSIONS, *dimension);
                let who = who.map(EntityId);
                self.index
                    .clear_unknown(who.map_or(Scope::All, Scope::Entity), dimension);
                self.oracle
                    .unknown
                    .retain(|(whose, d)| *d != dimension || (who.is_some() && *whose != who));
            }
            Step::Blind { dimensions } => {
                self.oracle.blind = (0..2u8)
                    .filter(|bit| dimensions & 1 << bit != 0)
                    .map(|bit| pick(&PAIR_DIMENSIONS, (dimensions >> 2).wrapping_add(bit)))
                    .collect();
                self.index
                    .set_not_evaluated(&self.oracle.blind.iter().copied().collect());
            }
            Step::Users { who, own, owners } => {
                if alive(who) {
                    let id = EntityId(*who);
                    let owners: BTreeSet<NsId> = owners.iter().map(|o| NsId((*o).into())).collect();
                    self.index.set_user_chain(id, chain(*own));
                    self.index.set_owners(id, owners.clone());
                    self.oracle.users.insert(id, chain(*own));
                    self.oracle.owners.insert(id, owners);
                }
            }
            Step::Reach {
                who,
                pid,
                user,
                powers,
                uid,
            } => {
                if alive(who) {
                    let reach = Reach {
                        pid: chain(*pid),
                        user: chain(*user),
                        powers: Powers {
                            trace: powers & 1 != 0,
                            signal: powers & 2 != 0,
                        },
                        uid: *uid,
                    };
                    self.index.set_reach(EntityId(*who), reach.clone());
                    self.oracle.reaches.insert(EntityId(*who), reach);
                }
            }
            Step::Policy { shares, required } => self.set_policy(shares, *required),
        }
    }

    fn destroy(&mut self, id: EntityId) {
        if id == HOST || !self.oracle.entities.contains_key(&id) {
            return;
        }
        // Half of them are forgotten with tasks that still hold something.
        while id.0.is_multiple_of(2)
            && let Some(task) = self.tasks.iter().position(|(whose, _)| *whose == id)
        {
            self.exit(task);
        }
        self.tasks.retain(|(whose, _)| *whose != id);
        self.index.remove_entity(id);
        self.oracle.entities.remove(&id);
        self.oracle.holds.retain(|(whose, ..)| *whose != id);
        self.oracle.unknown.retain(|(whose, _)| *whose != Some(id));
        self.oracle.users.remove(&id);
        self.oracle.owners.remove(&id);
        self.oracle.reaches.remove(&id);
    }

    fn set_policy(&mut self, shares: &[(u8, u8, u8)], required: u8) {
        let side = |by: u8| -> Side { maybe(&NAMES, by) };
        let endpoint =
            |side: Side| side.map_or(Endpoint::Host, |name| Endpoint::Role(name.to_owned()));
        let mut policy = Policy::default();
        for name in NAMES {
            let fields = [("name".to_owned(), name.to_owned())].into();
            let matcher = Matcher {
                fields,
                ..Matcher::default()
            };
            policy.roles.push(Role {
                name: name.to_owned(),
                matcher,
                capabilities: None,
            });
        }
        self.oracle.shares.clear();
        for (x, y, d) in shares {
            let dimensions = [pick(&PAIR_DIMENSIONS, *d), pick(&PAIR_DIMENSIONS, d >> 4)];
            let between = [endpoint(side(*x)), endpoint(side(*y))];
            let reason = "test".to_owned();
            policy.shares.push(Share {
                between,
                dimensions: dimensions.into(),
                reason,
            });
            self.oracle
                .shares
                .push((side(*x), side(*y), dimensions.to_vec()));
        }
        match required % 5 {
            4 => drop(policy.required.insert(Dimension::Processes)),
            0 => drop(policy.required.insert(Dimension::Ownership)),
            1 => policy.required.extend([Dimension::User, Dimension::Time]),
            2 => policy.required = [Dimension::Net].into(),
            _ => {}
        }
        self.oracle.required = policy.required.iter().copied().collect();
        self.index.set_policy(&policy);
    }

    fn pairs(&self) -> BTreeMap<(EntityId, EntityId), Pair> {
        let ids: Vec<EntityId> = (0..SLOTS).map(EntityId).collect();
        let all = ids
            .iter()
            .flat_map(|a| ids.iter().filter(move |b| a < *b).map(move |b| (*a, *b)));
        all.map(|(a, b)| ((a, b), self.index.pair(a, b))).collect()
    }

    fn alive(&self, (a, b): (EntityId, EntityId)) -> bool {
        self.oracle.entities.contains_key(&a) && self.oracle.entities.contains_key(&b)
    }

    fn agrees_with_oracle(&self, exact_memory: bool) {
        let (mut isolated, mut violated, mut unknown) = (0, 0, 0);
        for ((a, b), pair) in self.pairs() {
            assert_eq!(pair, self.index.pair(b, a), "symmetry");
            if !self.alive((a, b)) {
                continue;
            }
            assert_eq!(pair.class, self.oracle.class(a, b), "class of {a:?} {b:?}");
            for d in &pair.dimensions {
                let expected = self.oracle.verdict(a, b, d.dimension);
                assert_eq!(d.verdict, expected, "{a:?} {b:?} {}", d.dimension);
            }
            assert_eq!(pair.iota, self.oracle.iota(a, b), "{a:?} {b:?}");
            let ever = self.oracle.ever.contains(&(a, b));
            assert!(
                !exact_memory || pair.ever_violated == ever,
                "memory of {a:?} {b:?}"
            );
            *match pair.iota {
                Some(true) => &mut isolated,
                Some(false) => &mut violated,
                None => &mut unknown,
            } += 1;
        }
        let summary = self.index.matrix().summary;
        let counts = (summary.isolated, summary.violated, summary.unknown);
        assert_eq!(counts, (isolated, violated, unknown));
        assert_eq!(summary.pairs, isolated + violated + unknown);
    }

    /// Whatever is violated stands in the matrix: as a pair, or with an object that many share.
    fn hides_nothing(&self) {
        let matrix = self.index.matrix();
        let key = |id: EntityId| self.index.profile(id).unwrap().key.clone();
        assert!(matrix.pairs.iter().all(|p| key(p.a) < key(p.b)));
        assert!(matrix.pairs.is_sorted_by_key(|p| (key(p.a), key(p.b))));
        for ((a, b), pair) in self.pairs() {
            let listed = matrix
                .pairs
                .iter()
                .any(|p| [(p.a, p.b), (p.b, p.a)].contains(&(a, b)));
            for d in &pair.dimensions {
                let shared = matrix.shared.iter().any(|s| {
                    Some(s.object) == d.object
                        && s.verdict >= d.verdict
                        && s.members.contains(&a)
                        && s.members.contains(&b)
                });
                let bad = matches!(d.verdict, Verdict::Violated | Verdict::Degraded);
                assert!(!bad || listed || shared, "{a:?} {b:?} {d:?}");
            }
        }
    }
}

/// What a pair is judged by. That ownership and reach are not evaluated until their facts are there is not told.
fn told(
    pair: &Pair,
    required: &BTreeSet<Dimension>,
) -> Vec<(Dimension, Verdict, Option<ObjectKey>)> {
    let of = |d: &super::DimensionVerdict| {
        let quiet = matches!(d.dimension, Dimension::Ownership | Dimension::Processes)
            && d.verdict == Verdict::NotEvaluated
            && !required.contains(&d.dimension);
        (
            d.dimension,
            if quiet { Verdict::Isolated } else { d.verdict },
            d.object,
        )
    };
    pair.dimensions.iter().map(of).collect()
}

fn covers(changed: &Changed, a: EntityId, b: EntityId, before: &Pair, after: &Pair) -> bool {
    let objects = before
        .dimensions
        .iter()
        .chain(&after.dimensions)
        .filter_map(|d| d.object);
    changed.everything
        || changed.pairs.contains(&(a, b))
        || changed.entities.iter().any(|id| *id == a || *id == b)
        || objects
            .into_iter()
            .any(|object| changed.objects.contains(&object))
}

fn run(steps: &[Step], wide: usize) {
    let mut world = World::new(wide);
    world.index.changed();
    world.oracle.remember();
    for step in steps {
        let (before, lived) = (world.pairs(), world.oracle.entities.clone());
        world.apply(step);
        world.oracle.remember();
        let changed = world.index.changed();
        let required = world.index.policy().required.clone();
        for ((a, b), after) in world.pairs() {
            let old = &before[&(a, b)];
            let existed = lived.contains_key(&a) && lived.contains_key(&b);
            if existed && told(old, &required) != told(&after, &required) {
                assert!(
                    covers(&changed, a, b, old, &after),
                    "{step:?}: {a:?} {b:?} untold"
                );
            }
        }
        world.agrees_with_oracle(wide == WIDE_HOLDERS);
    }
    world.hides_nothing();
    assert_eq!(world.index.changed(), Changed::default());
}

/// A case is sixty steps and compares everything after each: fewer cases than proptest's 256, or as
/// many as `PROPTEST_CASES` says.
fn config() -> ProptestConfig {
    let given = std::env::var_os("PROPTEST_CASES").is_some();
    let config = ProptestConfig {
        max_shrink_iters: 2000,
        ..ProptestConfig::default()
    };
    if given {
        config
    } else {
        ProptestConfig {
            cases: 96,
            ..config
        }
    }
}

proptest! {
    #![proptest_config(config())]

    /// Goal: verdicts, ι, classes, counts, memory and changes are what the definition says.
    /// Method: random histories through index and oracle, every pair compared after every step.
    #[test]
    fn agrees_with_the_oracle(steps in prop::collection::vec(step(), 1..60)) {
        run(&steps, WIDE_HOLDERS);
    }

    /// The same where nearly every shared object is wide, so that blocks of pairs are counted.
    #[test]
    fn agrees_where_much_is_wide(
        steps in prop::collection::vec(step(), 1..60),
        wide in 1usize..4,
    ) {
        run(&steps, wide);
    }
}
