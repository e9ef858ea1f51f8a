//! A time of a trace, as it is written on the command line.

use crate::cli::units::Span;
use crate::model::time::unix_ns;
use crate::trace::Header;
use crate::trace::tool::filter::Filter;
use crate::trace::tool::kind::Kind;
use std::str::FromStr;

/// A time: UTC, nanoseconds since boot, or a duration after the trace's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// Nanoseconds since 1970.
    Utc(u64),
    /// Nanoseconds since boot.
    Boottime(u64),
    /// After the beginning of the trace.
    After(Span),
}

/// Why a text is no time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is no time: write UTC (2026-11-23T16:00:00Z), a duration after the trace's beginning (+90s), or \
     nanoseconds since boot (the boottime_ns of a line)"
)]
pub(super) struct NoTime(String);

impl FromStr for When {
    type Err = NoTime;
    fn from_str(text: &str) -> Result<Self, NoTime> {
        let parsed = if let Some(span) = text.strip_prefix('+') {
            span.parse().ok().map(Self::After)
        } else if let Ok(ns) = text.parse() {
            Some(Self::Boottime(ns))
        } else {
            unix_ns(text).map(Self::Utc)
        };
        parsed.ok_or_else(|| NoTime(text.to_owned()))
    }
}

impl When {
    /// Nanoseconds since boot; what lies before boot is 0.
    pub(super) fn boottime_ns(self, header: &Header) -> u64 {
        let ns = match self {
            Self::Utc(unix_ns) => i128::from(unix_ns) - i128::from(header.realtime_offset_ns),
            Self::Boottime(ns) => i128::from(ns),
            Self::After(Span(span)) => {
                i128::from(header.began_boottime_ns) + span.as_nanos().cast_signed()
            }
        };
        u64::try_from(ns.max(0)).unwrap_or(u64::MAX)
    }
}

/// A stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::Args)]
pub(super) struct StretchArgs {
    /// From this time on: UTC (2026-11-23T16:00:00Z), +90s after the trace's beginning, or a line's boottime_ns
    #[arg(long, value_name = "TIME")]
    pub(super) since: Option<When>,
    /// Up to this time
    #[arg(long, value_name = "TIME")]
    pub(super) until: Option<When>,
}

impl StretchArgs {
    /// Both ends, nanoseconds since boot.
    pub(super) fn boottime_ns(&self, header: &Header) -> (Option<u64>, Option<u64>) {
        let of = |when: Option<When>| when.map(|when| when.boottime_ns(header));
        (of(self.since), of(self.until))
    }
}

/// Which entries.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub(super) struct FilterArgs {
    #[command(flatten)]
    stretch: StretchArgs,
    /// Only entries of these kinds; repeatable, or with commas between
    #[arg(long, value_name = "KIND", value_enum, value_delimiter = ',')]
    kind: Vec<Kind>,
}

impl FilterArgs {
    pub(super) fn filter(&self, header: &Header) -> Filter {
        let (since_ns, until_ns) = self.stretch.boottime_ns(header);
        Filter {
            since_ns,
            until_ns,
            kinds: self.kind.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::When;
    use crate::engine::Config;
    use crate::trace::Header;

    /// Goal: three ways to say the same time, and nothing else. Method: a trace that began 10 s after boot, which
    /// was 100 s after the epoch.
    #[test]
    fn ways_to_say_a_time() {
        let config = Config {
            realtime_offset_ns: 100_000_000_000,
            ..Config::default()
        };
        let header = Header::new(&config, 10_000_000_000, String::new());
        let at = |text: &str| text.parse::<When>().map(|w| w.boottime_ns(&header));
        for text in ["1970-01-01T00:01:52Z", "+2s", "12000000000"] {
            assert_eq!(at(text), Ok(12_000_000_000), "{text}");
        }
        assert_eq!(at("1970-01-01T00:00:00Z"), Ok(0));
        for text in ["", "+", "2s", "noon", "1970-01-01", "-5"] {
            assert!(
                at(text).unwrap_err().to_string().contains("no time"),
                "{text}"
            );
        }
    }
}
