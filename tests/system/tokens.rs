//! Tokens while sessions run.
//!
//! 1. A device is revoked in mid-session, by another process: its session ends with 4300 within a second or two, what
//!    it had acknowledged stays readable, and its neighbour streams on.
//! 2. A token is rotated with the old one kept: both work; without: the session of the old one ends.
//! 3. No token, of any kind, stands in any log of any process, also at the most talkative level.

use std::time::Instant;

use trough_tests::admin::run;
use trough_tests::cluster::{Cluster, Shape};
use trough_tests::fleet::Neighbour;
use trough_tests::process::command;
use trough_tests::wire::{Form, Wire};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_device_is_closed_in_mid_session() {
    for shape in [Shape::Up, Shape::Split] {
        let cluster = Cluster::start(shape).await;
        let neighbour = Neighbour::start(&cluster).await;
        let token = cluster.add_device("bad").await;
        let (mut wire, _) = Wire::begin(cluster.at.devices, Form::Binary, &token).await;
        wire.frames(1, &[b"before"]).await;
        wire.acked(1).await;
        cluster.admin(&["devices", "revoke", "bad"], "").await;
        let revoked = Instant::now();
        let (code, reason, _) = wire.closed().await;
        assert_eq!(code, 4300, "{reason}");
        println!("closed {:?} after the revocation", revoked.elapsed());
        let refused = Wire::open(cluster.at.devices, Form::Binary, &token).await.unwrap_err();
        assert_eq!(refused.status, 403);
        assert_eq!(cluster.reader().frames("bad").await.len(), 1, "its frames stay");
        neighbour.assert_unharmed(&cluster).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_token() {
    let cluster = Cluster::start(Shape::Up).await;
    let old = cluster.add_device("d").await;
    let new = cluster.admin(&["devices", "rotate", "d", "--keep-old", "3600"], "").await;
    for token in [&old, &new] {
        Wire::begin(cluster.at.devices, Form::Binary, token).await.0.close().await;
    }
    let (mut wire, _) = Wire::begin(cluster.at.devices, Form::Binary, &new).await;
    let newest = cluster.admin(&["devices", "rotate", "d"], "").await;
    let (code, reason, _) = wire.closed().await;
    assert_eq!(code, 4300, "{reason}");
    for token in [&old, &new] {
        assert_eq!(Wire::open(cluster.at.devices, Form::Binary, token).await.unwrap_err().status, 403);
    }
    Wire::begin(cluster.at.devices, Form::Binary, &newest).await.0.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_is_ever_logged() {
    let mut cluster = Cluster::prepare(Shape::Split, Default::default()).await;
    cluster.log_filter = "trace".into();
    for role in cluster.roles() {
        cluster.spawn(role);
    }
    cluster.ready().await;
    let device = cluster.add_device("d").await;
    let lax = cluster.admin(&["devices", "add", "lax", "--token-in-url"], "").await;
    let reader = cluster.add_reader("r", &[]).await;

    // Good and bad uses of each.
    Wire::begin(cluster.at.devices, Form::Json, &device).await.0.close().await;
    let query = |token: &str| format!("/v1/stream?access_token={token}");
    for token in [&device, &lax, &reader] {
        let ask = trough_tests::upgrade::Ask::new(cluster.at.devices, &query(token)).speaks("trough.v1");
        drop(ask.send().await);
        let ask = trough_tests::upgrade::Ask::new(cluster.at.devices, "/v1/nowhere").token(token);
        drop(ask.send().await);
        let here = cluster.reader().with_token(token);
        for path in
            ["/v1/devices".to_owned(), "/v1/devices/d/frames".into(), format!("/v1/devices?token={token}")]
        {
            here.get(&path, "application/json").await.unwrap();
        }
    }
    let mut send = command();
    send.args(["--log", "trace", "send", "--url", &cluster.url()]).env("TROUGH_DEVICE_TOKEN", &device);
    let sent = run(send, "a line\n").await;
    let told = String::from_utf8_lossy(&sent.stderr).into_owned();
    assert!(sent.status.success(), "{told}");

    let logs = cluster.all_logs() + &told;
    assert!(logs.len() > 1000, "there is something to look through");
    for token in [&device, &lax, &reader] {
        // Its id may be logged, its secret may not.
        let secret = &token[18..];
        assert!(!logs.contains(secret), "a token was logged");
    }
}
