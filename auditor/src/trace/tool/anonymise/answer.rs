//! What the inventory said, and saved labels, under other names. Every field is named here, so that a new one cannot
//! be forgotten.

use super::allowed::{List, stays};
use super::pseudonym::Pseudonyms;
use crate::engine::{Saved, SavedEntity};
use crate::inventory::container::{
    ContainerAnswer, DeclaredCapabilities, DeclaredMount, DeclaredNamespace, PodIdentity, Runtime,
    SpecSummary,
};
use crate::model::capability;
use crate::model::lsm::Label;
use crate::model::setup::{Mount, SetUp};

const RUNTIMES: [Runtime; 9] = [
    Runtime::Docker,
    Runtime::Containerd,
    Runtime::CriO,
    Runtime::Podman,
    Runtime::Lxc,
    Runtime::Nspawn,
    Runtime::Runc,
    Runtime::Crun,
    Runtime::Unknown,
];

impl Pseudonyms {
    /// What the inventory said about a container.
    pub(super) fn answer(&self, answer: &ContainerAnswer) -> ContainerAnswer {
        let mut other = answer.clone();
        let ContainerAnswer {
            cgroup_path,
            runtime: _,
            id,
            role: _,
            name,
            image,
            pod,
            labels,
            labels_omitted: _,
            bundle,
            init_pid: _,
            init_start_ticks: _,
            waits: _,
            created: _,
            owner_uid: _,
            spec,
        } = &mut other;
        *cgroup_path = self.cgroup_path(cgroup_path.as_bytes());
        *id = self.container_id(id.as_bytes());
        name.iter_mut()
            .chain(image)
            .for_each(|text| self.text(text));
        bundle.iter_mut().for_each(|path| self.path_text(path));
        *labels = std::mem::take(labels)
            .into_iter()
            .map(|(key, value)| (self.label(&key), self.word(value.as_bytes())))
            .collect();
        pod.iter_mut().for_each(|pod| self.pod(pod));
        spec.iter_mut().for_each(|spec| self.spec(spec));
        other
    }

    /// What a process was set up with.
    pub(super) fn setup(&self, setup: &SetUp) -> SetUp {
        let mut other = setup.clone();
        let SetUp {
            pid: _,
            start_boottime_ns: _,
            mnt_ns: _,
            read_ns: _,
            mounts,
            omitted: _,
            lsm,
            present,
            devices,
            uid_map: _,
            gid_map: _,
            device_rules: _,
            repeats: _,
        } = &mut other;
        for Mount {
            id: _,
            dev: _,
            root,
            point,
            fs_type,
            read_only: _,
            shared: _,
            master: _,
            mask: _,
            upper,
        } in mounts
        {
            self.path_text(root);
            self.path_text(point);
            upper.iter_mut().for_each(|path| self.path_text(path));
            self.listed(List::Mounts, fs_type);
        }
        lsm.iter_mut().for_each(|label| self.lsm_label(label));
        present.iter_mut().for_each(|path| self.path_text(path));
        for node in devices.iter_mut().flatten() {
            self.path_text(&mut node.name);
        }
        other
    }

    /// A label's key.
    pub(super) fn label(&self, key: &str) -> String {
        match stays(List::Labels, key.as_bytes()) {
            true => key.to_owned(),
            false => self.word(key.as_bytes()),
        }
    }

    fn pod(&self, pod: &mut PodIdentity) {
        let PodIdentity {
            uid,
            name,
            namespace,
            sandbox_id,
            qos: _,
        } = pod;
        for id in uid.iter_mut().chain(sandbox_id) {
            *id = self.container_id(id.as_bytes());
        }
        name.iter_mut()
            .chain(namespace)
            .for_each(|text| self.text(text));
    }

