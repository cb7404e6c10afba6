//! The catalog of segments in a real database server.
//!
//! 1. It passes the suite that every such catalog passes, each case in a database of its own.
//! 2. Storage of a later release is left alone.
//! 3. What it returned is there after kill -9 of the server, and a change whose outcome was left open is made once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use trough_protocol::DeviceId;
use trough_runtime::clock::Clock;
use trough_runtime::health::Health;
use trough_store::conformance::{Fixture, START};
use trough_store::format_level::{FORMAT_LEVEL, FormatLevel};
use trough_store::mongo::{Mongo as Database, MongoSegmentCatalog};
use trough_store::object_catalog::Incarnation;
use trough_store::segment_catalog::{Change, CommitError, Segment, SegmentCatalog, SegmentId, Through};
use trough_store::{CatalogError, segment_catalog_suite};
use trough_tests::poll::{LATER, until};
use trough_tests::seed;
use trough_tests::servers::mongo::Mongo;

/// A catalog in a new database. Each that is opened has its own connections, as another process would.
async fn fixture(server: &Mongo) -> Fixture<dyn SegmentCatalog> {
    static DATABASES: AtomicU32 = AtomicU32::new(0);
    let url = server.url(&format!("case-{}", DATABASES.fetch_add(1, Ordering::Relaxed)));
    let open = move || {
        let client = Database::new(url.parse().unwrap(), Health::new());
        Arc::new(MongoSegmentCatalog::new(client)) as Arc<dyn SegmentCatalog>
    };
    // The clock is the server's.
    Fixture { clock: Clock::manual(START), open: Box::new(open), keep: Box::new(()) }
}

segment_catalog_suite!(on Mongo::start(), fixture);

const JOURNAL: Incarnation = Incarnation([7; 16]);

/// Each takes the place of the one before.
fn change(number: u64, token: u64) -> Change {
    let id = |number: u64| SegmentId((u128::from(number) << 64).to_be_bytes());
    let bus = DeviceId::new("bus").unwrap();
    let segment = Segment {
        id: id(number),
        level: 1,
        date: 20_000,
        bytes: 1,
        index_bytes: 1,
        index_crc: 1,
        frames: number,
        devices: (bus.clone(), bus),
        ts: (1, 2),
        received: (1, 2),
    };
    Change {
        id: id(number).0,
        token,
        after: number - 1,
        add: vec![segment],
        remove: if number > 1 { vec![id(number - 1)] } else { vec![] },
        through: vec![Through { incarnation: JOURNAL, n: number }],
        expires: false,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_outlive_the_server_and_one_that_was_left_open_is_made_once() {
    let mut server = Mongo::start().await;
    let client = Database::new(server.url("trough").parse().unwrap(), Health::new());
    let catalog = Arc::new(MongoSegmentCatalog::new(client));
    let token = catalog.claim(Duration::from_secs(3600)).await.unwrap().unwrap();
    let mut made = 0;
    // The client takes its time to find a server that was started again.
    for _ in 0..seed::count("TROUGH_TEST_RESTARTS", 1) {
        for _ in 0..3 {
            assert_eq!(catalog.commit(&change(made + 1, token)).await, Ok(made + 1));
            made += 1;
        }
        // Somewhere on its way the server dies.
        let left_open = tokio::spawn({
            let catalog = catalog.clone();
            async move { catalog.commit(&change(made + 1, token)).await }
        });
        server.kill();
        let first = left_open.await.unwrap();
        let unavailable =
            |error: &CommitError| matches!(error, CommitError::Catalog(CatalogError::Unavailable { .. }));
        assert!(first.as_ref().map_or_else(unavailable, |number| *number == made + 1), "{first:?}");
        server.restart().await;
        let number = until("the change is made", LATER, async || {
            match catalog.commit(&change(made + 1, token)).await {
                Ok(number) => Some(number),
                Err(error) => {
                    assert!(unavailable(&error), "{error}");
                    None
                }
            }
        })
        .await;
        made += 1;
        assert_eq!(number, made);
        let manifest = catalog.manifest(None).await.unwrap().unwrap();
        assert_eq!(manifest.number, made);
        assert_eq!(manifest.through, [Through { incarnation: JOURNAL, n: made }]);
        assert_eq!(manifest.segments, change(made, token).add);
        assert_eq!(catalog.removed(1000).await.unwrap().len() as u64, made - 1);
        assert_eq!(catalog.claim(Duration::from_secs(3600)).await, Ok(None), "the claim is there");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_format_level_that_is_too_high_is_refused_naming_the_release() {
    let server = Mongo::start().await;
    let fixture = fixture(&server).await;
    let next = FormatLevel { level: FORMAT_LEVEL + 1, release: "7.1.0".into() };
    (fixture.open)().raise_format_level(next).await.unwrap();
    let refused = (fixture.open)().manifest(None).await.unwrap_err().to_string();
    for named in ["format level 2", "release 7.1.0", "levels 1 to 1"] {
        assert!(refused.contains(named), "{refused}");
    }
}
