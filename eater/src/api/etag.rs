//! Weak entity tags and conditional requests (RFC 9110, sections 8.8.3 and 13.1.2).

use http::header::IF_NONE_MATCH;
use http::{HeaderMap, HeaderValue};

/// Changed whenever the bytes of answers change for the same data, so that no client keeps an older form.
const ANSWER_VERSION: u64 = 1;

/// Collects what an answer depends on (64-bit FNV-1a). It tells changes apart; it is no protection.
#[derive(Debug, Clone, Copy)]
pub struct Fingerprint(u64);

impl Default for Fingerprint {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325).number(ANSWER_VERSION)
    }
}

impl Fingerprint {
    /// Adds a text.
    #[must_use]
    pub fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes()).number(text.len() as u64)
    }

    /// Adds a number.
    #[must_use]
    pub fn number(self, number: u64) -> Self {
        self.bytes(&number.to_le_bytes())
    }

    fn bytes(self, bytes: &[u8]) -> Self {
        Self(bytes.iter().fold(self.0, |hash, b| (hash ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)))
    }

    /// The tag.
    pub fn etag(self) -> ETag {
        ETag(format!("W/\"{:016x}\"", self.0))
    }
}

/// A weak entity tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ETag(String);

impl ETag {
    /// The value of `ETag`.
    pub fn header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).expect("quotes and hexadecimal digits are visible ASCII")
    }

    /// Whether the client has this already: `If-None-Match` names it, or is `*`.
    pub fn is_known(&self, headers: &HeaderMap) -> bool {
        let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
        headers
            .get_all(IF_NONE_MATCH)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|tag| tag.trim() == "*" || opaque(tag) == opaque(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_weakly_and_in_lists() {
        let tag = Fingerprint::default().text("a").etag();
        let known = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, HeaderValue::from_str(value).unwrap());
            tag.is_known(&headers)
        };
        let ours = tag.header();
        let ours = ours.to_str().unwrap();
        assert!(known(ours) && known(ours.trim_start_matches("W/")) && known("*"));
        assert!(known(&format!("\"x\", {ours} ,\"y\"")));
        assert!(!known("\"x\"") && !known("") && !tag.is_known(&HeaderMap::new()));
    }

    #[test]
    fn texts_do_not_run_into_one_another() {
        let of = |texts: &[&str]| texts.iter().fold(Fingerprint::default(), |all, t| all.text(t)).etag();
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["", "a"]), of(&["a", ""]));
        assert_eq!(of(&["a"]), of(&["a"]));
    }
}
