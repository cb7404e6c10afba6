//! What is told of together.

use super::*;

const EVERY: Duration = Duration::from_secs(10);

fn keyed(number: u64, key: &str) -> NewDelivery {
    NewDelivery { key: Some(key.into()), every: EVERY, ..delivery(1, &event("bus-1", number)) }
}

pub async fn of_one_key_one_goes_at_a_time_and_the_others_together(on: &On) {
    let outbox = (on.open)();
    let route = router(&*outbox).await;
    let make = async |new: NewDelivery| outbox.route(route, vec![], vec![new]).await.unwrap();
    make(keyed(1, "a")).await;
    let first = pending(&*outbox, 1).await.remove(0);
    assert_eq!(
        (first.id, first.next_at),
        (keyed(1, "a").id(), first.created_at),
        "the first one goes at once"
    );
    for n in [2, 3, 4, 3, 2] {
        make(keyed(n, "a")).await;
    }
    let found = pending(&*outbox, 1).await;
    assert_eq!(found.len(), 2);
    let second = &found[1];
    assert_eq!((second.id, second.events), (keyed(2, "a").id(), 3), "each of them once");
    assert_eq!(second.event.id, event("bus-1", 4).id, "it is told of the last one");
    assert_eq!(second.next_at, first.next_at + micros(EVERY));
    assert_eq!(queue(&*outbox, 1).await, Some(2));
    // Delivered or not, the time is counted from when it went.
    let deliver = deliverer(&*outbox, 1).await;
    outbox.attempted(deliver, vec![attempt(first.id, Outcome::Delivered, "200")]).await.unwrap();
    make(keyed(5, "a")).await;
    assert_eq!(pending(&*outbox, 1).await[0].events, 4);
    pass(on, &*outbox, EVERY).await;
    let due = pending(&*outbox, 1).await.remove(0);
    assert!(due.id == second.id && due.next_at <= outbox.now().await.unwrap(), "{due:?}");
    // It may be on its way now: nothing joins it any more.
    make(keyed(6, "a")).await;
    let found = pending(&*outbox, 1).await;
    assert_eq!((found[0].id, found[0].events), (second.id, 4));
    assert_eq!((found[1].id, found[1].events), (keyed(6, "a").id(), 1));
    assert!(found[1].next_at >= due.next_at + micros(EVERY), "{found:?}");
}

pub async fn what_was_tried_takes_no_further_events(on: &On) {
    let outbox = (on.open)();
    let route = router(&*outbox).await;
    let later = outbox.now().await.unwrap() + micros(Duration::from_secs(3600));
    outbox.route(route, vec![], vec![keyed(1, "a")]).await.unwrap();
    let again = attempt(keyed(1, "a").id(), Outcome::Retry(later), "503");
    outbox.attempted(deliverer(&*outbox, 1).await, vec![again]).await.unwrap();
    outbox.route(route, vec![], vec![keyed(2, "a")]).await.unwrap();
    let events: Vec<_> = pending(&*outbox, 1).await.iter().map(|delivery| delivery.events).collect();
    assert_eq!(events, [1, 1]);
}

pub async fn other_keys_and_phones_are_told_by_themselves(on: &On) {
    let outbox = (on.open)();
    let phone = |n: u8, new: NewDelivery| NewDelivery { phone: Some(PushTokenId([n; 16])), ..new };
    let all = |n: u64| {
        vec![
            keyed(n, "a"),
            keyed(n + 100, "b"),
            phone(1, keyed(n, "a")),
            phone(2, keyed(n, "a")),
            NewDelivery { subscription: subscription(2), ..keyed(n, "a") },
            delivery(1, &event("bus-1", n + 200)),
        ]
    };
    for n in [1, 2, 3] {
        outbox.route(router(&*outbox).await, vec![], all(n)).await.unwrap();
    }
    let mut found = pending(&*outbox, 1).await;
    found.extend(pending(&*outbox, 2).await);
    let together = found.iter().filter(|delivery| delivery.events == 2).count();
    assert_eq!((found.len(), together), (13, 5), "{found:?}");
}

pub async fn quiet_hours_hold_what_is_told_of_together(on: &On) {
    let outbox = (on.open)();
    let route = router(&*outbox).await;
    let now = outbox.now().await.unwrap();
    let at = |seconds: u64| now + micros(Duration::from_secs(seconds));
    let held = |n: u64, not_before: Micros| NewDelivery { not_before, ..keyed(n, "a") };
    outbox.route(route, vec![], vec![held(1, at(600)), held(2, at(900)), held(3, 0)]).await.unwrap();
    let found = pending(&*outbox, 1).await;
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].events, found[0].next_at),
        (3, at(900)),
        "never before the time that any of them waits for"
    );
}
