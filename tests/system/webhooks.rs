//! Webhooks to real sockets, from a notifier in this process.
//!
//! 1. A request carries what the Standard Webhooks specification says, and the specification's own implementation for
//!    another language accepts its signature; while a key is replaced, by either key.
//! 2. Every answer has its consequence: 2xx is delivered, 3xx is not followed, 410 disables the subscription, `Retry-After`
//!    is kept, silence and endless bodies end.
//! 3. Nothing is sent in clear or to private addresses unless that is allowed, also not by way of a name.
//! 4. Deliveries of a subscription come in order, with ids that stay the same over retries; one that was given up lets the
//!    next ones pass, and can be replayed.
//! 5. An endpoint that hangs delays no other, and one that asks some for patience takes from the others what they have.
//! 6. A reader is told of what it sees, and of nothing else: neither of devices of other groups, nor of events from before
//!    it subscribed, nor after it was revoked or while somebody else has its name.
//! 7. What happens in quiet hours is dropped or held, and what is coalesced is told of together.
//! 8. A stop lets what is on its way end.
//! 9. Forgetting what is old keeps nothing from being told, however long it takes; a notifier that cannot note what it does
//!    because of a fault of its own ends, rather than do it again and again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use trough_notifier::Config;
use trough_notifier::tried::{Tried, Verdict};
use trough_notifier::webhook::{Hook, Webhooks};
use trough_runtime::clock::Clock;
use trough_store::outbox::{Delivery, DeliveryState, SHARDS, Shard};
use trough_store::rule::Scope;
use trough_store::subscription::{NewSubscription, Quiet, QuietHours};
use trough_store::webhook::Reach;
use trough_store::{EventKind, Group, SealKey, Sealed, SubscriptionId};
use trough_tests::faulty_outbox::{Fault, FaultyOutbox};
use trough_tests::notices::{Notifier, SIGNING_KEY, Stores, event, verify};
use trough_tests::poll::{SOON, ends, until};
use trough_tests::servers::hooks::{Hooks, Manner};

const OPEN: Reach = Reach { http: true, private_networks: true };

/// Retries without a wait that a test would feel.
fn quick() -> Config {
    Config { waits: vec![Duration::from_millis(20); 3], ..Config::alone() }
}

fn delivery(subscription: SubscriptionId) -> Delivery {
    Delivery {
        id: trough_store::outbox::DeliveryId::of(&[b"one"]),
        subscription,
        phone: None,
        position: 1,
        event: event("bus-1", 7),
        events: 1,
        state: DeliveryState::Pending,
        attempts: 0,
        attempts_before_replay: 0,
        next_at: 0,
        last: None,
        created_at: 0,
        finished_at: None,
    }
}

struct Sender {
    seal: SealKey,
    subscription: SubscriptionId,
    keys: Vec<Sealed>,
    webhooks: Webhooks,
}

impl Sender {
    fn new(reach: Reach, timeout: Duration) -> Self {
        let (seal, subscription) = (SealKey::new(&[1; 32]), SubscriptionId::of(&[b"s"]));
        let keys = vec![seal.seal(&SIGNING_KEY, &subscription.to_string())];
        Self { seal, subscription, keys, webhooks: Webhooks::new(reach, timeout, Clock::system()).unwrap() }
    }

    async fn send(&self, url: &str, old_key_until: Option<u64>) -> Tried {
        let hook = Hook { url, keys: &self.keys, old_key_until };
        self.webhooks.send(hook, (&delivery(self.subscription), None), &self.seal).await
    }
}

#[tokio::test]
async fn another_implementation_accepts_the_signature() {
    let hooks = Hooks::start().await;
    let mut sender = Sender::new(OPEN, SOON);
    let url = hooks.url("/hook?key=in-the-url");
    assert_eq!(sender.send(&url, None).await.verdict, Verdict::Delivered);
    let calls = hooks.calls("/hook");
    assert_eq!(calls[0].header("webhook-id"), delivery(sender.subscription).id.to_string());
    assert_eq!(calls[0].header("content-type"), "application/json");
    assert_eq!(calls[0].json()["type"], "rule.matched");
    assert_eq!(calls[0].json()["data"]["device"], "bus-1");
    assert_eq!(verify(&SIGNING_KEY, &calls), Ok(1));
    assert!(verify(&[6; 32], &calls).unwrap_err().contains("No matching signature"));
    // While a key is replaced either is good; later the new one alone.
    sender.keys.insert(0, sender.seal.seal(&[6; 32], &sender.subscription.to_string()));
    let ends = Clock::system().now() + 60_000_000;
    sender.send(&url, Some(ends)).await;
    sender.send(&url, Some(1)).await;
    let calls = hooks.calls("/hook");
    assert_eq!(verify(&SIGNING_KEY, &calls[1..2]), Ok(1));
    assert_eq!(verify(&[6; 32], &calls[1..3]), Ok(2));
    assert!(verify(&SIGNING_KEY, &calls[2..3]).is_err());
}

