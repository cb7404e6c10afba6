//! 1. A subscription is made, read, listed, changed, disabled, enabled and removed; its secret is shown once, and again to
//!    whoever repeats the request with its key.
//! 2. Another reader cannot see or touch it; neither can a later reader of the same name.
//! 3. Whoever names a device or a group that is not theirs is refused, and learns nothing.
//! 4. URLs are checked as the notifier does; without a key no secret is taken.
//! 5. A new secret is another one, beside which the old one is used for a while.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use trough_store::subscription::Target;
use trough_store::{ReaderName, Registry as _, Scope, SealKey, Subscriptions as _};

use super::client::Reply;
use super::support::{NOW, Server};
use crate::api::subscriptions::OF_READER_MAX;

const PATH: &str = "/v1/subscriptions";
const MINE: [Scope; 1] = [Scope::NotificationsManage];

fn refused(reply: &Reply) -> (u16, String) {
    let (status, code, _) = reply.problem();
    (status, code)
}

fn none() -> (u16, String) {
    (404, "no_such_subscription".into())
}

async fn made(server: &Server, token: &str, body: Value) -> Value {
    let reply = server.change(Method::POST, PATH, token, body).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    assert_eq!(reply.header("cache-control"), "no-store");
    let json = reply.json();
    assert_eq!(reply.header("location"), format!("{PATH}/{}", json["id"].as_str().unwrap()));
    json
}

/// What the store has of a webhook: its opened keys, and until when the older one is used.
async fn keys(server: &Server, id: &str) -> (Vec<String>, Option<u64>) {
    let found = server.registry.get_subscription(id.parse().unwrap()).await.unwrap();
    let Target::Webhook { keys, old_key_until, .. } = found.wanted.target else { panic!("it is for pushes") };
    let open = |key| SealKey::new(&[7; 32]).open(key, id).unwrap();
    let secret = |key| trough_store::webhook::secret_of(&open(key)).into_exposed();
    (keys.iter().map(secret).collect(), old_key_until)
}

#[tokio::test]
async fn a_subscription_is_made_read_changed_and_removed() {
    let server = Server::start().await;
    server.add_device("bus-1", &[]).await;
    let token = server.add_reader("ios", &MINE, &[]).await;
    let body = json!({
        "events": ["device.offline"], "rules": ["gone"], "scope": {"devices": ["bus-1"]},
        "url": "https://me:pass@example.com/hook?key=1", "coalesce_s": 60,
        "quiet": {"from": "22:00", "to": "07:00", "zone": "UTC", "then": "drop"},
    });
    let mut first = made(&server, &token, body).await;
    let secret = first["secret"].take();
    let id = first["id"].as_str().unwrap().to_owned();
    assert_eq!(keys(&server, &id).await, (vec![secret.as_str().unwrap().to_owned()], None));
    assert_eq!((&first["owner"], &first["url"]), (&json!("ios"), &json!("https://example.com/hook?***")));
    assert_eq!(first["quiet"]["to"], "07:00:00");
    assert_eq!(
        (&first["created_at"], &first["disabled"]),
        (&json!("2023-11-14T22:13:20.000000Z"), &Value::Null)
    );
    first.as_object_mut().unwrap().remove("secret");
    let target = format!("{PATH}/{id}");
    let shown = server.get(&target).token(&token).send().await;
    assert_eq!(shown.json(), first, "without its secret");
    let again = server.get(&target).token(&token).header("if-none-match", shown.header("etag"));
    assert_eq!(again.send().await.status, 304);

    let other = server.subscribe(&token).await;
    let mut listed = Vec::new();
    let mut page = server.get(&format!("{PATH}?limit=1")).token(&token).send().await.json();
    while let Some(cursor) = page["next_cursor"].as_str() {
        listed.push(page["subscriptions"][0]["id"].as_str().unwrap().to_owned());
        page = server.get(&format!("{PATH}?cursor={cursor}")).token(&token).send().await.json();
    }
    listed.push(page["subscriptions"][0]["id"].as_str().unwrap().to_owned());
    let mut both = vec![id.clone(), other.clone()];
    both.sort();
    assert_eq!(listed, both);

    let changes = json!({"events": [], "quiet": null, "url": "https://example.org/"});
    let changed = server.change(Method::PATCH, &target, &token, changes).await.json();
    assert_eq!((&changed["events"], &changed["quiet"]), (&json!([]), &Value::Null));
    assert_eq!((&changed["rules"], &changed["url"]), (&json!(["gone"]), &json!("https://example.org/")));
    assert_eq!(keys(&server, &id).await.0, [secret.as_str().unwrap()], "its secret stays");
    let pushes = format!("{PATH}/{other}");
    let no_url = server.change(Method::PATCH, &pushes, &token, json!({"url": "https://example.org/"})).await;
    assert_eq!(refused(&no_url), (409, "not_a_webhook".into()));

    let disabled = server.ask(Method::POST, &format!("{target}/disable")).token(&token).send().await.json();
    assert_eq!(disabled["disabled"]["reason"], "disabled by its owner");
    let untested = server.ask(Method::POST, &format!("{target}/test")).token(&token).send().await;
    assert_eq!(refused(&untested), (409, "subscription_disabled".into()));
    let enabled = server.ask(Method::POST, &format!("{target}/enable")).token(&token).send().await.json();
    assert_eq!(enabled["disabled"], Value::Null);
    let untold = server.ask(Method::POST, &format!("{pushes}/test")).token(&token).send().await;
    assert_eq!(refused(&untold), (409, "no_phone".into()));

    assert_eq!(server.ask(Method::DELETE, &target).token(&token).send().await.status, 204);
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(refused(&server.ask(method, &target).token(&token).send().await), none());
    }
    let posted = server.change(Method::POST, &target, &token, json!({})).await;
    assert_eq!((posted.status.as_u16(), posted.header("allow")), (405, "GET, HEAD, PATCH, DELETE"));
    let got = server.get(&format!("{target}/test")).token(&token).send().await;
    assert_eq!((got.status.as_u16(), got.header("allow")), (405, "POST"));
}

