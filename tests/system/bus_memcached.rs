//! The bus on a real memcached.
//!
//! 1. It passes the suite of every bus, on one server and on three.
//! 2. A server that is killed and restarted, or stopped for a while (SIGSTOP): every call fails in time, subscribers
//!    are told to rescan, and go on; a lease is let go of before another can have it.
//! 3. Of several servers one is killed: what lies on the others works on.
//! 4. A server that is full (`-m 1 -M`): every call works or fails, and a message that found no room is noticed.
//! 5. A message whose publisher died before it was stored is a hole, and those behind it are not waited for in vain.
//! 6. A feeder with a bus: its grants lie on memcached without the token, a revocation ends the session, and when
//!    memcached is killed devices stream on and revocations still hold.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use trough_bus::conformance::Fixture;
use trough_bus::memcached::Memcached as Bus;
use trough_bus::{Bus as _, BusError, Cause, Environment, Event, Key, Subscription, Topic, bus_suite};
use trough_runtime::clock::Clock;
use trough_tests::cluster::{Cluster, Options, Role, Shape};
use trough_tests::poll::{LATER, SOON, ends, until};
use trough_tests::servers::memcached::{Memcached, tell};
use trough_tests::wire::{Form, Wire};

fn bus(servers: &[&Memcached]) -> Bus {
    let list: Vec<_> = servers.iter().map(|server| server.at.to_string()).collect();
    Bus::new(format!("memcached://{}", list.join(",")).parse().unwrap(), Clock::system())
}

fn key(name: &str) -> Key {
    Key::new(&Environment::new("sandbox").unwrap(), name)
}

fn topic(name: &str) -> Topic {
    Topic::new(&Environment::new("sandbox").unwrap(), name)
}

async fn fixture(count: usize) -> Fixture {
    let mut servers = Vec::new();
    for _ in 0..count {
        servers.push(Memcached::start(&["-M"]).await);
    }
    let addresses: Vec<_> = servers.iter().map(|server| server.at).collect();
    let url =
        format!("memcached://{}", addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(","));
    Fixture {
        open: Box::new(move || Arc::new(Bus::new(url.parse().unwrap(), Clock::system()))),
        wipe: Box::new(move || {
            for at in &addresses {
                assert_eq!(tell(*at, "flush_all\r\n"), "OK\r\n");
            }
        }),
        keep: Box::new(servers),
    }
}

mod one_server {
    use super::*;
    bus_suite!(fixture(1).await);
}

mod three_servers {
    use super::*;
    bus_suite!(fixture(3).await);
}

async fn next(subscription: &mut Subscription) -> Event {
    ends("an event comes", SOON, subscription.next()).await
}

async fn publish(bus: &Bus, topic: &Topic, text: &'static str) {
    until("a message can be published", SOON, async || {
        bus.publish(topic, Bytes::from_static(text.as_bytes())).await.ok()
    })
    .await;
}

/// SIGSTOP, and waits until each of its threads has heard it.
async fn stand_still(server: &mut Memcached) {
    server.process().stop();
    let threads = format!("/proc/{}/task", server.process().id());
    let stopped = |thread: std::io::Result<std::fs::DirEntry>| {
        let stat = std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    };
    until("it stands still", SOON, async || std::fs::read_dir(&threads).unwrap().all(stopped).then_some(()))
        .await;
}

