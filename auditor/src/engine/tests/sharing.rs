//! Goal: what of a container's mounts the host has, or propagates with, is in the matrix, judged by the spec. Method:
//! made-up tables of the host and of containers with and without a spec.

use super::machine::Machine;
use crate::engine::Event;
use crate::inventory::container::{DeclaredMount, SpecSummary};
use crate::model::facts::{EntityId, HOST};
use crate::model::output::Evidence;
use crate::model::setup::{Mount, SetUp};
use crate::model::{Dimension, RuleId, Severity, Verdict};

const DISK: u32 = 254 << 20 | 1;

fn mount(dev: u32, root: &str, point: &str) -> Mount {
    Mount {
        id: dev,
        dev,
        root: root.to_owned(),
        point: point.to_owned(),
        fs_type: "ext4".to_owned(),
        ..Mount::default()
    }
}

/// The host's disk, in peer group 1.
fn host_table() -> Vec<Mount> {
    let disk = Mount {
        shared: 1,
        ..mount(DISK, "/", "/")
    };
    vec![disk, mount(60, "/", "/var/lib/merged")]
}

/// Its root is on the host's disk, as that of a container without an overlay is.
fn table(bound: Mount) -> Vec<Mount> {
    vec![mount(DISK, "/bundle/rootfs", "/"), bound]
}

fn declares(destination: &str, option: &str) -> SpecSummary {
    SpecSummary {
        mounts: vec![DeclaredMount {
            destination: destination.to_owned(),
            source: Some("/srv/data".to_owned()),
            kind: Some("bind".to_owned()),
            options: vec!["rbind".to_owned(), option.to_owned()],
        }],
        ..SpecSummary::default()
    }
}

impl Machine {
    /// Answers what is asked: the host by one table, the others by the other.
    fn look_around(&mut self, host: &[Mount], others: &[Mount]) {
        while let Some(look) = self.engine.next_look() {
            let mounts = match look.key.tid {
                1 => host.to_vec(),
                _ => others.to_vec(),
            };
            let seen = SetUp {
                pid: look.key.tgid,
                start_boottime_ns: look.key.start_boottime_ns,
                mnt_ns: look.mnt_ns,
                mounts,
                present: look.paths.clone(),
                ..SetUp::default()
            };
            self.step(Event::Looked(&seen));
        }
    }
}

/// A machine with one container, which has this mount beside its root.
fn with(bound: Mount, spec: Option<SpecSummary>) -> (Machine, u32, EntityId) {
    let mut m = Machine::new("");
    match spec {
        Some(spec) => m.spec("/web", "web", spec),
        None => m.name("/web", "web"),
    }
    m.look_around(&host_table(), &[]);
    let init = m.runc(50, "/web");
    m.look_around(&host_table(), &table(bound));
    let web = m.engine.world().label(&m.tasks[&init].key);
    (m, init, web)
}

fn judged(m: &Machine, web: EntityId) -> (Verdict, Severity) {
    let pair = m.engine.index().pair(HOST, web);
    let mounts = pair.dimension(Dimension::Mounts).unwrap();
    assert_eq!(pair.iota, Some(true), "advisory");
    (mounts.verdict, mounts.severity)
}

