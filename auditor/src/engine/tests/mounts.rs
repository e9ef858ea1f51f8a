//! Goal: what a container mounts is told by whose it is, and a container that runs with less than its spec is told.
//! Method: stories with made-up tables, answered as the agent would.

use super::machine::Machine;
use crate::engine::{Event, Look};
use crate::inventory::container::{DeclaredCapabilities, DeclaredMount, SpecSummary};
use crate::model::device::Device;
use crate::model::output::{Evidence, Finding, Record};
use crate::model::setup::{DeviceNode, Mount, SetUp, Table};
use crate::model::{Dimension, NsKind, RuleId, Severity, Verdict};
use auditor_common::hook;
use auditor_common::limits::ACT_NAME_LEN;
use auditor_common::record::*;

const WEB: &str = "/runc/web";
const HOST_INIT: u32 = 1;
const DISK: u32 = 254 << 20 | 1;

fn mount(dev: u32, root: &str, point: &str, fs_type: &str) -> Mount {
    Mount {
        id: dev ^ u32::try_from(point.len() * 31 + root.len()).unwrap() << 8,
        dev,
        root: root.to_owned(),
        point: point.to_owned(),
        fs_type: fs_type.to_owned(),
        ..Mount::default()
    }
}

fn read_only(mount: Mount) -> Mount {
    Mount {
        read_only: true,
        ..mount
    }
}

fn mask(mount: Mount) -> Mount {
    Mount {
        mask: true,
        ..mount
    }
}

/// What runc makes of the default spec, in short.
fn table() -> Vec<Mount> {
    vec![
        mount(60, "/", "/", "overlay"),
        mount(61, "/", "/proc", "proc"),
        mount(62, "/", "/dev", "tmpfs"),
        read_only(mount(63, "/", "/sys", "sysfs")),
        mount(DISK, "/volumes/data", "/data", "ext4"),
        read_only(mount(61, "/sys", "/proc/sys", "proc")),
        mask(mount(62, "/null", "/proc/kcore", "tmpfs")),
    ]
}

fn host_table() -> Vec<Mount> {
    vec![
        Mount {
            shared: 1,
            ..mount(DISK, "/", "/", "ext4")
        },
        mount(20, "/", "/proc", "proc"),
        mount(21, "/", "/run", "tmpfs"),
        mount(60, "/", "/var/lib/overlay/merged", "overlay"),
    ]
}

/// One machine, one container, and its mount table.
struct Story {
    machine: Machine,
    init: u32,
    mounts: Vec<Mount>,
}

impl Story {
    fn new() -> Self {
        Self::with(table())
    }

    fn with(mounts: Vec<Mount>) -> Self {
        let mut machine = Machine::new("");
        machine.name(WEB, "web");
        let host = looks(&mut machine).remove(0);
        tell(&mut machine, &host, host_table());
        let init = machine.runc(30, WEB);
        let looks = looks(&mut machine);
        assert!(looks.iter().all(|l| l.key.tid == init && l.always));
        tell(&mut machine, &looks[0], mounts.clone());
        assert!(machine.violations().is_empty());
        Self {
            machine,
            init,
            mounts,
        }
    }

    fn act(&mut self, tid: u32) {
        let record = self.record(tid);
        self.machine.step(Event::Act(&record));
    }

    /// The kernel got at the file system of a device for the container; what is said of it.
    fn gets_at(&mut self, dev: u32) -> Vec<Finding> {
        let record = self.getting_at(dev);
        self.machine.step(Event::Act(&record));
        self.machine.violations()
    }

    fn getting_at(&mut self, dev: u32) -> ActRecord {
        let mut record = self.record(self.init);
        record.header.hook = hook::GET_TREE;
        record.act = act::MOUNT_DEVICE;
        record.object.dev = dev;
        record.name[..4].copy_from_slice(b"ext4");
        record.name_len = 4;
        record
    }

