//! History: journals become segments while devices stream, and a stranger reads them.
//!
//! 1. `trough up` compacts as often as it can. In the end it is started again, which removes what is compacted from the
//!    journal: everything that was sent is read from segments alone, each frame once, in either order and byte for byte,
//!    no gap is reported, and the last frames are known. DuckDB finds exactly the same through the newest manifest.
//! 2. Two eaters over one object store, where the journal's objects are still there: the same.
//! 3. Two eaters over a bucket and a database.
//! 4. The eater is killed again and again, most of the time just when a segment was stored. What is acknowledged is seen
//!    all the time, and in the end by the API and by DuckDB, once.
//! 5. All buses as segments, indexes and all, take a quarter of the same rows in NDJSON at the most.
//! 6. The statements in `docs/storage.md` work as they stand.
//!
//! `TROUGH_TEST_KILLS` sets the kills (the half of it), `TROUGH_TEST_SEED` repeats a run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rand::Rng;
use trough_device::Mode;
use trough_tests::cluster::{Cluster, Options, Role, Shape};
use trough_tests::data;
use trough_tests::duckdb::{self, Manifest};
use trough_tests::faults::EATERS;
use trough_tests::fleet::Fleet;
use trough_tests::ledger::{Track, assert_all_readable};
use trough_tests::looker::Looker;
use trough_tests::poll::{LATER, until};
use trough_tests::reader::{ReadFrame, Reader};
use trough_tests::seed;
use trough_tests::servers::program;
use trough_tests::stage::Stage;

const KILLS_DEFAULT: usize = 20;
/// How long a kill waits for a segment, at the most: none comes while a claim is held by the dead.
const PATIENCE: Duration = Duration::from_secs(4);
/// Buses that stream besides all receivers.
const SOME_BUSES: usize = 40;
/// Enough segments that small ones are merged.
const PARTS: u64 = 9;
/// Receivers that stream over a bucket and a database.
const SOME_RECEIVERS: usize = 40;

/// Compacts what is a second old.
fn compacting(eaters: usize) -> Options {
    compacting_after("1", eaters)
}

fn compacting_after(seconds: &str, eaters: usize) -> Options {
    let args: Vec<String> = ["--compact-after", seconds].map(str::to_owned).into();
    Options { eaters, feeder_args: args.clone(), eater_args: args, ..Options::default() }
}

async fn start(shape: Shape, eaters: usize) -> Cluster {
    let mut options = compacting(eaters);
    if shape != Shape::Up {
        // Feeders have no history.
        options.feeder_args.clear();
    }
    Cluster::start_with(shape, options).await
}

fn tracks() -> Vec<Track> {
    data::buses().into_iter().take(SOME_BUSES).chain(data::gpsd()).collect()
}

/// Where segments lie.
fn store(cluster: &Cluster, shape: Shape) -> PathBuf {
    if shape == Shape::Up { cluster.data_dir().join("store") } else { cluster.path().join("store") }
}

/// Waits until the newest manifest has so many frames, and gives them as DuckDB finds them.
async fn caught_up(store: &Path, frames: u64) -> BTreeMap<String, Vec<ReadFrame>> {
    caught_up_by(store, frames, async || {}).await
}

/// The same of a copy of the store, which is brought up to date before each look.
async fn caught_up_by(
    store: &Path,
    frames: u64,
    mut refresh: impl AsyncFnMut(),
) -> BTreeMap<String, Vec<ReadFrame>> {
    let mut seen = 0;
    until("all that was sent is compacted", LATER, async || {
        refresh().await;
        let manifest = Manifest::newest(store).filter(|new| new.number != seen && new.frames() >= frames)?;
        seen = manifest.number;
        let found = duckdb::frames(store).await;
        (found.values().map(Vec::len).sum::<usize>() as u64 == frames).then_some(found)
    })
    .await
}

/// That DuckDB has found what was sent, and nothing else.
fn assert_found(tracks: &[Track], found: &BTreeMap<String, Vec<ReadFrame>>) {
    for track in tracks {
        track.assert_read(1, found.get(&track.device).map_or(&[], Vec::as_slice));
    }
    assert_eq!(found.len(), tracks.len(), "devices");
}

