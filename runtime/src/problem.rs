//! Errors as HTTP answers: RFC 9457, `application/problem+json`.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use crate::FullResponse;

/// One refusal. `type` is always `about:blank`, so that `title` is the status's own phrase (RFC 9457, section
/// 4.2.1); programs go by `code`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: StatusCode,
    /// Stable, in snake_case, documented: what a program switches on.
    pub code: &'static str,
    /// For a person: what was refused, its value, and what to do.
    pub detail: Cow<'static, str>,
    /// When to try again; sent as `Retry-After` and `retry_after`, in whole seconds, rounded up.
    pub retry_after: Option<Duration>,
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
}

impl Problem {
    /// A problem without `Retry-After`.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, detail: detail.into(), retry_after: None }
    }

    /// Adds when to try again.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Nothing lives at this path.
    pub fn no_such_path(path: &str) -> Self {
        // A path can be as long as a request head; a person needs only its beginning.
        let shown: String = path.chars().take(200).collect();
        Self::new(StatusCode::NOT_FOUND, "no_such_path", format!("there is nothing at {shown}"))
    }

    /// The body, as JSON.
    pub fn to_json(&self) -> String {
        let body = Body {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
            retry_after: self.retry_after_seconds(),
        };
        serde_json::to_string(&body).expect("strings and numbers always serialise")
    }

    /// The answer. It must not be cached.
    pub fn to_response(&self) -> FullResponse {
        let mut response = Response::new(Full::new(Bytes::from(self.to_json())));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after_seconds() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }

    fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after.map(|after| after.as_millis().div_ceil(1000).clamp(1, u128::from(u32::MAX)) as u64)
    }
}

impl From<Problem> for FullResponse {
    fn from(problem: Problem) -> Self {
        problem.to_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_everything_twice_where_http_asks_for_it() {
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "registry_unavailable", "try again")
            .with_retry_after(Duration::from_millis(1200));
        let response = problem.to_response();
        assert_eq!(response.headers()[RETRY_AFTER], "2");
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        assert_eq!(
            problem.to_json(),
            r#"{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"try again","code":"registry_unavailable","retry_after":2}"#
        );
    }
}
