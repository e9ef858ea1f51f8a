//! Goal: real runtime files are read rightly and anything else is an error value. Method: files written
//! by runc 1.1.5 and crun 1.8.1, small variations, and arbitrary bytes and mutations.

use proptest::prelude::*;

use super::*;
use crate::inventory::container::{PrivilegeHint, SpecSummary};

const WEB_STATE: &[u8] = include_bytes!("../../../../tests/fixtures/inventory/runc/web.state.json");
const SIDECAR_STATE: &[u8] =
    include_bytes!("../../../../tests/fixtures/inventory/runc/sidecar.state.json");
const CRUN: &[u8] = include_bytes!("../../../../tests/fixtures/inventory/crun/cweb.status");
const WEB_CONFIG: &[u8] =
    include_bytes!("../../../../tests/fixtures/inventory/oci/web.config.json");
const SIDECAR_CONFIG: &[u8] =
    include_bytes!("../../../../tests/fixtures/inventory/oci/sidecar.config.json");
const ROOTLESS_CONFIG: &[u8] =
    include_bytes!("../../../../tests/fixtures/inventory/oci/rootless.config.json");

#[test]
fn a_running_container_of_runc() {
    let state = parse_runc_state(WEB_STATE).unwrap();
    assert_eq!((state.id.as_str(), state.init_pid), ("web", Some(8882)));
    assert_eq!(state.init_start_ticks, Some(111_483));
    assert_eq!(state.bundle.as_deref(), Some("/run/containers/bundles/web"));
    assert_eq!(state.annotations["com.example.team"], "edge");
    assert!(!state.annotations.contains_key("bundle"));
    assert_eq!(state.cgroup_paths.primary(), Some("/shop/web"));
    assert!(
        state
            .cgroup_paths
            .iter()
            .all(|(_, path)| path == "/shop/web")
    );
    assert_eq!(state.cgroup_paths.iter().count(), 10);
    assert_eq!(
        state.namespace_paths[&NamespaceKind::Mount],
        "/proc/8882/ns/mnt"
    );
    assert_eq!(state.spec.hostname.as_deref(), Some("web"));
    assert!(state.spec.no_new_privileges && state.spec.readonly_root);
}

#[test]
fn a_created_container_that_joins_a_network() {
    let state = parse_runc_state(SIDECAR_STATE).unwrap();
    let network = state.spec.namespace(NamespaceKind::Network).unwrap();
    assert_eq!(network.path.as_deref(), Some("/proc/8882/ns/net"));
    assert!(!state.spec.has_own(NamespaceKind::Network));
    assert!(state.spec.has_own(NamespaceKind::Mount));
    // Without a cgroupsPath, v1 controllers nest below the cgroup that runc itself ran in.
    let paths: BTreeMap<_, _> = state.cgroup_paths.iter().collect();
    assert_eq!(paths[""], "/sidecar");
    assert_eq!(paths["memory"], "/system.slice/builder.service/sidecar");
}

#[test]
fn the_state_and_the_spec_agree() {
    for (state, config) in [(WEB_STATE, WEB_CONFIG), (SIDECAR_STATE, SIDECAR_CONFIG)] {
        let state = parse_runc_state(state).unwrap();
        let config = parse_oci_config(config).unwrap();
        assert_eq!(state.annotations, config.annotations);
        let sorted = |spec: &SpecSummary| {
            let mut list = spec.namespaces.clone();
            list.sort_by_key(|ns| ns.kind);
            list
        };
        let with_path = |mut list: Vec<DeclaredNamespace>| {
            list.retain(|ns| ns.path.is_some());
            list
        };
        assert_eq!(sorted(&state.spec).len(), sorted(&config.spec).len());
        assert_eq!(
            with_path(sorted(&state.spec)).len(),
            with_path(sorted(&config.spec)).len()
        );
        let bounding = |spec: &SpecSummary| spec.capabilities.clone().unwrap().bounding;
        assert_eq!(bounding(&state.spec), bounding(&config.spec));
        assert_eq!(
            state.spec.masked_paths.len(),
            config.spec.masked_paths.len()
        );
        assert_eq!(state.spec.mounts.len(), config.spec.mounts.len());
        assert_eq!(state.spec.no_new_privileges, config.spec.no_new_privileges);
    }
}

