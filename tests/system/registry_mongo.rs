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
