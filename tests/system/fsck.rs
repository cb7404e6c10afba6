//! What is stored over a bucket and a database, looked at by an operator.
//!
//! 1. While eaters take frames and compact, `trough fsck` finds nothing wrong; in the end `trough export` has every frame.
//! 2. With every eater stopped the database's catalogs are lost: `trough fsck` says so, and `--rebuild` makes them again. Every
//!    frame can be read, and devices go on where they were.

use std::collections::BTreeMap;

use mongodb::bson::Document;
use trough_device::Mode;
use trough_tests::admin::run;
use trough_tests::cluster::Role;
use trough_tests::data;
use trough_tests::faults::EATERS;
use trough_tests::fleet::Fleet;
use trough_tests::ledger::assert_all_readable;
use trough_tests::poll::{LATER, until};
use trough_tests::process::command;
use trough_tests::servers::url_of;
use trough_tests::stage::Stage;

/// Receivers that stream.
const RECEIVERS: usize = 20;
/// What a catalog of objects and one of segments are made of.
const COLLECTIONS: [&str; 6] = ["objects", "incarnations", "heads", "newest_heads", "segments", "compaction"];

/// A command over the stage's storage. Its exit code, and what it printed.
async fn operate(stage: &Stage, words: &[&str]) -> (Option<i32>, String) {
    let mut operator = command();
    operator.args(words).args(stage.cluster.database_args());
    operator.args(["--store", &url_of(stage.store.at(), "")]);
    operator.envs(stage.cluster.options.env.iter().copied());
    let output = run(operator, "").await;
    let told = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&told).into_owned())
}

fn eaters() -> impl Iterator<Item = Role> {
    (0..EATERS).map(Role::Eater)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn catalogs_in_a_database_are_checked_lost_and_made_again() {
    let mut stage = Stage::start().await;
    stage.cluster.options.eater_args = ["--compact-after", "1"].map(str::to_owned).into();
    for eater in eaters() {
        stage.cluster.terminate(eater, LATER).await;
        stage.cluster.spawn(eater);
    }
    stage.ready().await;
    let tracks = data::gpsd().into_iter().take(RECEIVERS).collect();
    let mut fleet = Fleet::start(&stage.cluster, tracks, Mode::Binary).await;
    for part in 1..=4 {
        fleet.let_go(part * 150);
        let (code, told) = operate(&stage, &["fsck"]).await;
        assert_eq!(code, Some(0), "{told}");
    }
    until("some of it is compacted", LATER, async || {
        let written = stage.objects().await.iter().any(|key| key.starts_with("manifests/"));
        written.then_some(())
    })
    .await;

    for eater in eaters() {
        stage.cluster.terminate(eater, LATER).await;
    }
    for name in COLLECTIONS {
        stage.catalog().collection::<Document>(name).drop().await.unwrap();
    }
    let (code, told) = operate(&stage, &["fsck"]).await;
    assert!(code == Some(1) && told.contains("trough fsck --rebuild"), "{told}");
    let (code, told) = operate(&stage, &["fsck", "--rebuild"]).await;
    assert_eq!(code, Some(0), "{told}");
    println!("{told}");
    for eater in eaters() {
        stage.cluster.spawn(eater);
    }
    stage.ready().await;
    fleet.finish().await;
    for reader in stage.cluster.readers() {
        assert_all_readable(&reader, &fleet.tracks).await;
    }
    let out = stage.cluster.path().join("all.ndjson");
    let (code, told) = operate(&stage, &["export", "--out", out.to_str().unwrap()]).await;
    assert_eq!(code, Some(0), "{told}");
    let mut exported: BTreeMap<String, usize> = BTreeMap::new();
    for line in std::fs::read_to_string(out).unwrap().lines() {
        let frame: serde_json::Value = serde_json::from_str(line).unwrap();
        *exported.entry(frame["device"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let sent: BTreeMap<String, usize> =
        fleet.tracks.iter().map(|track| (track.device.clone(), track.sent.len())).collect();
    assert_eq!(exported, sent);
}
