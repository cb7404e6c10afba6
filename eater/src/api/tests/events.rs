//! 1. Events are listed, newest first, by device, group, kind and time, page by page.
//! 2. A reader is shown events of devices that it sees, and of nothing else.

use std::time::Duration;

use serde_json::{Value, json};
use trough_store::{Event, EventId, EventKind, Group, Outbox as _, Registry as _, Scope};

use super::deliveries::event;
use super::support::{NOW, Server, device, groups};

const PATH: &str = "/v1/events";

/// A server with events of two devices in turn, one each second, and of a group.
async fn server() -> Server {
    let server = Server::start().await;
    server.add_device("bus-1", &["north"]).await;
    server.add_device("bus-2", &["south"]).await;
    for number in 0..6 {
        let name = ["bus-1", "bus-2"][number as usize / 3];
        server.outbox.enter(vec![event(name, number)]).await.unwrap();
        server.clock.advance(Duration::from_secs(1));
    }
    let run = Event {
        id: EventId([9; 16]),
        kind: EventKind::RetentionRun,
        rule: None,
        device: None,
        group: Some(Group::new("north").unwrap()),
        ..event("x", 6)
    };
    server.outbox.enter(vec![run]).await.unwrap();
    server
}

fn values(page: &Value) -> Vec<u64> {
    let all = page["events"].as_array().unwrap().iter();
    all.map(|one| one["data"]["value"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn events_are_listed_newest_first() {
    let server = server().await;
    let token = server.add_reader("all", &[Scope::FramesRead], &[]).await;
    let list = async |query: &str| {
        let reply = server.get(&format!("{PATH}{query}")).token(&token).send().await;
        assert_eq!(reply.status, 200, "{query}: {}", reply.text());
        reply.json()
    };
    let second = |n: u64| NOW + n * 1_000_000;
    for (query, expected) in [
        (String::new(), &[6, 5, 4, 3, 2, 1, 0][..]),
        ("?device=bus-2".into(), &[5, 4, 3]),
        ("?group=north".into(), &[2, 1, 0]),
        ("?group=nobody".into(), &[]),
        ("?kind=rule.matched".into(), &[4, 2, 0]),
        ("?device=bus-1&kind=rule.cleared".into(), &[1]),
        (format!("?from={}&to={}", second(2), second(5)), &[4, 3, 2]),
        (format!("?to={}&device=bus-1", second(1)), &[0]),
    ] {
        for limit in [1, 2, 100] {
            let (mut found, mut cursor) = (Vec::new(), None::<String>);
            let joint = if query.is_empty() { '?' } else { '&' };
            loop {
                let rest = cursor.as_ref().map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
                let page = list(&format!("{query}{joint}limit={limit}{rest}")).await;
                found.extend(values(&page));
                let Some(next) = page["next_cursor"].as_str() else { break };
                cursor = Some(next.to_owned());
            }
            assert_eq!(found, expected, "{query} by {limit}");
        }
    }
    let first = &list("?device=bus-1&limit=1").await["events"][0];
    assert_eq!((&first["kind"], &first["rule"]), (&json!("rule.matched"), &json!("fast")));
    assert_eq!(first["entered_at"], "2023-11-14T22:13:22.000000Z");
    let next = list("?limit=1").await["next_cursor"].as_str().unwrap().to_owned();
    for (query, code) in [
        ("?kind=device.gone".into(), "bad_parameter"),
        ("?device=bus-1&group=north".into(), "bad_parameter"),
        ("?device=nobody".into(), "no_such_device"),
        (format!("?device=bus-1&cursor={next}"), "cursor_of_other_query"),
    ] {
        let reply = server.get(&format!("{PATH}{query}")).token(&token).send().await;
        assert_eq!(reply.problem().1, code, "{query}");
    }
}

#[tokio::test]
async fn a_reader_is_shown_what_it_sees() {
    let server = server().await;
    let token = server.add_reader("north", &[Scope::FramesRead], &["north"]).await;
    let list = async |query: &str| server.get(&format!("{PATH}{query}")).token(&token).send().await;
    assert_eq!(values(&list("").await.json()), [2, 1, 0], "and not what is about no device");
    assert_eq!(values(&list("?group=south").await.json()), [0; 0]);
    for name in ["bus-2", "nobody"] {
        assert_eq!(list(&format!("?device={name}")).await.problem().1, "no_such_device");
    }
    server.registry.set_groups(&device("bus-1"), groups(&["south"])).await.unwrap();
    server.registry.set_groups(&device("bus-2"), groups(&["south", "north"])).await.unwrap();
    assert_eq!(values(&list("").await.json()), [5, 4, 3]);
    let lists = server.add_reader("lists", &[Scope::DevicesRead], &[]).await;
    assert_eq!(server.get(PATH).token(&lists).send().await.problem().1, "scope_missing");
}