    fn record(&mut self, tid: u32) -> ActRecord {
        let mut header = self.machine.header(kind::ACT);
        header.hook = hook::SB_MOUNT;
        let state = self.machine.tasks[&tid];
        ActRecord {
            header,
            actor: state.key,
            target: TaskKey::default(),
            object: FileRef {
                mnt_ns_inum: state.ns[ns::MNT].inum,
                ..FileRef::default()
            },
            act: act::MOUNT,
            syscall: -1,
            result: 0,
            name_len: 0,
            arg0: 0,
            arg1: 0,
            name: [0; ACT_NAME_LEN],
        }
    }

    /// The container changes its table to this; what is said of it.
    fn change(&mut self, change: impl FnOnce(&mut Vec<Mount>)) -> Vec<Finding> {
        self.act(self.init);
        assert_eq!(look(&mut self.machine), None, "the mount is not done yet");
        self.machine.tick(100_000_000);
        let look = look(&mut self.machine).unwrap();
        change(&mut self.mounts);
        tell(&mut self.machine, &look, self.mounts.clone());
        self.machine.violations()
    }

    fn gains(&mut self, mount: Mount) -> Vec<Finding> {
        self.change(|mounts| mounts.push(mount))
    }
}

fn looks(machine: &mut Machine) -> Vec<Look> {
    std::iter::from_fn(|| machine.engine.next_look()).collect()
}

/// At a container: the host is looked at beside it, before.
fn look(machine: &mut Machine) -> Option<Look> {
    let asked = looks(machine);
    let container = asked.iter().position(|look| look.key.tid != HOST_INIT)?;
    assert!(container <= 1);
    asked.into_iter().nth(container)
}

fn set_up(look: &Look, mounts: Vec<Mount>) -> SetUp {
    SetUp {
        pid: look.key.tgid,
        start_boottime_ns: look.key.start_boottime_ns,
        mnt_ns: look.mnt_ns,
        mounts,
        present: look.paths.clone(),
        ..SetUp::default()
    }
}

fn tell(machine: &mut Machine, look: &Look, mounts: Vec<Mount>) {
    machine.step(Event::Looked(&set_up(look, mounts)));
}

fn only(found: &[Finding]) -> (Severity, &[String]) {
    let [finding] = found else {
        panic!("{found:#?}");
    };
    assert_eq!(finding.rule, RuleId::ForeignMount);
    assert_eq!(finding.dimension, Dimension::Mounts);
    let Some(Evidence::Mount { flags, .. }) = &finding.observed else {
        panic!("{finding:#?}");
    };
    (finding.severity, flags)
}

/// A look that was asked before the act, and shows what came of it, is not a change that nobody made.
#[test]
fn a_look_in_between_answers_the_act() {
    let mut story = Story::new();
    story.act(story.init);
    story.machine.tick(100_000_000);
    let earlier = look(&mut story.machine).unwrap();
    tell(&mut story.machine, &earlier, story.mounts.clone());
    story.act(story.init);
    story.mounts.push(mount(DISK, "/", "/mnt", "ext4"));
    tell(&mut story.machine, &earlier, story.mounts.clone());
    // The look at the act comes after one at the host.
    assert_eq!(story.machine.violations(), []);
    story.machine.tick(100_000_000);
    let due = look(&mut story.machine).unwrap();
    tell(&mut story.machine, &due, story.mounts.clone());
    assert_eq!(only(&story.machine.violations()).0, Severity::Critical);
}

/// A look may also be quicker than the record of the act: what it took for a change from outside is judged once the act
/// is known. What was there before that look came from outside indeed.
#[test]
fn an_act_that_is_told_late_is_judged_all_the_same() {
    let mut story = Story::new();
    let act = story.record(story.init);
    let sweep = |story: &mut Story, read_ns| {
        (0..20).for_each(|_| story.machine.sweep());
        let look = look(&mut story.machine).unwrap();
        let mut seen = set_up(&look, story.mounts.clone());
        seen.read_ns = read_ns;
        story.machine.step(Event::Looked(&seen));
    };
    let acted_ns = act.header.boottime_ns;
    story.mounts.push(mount(8 << 20 | 3, "/", "/csi", "ext4"));
    sweep(&mut story, acted_ns - 1);
    story.mounts.push(mount(8 << 20 | 1, "/", "/mnt", "ext4"));
    sweep(&mut story, acted_ns + 1);
    assert_eq!(story.machine.violations(), []);
    story.machine.step(Event::Act(&act));
    story.machine.tick(100_000_000);
    let due = look(&mut story.machine).unwrap();
    tell(&mut story.machine, &due, story.mounts.clone());
    let found = story.machine.violations();
    assert_eq!(only(&found).0, Severity::Critical);
    assert!(found[0].message.ends_with("8:1 (ext4) at /mnt"));
}

