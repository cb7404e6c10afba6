//! What became of deliveries.

use super::*;

pub async fn tries_are_noted(on: &On) {
    let (outbox, other) = ((on.open)(), (on.open)());
    let events: Vec<_> = (1..=4).map(|n| event("bus-1", n)).collect();
    let made = routed(&*outbox, 1, &events).await;
    let claim = deliverer(&*outbox, 1).await;
    let later = outbox.now().await.unwrap() + 5_000_000;
    let long = "é".repeat(SAID_BYTES_MAX);
    let tries = vec![
        attempt(made[0], Outcome::Retry(later), "503"),
        attempt(made[1], Outcome::Delivered, "200"),
        attempt(made[2], Outcome::Dead, &long),
        attempt(DeliveryId([9; 16]), Outcome::Dead, "forgotten"),
        attempt(made[3], Outcome::Dropped, "the phone is gone"),
    ];
    outbox.attempted(claim, tries).await.unwrap();
    let expected = [
        (DeliveryState::Pending, 1, "503"),
        (DeliveryState::Delivered, 1, "200"),
        (DeliveryState::Dead, 1, &long[..SAID_BYTES_MAX]),
        (DeliveryState::Dropped, 0, "the phone is gone"),
    ];
    // What is finished does not change any more.
    let finished = made[1..].iter().map(|id| attempt(*id, Outcome::Retry(1), "late")).collect();
    other.attempted(claim, finished).await.unwrap();
    for outbox in [&outbox, &other, &(on.open)()] {
        for (id, (state, attempts, last)) in made.iter().zip(expected) {
            let found = outbox.get_delivery(*id).await.unwrap();
            assert_eq!((found.state, found.attempts, found.last.as_deref()), (state, attempts, Some(last)));
            assert_eq!(found.finished_at.is_some(), state != DeliveryState::Pending);
            assert!(found.finished_at.is_none_or(|at| at >= found.created_at), "{found:?}");
        }
        assert_eq!(pending_ids(&**outbox, 1).await, made[..1]);
        assert_eq!(outbox.get_delivery(made[0]).await.unwrap().next_at, later);
        assert_eq!(queue(&**outbox, 1).await, Some(1));
    }
    let again = attempt_after(1, made[0], Outcome::Retry(u64::MAX), "");
    let third = attempt_after(2, made[0], Outcome::Delivered, "200");
    let tries = vec![again, third, attempt_after(3, made[0], Outcome::Dead, "")];
    outbox.attempted(claim, tries).await.unwrap();
    let found = outbox.get_delivery(made[0]).await.unwrap();
    assert_eq!((found.state, found.attempts), (DeliveryState::Delivered, 3), "one after the other");
    assert_eq!(queue(&*outbox, 1).await, None);
    let many = vec![attempt(made[0], Outcome::Dead, ""); STEP_MAX + 1];
    assert!(refusal(outbox.attempted(claim, many).await).contains("1001 tries"));
}

pub async fn a_try_that_is_noted_twice_counts_once(on: &On) {
    let (outbox, other) = ((on.open)(), (on.open)());
    let events: Vec<_> = (1..=2).map(|n| event("bus-1", n)).collect();
    let made = routed(&*outbox, 1, &events).await;
    let claim = deliverer(&*outbox, 1).await;
    let later = outbox.now().await.unwrap() + 5_000_000;
    let note = vec![
        attempt(made[0], Outcome::Retry(later), "503"),
        attempt_after(1, made[0], Outcome::Retry(later + 1), "504"),
        attempt(made[1], Outcome::Delivered, "200"),
    ];
    // Nobody knows whether the first was heard.
    outbox.attempted(claim, note.clone()).await.unwrap();
    other.attempted(claim, note.clone()).await.unwrap();
    let found = outbox.get_delivery(made[0]).await.unwrap();
    assert_eq!((found.attempts, found.next_at, found.last.as_deref()), (2, later + 1, Some("504")));
    assert_eq!(queue(&*outbox, 1).await, Some(1));
    // It is not the try of a replay, either.
    outbox.replay(made[1]).await.unwrap();
    outbox.attempted(claim, note).await.unwrap();
    let replayed = outbox.get_delivery(made[1]).await.unwrap();
    assert_eq!((replayed.state, replayed.attempts), (DeliveryState::Pending, 1));
    assert_eq!(queue(&*outbox, 1).await, Some(2));
    // What is not to be sent is no try, and is dropped once.
    let drop = attempt_after(2, made[0], Outcome::Dropped, "the phone is gone");
    outbox.attempted(claim, vec![drop.clone(), drop]).await.unwrap();
    let dropped = outbox.get_delivery(made[0]).await.unwrap();
    assert_eq!((dropped.state, dropped.attempts), (DeliveryState::Dropped, 2));
    assert_eq!(queue(&*outbox, 1).await, Some(1));
}

