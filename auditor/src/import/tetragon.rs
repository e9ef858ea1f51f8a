//! Tetragon's JSON export: one `GetEventsResponse` a line.
//!
//! The schema is `api/v1/tetragon` of its repository. A process description is what was true at the process's last
//! *exec*: Tetragon keeps it and repeats it in every later event. So namespaces and credentials count in
//! `process_exec` only; anywhere else they tell no more than who is there. They are in the export only
//! with `--enable-process-ns` and `--enable-process-cred`.

use super::act::{Act, Seen, What};
use super::json;
use super::summary::{Summary, bounded};
use super::{Evidence, Line, limits};
use crate::inventory::container::ContainerAnswer;
use crate::model::NsKind;
use crate::model::time;
use auditor_common::record::Creds;
use serde_json::Value;

/// Events that carry a process.
const PROCESS_EVENTS: [&str; 8] = [
    "process_exec",
    "process_exit",
    "process_kprobe",
    "process_tracepoint",
    "process_loader",
    "process_uprobe",
    "process_usdt",
    "process_lsm",
];
const TOP: [&str; 14] = [
    "process_exec",
    "process_exit",
    "process_kprobe",
    "process_tracepoint",
    "process_loader",
    "process_uprobe",
    "process_usdt",
    "process_lsm",
    "rate_limit_info",
    "node_name",
    "time",
    "cluster_name",
    "node_labels",
    "aggregation_info",
];
const PROCESS: [&str; 21] = [
    "exec_id",
    "pid",
    "uid",
    "cwd",
    "binary",
    "arguments",
    "flags",
    "start_time",
    "auid",
    "pod",
    "docker",
    "parent_exec_id",
    "refcnt",
    "cap",
    "ns",
    "tid",
    "process_credentials",
    "binary_properties",
    "user",
    "in_init_tree",
    "environment_variables",
];
const POD: [&str; 9] = [
    "namespace",
    "name",
    "uid",
    "container",
    "labels",
    "pod_labels",
    "pod_annotations",
    "workload",
    "workload_kind",
];

/// Reads one line.
pub(super) fn read(value: &Value, summary: &mut Summary, evidence: &mut Evidence) -> Line {
    let at_ns = json::text(value, "time")
        .and_then(time::unix_ns)
        .unwrap_or(0);
    if let Some(info) = value.get("rate_limit_info") {
        summary.events.add("rate_limit_info");
        let count = json::field(info, "number_of_dropped_process_events").unwrap_or(0);
        return Line::Acts(vec![Act {
            at_ns,
            what: What::Lost { count },
            ..Act::default()
        }]);
    }
    let event = PROCESS_EVENTS
        .iter()
        .find_map(|name| Some((*name, value.get(*name)?)));
    let Some((name, event)) = event else {
        return unknown_event(value, summary);
    };
    let Some(process) = event.get("process").and_then(|p| seen(p, summary)) else {
        return Line::Malformed(format!("{name} without a process that has a pid"));
    };
    json::count_unknown(value, "", &TOP, &mut summary.unknown_fields);
    let mut acts = Vec::new();
    let mut task = process;
    if let Some(parent) = event.get("parent").and_then(|p| seen(p, summary))
        // An exec without a fork before it names the process itself, as it was.
        && parent.tgid != task.tgid
    {
        task.parent = Some(parent.tgid);
        acts.push(Act {
            at_ns,
            task: parent,
            what: What::Seen,
        });
    }
    evidence.namespaces |= task.ns.iter().any(|&inum| inum != 0);
    evidence.credentials |= task.creds.is_some();
    let what = what(name, event, summary, evidence);
    acts.push(Act { at_ns, task, what });
    Line::Acts(acts)
}

fn unknown_event(value: &Value, summary: &mut Summary) -> Line {
    let object = value.as_object();
    let unknown = object
        .filter(|o| o.contains_key("time") && o.contains_key("node_name"))
        .and_then(|o| o.keys().find(|key| !TOP.contains(&key.as_str())));
    match unknown {
        Some(name) => {
            summary.unknown_events.add(name);
            Line::Acts(Vec::new())
        }
        None => Line::Malformed("no event of Tetragon".to_owned()),
    }
}

