//! SIGTERM under load. Every device goes on afterwards, nothing is lost, and the process ends with code 0 in time.
//!
//! 1. `trough up`: readiness fails at once, sessions get 1012 with a delay, the process ends by itself.
//! 2. The feeder: the same; the eater goes on.
//! 3. The eater: the feeder's sessions stay open and notice no more than a pause.
//! 4. A second SIGTERM cuts the drain short, and still nothing acknowledged is lost.

use std::time::Duration;

use trough_device::{Event, Mode};
use trough_protocol::close::{Advice, advice};
use trough_tests::cluster::{Cluster, Role, Shape};
use trough_tests::data;
use trough_tests::fleet::Fleet;
use trough_tests::ledger::{Track, assert_all_readable};
use trough_tests::poll::{LATER, SOON, until};
use trough_tests::wire::{Form, Wire};

/// The default of `--grace`, and time for a busy machine.
const GRACE: Duration = Duration::from_secs(25 + 10);

async fn under_load(cluster: &Cluster) -> Fleet {
    let tracks: Vec<Track> = data::buses().into_iter().chain(data::gpsd()).collect();
    let fleet = Fleet::start(cluster, tracks, Mode::Binary).await;
    fleet.let_go(300);
    until("frames are streaming", LATER, async || (fleet.acked() > 1000).then_some(())).await;
    fleet.let_go(900);
    fleet
}

async fn stop_what_has_sessions(shape: Shape) {
    let mut cluster = Cluster::start(shape).await;
    let role = cluster.front();
    let token = cluster.add_device("watcher").await;
    let (mut watcher, _) = Wire::begin(cluster.at.devices, Form::Json, &token).await;
    watcher.frames(1, &[b"before the stop"]).await;
    let mut fleet = under_load(&cluster).await;
    let mut events: Vec<_> = fleet.devices.iter().map(|device| device.events()).collect();

    cluster.process(role).terminate();
    until("readiness fails", SOON, async || {
        let (status, body) = cluster.readiness(role).await?;
        (status == 503 && body["status"] == "draining").then_some(())
    })
    .await;
    let (code, reason, acked) = watcher.closed().await;
    assert_eq!((code, acked), (1012, 1), "{reason}");
    let Advice::ReconnectAfter(delay_ms) = advice(Some((code, &reason))) else { panic!("{reason}") };
    assert!(reason.contains("retry_after_ms=") && delay_ms < 10_000, "{reason}");
    let exit = cluster.process(role).wait(GRACE).await;
    println!("{role:?} ended after {:?}", exit.took);
    assert_eq!(exit.code, Some(0));

    cluster.spawn(role);
    cluster.ready().await;
    fleet.finish().await;
    let mut untold = Vec::new();
    for (track, events) in fleet.tracks.iter().zip(&mut events) {
        let (mut told, mut seen) = (false, Vec::new());
        while let Ok(event) = events.try_recv() {
            if let Event::Disconnected { code, advice, .. } = &event
                && *code == Some(1012)
            {
                told = true;
                assert!(matches!(advice, Advice::ReconnectAfter(_)), "{advice:?}");
            }
            assert!(!matches!(event, Event::EpochChanged { .. }), "every device resumes: {event:?}");
            seen.push(event);
        }
        // A device with few frames may have been done before.
        if !told && track.sent.len() > 20 {
            untold.push((&track.device, seen));
        }
    }
    assert!(untold.is_empty(), "every session is told when to come back, not so {untold:#?}");
    assert_all_readable(&cluster.reader(), &fleet.tracks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn up_drains() {
    stop_what_has_sessions(Shape::Up).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_feeder_drains() {
    stop_what_has_sessions(Shape::Split).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_eater_drains() {
    let mut cluster = Cluster::start(Shape::Split).await;
    let mut fleet = under_load(&cluster).await;
    let mut events: Vec<_> = fleet.devices.iter().map(|device| device.events()).collect();
    let exit = cluster.terminate(Role::Eater(0), GRACE).await;
    assert_eq!(exit.code, Some(0));
    let (status, _) = cluster.readiness(Role::Feeder(0)).await.unwrap();
    assert_eq!(status, 200, "the feeder is ready all the time");
    cluster.spawn(Role::Eater(0));
    fleet.finish().await;
    for events in &mut events {
        while let Ok(event) = events.try_recv() {
            assert!(
                !matches!(event, Event::Disconnected { code, .. } if code != Some(1000)),
                "no session was closed: {event:?}"
            );
        }
    }
    assert_all_readable(&cluster.reader(), &fleet.tracks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_cuts_the_drain_short() {
    let mut cluster = Cluster::start(Shape::Up).await;
    let mut fleet = under_load(&cluster).await;
    cluster.process(Role::Up).terminate();
    until("it drains", SOON, async || (cluster.readiness(Role::Up).await?.0 == 503).then_some(())).await;
    cluster.process(Role::Up).terminate();
    let exit = cluster.process(Role::Up).wait(SOON).await;
    assert_eq!(exit.code, Some(1), "what was cut off is not called a success");
    cluster.spawn(Role::Up);
    cluster.ready().await;
    fleet.finish().await;
    assert_all_readable(&cluster.reader(), &fleet.tracks).await;
}
