//! Links with other releases, and with what is no Trough at all. A neighbour's link notices nothing.
//!
//! 1. A feeder that also speaks later versions is welcomed in the one that both speak; members that a later release
//!    appended are ignored.
//! 2. A feeder whose versions are all later, or all earlier: GOAWAY that names both ranges.
//! 3. A damaged FEED of several devices: GOAWAY (it is sent again); of one device alone: REJECT (it is not). Neither
//!    is stored, and what came before is.
//! 4. A wrong order: no HELLO, a batch number twice or too high, a message that only eaters send: GOAWAY.
//! 5. Garbage, and a length of 4 GiB: GOAWAY or the end, and no memory for it.
//! 6. An eater of an unknown version, one that says GOAWAY with both ranges, one that acknowledges what was never
//!    sent, and one that is no eater: the feeder goes on trying, says why in its log and in `/readyz`, and refuses
//!    devices with 503 meanwhile.

use rand::RngCore;
use tokio::net::TcpListener;
use trough_protocol::LinkId;
use trough_protocol::batch::BatchBuilder;
use trough_protocol::frame::check_frames;
use trough_protocol::link::{LinkCode, LinkMessage, Versions, feed_header};
use trough_protocol::{DeviceId, Epoch, Seq};
use trough_tests::cluster::{Cluster, Options, Role, Shape};
use trough_tests::fleet::Neighbour;
use trough_tests::peer::{Heard, Peer, append_to_message, batch, hello};
use trough_tests::poll::{SOON, ends, until};
use trough_tests::seed;
use trough_tests::wire::{Form, Wire, encode_frames};

