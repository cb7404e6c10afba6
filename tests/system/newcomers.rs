//! What is so new that a notifier has not heard of it: it reads who is there now and then, and is rung at once.
//!
//! 1. A test is sent to a subscription that was made a moment before.
//! 2. A push goes to a phone that was registered a moment before.
//! 3. A URL that was given a moment before is not given up for what the one before it answers.
//! 4. An event goes to a reader who was given to see its device a moment before.

use std::collections::BTreeSet;

use trough_notifier::Config;
use trough_notifier::apns::ApnsConfig;
use trough_notifier::apns::token::Credentials;
use trough_store::Group;
use trough_store::outbox::{DeliveryState, NewDelivery, tests_of};
use trough_store::subscription::{NewSubscription, Target};
use trough_tests::notices::{Notifier, Stores, event};
use trough_tests::servers::apns::{Apns, KEY_ID, TEAM_ID, TOPIC};
use trough_tests::servers::hooks::{Hooks, Manner};

/// So often, as now and then it has just looked.
const TIMES: usize = 10;

/// Files, and the same as another process has them open, which hears of changes later; but for the outbox, which rings in
/// both.
fn stores(dir: &tempfile::TempDir) -> (Stores, Stores) {
    let stores = Stores::in_data_dir(dir.path());
    let mut others = Stores::in_data_dir(dir.path());
    others.outbox = stores.outbox.clone();
    (stores, others)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_is_new_is_tested() {
    let (hooks, dir) = (Hooks::start().await, tempfile::tempdir().unwrap());
    let (stores, others) = stores(&dir);
    let owner = stores.reader("ios", &[]).await;
    let notifier = Notifier::start(&others, Config::alone());
    for number in 0..TIMES {
        let name = format!("new-{number}");
        let id = stores.subscribe(stores.webhook(&owner, &name, hooks.url(&format!("/{name}")))).await;
        stores.test(id, None).await;
        stores.reach(id, DeliveryState::Delivered, 1).await;
    }
    // And one that is not there any more is told nothing.
    let id = stores.subscribe(stores.webhook(&owner, "old", hooks.url("/old"))).await;
    let subscription = stores.subscriptions.get_subscription(id).await.unwrap();
    stores.subscriptions.remove_subscription(id).await.unwrap();
    stores.outbox.deliver_test(tests_of(&subscription, &[], 0)[0].clone()).await.unwrap();
    let dropped = stores.reach(id, DeliveryState::Dropped, 1).await;
    assert_eq!(dropped[0].last.as_deref(), Some("the subscription was removed"));
    assert_eq!(hooks.count(), TIMES);
    notifier.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_that_is_new_is_pushed_to() {
    let (apple, dir) = (Apns::start().await, tempfile::tempdir().unwrap());
    let (stores, others) = stores(&dir);
    let owner = stores.reader("ios", &[]).await;
    let id = stores.subscribe(stores.pushes(&owner, "phones")).await;
    let credentials = Credentials::new(&apple.provider_key, KEY_ID, TEAM_ID).unwrap();
    let url: reqwest::Url = apple.url().parse().unwrap();
    let apns = ApnsConfig {
        production: url.clone(),
        sandbox: url,
        ca: Some(apple.ca().into_bytes()),
        ..ApnsConfig::new(credentials)
    };
    let notifier = Notifier::start(&others, Config { apns: Some(apns), ..Config::alone() });
    for number in 0..TIMES {
        let now = stores.outbox.now().await.unwrap();
        let phone = stores.phone(&owner, &format!("aa{number:02}"), TOPIC, now);
        stores.subscriptions.set_push_token(phone.clone()).await.unwrap();
        stores.test(id, Some(&phone)).await;
        stores.reach(id, DeliveryState::Delivered, number + 1).await;
    }
    notifier.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_that_is_new_is_not_given_up_for_the_old_one() {
    let (hooks, dir) = (Hooks::start().await, tempfile::tempdir().unwrap());
    let (stores, others) = stores(&dir);
    let owner = stores.reader("ios", &[]).await;
    hooks.behave("/old", Manner::Status(410));
    let notifier = Notifier::start(&others, Config::alone());
    for number in 0..3 {
        let id = stores.subscribe(stores.webhook(&owner, &format!("a-{number}"), hooks.url("/new"))).await;
        stores.test(id, None).await;
        stores.reach(id, DeliveryState::Delivered, 1).await;
        // As if it had been the old one's all along.
        let before = stores.subscriptions.get_subscription(id).await.unwrap().wanted;
        let to = |url: &str| {
            let Target::Webhook { keys, old_key_until, .. } = before.target.clone() else { unreachable!() };
            let target = Target::Webhook { url: hooks.url(url), keys, old_key_until };
            NewSubscription { target, ..before.clone() }
        };
        let replace = async |from, to| stores.subscriptions.replace_subscription(from, to).await.unwrap();
        assert!(replace(before.clone(), to("/old")).await.is_some());
        // Who is not in it has it read anew.
        let other = stores.subscribe(stores.webhook(&owner, &format!("b-{number}"), hooks.url("/new"))).await;
        stores.test(other, None).await;
        stores.reach(other, DeliveryState::Delivered, 1).await;
        assert!(replace(to("/old"), to("/new")).await.is_some());
        stores.test(id, None).await;
        stores.reach(id, DeliveryState::Delivered, 2).await;
        assert_eq!(stores.subscriptions.get_subscription(id).await.unwrap().disabled, None);
    }
    notifier.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_is_newly_seen_is_told_of() {
    let (hooks, dir) = (Hooks::start().await, tempfile::tempdir().unwrap());
    let (stores, others) = stores(&dir);
    let owner = stores.reader("north", &["north"]).await;
    let id = stores.subscribe(stores.webhook(&owner, "north", hooks.url("/north"))).await;
    let subscription = stores.subscriptions.get_subscription(id).await.unwrap();
    let made = tests_of(&subscription, &[], 0).remove(0);
    let deliver = async |device: &str, number| {
        let new = NewDelivery { event: event(device, number), ..made.clone() };
        stores.outbox.deliver_test(new).await.unwrap();
    };
    let notifier = Notifier::start(&others, Config::alone());
    for number in 1..=TIMES {
        let device = format!("bus-{number}");
        stores.device(&device, &["south"]).await;
        deliver(&device, 1).await;
        stores.reach(id, DeliveryState::Dropped, number).await;
        // Whoever routes may know it already; whoever delivers remembers what was so before.
        let north = BTreeSet::from([Group::new("north").unwrap()]);
        stores.registry.set_groups(&device.parse().unwrap(), north).await.unwrap();
        deliver(&device, 2).await;
        stores.reach(id, DeliveryState::Delivered, number).await;
    }
    notifier.stop().await;
}
