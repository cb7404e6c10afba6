//! Making deliveries.

use super::*;

pub async fn a_delivery_is_made_once_for_each_subscription_and_phone(on: &On) {
    let (outbox, other) = ((on.open)(), (on.open)());
    let events = [event("bus-1", 1), event("bus-1", 2)];
    outbox.enter(events.to_vec()).await.unwrap();
    let claim = router(&*outbox).await;
    let phone = |n: u8, new: NewDelivery| NewDelivery { phone: Some(PushTokenId([n; 16])), ..new };
    let deliveries = vec![
        delivery(1, &events[1]),
        phone(1, delivery(2, &events[0])),
        delivery(1, &events[0]),
        phone(2, delivery(2, &events[0])),
    ];
    let before = outbox.now().await.unwrap();
    for outbox in [&outbox, &outbox, &other] {
        assert_eq!(outbox.route(claim, ids(&events), deliveries.clone()).await, Ok(vec![]));
    }
    for outbox in [&outbox, &other, &(on.open)()] {
        assert_eq!(entered(&outbox.unrouted(claim.shard, PAGE_MAX).await.unwrap()), []);
        let first = pending(&**outbox, 1).await;
        let ids: Vec<_> = first.iter().map(|delivery| delivery.id).collect();
        assert_eq!(ids, [deliveries[0].id(), deliveries[2].id()], "in the order that was given");
        let positions: Vec<_> = first.iter().map(|delivery| delivery.position).collect();
        assert_eq!(positions, [1, 2]);
        let phones: Vec<_> = pending(&**outbox, 2).await.iter().map(|delivery| delivery.phone).collect();
        assert_eq!(phones, [deliveries[1].phone, deliveries[3].phone]);
        let one = &first[0];
        assert_eq!(one.subscription, subscription(1));
        assert_eq!(format!("{:?}", one.event), format!("{:?}", events[1]));
        assert_eq!((one.events, one.state, one.attempts), (1, DeliveryState::Pending, 0));
        assert_eq!((one.last.as_ref(), one.finished_at), (None, None));
        assert!(one.created_at >= before && one.next_at == one.created_at, "{one:?}");
        assert_eq!(queue(&**outbox, 1).await, Some(2));
        assert_eq!(queue(&**outbox, 2).await, Some(2));
        assert_eq!(queue(&**outbox, 3).await, None);
        let found = outbox.get_delivery(one.id).await.unwrap();
        assert_eq!(format!("{found:?}"), format!("{one:?}"));
    }
    assert_eq!(outbox.pending(subscription(1), vec![], 1).await.unwrap().len(), 1);
}

pub async fn an_event_may_be_routed_in_parts(on: &On) {
    let outbox = (on.open)();
    let one = event("bus-1", 1);
    outbox.enter(vec![one.clone()]).await.unwrap();
    let claim = router(&*outbox).await;
    outbox.route(claim, vec![], vec![delivery(1, &one)]).await.unwrap();
    assert_eq!(entered(&outbox.unrouted(claim.shard, PAGE_MAX).await.unwrap()), [one.id]);
    // Whoever goes on does not know how far it was.
    outbox.route(claim, vec![one.id], vec![delivery(1, &one), delivery(2, &one)]).await.unwrap();
    assert_eq!(entered(&outbox.unrouted(claim.shard, PAGE_MAX).await.unwrap()), []);
    assert_eq!((queue(&*outbox, 1).await, queue(&*outbox, 2).await), (Some(1), Some(1)));
    // One that is forgotten was routed.
    assert_eq!(outbox.route(claim, vec![event("bus-1", 9).id], vec![]).await, Ok(vec![]));
}

pub async fn what_is_dropped_is_noted_and_does_not_wait(on: &On) {
    let outbox = (on.open)();
    let one = event("bus-1", 1);
    let reason = format!("quiet hours{}", "é".repeat(SAID_BYTES_MAX));
    let dropped = NewDelivery { dropped: Some(reason.clone()), ..delivery(1, &one) };
    outbox.route(router(&*outbox).await, vec![], vec![dropped.clone()]).await.unwrap();
    assert_eq!(pending_ids(&*outbox, 1).await, []);
    assert_eq!(queue(&*outbox, 1).await, None);
    let found = outbox.get_delivery(dropped.id()).await.unwrap();
    assert_eq!((found.state, found.attempts), (DeliveryState::Dropped, 0));
    assert_eq!(found.finished_at, Some(found.created_at));
    let last = found.last.unwrap();
    assert!(
        reason.starts_with(&last) && (SAID_BYTES_MAX - 1..=SAID_BYTES_MAX).contains(&last.len()),
        "{last}"
    );
}

