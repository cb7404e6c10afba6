//! What is to be known of a webhook before anything is sent: where its URL may lead to, what of it may be shown, and with
//! what requests are signed. Whoever makes subscriptions and whoever sends goes by the same.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use trough_runtime::random::random_bytes;
use trough_runtime::secret::Secret;
use url::Url;

pub mod address;
pub mod network;

pub use address::Reach;

/// Bytes of a signing key: the specification wants 24 to 64.
pub const KEY_BYTES: usize = 32;

/// A new signing key.
pub fn new_key() -> [u8; KEY_BYTES] {
    random_bytes()
}

/// A key as receivers are given it.
pub fn secret_of(key: &[u8]) -> Secret<String> {
    Secret::new(format!("whsec_{}", STANDARD.encode(key)))
}

/// A URL without what may be secret in it: user, password, query.
pub fn shown(url: &str) -> String {
    let Ok(mut url) = Url::parse(url) else { return "***".to_owned() };
    // It fails for URLs that cannot have any.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    if url.query().is_some() {
        url.set_query(Some("***"));
    }
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_secret_in_a_url_is_not_shown() {
        assert_eq!(shown("https://user:pass@h/a?key=secret"), "https://h/a?***");
        assert_eq!(shown("https://h/a"), "https://h/a");
    }

    #[test]
    fn a_secret_has_the_form_of_the_specification() {
        assert_eq!(secret_of(&[0; 24]).expose(), "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
        assert_ne!(new_key(), new_key());
    }
}
