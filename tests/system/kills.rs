//! kill -9, again and again, at random moments, while 444 devices stream 76,798 real frames.
//!
//! 1. `trough up` is killed and started again.
//! 2. Eater and feeder are killed and started again, in any order, now and then both.
//! 3. The same with frames in an object store, where each start of the eater is another eater.
//!
//! Whenever a reader looks in between, what a device has acknowledged can be read. In the end everything that was
//! sent can be read, each frame once and in order, and no gap is reported. Now and then a process is killed while
//! it still recovers from the kill before.
//!
//! `TROUGH_TEST_KILLS` sets the kills of each test (26 unless it is given), `TROUGH_TEST_SEED` repeats a run.

use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use trough_device::Mode;
use trough_tests::cluster::{Cluster, Role, Shape};
use trough_tests::data;
use trough_tests::fleet::Fleet;
use trough_tests::ledger::{Track, assert_all_readable};
use trough_tests::looker::Looker;
use trough_tests::seed;

const KILLS_DEFAULT: usize = 26;

async fn storm(name: &str, shape: Shape) {
    let mut rng = seed::rng(name);
    let kills = seed::count("TROUGH_TEST_KILLS", KILLS_DEFAULT);
    let mut cluster = Cluster::start(shape).await;
    let tracks: Vec<Track> = data::buses().into_iter().chain(data::gpsd()).collect();
    let total = data::frames(&tracks) as u64;
    let mut fleet = Fleet::start(&cluster, tracks, Mode::Binary).await;
    let looker = Looker::start(vec![cluster.reader()], [&fleet], seed::rng("look"));

    let mut done = 0;
    while done < kills {
        fleet.let_go(900 * (done as u64 + 1) / kills as u64);
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..300))).await;
        let victims = victims(&cluster, &mut rng);
        for role in &victims {
            cluster.kill(*role);
            done += 1;
        }
        for role in &victims {
            cluster.spawn(*role);
        }
        // Otherwise the next kill meets it while it recovers.
        if rng.random_bool(0.7) {
            cluster.ready().await;
        }
    }
    cluster.ready().await;
    let acked = fleet.acked();
    fleet.finish().await;
    looker.assert_content();
    assert_eq!(fleet.acked(), total);
    assert_all_readable(&cluster.reader(), &fleet.tracks).await;
    println!("{name}: {done} kills, {acked} of {total} frames acknowledged at the last one");
}

fn victims(cluster: &Cluster, rng: &mut StdRng) -> Vec<Role> {
    let roles = cluster.roles();
    let first = roles[rng.random_range(0..roles.len())];
    let all = rng.random_bool(0.2);
    roles.into_iter().filter(|role| all || *role == first).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn up_is_killed_again_and_again() {
    storm("up", Shape::Up).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eater_and_feeder_are_killed_again_and_again() {
    storm("split", Shape::Split).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_eater_without_a_disk_is_killed_again_and_again() {
    storm("objects", Shape::Objects).await;
}
