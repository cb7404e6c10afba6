//! 1. A rule is set, read, listed, set again and removed, areas included.
//! 2. Whoever sees some groups manages rules of these and of devices in them; others are not there for it, and their names
//!    are taken.
//! 3. What is not sound is refused by name.

use http::Method;
use serde_json::{Value, json};
use trough_store::{RuleName, Scope, Subscriptions as _};

use super::client::Reply;
use super::support::Server;

const PATH: &str = "/v1/rules";
const MANAGES: [Scope; 1] = [Scope::RulesManage];

fn refused(reply: &Reply) -> (u16, String) {
    let (status, code, _) = reply.problem();
    (status, code)
}

fn none() -> (u16, String) {
    (404, "no_such_rule".into())
}

async fn put(server: &Server, token: &str, name: &str, body: Value) -> Reply {
    server.change(Method::PUT, &format!("{PATH}/{name}"), token, body).await
}

fn gaps(scope: Value) -> Value {
    json!({"scope": scope, "condition": {"kind": "gaps"}})
}

async fn names(server: &Server, token: &str) -> Vec<String> {
    let page = server.get(PATH).token(token).send().await.json();
    page["rules"].as_array().unwrap().iter().map(|rule| rule["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_rule_is_set_read_and_removed() {
    let server = Server::start().await;
    let token = server.add_reader("ops", &MANAGES, &[]).await;
    let when = |when: &str| json!({"scope": "all", "condition": {"kind": "compare", "channel": "can", "when": when}});
    let first = put(&server, &token, "fast", when("/speed > 30 clear 28 for 60s")).await;
    assert_eq!((first.status.as_u16(), first.header("location")), (201, "/v1/rules/fast"));
    let shown = server.get("/v1/rules/fast").token(&token).send().await.json();
    assert_eq!(shown, first.json());
    assert_eq!((&shown["name"], &shown["set_at"]), (&json!("fast"), &json!("2023-11-14T22:13:20.000000Z")));
    assert_eq!(
        shown["condition"],
        json!({"kind": "compare", "channel": "can", "when": "/speed > 30 clear 28 for 60s"})
    );
    let same = put(&server, &token, "fast", when("/speed > 30 clear 28 for 60s")).await;
    assert_eq!((same.status.as_u16(), same.json()), (200, shown.clone()));
    let other = put(&server, &token, "fast", when("/speed > 40")).await.json();
    assert!(other["version"].as_u64() > shown["version"].as_u64());

    let corners: Vec<_> = (0..2_000)
        .map(|n| {
            let turn = f64::from(n) / 2_000.0 * std::f64::consts::TAU;
            [30.0 + turn.cos() / 10.0, 10.0 + turn.sin() / 10.0]
        })
        .collect();
    let ring: Vec<_> = corners.iter().chain(&corners[..1]).collect();
    let area = json!({"type": "Polygon", "coordinates": [ring]});
    let yard = json!({"scope": {"groups": ["tanks"]}, "condition": {"kind": "geofence", "area": area}});
    assert!(yard.to_string().len() > 70_000);
    let yard = put(&server, &token, "Yard", yard).await;
    assert_eq!(yard.status, 201, "{}", yard.text());
    assert_eq!(yard.json()["condition"]["area"]["coordinates"][0].as_array().unwrap().len(), 2_001);
    assert_eq!(names(&server, &token).await, ["Yard", "fast"]);
    let page = server.get(&format!("{PATH}?limit=1")).token(&token).send().await.json();
    let rest = format!("{PATH}?cursor={}", page["next_cursor"].as_str().unwrap());
    let rest = server.get(&rest).token(&token).send().await.json();
    assert_eq!((&rest["rules"][0]["name"], &rest["next_cursor"]), (&json!("fast"), &Value::Null));

    assert_eq!(server.ask(Method::DELETE, "/v1/rules/fast").token(&token).send().await.status, 204);
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(refused(&server.ask(method, "/v1/rules/fast").token(&token).send().await), none());
    }
    let reads = server.add_reader("reads", &Scope::READING, &[]).await;
    assert_eq!(
        refused(&put(&server, &reads, "fast", gaps(json!("all"))).await),
        (403, "scope_missing".into())
    );
}

#[tokio::test]
async fn whoever_sees_some_devices_manages_rules_of_these() {
    let server = Server::start().await;
    server.add_device("mine", &["north"]).await;
    server.add_device("theirs", &["south"]).await;
    let all = server.add_reader("ops", &MANAGES, &[]).await;
    let north = server.add_reader("north", &MANAGES, &["north"]).await;
    let others = [
        ("everybody", json!("all")),
        ("both", json!({"groups": ["north", "south"]})),
        ("south", json!({"groups": ["south"]})),
        ("theirs", json!({"devices": ["mine", "theirs"]})),
    ];
    for (name, scope) in &others {
        assert_eq!(put(&server, &all, name, gaps(scope.clone())).await.status, 201);
    }
    for (name, scope) in [("a", json!({"groups": ["north"]})), ("b", json!({"devices": ["mine"]}))] {
        assert_eq!(put(&server, &north, name, gaps(scope)).await.status, 201, "{name}");
    }
    assert_eq!(names(&server, &north).await, ["a", "b"]);
    assert_eq!(names(&server, &all).await, ["a", "b", "both", "everybody", "south", "theirs"]);
    for (name, scope) in &others {
        let target = format!("{PATH}/{name}");
        for method in [Method::GET, Method::DELETE] {
            assert_eq!(refused(&server.ask(method, &target).token(&north).send().await), none(), "{name}");
        }
        let before = server.registry.get_rule(&RuleName::new(name).unwrap()).await.unwrap();
        let taken = put(&server, &north, name, gaps(json!({"groups": ["north"]}))).await;
        assert_eq!(refused(&taken), (409, "rule_name_taken".into()));
        assert_eq!(server.registry.get_rule(&RuleName::new(name).unwrap()).await, Ok(before));
        let (status, code, _) = put(&server, &north, "new", gaps(scope.clone())).await.problem();
        let expected = if scope["devices"].is_array() { (404, "no_such_device") } else { (400, "bad_body") };
        assert_eq!((status, code.as_str()), expected, "{name}");
    }
    assert_eq!(names(&server, &north).await, ["a", "b"]);
}

#[tokio::test]
async fn what_is_not_sound_is_refused_by_name() {
    let server = Server::start().await;
    let token = server.add_reader("ops", &MANAGES, &[]).await;
    for (body, words) in [
        (json!({"scope": "all"}), "condition"),
        (json!({"scope": "all", "condition": {"kind": "presence", "after_s": 5}}), "30 to 2592000"),
        (json!({"scope": "all", "condition": {"kind": "compare", "when": "speed"}}), "JSON pointer"),
        (json!({"scope": "all", "condition": {"kind": "gaps"}, "name": "x"}), "`name`"),
        (json!({"scope": {"devices": []}, "condition": {"kind": "gaps"}}), "1 to 1000"),
        (
            json!({"scope": "all", "condition": {"kind": "geofence", "area": {"type": "Point", "coordinates": [0, 0]}}}),
            "Polygon",
        ),
    ] {
        let (status, code, detail) = put(&server, &token, "x", body).await.problem();
        assert_eq!((status, code.as_str()), (400, "bad_body"));
        assert!(detail.contains(words), "{detail}");
    }
    let name = put(&server, &token, "two%20words", gaps(json!("all"))).await;
    assert_eq!(refused(&name), (400, "bad_parameter".into()));
    let large = json!({"scope": "all", "x": "x".repeat(1024 * 1024)});
    assert_eq!(refused(&put(&server, &token, "x", large).await), (413, "body_too_large".into()));
}
