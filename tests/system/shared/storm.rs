//! Real data from both sets, half of the devices through NGINX, while the deployment is put to faults by a schedule:
//! feeders, eaters, database, object store and memcached are killed with -9, or stopped for up to 5 s; each way between
//! two parts, and that of the devices, is refused, swallowed, reset or delayed; NGINX reloads, memcached is wiped.
//!
//! 1. Whenever a reader looks, on either eater, what a device has acknowledged can be read. In the end everything that
//!    was sent is read from both, each frame once and in order.
//! 2. The same over OpenStack Swift (long form).
//!
//! `TROUGH_TEST_FAULTS` sets how many faults (14 unless it is given; 130 in the long form), `TROUGH_TEST_SEED` repeats
//! the schedule.

use tokio::time::{Instant, sleep_until};
use trough_device::Mode;
use trough_tests::cluster::Entrance;
use trough_tests::data;
use trough_tests::faults::{FEEDERS, Schedule};
use trough_tests::fleet::Fleet;
use trough_tests::ledger::{Track, assert_all_readable};
use trough_tests::looker::Looker;
use trough_tests::seed;
use trough_tests::servers::swift::Swift;
use trough_tests::stage::{Stage, Store};

const FAULTS_DEFAULT: usize = 14;
const FAULTS_LONG: usize = 130;
/// Of each data set, one device of so many takes part in the short form.
const SHARE: usize = 6;

fn is_long() -> bool {
    seed::long("the whole of both data sets, and ten times the faults")
}

/// Both data sets, or a share of each, in so many parts.
fn parts(count: usize, share: usize) -> Vec<Vec<Track>> {
    let mut parts = vec![Vec::new(); count];
    let sets = [data::buses(), data::gpsd()];
    for (place, track) in sets.into_iter().flat_map(|set| set.into_iter().step_by(share)).enumerate() {
        parts[place % count].push(track);
    }
    parts
}

/// One fleet at each feeder, and as many through NGINX, of which one speaks JSON.
async fn fleets(stage: &mut Stage, share: usize) -> Vec<Fleet> {
    let by_nginx = stage.cluster.entrance.clone();
    let direct = (0..FEEDERS).map(|feeder| (stage.entrance(feeder), Mode::Binary));
    let entrances: Vec<(Entrance, Mode)> =
        direct.chain([Mode::Binary, Mode::Json].map(|mode| (by_nginx.clone(), mode))).collect();
    let parts = parts(entrances.len(), share);
    let mut fleets = Vec::new();
    for ((entrance, mode), tracks) in entrances.into_iter().zip(parts) {
        stage.cluster.entrance = entrance;
        fleets.push(Fleet::start(&stage.cluster, tracks, mode).await);
    }
    fleets
}

/// What happens, as it happens: devices send more with every step.
async fn suffer(stage: &mut Stage, schedule: &Schedule, fleets: &[Fleet]) {
    let steps = schedule.steps();
    let began = Instant::now();
    for (done, step) in (1..).zip(&steps) {
        fleets.iter().for_each(|fleet| fleet.let_go(900 * done / steps.len() as u64));
        sleep_until(began + step.at).await;
        let acked: u64 = fleets.iter().map(Fleet::acked).sum();
        let verb = if step.begins { "begins" } else { "ends" };
        println!(
            "{:8.3} s  {:?} {verb}, {acked} frames are acknowledged",
            began.elapsed().as_secs_f64(),
            step.fault
        );
        if step.begins {
            stage.begin(step.fault).await;
        } else {
            stage.end(step.fault).await;
        }
    }
}

async fn storm(name: &str, store: Store) {
    let long = is_long();
    let count = seed::count("TROUGH_TEST_FAULTS", if long { FAULTS_LONG } else { FAULTS_DEFAULT });
    let schedule = Schedule::new(&mut seed::rng(name), count);
    println!("{name}, {count} faults:\n{schedule}");
    let mut stage = Stage::start_over(store).await;
    let mut fleets = fleets(&mut stage, if long { 1 } else { SHARE }).await;
    let looker = Looker::start(stage.cluster.readers(), &fleets, seed::rng("look"));
    suffer(&mut stage, &schedule, &fleets).await;
    stage.ready().await;
    let acked: u64 = fleets.iter().map(Fleet::acked).sum();
    for fleet in &mut fleets {
        fleet.finish().await;
    }
    looker.assert_content();
    let total: usize = fleets.iter().map(|fleet| data::frames(&fleet.tracks)).sum();
    println!("{name}: {acked} of {total} frames were acknowledged when the last fault had ended");
    for reader in stage.cluster.readers() {
        for fleet in &fleets {
            assert_all_readable(&reader, &fleet.tracks).await;
        }
    }
    let files = std::fs::read_dir(stage.cluster.data_dir()).map_or(0, Iterator::count);
    assert_eq!(files, 0, "the services keep nothing on their disks");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_fails_nothing_is_lost_or_shown_twice() {
    storm("storm", Store::seaweed().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_over_swift() {
    if seed::long("the storm over OpenStack Swift") {
        storm("storm over Swift", Store::Swift(Swift::start().await)).await;
    }
}