#[test]
fn a_container_of_crun() {
    let status = parse_crun_status(CRUN).unwrap();
    assert_eq!(
        (status.init_pid, status.init_start_ticks),
        (Some(11716), Some(135_924))
    );
    assert_eq!(status.cgroup_paths.primary(), Some("/shop/web"));
    assert_eq!(
        status.bundle.as_deref(),
        Some("/run/containers/bundles/cweb")
    );
    assert_eq!(status.owner.as_deref(), Some("root"));
    assert_eq!((status.scope, status.systemd_cgroup), (None, false));
}

#[test]
fn privilege_hints_tell_the_confined_from_the_privileged() {
    let web = parse_oci_config(WEB_CONFIG).unwrap().spec;
    assert_eq!(web.privilege_hints(), [PrivilegeHint::NoSeccomp]);
    let sidecar = parse_oci_config(SIDECAR_CONFIG).unwrap().spec;
    let expected = [
        PrivilegeHint::SysAdmin,
        PrivilegeHint::NoMaskedPaths,
        PrivilegeHint::NoSeccomp,
        PrivilegeHint::SharedNetwork,
    ];
    assert_eq!(sidecar.privilege_hints(), expected);
    let bind = sidecar
        .mounts
        .iter()
        .find(|m| m.destination == "/run/control.sock")
        .unwrap();
    assert!(bind.is_bind() && !bind.is_read_only());
}

#[test]
fn a_rootless_spec_declares_its_user_namespace() {
    let spec = parse_oci_config(ROOTLESS_CONFIG).unwrap().spec;
    assert!(spec.has_own(NamespaceKind::User) && spec.id_mapped);
    assert!(!spec.has_own(NamespaceKind::Network));
}

#[test]
fn unified_and_v1_directories_lose_their_mount_point() {
    let cases = [
        (
            &[("", "/sys/fs/cgroup/system.slice/runc-a.scope")][..],
            "/system.slice/runc-a.scope",
        ),
        (&[("", "/sys/fs/cgroup/unified/a")], "/unified/a"),
        (
            &[
                ("", "/sys/fs/cgroup/unified/a"),
                ("cpu", "/sys/fs/cgroup/cpu,cpuacct/b"),
            ],
            "/a",
        ),
        (
            &[
                ("name=systemd", "/sys/fs/cgroup/systemd/a/"),
                ("cpu", "/sys/fs/cgroup/cpu/b"),
            ],
            "/a",
        ),
    ];
    for (directories, primary) in cases {
        let map = directories
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        assert_eq!(CgroupPaths::from_directories(&map).primary(), Some(primary));
    }
    for lost in [
        "/dev/cgroup/a",
        "/sys/fs/cgroup",
        "/sys/fs/cgroup/",
        "",
        "/sys/fs/cgroupa",
    ] {
        let map = BTreeMap::from([(String::new(), lost.to_owned())]);
        assert_eq!(
            CgroupPaths::from_directories(&map).primary(),
            None,
            "{lost}"
        );
    }
    assert_eq!(CgroupPaths::from_path("/").primary(), None);
}

#[test]
fn old_null_and_stopped_states_are_tolerated() {
    let text =
        br#"{"id":"a","init_process_pid":0,"init_process_start":"77","config":{"namespaces":null,
        "capabilities":{"Bounding":null},"labels":null},"cgroup_paths":null}"#;
    let state = parse_runc_state(text).unwrap();
    assert_eq!((state.init_pid, state.init_start_ticks), (None, Some(77)));
    assert_eq!(state.cgroup_paths.primary(), None);
    let config = br#"{"ociVersion":"1.2.0","process":null,"linux":{"namespaces":[{"type":"time"},
        {"type":"vault"}],"seccomp":{"defaultAction":"SCMP_ACT_ALLOW"},"resources":{"devices":
        [{"allow":false,"access":"rwm"},{"allow":true,"type":"a","access":"rwm"}]}}}"#;
    let spec = parse_oci_config(config).unwrap().spec;
    assert!(spec.has_own(NamespaceKind::Time) && spec.all_devices && !spec.seccomp);
    assert_eq!(spec.unknown_namespaces, ["vault"]);
    assert_eq!(spec.capabilities, None);
}

