//! `X-Request-Id`: the name of one request, in every log line about it and in its answer.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::clock::Clock;
use crate::random::random_bytes;

/// The header.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id taken from a client, in bytes.
const CLIENT_ID_BYTES_MAX: usize = 64;

/// A request's name: the client's own if it is 1 to 64 visible ASCII characters, else a new UUIDv7.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// The id a request came with, or a new one. Anything but visible ASCII could forge log lines, so such an
    /// id is replaced.
    pub fn of(headers: &HeaderMap, clock: &Clock) -> Self {
        headers
            .get(X_REQUEST_ID)
            .and_then(|value| Self::accept(value.as_bytes()))
            .unwrap_or_else(|| Self::new(clock))
    }

    /// A new UUIDv7 (RFC 9562, section 5.7).
    pub fn new(clock: &Clock) -> Self {
        let uuid = uuid::Builder::from_unix_timestamp_millis(clock.now() / 1000, &random_bytes()).into_uuid();
        Self(uuid.to_string().into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Puts the id on an answer.
    pub fn set_on(&self, headers: &mut HeaderMap) {
        let value = HeaderValue::from_str(&self.0).expect("an id is visible ASCII, which every header takes");
        headers.insert(X_REQUEST_ID, value);
    }

    fn accept(value: &[u8]) -> Option<Self> {
        let fits = (1..=CLIENT_ID_BYTES_MAX).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic);
        let text = std::str::from_utf8(value).ok().filter(|_| fits)?;
        Some(Self(text.into()))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_a_good_id_and_replaces_a_bad_one() {
        let clock = Clock::manual(1_700_000_000_000_000);
        let id_for = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(X_REQUEST_ID, HeaderValue::from_bytes(value).unwrap());
            RequestId::of(&headers, &clock)
        };
        assert_eq!(id_for(b"abc-123").as_str(), "abc-123");
        for bad in [&b""[..], b"two words", b"tab\there", &[b'a'; 65], "ü".as_bytes()] {
            assert_eq!(id_for(bad).as_str().len(), 36, "{bad:?}");
        }
        let new = RequestId::of(&HeaderMap::new(), &clock);
        assert!(new.as_str().starts_with("018bcfe5-6800-7"), "{new}");
        let mut headers = HeaderMap::new();
        new.set_on(&mut headers);
        assert_eq!(headers[X_REQUEST_ID], new.as_str());
    }
}
