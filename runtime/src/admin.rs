//! The admin port: `/metrics`, `/healthz`, `/readyz`, `/drain`. Plain HTTP, for the inside of a cluster.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::FullResponse;
use crate::accept::accept_loop;
use crate::drain::{self, Drain};
use crate::health::Health;
use crate::metrics::{self, Metrics};
use crate::problem::Problem;
use crate::shutdown::Shutdown;

/// Most connections at a time; further ones are closed at once.
const CONNECTIONS_MAX: usize = 64;
/// A request head must be complete after this.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection, which carries one request, must be over after this.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);
/// Largest request head, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Serves the admin port until `shutdown.killed`: a draining process still answers its probes and shows its
/// metrics. Spawn it untracked, or the shutdown would wait for it until the grace is over.
///
/// Cancel-safe: dropping the future closes the listener; connections being answered end within 15 s.
pub async fn serve_admin(listener: TcpListener, metrics: Metrics, health: Health, shutdown: Shutdown) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let port = Port { metrics, health, drain: shutdown.drain.clone() };
    accept_loop(listener, &shutdown, Duration::MAX, |stream, peer| {
        let Ok(permit) = permits.clone().try_acquire_owned() else {
            tracing::debug!(%peer, limit = CONNECTIONS_MAX, "too many connections to the admin port, closing this one");
            return;
        };
        let (port, killed) = (port.clone(), shutdown.killed.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = serve_connection(stream, peer, port) => {}
                () = killed.cancelled() => {}
                () = tokio::time::sleep(CONNECTION_TIMEOUT) => {}
            }
            drop(permit);
        });
    })
    .await;
}

/// What is asked for.
#[derive(Clone)]
struct Port {
    metrics: Metrics,
    health: Health,
    drain: Drain,
}

async fn serve_connection(stream: TcpStream, peer: SocketAddr, port: Port) {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let response = answer(&request, peer, &port);
        async move { Ok::<_, Infallible>(response) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "admin connection ended early");
    }
}

fn answer<B>(request: &Request<B>, peer: SocketAddr, port: &Port) -> FullResponse {
    if let Some(response) = port.health.answer(request) {
        return response;
    }
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => encode(&port.metrics),
        (_, drain::PATH) => port.drain.answer(request, peer, &port.health),
        (_, path) => Problem::no_such_path(path).to_response(),
    }
}

fn encode(metrics: &Metrics) -> FullResponse {
    match metrics.encode() {
        Ok(text) => {
            let mut response = Response::new(Full::new(Bytes::from(text)));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
            response
        }
        Err(_) => {
            let detail = "a metric could not be written as text; please report this";
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "metrics_unwritable", detail).to_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn get(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn answers_its_paths_even_while_draining() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Metrics::new(metrics::new_registry("0.0.0", &Clock::system()));
        let (health, shutdown) = (Health::new(), Shutdown::new(Duration::from_secs(1)));
        let server = tokio::spawn(serve_admin(listener, metrics, health.clone(), shutdown.clone()));
        health.set_ready();
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        shutdown.begin();
        health.set_draining();
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 503"));
        let text = get(address, "/metrics").await;
        assert!(text.contains(metrics::CONTENT_TYPE) && text.contains("trough_build_info"), "{text}");
        assert!(get(address, "/secret").await.contains("no_such_path"));
        assert!(shutdown.finish().await.is_clean());
        server.await.unwrap();
    }
}