#[tokio::test]
async fn every_answer_has_its_consequence() {
    let hooks = Hooks::start().await;
    let sender = Sender::new(OPEN, Duration::from_millis(1500));
    let seconds = |seconds| Verdict::Again(Some(Duration::from_secs(seconds)));
    for (path, manner, verdict, said) in [
        ("/204", Manner::Status(204), Verdict::Delivered, "204 No Content"),
        ("/404", Manner::Status(404), Verdict::Again(None), "404 Not Found: {\"said\":\"this\"}"),
        ("/410", Manner::Status(410), Verdict::Gone, "410 Gone"),
        (
            "/302",
            Manner::Header(302, "location", hooks.url("/elsewhere")),
            Verdict::Again(None),
            "not followed",
        ),
        ("/429", Manner::Header(429, "retry-after", "7".into()), seconds(7), "429"),
        ("/503", Manner::Header(503, "retry-after", "3600".into()), seconds(3600), "503"),
        ("/hang", Manner::Hang, Verdict::Again(None), "did not answer in time"),
        ("/endless", Manner::Endless(200), Verdict::Delivered, "200 OK: xxx"),
        ("/endless-500", Manner::Endless(500), Verdict::Again(None), "500"),
    ] {
        hooks.behave(path, manner);
        let tried = sender.send(&hooks.url(path), None).await;
        assert_eq!(tried.verdict, verdict, "{path}: {}", tried.said);
        assert!(tried.said.contains(said) && tried.said.len() <= 300, "{path}: {}", tried.said);
    }
    assert!(hooks.calls("/elsewhere").is_empty());
}

#[tokio::test]
async fn nothing_is_sent_to_where_only_we_get() {
    let hooks = Hooks::start().await;
    let port = hooks.at.port();
    let closed = Sender::new(Reach { http: true, private_networks: false }, SOON);
    // A name is looked up when the connection is made; what it leads to is checked there.
    for url in [hooks.url("/"), format!("http://localhost:{port}/"), "http://[::1]/".into()] {
        let tried = closed.send(&url, None).await;
        assert!(tried.said.contains("--webhook-private-networks"), "{url}: {}", tried.said);
        assert!(matches!(tried.verdict, Verdict::Again(None) | Verdict::Ours), "{url}: {tried:?}");
        assert_eq!(tried.status, None);
    }
    let secure = Sender::new(Reach { http: false, private_networks: true }, SOON);
    let tried = secure.send(&hooks.url("/"), None).await;
    assert!(tried.verdict == Verdict::Ours && tried.said.contains("--webhook-http"), "{tried:?}");
    assert_eq!(hooks.count(), 0);
}

