//! Reading fields of a line that may hold anything.

use super::limits;
use super::summary::{Tally, bounded};
use crate::inventory::container::{ContainerAnswer, PodIdentity, Runtime};
use crate::model::capability;
use serde_json::Value;

/// The text of a field; `None` where it is missing, empty, or something else.
pub(super) fn text<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.get(name)?.as_str().filter(|text| !text.is_empty())
}

/// As [`text`], cut to what is kept.
pub(super) fn short(object: &Value, name: &str) -> Option<String> {
    text(object, name).map(|text| bounded(text, limits::TEXT_BYTES).to_owned())
}

/// The number in a value. JSON that is made from protocol buffers writes 64-bit numbers as text.
pub(super) fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// The number of a field.
pub(super) fn field(object: &Value, name: &str) -> Option<u64> {
    object.get(name).and_then(number)
}

/// As [`field`], where it fits.
pub(super) fn field32(object: &Value, name: &str) -> Option<u32> {
    field(object, name).and_then(|n| u32::try_from(n).ok())
}

/// Counts the fields of an object that are not known. `place` stands before their names.
pub(super) fn count_unknown(object: &Value, place: &str, known: &[&str], tally: &mut Tally) {
    let Some(object) = object.as_object() else {
        return;
    };
    for name in object.keys().filter(|name| !known.contains(&name.as_str())) {
        tally.add(&format!("{place}{}", bounded(name, limits::NAME_BYTES)));
    }
}

/// A set of capabilities: a list of names, names in one text, or a bit mask.
pub(super) fn capabilities(value: Option<&Value>) -> Option<u64> {
    let bit = |name: &str| capability::parse(name).map_or(0, |bit| 1 << bit);
    match value? {
        Value::Array(names) => Some(
            names
                .iter()
                .filter_map(Value::as_str)
                .fold(0, |set, name| set | bit(name)),
        ),
        Value::String(names) => Some(
            names
                .split([' ', ',', '|'])
                .fold(0, |set, name| set | bit(name)),
        ),
        Value::Number(mask) => mask.as_u64(),
        _ => None,
    }
}

/// A container by its id, which may have the runtime before it: `containerd://9f2c…`.
pub(super) fn container(id: &str) -> Option<ContainerAnswer> {
    let (runtime, id) = match id.split_once("://") {
        Some((scheme, id)) => (runtime(scheme), id),
        None => (Runtime::Unknown, id),
    };
    let id = bounded(id, limits::TEXT_BYTES);
    let is_id = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    (!id.is_empty() && id.chars().all(is_id))
        .then(|| ContainerAnswer::bare(String::new(), runtime, id.to_owned()))
}

/// The runtime that a tool calls so.
pub(super) fn runtime(name: &str) -> Runtime {
    match name.to_ascii_lowercase().as_str() {
        "docker" => Runtime::Docker,
        "containerd" => Runtime::Containerd,
        "cri-o" | "crio" => Runtime::CriO,
        "podman" | "libpod" => Runtime::Podman,
        "lxc" => Runtime::Lxc,
        _ => Runtime::Unknown,
    }
}

/// A pod by its names. Where no uid is given, its full name tells it from others.
pub(super) fn pod(
    namespace: Option<String>,
    name: Option<String>,
    uid: Option<String>,
) -> Option<PodIdentity> {
    let full = match (&namespace, &name) {
        (Some(namespace), Some(name)) => Some(format!("{namespace}/{name}")),
        _ => None,
    };
    let pod = PodIdentity {
        uid: uid.or(full),
        name,
        namespace,
        ..PodIdentity::default()
    };
    (!pod.is_empty()).then_some(pod)
}

/// The last component of a path: what a process is called that executed it.
pub(super) fn base_name(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    bounded(name, auditor_common::limits::COMM_LEN - 1).to_owned()
}
