//! Whether the process lives, and whether it should get traffic.
//!
//! `/readyz` fails only while starting, draining or emptied by hand. A broken dependency makes a part *degraded*, and the
//! answer stays 200: failing readiness on a dead database would empty every Service at once, and with it
//! the refusals that tell clients when to come back.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use crate::FullResponse;
use crate::problem::Problem;

/// Where the process stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not yet serving.
    Starting,
    /// Serving.
    Ready,
    /// Told to stop, or emptied by hand; new traffic should go elsewhere.
    Draining,
}

/// The process's health. Clones share it.
#[derive(Debug, Clone)]
pub struct Health(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    state: State,
    /// By hand; it goes on running.
    is_emptied: bool,
    degraded: BTreeMap<Cow<'static, str>, String>,
}

#[derive(Serialize)]
struct Body<'a> {
    status: State,
    degraded: Vec<Part<'a>>,
}

#[derive(Serialize)]
struct Part<'a> {
    part: &'a str,
    reason: &'a str,
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl Health {
    /// Starting, nothing degraded.
    pub fn new() -> Self {
        let degraded = BTreeMap::new();
        Self(Arc::new(Mutex::new(Inner { state: State::Starting, is_emptied: false, degraded })))
    }

    /// Starting is over, unless the drain has begun already.
    pub fn set_ready(&self) {
        let mut inner = self.lock();
        if inner.state == State::Starting {
            inner.state = State::Ready;
        }
    }

    /// The process was told to stop. There is no way back.
    pub fn set_draining(&self) {
        self.lock().state = State::Draining;
    }

    /// Whether an operator empties it, which may be undone.
    pub fn set_emptied(&self, emptied: bool) {
        self.lock().is_emptied = emptied;
    }

    /// Where the process stands.
    pub fn state(&self) -> State {
        self.lock().state()
    }

    /// Says that a part does not work, and why, until [`Health::restore`]. Logged when it is news. The reason
    /// is shown to whoever can reach the port: no secrets, no addresses with credentials.
    pub fn degrade(&self, part: impl Into<Cow<'static, str>>, reason: impl Into<String>) {
        let (part, reason) = (part.into(), reason.into());
        let known = self.lock().degraded.insert(part.clone(), reason.clone());
        if known.as_ref() != Some(&reason) {
            tracing::warn!(%part, %reason, "degraded");
        }
    }

    /// Says that a part works again.
    pub fn restore(&self, part: &str) {
        if self.lock().degraded.remove(part).is_some() {
            tracing::info!(%part, "restored");
        }
    }

    /// The degraded parts and their reasons, by name.
    pub fn degraded(&self) -> Vec<(String, String)> {
        self.lock().degraded.iter().map(|(part, reason)| (part.to_string(), reason.clone())).collect()
    }

    /// The answer to `/healthz` or `/readyz`; `None` for any other path, which is the caller's to answer.
    pub fn answer<B>(&self, request: &Request<B>) -> Option<FullResponse> {
        let path = request.uri().path();
        if !matches!(path, "/healthz" | "/readyz") {
            return None;
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let detail = format!("{path} answers GET and HEAD, not {}", request.method());
            let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail);
            let mut response = problem.to_response();
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return Some(response);
        }
        let (state, body) = self.body();
        let status = match (path, state) {
            ("/healthz", _) | (_, State::Ready) => StatusCode::OK,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Some(response)
    }

    fn body(&self) -> (State, String) {
        let inner = self.lock();
        let degraded = inner.degraded.iter().map(|(part, reason)| Part { part, reason }).collect();
        let state = inner.state();
        let body = Body { status: state, degraded };
        (state, serde_json::to_string(&body).expect("strings always serialise"))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while holding it, and health must answer even if something did.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn state(&self) -> State {
        match self.state {
            State::Ready if self.is_emptied => State::Draining,
            state => state,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn get(health: &Health, path: &str) -> (u16, String) {
        let request = Request::get(path).body(()).unwrap();
        let response = health.answer(&request).unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_fails_only_while_starting_or_draining() {
        let health = Health::new();
        assert_eq!(get(&health, "/readyz").await, (503, r#"{"status":"starting","degraded":[]}"#.into()));
        health.set_ready();
        health.degrade("registry", "cannot be reached");
        let body = r#"{"status":"ready","degraded":[{"part":"registry","reason":"cannot be reached"}]}"#;
        assert_eq!(get(&health, "/readyz").await, (200, body.into()));
        health.restore("registry");
        health.set_draining();
        health.set_ready();
        assert_eq!(get(&health, "/readyz?verbose").await.0, 503);
        assert_eq!(get(&health, "/healthz").await.0, 200);
    }

    #[test]
    fn an_emptied_process_is_not_ready_until_that_is_undone() {
        let health = Health::new();
        health.set_emptied(true);
        assert_eq!(health.state(), State::Starting);
        health.set_ready();
        assert_eq!(health.state(), State::Draining);
        health.set_emptied(false);
        assert_eq!(health.state(), State::Ready);
        health.set_draining();
        health.set_emptied(false);
        assert_eq!(health.state(), State::Draining, "a stop cannot be undone");
    }

    #[test]
    fn leaves_other_paths_alone_and_refuses_other_methods() {
        let health = Health::new();
        assert!(health.answer(&Request::get("/metrics").body(()).unwrap()).is_none());
        let refused = health.answer(&Request::post("/readyz").body(()).unwrap()).unwrap();
        assert_eq!(refused.status(), 405);
    }
}