async fn numbers(hooks: &Hooks, path: &str) -> Vec<u64> {
    hooks.calls(path).iter().map(|call| call.json()["data"]["data"]["number"].as_u64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_come_in_order_and_what_was_given_up_can_be_replayed() {
    let (hooks, stores) = (Hooks::start().await, Stores::new());
    let owner = stores.reader("ios", &[]).await;
    let id = stores.subscribe(stores.webhook(&owner, "a", hooks.url("/a"))).await;
    // An endpoint that answers, whatever it says: one that does not is only probed now and then.
    hooks.behave("/a", Manner::Status(404));
    let notifier = Notifier::start(&stores, quick());
    stores.outbox.enter((1..=3).map(|number| event("bus-1", number)).collect()).await.unwrap();
    let dead = stores.reach(id, DeliveryState::Dead, 3).await;
    // Four tries of each, and none of the second before the first was given up.
    assert_eq!(numbers(&hooks, "/a").await, [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]);
    assert!(dead.iter().all(|delivery| delivery.attempts == 4));
    assert!(dead[0].last.as_ref().unwrap().contains("404"), "{:?}", dead[0].last);
    let ids: BTreeSet<_> =
        hooks.calls("/a").iter().map(|call| call.header("webhook-id").to_owned()).collect();
    assert_eq!(ids, dead.iter().map(|delivery| delivery.id.to_string()).collect());
    assert_eq!(verify(&SIGNING_KEY, &hooks.calls("/a")), Ok(12));
    hooks.behave("/a", Manner::Status(200));
    stores.outbox.enter((4..=60).map(|number| event("bus-1", number)).collect()).await.unwrap();
    stores.reach(id, DeliveryState::Delivered, 57).await;
    stores.outbox.replay(dead[1].id).await.unwrap();
    stores.reach(id, DeliveryState::Delivered, 58).await;
    let expected: Vec<_> = (4..=60).chain([2]).collect();
    assert_eq!(numbers(&hooks, "/a").await[12..], expected);
    notifier.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_hangs_delays_no_other() {
    let (slow, fast, stores) = (Hooks::start().await, Hooks::start().await, Stores::new());
    let owner = stores.reader("ios", &[]).await;
    slow.behave("/slow", Manner::Hang);
    for number in 0..40 {
        let wanted = stores.webhook(&owner, &format!("slow-{number}"), slow.url("/slow"));
        stores.subscribe(wanted).await;
    }
    let id = stores.subscribe(stores.webhook(&owner, "fast", fast.url("/fast"))).await;
    let notifier = Notifier::start(&stores, Config { webhook_timeout: SOON * 2, ..quick() });
    stores.outbox.enter((1..=20).map(|number| event("bus-1", number)).collect()).await.unwrap();
    until("the slow endpoint hangs", SOON, async || (slow.most_open("/slow") == 4).then_some(())).await;
    let began = Instant::now();
    stores.reach(id, DeliveryState::Delivered, 20).await;
    assert!(began.elapsed() < SOON, "it waited for the other");
    assert_eq!(slow.most_open("/slow"), 4, "an endpoint has four requests at a time");
    drop(notifier);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_asks_some_for_patience_gets_what_is_for_the_others() {
    let (hooks, stores) = (Hooks::start().await, Stores::new());
    let owner = stores.reader("ios", &[]).await;
    // More than open the breaker, for longer than anybody waits here.
    for number in 0..20 {
        let path = format!("/limited-{number}");
        let status = [429, 503][number % 2];
        hooks.behave(&path, Manner::Header(status, "retry-after", "3600".into()));
        stores.subscribe(stores.webhook(&owner, &path, hooks.url(&path))).await;
    }
    let notifier = Notifier::start(&stores, quick());
    stores.outbox.enter(vec![event("bus-1", 1)]).await.unwrap();
    until("each was asked for patience", SOON, async || (hooks.count() == 20).then_some(())).await;
    let id = stores.subscribe(stores.webhook(&owner, "well", hooks.url("/well"))).await;
    stores.outbox.enter((2..=6).map(|number| event("bus-1", number)).collect()).await.unwrap();
    stores.reach(id, DeliveryState::Delivered, 5).await;
    assert_eq!(hooks.count(), 20 + 5, "whoever was asked waits");
    notifier.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_410_disables_the_subscription() {
    let (hooks, stores) = (Hooks::start().await, Stores::new());
    let owner = stores.reader("ios", &[]).await;
    let id = stores.subscribe(stores.webhook(&owner, "a", hooks.url("/a"))).await;
    hooks.behave("/a", Manner::Status(410));
    let notifier = Notifier::start(&stores, quick());
    stores.outbox.enter(vec![event("bus-1", 1), event("bus-1", 2)]).await.unwrap();
    stores.reach(id, DeliveryState::Dead, 1).await;
    let disabled = stores.subscriptions.get_subscription(id).await.unwrap().disabled.unwrap();
    assert!(disabled.reason.contains("410 Gone"), "{}", disabled.reason);
    // What waits goes on waiting until somebody enables it.
    hooks.behave("/a", Manner::Status(200));
    stores.subscriptions.disable_subscription(id, None).await.unwrap();
    stores.reach(id, DeliveryState::Delivered, 1).await;
    assert_eq!(numbers(&hooks, "/a").await, [1, 2]);
    notifier.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_is_told_of_what_it_sees_and_of_nothing_else() {
    let (hooks, stores) = (Hooks::start().await, Stores::new());
    stores.device("bus-1", &["north"]).await;
    stores.device("bus-2", &["south"]).await;
    stores.outbox.enter(vec![event("bus-1", 0)]).await.unwrap();
    let north = stores.reader("north", &["north"]).await;
    let id = stores.subscribe(stores.webhook(&north, "north", hooks.url("/north"))).await;
    let groups = Scope::Groups(BTreeSet::from([Group::new("south").unwrap()]));
    let wide = stores.reader("all", &[]).await;
    let south = NewSubscription { scope: groups, ..stores.webhook(&wide, "south", hooks.url("/south")) };
    let south = stores.subscribe(south).await;
    let other = NewSubscription {
        events: BTreeSet::from([EventKind::GapOpened]),
        ..stores.webhook(&wide, "gaps", hooks.url("/gaps"))
    };
    stores.subscribe(other).await;
    let notifier = Notifier::start(&stores, quick());
    stores.outbox.enter(vec![event("bus-2", 1), event("bus-1", 2), event("unknown", 3)]).await.unwrap();
    stores.reach(id, DeliveryState::Delivered, 1).await;
    stores.reach(south, DeliveryState::Delivered, 1).await;
    // What was made while the device was seen is not sent when it is not any more.
    hooks.behave("/north", Manner::Status(500));
    stores.outbox.enter(vec![event("bus-1", 4)]).await.unwrap();
    until("it was tried", SOON, async || (hooks.calls("/north").len() >= 2).then_some(())).await;
    let device = "bus-1".parse().unwrap();
    stores.registry.set_groups(&device, BTreeSet::from([Group::new("south").unwrap()])).await.unwrap();
    let ended = until("it was dropped or given up", SOON, async || {
        let deliveries = stores.deliveries(id).await;
        deliveries.into_iter().nth(1).filter(|delivery| delivery.state != DeliveryState::Pending)
    })
    .await;
    assert!(ended.state == DeliveryState::Dead || ended.last.unwrap().contains("does not see the device"));
    assert_eq!(numbers(&hooks, "/south").await[0], 1);
    assert_eq!(numbers(&hooks, "/north").await[0], 2);
    assert!(hooks.calls("/gaps").is_empty());
    // Whoever gets the name of a revoked reader does not get its subscriptions.
    stores.registry.revoke_reader(&north).await.unwrap();
    stores.reader("north", &[]).await;
    let mut number = 5;
    let disabled = until("the subscription is disabled", SOON, async || {
        // A change of rights is noticed within half a second.
        number += 1;
        stores.outbox.enter(vec![event("bus-2", number)]).await.unwrap();
        stores.subscriptions.get_subscription(id).await.unwrap().disabled
    })
    .await;
    assert_eq!(disabled.reason, "its reader was revoked");
    assert!(numbers(&hooks, "/north").await.iter().all(|number| *number < 5));
    notifier.stop().await;
}

/// All day but for a minute that is far from now.
fn all_day(then: Quiet) -> QuietHours {
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).time();
    let far = now.wrapping_add(jiff::SignedDuration::from_hours(12));
    QuietHours {
        from: far.wrapping_add(jiff::SignedDuration::from_mins(1)),
        to: far,
        zone: "UTC".into(),
        then,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quiet_hours_drop_or_hold_and_a_crowd_is_told_of_together() {
    let (hooks, stores) = (Hooks::start().await, Stores::new());
    let owner = stores.reader("ios", &[]).await;
    let with = |name: &str, quiet, coalesce| NewSubscription {
        quiet,
        coalesce: Duration::from_secs(coalesce),
        ..stores.webhook(&owner, name, hooks.url(&format!("/{name}")))
    };
    let dropped = stores.subscribe(with("drop", Some(all_day(Quiet::Drop)), 0)).await;
    let held = stores.subscribe(with("hold", Some(all_day(Quiet::Hold)), 0)).await;
    let crowd = stores.subscribe(with("crowd", None, 2)).await;
    let notifier = Notifier::start(&stores, quick());
    stores.outbox.enter((1..=5).map(|number| event("bus-1", number)).collect()).await.unwrap();
    // The first goes at once; the others when the time is over, as the last of them, with their number.
    stores.reach(crowd, DeliveryState::Delivered, 2).await;
    let told: Vec<_> = hooks.calls("/crowd").iter().map(|call| call.json()["data"].clone()).collect();
    assert_eq!((&told[0]["events"], &told[0]["data"]["number"]), (&1.into(), &1.into()));
    assert_eq!((&told[1]["events"], &told[1]["data"]["number"]), (&4.into(), &5.into()));
    let dropped = stores.reach(dropped, DeliveryState::Dropped, 5).await;
    assert!(dropped[0].last.as_ref().unwrap().contains("quiet hours"), "{:?}", dropped[0].last);
    let held = stores.reach(held, DeliveryState::Pending, 5).await;
    assert!(held.iter().all(|delivery| delivery.next_at > Clock::system().now() + 3_600_000_000));
    assert!(hooks.calls("/hold").is_empty() && hooks.calls("/drop").is_empty());
    notifier.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_lets_what_is_on_its_way_end() {
    let (hooks, stores) = (Hooks::start().await, Stores::new());
    let owner = stores.reader("ios", &[]).await;
    let id = stores.subscribe(stores.webhook(&owner, "a", hooks.url("/a"))).await;
    hooks.behave("/a", Manner::Slow(Duration::from_millis(500)));
    let notifier = Notifier::start(&stores, quick());
    stores.outbox.enter((1..=5).map(|number| event("bus-1", number)).collect()).await.unwrap();
    until("the first is on its way", SOON, async || (hooks.count() == 1).then_some(())).await;
    notifier.stop().await;
    let states: Vec<_> = stores.deliveries(id).await.into_iter().map(|delivery| delivery.state).collect();
    let [first, rest @ ..] = states.as_slice() else { panic!("{states:?}") };
    assert_eq!(*first, DeliveryState::Delivered);
    assert!(rest.iter().all(|state| *state == DeliveryState::Pending), "{rest:?}");
    assert_eq!(hooks.count(), 1);
    // Another goes on where it was.
    hooks.behave("/a", Manner::Status(200));
    let notifier = Notifier::start(&stores, quick());
    stores.reach(id, DeliveryState::Delivered, 5).await;
    assert_eq!(numbers(&hooks, "/a").await, [1, 2, 3, 4, 5]);
    notifier.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_subscription_is_sent_nothing() {
    let (hooks, stores) = (Hooks::start().await, Stores::new());
    let owner = stores.reader("ios", &[]).await;
    let id = stores.subscribe(stores.webhook(&owner, "a", hooks.url("/a"))).await;
    hooks.behave("/a", Manner::Header(503, "retry-after", "1".into()));
    let notifier = Notifier::start(&stores, quick());
    stores.outbox.enter(vec![event("bus-1", 1), event("bus-1", 2)]).await.unwrap();
    until("it was tried", SOON, async || (hooks.count() == 1).then_some(())).await;
    stores.subscriptions.remove_subscription(id).await.unwrap();
    let dropped = stores.reach(id, DeliveryState::Dropped, 2).await;
    assert_eq!(dropped[1].last.as_deref(), Some("the subscription was removed"));
    assert_eq!(hooks.count(), 1);
    notifier.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_old_keeps_nothing_from_being_told() {
    let (hooks, mut stores) = (Hooks::start().await, Stores::new());
    let owner = stores.reader("ios", &[]).await;
    let id = stores.subscribe(stores.webhook(&owner, "all", hooks.url("/all"))).await;
    stores.outbox = Arc::new(FaultyOutbox(stores.outbox.clone(), Fault::ForgetHangs));
    // Of each part of routing there is a device.
    let device = |part: u16| {
        (0..)
            .map(|n| format!("bus-{n}"))
            .find(|name| Shard::of_event(&event(name, 1)).number == part)
            .unwrap()
    };
    let notifier = Notifier::start(&stores, quick());
    for number in 1..=2 {
        let some: Vec<_> = (0..SHARDS).map(|part| event(&device(part), number)).collect();
        stores.outbox.enter(some).await.unwrap();
        stores.reach(id, DeliveryState::Delivered, usize::from(SHARDS) * number as usize).await;
    }
    notifier.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_note_what_it_does_ends() {
    let (hooks, mut stores) = (Hooks::start().await, Stores::new());
    let owner = stores.reader("ios", &[]).await;
    stores.subscribe(stores.webhook(&owner, "all", hooks.url("/all"))).await;
    stores.outbox = Arc::new(FaultyOutbox(stores.outbox.clone(), Fault::NotingPanics));
    let notifier = Notifier::start(&stores, quick());
    stores.outbox.enter(vec![event("bus-1", 1)]).await.unwrap();
    assert!(ends("the notifier ends", SOON, notifier.panics()).await);
    assert_eq!(hooks.count(), 1, "it is not sent again and again");
}
