//! What to grant instead: the capabilities that were used, as whoever starts the container writes them down.
//!
//! Advice is a lower bound that somebody saw, not a proof. So each piece says for how long was looked, what could have been
//! missed, and never leaves out what was used. Where nothing could be seen there is no advice.

use super::privileges::{CapabilitySets, ContainerPrivileges, PrivilegesReport, Sight, span};
use super::syscalls;
use crate::model::text::short_id;
use crate::sink::human::printable;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// As what to write it down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `securityContext` of a container in a Kubernetes pod.
    Kubernetes,
    /// Flags of `docker run` and `podman run`.
    Docker,
    /// A merge patch (RFC 7386) of an OCI `config.json`.
    Oci,
    /// Seccomp profiles, for Docker, Podman and the kubelet.
    Seccomp,
    /// Lines of a systemd unit.
    Systemd,
    /// Roles of the auditor's own policy.
    Policy,
}

/// Whom a piece of advice is for.
struct Subject<'a> {
    /// What a person calls it.
    called: String,
    /// Key and value by which a role finds it.
    found_by: (&'static str, &'a str),
    sets: &'a CapabilitySets,
}

impl Subject<'_> {
    /// What was used of the grant; `None` where nobody could see.
    fn keep(&self) -> Option<Vec<&str>> {
        let granted = self.sets.granted.as_ref()?;
        let seen = self.sets.sight != Sight::None;
        let used = self.sets.used.iter().filter(|name| granted.contains(name));
        seen.then(|| used.map(String::as_str).collect())
    }

    /// What a reader must know before following the advice, in sentences.
    fn caveats(&self) -> Vec<String> {
        let sets = self.sets;
        let Some(keep) = self.keep() else {
            return vec!["what it uses could not be seen: no advice".to_owned()];
        };
        let mut said = vec![format!(
            "observed for {}, execs: {}, starts: {}: confidence {}; what it needs more rarely is missing here",
            span(sets.observed_ns),
            sets.execs,
            sets.starts,
            sets.confidence.as_str()
        )];
        if !sets.from_start {
            said.push(
                "it ran before it was observed: what it needs to start is missing here".to_owned(),
            );
        }
        let gains = keep.iter().any(|name| {
            let permitted = sets.permitted.as_ref();
            permitted.is_some_and(|set| !set.iter().any(|has| has == name))
        });
        if gains {
            said.push(
                "some is gained by executing files, which no_new_privs would prevent".to_owned(),
            );
        }
        let mut lists = vec![
            ("asked for in vain", &sets.refused),
            ("probed for only", &sets.probed),
        ];
        if !sets.beyond.is_empty() {
            lists.push(("used by somebody who came in with more", &sets.beyond));
        }
        for (what, list) in lists {
            if !list.is_empty() {
                said.push(format!("{what}: {}", list.join(" ")));
            }
        }
        said.extend(syscalls::caveats(sets));
        said
    }

    fn comment(&self, out: &mut String) {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(out, "# {}", printable(&self.called));
        for sentence in self.caveats() {
            let _ = writeln!(out, "# {}", printable(&sentence));
        }
    }
}

/// Writes the advice for all that a report tells of. Replicas get one piece together.
#[must_use]
pub fn write(report: &PrivilegesReport, form: Form) -> String {
    let subjects = subjects(report);
    let pieces = match form {
        Form::Oci => Some(subjects.iter().map(patch).collect()),
        Form::Seccomp => Some(subjects.iter().map(profile).collect()),
        _ => None,
    };
    if let Some(pieces) = pieces {
        return format!("{:#}\n", Value::Array(pieces));
    }
    let mut out = String::new();
    let mut taken = BTreeSet::new();
    for (index, subject) in subjects.iter().enumerate() {
        if index > 0 {
            out.push_str(if form == Form::Kubernetes {
                "---\n"
            } else {
                "\n"
            });
        }
        subject.comment(&mut out);
        let Some(keep) = subject.keep() else { continue };
        let bound = subject.sets.no_new_privs == Some(true);
        match form {
            Form::Kubernetes => kubernetes(&keep, bound, &mut out),
            Form::Docker => docker(&keep, bound, &mut out),
            Form::Systemd => systemd(subject.sets, &keep, bound, &mut out),
            Form::Policy => role(subject, &keep, &mut taken, &mut out),
            Form::Oci | Form::Seccomp => {}
        }
    }
    if subjects.is_empty() {
        out.push_str("# no container was seen\n");
    }
    out
}

