//! Commands to devices, over real processes.
//!
//! 1. In both shapes and both forms of the protocol: a command reaches a connected device within moments, is answered, and
//!    the answer is read. One that is made while the device is away waits for it.
//! 2. The same from the command line, beside a running server.
//! 3. The feeder is killed with -9 between sending and answer: another feeder sends the command again, and the device does
//!    it once.
//! 4. memcached is dead: the command arrives all the same, later.
//! 5. What has expired or was cancelled is not sent.
//! 6. A device that takes no commands gets none, and streams on undisturbed.

use std::time::Duration;

use serde_json::{Value, json};
use trough_device::{Command, ContentType, Device, Frame, Mode};
use trough_protocol::device::ServerMessage;
use trough_tests::cluster::{Cluster, Options, Role, Shape};
use trough_tests::fleet::config;
use trough_tests::poll::{LATER, SOON, ends, until};
use trough_tests::servers::memcached::Memcached;
use trough_tests::servers::mongo::Mongo;
use trough_tests::wire::{Form, Said, Wire};

/// Somebody who sends commands.
struct Sender {
    client: reqwest::Client,
    base: String,
    token: String,
}

impl Sender {
    async fn new(cluster: &Cluster) -> Self {
        let scopes = "devices:read,commands:send";
        let token = cluster.admin(&["readers", "add", "sender", "--scope", scopes], "").await;
        let base = format!("http://{}/v1/devices", cluster.at.api);
        Self { client: trough_tests::reader::client(), base, token }
    }

    /// Makes a command; gives its id.
    async fn send(&self, device: &str, body: Value) -> String {
        let ask = self.client.post(format!("{}/{device}/commands", self.base)).bearer_auth(&self.token);
        let ask = ask.header("content-type", "application/json").body(body.to_string());
        let answer = ask.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert_eq!(status, 201, "{text}");
        serde_json::from_str::<Value>(&text).unwrap()["id"].as_str().unwrap().to_owned()
    }

    async fn show(&self, device: &str, id: &str) -> Value {
        let ask = self.client.get(format!("{}/{device}/commands/{id}", self.base)).bearer_auth(&self.token);
        serde_json::from_str(&ask.send().await.unwrap().text().await.unwrap()).unwrap()
    }

    async fn cancel(&self, device: &str, id: &str) {
        let ask = self.client.delete(format!("{}/{device}/commands/{id}", self.base));
        assert_eq!(ask.bearer_auth(&self.token).send().await.unwrap().status(), 200);
    }

    async fn ends_as(&self, device: &str, id: &str, state: &str) -> Value {
        until(&format!("command {id} is {state}"), LATER, async || {
            Some(self.show(device, id).await).filter(|command| command["state"] == state)
        })
        .await
    }
}

async fn next(device: &Device) -> Command {
    ends("a command comes", LATER, device.next_command()).await.unwrap()
}

fn taking_commands(cluster: &Cluster, token: &str, mode: Mode) -> trough_device::Config {
    let mut config = config(cluster, token);
    (config.mode, config.commands) = (mode, true);
    config
}

async fn start(shape: Shape, bus: Option<&Memcached>, database: Option<String>, feeders: usize) -> Cluster {
    let bus: Vec<String> =
        bus.iter().flat_map(|bus| ["--bus".into(), format!("memcached://{}", bus.at)]).collect();
    let (feeder_args, eater_args) = (bus.clone(), bus);
    let options = Options { feeders, feeder_args, eater_args, database, ..Options::default() };
    Cluster::start_with(shape, options).await
}

