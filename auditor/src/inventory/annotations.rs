//! The names that container managers leave in a spec's annotations.
//!
//! Kubernetes' names (pod, namespace, container) exist for the runtime only as annotations, and each
//! manager has keys of its own. They are the manager's word, written before the container runs; the
//! container cannot change them later.
//!
//! Keys: containerd `pkg/cri/annotations` (2.0), CRI-O `pkg/annotations` (1.31), Podman
//! `pkg/annotations` (5.3), dockershim (1.23).

use std::collections::BTreeMap;

use super::container::{ContainerAnswer, PodIdentity, Role, Runtime, bounded_text};

/// The manager that the annotations name, if any.
#[must_use]
pub fn manager(annotations: &BTreeMap<String, String>) -> Option<Runtime> {
    match annotations.get("io.container.manager").map(String::as_str) {
        Some("cri-o") => return Some(Runtime::CriO),
        Some("libpod") => return Some(Runtime::Podman),
        _ => {}
    }
    let has = |prefix: &str| annotations.keys().any(|key| key.starts_with(prefix));
    if has("io.kubernetes.cri-o.") {
        Some(Runtime::CriO)
    } else if has("io.kubernetes.cri.") || has("nerdctl/") {
        Some(Runtime::Containerd)
    } else {
        None
    }
}

/// Takes name, image, pod and role out of annotations. What the answer knows already stays.
pub fn apply(annotations: &BTreeMap<String, String>, answer: &mut ContainerAnswer) {
    let first = |keys: &[&str]| {
        let values = keys.iter().filter_map(|key| annotations.get(*key));
        values
            .into_iter()
            .find(|value| !value.is_empty())
            .cloned()
            .map(bounded_text)
    };
    let container_type = first(&[
        "io.kubernetes.cri.container-type",
        "io.kubernetes.cri-o.ContainerType",
    ]);
    if container_type.as_deref() == Some("sandbox") {
        answer.role = Role::Sandbox;
    }
    answer.name = answer.name.take().or_else(|| first(&NAME_KEYS));
    answer.image = answer.image.take().or_else(|| first(&IMAGE_KEYS));
    answer.add_pod(PodIdentity {
        uid: first(&["io.kubernetes.cri.sandbox-uid", "io.kubernetes.pod.uid"]),
        name: first(&["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"]),
        namespace: first(&[
            "io.kubernetes.cri.sandbox-namespace",
            "io.kubernetes.pod.namespace",
        ]),
        sandbox_id: first(&[
            "io.kubernetes.cri.sandbox-id",
            "io.kubernetes.cri-o.SandboxID",
        ]),
        qos: None,
    });
}

const NAME_KEYS: [&str; 4] = [
    "io.kubernetes.cri.container-name",
    "io.kubernetes.container.name",
    "nerdctl/name",
    "io.kubernetes.cri-o.Name",
];

const IMAGE_KEYS: [&str; 4] = [
    "io.kubernetes.cri.image-name",
    "io.kubernetes.cri-o.ImageName",
    "io.kubernetes.cri-o.Image",
    "org.opencontainers.image.ref.name",
];

#[cfg(test)]
mod tests {
    //! Goal: each manager's keys end up in the right fields. Method: one set of annotations per manager.

    use super::*;

    fn answer(pairs: &[(&str, &str)]) -> (Option<Runtime>, ContainerAnswer) {
        let map = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let mut answer = ContainerAnswer::bare("/".into(), Runtime::Unknown, "x".into());
        apply(&map, &mut answer);
        (manager(&map), answer)
    }

    #[test]
    fn containerd_names_a_pod_container() {
        let (runtime, answer) = answer(&[
            ("io.kubernetes.cri.container-name", "nginx"),
            ("io.kubernetes.cri.container-type", "container"),
            (
                "io.kubernetes.cri.image-name",
                "docker.io/library/nginx:1.27",
            ),
            ("io.kubernetes.cri.sandbox-id", "abc"),
            ("io.kubernetes.cri.sandbox-name", "web-0"),
            ("io.kubernetes.cri.sandbox-namespace", "prod"),
            ("io.kubernetes.cri.sandbox-uid", "1-2"),
        ]);
        assert_eq!(
            (runtime, answer.role),
            (Some(Runtime::Containerd), Role::Workload)
        );
        assert_eq!(answer.name.as_deref(), Some("nginx"));
        assert_eq!(
            answer.image.as_deref(),
            Some("docker.io/library/nginx:1.27")
        );
        let pod = answer.pod.unwrap();
        assert_eq!(
            (pod.name.as_deref(), pod.namespace.as_deref()),
            (Some("web-0"), Some("prod"))
        );
        assert_eq!(
            (pod.uid.as_deref(), pod.sandbox_id.as_deref()),
            (Some("1-2"), Some("abc"))
        );
    }

    #[test]
    fn cri_o_names_a_sandbox() {
        let (runtime, answer) = answer(&[
            ("io.container.manager", "cri-o"),
            ("io.kubernetes.cri-o.ContainerType", "sandbox"),
            ("io.kubernetes.cri-o.SandboxID", "abc"),
            ("io.kubernetes.pod.name", "web-0"),
            ("io.kubernetes.pod.namespace", "prod"),
            ("io.kubernetes.pod.uid", "1-2"),
            ("io.kubernetes.container.name", "POD"),
        ]);
        assert_eq!((runtime, answer.role), (Some(Runtime::CriO), Role::Sandbox));
        assert_eq!(answer.name.as_deref(), Some("POD"));
        assert_eq!(answer.pod.unwrap().uid.as_deref(), Some("1-2"));
    }

    #[test]
    fn podman_and_strangers() {
        let (runtime, podman) = answer(&[("io.container.manager", "libpod")]);
        assert_eq!((runtime, podman.pod), (Some(Runtime::Podman), None));
        let (runtime, other) = answer(&[("org.opencontainers.image.title", "nginx")]);
        assert_eq!((runtime, other.name), (None, None));
    }
}
