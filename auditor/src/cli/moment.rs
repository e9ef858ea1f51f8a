//! Points in time on the command line: as a clock tells them, or counted back from an end.

use super::units::Span;
use crate::model::time::unix_ns;
use std::str::FromStr;
use std::time::Duration;

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Nanoseconds since 1970 (UTC).
    At {
        /// So many.
        unix_ns: u64,
    },
    /// So long before the end of what it is asked about.
    BeforeEnd(Duration),
}

/// Why a text is no point in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is no point in time: write it as 2026-11-23T10:30:00Z or 2026-11-23T11:30:00+01:00, or as 10m for ten \
     minutes before the end"
)]
pub struct MomentError(String);

impl FromStr for Moment {
    type Err = MomentError;

    fn from_str(text: &str) -> Result<Self, MomentError> {
        let back = text.strip_prefix('-').unwrap_or(text);
        if let Ok(Span(duration)) = back.parse() {
            return Ok(Self::BeforeEnd(duration));
        }
        unix_ns(text)
            .map(|unix_ns| Self::At { unix_ns })
            .ok_or_else(|| MomentError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::Moment;
    use std::time::Duration;

    /// Goal: both forms are read, and nothing else. Method: known instants, and texts that are nearly some.
    #[test]
    fn moments_are_read() {
        let at = |text: &str| text.parse::<Moment>().ok();
        let unix_ns = 951_827_696_123_456_789;
        for text in [
            "2000-02-29T12:34:56.123456789Z",
            "2000-02-29 12:34:56.123456789999z",
            "2000-02-29T14:34:56.123456789+02:00",
            "2000-02-28T23:04:56.123456789-13:30",
        ] {
            assert_eq!(at(text), Some(Moment::At { unix_ns }), "{text}");
        }
        let ten = Some(Moment::BeforeEnd(Duration::from_secs(600)));
        assert_eq!(at("10m"), ten);
        assert_eq!(at("-10m"), ten);
        for text in [
            "",
            "-",
            "10",
            "--10m",
            "yesterday",
            "2000-02-29",
            "2000-02-29T12:34:56",
            "2000-02-30T12:34:56Z",
            "2001-02-29T12:34:56Z",
            "2000-00-01T12:34:56Z",
            "2000-02-29T24:00:00Z",
            "2000-02-29T12:34:56.Z",
            "2000-02-29T12:34:56.1234567891xZ",
            "2000-2-29T12:34:56Z",
            "2000-02-29T12:34:56+2:00",
            "20é0-02-29T12:34:56Z",
        ] {
            assert_eq!(at(text), None, "{text}");
        }
    }
}
