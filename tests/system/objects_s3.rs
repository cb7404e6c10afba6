//! The object store over S3, as SeaweedFS speaks it.
//!
//! 1. It does what every store does.
//! 2. The store is killed in the middle of puts and comes back: every put succeeds in the end.
//! 3. It is killed and does not come back in time: what was not stored is `Unavailable`; when it is back, every
//!    put that succeeded is readable, and every other is there whole or not at all.
//! 4. It stands still: calls end within their deadline, and succeed when it goes on.
//! 5. Its bucket is missing, or the credentials are wrong: refused at once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use trough_runtime::clock::Clock;
use trough_runtime::health::Health;
use trough_store::conformance::{Fixture, START};
use trough_store::objects::{
    Credentials, Limits, ObjectError, ObjectKey, ObjectMetrics, ObjectStore, Opening, open,
};
use trough_tests::poll::{LATER, SOON, ends, until};
use trough_tests::servers::seaweed::{ACCESS, Seaweed};

/// Bytes of an object: large enough that a kill finds some on their way.
const BYTES: usize = 1 << 20;
const OBJECTS: usize = 24;

fn store(url: &str, limits: Limits, credentials: Credentials, health: &Health) -> Arc<dyn ObjectStore> {
    let opening = Opening {
        credentials: Some(credentials),
        limits,
        metrics: ObjectMetrics::default(),
        health: health.clone(),
        clock: Clock::manual(START),
    };
    open(url, opening).unwrap()
}

/// Patient enough for a restart.
fn patient() -> Limits {
    Limits { attempt: Duration::from_secs(5), call: LATER, ..Limits::default() }
}

/// Gives up long before a test does.
fn hasty() -> Limits {
    Limits {
        attempt: Duration::from_millis(300),
        call: Duration::from_secs(1),
        backoff_min: Duration::from_millis(20),
        ..Limits::default()
    }
}

/// An empty place in a store, opened as often as need be.
pub fn fixture(url: String, credentials: Credentials) -> Fixture<dyn ObjectStore> {
    let open = Box::new(move || store(&url, patient(), credentials.clone(), &Health::new()));
    Fixture { clock: Clock::manual(START), open, keep: Box::new(()) }
}

fn key(n: usize) -> ObjectKey {
    ObjectKey::new(&format!("journal/{n:020}.tro")).unwrap()
}

fn bytes(n: usize) -> Bytes {
    vec![u8::try_from(n).unwrap(); BYTES].into()
}

/// Puts all objects at once.
fn put_all(store: &Arc<dyn ObjectStore>) -> JoinSet<(usize, Result<(), ObjectError>)> {
    let mut puts = JoinSet::new();
    for n in 0..OBJECTS {
        let store = Arc::clone(store);
        puts.spawn(async move { (n, store.put(&key(n), bytes(n)).await) });
    }
    puts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seaweed_does_what_every_store_does() {
    let server = Seaweed::start().await;
    let mut places = (0..).map(|n| server.url(&format!("case-{n}/deep")));
    trough_store::objects_suite!(in_one, fixture(places.next().unwrap(), ACCESS.credentials()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn puts_outlive_a_restart_of_the_store() {
    let mut server = Seaweed::start().await;
    let health = Health::new();
    let store = store(&server.url("p"), patient(), ACCESS.credentials(), &health);
    let mut puts = put_all(&store);
    puts.join_next().await.unwrap().unwrap().1.unwrap();
    server.restart().await;
    while let Some(put) = ends("the puts succeed", LATER, puts.join_next()).await {
        put.unwrap().1.unwrap();
    }
    for n in 0..OBJECTS {
        assert!(store.get(&key(n)).await.unwrap() == bytes(n), "object {n}");
    }
    assert!(health.degraded().is_empty(), "{:?}", health.degraded());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_put_succeeds_that_was_not_stored() {
    let mut server = Seaweed::start().await;
    let health = Health::new();
    let store = store(&server.url("p"), hasty(), ACCESS.credentials(), &health);
    // The first ones take long: it makes its volumes.
    until("a put succeeds", LATER, async || store.put(&key(0), bytes(0)).await.ok()).await;
    let mut puts = put_all(&store);
    let mut stored = vec![0];
    let (n, first) = puts.join_next().await.unwrap().unwrap();
    stored.extend(first.is_ok().then_some(n));
    server.kill();
    while let Some(put) = ends("the puts end", SOON, puts.join_next()).await {
        match put.unwrap() {
            (n, Ok(())) => stored.push(n),
            (_, Err(ObjectError::Unavailable { .. })) => {}
            (n, Err(other)) => panic!("object {n}: {other}"),
        }
    }
    let dead = store.get(&key(0)).await;
    assert!(matches!(dead, Err(ObjectError::Unavailable { .. })), "{dead:?}");
    assert_eq!(health.degraded()[0].0, "store");
    println!("{stored:?} of {OBJECTS} stored before the kill");

    server.restart().await;
    let store = self::store(&server.url("p"), patient(), ACCESS.credentials(), &health);
    for n in 0..OBJECTS {
        match store.get(&key(n)).await {
            Ok(got) => assert!(got == bytes(n), "object {n} is not whole"),
            Err(ObjectError::NotFound(_)) if !stored.contains(&n) => {}
            Err(error) => panic!("object {n}, stored: {}: {error}", stored.contains(&n)),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_stands_still_is_unavailable_until_it_goes_on() {
    let mut server = Seaweed::start().await;
    let health = Health::new();
    let store = store(&server.url("p"), hasty(), ACCESS.credentials(), &health);
    until("a put succeeds", SOON, async || store.put(&key(1), bytes(1)).await.ok()).await;
    server.process().stop();
    let small = Bytes::from_static(b"x");
    let stopped = ends("the put ends", SOON, store.put(&key(2), small.clone())).await;
    assert!(matches!(stopped, Err(ObjectError::Unavailable { .. })), "{stopped:?}");
    assert_eq!(health.degraded()[0].0, "store");
    server.process().resume();
    until("a put succeeds", SOON, async || store.put(&key(2), small.clone()).await.ok()).await;
    assert_eq!(store.get(&key(2)).await.unwrap(), small);
    assert!(store.get(&key(1)).await.unwrap() == bytes(1));
    assert!(health.degraded().is_empty(), "{:?}", health.degraded());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_and_buckets_are_refused_at_once() {
    let server = Seaweed::start().await;
    let wrong = Credentials { secret_key: "wrong".to_owned().into(), ..ACCESS.credentials() };
    let refused = store(&server.url("p"), patient(), wrong, &Health::new());
    let answers = [
        refused.put(&key(1), Bytes::new()).await,
        refused.get(&key(1)).await.map(drop),
        refused.delete(&key(1)).await,
        refused.list("", None, 1).await.map(drop),
    ];
    for answer in answers {
        assert!(matches!(answer, Err(ObjectError::Refused(_))), "{answer:?}");
    }
    // SeaweedFS would make the bucket for a PUT.
    let elsewhere = server.url("p").replace("trough/", "nowhere/");
    let elsewhere = store(&elsewhere, patient(), ACCESS.credentials(), &Health::new());
    for answer in [elsewhere.get(&key(1)).await.map(drop), elsewhere.list("", None, 1).await.map(drop)] {
        assert!(matches!(answer, Err(ObjectError::Refused(_))), "{answer:?}");
    }
}
