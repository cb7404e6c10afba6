//! A data directory that an earlier release wrote is opened as it is.
//!
//! 1. Each format level has one in `tests/golden/`, made by the release with which the level came to be: segments of two
//!    levels, a journal that was not compacted yet, catalogs and a registry. All of it is read by this release.
//!
//! `cargo test --workspace --test system -- --ignored golden::make` makes that of this release's level. One that is there
//! is never made again: it is what a release has written.

use std::path::{Path, PathBuf};
use std::process::Command;

use trough_device::Mode;
use trough_store::format_level::{FORMAT_LEVEL, FORMAT_LEVELS};
use trough_tests::cluster::{Cluster, Options, Role, Shape};
use trough_tests::data;
use trough_tests::duckdb::Manifest;
use trough_tests::fleet::Fleet;
use trough_tests::ledger::{Track, assert_all_readable};
use trough_tests::poll::{LATER, until};

/// Never another choice: the directories have these.
fn tracks() -> Vec<Track> {
    data::gpsd().into_iter().take(12).collect()
}

fn archive(level: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("golden/data-{level}.tar.gz"))
}

fn tar(args: &[&str], archive: &Path, dir: &Path) {
    let mut tar = Command::new("tar");
    tar.args(args).arg("-f").arg(archive).arg("-C").arg(dir).arg("data");
    assert!(tar.status().unwrap().success(), "{tar:?}");
}

fn compacting_after(seconds: &str) -> Options {
    let args: Vec<String> = ["--compact-after", seconds].map(str::to_owned).into();
    Options { feeder_args: args, ..Options::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_each_format_level_wrote_is_read() {
    for level in FORMAT_LEVELS {
        let mut cluster = Cluster::prepare(Shape::Up, Options::default()).await;
        std::fs::remove_dir_all(cluster.data_dir()).unwrap();
        tar(&["-x", "-z"], &archive(level), cluster.path());
        let token = cluster.add_reader("later", &[]).await;
        cluster.spawn(Role::Up);
        cluster.ready().await;
        let reader = cluster.reader().with_token(&token);
        assert_all_readable(&reader, &tracks()).await;
        let degraded = cluster.readiness(Role::Up).await.unwrap().1["degraded"].clone();
        assert_eq!(degraded.as_array().map(Vec::len), Some(0), "{degraded}");
        assert_eq!(cluster.terminate(Role::Up, LATER).await.code, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "makes the directory that later releases must open"]
async fn make() {
    let archive = archive(FORMAT_LEVEL);
    assert!(!archive.exists(), "{} is what a release has written", archive.display());
    let mut cluster = Cluster::start_with(Shape::Up, compacting_after("1")).await;
    let store = cluster.data_dir().join("store");
    let mut fleet = Fleet::start(&cluster, tracks(), Mode::Binary).await;
    for part in 1..=9 {
        let number = || Manifest::newest(&store).map_or(0, |manifest| manifest.number);
        let before = number();
        fleet.let_go(part * 80);
        until("some of it is compacted", LATER, async || (number() > before).then_some(())).await;
    }
    until("small segments are merged", LATER, async || {
        Manifest::newest(&store)?.segments.iter().any(|segment| segment.level > 1).then_some(())
    })
    .await;
    assert_eq!(cluster.terminate(Role::Up, LATER).await.code, Some(0));
    // The rest stays in the journal.
    cluster.options = compacting_after("3600");
    cluster.spawn(Role::Up);
    cluster.ready().await;
    fleet.finish().await;
    assert_all_readable(&cluster.reader(), &fleet.tracks).await;
    assert_eq!(cluster.terminate(Role::Up, LATER).await.code, Some(0));
    std::fs::create_dir_all(archive.parent().unwrap()).unwrap();
    tar(&["-c", "-z"], &archive, cluster.path());
}
