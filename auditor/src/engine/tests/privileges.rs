//! Goal: who used which capability is charged to the container whose task did it, once, with its first time, and to nobody
//! for what a runtime does on the way. Method: stories with made-up checks.

use super::machine::{CLONE_NEW_ALL, Machine};
use crate::engine::{Event, LossMark};
use crate::inventory::container::SpecSummary;
use crate::model::NsKind;
use crate::model::layers::{Devices, Landlock, Layer};
use crate::model::privileges::{First, Privileges, Scope, Way};
use crate::model::setup::{Mount, SetUp};
use auditor_common::hook;
use auditor_common::limits::ACT_NAME_LEN;
use auditor_common::record::*;

const CHOWN: u64 = 0;
const NET_RAW: u64 = 13;
const SYS_ADMIN: u64 = 21;
/// What the simulated runtime gives.
const DEFAULT: u64 = 0xa804_25fb;
const PATH: &str = "/machine/runc-a";

/// One check of a capability.
#[derive(Clone, Copy)]
pub(super) struct Check {
    pub(super) capability: u64,
    pub(super) refused: bool,
    pub(super) flags: u64,
    pub(super) syscall: i32,
}

pub(super) const fn granted(capability: u64) -> Check {
    Check {
        capability,
        refused: false,
        flags: capable::INITIAL | capable::KNOWN,
        syscall: 92,
    }
}

pub(super) fn check(m: &mut Machine, tid: u32, check: Check) {
    let state = m.tasks[&tid];
    let inum = match check.flags & capable::SCOPE {
        capable::INITIAL => m.tasks[&1].ns[ns::USER].inum,
        capable::OWN => state.ns[ns::USER].inum,
        _ => 77,
    };
    let mut header = m.header(kind::ACT);
    header.hook = hook::CAPABLE;
    let record = ActRecord {
        header,
        actor: state.key,
        target: TaskKey::default(),
        object: FileRef::default(),
        act: act::CAPABLE,
        syscall: check.syscall,
        result: if check.refused { -1 } else { 0 },
        name_len: 0,
        arg0: check.capability,
        arg1: check.flags | u64::from(inum) << capable::INUM_SHIFT,
        name: [0; ACT_NAME_LEN],
    };
    m.step(Event::Act(&record));
}

fn machine() -> (Machine, u32) {
    let mut m = Machine::new("");
    m.engine.config.syscalls = |number| match number {
        9 => Some("mmap"),
        92 => Some("chown"),
        446 => Some("landlock_restrict_self"),
        _ => None,
    };
    m.name(PATH, "a");
    let a = m.runc(50, PATH);
    m.engine.take_renewal();
    (m, a)
}

