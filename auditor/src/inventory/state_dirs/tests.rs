//! Goal: a cgroup finds its container's state, name, image, pod and spec; hostile files become problems.
//! Method: trees in a temporary directory, made of the fixtures, as each runtime lays them out.

use std::os::unix::fs::{chown, symlink};

use super::*;
use crate::inventory::container::{QosClass, Role};
use crate::inventory::limits;

const WEB_STATE: &str = include_str!("../../../../tests/fixtures/inventory/runc/web.state.json");
const SIDECAR_STATE: &str =
    include_str!("../../../../tests/fixtures/inventory/runc/sidecar.state.json");
const CRUN_STATUS: &str = include_str!("../../../../tests/fixtures/inventory/crun/cweb.status");
const CRUN_CONFIG: &str =
    include_str!("../../../../tests/fixtures/inventory/crun/cweb.config.json");
const WEB_CONFIG: &str = include_str!("../../../../tests/fixtures/inventory/oci/web.config.json");
const SIDECAR_CONFIG: &str =
    include_str!("../../../../tests/fixtures/inventory/oci/sidecar.config.json");
const CRI_CONFIG: &str =
    include_str!("../../../../tests/fixtures/inventory/containerd/cri.config.json");
const DOCKER_WEB: &str =
    include_str!("../../../../tests/fixtures/inventory/docker/web.config.v2.json");
const STORAGE: &str = include_str!("../../../../tests/fixtures/inventory/podman/containers.json");

struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, absolute: &str) -> PathBuf {
        self.0.path().join(absolute.trim_start_matches('/'))
    }

    fn file(&self, absolute: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.path(absolute);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    fn dirs(&self) -> StateDirs {
        StateDirs::under(self.0.path())
    }

    fn find(&self, path: &str) -> Option<ContainerAnswer> {
        self.dirs().lookup(&CgroupQuery::by_path(path))
    }

    fn problems(&self) -> Problems {
        let mut problems = Problems::default();
        let _ = self.dirs().list_with(&mut problems);
        problems
    }
}

fn plain_runc() -> Tree {
    let tree = Tree::new();
    tree.file("/run/runc/web/state.json", WEB_STATE)
        .file("/run/containers/bundles/web/config.json", WEB_CONFIG)
        .file("/run/runc/sidecar/state.json", SIDECAR_STATE)
        .file(
            "/run/containers/bundles/sidecar/config.json",
            SIDECAR_CONFIG,
        );
    tree
}

/// A runc state as another manager would cause it: other id, cgroup, pid and bundle.
fn runc_state(id: &str, cgroup: &str, pid: u32, bundle: &str) -> String {
    let mut state: serde_json::Value = serde_json::from_str(WEB_STATE).unwrap();
    state["id"] = id.into();
    state["init_process_pid"] = pid.into();
    state["cgroup_paths"] = serde_json::json!({ "": format!("/sys/fs/cgroup{cgroup}") });
    state["config"]["labels"] = serde_json::json!([format!("bundle={bundle}")]);
    state.to_string()
}

fn id_of(text: &str, key: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(text).unwrap();
    value[key].as_str().unwrap().to_owned()
}

#[test]
fn a_runc_container_is_found_by_its_cgroup() {
    let web = plain_runc().find("/shop/web").unwrap();
    assert_eq!(web.entity_id(), "runc:web");
    assert_eq!(
        (web.init_pid, web.init_start_ticks),
        (Some(8882), Some(111_483))
    );
    assert_eq!(web.bundle.as_deref(), Some("/run/containers/bundles/web"));
    assert_eq!(web.labels["com.example.team"], "edge");
    let spec = web.spec.unwrap();
    assert_eq!(
        spec.cgroups_path.as_deref(),
        Some("/shop/web"),
        "from config.json"
    );
    assert_eq!(spec.masked_paths.len(), 10);
}

/// Until it is started, its first process waits at a pipe.
#[test]
fn a_container_may_wait_to_be_started() {
    let tree = plain_runc();
    assert_eq!(tree.find("/shop/web").unwrap().waits, Some(false));
    tree.file("/run/runc/web/exec.fifo", "");
    assert_eq!(tree.find("/shop/web").unwrap().waits, Some(true));
}

