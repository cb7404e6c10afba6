//! One session of a device on all feeders, over a real memcached.
//!
//! 1. A session that begins on another feeder ends the older one as on the same feeder, back and forth; the neighbour
//!    notices nothing, and every frame is read once.
//! 2. Of two sessions that begin on two feeders at the same time one stays.
//! 3. A fleet that comes to another feeder at once: every older session ends, and the bus knows where each device is.
//! 4. memcached is killed, or stands still (SIGSTOP): sessions begin and stream on, the older one too; when it is back,
//!    the older one ends. `/readyz` stays 200 and names the part `bus` meanwhile, and metrics say so.
//! 5. With a memcached of its own for the cache, grants lie there and nowhere else. It is killed: nobody notices but
//!    `/readyz`.

use std::net::SocketAddr;

use serde_json::Value;
use trough_bus::memcached::Memcached as Bus;
use trough_bus::{Deployment, Environment};
use trough_protocol::close::{Advice, advice};
use trough_protocol::device::Hello;
use trough_protocol::{Epoch, Seq};
use trough_runtime::clock::Clock;
use trough_tests::cluster::{Cluster, Options, Role, Shape};
use trough_tests::fleet::Neighbour;
use trough_tests::poll::{LATER, SOON, until};
use trough_tests::servers::memcached::Memcached;
use trough_tests::wire::{Form, Said, Wire};

const TAKEN_OVER: u16 = 4100;

/// Two feeders, and these further options of every process.
async fn start(arguments: &[String]) -> Cluster {
    let (feeder_args, eater_args) = (arguments.to_vec(), arguments.to_vec());
    let options = Options { feeders: 2, feeder_args, eater_args, ..Options::default() };
    Cluster::start_with(Shape::Split, options).await
}

fn bus_at(server: &Memcached) -> [String; 2] {
    ["--bus".into(), format!("memcached://{}", server.at)]
}

/// The bus as a process of the deployment sees it.
fn deployment(server: &Memcached) -> Deployment {
    let addresses = format!("memcached://{}", server.at).parse().unwrap();
    let bus = std::sync::Arc::new(Bus::new(addresses, Clock::system()));
    Deployment::new(bus, Environment::new("production").unwrap())
}

/// Which feeder has a device, by the bus.
async fn place(deployment: &Deployment, device: &str) -> Option<Value> {
    let value = deployment.bus().get(&deployment.key(&format!("presence:{device}"))).await.ok()??;
    serde_json::from_slice(&value).ok()
}

async fn resume(at: SocketAddr, token: &str, epoch: Epoch, sent: u64) -> Wire {
    let hello = Hello { epoch, oldest: Seq(sent + 1), next: Seq(sent + 1), acked: Seq(sent), ..Hello::NEW };
    Wire::resume(at, Form::Binary, token, hello).await.0
}

async fn is_taken_over(wire: &mut Wire) {
    let (code, reason, _) = wire.closed().await;
    assert_eq!(code, TAKEN_OVER, "{reason}");
    let Advice::ReconnectAfter(delay_ms) = advice(Some((code, &reason))) else { panic!("{reason}") };
    assert!(delay_ms >= 10_000, "two copies of a device must not fight: {reason}");
}

