//! Notifiers as processes.
//!
//! 1. Three notifiers over one database are killed with -9 at random while events come, and memcached is dead throughout:
//!    each event is delivered at least once, under one id, in the order of its subscription; duplicates are few. The same
//!    of three that have a data directory in common, under 10,000 events.
//! 2. `trough up` tells its subscribers: an operator adds a subscription, tests it, and sees what became of the test; no
//!    secret and no query of a URL is in any log.
//! 3. A notifier is ready without its database, says what is missing, and ends in order.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rand::Rng as _;
use serde_json::Value;
use trough_protocol::DeviceId;
use trough_runtime::clock::Clock;
use trough_runtime::health::Health;
use trough_store::SealKey;
use trough_store::mongo::{Mongo as Database, MongoOutbox, MongoPresence, MongoRegistry};
use trough_store::rule::Scope;
use trough_store::subscription::NewSubscription;
use trough_tests::cluster::{Cluster, Options, Role, Shape};
use trough_tests::notices::{SIGNING_KEY, Stores, event, verify};
use trough_tests::poll::{LATER, SOON, ends, until};
use trough_tests::process::{Process, command};
use trough_tests::seed::{count, long, rng};
use trough_tests::servers::hooks::Hooks;
use trough_tests::servers::mongo::Mongo;
use trough_tests::servers::{free_ports, own_ip};

/// Subscriptions, each of one device.
const SUBSCRIPTIONS: usize = 10;
/// Events that are entered at a time.
const BATCH: u64 = 20;
/// Events over a database: those of the tests are slow.
const MANY: usize = 400;
/// In a data directory.
const MANY_LOCAL: usize = 10_000;
/// Most deliveries that one kill repeats: those on their way, and those that were not noted yet.
const REPEATED_MAX: usize = 32;

/// The notifiers of a test.
pub struct Notifiers {
    arguments: Vec<String>,
    admin: Vec<SocketAddr>,
    running: Vec<Process>,
    dir: tempfile::TempDir,
}

impl Notifiers {
    /// Starts some over a database; webhooks may lead anywhere, and memcached is dead.
    pub fn start(number: usize, database: &str) -> Self {
        Self::start_with(number, database, &[])
    }

    /// The same with more options.
    pub fn start_with(number: usize, database: &str, more: &[String]) -> Self {
        let database = ["--database".to_owned(), database.to_owned()];
        Self::start_in(tempfile::tempdir().unwrap(), number, &[&database, more].concat())
    }

    /// The same, with their data in a directory.
    fn start_in(dir: tempfile::TempDir, number: usize, more: &[String]) -> Self {
        let key = dir.path().join("seal.key");
        std::fs::write(&key, [9; 32]).unwrap();
        let [nobody] = free_ports(own_ip());
        let mut arguments = vec!["--seal-key-file".to_owned(), key.display().to_string()];
        arguments.extend(["--bus".to_owned(), format!("memcached://{nobody}")]);
        arguments.extend(["--webhook-http", "--webhook-private-networks"].map(str::to_owned));
        arguments.extend_from_slice(more);
        let admin: Vec<SocketAddr> = (0..number).map(|_| free_ports::<1>(own_ip())[0]).collect();
        let mut notifiers = Self { arguments, admin, running: Vec::new(), dir };
        notifiers.running = (0..number).map(|index| notifiers.spawn(index)).collect();
        notifiers
    }

    fn spawn(&self, index: usize) -> Process {
        let mut command = command();
        command.args(["--log-format", "json", "notifier", "--data-dir"]).arg(self.dir.path());
        command.args(["--admin", &self.admin[index].to_string()]).args(&self.arguments);
        let name = format!("notifier-{index}");
        Process::spawn(&name, &mut command, &self.dir.path().join(format!("{name}.log")))
    }

    /// SIGKILL, and another in its place.
    fn kill(&mut self, index: usize) {
        self.running[index].kill();
        self.running[index] = self.spawn(index);
    }

    async fn readiness(&self, index: usize) -> Option<(u16, Value)> {
        let url = format!("http://{}/readyz", self.admin[index]);
        let response = reqwest::get(url).await.ok()?;
        Some((response.status().as_u16(), serde_json::from_str(&response.text().await.ok()?).ok()?))
    }
}

