//! Live streams of real processes, while everything is compacted as often as it can be.
//!
//! 1. `trough up`: streams of all devices, of a group and of single devices, with history and without, some of them cut
//!    again and again: each frame once and in order.
//! 2. The same while the process is killed again and again.
//! 3. Two eaters over one object store, without a bus: streams that go from one to the other, while one of the two is
//!    killed now and then.
//! 4. What comes next was compacted and removed: a device's stream goes on with history, and misses and doubles nothing;
//!    one of many devices is told.
//! 5. `trough tail` of everything and of a group, over a kill: each frame once.
//!
//! `TROUGH_TEST_KILLS` sets the kills (the quarter of it), `TROUGH_TEST_SEED` repeats a run.

use std::process::Stdio;
use std::time::Duration;

use rand::Rng;
use serde_json::Value;
use trough_device::Mode;
use trough_protocol::device::Hello;
use trough_protocol::{Epoch, Seq};
use trough_tests::cluster::{Cluster, Options, Role, Shape};
use trough_tests::data;
use trough_tests::duckdb::Manifest;
use trough_tests::fleet::Fleet;
use trough_tests::ledger::{Track, assert_all_readable};
use trough_tests::live::{Follower, Tail};
use trough_tests::poll::{LATER, until};
use trough_tests::process::{Process, command};
use trough_tests::reader::Reader;
use trough_tests::seed;
use trough_tests::wire::{Form, Wire};

const KILLS_DEFAULT: usize = 16;

async fn start(shape: Shape, eaters: usize) -> Cluster {
    start_compacting(shape, eaters, "1").await
}

async fn start_compacting(shape: Shape, eaters: usize, seconds: &str) -> Cluster {
    let args: Vec<String> = ["--compact-after", seconds].map(str::to_owned).into();
    let mut options = Options { eaters, ..Options::default() };
    match shape {
        Shape::Up => options.feeder_args = args,
        _ => options.eater_args = args,
    }
    Cluster::start_with(shape, options).await
}

fn tracks() -> Vec<Track> {
    data::buses().into_iter().take(40).chain(data::gpsd()).collect()
}

/// Streams of all devices, and of two of them.
async fn followers(readers: &[Reader], tracks: &[Track]) -> Vec<(Follower, Vec<usize>)> {
    let all: Vec<usize> = (0..tracks.len()).collect();
    let cuts = |purpose| Some(seed::rng(purpose));
    let mut followers = vec![
        (Follower::start(readers.to_vec(), "/v1/live", None).await, all.clone()),
        (Follower::start(readers.to_vec(), "/v1/live", cuts("cut all")).await, all),
    ];
    for at in [0, tracks.len() - 1] {
        let path = format!("/v1/devices/{}/live", tracks[at].device);
        followers.push((Follower::start(readers.to_vec(), &path, cuts("cut one")).await, vec![at]));
        let path = format!("{path}?after=0:0");
        followers.push((Follower::start(readers.to_vec(), &path, cuts("cut history")).await, vec![at]));
    }
    followers
}

