//! 1. Deliveries are listed, newest first, by subscription and state, page by page; one is read, and sent again.
//! 2. Another reader, or a later one of the same name, sees none of them; of a device that the reader does not see any
//!    more it learns nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use http::Method;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use trough_store::outbox::{Attempt, CLAIM_MAX, DeliveryId, Duty, NewDelivery, Outbox, Outcome, Shard};
use trough_store::{Event, EventId, EventKind, ReaderName, Registry as _, Scope, SubscriptionId};

use super::support::{NOW, Server, device, groups};

const PATH: &str = "/v1/deliveries";
const MINE: [Scope; 1] = [Scope::NotificationsManage];

pub(super) fn event(name: &str, number: u64) -> Event {
    Event {
        id: EventId::of(&[name.as_bytes(), &number.to_le_bytes()]),
        kind: if number.is_multiple_of(2) { EventKind::RuleMatched } else { EventKind::RuleCleared },
        at: NOW + number,
        rule: Some("fast".parse().unwrap()),
        device: Some(device(name)),
        group: None,
        frame: None,
        trace: None,
        data: RawValue::from_string(format!("{{\"value\":{number}}}")).unwrap(),
    }
}

/// Makes a delivery of an event.
async fn deliver(server: &Server, subscription: &str, event: Event) -> DeliveryId {
    let shard = Shard::of_event(&event);
    let claim = server.outbox.claim(shard, [1; 16], CLAIM_MAX).await.unwrap().unwrap();
    let delivery = NewDelivery {
        subscription: subscription.parse().unwrap(),
        phone: None,
        event,
        not_before: 0,
        key: None,
        every: Duration::ZERO,
        dropped: None,
    };
    let id = delivery.id();
    server.outbox.route(claim, vec![], vec![delivery]).await.unwrap();
    server.clock.advance(Duration::from_millis(1));
    id
}

async fn bury(server: &Server, subscription: &str, id: DeliveryId) {
    let subscription: SubscriptionId = subscription.parse().unwrap();
    let shard = Shard::of_subscription(subscription);
    assert_eq!(shard.duty, Duty::Deliver);
    let claim = server.outbox.claim(shard, [1; 16], CLAIM_MAX).await.unwrap().unwrap();
    let attempt = Attempt { delivery: id, before: 0, outcome: Outcome::Dead, said: "404 Not Found".into() };
    server.outbox.attempted(claim, vec![attempt]).await.unwrap();
}

