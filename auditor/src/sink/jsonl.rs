//! The wire format `auditor/1`: one record, one JSON object, one line.
//!
//! # The stream
//!
//! A stream is UTF-8 text. Each line holds exactly one JSON object and ends in one `\n` (0x0a); no
//! byte 0x0a stands inside a line, since JSON escapes control characters in strings. There is no
//! byte order mark, no separator between lines and no closing bracket at the end: a stream that was
//! cut is readable up to its last complete line, and streams may be concatenated. A line that was cut
//! by a full disk is ended before the next one is written, so that damage never reaches a second line.
//!
//! # The line
//!
//! Every object has `type` and `schema`. `schema` is `auditor/MAJOR`. Within a major, fields are only
//! added, and an added field is optional; a reader must skip fields it does not know, and must refuse
//! a `schema` with another major ([`decode`] does both). `seq` counts the lines of one run of the
//! auditor from 1 without gaps: a gap is a line that a sink could not write, and the next `loss` line
//! with `place` = `sink` counts it.
//!
//! * Names (keys, enumerations, rule ids) are ASCII and stable. Keys are `snake_case`, rule ids
//!   `kebab-case`.
//! * Times are UTC with exactly nine fractional digits (`2026-11-23T10:30:00.123456789Z`), so that
//!   they sort as text; beside them stands the kernel's clock, `boottime_ns`.
//! * Integers are decimal and at most 2⁶⁴−1. A reader in a language whose numbers are doubles must
//!   read `boottime_ns`, `start_boottime_ns`, `incarnation` and inode numbers as big integers.
//! * Strings that come from the kernel are bytes. Valid UTF-8 goes out as it is, any other byte as
//!   `\xNN`, a backslash as `\\` (before JSON's own escaping), see [`crate::model::text::escape`]. They
//!   are chosen by the audited: never print one on a terminal without removing control characters
//!   (see [`super::human`]).
//! * A field that says nothing is absent; what its absence means stands with it. Only the numbers of ι
//!   can be `null`: unknown.
//!
//! # The records
//!
//! `start` is the first line of a run, `stop` the last one of a run that ended in order. Between them:
//! `violation`, `audit`, `drift`, `resolved`, `policy`, `loss`, `heartbeat`. `auditor schema` prints the JSON
//! Schema that is derived from the types in [`crate::model::output`]; every line validates against it.

use crate::model::output::{
    Changed, Finding, Heartbeat, Loss, PolicyChange, Record, Resolved, SCHEMA, Start, Stop,
};
use serde::de::DeserializeOwned;

/// A record that cannot be turned into a line: a bug, since all types here are plain data.
#[derive(Debug, thiserror::Error)]
#[error("encode a record as JSON: {0}")]
pub struct EncodeError(#[from] serde_json::Error);

/// One line, without the newline.
///
/// # Errors
/// When a type of the model cannot be represented in JSON; none of today's types can do that.
pub fn encode(record: &Record) -> Result<String, EncodeError> {
    Ok(serde_json::to_string(record)?)
}

/// One line of a comparison of two policies, without the newline.
///
/// # Errors
/// As [`encode`].
pub fn encode_changed(changed: &Changed) -> Result<String, EncodeError> {
    Ok(serde_json::to_string(changed)?)
}

/// Why a line is not a record.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Nothing but white space.
    #[error("the line is empty")]
    Empty,
    /// Not JSON.
    #[error("not JSON: {message} (column {column})")]
    Syntax {
        /// Where, from 1.
        column: usize,
        /// What the parser said.
        message: String,
    },
    /// JSON, but not an object with `schema` and `type`.
    #[error("not a line of the auditor: no string \"{key}\" at the top level")]
    Foreign {
        /// What is missing.
        key: &'static str,
    },
    /// Written by another major version.
    #[error("the line has schema \"{found}\", this auditor reads \"{SCHEMA}\"")]
    Version {
        /// What it says.
        found: String,
    },
    /// A type of record that this version does not know.
    #[error("unknown record type \"{found}\" (known: {})", TYPES.join(", "))]
    Type {
        /// What it says.
        found: String,
    },
    /// A field is missing or has the wrong kind.
    #[error("not a valid \"{kind}\" record: {message} (column {column})")]
    Field {
        /// The type of record.
        kind: String,
        /// Where, from 1.
        column: usize,
        /// What is wrong.
        message: String,
    },
}

