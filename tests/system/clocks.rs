//! A clock that was ahead, and was set back since.
//!
//! 1. A subscription that was made meanwhile is told what happens now.

use std::time::Duration;

use trough_notifier::Config;
use trough_runtime::clock::{Clock, micros};
use trough_store::outbox::DeliveryState;
use trough_tests::notices::{Notifier, Stores, event};
use trough_tests::servers::hooks::Hooks;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_from_tomorrow_is_told_today() {
    let (hooks, dir) = (Hooks::start().await, tempfile::tempdir().unwrap());
    let clock = Clock::system();
    let today = Clock::manual(clock.now());
    let stores = Stores::at_time(dir.path(), today.clone());
    let owner = stores.reader("ios", &[]).await;
    today.advance(Duration::from_secs(24 * 60 * 60));
    let id = stores.subscribe(stores.webhook(&owner, "a", hooks.url("/a"))).await;
    today.set(today.now() - micros(Duration::from_secs(24 * 60 * 60)));
    let notifier = Notifier::start(&stores, Config::alone());
    stores.outbox.enter(vec![event("bus-1", 1)]).await.unwrap();
    stores.reach(id, DeliveryState::Delivered, 1).await;
    notifier.stop().await;
}
