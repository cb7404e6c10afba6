//! The provider token: with it Apple knows who pushes.
//!
//! Apple refuses a provider that makes new tokens all the time (`TooManyProviderTokenUpdates`), and counts those of all
//! our processes together. So they make the same one: its time is cut down to whole [`PERIOD`]s, and its signature is the
//! deterministic one of RFC 6979.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::DecodePrivateKey as _;
use serde_json::json;
use trough_protocol::Micros;

/// How long a token is used: Apple wants 20 to 60 minutes.
pub const PERIOD: Duration = Duration::from_secs(40 * 60);

/// What is registered with Apple cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// Not a key.
    #[error("it is no key in PKCS#8 PEM: use the file AuthKey_….p8 that Apple gives out, as it is")]
    Key,
    /// Not an id.
    #[error("the {what} {value:?} is not one: use the ten letters and digits that Apple shows beside it")]
    Id {
        /// Whose.
        what: &'static str,
        /// What was given.
        value: String,
    },
}

/// When a token was issued, in seconds since 1970, and the token.
type Signed = (u64, Arc<str>);

/// Who pushes, as registered with Apple. Clones share what was signed.
#[derive(Clone)]
pub struct Credentials {
    key: Arc<SigningKey>,
    key_id: String,
    team_id: String,
    signed: Arc<Mutex<Option<Signed>>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

impl Credentials {
    /// From the key's file, the key's id and the team's.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn new(pem: &str, key_id: &str, team_id: &str) -> Result<Self, CredentialsError> {
        let key = SigningKey::from_pkcs8_pem(pem.trim()).map_err(|_| CredentialsError::Key)?;
        let id = |what, value: &str| {
            let valid = value.len() == 10 && value.bytes().all(|byte| byte.is_ascii_alphanumeric());
            let shown = || value.chars().take(80).collect();
            valid.then(|| value.to_owned()).ok_or_else(|| CredentialsError::Id { what, value: shown() })
        };
        Ok(Self {
            key: Arc::new(key),
            key_id: id("key id", key_id)?,
            team_id: id("team id", team_id)?,
            signed: Arc::default(),
        })
    }

    /// The token of this time (RFC 7519, ES256).
    pub fn token(&self, now: Micros) -> Arc<str> {
        let period = PERIOD.as_secs();
        let issued = now / 1_000_000 / period * period;
        // Whoever panics has written nothing.
        let mut signed = self.signed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, token)) = &*signed
            && *of == issued
        {
            return token.clone();
        }
        let token: Arc<str> = self.sign(issued).into();
        *signed = Some((issued, token.clone()));
        token
    }

    fn sign(&self, issued: u64) -> String {
        let header = json!({ "alg": "ES256", "kid": self.key_id }).to_string();
        let claims = json!({ "iss": self.team_id, "iat": issued }).to_string();
        let signed = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
        let signature: Signature = self.key.sign(signed.as_bytes());
        format!("{signed}.{}", BASE64.encode(signature.to_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::push_key;
    use p256::ecdsa::VerifyingKey;
    use p256::ecdsa::signature::Verifier as _;

    fn credentials() -> Credentials {
        Credentials::new(&push_key(), "ABC123DEFG", "DEF123GHIJ").unwrap()
    }

    #[test]
    fn two_processes_make_one_token_until_the_period_is_over() {
        let (one, other) = (credentials(), credentials());
        let at = |seconds: u64| {
            1_782_900_000_000_000 / (2_400 * 1_000_000) * 2_400 * 1_000_000 + seconds * 1_000_000
        };
        let first = one.token(at(0));
        assert_eq!(first, other.token(at(2_399)));
        assert_eq!(first, one.token(at(1_000)));
        assert_ne!(first, one.token(at(2_400)));
        assert_eq!(one.token(at(2_400)), other.token(at(2_401)));
    }

    #[test]
    fn a_token_says_who_and_when() {
        let credentials = credentials();
        let token = credentials.token(1_782_907_200_000_001);
        let parts: Vec<_> = token.split('.').collect();
        let text = |part: &str| String::from_utf8(BASE64.decode(part).unwrap()).unwrap();
        assert_eq!(text(parts[0]), r#"{"alg":"ES256","kid":"ABC123DEFG"}"#);
        assert_eq!(text(parts[1]), r#"{"iat":1782907200,"iss":"DEF123GHIJ"}"#);
        let signature = Signature::from_slice(&BASE64.decode(parts[2]).unwrap()).unwrap();
        let signed = format!("{}.{}", parts[0], parts[1]);
        VerifyingKey::from(&*credentials.key).verify(signed.as_bytes(), &signature).unwrap();
    }

    #[test]
    fn what_is_wrong_is_named_and_the_key_is_not() {
        let wrong = |pem: &str, key, team| Credentials::new(pem, key, team).unwrap_err().to_string();
        assert!(wrong("secret", "ABC123DEFG", "DEF123GHIJ").contains("AuthKey_"));
        assert!(wrong(&push_key(), "short", "DEF123GHIJ").contains("key id \"short\""));
        assert!(wrong(&push_key(), "ABC123DEFG", "DEF123GHI!").contains("team id"));
        assert!(!format!("{:?}", credentials()).contains("DEF123"));
    }
}
