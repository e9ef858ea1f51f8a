//! Examples by hand: each names the situation on a real machine that it stands for.

use crate::model::facts::{EntityId, EntityProfile, HOST, NsId, ObjectKey, Origin};
use crate::model::isolation::{Changed, IsolationIndex, Scope, WIDE_HOLDERS};
use crate::model::kinds::{Dimension, PairClass, Severity, Verdict};
use crate::model::output::EntityKind;
use crate::model::policy::Policy;

const REQUIRED_NS: [Dimension; 5] = [
    Dimension::Mnt,
    Dimension::Pid,
    Dimension::Net,
    Dimension::Ipc,
    Dimension::Uts,
];
const ADVISORY_NS: [Dimension; 3] = [Dimension::User, Dimension::Time, Dimension::CgroupNs];

fn ns(dimension: Dimension, id: u32) -> ObjectKey {
    ObjectKey::Ns(dimension, NsId(id))
}

/// A machine whose host holds everything initial.
fn machine() -> IsolationIndex {
    let mut index = IsolationIndex::new();
    for dimension in REQUIRED_NS.into_iter().chain(ADVISORY_NS) {
        index.hold(HOST, ns(dimension, 0), Origin::Own);
    }
    index.hold(HOST, ObjectKey::Root(NsId(0)), Origin::Own);
    index.hold(HOST, ObjectKey::Territory(HOST), Origin::Own);
    index
}

/// A plain runc container: own namespaces, the host's users, time and cgroup root.
fn container(index: &mut IsolationIndex, id: u32) -> EntityId {
    let entity = EntityId(id);
    let profile = EntityProfile::new(EntityKind::Container, format!("runc:{id:05}"));
    index.insert_entity(entity, profile);
    for dimension in REQUIRED_NS {
        index.hold(entity, ns(dimension, id), Origin::Own);
    }
    for dimension in ADVISORY_NS {
        index.hold(entity, ns(dimension, 0), Origin::Undeclared);
    }
    index.hold(entity, ObjectKey::Root(NsId(id)), Origin::Own);
    index.hold(entity, ObjectKey::Territory(entity), Origin::Own);
    entity
}

fn verdict(index: &IsolationIndex, a: EntityId, b: EntityId, d: Dimension) -> (Verdict, Severity) {
    let pair = index.pair(a, b);
    let found = pair.dimension(d).unwrap();
    (found.verdict, found.severity)
}

/// Two plain runc containers are isolated, and share users and time with each other and the host.
#[test]
fn plain_containers_are_isolated() {
    let mut index = machine();
    let (a, b) = (container(&mut index, 1), container(&mut index, 2));
    for (x, y, class) in [(a, b, PairClass::K2), (HOST, a, PairClass::K3)] {
        let pair = index.pair(x, y);
        assert_eq!(
            (pair.class, pair.iota, pair.ever_violated),
            (class, Some(true), false)
        );
        assert_eq!(
            verdict(&index, x, y, Dimension::User).0,
            Verdict::BaselineShared
        );
        assert_eq!(verdict(&index, x, y, Dimension::Net).0, Verdict::Isolated);
    }
    let matrix = index.matrix();
    assert!(matrix.pairs.is_empty());
    assert_eq!(matrix.shared.len(), 3);
    assert!(
        matrix
            .shared
            .iter()
            .all(|s| s.members.len() == 3 && s.offenders.is_empty())
    );
}

