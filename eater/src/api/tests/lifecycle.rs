//! Health, draining, limits of connections.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::{SOON, Server, TS, eventually, text_frame};
use crate::api::ApiLimits;
use crate::api::reads::ReadKind;

#[tokio::test]
async fn health_answers_on_this_port_without_a_token() {
    let server = Server::start().await;
    assert_eq!(server.get("/readyz").send().await.status, 503);
    server.health.set_ready();
    assert_eq!(server.get("/readyz").send().await.status, 200);
    assert_eq!(server.get("/healthz").send().await.status, 200);
    server.health.set_draining();
    assert_eq!(server.get("/readyz").send().await.status, 503);
}

#[tokio::test]
async fn draining_ends_idle_connections_and_lets_answers_end() {
    let mut server = Server::start().await;
    let token = server.device_and_reader("bus-1").await;
    let text = "x".repeat(1000);
    let frames = vec![text_frame(TS, "c", &text); 3000];
    for batch in 0..8 {
        server.write("bus-1", 1, batch * 3000 + 1, &frames).await;
    }
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = vec![0; 1000];
    assert!(idle.read(&mut answer).await.unwrap() > 0);
    let busy =
        server.get("/v1/devices/bus-1/frames").token(&token).header("accept", "text/csv").begin().await;
    server.shutdown.begin();
    let closed = tokio::time::timeout(SOON, idle.read(&mut answer)).await.expect("closed in time");
    assert_eq!(closed.unwrap(), 0);

    // New connections are still served for a while, for one request.
    let late = server.get("/v1/devices").token(&token).send().await;
    assert_eq!((late.status.as_u16(), late.header("connection")), (200, "close"));

    let body = http_body_util::BodyExt::collect(busy.into_body()).await.expect("a whole body").to_bytes();
    assert_eq!(body.iter().filter(|b| **b == b'\n').count(), 24_001);
    let Server { shutdown, served, .. } = server;
    assert!(shutdown.finish().await.is_clean());
    tokio::time::timeout(SOON, served).await.expect("serve returns").unwrap();
}

#[tokio::test]
async fn answers_that_do_not_end_are_cut_by_the_drain() {
    let limits = ApiLimits { drain: Duration::from_millis(100), ..ApiLimits::default() };
    let mut server = Server::with(limits).await;
    let token = server.device_and_reader("bus-1").await;
    let text = "x".repeat(1000);
    let frames = vec![text_frame(TS, "c", &text); 3000];
    for batch in 0..8 {
        server.write("bus-1", 1, batch * 3000 + 1, &frames).await;
    }
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "GET /v1/devices/bus-1/frames HTTP/1.1\r\nHost: x\r\nAccept: text/csv\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    eventually("the stream began", || server.metrics.reads_of(ReadKind::Streams).get() == 1).await;
    let outcome = server.shutdown.clone().finish().await;
    assert!(outcome.is_clean(), "{outcome:?}");
    eventually("its place is free", || server.metrics.reads_of(ReadKind::Streams).get() == 0).await;
}

#[tokio::test]
async fn connections_are_counted_and_slow_heads_cut() {
    let limits =
        ApiLimits { connections_max: 2, head_timeout: Duration::from_millis(200), ..ApiLimits::default() };
    let server = Server::with(limits).await;
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(b"GET /healthz HTTP/1.1\r\nHo").await.unwrap();
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    eventually("both are open", || server.metrics.connections.get() == 2).await;
    let mut third = TcpStream::connect(server.address).await.unwrap();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(SOON, third.read_to_end(&mut rest)).await.expect("closed at once");
    assert!(ended.is_err() || rest.is_empty());
    assert_eq!(server.metrics.connections_refused.get(), 1);
    for waiting in [&mut slow, &mut silent] {
        let mut rest = Vec::new();
        tokio::time::timeout(SOON, waiting.read_to_end(&mut rest)).await.expect("cut in time").unwrap();
    }
    eventually("both are closed", || server.metrics.connections.get() == 0).await;
    assert_eq!(server.get("/healthz").send().await.status, 200);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let server = Server::start().await;
    let reply = server.get("/v1/devices").header("x-long", &"x".repeat(20_000)).send().await;
    assert_eq!(reply.status, 431);
}
