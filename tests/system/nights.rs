//! Quiet hours of a subscription, by a clock of the test.
//!
//! 1. Nothing is sent in them but a test, however it came to be due then: it is tried again, was to be told of with others,
//!    or its subscription was enabled. What is held is sent at their end, and has lost no try; what is dropped says why.

use std::time::Duration;

use trough_notifier::Config;
use trough_runtime::clock::Clock;
use trough_store::outbox::DeliveryState;
use trough_store::subscription::{NewSubscription, Quiet, QuietHours};
use trough_tests::notices::{Notifier, Stores, event};
use trough_tests::poll::{SOON, until};
use trough_tests::servers::hooks::{Hooks, Manner};

fn at(text: &str) -> u64 {
    text.parse::<jiff::Timestamp>().unwrap().as_microsecond().try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_at_night() {
    let (hooks, dir) = (Hooks::start().await, tempfile::tempdir().unwrap());
    let (evening, morning) = (at("2026-07-01T21:59:58Z"), at("2026-07-02T07:00:00Z"));
    let clock = Clock::manual(evening);
    let stores = Stores::at_time(dir.path(), clock.clone());
    let owner = stores.reader("ios", &[]).await;
    let with = |name: &str, then, coalesce| {
        let (from, to) = ("22:00".parse().unwrap(), "07:00".parse().unwrap());
        NewSubscription {
            quiet: Some(QuietHours { from, to, zone: "UTC".into(), then }),
            coalesce: Duration::from_secs(coalesce),
            ..stores.webhook(&owner, name, hooks.url(&format!("/{name}")))
        }
    };
    let crowd = stores.subscribe(with("crowd", Quiet::Hold, 2)).await;
    let dropped = stores.subscribe(with("dropped", Quiet::Drop, 2)).await;
    let again = stores.subscribe(with("again", Quiet::Hold, 0)).await;
    hooks.behave("/again", Manner::Header(503, "retry-after", "60".into()));
    let notifier = Notifier::start(&stores, Config::alone());
    stores.outbox.enter(vec![event("bus-1", 1), event("bus-1", 2)]).await.unwrap();
    until("the first of each was tried, and the second of two waits", SOON, async || {
        let mut firsts = Vec::new();
        for id in [crowd, dropped, again] {
            let all = stores.deliveries(id).await;
            firsts.push((all.len() == 2 && all[0].attempts == 1).then_some(())?);
        }
        Some(firsts)
    })
    .await;
    assert_eq!(hooks.count(), 3);
    clock.advance(Duration::from_secs(3600));
    let night = stores.reach(dropped, DeliveryState::Dropped, 1).await;
    assert!(night[0].last.as_ref().unwrap().contains("quiet hours"), "{:?}", night[0]);
    let held = until("the others are held", SOON, async || {
        // As somebody enables it, until the notifier has looked at the clock.
        clock.advance(Duration::from_millis(1));
        stores.outbox.resume(again).await.unwrap();
        let (crowd, again) =
            (stores.deliveries(crowd).await[1].clone(), stores.deliveries(again).await[0].clone());
        (crowd.next_at == morning && again.next_at == morning).then_some([crowd, again])
    })
    .await;
    assert_eq!(held.map(|one| one.attempts), [0, 1], "it counts as no try");
    // Somebody is awake.
    let test = stores.test(crowd, None).await;
    until("a test is sent", SOON, async || {
        (stores.outbox.get_delivery(test).await.unwrap().state == DeliveryState::Delivered).then_some(())
    })
    .await;
    assert_eq!(hooks.count(), 4, "and nothing else");
    clock.advance(Duration::from_micros(morning - clock.now()));
    hooks.behave("/again", Manner::Status(200));
    stores.outbox.enter(vec![event("bus-2", 3)]).await.unwrap();
    until("all is sent", SOON, async || {
        clock.advance(Duration::from_millis(1));
        stores.outbox.resume(again).await.unwrap();
        let sent = async |id| {
            let all = stores.deliveries(id).await;
            all.iter().filter(|one| one.state == DeliveryState::Delivered).count()
        };
        (sent(again).await == 3 && sent(crowd).await == 4).then_some(())
    })
    .await;
    notifier.stop().await;
}
