//! Secrets that must be had back, such as the keys of webhooks and the tokens of phones: sealed at rest.

use std::fmt;
use std::sync::Arc;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};

/// Bytes of a key.
pub const SEAL_KEY_BYTES: usize = 32;

/// A sealed secret cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a secret was sealed with another key, or for another place, or is damaged: give the services the key file that it \
     was sealed with, or enter the secret anew"
)]
pub struct Unsealable;

/// What secrets are sealed with. Clones are cheap.
#[derive(Clone)]
pub struct SealKey(Arc<LessSafeKey>);

impl SealKey {
    /// From its bytes, which must be random.
    pub fn new(bytes: &[u8; SEAL_KEY_BYTES]) -> Self {
        #[expect(clippy::expect_used, reason = "the length is that of the algorithm")]
        let key = UnboundKey::new(&CHACHA20_POLY1305, bytes).expect("32 bytes");
        Self(Arc::new(LessSafeKey::new(key)))
    }

    /// Seals a secret for one place, such as a subscription's id: elsewhere it cannot be opened, so that whoever may write
    /// to the database cannot put it where it would be sent to them.
    ///
    /// # Panics
    /// The system has no random numbers.
    pub fn seal(&self, secret: &[u8], place: &str) -> Sealed {
        let mut nonce = [0; NONCE_LEN];
        #[expect(clippy::expect_used, reason = "nothing can go on without them")]
        getrandom::fill(&mut nonce).expect("random numbers of the system");
        let mut sealed = secret.to_vec();
        let by = Nonce::assume_unique_for_key(nonce);
        #[expect(clippy::expect_used, reason = "it fails for secrets of 256 GiB")]
        self.0
            .seal_in_place_append_tag(by, Aad::from(place.as_bytes()), &mut sealed)
            .expect("a short secret");
        sealed.splice(0..0, nonce);
        Sealed(sealed)
    }

    /// Opens it.
    ///
    /// # Errors
    /// [`Unsealable`].
    pub fn open(&self, sealed: &Sealed, place: &str) -> Result<Vec<u8>, Unsealable> {
        let (nonce, rest) = sealed.0.split_first_chunk::<NONCE_LEN>().ok_or(Unsealable)?;
        let mut rest = rest.to_vec();
        let by = Nonce::assume_unique_for_key(*nonce);
        let secret =
            self.0.open_in_place(by, Aad::from(place.as_bytes()), &mut rest).map_err(|_| Unsealable)?;
        Ok(secret.to_vec())
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A sealed secret: a random nonce, and what ChaCha20-Poly1305 (RFC 8439) makes of the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Sealed {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use base64::Engine as _;
        serializer.serialize_str(&base64::engine::general_purpose::STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Sealed {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use base64::Engine as _;
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let bytes = base64::engine::general_purpose::STANDARD.decode(text.as_bytes());
        bytes.map(Self).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_comes_back_with_its_key_and_at_its_place_only() {
        let (key, other) = (SealKey::new(&[7; 32]), SealKey::new(&[8; 32]));
        let sealed = key.seal(b"whsec", "sub_1");
        assert_ne!(sealed, key.seal(b"whsec", "sub_1"));
        let stored = serde_json::to_string(&sealed).unwrap();
        let sealed: Sealed = serde_json::from_str(&stored).unwrap();
        assert_eq!(key.open(&sealed, "sub_1").unwrap(), b"whsec");
        assert_eq!(key.open(&sealed, "sub_2"), Err(Unsealable));
        assert_eq!(other.open(&sealed, "sub_1"), Err(Unsealable));
        assert_eq!(key.open(&Sealed(vec![1, 2]), "sub_1"), Err(Unsealable));
        assert!(!format!("{key:?} {sealed:?}").contains("whsec"));
    }
}