fn evidence(m: &Machine, web: EntityId) -> Evidence {
    use crate::model::facts::ObjectKey;
    let pair = m.engine.index().pair(HOST, web);
    match pair.dimension(Dimension::Mounts).unwrap().object.unwrap() {
        ObjectKey::Tree(id) => m.engine.tree_evidence(id).unwrap(),
        ObjectKey::Peer(id) => m.engine.peer_evidence(id).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// A writable directory of the host: declared, or not, or nobody knows. Read-only, and the container's root, are none.
#[test]
fn directories_of_the_host_are_judged_by_the_spec() {
    let bound = || mount(DISK, "/srv/data", "/data");
    let (m, _, web) = with(bound(), Some(declares("/data", "rprivate")));
    assert_eq!(judged(&m, web), (Verdict::DeclaredShared, Severity::Low));
    let Evidence::Mount { point, root, .. } = evidence(&m, web) else {
        panic!("a mount");
    };
    assert_eq!((point.as_str(), root.as_str()), ("/data", "/srv/data"));
    let (m, _, web) = with(bound(), Some(declares("/other", "rprivate")));
    assert_eq!(judged(&m, web), (Verdict::Degraded, Severity::Medium));
    let (m, _, web) = with(bound(), None);
    assert_eq!(judged(&m, web), (Verdict::BaselineShared, Severity::Low));
    let read_only = Mount {
        read_only: true,
        ..bound()
    };
    let (m, _, web) = with(read_only, Some(declares("/other", "ro")));
    assert_eq!(judged(&m, web).0, Verdict::Isolated);
    let (m, _, web) = with(mount(90, "/", "/tmp"), Some(declares("/other", "ro")));
    assert_eq!(judged(&m, web).0, Verdict::Isolated, "a tmpfs of its own");
}

/// A mount in the host's peer group: declared, or not. To receive alone is what runtimes set up.
#[test]
fn peer_groups_are_judged_by_the_spec() {
    let peer = |shared, master| Mount {
        shared,
        master,
        ..mount(90, "/", "/data")
    };
    let shared = |spec| with(peer(1, 0), spec);
    let (m, _, web) = shared(Some(declares("/data", "rshared")));
    assert_eq!(judged(&m, web), (Verdict::DeclaredShared, Severity::Low));
    let (m, _, web) = shared(Some(declares("/data", "rprivate")));
    assert_eq!(judged(&m, web), (Verdict::Degraded, Severity::Medium));
    let Evidence::Mount { point, flags, .. } = evidence(&m, web) else {
        panic!("a mount");
    };
    assert_eq!(
        (point.as_str(), &flags[..]),
        ("/data", &["shared".to_owned()][..])
    );
    let (m, _, web) = with(peer(0, 1), Some(declares("/data", "rprivate")));
    assert_eq!(judged(&m, web), (Verdict::BaselineShared, Severity::Low));
    let (m, _, web) = with(peer(8, 9), Some(declares("/data", "rprivate")));
    assert_eq!(judged(&m, web).0, Verdict::Isolated, "groups of its own");
}

/// What the host no longer has is not shared, and the end of a container leaves nothing behind.
#[test]
fn what_is_gone_is_let_go() {
    let (mut m, init, web) = with(mount(DISK, "/srv/data", "/data"), None);
    let table = table(mount(DISK, "/srv/data", "/data"));
    for sweep in 0..20 {
        m.sweep();
        let host = match sweep {
            0..10 => vec![mount(61, "/", "/")],
            _ => host_table(),
        };
        m.look_around(&host, &table);
        if sweep == 9 {
            assert_eq!(judged(&m, web).0, Verdict::Isolated);
        }
    }
    assert_eq!(judged(&m, web).0, Verdict::BaselineShared);
    m.exit(init);
    assert_eq!(m.engine.index().ignored(), 0);
    let held = m.engine.index().held(HOST);
    let mounts = held.filter(|(object, _)| object.dimension() == Dimension::Mounts);
    assert_eq!(mounts.count(), 0);
}

/// What a container wrote into its root lies where its overlay says: the host that executes it there runs the container's
/// code. What lies beside is the host's.
#[test]
fn the_host_runs_what_an_overlay_took() {
    let mut m = Machine::new("");
    m.name("/web", "web");
    m.look_around(&host_table(), &[]);
    let init = m.runc(50, "/web");
    let root = Mount {
        upper: Some("/var/lib/layers/7/diff".to_owned()),
        ..mount(60, "/", "/")
    };
    m.look_around(&host_table(), &[root]);
    let helper = m.fork(1, 0);
    for path in [
        "/var/lib/layers/7/difference",
        "/var/lib/layers/8/diff/sh",
        "/bin/sh",
    ] {
        m.exec(helper, path);
    }
    assert!(m.violations().is_empty());
    m.exec(helper, "/var/lib/layers/7/diff/tmp/helper");
    let found = m.violations();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].rule, RuleId::HostRunsContainerFile);
    assert_eq!(
        found[0].message,
        "a task of the host executed a file of container web"
    );
    m.exit(init);
    m.exec(helper, "/var/lib/layers/7/diff/tmp/helper");
    assert!(m.violations().is_empty(), "nobody writes there any more");
}
