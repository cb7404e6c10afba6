//! The cluster shape whole: two feeders and two eaters that keep nothing on their disks, over a database, an object
//! store and memcached.
//!
//! 1. What was sent through either feeder is read from either eater, each frame once and in order, at once.
//! 2. The same while, at seeded moments, a feeder, an eater, the database, the object store or memcached is killed with
//!    -9 and started again. `TROUGH_TEST_FAULTS` sets how many faults (10 unless it is given).

use std::time::Duration;

use rand::Rng;
use tempfile::NamedTempFile;
use trough_device::Mode;
use trough_tests::cluster::{Cluster, Options, Shape};
use trough_tests::data;
use trough_tests::fleet::Fleet;
use trough_tests::ledger::{Track, assert_all_readable};
use trough_tests::reader::Reader;
use trough_tests::seed;
use trough_tests::servers::memcached::Memcached;
use trough_tests::servers::mongo::Mongo;
use trough_tests::servers::seaweed::{self, Seaweed};

const FAULTS_DEFAULT: usize = 10;

/// What the services stand on.
struct Backends {
    database: Mongo,
    store: Seaweed,
    bus: Memcached,
    /// The bus's key. The services read it when they start, also after a kill.
    key: NamedTempFile,
}

async fn start() -> (Cluster, Backends) {
    let backends = Backends {
        database: Mongo::start().await,
        store: Seaweed::start().await,
        bus: Memcached::start(&["-M"]).await,
        key: NamedTempFile::new().unwrap(),
    };
    std::fs::write(backends.key.path(), [7; 32]).unwrap();
    let bus = ["--bus".into(), format!("memcached://{}", backends.bus.at), "--bus-key-file".into()];
    let bus = [&bus[..], &[backends.key.path().display().to_string()]].concat();
    let store = ["--store".to_owned(), backends.store.url("shared")];
    let options = Options {
        feeders: 2,
        eaters: 2,
        feeder_args: bus.clone(),
        eater_args: [&bus[..], &store].concat(),
        database: Some(backends.database.url("shared")),
        env: vec![
            ("AWS_ACCESS_KEY_ID", seaweed::ACCESS.access_key),
            ("AWS_SECRET_ACCESS_KEY", seaweed::ACCESS.secret_key),
        ],
        ..Options::default()
    };
    (Cluster::start_with(Shape::Split, options).await, backends)
}

/// Half of the receivers at each feeder.
async fn fleets(cluster: &mut Cluster) -> [Fleet; 2] {
    let tracks: Vec<Track> = data::gpsd().into_iter().take(60).collect();
    let (first, second) = tracks.split_at(30);
    let at = cluster.feeders();
    let mut fleets = Vec::new();
    for (at, tracks) in at.iter().zip([first, second]) {
        cluster.entrance.url = format!("ws://{at}");
        fleets.push(Fleet::start(cluster, tracks.to_vec(), Mode::Binary).await);
    }
    fleets.try_into().unwrap_or_else(|_| panic!("there are two feeders"))
}

fn readers(cluster: &Cluster) -> Vec<Reader> {
    let token = cluster.reader_token();
    cluster.eaters().iter().map(|at| Reader::new(format!("http://{at}"), token.to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn either_eater_shows_what_either_feeder_took() {
    let (mut cluster, _backends) = start().await;
    for mut fleet in fleets(&mut cluster).await {
        fleet.let_go(1000);
        fleet.finish().await;
        for reader in readers(&cluster) {
            assert_all_readable(&reader, &fleet.tracks).await;
        }
    }
    let files = std::fs::read_dir(cluster.data_dir()).map_or(0, Iterator::count);
    assert_eq!(files, 0, "the services keep nothing on their disks");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_killed_nothing_is_lost_or_shown_twice() {
    let mut rng = seed::rng("shared");
    let faults = seed::count("TROUGH_TEST_FAULTS", FAULTS_DEFAULT);
    let (mut cluster, mut backends) = start().await;
    let mut fleets = fleets(&mut cluster).await;
    let mut done = Vec::new();
    for fault in 0..faults {
        fleets.iter().for_each(|fleet| fleet.let_go(900 * (fault as u64 + 1) / faults as u64));
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..1000))).await;
        let roles = cluster.roles();
        match rng.random_range(0..roles.len() + 3) {
            0 => {
                done.push("database".into());
                backends.database.restart().await;
            }
            1 => {
                done.push("store".into());
                backends.store.restart().await;
            }
            2 => {
                done.push("memcached".into());
                backends.bus.restart().await;
            }
            role => {
                let role = roles[role - 3];
                done.push(format!("{role:?}"));
                cluster.kill(role);
                cluster.spawn(role);
            }
        }
    }
    println!("killed: {}", done.join(", "));
    for fleet in &mut fleets {
        fleet.finish().await;
    }
    cluster.ready().await;
    for reader in readers(&cluster) {
        for fleet in &fleets {
            assert_all_readable(&reader, &fleet.tracks).await;
        }
    }
}