#[test]
fn device_rules_are_read_in_order() {
    let spec = |rules: &str| {
        let text =
            format!(r#"{{"ociVersion":"1","linux":{{"resources":{{"devices":[{rules}]}}}}}}"#);
        parse_oci_config(text.as_bytes()).unwrap().spec.all_devices
    };
    let deny = r#"{"allow":false,"access":"rwm"}"#;
    assert!(!spec(""));
    assert!(!spec(deny));
    assert!(!spec(&format!(r#"{{"allow":true,"access":"rwm"}},{deny}"#)));
    assert!(!spec(&format!(
        r#"{deny},{{"allow":true,"type":"c","major":1,"access":"rwm"}}"#
    )));
    assert!(spec(&format!(r#"{deny},{{"allow":true,"access":"rwm"}}"#)));
}

/// Goal: a call counts as refused only where no rule can let it through. Method: profiles of both kinds.
#[test]
fn refused_calls_are_surely_refused() {
    let refused = |default: &str, rules: &str| {
        let text = format!(
            r#"{{"ociVersion":"1","linux":{{"seccomp":{{"defaultAction":"{default}",
            "syscalls":[{rules}]}}}}}}"#
        );
        let spec = parse_oci_config(text.as_bytes()).unwrap().spec;
        spec.seccomp_refuses.unwrap()
    };
    let (allow, deny) = ("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO");
    let rule = |names: &str, action: &str, args: &str| {
        format!(r#"{{"names":["{names}"],"action":"{action}","args":[{args}]}}"#)
    };
    let some = r#"{"index":0,"value":1,"op":"SCMP_CMP_EQ"}"#;
    assert_eq!(refused(allow, ""), Vec::<String>::new());
    assert_eq!(refused(allow, &rule("reboot", deny, "")), ["reboot"]);
    // Calls that no capability is asked for by are not kept.
    assert!(refused(allow, &rule("read", deny, "")).is_empty());
    assert!(refused(allow, &rule("reboot", deny, some)).is_empty());
    let both = [rule("reboot", deny, ""), rule("reboot", allow, some)].join(",");
    assert!(refused(allow, &both).is_empty());

    let all = refused(deny, "");
    assert!(all.iter().any(|call| call == "acct"), "{all:?}");
    for action in [allow, "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE"] {
        let left = refused(deny, &rule("reboot", action, some));
        assert_eq!(left.len(), all.len() - 1, "{action}");
        assert!(!left.iter().any(|call| call == "reboot"));
    }
    for killing in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"] {
        assert_eq!(refused(killing, ""), all);
    }
    let unfiltered = parse_oci_config(br#"{"ociVersion":"1"}"#).unwrap().spec;
    assert_eq!(unfiltered.seccomp_refuses, None);
}

#[test]
fn nonsense_is_an_error_with_its_position() {
    let error = parse_runc_state(b"{\n \"id\": 7}").unwrap_err().to_string();
    assert!(
        error.starts_with("runc state.json: not understood at line 2"),
        "{error}"
    );
    assert!(matches!(
        parse_runc_state(b"{}"),
        Err(ParseError::Missing { field: "id", .. })
    ));
    assert!(matches!(
        parse_crun_status(b"{}"),
        Err(ParseError::Missing {
            field: "bundle",
            ..
        })
    ));
    assert!(matches!(
        parse_oci_config(b"{}"),
        Err(ParseError::Missing { .. })
    ));
    let deep = [b"{\"linux\":".repeat(4096), b"1".to_vec()].concat();
    assert!(parse_oci_config(&deep).is_err());
}

#[test]
fn long_lists_are_cut_and_counted() {
    let masks = vec!["/proc/kcore"; limits::SPEC_LIST + 5];
    let text = serde_json::json!({"ociVersion": "1", "linux": {"maskedPaths": masks}}).to_string();
    let spec = parse_oci_config(text.as_bytes()).unwrap().spec;
    assert_eq!(
        (spec.masked_paths.len(), spec.omitted),
        (limits::SPEC_LIST, 5)
    );
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let _ = parse_runc_state(&bytes);
        let _ = parse_crun_status(&bytes);
        let _ = parse_oci_config(&bytes);
    }

    #[test]
    fn damaged_files_never_panic(at in 0usize..6000, byte in any::<u8>(), cut in any::<bool>()) {
        for original in [WEB_STATE, CRUN, WEB_CONFIG] {
            let mut bytes = original.to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            if cut {
                bytes.truncate(at);
            }
            let _ = parse_runc_state(&bytes);
            let _ = parse_crun_status(&bytes);
            let _ = parse_oci_config(&bytes);
        }
    }

    #[test]
    fn cgroup_directories_never_panic(
        map in prop::collection::btree_map("(|cpu|name=systemd)", "(/sys/fs/cgroup)?/?.{0,20}", 0..4),
    ) {
        let paths = CgroupPaths::from_directories(&map);
        prop_assert!(paths.iter().all(|(_, path)| path.starts_with('/')));
    }
}
