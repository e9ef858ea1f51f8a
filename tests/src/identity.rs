//! Ids of one run's containers, and how lines of the auditor name them.
//!
//! Every id starts with a prefix that is unique to the run, so that findings about anybody else's containers on a
//! busy machine are told apart from ours.

use serde_json::Value;

/// An entity as a line names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entity {
    /// The host.
    Host,
    /// A container, by its full id without the runtime's name.
    Container(String),
    /// Anything else, as printed.
    Other(String),
}

/// Reads `subject` or `object` of a line.
#[must_use]
pub fn entity(value: &Value) -> Entity {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    match (text("entity"), text("id")) {
        ("host", _) => Entity::Host,
        ("container", id) => {
            Entity::Container(id.split_once(':').map_or(id, |(_, bare)| bare).to_owned())
        }
        _ => Entity::Other(value.to_string()),
    }
}

/// Whether a line is of that type.
#[must_use]
pub fn is_type(line: &Value, kind: &str) -> bool {
    line.get("type").and_then(Value::as_str) == Some(kind)
}

/// How sure a line is; it says so only where it is not exact.
#[must_use]
pub fn confidence(line: &Value) -> &str {
    line["confidence"].as_str().unwrap_or("exact")
}

/// How many findings lines stand for.
#[must_use]
pub fn told(lines: &[&Value]) -> u64 {
    let suppressed = |line: &&Value| line["suppressed"].as_u64().unwrap_or(0);
    lines.len() as u64 + lines.iter().map(suppressed).sum::<u64>()
}

/// Subject and object of a line.
#[must_use]
pub fn parties(line: &Value) -> [Entity; 2] {
    ["subject", "object"].map(|key| entity(line.get(key).unwrap_or(&Value::Null)))
}

/// A prefix for this run.
#[must_use]
pub fn run_prefix() -> String {
    format!("t{}", std::process::id())
}

/// The id of one container.
#[must_use]
pub fn container_id(prefix: &str, runtime: &str, scenario: &str, name: &str) -> String {
    format!("{prefix}-{runtime}-{scenario}-{name}")
}

#[cfg(test)]
mod tests {
    use super::{Entity, entity};
    use serde_json::json;

    /// Goal: ids are compared without the runtime's name. Method: both spellings, and the host.
    #[test]
    fn entities_are_read() {
        let bare = entity(&json!({"entity": "container", "id": "t1-runc-x-a"}));
        let full = entity(&json!({"entity": "container", "id": "runc:t1-runc-x-a"}));
        assert_eq!(bare, Entity::Container("t1-runc-x-a".into()));
        assert_eq!(full, bare);
        assert_eq!(entity(&json!({"entity": "host"})), Entity::Host);
    }
}