#[tokio::test]
async fn a_key_makes_a_repetition_harmless() {
    let server = Server::start().await;
    let token = server.add_reader("ios", &MINE, &[]).await;
    let ask = async |key: &str, body: Value| {
        let ask = server.ask(Method::POST, PATH).token(&token).header("content-type", "application/json");
        ask.header("idempotency-key", key).body(body.to_string()).send().await
    };
    let hook = || json!({"url": "https://example.com/"});
    let (first, again) = (ask("a", hook()).await, ask("a", hook()).await);
    assert_eq!((first.status.as_u16(), again.status.as_u16()), (201, 200));
    assert_eq!(first.json(), again.json(), "with the same secret");
    let id = first.json()["id"].as_str().unwrap().to_owned();
    let other = ask("a", json!({"url": "https://example.org/"})).await;
    assert_eq!(refused(&other), (409, "idempotency_key_used".into()));
    assert_ne!(ask("b", hook()).await.json()["id"], id);
    // Whoever asks later, or after the secret was replaced, does not see it.
    let rotated = server.ask(Method::POST, &format!("{PATH}/{id}/rotate-key")).token(&token).send().await;
    assert_eq!(rotated.status, 200);
    assert_eq!(ask("a", hook()).await.json()["secret"], Value::Null);
    server.clock.advance(Duration::from_secs(24 * 60 * 60));
    let late = ask("b", hook()).await;
    assert_eq!((late.status.as_u16(), &late.json()["secret"]), (200, &Value::Null));
}

#[tokio::test]
async fn nobody_else_sees_or_touches_it() {
    let server = Server::start().await;
    let token = server.add_reader("ios", &MINE, &[]).await;
    let other = server.add_reader("web", &Scope::ALL, &[]).await;
    let id = made(&server, &token, json!({"url": "https://example.com/"})).await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let target = format!("{PATH}/{id}");
    server.clock.advance(Duration::from_secs(1));
    let untouched = async |token: &str| {
        assert_eq!(server.get(PATH).token(token).send().await.json()["subscriptions"], json!([]));
        let mut details = Vec::new();
        for target in
            [&target, &format!("{PATH}/sub_00000000000000000000000000000000"), &format!("{PATH}/x%FF")]
        {
            for (method, tail) in [
                (Method::GET, ""),
                (Method::DELETE, ""),
                (Method::POST, "/test"),
                (Method::POST, "/enable"),
                (Method::POST, "/disable"),
                (Method::POST, "/rotate-key"),
            ] {
                let reply = server.ask(method, &format!("{target}{tail}")).token(token).send().await;
                assert_eq!(refused(&reply), none(), "{target}{tail}");
                details.push(reply.problem().2.replace(target.rsplit('/').next().unwrap(), "ID"));
            }
            let reply = server.change(Method::PATCH, target, token, json!({"coalesce_s": 1})).await;
            assert_eq!(refused(&reply), none(), "{target}");
        }
        assert_eq!(details[..6], details[6..12], "nobody learns whether there is one");
    };
    untouched(&other).await;
    let before = server.registry.get_subscription(id.parse().unwrap()).await.unwrap();
    // Whoever gets the name later is somebody else.
    server.registry.revoke_reader(&ReaderName::new("ios").unwrap()).await.unwrap();
    untouched(&server.add_reader("ios", &Scope::ALL, &[]).await).await;
    assert_eq!(server.registry.get_subscription(id.parse().unwrap()).await, Ok(before));
    let reads = server.add_reader("reads", &Scope::READING, &[]).await;
    assert_eq!(refused(&server.get(PATH).token(&reads).send().await), (403, "scope_missing".into()));
}

