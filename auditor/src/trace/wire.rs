//! Numbers and texts within a frame: LEB128 varints, zigzag for signed ones, lengths before bytes.

/// Bytes that are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset} of the payload: {what}")]
pub struct Malformed {
    /// Where in the payload.
    pub offset: usize,
    /// What is wrong.
    pub what: String,
}

/// Appends an unsigned number.
pub(super) fn put_u(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed number.
pub(super) fn put_i(out: &mut Vec<u8>, value: i64) {
    put_u(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Appends bytes behind their length.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Where a reader of a payload stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    pub(super) offset: usize,
}

impl Place {
    pub(super) fn malformed(self, what: impl Into<String>) -> Malformed {
        Malformed {
            offset: self.offset,
            what: what.into(),
        }
    }

    #[inline]
    pub(super) fn byte(&mut self, bytes: &[u8]) -> Result<u8, Malformed> {
        match bytes.get(self.offset) {
            Some(&byte) => {
                self.offset += 1;
                Ok(byte)
            }
            None => Err(self.malformed("ends within an entry")),
        }
    }

    #[inline]
    pub(super) fn u(&mut self, bytes: &[u8]) -> Result<u64, Malformed> {
        let first = self.byte(bytes)?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let mut value = u64::from(first & 0x7f);
        for shift in (7..64).step_by(7) {
            let byte = self.byte(bytes)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.malformed("a number has more than 64 bits"))
    }

    #[inline]
    pub(super) fn i(&mut self, bytes: &[u8]) -> Result<i64, Malformed> {
        let value = self.u(bytes)?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// An unsigned number that fits.
    #[inline]
    pub(super) fn fit<T: TryFrom<u64>>(
        &mut self,
        bytes: &[u8],
        what: &str,
    ) -> Result<T, Malformed> {
        let value = self.u(bytes)?;
        T::try_from(value).map_err(|_| self.malformed(format!("{what} of {value} is out of range")))
    }

    pub(super) fn bytes<'a>(
        &mut self,
        bytes: &'a [u8],
        most: usize,
        what: &str,
    ) -> Result<&'a [u8], Malformed> {
        let len: usize = self.fit(bytes, what)?;
        if len > most {
            return Err(self.malformed(format!("{what} has {len} bytes, more than {most}")));
        }
        match bytes.get(self.offset..).and_then(|rest| rest.get(..len)) {
            Some(text) => {
                self.offset += len;
                Ok(text)
            }
            None => Err(self.malformed(format!("ends within {what}"))),
        }
    }

    pub(super) fn text<'a>(
        &mut self,
        bytes: &'a [u8],
        most: usize,
        what: &str,
    ) -> Result<&'a str, Malformed> {
        let text = self.bytes(bytes, most, what)?;
        std::str::from_utf8(text).map_err(|_| self.malformed(format!("{what} is not UTF-8")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Goal: what is put is taken again, to the last byte. Method: any numbers and bytes, through both.
        #[test]
        fn round_trip(u in any::<u64>(), i in any::<i64>(), b in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut out = Vec::new();
            put_u(&mut out, u);
            put_i(&mut out, i);
            put_bytes(&mut out, &b);
            let mut at = Place::default();
            prop_assert_eq!(at.u(&out), Ok(u));
            prop_assert_eq!(at.i(&out), Ok(i));
            prop_assert_eq!(at.bytes(&out, 40, "it"), Ok(b.as_slice()));
            prop_assert_eq!(at.offset, out.len());
        }
    }

    /// Goal: what is cut, too long or too large is an error with its place. Method: one of each.
    #[test]
    fn refusals() {
        let error = |bytes: &[u8]| Place::default().u(bytes).unwrap_err().to_string();
        assert_eq!(
            error(&[0x80]),
            "byte 1 of the payload: ends within an entry"
        );
        assert!(error(&[0xff; 11]).contains("more than 64 bits"));
        let cut = Place::default().bytes(&[3, 1, 2], 9, "a name").unwrap_err();
        assert!(cut.to_string().contains("ends within a name"));
        let long = Place::default()
            .bytes(&[3, 1, 2, 3], 2, "a name")
            .unwrap_err();
        assert!(long.to_string().contains("more than 2"));
    }
}
