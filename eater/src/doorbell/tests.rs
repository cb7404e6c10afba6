//! Doorbells of several processes on one bus.
//!
//! 1. A ring is heard here and there, once each, with the numbers it is about.
//! 2. Rings that come close together are one message.
//! 3. Whoever is too slow, or hears of a wiped bus, is told that something is lost.
//! 4. Without a bus, and with one that is away, whoever waits for other eaters looks every second.
//! 5. A process that is alone needs no bus; when nobody listens, ringing does nothing.

use bytes::Bytes;
use tokio::time::Instant;
use trough_bus::local::Local;
use trough_bus::memcached::Memcached;
use trough_bus::{Bus, Environment};
use trough_runtime::clock::Clock;
use trough_store::object_catalog::Incarnation;

use super::*;

fn deployment(bus: impl Bus) -> Deployment {
    Deployment::new(Arc::new(bus), Environment::new("sandbox").unwrap())
}

fn eater(bus: Option<Deployment>) -> (Doorbell, Subscription) {
    let doorbell = Doorbell::start(Others::Eaters(bus), CancellationToken::new());
    let subscription = doorbell.subscribe();
    (doorbell, subscription)
}

fn objects(incarnation: u8, first: u64, last: u64) -> News {
    News::Objects { incarnation: Incarnation([incarnation; 16]), first, last }
}

/// The next news, past what is said when it begins and now and then.
async fn news(subscription: &mut Subscription) -> News {
    loop {
        if let Event::New(news) = subscription.next().await {
            return news;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_ring_is_heard_here_and_there_once() {
    let bus = Local::new();
    let ((one, mut here), (other, mut there)) =
        (eater(Some(deployment(bus.clone()))), eater(Some(deployment(bus))));
    // The first thing that is heard of others: look.
    assert_eq!((here.next().await, there.next().await), (Event::Lost, Event::Lost));
    for n in 1..100 {
        one.ring(objects(1, n, n));
        assert_eq!(news(&mut here).await, objects(1, n, n));
        assert_eq!(news(&mut there).await, objects(1, n, n));
        other.ring(objects(2, n, n));
        assert_eq!(news(&mut here).await, objects(2, n, n));
        assert_eq!(news(&mut there).await, objects(2, n, n));
    }
}

#[tokio::test(start_paused = true)]
async fn rings_that_come_close_together_are_one_message() {
    let bus = Local::new();
    let there = deployment(bus.clone());
    let mut messages = bus.subscribe(&there.topic("frames"));
    assert_eq!(messages.next().await, BusEvent::Rescan(Cause::Began));
    let doorbell = Doorbell::start(Others::None(Some(there)), CancellationToken::new());
    let (began, mut count, mut rung) = (Instant::now(), 0, 0);
    while began.elapsed() < Duration::from_secs(1) {
        rung += 1;
        doorbell.ring(objects(1, rung, rung));
        sleep(Duration::from_millis(1)).await;
    }
    let mut next = 1;
    while next <= rung {
        let BusEvent::Message(message) = messages.next().await else { panic!("nothing was wiped") };
        let Some((_, Some(News::Objects { first, last, .. }))) = news::decode(&message) else { panic!() };
        assert_eq!(first, next, "none is left out");
        next = last + 1;
        count += 1;
    }
    assert!((2..=120).contains(&count), "{count} messages in a second");
}

#[tokio::test(start_paused = true)]
async fn whoever_is_too_slow_is_told_so() {
    let bus = Local::new();
    let ((one, _here), (_other, mut there)) =
        (eater(Some(deployment(bus.clone()))), eater(Some(deployment(bus.clone()))));
    assert_eq!(there.next().await, Event::Lost);
    for n in 1..=2000 {
        one.ring(objects(1, n, n));
        sleep(RING_EVERY * 2).await;
    }
    assert_eq!(there.next().await, Event::Lost);
    while news(&mut there).await != objects(1, 2000, 2000) {}
    bus.wipe();
    while there.next().await != Event::Lost {}
    // Somebody else's message, or one of a later release, may be about anything.
    bus.publish(&deployment(bus.clone()).topic("frames"), Bytes::from_static(b"?")).await.unwrap();
    while there.next().await != Event::Lost {}
}

#[tokio::test]
async fn whoever_cannot_be_told_of_others_looks_every_second() {
    let away = Memcached::new("memcached://127.0.0.1:1".parse().unwrap(), Clock::system());
    for bus in [None, Some(deployment(away))] {
        let (doorbell, mut subscription) = eater(bus);
        for _ in 0..2 {
            let event = tokio::time::timeout(Duration::from_secs(30), subscription.next()).await;
            assert_eq!(event.unwrap(), Event::Lost);
        }
        // What is committed here is heard at once all the same.
        doorbell.ring(objects(1, 1, 1));
        let heard = tokio::time::timeout(Duration::from_secs(30), news(&mut subscription)).await;
        assert_eq!(heard.unwrap(), objects(1, 1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_alone_needs_no_bus() {
    let doorbell = Doorbell::start(Others::None(None), CancellationToken::new());
    doorbell.ring(News::Groups { received_at: 1 });
    let mut subscription = doorbell.subscribe();
    doorbell.ring(News::Groups { received_at: 2 });
    doorbell.ring(News::Groups { received_at: 3 });
    assert_eq!(subscription.next().await, Event::New(News::Groups { received_at: 3 }));
    let silence = tokio::time::timeout(Duration::from_secs(100), subscription.next()).await;
    assert!(silence.is_err(), "nobody else commits: {silence:?}");
}
