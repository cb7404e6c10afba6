//! Emptying a process by hand: it takes nothing new and sends what it has elsewhere, at a pace, and goes on running. An
//! operator begins and undoes it on the admin port.
//!
//! Whoever may do so is on this machine, or in this pod: the request comes from a loopback address. That is not true of
//! what a proxy beside the process passes on, so a request that says it was passed on is refused, and one of a browser,
//! which any page may make it send.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, FORWARDED, ORIGIN, VIA};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use prometheus_client::metrics::gauge::Gauge;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::FullResponse;
use crate::health::Health;
use crate::problem::Problem;

/// Where it is begun (POST), undone (DELETE) and looked at (GET).
pub const PATH: &str = "/drain";
/// Over how long it may be spread, in seconds.
const SPREAD_SECONDS_MAX: u64 = 3600;

/// What an operator has ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// Over how long; without it as the process thinks best.
    pub spread: Option<Duration>,
    /// When.
    pub began: Instant,
}

/// Whether a process is to be empty, and what is still in it. Clones share it.
#[derive(Debug, Clone)]
pub struct Drain(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    order: watch::Sender<Option<Order>>,
    holds: Mutex<BTreeMap<&'static str, Gauge>>,
}

impl Default for Drain {
    fn default() -> Self {
        Self(Arc::new(Inner { order: watch::Sender::new(None), holds: Mutex::default() }))
    }
}

impl Drain {
    /// Says what the process has that can go elsewhere, such as `sessions`, and how many there are.
    pub fn holds(&self, what: &'static str, count: &Gauge) {
        self.held().insert(what, count.clone());
    }

    /// Begins. What has begun already with the same spread goes on; with another, the rest goes at that pace.
    pub fn begin(&self, spread: Option<Duration>) {
        self.0.order.send_if_modified(|order| {
            let is_news = order.is_none_or(|order| order.spread != spread);
            if is_news {
                *order = Some(Order { spread, began: Instant::now() });
            }
            is_news
        });
    }

    /// Takes new work again. What has gone comes back by itself, if at all.
    pub fn undo(&self) {
        self.0.order.send_if_modified(|order| order.take().is_some());
    }

    /// Whether nothing new is taken.
    pub fn is_on(&self) -> bool {
        self.0.order.borrow().is_some()
    }

