//! A subscription of which too many deliveries wait, and that is enabled again.
//!
//! 1. It is disabled, and says why. Once it is enabled, what waits is sent at once, also what was to be tried again hours
//!    later, and it is not disabled again for what still waits; what there is no room for is dropped and says so.

use std::time::Duration;

use trough_notifier::Config;
use trough_store::outbox::{CLAIM_MAX, DELIVERIES_MAX, DeliveryFilter, DeliveryState, PENDING_MAX, Shard};
use trough_store::outbox::{NewDelivery, PAGE_MAX, tests_of};
use trough_tests::notices::{Notifier, Stores, event};
use trough_tests::poll::{SOON, until};
use trough_tests::servers::hooks::{Hooks, Manner};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waited_too_long_is_sent_when_it_is_enabled() {
    let (hooks, stores) = (Hooks::start().await, Stores::new());
    let owner = stores.reader("ios", &[]).await;
    let id = stores.subscribe(stores.webhook(&owner, "a", hooks.url("/a"))).await;
    let subscription = stores.subscriptions.get_subscription(id).await.unwrap();
    // As many wait as may.
    let claim = stores.outbox.claim(Shard::of_event(&event("bus-1", 0)), [7; 16], CLAIM_MAX).await.unwrap();
    let claim = claim.unwrap();
    let made = tests_of(&subscription, &[], 0).remove(0);
    let made = (0..PENDING_MAX).map(|number| NewDelivery { event: event("bus-1", number), ..made.clone() });
    let made: Vec<_> = made.collect();
    for some in made.chunks(DELIVERIES_MAX) {
        assert_eq!(stores.outbox.route(claim, vec![], some.to_vec()).await, Ok(vec![]));
    }
    stores.outbox.release(claim).await.unwrap();
    hooks.behave("/a", Manner::Header(503, "retry-after", "36000".into()));
    let notifier = Notifier::start(&stores, Config::alone());
    let first = made[0].id();
    until("the first was tried", SOON, async || {
        (stores.outbox.get_delivery(first).await.unwrap().attempts == 1).then_some(())
    })
    .await;
    stores.outbox.enter(vec![event("bus-1", PENDING_MAX), event("bus-1", PENDING_MAX + 1)]).await.unwrap();
    let disabled = until("it is disabled", SOON, async || {
        stores.subscriptions.get_subscription(id).await.unwrap().disabled
    })
    .await;
    assert!(disabled.reason.contains("10000 deliveries wait"), "{}", disabled.reason);
    // As `enable` does. Much happens at once, and the endpoint is slow.
    hooks.behave("/a", Manner::Slow(Duration::from_millis(20)));
    stores.outbox.resume(id).await.unwrap();
    stores.subscriptions.disable_subscription(id, None).await.unwrap();
    let crowd = (0..500).map(|number| event("bus-2", number)).collect();
    until("the first is sent", SOON, async || (hooks.count() >= 2).then_some(())).await;
    stores.outbox.enter(crowd).await.unwrap();
    let filter =
        DeliveryFilter { subscriptions: Some(vec![id]), limit: PAGE_MAX, ..DeliveryFilter::default() };
    let dropped = DeliveryFilter { state: Some(DeliveryState::Dropped), ..filter };
    let dropped = until("what there is no room for is dropped", SOON, async || {
        let dropped = stores.outbox.list_deliveries(dropped.clone()).await.unwrap();
        (!dropped.is_empty()).then_some(dropped)
    })
    .await;
    assert!(dropped[0].last.as_ref().unwrap().contains("more than 10000 deliveries"), "{:?}", dropped[0]);
    let sent = hooks.count();
    until("it goes on", SOON, async || (hooks.count() > sent + 20).then_some(())).await;
    assert_eq!(stores.subscriptions.get_subscription(id).await.unwrap().disabled, None);
    assert_eq!(stores.outbox.get_delivery(first).await.unwrap().state, DeliveryState::Delivered);
    notifier.stop().await;
}