#[test]
fn descendants_belong_to_it_and_neighbours_do_not() {
    let tree = plain_runc();
    assert_eq!(tree.find("/shop/web/init.scope").unwrap().id, "web");
    assert_eq!(tree.find("/shop/web (deleted)").unwrap().id, "web");
    for other in [
        "/shop",
        "/shop/web2",
        "/",
        "",
        "/other/web",
        "/system.slice/ssh.service",
    ] {
        assert_eq!(tree.find(other), None, "{other}");
    }
    let nested = format!("/shop/web/docker/{}", "1".repeat(64));
    assert_eq!(
        tree.find(&nested),
        None,
        "a container inside is not the container around"
    );
}

#[test]
fn every_hierarchy_of_v1_leads_to_it() {
    let tree = plain_runc();
    for path in ["/sidecar", "/system.slice/builder.service/sidecar"] {
        let found = tree.find(path).unwrap();
        assert_eq!(
            (found.id.as_str(), found.cgroup_path.as_str()),
            ("sidecar", "/sidecar")
        );
    }
}

#[test]
fn init_is_found_by_pid_unless_the_pid_was_reused() {
    let tree = plain_runc();
    let moved = CgroupQuery {
        path: "/elsewhere",
        init_pid: Some(8882),
        init_start_ticks: None,
    };
    assert_eq!(tree.dirs().lookup(&moved).unwrap().id, "web");
    let same = CgroupQuery {
        init_start_ticks: Some(111_483),
        ..moved
    };
    assert_eq!(tree.dirs().lookup(&same).unwrap().id, "web");
    let reused = CgroupQuery {
        init_start_ticks: Some(5),
        ..moved
    };
    assert_eq!(tree.dirs().lookup(&reused), None);
}

#[test]
fn crun_keeps_its_own_copy_of_the_spec() {
    let tree = Tree::new();
    tree.file("/run/crun/cweb/status", CRUN_STATUS)
        .file("/run/crun/cweb/config.json", CRUN_CONFIG);
    let found = tree.find("/shop/web").unwrap();
    assert_eq!(found.entity_id(), "crun:cweb");
    assert_eq!(found.spec.unwrap().hostname.as_deref(), Some("cweb"));
    assert_eq!(found.labels["org.opencontainers.image.title"], "nginx");
}

#[test]
fn docker_adds_name_image_and_labels() {
    let id = id_of(DOCKER_WEB, "ID");
    let (cgroup, tree) = (format!("/system.slice/docker-{id}.scope"), Tree::new());
    let bundle = format!("/run/containerd/io.containerd.runtime.v2.task/moby/{id}");
    tree.file(
        &format!("/run/docker/runtime-runc/moby/{id}/state.json"),
        runc_state(&id, &cgroup, 4242, &bundle),
    )
    .file(&format!("{bundle}/config.json"), WEB_CONFIG)
    .file(&format!("{bundle}/init.pid"), "4242")
    .file(
        &format!("/var/lib/docker/containers/{id}/config.v2.json"),
        DOCKER_WEB,
    );
    let found = tree.find(&format!("{cgroup}/init.scope")).unwrap();
    assert_eq!(found.entity_id(), format!("docker:{id}"));
    assert_eq!(found.name.as_deref(), Some("shop-web-1"));
    assert_eq!(found.image.as_deref(), Some("nginx:1.27"));
    assert_eq!(found.labels["com.docker.compose.service"], "web");
    assert_eq!(
        tree.dirs().list().len(),
        1,
        "seen in two places, listed once"
    );
}