    /// The order as it stands, and as it changes.
    pub fn orders(&self) -> watch::Receiver<Option<Order>> {
        self.0.order.subscribe()
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<&'static str, Gauge>> {
        // A map of counters is whole whatever panicked.
        self.0.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to a request for [`PATH`] from `peer`.
    pub(crate) fn answer<B>(&self, request: &Request<B>, peer: SocketAddr, health: &Health) -> FullResponse {
        let answered = match *request.method() {
            Method::GET | Method::HEAD => Ok(()),
            Method::POST => self.ordered(request, peer, health),
            Method::DELETE => is_from_here(peer, request.headers()).map(|()| {
                tracing::info!("taking new work again, by an operator's word");
                let _one_at_a_time = self.held();
                self.undo();
                health.set_emptied(false);
            }),
            _ => Err(wrong_method(request.method())),
        };
        match answered {
            Ok(()) => self.state(),
            Err(problem) => {
                let mut response = problem.to_response();
                if problem.status == StatusCode::METHOD_NOT_ALLOWED {
                    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, DELETE"));
                }
                response
            }
        }
    }

    fn ordered<B>(&self, request: &Request<B>, peer: SocketAddr, health: &Health) -> Result<(), Problem> {
        is_from_here(peer, request.headers())?;
        let spread = spread(request.uri())?;
        // Two operators at once must not part readiness from the order.
        let held = self.held();
        if held.is_empty() {
            let detail =
                "this process has nothing that another could take over while it runs: stop it with SIGTERM";
            return Err(Problem::new(StatusCode::CONFLICT, "nothing_to_drain", detail));
        }
        tracing::info!(spread_s = spread.map(|spread| spread.as_secs()), "emptied by an operator's word");
        // First, so that nobody who finds it ready is turned away.
        health.set_emptied(true);
        self.begin(spread);
        Ok(())
    }

    fn state(&self) -> FullResponse {
        let left = self.held().iter().map(|(what, count)| (*what, count.get().max(0) as u64)).collect();
        let state = StateJson { draining: self.is_on(), left };
        let body = serde_json::to_string(&state).expect("numbers under names always serialise");
        let mut response = Response::new(Full::new(Bytes::from(body)));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

#[derive(Serialize)]
struct StateJson {
    draining: bool,
    left: BTreeMap<&'static str, u64>,
}

/// Refuses whoever is not on this machine.
fn is_from_here(peer: SocketAddr, headers: &HeaderMap) -> Result<(), Problem> {
    let passed_on = headers.keys().any(|name| {
        *name == FORWARDED || *name == VIA || name.as_str().starts_with("x-forwarded-") || *name == ORIGIN
    });
    if peer.ip().to_canonical().is_loopback() && !passed_on {
        return Ok(());
    }
    let detail = "only whoever is on this machine, or in this pod, may say so: `trough drain`, there";
    Err(Problem::new(StatusCode::FORBIDDEN, "not_from_here", detail))
}

/// `?spread=SECONDS`.
fn spread(uri: &Uri) -> Result<Option<Duration>, Problem> {
    let Some(query) = uri.query() else { return Ok(None) };
    let seconds = query.strip_prefix("spread=").and_then(|seconds| seconds.parse::<u64>().ok());
    match seconds {
        Some(seconds) if seconds <= SPREAD_SECONDS_MAX => Ok(Some(Duration::from_secs(seconds))),
        _ => {
            let shown: String = query.chars().take(100).collect();
            let detail = format!(
                "the query is {shown}; use spread=SECONDS, with a whole number up to {SPREAD_SECONDS_MAX}"
            );
            Err(Problem::new(StatusCode::BAD_REQUEST, "bad_query", detail))
        }
    }
}

fn wrong_method(method: &Method) -> Problem {
    let detail = format!("{PATH} answers GET, POST and DELETE, not {method}");
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    struct Port {
        drain: Drain,
        health: Health,
        sessions: Gauge,
    }

    impl Port {
        fn new() -> Self {
            let port = Self { drain: Drain::default(), health: Health::new(), sessions: Gauge::default() };
            port.health.set_ready();
            port.drain.holds("sessions", &port.sessions);
            port
        }

        async fn ask(&self, method: &str, uri: &str, peer: &str, header: Option<&str>) -> (u16, String) {
            let mut request = Request::builder().method(method).uri(uri);
            if let Some(name) = header {
                request = request.header(name, "x");
            }
            let request = request.body(()).unwrap();
            let response = self.drain.answer(&request, peer.parse().unwrap(), &self.health);
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            (status, String::from_utf8(body.to_vec()).unwrap())
        }

        fn is_ready(&self) -> bool {
            self.health.state() == crate::health::State::Ready
        }
    }

    const HERE: &str = "127.0.0.1:5";

    #[tokio::test]
    async fn readiness_follows_and_what_is_left_is_told() {
        let port = Port::new();
        port.sessions.set(3);
        let (status, body) = port.ask("POST", "/drain?spread=7", HERE, None).await;
        assert_eq!((status, &*body), (200, r#"{"draining":true,"left":{"sessions":3}}"#));
        assert!(!port.is_ready());
        let order = port.drain.orders().borrow().unwrap();
        assert_eq!(order.spread, Some(Duration::from_secs(7)));
        port.ask("POST", "/drain?spread=7", "[::ffff:127.0.0.9]:5", None).await;
        assert_eq!(port.drain.orders().borrow().unwrap(), order, "said twice is said once");
        port.sessions.set(0);
        let (_, body) = port.ask("GET", "/drain", "10.0.0.1:5", None).await;
        assert_eq!(body, r#"{"draining":true,"left":{"sessions":0}}"#);
        let (status, body) = port.ask("DELETE", "/drain", HERE, None).await;
        assert_eq!((status, &*body), (200, r#"{"draining":false,"left":{"sessions":0}}"#));
        assert!(port.is_ready() && !port.drain.is_on());
    }

    #[tokio::test]
    async fn nobody_else_may_say_so() {
        let port = Port::new();
        let refused = [
            ("10.0.0.1:5", None),
            ("[2001:db8::1]:5", None),
            (HERE, Some("X-Forwarded-For")),
            (HERE, Some("x-forwarded-proto")),
            (HERE, Some("Forwarded")),
            (HERE, Some("Via")),
            (HERE, Some("Origin")),
        ];
        for method in ["POST", "DELETE"] {
            for (peer, header) in refused {
                let (status, body) = port.ask(method, "/drain", peer, header).await;
                assert!(
                    status == 403 && body.contains("not_from_here"),
                    "{method} {peer} {header:?}: {body}"
                );
            }
        }
        assert!(port.is_ready() && !port.drain.is_on());
    }

    #[tokio::test]
    async fn what_makes_no_sense_is_refused() {
        let port = Port::new();
        for query in ["?spread=", "?spread=-1", "?spread=3601", "?speed=1", "?spread=1&spread=2"] {
            let (status, body) = port.ask("POST", &format!("/drain{query}"), HERE, None).await;
            assert!(status == 400 && body.contains("bad_query"), "{query}: {body}");
        }
        assert_eq!(port.ask("PUT", "/drain", HERE, None).await.0, 405);
        let empty = Port { drain: Drain::default(), ..Port::new() };
        let (status, body) = empty.ask("POST", "/drain", HERE, None).await;
        assert!(status == 409 && body.contains("nothing_to_drain"), "{body}");
        assert!(port.is_ready() && !port.drain.is_on());
    }
}
