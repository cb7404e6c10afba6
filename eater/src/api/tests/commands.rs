//! 1. A command is made, read, listed and cancelled; what it was asked with comes back byte for byte.
//! 2. A key makes a repetition harmless, and is not for two commands.
//! 3. Scopes and groups: whoever may read may not send, and a device of others is none.
//! 4. What the body may not be, is refused by name; it is read no further than its limit.
//! 5. A device has so many commands, and none when it is revoked.

use http::Method;
use serde_json::{Value, json};
use trough_protocol::device::CommandStatus;
use trough_store::commands::{CommandAnswer, CommandPayload, CommandPlace, Commands, PENDING_MAX};
use trough_store::{Registry, Scope};

use super::client::{Ask, Reply};
use super::support::{Server, device};

const PATH: &str = "/v1/devices/bus-1/commands";

fn post(server: &Server, token: &str, body: impl ToString) -> Ask {
    let ask = server.ask(Method::POST, PATH).token(token).header("content-type", "application/json");
    ask.body(body.to_string())
}

async fn made(server: &Server, token: &str, body: Value) -> Value {
    let reply = post(server, token, body).send().await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    let json = reply.json();
    assert_eq!(reply.header("location"), format!("{PATH}/{}", json["id"].as_str().unwrap()));
    json
}

fn refused(reply: &Reply) -> (u16, String) {
    let (status, code, _) = reply.problem();
    (status, code)
}

#[tokio::test]
async fn a_command_is_made_read_and_cancelled() {
    let server = Server::start().await;
    let token = server.device_and_reader("bus-1").await;
    let first = made(&server, &token, json!({"json": {"lock": true}, "expires_in": 60})).await;
    assert_eq!((&first["state"], &first["json"]), (&json!("queued"), &json!({"lock": true})));
    assert_eq!(first["expires_at"], "2023-11-14T22:14:20.000000Z");
    assert_eq!((&first["made_by"], &first["result"]), (&json!("reader all"), &Value::Null));
    server.clock.advance(std::time::Duration::from_millis(1));
    let second = made(&server, &token, json!({"b64": "AP8=", "content_type": "a/b"})).await;
    assert_eq!((&second["b64"], &second["content_type"]), (&json!("AP8="), &json!("a/b")));
    let target = format!("{PATH}/{}", first["id"].as_str().unwrap());
    let shown = server.get(&target).token(&token).send().await;
    assert_eq!(shown.json(), first);
    let unchanged =
        server.get(&target).token(&token).header("if-none-match", shown.header("etag")).send().await;
    assert_eq!(unchanged.status, 304);

    let page = server.get(&format!("{PATH}?limit=1")).token(&token).send().await.json();
    assert_eq!(page["commands"], json!([second]));
    let rest = format!("{PATH}?cursor={}", page["next_cursor"].as_str().unwrap());
    let page = server.get(&rest).token(&token).send().await.json();
    assert_eq!((&page["commands"], &page["next_cursor"]), (&json!([first]), &Value::Null));

    let cancelled = server.ask(Method::DELETE, &target).token(&token).send().await.json();
    assert_eq!(cancelled["state"], "cancelled");
    let page = server.get(&format!("{PATH}?state=cancelled")).token(&token).send().await.json();
    assert_eq!(page["commands"], json!([cancelled]));
    let id = second["id"].as_str().unwrap();
    let place = CommandPlace { device: device("bus-1"), id: id.parse().unwrap() };
    let payload = CommandPayload { content_type: "application/json".into(), bytes: b"[1]".to_vec() };
    let answer = CommandAnswer { status: CommandStatus::Done, payload };
    server.registry.finish_command(&place, answer).await.unwrap();
    let target = format!("{PATH}/{id}");
    let shown = server.get(&target).token(&token).send().await.json();
    assert_eq!((&shown["state"], &shown["result"]), (&json!("acknowledged"), &json!({"json": [1]})));
    let late = server.ask(Method::DELETE, &target).token(&token).send().await;
    assert_eq!(refused(&late), (409, "command_finished".into()));
    for nobody in ["018bcfe5-6800-7000-8000-000000000000", "x"] {
        let reply = server.get(&format!("{PATH}/{nobody}")).token(&token).send().await;
        assert_eq!(refused(&reply), (404, "no_such_command".into()), "{nobody}");
    }
}

