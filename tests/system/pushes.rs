//! Pushes to a server that behaves as Apple documents, from a notifier in this process.
//!
//! 1. A push has the headers and the token that Apple checks; all of them go over one connection, with one token.
//! 2. A phone that Apple does not know any more is forgotten, unless it has registered since; its neighbours are not.
//! 3. What Apple is too busy for is sent again, with the same id; what is our fault is not held against the phone, and
//!    health says so.
//! 4. A phone that cannot be pushed to just now delays no other, also when more waits for it than is looked at at once; what
//!    is too much for it is dropped, and the subscription goes on.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use trough_notifier::Config;
use trough_notifier::apns::ApnsConfig;
use trough_notifier::apns::token::Credentials;
use trough_store::ReaderName;
use trough_store::outbox::{DeliveryFilter, DeliveryState, PAGE_MAX, PENDING_MAX, PHONE_PENDING_PART};
use trough_tests::notices::{Notifier, Stores, event};
use trough_tests::poll::{SOON, until};
use trough_tests::servers::apns::{Apns, KEY_ID, TEAM_ID, TOPIC};

fn config(apple: &Apns) -> Config {
    let credentials = Credentials::new(&apple.provider_key, KEY_ID, TEAM_ID).unwrap();
    let url: reqwest::Url = apple.url().parse().unwrap();
    let apns = ApnsConfig {
        production: url.clone(),
        sandbox: url,
        ca: Some(apple.ca().into_bytes()),
        ..ApnsConfig::new(credentials)
    };
    Config { apns: Some(apns), waits: vec![Duration::from_millis(20); 3], ..Config::alone() }
}

/// A reader with phones of these tokens, subscribed to everything.
async fn subscribed(stores: &Stores, tokens: &[&str]) -> (ReaderName, trough_store::SubscriptionId) {
    let owner = stores.reader("ios", &[]).await;
    for token in tokens {
        let now = stores.outbox.now().await.unwrap();
        stores.subscriptions.set_push_token(stores.phone(&owner, token, TOPIC, now)).await.unwrap();
    }
    let id = stores.subscribe(stores.pushes(&owner, "phones")).await;
    (owner, id)
}

