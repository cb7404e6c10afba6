//! Bearer tokens: what a device or a reader shows to say who it is.
//!
//! A token is `tdev_<id>_<secret>` or `trdr_<id>_<secret>`. The id (12 characters, 60 random bits) is public:
//! it finds the token's row and names it in logs. The secret is 32 random bytes in base64url; only its
//! SHA-256 is stored. A slow password hash would add nothing: it slows the guessing of secrets that people
//! chose, and nobody guesses 256 random bits. It would cost a reconnecting fleet dearly, though.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use trough_runtime::random::random_bytes;
use trough_runtime::secret::Secret;

/// Whose token it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// A device's: `tdev_…`.
    Device,
    /// A reader's: `trdr_…`.
    Reader,
}

impl TokenKind {
    /// What tokens of the kind begin with. Secret scanners can look for it.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Device => "tdev_",
            Self::Reader => "trdr_",
        }
    }
}

const PREFIX_CHARS: usize = 5;
const ID_CHARS: usize = 12;
const SECRET_BYTES: usize = 32;
const SECRET_CHARS: usize = 43;
/// The length of every token, in characters. Anything longer or shorter is refused before any work.
pub const TOKEN_CHARS: usize = PREFIX_CHARS + ID_CHARS + 1 + SECRET_CHARS;

/// Letters and digits of ids, without those that are mistaken for one another (Crockford's base 32).
const ID_ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The public half of a token: names it in the registry and in logs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenId([u8; ID_CHARS]);

impl TokenId {
    /// A new random id.
    pub fn random() -> Self {
        Self(random_bytes::<ID_CHARS>().map(|b| ID_ALPHABET[usize::from(b % 32)]))
    }

    /// Takes an id as [`TokenId::as_str`] wrote it; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let id: [u8; ID_CHARS] = text.as_bytes().try_into().ok()?;
        id.iter().all(|b| ID_ALPHABET.contains(b)).then_some(Self(id))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("every letter of the alphabet is ASCII")
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A token just made. It exists in clear only here, and prints as `***`.
#[derive(Debug, Clone)]
pub struct Token {
    /// Its public id.
    pub id: TokenId,
    text: Secret<String>,
    digest: SecretDigest,
}

impl Token {
    /// A new random token.
    pub fn random(kind: TokenKind) -> Self {
        let id = TokenId::random();
        let secret = random_bytes::<SECRET_BYTES>();
        let text = format!("{}{id}_{}", kind.prefix(), URL_SAFE_NO_PAD.encode(secret));
        Self { id, text: Secret::new(text), digest: SecretDigest::of(&secret) }
    }

    /// The text to hand to its owner, once; nobody can ask for it again.
    pub fn expose(&self) -> &str {
        self.text.expose()
    }

    /// What the registry stores.
    pub fn digest(&self) -> &SecretDigest {
        &self.digest
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The SHA-256 of a token's secret.
#[derive(Clone, Copy)]
pub struct SecretDigest([u8; 32]);

impl SecretDigest {
    fn of(secret: &[u8; SECRET_BYTES]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// As stored.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Compares with what is stored, in the same time wherever they differ.
    pub fn matches(&self, stored: &[u8]) -> bool {
        self.0.as_slice().ct_eq(stored).into()
    }
}

impl fmt::Debug for SecretDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A token as somebody shows it: not yet believed.
#[derive(Debug, Clone)]
pub struct PresentedToken {
    /// Which token it claims to be.
    pub id: TokenId,
    /// To be compared with the stored one.
    pub digest: SecretDigest,
}

impl PresentedToken {
    /// Takes a token apart. `None` for anything that was never a token of this kind: the caller answers as to
    /// an unknown token, so that nobody learns what was wrong with it.
    pub fn parse(kind: TokenKind, text: &str) -> Option<Self> {
        if text.len() != TOKEN_CHARS {
            return None;
        }
        let rest = text.strip_prefix(kind.prefix())?;
        let (id, secret) = rest.split_at_checked(ID_CHARS)?;
        let mut bytes = [0; SECRET_BYTES];
        let decoded = URL_SAFE_NO_PAD.decode_slice(secret.strip_prefix('_')?, &mut bytes).ok()?;
        (decoded == SECRET_BYTES)
            .then(|| TokenId::parse(id))
            .flatten()
            .map(|id| Self { id, digest: SecretDigest::of(&bytes) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_recognised_by_its_own_digest_only() {
        let token = Token::random(TokenKind::Device);
        assert_eq!(token.expose().len(), TOKEN_CHARS);
        let shown = PresentedToken::parse(TokenKind::Device, token.expose()).unwrap();
        assert_eq!(shown.id, token.id);
        assert!(shown.digest.matches(token.digest().as_bytes()));
        assert!(!shown.digest.matches(Token::random(TokenKind::Device).digest().as_bytes()));
        assert!(!shown.digest.matches(b"short"));
        assert!(PresentedToken::parse(TokenKind::Reader, token.expose()).is_none());
    }

    #[test]
    fn prints_nothing_of_itself() {
        let token = Token::random(TokenKind::Reader);
        let printed = format!("{token} {token:?}");
        assert!(printed.starts_with("*** "), "{printed}");
        let secret = token.expose().splitn(3, '_').nth(2).unwrap();
        assert!(!printed.contains(secret) && !printed.contains("trdr_"), "{printed}");
    }

    #[test]
    fn every_damaged_token_is_unknown() {
        let text = Token::random(TokenKind::Device).expose().to_owned();
        for end in 0..text.len() {
            assert!(PresentedToken::parse(TokenKind::Device, &text[..end]).is_none());
        }
        assert!(PresentedToken::parse(TokenKind::Device, &format!("{text}A")).is_none());
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = b'!';
            assert!(PresentedToken::parse(TokenKind::Device, std::str::from_utf8(&bytes).unwrap()).is_none());
        }
        // 61 bytes whose boundaries fall inside of characters.
        let wide = format!("tdev_{}x", "ü".repeat((TOKEN_CHARS - 6) / 2));
        assert!(PresentedToken::parse(TokenKind::Device, &wide).is_none());
        // The last character carries two bits that must be zero: one secret has one spelling.
        let respelled = format!("{}B", &text[..TOKEN_CHARS - 1]);
        assert!(PresentedToken::parse(TokenKind::Device, &respelled).is_none());
    }
}
