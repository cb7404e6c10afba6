//! Which devices are offline, decided by real notifiers over a real database, of sessions on two feeders.
//!
//! 1. Of four devices one says goodbye and stays away, one is on a feeder that is killed and stays away, one is on that feeder
//!    and comes to the other one, and one is connected all the time. The first two are told of, each once and at its time;
//!    the others are not. When one comes back, that is told, too. memcached is dead throughout.
//! 2. All feeders are replaced one after another behind NGINX, while devices stream and come back by themselves: no
//!    device is told to be offline, and none is missed.

use std::time::Duration;

use trough_device::{Device, Mode, Tls};
use trough_protocol::Micros;
use trough_runtime::clock::Clock;
use trough_store::{Event, EventKind};
use trough_tests::cluster::{Cluster, Entrance, Options, Role, Shape};
use trough_tests::data;
use trough_tests::fleet::{self, Fleet};
use trough_tests::outbox::Events;
use trough_tests::poll::{LATER, until};
use trough_tests::servers::memcached::Memcached;
use trough_tests::servers::mongo::Mongo;
use trough_tests::servers::nginx::Nginx;

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
    let mut memcached = Memcached::start(&["-M"]).await;
    let bus = ["--bus".to_owned(), format!("memcached://{}", memcached.at)].to_vec();
    let options = Options {
        feeders: 2,
        database: Some(url.clone()),
        feeder_args: bus.clone(),
        eater_args: bus,
        ..Options::default()
    };
    let mut cluster = Cluster::start_with(Shape::Split, options).await;
    memcached.kill();
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_all_feeders_alarms_nobody() {
    let server = Mongo::start().await;
    let url = server.url("rolling");
    let options = Options { feeders: 2, database: Some(url.clone()), ..Options::default() };
    let mut cluster = Cluster::start_with(Shape::Split, options).await;
    let nginx = Nginx::start(&cluster.feeders(), &cluster.eaters()).await;
    let tls = Tls::with_roots_pem(nginx.certificate_pem.as_bytes()).unwrap();
    cluster.entrance = Entrance { url: format!("wss://{}", nginx.at), tls: Some(tls) };
    let events = Events::in_database(&url);
    events.set_rule(r#"{"name":"gone","scope":"all","condition":{"kind":"presence","after_s":30}}"#).await;
    let _notifiers = Notifiers::start(2, &url);
    let gone = cluster.add_device("gone").await;
    // Whoever has sent all it has says goodbye: none of these has before the end.
    let long = data::buses().into_iter().filter(|track| track.sent.len() >= 20);
    let mut fleet = Fleet::start(&cluster, long.take(40).collect(), Mode::Binary).await;
    let count = async |kind: EventKind| events.all().await.iter().filter(|event| event.kind == kind).count();
    until("all are told to be online", LATER, async || {
        (count(EventKind::DeviceOnline).await == 40).then_some(())
    })
    .await;
    for (feeder, let_go) in [(Role::Feeder(0), 300), (Role::Feeder(1), 600)] {
        fleet.let_go(let_go);
        let exit = cluster.terminate(feeder, LATER).await;
        assert_eq!(exit.code, Some(0), "{feeder:?}");
        cluster.spawn(feeder);
        cluster.ready().await;
        until("all go on", LATER, async || (fleet.acked() == fleet.due()).then_some(())).await;
    }
    // One that goes after all of that is missed at its time; by then so would be any other that was lost on the way.
    let device = Device::connect(fleet::config(&cluster, &gone)).await.unwrap();
    told(&events, "gone", EventKind::DeviceOnline, LATER).await;
    device.close().await.unwrap();
    let said_goodbye = now();
    is_on_time(told(&events, "gone", EventKind::DeviceOffline, 2 * AFTER).await, said_goodbye);
    assert_eq!(count(EventKind::DeviceOffline).await, 1, "nobody else is away");
    assert_eq!(count(EventKind::DeviceOnline).await, 41, "and nobody came back");
    fleet.finish().await;
}