async fn reach(stores: &Stores, of: trough_store::SubscriptionId, states: &[DeliveryState]) {
    let what = format!("deliveries are {states:?}");
    until(&what, SOON, async || {
        let now: Vec<_> = stores.deliveries(of).await.into_iter().map(|delivery| delivery.state).collect();
        (now == states).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushes_are_as_apple_wants_them_over_one_connection() {
    let (apple, stores) = (Apns::start().await, Arc::new(Stores::new()));
    let (_, id) = subscribed(&stores, &["aa01", "bb02", "cc03"]).await;
    let notifier = Notifier::start(&stores, config(&apple));
    stores.outbox.enter((1..=10).map(|number| event("bus-1", number)).collect()).await.unwrap();
    reach(&stores, id, &[DeliveryState::Delivered; 30]).await;
    let pushes = apple.pushes();
    assert!(pushes.iter().all(|push| push.status == 200), "{pushes:?}");
    assert_eq!((pushes.len(), apple.connections(), apple.bearers().len()), (30, 1, 1));
    let of: Vec<_> = pushes.iter().filter(|push| push.token == "bb02").collect();
    let bodies: Vec<_> =
        of.iter().map(|push| push.payload["aps"]["alert"]["body"].as_str().unwrap()).collect();
    let expected: Vec<_> = (1..=10).map(|number| format!("number {number}")).collect();
    assert_eq!(bodies, expected, "in order, for each phone");
    assert_eq!(of[0].payload["aps"]["alert"]["title"], "bus-1: fast matched");
    assert_eq!(of[0].header("apns-collapse-id"), of[9].header("apns-collapse-id"));
    notifier.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_that_is_gone_is_forgotten_unless_it_has_come_back() {
    let (apple, stores) = (Apns::start().await, Stores::new());
    let (owner, id) = subscribed(&stores, &["aa01", "bb02", "cc03"]).await;
    apple.answer("aa01", 410, json!({ "reason": "Unregistered", "timestamp": 9_999_999_999_999_u64 }), None);
    apple.answer("bb02", 410, json!({ "reason": "Unregistered", "timestamp": 9_999_999_999_999_u64 }), None);
    // Long before it was registered.
    apple.answer("cc03", 410, json!({ "reason": "Unregistered", "timestamp": 1 }), None);
    let notifier = Notifier::start(&stores, config(&apple));
    stores.outbox.enter(vec![event("bus-1", 1)]).await.unwrap();
    let left = until("two are forgotten", SOON, async || {
        let phones = stores.subscriptions.list_push_tokens(Some(&owner)).await.unwrap();
        (phones.len() == 1).then_some(phones)
    })
    .await;
    assert_eq!(left[0].id, stores.phone(&owner, "cc03", TOPIC, 0).id);
    until("all is settled", SOON, async || {
        let deliveries = stores.deliveries(id).await;
        let count = |state| deliveries.iter().filter(|delivery| delivery.state == state).count();
        (count(DeliveryState::Dropped) == 2 && count(DeliveryState::Delivered) == 1).then_some(())
    })
    .await;
    stores.outbox.enter(vec![event("bus-1", 2)]).await.unwrap();
    until("the other is pushed to", SOON, async || {
        (apple.pushes().iter().filter(|push| push.token == "cc03").count() == 3).then_some(())
    })
    .await;
    assert_eq!(apple.pushes().len(), 5);
    notifier.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_apple_is_too_busy_for_is_sent_again_and_our_faults_are_ours() {
    let (apple, stores) = (Apns::start().await, Stores::new());
    let (owner, id) = subscribed(&stores, &["aa01"]).await;
    apple.refuse("aa01", 503, "ServiceUnavailable");
    apple.answer("aa01", 429, json!({ "reason": "TooManyRequests" }), Some("1"));
    let notifier = Notifier::start(&stores, config(&apple));
    stores.outbox.enter(vec![event("bus-1", 1)]).await.unwrap();
    reach(&stores, id, &[DeliveryState::Delivered]).await;
    let pushes = apple.pushes();
    let statuses: Vec<_> = pushes.iter().map(|push| push.status).collect();
    assert_eq!(statuses, [503, 429, 200]);
    assert!(pushes.iter().all(|push| push.header("apns-id") == pushes[0].header("apns-id")));
    assert!(pushes.iter().all(|push| push.header("apns-expiration") == pushes[0].header("apns-expiration")));
    apple.refuse("aa01", 403, "InvalidProviderToken");
    stores.outbox.enter(vec![event("bus-1", 2)]).await.unwrap();
    until("health says whose fault it is", SOON, async || {
        let parts = notifier.health.degraded();
        parts.into_iter().find(|(part, reason)| part == "apns" && reason.contains("InvalidProviderToken"))
    })
    .await;
    let waiting = stores.deliveries(id).await;
    until("it waits", SOON, async || {
        let waiting = stores.deliveries(id).await;
        (waiting[1].attempts == 1 && waiting[1].state == DeliveryState::Pending).then_some(())
    })
    .await;
    assert_eq!(waiting.len(), 2);
    assert_eq!(stores.subscriptions.list_push_tokens(Some(&owner)).await.unwrap().len(), 1);
    notifier.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_that_waits_delays_no_other() {
    let (apple, stores) = (Apns::start().await, Stores::new());
    subscribed(&stores, &["aa01", "bb02"]).await;
    apple.answer("aa01", 429, json!({ "reason": "TooManyRequests" }), Some("3600"));
    let notifier = Notifier::start(&stores, config(&apple));
    stores.outbox.enter((1..=5).map(|number| event("bus-1", number)).collect()).await.unwrap();
    until("the other has all", SOON, async || {
        (apple.pushes().iter().filter(|push| push.token == "bb02").count() == 5).then_some(())
    })
    .await;
    assert_eq!(apple.pushes().iter().filter(|push| push.token == "aa01").count(), 1);
    notifier.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_that_waits_for_long_takes_nothing_from_the_others() {
    let (apple, stores) = (Apns::start().await, Stores::new());
    let (_, id) = subscribed(&stores, &["aa01", "bb02"]).await;
    apple.answer("aa01", 429, json!({ "reason": "TooManyRequests" }), Some("3600"));
    let notifier = Notifier::start(&stores, config(&apple));
    let events = 1_050;
    let pushed = |token: &str| apple.pushes().iter().filter(|push| push.token == token).count() as u64;
    for first in (1..=events).step_by(50) {
        let some = (first..first + 50).map(|number| event("bus-1", number)).collect();
        stores.outbox.enter(some).await.unwrap();
        // More than a phone may have waiting at once would be dropped for this one too.
        until("the other has all", SOON, async || (pushed("bb02") == first + 49).then_some(())).await;
    }
    assert_eq!(pushed("aa01"), 1);
    assert_eq!(stores.subscriptions.get_subscription(id).await.unwrap().disabled, None);
    let state = Some(DeliveryState::Dropped);
    let filter = DeliveryFilter { subscriptions: Some(vec![id]), state, limit: PAGE_MAX, before: None };
    let dropped = stores.outbox.list_deliveries(filter).await.unwrap();
    assert_eq!(dropped.len() as u64, events - PENDING_MAX / PHONE_PENDING_PART);
    assert!(dropped.iter().all(|one| one.last.as_ref().unwrap().contains("wait for this phone")));
    notifier.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_key_pushes_wait_and_say_so() {
    let stores = Stores::new();
    let (_, id) = subscribed(&stores, &["aa01"]).await;
    let notifier = Notifier::start(&stores, Config::alone());
    stores.outbox.enter(vec![event("bus-1", 1)]).await.unwrap();
    let said = until("it was tried", SOON, async || stores.deliveries(id).await.first()?.last.clone()).await;
    assert!(said.contains("--apns-key-file"), "{said}");
    let waiting = &stores.deliveries(id).await[0];
    assert_eq!(
        (waiting.state, waiting.attempts),
        (DeliveryState::Pending, 0),
        "it is no fault of the phone's"
    );
    notifier.stop().await;
}
