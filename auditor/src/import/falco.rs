//! Falco's alerts with `json_output: true`.
//!
//! An alert is a rule's opinion of one event, with the fields that the rule's author put
//! into its text. No field is a namespace. So nearly nothing can be judged from it: whose process it was,
//! what it executed, and, where capabilities are among the fields, what it gained by that. One join can be
//! told: of the machine's mount namespace, by a process that sees the machine's processes.

use super::act::{Act, HOSTS, Seen, What};
use super::json;
use super::summary::{Summary, bounded};
use super::{Evidence, Line, limits};
use crate::inventory::container::ContainerAnswer;
use crate::model::time;
use auditor_common::record::{Creds, ns};
use serde_json::Value;

const TOP: [&str; 10] = [
    "hostname",
    "message",
    "output",
    "output_fields",
    "priority",
    "rule",
    "source",
    "tags",
    "time",
    "uuid",
];
/// Fields that are used, or that rules commonly show and that say nothing to the engine.
const FIELDS: [&str; 47] = [
    "container.id",
    "container.full_id",
    "container.name",
    "container.type",
    "container.image",
    "container.image.repository",
    "container.image.tag",
    "container.image.digest",
    "container.info",
    "container.start_ts",
    "evt.time",
    "evt.time.iso8601",
    "evt.type",
    "evt.res",
    "evt.args",
    "evt.arg.fd",
    "evt.arg.flags",
    "evt.arg.nstype",
    "evt.arg.res",
    "evt.hostname",
    "evt.source",
    "fd.name",
    "k8s.ns.name",
    "k8s.pod.name",
    "k8s.pod.uid",
    "k8s.pod.id",
    "proc.aname[2]",
    "proc.aname[3]",
    "proc.cmdline",
    "proc.cwd",
    "proc.exe",
    "proc.exepath",
    "proc.name",
    "proc.pcmdline",
    "proc.pid",
    "proc.pname",
    "proc.ppid",
    "proc.tty",
    "proc.vpid",
    "thread.cap_effective",
    "thread.cap_inheritable",
    "thread.cap_permitted",
    "thread.tid",
    "user.loginname",
    "user.loginuid",
    "user.name",
    "user.uid",
];
/// The rule of Falco's own report that it was too slow.
const DROPPED: &str = "Falco internal: syscall event drop";

/// Reads one line.
pub(super) fn read(value: &Value, summary: &mut Summary, evidence: &mut Evidence) -> Line {
    let fields = value.get("output_fields").filter(|f| f.is_object());
    let (Some(rule), Some(fields)) = (json::text(value, "rule"), fields) else {
        return Line::Malformed("no alert of Falco".to_owned());
    };
    json::count_unknown(value, "", &TOP, &mut summary.unknown_fields);
    let at_ns = json::text(value, "time")
        .and_then(time::unix_ns)
        .or_else(|| json::field(fields, "evt.time"))
        .unwrap_or(0);
    if rule == DROPPED {
        summary.events.add(rule);
        let count = json::field(fields, "n_drops").unwrap_or(1);
        return Line::Acts(vec![Act {
            at_ns,
            what: What::Lost { count },
            ..Act::default()
        }]);
    }
    let unknown = &mut summary.unknown_fields;
    json::count_unknown(fields, "output_fields.", &FIELDS, unknown);
    let Some(mut task) = seen(fields) else {
        let rule = bounded(rule, limits::NAME_BYTES);
        summary.unknown_events.add(&format!("no process: {rule}"));
        return Line::Acts(Vec::new());
    };
    evidence.credentials |= task.creds.is_some();
    let event = json::text(fields, "evt.type").unwrap_or("");
    let what = match event {
        "execve" | "execveat" => What::Exec {
            file: json::short(fields, "proc.exepath").unwrap_or_default(),
            newborn: false,
        },
        "procexit" => What::Exit,
        "setns" if joins_machine(fields) => {
            task.ns[ns::MNT] = HOSTS;
            What::Switch
        }
        _ => What::Seen,
    };
    if matches!(what, What::Seen) {
        let event = bounded(event, limits::NAME_BYTES);
        let rule = bounded(rule, limits::NAME_BYTES);
        summary.unknown_events.add(&format!("{event}: {rule}"));
    } else {
        summary.events.add(event);
    }
    Line::Acts(vec![Act { at_ns, task, what }])
}

/// A setns that worked, to the mount namespace of the process that the machine calls 1: only whoever has the
/// same pid inside and outside sees the machine's processes by their own ids.
fn joins_machine(fields: &Value) -> bool {
    let same_pid = json::field(fields, "proc.vpid")
        .is_some_and(|vpid| json::field(fields, "proc.pid") == Some(vpid));
    let worked = json::text(fields, "evt.res") == Some("SUCCESS")
        || json::field(fields, "evt.arg.res") == Some(0);
    let target = |name| {
        json::text(fields, name).is_some_and(|text| {
            text.split("/proc/1/ns/mnt")
                .nth(1)
                .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
        })
    };
    same_pid
        && worked
        && ["fd.name", "evt.arg.fd", "evt.args"]
            .into_iter()
            .any(target)
}

fn seen(fields: &Value) -> Option<Seen> {
    let nonzero = |name| json::field32(fields, name).filter(|&n| n != 0);
    let tgid = nonzero("proc.pid")?;
    Some(Seen {
        tid: nonzero("thread.tid").unwrap_or(tgid),
        tgid,
        parent: nonzero("proc.ppid"),
        comm: json::text(fields, "proc.name").map_or_else(String::new, json::base_name),
        creds: credentials(fields),
        uid: json::field32(fields, "user.uid").unwrap_or(0),
        container: container(fields).map(Box::new),
        ..Seen::default()
    })
}

fn credentials(fields: &Value) -> Option<Creds> {
    let set = |name| json::capabilities(fields.get(name));
    let (permitted, effective) = (set("thread.cap_permitted")?, set("thread.cap_effective")?);
    let uid = json::field32(fields, "user.uid")?;
    Some(Creds {
        uid,
        suid: uid,
        euid: uid,
        fsuid: uid,
        cap_permitted: permitted,
        cap_effective: effective,
        cap_inheritable: set("thread.cap_inheritable").unwrap_or(0),
        ..Creds::default()
    })
}

fn container(fields: &Value) -> Option<ContainerAnswer> {
    let id = json::text(fields, "container.full_id").or_else(|| json::text(fields, "container.id"));
    let id = id.filter(|id| !matches!(*id, "host" | "<NA>"))?;
    let mut answer = json::container(id)?;
    if let Some(kind) = json::text(fields, "container.type") {
        answer.runtime = json::runtime(kind);
    }
    answer.name = json::short(fields, "container.name");
    let repository = json::short(fields, "container.image.repository");
    answer.image = repository
        .map(
            |repository| match json::short(fields, "container.image.tag") {
                Some(tag) => format!("{repository}:{tag}"),
                None => repository,
            },
        )
        .or_else(|| json::short(fields, "container.image"));
    answer.pod = json::pod(
        json::short(fields, "k8s.ns.name"),
        json::short(fields, "k8s.pod.name"),
        json::short(fields, "k8s.pod.uid"),
    );
    Some(answer)
}