pub async fn tries_are_noted_all_or_none(on: &On) {
    let outbox = (on.open)();
    let others = (2..)
        .find(|n| Shard::of_subscription(subscription(*n)) != Shard::of_subscription(subscription(1)))
        .unwrap();
    let one = event("bus-1", 1);
    let mine = routed(&*outbox, 1, std::slice::from_ref(&one)).await[0];
    let foreign = routed(&*outbox, others, std::slice::from_ref(&one)).await[0];
    let tries = vec![attempt(mine, Outcome::Delivered, ""), attempt(foreign, Outcome::Delivered, "")];
    refusal(outbox.attempted(deliverer(&*outbox, 1).await, tries).await);
    assert_eq!((queue(&*outbox, 1).await, queue(&*outbox, others).await), (Some(1), Some(1)));
    assert_eq!(outbox.get_delivery(mine).await.unwrap().state, DeliveryState::Pending);
}

pub async fn a_replay_goes_to_the_back(on: &On) {
    let (outbox, other) = ((on.open)(), (on.open)());
    let events: Vec<_> = (1..=4).map(|n| event("bus-1", n)).collect();
    let made = routed(&*outbox, 1, &events).await;
    let claim = deliverer(&*outbox, 1).await;
    let outcomes = [Outcome::Delivered, Outcome::Dead, Outcome::Dropped];
    let tries = made.iter().zip(outcomes).map(|(id, outcome)| attempt(*id, outcome, "so")).collect();
    outbox.attempted(claim, tries).await.unwrap();
    let waits = outbox.replay(made[3]).await.unwrap();
    assert_eq!((waits.position, waits.state), (4, DeliveryState::Pending), "one that waits is left alone");
    for (n, id) in made[..3].iter().enumerate() {
        let before = other.get_delivery(*id).await.unwrap();
        let replayed = other.replay(*id).await.unwrap();
        assert_eq!(replayed.position, 5 + n as u64);
        assert_eq!((replayed.state, replayed.finished_at), (DeliveryState::Pending, None));
        assert_eq!(
            (replayed.attempts_before_replay, replayed.attempts, replayed.created_at),
            (before.attempts, before.attempts, before.created_at),
            "it has all its tries again"
        );
        assert_eq!(replayed.last, before.last);
        assert_eq!(format!("{:?}", outbox.get_delivery(*id).await.unwrap()), format!("{replayed:?}"));
    }
    assert_eq!(pending_ids(&*outbox, 1).await, [made[3], made[0], made[1], made[2]]);
    assert_eq!(queue(&*outbox, 1).await, Some(4));
    outbox.attempted(claim, vec![attempt_after(1, made[1], Outcome::Delivered, "now")]).await.unwrap();
    assert_eq!(outbox.get_delivery(made[1]).await.unwrap().attempts, 2);
    assert_eq!(queue(&*outbox, 1).await, Some(3));
}

pub async fn what_is_held_counts_no_try(on: &On) {
    let outbox = (on.open)();
    let made = routed(&*outbox, 1, &[event("bus-1", 1), event("bus-1", 2)]).await;
    let claim = deliverer(&*outbox, 1).await;
    let later = outbox.now().await.unwrap() + 5_000_000;
    let tries =
        vec![attempt(made[0], Outcome::Retry(later), "503"), attempt(made[1], Outcome::Held(later), "night")];
    outbox.attempted(claim, tries).await.unwrap();
    // Later still, and twice the same.
    let tries = vec![attempt_after(1, made[0], Outcome::Held(later + 1), "night"); 2];
    outbox.attempted(claim, tries).await.unwrap();
    for (id, attempts, next_at) in [(made[0], 1, later + 1), (made[1], 0, later)] {
        let found = outbox.get_delivery(id).await.unwrap();
        assert_eq!((found.state, found.attempts), (DeliveryState::Pending, attempts));
        assert_eq!((found.next_at, found.last.as_deref()), (next_at, Some("night")));
    }
    assert_eq!(queue(&*outbox, 1).await, Some(2));
}