async fn goaway(peer: &mut Peer) -> (&'static str, String) {
    match peer.hear().await {
        Heard::Goaway { code, text } => (code, text),
        other => panic!("a GOAWAY was due: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_are_negotiated_or_named() {
    let cluster = Cluster::start(Shape::Split).await;
    let neighbour = Neighbour::start(&cluster).await;
    let at = cluster.at.links;
    cluster.add_device("d").await;

    let mut later = Peer::connect(at).await;
    later.put(&append_to_message(&hello(Versions { min: 1, max: 9 }), b"what version 9 needs")).await;
    let Heard::Welcome { version: 1, .. } = later.hear().await else {
        panic!("version 1 is what both speak")
    };
    later.put(&append_to_message(&LinkMessage::Ping { nonce: 7 }, b"later")).await;
    assert_eq!(later.hear().await, Heard::Pong(7));
    later.say(&LinkMessage::Feed { number: 1, batch: &batch("d", 1, &[b"by a later feeder"]) }).await;
    later.ate(1).await;
    assert_eq!(cluster.reader().frames("d").await.len(), 1);

    for (min, max) in [(2, 9), (0, 0)] {
        let mut stranger = Peer::greet(at, Versions { min, max }).await;
        let (code, text) = goaway(&mut stranger).await;
        assert_eq!(code, "version");
        assert!(
            text.contains("1 to 1") && text.contains(&format!("{min} to {max}")),
            "it names both: {text}"
        );
        assert_eq!(stranger.hear().await, Heard::End);
    }
    neighbour.assert_unharmed(&cluster).await;
}

/// A batch of two devices.
fn two_devices(first: u64) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for device in ["a", "b"] {
        let data = encode_frames(first, &[b"payload"]);
        let summary = check_frames(&data, 1024).unwrap();
        builder.push_frames(&DeviceId::new(device).unwrap(), Epoch(1), Seq(first), summary, &data);
    }
    let (head, data) = builder.finish();
    [head, data].concat()
}

/// Sends a batch as it is, good or not.
async fn feed(peer: &mut Peer, number: u64, batch: &[u8]) {
    peer.put(&[&feed_header(number, batch.len())[..], batch].concat()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_batches_are_not_stored() {
    let cluster = Cluster::start(Shape::Split).await;
    let neighbour = Neighbour::start(&cluster).await;
    cluster.import_devices(["a", "b"]).await;
    let good = two_devices(1);
    let mut next = two_devices(2);
    *next.last_mut().unwrap() ^= 1;
    let (mut peer, _) = Peer::up(cluster.at.links).await;
    feed(&mut peer, 1, &good).await;
    feed(&mut peer, 2, &next).await;
    peer.ate(1).await;
    assert_eq!(goaway(&mut peer).await.0, "damaged");

    let mut alone = batch("a", 2, &[b"alone"]);
    *alone.last_mut().unwrap() ^= 1;
    let (mut peer, _) = Peer::up(cluster.at.links).await;
    feed(&mut peer, 1, &alone).await;
    assert_eq!(peer.hear().await, Heard::Reject { number: 1, code: "damaged" });
    goaway(&mut peer).await;
    for device in ["a", "b"] {
        assert_eq!(cluster.reader().frames(device).await.len(), 1, "the good batch and nothing else");
    }
    neighbour.assert_unharmed(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_out_of_order_ends_the_link() {
    let mut cluster = Cluster::start(Shape::Split).await;
    let neighbour = Neighbour::start(&cluster).await;
    let at = cluster.at.links;
    let before = cluster.rss_bytes(Role::Eater(0));
    cluster.add_device("d").await;
    let one = batch("d", 1, &[b"one"]);

    let mut rude = Peer::connect(at).await;
    feed(&mut rude, 1, &one).await;
    assert_eq!(goaway(&mut rude).await.0, "protocol");
    for number in [0, 2, u64::MAX] {
        let (mut peer, _) = Peer::up(at).await;
        feed(&mut peer, number, &one).await;
        let (code, text) = goaway(&mut peer).await;
        assert!(code == "protocol" && text.contains("1 was due"), "{code} {text}");
    }
    let (mut peer, _) = Peer::up(at).await;
    peer.say(&LinkMessage::Ate { number: 1 }).await;
    assert_eq!(goaway(&mut peer).await.0, "protocol");

    let mut rng = seed::rng("link garbage");
    for length in [1_usize, 9, 64, 4096] {
        let mut garbage = vec![0; length];
        rng.fill_bytes(&mut garbage);
        let mut peer = Peer::connect(at).await;
        peer.put(&garbage).await;
        peer.put(&[0xff; 16]).await;
        assert!(matches!(peer.hear().await, Heard::Goaway { .. } | Heard::End));
    }
    let (mut peer, _) = Peer::up(at).await;
    peer.put(&[0xff, 0xff, 0xff, 0xff, 3, 0, 0, 0, 0]).await;
    let (code, text) = goaway(&mut peer).await;
    assert!(code == "protocol" && text.contains("4294967295"), "{code} {text}");

    // One that connects and says nothing is given up.
    let mut silent = Peer::connect(at).await;
    assert_eq!(silent.hear().await, Heard::End);
    let grown = cluster.rss_bytes(Role::Eater(0)).saturating_sub(before);
    assert!(grown < 32 << 20, "the eater grew by {grown} bytes");
    assert_eq!(cluster.reader().frames("d").await.len(), 0);
    neighbour.assert_unharmed(&cluster).await;
}

/// A feeder whose eater is played by the test.
async fn feeder_of(eater: &TcpListener) -> (Cluster, String) {
    let options = Options { eater: Some(eater.local_addr().unwrap()), ..Options::default() };
    let mut cluster = Cluster::prepare(Shape::Split, options).await;
    let token = cluster.add_device("d").await;
    cluster.spawn(Role::Feeder(0));
    (cluster, token)
}

async fn accept(eater: &TcpListener) -> Peer {
    let (stream, _) = ends("the feeder connects", SOON, eater.accept()).await.unwrap();
    let mut peer = Peer::new(stream);
    assert_eq!(peer.hear().await, Heard::Hello(Versions::OURS));
    peer
}

fn welcome(version: u16) -> LinkMessage<'static> {
    LinkMessage::Welcome { version, eater: LinkId([9; 16]), credit: 16 << 20, software: "a test".into() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feeder_survives_every_eater() {
    let eater = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (mut cluster, token) = feeder_of(&eater).await;
    // Which shard's link it is does not matter: each is led astray in turn.
    for round in 0..4 {
        let mut peer = accept(&eater).await;
        match round {
            0 => peer.say(&welcome(9)).await,
            1 => {
                let text = Versions { min: 8, max: 9 }.negotiate(Versions::OURS).unwrap_err();
                let (code, retry_after_ms) = (LinkCode::VERSION, 100);
                peer.say(&LinkMessage::Goaway { code, retry_after_ms, text }).await;
            }
            2 => peer.put(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await,
            _ => {
                peer.say(&welcome(1)).await;
                peer.say(&LinkMessage::Ate { number: 5 }).await;
            }
        }
        let parting = peer.hear().await;
        assert!(matches!(parting, Heard::Goaway { .. } | Heard::End), "round {round}: {parting:?}");
    }
    let degraded = until("the feeder says what is wrong", SOON, async || {
        let (status, body) = cluster.readiness(Role::Feeder(0)).await?;
        assert_eq!(status, 200);
        body["degraded"].as_array()?.iter().find(|part| part["part"] == "eater").cloned()
    })
    .await;
    assert!(degraded["reason"].as_str().unwrap().contains("no link to"), "{degraded}");
    // A link of another shard may have said its own word meanwhile: each reason is logged when its link has ended.
    until("the log names both ranges", SOON, async || {
        let log = cluster.all_logs();
        (log.contains("8 to 9") && log.contains("1 to 1")).then_some(())
    })
    .await;
    let refused = Wire::open(cluster.at.devices, Form::Binary, &token).await.unwrap_err();
    assert_eq!((refused.status, refused.code()), (503, "no_eater"));
    assert!(!cluster.process(Role::Feeder(0)).has_ended());
}
