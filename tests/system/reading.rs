//! Readers, while frames arrive.
//!
//! 1. A reader follows a device by cursor while it sends: it sees each frame once, in order.
//! 2. Cursors stay valid over a kill of the server.
//! 3. A reader of one group sees the devices of that group, and others are to it as if they did not exist.
//! 4. A revoked reader is refused from the next half second on; its name may be used again.
//! 5. `trough tail` prints what comes; `trough send` sends what it is given, once, also when it is run again.

use std::process::Stdio;

use serde_json::Value;
use trough_device::Mode;
use trough_tests::admin::run;
use trough_tests::cluster::{Cluster, Shape};
use trough_tests::data;
use trough_tests::fleet::Fleet;
use trough_tests::ledger::Track;
use trough_tests::poll::{LATER, SOON, ends, until};
use trough_tests::process::{Process, command};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cursors_miss_nothing_while_frames_arrive() {
    let mut cluster = Cluster::start(Shape::Up).await;
    let longest = data::buses().into_iter().max_by_key(|track| track.sent.len()).unwrap();
    let (device, count) = (longest.device.clone(), longest.sent.len());
    let mut fleet = Fleet::start(&cluster, vec![longest], Mode::Json).await;
    let (mut read, mut query, mut pages) = (Vec::new(), "limit=7".to_owned(), 0);
    while read.len() < count {
        pages += 1;
        fleet.let_go(pages * 1000 / 40);
        if pages == 20 {
            let role = cluster.front();
            cluster.kill(role);
            cluster.spawn(role);
            cluster.ready().await;
        }
        let page = cluster.reader().page(&device, &query).await;
        assert!(page.frames.len() <= 7);
        read.extend(page.frames);
        if let Some(cursor) = page.next.or(page.resume) {
            query = format!("limit=7&cursor={cursor}");
        }
        assert!(pages < 100_000, "it comes to an end");
    }
    fleet.finish().await;
    fleet.tracks[0].assert_read(1, &read);
    assert!(cluster.reader().page(&device, &query).await.frames.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_their_groups_only() {
    let cluster = Cluster::start(Shape::Split).await;
    cluster.admin(&["devices", "add", "n1", "--group", "north"], "").await;
    cluster.admin(&["devices", "add", "s1", "--group", "south"], "").await;
    cluster.add_device("alone").await;
    let token = cluster.add_reader("northern", &["north"]).await;
    let northern = cluster.reader().with_token(&token);
    let status = async |path: &str| northern.get(path, "application/json").await.unwrap().status().as_u16();
    assert_eq!(status("/v1/devices/n1/frames").await, 200);
    for path in ["/v1/devices/s1", "/v1/devices/s1/frames", "/v1/devices/alone/gaps", "/v1/devices/nobody"] {
        assert_eq!(status(path).await, 404, "{path}");
    }
    let listed = northern.get("/v1/devices", "application/json").await.unwrap().text().await.unwrap();
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["devices"].as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(listed["devices"][0]["id"], "n1");

    let first = northern.get("/v1/devices/n1/frames", "application/json").await.unwrap();
    assert!(first.headers().contains_key("x-request-id") && first.headers().contains_key("etag"));

    cluster.admin(&["readers", "revoke", "northern"], "").await;
    until("the revoked reader is refused", SOON, async || (status("/v1/devices").await == 401).then_some(()))
        .await;
    let again = cluster.add_reader("northern", &["north"]).await;
    let again = cluster.reader().with_token(&again).get("/v1/devices", "application/json").await.unwrap();
    assert_eq!(again.status(), 200);
    assert_eq!(status("/v1/devices").await, 401, "the old token stays revoked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn send_and_tail() {
    let cluster = Cluster::start(Shape::Up).await;
    let token = cluster.add_device("lines").await;
    let reader_token = cluster.add_reader("tailer", &[]).await;
    let log = cluster.path().join("tail.out");
    let mut tail = command();
    tail.args(["tail", "lines", "--from", "start", "--api", &format!("http://{}", cluster.at.api)]);
    tail.env("TROUGH_READER_TOKEN", &reader_token).stdin(Stdio::null());
    let tail = Process::spawn("tail", &mut tail, &log);

    let state = cluster.path().join("send.state").display().to_string();
    let lines: Vec<String> = (1..=500).map(|n| format!("line {n} ü")).collect();
    for (upto, which) in [(300, "first"), (300, "repeated"), (500, "longer")] {
        let mut send = command();
        send.args(["send", "--url", &cluster.url(), "--state", &state]).env("TROUGH_DEVICE_TOKEN", &token);
        let input = lines[..upto].join("\n") + "\n";
        let sent = ends("send ends", LATER, run(send, &input)).await;
        assert!(sent.status.success(), "{which}: {}", String::from_utf8_lossy(&sent.stderr));
    }
    let read = cluster.reader().frames("lines").await;
    let texts: Vec<String> =
        read.iter().map(|frame| String::from_utf8(frame.payload.clone()).unwrap()).collect();
    assert_eq!(texts, lines);

    let printed = until("tail has printed all lines", LATER, async || {
        let printed = tail.log();
        (printed.lines().count() >= lines.len()).then_some(printed)
    })
    .await;
    let printed: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let texts: Vec<&str> = printed.iter().map(|frame| frame["text"].as_str().unwrap()).collect();
    assert_eq!(texts, lines);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_track_read_backwards_is_the_same_track() {
    let cluster = Cluster::start(Shape::Up).await;
    let track: Track = data::gpsd().into_iter().max_by_key(|track| track.sent.len()).unwrap();
    let mut fleet = Fleet::start(&cluster, vec![track], Mode::Binary).await;
    fleet.finish().await;
    let track = &fleet.tracks[0];
    let mut read = cluster.reader().frames_falling(&track.device, 1000).await;
    read.reverse();
    track.assert_read(1, &read);
}