async fn assert_complete(followers: &[(Follower, Vec<usize>)], tracks: &[Track]) {
    for (follower, which) in followers {
        let which: Vec<&Track> = which.iter().map(|at| &tracks[*at]).collect();
        follower.has(&which).await;
    }
    let connected: Vec<u64> = followers.iter().map(|(follower, _)| follower.connected()).collect();
    println!("connections: {connected:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn up_shows_what_it_takes() {
    let cluster = start(Shape::Up, 1).await;
    let mut fleet = Fleet::start(&cluster, tracks(), Mode::Binary).await;
    let followers = followers(&[cluster.reader()], &fleet.tracks).await;
    fleet.let_go(500);
    let half = fleet.due();
    until("half of it has come", LATER, async || (fleet.acked() >= half).then_some(())).await;
    // In the middle, and from the beginning.
    let device = fleet.tracks[1].clone();
    let path = format!("/v1/devices/{}/live?after=0:0", device.device);
    let late = Follower::start(vec![cluster.reader()], &path, Some(seed::rng("late"))).await;
    fleet.finish().await;
    assert_complete(&followers, &fleet.tracks).await;
    late.has(&[&device]).await;
    assert_all_readable(&cluster.reader(), &fleet.tracks).await;
}

async fn storm(name: &str, shape: Shape, eaters: usize) {
    let mut rng = seed::rng(name);
    let kills = seed::count("TROUGH_TEST_KILLS", KILLS_DEFAULT) / 4;
    // A start removes from the journal of `up` what is compacted, for whoever is behind it too.
    let mut cluster = start_compacting(shape, eaters, if shape == Shape::Up { "10" } else { "1" }).await;
    let mut fleet = Fleet::start(&cluster, tracks(), Mode::Binary).await;
    let readers = if shape == Shape::Up { vec![cluster.reader()] } else { cluster.readers() };
    let followers = followers(&readers, &fleet.tracks).await;
    for kill in 1..=kills {
        fleet.let_go(900 * kill as u64 / kills as u64);
        tokio::time::sleep(Duration::from_millis(rng.random_range(100..800))).await;
        let victim = match shape {
            Shape::Up => Role::Up,
            _ => Role::Eater(rng.random_range(0..eaters)),
        };
        cluster.kill(victim);
        cluster.spawn(victim);
        cluster.ready().await;
    }
    fleet.finish().await;
    assert_complete(&followers, &fleet.tracks).await;
    assert_all_readable(&readers[0], &fleet.tracks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_go_on_when_up_is_killed() {
    storm("live up", Shape::Up, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_go_on_at_another_eater() {
    storm("live objects", Shape::Objects, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_compacted_comes_from_history() {
    let mut cluster = start(Shape::Up, 1).await;
    let token = cluster.add_device("d").await;
    let (mut wire, _) = Wire::begin(cluster.at.devices, Form::Binary, &token).await;
    let mut reader = Tail::start(cluster.reader(), "/v1/devices/d/live").await;
    let mut all = Tail::start(cluster.reader(), "/v1/live").await;
    wire.frames(1, &[b"1", b"2"]).await;
    wire.acked(2).await;
    assert_eq!(reader.seqs(2).await, [1, 2]);
    assert_eq!(all.seqs(1).await, [1]);
    wire.frames(3, &[b"3", b"4", b"5"]).await;
    wire.acked(5).await;
    wire.close().await;
    let store = cluster.data_dir().join("store");
    until("all of it is compacted", LATER, async || {
        Manifest::newest(&store).filter(|manifest| manifest.frames() == 5)
    })
    .await;
    assert_eq!(cluster.terminate(Role::Up, LATER).await.code, Some(0));
    cluster.spawn(Role::Up);
    cluster.ready().await;
    let refused = cluster.reader().live("/v1/live", all.id.as_deref()).await.unwrap();
    assert_eq!(refused.status(), 410);
    let hello = Hello { epoch: Epoch(1), oldest: Seq(6), next: Seq(6), acked: Seq(5), ..Hello::NEW };
    let (mut wire, _) = Wire::resume(cluster.at.devices, Form::Binary, &token, hello).await;
    wire.frames(6, &[b"6"]).await;
    wire.acked(6).await;
    let mut reader = reader.again(cluster.reader()).await;
    wire.frames(7, &[b"7"]).await;
    wire.acked(7).await;
    assert_eq!(reader.seqs(5).await, [3, 4, 5, 6, 7]);
}

fn tail(cluster: &Cluster, name: &str, args: &[&str]) -> Process {
    let mut tail = command();
    tail.arg("tail").args(args).args(["--api", &format!("http://{}", cluster.at.api)]);
    tail.env("TROUGH_READER_TOKEN", cluster.reader_token()).stdin(Stdio::null());
    Process::spawn("tail", &mut tail, &cluster.path().join(name))
}

/// The numbers of a device's frames that a tail has printed.
fn printed(tail: &Process, device: &str) -> Vec<u64> {
    let log = tail.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|frame| frame["device"] == device).map(|frame| frame["seq"].as_u64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_tailed_over_a_kill() {
    let mut cluster = start(Shape::Up, 1).await;
    let mut fleet = Fleet::start(&cluster, data::buses().into_iter().take(10).collect(), Mode::Binary).await;
    let token = cluster.admin(&["devices", "add", "grouped", "--group", "some"], "").await;
    let (all, some) = (tail(&cluster, "all.out", &[]), tail(&cluster, "some.out", &["--group", "some"]));
    let (mut wire, _) = Wire::begin(cluster.at.devices, Form::Binary, &token).await;
    let mut sent = 0;
    until("both have begun", LATER, async || {
        sent += 1;
        wire.frames(sent, &[b"of a group"]).await;
        wire.acked(sent).await;
        let both = [&all, &some].iter().all(|tail| !printed(tail, "grouped").is_empty());
        both.then_some(())
    })
    .await;
    fleet.let_go(500);
    let half = fleet.due();
    until("half of it was sent", LATER, async || (fleet.acked() >= half).then_some(())).await;
    cluster.kill(Role::Up);
    cluster.spawn(Role::Up);
    cluster.ready().await;
    fleet.finish().await;
    for track in fleet.tracks.iter() {
        let count = track.sent.len() as u64;
        let seqs = until("all of a device is printed", LATER, async || {
            Some(printed(&all, &track.device)).filter(|seqs| seqs.last() >= Some(&count))
        })
        .await;
        assert_eq!(seqs, (1..=count).collect::<Vec<_>>(), "{}", track.device);
        assert_eq!(printed(&some, &track.device), [0; 0]);
    }
    for tail in [&all, &some] {
        let seqs = until("the group is printed", LATER, async || {
            Some(printed(tail, "grouped")).filter(|seqs| seqs.last() == Some(&sent))
        })
        .await;
        assert_eq!(seqs, (seqs[0]..=sent).collect::<Vec<_>>());
    }
}
