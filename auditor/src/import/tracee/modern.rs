//! Tracee's `v1beta1.Event`, as JSON is made from it: camel case, or the names of the schema.

use super::Event;
use crate::import::act::Seen;
use crate::import::json;
use crate::import::summary::Summary;
use crate::inventory::container::ContainerAnswer;
use crate::model::time;
use serde_json::Value;

const TOP: [&str; 9] = [
    "timestamp",
    "id",
    "name",
    "policies",
    "workload",
    "data",
    "threat",
    "detectedFrom",
    "detected_from",
];

/// The event of a line; `None` if it is none.
pub(super) fn event<'a>(value: &'a Value, summary: &mut Summary) -> Option<Event<'a>> {
    let name = json::text(value, "name")?;
    let workload = value.get("workload").filter(|w| w.is_object());
    // Events about the machine have no workload.
    if workload.is_none() && value.get("data").is_none() {
        return None;
    }
    json::count_unknown(value, "", &TOP, &mut summary.unknown_fields);
    let process = workload.and_then(|w| w.get("process"));
    let thread = process.and_then(|p| p.get("thread"));
    let data = value.get("data").and_then(Value::as_array);
    Some(Event {
        name,
        at_ns: json::text(value, "timestamp")
            .and_then(time::unix_ns)
            .unwrap_or(0),
        task: workload.and_then(task),
        syscall: thread.and_then(|t| json::text(t, "syscall")).unwrap_or(""),
        args: data.into_iter().flatten().filter_map(argument).collect(),
    })
}

/// A name, and the one field beside it, whose own name is its type.
fn argument(value: &Value) -> Option<(&str, &Value)> {
    let object = value.as_object()?;
    let (_, value) = object.iter().find(|(name, _)| *name != "name")?;
    Some((object.get("name")?.as_str()?, value))
}

fn either(object: &Value, camel: &str, snake: &str) -> Option<u32> {
    json::field32(object, camel)
        .or_else(|| json::field32(object, snake))
        .filter(|&n| n != 0)
}

fn task(workload: &Value) -> Option<Seen> {
    let process = workload.get("process")?;
    let thread = process.get("thread").unwrap_or(&Value::Null);
    let tgid = either(process, "hostPid", "host_pid")?;
    let start = json::text(thread, "startTime").or_else(|| json::text(thread, "start_time"));
    let user = process.get("realUser").or_else(|| process.get("real_user"));
    let parent = process
        .get("ancestors")
        .and_then(|ancestors| ancestors.get(0));
    Some(Seen {
        tid: either(thread, "hostTid", "host_tid").unwrap_or(tgid),
        tgid,
        start: start.and_then(time::unix_ns),
        parent: parent.and_then(|p| either(p, "hostPid", "host_pid")),
        comm: json::text(thread, "name").map_or_else(String::new, json::base_name),
        uid: user.and_then(|u| json::field32(u, "id")).unwrap_or(0),
        container: container(workload).map(Box::new),
        prepares: !is_started(workload, thread),
        ..Seen::default()
    })
}

/// What is false is left out, and versions differ in where they say it.
fn is_started(workload: &Value, thread: &Value) -> bool {
    let container = workload.get("container").unwrap_or(&Value::Null);
    let says = |object: &Value, name| object.get(name).and_then(Value::as_bool) == Some(true);
    says(container, "started")
        || ["isRunning", "is_running"]
            .iter()
            .any(|name| says(container, name))
        || says(thread, "compat")
}

fn container(workload: &Value) -> Option<ContainerAnswer> {
    let inner = workload.get("container")?;
    let k8s = workload.get("k8s").unwrap_or(&Value::Null);
    let pod = k8s.get("pod").unwrap_or(&Value::Null);
    let namespace = k8s.get("namespace").and_then(|n| json::short(n, "name"));
    let mut answer = json::container(json::text(inner, "id")?)?;
    answer.name = json::short(inner, "name");
    answer.image = inner
        .get("image")
        .and_then(|image| json::short(image, "name"));
    answer.pod = json::pod(namespace, json::short(pod, "name"), json::short(pod, "uid"));
    Some(answer)
}
