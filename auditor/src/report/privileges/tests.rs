//! Goal: the table says what the JSON says; replicas and times of one container are taken together rightly; nothing is
//! called superfluous where nothing could be seen.

use super::*;
use crate::model::layers::{Confined, Devices, Layers, Seccomp, Worn};
use crate::model::output::{EntityKind, Party};
use crate::model::privileges::{Earlier, Granted, Scope, Used};
use crate::model::setup::IdRange;
use crate::model::surfaces::{Surface, SurfaceKind, Surfaces};
use crate::model::touched::{ThingKind, Touched};

const SCHEMA: &str = "auditor/1";

pub(crate) fn used(ways: &[(u8, bool, bool, Scope)]) -> Used {
    let mut used = Used::default();
    for &(capability, granted, probe, scope) in ways {
        let way = Way {
            capability,
            scope,
            granted,
            probe,
        };
        let first = First {
            boottime_ns: 1_000_000_000,
            syscall: Some("chown".into()),
            pid: 7,
            comm: "sh".to_owned(),
            exe: Some("/bin/sh".to_owned()),
            inferred: false,
        };
        used.note(way, first);
    }
    used
}

pub(crate) fn observed(id: &str, image: Option<&str>, incarnation: u64, used: Used) -> Observed {
    let granted = Granted {
        permitted: 0b1011,
        bounding: 0b1011,
        no_new_privs: true,
        initial: true,
    };
    Observed {
        node: "n".to_owned(),
        boot_id: "b".to_owned(),
        realtime_offset_ns: 0,
        sight: Sight::Probes,
        run: "r".to_owned(),
        until_ns: 0,
        privileges: Privileges {
            party: Party {
                entity: EntityKind::Container,
                id: format!("runc:{id}"),
                name: Some(format!("name-{id}")),
                runtime: None,
                image: image.map(str::to_owned),
                pod: None,
                incarnation: Some(incarnation),
                task: None,
            },
            account: Account {
                granted: Some(granted),
                used,
                execs: 3,
                observed_ns: 30_000_000_000,
                whole: true,
                touched: Touched::default(),
                calls: None,
            },
            layers: layers(granted),
            earlier: Earlier::default(),
            init: 7,
            ended: false,
        },
    }
}

fn layers(granted: Granted) -> Layers {
    Layers {
        granted: Some(granted),
        confined: Confined {
            securebits: Some(0),
            seccomp: Some(Seccomp {
                mode: 2,
                filters: 1,
            }),
            landlock: None,
        },
        refused: Some(
            vec!["chown", "reboot"]
                .into_iter()
                .map(str::to_owned)
                .collect(),
        ),
        devices: Devices::Unknown,
        worn: Some(Worn {
            uid_map: vec![IdRange {
                inside: 0,
                outside: 100_000,
                count: 65_536,
            }],
            lsm: Some("docker-default (enforce)".to_owned()),
            surfaces: Surfaces {
                list: vec![Surface {
                    kind: SurfaceKind::Host,
                    path: "/data".to_owned(),
                    of: "/srv".to_owned(),
                    own: false,
                }],
                omitted: 0,
            },
            ..Worn::default()
        }),
    }
}

pub(crate) fn observation(containers: Vec<Observed>) -> Observation {
    Observation {
        containers,
        ..Observation::default()
    }
}

fn sample() -> PrivilegesReport {
    let ways = [
        (0, true, false, Scope::Initial),
        (21, false, false, Scope::Initial),
        (13, true, true, Scope::Initial),
        (21, true, false, Scope::Inner),
    ];
    observation(vec![observed("a", None, 1, used(&ways))]).report(SCHEMA, &[], None)
}

/// Goal: what was reached beside capabilities stands in a row of its own. Method: a device.
#[test]
fn things_that_were_touched_have_a_row() {
    let mut one = observed("a", None, 1, Used::default());
    let thing = Thing {
        kind: ThingKind::Device,
        name: "character 10:229".to_owned(),
    };
    let ways = used(&[(0, true, false, Scope::Initial)]);
    let (_, first) = ways.iter().next().unwrap();
    one.privileges.account.touched.note(thing, first.clone());
    let report = observation(vec![one]).report(SCHEMA, &[], None);
    let table = report.table(Style::Plain);
    let row = "  touched     1  device character 10:229 (chown, sh)\n";
    assert!(table.contains(row), "{table}");
}

