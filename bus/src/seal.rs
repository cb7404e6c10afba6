//! Sealed values: whoever can write the bus cannot make one.
//!
//! HMAC-SHA256 over the key, the environment, when the value was made, when it expires, and the content. The
//! content itself is not secret.

use bytes::Bytes;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use trough_protocol::Micros;
use trough_runtime::secret::Secret;

use crate::key::{Environment, Key};

/// Least and most bytes of a sealing key.
pub const KEY_BYTES: std::ops::RangeInclusive<usize> = 32..=1024;

const MAGIC: [u8; 2] = *b"Ts";
const VERSION: u8 = 1;
const TAG_BYTES: usize = 32;
const HEAD_BYTES: usize = 4 + 8 + 8;

/// Seals values and opens them again. All processes of a deployment have the same key.
#[derive(Debug, Clone)]
pub struct Sealer {
    key: Secret<Vec<u8>>,
    environment: Environment,
}

/// A sealing key that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a sealing key of {0} bytes: use 32 to 1024 random bytes, such as `head -c 32 /dev/urandom` gives")]
pub struct KeyError(usize);

/// What a seal vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// When its maker began to find out what is in it, in µs since 1970.
    pub made_at: Micros,
    /// When it is no longer good, in µs since 1970. The caller compares.
    pub expires_at: Micros,
    /// What it says.
    pub content: Bytes,
}

impl Sealer {
    /// One with this key.
    ///
    /// # Errors
    /// The key is too short or too long.
    pub fn new(key: Vec<u8>, environment: Environment) -> Result<Self, KeyError> {
        if !KEY_BYTES.contains(&key.len()) {
            return Err(KeyError(key.len()));
        }
        Ok(Self { key: Secret::new(key), environment })
    }

    /// Which environment its seals are good for.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Seals content for one key.
    pub fn seal(&self, key: &Key, sealed: &Sealed) -> Bytes {
        let mut value = Vec::with_capacity(HEAD_BYTES + sealed.content.len() + TAG_BYTES);
        value.extend_from_slice(&MAGIC);
        // The last byte is for flags; a reader refuses those that it does not know.
        value.extend_from_slice(&[VERSION, 0]);
        value.extend_from_slice(&sealed.made_at.to_le_bytes());
        value.extend_from_slice(&sealed.expires_at.to_le_bytes());
        value.extend_from_slice(&sealed.content);
        let tag = self.mac(key, &value).finalize().into_bytes();
        value.extend_from_slice(&tag);
        value.into()
    }

    /// Opens what was sealed for this key, in this environment; `None` for anything else.
    pub fn open(&self, key: &Key, value: &Bytes) -> Option<Sealed> {
        let body = value.slice(..value.len().checked_sub(TAG_BYTES)?);
        let (head, _) = body.split_at_checked(HEAD_BYTES)?;
        let tag = &value[body.len()..];
        // In the same time wherever they differ.
        self.mac(key, &body).verify_slice(tag).ok()?;
        if head[..2] != MAGIC || head[2..4] != [VERSION, 0] {
            return None;
        }
        let number = |at: usize| Some(u64::from_le_bytes(head.get(at..at + 8)?.try_into().ok()?));
        Some(Sealed { made_at: number(4)?, expires_at: number(12)?, content: body.slice(HEAD_BYTES..) })
    }

    fn mac(&self, key: &Key, body: &[u8]) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.key.expose()).expect("HMAC takes keys of any length");
        // Each part with its length, so that none can borrow bytes from the next.
        for part in [self.environment.as_str().as_bytes(), key.as_str().as_bytes(), body] {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN_TAG: &str = "cc93bec588f48d66e603560c1e85b1172aeb13409c63e6cf0a02f8a825fdfcdd";

    fn environment(name: &str) -> Environment {
        Environment::new(name).unwrap()
    }

    fn sealer(byte: u8, name: &str) -> Sealer {
        Sealer::new(vec![byte; 32], environment(name)).unwrap()
    }

    fn sealed() -> Sealed {
        Sealed { made_at: 1_000_000, expires_at: 2_000_000, content: Bytes::from_static(b"who") }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_bytes_of_version_1() {
        let value = sealer(7, "production").seal(&Key::new(&environment("production"), "k"), &sealed());
        let (body, tag) = value.split_at(value.len() - TAG_BYTES);
        assert_eq!(hex(body), "5473010040420f000000000080841e000000000077686f");
        assert_eq!(hex(tag), GOLDEN_TAG);
    }

    #[test]
    fn opens_for_its_own_key_environment_and_secret_only() {
        let ours = sealer(7, "production");
        let key = Key::new(&environment("production"), "k");
        let value = ours.seal(&key, &sealed());
        assert_eq!(ours.open(&key, &value), Some(sealed()));
        assert_eq!(ours.open(&Key::new(&environment("production"), "l"), &value), None);
        assert_eq!(sealer(8, "production").open(&key, &value), None);
        assert_eq!(sealer(7, "sandbox").open(&key, &value), None);
        for at in 0..value.len() {
            let mut damaged = value.to_vec();
            damaged[at] ^= 1;
            assert_eq!(ours.open(&key, &damaged.into()), None, "changed at {at}");
            assert_eq!(ours.open(&key, &value.slice(..at)), None, "cut at {at}");
        }
    }

    #[test]
    fn short_keys_are_refused_and_none_is_printed() {
        let error = Sealer::new(vec![7; 31], environment("sandbox")).unwrap_err().to_string();
        assert!(error.contains("31 bytes") && error.contains("32"), "{error}");
        assert!(!format!("{:?}", sealer(77, "sandbox")).contains("77"));
    }
}