    fn spec(&self, spec: &mut SpecSummary) {
        let SpecSummary {
            oci_version: _,
            namespaces,
            unknown_namespaces,
            cgroups_path,
            root_path,
            readonly_root: _,
            rootfs_propagation,
            hostname,
            terminal: _,
            no_new_privileges: _,
            uid: _,
            capabilities,
            masked_paths,
            readonly_paths,
            mounts,
            omitted: _,
            seccomp: _,
            seccomp_refuses: _,
            apparmor_profile,
            selinux_label,
            all_devices: _,
            devices: _,
            devices_final: _,
            id_mapped: _,
        } = spec;
        for DeclaredNamespace {
            kind: _,
            path,
            inum: _,
        } in namespaces
        {
            path.iter_mut().for_each(|path| self.path_text(path));
        }
        unknown_namespaces
            .iter_mut()
            .for_each(|name| self.text(name));
        if let Some(path) = cgroups_path {
            *path = self.cgroup_path(path.as_bytes());
        }
        let paths = root_path
            .iter_mut()
            .chain(masked_paths)
            .chain(readonly_paths);
        paths.for_each(|path| self.path_text(path));
        rootfs_propagation
            .iter_mut()
            .for_each(|word| self.listed(List::Mounts, word));
        hostname.iter_mut().for_each(|text| self.text(text));
        let labels = apparmor_profile.iter_mut().chain(selinux_label);
        labels.for_each(|label| self.lsm_label(label));
        capabilities
            .iter_mut()
            .for_each(|sets| self.capabilities(sets));
        mounts.iter_mut().for_each(|mount| self.mount(mount));
    }

    /// What a label says beside its names stays: what it says of confinement is judged again.
    fn lsm_label(&self, label: &mut String) {
        match Label::parse(label) {
            Label::AppArmor { profile, mode } => {
                let mut profile = profile.to_owned();
                self.listed(List::Profiles, &mut profile);
                *label = format!("{profile} ({mode})");
            }
            Label::Selinux { kind, level } => {
                let (mut kind, level) = (kind.to_owned(), level.to_owned());
                self.listed(List::Profiles, &mut kind);
                *label = format!("user_u:role_r:{kind}:{level}");
            }
            Label::Unconfined => {}
            Label::Other(_) => self.listed(List::Profiles, label),
        }
    }

    fn listed(&self, list: List, name: &mut String) {
        if !stays(list, name.as_bytes()) {
            self.text(name);
        }
    }

    fn capabilities(&self, sets: &mut DeclaredCapabilities) {
        let DeclaredCapabilities {
            bounding,
            effective,
            permitted,
            inheritable,
            ambient,
        } = sets;
        let sets = [bounding, effective, permitted, inheritable, ambient];
        let unknown = |name: &&mut String| capability::parse(name).is_none();
        let names = sets.into_iter().flatten().filter(unknown);
        names.for_each(|name| self.text(name));
    }

    fn mount(&self, mount: &mut DeclaredMount) {
        let DeclaredMount {
            destination,
            source,
            kind,
            options,
        } = mount;
        self.path_text(destination);
        if let Some(source) = source {
            match source.contains('/') {
                true => self.path_text(source),
                false => self.listed(List::Mounts, source),
            }
        }
        kind.iter_mut()
            .for_each(|kind| self.listed(List::Mounts, kind));
        for option in options {
            match option.split_once('=') {
                Some((key, value)) if stays(List::Mounts, key.as_bytes()) => {
                    *option = format!("{key}={}", self.option_value(value));
                }
                _ => self.listed(List::Mounts, option),
            }
        }
    }

    /// `lowerdir=/a:/b`, `mode=0755`, `size=64m`.
    fn option_value(&self, value: &str) -> String {
        let number = value.trim_end_matches(['k', 'm', 'g', '%']);
        if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) {
            return value.to_owned();
        }
        let paths = value.split(':').map(|path| self.file_path(path.as_bytes()));
        paths.collect::<Vec<_>>().join(":")
    }

    /// Labels of an earlier run.
    pub(super) fn saved(&self, saved: &Saved) -> Saved {
        let mut other = saved.clone();
        let Saved {
            boot_id,
            entities,
            labels: _,
        } = &mut other;
        *boot_id = self.id(boot_id.as_bytes());
        for SavedEntity {
            key,
            cgroup_path,
            init_pid: _,
            incarnation: _,
            ns: _,
            origins: _,
            root: _,
            parent: _,
            privileges,
            told: _,
        } in entities
        {
            if let Some(account) = privileges {
                let comm = |name: &str| {
                    String::from_utf8_lossy(&self.command(name.as_bytes())).into_owned()
                };
                let exe = |path: &str| self.file_path(path.as_bytes());
                account.used.rename(comm, exe);
                account.touched.rename(comm, exe);
            }
            *key = self.entity_key(key);
            *cgroup_path = self.cgroup_path(cgroup_path.as_bytes());
        }
        other
    }

    /// A stable id, or what stands behind its runtime.
    pub(super) fn key_or_id(&self, id: &str) -> String {
        if runtime_of(id).is_some() {
            return self.entity_key(id);
        }
        let key = self.entity_key(&format!("{}:{id}", Runtime::Unknown));
        runtime_of(&key).map_or_else(String::new, |(_, id)| id.to_owned())
    }

    /// `<runtime>:<id>`, `unknown:<cgroup path>`, each behind those that it is nested in and a `/`.
    pub(super) fn entity_key(&self, key: &str) -> String {
        let Some((runtime, rest)) = runtime_of(key) else {
            return self.container_id(key.as_bytes());
        };
        let inner = rest
            .match_indices('/')
            .map(|(at, _)| at)
            .find(|at| runtime_of(&rest[at + 1..]).is_some());
        let (own, inner) = match inner {
            Some(at) => (
                &rest[..at],
                format!("/{}", self.entity_key(&rest[at + 1..])),
            ),
            None => (rest, String::new()),
        };
        // Of several in one cgroup all but the first have a number.
        let number = own
            .rfind('#')
            .filter(|at| own[at + 1..].parse::<u32>().is_ok());
        let (own, number) = own.split_at(number.unwrap_or(own.len()));
        let own = match own.starts_with('/') {
            true => self.cgroup_path(own.as_bytes()),
            false => self.container_id(own.as_bytes()),
        };
        format!("{runtime}:{own}{number}{inner}")
    }
}