pub async fn what_is_not_due_waits(on: &On) {
    let outbox = (on.open)();
    let now = outbox.now().await.unwrap();
    let later = now + micros(Duration::from_secs(3600));
    let held = NewDelivery { not_before: later, ..delivery(1, &event("bus-1", 1)) };
    let past = NewDelivery { not_before: now - 1, ..delivery(1, &event("bus-1", 2)) };
    outbox.route(router(&*outbox).await, vec![], vec![held.clone(), past.clone()]).await.unwrap();
    let found = pending(&*outbox, 1).await;
    let ids: Vec<_> = found.iter().map(|delivery| delivery.id).collect();
    assert_eq!(ids, [past.id(), held.id()], "what is only held stands behind what is due");
    assert_eq!((found[0].position, found[1].position), (2, 1));
    assert!(found[1].next_at == later && found[0].next_at >= now, "{found:?}");
    // What is tried again keeps its place, also while it waits.
    let claim = deliverer(&*outbox, 1).await;
    outbox.attempted(claim, vec![attempt(past.id(), Outcome::Retry(later + 1), "503")]).await.unwrap();
    assert_eq!(pending_ids(&*outbox, 1).await, [past.id(), held.id()]);
    on.clock.advance(Duration::from_secs(3600));
    if outbox.now().await.unwrap() >= later {
        assert_eq!(pending_ids(&*outbox, 1).await, [held.id(), past.id()]);
    }
}

/// One more than may wait does, and tells that it is too many.
pub async fn what_waits_is_bounded(on: &On) {
    let max = on.keep.downcast_ref::<PendingMax>().map_or(PENDING_MAX, |PendingMax(max)| *max);
    let outbox = (on.open)();
    let claim = router(&*outbox).await;
    let events: Vec<_> = (0..max + 3).map(|n| event("bus-1", n)).collect();
    let (most, more) = events.split_at(usize::try_from(max).unwrap());
    for some in most.chunks(DELIVERIES_MAX) {
        let deliveries = some.iter().map(|event| delivery(1, event)).collect();
        assert_eq!(outbox.route(claim, vec![], deliveries).await, Ok(vec![]));
    }
    let deliveries: Vec<_> = more.iter().flat_map(|event| [delivery(1, event), delivery(2, event)]).collect();
    for _ in 0..2 {
        assert_eq!(outbox.route(claim, vec![], deliveries.clone()).await, Ok(vec![subscription(1)]));
    }
    assert_eq!(queue(&*outbox, 1).await, Some(max + 1));
    assert_eq!(queue(&*outbox, 2).await, Some(3), "others are not concerned");
    let full = |why: String| {
        let numbers =
            [format!("{} deliveries", max + 1), format!("and {max} may"), subscription(1).to_string()];
        assert!(numbers.iter().all(|number| why.contains(number)), "{why}");
    };
    full(refusal(outbox.deliver_test(delivery(1, &event("test", 1))).await));
    // What has gone makes room.
    let first = outbox.pending(subscription(1), vec![], 2).await.unwrap();
    let done = first.iter().map(|delivery| attempt(delivery.id, Outcome::Dead, "")).collect();
    outbox.attempted(deliverer(&*outbox, 1).await, done).await.unwrap();
    assert_eq!(queue(&*outbox, 1).await, Some(max - 1));
    outbox.replay(first[0].id).await.unwrap();
    outbox.deliver_test(delivery(1, &event("test", 1))).await.unwrap();
    full(refusal(outbox.replay(first[1].id).await));
}

