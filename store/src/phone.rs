//! What an app says of a phone, to be checked and sealed before it is kept.

use trough_protocol::Micros;

use crate::error::RegistryError;
use crate::names::ReaderName;
use crate::sealed::SealKey;
use crate::subscription::{PushEnvironment, PushToken, PushTokenId, TOPIC_BYTES_MAX};

/// Most bytes of a token; Apple says that their length may change, and gives out 32 bytes.
pub const TOKEN_BYTES_MAX: usize = 128;

/// What Apple has given to an app, in small hex digits.
#[derive(Clone, PartialEq, Eq)]
pub struct DeviceToken(String);

impl DeviceToken {
    /// Takes it in hex digits of either case.
    ///
    /// # Errors
    /// [`RegistryError::Invalid`], which does not show it: it stays out of logs.
    pub fn parse(text: &str) -> Result<Self, RegistryError> {
        let is_hex = text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_hex && (1..=TOKEN_BYTES_MAX).contains(&(text.len() / 2)) {
            return Ok(Self(text.to_ascii_lowercase()));
        }
        let count = text.chars().count();
        Err(RegistryError::Invalid(format!(
            "{count} characters are no push token: give what the app got from Apple, as 2 to {} hex digits",
            2 * TOKEN_BYTES_MAX
        )))
    }

    /// The phone's id: a phone that registers twice is one.
    pub fn id(&self) -> PushTokenId {
        PushTokenId::of(&[self.0.as_bytes()])
    }

    /// The phone as it is kept, with the token sealed.
    pub fn register(
        &self,
        owner: ReaderName,
        app: AppName,
        environment: PushEnvironment,
        seal: &SealKey,
        registered_at: Micros,
    ) -> PushToken {
        let id = self.id();
        let token = seal.seal(self.0.as_bytes(), &id.to_string());
        PushToken { id, owner, token, environment, topic: app.0, registered_at }
    }
}

impl std::fmt::Debug for DeviceToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// An app's bundle id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppName(String);

impl AppName {
    /// Checks and takes it.
    ///
    /// # Errors
    /// [`RegistryError::Invalid`].
    pub fn parse(text: &str) -> Result<Self, RegistryError> {
        let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        if (1..=TOPIC_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_name) {
            return Ok(Self(text.to_owned()));
        }
        let shown: String = text.chars().take(80).collect();
        Err(RegistryError::Invalid(format!(
            "{shown:?} is no bundle id: use 1 to {TOPIC_BYTES_MAX} letters, digits, dots, dashes and underscores, such as \
             com.example.app"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_hex_digits_and_is_shown_nowhere() {
        let token = DeviceToken::parse("00Ab").unwrap();
        assert_eq!(
            (token.id(), format!("{token:?}")),
            (DeviceToken::parse("00aB").unwrap().id(), "***".into())
        );
        for wrong in ["", "0", "0g", "secret", &"ab".repeat(TOKEN_BYTES_MAX + 1)] {
            let why = DeviceToken::parse(wrong).unwrap_err().to_string();
            assert!(why.contains("no push token") && !why.contains("secret"), "{why}");
        }
        let (seal, owner) = (SealKey::new(&[7; 32]), ReaderName::new("ios").unwrap());
        let app = AppName::parse("com.example.app").unwrap();
        let kept = token.register(owner, app, PushEnvironment::Sandbox, &seal, 5);
        assert_eq!(seal.open(&kept.token, &kept.id.to_string()).unwrap(), b"00ab");
        assert_eq!((kept.topic.as_str(), kept.registered_at), ("com.example.app", 5));
    }

    #[test]
    fn an_app_has_a_bundle_id() {
        for wrong in ["", "two words", "a/b", &"a".repeat(TOPIC_BYTES_MAX + 1)] {
            assert!(AppName::parse(wrong).unwrap_err().to_string().contains("no bundle id"), "{wrong}");
        }
    }
}
