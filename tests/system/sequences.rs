//! Sessions that break the protocol. Each is closed with its documented code, what was acknowledged before stays,
//! and a neighbour notices nothing.
//!
//! 1. A jump in seq without a SKIP: 4402. With a SKIP it is taken, and `/gaps` shows the reason.
//! 2. A seq that was sent before: 4403.
//! 3. A payload over the limit: 4401. A message over the limit: 4401.
//! 4. Text where binary is due, and the reverse: 4404.
//! 5. Frames before the hello, a second hello, an echo of a rewind that was not said: 4405.
//! 6. No hello: 4001.
//! 7. Bytes that are no message, made from good ones by a seeded mutator: 4400 to 4405, never without a close frame.
//! 8. Numbers beyond 2^53 − 1: 4400.

use rand::Rng;
use tokio_tungstenite::tungstenite::Message;
use trough_protocol::device::{ClientMessage, Hello, Skip, SkipReason, binary, json};
use trough_protocol::{Epoch, Seq};
use trough_tests::cluster::{Cluster, Shape};
use trough_tests::fleet::Neighbour;
use trough_tests::ledger::{Sent, Track};
use trough_tests::reader::ReadGap;
use trough_tests::seed;
use trough_tests::wire::{Form, Said, Wire, encode_frames};

const FORMS: [Form; 2] = [Form::Binary, Form::Json];

