//! The catalog of journal objects in a real database server.
//!
//! 1. It passes the suite that every such catalog passes, each case in a database of its own.
//! 2. What it returned is there after kill -9 of the server, and the eater goes on with the next number.
//! 3. A server that does not answer is an error that says when to try again; the row may then be entered again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use trough_protocol::{DeviceId, Epoch, Seq};
use trough_runtime::clock::Clock;
use trough_runtime::health::Health;
use trough_store::conformance::{Fixture, START};
use trough_store::mongo::{Mongo as Database, MongoObjectCatalog};
use trough_store::object_catalog::{
    AppendError, DeviceSpan, Incarnation, ObjectCatalog, ObjectId, ObjectRow, SpanQuery,
};
use trough_store::{CatalogError, object_catalog_suite};
use trough_tests::poll::{LATER, until};
use trough_tests::servers::mongo::Mongo;

/// A catalog in a new database. Each that is opened has its own connections, as another process would.
async fn fixture(server: &Mongo) -> Fixture<dyn ObjectCatalog> {
    static DATABASES: AtomicU32 = AtomicU32::new(0);
    let url = server.url(&format!("case-{}", DATABASES.fetch_add(1, Ordering::Relaxed)));
    let open = move || {
        let client = Database::new(url.parse().unwrap(), Health::new());
        Arc::new(MongoObjectCatalog::new(client)) as Arc<dyn ObjectCatalog>
    };
    // The clock is the server's.
    Fixture { clock: Clock::manual(START), open: Box::new(open), keep: Box::new(()) }
}

object_catalog_suite!(on Mongo::start(), fixture);

const EATER: Incarnation = Incarnation([7; 16]);

fn bus() -> DeviceId {
    DeviceId::new("bus").unwrap()
}

fn row(n: u64) -> ObjectRow {
    let (epoch, first, last) = (Epoch(1), Seq(n), Seq(n));
    let span = DeviceSpan { device: bus(), epoch, first, last, frames: 1, ts: (n, n) };
    let id = ObjectId { incarnation: EATER, n };
    ObjectRow { id, bytes: 100, crc: 5, received_at: n, spans: vec![span], wide: false }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_outlive_the_server_and_are_entered_again_when_it_is_back() {
    let mut server = Mongo::start().await;
    let health = Health::new();
    let client = Database::new(server.url("trough").parse().unwrap(), health.clone());
    let catalog = MongoObjectCatalog::new(client);
    catalog.open(EATER).await.unwrap();
    let mut entered = 0;
    for _ in 0..3 {
        for _ in 0..5 {
            catalog.append(&row(entered + 1)).await.unwrap();
            entered += 1;
        }
        server.kill();
        let refused = catalog.append(&row(entered + 1)).await;
        let catalog_error =
            |error: &AppendError| matches!(error, AppendError::Catalog(CatalogError::Unavailable { .. }));
        assert!(refused.as_ref().is_err_and(catalog_error), "{refused:?}");
        server.restart().await;
        until("the row is entered", LATER, async || match catalog.append(&row(entered + 1)).await {
            Ok(()) => Some(()),
            Err(error) => {
                assert!(catalog_error(&error), "{error}");
                None
            }
        })
        .await;
        entered += 1;
        let all = SpanQuery { device: bus(), after: None, before: None, limit: 1000 };
        let found = catalog.spans(&all).await.unwrap();
        assert_eq!(found.iter().map(|one| one.id.n).collect::<Vec<_>>(), (1..=entered).collect::<Vec<_>>());
    }
}