/// A container joins the host's mount namespace, and leaves it: ι returns, the pair remembers.
#[test]
fn an_escape_is_violated_and_resolved() {
    let mut index = machine();
    let (a, b) = (container(&mut index, 1), container(&mut index, 2));
    index.changed();
    index.hold(a, ns(Dimension::Mnt, 0), Origin::Acquired);
    assert_eq!(index.changed().pairs, [(HOST, a)]);
    let critical = (Verdict::Violated, Severity::Critical);
    assert_eq!(verdict(&index, HOST, a, Dimension::Mnt), critical);
    assert_eq!(index.pair(HOST, a).iota, Some(false));
    assert_eq!(index.pair(a, b).iota, Some(true));
    // A second task there, and both leave.
    index.hold(a, ns(Dimension::Mnt, 0), Origin::Acquired);
    index.release(a, ns(Dimension::Mnt, 0), Origin::Acquired);
    assert!(index.changed().is_empty());
    index.release(a, ns(Dimension::Mnt, 0), Origin::Acquired);
    assert_eq!(index.changed().pairs, [(HOST, a)]);
    let pair = index.pair(HOST, a);
    assert_eq!((pair.iota, pair.ever_violated), (Some(true), true));
    // A new incarnation has no past.
    index.remove_entity(a);
    container(&mut index, 1);
    assert!(!index.pair(HOST, a).ever_violated);
}

/// hostNetwork by declaration is reported with a risk and does not violate; undeclared it does.
#[test]
fn the_hosts_network_is_never_silent() {
    let mut index = machine();
    let net = ns(Dimension::Net, 0);
    let [a, b, c] = [1, 2, 3].map(|id| container(&mut index, id));
    for (id, origin) in [
        (a, Origin::Declared),
        (b, Origin::Declared),
        (c, Origin::Undeclared),
    ] {
        index.hold(id, net, origin);
    }
    let declared = (Verdict::DeclaredShared, Severity::Medium);
    assert_eq!(verdict(&index, HOST, a, Dimension::Net), declared);
    assert_eq!(
        verdict(&index, a, b, Dimension::Net).0,
        Verdict::DeclaredShared
    );
    assert_eq!(index.pair(a, b).class, PairClass::K2);
    let undeclared = (Verdict::Violated, Severity::High);
    assert_eq!(verdict(&index, HOST, c, Dimension::Net), undeclared);
    assert_eq!(index.matrix().pairs.len(), 6);
    // A policy may declare it.
    let text =
        "[[share]]\nbetween = [\"host\", \"00003\"]\ndimensions = [\"net\"]\nreason = \"x\"\n";
    index.set_policy(&Policy::parse(text, "p").unwrap());
    assert_eq!(verdict(&index, HOST, c, Dimension::Net), declared);
}

/// `--network container:x` is K4 and shares exactly that; a pod shares more, but not its processes.
#[test]
fn joins_and_pods_share_what_they_should() {
    let mut index = machine();
    let [a, b, c] = [1, 2, 3].map(|id| container(&mut index, id));
    index.hold(b, ns(Dimension::Net, 1), Origin::Declared);
    assert_eq!(index.pair(a, b).class, PairClass::K4);
    assert_eq!(index.pair(a, b).iota, Some(true));
    for id in [a, c] {
        let mut profile = index.profile(id).unwrap().clone();
        profile.pod = Some("prod/web".to_owned());
        index.insert_entity(id, profile);
    }
    index.hold(c, ns(Dimension::Net, 1), Origin::Undeclared);
    index.hold(c, ns(Dimension::Pid, 1), Origin::Undeclared);
    assert_eq!(index.pair(a, c).class, PairClass::K1);
    assert_eq!(
        verdict(&index, a, c, Dimension::Net).0,
        Verdict::DeclaredShared
    );
    assert_eq!(verdict(&index, a, c, Dimension::Pid).0, Verdict::Violated);
}

/// An engine in a container reaches into what it runs; what it runs does not reach up.
#[test]
fn ancestors_reach_down_never_up() {
    let mut index = machine();
    let (outer, inner) = (container(&mut index, 1), container(&mut index, 2));
    let mut profile = index.profile(inner).unwrap().clone();
    profile.parent = Some(outer);
    index.insert_entity(inner, profile);
    index.hold(outer, ns(Dimension::Pid, 2), Origin::Acquired);
    let pair = index.pair(outer, inner);
    assert_eq!((pair.class, pair.iota), (PairClass::K5, Some(true)));
    index.hold(inner, ns(Dimension::Pid, 1), Origin::Acquired);
    assert_eq!(index.pair(outer, inner).iota, Some(false));
}

