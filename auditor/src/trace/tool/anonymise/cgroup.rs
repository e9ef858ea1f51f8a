//! Cgroup paths under other names, in which the same managers are recognised.
//!
//! The schemes are those of [`crate::inventory::cgroup_path`]: of every path it must say the same before and after, but
//! for the names. So prefixes, suffixes and separators stay, and of what stands between them only the form.
//!
//! A path may come as the kernel gave it or as text, where a backslash is doubled and other bytes are `\xNN` (see
//! [`crate::model::text`]), and systemd escapes names with `\xNN` too. All of these name the same cgroup, so escapes are
//! undone first; what is written has none, but for the dashes of virtual machines' scopes.

use super::allowed::{List, stays};
use super::pseudonym::Pseudonyms;

/// What a scope of a manager's begins with. Longer before shorter.
const SCOPES: [&str; 11] = [
    "cri-containerd-",
    "docker-",
    "nerdctl-",
    "crio-",
    "libpod-",
    "buildkit-",
    "runc-",
    "crun-",
    "session-",
    "run-",
    "lxc-",
];
/// What a plain directory of a manager's begins with.
const DIRECTORIES: [&str; 5] = [
    "libpod-payload-",
    "libpod-",
    "crio-",
    "lxc.payload.",
    "lxc.monitor.",
];
const CONMON: &str = "conmon-";
/// What the names of units end with.
const UNITS: [&str; 11] = [
    ".scope",
    ".service",
    ".slice",
    ".mount",
    ".socket",
    ".swap",
    ".timer",
    ".target",
    ".path",
    ".device",
    ".automount",
];
const DELETED: &str = " (deleted)";
const POD_OF_PODMAN: &[u8] = b"libpod_pod_";
const QOS: [&[u8]; 2] = [b"burstable", b"besteffort"];

impl Pseudonyms {
    /// A cgroup path below its hierarchy's root.
    pub(super) fn cgroup_path(&self, path: &[u8]) -> String {
        let (path, deleted) = match path.strip_suffix(DELETED.as_bytes()) {
            Some(path) => (path, DELETED),
            None => (path, ""),
        };
        let components: Vec<String> = path
            .split(|&b| b == b'/')
            .map(|component| self.component(component))
            .collect();
        components.join("/") + deleted
    }

    fn component(&self, component: &[u8]) -> String {
        let plain = unescape(component);
        if plain.contains(&b':') {
            let parts = plain.split(|&b| b == b':').enumerate();
            let parts = parts.map(|(place, part)| self.colon_part(place, part));
            return parts.collect::<Vec<_>>().join(":");
        }
        self.unit(&plain)
            .unwrap_or_else(|| self.container_id(&plain))
    }

    /// A part of `<slice>:<prefix>:<id>`.
    fn colon_part(&self, place: usize, part: &[u8]) -> String {
        let is_prefix = |scope: &&&str| scope.strip_suffix('-').map(str::as_bytes) == Some(part);
        match place {
            0 => self.unit(part).unwrap_or_else(|| self.container_id(part)),
            1 => match SCOPES.iter().find(is_prefix) {
                Some(scope) => scope.trim_end_matches('-').to_owned(),
                None => self.container_id(part),
            },
            _ => self.container_id(part),
        }
    }

    /// A unit of systemd's; `None` when it is none.
    fn unit(&self, name: &[u8]) -> Option<String> {
        if stays(List::Cgroups, name) {
            return Some(String::from_utf8_lossy(name).into_owned());
        }
        let suffix = UNITS
            .iter()
            .find(|suffix| name.ends_with(suffix.as_bytes()))?;
        let stem = &name[..name.len() - suffix.len()];
        let stem = match *suffix {
            ".scope" => self.scope(stem),
            ".slice" => self.slice(stem),
            _ => self.service(stem),
        };
        Some(stem + suffix)
    }

    fn scope(&self, stem: &[u8]) -> String {
        if let Some(machine) = stem.strip_prefix(b"machine-") {
            return format!("machine-{}", self.machine(machine));
        }
        self.prefixed(stem, &SCOPES)
            .unwrap_or_else(|| self.container_id(stem))
    }

    /// `qemu-<number>-<name>`, `lxc-<number>-<name>`, or a name.
    fn machine(&self, name: &[u8]) -> String {
        for driver in ["qemu", "lxc"] {
            let rest = name
                .strip_prefix(driver.as_bytes())
                .and_then(|r| r.strip_prefix(b"-"));
            let Some(rest) = rest else { continue };
            let dash = rest.iter().position(|&b| b == b'-').unwrap_or(0);
            let (number, domain) = rest.split_at(dash);
            let is_number = !number.is_empty() && number.iter().all(u8::is_ascii_digit);
            if is_number && (domain.len() > 1 || driver == "qemu") {
                let number = String::from_utf8_lossy(number);
                return format!(
                    "{driver}\\x2d{number}\\x2d{}",
                    self.container_id(&domain[1..])
                );
            }
        }
        self.container_id(name)
    }

