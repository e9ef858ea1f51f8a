//! Quantities on the command line, in the environment and in the file: always with their unit.

use serde::{Deserialize, Deserializer};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A duration: `500ms`, `1s`, `2m`, `1h`, `1d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A number of bytes: `4096B`, `512KiB`, `8MiB`, `1GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// How many times faster than a clock: `1`, `0.5`, `10x`. Kept in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "f64")]
pub struct Factor {
    thousandths: u64,
}

impl Factor {
    /// How long something takes that takes so long by the clock.
    #[must_use]
    pub fn of(self, clock_ns: u64) -> Duration {
        let ns = u128::from(clock_ns) * 1000 / u128::from(self.thousandths.max(1));
        Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
    }
}

impl TryFrom<f64> for Factor {
    type Error = UnitError;
    fn try_from(value: f64) -> Result<Self, UnitError> {
        if !(0.001..=1_000_000.0).contains(&value) {
            return Err(UnitError {
                text: value.to_string(),
                what: "factor from 0.001 to 1000000",
                example: "1, 0.5 or 10",
            });
        }
        Ok(Self {
            thousandths: (value * 1000.0).round() as u64,
        })
    }
}

impl FromStr for Factor {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let number = text.strip_suffix('x').unwrap_or(text);
        // What is no number is none that is in bounds.
        let value = number.parse::<f64>().unwrap_or(f64::NAN);
        Self::try_from(value).map_err(|e| UnitError {
            text: text.to_owned(),
            ..e
        })
    }
}

/// Why a text is no quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is no {what}: write it as {example}")]
pub struct UnitError {
    text: String,
    what: &'static str,
    example: &'static str,
}

fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    Some((text[..end].parse().ok()?, &text[end..]))
}

impl FromStr for Span {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let parse = || {
            let (number, unit) = split(text)?;
            let unit_ms = match unit {
                "ms" => 1,
                "s" => 1000,
                "m" | "min" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return None,
            };
            Some(Self(Duration::from_millis(number.checked_mul(unit_ms)?)))
        };
        parse().ok_or_else(|| UnitError {
            text: text.to_owned(),
            what: "duration",
            example: "a whole number and a unit, such as 500ms, 1s, 2m or 1h",
        })
    }
}

impl FromStr for Bytes {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let parse = || {
            let (number, unit) = split(text)?;
            let shift = match unit {
                "B" => 0,
                "KiB" | "K" => 10,
                "MiB" | "M" => 20,
                "GiB" | "G" => 30,
                _ => return None,
            };
            Some(Self(number.checked_mul(1 << shift)?))
        };
        parse().ok_or_else(|| UnitError {
            text: text.to_owned(),
            what: "size",
            example: "a whole number and a unit, such as 512KiB or 8MiB",
        })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        if ms.is_multiple_of(1000) {
            write!(f, "{}s", ms / 1000)
        } else {
            write!(f, "{ms}ms")
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        String::deserialize(input)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        String::deserialize(input)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::{Bytes, Factor, Span};
    use std::time::Duration;

    /// Goal: quantities are read with their unit, and never without.
    #[test]
    fn units_are_required() {
        let span = |text: &str| text.parse::<Span>().ok().map(|s| s.0);
        assert_eq!(span("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(span("2m"), Some(Duration::from_secs(120)));
        for bad in [
            "",
            "5",
            "s",
            "-1s",
            "1.5s",
            "1 s",
            "1w",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert_eq!(span(bad), None, "{bad}");
        }
        let bytes = |text: &str| text.parse::<Bytes>().ok().map(|b| b.0);
        assert_eq!(bytes("8MiB"), Some(8 << 20));
        assert_eq!(bytes("4096B"), Some(4096));
        for bad in ["", "8", "8MB", "x", "18446744073709551615GiB"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
        let tenth = |text: &str| {
            let factor = text.parse::<Factor>().ok()?;
            Some(factor.of(1_000_000).as_micros())
        };
        assert_eq!(tenth("1"), Some(1000));
        assert_eq!(tenth("10x"), Some(100));
        assert_eq!(tenth("0.5"), Some(2000));
        for bad in ["", "x", "0", "-1", "0.0001", "nan", "inf", "1e9", "10 x"] {
            assert_eq!(tenth(bad), None, "{bad}");
        }
        assert_eq!(Span(Duration::from_millis(1500)).to_string(), "1500ms");
        assert_eq!(Span(Duration::from_secs(60)).to_string(), "60s");
    }
}
