//! Lists, newest first.

use super::*;

async fn page_through(outbox: &dyn Outbox, filter: &DeliveryFilter, limit: usize) -> Vec<DeliveryId> {
    let mut filter = DeliveryFilter { limit, ..filter.clone() };
    let mut all = vec![];
    loop {
        let page = outbox.list_deliveries(filter.clone()).await.unwrap();
        assert!(page.len() <= limit);
        let order: Vec<_> = page.iter().map(|delivery| (delivery.created_at, delivery.id)).collect();
        assert!(order.is_sorted_by(|a, b| a > b), "{order:?}");
        filter.before = order.last().copied();
        all.extend(page.iter().map(|delivery| delivery.id));
        if page.is_empty() {
            return all;
        }
    }
}

pub async fn deliveries_are_listed_newest_first(on: &On) {
    let outbox = (on.open)();
    let mut made = vec![];
    for n in 1..=6_u64 {
        for to in [1, 2, 3] {
            made.insert(0, (to, routed(&*outbox, to, &[event("bus-1", n)]).await[0]));
        }
        pass(on, &*outbox, Duration::from_millis(3)).await;
    }
    let number = |id: DeliveryId| made.iter().position(|(_, made)| *made == id).unwrap();
    let (mut dead, mut delivered) = (vec![], vec![]);
    for (n, (to, id)) in made.iter().enumerate() {
        let (outcome, list) = match n % 3 {
            0 => (Outcome::Dead, &mut dead),
            1 => (Outcome::Delivered, &mut delivered),
            _ => continue,
        };
        outbox.attempted(deliverer(&*outbox, *to).await, vec![attempt(*id, outcome, "")]).await.unwrap();
        list.push(*id);
    }
    let all: Vec<_> = made.iter().map(|(_, id)| *id).collect();
    let of = |wanted: &[u8]| {
        let own = made.iter().filter(|(to, _)| wanted.contains(to));
        (Some(wanted.iter().map(|n| subscription(*n)).collect::<Vec<_>>()), own.map(|(_, id)| *id).collect())
    };
    let none = (None, all);
    for (subscriptions, ids) in [none, of(&[]), of(&[2]), of(&[3, 1]), of(&[9])] {
        for state in [None].into_iter().chain(DeliveryState::ALL.map(Some)) {
            let in_state = |id: &DeliveryId| match state {
                None => true,
                Some(DeliveryState::Dead) => dead.contains(id),
                Some(DeliveryState::Delivered) => delivered.contains(id),
                Some(DeliveryState::Pending) => !dead.contains(id) && !delivered.contains(id),
                Some(DeliveryState::Dropped) => false,
            };
            // Of one time the order is that of the ids: sorted as the pages are.
            let mut expected: Vec<DeliveryId> = Vec::clone(&ids);
            expected.retain(in_state);
            let filter =
                DeliveryFilter { subscriptions: subscriptions.clone(), state, ..DeliveryFilter::default() };
            for limit in [1, 4, PAGE_MAX] {
                let mut found = page_through(&*outbox, &filter, limit).await;
                found.sort_by_key(|id| number(*id));
                assert_eq!(found, expected, "{filter:?}");
            }
        }
    }
    let nothing = DeliveryFilter { limit: 0, ..DeliveryFilter::default() };
    assert!(outbox.list_deliveries(nothing).await.unwrap().is_empty());
    let many =
        DeliveryFilter { subscriptions: Some(vec![subscription(1); 10_001]), ..DeliveryFilter::default() };
    assert!(refusal(outbox.list_deliveries(many).await).contains("10001 subscriptions"));
}

pub async fn events_are_listed_newest_first(on: &On) {
    let outbox = (on.open)();
    let mut all = vec![];
    for n in 0..12 {
        let name = ["bus-1", "bus-2"][n % 2];
        let kind = [EventKind::RuleMatched, EventKind::RuleCleared, EventKind::GapOpened][n % 3];
        let new = Event { kind, ..event(name, n as u64) };
        outbox.enter(vec![new.clone()]).await.unwrap();
        all.insert(0, new);
        pass(on, &*outbox, Duration::from_millis(3)).await;
    }
    let named = |names: &[&str]| Some(names.iter().map(|name| device(name)).collect::<Vec<_>>());
    // So many that a database may be asked for them in parts, and one of them twice.
    let mut many = named(&["bus-1"]).unwrap();
    many.extend((100..400).map(|n| device(&format!("bus-{n}"))));
    many.extend(named(&["bus-2", "bus-1"]).unwrap());
    let few = [None, named(&[]), named(&["bus-1"]), named(&["bus-2", "bus-9", "bus-1"]), named(&["bus-9"])];
    for devices in few.into_iter().chain([Some(many)]) {
        for kind in [None, Some(EventKind::RuleCleared), Some(EventKind::DeviceOffline)] {
            let wanted = |event: &&Event| {
                let is_named = |all: &Vec<DeviceId>| all.iter().any(|one| event.device.as_ref() == Some(one));
                devices.as_ref().is_none_or(is_named) && kind.is_none_or(|kind| event.kind == kind)
            };
            let expected = ids(all.iter().filter(wanted));
            for limit in [1, 5, usize::MAX] {
                let mut filter = EventFilter { devices: devices.clone(), kind, before: None, limit };
                let mut found = vec![];
                loop {
                    let page = outbox.list_events(filter.clone()).await.unwrap();
                    let Some(last) = page.last() else { break };
                    filter.before = Some((last.entered_at, last.event.id));
                    found.extend(entered(&page));
                }
                assert_eq!(found, expected, "{filter:?}");
            }
        }
    }
    let many = vec![device("bus-1"); DEVICES_LISTED_MAX + 1];
    let many = EventFilter { devices: Some(many), limit: 1, ..EventFilter::default() };
    assert!(refusal(outbox.list_events(many).await).contains("1001 devices"));
}