    /// A known prefix, and an id.
    fn prefixed(&self, name: &[u8], prefixes: &[&str]) -> Option<String> {
        let prefix = prefixes
            .iter()
            .find(|prefix| name.starts_with(prefix.as_bytes()))?;
        let rest = &name[prefix.len()..];
        let (conmon, id) = match rest.strip_prefix(CONMON.as_bytes()) {
            Some(id) => (CONMON, id),
            None => ("", rest),
        };
        Some(format!("{prefix}{conmon}{}", self.container_id(id)))
    }

    /// `name`, `template@instance`.
    fn service(&self, stem: &[u8]) -> String {
        let (name, instance) = match stem.iter().position(|&b| b == b'@') {
            Some(at) => (&stem[..at], Some(&stem[at + 1..])),
            None => (stem, None),
        };
        let known = stays(List::Programs, name) || name == b"user" || name.is_empty();
        let name = match known {
            true => String::from_utf8_lossy(name).into_owned(),
            false => self.container_id(name),
        };
        match instance {
            Some(instance) => format!("{name}@{}", self.container_id(instance)),
            None => name,
        }
    }

    /// Words between dashes, each of which is a slice around the next; the last may be a pod.
    fn slice(&self, stem: &[u8]) -> String {
        let words: Vec<&[u8]> = stem.split(|&b| b == b'-').collect();
        let pod = words
            .iter()
            .position(|word| *word == b"kubepods")
            .map(|at| {
                let has_class = words.get(at + 1).is_some_and(|word| QOS.contains(word));
                at + 1 + usize::from(has_class)
            });
        let pod = pod.filter(|&at| words.get(at).is_some_and(|word| word.starts_with(b"pod")));
        let (words, pod) = words.split_at(pod.unwrap_or(words.len()));
        let mut other: Vec<String> = words.iter().map(|word| self.slice_word(word)).collect();
        if let Some(uid) = pod.join(&b'-').strip_prefix(b"pod") {
            other.push(format!("pod{}", self.pod_uid(uid)));
        }
        other.join("-")
    }

    fn slice_word(&self, word: &[u8]) -> String {
        if word.is_empty() || stays(List::SliceWords, word) {
            return String::from_utf8_lossy(word).into_owned();
        }
        if let Some(at) = word
            .windows(POD_OF_PODMAN.len())
            .position(|w| w == POD_OF_PODMAN)
        {
            let (before, id) = (&word[..at], &word[at + POD_OF_PODMAN.len()..]);
            return format!(
                "{}libpod_pod_{}",
                self.container_id(before),
                self.container_id(id)
            );
        }
        match word.strip_prefix(b"machine") {
            Some(rest) => format!("machine{}", self.container_id(rest)),
            None => self.container_id(word),
        }
    }

    /// A pod's uid in a slice, where each `-` is a `_`.
    fn pod_uid(&self, uid: &[u8]) -> String {
        let dashed: Vec<u8> = uid
            .iter()
            .map(|&b| if b == b'_' { b'-' } else { b })
            .collect();
        self.container_id(&dashed).replace('-', "_")
    }

    /// What a component is that is neither a unit nor in parts, and what a container's or a pod's id is: each may be
    /// the other.
    pub(super) fn container_id(&self, name: &[u8]) -> String {
        if stays(List::Cgroups, name) {
            return String::from_utf8_lossy(name).into_owned();
        }
        if let Some(prefixed) = self.prefixed(name, &DIRECTORIES) {
            return prefixed;
        }
        match name.strip_prefix(b"pod") {
            Some(uid) => format!("pod{}", self.container_id(uid)),
            None => self.id(name),
        }
    }
}

/// Undoes `\xNN` and `\\`, however often they were applied.
fn unescape(name: &[u8]) -> Vec<u8> {
    let mut name = name.to_vec();
    while name.contains(&b'\\') {
        let once = unescape_once(&name);
        if once.len() == name.len() {
            break;
        }
        name = once;
    }
    name
}

fn unescape_once(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&first, tail)) = rest.split_first() {
        let (byte, used) = match (first, tail) {
            (b'\\', [b'\\', ..]) => (b'\\', 1),
            (b'\\', [b'x', high, low, ..]) => match hex_pair(*high, *low) {
                Some(byte) => (byte, 3),
                None => (first, 0),
            },
            _ => (first, 0),
        };
        out.push(byte);
        rest = &tail[used..];
    }
    out
}

