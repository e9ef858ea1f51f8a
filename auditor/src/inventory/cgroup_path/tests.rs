//! Goal: each naming scheme is recognised with the right subtree, and nothing else is. Method: tables of
//! real path shapes, one of containers and one of near misses, then properties over arbitrary and over
//! generated paths.

use proptest::prelude::*;

use super::*;
use crate::model::text::escape;

const CONTAINERS: &str = include_str!("../../../../tests/fixtures/inventory/cgroup_paths.txt");
const HOST: &str = include_str!("../../../../tests/fixtures/inventory/cgroup_paths_host.txt");

fn rows(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn serialized(value: impl serde::Serialize) -> String {
    serde_json::to_value(value)
        .unwrap()
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn every_scheme_is_recognised() {
    let mut count = 0;
    for row in rows(CONTAINERS) {
        let fields: Vec<&str> = row.splitn(7, " | ").collect();
        let [runtime, certainty, role, pod, qos, id, marked] = fields[..] else {
            panic!("{row}")
        };
        let braced = marked
            .split_once('{')
            .and_then(|(_, rest)| rest.split_once('}'));
        let id = if id == "=" { braced.unwrap().0 } else { id };
        let unbraced = marked.replace(['{', '}'], "");
        let (subtree, rest) = unbraced.split_once('^').unwrap();
        let path = format!("{subtree}{rest}");

        let found = identify(&path).unwrap_or_else(|| panic!("not recognised: {path}"));
        let got = &found.identity;
        assert_eq!(
            (got.runtime.as_str(), got.id.as_str()),
            (runtime, id),
            "{path}"
        );
        assert_eq!(found.subtree(&path), subtree, "{path}");
        // As the engine keeps it, and the output has it.
        let kept = escape(path.as_bytes());
        let of_kept = identify(&kept).unwrap();
        assert_eq!(&of_kept.identity, got, "{kept}");
        assert_eq!(of_kept.subtree(&kept), escape(subtree.as_bytes()), "{kept}");
        assert_eq!(serialized(got.certainty), certainty, "{path}");
        assert_eq!(serialized(got.role), role, "{path}");
        let got_pod = got.pod.clone().unwrap_or_default();
        assert_eq!(got_pod.uid.as_deref().unwrap_or("-"), pod, "{path}");
        assert_eq!(
            got_pod.qos.map_or("-".to_owned(), serialized),
            qos,
            "{path}"
        );
        assert_eq!(
            identify(subtree).as_ref(),
            Some(&found),
            "its own subtree: {path}"
        );
        count += 1;
    }
    assert!(count >= 80, "the table shrank to {count}");
}

#[test]
fn nothing_of_the_host_is_a_container() {
    for row in rows(HOST) {
        let path = row.trim_matches('"');
        assert_eq!(identify(path), None, "{path}");
    }
}

#[test]
fn nesting_is_walked_from_the_outside() {
    let [outer, inner, build] = ["1", "2", "3"].map(|digit| digit.repeat(64));
    let path = format!("/docker/{outer}/docker/buildx/{inner}/lxc/{build}/ns");
    let found: Vec<_> = enclosing(&path).collect();
    let ids: Vec<_> = found.iter().map(|m| m.identity.id.as_str()).collect();
    // Below `lxc` a name that happens to be a hash is read as a hash, whatever its manager.
    assert_eq!(ids, [outer.as_str(), &inner, &build]);
    assert!(
        found
            .windows(2)
            .all(|pair| pair[0].subtree_len < pair[1].subtree_len)
    );
}

#[test]
fn a_nested_container_does_not_inherit_the_outer_pod() {
    let (outer, inner) = ("1".repeat(64), "2".repeat(64));
    let path = format!("/kubepods/burstable/pod1-2/{outer}/docker/{inner}");
    let found: Vec<_> = enclosing(&path).map(|m| m.identity.pod.is_some()).collect();
    assert_eq!(found, [true, false]);
}

#[test]
fn of_several_hierarchies_the_named_path_wins() {
    let id = "3".repeat(64);
    let inferred = format!("/bar/{id}");
    let named = format!("/system.slice/docker-{id}.scope");
    let paths = ["/system.slice/containerd.service", &inferred, &named];
    let (index, found) = identify_any(paths).unwrap();
    assert_eq!((index, found.identity.certainty), (2, Certainty::Named));
    assert_eq!(identify_any(["/", "/init.scope"]), None);
}

#[test]
fn the_systemd_form_expands_to_the_unit_path() {
    let cases = [
        ("/shop/web", "/shop/web"),
        ("shop/web", "/shop/web"),
        ("system.slice:docker:web", "/system.slice/docker-web.scope"),
        (":runc:web", "/system.slice/runc-web.scope"),
        ("-.slice:runc:web", "/runc-web.scope"),
        (
            "a-b-c.slice:crio:x",
            "/a.slice/a-b.slice/a-b-c.slice/crio-x.scope",
        ),
        ("a.slice::x", "/a.slice/x.scope"),
        ("a.slice:libpod:x.slice", "/a.slice/x.slice"),
    ];
    for (raw, path) in cases {
        assert_eq!(expand_cgroups_path(raw), path);
    }
}

#[test]
fn an_absurdly_long_path_is_nobody() {
    let path = format!(
        "/{}/docker/{}",
        "a".repeat(limits::CGROUP_PATH_BYTES),
        "1".repeat(64)
    );
    assert_eq!(identify(&path), None);
}

/// Components that the parser reacts to, so that arbitrary paths come near its branches.
fn component() -> impl Strategy<Value = String> {
    let hash = "[0-9a-f]{64}";
    prop_oneof![
        hash,
        "[0-9a-z]{25}",
        "(docker|crio|libpod|runc|crun|cri-containerd|libpod-conmon|machine)-[0-9a-f]{64}\\.scope",
        "(docker|kubepods|burstable|lxc|lxc\\.payload|buildkit|default|libpod_parent|payload|supervisor)",
        "(machine|user|kubepods|kubepods-burstable-pod[0-9a-f_]{3,9})\\.slice",
        "(machine-|systemd-nspawn@)([a-z]|\\\\x[0-9a-f]{2}){0,6}\\.(scope|service)",
        "[a-z]\\.slice:(docker|crio):[0-9a-f]{64}",
        "\\PC{0,12}",
    ]
}

proptest! {
    #[test]
    fn arbitrary_strings_never_panic_and_cut_cleanly(path in ".*") {
        check_cut(&path)?;
    }

    #[test]
    fn near_misses_never_panic_and_cut_cleanly(parts in prop::collection::vec(component(), 0..8)) {
        check_cut(&format!("/{}", parts.join("/")))?;
    }

    #[test]
    fn generated_paths_round_trip(
        (runtime, path, id) in scheme(),
        parent in "(/[a-z]{1,8}\\.slice){0,3}",
        below in "(/[a-z]{1,8}\\.service)?",
    ) {
        let subtree = format!("{parent}{path}");
        let found = identify(&format!("{subtree}{below}")).expect("a container");
        prop_assert_eq!(found.identity.runtime, runtime);
        prop_assert_eq!(found.identity.id, id);
        prop_assert_eq!(found.subtree_len, subtree.len());
    }

    #[test]
    fn expansion_is_identified(id in "[0-9a-f]{64}", uid in "[0-9a-f]{8}_[0-9a-f]{4}") {
        let raw = format!("kubepods-burstable-pod{uid}.slice:cri-containerd:{id}");
        let expanded = identify(&expand_cgroups_path(&raw)).expect("a container").identity;
        let colon = identify(&format!("/{raw}")).expect("a container").identity;
        prop_assert_eq!(expanded, colon);
    }

    #[test]
    fn expansion_never_panics(raw in ".*", parts in "[-a-z.:]{0,20}") {
        prop_assert!(!expand_cgroups_path(&raw).is_empty());
        prop_assert!(!expand_cgroups_path(&parts).is_empty());
    }

    #[test]
    fn unescaping_undoes_escaping(name in "\\PC{0,20}") {
        let escaped: String = name.bytes().map(|b| format!("\\x{b:02x}")).collect();
        prop_assert_eq!(unescape_unit(&escaped), name);
    }
}

fn scheme() -> impl Strategy<Value = (Runtime, String, String)> {
    ("[0-9a-f]{64}", "[a-z][a-z0-9_]{0,11}", 0..9usize).prop_map(
        |(hash, name, which)| match which {
            0 => (Runtime::Docker, format!("/docker/{hash}"), hash),
            1 => (Runtime::Docker, format!("/docker-{hash}.scope"), hash),
            2 => (
                Runtime::Containerd,
                format!("/cri-containerd-{hash}.scope"),
                hash,
            ),
            3 => (Runtime::CriO, format!("/crio-{hash}.scope"), hash),
            4 => (Runtime::Podman, format!("/libpod-{hash}.scope"), hash),
            5 => (
                Runtime::Podman,
                format!("/libpod_parent/libpod-{hash}"),
                hash,
            ),
            6 => (Runtime::Lxc, format!("/lxc.payload.{name}"), name),
            7 => (Runtime::Runc, format!("/runc-{name}.scope"), name),
            _ => (
                Runtime::Nspawn,
                format!("/systemd-nspawn@{name}.service/payload"),
                name,
            ),
        },
    )
}

fn check_cut(path: &str) -> Result<(), TestCaseError> {
    let mut before = 0;
    for found in enclosing(path) {
        let len = found.subtree_len;
        prop_assert!(len > before && path.is_char_boundary(len));
        let after = &path[len..];
        prop_assert!(after.is_empty() || after.starts_with('/') || after == " (deleted)");
        prop_assert!(!found.identity.id.is_empty());
        let again = identify(&path[..len]);
        prop_assert_eq!(again.as_ref(), Some(&found));
        before = len;
    }
    Ok(())
}
