//! Kernel strings are bytes: command names, file names and cgroup paths may hold anything.
//!
//! They leave the auditor as text without losing a bit: valid UTF-8 stays as it is, other bytes
//! become `\xNN`, and a backslash becomes `\\`, so that the original can always be recovered.

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

#[cfg(test)]
mod tests {
    use super::escape;

    /// Text stays text, everything else is recoverable.
    #[test]
    fn escapes_only_what_is_not_text() {
        assert_eq!(escape("nginx: worker ü".as_bytes()), "nginx: worker ü");
        assert_eq!(escape(b"a\\b"), "a\\\\b");
        assert_eq!(escape(b"a\xff\xfeb"), "a\\xff\\xfeb");
    }
}