fn what(name: &str, event: &Value, summary: &mut Summary, evidence: &mut Evidence) -> What {
    let flags = event
        .get("process")
        .and_then(|p| json::text(p, "flags"))
        .unwrap_or("");
    let has = |flag| flags.split_ascii_whitespace().any(|word| word == flag);
    match name {
        // Read from /proc when Tetragon started: nothing happened.
        "process_exec" if has("procFS") => {
            summary.events.add("process_exec (procFS)");
            What::Seen
        }
        "process_exec" => {
            summary.events.add(name);
            let file = event.get("process").and_then(|p| json::short(p, "binary"));
            What::Exec {
                file: file.unwrap_or_default(),
                newborn: has("clone"),
            }
        }
        "process_exit" => {
            summary.events.add(name);
            What::Exit
        }
        "process_tracepoint" if json::text(event, "event") == Some("cgroup_attach_task") => {
            summary.events.add("process_tracepoint: cgroup_attach_task");
            match attach_path(event) {
                Some(path) => {
                    evidence.attaches = true;
                    What::Attach { path, moved: None }
                }
                None => What::Seen,
            }
        }
        _ => {
            let detail = ["function_name", "event", "symbol"]
                .iter()
                .find_map(|field| json::text(event, field));
            let detail = detail.map(|d| format!(": {}", bounded(d, limits::NAME_BYTES)));
            summary
                .unknown_events
                .add(&format!("{name}{}", detail.unwrap_or_default()));
            What::Seen
        }
    }
}

/// Which arguments a policy asks for is its own choice; only one of this tracepoint's is a path.
fn attach_path(event: &Value) -> Option<String> {
    let args = event.get("args")?.as_array()?;
    args.iter()
        .filter_map(|arg| json::text(arg, "string_arg"))
        .find(|text| text.starts_with('/'))
        .map(|path| bounded(path, limits::PATH_BYTES).to_owned())
}

fn seen(process: &Value, summary: &mut Summary) -> Option<Seen> {
    let pid = json::field32(process, "pid").filter(|&pid| pid != 0)?;
    let unknown = &mut summary.unknown_fields;
    json::count_unknown(process, "process.", &PROCESS, unknown);
    let mut seen = Seen {
        // Namespaces and credentials are those of the process's leader.
        tid: pid,
        tgid: pid,
        comm: json::text(process, "binary").map_or_else(String::new, json::base_name),
        creds: credentials(process),
        uid: json::field32(process, "uid").unwrap_or(0),
        container: container(process, summary).map(Box::new),
        ..Seen::default()
    };
    if let Some(ns) = process.get("ns") {
        let names: Vec<&str> = NsKind::ALL.iter().map(|k| k.as_str()).collect();
        json::count_unknown(ns, "process.ns.", &names, &mut summary.unknown_fields);
        for &kind in NsKind::ALL {
            let Some(namespace) = ns.get(kind.as_str()) else {
                continue;
            };
            seen.ns[kind.slot()] = json::field32(namespace, "inum").unwrap_or(0);
            if namespace.get("is_host").and_then(Value::as_bool) == Some(true) {
                seen.hosts |= 1 << kind.slot();
            }
        }
    }
    Some(seen)
}

/// Known only where capabilities are: an empty set of them is written as an empty object.
fn credentials(process: &Value) -> Option<Creds> {
    let full = process.get("process_credentials");
    let cap = process
        .get("cap")
        .or_else(|| full.and_then(|f| f.get("caps")))
        .filter(|cap| cap.is_object())?;
    let set = |name| json::capabilities(cap.get(name)).unwrap_or(0);
    // By itself `uid` is the effective one.
    let euid = json::field32(process, "uid")?;
    let id = |name, or| full.and_then(|f| json::field32(f, name)).unwrap_or(or);
    Some(Creds {
        uid: id("uid", euid),
        gid: id("gid", 0),
        suid: id("suid", euid),
        sgid: id("sgid", 0),
        euid: id("euid", euid),
        egid: id("egid", 0),
        fsuid: id("fsuid", euid),
        fsgid: id("fsgid", 0),
        cap_inheritable: set("inheritable"),
        cap_permitted: set("permitted"),
        cap_effective: set("effective"),
        ..Creds::default()
    })
}

/// `docker` holds the first digits of a container's id, whatever its runtime; a pod has all of it.
fn container(process: &Value, summary: &mut Summary) -> Option<ContainerAnswer> {
    let pod = process.get("pod");
    let inner = pod.and_then(|pod| pod.get("container"));
    let id = inner
        .and_then(|c| json::text(c, "id"))
        .or_else(|| json::text(process, "docker"))?;
    let mut answer = json::container(id)?;
    if let Some(inner) = inner {
        answer.name = json::short(inner, "name");
        answer.image = inner
            .get("image")
            .and_then(|image| json::short(image, "name").or_else(|| json::short(image, "id")));
    }
    if let Some(pod) = pod {
        json::count_unknown(pod, "process.pod.", &POD, &mut summary.unknown_fields);
        answer.pod = json::pod(
            json::short(pod, "namespace"),
            json::short(pod, "name"),
            json::short(pod, "uid"),
        );
        let labels = pod.get("pod_labels").and_then(Value::as_object);
        answer.add_labels(labels.into_iter().flatten().filter_map(|(key, value)| {
            let value = bounded(value.as_str()?, limits::TEXT_BYTES);
            Some((key.clone(), value.to_owned()))
        }));
    }
    Some(answer)
}
