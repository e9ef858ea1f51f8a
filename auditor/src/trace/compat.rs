//! Older majors: one step each, from the bytes that a version wrote to those that the next one would have
//! written. A reader applies every step from the trace's version on, and refuses what is newer than itself.
//!
//! Major 2 added entries of acts, which a reader of 1 cannot skip; the header stayed. `tests/fixtures/traces` holds golden
//! files of each.

use super::error::TraceError;
use super::header::Header;

/// Rewrites a header's text from one major to the next.
type HeaderStep = fn(serde_json::Value) -> serde_json::Value;

/// The step at index n leads from major n + 1 to n + 2.
const HEADER_STEPS: [HeaderStep; 1] = [|header| header];

/// A header of any major that is not newer than ours.
pub(super) fn header(major: u16, text: &[u8]) -> Result<Header, TraceError> {
    let damaged = |e: serde_json::Error| TraceError::Header(e.to_string());
    let Some(first) = major.checked_sub(1) else {
        return Err(TraceError::Header("there is no format 0".to_owned()));
    };
    let value: serde_json::Value = serde_json::from_slice(text).map_err(damaged)?;
    let value = HEADER_STEPS
        .iter()
        .skip(usize::from(first))
        .fold(value, |value, step| step(value));
    serde_json::from_value(value).map_err(damaged)
}