pub async fn what_is_resumed_is_tried_at_once(on: &On) {
    let (outbox, other) = ((on.open)(), (on.open)());
    let made = routed(&*outbox, 1, &[event("bus-1", 1)]).await;
    let (shard, claim) = (Shard::of_subscription(subscription(1)), deliverer(&*outbox, 1).await);
    let later = outbox.now().await.unwrap() + micros(Duration::from_secs(3600));
    let held = NewDelivery { not_before: later, ..delivery(1, &event("bus-1", 2)) };
    outbox.route(router(&*outbox).await, vec![], vec![held.clone()]).await.unwrap();
    outbox.attempted(claim, vec![attempt(made[0], Outcome::Retry(later), "503")]).await.unwrap();
    assert_eq!(outbox.queues(shard).await.unwrap()[0].resumed_at, 0);
    let before = outbox.now().await.unwrap();
    for _ in 0..2 {
        other.resume(subscription(1)).await.unwrap();
        let found = outbox.get_delivery(made[0]).await.unwrap();
        assert!((before..later).contains(&found.next_at), "{found:?}");
        assert_eq!((found.state, found.attempts), (DeliveryState::Pending, 1));
        assert!((before..later).contains(&outbox.queues(shard).await.unwrap()[0].resumed_at));
        assert_eq!(
            outbox.get_delivery(held.id()).await.unwrap().next_at,
            later,
            "what is only held is not due"
        );
    }
    // One that never had anything has nothing to be resumed.
    outbox.resume(subscription(2)).await.unwrap();
    assert_eq!(queue(&*outbox, 2).await, None);
}

pub async fn what_there_is_not_is_not_found(on: &On) {
    let outbox = (on.open)();
    let id = DeliveryId([9; 16]);
    let none = OutboxError::NotFound { what: "delivery", id: id.to_string() };
    assert_eq!(outbox.get_delivery(id).await.unwrap_err(), none);
    assert_eq!(outbox.replay(id).await.unwrap_err(), none);
    assert!(none.to_string().contains(&id.to_string()));
    assert!(pending(&*outbox, 1).await.is_empty());
    for shard in Shard::all(Duty::Deliver) {
        assert_eq!(outbox.queues(shard).await.unwrap().len(), 0);
    }
}

pub async fn what_is_finished_is_forgotten_after_a_while(on: &On) {
    let outbox = (on.open)();
    let events: Vec<_> = (1..=6).map(|n| event("bus-1", n)).collect();
    let made = routed(&*outbox, 1, &events[..5]).await;
    outbox.enter(events[5..].to_vec()).await.unwrap();
    let tries = made[..3].iter().map(|id| attempt(*id, Outcome::Delivered, "")).collect();
    outbox.attempted(deliverer(&*outbox, 1).await, tries).await.unwrap();
    let long = Duration::from_secs(3600);
    assert_eq!(outbox.forget(long, PAGE_MAX).await, Ok(0), "nothing is old enough");
    pass(on, &*outbox, Duration::from_millis(50)).await;
    let old = Duration::from_millis(20);
    let mut forgotten = 0;
    loop {
        let some = outbox.forget(old, 2).await.unwrap();
        assert!(some <= 4, "{some}");
        forgotten += some;
        if some == 0 {
            break;
        }
    }
    assert_eq!(forgotten, 3 + 5);
    assert!(outbox.get_delivery(made[0]).await.is_err());
    assert_eq!(pending_ids(&*outbox, 1).await, made[3..], "what waits stays, though its event is forgotten");
    let left = outbox.unrouted(Shard::of_event(&events[5]), PAGE_MAX).await.unwrap();
    assert_eq!(entered(&left), [events[5].id], "and what waits to be routed");
    assert_eq!(pending(&*outbox, 1).await[0].event.id, events[3].id);
}

pub async fn news_rise_with_events_and_deliveries(on: &On) {
    let outbox = (on.open)();
    let mut news = outbox.news();
    let mut came = async |what: &str| {
        let moved = tokio::time::timeout(Duration::from_secs(10), news.changed()).await;
        assert!(moved.is_ok_and(|moved| moved.is_ok()), "{what}");
        *news.borrow_and_update()
    };
    let (watch, one) = (claimed(&*outbox, Shard::of(Duty::Watch, "bus-1")).await, event("bus-1", 1));
    outbox.watched(watch, WatchStep { events: vec![one.clone()], ..WatchStep::default() }).await.unwrap();
    let mut last = came("watched").await;
    outbox.enter(vec![event("bus-1", 2)]).await.unwrap();
    for what in ["entered", "routed", "tested", "replayed"] {
        match what {
            "routed" => drop(routed(&*outbox, 1, &[event("bus-1", 3)]).await),
            "tested" => drop(outbox.deliver_test(delivery(1, &event("test", 1))).await.unwrap()),
            "replayed" => drop(outbox.replay(delivery(1, &event("test", 1)).id()).await.unwrap()),
            _ => {}
        }
        let now = came(what).await;
        assert!(now > last, "{what}");
        last = now;
    }
}