#[test]
fn containerd_names_the_pod() {
    let raw = id_of(
        &serde_json::from_str::<serde_json::Value>(CRI_CONFIG).unwrap()["linux"].to_string(),
        "cgroupsPath",
    );
    let id = raw.rsplit(':').next().unwrap();
    let tree = Tree::new();
    let bundle = format!("/run/containerd/io.containerd.runtime.v2.task/k8s.io/{id}");
    tree.file(&format!("{bundle}/config.json"), CRI_CONFIG)
        .file(&format!("{bundle}/init.pid"), "4200\n");
    let cgroup = cgroup_path::expand_cgroups_path(&raw);
    let found = tree.find(&cgroup).unwrap();
    assert_eq!(found.entity_id(), format!("containerd:{id}"));
    assert_eq!(
        (found.cgroup_path.as_str(), found.init_pid),
        (cgroup.as_str(), Some(4200))
    );
    assert_eq!(found.name.as_deref(), Some("nginx"));
    assert_eq!(found.image.as_deref(), Some("docker.io/library/nginx:1.27"));
    let pod = found.pod.clone().unwrap();
    assert_eq!(
        (pod.name.as_deref(), pod.qos),
        (Some("web-0"), Some(QosClass::Burstable))
    );
    assert_eq!(pod.namespace.as_deref(), Some("prod"));
    assert_eq!(found.role, Role::Workload);
    // The colon form, where the driver did not expand it, is the same container.
    assert_eq!(
        tree.find(&format!("/system.slice/containerd.service/{raw}")),
        Some(found)
    );
}

#[test]
fn podman_is_named_by_its_storage() {
    let list: serde_json::Value = serde_json::from_str(STORAGE).unwrap();
    let id = list[0]["id"].as_str().unwrap();
    let cgroup = format!("/machine.slice/libpod-{id}.scope");
    let bundle = format!("/var/lib/containers/storage/overlay-containers/{id}/userdata");
    let mut status: serde_json::Value = serde_json::from_str(CRUN_STATUS).unwrap();
    status["cgroup-path"] = format!("{cgroup}/container").into();
    status["bundle"] = bundle.as_str().into();
    let tree = Tree::new();
    tree.file(&format!("/run/crun/{id}/status"), status.to_string())
        .file(&format!("{bundle}/config.json"), WEB_CONFIG)
        .file(
            "/var/lib/containers/storage/overlay-containers/containers.json",
            STORAGE,
        );
    for path in [
        cgroup.clone(),
        format!("{cgroup}/container"),
        format!("{cgroup}/container/a"),
    ] {
        let found = tree.find(&path).unwrap();
        assert_eq!(found.entity_id(), format!("podman:{id}"), "{path}");
        assert_eq!(found.name.as_deref(), Some("web"));
        assert_eq!(found.image.as_deref(), Some("docker.io/library/nginx:1.27"));
    }
}

#[test]
fn without_a_bundle_the_state_still_declares() {
    let tree = Tree::new();
    tree.file("/run/runc/sidecar/state.json", SIDECAR_STATE);
    let spec = tree.find("/sidecar").unwrap().spec.unwrap();
    assert!(!spec.has_own(NamespaceKind::Network) && spec.has_own(NamespaceKind::Pid));
    assert_eq!(tree.problems().total(), 0, "a missing bundle is no problem");
}

#[test]
fn declared_namespaces_are_resolved_only_where_they_are_namespaces() {
    let tree = Tree::new();
    tree.file("/run/netns/blue", "a plain file");
    let dirs = tree.dirs();
    let own = format!("/proc/{}/ns/net", std::process::id());
    let inum = fs::metadata(&own).unwrap().ino();
    assert_eq!(dirs.namespace_inum(&own).map(u64::from), Some(inum));
    let refused = [
        "/run/netns/blue",
        "/run/netns/none",
        "/etc/passwd",
        "/proc/self/ns/net",
        "/proc/1/ns/net/../../../etc/passwd",
        "/proc/1/ns/mystery",
        "/run/../proc/1/ns/net",
        "",
    ];
    for path in refused {
        assert_eq!(dirs.namespace_inum(path), None, "{path}");
    }
}