/// Every call that a service makes; what failed, and what took longest.
async fn every_call(bus: &Bus) -> (Vec<BusError>, Duration) {
    let (mut failed, mut longest) = (Vec::new(), Duration::ZERO);
    for n in 0..5 {
        let name = key(&format!("call-{n}"));
        let mut note = |began: Instant, result: Result<(), BusError>| {
            longest = longest.max(began.elapsed());
            failed.extend(result.err());
        };
        let began = Instant::now();
        note(began, bus.set(&name, Bytes::from(vec![1; 1000]), SOON).await);
        let began = Instant::now();
        note(began, bus.get(&name).await.map(drop));
        let began = Instant::now();
        note(began, bus.get_many(&[name.clone(), key("other")]).await.map(drop));
        let began = Instant::now();
        note(began, bus.publish(&topic("calls"), Bytes::from(vec![1; 1000])).await.map(drop));
        let began = Instant::now();
        note(began, bus.acquire(&name, Duration::from_secs(3)).await.map(drop));
        let began = Instant::now();
        note(began, bus.delete(&name).await);
    }
    (failed, longest)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_and_comes_back() {
    let mut server = Memcached::start(&[]).await;
    let (bus, topic) = (bus(&[&server]), topic("killed"));
    let mut subscriber = bus.subscribe(&topic);
    assert_eq!(next(&mut subscriber).await, Event::Rescan(Cause::Began));
    for _ in 0..3 {
        publish(&bus, &topic, "before").await;
        assert_eq!(next(&mut subscriber).await, Event::Message(Bytes::from_static(b"before")));
        server.kill();
        let (failed, longest) = every_call(&bus).await;
        assert_eq!(failed.len(), 30, "every call fails: {failed:?}");
        assert!(failed.iter().all(|error| matches!(error, BusError::Unavailable { .. })), "{failed:?}");
        assert!(longest < SOON, "{longest:?}");
        server.restart().await;
        publish(&bus, &topic, "after").await;
        assert_eq!(next(&mut subscriber).await, Event::Rescan(Cause::Reset));
        publish(&bus, &topic, "later").await;
        while next(&mut subscriber).await != Event::Message(Bytes::from_static(b"later")) {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stands_still() {
    let mut server = Memcached::start(&[]).await;
    let (bus, topic) = (bus(&[&server]), topic("stopped"));
    let mut subscriber = bus.subscribe(&topic);
    assert_eq!(next(&mut subscriber).await, Event::Rescan(Cause::Began));
    let ttl = Duration::from_secs(5);
    let lease = bus.acquire(&key("stopped"), ttl).await.unwrap().unwrap();
    stand_still(&mut server).await;
    let stopped = Instant::now();
    let (failed, longest) = every_call(&bus).await;
    assert_eq!(failed.len(), 30, "every call fails: {failed:?}");
    println!("the longest call took {longest:?}");
    ends("the lease is let go of", SOON, lease.lost()).await;
    assert!(stopped.elapsed() < ttl, "held for {:?} without a renewal", stopped.elapsed());
    server.process().resume();
    // It has forgotten nothing, so no message is lost either.
    publish(&bus, &topic, "after").await;
    let mut heard = next(&mut subscriber).await;
    while heard != Event::Message(Bytes::from_static(b"after")) {
        // A number that was taken in vain, by a publisher that gave up.
        assert_eq!(heard, Event::Rescan(Cause::Hole));
        publish(&bus, &topic, "after").await;
        heard = next(&mut subscriber).await;
    }
    until("the lease is free", SOON, async || bus.acquire(&key("stopped"), ttl).await.ok().flatten()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_outlives_a_short_stop() {
    let mut server = Memcached::start(&[]).await;
    let bus = bus(&[&server]);
    // What a busy machine adds is short against this.
    let ttl = Duration::from_secs(20);
    let lease = bus.acquire(&key("short"), ttl).await.unwrap().unwrap();
    // Long enough for a renewal that is sent and not answered. The server does it when it goes on, so that the holder
    // no longer knows the item's number.
    stand_still(&mut server).await;
    let stopped = Instant::now();
    until("a renewal was due", SOON, async || (stopped.elapsed() > ttl * 4 / 10).then_some(())).await;
    server.process().resume();
    until("what it was held for at first is over", LATER, async || {
        assert!(lease.is_held());
        (stopped.elapsed() > ttl * 3 / 2).then_some(())
    })
    .await;
    lease.release().await;
    bus.acquire(&key("short"), ttl).await.unwrap().expect("it is free at once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_servers_one_is_killed() {
    let (mut one, other) = (Memcached::start(&[]).await, Memcached::start(&[]).await);
    let bus = bus(&[&one, &other]);
    let keys: Vec<_> = (0..40).map(|n| key(&format!("share-{n}"))).collect();
    for key in &keys {
        bus.set(key, Bytes::from_static(b"x"), SOON).await.unwrap();
    }
    one.kill();
    let mut there = 0;
    for key in &keys {
        there += usize::from(bus.get(key).await == Ok(Some(Bytes::from_static(b"x"))));
    }
    assert!((1..40).contains(&there), "{there} of 40 lie on the other server");
    one.restart().await;
    until("both serve", SOON, async || {
        bus.get_many(&keys).await.ok().filter(|values| values.iter().flatten().count() == there)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_full() {
    let server = Memcached::start(&["-m", "1", "-M", "-I", "512k"]).await;
    let (bus, topic) = (bus(&[&server]), topic("full"));
    let mut subscriber = bus.subscribe(&topic);
    assert_eq!(next(&mut subscriber).await, Event::Rescan(Cause::Began));
    let mut full = 0;
    for size in [400_000, 100_000, 10_000, 1000, 100] {
        for n in 0..2000 {
            let set = bus.set(&key(&format!("{size}-{n}")), Bytes::from(vec![1; size]), SOON).await;
            match set {
                Ok(()) => {}
                Err(BusError::Full { reason }) => {
                    assert!(reason.contains("out of memory"), "{reason}");
                    full += 1;
                    break;
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
    assert!(full > 0, "it was never full");
    let (failed, longest) = every_call(&bus).await;
    assert!(failed.iter().all(|error| matches!(error, BusError::Full { .. })), "{failed:?}");
    println!("{} of 30 calls failed, the longest took {longest:?}", failed.len());
    // Heard, or noticed as missing: nothing is lost in silence.
    let published = bus.publish(&topic, Bytes::from(vec![1; 60_000])).await;
    println!("published: {published:?}");
    match next(&mut subscriber).await {
        Event::Message(message) => assert!(published.is_ok() && message.len() == 60_000),
        Event::Rescan(cause) => assert_eq!(cause, Cause::Hole),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_without_a_message_is_a_hole() {
    let server = Memcached::start(&[]).await;
    let (bus, topic) = (bus(&[&server]), topic("hole"));
    let mut subscriber = bus.subscribe(&topic);
    assert_eq!(next(&mut subscriber).await, Event::Rescan(Cause::Began));
    // What a publisher does that dies between its two steps.
    assert!(tell(server.at, "ma b:sandbox:hole:h\r\n").starts_with("HD"));
    publish(&bus, &topic, "behind the hole").await;
    assert_eq!(next(&mut subscriber).await, Event::Rescan(Cause::Hole));
    publish(&bus, &topic, "later").await;
    while next(&mut subscriber).await != Event::Message(Bytes::from_static(b"later")) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feeder_with_a_bus_that_comes_and_goes() {
    let mut server = Memcached::start(&["-M"]).await;
    let url = format!("memcached://{}", server.at);
    let dir = tempfile::tempdir().unwrap();
    let key_file = dir.path().join("bus.key");
    std::fs::write(&key_file, [7; 32]).unwrap();
    let key_file = key_file.to_str().unwrap().to_owned();
    let feeder_args = ["--bus", &url, "--bus-key-file", &key_file].map(str::to_owned).to_vec();
    let cluster = Cluster::start_with(Shape::Split, Options { feeder_args, ..Options::default() }).await;
    for killed in [false, true] {
        if killed {
            server.kill();
        }
        let name = format!("killed-{killed}");
        let token = cluster.add_device(&name).await;
        let (mut wire, _) = Wire::begin(cluster.at.devices, Form::Binary, &token).await;
        wire.frames(1, &[b"a frame"]).await;
        wire.acked(1).await;
        if !killed {
            // All that lies there: the feeder's view of the token is among it, the token is not.
            let items = server.keys();
            assert!(items.iter().any(|key| key.starts_with("v:production:grant:device:")), "{items:?}");
            assert!(!items.iter().any(|key| key.contains(&token[18..])), "a token is in a key");
        }
        cluster.admin(&["devices", "revoke", &name, "--bus", &url], "").await;
        let (code, reason, _) = wire.closed().await;
        assert_eq!(code, 4300, "{reason}");
        let refused = Wire::open(cluster.at.devices, Form::Binary, &token).await.unwrap_err();
        assert_eq!(refused.status, 403);
        assert_eq!(cluster.reader().frames(&name).await.len(), 1);
    }
    let told = cluster.log(Role::Feeder(0));
    assert!(
        told.iter().any(|line| line["message"].as_str().is_some_and(|m| m.starts_with("memcached is away")))
    );
}
