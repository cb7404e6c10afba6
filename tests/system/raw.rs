//! Raw mode: the feeder keeps what nobody else has.
//!
//! 1. A raw session sends through the death of the eater: every frame is stored once, in order, text as text and
//!    binary as binary, on the channel of the URL.
//! 2. Every raw session has an epoch of its own, and gets no message.
//! 3. A frame over the limit: 4401; what came before is stored. A channel that is none: 400.
//! 4. A raw device that goes away without a goodbye: what it sent before is stored.

use tokio_tungstenite::tungstenite::Message;
use trough_tests::cluster::{Cluster, Role, Shape};
use trough_tests::fleet::Neighbour;
use trough_tests::poll::{LATER, SOON, until};
use trough_tests::reader::ReadFrame;
use trough_tests::upgrade::Ask;
use trough_tests::wire::{Form, Said, Wire};

async fn open(cluster: &Cluster, path: &str, token: &str) -> Wire {
    Wire::from_socket(Ask::new(cluster.at.devices, path).token(token).send().await.unwrap(), Form::Binary)
}

async fn stored(cluster: &Cluster, device: &str, count: usize) -> Vec<ReadFrame> {
    until("all raw frames are stored", LATER, async || {
        cluster.reader().head(device).await?;
        let frames = cluster.reader().frames(device).await;
        (frames.len() >= count).then_some(frames)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raw_frames_survive_the_eater() {
    let mut cluster = Cluster::start(Shape::Split).await;
    let token = cluster.add_device("raw").await;
    let mut wire = open(&cluster, "/v1/raw?channel=gps%2Fnmea", &token).await;
    let text = |n: usize| format!("sentence {n}");
    let mut kills = 0;
    for n in 0..600 {
        if n % 2 == 0 {
            wire.put(Message::text(text(n))).await.unwrap();
        } else {
            wire.put(Message::binary(text(n).into_bytes())).await.unwrap();
        }
        if n % 200 == 150 {
            cluster.kill(Role::Eater(0));
            cluster.spawn(Role::Eater(0));
            kills += 1;
        }
    }
    wire.close().await;
    let read = stored(&cluster, "raw", 600).await;
    assert_eq!((read.len(), kills), (600, 3));
    for (n, frame) in read.iter().enumerate() {
        let content_type = if n % 2 == 0 { "text/plain; charset=utf-8" } else { "application/octet-stream" };
        assert_eq!((frame.epoch, frame.seq), (1, n as u64 + 1));
        assert_eq!((&*frame.channel, &*frame.content_type), ("gps/nmea", content_type));
        assert_eq!(frame.payload, text(n).into_bytes());
    }
    assert_eq!(cluster.reader().gaps("raw").await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raw_sessions_are_numbered_by_the_feeder() {
    let cluster = Cluster::start(Shape::Up).await;
    let neighbour = Neighbour::start(&cluster).await;
    let token = cluster.add_device("raw").await;
    for (epoch, count) in [(1, 1), (2, 2)] {
        let mut wire = open(&cluster, "/v1/raw", &token).await;
        wire.put(Message::text("hello")).await.unwrap();
        wire.close().await;
        let read = stored(&cluster, "raw", count).await;
        let last = read.last().unwrap();
        assert_eq!((last.epoch, last.seq, &*last.channel), (epoch, 1, "raw"));
    }

    let mut wire = open(&cluster, "/v1/raw", &token).await;
    wire.put(Message::text("good")).await.unwrap();
    wire.put(Message::binary(vec![0; 65_537])).await.unwrap();
    match wire.hear().await {
        Said::Closed(code, reason) => assert_eq!(code, 4401, "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(stored(&cluster, "raw", 3).await.last().unwrap().payload, b"good");

    let refused =
        Ask::new(cluster.at.devices, "/v1/raw?channel=no%20spaces").token(&token).send().await.unwrap_err();
    assert_eq!((refused.status, refused.code()), (400, "bad_channel"));
    neighbour.assert_unharmed(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raw_device_that_vanishes_leaves_its_frames() {
    let cluster = Cluster::start(Shape::Up).await;
    let token = cluster.add_device("raw").await;
    let mut wire = open(&cluster, "/v1/raw", &token).await;
    for n in 0..100 {
        wire.put(Message::text(format!("{n}"))).await.unwrap();
    }
    // A reset, as of a device without power, may overtake what the feeder has not read yet. So it waits.
    until("the feeder has read it", SOON, async || {
        (cluster.reader().head("raw").await?.1 == 100).then_some(())
    })
    .await;
    wire.put(Message::text("the last one")).await.unwrap();
    drop(wire);
    let read = stored(&cluster, "raw", 100).await;
    assert!(read.iter().zip(0..100).all(|(frame, n)| frame.payload == n.to_string().into_bytes()));
}
