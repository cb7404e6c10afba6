//! Presence in a real database server.
//!
//! 1. It passes the suite, each case in a database of its own.
//! 2. A feeder whose burial was cut off is buried by whoever comes next.
//! 3. What was entered while the server's clock was ahead counts as of now.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mongodb::bson::{DateTime, Document, doc};
use trough_protocol::DeviceId;
use trough_runtime::clock::Clock;
use trough_runtime::health::Health;
use trough_store::conformance::{Fixture, START};
use trough_store::mongo::{Mongo as Database, MongoPresence};
use trough_store::presence::{SessionNote, SessionState};
use trough_store::{Presence, presence_suite};
use trough_tests::poll::{LATER, until};
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burial_that_was_cut_off_is_gone_on_with() {
    let server = Mongo::start().await;
    let fixture = fixture(&server).await;
    let presence = (fixture.open)();
    let feeder = [1; 16];
    let note = |number: usize| SessionNote {
        device: DeviceId::new(&format!("bus-{number:04}")).unwrap(),
        session: [7; 16],
        opened_ago: Duration::from_secs(60),
        heard_ago: Duration::from_secs(20),
        state: SessionState::Open,
    };
    let sessions = 60;
    for first in (0..sessions).step_by(20) {
        // The test server takes its time.
        until("it is said", LATER, async || {
            presence.report(feeder, (first..first + 20).map(note).collect()).await.ok()
        })
        .await;
    }
    // Somebody has begun, closed some of the sessions, and died.
    let names = server.client().list_database_names().await.unwrap();
    let database = names.iter().find(|name| name.starts_with("presence-")).unwrap();
    let database = server.client().database(database);
    let feeders = database.collection::<Document>("feeders");
    let this = doc! { "_id": "01".repeat(16) };
    let buried = feeders.update_one(this.clone(), doc! { "$set": { "joined": "buried" } }).await.unwrap();
    assert_eq!(buried.matched_count, 1);
    let some = doc! { "_id": { "$lt": "bus-0025" } };
    let closed = doc! { "$set": { "state": 2 } };
    database.collection::<Document>("sessions").update_many(some, closed).await.unwrap();
    presence.bury(feeder, Duration::ZERO).await.unwrap();
    assert_eq!(feeders.count_documents(this).await.unwrap(), 0, "it is done");
    assert!(presence.feeders().await.unwrap().reported.is_empty());
    let devices = (0..sessions).map(|number| note(number).device).collect();
    let (rows, _) = presence.sessions(devices).await.unwrap();
    assert_eq!(rows.len(), sessions);
    assert!(rows.iter().all(|row| row.state == SessionState::Closed), "all of its sessions are closed");
    assert!(!presence.report(feeder, vec![]).await.unwrap(), "it has to say everything again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_clock_that_was_ahead_has_left_counts_as_of_now() {
    let server = Mongo::start().await;
    let fixture = fixture(&server).await;
    let presence = (fixture.open)();
    let bus = DeviceId::new("bus-1").unwrap();
    let note = SessionNote {
        device: bus.clone(),
        session: [7; 16],
        opened_ago: Duration::from_secs(60),
        heard_ago: Duration::ZERO,
        state: SessionState::Open,
    };
    presence.report([1; 16], vec![note]).await.unwrap();
    // As if all of that had been tomorrow.
    let names = server.client().list_database_names().await.unwrap();
    let database = names.iter().find(|name| name.starts_with("presence-")).unwrap();
    let database = server.client().database(database);
    let tomorrow = DateTime::from_millis(DateTime::now().timestamp_millis() + 86_400_000);
    let (feeders, sessions) =
        (database.collection::<Document>("feeders"), database.collection::<Document>("sessions"));
    feeders.update_many(doc! {}, doc! { "$set": { "reported_at": tomorrow } }).await.unwrap();
    let listening = doc! { "since": { "$exists": true } };
    feeders.update_many(listening, doc! { "$set": { "since": tomorrow } }).await.unwrap();
    let at = tomorrow.timestamp_millis() * 1000;
    let later = doc! { "$set": { "opened_at": at, "heard_at": at, "changed_at": at } };
    sessions.update_many(doc! {}, later).await.unwrap();
    presence.report([2; 16], vec![]).await.unwrap();
    let (rows, feeders) = presence.sessions(vec![bus]).await.unwrap();
    let now = feeders.now;
    assert!(feeders.since.unwrap() <= now && feeders.last.unwrap() <= now, "{feeders:?}");
    assert!(feeders.reported_at(&[1; 16]).unwrap() <= now, "{feeders:?}");
    let row = &rows[0];
    assert!(row.opened_at <= now && row.heard_at <= now && row.changed_at <= now, "{row:?}");
}
