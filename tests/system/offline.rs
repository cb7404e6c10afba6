//! Which devices are offline, decided by a real notifier over a real database, of sessions on two feeders.
//!
//! Of four devices one says goodbye and stays away, one is on a feeder that is killed and stays away, one is on that feeder and
//! comes to the other one, and one is connected all the time. The first two are told of, each once and at its time; the
//! others are not. When one comes back, that is told, too.

use std::time::Duration;

use trough_device::Device;
use trough_protocol::Micros;
use trough_runtime::clock::Clock;
use trough_store::{Event, EventKind};
use trough_tests::cluster::{Cluster, Options, Role, Shape};
use trough_tests::fleet;
use trough_tests::outbox::Events;
use trough_tests::poll::{LATER, until};
use trough_tests::servers::mongo::Mongo;

use crate::notifiers::Notifiers;

const AFTER: Duration = Duration::from_secs(30);
/// A second for what is promised, and a part of one for a machine on which everything runs at once.
const TOLERANCE: Duration = Duration::from_millis(1500);

fn now() -> Micros {
    Clock::system().now()
}

/// A device that holds its session at one feeder.
fn connect(cluster: &Cluster, feeder: usize, token: &str) -> Device {
    let mut config = fleet::config(cluster, token);
    config.url = format!("ws://{}", cluster.feeders()[feeder]);
    Device::start(config).unwrap()
}

/// When a device was told of, once it is.
async fn told(events: &Events, device: &str, kind: EventKind, within: Duration) -> Micros {
    let is_it =
        |event: &Event| event.kind == kind && event.device.as_ref().is_some_and(|id| id.as_str() == device);
    let what = format!("{kind} of {device} is told");
    until(&what, within, async || events.all().await.into_iter().find(is_it)).await.at
}

fn is_on_time(event: Micros, heard: Micros) {
    let late = Duration::from_micros(event.saturating_sub(heard));
    assert!(late + TOLERANCE >= AFTER && late <= AFTER + TOLERANCE, "told after {late:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_comes_at_its_time_and_once() {
    let server = Mongo::start().await;
    let url = server.url("offline");
    let options = Options { feeders: 2, database: Some(url.clone()), ..Options::default() };
    let mut cluster = Cluster::start_with(Shape::Split, options).await;
    let events = Events::in_database(&url);
    events.set_rule(r#"{"name":"gone","scope":"all","condition":{"kind":"presence","after_s":30}}"#).await;
    let _notifiers = Notifiers::start(1, &url);
    let names = ["goodbye", "lost", "moves", "stays"];
    let tokens = cluster.import_devices(names).await;
    let begin = |name: &str, feeder| connect(&cluster, feeder, &tokens[name]);
    let (goodbye, lost) = (begin("goodbye", 1), begin("lost", 0));
    let (mut moves, _stays) = (begin("moves", 0), begin("stays", 1));
    for name in names {
        told(&events, name, EventKind::DeviceOnline, LATER).await;
    }

    goodbye.close().await.unwrap();
    let said_goodbye = now();
    drop(lost);
    drop(moves);
    cluster.kill(Role::Feeder(0));
    let killed = now();
    moves = connect(&cluster, 1, &tokens["moves"]);
    moves.connected().await.unwrap();
    is_on_time(told(&events, "goodbye", EventKind::DeviceOffline, 2 * AFTER).await, said_goodbye);
    is_on_time(told(&events, "lost", EventKind::DeviceOffline, 2 * AFTER).await, killed);

    // The killed feeder's device comes to another one.
    let lost = connect(&cluster, 1, &tokens["lost"]);
    let back = until("it is told that it is back", LATER, async || {
        let all = events.all().await.into_iter();
        let online = all.filter(|event| event.kind == EventKind::DeviceOnline);
        let of_lost = online.filter(|event| event.device.as_ref().is_some_and(|id| id.as_str() == "lost"));
        (of_lost.count() == 2).then(now)
    })
    .await;
    assert!(back > killed);
    drop(lost);
    let offline = events.all().await.into_iter().filter(|event| event.kind == EventKind::DeviceOffline);
    assert_eq!(offline.count(), 2, "each once, and no other");
}