/// One that was enabled is not disabled again before what waits had its chance; what there is no room for says so.
pub async fn what_is_resumed_may_be_full_for_a_while(on: &On) {
    let max = on.keep.downcast_ref::<PendingMax>().map_or(PENDING_MAX, |PendingMax(max)| *max);
    let outbox = (on.open)();
    let claim = router(&*outbox).await;
    let events: Vec<_> = (0..=max + 2).map(|n| event("bus-1", n)).collect();
    let (most, more) = events.split_at(usize::try_from(max).unwrap());
    for some in most.chunks(DELIVERIES_MAX) {
        let deliveries = some.iter().map(|event| delivery(1, event)).collect();
        assert_eq!(outbox.route(claim, vec![], deliveries).await, Ok(vec![]));
    }
    let deliveries = more[..1].iter().map(|event| delivery(1, event)).collect();
    assert_eq!(outbox.route(claim, vec![], deliveries).await, Ok(vec![subscription(1)]));
    outbox.resume(subscription(1)).await.unwrap();
    let told = |event: &Event| NewDelivery { key: Some("key".into()), ..delivery(1, event) };
    for over in [delivery(1, &more[1]), told(&more[2])] {
        assert_eq!(outbox.route(claim, vec![], vec![over.clone()]).await, Ok(vec![]));
        let dropped = outbox.get_delivery(over.id()).await.unwrap();
        assert_eq!((dropped.state, dropped.attempts), (DeliveryState::Dropped, 0));
        assert!(dropped.last.unwrap().contains(&format!("more than {max} deliveries")));
    }
    assert_eq!(queue(&*outbox, 1).await, Some(max + 1));
    // What has gone makes room.
    let first = outbox.pending(subscription(1), vec![], 1).await.unwrap();
    let done = vec![attempt(first[0].id, Outcome::Delivered, "")];
    outbox.attempted(deliverer(&*outbox, 1).await, done).await.unwrap();
    let next = told(&event("bus-1", 1_000_000));
    assert_eq!(outbox.route(claim, vec![], vec![next.clone()]).await, Ok(vec![]));
    assert_eq!(outbox.get_delivery(next.id()).await.unwrap().state, DeliveryState::Pending);
    // Not for ever.
    let before = outbox.now().await.unwrap();
    on.clock.advance(RESUMED_FOR);
    if outbox.now().await.unwrap() >= before + micros(RESUMED_FOR) {
        let late = vec![delivery(1, &event("bus-1", 1_000_001))];
        let claim = router(&*outbox).await;
        assert_eq!(outbox.route(claim, vec![], late).await, Ok(vec![subscription(1)]));
    }
}

/// A phone that cannot be reached takes nothing from its owner's others.
pub async fn what_waits_for_a_phone_is_bounded(on: &On) {
    let max = on.keep.downcast_ref::<PendingMax>().map_or(PENDING_MAX, |PendingMax(max)| *max);
    let part = usize::try_from(max / PHONE_PENDING_PART).unwrap();
    let outbox = (on.open)();
    let claim = router(&*outbox).await;
    let to = |phone: u8, event: &Event| NewDelivery {
        phone: Some(PushTokenId([phone; 16])),
        key: Some("key".into()),
        ..delivery(1, event)
    };
    let events: Vec<_> = (0..part as u64 + 2).map(|n| event("bus-1", n)).collect();
    let (most, more) = events.split_at(part - 1);
    let off: Vec<_> = most.iter().map(|event| to(1, event)).collect();
    assert_eq!(outbox.route(claim, vec![], off).await, Ok(vec![]));
    let both: Vec<_> = more.iter().flat_map(|event| [to(1, event), to(2, event)]).collect();
    assert_eq!(outbox.route(claim, vec![], both.clone()).await, Ok(vec![]), "the subscription goes on");
    assert_eq!(queue(&*outbox, 1).await, Some(part as u64 + 3));
    let dropped = outbox.get_delivery(both[2].id()).await.unwrap();
    assert_eq!((dropped.state, dropped.attempts), (DeliveryState::Dropped, 0));
    assert!(dropped.last.as_ref().unwrap().contains(&format!("{part} deliveries wait for this phone")));
    assert_eq!(dropped.finished_at, Some(dropped.created_at));
    // Those of the others can be had whatever waits before them.
    let others = outbox.pending(subscription(1), vec![PushTokenId([1; 16])], 2).await.unwrap();
    let ids: Vec<_> = others.iter().map(|delivery| delivery.id).collect();
    assert_eq!(ids, [both[1].id(), both[3].id()]);
    let neither = vec![PushTokenId([1; 16]), PushTokenId([2; 16])];
    assert!(outbox.pending(subscription(1), neither.clone(), 2).await.unwrap().is_empty());
    outbox.route(claim, vec![], vec![delivery(1, &events[0])]).await.unwrap();
    let webhook = outbox.pending(subscription(1), neither, 2).await.unwrap();
    assert_eq!(webhook.iter().map(|delivery| delivery.phone).collect::<Vec<_>>(), [None]);
    // What has gone makes room.
    let done = vec![attempt(to(1, &events[0]).id(), Outcome::Dead, "")];
    outbox.attempted(deliverer(&*outbox, 1).await, done).await.unwrap();
    let next = to(1, &event("bus-1", 1_000_000));
    outbox.route(claim, vec![], vec![next.clone()]).await.unwrap();
    assert_eq!(outbox.get_delivery(next.id()).await.unwrap().state, DeliveryState::Pending);
}

