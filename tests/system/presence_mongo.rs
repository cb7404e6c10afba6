//! Presence in a real database server: it passes the suite, each case in a database of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use trough_runtime::clock::Clock;
use trough_runtime::health::Health;
use trough_store::conformance::{Fixture, START};
use trough_store::mongo::{Mongo as Database, MongoPresence};
use trough_store::{Presence, presence_suite};
use trough_tests::servers::mongo::Mongo;

async fn fixture(server: &Mongo) -> Fixture<dyn Presence> {
    static DATABASES: AtomicU32 = AtomicU32::new(0);
    let url = server.url(&format!("presence-{}", DATABASES.fetch_add(1, Ordering::Relaxed)));
    let open = move || {
        let client = Database::new(url.parse().unwrap(), Health::new());
        Arc::new(MongoPresence::new(client)) as Arc<dyn Presence>
    };
    // The clock is the server's.
    Fixture { clock: Clock::manual(START), open: Box::new(open), keep: Box::new(()) }
}

presence_suite!(on Mongo::start(), fixture);
