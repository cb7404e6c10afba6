//! The outbox, and rules, subscriptions and push tokens, in a real database server.
//!
//! 1. They pass the suites that every such store passes, each case in a database of its own.
//! 2. What was returned is there after kill -9 of the server, and what was left open is done once when it is done again.
//! 3. A thousand deliveries are made and noted in a few transactions.
//! 4. Of 10,000 rules and subscriptions none more is added, and the refusal says so.
//! 5. Readers, subscriptions and phones are made at the database's time, whatever clocks say.
//! 6. What somebody was about to change when it was killed is in nobody's way when its claim has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mongodb::bson::{Document, doc};
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
use trough_store::rule::{Condition, NewRule, RULES_MAX, Scope};
use trough_store::subscription::{
    NewSubscription, PushEnvironment, PushToken, PushTokenId, SUBSCRIPTIONS_MAX, SubscriptionId, Target,
};
use trough_store::{
    GroupAccess, NewReader, ReaderName, Registry, RegistryError, SealKey, Subscriptions, outbox_suite,
    subscriptions_suite,
};
use trough_tests::poll::{LATER, SOON, until};
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

fn rule(name: &str, when: &str) -> NewRule {
    let condition = Condition::Compare { channel: None, when: when.parse().unwrap() };
    NewRule { name: name.parse().unwrap(), scope: Scope::All, condition }
}

fn wanted(number: u8, owner: &ReaderName) -> NewSubscription {
    NewSubscription {
        id: SubscriptionId([number; 16]),
        owner: owner.clone(),
        events: Default::default(),
        rules: Default::default(),
        scope: Scope::All,
        target: Target::Push,
        quiet: None,
        coalesce: Duration::ZERO,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_rules_and_subscriptions_than_there_may_be_are_refused_with_the_limit() {
    let server = Mongo::start().await;
    let registry = (registry_fixture(&server).await.open)();
    let owner = ReaderName::new("ios").unwrap();
    registry.set_rule(rule("first", "/speed > 1")).await.unwrap();
    registry.add_subscription(wanted(1, &owner)).await.unwrap();
    let names = server.client().list_database_names().await.unwrap();
    let database = server.client().database(names.iter().find(|name| name.starts_with("case-")).unwrap());
    for (collection, max) in [("rules", RULES_MAX), ("subscriptions", SUBSCRIPTIONS_MAX)] {
        let all = database.collection::<Document>(collection);
        let others = (1..max).map(|n| doc! { "_id": format!("other-{n}") });
        all.insert_many(others).ordered(false).await.unwrap();
    }
    let why = registry.set_rule(rule("one-more", "/speed > 1")).await.unwrap_err();
    assert!(matches!(&why, RegistryError::Invalid(why) if why.contains("10000 rules")), "{why}");
    let why = registry.add_subscription(wanted(2, &owner)).await.unwrap_err();
    assert!(matches!(&why, RegistryError::Invalid(why) if why.contains("10000 subscriptions")), "{why}");
    // What there is may be changed, and makes room when it goes.
    registry.set_rule(rule("first", "/speed > 2")).await.unwrap();
    registry.remove_rule(&"first".parse().unwrap(), None).await.unwrap();
    registry.set_rule(rule("one-more", "/speed > 1")).await.unwrap();
    registry.remove_subscription(SubscriptionId([1; 16])).await.unwrap();
    registry.add_subscription(wanted(2, &owner)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_made_before_what_does_not_depend_on_clocks() {
    let server = Mongo::start().await;
    let open = |clock: Clock| {
        let client = Database::new(server.url("trough").parse().unwrap(), Health::new());
        MongoRegistry::new(client, clock).with_database_time()
    };
    let outbox = MongoOutbox::new(Database::new(server.url("trough").parse().unwrap(), Health::new()));
    let hour = Duration::from_secs(3600);
    let (ahead, behind) =
        (open(Clock::manual(Clock::system().now() + 3_600_000_000)), open(Clock::manual(START)));
    let began = outbox.now().await.unwrap();
    let owner = ReaderName::new("ios").unwrap();
    let scopes = trough_store::Scope::ALL.into_iter().collect();
    let reader = NewReader { name: owner.clone(), scopes, groups: GroupAccess::All };
    ahead.add_reader(reader).await.unwrap();
    let set_at = ahead.set_rule(rule("fast", "/speed > 1")).await.unwrap().set_at;
    let subscription = behind.add_subscription(wanted(1, &owner)).await.unwrap();
    let phone = PushToken {
        id: PushTokenId([1; 16]),
        owner: owner.clone(),
        token: SealKey::new(&[7; 32]).seal(b"a phone's", "push-token"),
        environment: PushEnvironment::Sandbox,
        topic: "org.example.app".into(),
        registered_at: START,
    };
    behind.set_push_token(phone).await.unwrap();
    let ended = outbox.now().await.unwrap();
    let readers = behind.list_readers().await.unwrap();
    let phones = ahead.list_push_tokens(None).await.unwrap();
    let (reader_at, phone_at) = (readers[0].created_at, phones[0].registered_at);
    let times = [began, reader_at, set_at, subscription.created_at, phone_at, ended];
    assert!(times.is_sorted(), "{times:?}");
    assert!(ended - began < trough_runtime::clock::micros(hour));
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
    let pending = outbox.pending(to, vec![], PAGE_MAX).await.unwrap();
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
        let pending = outbox.pending(to, vec![], 250).await.unwrap();
        if pending.is_empty() {
            break;
        }
        let done = |delivery: trough_store::outbox::DeliveryId| Attempt {
            delivery,
            before: 0,
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_was_killed_in_is_undone_by_whoever_comes_next() {
    let server = Mongo::start().await;
    let open = || MongoOutbox::new(Database::new(server.url("trough").parse().unwrap(), Health::new()));
    let (killed, next) = (open(), open());
    let one = event(1);
    next.enter(vec![one.clone()]).await.unwrap();
    let shard = Shard::of_event(&one);
    let short = Duration::from_millis(500);
    let lost = killed.claim(shard, [1; 16], short).await.unwrap().unwrap();
    let shards = server.client().database("trough").collection::<Document>("outbox_shards");
    let this = doc! { "_id": shard.to_string() };
    let claimed = shards.find_one(this.clone()).await.unwrap().unwrap();
    let session = claimed.get_document("session").unwrap();
    let its_event = doc! { "_id": one.id.to_string() };
    server.leave_open("trough", session, &[("outbox_shards", this.clone()), ("outbox_events", its_event)]);
    // Longer than a claim lasts, and shorter than the server waits for whoever began it.
    let claim = until("the claim is had", SOON, async || next.claim(shard, [2; 16], CLAIM_MAX).await.ok()?);
    let claim = claim.await;
    assert!(claim.token > lost.token);
    next.route(claim, vec![one.id], vec![delivery(one.clone(), SubscriptionId([7; 16]))]).await.unwrap();
    let routed = shards.find_one(this).await.unwrap().unwrap();
    assert!(!routed.contains_key("left_open"), "{routed}");
    // Whoever gives a claim back leaves no session to be ended.
    next.release(claim).await.unwrap();
    let free = shards.find_one(doc! { "_id": shard.to_string() }).await.unwrap().unwrap();
    assert!(free.get("session").is_none_or(|session| session.as_null().is_some()), "{free}");
}
