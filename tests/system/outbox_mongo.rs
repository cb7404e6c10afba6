//! The outbox, and rules, subscriptions and push tokens, in a real database server.
//!
//! 1. They pass the suites that every such store passes, each case in a database of its own.
//! 2. What was returned is there after kill -9 of the server, and what was left open is done once when it is done again.
//! 3. A thousand deliveries are made and noted in a few transactions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::value::RawValue;
use trough_protocol::DeviceId;
use trough_runtime::clock::Clock;
use trough_runtime::health::Health;
use trough_store::conformance::outbox::PendingMax;
use trough_store::conformance::subscriptions::InRegistry;
use trough_store::conformance::{Fixture, START};
use trough_store::event::{Event, EventId, EventKind};
use trough_store::mongo::{Mongo as Database, MongoOutbox, MongoRegistry};
use trough_store::outbox::{Attempt, CLAIM_MAX, NewDelivery, Outbox, OutboxError, Outcome, PAGE_MAX, Shard};
use trough_store::subscription::SubscriptionId;
use trough_store::{Registry, outbox_suite, subscriptions_suite};
use trough_tests::poll::{LATER, until};
use trough_tests::servers::mongo::Mongo;

/// The test server takes its time.
const PENDING: PendingMax = PendingMax(50);

fn new_database(server: &Mongo) -> String {
    static DATABASES: AtomicU32 = AtomicU32::new(0);
    server.url(&format!("case-{}", DATABASES.fetch_add(1, Ordering::Relaxed)))
}

/// An outbox in a new database. Each that is opened has its own connections, as another process would.
async fn fixture(server: &Mongo) -> Fixture<dyn Outbox> {
    let url = new_database(server);
    let open = move || {
        let client = Database::new(url.parse().unwrap(), Health::new());
        Arc::new(MongoOutbox::new(client).with_pending_max(PENDING.0)) as Arc<dyn Outbox>
    };
    // The clock is the server's.
    Fixture { clock: Clock::manual(START), open: Box::new(open), keep: Box::new(PENDING) }
}

async fn registry_fixture(server: &Mongo) -> Fixture<dyn InRegistry> {
    let url = new_database(server);
    let clock = Clock::manual(START);
    let time = clock.clone();
    let open = move || {
        let client = Database::new(url.parse().unwrap(), Health::new());
        let registry = Arc::new(MongoRegistry::new(client, time.clone()));
        // A registry that nobody used yet does not look for changes.
        let used = async { registry.list_readers().await.unwrap() };
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(used));
        registry as Arc<dyn InRegistry>
    };
    Fixture { clock, open: Box::new(open), keep: Box::new(()) }
}

mod outbox {
    use super::*;
    outbox_suite!(on Mongo::start(), fixture);
}

mod subscriptions {
    use super::*;
    subscriptions_suite!(on Mongo::start(), registry_fixture);
}

fn event(n: u64) -> Event {
    Event {
        id: EventId::of(&[&n.to_be_bytes()]),
        kind: EventKind::DeviceOnline,
        at: n,
        rule: None,
        device: Some(DeviceId::new("bus-1").unwrap()),
        group: None,
        frame: None,
        trace: None,
        data: RawValue::from_string("{}".into()).unwrap(),
    }
}

fn delivery(event: Event, to: SubscriptionId) -> NewDelivery {
    NewDelivery {
        subscription: to,
        phone: None,
        event,
        not_before: 0,
        key: None,
        every: Duration::ZERO,
        dropped: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_left_open_is_done_once() {
    let mut server = Mongo::start().await;
    let outbox =
        Arc::new(MongoOutbox::new(Database::new(server.url("trough").parse().unwrap(), Health::new())));
    let to = SubscriptionId([7; 16]);
    let events: Vec<_> = (0..20).map(event).collect();
    outbox.enter(events.clone()).await.unwrap();
    let claim = outbox.claim(Shard::of_event(&events[0]), [1; 16], CLAIM_MAX).await.unwrap().unwrap();
    let ids: Vec<_> = events.iter().map(|event| event.id).collect();
    let deliveries: Vec<_> = events.iter().map(|event| delivery(event.clone(), to)).collect();
    // Somewhere on its way the server dies.
    let left_open = tokio::spawn({
        let (outbox, ids, deliveries) = (outbox.clone(), ids.clone(), deliveries.clone());
        async move { outbox.route(claim, ids, deliveries).await }
    });
    server.kill();
    let first = left_open.await.unwrap();
    let unavailable = |error: &OutboxError| matches!(error, OutboxError::Unavailable { .. });
    assert!(first.as_ref().map_or_else(unavailable, Vec::is_empty), "{first:?}");
    server.restart().await;
    until("the events are routed", LATER, async || {
        match outbox.route(claim, ids.clone(), deliveries.clone()).await {
            Ok(full) => {
                assert!(full.is_empty());
                Some(())
            }
            Err(error) => {
                assert!(unavailable(&error), "{error}");
                None
            }
        }
    })
    .await;
    let pending = outbox.pending(to, PAGE_MAX).await.unwrap();
    let made: Vec<_> = pending.iter().map(|delivery| (delivery.position, delivery.event.id)).collect();
    assert_eq!(made, (1..).zip(ids).collect::<Vec<_>>());
    assert!(outbox.unrouted(claim.shard, PAGE_MAX).await.unwrap().is_empty());
    assert_eq!(outbox.queues(Shard::of_subscription(to)).await.unwrap()[0].pending, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_deliveries_are_a_few_transactions() {
    let server = Mongo::start().await;
    let outbox = MongoOutbox::new(Database::new(server.url("trough").parse().unwrap(), Health::new()));
    let to = SubscriptionId([7; 16]);
    let events: Vec<_> = (0..1000).map(event).collect();
    outbox.enter(events.clone()).await.unwrap();
    let routing = outbox.claim(Shard::of_event(&events[0]), [1; 16], CLAIM_MAX).await.unwrap().unwrap();
    let delivering = outbox.claim(Shard::of_subscription(to), [1; 16], CLAIM_MAX).await.unwrap().unwrap();
    let began = std::time::Instant::now();
    for some in events.chunks(250) {
        let deliveries = some.iter().map(|event| delivery(event.clone(), to)).collect();
        outbox.route(routing, some.iter().map(|event| event.id).collect(), deliveries).await.unwrap();
    }
    loop {
        let pending = outbox.pending(to, 250).await.unwrap();
        if pending.is_empty() {
            break;
        }
        let done = |delivery: trough_store::outbox::DeliveryId| Attempt {
            delivery,
            outcome: Outcome::Delivered,
            said: "200 OK".into(),
        };
        let attempts = pending.iter().map(|delivery| done(delivery.id)).collect();
        outbox.attempted(delivering, attempts).await.unwrap();
    }
    // A timing is no assertion; it is for whoever looks.
    println!("1000 deliveries were routed and noted in {:?}", began.elapsed());
    assert!(outbox.queues(delivering.shard).await.unwrap().is_empty());
}