#[test]
fn the_table_says_what_the_json_says() {
    let table = sample().table(Style::Plain);
    let want = "\
name-a (runc:a): observed for 30 s, from its start, execs: 3, confidence: low
  granted     3  CHOWN DAC_OVERRIDE FOWNER, over the machine's initial user namespace
  used        1  CHOWN (chown, sh)
  excess      2  DAC_OVERRIDE FOWNER
  refused     1  SYS_ADMIN (chown, sh)
  probed      1  NET_RAW (chown, sh)
  inner       1  SYS_ADMIN (chown, sh)
  blocked by     bounding: 38 capabilities
  confined by    no_new_privs, seccomp with 1 filter, apparmor docker-default (enforce), its root is user 100000
  can write      /data (the host's /srv)

What this may miss
  no container was observed for longer than 30 s; a longer window may show more
";
    assert_eq!(table, want);
}

#[test]
fn the_json_follows_its_schema() {
    let schema = serde_json::to_value(schemars::schema_for!(PrivilegesReport)).unwrap();
    let value = serde_json::to_value(sample()).unwrap();
    jsonschema::validator_for(&schema)
        .unwrap()
        .validate(&value)
        .unwrap();
    assert_eq!(
        serde_json::from_value::<PrivilegesReport>(value).unwrap(),
        sample()
    );
}

#[test]
fn replicas_are_taken_together() {
    let initial = |capability| used(&[(capability, true, false, Scope::Initial)]);
    let all = vec![
        observed("a", Some("web"), 1, initial(0)),
        observed("b", Some("web"), 2, initial(1)),
        observed("c", None, 3, initial(3)),
    ];
    let report = observation(all.clone()).report(SCHEMA, &[], None);
    assert_eq!(report.containers.len(), 3);
    let [together] = &report.together[..] else {
        panic!("{:?}", report.together)
    };
    assert_eq!((together.of.as_str(), together.containers), ("web", 2));
    assert_eq!(together.capabilities.used, ["CHOWN", "DAC_OVERRIDE"]);
    assert_eq!(
        together.capabilities.excess,
        Some(vec!["FOWNER".to_owned()])
    );
    assert_eq!(together.capabilities.execs, 6);
    let one = observation(all).report(SCHEMA, &["name-c".to_owned()], None);
    assert_eq!((one.containers.len(), one.together.len()), (1, 0));
    let none = observation(vec![observed("a", None, 1, used(&[]))]);
    let none = none.report(SCHEMA, &["nope".to_owned()], None);
    let says = "no container is called \"nope\" (seen: name-a)";
    assert!(
        none.may_miss.iter().any(|sentence| sentence == says),
        "{:?}",
        none.may_miss
    );
}

#[test]
fn one_container_at_two_times_is_one() {
    let mut earlier = observed("a", None, 1, used(&[(0, true, false, Scope::Initial)]));
    let mut later = observed("a", None, 1, used(&[(1, true, false, Scope::Initial)]));
    for (one, name) in [(&mut earlier, "read"), (&mut later, "write")] {
        let ways = used(&[(0, true, false, Scope::Initial)]);
        let first = ways.iter().next().unwrap().1.clone();
        let kind = ThingKind::Knob;
        let account = &mut one.privileges.account;
        let name_of_it = name.to_owned();
        account.touched.note(
            Thing {
                kind,
                name: name_of_it,
            },
            first,
        );
        account.calls.insert(Calls::none(true)).note(Some(name));
    }
    let report = observation(vec![earlier, later]).report(SCHEMA, &[], None);
    let [only] = &report.containers[..] else {
        panic!("{:?}", report.containers)
    };
    assert_eq!(only.capabilities.used, ["CHOWN", "DAC_OVERRIDE"]);
    assert_eq!(only.capabilities.execs, 3);
    let touched = only.capabilities.touched.iter();
    assert_eq!(
        touched.map(|t| t.name.as_str()).collect::<Vec<_>>(),
        ["read", "write"]
    );
    let made = only.capabilities.syscalls.as_ref().unwrap();
    assert_eq!(made.used, ["read", "write"]);
    assert!(made.from_start && !made.partly);
}

#[test]
fn system_calls_have_a_row() {
    let mut one = observed("a", None, 1, Used::default());
    let calls = one.privileges.account.calls.insert(Calls::none(true));
    calls.note(Some("read"));
    calls.note(None);
    let report = observation(vec![one]).report(SCHEMA, &[], None);
    let row = "  syscalls    1  read (and some without a name)\n";
    assert!(report.table(Style::Plain).contains(row));
    assert!(!sample().table(Style::Plain).contains("syscalls"));
}

/// What was looked at before a container ended is not forgotten for a later time at which nobody looked.
#[test]
fn layers_that_were_seen_stay() {
    let seen = observed("a", None, 1, Used::default());
    let mut later = seen.clone();
    later.privileges.layers.worn = None;
    let report = observation(vec![seen, later]).report(SCHEMA, &[], None);
    assert!(report.containers[0].layers.surfaces.is_some());
}

#[test]
fn what_cannot_be_seen_is_not_superfluous() {
    let mut blind = observed("a", None, 1, Used::default());
    blind.sight = Sight::None;
    let report = observation(vec![blind]).report(SCHEMA, &[], None);
    assert_eq!(report.containers[0].capabilities.excess, None);
    assert!(report.may_miss.iter().any(|s| s.starts_with("no hook saw")));
}