/// `<runtime>:*`.
pub(super) fn is_any_of_runtime(pattern: &str) -> bool {
    runtime_of(pattern).is_some_and(|(_, rest)| rest == "*")
}

/// The runtime that a stable id begins with, and the rest.
fn runtime_of(key: &str) -> Option<(Runtime, &str)> {
    RUNTIMES.iter().find_map(|&runtime| {
        let rest = key.strip_prefix(runtime.as_str())?.strip_prefix(':')?;
        Some((runtime, rest))
    })
}

#[cfg(test)]
mod tests {
    use super::Pseudonyms;
    use crate::inventory::container::{ContainerAnswer, DeclaredMount, Runtime, SpecSummary};

    /// Goal: a stable id follows its parts, at every depth.
    #[test]
    fn keys_follow() {
        let names = Pseudonyms::new(b"key");
        let (web, path) = (names.id(b"web"), names.cgroup_path(b"/acme/db"));
        assert_eq!(names.entity_key("runc:web"), format!("runc:{web}"));
        assert_eq!(
            names.entity_key("unknown:/acme/db"),
            format!("unknown:{path}")
        );
        assert_eq!(
            names.entity_key("unknown:/acme/db#2"),
            format!("unknown:{path}#2")
        );
        let nested = names.entity_key("lxc:web/unknown:/acme/db/runc:web");
        assert_eq!(nested, format!("lxc:{web}/unknown:{path}/runc:{web}"));
    }

    /// Goal: no name of a spec stays, what a runtime always writes does. Method: both, in every text field.
    #[test]
    fn specs_lose_their_names() {
        let names = Pseudonyms::new(b"key");
        let mut answer =
            ContainerAnswer::bare("/acme/web".to_owned(), Runtime::Runc, "acme".to_owned());
        let acme = || Some("acme".to_owned());
        (answer.name, answer.image) = (acme(), Some("registry.acme.com/acme:1".to_owned()));
        answer.bundle = Some("/run/acme".to_owned());
        answer
            .labels
            .insert("com.acme".to_owned(), "acme".to_owned());
        let mount = |source: &str, options: &[&str]| DeclaredMount {
            destination: "/data/acme".to_owned(),
            source: Some(source.to_owned()),
            kind: Some("overlay".to_owned()),
            options: options.iter().map(|&o| o.to_owned()).collect(),
        };
        answer.spec = Some(SpecSummary {
            cgroups_path: Some("acme.slice:runc:acme".to_owned()),
            hostname: acme(),
            root_path: Some("/srv/acme/rootfs".to_owned()),
            selinux_label: acme(),
            apparmor_profile: acme(),
            rootfs_propagation: Some("rprivate".to_owned()),
            masked_paths: vec!["/proc/kcore".to_owned()],
            mounts: vec![
                mount("/srv/acme", &["rbind", "ro", "acme"]),
                mount("acme", &["lowerdir=/acme:/b", "size=64m"]),
            ],
            ..SpecSummary::default()
        });
        let other = names.answer(&answer);
        let text = serde_json::to_string(&other).unwrap();
        assert!(!text.contains("acme"), "{text}");
        for kept in [
            "/proc/kcore",
            "rprivate",
            "\"ro\"",
            "size=64m",
            "overlay",
            "lowerdir=/x",
        ] {
            assert!(text.contains(kept), "{kept}: {text}");
        }
    }
}
