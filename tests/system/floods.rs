//! Connections that come to stay and say nothing, or too little.
//!
//! 1. 10,000 connections that say nothing: they cost little memory, a neighbour streams on, and each is closed when
//!    its time for a request is over.
//! 2. A thousand requests whose headers come byte by byte: closed when their time is over, though they never cease.
//! 3. A thousand sessions without a hello: each ends with 4001.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use trough_tests::cluster::{Cluster, Shape};
use trough_tests::fleet::Neighbour;
use trough_tests::poll::{LATER, ends};
use trough_tests::wire::{Form, Wire};

const CONNECTIONS: usize = 10_000;
/// A session that is used for nothing may cost this much, in bytes, and a connection that says nothing less.
const BYTES_PER_CONNECTION: u64 = 16 * 1024;

/// Raises the limit of open files as far as it goes; gives how many connections that leaves.
fn connections_possible() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).unwrap();
    let limit = limit.maximum.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap());
    limit.saturating_sub(512).min(CONNECTIONS)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_connections_that_say_nothing() {
    let mut cluster = Cluster::start(Shape::Up).await;
    let neighbour = Neighbour::start(&cluster).await;
    let count = connections_possible();
    if count < CONNECTIONS {
        println!("the limit of open files allows {count} connections instead of {CONNECTIONS}");
    }
    let role = cluster.front();
    let before = cluster.rss_bytes(role);
    let mut silent = Vec::with_capacity(count);
    while silent.len() < count {
        let some = (count - silent.len()).min(250);
        let connecting: FuturesUnordered<_> =
            (0..some).map(|_| TcpStream::connect(cluster.at.devices)).collect();
        silent.extend(connecting.map(Result::unwrap).collect::<Vec<_>>().await);
        neighbour.goes_on(1).await;
    }
    let grown = cluster.rss_bytes(role).saturating_sub(before);
    println!("{count} silent connections: {} bytes each", grown / count as u64);
    assert!(grown < count as u64 * BYTES_PER_CONNECTION, "{grown} bytes for {count} connections");
    neighbour.goes_on(10).await;

    ends("every silent connection is closed", LATER, async {
        for mut stream in silent {
            // Closed or reset, but not answered.
            assert_eq!(stream.read(&mut [0; 64]).await.unwrap_or(0), 0);
        }
    })
    .await;
    neighbour.assert_unharmed(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_never_end() {
    let mut cluster = Cluster::start(Shape::Up).await;
    let neighbour = Neighbour::start(&cluster).await;
    let role = cluster.front();
    let before = cluster.rss_bytes(role);
    let mut slow = JoinSet::new();
    for _ in 0..1000 {
        let mut stream = TcpStream::connect(cluster.at.devices).await.unwrap();
        slow.spawn(async move {
            stream.write_all(b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nX-Slow: ").await.unwrap();
            let mut answer = Vec::new();
            loop {
                tokio::select! {
                    read = stream.read_buf(&mut answer) => if read.unwrap_or(0) == 0 { return answer },
                    () = tokio::time::sleep(Duration::from_millis(500)) => {
                        if stream.write_all(b"x").await.is_err() {
                            return answer;
                        }
                    }
                }
            }
        });
    }
    neighbour.goes_on(10).await;
    let grown = cluster.rss_bytes(role).saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes for 1000 slow requests");
    ends("every slow request is closed", LATER, async {
        while let Some(answer) = slow.join_next().await {
            let answer = String::from_utf8(answer.unwrap()).unwrap();
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
        }
    })
    .await;
    neighbour.assert_unharmed(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_sessions_without_a_hello() {
    let mut cluster = Cluster::start(Shape::Split).await;
    let neighbour = Neighbour::start(&cluster).await;
    let ids: Vec<String> = (0..1000).map(|n| format!("mute-{n}")).collect();
    let tokens = cluster.import_devices(ids.iter().map(String::as_str)).await;
    let role = cluster.front();
    let before = cluster.rss_bytes(role);
    let mut sessions = JoinSet::new();
    for (n, id) in ids.iter().enumerate() {
        let form = if n % 2 == 0 { Form::Binary } else { Form::Json };
        let mut wire = Wire::open(cluster.at.devices, form, &tokens[id]).await.unwrap();
        sessions.spawn(async move { wire.closed().await });
    }
    let grown = cluster.rss_bytes(role).saturating_sub(before);
    println!("1000 mute sessions: {} bytes each", grown / 1000);
    assert!(grown < 1000 * BYTES_PER_CONNECTION + (8 << 20), "{grown} bytes for 1000 mute sessions");
    neighbour.goes_on(10).await;
    while let Some(closed) = sessions.join_next().await {
        let (code, reason, _) = closed.unwrap();
        assert_eq!(code, 4001, "{reason}");
    }
    neighbour.assert_unharmed(&cluster).await;
}
