//! The cases of leases.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::{Fixture, SOON, key, until};
use crate::{Bus, Lease};

/// The shortest there is.
const TTL: Duration = Duration::from_secs(3);

async fn held(bus: &dyn Bus, name: &str) -> Lease {
    until("the lease is free", async || bus.acquire(&key(name), TTL).await.unwrap()).await
}

pub async fn of_many_that_race_one_holds(on: &Fixture) {
    let racers = (0..16).map(|_| {
        let bus = (on.open)();
        tokio::spawn(async move { bus.acquire(&key("race"), TTL).await.unwrap() })
    });
    let mut holders = Vec::new();
    for racer in racers.collect::<Vec<_>>() {
        holders.extend(racer.await.unwrap());
    }
    assert_eq!(holders.len(), 1);
    assert!(holders[0].is_held());
}

pub async fn a_lease_outlives_its_first_life(on: &Fixture) {
    let (bus, other) = ((on.open)(), (on.open)());
    let lease = held(&*bus, "renewed").await;
    let began = Instant::now();
    until("two lives are over", async || {
        assert!(lease.is_held());
        assert!(other.acquire(&key("renewed"), TTL).await.unwrap().is_none());
        (began.elapsed() > TTL * 2).then_some(())
    })
    .await;
}

pub async fn a_released_lease_is_free_at_once(on: &Fixture) {
    let (bus, other) = ((on.open)(), (on.open)());
    for _ in 0..10 {
        bus.acquire(&key("released"), TTL).await.unwrap().unwrap().release().await;
        other.acquire(&key("released"), TTL).await.unwrap().unwrap().release().await;
    }
}

pub async fn a_dropped_lease_is_given_back(on: &Fixture) {
    let bus = (on.open)();
    drop(held(&*bus, "dropped").await);
    held(&*bus, "dropped").await;
}

pub async fn whoever_asks_is_told_whether_somebody_has_a_lease(on: &Fixture) {
    let (bus, other) = ((on.open)(), (on.open)());
    assert!(!other.is_leased(&key("asked")).await.unwrap());
    let lease = held(&*bus, "asked").await;
    assert!(other.is_leased(&key("asked")).await.unwrap());
    lease.release().await;
    assert!(!other.is_leased(&key("asked")).await.unwrap());
}

pub async fn a_wiped_lease_is_noticed_before_its_life_is_over(on: &Fixture) {
    let (bus, other) = ((on.open)(), (on.open)());
    let lease = held(&*bus, "wiped").await;
    (on.wipe)();
    let wiped = Instant::now();
    // Another may have it at once; that is what fencing tokens are for.
    let second = held(&*other, "wiped").await;
    timeout(SOON, lease.lost()).await.expect("the loss is noticed");
    assert!(wiped.elapsed() < TTL, "the loss was noticed after {:?}", wiped.elapsed());
    assert!(!lease.is_held());
    // Letting go of what was lost does not touch what another holds.
    lease.release().await;
    assert!(second.is_held());
    assert!(bus.acquire(&key("wiped"), TTL).await.unwrap().is_none());
}

pub async fn a_lease_and_a_value_of_one_name_are_two_things(on: &Fixture) {
    let bus = (on.open)();
    bus.set(&key("both"), Bytes::from_static(b"a value"), TTL).await.unwrap();
    let lease = held(&*bus, "both").await;
    bus.delete(&key("both")).await.unwrap();
    assert!(bus.acquire(&key("both"), TTL).await.unwrap().is_none());
    lease.release().await;
}