/// Lost evidence makes ι null, and never hides what is known to be violated.
#[test]
fn violated_wins_over_unknown() {
    let mut index = machine();
    let [a, b] = [1, 2].map(|id| container(&mut index, id));
    index.mark_unknown(Scope::Entity(a), Dimension::Mnt);
    assert!(index.changed().entities.contains(&a));
    assert_eq!(index.pair(a, b).iota, None);
    assert_eq!(index.matrix().summary.unknown, 2);
    index.hold(a, ns(Dimension::Net, 2), Origin::Acquired);
    assert_eq!(index.pair(a, b).iota, Some(false));
    index.clear_unknown(Scope::All, Dimension::Mnt);
    assert_eq!(index.pair(HOST, a).iota, Some(true));
}

/// A rootless engine's user namespace owns the network of a container that is none of its own.
#[test]
fn an_owner_of_foreign_namespaces_degrades() {
    let mut index = machine();
    let [a, b] = [1, 2].map(|id| container(&mut index, id));
    index.set_user_chain(a, vec![NsId(5), NsId(0)]);
    index.set_owners(a, [NsId(5)].into());
    index.set_user_chain(b, vec![NsId(6), NsId(5), NsId(0)]);
    index.set_owners(b, [NsId(6)].into());
    assert!(index.changed().pairs.contains(&(a, b)));
    assert_eq!(
        verdict(&index, a, b, Dimension::Ownership).0,
        Verdict::Degraded
    );
    assert_eq!(index.pair(a, b).iota, Some(true), "advisory");
    index.set_user_chain(b, vec![NsId(7), NsId(0)]);
    assert!(index.changed().pairs.contains(&(a, b)));
    assert_eq!(
        verdict(&index, a, b, Dimension::Ownership).0,
        Verdict::Isolated
    );
}

/// 1,000 containers: counts are exact, what all share stands once, one escape is one pair.
#[test]
fn a_thousand_containers_have_an_exact_summary() {
    let mut index = machine();
    for id in 1..=1000 {
        container(&mut index, id);
    }
    let n = 1001u64;
    let matrix = index.matrix();
    let all = n * (n - 1) / 2;
    let summary = matrix.summary;
    assert_eq!(
        (summary.entities, summary.pairs, summary.isolated),
        (n, all, all)
    );
    assert_eq!((matrix.pairs.len(), matrix.shared.len()), (0, 3));
    index.changed();
    index.hold(EntityId(7), ns(Dimension::Net, 9), Origin::Acquired);
    assert_eq!(index.changed().pairs, [(EntityId(7), EntityId(9))]);
    // 200 by declaration, 3 without, one that took it: all on the host's network.
    let net = ns(Dimension::Net, 0);
    for id in 101..=300 {
        index.hold(EntityId(id), net, Origin::Declared);
    }
    for id in 301..=303 {
        index.hold(EntityId(id), net, Origin::Undeclared);
    }
    let Changed { pairs, objects, .. } = index.changed();
    assert_eq!(objects, [net]);
    assert!(pairs.len() < 203 + WIDE_HOLDERS * WIDE_HOLDERS);
    index.hold(EntityId(304), net, Origin::Acquired);
    let matrix = index.matrix();
    // 7–9; 3 undeclared among themselves and with the host; the one with all 204 other holders.
    assert_eq!(matrix.summary.violated, 1 + (3 + 3) + 204);
    assert_eq!(matrix.summary.isolated, all - matrix.summary.violated);
    let shared = matrix.shared.iter().find(|s| s.object == net).unwrap();
    assert_eq!(
        (shared.verdict, shared.members.len()),
        (Verdict::Violated, 205)
    );
    assert_eq!(shared.offenders, [301, 302, 303, 304].map(EntityId));
}