fn only(m: &Machine) -> Privileges {
    let mut all = m.engine.privileges();
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn ways(m: &Machine) -> Vec<(Way, First)> {
    let used = only(m).account.used;
    used.iter().map(|(w, f)| (*w, f.clone())).collect()
}

#[test]
fn the_first_time_of_each_way_is_kept() {
    let (mut m, a) = machine();
    check(&mut m, a, granted(CHOWN));
    let at = m.now_ns;
    let child = m.fork(a, 0);
    check(&mut m, child, granted(CHOWN));
    let refused = Check {
        refused: true,
        ..granted(SYS_ADMIN)
    };
    check(&mut m, child, refused);
    let found = ways(&m);
    assert_eq!(found.len(), 2);
    let (way, first) = &found[0];
    assert_eq!(
        (way.capability, way.granted, way.scope),
        (0, true, Scope::Initial)
    );
    assert_eq!((first.boottime_ns, first.pid), (at, a));
    assert_eq!(first.syscall.as_deref(), Some("chown"));
    assert_eq!(
        (first.comm.as_str(), first.exe.as_deref()),
        ("test", Some("/bin/sh"))
    );
    let account = only(&m).account;
    assert_eq!(account.used.used(), 1);
    assert_eq!(account.used.refused(), 1 << SYS_ADMIN);
    assert_eq!(account.excess(), DEFAULT & !1);
    assert!(m.violations().is_empty());
}

/// Goal: layers are put together from what each tells: the first task, the spec, the look at it and at the host.
#[test]
fn layers_are_put_together() {
    let mut m = Machine::new("");
    let refuses = vec!["mknod".to_owned(), "mknodat".to_owned()];
    let spec = SpecSummary {
        seccomp: true,
        seccomp_refuses: Some(refuses),
        all_devices: true,
        ..SpecSummary::default()
    };
    m.spec(PATH, "a", spec);
    let a = m.runc(50, PATH);
    let layers = only(&m).layers;
    let granted = layers.granted.unwrap();
    assert_eq!((granted.permitted, granted.initial), (DEFAULT, true));
    assert_eq!(layers.confined.securebits, Some(0));
    assert_eq!(layers.devices, Devices::Declared { all: true });
    assert_eq!(layers.worn, None, "nobody has looked");
    // The profile is declared, and no filter is there.
    assert_eq!(layers.blocked(Layer::Seccomp), 0);

    let mount = |point: &str, root: &str| Mount {
        dev: 7,
        root: root.to_owned(),
        point: point.to_owned(),
        fs_type: "ext4".to_owned(),
        ..Mount::default()
    };
    while let Some(look) = m.engine.next_look() {
        let is_own = look.key.tid == a;
        let mounts = match is_own {
            true => vec![
                mount("/data", "/srv/data"),
                mount("/etc/hosts", "/run/a/hosts"),
            ],
            false => vec![mount("/", "/")],
        };
        let seen = SetUp {
            pid: look.key.tgid,
            start_boottime_ns: look.key.start_boottime_ns,
            mnt_ns: look.mnt_ns,
            mounts,
            lsm: Some("docker-default (enforce)".to_owned()),
            device_rules: is_own.then(Vec::new),
            ..SetUp::default()
        };
        m.step(Event::Looked(&seen));
    }
    let layers = only(&m).layers;
    let worn = layers.worn.as_ref().unwrap();
    assert_eq!(worn.lsm.as_deref(), Some("docker-default (enforce)"));
    let surfaces: Vec<_> = worn
        .surfaces
        .list
        .iter()
        .map(|s| (s.of.as_str(), s.own))
        .collect();
    assert_eq!(surfaces, [("/srv/data", false), ("/run/a/hosts", true)]);
    // What the kernel says of devices comes before what was declared.
    assert_eq!(layers.devices, Devices::Rules(Vec::new()));
    assert_eq!(layers.blocked(Layer::Devices), 1 << 27);

    // They stay when it has ended.
    m.exit(a);
    let ended = only(&m);
    assert!(ended.ended);
    assert_eq!(ended.layers, layers);
}

#[test]
fn what_a_runtime_uses_is_not_the_containers() {
    let mut m = Machine::new("");
    m.name(PATH, "a");
    let runc = m.fork(1, 0);
    check(&mut m, runc, granted(SYS_ADMIN));
    let a = m.runc(50, PATH);
    // A process that is sent in: it becomes the container's before it runs the container's program.
    let sent = m.send_in(50, a);
    check(&mut m, sent, granted(SYS_ADMIN));
    assert_eq!(ways(&m), []);
    m.exec(sent, "/bin/id");
    check(&mut m, sent, granted(CHOWN));
    let account = only(&m).account;
    assert_eq!(account.used.used(), 1 << CHOWN);
    assert_eq!((account.execs, account.whole), (2, true));
}

#[test]
fn scopes_are_told_apart() {
    let mut m = Machine::new("");
    m.name(PATH, "a");
    let a = m.runc_from(1, 50, PATH, CLONE_NEW_ALL | NsKind::User.clone_flag());
    let over = |flags| Check {
        flags: flags | capable::KNOWN,
        ..granted(SYS_ADMIN)
    };
    check(&mut m, a, over(capable::OWN));
    check(&mut m, a, over(capable::OTHER));
    let child = m.fork(a, 0);
    m.unshare(child, NsKind::User.clone_flag());
    check(&mut m, child, over(capable::OWN));
    check(&mut m, child, over(capable::MADE));
    let refused = Check {
        refused: true,
        ..over(capable::INITIAL)
    };
    check(&mut m, child, refused);
    let scopes: Vec<_> = ways(&m).iter().map(|(way, _)| way.scope).collect();
    use Scope::{Container, Initial, Inner, Other};
    assert_eq!(scopes, [Initial, Container, Inner, Other]);
    let privileges = only(&m);
    assert_eq!(privileges.account.granted.map(|g| g.initial), Some(false));
    assert_eq!(privileges.account.used.inner(), 1 << SYS_ADMIN);
}

#[test]
fn probes_stand_apart_known_or_inferred() {
    let (mut m, a) = machine();
    let probe = Check {
        flags: capable::INITIAL | capable::KNOWN | capable::PROBE,
        ..granted(NET_RAW)
    };
    check(&mut m, a, probe);
    let unknown = Check {
        flags: capable::INITIAL,
        ..granted(SYS_ADMIN)
    };
    check(
        &mut m,
        a,
        Check {
            syscall: 9,
            ..unknown
        },
    );
    let used = only(&m).account.used;
    assert_eq!(
        (used.used(), used.probed()),
        (0, 1 << NET_RAW | 1 << SYS_ADMIN)
    );
    check(&mut m, a, unknown);
    let used = only(&m).account.used;
    assert_eq!((used.used(), used.probed()), (1 << SYS_ADMIN, 1 << NET_RAW));
    assert!(
        ways(&m)
            .iter()
            .all(|(way, first)| (way.capability == 21) == first.inferred)
    );
}

#[test]
fn an_account_outlives_its_container() {
    let (mut m, a) = machine();
    check(&mut m, a, granted(CHOWN));
    m.tick(1_000_000_000);
    m.exit(a);
    let ended = only(&m);
    assert!(ended.ended && ended.account.observed_ns >= 1_000_000_000);
    assert_eq!(ended.party.id, "runc:a");
    m.tick(5_000_000_000);
    assert_eq!(only(&m), ended);
    for n in 0..300 {
        let path = format!("/machine/runc-{n}");
        m.name(&path, &n.to_string());
        let tid = m.runc_unnamed(1000 + n, &path);
        m.exit(tid);
    }
    assert_eq!(m.engine.privileges().len(), 256);
    assert_eq!(m.engine.privileges_forgotten(), 45);
}

#[test]
fn what_may_have_been_missed_is_asked_for_again() {
    let (mut m, a) = machine();
    assert!(!m.engine.take_renewal());
    let lost = |place: &str| LossMark {
        place: place.to_owned(),
        count: 1,
        ..LossMark::default()
    };
    m.step(Event::Loss(&lost("sink")));
    assert!(!m.engine.take_renewal());
    m.step(Event::Loss(&lost("ring")));
    assert!(m.engine.take_renewal() && !m.engine.take_renewal());
    // A container that is found, not seen to start.
    let mut later = m.restarted();
    later.cgroup(50, PATH);
    later.sweep();
    assert!(later.engine.take_renewal());
    assert!(!only(&later).account.whole);
    check(&mut later, a, granted(CHOWN));
    assert_eq!(only(&later).account.used.used(), 1);
}

#[test]
fn an_account_survives_the_agent() {
    let (mut m, a) = machine();
    check(&mut m, a, granted(CHOWN));
    m.tick(61_000_000_000);
    // What it has now is not what it was granted.
    m.tasks.get_mut(&a).unwrap().creds.cap_permitted = 0;
    m.tasks.get_mut(&a).unwrap().creds.cap_bounding = 0;
    let saved = m.engine.saved();
    let mut later = m.restarted();
    later.step(Event::Restore(&saved));
    later.cgroup(50, PATH);
    later.sweep();
    check(&mut later, a, granted(NET_RAW));
    let account = only(&later).account;
    assert_eq!(account.used.used(), 1 << CHOWN | 1 << NET_RAW);
    assert_eq!(account.granted.map(|g| g.permitted), Some(DEFAULT));
    assert!(!account.whole && account.observed_ns >= 60_000_000_000);
}

#[test]
fn nonsense_is_harmless() {
    let (mut m, a) = machine();
    for capability in [63, 64, 255, 256, u64::MAX] {
        for flags in 0..16 {
            check(
                &mut m,
                a,
                Check {
                    capability,
                    flags,
                    ..granted(0)
                },
            );
        }
    }
    assert!(ways(&m).iter().all(|(way, _)| way.capability == 63));
}

/// Goal: what a container reaches beside its capabilities stands in its account, once. Method: it joins the host's network
/// namespace twice.
#[test]
fn what_is_touched_is_in_the_account() {
    let mut m = Machine::new("");
    m.name("/a", "a");
    let init = m.runc(50, "/a");
    let other = m.fork(init, 0);
    m.setns(init, 1, &[NsKind::Net]);
    m.setns(other, 1, &[NsKind::Net]);
    let all = m.engine.privileges();
    let touched: Vec<_> = all[0].account.touched.iter().collect();
    let [(thing, first)] = touched.as_slice() else {
        panic!("{touched:?}")
    };
    assert_eq!(thing.name, "net (the machine's)");
    assert_eq!(thing.kind.as_str(), "namespace");
    assert_eq!(first.pid, init);
}

/// Who restricts itself by Landlock is seen doing so, and nothing else tells of it.
#[test]
fn restrictions_by_landlock_are_noted() {
    let (mut m, a) = machine();
    let child = m.fork(a, 0);
    let restrict = |m: &mut Machine, tid: u32| {
        let state = m.tasks[&tid];
        let record = TaskRecord {
            header: m.header(kind::TASK),
            actor: state.key,
            cause: cause::CRED,
            syscall: 446,
            arg0: 0,
            arg1: 0,
            state,
        };
        m.step(Event::Task(&record));
        only(m).layers.confined.landlock
    };
    assert_eq!(only(&m).layers.confined.landlock, None);
    assert_eq!(restrict(&mut m, child), Some(Landlock::Some));
    assert_eq!(restrict(&mut m, a), Some(Landlock::First));
    assert_eq!(restrict(&mut m, child), Some(Landlock::First));
}