async fn a_command_is_done(cluster: &Cluster, mode: Mode) {
    let name = format!("does-{mode:?}");
    let token = cluster.add_device(&name).await;
    let sender = Sender::new(cluster).await;
    let waits = sender.send(&name, json!({"text": "made while it was away"})).await;
    assert_eq!(sender.show(&name, &waits).await["state"], "queued");
    let device = Device::connect(taking_commands(cluster, &token, mode)).await.unwrap();
    let command = next(&device).await;
    assert_eq!(
        (command.id().to_string(), command.payload()),
        (waits.clone(), &b"made while it was away"[..])
    );
    command.done();
    sender.ends_as(&name, &waits, "acknowledged").await;

    for round in 0..3 {
        let id = sender.send(&name, json!({"json": {"round": round}})).await;
        let mut command = next(&device).await;
        assert_eq!(command.id().to_string(), id);
        let done = trough_device::CommandStatus::Done;
        command.respond(done, ContentType::Json, format!("[{round}]").as_bytes()).unwrap();
        let ended = sender.ends_as(&name, &id, "acknowledged").await;
        assert_eq!((&ended["result"], &ended["sends"]), (&json!({"json": [round]}), &json!(1)));
    }
    let refused = sender.send(&name, json!({"b64": "AAE="})).await;
    next(&device).await.reject("too hot");
    let ended = sender.ends_as(&name, &refused, "rejected").await;
    assert_eq!(ended["result"], json!({"text": "too hot"}));
    cluster.admin(&["readers", "revoke", "sender"], "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_is_done_and_answered_in_one_process() {
    let cluster = start(Shape::Up, None, None, 1).await;
    for mode in [Mode::Binary, Mode::Json] {
        a_command_is_done(&cluster, mode).await;
    }
    let ended = cluster.log(Role::Up);
    let lines = ended.iter().filter(|line| line["message"] == "command ended").count();
    assert_eq!(lines, 10, "one line for each command");
    assert!(!cluster.all_logs().contains("made while it was away"), "payloads are nobody's business");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_is_done_and_answered_in_a_cluster() {
    let (bus, database) = (Memcached::start(&["-M"]).await, Mongo::start().await);
    let cluster = start(Shape::Split, Some(&bus), Some(database.url("commands")), 2).await;
    a_command_is_done(&cluster, Mode::Binary).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_sends_beside_a_running_server() {
    let cluster = start(Shape::Up, None, None, 1).await;
    let token = cluster.add_device("told").await;
    let device = Device::connect(taking_commands(&cluster, &token, Mode::Binary)).await.unwrap();
    let id = cluster.admin(&["commands", "send", "told", "--text", "hello", "--key", "k"], "").await;
    let again = cluster.admin(&["commands", "send", "told", "--text", "hello", "--key", "k"], "").await;
    assert_eq!(id, again);
    let command = next(&device).await;
    assert_eq!((command.id().to_string(), command.payload()), (id.clone(), &b"hello"[..]));
    command.done();
    until("the command line shows it", SOON, async || {
        let shown = cluster.admin(&["commands", "show", "told", &id], "").await;
        shown.contains("state     acknowledged").then_some(())
    })
    .await;
    let listed = cluster.admin(&["commands", "list", "told", "--json"], "").await;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!((&listed[0]["id"], listed.as_array().unwrap().len()), (&json!(id), 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_feeder_loses_no_command_and_no_command_is_done_twice() {
    let bus = Memcached::start(&["-M"]).await;
    let mut cluster = start(Shape::Split, Some(&bus), None, 2).await;
    let token = cluster.add_device("roams").await;
    let sender = Sender::new(&cluster).await;
    let mut config = taking_commands(&cluster, &token, Mode::Binary);
    // Both feeders, one after another, as behind a load balancer.
    let feeders = cluster.feeders();
    let tries = std::sync::atomic::AtomicUsize::new(0);
    config.dialer = Some(trough_device::Dialer::new(move || {
        let at = feeders[tries.fetch_add(1, std::sync::atomic::Ordering::SeqCst) % feeders.len()];
        async move {
            let stream = tokio::net::TcpStream::connect(at).await?;
            Ok(Box::new(stream) as Box<dyn trough_device::Stream>)
        }
    }));
    let device = Device::connect(config).await.unwrap();
    let id = sender.send("roams", json!({"text": "once"})).await;
    let command = next(&device).await;
    sender.ends_as("roams", &id, "sent").await;
    cluster.kill(Role::Feeder(0));
    command.done();
    let ended = sender.ends_as("roams", &id, "acknowledged").await;
    assert_eq!(ended["sends"], 2, "the other feeder sent it again");
    let more = tokio::time::timeout(Duration::from_millis(200), device.next_command()).await;
    assert!(more.is_err(), "the device did it once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_bus_costs_time_and_no_command() {
    let mut bus = Memcached::start(&["-M"]).await;
    let cluster = start(Shape::Split, Some(&bus), None, 1).await;
    let token = cluster.add_device("patient").await;
    let sender = Sender::new(&cluster).await;
    let device = Device::connect(taking_commands(&cluster, &token, Mode::Binary)).await.unwrap();
    bus.kill();
    let id = sender.send("patient", json!({"text": "later"})).await;
    let command = next(&device).await;
    assert_eq!(command.id().to_string(), id);
    command.done();
    sender.ends_as("patient", &id, "acknowledged").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_expired_or_was_cancelled_is_not_sent() {
    let cluster = start(Shape::Up, None, None, 1).await;
    let token = cluster.add_device("late").await;
    let sender = Sender::new(&cluster).await;
    let expires = sender.send("late", json!({"text": "expires", "expires_in": 1})).await;
    let cancelled = sender.send("late", json!({"text": "cancelled"})).await;
    sender.cancel("late", &cancelled).await;
    sender.ends_as("late", &expires, "expired").await;
    let good = sender.send("late", json!({"text": "good"})).await;
    let device = Device::connect(taking_commands(&cluster, &token, Mode::Binary)).await.unwrap();
    let command = next(&device).await;
    assert_eq!(command.id().to_string(), good, "the others are not sent");
    command.done();
    sender.ends_as("late", &good, "acknowledged").await;
    for (id, state) in [(&expires, "expired"), (&cancelled, "cancelled")] {
        let command = sender.show("late", id).await;
        assert_eq!((&command["state"], &command["sends"]), (&json!(state), &json!(0)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_takes_none_is_not_disturbed() {
    let cluster = start(Shape::Up, None, None, 1).await;
    let (old, new) = (cluster.add_device("old").await, cluster.add_device("new").await);
    let sender = Sender::new(&cluster).await;
    let ignored = sender.send("old", json!({"text": "nobody hears it"})).await;
    let (mut wire, _) = Wire::begin(cluster.at.devices, Form::Binary, &old).await;
    // One that does take them has its own by then, so the other one would have, too.
    let heard = sender.send("new", json!({"text": "somebody hears it"})).await;
    let device = Device::connect(taking_commands(&cluster, &new, Mode::Binary)).await.unwrap();
    next(&device).await.done();
    sender.ends_as("new", &heard, "acknowledged").await;
    wire.frames(1, &[b"a frame"]).await;
    let said = wire.hear().await;
    assert!(matches!(said, Said::Message(ServerMessage::Ack(_))), "{said:?}");
    let command = sender.show("old", &ignored).await;
    assert_eq!((&command["state"], &command["sends"]), (&json!("queued"), &json!(0)));
    let frame = Frame { ts: 1, channel: "c", content_type: ContentType::Text, payload: b"x" };
    device.send(frame).await.unwrap();
    device.close().await.unwrap();
}