#[tokio::test]
async fn what_is_named_must_be_seen() {
    let server = Server::start().await;
    server.add_device("mine", &["north"]).await;
    server.add_device("theirs", &["south"]).await;
    let token = server.add_reader("north", &MINE, &["north"]).await;
    let with = |scope: Value| json!({"push": true, "scope": scope});
    let id =
        made(&server, &token, with(json!({"devices": ["mine"]}))).await["id"].as_str().unwrap().to_owned();
    made(&server, &token, with(json!({"groups": ["north"]}))).await;
    made(&server, &token, with(json!("all"))).await;
    let target = format!("{PATH}/{id}");
    let mut details = Vec::new();
    for name in ["theirs", "nobody"] {
        let scope = json!({"devices": ["mine", name]});
        let new = server.change(Method::POST, PATH, &token, with(scope.clone())).await;
        let changed = server.change(Method::PATCH, &target, &token, json!({"scope": scope})).await;
        for reply in [new, changed] {
            assert_eq!(refused(&reply), (404, "no_such_device".into()));
            details.push(reply.problem().2.replace(name, "NAME"));
        }
    }
    assert!(details.iter().all(|detail| *detail == details[0]), "{details:?}");
    let group = server.change(Method::POST, PATH, &token, with(json!({"groups": ["south"]}))).await;
    let (_, code, detail) = group.problem();
    assert!(code == "bad_body" && detail.contains("south is none of yours"), "{detail}");
}

#[tokio::test]
async fn urls_are_checked_and_secrets_need_a_key() {
    let server = Server::start().await;
    let token = server.add_reader("ios", &MINE, &[]).await;
    for (url, words) in [
        ("http://example.com/", "https://"),
        ("https://169.254.169.254/latest", "169.254.169.254"),
        ("https://[::1]/", "public internet"),
        ("ftp://example.com/", "ftp"),
    ] {
        let (status, code, detail) =
            server.change(Method::POST, PATH, &token, json!({"url": url})).await.problem();
        assert_eq!((status, code.as_str()), (400, "bad_body"));
        assert!(detail.contains(words), "{detail}");
    }
    let server = Server::without_seal_key().await;
    let token = server.add_reader("ios", &MINE, &[]).await;
    let hook = server.change(Method::POST, PATH, &token, json!({"url": "https://example.com/"})).await;
    let phone = json!({"token": "00", "app": "com.example.app"});
    let phone = server.change(Method::POST, "/v1/push-tokens", &token, phone).await;
    for reply in [hook, phone] {
        let (status, code, detail) = reply.problem();
        assert_eq!((status, code.as_str()), (409, "no_seal_key"));
        assert!(detail.contains("--seal-key-file"), "{detail}");
    }
    server.subscribe(&token).await;
}

#[tokio::test]
async fn a_new_secret_is_another_one() {
    let server = Server::start().await;
    let token = server.add_reader("ios", &MINE, &[]).await;
    let first = made(&server, &token, json!({"url": "https://example.com/"})).await;
    let target = format!("{PATH}/{}/rotate-key", first["id"].as_str().unwrap());
    let id = first["id"].as_str().unwrap();
    let text = |json: &Value| json["secret"].as_str().unwrap().to_owned();
    let rotated = async |query: &str| {
        let reply = server.ask(Method::POST, &format!("{target}{query}")).token(&token).send().await;
        assert_eq!(reply.header("cache-control"), "no-store");
        text(&reply.json())
    };
    let second = rotated("").await;
    assert_eq!(
        keys(&server, id).await,
        (vec![second.clone(), text(&first)], Some(NOW + 24 * 60 * 60 * 1_000_000))
    );
    let third = rotated("?keep_old_s=5").await;
    assert_eq!(keys(&server, id).await, (vec![third, second], Some(NOW + 5_000_000)));
    let fourth = rotated("?keep_old_s=0").await;
    // That it is not the first one any more is known by the time: a repeated creation does not show it.
    assert_eq!(keys(&server, id).await, (vec![fourth], Some(NOW)));
    for bad in ["-1", "2592001", "1.5", ""] {
        let reply =
            server.ask(Method::POST, &format!("{target}?keep_old_s={bad}")).token(&token).send().await;
        assert_eq!(refused(&reply), (400, "bad_parameter".into()), "{bad}");
    }
    let pushes = format!("{PATH}/{}/rotate-key", server.subscribe(&token).await);
    let reply = server.ask(Method::POST, &pushes).token(&token).send().await;
    assert_eq!(refused(&reply), (409, "not_a_webhook".into()));
}

#[tokio::test]
async fn a_reader_has_so_many() {
    let server = Server::start().await;
    let token = server.add_reader("ios", &MINE, &[]).await;
    for _ in 0..OF_READER_MAX {
        server.subscribe(&token).await;
    }
    let more = server.change(Method::POST, PATH, &token, json!({"push": true})).await;
    assert_eq!(refused(&more), (409, "too_many_subscriptions".into()));
    let other = server.add_reader("web", &MINE, &[]).await;
    server.subscribe(&other).await;
}
