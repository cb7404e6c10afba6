//! The registry in a real database server.
//!
//! 1. It passes the suite that every registry passes, each case in a database of its own.
//! 2. What it returned is there after kill -9 of the server; a server that does not answer is an error that says when
//!    to try again, never an unknown token or device; health names it, and everything recovers by itself.
//! 3. Two processes that change the registry at once do not undo each other's changes, and none is lost.
//! 4. No token stands in the database.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use trough_protocol::{DeviceId, Epoch};
use trough_runtime::clock::Clock;
use trough_runtime::health::Health;
use trough_store::conformance::{Fixture, START};
use trough_store::mongo::{Mongo as Database, MongoRegistry};
use trough_store::{AuthError, DeviceFilter, NewDevice, Registry, RegistryError, registry_suite};
use trough_tests::poll::{LATER, until};
use trough_tests::servers::mongo::Mongo;

fn open(server: &Mongo, database: &str, health: &Health, clock: &Clock) -> MongoRegistry {
    let client = Database::new(server.url(database).parse().unwrap(), health.clone());
    MongoRegistry::new(client, clock.clone())
}

/// A registry in a new database. Each that is opened has its own connections, as another process would.
async fn fixture(server: &Mongo) -> Fixture<dyn Registry> {
    static DATABASES: AtomicU32 = AtomicU32::new(0);
    let url = server.url(&format!("case-{}", DATABASES.fetch_add(1, Ordering::Relaxed)));
    let clock = Clock::manual(START);
    let time = clock.clone();
    let open = move || {
        let client = Database::new(url.parse().unwrap(), Health::new());
        let registry = Arc::new(MongoRegistry::new(client, time.clone()));
        // A registry that nobody used yet does not look for changes: there is nothing yet that they could end.
        let used = async { registry.list_readers().await.unwrap() };
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(used));
        registry as Arc<dyn Registry>
    };
    Fixture { clock, open: Box::new(open), keep: Box::new(()) }
}

registry_suite!(on Mongo::start(), fixture);

fn device(name: &str) -> NewDevice {
    NewDevice::new(DeviceId::new(name).unwrap())
}

