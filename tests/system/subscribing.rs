//! Readers say by themselves what they want to be told of, over real processes.
//!
//! 1. In one process and in a cluster: a reader sets a rule, subscribes, and is sent a signed webhook when a frame matches; it
//!    sees the event and the delivery, and has it sent again. Another reader sees and touches nothing of it.
//!    What is changed by several at the same moment is changed by all of them.
//! 2. An app registers a phone and is pushed to; its token is in no log.
//! 3. An eater of a cluster that was given no key takes no secrets, and says which option it lacks.
//! 4. A secret that is replaced is used at once, and beside it the old one. A delivery that was given up has all its tries again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use trough_device::{ContentType, Device, Frame};
use trough_tests::cluster::{Cluster, Options, Shape};
use trough_tests::fleet::config;
use trough_tests::notices::verify;
use trough_tests::poll::{LATER, until};
use trough_tests::servers::apns::{Apns, KEY_ID, TEAM_ID, TOPIC};
use trough_tests::servers::hooks::{Hooks, Manner};
use trough_tests::servers::mongo::Mongo;

use crate::notifiers::Notifiers;

/// How often three change a subscription at the same moment.
const ROUNDS: usize = 5;
const SCOPES: &str = "frames:read,notifications:manage,rules:manage";

/// A reader that asks for whatever it likes.
struct Asker {
    client: reqwest::Client,
    base: String,
    token: String,
}

impl Asker {
    async fn new(cluster: &Cluster, name: &str, group: &str) -> Self {
        let token = cluster.admin(&["readers", "add", name, "--scope", SCOPES, "--group", group], "").await;
        Self { client: trough_tests::reader::client(), base: format!("http://{}", cluster.at.api), token }
    }

    /// What it gets: a status, and JSON if there is any.
    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut ask = self.client.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token);
        if let Some(body) = body {
            ask = ask.header("content-type", "application/json").body(body.to_string());
        }
        let answer = ask.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
    }

    /// What it gets that must work, if not at once.
    async fn has(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let (status, json) = until(&format!("{method} {path} is not too early"), LATER, async || {
            let answer = self.ask(method, path, body.clone()).await;
            (answer.0 != 503).then_some(answer)
        })
        .await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {json}");
        json
    }
}

fn text<'a>(json: &'a Value, name: &str) -> &'a str {
    json[name].as_str().unwrap_or_else(|| panic!("no {name} in {json}"))
}

/// The bytes of a secret as a receiver is given it.
fn key(json: &Value) -> Vec<u8> {
    BASE64.decode(text(json, "secret").strip_prefix("whsec_").unwrap()).unwrap()
}

async fn delivered(reader: &Asker, subscription: &str, count: usize) -> Value {
    let path = format!("/v1/deliveries?subscription={subscription}&state=delivered");
    until(&format!("{count} deliveries of {subscription} are made"), LATER, async || {
        let page = reader.has("GET", &path, None).await;
        (page["deliveries"].as_array().unwrap().len() >= count).then_some(page)
    })
    .await
}

/// Of three who change a subscription at the same moment, none takes back what another did.
async fn three_change_it_at_once(reader: &Asker, hooks: &Hooks) {
    let made = reader.has("POST", "/v1/subscriptions", Some(json!({"url": hooks.url("/both")}))).await;
    let (path, mut secret) = (format!("/v1/subscriptions/{}", text(&made, "id")), Vec::new());
    for n in 1..=ROUNDS {
        let url = hooks.url(&format!("/both-{n}"));
        let (rotate, by) = (format!("{path}/rotate-key"), Some(json!({"coalesce_s": n})));
        let (rotated, _, _) = tokio::join!(
            reader.has("POST", &rotate, None),
            reader.has("PATCH", &path, by),
            reader.has("PATCH", &path, Some(json!({"url": url}))),
        );
        let now = reader.has("GET", &path, None).await;
        assert_eq!((&now["coalesce_s"], &now["url"]), (&json!(n), &json!(url)));
        secret = key(&rotated);
    }
    reader.has("POST", &format!("{path}/test"), None).await;
    delivered(reader, text(&made, "id"), 1).await;
    assert_eq!(verify(&secret, &hooks.calls(&format!("/both-{ROUNDS}"))), Ok(1));
    reader.has("DELETE", &path, None).await;
}