/// A session in which frames 1 and 2 are durable, ready to be led astray.
async fn with_two_frames(cluster: &Cluster, form: Form, token: &str) -> (Wire, Epoch) {
    let (mut wire, welcome) = Wire::begin(cluster.at.devices, form, token).await;
    wire.frames(1, &[b"one", b"two"]).await;
    wire.acked(2).await;
    (wire, welcome.epoch)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_broken_rule_has_its_code() {
    let mut cluster = Cluster::start(Shape::Split).await;
    let neighbour = Neighbour::start(&cluster).await;
    let token = cluster.add_device("rebel").await;
    let large = vec![b'x'; 65_537];
    let front = cluster.front();
    let before = cluster.rss_bytes(front);
    for form in FORMS {
        for (case, code) in [
            ("jump", 4402),
            ("back", 4403),
            ("again", 4403),
            ("large frame", 4401),
            ("large message", 4401),
            ("wrong kind", 4404),
            ("second hello", 4405),
            ("echo", 4405),
            ("beyond", 4400),
            ("empty", 4400),
        ] {
            let (mut wire, epoch) = with_two_frames(&cluster, form, &token).await;
            match case {
                "jump" => wire.frames(4, &[b"four"]).await,
                "back" => wire.frames(1, &[b"one"]).await,
                "again" => wire.frames(2, &[b"two", b"three"]).await,
                "large frame" => wire.frames(3, &[&large]).await,
                "large message" => wire.frames(3, &[&large[..60_000]; 8]).await,
                "wrong kind" => drop(wire.put(other_kind(form)).await),
                "second hello" => wire.say(&ClientMessage::Hello(Hello::NEW)).await,
                "echo" => wire.say(&ClientMessage::Rewind(Seq(3))).await,
                "beyond" => {
                    let skip = Skip { first: Seq(3), last: Seq((1 << 53) - 1), reason: SkipReason::OVERFLOW };
                    wire.skip(skip).await;
                    // There is no number after the last one.
                    wire.frames((1 << 53) - 1, &[b"x", b"y"]).await;
                }
                _ => drop(wire.put(empty(form)).await),
            }
            let (found, reason, _) = wire.closed().await;
            let allowed = if case == "beyond" { vec![4400, 4403] } else { vec![code] };
            assert!(allowed.contains(&found), "{case}, {form:?}: {found} {reason}");
            assert!(reason.contains(' '), "{case}: the reason says more than a name: {reason}");
            // What was acknowledged before can be read, and nothing else came in.
            let read = cluster.reader().frames("rebel").await;
            let read: Vec<_> = read.into_iter().filter(|frame| frame.epoch == epoch.0).collect();
            let sent = vec![Sent::on_wire(1, b"one"), Sent::on_wire(2, b"two")];
            Track { device: "rebel".into(), sent }.assert_read(epoch.0, &read);
        }
    }
    let grown = cluster.rss_bytes(front).saturating_sub(before);
    assert!(grown < 32 << 20, "the feeder grew by {grown} bytes");
    neighbour.assert_unharmed(&cluster).await;
}

fn other_kind(form: Form) -> Message {
    match form {
        Form::Binary => Message::text("{}"),
        Form::Json => Message::binary(vec![1]),
    }
}

fn empty(form: Form) -> Message {
    match form {
        Form::Binary => Message::binary(Vec::new()),
        Form::Json => Message::text(""),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_declared_loss_is_taken_and_shown() {
    let cluster = Cluster::start(Shape::Up).await;
    let token = cluster.add_device("d").await;
    for (form, epoch) in FORMS.into_iter().zip(1..) {
        let (mut wire, _) = with_two_frames(&cluster, form, &token).await;
        wire.skip(Skip { first: Seq(3), last: Seq(9), reason: SkipReason::OVERFLOW }).await;
        wire.acked(9).await;
        wire.frames(10, &[b"ten"]).await;
        wire.acked(10).await;
        wire.close().await;
        let gap =
            ReadGap { epoch, first: 3, last: 9, kind: "skipped".into(), reason: Some("overflow".into()) };
        assert_eq!(cluster.reader().gaps("d").await.last(), Some(&gap));
        let read = cluster.reader().frames("d").await;
        let seqs: Vec<u64> = read.iter().filter(|f| f.epoch == epoch).map(|f| f.seq).collect();
        assert_eq!(seqs, [1, 2, 10]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hello_comes_first_and_in_time() {
    let cluster = Cluster::start(Shape::Up).await;
    let neighbour = Neighbour::start(&cluster).await;
    let tokens = cluster.import_devices(["early", "silent"]).await;
    let mut silent = Wire::open(cluster.at.devices, Form::Binary, &tokens["silent"]).await.unwrap();
    for form in FORMS {
        let mut early = Wire::open(cluster.at.devices, form, &tokens["early"]).await.unwrap();
        early.frames(1, &[b"x"]).await;
        let (code, reason, _) = early.closed().await;
        assert_eq!(code, 4405, "{reason}");
    }
    let (code, reason, _) = silent.closed().await;
    assert_eq!(code, 4001, "{reason}");
    assert!(reason.starts_with("hello_timeout"), "{reason}");
    neighbour.assert_unharmed(&cluster).await;
}

/// A good message, damaged in one of the ways in which programs damage messages.
fn mutated(form: Form, rng: &mut impl Rng) -> Message {
    let data = encode_frames(1, &[b"a payload", b"another"]);
    let message = match rng.random_range(0..3) {
        0 => ClientMessage::Frames { first: Seq(1), data: &data },
        1 => ClientMessage::Skip(Skip { first: Seq(1), last: Seq(7), reason: SkipReason::OVERFLOW }),
        _ => ClientMessage::Rewind(Seq(1)),
    };
    let mut bytes = match form {
        Form::Binary => {
            let mut bytes = Vec::new();
            binary::encode_client(&message, &mut bytes);
            bytes
        }
        Form::Json => json::encode_client(&message).unwrap().into_bytes(),
    };
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..bytes.len().max(1));
        match rng.random_range(0..4) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at.min(bytes.len()), rng.random()),
            2 if !bytes.is_empty() => bytes[at] ^= 1 << rng.random_range(0..8),
            _ if !bytes.is_empty() => drop(bytes.remove(at)),
            _ => bytes.push(rng.random()),
        }
    }
    match form {
        Form::Binary => Message::binary(bytes),
        Form::Json => Message::text(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_messages_end_with_a_close_frame() {
    let mut cluster = Cluster::start(Shape::Up).await;
    let neighbour = Neighbour::start(&cluster).await;
    let token = cluster.add_device("noise").await;
    let mut rng = seed::rng("damaged messages");
    let front = cluster.front();
    let before = cluster.rss_bytes(front);
    for round in 0..seed::count("TROUGH_TEST_FUZZ", 200) {
        let form = FORMS[round % 2];
        let (mut wire, _) = Wire::begin(cluster.at.devices, form, &token).await;
        let message = mutated(form, &mut rng);
        wire.put(message.clone()).await.unwrap();
        // A mutation may be harmless; what follows it never is.
        wire.put(empty(form)).await.unwrap();
        let (code, reason, _) = wire.closed().await;
        assert!((4400..=4405).contains(&code), "{code} {reason} after {message:?}");
    }
    let grown = cluster.rss_bytes(front).saturating_sub(before);
    assert!(grown < 32 << 20, "the feeder grew by {grown} bytes");
    neighbour.assert_unharmed(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_websocket_framing_is_closed_too() {
    use tokio::io::AsyncWriteExt as _;
    let cluster = Cluster::start(Shape::Up).await;
    let neighbour = Neighbour::start(&cluster).await;
    let token = cluster.add_device("d").await;
    for bytes in [
        // Not masked; reserved bits; an unknown opcode; a length of 2^63; a fragmented ping.
        &[0x82, 0x01, 0x00][..],
        &[0xf2, 0x81, 0, 0, 0, 0, 0],
        &[0x83, 0x80, 0, 0, 0, 0],
        &[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0x09, 0x80, 0, 0, 0, 0],
    ] {
        let (wire, _) = Wire::begin(cluster.at.devices, Form::Binary, &token).await;
        let mut socket = wire.into_socket();
        socket.get_mut().write_all(bytes).await.unwrap();
        let mut wire = Wire::from_socket(socket, Form::Binary);
        match wire.hear().await {
            Said::Closed(code, reason) => assert!(matches!(code, 4400 | 4401), "{bytes:x?}: {code} {reason}"),
            other => panic!("{bytes:x?}: {other:?}"),
        }
    }
    neighbour.assert_unharmed(&cluster).await;
}