#[test]
fn hostile_files_are_problems_and_hide_nothing() {
    let tree = plain_runc();
    let huge = vec![b' '; usize::try_from(limits::FILE_BYTES).unwrap() + 1];
    tree.file("/run/runc/huge/state.json", huge)
        .file("/run/runc/broken/state.json", "{\"id\": ")
        .file("/run/runc/liar/state.json", WEB_STATE)
        .file("/run/runc/dir/state.json/x", "")
        .file(
            "/run/runc/climber/state.json",
            runc_state("climber", "/c", 5, "/run/../etc"),
        );
    fs::create_dir_all(tree.path("/run/runc/link")).unwrap();
    symlink(
        tree.path("/run/runc/web/state.json"),
        tree.path("/run/runc/link/state.json"),
    )
    .unwrap();
    symlink(tree.path("/run/runc/web"), tree.path("/run/runc/linked")).unwrap();
    fs::create_dir_all(tree.path("/run/runc/pipe")).unwrap();
    let pipe = tree.path("/run/runc/pipe/state.json");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );

    let mut problems = Problems::default();
    let ids: Vec<_> = tree
        .dirs()
        .list_with(&mut problems)
        .into_iter()
        .map(|a| a.id)
        .collect();
    assert_eq!(ids, ["climber", "sidecar", "web"]);
    let text: Vec<_> = problems.iter().map(ToString::to_string).collect();
    let said = |what: &str| text.iter().filter(|line| line.contains(what)).count();
    assert_eq!(said("not a regular file"), 3, "{text:#?}");
    assert_eq!(said("only up to 4194304 are read"), 1, "{text:#?}");
    assert_eq!(said("not understood at line 1"), 1, "{text:#?}");
    assert_eq!(said("claims to be container \"web\""), 1, "{text:#?}");
    assert_eq!(said("not absolute and plain"), 1, "{text:#?}");
    assert_eq!(problems.total(), 7);
}

#[test]
fn a_user_names_only_their_own_cgroups() {
    let tree = Tree::new();
    let own = roots::own_uid();
    let uid = if own == 0 { 1000 } else { own };
    let victim = "5".repeat(64);
    let path = format!("/run/user/{uid}/runc/{victim}/state.json");
    tree.file(
        &path,
        runc_state(&victim, &format!("/docker/{victim}"), 77, "/nowhere"),
    );
    let mine = format!("/user.slice/user-{uid}.slice/user@{uid}.service/user.slice/job");
    let job = format!("/run/user/{uid}/runc/job/state.json");
    tree.file(&job, runc_state("job", &mine, 78, "/nowhere"));
    if own == 0 {
        chown(tree.path(&path), Some(uid), None).unwrap();
        chown(tree.path(&job), Some(uid), None).unwrap();
    }
    assert_eq!(tree.find(&format!("/docker/{victim}")), None);
    let by_pid = CgroupQuery {
        path: "/docker",
        init_pid: Some(77),
        init_start_ticks: None,
    };
    assert_eq!(tree.dirs().lookup(&by_pid), None);
    let found = tree.find(&mine).unwrap();
    assert_eq!((found.id.as_str(), found.owner_uid), ("job", uid));
    // Somebody else's file in a user's directory is not believed at all.
    if own == 0 {
        chown(tree.path(&job), Some(uid + 1), None).unwrap();
        assert_eq!(tree.find(&mine), None);
        assert!(
            tree.problems()
                .iter()
                .any(|p| matches!(p, StateError::ForeignOwner { .. }))
        );
    }
}

#[test]
fn an_empty_machine_has_no_containers_and_no_problems() {
    let tree = Tree::new();
    assert_eq!(tree.find("/shop/web"), None);
    assert!(tree.dirs().list().is_empty());
    assert_eq!(tree.problems().total(), 0);
}

#[test]
fn var_run_counts_when_it_is_no_link() {
    let tree = Tree::new();
    tree.file("/var/run/runc/web/state.json", WEB_STATE);
    assert_eq!(tree.find("/shop/web").unwrap().id, "web");
}

#[test]
fn answers_survive_serialisation() {
    for answer in plain_runc().dirs().list() {
        let text = serde_json::to_string(&answer).unwrap();
        assert_eq!(
            serde_json::from_str::<ContainerAnswer>(&text).unwrap(),
            answer
        );
    }
}