/// All values of `type`.
pub const TYPES: &[&str] = &[
    "start",
    "violation",
    "audit",
    "drift",
    "resolved",
    "policy",
    "loss",
    "heartbeat",
    "stop",
];

/// Reads one line. Fields that this version does not know are skipped.
///
/// # Errors
/// Says what is wrong and in which column.
pub fn decode(line: &str) -> Result<Record, DecodeError> {
    if line.trim().is_empty() {
        return Err(DecodeError::Empty);
    }
    // The parser also works on text with newlines (an indented object); columns then count from the
    // line that the error is in, which is what an editor shows.
    let value: serde_json::Value = serde_json::from_str(line).map_err(|e| DecodeError::Syntax {
        column: e.column(),
        message: without_place(&e),
    })?;
    let text = |key: &'static str| {
        value
            .get(key)
            .and_then(serde_json::Value::as_str)
            .ok_or(DecodeError::Foreign { key })
    };
    let schema = text("schema")?;
    if schema != SCHEMA {
        return Err(DecodeError::Version {
            found: schema.to_owned(),
        });
    }
    // By hand and not by serde's tagged enum: that one buffers the object and forgets columns.
    Ok(match text("type")? {
        "start" => Record::Start(Box::new(body::<Start>("start", line)?)),
        "violation" => Record::Violation(Box::new(body::<Finding>("violation", line)?)),
        "audit" => Record::Audit(Box::new(body::<Finding>("audit", line)?)),
        "drift" => Record::Drift(Box::new(body::<Finding>("drift", line)?)),
        "resolved" => Record::Resolved(Box::new(body::<Resolved>("resolved", line)?)),
        "policy" => Record::Policy(Box::new(body::<PolicyChange>("policy", line)?)),
        "loss" => Record::Loss(Box::new(body::<Loss>("loss", line)?)),
        "heartbeat" => Record::Heartbeat(Box::new(body::<Heartbeat>("heartbeat", line)?)),
        "stop" => Record::Stop(Box::new(body::<Stop>("stop", line)?)),
        found => {
            return Err(DecodeError::Type {
                found: found.to_owned(),
            });
        }
    })
}

fn body<T: DeserializeOwned>(kind: &str, line: &str) -> Result<T, DecodeError> {
    serde_json::from_str(line).map_err(|e| DecodeError::Field {
        kind: kind.to_owned(),
        column: e.column(),
        message: without_place(&e),
    })
}

