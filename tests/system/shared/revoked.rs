//! Rights that are taken away, on both feeders.
//!
//! 1. memcached is there: open sessions end at once. memcached is dead: they end all the same, when the feeders look at
//!    the registry. Neither comes back.
//! 2. Nobody tells a feeder, which cannot ask the registry either (long form): it believes a grant in the cache for as
//!    long as that lives, a minute at the most.

use std::time::{Duration, Instant};

use trough_tests::cluster::Role;
use trough_tests::faults::{Cut, FEEDERS, Fault, Hop, Victim};
use trough_tests::poll::{LATER, SOON, until};
use trough_tests::seed;
use trough_tests::stage::Stage;
use trough_tests::wire::{Form, Wire};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_session_ends_on_every_feeder_with_memcached_and_without() {
    let mut stage = Stage::start().await;
    let bus = format!("memcached://{}", stage.bus.at);
    for there in [true, false] {
        let devices: Vec<String> = (0..FEEDERS).map(|feeder| format!("d-{feeder}-{there}")).collect();
        let tokens = stage.cluster.import_devices(devices.iter().map(String::as_str)).await;
        for (feeder, device) in devices.iter().enumerate() {
            let (mut wire, _) = Wire::begin(stage.feeder(feeder), Form::Binary, &tokens[device]).await;
            wire.frames(1, &[b"before"]).await;
            wire.acked(1).await;
            if !there {
                stage.begin(Fault::Kill(Victim::Bus)).await;
            }
            stage.cluster.admin(&["devices", "revoke", device, "--bus", &bus], "").await;
            let revoked = Instant::now();
            let (code, reason, _) = wire.closed().await;
            assert_eq!(code, 4300, "{reason}");
            // The promise is a second; a timing is not asserted, as a busy test machine is no proof of anything.
            println!("memcached there: {there}; closed {:?} after the revocation", revoked.elapsed());
            for feeder in 0..FEEDERS {
                let refused =
                    Wire::open(stage.feeder(feeder), Form::Binary, &tokens[device]).await.unwrap_err();
                assert_eq!(refused.status, 403, "at feeder {feeder}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_that_nobody_takes_back_is_believed_for_a_minute() {
    if !seed::long("waiting until a grant in the cache expires") {
        return;
    }
    let mut stage = Stage::start().await;
    let token = stage.cluster.add_device("d").await;
    let (wire, _) = Wire::begin(stage.feeder(0), Form::Binary, &token).await;
    let cached = Instant::now();
    wire.close().await;
    let cut = Fault::Cut(Hop::Database(Role::Feeder(1)), Cut::BlackHole);
    stage.begin(cut).await;
    // Without --bus, nobody rings.
    stage.cluster.admin(&["devices", "revoke", "d"], "").await;
    drop(Wire::open(stage.feeder(1), Form::Binary, &token).await.expect("the grant is in the cache"));
    let refused = until("the grant is believed no longer", LATER, async || {
        Wire::open(stage.feeder(1), Form::Binary, &token).await.err()
    })
    .await;
    let took = cached.elapsed();
    assert_eq!((refused.status, refused.code()), (503, "registry_unavailable"));
    println!("believed for {took:?}");
    assert!(took < Duration::from_secs(60) + SOON, "far longer than a grant lives");
    stage.end(cut).await;
    stage.ready().await;
    let refused = Wire::open(stage.feeder(1), Form::Binary, &token).await.unwrap_err();
    assert_eq!(refused.status, 403);
}
