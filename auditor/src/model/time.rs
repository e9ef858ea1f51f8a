//! Times as logs and people write them.

/// Nanoseconds since 1970 of a time as RFC 3339 has it; `None` if it is none, or lies outside of the years
/// 1970 to 2554.
#[must_use]
pub fn unix_ns(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    let separated = bytes.len() >= 20
        && (bytes[4], bytes[7], bytes[13], bytes[16]) == (b'-', b'-', b':', b':')
        && matches!(bytes[10], b'T' | b't' | b' ');
    if !separated {
        return None;
    }
    let number = |from: usize, to: usize| digits(bytes.get(from..to)?);
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let valid = (1..=12).contains(&month)
        && (1..=month_days(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !valid {
        return None;
    }
    let (nanos, rest) = fraction(&bytes[19..])?;
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    let ns = i128::from(seconds - offset(rest)?) * 1_000_000_000 + i128::from(nanos);
    u64::try_from(ns).ok()
}

/// A number of decimal digits only.
fn digits(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0_i64, |sum, byte| {
        byte.is_ascii_digit()
            .then(|| sum * 10 + i64::from(byte - b'0'))
    })
}

/// The part after the seconds: nanoseconds, cut after nine digits, and what follows them.
fn fraction(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let Some(rest) = bytes.strip_prefix(b".") else {
        return Some((0, bytes));
    };
    let end = rest
        .iter()
        .position(|b| !b.is_ascii_digit())
        .unwrap_or(rest.len());
    if end == 0 {
        return None;
    }
    let kept = end.min(9);
    let scale = 10_i64.pow(u32::try_from(9 - kept).ok()?);
    Some((digits(&rest[..kept])? * scale, &rest[end..]))
}

/// Seconds east of UTC: `Z`, `+01:00`.
fn offset(bytes: &[u8]) -> Option<i64> {
    match bytes {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), zone @ ..] => {
            let (hours, minutes) = match zone {
                [a, b, b':', c, d] | [a, b, c, d] => (digits(&[*a, *b])?, digits(&[*c, *d])?),
                _ => return None,
            };
            let seconds = hours * 3_600 + minutes * 60;
            Some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

/// Days from 1970-01-01 to a civil date, by eras of 400 years that start in March.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let month = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn month_days(year: i64, month: i64) -> i64 {
    if month == 12 {
        31
    } else {
        days(year, month + 1, 1) - days(year, month, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::unix_ns;
    use crate::model::text::rfc3339;
    use proptest::prelude::*;

    /// Goal: the forms that logs use. Method: known instants, and what is none.
    #[test]
    fn times_are_read() {
        let known = 951_827_696_123_456_789;
        assert_eq!(unix_ns("2000-02-29T12:34:56.123456789Z"), Some(known));
        assert_eq!(unix_ns("2000-02-29T12:34:56.123456789123Z"), Some(known));
        assert_eq!(unix_ns("2000-02-29T14:34:56.123456789+02:00"), Some(known));
        assert_eq!(unix_ns("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(
            unix_ns("1970-01-01T00:00:00.5-0100"),
            Some(3_600_500_000_000)
        );
        for text in [
            "",
            "1969-12-31T23:59:59Z",
            "2000-02-29",
            "2000-13-01T00:00:00Z",
            "2000-12-32T00:00:00Z",
            "2001-02-29T00:00:00Z",
            "2000-01-01T00:00:00",
            "2000-01-01T00:00:00.Z",
            "9999-01-01T00:00:00Z",
            "2000-01-01T00:00:00+1:0",
            "20é0-01-01T00:00:00Z",
        ] {
            assert_eq!(unix_ns(text), None, "{text}");
        }
    }

    proptest! {
        /// Goal: what the auditor writes is read back. Method: random instants there and back.
        #[test]
        fn there_and_back(ns in any::<u64>()) {
            prop_assert_eq!(unix_ns(&rfc3339(i128::from(ns))), Some(ns));
        }

        /// Goal: no text panics. Method: texts that are nearly times.
        #[test]
        fn any_text_is_safe(text in "[0-9TZ:. +é-]{0,40}") {
            let _ = unix_ns(&text);
        }
    }
}