fn subjects(report: &PrivilegesReport) -> Vec<Subject<'_>> {
    let groups: BTreeMap<&str, _> = report.together.iter().map(|t| (t.of.as_str(), t)).collect();
    let of = |c: &ContainerPrivileges| c.image.clone().unwrap_or_else(|| c.id.clone());
    let mut told = BTreeSet::new();
    let mut all = Vec::new();
    for container in &report.containers {
        let found_by = match &container.image {
            Some(image) => ("image", image.as_str()),
            None => ("id", container.id.as_str()),
        };
        let group = groups.get(of(container).as_str());
        if let Some(group) = group {
            if told.insert(group.of.as_str()) {
                all.push(Subject {
                    called: format!("{}: {}", group.of, group.in_words()),
                    found_by,
                    sets: &group.capabilities,
                });
            }
            continue;
        }
        let short = short_id(&container.id);
        all.push(Subject {
            called: match (&container.name, &container.image) {
                (Some(name), Some(image)) => format!("{name} ({short}, image {image})"),
                (Some(name), None) => format!("{name} ({short})"),
                (None, Some(image)) => format!("{short} (image {image})"),
                (None, None) => short.to_string(),
            },
            found_by,
            sets: &container.capabilities,
        });
    }
    // What earlier runs saw, and this one did not.
    for group in &report.together {
        if !told.contains(group.of.as_str()) {
            let key = if group.is_image { "image" } else { "id" };
            all.push(Subject {
                called: format!("{}: {}", group.of, group.in_words()),
                found_by: (key, &group.of),
                sets: &group.capabilities,
            });
        }
    }
    all
}

/// In quotes that JSON, YAML and TOML read alike.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| quoted(name)).collect();
    format!("[{}]", quoted.join(", "))
}

fn kubernetes(keep: &[&str], bound: bool, out: &mut String) {
    out.push_str("securityContext:\n");
    if bound {
        out.push_str("  allowPrivilegeEscalation: false\n");
    }
    out.push_str("  capabilities:\n    drop: [\"ALL\"]\n");
    if !keep.is_empty() {
        let _ = writeln!(out, "    add: {}", list(keep));
    }
}

fn docker(keep: &[&str], bound: bool, out: &mut String) {
    out.push_str("--cap-drop=ALL");
    for name in keep {
        let _ = write!(out, " --cap-add={name}");
    }
    if bound {
        out.push_str(" --security-opt=no-new-privileges");
    }
    out.push('\n');
}

/// As OCI and systemd spell it. A number that has no name stays one.
fn full(name: &str) -> String {
    match name.starts_with(|c: char| c.is_ascii_digit()) {
        true => name.to_owned(),
        false => format!("CAP_{name}"),
    }
}

fn systemd(sets: &CapabilitySets, keep: &[&str], bound: bool, out: &mut String) {
    let names: Vec<String> = keep.iter().map(|name| full(name)).collect();
    let _ = writeln!(out, "[Service]\nCapabilityBoundingSet={}", names.join(" "));
    if bound {
        out.push_str("NoNewPrivileges=yes\n");
    }
    if let Ok(allowed) = syscalls::allowed(sets) {
        let names: Vec<&str> = allowed.into_iter().collect();
        let _ = writeln!(
            out,
            "SystemCallFilter={}\nSystemCallErrorNumber=ENOSYS",
            names.join(" ")
        );
    }
}