fn is_unavailable(error: &RegistryError) -> bool {
    matches!(error, RegistryError::Unavailable { retry_after, .. } if !retry_after.is_zero())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_returned_survives_a_killed_server_and_nothing_else_is_claimed() {
    let mut server = Mongo::start().await;
    let (health, clock) = (Health::new(), Clock::manual(START));
    let registry = open(&server, "killed", &health, &clock);
    let token = registry.add_device(device("bus-1")).await.unwrap();
    let id = DeviceId::new("bus-1").unwrap();
    assert_eq!(registry.grant_epoch(&id).await, Ok(Epoch(1)));
    let old = registry.add_device(device("bus-2")).await.unwrap();
    registry.revoke_device(&DeviceId::new("bus-2").unwrap()).await.unwrap();
    server.kill();

    for _ in 0..3 {
        let refused = registry.authenticate_device(token.expose()).await.unwrap_err();
        assert!(matches!(&refused, AuthError::Registry(error) if is_unavailable(error)), "{refused:?}");
        assert!(is_unavailable(&registry.get_device(&id).await.unwrap_err()));
        assert!(is_unavailable(&registry.tokens_revoked(&[token.id]).await.unwrap_err()));
        assert!(is_unavailable(&registry.grant_epoch(&id).await.unwrap_err()));
        assert!(is_unavailable(&registry.revoke_device(&id).await.unwrap_err()));
    }
    assert_eq!(health.degraded()[0].0, "database");

    server.restart().await;
    until("health has seen that the database is back", LATER, async || {
        health.degraded().is_empty().then_some(())
    })
    .await;
    let grant = registry.authenticate_device(token.expose()).await.unwrap();
    assert_eq!((grant.device, grant.token_id), (id.clone(), token.id));
    assert_eq!(registry.authenticate_device(old.expose()).await, Err(AuthError::Revoked));
    assert_eq!(registry.grant_epoch(&id).await, Ok(Epoch(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_is_given_up_in_time() {
    let mut server = Mongo::start().await;
    let (health, clock) = (Health::new(), Clock::manual(START));
    let registry = open(&server, "hangs", &health, &clock);
    let token = registry.add_device(device("bus-1")).await.unwrap();
    server.process().stop();
    let began = std::time::Instant::now();
    let refused = registry.authenticate_device(token.expose()).await.unwrap_err();
    println!("given up after {:?}", began.elapsed());
    assert!(matches!(&refused, AuthError::Registry(error) if is_unavailable(error)), "{refused:?}");
    assert_eq!(health.degraded()[0].0, "database");
    server.process().resume();
    until("the token is accepted again", LATER, async || {
        registry.authenticate_device(token.expose()).await.ok()
    })
    .await;
    assert!(health.degraded().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_connects_before_the_first_use() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("mongodb://user:hunter2@{}/lazy", listener.local_addr().unwrap());
    let health = Health::new();
    let client = Database::new(url.parse().unwrap(), health.clone());
    let registry = MongoRegistry::new(client, Clock::manual(START));
    let _changes = registry.changes();
    // Time in which a client that is not lazy would have come.
    let came = tokio::time::timeout(Duration::from_millis(500), listener.accept()).await;
    assert!(came.is_err(), "somebody connected");
    assert!(health.degraded().is_empty());
    drop(listener);
    let error = registry.list_devices(DeviceFilter::default()).await.unwrap_err();
    assert!(is_unavailable(&error), "{error:?}");
    let told = format!("{error} {error:?} {registry:?} {:?}", health.degraded());
    assert!(!told.contains("hunter2"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_change_the_registry_at_once() {
    let server = Mongo::start().await;
    let clock = Clock::manual(START);
    let registries = [(); 2].map(|()| Arc::new(open(&server, "both", &Health::new(), &clock)));
    let mut adding = JoinSet::new();
    for n in 0..15 {
        for (who, registry) in registries.iter().enumerate() {
            let (own, shared) = (device(&format!("own-{who}-{n}")), device(&format!("shared-{n}")));
            let registry = registry.clone();
            adding.spawn(async move {
                registry.add_device(own).await.unwrap();
                match registry.add_device(shared).await {
                    Ok(_) => 1,
                    Err(RegistryError::AlreadyExists { .. }) => 0,
                    Err(other) => panic!("{other}"),
                }
            });
        }
    }
    let won: usize = adding.join_all().await.into_iter().sum();
    assert_eq!(won, 15, "each shared device is added once");
    let listed = registries[0].list_devices(DeviceFilter::default()).await.unwrap();
    assert_eq!(listed.len(), 45);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_is_in_the_database() {
    use mongodb::bson::{Document, doc};

    let server = Mongo::start().await;
    let registry = open(&server, "hashes", &Health::new(), &Clock::manual(START));
    let token = registry.add_device(device("bus-1")).await.unwrap();
    let client = mongodb::Client::with_uri_str(server.url("hashes")).await.unwrap();
    let stored = client.database("hashes").collection::<Document>("tokens").find_one(doc! {}).await.unwrap();
    let stored = format!("{stored:?}");
    assert!(stored.contains(token.id.as_str()) && !stored.contains(&token.expose()[18..]), "{stored}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_format_of_another_release_is_refused() {
    use mongodb::bson::{Document, doc};

    let server = Mongo::start().await;
    let (health, clock) = (Health::new(), Clock::manual(START));
    open(&server, "newer", &health, &clock).add_device(device("bus-1")).await.unwrap();
    let client = mongodb::Client::with_uri_str(server.url("newer")).await.unwrap();
    let meta = client.database("newer").collection::<Document>("meta");
    meta.update_one(doc! { "_id": "registry" }, doc! { "$set": { "format": 7_i64 } }).await.unwrap();
    let error = open(&server, "newer", &health, &clock).add_device(device("bus-2")).await.unwrap_err();
    assert!(error.to_string().contains("has format 7, and this release reads 1"), "{error}");
}
