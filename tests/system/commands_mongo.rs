//! Commands in a real database server pass the suite that all commands pass, each case in a database of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use trough_runtime::clock::Clock;
use trough_runtime::health::Health;
use trough_store::commands_suite;
use trough_store::conformance::commands::RegistryWithCommands;
use trough_store::conformance::{Fixture, START};
use trough_store::mongo::{Mongo as Database, MongoCommands, MongoRegistry};
use trough_tests::servers::mongo::Mongo;

/// A registry and its commands in a new database. Each that is opened has its own connections, as another process would.
async fn fixture(server: &Mongo) -> Fixture<dyn RegistryWithCommands> {
    static DATABASES: AtomicU32 = AtomicU32::new(0);
    let url = server.url(&format!("commands-{}", DATABASES.fetch_add(1, Ordering::Relaxed)));
    let clock = Clock::manual(START);
    let time = clock.clone();
    let open = move || {
        let client = Database::new(url.parse().unwrap(), Health::new());
        let registry = MongoRegistry::new(client.clone(), time.clone());
        Arc::new((registry, MongoCommands::new(client, time.clone()))) as Arc<dyn RegistryWithCommands>
    };
    Fixture { clock, open: Box::new(open), keep: Box::new(()) }
}

commands_suite!(on Mongo::start(), fixture);