fn patch(subject: &Subject<'_>) -> Value {
    let capabilities = subject.keep().map(|keep| {
        let names: Vec<String> = keep.iter().map(|name| full(name)).collect();
        let within = |set: &Option<Vec<String>>| {
            let has = |name: &&&str| {
                set.as_ref()
                    .is_some_and(|set| set.iter().any(|s| s == **name))
            };
            keep.iter()
                .filter(has)
                .map(|name| full(name))
                .collect::<Vec<_>>()
        };
        let permitted = within(&subject.sets.permitted);
        json!({
            "bounding": names,
            "permitted": permitted,
            "effective": permitted,
        })
    });
    let rest = capabilities.as_ref().map(|_| {
        "inheritable and ambient capabilities of the spec, if it has any, must be cut down likewise".to_owned()
    });
    let patch = capabilities.map(|sets| {
        let mut patch = json!({ "process": { "capabilities": sets } });
        if let Ok(profile) = syscalls::profile(subject.sets) {
            patch["linux"] = json!({ "seccomp": profile });
        }
        patch
    });
    json!({
        "of": subject.called,
        "patch": patch,
        "may_miss": subject.caveats().into_iter().chain(rest).collect::<Vec<_>>(),
    })
}

fn profile(subject: &Subject<'_>) -> Value {
    let (profile, missing) = match syscalls::profile(subject.sets) {
        Ok(profile) => (profile, None),
        Err(why) => (Value::Null, Some(why.to_owned())),
    };
    json!({
        "of": subject.called,
        "profile": profile,
        "may_miss": subject.caveats().into_iter().chain(missing).collect::<Vec<_>>(),
    })
}

fn role(subject: &Subject<'_>, keep: &[&str], taken: &mut BTreeSet<String>, out: &mut String) {
    let (key, value) = subject.found_by;
    let base = subject
        .called
        .split([' ', ':'])
        .next()
        .unwrap_or("container");
    let mut name = base.to_owned();
    for number in 2.. {
        if taken.insert(name.clone()) {
            break;
        }
        name = format!("{base}-{number}");
    }
    let _ = writeln!(
        out,
        "[[role]]\nname = {}\nmatch = {{ {key} = {} }}\ncapabilities = {}",
        quoted(&name),
        quoted(value),
        list(keep)
    );
}

#[cfg(test)]
mod tests {
    //! Goal: advice keeps all that was used of the grant and nothing else, replicas are advised together, and where nothing
    //! could be seen nothing is advised. What is written can be read by whom it is for.

    use super::super::privileges::tests::{observation, observed, used};
    use super::*;
    use crate::model::calls::Calls;
    use crate::model::policy::Policy;
    use crate::model::privileges::{Scope, Used};

    /// Two replicas that use CHOWN and DAC_OVERRIDE, and a container that uses FOWNER and was refused SYS_ADMIN.
    fn report() -> PrivilegesReport {
        let initial = |capability, granted| used(&[(capability, granted, false, Scope::Initial)]);
        let mut other = initial(3, true);
        other.merge(&initial(21, false));
        let all = vec![
            observed("a", Some("web:1"), 1, initial(0, true)),
            observed("b", Some("web:1"), 2, initial(1, true)),
            observed("c", None, 3, other),
        ];
        observation(all).report("auditor/1", &[], None)
    }

    fn lines(form: Form) -> Vec<String> {
        let text = write(&report(), form);
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(str::to_owned).collect()
    }

    #[test]
    fn kubernetes_reads_it() {
        let wanted = [
            "securityContext:",
            "  allowPrivilegeEscalation: false",
            "  capabilities:",
            "    drop: [\"ALL\"]",
            "    add: [\"CHOWN\", \"DAC_OVERRIDE\"]",
            "---",
            "securityContext:",
            "  allowPrivilegeEscalation: false",
            "  capabilities:",
            "    drop: [\"ALL\"]",
            "    add: [\"FOWNER\"]",
        ];
        assert_eq!(lines(Form::Kubernetes), wanted);
    }

    #[test]
    fn runtimes_and_systemd_read_it() {
        let wanted = [
            "--cap-drop=ALL --cap-add=CHOWN --cap-add=DAC_OVERRIDE --security-opt=no-new-privileges",
            "",
            "--cap-drop=ALL --cap-add=FOWNER --security-opt=no-new-privileges",
        ];
        assert_eq!(lines(Form::Docker), wanted);
        let systemd = lines(Form::Systemd);
        assert_eq!(
            systemd[1],
            "CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE"
        );
    }