fn hex_pair(high: u8, low: u8) -> Option<u8> {
    let digit = |b: u8| char::from(b).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use super::{Pseudonyms, unescape};
    use crate::inventory::cgroup_path::{CgroupMatch, enclosing};
    use proptest::prelude::*;

    const CONTAINERS: &str =
        include_str!("../../../../../tests/fixtures/inventory/cgroup_paths.txt");
    const HOST: &str =
        include_str!("../../../../../tests/fixtures/inventory/cgroup_paths_host.txt");

    fn names() -> Pseudonyms {
        Pseudonyms::new(b"key")
    }

    /// What is to be recognised in the path under other names.
    fn expected(found: CgroupMatch) -> CgroupMatch {
        let mut identity = found.identity;
        identity.id = names().container_id(identity.id.as_bytes());
        if let Some(pod) = &mut identity.pod {
            pod.uid = pod
                .uid
                .take()
                .map(|uid| names().container_id(uid.as_bytes()));
        }
        CgroupMatch {
            identity,
            subtree_len: 0,
        }
    }

    fn check(path: &str) {
        let other = names().cgroup_path(path.as_bytes());
        let depth = |text: &str| text.matches('/').count();
        assert_eq!(depth(&other), depth(path), "{path}");
        let (before, after) = (enclosing(path), enclosing(&other));
        let (before, after): (Vec<_>, Vec<_>) = (before.collect(), after.collect());
        assert_eq!(before.len(), after.len(), "{path}: {other}");
        for (before, after) in before.into_iter().zip(after) {
            assert_eq!(
                depth(before.subtree(path)),
                depth(after.subtree(&other)),
                "{path}"
            );
            let after = CgroupMatch {
                subtree_len: 0,
                ..after
            };
            assert_eq!(after, expected(before), "{path}: {other}");
        }
    }

    /// Goal: under other names the same is recognised. Method: every path of the tables of the inventory's own tests.
    #[test]
    fn every_scheme_stays() {
        let rows = |text: &'static str| {
            text.lines()
                .filter(|line| !line.is_empty() && !line.starts_with('#'))
        };
        let mut count = 0;
        for row in rows(CONTAINERS) {
            let path = row
                .rsplit(" | ")
                .next()
                .unwrap()
                .replace(['{', '}', '^'], "");
            check(&path);
            count += 1;
        }
        for row in rows(HOST) {
            check(row.trim_matches('"'));
            count += 1;
        }
        assert!(count > 130, "{count}");
    }

    /// Goal: what is not a manager's word is gone.
    #[test]
    fn names_go() {
        let path =
            "/system.slice/acme-billing.service/acme/lxc.payload.billing/x\\x2dbilling.scope";
        let other = names().cgroup_path(path.as_bytes());
        assert!(
            !other.contains("billing") && !other.contains("acme"),
            "{other}"
        );
        assert!(other.starts_with("/system.slice/x"), "{other}");
        let kept = "/user.slice/user-1000.slice/user@1000.service/init.scope";
        assert_eq!(names().cgroup_path(kept.as_bytes()), kept);
    }

    /// Goal: a path has one other name, however it is escaped. Method: as the kernel gives it, and as text.
    #[test]
    fn escapes_do_not_matter() {
        let path = b"/machine.slice/machine-my\\x2dbox.scope/\xff";
        let text = crate::model::text::escape(path);
        assert_ne!(text.as_bytes(), path);
        assert_eq!(
            names().cgroup_path(path),
            names().cgroup_path(text.as_bytes())
        );
        assert_eq!(unescape(b"a\\\\x2db\\"), b"a-b\\");
    }

    proptest! {
        /// Goal: no path makes a pseudonym that means something. Method: components that the schemes react to, in
        /// any order.
        #[test]
        fn any_path_keeps_its_meaning(path in prop::collection::vec(prop_oneof![
            Just("kubepods".to_owned()), Just("lxc".to_owned()), Just("docker".to_owned()),
            Just("machine.slice".to_owned()), Just("default".to_owned()), Just("buildkit".to_owned()),
            Just("payload".to_owned()), Just("kubelet-kubepods-podabc_1.slice".to_owned()),
            Just("1".repeat(64)), Just("podman".to_owned()), Just("pod7".to_owned()),
            "[a-z0-9@:. _-]{1,6}", "(docker|runc|crun|libpod|crio|machine)-[a-z0-9@-]{1,6}\\.scope",
            "[a-z]{1,4}(-machine|machine|-)?\\.(slice|service|scope)", "lxc\\.payload\\.[a-z]{0,3}",
            "systemd-nspawn@[a-z]{0,3}\\.service", "[a-f0-9]{64}", "libpod-payload-[a-f0-9]{64}",
        ], 1..5)) {
            check(&format!("/{}", path.join("/")));
        }
    }
}