/// Waits until a part is degraded, or no longer, in `/readyz` that is 200 all the time.
async fn names(cluster: &Cluster, role: Role, part: &str, degraded: bool) {
    until(&format!("{part} is degraded: {degraded}"), LATER, async || {
        let (status, body) = cluster.readiness(role).await?;
        assert_eq!(status, 200, "{body}");
        let named = body["degraded"].as_array()?.iter().any(|known| known["part"] == part);
        (named == degraded).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_on_another_feeder_takes_over() {
    let server = Memcached::start(&["-M"]).await;
    let cluster = start(&bus_at(&server)).await;
    let neighbour = Neighbour::start(&cluster).await;
    let token = cluster.add_device("moves").await;
    let feeders = cluster.feeders();
    let (mut wire, welcome) = Wire::begin(feeders[0], Form::Binary, &token).await;
    for round in 1..=6_u64 {
        wire.frames(round, &[format!("frame {round}").as_bytes()]).await;
        wire.acked(round).await;
        let mut newer = resume(feeders[round as usize % 2], &token, welcome.epoch, round).await;
        is_taken_over(&mut wire).await;
        std::mem::swap(&mut wire, &mut newer);
    }
    wire.frames(7, &[b"the last"]).await;
    wire.acked(7).await;
    assert_eq!(cluster.reader().frames("moves").await.len(), 7);
    neighbour.assert_unharmed(&cluster).await;
    let taken = "trough_feeder_taken_elsewhere_total";
    let [first, second] = [Role::Feeder(0), Role::Feeder(1)];
    assert_eq!((cluster.metric(first, taken).await, cluster.metric(second, taken).await), (3.0, 3.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_sessions_that_begin_at_once_one_stays() {
    let server = Memcached::start(&["-M"]).await;
    let cluster = start(&bus_at(&server)).await;
    let feeders = cluster.feeders();
    for round in 0..10 {
        let token = cluster.add_device(&format!("twins-{round}")).await;
        let begin = |at| Wire::begin(at, Form::Binary, &token);
        let ((mut one, _), (mut other, _)) = tokio::join!(begin(feeders[0]), begin(feeders[1]));
        let (ended, stays) = tokio::select! {
            said = one.hear() => (said, &mut other),
            said = other.hear() => (said, &mut one),
        };
        assert!(matches!(&ended, Said::Closed(TAKEN_OVER, _)), "{ended:?}");
        stays.frames(1, &[b"here"]).await;
        stays.acked(1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_that_comes_to_another_feeder_at_once() {
    let server = Memcached::start(&["-M"]).await;
    let cluster = start(&bus_at(&server)).await;
    let (feeders, there) = (cluster.feeders(), deployment(&server));
    let names: Vec<_> = (0..300).map(|n| format!("fleet-{n}")).collect();
    let tokens = cluster.import_devices(names.iter().map(String::as_str)).await;
    let mut rounds = Vec::new();
    let mut feeder = Value::Null;
    for at in feeders {
        let beginning = names.iter().map(|name| Wire::begin(at, Form::Binary, &tokens[name]));
        rounds.push(futures_util::future::join_all(beginning).await);
        let before = feeder;
        feeder = Value::Null;
        for name in &names {
            feeder = until("the bus knows where it is", SOON, async || {
                Some(place(&there, name).await?["feeder"].clone()).filter(|feeder| *feeder != before)
            })
            .await;
        }
    }
    let mut rounds = rounds.into_iter();
    for (mut wire, _) in rounds.next().unwrap() {
        is_taken_over(&mut wire).await;
    }
    for (mut wire, _) in rounds.next().unwrap() {
        wire.frames(1, &[b"here"]).await;
        wire.acked(1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_memcached_sessions_begin_and_the_older_ends_when_it_is_back() {
    let mut server = Memcached::start(&["-M"]).await;
    let cluster = start(&bus_at(&server)).await;
    let feeders = cluster.feeders();
    for is_killed in [true, false] {
        let name = format!("killed-{is_killed}");
        let token = cluster.add_device(&name).await;
        let (mut older, welcome) = Wire::begin(feeders[0], Form::Binary, &token).await;
        older.frames(1, &[b"one"]).await;
        older.acked(1).await;
        let there = deployment(&server);
        until("the bus knows where it is", SOON, async || place(&there, &name).await).await;
        if is_killed {
            server.kill();
        } else {
            server.process().stop();
        }
        for role in cluster.roles() {
            names(&cluster, role, "bus", true).await;
            let metrics = cluster.metrics(role).await;
            assert!(metrics.contains("trough_bus_servers_away{bus=\"bus\"} 1\n"), "{metrics}");
        }
        let mut newer = resume(feeders[1], &token, welcome.epoch, 1).await;
        newer.frames(2, &[b"two"]).await;
        newer.acked(2).await;
        // As without a bus: it lives on until its own end.
        older.frames(2, &[b"two"]).await;
        older.acked(2).await;
        if is_killed {
            server.restart().await;
        } else {
            server.process().resume();
        }
        is_taken_over(&mut older).await;
        newer.frames(3, &[b"three"]).await;
        newer.acked(3).await;
        for role in cluster.roles() {
            names(&cluster, role, "bus", false).await;
        }
        assert_eq!(cluster.reader().frames(&name).await.len(), 3);
    }
    let metrics = cluster.metrics(Role::Feeder(1)).await;
    let failed =
        |line: &&str| line.starts_with("trough_bus_failures_total{bus=\"bus\",reason=\"unavailable\"}");
    let failed = metrics.lines().find(failed).unwrap().rsplit_once(' ').unwrap().1;
    assert!(failed.parse::<f64>().unwrap() >= 3.0, "{failed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_of_its_own_may_be_lost() {
    let (bus, mut cache) = (Memcached::start(&["-M"]).await, Memcached::start(&[]).await);
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), [7; 32]).unwrap();
    let further = ["--cache-bus", &format!("memcached://{}", cache.at), "--bus-key-file"].map(str::to_owned);
    let key = key.path().display().to_string();
    let cluster = start(&[&bus_at(&bus)[..], &further, &[key]].concat()).await;
    let feeders = cluster.feeders();
    let token = cluster.add_device("d").await;
    for is_killed in [false, true] {
        if is_killed {
            cache.kill();
        }
        let (mut wire, _) = Wire::begin(feeders[0], Form::Binary, &token).await;
        wire.frames(1, &[b"a frame"]).await;
        wire.acked(1).await;
        let there = deployment(&bus);
        until("the bus knows where it is", SOON, async || place(&there, "d").await).await;
        for role in cluster.roles() {
            names(&cluster, role, "cache_bus", is_killed).await;
            names(&cluster, role, "bus", false).await;
        }
        wire.close().await;
    }
    let asked = cluster.metrics(Role::Feeder(0)).await;
    assert!(asked.contains("trough_bus_servers_away{bus=\"cache_bus\"} 1\n"), "{asked}");
    assert!(asked.contains("trough_bus_servers_away{bus=\"bus\"} 0\n"), "{asked}");
}