/// That the API shows it from the newest on, too, and the last frames.
async fn assert_ends(reader: &Reader, tracks: &[Track]) {
    for track in tracks {
        let mut falling = reader.frames_falling(&track.device, 1000).await;
        falling.reverse();
        track.assert_read(1, &falling);
        let device = reader.device(&track.device).await;
        let last = track.sent.last().expect("every track has frames");
        assert_eq!(device["last_ts"], last.ts, "{}", track.device);
        let shown = device["channels"].as_array().unwrap();
        assert_eq!(shown.len(), 1, "{device}");
        let (seq, ts) = (shown[0]["seq"].as_u64(), shown[0]["ts"].as_u64());
        assert_eq!((seq, ts), (Some(track.sent.len() as u64), Some(last.ts)), "{device}");
    }
}

/// The files of a directory and below that end so.
fn files(dir: &Path, ending: &str) -> BTreeSet<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return BTreeSet::new() };
    let (dirs, files): (Vec<_>, Vec<_>) =
        entries.flatten().map(|entry| entry.path()).partition(|path| path.is_dir());
    let named = files.into_iter().filter(|path| path.to_string_lossy().ends_with(ending));
    named.chain(dirs.iter().flat_map(|dir| self::files(dir, ending))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn up_compacts_what_it_takes() {
    let mut cluster = start(Shape::Up, 1).await;
    let store = store(&cluster, Shape::Up);
    let mut fleet = Fleet::start(&cluster, tracks(), Mode::Binary).await;
    let looker = Looker::start(vec![cluster.reader()], [&fleet], seed::rng("look at history"));
    let number = || Manifest::newest(&store).map_or(0, |manifest| manifest.number);
    for part in 1..=PARTS {
        let before = number();
        fleet.let_go(part * 1000 / (PARTS + 1));
        until("some of it is compacted", LATER, async || (number() > before).then_some(())).await;
    }
    fleet.finish().await;
    let found = caught_up(&store, data::frames(&fleet.tracks) as u64).await;
    assert_found(&fleet.tracks, &found);
    let live = Manifest::newest(&store).unwrap();
    assert!(live.segments.iter().any(|segment| segment.level > 1), "small segments were merged: {live:?}");
    assert_eq!(live.frames(), data::frames(&fleet.tracks) as u64, "nothing was sent twice: no copies");
    looker.assert_content();
    assert_all_readable(&cluster.reader(), &fleet.tracks).await;

    assert_eq!(cluster.terminate(Role::Up, LATER).await.code, Some(0));
    cluster.spawn(Role::Up);
    cluster.ready().await;
    assert_eq!(files(&cluster.data_dir().join("journal"), ".trj"), BTreeSet::new());
    assert_all_readable(&cluster.reader(), &fleet.tracks).await;
    assert_ends(&cluster.reader(), &fleet.tracks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_eaters_have_one_history() {
    let cluster = start(Shape::Objects, 2).await;
    let store = store(&cluster, Shape::Objects);
    let mut fleet = Fleet::start(&cluster, tracks(), Mode::Binary).await;
    fleet.finish().await;
    let found = caught_up(&store, data::frames(&fleet.tracks) as u64).await;
    assert_found(&fleet.tracks, &found);
    for reader in cluster.readers() {
        assert_all_readable(&reader, &fleet.tracks).await;
    }
    assert_ends(&cluster.reader(), &fleet.tracks[..20]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_in_a_bucket() {
    let mut stage = Stage::start().await;
    stage.cluster.options.eater_args = compacting(EATERS).eater_args;
    for eater in (0..EATERS).map(Role::Eater) {
        stage.cluster.terminate(eater, LATER).await;
        stage.cluster.spawn(eater);
    }
    stage.ready().await;
    let tracks = data::gpsd().into_iter().take(SOME_RECEIVERS).collect();
    let mut fleet = Fleet::start(&stage.cluster, tracks, Mode::Binary).await;
    fleet.finish().await;
    let copy = tempfile::tempdir().unwrap();
    let frames = data::frames(&fleet.tracks) as u64;
    let found = caught_up_by(copy.path(), frames, async || stage.store.copy_to(copy.path()).await).await;
    assert_found(&fleet.tracks, &found);
    for reader in stage.cluster.readers() {
        assert_all_readable(&reader, &fleet.tracks).await;
    }
}

/// The claim of a compactor that was killed runs out at once, which else takes minutes.
fn end_claim(cluster: &Cluster) {
    let end = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], timeout=30)\n\
               db.execute('UPDATE claim SET until = 0'); db.commit()";
    let path = cluster.data_dir().join("segments.sqlite");
    let ended = Command::new(program("python")).args(["-c", end]).arg(path).status().unwrap();
    assert!(ended.success());
}

async fn storm(name: &str, shape: Shape) {
    let mut rng = seed::rng(name);
    let kills = seed::count("TROUGH_TEST_KILLS", KILLS_DEFAULT) / 2;
    let mut cluster = start(shape, 1).await;
    let (store, segments) = (store(&cluster, shape), store(&cluster, shape).join("segments"));
    let mut fleet = Fleet::start(&cluster, tracks(), Mode::Binary).await;
    let looker = Looker::start(vec![cluster.reader()], [&fleet], seed::rng("look"));
    let mut hits = 0;
    for kill in 1..=kills {
        fleet.let_go(900 * kill as u64 / kills as u64);
        let before = files(&segments, "");
        let stored = until("something is stored", PATIENCE * 2, async || {
            (files(&segments, "") != before).then_some(())
        });
        if rng.random_bool(0.8) && tokio::time::timeout(PATIENCE, stored).await.is_ok() {
            hits += 1;
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..60))).await;
        cluster.kill(cluster.back());
        end_claim(&cluster);
        cluster.spawn(cluster.back());
        if rng.random_bool(0.7) {
            cluster.ready().await;
        }
    }
    cluster.ready().await;
    fleet.finish().await;
    looker.assert_content();
    assert_all_readable(&cluster.reader(), &fleet.tracks).await;
    let found = caught_up(&store, data::frames(&fleet.tracks) as u64).await;
    assert_found(&fleet.tracks, &found);
    assert_all_readable(&cluster.reader(), &fleet.tracks).await;
    let made = cluster.log(cluster.back()).iter().filter(|line| line["message"] == "compacted").count();
    println!("{name}: {kills} kills, {hits} of them when a segment was stored; {made} steps");
    assert!(hits > 0, "no kill met a compactor at work");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn up_is_killed_while_it_compacts() {
    storm("history up", Shape::Up).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_eater_without_a_disk_is_killed_while_it_compacts() {
    storm("history objects", Shape::Objects).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buses_take_a_quarter_of_their_rows() {
    // All of it in one file of the journal, if the machine is not too busy.
    let cluster = Cluster::start_with(Shape::Up, compacting_after("20", 1)).await;
    let store = store(&cluster, Shape::Up);
    let mut fleet = Fleet::start(&cluster, data::buses(), Mode::Binary).await;
    fleet.finish().await;
    caught_up(&store, data::BUS_POSITIONS as u64).await;
    let size = |path: &PathBuf| std::fs::metadata(path).unwrap().len();
    let sum = |ending| files(&store.join("segments"), ending).iter().map(size).sum::<u64>();
    let (parquet, index) = (sum(".parquet"), sum(".idx"));
    let mut rows = 0;
    for track in fleet.tracks.iter() {
        let path = format!("/v1/devices/{}/frames", track.device);
        let answer = cluster.reader().get(&path, "application/x-ndjson").await.unwrap();
        rows += answer.bytes().await.unwrap().len() as u64;
    }
    println!(
        "{} frames: {rows} bytes of NDJSON, {parquet} of Parquet, {index} of indexes",
        data::BUS_POSITIONS
    );
    assert!((parquet + index) * 4 <= rows, "{parquet} + {index} bytes of {rows}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_statements_in_the_documents_work() {
    let cluster = start(Shape::Up, 1).await;
    let store = store(&cluster, Shape::Up);
    let mut track: Track = data::buses().swap_remove(0);
    track.device = "bus-7".into();
    let mut fleet = Fleet::start(&cluster, vec![track], Mode::Binary).await;
    fleet.finish().await;
    let found = caught_up(&store, data::frames(&fleet.tracks) as u64).await;
    let texts: Vec<&str> =
        found["bus-7"].iter().map(|frame| std::str::from_utf8(&frame.payload).unwrap()).collect();
    let key = files(&store.join("segments"), ".parquet").pop_first().unwrap();
    let date = key.to_str().unwrap().split_once("date=").unwrap().1[..10].to_owned();

    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/storage.md");
    let document = std::fs::read_to_string(document).unwrap();
    let blocks: Vec<&str> =
        document.split("```sql\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        let here = block.replace("s3://BUCKET/PREFIX", store.to_str().unwrap());
        let here =
            here.replace("2026-11-25 08:00:00+00", "2017-01-01 00:00:00+00").replace("2026-11-25", &date);
        let rows = duckdb::sql(&here).await;
        let shown: Vec<&str> = rows.iter().map(|row| row.last().unwrap().as_str().unwrap()).collect();
        assert_eq!(shown, texts, "{here}");
    }
}