/// The hook stands before the mount, and a tick may come between them.
#[test]
fn an_effect_that_comes_late_answers_the_act() {
    let mut story = Story::new();
    story.act(story.init);
    story.machine.tick(100_000_000);
    let first = look(&mut story.machine).unwrap();
    assert!(first.always);
    tell(&mut story.machine, &first, story.mounts.clone());
    assert_eq!(story.machine.violations(), []);
    story.machine.tick(100_000_000);
    let second = look(&mut story.machine).unwrap();
    // The same table once more need not be told.
    assert!(!second.always);
    story.mounts.push(mount(DISK, "/", "/mnt", "ext4"));
    tell(&mut story.machine, &second, story.mounts.clone());
    assert_eq!(only(&story.machine.violations()).0, Severity::Critical);
    // It was answered: what comes now comes from outside.
    for _ in 0..8 {
        story.machine.tick(100_000_000);
        assert_eq!(look(&mut story.machine), None);
    }
}

/// What never shows is given up.
#[test]
fn an_act_without_effect_is_looked_after_for_a_while() {
    let mut story = Story::new();
    story.act(story.init);
    let mut asked = Vec::new();
    for _ in 0..20 {
        story.machine.tick(100_000_000);
        asked.push(looks(&mut story.machine).len());
    }
    let expected: Vec<usize> = (1..=20)
        // The first time the host is looked at, too.
        .map(|tick| match tick {
            1 => 2,
            2 | 4 | 8 => 1,
            _ => 0,
        })
        .collect();
    assert_eq!(asked, expected);
}

#[test]
fn what_others_had_is_foreign() {
    let mut story = Story::new();
    let found = story.gains(mount(DISK, "/", "/mnt", "ext4"));
    assert_eq!(only(&found), (Severity::Critical, &[][..]));
    let found = story.gains(mount(8 << 20, "/", "/usb", "vfat"));
    assert_eq!(only(&found).0, Severity::Critical);
    let found = story.gains(mount(21, "/docker", "/run", "tmpfs"));
    assert_eq!(only(&found).0, Severity::Medium);
    let found = story.gains(mount(70, "/", "/cgroup", "cgroup"));
    assert_eq!(only(&found).0, Severity::High);
    let found = story.gains(mount(20, "/", "/hostproc", "proc"));
    assert!(found.iter().any(|f| f.severity == Severity::High));
    // The host has none mounted, and yet it is the machine's.
    for (dev, kind) in [(6, "devtmpfs"), (7, "debugfs"), (8, "securityfs")] {
        let found = story.gains(mount(dev, "/", &format!("/mnt/{kind}"), kind));
        assert_eq!(only(&found).0, Severity::High);
    }
}

/// A device is told when the kernel gets at it, whether or not anything is left of it by the next look, and once.
#[test]
fn a_device_is_told_at_once() {
    const STICK: u32 = 8 << 20 | 1;
    let mut story = Story::new();
    let found = story.gets_at(STICK);
    assert_eq!(only(&found), (Severity::Critical, &[][..]));
    let Some(Evidence::Mount { fs_type, dev, .. }) = &found[0].observed else {
        panic!("{found:#?}");
    };
    assert_eq!((fs_type.as_str(), *dev), ("ext4", STICK));
    assert_eq!(found[0].witness.hook, "vfs_get_tree");
    let words = "container web mounted the device 8:1 (ext4)";
    assert_eq!(found[0].message, words);
    let found = story.gains(mount(STICK, "/", "/mnt", "ext4"));
    assert!(found.is_empty(), "{found:#?}");
    // A part of it is another matter, and so is another device.
    let found = story.gains(mount(STICK, "/etc", "/tmp/etc", "ext4"));
    assert_eq!(only(&found).0, Severity::Critical);
    let found = story.gains(mount(STICK + 1, "/", "/other", "ext4"));
    assert_eq!(only(&found).0, Severity::Critical);
    // A directory of the host's disk does not make the disk the container's.
    assert_eq!(only(&story.gets_at(DISK)).0, Severity::Critical);
}

