//! The body of a request that changes something.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, Request};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use trough_store::commands::{KEY_BYTES_MAX, is_key};

use super::refusal::Refusal;
use super::state::Api;

/// Largest body, unless a path takes more, in bytes. Of a command: a text of the largest payload, all of it written as
/// escapes, and what stands around it.
pub const BODY_BYTES_MAX: usize = 128 * 1024;
/// The name of the header.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// A body of which nothing was read yet, and the headers that it comes with.
pub(super) struct Sent {
    headers: HeaderMap,
    body: Body,
    patience: Duration,
}

impl Sent {
    /// The idempotency key, if there is one.
    ///
    /// # Errors
    /// [`Refusal::BadBody`].
    pub(super) fn key(&self) -> Result<Option<String>, Refusal> {
        let mut values = self.headers.get_all(IDEMPOTENCY_KEY).iter();
        let (value, more) = (values.next(), values.next());
        let Some(value) = value else { return Ok(None) };
        match value.to_str().ok().filter(|key| is_key(key) && more.is_none()) {
            Some(key) => Ok(Some(key.to_owned())),
            None => Err(bad(format_args!(
                "Idempotency-Key must be there once, with 1 to {KEY_BYTES_MAX} visible ASCII characters"
            ))),
        }
    }

    /// All of it, if it is JSON and not larger than `limit`, and comes in time.
    ///
    /// # Errors
    /// [`Refusal::UnsupportedMediaType`], [`Refusal::BodyTooLarge`], [`Refusal::BadBody`].
    pub(super) async fn bytes(self, limit: usize) -> Result<Vec<u8>, Refusal> {
        let named = self.headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let named = named.unwrap_or_default();
        let essence = named.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(Refusal::UnsupportedMediaType(named.chars().take(80).collect()));
        }
        match tokio::time::timeout(self.patience, to_bytes(self.body, limit)).await {
            Ok(Ok(bytes)) => Ok(bytes.into()),
            Ok(Err(error)) if is_too_large(&error) => Err(Refusal::BodyTooLarge { max: limit }),
            Ok(Err(_)) => Err(bad("it broke off")),
            Err(_) => Err(bad(format_args!("it was not there within {} s", self.patience.as_secs()))),
        }
    }

    /// The JSON object that it is.
    ///
    /// # Errors
    /// As of [`Sent::bytes`].
    pub(super) async fn object<T: DeserializeOwned>(self, limit: usize) -> Result<T, Refusal> {
        object(&self.bytes(limit).await?)
    }
}

impl FromRequest<Arc<Api>> for Sent {
    type Rejection = Infallible;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, Infallible> {
        let (head, body) = request.into_parts();
        Ok(Self { headers: head.headers, body, patience: api.limits.head_timeout })
    }
}

fn is_too_large(error: &axum::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Reads a JSON object.
///
/// # Errors
/// [`Refusal::BadBody`], naming the member and what is accepted.
pub fn object<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    // What serde derives would also take an array of the members' values.
    if body.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
        return Err(bad("it is not a JSON object"));
    }
    serde_json::from_slice(body).map_err(bad)
}

/// A body that cannot be used, and why.
pub fn bad(why: impl ToString) -> Refusal {
    Refusal::BadBody(why.to_string().chars().take(300).collect())
}

/// For members that may be absent, but not `null`.
pub fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
