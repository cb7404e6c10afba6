//! An eater that hangs between storing an object and entering it.
//!
//! 1. Its way to the database is cut, so that objects are stored and not entered; then it is stopped (SIGSTOP) for
//!    longer than the grace. The other eater declares it dead and removes what it left; its devices go on there. When it
//!    goes on (SIGCONT) it acknowledges nothing and exits with 1, its supervisor starts it again, and everything is read
//!    from both, each frame once and in order. What was removed does not come back.
//!
//! In the short form the database is told that the eater was silent for longer than it was; in the long form nobody
//! hurries.

use std::collections::BTreeSet;

use mongodb::bson::{DateTime, doc};
use trough_device::Mode;
use trough_tests::cluster::Role;
use trough_tests::data;
use trough_tests::faults::{Cut, Fault, Hop, Victim};
use trough_tests::fleet::Fleet;
use trough_tests::ledger::assert_all_readable;
use trough_tests::poll::{LATER, until};
use trough_tests::seed;
use trough_tests::stage::Stage;

const HANGS: Role = Role::Eater(0);
const OTHER: Role = Role::Eater(1);
/// Longer than an eater may be silent.
const SILENT_MS: i64 = 120_000;

/// Waits until of one eater's life nothing is stored but what was entered.
async fn is_swept(stage: &Stage, prefix: &str, entered: &BTreeSet<String>) {
    until("what it left is removed", LATER, async || {
        let stored = stage.objects().await;
        stored.iter().all(|key| !key.starts_with(prefix) || entered.contains(key)).then_some(())
    })
    .await;
}

/// Makes the database believe that this eater said nothing for some time.
async fn age(stage: &Stage, incarnation: &str) {
    let lives = stage.catalog().collection::<mongodb::bson::Document>("incarnations");
    let then = DateTime::from_millis(DateTime::now().timestamp_millis() - SILENT_MS);
    let aged = doc! { "$set": { "heartbeat_at": then } };
    let updated = lives.update_one(doc! { "_id": incarnation }, aged).await.unwrap();
    assert_eq!(updated.modified_count, 1, "{incarnation} is known");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_eater_that_hangs_before_the_entry_loses_and_revives_nothing() {
    let mut stage = Stage::start().await;
    // All devices at the one that will hang.
    let elsewhere = Fault::Cut(Hop::Link { feeder: 0, eater: 1 }, Cut::Refuse);
    stage.begin(elsewhere).await;
    stage.cluster.entrance = stage.entrance(0);
    let tracks = data::gpsd().into_iter().take(20).collect();
    let mut fleet = Fleet::start(&stage.cluster, tracks, Mode::Binary).await;
    fleet.let_go(200);
    until("all is acknowledged", LATER, async || (fleet.acked() == fleet.due()).then_some(())).await;
    let entered = stage.objects().await;

    let no_entry = Fault::Cut(Hop::Database(HANGS), Cut::BlackHole);
    stage.begin(no_entry).await;
    let acked = fleet.acked();
    fleet.let_go(400);
    until("it has stored an object and cannot enter it", LATER, async || {
        let (_, body) = stage.cluster.readiness(HANGS).await?;
        let reason = body["degraded"].as_array()?.iter().find(|part| part["part"] == "journal")?;
        reason["reason"].as_str()?.contains("cannot enter a journal object").then_some(())
    })
    .await;
    assert_eq!(fleet.acked(), acked, "what is not entered is not acknowledged");
    let hang = Fault::Stop(Victim::Process(HANGS));
    stage.begin(hang).await;
    stage.end(no_entry).await;
    stage.end(elsewhere).await;
    let stored = stage.objects().await;
    let orphan = stored.difference(&entered).next().expect("an object without a row").clone();
    let prefix = &orphan[..orphan.rfind('/').unwrap()];
    if !seed::long("waiting until an eater is declared dead without help") {
        age(&stage, prefix.strip_prefix("journal/").unwrap()).await;
    }

    until("its devices go on at the other eater", LATER, async || {
        (fleet.acked() == fleet.due()).then_some(())
    })
    .await;
    until("it is declared dead", LATER * 2, async || {
        let dead = stage.cluster.metric(OTHER, "trough_journal_objects_declared_dead_total").await;
        (dead == 1.0).then_some(())
    })
    .await;
    is_swept(&stage, prefix, &entered).await;
    fleet.let_go(600);

    stage.end(hang).await;
    let exit = stage.cluster.process(HANGS).wait(LATER).await;
    let log = stage.cluster.process(HANGS).log();
    assert_eq!(exit.code, Some(1), "{log}");
    assert!(log.contains("this eater must stop"), "{log}");
    // It may have stored another one before it knew.
    is_swept(&stage, prefix, &entered).await;
    stage.cluster.spawn(HANGS);
    fleet.finish().await;
    stage.ready().await;
    for reader in stage.cluster.readers() {
        assert_all_readable(&reader, &fleet.tracks).await;
    }
}