#[tokio::test]
async fn a_key_makes_a_repetition_harmless() {
    let server = Server::start().await;
    let token = server.device_and_reader("bus-1").await;
    let ask = |body: Value| post(&server, &token, body).header("idempotency-key", "k-1");
    let first = ask(json!({"text": "lock"})).send().await;
    let again = ask(json!({"text": "lock", "expires_in": 5})).send().await;
    assert_eq!((first.status.as_u16(), again.status.as_u16()), (201, 200));
    assert_eq!(first.json(), again.json());
    assert_eq!(first.header("location"), again.header("location"));
    let other = ask(json!({"text": "unlock"})).send().await;
    assert_eq!(refused(&other), (409, "idempotency_key_used".into()));
    let two = ask(json!({"text": "lock"})).header("idempotency-key", "k-2").send().await;
    assert_eq!(refused(&two), (400, "bad_body".into()));
}

#[tokio::test]
async fn whoever_reads_may_not_send_and_a_device_of_others_is_none() {
    let server = Server::start().await;
    server.add_device("bus-1", &["south"]).await;
    let south = server.add_reader("south", &Scope::ALL, &["south"]).await;
    let north = server.add_reader("north", &Scope::ALL, &["north"]).await;
    let reads = server.add_reader("reads", &Scope::READING, &[]).await;
    let command = made(&server, &south, json!({"text": "lock"})).await;
    let target = format!("{PATH}/{}", command["id"].as_str().unwrap());
    let body = json!({"text": "lock"});
    assert_eq!(refused(&post(&server, &reads, &body).send().await), (403, "scope_missing".into()));
    let cancels = server.ask(Method::DELETE, &target).token(&reads).send().await;
    assert_eq!(refused(&cancels), (403, "scope_missing".into()));
    let none = (404, "no_such_device".to_owned());
    assert_eq!(refused(&post(&server, &north, &body).send().await), none);
    assert_eq!(refused(&server.get(PATH).token(&north).send().await), none);
    assert_eq!(refused(&server.get(&target).token(&north).send().await), none);
    assert_eq!(refused(&server.ask(Method::DELETE, &target).token(&north).send().await), none);
    assert_eq!(server.get(&target).token(&reads).send().await.json(), command);
}

#[tokio::test]
async fn what_the_body_may_not_be_is_refused_by_name() {
    let server = Server::start().await;
    let token = server.device_and_reader("bus-1").await;
    for (body, words) in [("{", "EOF"), (r#"{"text":"a","json":1}"#, "exactly one"), ("{\"a\":1}", "`a`")] {
        let (status, code, detail) = post(&server, &token, body).send().await.problem();
        assert_eq!((status, code.as_str()), (400, "bad_body"));
        assert!(detail.contains(words), "{detail}");
    }
    let untyped = server.ask(Method::POST, PATH).token(&token).body("{}".into()).send().await;
    assert_eq!(refused(&untyped), (415, "unsupported_media_type".into()));
    let large = json!({"text": "x".repeat(200_000)});
    assert_eq!(refused(&post(&server, &token, large).send().await), (413, "body_too_large".into()));
    let put = server.ask(Method::PUT, PATH).token(&token).send().await;
    assert_eq!(put.header("allow"), "GET, HEAD, POST");
    assert_eq!(refused(&put), (405, "method_not_allowed".into()));
    let patch = server.ask(Method::PATCH, &format!("{PATH}/x")).token(&token).send().await;
    assert_eq!(patch.header("allow"), "GET, HEAD, DELETE");
}

#[tokio::test]
async fn a_device_has_so_many_commands() {
    let server = Server::start().await;
    let token = server.device_and_reader("bus-1").await;
    for n in 0..PENDING_MAX {
        made(&server, &token, json!({"json": n})).await;
    }
    let more = post(&server, &token, json!({"json": 0})).send().await;
    assert_eq!(refused(&more), (409, "too_many_commands".into()));
    server.registry.revoke_device(&device("bus-1")).await.unwrap();
    let gone = post(&server, &token, json!({"json": 0})).send().await;
    assert_eq!(refused(&gone), (409, "device_revoked".into()));
}
