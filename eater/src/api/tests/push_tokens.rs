//! 1. A phone registers, again and again, and is one; its token is shown nowhere.
//! 2. Nobody else sees or removes it; whoever registers it later has it.
//! 3. What is no token and no app is refused by name.

use std::time::Duration;

use http::Method;
use serde_json::json;
use trough_store::subscription::PushEnvironment;
use trough_store::{ReaderName, Registry as _, Scope, SealKey, Subscriptions as _};

use super::support::Server;

const PATH: &str = "/v1/push-tokens";
const TOKEN: &str = "00FC13ADff785122b4ad28809a3420982341241421348097878e577c991de8f0";

#[tokio::test]
async fn a_phone_that_registers_again_is_one() {
    let server = Server::start().await;
    let token = server.add_reader("ios", &[Scope::NotificationsManage], &[]).await;
    let body = |server: &str| json!({"token": TOKEN, "app": "com.example.app", "server": server});
    let first = server.change(Method::POST, PATH, &token, body("production")).await;
    server.clock.advance(Duration::from_secs(1));
    let again = server.change(Method::POST, PATH, &token, body("sandbox")).await;
    assert_eq!((first.status.as_u16(), again.status.as_u16()), (201, 201));
    assert_eq!(first.json()["id"], again.json()["id"]);
    let target = again.header("location").to_owned();
    let shown = server.get(&target).token(&token).send().await;
    assert_eq!(shown.json(), again.json());
    assert_eq!(shown.json()["registered_at"], "2023-11-14T22:13:21.000000Z");
    let listed = server.get(PATH).token(&token).send().await;
    assert_eq!(listed.json()["push_tokens"], json!([again.json()]));
    for reply in [&first, &shown, &listed] {
        assert!(!reply.text().to_lowercase().contains("00fc13ad"), "{}", reply.text());
    }
    let kept = server.registry.list_push_tokens(None).await.unwrap();
    assert_eq!((kept.len(), kept[0].environment), (1, PushEnvironment::Sandbox));
    let opened = SealKey::new(&[7; 32]).open(&kept[0].token, &kept[0].id.to_string()).unwrap();
    assert_eq!(String::from_utf8(opened).unwrap(), TOKEN.to_lowercase());
    let other = server.register(&token, 1).await;
    let page = server.get(&format!("{PATH}?limit=1")).token(&token).send().await.json();
    let rest = format!("{PATH}?cursor={}", page["next_cursor"].as_str().unwrap());
    let rest = server.get(&rest).token(&token).send().await.json();
    let listed = [&page, &rest].map(|page| page["push_tokens"][0]["id"].as_str().unwrap().to_owned());
    let mut both = [other, again.json()["id"].as_str().unwrap().to_owned()];
    both.sort();
    assert_eq!(listed, both);
    assert_eq!(server.ask(Method::DELETE, &target).token(&token).send().await.status, 204);
    let gone = server.ask(Method::DELETE, &target).token(&token).send().await.problem();
    assert_eq!((gone.0, gone.1.as_str()), (404, "no_such_push_token"));
}

#[tokio::test]
async fn nobody_else_sees_it() {
    let server = Server::start().await;
    let token = server.add_reader("ios", &[Scope::NotificationsManage], &[]).await;
    let other = server.add_reader("web", &Scope::ALL, &[]).await;
    let id = server.register(&token, 1).await;
    let target = format!("{PATH}/{id}");
    let unseen = async |token: &str| {
        assert_eq!(server.get(PATH).token(token).send().await.json()["push_tokens"], json!([]));
        for method in [Method::GET, Method::DELETE] {
            let reply = server.ask(method, &target).token(token).send().await.problem();
            assert_eq!((reply.0, reply.1.as_str()), (404, "no_such_push_token"));
        }
    };
    unseen(&other).await;
    server.clock.advance(Duration::from_secs(1));
    server.registry.revoke_reader(&ReaderName::new("ios").unwrap()).await.unwrap();
    let later = server.add_reader("ios", &Scope::ALL, &[]).await;
    unseen(&later).await;
    assert_eq!(server.registry.list_push_tokens(None).await.unwrap().len(), 1);
    // A phone on which somebody else signs in is theirs.
    server.register(&other, 1).await;
    assert_eq!(server.get(&target).token(&other).send().await.status, 200);
    assert_eq!(server.registry.list_push_tokens(None).await.unwrap()[0].owner.as_str(), "web");
}

#[tokio::test]
async fn what_is_no_phone_is_refused_by_name() {
    let server = Server::start().await;
    let token = server.add_reader("ios", &[Scope::NotificationsManage], &[]).await;
    for (body, words) in [
        (json!({"token": "xyz", "app": "a"}), "no push token"),
        (json!({"token": "00", "app": "two words"}), "no bundle id"),
        (json!({"token": "00", "app": "a", "server": "test"}), "sandbox"),
        (json!({"token": "00"}), "`app`"),
        (json!({"token": "00", "app": "a", "environment": "sandbox"}), "`environment`"),
    ] {
        let (status, code, detail) = server.change(Method::POST, PATH, &token, body).await.problem();
        assert_eq!((status, code.as_str()), (400, "bad_body"));
        assert!(detail.contains(words) && !detail.contains("xyz"), "{detail}");
    }
}