/// A look may be quicker than the record of what it shows: that is told once, too.
#[test]
fn a_device_that_a_look_showed_first_is_told_once() {
    const STICK: u32 = 8 << 20 | 1;
    let mut story = Story::new();
    let (late, next) = (story.getting_at(STICK), story.getting_at(STICK));
    story.act(story.init);
    story.machine.tick(100_000_000);
    let look = look(&mut story.machine).unwrap();
    story.mounts.push(mount(STICK, "/", "/mnt", "ext4"));
    let mut seen = set_up(&look, story.mounts.clone());
    seen.read_ns = late.header.boottime_ns;
    assert!(seen.read_ns < next.header.boottime_ns);
    story.machine.step(Event::Looked(&seen));
    assert_eq!(only(&story.machine.violations()).0, Severity::Critical);
    story.machine.step(Event::Act(&late));
    assert_eq!(story.machine.violations(), []);
    story.machine.step(Event::Act(&next));
    assert_eq!(only(&story.machine.violations()).0, Severity::Critical);
}

/// A container that was given a whole device may mount it again.
#[test]
fn a_device_of_its_own_is_silent() {
    const VOLUME: u32 = 8 << 20 | 2;
    let mut mounts = table();
    mounts.push(mount(VOLUME, "/", "/volume", "ext4"));
    let mut story = Story::with(mounts);
    assert!(story.gets_at(VOLUME).is_empty());
    assert!(story.gains(mount(VOLUME, "/", "/mnt", "ext4")).is_empty());
}

/// What the host mounted after the last look at it is the host's all the same.
#[test]
fn the_host_is_looked_at_before_a_container_is_judged() {
    let mut story = Story::new();
    story.act(story.init);
    story.machine.tick(100_000_000);
    let [host, container] = looks(&mut story.machine).try_into().unwrap();
    assert_eq!(host.key.tid, HOST_INIT);
    assert!(!host.always);
    let mut of_host = host_table();
    of_host.push(mount(22, "/", "/srv", "tmpfs"));
    tell(&mut story.machine, &host, of_host);
    story.mounts.push(mount(22, "/", "/mnt", "tmpfs"));
    tell(&mut story.machine, &container, story.mounts.clone());
    assert_eq!(only(&story.machine.violations()).0, Severity::Medium);
}

#[test]
fn what_is_its_own_is_silent() {
    let mut story = Story::new();
    for own in [
        mount(80, "/", "/tmp", "tmpfs"),
        mount(81, "/", "/build", "overlay"),
        mount(60, "/usr", "/mnt", "overlay"),
        mount(DISK, "/volumes/data/sub", "/sub", "ext4"),
        mount(82, "/", "/dev/pts", "devpts"),
    ] {
        let found = story.gains(own);
        assert!(found.is_empty(), "{found:#?}");
    }
}

#[test]
fn protection_that_goes_is_told() {
    let mut story = Story::new();
    let found = story.change(|mounts| mounts.retain(|m| m.point != "/proc/kcore"));
    assert_eq!(only(&found), (Severity::High, &["unmasked".to_owned()][..]));
    let found = story.change(|mounts| {
        for mount in mounts.iter_mut().filter(|m| m.point == "/proc/sys") {
            mount.read_only = false;
        }
    });
    assert_eq!(only(&found).1, ["read_write"]);
    let found = story.gains(mount(90, "/", "/mnt/proc", "proc"));
    assert_eq!(only(&found).1, ["read_write", "unmasked"]);
    let found = story.change(|mounts| {
        for mount in mounts.iter_mut().filter(|m| m.point == "/sys") {
            mount.read_only = false;
        }
    });
    assert_eq!(only(&found).1, ["read_write"]);
}

