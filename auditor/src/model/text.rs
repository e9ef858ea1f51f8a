//! Kernel strings are bytes: command names, file names and cgroup paths may hold anything.
//!
//! They leave the auditor as text without losing a bit: valid UTF-8 stays as it is, other bytes
//! become `\xNN`, and a backslash becomes `\\`, so that the original can always be recovered.

use std::borrow::Cow;

/// Renders kernel bytes as text, losslessly.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\\' {
                out.push_str("\\\\");
            } else {
                out.push(c);
            }
        }
        for b in chunk.invalid() {
            use std::fmt::Write;
            // Writing to a String cannot fail.
            let _ = write!(out, "\\x{b:02x}");
        }
    }
    out
}

/// What [`escape`] made of valid UTF-8, as it was; bytes that were none stay escaped.
#[must_use]
pub fn unescape(text: &str) -> Cow<'_, str> {
    if text.contains(r"\\") {
        Cow::Owned(text.replace(r"\\", r"\"))
    } else {
        Cow::Borrowed(text)
    }
}

/// An id for a person: each part of it that is nothing but hexadecimal digits is cut to the customary 12.
#[must_use]
pub fn short_id(id: &str) -> String {
    const DIGITS: usize = 12;
    let cut = |part: &str| {
        let separator = part.len() - part.trim_end_matches([':', '/']).len();
        let (digits, end) = part.split_at(part.len() - separator);
        let drawn = digits.len() > DIGITS && digits.bytes().all(|b| b.is_ascii_hexdigit());
        format!("{}{end}", if drawn { &digits[..DIGITS] } else { digits })
    };
    id.split_inclusive([':', '/']).map(cut).collect()
}

/// A UTC time with nanoseconds as RFC 3339 has it, from nanoseconds since 1970.
///
/// Times outside of the years 0 to 9999 are clamped: they cannot come from a sane clock.
#[must_use]
pub fn rfc3339(unix_ns: i128) -> String {
    const NS: i128 = 1_000_000_000;
    let unix_ns = unix_ns.clamp(-62_167_219_200 * NS, 253_402_300_799 * NS);
    let (seconds, nanos) = (unix_ns.div_euclid(NS), unix_ns.rem_euclid(NS));
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Civil date from days since 1970-01-01, by eras of 400 years that start in March.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i128::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

/// A number for what a text says (FNV-1a): the same in every run and on every machine.
pub fn stable_hash<'a>(bytes: impl IntoIterator<Item = &'a u8>) -> u64 {
    bytes
        .into_iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

/// The path of a file from its components, the last one first and each ended by a NUL, as a record of an act has
/// them (see [`auditor_common::record::ActRecord::name`]). It begins at the root of the file's file system, or with
/// `…` where it was too long to be kept.
#[must_use]
pub fn file_path(components: &[u8]) -> String {
    let mut path = String::new();
    let parts = components
        .split(|&b| b == 0)
        .filter(|part| !part.is_empty());
    let parts: Vec<&[u8]> = parts.collect();
    let whole = parts.last() == Some(&&b"/"[..]);
    if !whole && !parts.is_empty() {
        path.push('…');
    }
    for part in parts.iter().rev().filter(|part| **part != b"/") {
        path.push('/');
        path.push_str(&escape(part));
    }
    if path.is_empty() && whole {
        path.push('/');
    }
    path
}

#[cfg(test)]
mod tests {
    /// Goal: a path reads as people write it. Method: whole ones, the root, cut ones, nothing.
    #[test]
    fn paths_are_put_together() {
        use super::file_path;
        assert_eq!(
            file_path(b"core_pattern\0kernel\0sys\0/\0"),
            "/sys/kernel/core_pattern"
        );
        assert_eq!(file_path(b"/\0"), "/");
        assert_eq!(file_path(b"c\0b\0"), "…/b/c");
        assert_eq!(file_path(b""), "");
    }

    use super::{escape, rfc3339, short_id, unescape};

    /// Text stays text, everything else is recoverable.
    #[test]
    fn escapes_only_what_is_not_text() {
        assert_eq!(escape("nginx: worker ü".as_bytes()), "nginx: worker ü");
        assert_eq!(escape(b"a\\b"), "a\\\\b");
        assert_eq!(escape(b"a\xff\xfeb"), "a\\xff\\xfeb");
        for name in ["plain", r"\", r"machine-qemu\x2d1\x2dwin.scope", r"\\x"] {
            assert_eq!(unescape(&escape(name.as_bytes())), name);
        }
    }

    /// Goal: ids stay recognisable and short. Method: plain, nested, by path, and what is no digits.
    #[test]
    fn ids_are_shortened() {
        let full = "ab".repeat(32);
        assert_eq!(short_id(&full), "abababababab");
        assert_eq!(short_id(&format!("docker:{full}")), "docker:abababababab");
        assert_eq!(
            short_id(&format!("docker:{full}/runc:web")),
            "docker:abababababab/runc:web"
        );
        assert_eq!(short_id("abababababab"), "abababababab");
        for id in ["runc:web", "host", "unknown:/system.slice/x", "", ":/"] {
            assert_eq!(short_id(id), id);
        }
    }

    /// Known instants: the epoch, a leap day, the end of a year.
    #[test]
    fn times_are_civil() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(
            rfc3339(951_827_696_123_456_789),
            "2000-02-29T12:34:56.123456789Z"
        );
        assert_eq!(
            rfc3339(1_798_761_599_999_999_999),
            "2026-12-31T23:59:59.999999999Z"
        );
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999999999Z");
        assert_eq!(rfc3339(i128::MAX), "9999-12-31T23:59:59.000000000Z");
    }
}
