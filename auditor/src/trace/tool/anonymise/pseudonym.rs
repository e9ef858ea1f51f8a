//! Other names for names: the same one for the same name and key, and no way back without the key.
//!
//! A pseudonym is taken from HMAC-SHA256 of the name. What is read by its form keeps its form: a container's hash stays
//! hexadecimal digits of its length, a UUID a UUID, BuildKit's id 25 digits of base 36, a short decimal number itself.
//! Everything else becomes `x` and ten digits of base 32.

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Digits of a pseudonym: 50 bits, so that a million names most likely stay a million.
const DIGITS: usize = 10;
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// A decimal number with more digits is no pid, user id or number of a session any more.
const DECIMAL_DIGITS: usize = 10;
/// Fewer hexadecimal digits are as likely a word. Docker's short ids have twelve.
const HEX_DIGITS: usize = 12;
const BUILD_ID_DIGITS: usize = 25;
const UUID_DASHES: [usize; 4] = [8, 13, 18, 23];
const UUID_BYTES: usize = 36;
/// What follows a pseudonym of a name that no OCI runtime takes for an id, so that none takes the pseudonym for one.
const NO_ID: char = '~';

/// The key, ready for use.
#[derive(Clone)]
pub struct Pseudonyms {
    mac: Hmac<Sha256>,
}

impl std::fmt::Debug for Pseudonyms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pseudonyms").finish_non_exhaustive()
    }
}

impl Pseudonyms {
    /// With this key, of any length.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        // HMAC takes a key of any length; the zero key is never reached.
        let mac = Hmac::new_from_slice(key).unwrap_or_else(|_| Hmac::new(&[0; 64].into()));
        Self { mac }
    }

    fn bytes(&self, name: &[u8], block: u8) -> [u8; 32] {
        let mut mac = self.mac.clone();
        mac.update(&[block]);
        mac.update(name);
        mac.finalize().into_bytes().into()
    }

    /// For any name.
    #[must_use]
    pub(super) fn word(&self, name: &[u8]) -> String {
        if name.is_empty() {
            return String::new();
        }
        let digits = self.digits(name, BASE32, DIGITS);
        std::iter::once('x').chain(digits.chars()).collect()
    }

    /// For a text that is there or not.
    pub(super) fn text(&self, text: &mut String) {
        *text = self.word(text.as_bytes());
    }

    /// For what is an id or may be one: keeps its form.
    pub(super) fn id(&self, name: &[u8]) -> String {
        if is_decimal(name) {
            return String::from_utf8_lossy(name).into_owned();
        }
        if let Some(rest) = name.strip_prefix(b"buildah-") {
            return format!("buildah-{}", self.id(rest));
        }
        if name.len() >= HEX_DIGITS && name.iter().all(is_lower_hex) {
            return self.hex(name, name.len());
        }
        if is_uuid(name) {
            return self.uuid(name);
        }
        if name.len() == BUILD_ID_DIGITS && name.iter().all(is_base36) {
            return self.digits(name, b"0123456789abcdefghijklmnopqrstuv", BUILD_ID_DIGITS);
        }
        if let Some((task, number)) = fargate(name) {
            return format!("{}-{number}", self.hex(task, task.len()));
        }
        let mut word = self.word(name);
        if !is_oci_id(name) && !name.is_empty() {
            word.push(NO_ID);
        }
        word
    }

    /// So many hexadecimal digits.
    pub(super) fn hex(&self, name: &[u8], digits: usize) -> String {
        self.digits(name, b"0123456789abcdef0123456789abcdef", digits)
    }

    fn uuid(&self, name: &[u8]) -> String {
        // A systemd unit has `_` where the pod's uid has `-`: it is the same pod.
        let plain: Vec<u8> = name
            .iter()
            .map(|&b| if b == b'_' { b'-' } else { b })
            .collect();
        let mut digits = self.hex(&plain, UUID_BYTES).into_bytes();
        for at in UUID_DASHES {
            digits[at] = name[at];
        }
        String::from_utf8(digits).unwrap_or_default()
    }

    fn digits(&self, name: &[u8], alphabet: &[u8; 32], count: usize) -> String {
        (0..count)
            .zip(
                (0..=u8::MAX)
                    .cycle()
                    .flat_map(|block| self.bytes(name, block)),
            )
            .map(|(_, byte)| char::from(alphabet[usize::from(byte % 32)]))
            .collect()
    }
}

fn is_lower_hex(byte: &u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(byte)
}

fn is_base36(byte: &u8) -> bool {
    byte.is_ascii_digit() || byte.is_ascii_lowercase()
}

pub(super) fn is_decimal(name: &[u8]) -> bool {
    !name.is_empty() && name.len() <= DECIMAL_DIGITS && name.iter().all(u8::is_ascii_digit)
}

fn is_oci_id(name: &[u8]) -> bool {
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'-' | b'.');
    name != b"." && name != b".." && name.iter().all(allowed)
}

/// With `-` between its groups, or `_` as in units.
fn is_uuid(name: &[u8]) -> bool {
    name.len() == UUID_BYTES
        && name.iter().enumerate().all(|(at, byte)| {
            if UUID_DASHES.contains(&at) {
                matches!(byte, b'-' | b'_')
            } else {
                is_lower_hex(byte)
            }
        })
}

/// `<32 hex>-<digits>`.
fn fargate(name: &[u8]) -> Option<(&[u8], &str)> {
    let (task, rest) = name.split_at_checked(32)?;
    let number = rest.strip_prefix(b"-")?;
    let fits = task.iter().all(is_lower_hex) && !number.is_empty();
    let digits = number.iter().all(u8::is_ascii_digit);
    (fits && digits).then_some((task, std::str::from_utf8(number).ok()?))
}

#[cfg(test)]
mod tests {
    use super::Pseudonyms;

    /// Goal: names keep their form, and nothing else. Method: one of each form, under two keys.
    #[test]
    fn forms_stay() {
        let (one, two) = (Pseudonyms::new(b"one"), Pseudonyms::new(b"two"));
        let hash = "3726184226f5d3147c25fdeab5b60097e378e8a720503a5e19ecfdf29f869860";
        for name in [hash, "3726184226f5", "8dbc5577-d0e2-4706-8787-57d52c03ddf2"] {
            let id = one.id(name.as_bytes());
            assert_eq!((id.len(), id == name), (name.len(), false));
            assert_eq!(id, one.id(name.as_bytes()));
            assert_ne!(id, two.id(name.as_bytes()));
            assert!(id.bytes().all(|b| b == b'-' || super::is_lower_hex(&b)));
        }
        let dashed = one.id(b"8dbc5577-d0e2-4706-8787-57d52c03ddf2");
        let underscored = one.id(b"8dbc5577_d0e2_4706_8787_57d52c03ddf2");
        assert_eq!(dashed.replace('-', "_"), underscored);
        assert_eq!(one.id(b"i5xn4bd2zn2cflmelq4xf9q1x").len(), 25);
        assert_eq!(one.id(b"1000"), "1000");
        assert!(
            one.id(b"34dc0b5e626f2c5c4c5170e34b10e765-42")
                .ends_with("-42")
        );
        let web = one.id(b"web");
        assert_eq!((web.len(), &web[..1]), (11, "x"));
        assert_eq!(one.id("ü b".as_bytes()).pop(), Some('~'));
        assert_eq!((one.id(b""), one.word(b"")), (String::new(), String::new()));
        assert!(one.id(b"buildah-web").starts_with("buildah-x"));
    }
}