pub async fn a_test_is_delivered_at_once_and_is_no_event(on: &On) {
    let outbox = (on.open)();
    let one = Event { kind: EventKind::Test, device: None, rule: None, frame: None, ..event("test", 1) };
    let new = NewDelivery {
        not_before: outbox.now().await.unwrap() + micros(Duration::from_secs(3600)),
        key: Some("key".into()),
        every: Duration::from_secs(60),
        ..delivery(1, &one)
    };
    for _ in 0..2 {
        assert_eq!(outbox.deliver_test(new.clone()).await, Ok(new.id()));
    }
    let found = pending(&*outbox, 1).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].next_at, found[0].created_at);
    assert!(outbox.list_events(EventFilter { limit: 9, ..EventFilter::default() }).await.unwrap().is_empty());
    assert_eq!(entered(&outbox.unrouted(Shard::of_event(&one), PAGE_MAX).await.unwrap()), []);
}

pub async fn positions_rise_whoever_routes(on: &On) {
    let outboxes = [(on.open)(), (on.open)()];
    let mut routing = tokio::task::JoinSet::new();
    for shard in Shard::all(Duty::Route) {
        let outbox = outboxes[usize::from(shard.number % 2)].clone();
        routing.spawn(async move {
            let claim = claimed(&*outbox, shard).await;
            for n in 0..5 {
                let both = [1, 2].map(|to| delivery(to, &event(&format!("bus-{}", shard.number), n)));
                loop {
                    match outbox.route(claim, vec![], both.to_vec()).await {
                        Err(OutboxError::Unavailable { .. }) => {}
                        done => break assert_eq!(done, Ok(vec![])),
                    }
                }
            }
        });
    }
    routing.join_all().await;
    let all = u64::from(SHARDS) * 5;
    for to in [1, 2] {
        let positions: Vec<_> = pending(&*outboxes[0], to).await.iter().map(|d| d.position).collect();
        assert_eq!(positions, (1..=all).collect::<Vec<_>>());
        assert_eq!(queue(&*outboxes[1], to).await, Some(all));
    }
}

pub async fn limits_of_routing_are_refused_by_name(on: &On) {
    let outbox = (on.open)();
    let claim = router(&*outbox).await;
    let one = event("bus-1", 1);
    let many = vec![one.id; STEP_MAX + 1];
    assert!(refusal(outbox.route(claim, many, vec![]).await).contains("1001 events"));
    let many = vec![delivery(1, &one); DELIVERIES_MAX + 1];
    assert!(refusal(outbox.route(claim, vec![], many).await).contains("10001 deliveries"));
    let data = RawValue::from_string(format!("{{\"x\":\"{}\"}}", "x".repeat(EVENT_DATA_BYTES_MAX))).unwrap();
    for (wrong, named) in [
        (NewDelivery { not_before: INT_MAX + 1, ..delivery(1, &one) }, "9007199254740992"),
        (NewDelivery { every: AFTER_MAX + Duration::from_secs(1), ..delivery(1, &one) }, "2592001s"),
        (NewDelivery { key: Some("k".repeat(KEY_BYTES_MAX + 1)), ..delivery(1, &one) }, "257 bytes"),
        (delivery(1, &Event { data, ..one.clone() }), "2056 bytes"),
    ] {
        let why = refusal(outbox.route(claim, vec![], vec![delivery(2, &one), wrong.clone()]).await);
        assert!(why.contains(named), "{why}");
        assert!(refusal(outbox.deliver_test(wrong).await).contains(named));
    }
    assert_eq!(queue(&*outbox, 2).await, None);
}