#[test]
fn a_peer_group_of_the_host_is_told() {
    let mut story = Story::new();
    let found = story.change(|mounts| mounts[4].shared = 1);
    assert_eq!(only(&found), (Severity::Medium, &["shared".to_owned()][..]));
    // A peer group of its own is nobody's business.
    let found = story.change(|mounts| mounts[0].shared = 77);
    assert!(found.is_empty());
}

/// A volume that the host mounts into a running container comes without an act.
#[test]
fn what_comes_from_outside_is_taken_over() {
    let mut story = Story::new();
    for _ in 0..20 {
        story.machine.sweep();
    }
    let asked = looks(&mut story.machine);
    assert!(asked.iter().any(|l| l.key.tid == HOST_INIT) && asked.iter().all(|l| !l.always));
    let look = asked.into_iter().find(|l| l.key.tid == story.init).unwrap();
    story.mounts.push(mount(8 << 20 | 3, "/", "/csi", "ext4"));
    tell(&mut story.machine, &look, story.mounts.clone());
    assert!(story.machine.violations().is_empty());
    // What becomes weaker does not come from outside.
    for weaker in story.mounts.iter_mut().filter(|m| m.point == "/proc/sys") {
        weaker.read_only = false;
    }
    tell(&mut story.machine, &look, story.mounts.clone());
    assert_eq!(only(&story.machine.violations()).0, Severity::High);
}

/// A sandbox within the container, as bubblewrap makes it.
#[test]
fn a_nested_mount_namespace_is_judged_by_what_it_gains() {
    let mut story = Story::new();
    let inner = story.machine.fork(
        story.init,
        NsKind::Mnt.clone_flag() | NsKind::Pid.clone_flag(),
    );
    assert!(!story.machine.violations().is_empty(), "the nesting itself");
    story.act(inner);
    story.machine.tick(100_000_000);
    let look = look(&mut story.machine).unwrap();
    assert_eq!(look.key.tid, inner);
    let mut mounts: Vec<Mount> = table();
    mounts.push(mount(91, "/", "/tmp/box", "tmpfs"));
    mounts.push(mount(92, "/", "/tmp/box/proc", "proc"));
    tell(&mut story.machine, &look, mounts.clone());
    let told = std::mem::take(&mut story.machine.out);
    assert!(
        matches!(&told[..], [Record::Audit(f)] if f.rule == RuleId::ForeignMount),
        "{told:#?}"
    );
    story.act(inner);
    story.machine.tick(100_000_000);
    mounts.push(mount(DISK, "/", "/mnt", "ext4"));
    tell(&mut story.machine, &look, mounts);
    assert_eq!(only(&story.machine.violations()).0, Severity::Critical);
}

/// An engine that goes on with what another one knew says the same, and nothing of what was said.
#[test]
fn what_a_recording_repeats_is_known() {
    let mut story = Story::new();
    let disk = mount(DISK, "/", "/mnt", "ext4");
    story.gains(disk);
    let known = story.machine.engine.set_ups();
    let tables = known.iter().map(|s| s.repeats);
    assert!(tables.clone().any(|t| t == Some(Table::Last)));
    assert!(tables.clone().any(|t| t == Some(Table::Baseline)));
    let mut machine = story.machine.restarted();
    for setup in &known {
        machine.step(Event::Looked(setup));
    }
    machine.cgroup(1, "/");
    machine.cgroup(30, WEB);
    machine.sweep();
    assert!(machine.violations().is_empty());
    looks(&mut machine);
    let (init, mounts) = (story.init, story.mounts);
    let mut again = Story {
        machine,
        init,
        mounts,
    };
    assert!(again.gains(mount(93, "/", "/tmp", "tmpfs")).is_empty());
    let found = again.gains(mount(70, "/", "/cgroup", "cgroup"));
    assert_eq!(only(&found).0, Severity::High);
    let mut both = [
        story.machine.engine.set_ups(),
        again.machine.engine.set_ups(),
    ];
    for tables in &mut both {
        tables.retain(|s| s.repeats == Some(Table::Baseline));
    }
    assert_eq!(both[0], both[1]);
}