/// serde_json appends " at line L column C"; the line is always 1 and the column is said apart.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::{DecodeError, decode, encode, encode_changed};
    use crate::model::output::{self, Change, Changed, Evidence, Record};
    use crate::model::{Confidence, RuleId, capability};
    use crate::sink::jsonl::TYPES;
    use crate::sink::samples;

    /// Goal: nothing is lost on the wire. Every type of record goes through a line and back.
    #[test]
    fn every_record_round_trips() {
        let records = samples::all();
        let mut seen: Vec<String> = Vec::new();
        for record in records {
            let line = encode(&record).unwrap();
            assert!(!line.contains('\n'));
            assert_eq!(decode(&line).unwrap(), record, "{line}");
            assert_eq!(
                serde_json::from_str::<Record>(&line).unwrap(),
                record,
                "{line}"
            );
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            seen.push(value["type"].as_str().unwrap().to_owned());
        }
        for kind in TYPES {
            assert!(seen.iter().any(|s| s == kind), "no sample of {kind}");
        }
    }

    /// Goal: the schema that is published is the one that is kept.
    #[test]
    fn every_record_validates_against_the_schema() {
        let schema = serde_json::to_value(schemars::schema_for!(Record)).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        for record in samples::all() {
            let value = serde_json::to_value(&record).unwrap();
            let errors: Vec<String> = validator
                .iter_errors(&value)
                .map(|e| e.to_string())
                .collect();
            assert!(errors.is_empty(), "{value}\n{errors:?}");
        }
        // And it refuses something: a schema that accepts all would pass above.
        assert!(!validator.is_valid(&serde_json::json!({"type": "violation"})));
    }

    /// Goal: as above, for a line of a comparison; and who reads lines can read these too.
    #[test]
    fn every_change_validates_against_its_schema() {
        let schema = serde_json::to_value(schemars::schema_for!(Changed)).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        for record in samples::all() {
            let change = Change::Added;
            let line = encode_changed(&Changed {
                change,
                record: record.clone(),
            })
            .unwrap();
            assert!(line.starts_with(r#"{"change":"added","type":""#), "{line}");
            assert!(validator.is_valid(&line.parse().unwrap()), "{line}");
            assert_eq!(decode(&line).unwrap(), record);
            let plain = encode(&record).unwrap();
            assert!(!validator.is_valid(&plain.parse().unwrap()), "{plain}");
        }
    }

    /// Goal: a line stays small enough for log pipelines. Method: a violation with everything that is usually
    /// known, for a container that was named by a person, for one whose runtime gave it 64 digits, and for one
    /// of a pod with an image beside that; then the largest evidence there is.
    #[test]
    fn a_violation_fits_the_budget() {
        let plain = samples::finding(RuleId::NamespaceJoin);
        let mut named = plain.clone();
        named.subject.id = "runc:web".to_owned();
        let mut pod = plain.clone();
        pod.subject.image = Some("registry.example.com/shop/web:1.27.3".to_owned());
        pod.subject.pod = Some("shop/web-6d4cf56db6-x7k2p".to_owned());
        let mut large = pod.clone();
        let all = capability::names(u64::MAX >> 23);
        let all: Vec<String> = all.into_iter().map(str::to_owned).collect();
        large.expected = Some(Evidence::Creds {
            uid: 1000,
            euid: 1000,
            permitted: all.clone(),
            effective: Some(all),
            user_ns: 4_026_531_837,
        });
        large.observed.clone_from(&large.expected);
        let median = output::MEDIAN_BYTES;
        for (finding, budget) in [
            (named, median),
            (plain, median),
            (pod, median + 110),
            (large, 3100),
        ] {
            let line = encode(&Record::Violation(Box::new(finding))).unwrap();
            assert!(line.len() <= budget, "{} bytes: {line}", line.len());
        }
    }

    /// Goal: what a line leaves out says what the documentation says that it says. Method: read a line without.
    #[test]
    fn absent_fields_have_their_meaning() {
        let line = encode(&samples::violation()).unwrap();
        for absent in [
            "boot_id",
            "confidence",
            "\"tid\"",
            "\"id\":\"host\"",
            "null",
        ] {
            assert!(!line.contains(absent), "{absent}: {line}");
        }
        let Record::Violation(finding) = decode(&line).unwrap() else {
            panic!("{line}")
        };
        assert_eq!(finding.confidence, Confidence::Exact);
        assert_eq!(finding.object.id, "host");
        let start = encode(&samples::all()[0]).unwrap();
        assert!(start.contains("\"boot_id\":\"5f3a1c52-"), "{start}");
    }

    /// Goal: errors name the column, so that a hand-edited or cut line can be mended.
    #[test]
    fn errors_say_what_and_where() {
        assert!(matches!(decode("  \n"), Err(DecodeError::Empty)));
        let cut = decode(r#"{"schema":"auditor/1","type":"#).unwrap_err();
        assert!(
            matches!(cut, DecodeError::Syntax { column: 29, .. }),
            "{cut}"
        );
        let foreign = decode(r#"{"msg":"hello"}"#).unwrap_err();
        assert!(
            matches!(foreign, DecodeError::Foreign { key: "schema" }),
            "{foreign}"
        );
        let newer = decode(r#"{"schema":"auditor/2","type":"violation"}"#).unwrap_err();
        assert!(newer.to_string().contains("auditor/2"), "{newer}");
        let unknown = decode(r#"{"schema":"auditor/1","type":"poem"}"#).unwrap_err();
        assert!(unknown.to_string().contains("heartbeat"), "{unknown}");
        let line = encode(&samples::violation()).unwrap();
        let broken = line.replace(r#""severity":"critical""#, r#""severity":"awful""#);
        let error = decode(&broken).unwrap_err();
        let DecodeError::Field {
            column, message, ..
        } = &error
        else {
            panic!("{error}")
        };
        let want = broken.find("awful").unwrap();
        assert!(column.abs_diff(want) < 12, "{column} against {want}");
        assert!(message.contains("awful"), "{message}");
    }

    /// Goal: a reader of today survives a line of tomorrow, as long as the major is the same.
    #[test]
    fn unknown_fields_are_skipped() {
        let line = encode(&samples::violation()).unwrap();
        let grown = line.replacen('{', r#"{"new_in_1_7":{"a":[1]},"#, 1);
        assert_eq!(decode(&grown).unwrap(), samples::violation());
    }
}
