//! Somebody stops reading. Nothing is acknowledged early, memory stays bounded, and when it goes on, all goes on.
//!
//! 1. The eater stops (SIGSTOP) while devices stream: acks cease, the devices' buffers fill, the feeder's memory
//!    stays bounded, readiness names the eater. It goes on (SIGCONT): everything is acknowledged and readable once.
//! 2. The eater is killed with frames in flight: the device is told to rewind. A right echo goes on from there; a
//!    wrong one is closed with 4405; what was sent before the echo is discarded.
//! 3. A device never reads its acks: it is closed (4002) after 30 s, and the feeder's memory stays bounded.

use std::time::Duration;

use tokio_tungstenite::tungstenite::Message;
use trough_device::Mode;
use trough_protocol::Seq;
use trough_protocol::device::{ClientMessage, ServerMessage, json};
use trough_tests::cluster::{Cluster, Role, Shape};
use trough_tests::fleet::{Fleet, Neighbour};
use trough_tests::ledger::{Sent, Track, assert_all_readable};
use trough_tests::poll::{LATER, SOON, until};
use trough_tests::upgrade::Ask;
use trough_tests::wire::{Form, Said, Wire, encode_frames};

/// Devices with 4 MiB each: far more than the feeder and the client may hold.
fn heavy_tracks() -> Vec<Track> {
    let sent = |device: usize| {
        let payload = |seq: usize| format!("{device}/{seq} {}", "x".repeat(16 * 1024)).into_bytes();
        (1..=256).map(|seq| Sent::on_wire(seq as u64, &payload(seq))).collect()
    };
    (0..20).map(|device| Track { device: format!("heavy-{device}"), sent: sent(device) }).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_eater_slows_devices_down() {
    let mut cluster = Cluster::start(Shape::Split).await;
    let mut fleet = Fleet::start(&cluster, heavy_tracks(), Mode::Binary).await;
    fleet.let_go(100);
    until("all devices have frames acknowledged", SOON, async || {
        fleet.devices.iter().all(|device| device.acked().0 > 0).then_some(())
    })
    .await;
    let before = cluster.rss_bytes(Role::Feeder(0));
    cluster.process(Role::Eater(0)).stop();
    fleet.let_go(1000);

    // What was on its way back may still arrive; then there is silence.
    until("readiness names the eater", SOON, async || {
        let (status, body) = cluster.readiness(Role::Feeder(0)).await?;
        assert_eq!(status, 200, "a missing eater does not take the feeder out of service");
        body["degraded"].as_array()?.iter().any(|part| part["part"] == "eater").then_some(())
    })
    .await;
    let acked = fleet.acked();
    until("the devices' buffers are full", LATER, async || {
        fleet.devices.iter().all(|device| device.buffered_bytes() > 900 * 1024).then_some(())
    })
    .await;
    assert_eq!(fleet.acked(), acked, "nothing is acknowledged while nothing can be stored");
    let grown = cluster.rss_bytes(Role::Feeder(0)).saturating_sub(before);
    // A window of 256 KiB for each, and what the allocator keeps.
    assert!(grown < 64 << 20, "the feeder grew by {grown} bytes");

    cluster.process(Role::Eater(0)).resume();
    fleet.finish().await;
    cluster.ready().await;
    assert_all_readable(&cluster.reader(), &fleet.tracks).await;
}

/// A session that is told to rewind to frame 2: the eater dies while it holds frame 2.
async fn rewound(cluster: &mut Cluster, token: &str) -> Wire {
    let (mut wire, _) = Wire::begin(cluster.at.devices, Form::Binary, token).await;
    wire.frames(1, &[b"one"]).await;
    wire.acked(1).await;
    cluster.process(Role::Eater(0)).stop();
    wire.frames(2, &[b"two"]).await;
    until("the frame is on its way", SOON, async || {
        (cluster.metric(Role::Feeder(0), "trough_feeder_in_flight_bytes").await > 0.0).then_some(())
    })
    .await;
    cluster.kill(Role::Eater(0));
    cluster.spawn(Role::Eater(0));
    assert_eq!(wire.hear().await, Said::Message(ServerMessage::Rewind(Seq(2))));
    wire
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_link_rewinds_what_was_in_flight() {
    let mut cluster = Cluster::start(Shape::Split).await;
    let tokens = cluster.import_devices(["right", "wrong"]).await;
    let mut wire = rewound(&mut cluster, &tokens["right"]).await;
    // Sent before the echo: discarded, though its number is too high.
    wire.frames(3, &[b"three, too early"]).await;
    wire.say(&ClientMessage::Rewind(Seq(2))).await;
    wire.frames(2, &[b"two", b"three"]).await;
    wire.acked(3).await;
    wire.close().await;
    let sent = [&b"one"[..], b"two", b"three"];
    let sent = (1..).zip(sent).map(|(seq, payload)| Sent::on_wire(seq, payload)).collect();
    Track { device: "right".into(), sent }.assert_readable(&cluster.reader(), 1).await;
    cluster.ready().await;

    let mut wire = rewound(&mut cluster, &tokens["wrong"]).await;
    wire.say(&ClientMessage::Rewind(Seq(3))).await;
    let (code, reason, _) = wire.closed().await;
    assert_eq!(code, 4405, "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_never_reads_its_acks_is_closed() {
    let mut cluster = Cluster::start(Shape::Up).await;
    let neighbour = Neighbour::start(&cluster).await;
    let token = cluster.add_device("deaf").await;
    let role = cluster.front();
    let before = cluster.rss_bytes(role);
    // The readable form has longer acks. The room for them must not grow.
    let ask = Ask::new(cluster.at.devices, "/v1/stream").token(&token).speaks("trough.v1.json");
    let mut wire = Wire::from_socket(ask.receive_buffer(64 * 1024).send().await.unwrap(), Form::Json);
    wire.hello(trough_protocol::device::Hello::NEW).await;
    let mut socket = wire.into_socket();
    // One frame at a time, so that each has its own ack, until the feeder has had enough.
    let sender = tokio::spawn(async move {
        use futures_util::SinkExt as _;
        for seq in 1.. {
            let data = encode_frames(seq, &[b"x"]);
            let text = json::encode_client(&ClientMessage::Frames { first: Seq(seq), data: &data }).unwrap();
            if socket.send(Message::text(text)).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    until("the feeder closes the session", LATER * 2, async || {
        let ends = cluster.session_ends("deaf");
        // Where the device's own system drops what it has no room for, nothing gets through to the feeder either.
        ends.first().map(|end| assert!(matches!(&**end, "slow_reader" | "pong_timeout"), "{end}"))
    })
    .await;
    let grown = cluster.rss_bytes(role).saturating_sub(before);
    assert!(grown < 64 << 20, "it grew by {grown} bytes");
    sender.abort();
    neighbour.assert_unharmed(&cluster).await;
}