fn spec() -> SpecSummary {
    let names = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect::<Vec<_>>();
    let declared = |destination: &str, kind: &str, options: &[&str]| DeclaredMount {
        destination: destination.to_owned(),
        source: None,
        kind: Some(kind.to_owned()),
        options: names(options),
    };
    let capabilities = names(&[
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FSETID",
        "CAP_FOWNER",
        "CAP_MKNOD",
        "CAP_NET_RAW",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SETFCAP",
        "CAP_SETPCAP",
        "CAP_NET_BIND_SERVICE",
        "CAP_SYS_CHROOT",
        "CAP_KILL",
        "CAP_AUDIT_WRITE",
    ]);
    SpecSummary {
        masked_paths: names(&["/proc/kcore", "/proc/gone"]),
        readonly_paths: names(&["/proc/sys"]),
        mounts: vec![
            declared("/proc", "proc", &[]),
            declared("/sys", "sysfs", &["ro"]),
            declared("/var/data", "bind", &["rbind"]),
        ],
        capabilities: Some(DeclaredCapabilities {
            bounding: capabilities.clone(),
            effective: capabilities.clone(),
            permitted: capabilities,
            inheritable: Vec::new(),
            ambient: Vec::new(),
        }),
        ..SpecSummary::default()
    }
}

/// What is said of a container with this spec and this table.
fn against(spec: SpecSummary, mounts: Vec<Mount>) -> Vec<(String, Severity)> {
    let mut machine = Machine::new("");
    machine.spec(WEB, "web", spec);
    looks(&mut machine);
    machine.runc(30, WEB);
    let look = look(&mut machine).unwrap();
    let mut seen = set_up(&look, mounts);
    seen.present.retain(|path| path != "/proc/gone");
    machine.step(Event::Looked(&seen));
    let found = machine.violations();
    // Once is enough.
    machine.step(Event::Looked(&seen));
    assert!(machine.violations().is_empty());
    let part = |finding: Finding| match finding.observed {
        Some(Evidence::Setup { part, .. }) if finding.rule == RuleId::SetupMismatch => {
            (part, finding.severity)
        }
        _ => panic!("{finding:#?}"),
    };
    found.into_iter().map(part).collect()
}

/// Links on the way, paths that the kernel does not have, and what runtimes add are no mismatch.
#[test]
fn a_container_as_its_spec_says_is_silent() {
    assert_eq!(against(spec(), table()), []);
}

#[test]
fn less_than_the_spec_is_told() {
    let mut mounts = table();
    mounts.retain(|m| m.point != "/proc/kcore" && m.point != "/proc/sys" && m.point != "/data");
    mounts[3].read_only = false;
    let mut more = spec();
    more.seccomp = true;
    more.no_new_privileges = true;
    if let Some(capabilities) = &mut more.capabilities {
        capabilities.bounding.pop();
        capabilities.permitted.pop();
        capabilities.effective.pop();
    }
    let found = against(more, mounts);
    let high = |part: &str| (part.to_owned(), Severity::High);
    let medium = |part: &str| (part.to_owned(), Severity::Medium);
    assert_eq!(
        found,
        [
            high("masked_path"),
            high("read_only_path"),
            medium("mount"),
            medium("mount"),
            high("capability"),
            high("seccomp"),
            medium("no_new_privs"),
        ]
    );
}