async fn a_reader_is_told(cluster: &Cluster, hooks: &Hooks) {
    let device_token = cluster.admin(&["devices", "add", "bus-1", "--group", "north"], "").await;
    let (reader, other) =
        (Asker::new(cluster, "app", "north").await, Asker::new(cluster, "nosy", "south").await);
    let rule =
        json!({"scope": {"groups": ["north"]}, "condition": {"kind": "compare", "when": "/speed > 30"}});
    reader.has("PUT", "/v1/rules/fast", Some(rule.clone())).await;
    let wanted =
        json!({"url": hooks.url("/app?key=secret"), "rules": ["fast"], "scope": {"devices": ["bus-1"]}});
    let subscription = reader.has("POST", "/v1/subscriptions", Some(wanted.clone())).await;
    let (id, secret) = (text(&subscription, "id").to_owned(), key(&subscription));
    three_change_it_at_once(&reader, hooks).await;

    let device = Device::connect(config(cluster, &device_token)).await.unwrap();
    for (ts, payload) in [(1, &b"{\"speed\":20}"[..]), (2, b"{\"speed\":50}")] {
        device.send(Frame { ts, channel: "can", content_type: ContentType::Json, payload }).await.unwrap();
    }
    device.close().await.unwrap();
    let page = delivered(&reader, &id, 1).await;
    let delivery = text(&page["deliveries"][0], "id").to_owned();
    let calls = hooks.calls("/app");
    assert_eq!(calls[0].json()["data"]["data"]["value"], 50.0);
    assert_eq!(calls[0].header("webhook-id"), delivery);
    assert_eq!(verify(&secret, &calls), Ok(calls.len()));
    let events = reader.has("GET", "/v1/events?device=bus-1", None).await;
    assert_eq!(events["events"][0]["id"], calls[0].json()["data"]["event"]);
    assert_eq!(page["deliveries"][0]["event"]["id"], events["events"][0]["id"]);

    let told = hooks.calls("/app").len();
    for (method, path, body) in [
        ("GET", format!("/v1/subscriptions/{id}"), None),
        ("PATCH", format!("/v1/subscriptions/{id}"), Some(json!({"coalesce_s": 9}))),
        ("POST", format!("/v1/subscriptions/{id}/test"), None),
        ("POST", format!("/v1/subscriptions/{id}/disable"), None),
        ("POST", format!("/v1/subscriptions/{id}/rotate-key"), None),
        ("DELETE", format!("/v1/subscriptions/{id}"), None),
        ("GET", format!("/v1/deliveries/{delivery}"), None),
        ("POST", format!("/v1/deliveries/{delivery}/replay"), None),
        ("GET", "/v1/rules/fast".into(), None),
        ("DELETE", "/v1/rules/fast".into(), None),
        ("GET", "/v1/events?device=bus-1".into(), None),
        ("POST", "/v1/subscriptions".into(), Some(wanted)),
    ] {
        let (status, problem) = other.ask(method, &path, body).await;
        assert_eq!(status, 404, "{method} {path}: {problem}");
    }
    assert_eq!(other.ask("PUT", "/v1/rules/fast", Some(rule)).await.0, 400, "north is none of its groups");
    assert_eq!(other.has("GET", "/v1/events", None).await["events"], json!([]));

    reader.has("POST", &format!("/v1/deliveries/{delivery}/replay"), None).await;
    until("it is sent again", LATER, async || (hooks.calls("/app").len() > told).then_some(())).await;
    assert!(hooks.calls("/app").iter().all(|call| call.header("webhook-id") == delivery));
    let tested = reader.has("POST", &format!("/v1/subscriptions/{id}/test"), None).await;
    let tested = tested["deliveries"][0].as_str().unwrap().to_owned();
    until("the test is sent", LATER, async || {
        hooks.calls("/app").into_iter().find(|call| call.header("webhook-id") == tested)
    })
    .await;
    reader.has("DELETE", &format!("/v1/subscriptions/{id}"), None).await;
    assert_eq!(reader.ask("GET", &format!("/v1/deliveries/{delivery}"), None).await.0, 404);
    let logs = cluster.all_logs();
    let secrets = [text(&subscription, "secret").to_owned(), "key=secret".to_owned()];
    assert!(secrets.iter().all(|secret| !logs.contains(secret.as_str())), "a secret is in a log");
}

/// Options with which webhooks may lead anywhere.
fn anywhere() -> Vec<String> {
    ["--webhook-http", "--webhook-private-networks"].map(str::to_owned).to_vec()
}

