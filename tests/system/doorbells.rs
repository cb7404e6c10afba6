//! Doorbells of new frames, over a real memcached.
//!
//! 1. An eater with a journal of its own, and one with an object store, ring when a frame is acknowledged; what the
//!    bell names is there, and bursts are few rings.
//! 2. memcached is killed and comes back: frames are acknowledged all the time, and the bell rings again.

use std::sync::Arc;

use serde_json::Value;
use trough_bus::memcached::Memcached as Bus;
use trough_bus::{Bus as _, Cause, Environment, Event, Subscription, Topic};
use trough_runtime::clock::Clock;
use trough_tests::cluster::{Cluster, Options, Shape};
use trough_tests::poll::{SOON, ends};
use trough_tests::servers::memcached::Memcached;
use trough_tests::wire::{Form, Wire};

async fn start(shape: Shape, server: &Memcached) -> Cluster {
    let eater_args = vec!["--bus".into(), format!("memcached://{}", server.at)];
    Cluster::start_with(shape, Options { eater_args, ..Options::default() }).await
}

/// Somebody who listens, with the bus that carries it.
async fn listener(server: &Memcached) -> (Arc<Bus>, Subscription) {
    let addresses = format!("memcached://{}", server.at).parse().unwrap();
    let bus = Arc::new(Bus::new(addresses, Clock::system()));
    let mut bell = bus.subscribe(&Topic::new(&Environment::new("production").unwrap(), "frames"));
    ends("the subscription begins", SOON, bell.next()).await;
    (bus, bell)
}

/// The next ring; `None` if it was missed, which a listener is told. On a machine that is very busy a message may take
/// longer from its number to its place than listeners wait.
async fn ring(bell: &mut Subscription) -> Option<Value> {
    ends("the bell rings", SOON, async {
        loop {
            match bell.next().await {
                Event::Message(message) => return Some(serde_json::from_slice(&message).unwrap()),
                Event::Rescan(Cause::Hole) => return None,
                Event::Rescan(_) => {}
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_eater_rings_when_a_frame_is_there() {
    for shape in [Shape::Split, Shape::Objects] {
        let server = Memcached::start(&["-M"]).await;
        let cluster = start(shape, &server).await;
        let (_bus, mut bell) = listener(&server).await;
        let token = cluster.add_device("d").await;
        let (mut wire, _) = Wire::begin(cluster.at.devices, Form::Binary, &token).await;
        let (mut last, mut heard, mut seq) = (0, 0, 0);
        while heard < 5 {
            seq += 1;
            wire.frames(seq, &[b"a frame"]).await;
            let rung = ring(&mut bell).await;
            let there = cluster.reader().frames("d").await.len() as u64;
            assert_eq!(there, seq, "it rings when the frame is there");
            wire.acked(seq).await;
            let Some(rung) = rung else { continue };
            heard += 1;
            let now = match shape {
                Shape::Objects => {
                    assert_eq!(rung["objects"]["first"], rung["objects"]["last"], "one object: {rung}");
                    assert_eq!(rung["objects"]["incarnation"].as_str().unwrap().len(), 32, "{rung}");
                    rung["objects"]["last"].as_u64().unwrap()
                }
                _ => rung["groups"]["received_at"].as_u64().unwrap(),
            };
            assert!(now > last, "{rung} after {last}");
            last = now;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bell_that_nobody_can_hear_delays_nothing() {
    let mut server = Memcached::start(&["-M"]).await;
    let cluster = start(Shape::Split, &server).await;
    let token = cluster.add_device("d").await;
    let (mut wire, _) = Wire::begin(cluster.at.devices, Form::Binary, &token).await;
    server.kill();
    for seq in 1..=100 {
        wire.frames(seq, &[b"a frame"]).await;
        wire.acked(seq).await;
    }
    server.restart().await;
    let (_bus, mut bell) = listener(&server).await;
    let mut seq = 100;
    let heard = async { while ring(&mut bell).await.is_none() {} };
    tokio::pin!(heard);
    loop {
        seq += 1;
        wire.frames(seq, &[b"a frame"]).await;
        wire.acked(seq).await;
        // The bus is tried again half a second after its last failure.
        if tokio::time::timeout(std::time::Duration::from_millis(20), &mut heard).await.is_ok() {
            break;
        }
    }
}