/// Nodes that its spec gives it, that every container has, or that a hook may have added, are as they should be.
#[test]
fn device_nodes_beyond_the_spec_are_told() {
    let node = |name: &str, block, major, minor| DeviceNode {
        name: name.to_owned(),
        device: Device {
            block,
            major,
            minor,
        },
    };
    let found = |spec: SpecSummary| {
        let mut machine = Machine::new("");
        machine.spec(WEB, "web", spec.clone());
        looks(&mut machine);
        machine.runc(30, WEB);
        let asked = look(&mut machine).unwrap();
        assert_eq!(asked.devices, spec.devices_final);
        let seen = SetUp {
            devices: Some(vec![
                node("null", false, 1, 3),
                node("fuse", false, 10, 229),
                node("kvm", false, 10, 232),
                node("sda", true, 8, 0),
            ]),
            ..set_up(&asked, table())
        };
        machine.step(Event::Looked(&seen));
        let told = machine.violations();
        let values = told.iter().map(|finding| match &finding.observed {
            Some(Evidence::Setup { part, value }) if part == "device" => {
                (value.clone(), finding.severity)
            }
            other => panic!("{other:?}"),
        });
        values.collect::<Vec<_>>()
    };
    let given = SpecSummary {
        devices: vec![node("kvm", false, 10, 232).device],
        devices_final: true,
        capabilities: spec().capabilities,
        ..SpecSummary::default()
    };
    let expected = [
        (
            "/dev/fuse, character device 10:229".to_owned(),
            Severity::Low,
        ),
        ("/dev/sda, block device 8:0".to_owned(), Severity::High),
    ];
    assert_eq!(found(given.clone()), expected);
    let by_hook = SpecSummary {
        devices_final: false,
        ..given.clone()
    };
    assert_eq!(found(by_hook), []);
    let privileged = SpecSummary {
        all_devices: true,
        ..given
    };
    assert_eq!(found(privileged), []);
}

/// A container that mounts before anybody has looked gains nothing by it.
#[test]
fn a_late_baseline_holds_only_what_the_spec_explains() {
    let mut machine = Machine::new("");
    machine.spec(WEB, "web", spec());
    let host = looks(&mut machine).remove(0);
    tell(&mut machine, &host, host_table());
    let init = machine.runc(30, WEB);
    let first = look(&mut machine).unwrap();
    let mut mounts = table();
    mounts.push(mount(DISK, "/", "/mnt", "ext4"));
    let mut story = Story {
        machine,
        init,
        mounts: mounts.clone(),
    };
    let seen = SetUp {
        read_ns: story.machine.now_ns + 1_000_000,
        present: Vec::new(),
        ..set_up(&first, mounts)
    };
    story.machine.step(Event::Looked(&seen));
    assert!(story.machine.violations().is_empty());
    assert_eq!(only(&story.change(|_| {})).0, Severity::Critical);
    assert!(story.change(|_| {}).is_empty());
}

/// Two containers with one volume, one with a directory of it, and one with another.
#[test]
fn writable_directories_are_shared_and_declared() {
    let mut story = Story::new();
    let web = story
        .machine
        .engine
        .world()
        .label(&story.machine.tasks[&story.init].key);
    let mut others = Vec::new();
    for (cgroup, path, root) in [
        (31, "/runc/same", "/volumes/data"),
        (32, "/runc/below", "/volumes/data/sub"),
        (33, "/runc/other", "/volumes/other"),
    ] {
        let init = story.machine.runc(cgroup, path);
        let mut mounts = table();
        mounts[0].dev = 1000 + u32::try_from(cgroup).unwrap();
        mounts[1].dev = 2000 + u32::try_from(cgroup).unwrap();
        mounts[2].dev = 3000 + u32::try_from(cgroup).unwrap();
        mounts[4].root = root.to_owned();
        for look in looks(&mut story.machine) {
            tell(&mut story.machine, &look, mounts.clone());
        }
        others.push((
            init,
            story
                .machine
                .engine
                .world()
                .label(&story.machine.tasks[&init].key),
        ));
    }
    let verdict = |story: &Story, other| {
        let pair = story.machine.engine.index().pair(web, other);
        pair.dimension(Dimension::Mounts).unwrap().verdict
    };
    assert_eq!(verdict(&story, others[0].1), Verdict::BaselineShared);
    assert_eq!(verdict(&story, others[1].1), Verdict::BaselineShared);
    assert_eq!(verdict(&story, others[2].1), Verdict::Isolated);
    assert!(story.machine.violations().is_empty());
    story.machine.exit(others[1].0);
    let of_web = &story.machine.engine.index();
    assert_eq!(
        of_web
            .pair(web, others[1].1)
            .dimension(Dimension::Mounts)
            .unwrap()
            .verdict,
        Verdict::Isolated
    );
}