/// The stores of a database.
pub async fn stores(server: &Mongo, database: &str) -> Arc<Stores> {
    let client = Database::new(server.url(database).parse().unwrap(), Health::new());
    let registry = Arc::new(MongoRegistry::new(client.clone(), Clock::system()).with_database_time());
    let presence = Arc::new(MongoPresence::new(client.clone()));
    let outbox = Arc::new(MongoOutbox::new(client));
    Arc::new(Stores::of(registry.clone(), registry, outbox, presence, SealKey::new(&[9; 32])))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_notifiers_forget_nothing_and_repeat_little() {
    let many = if long("killed notifiers under 10,000 events, not 400") { 10_000 } else { MANY };
    let server = Mongo::start().await;
    let start = || Notifiers::start(3, &server.url("killed"));
    they_forget_nothing(stores(&server, "killed").await, start, many).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_notifiers_with_one_data_directory_forget_nothing_and_repeat_little() {
    let dir = tempfile::tempdir().unwrap();
    let stores = Arc::new(Stores::in_data_dir(dir.path()));
    they_forget_nothing(stores, || Notifiers::start_in(dir, 3, &[]), MANY_LOCAL).await;
}

/// Three are started when subscriptions are there, and killed.
async fn they_forget_nothing(stores: Arc<Stores>, start: impl FnOnce() -> Notifiers, many: usize) {
    let events = count("TROUGH_TEST_NOTICES", many) as u64;
    let hooks = Hooks::start().await;
    let owner = stores.reader("ios", &[]).await;
    for index in 0..SUBSCRIPTIONS {
        let (name, device) = (format!("s{index}"), DeviceId::new(&format!("bus-{index}")).unwrap());
        let wanted = NewSubscription {
            scope: Scope::Devices(BTreeSet::from([device])),
            ..stores.webhook(&owner, &name, hooks.url(&format!("/{index}")))
        };
        stores.subscribe(wanted).await;
    }
    let mut notifiers = start();
    let per_device = events / SUBSCRIPTIONS as u64;
    let writer = tokio::spawn(async move {
        for first in (1..=per_device).step_by(BATCH as usize) {
            for index in 0..SUBSCRIPTIONS {
                let device = format!("bus-{index}");
                let some = first..(first + BATCH).min(per_device + 1);
                let some: Vec<_> = some.map(|number| event(&device, number)).collect();
                // Twice the same is once, also if nobody knows whether the first was heard.
                let entering = async {
                    while stores.outbox.enter(some.clone()).await.is_err() {
                        tokio::task::yield_now().await;
                    }
                };
                ends("events are entered", LATER, entering).await;
            }
        }
    });
    // One is killed whenever a part of the events has arrived, so that kills are spread over all of it.
    let (mut rng, mut kills) = (rng("notifiers"), 0);
    let parts = count("TROUGH_TEST_NOTIFIER_KILLS", 3);
    let first: usize = rng.random_range(0..3);
    for part in 1..=parts {
        let goal = events as usize * part / (parts + 1);
        until("some have arrived", LATER * 3, async || (hooks.count() >= goal).then_some(())).await;
        // Each once, then any.
        let next = if part <= 3 { first + part } else { rng.random_range(0..3) };
        notifiers.kill(next % 3);
        kills += 1;
    }
    let expected: BTreeSet<u64> = (1..=per_device).collect();
    let mut repeated = 0;
    for index in 0..SUBSCRIPTIONS {
        let path = format!("/{index}");
        let calls = until("all have arrived", LATER * 3, async || {
            let calls = hooks.calls(&path);
            let ids: BTreeSet<_> = calls.iter().map(|call| call.header("webhook-id").to_owned()).collect();
            (ids.len() as u64 >= per_device).then_some(calls)
        })
        .await;
        let (mut seen, mut ids, mut last) = (BTreeSet::new(), BTreeSet::new(), 0);
        for call in &calls {
            let number = call.json()["data"]["data"]["number"].as_u64().unwrap();
            ids.insert((number, call.header("webhook-id").to_owned()));
            if seen.insert(number) {
                assert_eq!(number, last + 1, "the first sending of each is in order");
                last = number;
            } else {
                repeated += 1;
            }
        }
        assert_eq!(seen, expected);
        assert_eq!(ids.len(), seen.len(), "an event has one id");
        assert_eq!(verify(&SIGNING_KEY, &calls[..20]), Ok(20));
    }
    writer.await.unwrap();
    println!("{repeated} of {events} deliveries were repeated by {kills} kills");
    assert!(repeated <= kills * REPEATED_MAX, "{repeated} were repeated by {kills} kills");
    if events >= 10_000 {
        assert!(repeated * 100 < events as usize, "{repeated} of {events} were repeated");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_adds_a_subscription_and_tests_it() {
    let hooks = Hooks::start().await;
    let open = ["--webhook-http", "--webhook-private-networks"].map(str::to_owned);
    let cluster =
        Cluster::start_with(Shape::Up, Options { feeder_args: open.to_vec(), ..Options::default() }).await;
    let url = hooks.url("/hook?token=secret-of-the-url");
    let add = ["subscriptions", "add", "all", "--url", &url, "--webhook-http", "--webhook-private-networks"];
    let added = cluster.admin(&add, "").await;
    let (id, secret) = added.split_once('\n').unwrap();
    let delivery = cluster.admin(&["subscriptions", "test", id], "").await;
    let shown = until("the test is delivered", SOON, async || {
        let shown = cluster.admin(&["deliveries", "show", &delivery], "").await;
        let shown: Value = serde_json::from_str(&shown).unwrap();
        (shown["state"] == "delivered").then_some(shown)
    })
    .await;
    assert!(shown["last"].as_str().unwrap().starts_with("200 OK"), "{shown}");
    let calls = hooks.calls("/hook");
    assert_eq!(calls[0].header("webhook-id"), delivery);
    assert_eq!(calls[0].json()["type"], "subscription.test");
    assert_eq!(verify(&key_of(secret), &calls), Ok(1));
    // A new secret, and the old one for a while.
    let new = cluster.admin(&["subscriptions", "rotate-key", id], "").await;
    cluster.admin(&["deliveries", "replay", &delivery], "").await;
    until("it is sent again", SOON, async || (hooks.count() == 2).then_some(())).await;
    let again = &hooks.calls("/hook")[1..];
    assert_eq!((verify(&key_of(secret), again), verify(&key_of(&new), again)), (Ok(1), Ok(1)));
    let list = cluster.admin(&["subscriptions", "list"], "").await;
    assert!(list.contains(id) && list.contains("/hook?***"), "{list}");
    let logs = cluster.all_logs();
    for secret in [secret, &new, "secret-of-the-url"] {
        assert!(!logs.contains(secret), "{secret} is in a log");
    }
    let line = until("the delivery has its line", SOON, async || {
        cluster.log(Role::Up).into_iter().find(|line| line["message"] == "delivery attempted")
    })
    .await;
    assert_eq!(
        (&line["delivery"], &line["outcome"], &line["status"]),
        (&delivery.clone().into(), &"delivered".into(), &200.into())
    );
    let metrics = cluster.metrics(Role::Up).await;
    assert!(
        metrics.contains("trough_notifier_attempts_total{channel=\"webhook\",outcome=\"delivered\"} 2"),
        "{metrics}"
    );
    cluster.admin(&["subscriptions", "disable", id], "").await;
    cluster.admin(&["subscriptions", "enable", id], "").await;
    cluster.admin(&["subscriptions", "remove", id], "").await;
    assert_eq!(cluster.admin(&["subscriptions", "list", "--json"], "").await, "[]");
    assert!(Path::new(&cluster.data_dir().join("seal.key")).exists());
}

fn key_of(secret: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notifier_is_ready_without_its_database() {
    let [nobody] = free_ports(own_ip());
    let mut notifiers = Notifiers::start(1, &format!("mongodb://{nobody}/away"));
    let readiness = until("it is ready, and says what is missing", LATER, async || {
        let (status, body) = notifiers.readiness(0).await?;
        let parts = body["degraded"].as_array()?;
        (status == 200 && parts.iter().any(|part| part["part"] == "outbox")).then_some(body)
    })
    .await;
    println!("{readiness}");
    notifiers.running[0].terminate();
    let exit = notifiers.running[0].wait(SOON).await;
    assert_eq!(exit.code, Some(0));
}
