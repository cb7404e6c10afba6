//! Upgrades that are refused. Each is answered with problem+json, a code and a remedy, and hurts no neighbour.
//!
//! 1. No token, or none that is one: 401 and `WWW-Authenticate`.
//! 2. A token that nobody has, a reader's token, a token with one character changed: 401, and all look alike.
//! 3. The token of a revoked device: 403.
//! 4. No subprotocol, or unknown ones: 400 that names both known ones.
//! 5. No upgrade at all: 426. Another method: 405. Another path: 404.
//! 6. A request that is larger than any: refused, and the connection closed.
//! 7. More sessions than the feeder may have: 503 with `Retry-After`; when one ends, the next is let in.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use trough_tests::cluster::{Cluster, Options, Shape};
use trough_tests::fleet::Neighbour;
use trough_tests::poll::{SOON, ends, until};
use trough_tests::reader::client;
use trough_tests::upgrade::{Ask, Refused};
use trough_tests::wire::{Form, Wire};

fn stream(cluster: &Cluster) -> Ask {
    Ask::new(cluster.at.devices, "/v1/stream")
}

async fn refused(ask: Ask) -> Refused {
    let refused = ask.send().await.expect_err("this must be refused");
    assert!(
        refused.head.to_lowercase().contains("content-type: application/problem+json"),
        "{}",
        refused.head
    );
    assert!(!refused.detail().is_empty(), "{refused:?}");
    refused
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_tokens_are_refused_before_the_upgrade() {
    let cluster = Cluster::start(Shape::Split).await;
    let neighbour = Neighbour::start(&cluster).await;
    let token = cluster.add_device("d").await;
    let reader_token = cluster.add_reader("r", &[]).await;

    let none = refused(stream(&cluster).speaks("trough.v1")).await;
    assert_eq!((none.status, none.code()), (401, "token_missing"));
    assert!(none.head.to_lowercase().contains("www-authenticate: bearer"), "{}", none.head);
    let basic = refused(stream(&cluster).speaks("trough.v1").header("Authorization", "Basic x")).await;
    assert_eq!((basic.status, basic.code()), (401, "token_missing"));

    let last = if token.ends_with('A') { "E" } else { "A" };
    let damaged = format!("{}{last}", &token[..token.len() - 1]);
    let unknown = "tdev_000000000000_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let mut answers = Vec::new();
    for wrong in [&*damaged, unknown, &*reader_token, "nonsense"] {
        let refused = refused(stream(&cluster).speaks("trough.v1").token(wrong)).await;
        assert_eq!((refused.status, refused.code()), (401, "token_invalid"), "{wrong}");
        answers.push(refused.detail().to_owned());
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "nobody learns what was wrong with a token: {answers:?}");

    cluster.admin(&["devices", "revoke", "d"], "").await;
    let revoked = refused(stream(&cluster).speaks("trough.v1").token(&token)).await;
    assert_eq!((revoked.status, revoked.code()), (403, "token_revoked"));
    neighbour.assert_unharmed(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_are_told_what_to_do() {
    let cluster = Cluster::start(Shape::Up).await;
    let neighbour = Neighbour::start(&cluster).await;
    let token = cluster.add_device("d").await;

    for ask in [stream(&cluster), stream(&cluster).speaks("trough.v2"), stream(&cluster).speaks("mqtt, chat")]
    {
        let refused = refused(ask.token(&token)).await;
        assert_eq!((refused.status, refused.code()), (400, "unknown_subprotocol"));
        let detail = refused.detail();
        assert!(detail.contains("trough.v1 ") && detail.contains("trough.v1.json"), "{detail}");
    }

    let http = client();
    let url = |path: &str| format!("http://{}{path}", cluster.at.devices);
    let plain = http.get(url("/v1/stream")).bearer_auth(&token).send().await.unwrap();
    assert_eq!(plain.status(), 426);
    assert_eq!(plain.headers()["upgrade"], "websocket");
    assert_eq!(http.post(url("/v1/stream")).bearer_auth(&token).send().await.unwrap().status(), 405);
    assert_eq!(http.get(url("/v2/stream")).send().await.unwrap().status(), 404);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(http.get(url(path)).send().await.unwrap().status(), 200, "{path} on the devices' port");
    }

    let mut large = TcpStream::connect(cluster.at.devices).await.unwrap();
    let head = format!("GET /v1/stream HTTP/1.1\r\nHost: x\r\nX-Large: {}", "x".repeat(64 * 1024));
    // The feeder may have closed before all of it is written.
    let _ = large.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let read = ends("the feeder closes", SOON, large.read_to_end(&mut answer)).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(read.is_err() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    neighbour.assert_unharmed(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_sessions_than_allowed_are_asked_to_come_back() {
    let feeder_args = ["--sessions-max", "3"].map(str::to_owned).to_vec();
    let cluster = Cluster::start_with(Shape::Up, Options { feeder_args, ..Options::default() }).await;
    let neighbour = Neighbour::start(&cluster).await;
    let tokens = cluster.import_devices(["a", "b", "c"]).await;
    let (a, _) = Wire::begin(cluster.at.devices, Form::Binary, &tokens["a"]).await;
    let (b, _) = Wire::begin(cluster.at.devices, Form::Json, &tokens["b"]).await;
    let refused = refused(stream(&cluster).speaks("trough.v1").token(&tokens["c"])).await;
    assert_eq!((refused.status, refused.code()), (503, "too_many_sessions"));
    assert!(refused.head.to_lowercase().contains("retry-after: "), "{}", refused.head);
    a.close().await;
    until("a place is free again", SOON, async || {
        Wire::open(cluster.at.devices, Form::Binary, &tokens["c"]).await.ok()
    })
    .await;
    b.close().await;
    neighbour.assert_unharmed(&cluster).await;
}