    #[test]
    fn a_patch_is_json() {
        let patches: Value = serde_json::from_str(&write(&report(), Form::Oci)).unwrap();
        let sets = &patches[0]["patch"]["process"]["capabilities"];
        assert_eq!(sets["bounding"], json!(["CAP_CHOWN", "CAP_DAC_OVERRIDE"]));
        assert_eq!(sets["effective"], sets["bounding"]);
        assert_eq!(
            patches[1]["patch"]["process"]["capabilities"]["bounding"],
            json!(["CAP_FOWNER"])
        );
    }

    /// A role of the advice is one that the policy accepts, and permits what was used.
    #[test]
    fn a_policy_is_one() {
        let policy = Policy::parse(&write(&report(), Form::Policy), "advice").unwrap();
        let found: Vec<_> = policy
            .roles
            .iter()
            .map(|r| (r.name.as_str(), r.capabilities))
            .collect();
        assert_eq!(found, [("web", Some(0b11)), ("name-c", Some(0b1000))]);
    }

    fn profiles(calls: &Calls) -> (Value, Value, String) {
        let mut one = observed("a", None, 1, Used::default());
        one.privileges.account.calls = Some(calls.clone());
        let report = observation(vec![one]).report("auditor/1", &[], None);
        let read = |form| serde_json::from_str::<Value>(&write(&report, form)).unwrap()[0].clone();
        let systemd = write(&report, Form::Systemd);
        (read(Form::Seccomp), read(Form::Oci), systemd)
    }

    /// A filter has what was seen, and what its container needs to start; both runtimes' forms have the same one.
    #[test]
    fn a_filter_lets_through_what_was_seen() {
        let mut calls = Calls::none(true);
        calls.note(Some("accept4"));
        let (piece, patch, systemd) = profiles(&calls);
        let profile = &piece["profile"];
        assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
        let names = profile["syscalls"][0]["names"].as_array().unwrap();
        let has = |name: &str| names.iter().any(|n| n == name);
        assert!(has("accept4") && has("execve") && has("rt_sigreturn"));
        assert!(!has("ptrace") && !has("mount") && !has("bpf"));
        assert_eq!(&patch["patch"]["linux"]["seccomp"], profile);
        assert!(
            systemd.contains("\nSystemCallFilter=accept4 brk "),
            "{systemd}"
        );
        assert!(systemd.ends_with("\nSystemCallErrorNumber=ENOSYS\n"));
    }

    /// Of what nobody looked at, could not name, or saw only later there is no filter, and it is said why.
    #[test]
    fn a_filter_is_whole_or_none() {
        let (late, mut unnamed) = (Calls::none(false), Calls::none(true));
        unnamed.note(None);
        for (calls, why) in [(late, "from its start on"), (unnamed, "32-bit")] {
            let (piece, patch, systemd) = profiles(&calls);
            assert_eq!(piece["profile"], Value::Null);
            assert!(piece["may_miss"].to_string().contains(why), "{piece}");
            assert_eq!(patch["patch"]["linux"], Value::Null);
            assert!(!systemd.contains("SystemCallFilter"));
        }
        let pieces: Value = serde_json::from_str(&write(&report(), Form::Seccomp)).unwrap();
        assert_eq!(pieces[0]["profile"], Value::Null);
        assert!(pieces[0]["may_miss"].to_string().contains("--syscalls"));
    }

    #[test]
    fn what_is_not_known_is_said() {
        let text = write(&report(), Form::Docker);
        assert!(text.contains("# asked for in vain: SYS_ADMIN"), "{text}");
        let mut blind = observed("a", None, 1, Used::default());
        blind.sight = Sight::None;
        let blind = observation(vec![blind]).report("auditor/1", &[], None);
        for form in [Form::Kubernetes, Form::Docker, Form::Systemd, Form::Policy] {
            let text = write(&blind, form);
            assert!(text.lines().all(|line| line.starts_with('#')), "{text}");
            assert!(text.contains("no advice"), "{text}");
        }
        assert_eq!(
            serde_json::from_str::<Value>(&write(&blind, Form::Oci)).unwrap()[0]["patch"],
            Value::Null
        );
        let none = observation(Vec::new()).report("auditor/1", &[], None);
        assert_eq!(write(&none, Form::Policy), "# no container was seen\n");
    }
}