/// A deployment of many machines, whose eaters have the key of [`Notifiers`] if they are given any.
async fn many(server: &Mongo, database: &str, has_key: bool) -> (Cluster, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("seal.key");
    std::fs::write(&file, [9; 32]).unwrap();
    let mut eater_args = anywhere();
    if has_key {
        eater_args.extend(["--seal-key-file".to_owned(), file.display().to_string()]);
    }
    let options = Options { eater_args, database: Some(server.url(database)), ..Options::default() };
    (Cluster::start_with(Shape::Objects, options).await, dir)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_says_what_it_wants_to_be_told_in_one_process() {
    let hooks = Hooks::start().await;
    let options = Options { feeder_args: anywhere(), ..Options::default() };
    let cluster = Cluster::start_with(Shape::Up, options).await;
    a_reader_is_told(&cluster, &hooks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_says_what_it_wants_to_be_told_in_a_cluster() {
    let (server, hooks) = (Mongo::start().await, Hooks::start().await);
    let (cluster, _dir) = many(&server, "told", true).await;
    let _notifiers = Notifiers::start(1, &server.url("told"));
    a_reader_is_told(&cluster, &hooks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_replaced_and_a_dead_letter_has_all_its_tries_again() {
    let (server, hooks) = (Mongo::start().await, Hooks::start().await);
    let (cluster, _dir) = many(&server, "replaced", true).await;
    let _notifiers = Notifiers::start(1, &server.url("replaced"));
    let reader = Asker::new(&cluster, "app", "north").await;
    let first = reader.has("POST", "/v1/subscriptions", Some(json!({"url": hooks.url("/a")}))).await;
    let path = format!("/v1/subscriptions/{}", text(&first, "id"));
    let second = reader.has("POST", &format!("{path}/rotate-key"), None).await;
    reader.has("POST", &format!("{path}/test"), None).await;
    delivered(&reader, text(&first, "id"), 1).await;
    let calls = hooks.calls("/a");
    for secret in [key(&first), key(&second)] {
        assert_eq!(verify(&secret, &calls), Ok(1), "either is good");
    }
    // Gone for good: the subscription is disabled, and the delivery dead.
    hooks.behave("/a", Manner::Status(410));
    let tested = reader.has("POST", &format!("{path}/test"), None).await;
    let delivery = format!("/v1/deliveries/{}", tested["deliveries"][0].as_str().unwrap());
    let disabled = until("the subscription is disabled", LATER, async || {
        let now = reader.has("GET", &path, None).await;
        now["disabled"].is_object().then_some(now)
    });
    assert!(text(&disabled.await["disabled"], "reason").contains("410"));
    let (status, problem) = reader.ask("POST", &format!("{path}/test"), None).await;
    assert_eq!((status, text(&problem, "code")), (409, "subscription_disabled"));
    hooks.behave("/a", Manner::Status(200));
    reader.has("POST", &format!("{path}/enable"), None).await;
    let replayed = reader.has("POST", &format!("{delivery}/replay"), None).await;
    assert_eq!((&replayed["state"], &replayed["attempts"]), (&json!("pending"), &json!(1)));
    delivered(&reader, text(&first, "id"), 2).await;
    assert_eq!(reader.has("GET", &delivery, None).await["attempts"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_registers_its_phone_and_is_pushed_to() {
    let apple = Apns::start().await;
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let (key, ca) = (file("key.p8", &apple.provider_key), file("ca.pem", &apple.ca()));
    let apns = [
        ["--apns-key-file", &key],
        ["--apns-key-id", KEY_ID],
        ["--apns-team-id", TEAM_ID],
        ["--apns-url", &apple.url()],
        ["--apns-ca", &ca],
    ];
    let feeder_args = apns.into_iter().flatten().map(str::to_owned).collect();
    let cluster = Cluster::start_with(Shape::Up, Options { feeder_args, ..Options::default() }).await;
    let reader = Asker::new(&cluster, "app", "north").await;
    let phone = json!({"token": "00FC13ADFF785122", "app": TOPIC, "server": "sandbox"});
    let phone = reader.has("POST", "/v1/push-tokens", Some(phone)).await;
    let wanted = reader.has("POST", "/v1/subscriptions", Some(json!({"push": true}))).await;
    reader.has("POST", &format!("/v1/subscriptions/{}/test", text(&wanted, "id")), None).await;
    let page = delivered(&reader, text(&wanted, "id"), 1).await;
    assert_eq!(page["deliveries"][0]["push_token"], phone["id"]);
    let pushes = apple.pushes();
    assert_eq!((pushes.len(), pushes[0].token.as_str()), (1, "00fc13adff785122"));
    reader.has("DELETE", &format!("/v1/push-tokens/{}", text(&phone, "id")), None).await;
    let path = format!("/v1/subscriptions/{}/test", text(&wanted, "id"));
    let (status, problem) = reader.ask("POST", &path, None).await;
    assert_eq!((status, text(&problem, "code")), (409, "no_phone"));
    assert!(!cluster.all_logs().to_lowercase().contains("00fc13ad"), "a push token is in a log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_eater_without_a_key_takes_no_secrets() {
    let server = Mongo::start().await;
    let (cluster, _dir) = many(&server, "keyless", false).await;
    let reader = Asker::new(&cluster, "app", "north").await;
    let hook = json!({"url": "https://example.com/"});
    let phone = json!({"token": "00fc", "app": "com.example.app"});
    for (path, body) in [("/v1/subscriptions", hook), ("/v1/push-tokens", phone)] {
        let (status, problem) = reader.ask("POST", path, Some(body)).await;
        assert_eq!((status, text(&problem, "code")), (409, "no_seal_key"));
        assert!(text(&problem, "detail").contains("--seal-key-file"), "{problem}");
    }
    // Pushes have no secret of their own.
    reader.has("POST", "/v1/subscriptions", Some(json!({"push": true}))).await;
}