fn ids(page: &Value) -> Vec<String> {
    let all = page["deliveries"].as_array().unwrap().iter();
    all.map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn deliveries_are_listed_read_and_replayed() {
    let server = Server::start().await;
    let token = server.add_reader("ios", &MINE, &[]).await;
    let (one, two) = (server.subscribe(&token).await, server.subscribe(&token).await);
    let mut made = Vec::new();
    for number in 0..4 {
        let subscription = if number == 3 { &two } else { &one };
        made.insert(0, deliver(&server, subscription, event("bus-1", number)).await.to_string());
    }
    let list = async |query: &str| server.get(&format!("{PATH}{query}")).token(&token).send().await.json();
    assert_eq!(ids(&list("").await), made);
    assert_eq!(ids(&list(&format!("?subscription={two}")).await), made[..1]);
    let page = list("?limit=3").await;
    let rest = list(&format!("?cursor={}", page["next_cursor"].as_str().unwrap())).await;
    assert_eq!((ids(&page), ids(&rest)), (made[..3].to_vec(), made[3..].to_vec()));
    assert_eq!(rest["next_cursor"], Value::Null);

    bury(&server, &one, made[3].parse().unwrap()).await;
    assert_eq!(ids(&list("?state=dead").await), made[3..]);
    assert_eq!(ids(&list("?state=pending").await), made[..3]);
    let target = format!("{PATH}/{}", made[3]);
    let dead = server.get(&target).token(&token).send().await.json();
    assert_eq!(
        (&dead["state"], &dead["attempts"], &dead["last"]),
        (&json!("dead"), &json!(1), &json!("404 Not Found"))
    );
    assert_eq!((&dead["subscription"], &dead["position"]), (&json!(one), &json!(1)));
    let told = &dead["event"];
    assert_eq!(
        (&told["kind"], &told["device"], &told["data"]),
        (&json!("rule.matched"), &json!("bus-1"), &json!({"value": 0}))
    );
    assert!(dead["finished_at"].is_string() && told["time"].is_string() && told["group"].is_null());

    let replayed = server.ask(Method::POST, &format!("{target}/replay")).token(&token).send().await.json();
    assert_eq!((&replayed["state"], &replayed["attempts"]), (&json!("pending"), &json!(1)));
    assert_eq!(replayed["position"], 4, "behind all that waits");
    assert_eq!(server.get(&target).token(&token).send().await.json(), replayed);
    for (query, code) in [
        ("?state=done", "bad_parameter"),
        ("?limit=101", "bad_parameter"),
        ("?cursor=AAAA", "bad_cursor"),
        ("?subscription=sub_00000000000000000000000000000000", "no_such_subscription"),
        ("?subscription=x", "no_such_subscription"),
    ] {
        assert_eq!(
            server.get(&format!("{PATH}{query}")).token(&token).send().await.problem().1,
            code,
            "{query}"
        );
    }
}

#[tokio::test]
async fn nobody_else_sees_them() {
    let server = Server::start().await;
    server.add_device("bus-1", &["north"]).await;
    let token = server.add_reader("ios", &MINE, &["north"]).await;
    let other = server.add_reader("web", &Scope::ALL, &[]).await;
    let subscription = server.subscribe(&token).await;
    let id = deliver(&server, &subscription, event("bus-1", 1)).await.to_string();
    bury(&server, &subscription, id.parse().unwrap()).await;
    let target = format!("{PATH}/{id}");
    let unseen = async |token: &str| {
        assert_eq!(ids(&server.get(PATH).token(token).send().await.json()), [""; 0]);
        let of =
            server.get(&format!("{PATH}?subscription={subscription}")).token(token).send().await.problem();
        assert_eq!((of.0, of.1.as_str()), (404, "no_such_subscription"));
        let mut details = BTreeSet::new();
        for target in [&target, &format!("{PATH}/dlv_00000000000000000000000000000000"), &format!("{PATH}/x")]
        {
            for (method, tail) in [(Method::GET, ""), (Method::POST, "/replay")] {
                let (status, code, detail) =
                    server.ask(method, &format!("{target}{tail}")).token(token).send().await.problem();
                assert_eq!((status, code.as_str()), (404, "no_such_delivery"));
                details.insert(detail.replace(target.rsplit('/').next().unwrap(), "ID"));
            }
        }
        assert_eq!(details.len(), 1, "nobody learns whether there is one: {details:?}");
    };
    unseen(&other).await;
    assert_eq!(server.get(&target).token(&token).send().await.json()["event"]["device"], "bus-1");
    server.registry.set_groups(&device("bus-1"), groups(&["south"])).await.unwrap();
    let shown = server.get(&target).token(&token).send().await.json();
    assert_eq!((&shown["event"], &shown["state"]), (&Value::Null, &json!("dead")));
    assert_eq!(server.get(PATH).token(&token).send().await.json()["deliveries"][0]["event"], Value::Null);
    server.clock.advance(Duration::from_secs(1));
    server.registry.revoke_reader(&ReaderName::new("ios").unwrap()).await.unwrap();
    unseen(&server.add_reader("ios", &Scope::ALL, &[]).await).await;
    let after = server.outbox.get_delivery(id.parse().unwrap()).await.unwrap();
    assert!(after.finished_at.is_some(), "nobody has sent it again");
}
